/*
 * text/tokenizer.c - life of a tokenizer, its building blocks that every source shares, and the
 * questions about single tokens.
 */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "text/detokenizer.h"
#include "text/tokenizer_priv.h"
#include "text/unicode.h"

/* A byte is spelled with two at most. */
enum { MAX_SPELLING = 2 * OCT_TOKENIZER_MAX_TOKEN_BYTES };

oct_status oct_tok_new(const oct_allocator *mem, oct_tokenizer **out, oct_err *err) {
    oct_tokenizer *tok = oct_calloc(mem, 1, sizeof *tok);
    *out = tok;
    if (!tok) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory");
    oct_unicode_setup();
    oct_byte_level_setup();
    tok->mem = mem;
    oct_arena_init(&tok->arena, mem, 0);
    oct_vocab_init(&tok->vocab, mem);
    oct_trie_init(&tok->trie_raw, mem);
    oct_trie_init(&tok->trie_normal, mem);
    tok->bpe.vocab = &tok->vocab;
    tok->bpe.unk_id = -1;
    for (int b = 0; b < 256; b++) tok->bpe.byte_id[b] = -1;
    tok->bos.id = tok->eos.id = tok->pad.id = tok->unk.id = -1;
    tok->bos.text = tok->eos.text = tok->pad.text = tok->unk.text = OCT_STR("");
    return OCT_OK;
}

void oct_tokenizer_destroy(oct_tokenizer *tok) {
    if (!tok) return;
    oct_pretok_fini(&tok->pretok);
    oct_trie_fini(&tok->trie_raw);
    oct_trie_fini(&tok->trie_normal);
    oct_vocab_fini(&tok->vocab);
    oct_free(tok->mem, tok->added, tok->cap_added, sizeof *tok->added);
    oct_arena_fini(&tok->arena);
    oct_free(tok->mem, tok, 1, sizeof *tok);
}

oct_status oct_tok_keep(oct_tokenizer *tok, oct_str s, oct_str *out, oct_err *err) {
    const char *copy = oct_arena_strndup(&tok->arena, s.ptr, s.len);
    if (!copy) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory");
    *out = (oct_str){copy, s.len};
    return OCT_OK;
}

oct_status oct_tok_add_template(oct_tokenizer *tok, oct_str name, oct_str source, oct_err *err) {
    if (tok->n_templates == OCT_TOK_MAX_TEMPLATES)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "chat_template: more than %d templates",
                        OCT_TOK_MAX_TEMPLATES);
    oct_named_template *t = &tok->templates[tok->n_templates];
    OCT_TRY(oct_tok_keep(tok, name, &t->name, err));
    OCT_TRY(oct_tok_keep(tok, source, &t->source, err));
    tok->n_templates++;
    return OCT_OK;
}

/* ---- tokens ---- */

oct_status oct_tok_put_model(oct_tokenizer *tok, int64_t id, oct_str spell, oct_buf *scratch,
                             oct_err *err) {
    if (!tok->bpe.byte_level) return oct_vocab_put(&tok->vocab, id, spell, OCT_TOKEN_MODEL, err);
    if (spell.len > MAX_SPELLING)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer: token %lld is too long (got %zu bytes)",
                        (long long)id, spell.len);
    oct_buf_clear(scratch);
    const bool in_alphabet = oct_byte_level_read(spell, scratch);
    if (scratch->failed) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory");
    return oct_vocab_put(&tok->vocab, id, in_alphabet ? oct_buf_view(scratch) : spell,
                         OCT_TOKEN_MODEL | (in_alphabet ? 0 : OCT_TOKEN_RAW), err);
}

/* True when the model's token id is spelled as content. */
static bool spelled_so(const oct_tokenizer *tok, int32_t id, oct_str content) {
    const oct_vocab_entry *e = &tok->vocab.entries[id];
    const oct_str spell = oct_vocab_spell(&tok->vocab, id);
    if (!tok->bpe.byte_level || (e->flags & (OCT_TOKEN_RAW | OCT_TOKEN_MODEL)) != OCT_TOKEN_MODEL)
        return oct_str_eq(spell, content);
    char bytes[MAX_SPELLING];
    size_t len;
    return content.len <= sizeof bytes && oct_byte_level_bytes(content, bytes, &len) &&
           oct_str_eq((oct_str){bytes, len}, spell);
}

static oct_status remember_added(oct_tokenizer *tok, int32_t id, uint8_t rules, oct_err *err) {
    if (tok->n_added == OCT_TOKENIZER_MAX_ADDED)
        return OCT_FAIL(err, OCT_E_CORRUPT, "added_tokens: more than %d", OCT_TOKENIZER_MAX_ADDED);
    if (tok->n_added == tok->cap_added) {
        const size_t cap = tok->cap_added ? tok->cap_added * 2 : 64;
        oct_added_token *grown = oct_grow(tok->mem, tok->added, tok->cap_added, cap, sizeof *grown);
        if (!grown) return OCT_FAIL(err, OCT_E_NOMEM, "added_tokens: no memory");
        tok->added = grown;
        tok->cap_added = cap;
    }
    tok->added[tok->n_added++] = (oct_added_token){id, rules};
    return OCT_OK;
}

oct_status oct_tok_put_added(oct_tokenizer *tok, int64_t id, oct_str content, bool special,
                             uint8_t rules, oct_err *err) {
    oct_vocab *v = &tok->vocab;
    const uint8_t flags = OCT_TOKEN_ADDED | (special ? OCT_TOKEN_SPECIAL : 0);
    if (content.len == 0)
        return OCT_FAIL(err, OCT_E_CORRUPT, "added_tokens: token %lld is empty", (long long)id);
    const int32_t there = oct_tokenizer_find(tok, content);
    if (there >= 0 && there != id)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "added_tokens: token %lld is spelled like token %d of the vocabulary",
                        (long long)id, there);
    if (!oct_vocab_has(v, id)) {
        OCT_TRY(oct_vocab_put(v, id, content, flags, err));
        return remember_added(tok, (int32_t)id, rules, err);
    }
    oct_vocab_entry *e = &v->entries[id];
    if ((e->flags & OCT_TOKEN_ADDED) || !spelled_so(tok, (int32_t)id, content))
        return OCT_FAIL(err, OCT_E_CORRUPT, "added_tokens: id %lld is taken by another token",
                        (long long)id);
    e->flags |= flags;
    OCT_TRY(oct_vocab_set_text(v, (int32_t)id, content, err));
    OCT_TRY(oct_vocab_index_text(v, (int32_t)id, err));
    return remember_added(tok, (int32_t)id, rules, err);
}

/* Capitals only, as in "<0x0A>"; -1: none. */
static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that "<0xNN>" names, or -1. */
static int byte_name(oct_str spell) {
    if (spell.len != 6 || memcmp(spell.ptr, "<0x", 3) != 0 || spell.ptr[5] != '>') return -1;
    const int high = hex_digit(spell.ptr[3]), low = hex_digit(spell.ptr[4]);
    return high >= 0 && low >= 0 ? high * 16 + low : -1;
}

/* ---- the last step of building ---- */

/* Byte tokens for the symbols of BPE. */
static void find_bytes(oct_tokenizer *tok) {
    for (int b = 0; b < 256; b++) {
        char name[8] = {(char)b};
        size_t len = 1;
        if (!tok->bpe.byte_level) len = (size_t)snprintf(name, sizeof name, "<0x%02X>", b & 0xff);
        tok->bpe.byte_id[b] = oct_vocab_by_spell(&tok->vocab, name, len);
    }
}

/* What the decoder makes of one token. */
static oct_status decode_entry(oct_tokenizer *tok, int32_t id, oct_norm_scratch *scratch,
                               oct_err *err) {
    oct_vocab *v = &tok->vocab;
    const oct_str spell = oct_vocab_spell(v, id);
    const int byte = tok->decode_bytes ? byte_name(spell) : -1;
    if (byte >= 0) {
        const char one = (char)byte;
        return oct_vocab_set_text(v, id, (oct_str){&one, 1}, err);
    }
    oct_str text;
    OCT_TRY(oct_normalize(tok->replaces, tok->n_replaces, spell, scratch, &text, err));
    if (text.ptr == spell.ptr) return OCT_OK;
    if (text.len > OCT_TOKENIZER_MAX_TOKEN_BYTES)
        return OCT_FAIL(err, OCT_E_CORRUPT, "decoder: text of token %d is too long", id);
    return oct_vocab_set_text(v, id, text, err);
}

static oct_status decode_all(oct_tokenizer *tok, oct_norm_scratch *scratch, oct_err *err) {
    for (uint32_t id = 0; id < tok->vocab.n; id++) {
        const uint8_t flags = tok->vocab.entries[id].flags;
        if ((flags & OCT_TOKEN_HAS) && !(flags & OCT_TOKEN_ADDED) &&
            (tok->decode_bytes || tok->n_replaces))
            OCT_TRY(decode_entry(tok, (int32_t)id, scratch, err));
        if (tok->vocab.entries[id].text_len > tok->max_token_bytes)
            tok->max_token_bytes = tok->vocab.entries[id].text_len;
    }
    return OCT_OK;
}

static oct_status build_tries(oct_tokenizer *tok, oct_norm_scratch *scratch, oct_err *err) {
    for (size_t i = 0; i < tok->n_added; i++) {
        oct_str content = oct_vocab_text(&tok->vocab, tok->added[i].id);
        oct_trie *trie = &tok->trie_raw;
        if (tok->added[i].rules & OCT_ADDED_NORMALIZED) {
            OCT_TRY(oct_normalize(tok->norms, tok->n_norms, content, scratch, &content, err));
            trie = &tok->trie_normal;
        }
        if (content.len) OCT_TRY(oct_trie_add(trie, content, (int32_t)i, err));
    }
    return OCT_OK;
}

/* True when no token of the model has "▁" behind another character: then no merge crosses a place
 * before a "▁" that follows something else, and a text may be cut there before BPE. */
static bool marks_only_lead(const oct_tokenizer *tok) {
    static const char mark[] = "\xE2\x96\x81";
    for (uint32_t id = 0; id < tok->vocab.n; id++) {
        if (!(tok->vocab.entries[id].flags & OCT_TOKEN_MODEL)) continue;
        oct_str s = oct_vocab_spell(&tok->vocab, (int32_t)id);
        while (oct_str_starts(s, (oct_str){mark, 3})) s = (oct_str){s.ptr + 3, s.len - 3};
        if (memmem(s.ptr, s.len, mark, 3)) return false;
    }
    return true;
}

/* True when no text can give an unknown token: then fusing them is no reason to keep it whole. */
static bool never_unknown(const oct_tokenizer *tok) {
    for (int b = 0; b < 256; b++)
        if (tok->bpe.byte_id[b] < 0) return false;
    return tok->bpe.byte_fallback;
}

oct_status oct_tok_finish(oct_tokenizer *tok, oct_err *err) {
    oct_norm_scratch scratch;
    oct_buf_init(&scratch.a, tok->mem, 0);
    oct_buf_init(&scratch.b, tok->mem, 0);
    find_bytes(tok);
    oct_status st = decode_all(tok, &scratch, err);
    if (st == OCT_OK) st = build_tries(tok, &scratch, err);
    if (st == OCT_OK && !tok->bpe.byte_level && tok->pretok.n_stages == 0 &&
        (!tok->bpe.fuse_unk || never_unknown(tok)) && marks_only_lead(tok))
        st = oct_pretok_add_scan(&tok->pretok, oct_scan_mark_run, OCT_STR(""), err);
    oct_buf_fini(&scratch.a);
    oct_buf_fini(&scratch.b);
    return st;
}

/* ---- questions ---- */

oct_str oct_tokenizer_token_bytes(const oct_tokenizer *tok, int32_t id) {
    return oct_vocab_has(&tok->vocab, id) ? oct_vocab_text(&tok->vocab, id) : OCT_STR("");
}

void oct_tokenizer_token_spelling(const oct_tokenizer *tok, int32_t id, oct_buf *out) {
    if (!oct_vocab_has(&tok->vocab, id)) return;
    const uint8_t flags = tok->vocab.entries[id].flags;
    const bool mapped =
        tok->bpe.byte_level && (flags & (OCT_TOKEN_MODEL | OCT_TOKEN_RAW)) == OCT_TOKEN_MODEL;
    if (mapped && !(flags & OCT_TOKEN_ADDED))
        oct_byte_level_write(oct_vocab_spell(&tok->vocab, id), out);
    else if (flags & OCT_TOKEN_ADDED)
        oct_buf_str(out, oct_vocab_text(&tok->vocab, id));
    else
        oct_buf_str(out, oct_vocab_spell(&tok->vocab, id));
}

int32_t oct_tokenizer_find(const oct_tokenizer *tok, oct_str spelling) {
    const int32_t id = oct_vocab_by_text(&tok->vocab, spelling);
    if (id >= 0 || spelling.len > MAX_SPELLING) return id;
    if (!tok->bpe.byte_level) return oct_vocab_by_spell(&tok->vocab, spelling.ptr, spelling.len);
    char bytes[MAX_SPELLING];
    size_t len;
    return oct_byte_level_bytes(spelling, bytes, &len) ? oct_vocab_by_spell(&tok->vocab, bytes, len)
                                                       : -1;
}

int32_t oct_tokenizer_n_vocab(const oct_tokenizer *tok) { return (int32_t)tok->vocab.n; }
size_t oct_tokenizer_max_token_bytes(const oct_tokenizer *tok) { return tok->max_token_bytes; }

bool oct_tokenizer_has(const oct_tokenizer *tok, int32_t id) {
    return oct_vocab_has(&tok->vocab, id);
}

bool oct_tokenizer_is_special(const oct_tokenizer *tok, int32_t id) {
    return oct_vocab_has(&tok->vocab, id) &&
           (tok->vocab.entries[id].flags & OCT_TOKEN_SPECIAL) != 0;
}

oct_status oct_tokenizer_check_rows(const oct_tokenizer *tok, uint64_t n_rows, oct_err *err) {
    if (tok->vocab.n <= n_rows) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT,
                    "tokenizer: token id %u has no embedding row (got %llu rows)", tok->vocab.n - 1,
                    (unsigned long long)n_rows);
}

int32_t oct_tokenizer_eos(const oct_tokenizer *tok) { return tok->eos.id; }
oct_str oct_tokenizer_bos_text(const oct_tokenizer *tok) { return tok->bos.text; }
oct_str oct_tokenizer_eos_text(const oct_tokenizer *tok) { return tok->eos.text; }
oct_str oct_tokenizer_pad_text(const oct_tokenizer *tok) { return tok->pad.text; }
oct_str oct_tokenizer_unk_text(const oct_tokenizer *tok) { return tok->unk.text; }

oct_str oct_tokenizer_chat_template(const oct_tokenizer *tok, const char *name) {
    for (size_t i = 0; i < tok->n_templates; i++)
        if (oct_str_is(tok->templates[i].name, name ? name : "default"))
            return tok->templates[i].source;
    return (oct_str){NULL, 0};
}

void oct_tokenizer_decode(const oct_tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                          oct_buf *out) {
    oct_detokenizer d;
    oct_detokenizer_init(&d, tok, skip_special);
    for (size_t i = 0; i < n; i++) oct_detokenizer_push(&d, ids[i], out);
    oct_detokenizer_flush(&d, out);
}
