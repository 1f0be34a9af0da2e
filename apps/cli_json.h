/*
 * apps/cli_json.h - keys of flags whose value is JSON: --flag.key.key VALUE sets one, --flag.list+
 * A,B appends to a list. They are merged into the JSON that the flag itself was given, wherever on
 * the command line that stands; of two for one key the last wins.
 *
 * Threads    One; what was merged lives until the process ends.
 */
#ifndef OCT_APPS_CLI_JSON_H
#define OCT_APPS_CLI_JSON_H

#include "base/str.h"
#include "cli.h"

enum { CLI_MAX_KEYS = 64 };

typedef struct cli_keys {
    struct {
        const cli_flag *flag;
        oct_str name; /* as it was written: "--flag.key" */
        oct_str keys; /* behind the first dot */
        const char *value;
    } at[CLI_MAX_KEYS];
    unsigned n;
} cli_keys;

/* Remembers one. -1, or the exit status. */
int cli_keys_add(cli_keys *k, const cli_flag *f, oct_str name, oct_str keys, const char *value);
/* After the last argument: the flags' values become what they were given with the keys merged in.
 */
int cli_keys_merge(const cli_keys *k);

#endif
