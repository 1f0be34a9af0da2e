/*
 * text/encode.c - the way of a text: added tokens out, normalizer, added tokens of the normalised
 * text, pre-tokenizer, BPE; a post-processor's ids around it all.
 */
#include <string.h>

#include "codec/utf8.h"
#include "text/tokenizer_priv.h"
#include "text/unicode.h"

typedef struct encoder {
    const oct_tokenizer *tok;
    unsigned flags;
    oct_ids *out;
    oct_err *err;
    oct_bpe_worker bpe;
    oct_norm_scratch norm;
    oct_buf marked, replaced; /* a piece with its blanks as marks */
    const char *begin;        /* of the whole text */
} encoder;

static oct_status no_memory(const encoder *e) {
    return OCT_FAIL(e->err, OCT_E_NOMEM, "text: no memory to tokenize");
}

/* What Metaspace and add_prefix_space do before the cutting. */
static oct_status mark_blanks(encoder *e, oct_str *s, bool at_start) {
    const oct_tokenizer *tok = e->tok;
    const oct_str mark = tok->space_mark.len ? tok->space_mark : OCT_STR(" ");
    if (tok->space_mark.len && memchr(s->ptr, ' ', s->len)) {
        oct_buf_clear(&e->replaced);
        oct_replace_all(*s, OCT_STR(" "), mark, &e->replaced);
        *s = oct_buf_view(&e->replaced);
    }
    if ((tok->prepend == OCT_PREPEND_ALWAYS || (tok->prepend == OCT_PREPEND_FIRST && at_start)) &&
        !oct_str_starts(*s, mark)) {
        oct_buf_clear(&e->marked);
        oct_buf_str(&e->marked, mark);
        oct_buf_str(&e->marked, *s);
        *s = oct_buf_view(&e->marked);
    }
    return e->marked.failed || e->replaced.failed ? no_memory(e) : OCT_OK;
}

/* Text without added tokens, normalised. */
static oct_status encode_plain(encoder *e, oct_str s, bool at_start) {
    oct_pretok_cursor cursor;
    oct_str piece;
    bool more = false;
    if (s.len == 0) return OCT_OK;
    OCT_TRY(mark_blanks(e, &s, at_start));
    oct_pretok_begin(&cursor, &e->tok->pretok, s);
    oct_status st;
    while ((st = oct_pretok_next(&cursor, &piece, &more, e->err)) == OCT_OK && more) {
        if (!oct_bpe_piece(&e->bpe, piece, e->out)) {
            st = no_memory(e);
            break;
        }
    }
    oct_pretok_end(&cursor);
    return st;
}

static bool is_space_at(const uint8_t *s, size_t i, unsigned *n) {
    return (oct_unicode_class[oct_unicode_at(s, i, n)] & OCT_UNI_WS) != 0;
}

/* True when the character before `from` or at `to` belongs to a word. */
static bool touches_word(oct_str text, size_t from, size_t to) {
    const uint8_t *s = (const uint8_t *)text.ptr;
    unsigned n;
    if (from > 0 && oct_unicode_is_word(oct_unicode_at(s, oct_unicode_back(s, from), &n)))
        return true;
    return to < text.len && oct_unicode_is_word(oct_unicode_at(s, to, &n));
}

/* Finds the next added token from *pos on that its rules let stand; text before `floor` is used up.
 * [*from, *to) is what it takes with the blanks of its rules. */
static bool next_added(const encoder *e, const oct_trie *trie, oct_str text, size_t *pos,
                       size_t floor, size_t *from, size_t *to, int32_t *id) {
    const uint8_t *s = (const uint8_t *)text.ptr;
    int32_t index;
    unsigned n;
    while (oct_trie_find(trie, text, *pos, from, to, &index)) {
        const oct_added_token *a = &e->tok->added[index];
        *pos = *to;
        *id = a->id;
        if (*from < floor) continue;
        if (!(e->flags & OCT_ENCODE_PARSE_SPECIAL) && oct_tokenizer_is_special(e->tok, a->id))
            continue;
        if ((a->rules & OCT_ADDED_SINGLE_WORD) && touches_word(text, *from, *to)) continue;
        if (a->rules & OCT_ADDED_LSTRIP) {
            while (*from > floor) {
                const size_t back = oct_unicode_back(s, *from);
                if (!is_space_at(s, back, &n)) break;
                *from = back;
            }
        }
        if (a->rules & OCT_ADDED_RSTRIP)
            while (*to < text.len && is_space_at(s, *to, &n)) *to += n;
        return true;
    }
    return false;
}

static oct_status encode_normal(encoder *e, oct_str s, bool at_start) {
    size_t pos = 0, floor = 0, from, to;
    int32_t id;
    while (next_added(e, &e->tok->trie_normal, s, &pos, floor, &from, &to, &id)) {
        OCT_TRY(encode_plain(e, (oct_str){s.ptr + floor, from - floor}, at_start && floor == 0));
        oct_ids_push(e->out, id);
        floor = to;
    }
    return encode_plain(e, (oct_str){s.ptr + floor, s.len - floor}, at_start && floor == 0);
}

static oct_status encode_raw(encoder *e, oct_str s) {
    if (s.len == 0) return OCT_OK;
    const bool at_start = s.ptr == e->begin;
    OCT_TRY(oct_normalize(e->tok->norms, e->tok->n_norms, s, &e->norm, &s, e->err));
    return encode_normal(e, s, at_start);
}

static oct_status encode_text(encoder *e, oct_str s) {
    size_t pos = 0, floor = 0, from, to;
    int32_t id;
    while (next_added(e, &e->tok->trie_raw, s, &pos, floor, &from, &to, &id)) {
        OCT_TRY(encode_raw(e, (oct_str){s.ptr + floor, from - floor}));
        oct_ids_push(e->out, id);
        floor = to;
    }
    return encode_raw(e, (oct_str){s.ptr + floor, s.len - floor});
}

oct_status oct_tokenizer_encode(const oct_tokenizer *tok, oct_str text, unsigned flags,
                                oct_ids *out, oct_err *err) {
    size_t bad_at = 0;
    if (text.len >= (size_t)1 << 31)
        return OCT_FAIL(err, OCT_E_INVALID, "text: too long (got %zu bytes, want below 2 GiB)",
                        text.len);
    if (!oct_utf8_valid(text, &bad_at))
        return OCT_FAIL(err, OCT_E_INVALID, "text: not UTF-8 (at byte %zu)", bad_at);
    encoder e = {.tok = tok, .flags = flags, .out = out, .err = err, .begin = text.ptr};
    oct_bpe_begin(&e.bpe, tok->mem, &tok->bpe);
    oct_buf_init(&e.norm.a, tok->mem, 0);
    oct_buf_init(&e.norm.b, tok->mem, 0);
    oct_buf_init(&e.marked, tok->mem, 0);
    oct_buf_init(&e.replaced, tok->mem, 0);
    const bool affix = (flags & OCT_ENCODE_ADD_SPECIAL) != 0;
    for (size_t i = 0; affix && i < tok->n_prefix; i++) oct_ids_push(out, tok->prefix[i]);
    oct_status st = encode_text(&e, text);
    for (size_t i = 0; affix && i < tok->n_suffix; i++) oct_ids_push(out, tok->suffix[i]);
    if (st == OCT_OK && out->failed) st = no_memory(&e);
    oct_bpe_end(&e.bpe);
    oct_buf_fini(&e.norm.a);
    oct_buf_fini(&e.norm.b);
    oct_buf_fini(&e.marked);
    oct_buf_fini(&e.replaced);
    return st;
}
