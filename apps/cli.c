/* apps/cli.c - see cli.h. */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "cli_json.h"

int cli_fail(int status, const char *fmt, ...) {
    va_list args;
    fputs("octet: error: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

int cli_status_of(oct_status st) {
    switch (st) {
    case OCT_OK:
        return EXIT_CLEAN;
    case OCT_E_INVALID:
        return EXIT_USAGE;
    case OCT_E_CORRUPT:
    case OCT_E_UNSUPPORTED:
    case OCT_E_IO:
        return EXIT_MODEL;
    case OCT_E_NOMEM:
    case OCT_E_FULL:
        return EXIT_SYSTEM;
    case OCT_E_DEVICE:
        return EXIT_DEVICE;
    case OCT_E_CANCELLED:
        break;
    }
    return EXIT_INTERNAL;
}

int cli_status_of_output(oct_status st) { return st == OCT_E_IO ? EXIT_SYSTEM : cli_status_of(st); }

/* ---- rows ------------------------------------------------------------------------------------ */

cli_flag cli_switch(const char *name, bool *out, const char *help) {
    return (cli_flag){.name = name, .type = CLI_SWITCH, .out = out, .help = help};
}

cli_flag cli_string(const char *name, const char **out, const char *value, const char *help) {
    return (cli_flag){.name = name, .type = CLI_STRING, .out = out, .value = value, .help = help};
}

cli_flag cli_json(const char *name, const char **out, const char *help) {
    return (cli_flag){.name = name, .type = CLI_JSON, .out = out, .value = "JSON", .help = help};
}

cli_flag cli_many(const char *name, cli_strings *out, const char *value, const char *help) {
    return (cli_flag){.name = name, .type = CLI_STRINGS, .out = out, .value = value, .help = help};
}

cli_flag cli_choice(const char *name, const char **out, const char *choices, const char *help) {
    return (cli_flag){
        .name = name, .type = CLI_CHOICE, .out = out, .choices = choices, .help = help};
}

cli_flag cli_count(const char *name, uint64_t *out, double min, double max, const char *help) {
    return (cli_flag){.name = name,
                      .type = CLI_COUNT,
                      .out = out,
                      .value = "N",
                      .min = min,
                      .max = max,
                      .help = help};
}

cli_flag cli_number(const char *name, double *out, const char *value, double min, double max,
                    const char *help) {
    return (cli_flag){.name = name,
                      .type = CLI_NUMBER,
                      .out = out,
                      .value = value,
                      .min = min,
                      .max = max,
                      .help = help};
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* Same name, dashes and underscores being one. */
static bool same_name(const char *name, const char *text, size_t len) {
    if (strlen(name) != len) return false;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i] == '_' ? '-' : text[i];
        if (name[i] != c) return false;
    }
    return true;
}

typedef struct parser {
    const cli_command *cmd;
    const cli_group *groups;
    size_t n_groups;
} parser;

static const cli_flag *find_flag(const parser *p, const char *text, size_t len, bool *negated) {
    *negated = false;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (len < 3 || strncmp(text, "no", 2) != 0 || (text[2] != '-' && text[2] != '_')) break;
            text += 3, len -= 3;
        }
        for (size_t g = 0; g < p->n_groups; g++)
            for (size_t i = 0; i < p->groups[g].n; i++) {
                const cli_flag *f = &p->groups[g].flags[i];
                if (same_name(f->name, text, len) && (pass == 0 || f->type == CLI_SWITCH)) {
                    *negated = pass == 1;
                    return f;
                }
            }
    }
    return NULL;
}

static const cli_flag *find_alias(const parser *p, const char *text, size_t len) {
    for (size_t g = 0; g < p->n_groups; g++)
        for (size_t i = 0; i < p->groups[g].n; i++) {
            const char *alias = p->groups[g].flags[i].alias;
            if (alias && strlen(alias) == len && memcmp(alias, text, len) == 0)
                return &p->groups[g].flags[i];
        }
    return NULL;
}

static bool is_choice(const char *choices, const char *value) {
    const size_t len = strlen(value);
    for (const char *c = choices; c;) {
        const char *bar = strchr(c, '|');
        const size_t n = bar ? (size_t)(bar - c) : strlen(c);
        if (n == len && memcmp(c, value, n) == 0) return true;
        c = bar ? bar + 1 : NULL;
    }
    return false;
}

static int range_error(const cli_flag *f, const char *value) {
    char lo[32], hi[32];
    if (f->type == CLI_COUNT) {
        snprintf(lo, sizeof lo, "%.0f", f->min);
        snprintf(hi, sizeof hi, "%.0f", f->max);
    } else {
        oct_format_f64(f->min, lo);
        oct_format_f64(f->max, hi);
    }
    if (f->max > 0)
        return cli_fail(EXIT_USAGE, "--%s: not a %s in range (got %.64s, want %s to %s)", f->name,
                        f->type == CLI_COUNT ? "whole number" : "number", value, lo, hi);
    return cli_fail(EXIT_USAGE, "--%s: not a %s in range (got %.64s, want at least %s)", f->name,
                    f->type == CLI_COUNT ? "whole number" : "number", value, lo);
}

static int set_value(const cli_flag *f, const char *value) {
    uint64_t u;
    double d;
    if (f->given) *f->given = true;
    switch (f->type) {
    case CLI_STRING:
    case CLI_JSON:
        *(const char **)f->out = value;
        return -1;
    case CLI_STRINGS: {
        cli_strings *list = f->out;
        if (list->n == CLI_MAX_STRINGS)
            return cli_fail(EXIT_USAGE, "--%s: given more than %d times", f->name, CLI_MAX_STRINGS);
        list->at[list->n++] = value;
        return -1;
    }
    case CLI_COUNT:
        if (!oct_parse_scaled(oct_str_of(value), &u) || (double)u < f->min ||
            (f->max > 0 && (double)u > f->max))
            return range_error(f, value);
        *(uint64_t *)f->out = u;
        return -1;
    case CLI_NUMBER:
        if (!oct_parse_f64(oct_str_of(value), &d) || !(d >= f->min) ||
            (f->max > 0 && !(d <= f->max)))
            return range_error(f, value);
        *(double *)f->out = d;
        return -1;
    case CLI_CHOICE:
        if (!is_choice(f->choices, value))
            return cli_fail(EXIT_USAGE, "--%s: unknown choice (got %.64s, want %s)", f->name, value,
                            f->choices);
        *(const char **)f->out = value;
        return -1;
    case CLI_SWITCH:
        break;
    }
    return cli_fail(EXIT_USAGE, "--%s takes no value (got %.64s)", f->name, value);
}

/* A number below the least allowed one means "not given", and a zero count too: no default. */
static void print_default(const cli_flag *f, const char *space) {
    char text[32];
    switch (f->type) {
    case CLI_SWITCH:
        if (*(bool *)f->out) printf("%s(on; --no-%s)", space, f->name);
        break;
    case CLI_STRING:
    case CLI_JSON:
    case CLI_CHOICE:
        if (*(const char **)f->out) printf("%s(default %s)", space, *(const char **)f->out);
        break;
    case CLI_COUNT:
        if (*(uint64_t *)f->out) printf("%s(default %llu)", space, *(unsigned long long *)f->out);
        break;
    case CLI_NUMBER:
        if (*(double *)f->out < f->min) break;
        snprintf(text, sizeof text, "%.15g", *(double *)f->out);
        printf("%s(default %s)", space, text);
        break;
    case CLI_STRINGS:
        break;
    }
}

static void print_flag(const cli_flag *f) {
    char head[256]; /* the longest list of choices fits */
    const char *value = f->type == CLI_CHOICE ? f->choices : f->value ? f->value : "";
    const size_t len = strlen(f->help);
    snprintf(head, sizeof head, "%s%s--%s%s%s", f->alias ? f->alias : "", f->alias ? ", " : "",
             f->name, value[0] ? " " : "", value);
    if (strlen(head) > 30)
        printf("  %s\n%34s", head, "");
    else
        printf("  %-30s  ", head);
    for (const char *c = f->help; *c; c++) {
        putchar(*c);
        if (*c == '\n') printf("%34s", "");
    }
    print_default(f, len > 0 && f->help[len - 1] == '\n' ? "" : " ");
    putchar('\n');
}

/* --help, --help=all, --help=GROUP, --help=flag-name */
static int print_help(const parser *p, const char *what) {
    const bool filtered = what && strcmp(what, "all") != 0;
    bool any = false;
    if (!filtered) {
        printf("octet %s - %s\n\nUsage: octet %s%s%s [flags]\n", p->cmd->name, p->cmd->summary,
               p->cmd->name, p->cmd->usage[0] ? " " : "", p->cmd->usage);
        if (p->cmd->notes) printf("\n%s\n", p->cmd->notes);
        if (p->cmd->examples) printf("\nExamples:\n%s\n", p->cmd->examples);
    }
    for (size_t g = 0; g < p->n_groups; g++) {
        const bool whole = !filtered || strcasecmp(what, p->groups[g].name) == 0;
        bool headed = false;
        for (size_t i = 0; i < p->groups[g].n; i++) {
            const cli_flag *f = &p->groups[g].flags[i];
            if (!whole && !same_name(f->name, what, strlen(what))) continue;
            if (!headed) printf("\n%s:\n", p->groups[g].name);
            headed = any = true;
            print_flag(f);
        }
    }
    if (filtered && !any)
        return cli_fail(EXIT_USAGE, "--help: no flag or group of that name (got %.64s)", what);
    return EXIT_CLEAN;
}

int cli_parse(const cli_command *cmd, const cli_group *groups, size_t n_groups, int argc,
              char **argv, const char **pos, unsigned max_pos, unsigned *n_pos) {
    const parser p = {cmd, groups, n_groups};
    cli_keys keys = {.n = 0};
    bool flags_end = false;
    *n_pos = 0;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (flags_end || arg[0] != '-' || arg[1] == '\0') {
            if (*n_pos == max_pos)
                return cli_fail(EXIT_USAGE, "%s: stray argument (got %.64s); see octet %s --help",
                                cmd->name, arg, cmd->name);
            pos[(*n_pos)++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            flags_end = true;
            continue;
        }
        if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) return print_help(&p, NULL);
        if (strncmp(arg, "--help=", 7) == 0) return print_help(&p, arg + 7);

        const char *equals = strchr(arg, '=');
        const size_t whole = equals ? (size_t)(equals - arg) : strlen(arg);
        const char *dot = memchr(arg, '.', whole);
        const size_t len = dot ? (size_t)(dot - arg) : whole;
        bool negated = false;
        const cli_flag *f =
            arg[1] == '-' ? find_flag(&p, arg + 2, len - 2, &negated) : find_alias(&p, arg, len);
        if (!f || (dot && negated))
            return cli_fail(EXIT_USAGE, "%s: unknown flag (got %.64s); see octet %s --help",
                            cmd->name, arg, cmd->name);
        if (f->type == CLI_SWITCH && !equals && !dot) {
            *(bool *)f->out = !negated;
            if (f->given) *f->given = true;
            continue;
        }
        const char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value)
            return cli_fail(EXIT_USAGE, "--%s: missing value (want %s)", f->name,
                            f->choices ? f->choices : f->value);
        const int status =
            dot ? cli_keys_add(&keys, f, (oct_str){arg, whole},
                               (oct_str){dot + 1, (size_t)(arg + whole - dot - 1)}, value)
                : set_value(f, value);
        if (status >= 0) return status;
    }
    return cli_keys_merge(&keys);
}
