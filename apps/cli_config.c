/*
 * apps/cli_config.c - `--config FILE.yaml`: a mapping from the long names of flags to values.
 *
 * Each key is given like the flag of that name. What the command line says of the same flag
 * replaces it, lists too. Values that had to be made are kept until the process ends.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "cli_parts.h"
#include "codec/json.h"
#include "codec/yaml.h"
#include "store/file.h"

enum { MAX_FROM_FILE = 256 };
static const void *from_file[MAX_FROM_FILE]; /* where values went */
static unsigned n_from_file;
static json_t *kept; /* the document, and texts that were made of its parts */

bool cli_is_from_file(const void *out) {
    for (unsigned i = 0; i < n_from_file; i++)
        if (from_file[i] == out) return true;
    return false;
}

void cli_forget_file(const cli_flag *f) {
    for (unsigned i = 0; i < n_from_file; i++) {
        if (from_file[i] != f->out) continue;
        from_file[i--] = from_file[--n_from_file];
        if (f->type == CLI_STRINGS) ((cli_strings *)f->out)->n = 0;
    }
}

static const char *keep(const char *text) {
    json_t *s = json_string(text);
    if (json_array_append_new(kept, s) != 0) return NULL;
    return json_string_value(s);
}

/* The value as an argument would give it; NULL: no memory. */
static const char *text_of(const json_t *v) {
    char number[32];
    oct_buf b;
    if (json_is_string(v)) return json_string_value(v);
    if (json_is_real(v)) {
        oct_format_f64(json_real_value(v), number);
        return keep(number);
    }
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_json_dump(&b, v, JSON_COMPACT | JSON_ENCODE_ANY);
    const char *text = b.failed ? NULL : keep(oct_buf_cs(&b));
    oct_buf_fini(&b);
    return text;
}

static int give(const cli_flag *f, const json_t *v) {
    const char *text = text_of(v);
    if (!text) return cli_fail(EXIT_SYSTEM, "--config: no memory");
    return cli_set(f, text);
}

static int set_flag(const char *file, const cli_found *found, const json_t *v) {
    const cli_flag *f = found->flag;
    size_t i;
    json_t *one;
    int status = -1;
    if (f->type == CLI_SWITCH) {
        if (!json_is_boolean(v))
            return cli_fail(EXIT_USAGE, "%s: %s: want true or false", file, f->name);
        *(bool *)f->out = json_is_true(v) != found->negated;
        if (f->given) *f->given = true;
    } else if (json_is_array(v) && f->type == CLI_STRINGS) {
        json_array_foreach((json_t *)v, i, one) if (status < 0) status = give(f, one);
    } else if ((json_is_array(v) || json_is_object(v)) && f->type != CLI_JSON) {
        return cli_fail(EXIT_USAGE, "%s: %s: want one value", file, f->name);
    } else {
        status = give(f, v);
    }
    if (status < 0 && n_from_file < MAX_FROM_FILE) from_file[n_from_file++] = f->out;
    return status;
}

/* A switch that is false was not given. */
static int drop(const cli_found *found, const json_t *v) {
    const cli_foreign *f = found->foreign;
    if (!f->value) return json_is_true(v) ? cli_drop(f, NULL) : -1;
    const char *text = text_of(v);
    return text ? cli_drop(f, text) : cli_fail(EXIT_SYSTEM, "--config: no memory");
}

static int take_key(const cli_parser *p, const char *file, const char *key, const json_t *v) {
    char arg[CLI_MAX_NAME];
    const int n = snprintf(arg, sizeof arg, "--%s", key);
    if (n >= (int)sizeof arg || strcmp(key, "config") == 0) return cli_unknown(p, file, key);
    const cli_found found = cli_find(p, arg, (size_t)n);
    if (!found.flag && !found.foreign) return cli_unknown(p, file, key);
    if (json_is_null(v)) return -1;
    return found.foreign ? drop(&found, v) : set_flag(file, &found, v);
}

int cli_read_file(const cli_parser *p, const char *file) {
    oct_err err = {0};
    oct_buf text;
    json_t *all = NULL, *v;
    const char *key;
    int status = -1;
    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_status st =
        oct_file_read_small(oct_system_allocator(), file, OCT_YAML_MAX_BYTES, &text, &err);
    if (st == OCT_OK) st = oct_yaml_parse(oct_buf_view(&text), file, &all, &err);
    oct_buf_fini(&text);
    if (st != OCT_OK)
        return cli_fail(st == OCT_E_NOMEM ? EXIT_SYSTEM : EXIT_USAGE, "--config: %s", err.text);
    if (!kept) kept = json_array();
    if (!kept || json_array_append_new(kept, all) != 0)
        return cli_fail(EXIT_SYSTEM, "--config: no memory");
    if (!json_is_object(all) && !json_is_null(all))
        return cli_fail(EXIT_USAGE, "--config: %s: want flags and their values", file);
    json_object_foreach(all, key, v) if (status < 0) status = take_key(p, file, key, v);
    return status;
}
