/* codec/json.c - see codec/json.h. */
#include "codec/json.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "codec/json_scan.h"
#include "codec/utf8.h"

const oct_json_limits oct_json_file_limits = {
    .max_bytes = 16u << 20, .max_depth = 64, .allow_nonfinite = true, .warn_duplicates = true};
const oct_json_limits oct_json_request_limits = {
    .max_bytes = 32u << 20, .max_depth = 64, .max_parts = 1u << 20};

/* What needs no walk over the tokens. */
static oct_status check_bytes(oct_str text, const char *where, const oct_json_limits *limits,
                              oct_err *err) {
    if (text.len > limits->max_bytes)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: too large (at byte %zu, got %zu bytes)", where,
                        limits->max_bytes, text.len);
    if (text.len == 0) return OCT_FAIL(err, OCT_E_INVALID, "%s: empty (at byte 0)", where);
    if (oct_str_starts(text, OCT_STR("\xEF\xBB\xBF")))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: byte-order mark before JSON (at byte 0)", where);
    size_t bad_at = 0;
    if (!oct_utf8_valid(text, &bad_at))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: invalid UTF-8 (at byte %zu)", where, bad_at);
    return OCT_OK;
}

static void take_over_memory(void) { json_set_alloc_funcs(oct_library_alloc, oct_library_free); }

/* jansson's reason and place in the text it saw. */
static oct_status load(oct_str text, const char *where, const oct_json_limits *limits, json_t **out,
                       json_error_t *why) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    pthread_once(&once, take_over_memory);
    (void)oct_library_was_refused();
    oct_library_stay_refused(true); /* else it looks for the end of a string whose quote it lost */
    *out = json_loadb(text.ptr, text.len, flags | JSON_REJECT_DUPLICATES, why);
    if (!*out && limits->warn_duplicates && json_error_code(why) == json_error_duplicate_key) {
        oct_warn("%s: %s (at byte %d): the last one is used", where, why->text, why->position);
        *out = json_loadb(text.ptr, text.len, flags, why);
    }
    oct_library_stay_refused(false);
    /* Where memory is refused jansson says so, or says nothing, or blames the text, or gives a text
     * that lacks some bytes. */
    if (!oct_library_was_refused()) return *out ? OCT_OK : OCT_E_INVALID;
    json_decref(*out);
    *out = NULL;
    memset(why, 0, sizeof *why);
    snprintf(why->text, sizeof why->text, "no memory to read it");
    return OCT_E_NOMEM;
}

oct_status oct_json_parse(oct_str text, const char *where, const oct_json_limits *limits,
                          json_t **out, oct_err *err) {
    OCT_ASSERT(limits->max_depth <= OCT_JSON_DEPTH_MAX);
    *out = NULL;
    bool rewrite = false;
    OCT_TRY(check_bytes(text, where, limits, err));
    OCT_TRY(oct_json_scan(text, where, limits, &rewrite, err));
    oct_str seen = text;
    oct_buf changed;
    oct_buf_init(&changed, oct_system_allocator(), 0);
    if (rewrite) {
        oct_json_rewrite(text, limits, &changed);
        if (changed.failed) {
            oct_buf_fini(&changed);
            return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory to read it", where);
        }
        seen = oct_buf_view(&changed);
    }
    json_error_t why;
    const oct_status status = load(seen, where, limits, out, &why);
    if (status != OCT_OK) {
        size_t at = why.position > 0 ? (size_t)why.position : 0;
        if (rewrite) at = oct_json_rewrite_origin(text, limits, at);
        (void)OCT_FAIL(err, status, "%s: %s (at byte %zu)", where, why.text, at);
    }
    oct_buf_fini(&changed);
    return status;
}

const char *oct_json_short_escape(uint32_t c) {
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

static bool is_plain(char c) {
    return (uint8_t)c >= 0x20 && (uint8_t)c < 0x7F && c != '"' && c != '\\';
}

void oct_json_quote(oct_buf *b, oct_str utf8) {
    oct_buf_char(b, '"');
    for (size_t at = 0; at < utf8.len;) {
        size_t run = at;
        while (run < utf8.len && is_plain(utf8.ptr[run])) run++;
        if (run > at) oct_buf_add(b, utf8.ptr + at, run - at);
        at = run;
        if (at == utf8.len) break;
        uint32_t cp;
        size_t len;
        const oct_str rest = {utf8.ptr + at, utf8.len - at};
        const oct_utf8_step step = oct_utf8_next(rest, &cp, &len);
        const char *esc = cp < 0x80 ? oct_json_short_escape((char)cp) : NULL;
        if (step != OCT_UTF8_OK)
            oct_buf_cstr(b, "\xEF\xBF\xBD");
        else if (esc)
            oct_buf_cstr(b, esc);
        else if (cp < 0x20 || cp == 0x7F || cp == 0x2028 || cp == 0x2029)
            oct_buf_printf(b, "\\u%04x", (unsigned)cp);
        else
            oct_buf_add(b, rest.ptr, len);
        at += len;
    }
    oct_buf_char(b, '"');
}

void oct_json_f64(oct_buf *b, double v) {
    char text[32];
    if (!isfinite(v)) {
        oct_buf_cstr(b, "null");
        return;
    }
    const int len = oct_format_f64(v, text);
    oct_buf_add(b, text, (size_t)len);
}

static int add_to_buf(const char *data, size_t len, void *ctx) {
    oct_buf *b = ctx;
    if (len > 0) oct_buf_add(b, data, len);
    return b->failed ? -1 : 0;
}

void oct_json_dump(oct_buf *b, const json_t *value, size_t flags) {
    if (json_dump_callback(value, add_to_buf, b, flags | JSON_ENCODE_ANY) != 0) b->failed = true;
}

static void give_up(json_t **v) {
    json_decref(*v);
    *v = NULL;
}

/* Without an object or a list jansson gives the value back and says no. */
void oct_json_put(json_t **obj, const char *key, json_t *value) {
    if (json_object_set_new(*obj, key, value) != 0) give_up(obj);
}

void oct_json_push(json_t **list, json_t *value) {
    if (json_array_append_new(*list, value) != 0) give_up(list);
}

/* Takes what fits and then refuses, so that showing a huge value costs nothing. */
typedef struct shown {
    char *out;
    size_t len;
} shown;

enum { SHOWN_BYTES = 64 };

static int add_to_shown(const char *data, size_t len, void *ctx) {
    shown *s = ctx;
    for (size_t i = 0; i < len; i++) {
        if (s->len == SHOWN_BYTES + 1) return -1;
        s->out[s->len++] = data[i];
    }
    return 0;
}

const char *oct_json_show(const json_t *value, char out[OCT_JSON_SHOWN]) {
    shown s = {out, 0};
    if (!value) {
        memcpy(out, "nothing", 8);
        return out;
    }
    (void)json_dump_callback(value, add_to_shown, &s, JSON_ENCODE_ANY | JSON_COMPACT);
    if (s.len > SHOWN_BYTES) {
        s.len = oct_utf8_complete_len((oct_str){out, SHOWN_BYTES});
        memcpy(out + s.len, "...", 3);
        s.len += 3;
    }
    out[s.len] = '\0';
    return out;
}

oct_str oct_json_str(const json_t *value) {
    if (!json_is_string(value)) return (oct_str){NULL, 0};
    return (oct_str){json_string_value(value), json_string_length(value)};
}

static const json_t *field(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

oct_status oct_json_get_i64(const json_t *obj, const char *key, const char *where, int64_t lo,
                            int64_t hi, int64_t *out, oct_err *err) {
    const json_t *v = field(obj, key);
    char got[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_integer(v))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be an integer (got %s)", where, key,
                        oct_json_show(v, got));
    const int64_t value = json_integer_value(v);
    if (value < lo || value > hi)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be from %lld to %lld (got %lld)", where,
                        key, (long long)lo, (long long)hi, (long long)value);
    *out = value;
    return OCT_OK;
}

oct_status oct_json_get_f64(const json_t *obj, const char *key, const char *where, double lo,
                            double hi, double *out, oct_err *err) {
    const json_t *v = field(obj, key);
    char got[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_number(v))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be a number (got %s)", where, key,
                        oct_json_show(v, got));
    const double value = json_number_value(v);
    if (!(value >= lo && value <= hi))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be from %g to %g (got %s)", where, key, lo,
                        hi, oct_json_show(v, got));
    *out = value;
    return OCT_OK;
}

oct_status oct_json_get_bool(const json_t *obj, const char *key, const char *where, bool *out,
                             oct_err *err) {
    const json_t *v = field(obj, key);
    char got[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_boolean(v))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be true or false (got %s)", where, key,
                        oct_json_show(v, got));
    *out = json_is_true(v);
    return OCT_OK;
}

oct_status oct_json_get_str(const json_t *obj, const char *key, const char *where, oct_str *out,
                            oct_err *err) {
    const json_t *v = field(obj, key);
    char got[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_string(v))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: %s must be a string (got %s)", where, key,
                        oct_json_show(v, got));
    *out = oct_json_str(v);
    return OCT_OK;
}
