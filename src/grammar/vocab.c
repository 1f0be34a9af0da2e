/* grammar/vocab.c - tokens sorted by their bytes become a tree in one pass. */
#include "grammar/vocab.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    oct_str bytes;
    int32_t id;
} entry;

static int by_bytes(const void *a, const void *b) {
    const entry *x = a, *y = b;
    const size_t n = x->bytes.len < y->bytes.len ? x->bytes.len : y->bytes.len;
    const int order = memcmp(x->bytes.ptr, y->bytes.ptr, n);
    if (order != 0) return order;
    if (x->bytes.len != y->bytes.len) return x->bytes.len < y->bytes.len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static size_t common(oct_str a, oct_str b) {
    const size_t n = a.len < b.len ? a.len : b.len;
    size_t i = 0;
    while (i < n && a.ptr[i] == b.ptr[i]) i++;
    return i;
}

static uint32_t gather(const oct_tokenizer *tok, uint32_t n_ids, entry *out) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < n_ids; id++) {
        const oct_str bytes = oct_tokenizer_token_bytes(tok, (int32_t)id);
        if (bytes.len == 0 || oct_tokenizer_is_special(tok, (int32_t)id)) continue;
        out[n++] = (entry){bytes, (int32_t)id};
    }
    return n;
}

static bool make_arrays(oct_grammar_vocab *v, const entry *all, uint32_t n) {
    size_t n_nodes = 1;
    for (uint32_t i = 0; i < n; i++)
        n_nodes += all[i].bytes.len - (i > 0 ? common(all[i - 1].bytes, all[i].bytes) : 0);
    v->n_nodes = (uint32_t)n_nodes; /* <= 2^22 tokens of 4096 bytes: checked by the caller */
    v->n_tokens = n;
    v->byte = oct_calloc(v->mem, n_nodes, sizeof *v->byte);
    v->depth = oct_calloc(v->mem, n_nodes, sizeof *v->depth);
    v->reach = oct_calloc(v->mem, n_nodes, sizeof *v->reach);
    v->skip = oct_calloc(v->mem, n_nodes, sizeof *v->skip);
    v->token_at = oct_calloc(v->mem, n_nodes + 1, sizeof *v->token_at);
    v->tokens = oct_calloc(v->mem, n, sizeof *v->tokens);
    return v->byte && v->depth && v->reach && v->skip && v->token_at && v->tokens;
}

/* path: [max bytes of a token + 1], the nodes above the one that is made. */
static void make_tree(oct_grammar_vocab *v, const entry *all, uint32_t n, uint32_t *path) {
    uint32_t node = 0;
    size_t depth = 0; /* of node */
    path[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        const oct_str b = all[i].bytes;
        const size_t keep = i > 0 ? common(all[i - 1].bytes, b) : 0;
        for (size_t d = keep + 1; d <= depth; d++) v->skip[path[d]] = node + 1;
        for (size_t d = keep + 1; d <= b.len; d++) {
            path[d] = ++node;
            v->byte[node] = (uint8_t)b.ptr[d - 1];
            v->depth[node] = (uint16_t)d;
            v->token_at[node] = i;
        }
        depth = b.len;
        if (depth > v->max_depth) v->max_depth = (uint32_t)depth;
        v->tokens[i] = all[i].id;
    }
    for (size_t d = 0; d <= depth; d++) v->skip[path[d]] = node + 1;
    v->token_at[node + 1] = n;
    for (uint32_t i = v->n_nodes; i-- > 0;) { /* below comes behind: it is known */
        v->reach[i] = v->depth[i];
        for (uint32_t k = i + 1; k < v->skip[i]; k = v->skip[k])
            if (v->reach[k] > v->reach[i]) v->reach[i] = v->reach[k];
    }
}

oct_status oct_grammar_vocab_create(const oct_allocator *mem, const oct_tokenizer *tokenizer,
                                    uint32_t n_ids, oct_grammar_vocab **out, oct_err *err) {
    *out = NULL;
    oct_grammar_vocab *v = oct_calloc(mem, 1, sizeof *v);
    if (!v) return OCT_FAIL(err, OCT_E_NOMEM, "grammar: no memory for a vocabulary");
    v->mem = mem;
    v->tokenizer = tokenizer;
    v->n_ids = n_ids;
    atomic_init(&v->n_refs, 1);
    const size_t n_path = oct_tokenizer_max_token_bytes(tokenizer) + 2;
    entry *all = oct_alloc(mem, n_ids, sizeof *all);
    uint32_t *path = oct_calloc(mem, n_path, sizeof *path);
    bool ok = all && path;
    if (ok) {
        const uint32_t n = gather(tokenizer, n_ids, all);
        qsort(all, n, sizeof *all, by_bytes);
        ok = make_arrays(v, all, n);
        if (ok) make_tree(v, all, n, path);
    }
    oct_free(mem, all, all ? n_ids : 0, sizeof *all);
    oct_free(mem, path, path ? n_path : 0, sizeof *path);
    if (!ok) {
        oct_grammar_vocab_unref(v);
        return OCT_FAIL(err, OCT_E_NOMEM, "grammar: no memory for a vocabulary");
    }
    *out = v;
    return OCT_OK;
}

oct_grammar_vocab *oct_grammar_vocab_ref(oct_grammar_vocab *v) {
    atomic_fetch_add(&v->n_refs, 1);
    return v;
}

void oct_grammar_vocab_unref(oct_grammar_vocab *v) {
    if (!v || atomic_fetch_sub(&v->n_refs, 1) != 1) return;
    oct_free(v->mem, v->byte, v->n_nodes, sizeof *v->byte);
    oct_free(v->mem, v->depth, v->n_nodes, sizeof *v->depth);
    oct_free(v->mem, v->reach, v->n_nodes, sizeof *v->reach);
    oct_free(v->mem, v->skip, v->n_nodes, sizeof *v->skip);
    oct_free(v->mem, v->token_at, (size_t)v->n_nodes + 1, sizeof *v->token_at);
    oct_free(v->mem, v->tokens, v->n_tokens, sizeof *v->tokens);
    oct_free(v->mem, v, 1, sizeof *v);
}
