/* apps/bench/bench_online.h - measurements with flags of their own: exit statuses. */
#ifndef OCT_APPS_BENCH_ONLINE_H
#define OCT_APPS_BENCH_ONLINE_H

int bench_serve_run(int argc, char **argv);   /* `octet bench serve` */
int bench_startup_run(int argc, char **argv); /* `octet bench startup` */
int bench_text_run(int argc, char **argv);    /* `octet bench text` */

#endif
