/*
 * codec/yaml.c - libyaml reads the text into events, an explicit stack makes values of them. The
 * size is bounded before the library sees the text, depth and number of parts while it does.
 */
#include "codec/yaml.h"

#include <math.h>
#include <string.h>
#include <yaml.h>

#include "base/num.h"
#include "codec/utf8.h"

typedef struct level {
    json_t *value; /* object or array */
    json_t *key;   /* string whose value comes next; NULL: a key comes */
} level;

typedef struct reader {
    const char *where;
    level stack[OCT_YAML_MAX_DEPTH];
    unsigned depth, n_parts;
    json_t *root;
    oct_err *err;
} reader;

static oct_status bad(const reader *r, const yaml_event_t *ev, const char *reason) {
    return OCT_FAIL(r->err, OCT_E_INVALID, "%s: %s (at line %zu)", r->where, reason,
                    ev->start_mark.line + 1);
}

static oct_status no_memory(const reader *r) {
    return OCT_FAIL(r->err, OCT_E_NOMEM, "%s: no memory", r->where);
}

/* ---- scalars ---- */

static bool is_one_of(oct_str s, const char *const *words) {
    for (; *words; words++)
        if (oct_str_is(s, *words)) return true;
    return false;
}

static json_t *plain(oct_str s) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes",
                                      "YES",  "on",   "On",   "ON",  NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no",  "No",
                                     "NO",    "off",   "Off",   "OFF", NULL};
    int64_t i;
    double d;
    if (is_one_of(s, nulls)) return json_null();
    if (is_one_of(s, yes)) return json_true();
    if (is_one_of(s, no)) return json_false();
    if (oct_parse_i64(s, &i)) return json_integer(i);
    if (oct_parse_f64(s, &d)) return json_real(d);
    return json_stringn(s.ptr, s.len);
}

/* ---- values ---- */

/* The value belongs to what is open; takes the reference. */
static oct_status put(reader *r, const yaml_event_t *ev, json_t *v) {
    level *top = r->depth > 0 ? &r->stack[r->depth - 1] : NULL;
    if (!v) return no_memory(r);
    if (++r->n_parts > OCT_YAML_MAX_PARTS) {
        json_decref(v);
        return bad(r, ev, "too many values");
    }
    if (!top) {
        r->root = v;
        return OCT_OK;
    }
    int failed;
    if (json_is_array(top->value)) {
        failed = json_array_append_new(top->value, v);
    } else {
        failed = json_object_set_new(top->value, json_string_value(top->key), v);
        json_decref(top->key);
        top->key = NULL;
    }
    return failed ? no_memory(r) : OCT_OK;
}

static bool wants_key(const reader *r) {
    const level *top = r->depth > 0 ? &r->stack[r->depth - 1] : NULL;
    return top && json_is_object(top->value) && !top->key;
}

static oct_status open_level(reader *r, const yaml_event_t *ev, json_t *v) {
    if (!v) return no_memory(r);
    if (wants_key(r) || r->depth == OCT_YAML_MAX_DEPTH) {
        json_decref(v);
        return bad(r, ev,
                   r->depth == OCT_YAML_MAX_DEPTH ? "nested too deeply" : "a key is no scalar");
    }
    OCT_TRY(put(r, ev, v)); /* what holds it keeps it alive */
    r->stack[r->depth++] = (level){.value = v};
    return OCT_OK;
}

static oct_status take_scalar(reader *r, const yaml_event_t *ev) {
    const oct_str s = {(const char *)ev->data.scalar.value, ev->data.scalar.length};
    if (!oct_utf8_valid(s, NULL) || memchr(s.ptr, '\0', s.len))
        return bad(r, ev, "not UTF-8, or a NUL");
    if (!wants_key(r))
        return put(r, ev,
                   ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain(s)
                                                                    : json_stringn(s.ptr, s.len));
    level *top = &r->stack[r->depth - 1];
    top->key = json_stringn(s.ptr, s.len);
    if (!top->key) return no_memory(r);
    if (json_object_get(top->value, json_string_value(top->key)))
        return bad(r, ev, "a key comes twice");
    return OCT_OK;
}

static const unsigned char *anchor_of(const yaml_event_t *ev) {
    if (ev->type == YAML_SCALAR_EVENT) return ev->data.scalar.anchor;
    if (ev->type == YAML_SEQUENCE_START_EVENT) return ev->data.sequence_start.anchor;
    return ev->type == YAML_MAPPING_START_EVENT ? ev->data.mapping_start.anchor : NULL;
}

static const unsigned char *tag_of(const yaml_event_t *ev) {
    if (ev->type == YAML_SCALAR_EVENT) return ev->data.scalar.tag;
    if (ev->type == YAML_SEQUENCE_START_EVENT) return ev->data.sequence_start.tag;
    return ev->type == YAML_MAPPING_START_EVENT ? ev->data.mapping_start.tag : NULL;
}

static oct_status take(reader *r, const yaml_event_t *ev) {
    if (ev->type == YAML_ALIAS_EVENT || anchor_of(ev)) return bad(r, ev, "anchors are not read");
    if (tag_of(ev)) return bad(r, ev, "tags are not read");
    switch (ev->type) {
    case YAML_DOCUMENT_START_EVENT:
        return r->root ? bad(r, ev, "more than one document") : OCT_OK;
    case YAML_SCALAR_EVENT:
        return take_scalar(r, ev);
    case YAML_SEQUENCE_START_EVENT:
        return open_level(r, ev, json_array());
    case YAML_MAPPING_START_EVENT:
        return open_level(r, ev, json_object());
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        return OCT_OK;
    default:
        return OCT_OK;
    }
}

static oct_status read_all(reader *r, yaml_parser_t *p) {
    for (bool end = false; !end;) {
        yaml_event_t ev;
        if (!yaml_parser_parse(p, &ev)) {
            if (p->error == YAML_MEMORY_ERROR) return no_memory(r);
            return OCT_FAIL(r->err, OCT_E_INVALID, "%s: %s (at line %zu)", r->where,
                            p->problem ? p->problem : "not YAML", p->problem_mark.line + 1);
        }
        end = ev.type == YAML_STREAM_END_EVENT;
        const oct_status st = take(r, &ev);
        yaml_event_delete(&ev);
        if (st != OCT_OK) return st;
    }
    return OCT_OK;
}

oct_status oct_yaml_parse(oct_str text, const char *where, json_t **out, oct_err *err) {
    reader r = {.where = where, .err = err};
    yaml_parser_t p;
    *out = NULL;
    if (text.len > OCT_YAML_MAX_BYTES)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: too large (got %zu bytes, want at most %d)", where,
                        text.len, (int)OCT_YAML_MAX_BYTES);
    if (!yaml_parser_initialize(&p)) return no_memory(&r);
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text.ptr, text.len);
    oct_status st = read_all(&r, &p);
    yaml_parser_delete(&p);
    for (unsigned i = 0; i < r.depth; i++) json_decref(r.stack[i].key);
    if (st == OCT_OK && !r.root && !(r.root = json_null())) st = no_memory(&r);
    if (st == OCT_OK)
        *out = r.root;
    else
        json_decref(r.root);
    return st;
}
