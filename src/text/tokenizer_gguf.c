/*
 * text/tokenizer_gguf.c - a tokenizer from the vocabulary that a GGUF file carries.
 *
 * The file names its pre-tokenizer by one word; the table below says which patterns a word stands
 * for. A word that is not in it is refused: a near miss would give wrong ids in silence.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/utf8.h"
#include "text/tokenizer_priv.h"
#include "text/unicode.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* What a file without the word has: marks apart, then GPT-2, then numbers in threes. */
static const char marks_pattern[] = "[\\p{P}\\$\\+<=>\\^~\\|]+";
static const char threes_pattern[] = "[0-9][0-9][0-9]";

enum {
    RULE_WHOLE = 1, /* a piece that is a token is taken without merging */
    RULE_BOS = 2,   /* a BOS goes first unless the file says otherwise */
    RULE_NFC = 4,   /* the family's own files normalise; GGUF has no word for it */
};

static const struct pre_rule {
    const char *name;
    const char *patterns[4];
    unsigned rules; /* RULE_... */
} pre_rules[] = {
    {"", {marks_pattern, oct_pattern_gpt2, "\\p{N}+", threes_pattern}, 0},
    {"default", {marks_pattern, oct_pattern_gpt2, "\\p{N}+", threes_pattern}, 0},
    {"gpt-2", {oct_pattern_gpt2}, 0},
    {"olmo", {oct_pattern_gpt2}, 0},
    {"phi-2", {oct_pattern_gpt2}, 0},
    {"mpt", {oct_pattern_gpt2}, 0},
    {"smollm", {oct_pattern_digit, oct_pattern_gpt2}, 0},
    {"starcoder", {oct_pattern_digit, oct_pattern_gpt2}, 0},
    {"refact", {oct_pattern_digit, oct_pattern_gpt2}, 0},
    {"command-r", {oct_pattern_digit, oct_pattern_gpt2}, 0},
    {"codeshell", {oct_pattern_digit, oct_pattern_gpt2}, 0},
    {"qwen2", {oct_pattern_qwen2}, RULE_NFC},
    {"stablelm2", {oct_pattern_qwen2}, 0},
    {"deepseek-r1-qwen", {oct_pattern_qwen2}, 0},
    {"qwen35", {oct_pattern_qwen35}, RULE_NFC},
    {"llama-bpe", {oct_pattern_llama3}, RULE_WHOLE | RULE_BOS},
    {"llama3", {oct_pattern_llama3}, RULE_WHOLE | RULE_BOS},
    {"llama-v3", {oct_pattern_llama3}, RULE_WHOLE | RULE_BOS},
    {"falcon3", {oct_pattern_llama3}, RULE_WHOLE | RULE_BOS},
    {"dbrx", {oct_pattern_llama3}, 0},
    {"smaug-bpe", {oct_pattern_llama3}, 0},
    {"chatglm-bpe", {oct_pattern_llama3}, 0},
    {"deepseek-v3", {oct_pattern_digits3, oct_pattern_cjk, oct_pattern_deepseek3}, 0},
    {"tekken", {oct_pattern_tekken}, RULE_WHOLE | RULE_BOS},
    {"gpt-4o", {oct_pattern_o200k}, 0},
    {"llama4", {oct_pattern_o200k}, 0},
    {"minimax-m2", {oct_pattern_o200k}, 0},
};

static oct_status read_pre(oct_tokenizer *tok, oct_str name, bool *add_bos, oct_err *err) {
    for (size_t i = 0; i < OCT_COUNT(pre_rules); i++) {
        const struct pre_rule *rule = &pre_rules[i];
        if (!oct_str_is(name, rule->name)) continue;
        for (size_t k = 0; k < OCT_COUNT(rule->patterns) && rule->patterns[k]; k++)
            OCT_TRY(oct_pretok_add_pattern(&tok->pretok, &tok->arena, oct_str_of(rule->patterns[k]),
                                           err));
        tok->bpe.ignore_merges = (rule->rules & RULE_WHOLE) != 0;
        if (rule->rules & RULE_NFC)
            tok->norms[tok->n_norms++] = (oct_norm_step){.kind = OCT_NORM_NFC};
        *add_bos = (rule->rules & RULE_BOS) != 0;
        return OCT_OK;
    }
    return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                    "tokenizer.ggml.pre: pre-tokenizer is not supported (got \"%.*s\")",
                    (int)(name.len < 64 ? name.len : 64), name.ptr);
}

static int type_of(const oct_vocab_desc *d, size_t id) {
    return d->types && d->types[id] ? d->types[id] : TYPE_NORMAL; /* 0: undefined */
}

/* Tokens of no text of their own (unused rows) have entries too: ids must not be lost. */
static oct_status put_tokens(oct_tokenizer *tok, const oct_vocab_desc *d, oct_err *err) {
    oct_buf scratch;
    oct_status st = OCT_OK;
    if (d->n_tokens == 0 || d->n_tokens > OCT_TOKENIZER_MAX_VOCAB)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.tokens: got %zu tokens, want 1 to %d",
                        d->n_tokens, OCT_TOKENIZER_MAX_VOCAB);
    oct_buf_init(&scratch, tok->mem, 0);
    for (size_t id = 0; st == OCT_OK && id < d->n_tokens; id++) {
        const int type = type_of(d, id);
        const oct_str text = d->tokens[id];
        size_t bad_at;
        if (type < TYPE_NORMAL || type > TYPE_BYTE)
            st = OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.token_type[%zu]: unknown type %d", id,
                          type);
        else if (!oct_utf8_valid(text, &bad_at))
            st = OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.tokens[%zu]: not UTF-8", id);
        else if (type == TYPE_CONTROL || type == TYPE_USER || type == TYPE_UNKNOWN)
            st = oct_tok_put_added(tok, (int64_t)id, text, type != TYPE_USER, 0, err);
        else if (text.len)
            st = oct_tok_put_model(tok, (int64_t)id, text, &scratch, err);
    }
    oct_buf_fini(&scratch);
    return st;
}

static oct_status bad_merge(oct_err *err, size_t rank, const char *what) {
    return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.merges[%zu] %s", rank, what);
}

/* A blank inside a part is spelled Ġ, so the only blank is the one between; a part may begin with
 * it in old files, which is why the search starts at the second byte. */
static oct_status put_merge(oct_tokenizer *tok, oct_str s, size_t rank, oct_buf *scratch,
                            oct_err *err) {
    const oct_vocab *v = &tok->vocab;
    size_t bad_at;
    const char *blank = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;
    if (!blank || !oct_utf8_valid(s, &bad_at))
        return bad_merge(err, rank, "is not two parts with a blank between");
    const size_t left_bytes = (size_t)(blank - s.ptr);
    oct_buf_clear(scratch);
    bool ok = oct_byte_level_read((oct_str){s.ptr, left_bytes}, scratch);
    const size_t left_len = scratch->len;
    ok = ok && oct_byte_level_read((oct_str){blank + 1, s.len - left_bytes - 1}, scratch);
    if (scratch->failed) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer.ggml.merges: no memory");
    const char *bytes = oct_buf_cs(scratch);
    const int32_t left = ok ? oct_vocab_by_spell(v, bytes, left_len) : -1;
    const int32_t right =
        ok ? oct_vocab_by_spell(v, bytes + left_len, scratch->len - left_len) : -1;
    if (left < 0 || right < 0)
        return bad_merge(err, rank, "has a part that is not in the vocabulary");
    const int32_t id = oct_vocab_by_spell(v, bytes, scratch->len);
    if (id < 0) return bad_merge(err, rank, "makes a token that is not in the vocabulary");
    return oct_vocab_put_merge(&tok->vocab, left, right, id, (uint32_t)rank, err);
}

static oct_status put_merges(oct_tokenizer *tok, const oct_vocab_desc *d, oct_err *err) {
    oct_buf scratch;
    oct_status st = OCT_OK;
    if (d->n_merges > OCT_TOKENIZER_MAX_MERGES)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.merges: got %zu, want at most %d",
                        d->n_merges, OCT_TOKENIZER_MAX_MERGES);
    oct_buf_init(&scratch, tok->mem, 0);
    for (size_t i = 0; st == OCT_OK && i < d->n_merges; i++)
        st = put_merge(tok, d->merges[i], i, &scratch, err);
    oct_buf_fini(&scratch);
    return st;
}

/* ---- SentencePiece: any two neighbours that spell a token merge, the best score first ---- */

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every way to cut a token in two tokens is a merge of the token's rank. */
static oct_status merges_of(oct_tokenizer *tok, int32_t id, uint32_t rank, oct_err *err) {
    oct_vocab *v = &tok->vocab;
    const oct_str s = oct_vocab_spell(v, id);
    unsigned n;
    (void)oct_unicode_at((const uint8_t *)s.ptr, 0, &n);
    for (size_t cut = n; cut < s.len; cut += n) {
        const int32_t left = oct_vocab_by_spell(v, s.ptr, cut);
        const int32_t right = left < 0 ? -1 : oct_vocab_by_spell(v, s.ptr + cut, s.len - cut);
        if (right >= 0) OCT_TRY(oct_vocab_put_merge(v, left, right, id, rank, err));
        (void)oct_unicode_at((const uint8_t *)s.ptr, cut, &n);
    }
    return OCT_OK;
}

static oct_status merges_by_score(oct_tokenizer *tok, const oct_vocab_desc *d, oct_err *err) {
    if (!d->scores)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.scores: absent for model \"llama\"");
    scored *order = oct_alloc(tok->mem, d->n_tokens, sizeof *order);
    if (!order) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory");
    size_t n = 0;
    oct_status st = OCT_OK;
    for (size_t id = 0; id < d->n_tokens && st == OCT_OK; id++) {
        if (!(d->scores[id] == d->scores[id]))
            st = OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer.ggml.scores[%zu]: not a number", id);
        if (oct_vocab_has(&tok->vocab, (int64_t)id) && type_of(d, id) == TYPE_NORMAL)
            order[n++] = (scored){d->scores[id], (int32_t)id};
    }
    if (st == OCT_OK) qsort(order, n, sizeof *order, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < n && st == OCT_OK; i++) {
        if (i && order[i].score != order[i - 1].score) rank++;
        st = merges_of(tok, order[i].id, rank, err);
    }
    oct_free(tok->mem, order, d->n_tokens, sizeof *order);
    return st;
}

static oct_status setup_llama(oct_tokenizer *tok, const oct_vocab_desc *d, bool *add_bos) {
    static const oct_str mark = {"\xE2\x96\x81", 3};
    tok->bpe.byte_fallback = true;
    tok->decode_bytes = true;
    *add_bos = true;
    if (d->add_space_prefix != 0) {
        tok->norms[tok->n_norms++] = (oct_norm_step){OCT_NORM_PREPEND, {NULL, 0}, mark};
        tok->n_strip = 1;
    }
    tok->norms[tok->n_norms++] = (oct_norm_step){OCT_NORM_REPLACE, OCT_STR(" "), mark};
    tok->replaces[tok->n_replaces++] = (oct_norm_step){OCT_NORM_REPLACE, mark, OCT_STR(" ")};
    return OCT_OK;
}

/* ---- all ---- */

static oct_status name_id(oct_tokenizer *tok, const char *key, int64_t id, oct_special_name *out,
                          oct_err *err) {
    if (id < 0) return OCT_OK;
    if (!oct_vocab_has(&tok->vocab, id))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "tokenizer.ggml.%s: not in the vocabulary (got %lld, want below %u)", key,
                        (long long)id, tok->vocab.n);
    out->id = (int32_t)id;
    oct_buf text;
    oct_buf_init(&text, tok->mem, 0);
    oct_tokenizer_token_spelling(tok, (int32_t)id, &text);
    const oct_status st = text.failed ? OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory")
                                      : oct_tok_keep(tok, oct_buf_view(&text), &out->text, err);
    oct_buf_fini(&text);
    return st;
}

static oct_status read_names(oct_tokenizer *tok, const oct_vocab_desc *d, bool add_bos,
                             oct_err *err) {
    OCT_TRY(name_id(tok, "bos_token_id", d->bos_id, &tok->bos, err));
    OCT_TRY(name_id(tok, "eos_token_id", d->eos_id, &tok->eos, err));
    OCT_TRY(name_id(tok, "padding_token_id", d->pad_id, &tok->pad, err));
    OCT_TRY(name_id(tok, "unknown_token_id", d->unk_id, &tok->unk, err));
    tok->add_bos = (d->add_bos < 0 ? add_bos : d->add_bos != 0) && tok->bos.id >= 0;
    tok->add_eos = d->add_eos > 0 && tok->eos.id >= 0;
    if (tok->add_bos) tok->prefix[tok->n_prefix++] = tok->bos.id;
    if (tok->add_eos) tok->suffix[tok->n_suffix++] = tok->eos.id;
    if (!tok->bpe.byte_level) tok->bpe.unk_id = tok->unk.id;
    if (!d->chat_template.ptr) return OCT_OK;
    return oct_tok_add_template(tok, OCT_STR("default"), d->chat_template, err);
}

static oct_status build(oct_tokenizer *tok, const oct_vocab_desc *d, oct_err *err) {
    bool add_bos = false;
    tok->from_gguf = true;
    if (oct_str_is(d->model, "gpt2")) {
        tok->bpe.byte_level = true;
        OCT_TRY(read_pre(tok, d->pre, &add_bos, err));
        if (d->add_space_prefix > 0) tok->prepend = OCT_PREPEND_ALWAYS;
        OCT_TRY(put_tokens(tok, d, err));
        OCT_TRY(put_merges(tok, d, err));
    } else if (oct_str_is(d->model, "llama")) {
        OCT_TRY(setup_llama(tok, d, &add_bos));
        OCT_TRY(put_tokens(tok, d, err));
        OCT_TRY(merges_by_score(tok, d, err));
    } else {
        return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                        "tokenizer.ggml.model: tokenizer is not supported (got \"%.*s\")",
                        (int)(d->model.len < 64 ? d->model.len : 64), d->model.ptr);
    }
    OCT_TRY(read_names(tok, d, add_bos, err));
    return oct_tok_finish(tok, err);
}

oct_status oct_tokenizer_create(const oct_allocator *mem, const oct_vocab_desc *desc,
                                oct_tokenizer **out, oct_err *err) {
    oct_tokenizer *tok;
    *out = NULL;
    OCT_TRY(oct_tok_new(mem, &tok, err));
    const oct_status st = build(tok, desc, err);
    if (st == OCT_OK)
        *out = tok;
    else
        oct_tokenizer_destroy(tok);
    return st;
}
