/* apps/cli_json.c - see cli_json.h. */
#include "cli_json.h"

#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

/* Texts that were made here, so that whoever looks for leaks finds their owner. */
static char *texts[CLI_MAX_KEYS];
static unsigned n_texts;

int cli_keys_add(cli_keys *k, const cli_flag *f, oct_str name, oct_str keys, const char *value) {
    if (f->type != CLI_JSON)
        return cli_fail(EXIT_USAGE, "--%s: takes no keys (got %.*s)", f->name,
                        (int)(name.len < 64 ? name.len : 64), name.ptr);
    if (k->n == CLI_MAX_KEYS)
        return cli_fail(EXIT_USAGE, "--%s: more than %d keys", f->name, CLI_MAX_KEYS);
    k->at[k->n].flag = f;
    k->at[k->n].name = name;
    k->at[k->n].keys = keys;
    k->at[k->n++].value = value;
    return -1;
}

static int fail_at(oct_str name, const char *what, const json_t *got) {
    char shown[OCT_JSON_SHOWN];
    return cli_fail(EXIT_USAGE, "%.*s: %s%s%s%s", (int)(name.len < 128 ? name.len : 128), name.ptr,
                    what, got ? " (got " : "", got ? oct_json_show(got, shown) : "",
                    got ? ")" : "");
}

/* What JSON can be is JSON, everything else a string. */
static json_t *value_of(oct_str text) {
    json_t *v = NULL;
    if (oct_json_parse(text, "", &oct_json_file_limits, &v, NULL) == OCT_OK) return v;
    return json_stringn(text.ptr, text.len);
}

/* The next key of a path; false at its end. */
static bool next_key(oct_str *path, oct_str *key) {
    if (!path->ptr) return false;
    const char *dot = memchr(path->ptr, '.', path->len);
    const size_t n = dot ? (size_t)(dot - path->ptr) : path->len;
    *key = (oct_str){path->ptr, n};
    *path = dot ? (oct_str){dot + 1, path->len - n - 1} : (oct_str){NULL, 0};
    return true;
}

static int append(json_t *object, oct_str name, oct_str key, oct_str values) {
    json_t *list = json_object_getn(object, key.ptr, key.len);
    if (!list) {
        list = json_array();
        if (json_object_setn_new(object, key.ptr, key.len, list) != 0)
            return fail_at(name, "not UTF-8, or no memory", NULL);
    }
    if (!json_is_array(list)) return fail_at(name, "not a list", list);
    while (values.ptr) {
        const char *comma = memchr(values.ptr, ',', values.len);
        const size_t n = comma ? (size_t)(comma - values.ptr) : values.len;
        if (json_array_append_new(list, value_of((oct_str){values.ptr, n})) != 0)
            return fail_at(name, "not UTF-8, or no memory", NULL);
        values = comma ? (oct_str){comma + 1, values.len - n - 1} : (oct_str){NULL, 0};
    }
    return -1;
}

/* Walks down the path, making objects that are not there, and sets what it ends at. */
static int set_in(json_t *object, oct_str name, oct_str path, const char *value) {
    oct_str key = {NULL, 0};
    while (next_key(&path, &key)) {
        const bool last = !path.ptr, appends = last && key.len > 0 && key.ptr[key.len - 1] == '+';
        key.len -= appends;
        if (key.len == 0) return fail_at(name, "a key is empty", NULL);
        if (appends) return append(object, name, key, oct_str_of(value));
        json_t *v = last ? value_of(oct_str_of(value)) : json_object_getn(object, key.ptr, key.len);
        const bool there = !last && v;
        if (!last && !v) v = json_object();
        if (there && !json_is_object(v)) return fail_at(name, "inside of what is no object", v);
        if (!there && json_object_setn_new(object, key.ptr, key.len, v) != 0)
            return fail_at(name, "not UTF-8, or no memory", NULL);
        object = v;
    }
    return -1;
}

/* The object that the flag was given; a bare number is --compilation-config's `mode`. */
static int object_of(const cli_flag *f, oct_str name, json_t **out) {
    const char *text = *(const char **)f->out;
    oct_err err = {0};
    char flag[64];
    snprintf(flag, sizeof flag, "--%.60s", f->name);
    *out = NULL;
    if (!text) {
        *out = json_object();
        return *out ? -1 : cli_fail(EXIT_SYSTEM, "%s: no memory", flag);
    }
    if (oct_json_parse(oct_str_of(text), flag, &oct_json_file_limits, out, &err) != OCT_OK)
        return cli_fail(EXIT_USAGE, "%s", err.text);
    if (json_is_integer(*out)) *out = json_pack("{s:o}", "mode", *out);
    if (json_is_object(*out)) return -1;
    const int status = fail_at(name, "the flag's own value is no object", *out);
    json_decref(*out);
    return status;
}

int cli_keys_merge(const cli_keys *k) {
    for (unsigned i = 0; i < k->n; i++) {
        const cli_flag *f = k->at[i].flag;
        json_t *object;
        int status = object_of(f, k->at[i].name, &object);
        if (status >= 0) return status;
        status = set_in(object, k->at[i].name, k->at[i].keys, k->at[i].value);
        char *text = status < 0 ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (status >= 0) return status;
        if (!text) return cli_fail(EXIT_SYSTEM, "--%s: no memory", f->name);
        if (n_texts == OCT_COUNT(texts)) free(texts[--n_texts]); /* of an earlier command line */
        texts[n_texts++] = text;
        *(const char **)f->out = text;
        if (f->given) *f->given = true;
    }
    return -1;
}
