/*
 * apps/cli_help.c - what the tables of flags tell: help, man pages, words for completion.
 *
 * `octet COMMAND --help=man` prints a page in troff, `--help=words` a line a flag: its spellings,
 * then what may follow it. Both are for the build (apps/CMakeLists.txt), not promised to anybody.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli_parts.h"

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
    char head[320]; /* the longest list of choices fits */
    const char *value = f->type == CLI_CHOICE ? f->choices : f->value ? f->value : "";
    const size_t len = strlen(f->help);
    snprintf(head, sizeof head, "%s%s--%s%s%s", f->alias ? f->alias : "", f->alias ? ", " : "",
             f->name, value[0] ? " " : "", value);
    for (size_t i = 0; f->alias && i < strlen(f->alias); i++)
        if (head[i] == '|') head[i] = ',';
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
static int print_help(const cli_parser *p, const char *what) {
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
            if (!whole && !cli_same_name(f->name, what, strlen(what))) continue;
            if (!headed) printf("\n%s:\n", p->groups[g].name);
            headed = any = true;
            print_flag(f);
        }
    }
    if (p->cmd->config && (!filtered || strcmp(what, "config") == 0)) {
        any = true;
        printf("\nFile:\n  %-30s  flags and their values, over which the command line wins\n",
               "--config FILE.yaml");
    }
    const bool foreign = filtered && strcasecmp(what, "vLLM") == 0;
    if (foreign && cli_n_foreign(p->cmd) > 0) printf("\nRead and without effect, or refused:\n");
    for (size_t i = 0; i < cli_n_foreign(p->cmd); i++) {
        const cli_foreign *f = &p->cmd->foreign[i];
        if (!foreign && !(filtered && cli_same_name(f->name, what, strlen(what)))) continue;
        any = true;
        printf("  --%-28s  %s%s\n", f->name, f->refused ? "refused: " : "", f->why);
    }
    if (!filtered && cli_n_foreign(p->cmd) > 0)
        printf("\n%zu flags of vLLM are read and have no effect here: --help=vLLM\n",
               cli_n_foreign(p->cmd));
    if (filtered && !any)
        return cli_fail(EXIT_USAGE, "--help: no flag or group of that name (got %.64s)", what);
    return EXIT_CLEAN;
}

/* ---- man pages ---- */

/* Text with what troff would take for commands made harmless. */
static void put_troff(const char *s) {
    bool at_start = true;
    for (; *s; s++) {
        if (at_start && (*s == '.' || *s == '\'')) fputs("\\&", stdout);
        at_start = *s == '\n';
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '|' || *s == ',' || *s == '/') /* a line may end here */
            printf("%c\\:", *s);
        else if (*s == '\n')
            putchar('\n');
        else
            putchar(*s);
    }
}

static void put_head(const char *name, const char *alias, const char *value) {
    fputs(".TP\n.B ", stdout);
    for (const char *a = alias; a;) {
        const char *bar = strchr(a, '|');
        char one[CLI_MAX_NAME];
        snprintf(one, sizeof one, "%.*s", bar ? (int)(bar - a) : (int)strlen(a), a);
        put_troff(one);
        fputs(", ", stdout);
        a = bar ? bar + 1 : NULL;
    }
    fputs("\\-\\-", stdout);
    put_troff(name);
    if (value && value[0]) {
        fputs(" \\fI", stdout);
        put_troff(value);
        fputs("\\fR", stdout);
    }
    putchar('\n');
}

static void man_flag(const cli_flag *f) {
    put_head(f->name, f->alias, f->type == CLI_CHOICE ? f->choices : f->value);
    size_t n = strlen(f->help);
    while (n > 0 && f->help[n - 1] == '\n') n--;
    for (size_t i = 0; i < n; i++) { /* one paragraph: lines of the help are for a terminal */
        const char one[2] = {f->help[i], '\0'};
        put_troff(one);
        if (f->help[i] == '\n' && (f->help[i + 1] == '.' || f->help[i + 1] == '\''))
            fputs("\\&", stdout);
    }
    putchar('\n');
    print_default(f, "");
    putchar('\n');
}

static void man_block(const char *text) {
    fputs(".nf\n", stdout);
    put_troff(text);
    fputs("\n.fi\n", stdout);
}

static int print_man(const cli_parser *p) {
    const cli_command *c = p->cmd;
    char title[64];
    size_t n = 0;
    for (; c->name[n] && n + 1 < sizeof title; n++)
        title[n] = c->name[n] == ' ' ? '-' : (char)toupper((unsigned char)c->name[n]);
    title[n] = '\0';
    printf(".TH OCTET\\-%s 1 \"\" \"octet " OCT_VERSION
           "\" \"octet\"\n.ad l\n.SH NAME\noctet\\-%s \\- ",
           title, c->name);
    put_troff(c->summary);
    printf("\n.SH SYNOPSIS\n.B octet %s\n", c->name);
    if (c->usage[0]) {
        put_troff(c->usage);
        putchar('\n');
    }
    fputs("[flags]\n.SH DESCRIPTION\n", stdout);
    put_troff(c->notes ? c->notes : c->summary);
    fputs("\n.PP\nFlags: \\fB\\-\\-name value\\fR, \\fB\\-\\-name=value\\fR, \\fB\\-\\-switch\\fR, "
          "\\fB\\-\\-no\\-switch\\fR; dashes and underscores are the same.\n",
          stdout);
    for (size_t g = 0; g < p->n_groups; g++) {
        printf(".SH %s FLAGS\n", p->groups[g].name);
        for (size_t i = 0; i < p->groups[g].n; i++) man_flag(&p->groups[g].flags[i]);
    }
    if (cli_n_foreign(c) > 0) fputs(".SH FLAGS WITHOUT EFFECT\n", stdout);
    for (size_t i = 0; i < cli_n_foreign(c); i++) {
        put_head(c->foreign[i].name, c->foreign[i].alias, c->foreign[i].value);
        if (c->foreign[i].refused) fputs("refused: ", stdout);
        put_troff(c->foreign[i].why);
        putchar('\n');
    }
    if (c->examples) {
        fputs(".SH EXAMPLES\n", stdout);
        man_block(c->examples);
    }
    fputs(
        ".SH EXIT STATUS\n0 clean, 1 internal failure, 2 command line, 3 model files, 4 operating "
        "system, 5 device.\n.SH SEE ALSO\n.BR octet (1)\n",
        stdout);
    return EXIT_CLEAN;
}

/* ---- words for completion ---- */

static void print_words(const cli_parser *p) {
    for (size_t g = 0; g < p->n_groups; g++)
        for (size_t i = 0; i < p->groups[g].n; i++) {
            const cli_flag *f = &p->groups[g].flags[i];
            const char *follows = f->type == CLI_SWITCH ? "-" : f->choices ? f->choices : f->value;
            printf("--%s\t%s\n", f->name, follows ? follows : "VALUE");
            if (f->type == CLI_SWITCH) printf("--no-%s\t-\n", f->name);
        }
    if (p->cmd->config) puts("--config\tFILE");
    puts("--help\t-");
}

int cli_help(const cli_parser *p, const char *what) {
    if (what && strcmp(what, "man") == 0) return print_man(p);
    if (what && strcmp(what, "words") == 0) return print_words(p), EXIT_CLEAN;
    return print_help(p, what);
}
