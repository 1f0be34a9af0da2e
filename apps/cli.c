/* apps/cli.c - see cli.h. */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "cli_json.h"
#include "cli_parts.h"

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

/* ---- finding ---- */

bool cli_same_name(const char *name, const char *text, size_t len) {
    if (strlen(name) != len) return false;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i] == '_' ? '-' : text[i];
        if (name[i] != c) return false;
    }
    return true;
}

/* text[len] among the spellings of an alias; in those with two dashes "_" is a dash. */
static bool is_alias(const char *alias, const char *text, size_t len) {
    for (const char *a = alias; a;) {
        const char *bar = strchr(a, '|');
        const size_t n = bar ? (size_t)(bar - a) : strlen(a);
        size_t i = 0;
        while (n == len && i < n && a[i] == (a[1] == '-' && text[i] == '_' ? '-' : text[i])) i++;
        if (n == len && i == n) return true;
        a = bar ? bar + 1 : NULL;
    }
    return false;
}

/* arg[len] with its dashes. */
static bool is_named(const char *name, const char *alias, const char *arg, size_t len) {
    if (len > 2 && arg[1] == '-' && cli_same_name(name, arg + 2, len - 2)) return true;
    return alias && is_alias(alias, arg, len);
}

static const cli_flag *find_named(const cli_parser *p, const char *arg, size_t len) {
    for (size_t g = 0; g < p->n_groups; g++)
        for (size_t i = 0; i < p->groups[g].n; i++)
            if (is_named(p->groups[g].flags[i].name, p->groups[g].flags[i].alias, arg, len))
                return &p->groups[g].flags[i];
    return NULL;
}

static const cli_foreign *find_foreign(const cli_parser *p, const char *arg, size_t len) {
    for (size_t i = 0; i < cli_n_foreign(p->cmd); i++)
        if (is_named(p->cmd->foreign[i].name, p->cmd->foreign[i].alias, arg, len))
            return &p->cmd->foreign[i];
    return NULL;
}

cli_found cli_find(const cli_parser *p, const char *arg, size_t len) {
    char positive[CLI_MAX_NAME];
    cli_found f = {.flag = find_named(p, arg, len)};
    if (!f.flag) f.foreign = find_foreign(p, arg, len);
    const bool no = len > 5 && len < CLI_MAX_NAME && strncmp(arg, "--no", 4) == 0 &&
                    (arg[4] == '-' || arg[4] == '_');
    if (f.flag || f.foreign || !no) return f;
    snprintf(positive, sizeof positive, "--%.*s", (int)(len - 5), arg + 5);
    const cli_flag *flag = find_named(p, positive, len - 3);
    const cli_foreign *foreign = find_foreign(p, positive, len - 3);
    if (flag && flag->type == CLI_SWITCH) return (cli_found){.flag = flag, .negated = true};
    if (foreign && !foreign->value) return (cli_found){.foreign = foreign, .negated = true};
    return f;
}

/* ---- the nearest name ---- */

/* Edits from a to b, of which CLI_MAX_NAME letters count. */
static unsigned distance(const char *a, const char *b) {
    unsigned row[CLI_MAX_NAME + 1];
    const size_t n = strnlen(b, CLI_MAX_NAME);
    for (size_t k = 0; k <= n; k++) row[k] = (unsigned)k;
    for (size_t i = 0; i < CLI_MAX_NAME && a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t k = 1; k <= n; k++) {
            const unsigned replaced = diagonal + (a[i] != b[k - 1]);
            diagonal = row[k];
            row[k] = 1 + (row[k] < row[k - 1] ? row[k] : row[k - 1]);
            if (replaced < row[k]) row[k] = replaced;
        }
    }
    return row[n];
}

static void take_nearest(const char *name, const char *wanted, unsigned *least, const char **out) {
    const unsigned d = distance(wanted, name);
    if (d < *least) *least = d, *out = name;
}

/* NULL: nothing is near. */
static const char *nearest(const cli_parser *p, const char *wanted) {
    unsigned least = (unsigned)strnlen(wanted, CLI_MAX_NAME) / 3 + 1;
    const char *out = NULL;
    for (size_t g = 0; g < p->n_groups; g++)
        for (size_t i = 0; i < p->groups[g].n; i++)
            take_nearest(p->groups[g].flags[i].name, wanted, &least, &out);
    for (size_t i = 0; i < cli_n_foreign(p->cmd); i++)
        take_nearest(p->cmd->foreign[i].name, wanted, &least, &out);
    return out;
}

int cli_unknown(const cli_parser *p, const char *where, const char *arg) {
    char wanted[CLI_MAX_NAME + 1];
    size_t n = 0;
    const char *at = arg + strspn(arg, "-");
    for (; n < CLI_MAX_NAME && at[n] && at[n] != '=' && at[n] != '.'; n++)
        wanted[n] = at[n] == '_' ? '-' : at[n];
    wanted[n] = '\0';
    const char *near = nearest(p, wanted);
    return cli_fail(EXIT_USAGE, "%s: unknown flag (got %.64s%s%s); see octet %s --help", where, arg,
                    near ? "; did you mean --" : "", near ? near : "", p->cmd->name);
}

/* ---- values ---- */

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

int cli_set(const cli_flag *f, const char *value) {
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
        if (f->unset && is_choice(f->unset, value)) {
            *(uint64_t *)f->out = 0;
            return -1;
        }
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

/* ---- flags of others ---- */

enum { MAX_MET = 64 };
static const cli_foreign *met[MAX_MET];
static unsigned n_met;

int cli_drop(const cli_foreign *f, const char *value) {
    if (value && f->neutral && is_choice(f->neutral, value)) return -1;
    if (f->refused)
        return cli_fail(EXIT_USAGE, "--%s: %s%s%.64s%s", f->name, f->why, value ? " (got " : "",
                        value ? value : "", value ? ")" : "");
    for (unsigned i = 0; i < n_met; i++)
        if (met[i] == f) return -1;
    if (n_met < MAX_MET) met[n_met++] = f;
    return -1;
}

void cli_say_foreign(void) {
    for (unsigned i = 0; i < n_met; i++)
        oct_warn("--%s has no effect here: %s", met[i]->name, met[i]->why);
    n_met = 0;
}

/* ---- the command line ---- */

typedef struct args {
    const cli_parser *p;
    char **argv;
    int argc, i; /* i: the argument that is read */
    bool flags_end, model_given;
    const char **pos;
    unsigned max_pos, *n_pos;
    cli_keys keys;
} args;

static int take_position(args *a) {
    if (*a->n_pos == a->max_pos)
        return cli_fail(EXIT_USAGE, "%s: stray argument (got %.64s); see octet %s --help",
                        a->p->cmd->name, a->argv[a->i], a->p->cmd->name);
    a->pos[(*a->n_pos)++] = a->argv[a->i];
    return -1;
}

/* The next argument is one more value of a list: it can be meant for nothing else. */
static bool more_values(const args *a) {
    const bool open = *a->n_pos < a->max_pos && !a->model_given;
    return !open && a->i + 1 < a->argc && a->argv[a->i + 1][0] != '-';
}

static int take_foreign(args *a, const cli_foreign *f, const char *value) {
    if (f->value && !value) {
        if (a->i + 1 == a->argc)
            return cli_fail(EXIT_USAGE, "--%s: missing value (want %s)", f->name, f->value);
        value = a->argv[++a->i];
    }
    while (f->value && strchr(f->value, '.') && more_values(a)) a->i++;
    return cli_drop(f, value);
}

static int take_value(args *a, const cli_flag *f, const char *attached) {
    const char *value = attached ? attached : a->i + 1 < a->argc ? a->argv[++a->i] : NULL;
    if (!value)
        return cli_fail(EXIT_USAGE, "--%s: missing value (want %s)", f->name,
                        f->choices ? f->choices : f->value);
    int status = cli_set(f, value);
    while (status < 0 && f->type == CLI_STRINGS && !attached && more_values(a))
        status = cli_set(f, a->argv[++a->i]);
    return status;
}

/* --flag.key VALUE */
static int take_key(args *a, const cli_flag *f, const char *dot, size_t whole) {
    const char *arg = a->argv[a->i];
    const char *value = arg[whole] == '='    ? arg + whole + 1
                        : a->i + 1 < a->argc ? a->argv[++a->i]
                                             : NULL;
    if (!value) return cli_fail(EXIT_USAGE, "--%s: missing value (want %s)", f->name, f->value);
    return cli_keys_add(&a->keys, f, (oct_str){arg, whole},
                        (oct_str){dot + 1, (size_t)(arg + whole - dot - 1)}, value);
}

static int take_flag(args *a, const char *arg) {
    const char *equals = strchr(arg, '=');
    const bool digit = arg[1] != '-' && arg[2] >= '0' && arg[2] <= '9'; /* -O3 */
    const size_t whole = digit ? 2 : equals ? (size_t)(equals - arg) : strlen(arg);
    const char *attached = digit ? arg + 2 : equals ? equals + 1 : NULL;
    const char *dot = memchr(arg, '.', whole);
    const cli_found found = cli_find(a->p, arg, dot ? (size_t)(dot - arg) : whole);
    const cli_flag *f = found.flag;
    if (found.foreign) return take_foreign(a, found.foreign, attached);
    if (!f || (dot && found.negated)) return cli_unknown(a->p, a->p->cmd->name, arg);
    if (strcmp(f->name, "model") == 0) a->model_given = true;
    if (dot) return take_key(a, f, dot, whole);
    cli_forget_file(f);
    if (f->type != CLI_SWITCH || attached) return take_value(a, f, attached);
    *(bool *)f->out = !found.negated;
    if (f->given) *f->given = true;
    return -1;
}

static int take_argument(args *a) {
    const char *arg = a->argv[a->i];
    if (a->flags_end || arg[0] != '-' || arg[1] == '\0') return take_position(a);
    if (strcmp(arg, "--") == 0) {
        a->flags_end = true;
        return -1;
    }
    if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) return cli_help(a->p, NULL);
    if (strncmp(arg, "--help=", 7) == 0) return cli_help(a->p, arg + 7);
    if (a->p->cmd->config && strcmp(arg, "--config") == 0) {
        a->i++; /* was read before all others */
        return -1;
    }
    if (a->p->cmd->config && strncmp(arg, "--config=", 9) == 0) return -1;
    return take_flag(a, arg);
}

/* The file of --config, wherever it stands: all else on the command line wins over it. */
static int take_config(const args *a) {
    for (int i = 0; i < a->argc && strcmp(a->argv[i], "--") != 0; i++) {
        const char *file = NULL;
        if (strncmp(a->argv[i], "--config=", 9) == 0) file = a->argv[i] + 9;
        if (strcmp(a->argv[i], "--config") == 0) {
            if (i + 1 == a->argc)
                return cli_fail(EXIT_USAGE, "--config: missing value (want FILE)");
            file = a->argv[++i];
        }
        const int status = file ? cli_read_file(a->p, file) : -1;
        if (status >= 0) return status;
    }
    return -1;
}

int cli_parse(const cli_command *cmd, const cli_group *groups, size_t n_groups, int argc,
              char **argv, const char **pos, unsigned max_pos, unsigned *n_pos) {
    const cli_parser p = {cmd, groups, n_groups};
    args a = {.p = &p, .argv = argv, .argc = argc, .pos = pos, .max_pos = max_pos, .n_pos = n_pos};
    *n_pos = 0;
    int status = cmd->config ? take_config(&a) : -1;
    for (; a.i < argc && status < 0; a.i++) status = take_argument(&a);
    return status >= 0 ? status : cli_keys_merge(&a.keys);
}
