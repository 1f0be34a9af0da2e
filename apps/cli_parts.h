/* apps/cli_parts.h - what the files behind cli.h share: cli.c reads the command line, cli_config.c
 * the file of --config, cli_help.c prints help, man pages and the words for completion. */
#ifndef OCT_APPS_CLI_PARTS_H
#define OCT_APPS_CLI_PARTS_H

#include "cli.h"

enum { CLI_MAX_NAME = 80 }; /* bytes of a flag's name that count */

typedef struct cli_parser {
    const cli_command *cmd;
    const cli_group *groups;
    size_t n_groups;
} cli_parser;

typedef struct cli_found {
    const cli_flag *flag; /* at most one of these two */
    const cli_foreign *foreign;
    bool negated;
} cli_found;

/* Rows of the command's table of flags without effect. */
static inline size_t cli_n_foreign(const cli_command *c) {
    size_t n = 0;
    while (c->foreign && c->foreign[n].name) n++;
    return n;
}

/* Same name, dashes and underscores of text[len] being one. */
bool cli_same_name(const char *name, const char *text, size_t len);
/* arg[len] with its dashes. */
cli_found cli_find(const cli_parser *p, const char *arg, size_t len);
/* Each returns -1, or the exit status after having said why. */
int cli_set(const cli_flag *f, const char *value);
/* Notes a flag without effect; value NULL: a switch. */
int cli_drop(const cli_foreign *f, const char *value);
/* "WHERE: unknown flag", with the nearest name. */
int cli_unknown(const cli_parser *p, const char *where, const char *arg);

/* cli_config.c: the file gives flags; the command line that follows wins. */
int cli_read_file(const cli_parser *p, const char *file);
/* The flag is on the command line: what the file said of it is forgotten. */
void cli_forget_file(const cli_flag *f);

/* cli_help.c: what is NULL or "all", a group, a flag; "man": a page in troff; "words": a line a
 * flag for completion. */
int cli_help(const cli_parser *p, const char *what);

#endif
