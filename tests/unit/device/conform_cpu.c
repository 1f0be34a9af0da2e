/*
 * tests/unit/device/conform_cpu.c - the CPU device against its scalar reference, bit for bit: every
 * instruction set this machine has, 1 to 4 threads, inside the calls and behind them. And a device
 * that computes nothing must not pass.
 *
 *     conform_cpu [GROUP]     only the groups whose name starts with GROUP
 */
#include <stdio.h>
#include <string.h>

#include "device/conform.h"
#include "kern/cpu.h"

static void print_line(void *ctx, const oct_conform_line *line) {
    const bool always = *(const bool *)ctx;
    if (always || line->n_failed)
        printf("  %-16s %4u cases %4u failed  worst %.3g  %s\n", line->group, line->n_cases,
               line->n_failed, line->worst, line->first_failed ? line->first_failed : "");
}

static bool judge(const char *name, const oct_device_options *o, const oct_conform_options *how,
                  bool always, oct_conform_result *result) {
    oct_err err = {.code = OCT_OK};
    oct_device *d = NULL;
    oct_status st = oct_device_open(oct_system_allocator(), name, o, &d, &err);
    if (st == OCT_OK) {
        printf("%s\n", d->info.name);
        st = oct_conform_run(d, how, print_line, &always, result, &err);
    }
    if (st != OCT_OK) printf("  %s\n", err.text);
    fflush(stdout);
    oct_device_close(d);
    return st == OCT_OK;
}

int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : NULL;
    unsigned n_bad = 0;
    oct_conform_result result;
    for (uint32_t mask = 0;; mask = mask * 2 + 1) {
        char settings[32];
        if (mask && oct_cpu_mask_normal(mask & oct_cpu_mask()) != mask) break;
        snprintf(settings, sizeof settings, "mask=%x", mask);
        for (unsigned n_threads = 1; n_threads <= 4; n_threads++) {
            const bool strongest = (oct_cpu_mask() & (mask * 2 + 1)) == mask;
            const oct_device_options o = {.n_threads = n_threads,
                                          .bind_threads = 2,
                                          .settings = settings,
                                          .overlap = n_threads % 2};
            const oct_conform_options how = {
                .only = only, .seed = mask * 8 + n_threads, .quick = !strongest || n_threads != 2};
            if (!judge("cpu", &o, &how, strongest && n_threads == 2, &result) || result.n_failed)
                n_bad++;
        }
    }
    const oct_device_options none = {.settings = "seed=1"};
    const oct_conform_options how = {.seed = 1, .quick = true};
    if (!only && (!judge(NULL_PLUGIN, &none, &how, false, &result) || result.n_failed < 50)) {
        printf("  the null device passed: conform sees nothing\n");
        n_bad++;
    }
    printf("%s\n", n_bad ? "FAILED" : "all equal to the reference, bit for bit");
    return n_bad != 0;
}
