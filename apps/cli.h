/*
 * apps/cli.h - flags of the commands as tables: one row a flag gives its parsing, its range, its
 * help line and the words of its errors.
 *
 * Grammar: --name value, --name=value, --flag / --no-flag for switches; dashes and underscores are
 * the same; --name.key.key value and --name.list+ a,b for those whose value is JSON (cli_json.h);
 * short forms (-q int8, -tp=2, -O3); lists take several values where no argument could be meant;
 * --config FILE.yaml gives flags over which the command line wins; "--" ends the flags. Numbers are
 * read whole or refused; a value out of range is refused with the range (bad-input CL1).
 */
#ifndef OCT_APPS_CLI_H
#define OCT_APPS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Exit statuses of every command. */
enum {
    EXIT_CLEAN = 0,
    EXIT_INTERNAL = 1, /* a failure of octet itself */
    EXIT_USAGE = 2,    /* command line, environment or option file */
    EXIT_MODEL = 3,    /* missing or bad model files */
    EXIT_SYSTEM = 4,   /* port, memory, descriptors, threads, a result that cannot be written */
    EXIT_DEVICE = 5,
};

typedef enum cli_type {
    CLI_SWITCH,  /* bool */
    CLI_STRING,  /* const char * */
    CLI_COUNT,   /* uint64_t, suffixes k m g t K M G T */
    CLI_NUMBER,  /* double */
    CLI_CHOICE,  /* const char *, one of `choices` */
    CLI_STRINGS, /* cli_strings: may be given several times */
    CLI_JSON,    /* const char *; its keys may be given one by one */
} cli_type;

enum { CLI_MAX_STRINGS = 16 };

typedef struct cli_strings {
    const char *at[CLI_MAX_STRINGS];
    unsigned n;
} cli_strings;

typedef struct cli_flag {
    const char *name;  /* without the dashes; "max-model-len" */
    const char *alias; /* other spellings with their dashes ("-q", "-a|--b"), or NULL */
    cli_type type;
    void *out;           /* where the value goes; holds the default before */
    const char *value;   /* "N", "FILE": for the help */
    const char *help;    /* one line; may hold newlines */
    double min, max;     /* CLI_COUNT and CLI_NUMBER; max 0: no upper bound */
    const char *choices; /* CLI_CHOICE: "a|b|c" */
    const char *unset;   /* CLI_COUNT: "-1|auto": words that mean 0, not given */
    bool *given;         /* set when the flag was there; may be NULL */
} cli_flag;

/* Rows of such a table; one with more in it is written out. */
cli_flag cli_switch(const char *name, bool *out, const char *help);
cli_flag cli_string(const char *name, const char **out, const char *value, const char *help);
cli_flag cli_json(const char *name, const char **out, const char *help);
cli_flag cli_many(const char *name, cli_strings *out, const char *value, const char *help);
cli_flag cli_choice(const char *name, const char **out, const char *choices, const char *help);
cli_flag cli_count(const char *name, uint64_t *out, double min, double max, const char *help);
cli_flag cli_number(const char *name, double *out, const char *value, double min, double max,
                    const char *help);

/* A flag of other programs: read with its values, and without effect; or refused, because without
 * it what was meant does not happen. */
typedef struct cli_foreign {
    const char *name;
    const char *alias;   /* as above */
    const char *value;   /* NULL: a switch; "N": one value; "N...": as many as come */
    const char *neutral; /* "1|auto": values about which nothing is said; NULL: none */
    bool refused;        /* other values end the start */
    const char *why;     /* what to expect instead */
} cli_foreign;

typedef struct cli_command {
    const char *name;           /* "serve" */
    const char *summary;        /* one line */
    const char *usage;          /* "MODEL [PROMPT]" */
    const char *examples;       /* lines, shown as they are */
    const char *notes;          /* or NULL */
    const cli_foreign *foreign; /* ends with a row without a name; or NULL */
    bool config;                /* --config FILE.yaml */
    int (*run)(const struct cli_command *self, int argc, char **argv);
} cli_command;

typedef struct cli_group {
    const char *name; /* heading of the help: "Model" */
    const cli_flag *flags;
    size_t n;
} cli_group;

/*
 * Reads argv[0..argc). Arguments that are no flags go to pos (at most max_pos). Returns -1 to go
 * on, else the exit status with which the command ends: help was printed, or an error told on
 * stderr.
 */
int cli_parse(const cli_command *cmd, const cli_group *groups, size_t n_groups, int argc,
              char **argv, const char **pos, unsigned max_pos, unsigned *n_pos);

/* Warns of the flags without effect that cli_parse met. */
void cli_say_foreign(void);
/* Whether the value at out came from --config and not from the command line. */
bool cli_is_from_file(const void *out);

/* "octet: error: TEXT" on stderr; returns status. */
int cli_fail(int status, const char *fmt, ...) OCT_PRINTF(2, 3);

/* The exit status for a failure while a model or its device was opened. */
int cli_status_of(oct_status st);

/* The same for one while a result is written: the model was opened by then, so that what the
 * operating system refuses is the writing. */
int cli_status_of_output(oct_status st);

#endif
