/*
 * speak/decode_tags.c - bodies of blocks that hold tags, and the types of parameters.
 *
 *   qwen        <function=f>\n<parameter=k>\nvalue\n</parameter>\n...</function>
 *   minimax     <invoke name="f">\n<parameter name="k">value</parameter>\n...</invoke>\n...
 *
 * A value is text; what the request's schema says of the parameter makes it a number, a list and so
 * on. Text that is not of its type stays text.
 */
#include "base/attr.h"
#include "speak/parts.h"

/* ---- types ---- */

/* The schema of a function's parameter; NULL: none is known. */
static const json_t *schema_of(const json_t *functions, oct_str function, oct_str parameter) {
    const json_t *tool;
    size_t i;
    json_array_foreach(functions, i, tool) {
        const json_t *fn = json_object_get(tool, "function");
        if (!oct_str_eq(oct_json_str(json_object_get(fn, "name")), function)) continue;
        const json_t *all = json_object_get(json_object_get(fn, "parameters"), "properties");
        return json_object_getn(all, parameter.ptr, parameter.len);
    }
    return NULL;
}

enum { STRING = 1, INTEGER = 2, NUMBER = 4, BOOLEAN = 8, COMPOUND = 16, NOTHING = 32 };

static unsigned type_bit(oct_str name) {
    static const struct {
        const char *name;
        unsigned bit;
    } types[] = {{"string", STRING},   {"str", STRING},    {"integer", INTEGER}, {"int", INTEGER},
                 {"number", NUMBER},   {"float", NUMBER},  {"boolean", BOOLEAN}, {"bool", BOOLEAN},
                 {"object", COMPOUND}, {"dict", COMPOUND}, {"array", COMPOUND},  {"list", COMPOUND},
                 {"null", NOTHING}};
    for (size_t i = 0; i < OCT_COUNT(types); i++)
        if (oct_str_is(name, types[i].name)) return types[i].bit;
    return STRING;
}

static unsigned types_named(const json_t *type) {
    unsigned bits = json_is_string(type) ? type_bit(oct_json_str(type)) : 0;
    const json_t *one;
    size_t i;
    json_array_foreach(type, i, one) bits |= type_bit(oct_json_str(one));
    return bits;
}

/* Types that a schema names, those of anyOf and oneOf included. */
static unsigned types_of(const json_t *schema) {
    static const char *const unions[] = {"anyOf", "oneOf"};
    unsigned bits = types_named(json_object_get(schema, "type"));
    for (size_t u = 0; u < OCT_COUNT(unions); u++) {
        const json_t *one, *all = json_object_get(schema, unions[u]);
        size_t i;
        json_array_foreach(all, i, one) bits |= types_named(json_object_get(one, "type"));
    }
    return bits ? bits : STRING;
}

static bool fits(const json_t *v, unsigned types) {
    switch (json_typeof(v)) {
    case JSON_INTEGER:
        return types & (INTEGER | NUMBER);
    case JSON_REAL:
        return types & NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return types & BOOLEAN;
    case JSON_OBJECT:
    case JSON_ARRAY:
        return types & COMPOUND;
    case JSON_NULL:
        return true; /* whatever is optional may be nothing */
    case JSON_STRING:
        break;
    }
    return false;
}

json_t *oct_speak_typed(oct_speak_calls *c, oct_str function, oct_str parameter, oct_str text) {
    const unsigned types = types_of(schema_of(c->functions, function, parameter));
    json_t *v = NULL;
    if (types != STRING) {
        oct_str bare = text;
        const size_t n = oct_speak_blanks(bare);
        bare = (oct_str){bare.ptr + n, bare.len - n};
        while (bare.len > 0 && memchr(" \t\r\n", bare.ptr[bare.len - 1], 4)) bare.len--;
        if (oct_str_is(bare, "True")) bare = OCT_STR("true");
        if (oct_str_is(bare, "False")) bare = OCT_STR("false");
        if (oct_str_is(bare, "None")) bare = OCT_STR("null");
        v = oct_speak_read_json(c, bare);
        if (v && !fits(v, types)) {
            json_decref(v);
            v = NULL;
        }
    }
    if (!v) v = json_stringn(text.ptr, text.len);
    if (!v) c->failed = true;
    return v;
}

/* ---- scanning ---- */

typedef struct marks {
    const char *function, *function_tail; /* <function= f > */
    const char *function_end;
    const char *parameter, *parameter_tail; /* <parameter= k > */
    const char *parameter_end;
    bool trims_newlines; /* one at each end of a value belongs to the format */
} marks;

static void skip_blanks(oct_str *s) {
    const size_t n = oct_speak_blanks(*s);
    *s = (oct_str){s->ptr + n, s->len - n};
}

static bool skip_mark(oct_str *s, const char *mark) {
    const size_t n = strlen(mark);
    if (!oct_str_starts(*s, oct_str_of(mark))) return false;
    *s = (oct_str){s->ptr + n, s->len - n};
    return true;
}

/* The text up to mark, which is passed. */
static bool take_until(oct_str *s, const char *mark, oct_str *out) {
    const size_t n = strlen(mark);
    const char *at = memmem(s->ptr, s->len, mark, n);
    if (!at) return false;
    *out = (oct_str){s->ptr, (size_t)(at - s->ptr)};
    *s = (oct_str){at + n, s->len - out->len - n};
    return true;
}

/* A name, perhaps in quotes. */
static oct_str bare_name(oct_str s) {
    skip_blanks(&s);
    while (s.len > 0 && memchr(" \t\r\n\"'", s.ptr[s.len - 1], 6)) s.len--;
    while (s.len > 0 && (s.ptr[0] == '"' || s.ptr[0] == '\'')) s.ptr++, s.len--;
    return s;
}

static void trim_newlines(oct_str *s) {
    if (s->len > 0 && s->ptr[0] == '\n') s->ptr++, s->len--;
    if (s->len > 0 && s->ptr[s->len - 1] == '\n') s->len--;
}

static bool put(oct_speak_calls *c, json_t *args, oct_str function, oct_str name, oct_str value) {
    json_t *v = oct_speak_typed(c, function, name, value);
    if (name.len == 0 || memchr(name.ptr, '\0', name.len) ||
        json_object_setn_new(args, name.ptr, name.len, v) != 0) {
        if (name.len == 0 || memchr(name.ptr, '\0', name.len)) json_decref(v);
        return false;
    }
    return true;
}

/* One function, its opening mark passed. */
static bool decode_function(oct_speak_calls *c, const marks *m, oct_str *s) {
    oct_str name, key, value;
    if (!take_until(s, m->function_tail, &name)) return false;
    name = bare_name(name);
    json_t *args = json_object();
    bool good = args != NULL;
    if (!args) c->failed = true;
    while (good) {
        skip_blanks(s);
        if (skip_mark(s, m->function_end) || s->len == 0) break; /* the end may have been cut off */
        good = skip_mark(s, m->parameter) && take_until(s, m->parameter_tail, &key) &&
               take_until(s, m->parameter_end, &value);
        if (good && m->trims_newlines) trim_newlines(&value);
        good = good && put(c, args, name, bare_name(key), value);
    }
    good = good && oct_speak_add_call(c, name, args);
    json_decref(args);
    return good;
}

static bool decode(oct_speak_calls *c, const marks *m, oct_str body) {
    for (skip_blanks(&body); body.len > 0; skip_blanks(&body))
        if (!skip_mark(&body, m->function) || !decode_function(c, m, &body)) return false;
    return true;
}

bool oct_speak_decode_qwen(oct_speak_calls *c, oct_str body) {
    static const marks m = {"<function=",   ">", "</function>", "<parameter=", ">",
                            "</parameter>", true};
    return decode(c, &m, body);
}

bool oct_speak_decode_minimax(oct_speak_calls *c, oct_str body) {
    static const marks m = {"<invoke name=", ">", "</invoke>", "<parameter name=", ">",
                            "</parameter>",  true};
    return decode(c, &m, body);
}
