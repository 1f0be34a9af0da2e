/* apps/conform/conform.c - `octet conform`: may this device serve? Exit status 0 or 5 says. */
#include "device/conform.h"

#include <stdio.h>
#include <unistd.h>

#include "commands.h"
#include "open.h"

static void print_line(void *ctx, const oct_conform_line *line) {
    const bool colour = isatty(STDOUT_FILENO);
    (void)ctx;
    printf("%s%-4s%s %-28s %5u cases  worst %.3f of what is allowed",
           colour ? (line->n_failed ? "\033[31m" : "\033[32m") : "", line->n_failed ? "FAIL" : "ok",
           colour ? "\033[0m" : "", line->group, line->n_cases, line->worst);
    if (line->mean_us > 0) printf("  %.1f us", line->mean_us);
    if (line->n_absent) printf("  (%u left out: the device has them not)", line->n_absent);
    putchar('\n');
    if (line->n_failed)
        printf("     %u failed, first: %s\n", line->n_failed,
               line->first_failed ? line->first_failed : "?");
    fflush(stdout);
}

static int conform_run(const cli_command *self, int argc, char **argv) {
    open_options o = OPEN_OPTIONS_DEFAULT;
    oct_conform_options co = {.seed = 1};
    uint64_t seed = 1, repeats = 0;
    o.log_level = "warn";
    o.device = "cpu";
    cli_flag all[OPEN_N_FLAGS];
    open_flags(&o, all);
    const cli_flag flags[] = {
        cli_string("only", &co.only, "GROUP", "groups whose name starts so"),
        cli_count("seed", &seed, 0, 0, "of the random fills"),
        cli_switch("quick", &co.quick, "every third case"),
        cli_count("repeats", &repeats, 0, 1000000, "time each operation over N runs"),
    };
    const cli_group groups[] = {{"Flags", flags, OCT_COUNT(flags)},
                                {"Device", all, OPEN_N_DEVICE_FLAGS}};
    unsigned n_pos;
    int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, NULL, 0, &n_pos);
    if (status >= 0) return status;

    opened m = {0};
    oct_err err = {0};
    oct_conform_result result = {0};
    co.seed = seed;
    co.n_repeats = (unsigned)repeats;
    status = open_device(&o, &m);
    if (status >= 0) return status;
    printf("device %s (%s)\n", m.device->info.name, m.device->source);
    const oct_status st = oct_conform_run(m.device, &co, print_line, NULL, &result, &err);
    if (st != OCT_OK) {
        status = cli_fail(cli_status_of(st), "%s", err.text);
    } else if (result.n_failed) {
        status = cli_fail(EXIT_DEVICE, "%s does not conform: %u of %u cases failed",
                          m.device->info.name, result.n_failed, result.n_cases);
    } else if (result.n_cases == 0 && co.only) { /* nothing was judged */
        status = cli_fail(EXIT_USAGE, "--only: no group's name starts so (got %.64s)", co.only);
    } else {
        printf("conforms: %u cases\n", result.n_cases - result.n_absent);
        status = EXIT_CLEAN;
    }
    opened_close(&m);
    return status;
}

const cli_command conform_command = {
    .name = "conform",
    .summary = "check a device, operation by operation, against the scalar reference",
    .usage = "",
    .examples =
        "  octet conform --device cpu\n  octet conform --device /opt/octet/libmydevice.so:1",
    .run = conform_run,
};
