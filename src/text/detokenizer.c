/*
 * text/detokenizer.c - joins a token's bytes to the ones held back and lets whole characters go.
 */
#include "text/detokenizer.h"

#include <string.h>

#include "codec/utf8.h"
#include "text/tokenizer_priv.h"

void oct_detokenizer_init(oct_detokenizer *d, const oct_tokenizer *tok, bool skip_special) {
    *d = (oct_detokenizer){.tok = tok, .skip_special = skip_special, .n_strip = tok->n_strip};
}

void oct_detokenizer_prime(oct_detokenizer *d) { d->n_strip = 0; }

/* Puts s behind the held bytes as far as their character needs it; returns the bytes of s used. */
static size_t finish_pending(oct_detokenizer *d, oct_str s, oct_buf *out) {
    char joined[8];
    memcpy(joined, d->pending, d->n_pending);
    const size_t more = s.len < 4 ? s.len : 4;
    memcpy(joined + d->n_pending, s.ptr, more);
    uint32_t cp;
    size_t len;
    const oct_str span = {joined, d->n_pending + more};
    const oct_utf8_step step = oct_utf8_next(span, &cp, &len);
    if (step == OCT_UTF8_CUT) { /* all of s fits into the character and it is still open */
        memcpy(d->pending, joined, len);
        d->n_pending = (uint8_t)len;
        return s.len;
    }
    if (step == OCT_UTF8_OK)
        oct_buf_add(out, joined, len);
    else
        oct_buf_cstr(out, "\xEF\xBF\xBD");
    /* The held bytes began a sequence that was well formed so far, so an invalid run holds them
     * all. */
    const size_t used = len - d->n_pending;
    d->n_pending = 0;
    return used;
}

void oct_detokenizer_push(oct_detokenizer *d, int32_t id, oct_buf *out) {
    if (d->skip_special && oct_tokenizer_is_special(d->tok, id)) return;
    oct_str s = oct_tokenizer_token_bytes(d->tok, id);
    if (s.len == 0) return;
    while (d->n_strip && s.len && *s.ptr == ' ') {
        s = (oct_str){s.ptr + 1, s.len - 1};
        if (!d->tok->strip_token) d->n_strip--;
    }
    if (d->tok->strip_token) d->n_strip = 0;
    if (s.len == 0) return;
    d->n_strip = 0;
    if (d->n_pending) {
        const size_t used = finish_pending(d, s, out);
        s = (oct_str){s.ptr + used, s.len - used};
    }
    const size_t whole = oct_utf8_complete_len(s);
    oct_utf8_repair(out, (oct_str){s.ptr, whole});
    if (s.len > whole) {
        memcpy(d->pending, s.ptr + whole, s.len - whole);
        d->n_pending = (uint8_t)(s.len - whole);
    }
}

void oct_detokenizer_flush(oct_detokenizer *d, oct_buf *out) {
    if (d->n_pending) oct_buf_cstr(out, "\xEF\xBF\xBD");
    d->n_pending = 0;
    d->n_strip = d->tok->n_strip;
}
