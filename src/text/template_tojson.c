/*
 * text/template_tojson.c - values as JSON, byte for byte as Python's json.dumps writes them.
 *
 * No HTML escaping; non-ASCII stays as it is unless ensure_ascii; the order of keys is kept.
 */
#include <math.h>
#include <stdio.h>

#include "base/num.h"
#include "codec/utf8.h"
#include "text/template_priv.h"

typedef struct writer {
    tmpl_text t;
    const tmpl_json_style *style;
} writer;

static bool write_val(writer *w, tmpl_val v, uint32_t depth);

static void write_unit(tmpl_text *t, uint32_t unit) {
    char text[8];
    snprintf(text, sizeof text, "\\u%04x", unit & 0xFFFF);
    oct_tmpl_text_cstr(t, text);
}

static void write_point(tmpl_text *t, uint32_t p) {
    if (p < 0x10000) {
        write_unit(t, p);
    } else {
        write_unit(t, 0xD800 + ((p - 0x10000) >> 10));
        write_unit(t, 0xDC00 + ((p - 0x10000) & 0x3FF));
    }
}

static void write_escaped(tmpl_text *t, uint32_t p) {
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *mark = p && p < 0x80 ? strchr(from, (int)p) : NULL;
    if (mark) {
        const char pair[] = {'\\', to[mark - from]};
        oct_tmpl_text_add(t, (oct_str){pair, sizeof pair});
    } else {
        write_point(t, p);
    }
}

static void write_str(writer *w, oct_str s) {
    size_t from = 0;
    oct_tmpl_text_pad(&w->t, '"', 1);
    for (size_t at = 0, len = 1; at < s.len && !w->t.failed; at += len) {
        const unsigned char ch = (unsigned char)s.ptr[at];
        len = 1;
        if (ch >= ' ' && ch < 0x7F && ch != '"' && ch != '\\') continue;
        uint32_t p = ch;
        if (ch >= 0x7F) {
            if (!w->style->ensure_ascii) continue;
            oct_utf8_next((oct_str){s.ptr + at, s.len - at}, &p, &len);
        }
        if (at > from) oct_tmpl_text_add(&w->t, (oct_str){s.ptr + from, at - from});
        write_escaped(&w->t, p);
        from = at + len;
    }
    oct_tmpl_text_add(&w->t, (oct_str){s.ptr + from, s.len - from});
    oct_tmpl_text_pad(&w->t, '"', 1);
}

static void new_line(writer *w, uint32_t depth) {
    if (!w->style->pretty) return;
    oct_tmpl_text_pad(&w->t, '\n', 1);
    for (uint32_t i = 0; i < depth && !w->t.failed; i++) oct_tmpl_text_add(&w->t, w->style->indent);
}

static void write_num(writer *w, tmpl_val v) {
    char text[32];
    if (v.kind == TMPL_INT)
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
    else if (isnan(v.u.f))
        snprintf(text, sizeof text, "NaN");
    else if (isinf(v.u.f))
        snprintf(text, sizeof text, v.u.f > 0 ? "Infinity" : "-Infinity");
    else
        oct_format_f64(v.u.f, text);
    oct_tmpl_text_cstr(&w->t, text);
}

static bool write_seq(writer *w, const tmpl_list *l, uint32_t depth) {
    if (l->n == 0) return oct_tmpl_text_cstr(&w->t, "[]"), true;
    oct_tmpl_text_pad(&w->t, '[', 1);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) oct_tmpl_text_add(&w->t, w->style->item_sep);
        new_line(w, depth + 1);
        if (!write_val(w, l->at[i], depth + 1)) return false;
    }
    new_line(w, depth);
    oct_tmpl_text_pad(&w->t, ']', 1);
    return true;
}

/* Keys are strings in JSON; Python turns numbers, booleans and None into theirs. */
static bool write_key(writer *w, tmpl_val key) {
    if (key.kind == TMPL_STR) return write_str(w, tmpl_strv(key)), true;
    if (!tmpl_is_num(key) && key.kind != TMPL_NONE)
        return oct_tmpl_fail_type(w->t.c, "keys must be str, int, float, bool or None, not %s",
                                  oct_tmpl_type_name(key));
    oct_tmpl_text_pad(&w->t, '"', 1);
    if (!write_val(w, key, 0)) return false;
    oct_tmpl_text_pad(&w->t, '"', 1);
    return true;
}

static bool write_dict(writer *w, const tmpl_dict *d, uint32_t depth) {
    if (d->n == 0) return oct_tmpl_text_cstr(&w->t, "{}"), true;
    tmpl_val *keys = d->keys, *vals = d->vals;
    if (w->style->sort_keys) {
        keys = oct_tmpl_alloc(w->t.c, d->n, sizeof *keys);
        vals = oct_tmpl_alloc(w->t.c, d->n, sizeof *vals);
        if (!keys || !vals) return false;
        memcpy(keys, d->keys, d->n * sizeof *keys);
        memcpy(vals, d->vals, d->n * sizeof *vals);
        if (!oct_tmpl_sort(w->t.c, keys, vals, d->n, false)) return false;
    }
    oct_tmpl_text_pad(&w->t, '{', 1);
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) oct_tmpl_text_add(&w->t, w->style->item_sep);
        new_line(w, depth + 1);
        if (!write_key(w, keys[i])) return false;
        oct_tmpl_text_add(&w->t, w->style->key_sep);
        if (!write_val(w, vals[i], depth + 1)) return false;
    }
    new_line(w, depth);
    oct_tmpl_text_pad(&w->t, '}', 1);
    return true;
}

static bool write_val(writer *w, tmpl_val v, uint32_t depth) {
    tmpl_ctx *c = w->t.c;
    if (w->t.failed || !oct_tmpl_step(c, 1) || !oct_tmpl_deep(c)) return false;
    if (depth > OCT_TEMPLATE_MAX_NESTING) return oct_tmpl_limit(c);
    switch (v.kind) {
    case TMPL_NONE:
        oct_tmpl_text_cstr(&w->t, "null");
        break;
    case TMPL_BOOL:
        oct_tmpl_text_cstr(&w->t, v.u.b ? "true" : "false");
        break;
    case TMPL_INT:
    case TMPL_FLOAT:
        write_num(w, v);
        break;
    case TMPL_STR:
        write_str(w, tmpl_strv(v));
        break;
    case TMPL_LIST:
    case TMPL_TUPLE:
        return write_seq(w, v.u.list, depth);
    case TMPL_DICT:
        return write_dict(w, v.u.dict, depth);
    default:
        return oct_tmpl_fail_type(c, "Object of type %s is not JSON serializable",
                                  oct_tmpl_type_name(v));
    }
    return !w->t.failed;
}

bool oct_tmpl_tojson(tmpl_ctx *c, tmpl_val v, const tmpl_json_style *style, tmpl_val *out) {
    writer w = {.t = {.c = c}, .style = style};
    return write_val(&w, v, 0) && oct_tmpl_work(c, (uint64_t)w.t.len * 8) &&
           oct_tmpl_text_done(&w.t, out);
}

static oct_status dump(const json_t *v, const tmpl_json_style *style, oct_buf *out, oct_err *err) {
    tmpl_ctx c = {.steps_left = UINT64_MAX, .err = err, .line = 1};
    tmpl_val in, text;
    c.stack_base = __builtin_frame_address(0);
    oct_arena_init(&c.arena, out->mem, (size_t)1 << 30);
    if (oct_tmpl_from_json(&c, v, 0, &in) && oct_tmpl_tojson(&c, in, style, &text))
        oct_buf_str(out, tmpl_strv(text));
    oct_arena_fini(&c.arena);
    if (c.status == OCT_OK && out->failed)
        return OCT_FAIL(err, OCT_E_NOMEM, "JSON: no memory for the text");
    return c.status;
}

oct_status oct_template_dump_json(const json_t *v, oct_buf *out, oct_err *err) {
    const tmpl_json_style style = {.item_sep = OCT_STR(","), .key_sep = OCT_STR(":")};
    return dump(v, &style, out, err);
}

oct_status oct_template_dump_json_spaced(const json_t *v, oct_buf *out, oct_err *err) {
    const tmpl_json_style style = {.item_sep = OCT_STR(", "), .key_sep = OCT_STR(": ")};
    return dump(v, &style, out, err);
}
