/*
 * grammar/maker.c - from a front end to a compiled grammar, and a cache of those.
 *
 * The key of the cache is the kind and everything that it was made of; the least recently used
 * leave when what is kept grows over its bound. Compiling happens outside the lock: two threads may
 * compile the same at once, and the second one's is dropped.
 */
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "grammar/compiled.h"
#include "grammar/ebnf.h"
#include "grammar/regex.h"
#include "grammar/schema.h"

struct oct_grammars {
    const oct_allocator *mem;
    oct_grammar_vocab *vocab;
    pthread_mutex_t lock;
    oct_grammar *oldest, *newest; /* the cache holds a reference to each */
};

enum { WARM_NS = 10000000 };

oct_status oct_grammars_create(const oct_allocator *mem, const oct_tokenizer *tokenizer,
                               uint32_t n_ids, oct_grammars **out, oct_err *err) {
    *out = NULL;
    oct_grammars *g = oct_calloc(mem, 1, sizeof *g);
    if (!g) return OCT_FAIL(err, OCT_E_NOMEM, "grammar: no memory");
    g->mem = mem;
    const oct_status st = oct_grammar_vocab_create(mem, tokenizer, n_ids, &g->vocab, err);
    if (st != OCT_OK) {
        oct_free(mem, g, 1, sizeof *g);
        return st;
    }
    pthread_mutex_init(&g->lock, NULL);
    *out = g;
    return OCT_OK;
}

/* ---- the cache; with the lock held ---- */

static void unlink_one(oct_grammars *g, oct_grammar *x) {
    *(x->older ? &x->older->newer : &g->oldest) = x->newer;
    *(x->newer ? &x->newer->older : &g->newest) = x->older;
    x->older = x->newer = NULL;
}

static void link_newest(oct_grammars *g, oct_grammar *x) {
    x->older = g->newest;
    x->newer = NULL;
    *(g->newest ? &g->newest->newer : &g->oldest) = x;
    g->newest = x;
}

static size_t cache_bytes(const oct_grammars *g) {
    size_t sum = 0;
    for (const oct_grammar *x = g->newest; x; x = x->older) sum += atomic_load(&x->bytes);
    return sum;
}

/* The last one stays, however large: it is in use. */
static void shrink(oct_grammars *g) {
    size_t sum = cache_bytes(g);
    while (sum > OCT_GRAMMAR_CACHE_BYTES && g->oldest && g->oldest != g->newest) {
        oct_grammar *x = g->oldest;
        const size_t bytes = atomic_load(&x->bytes);
        unlink_one(g, x);
        oct_grammar_unref(x);
        sum = bytes < sum ? sum - bytes : 0;
    }
}

static uint64_t hash_of(const oct_buf *key) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < key->len; i++) h = (h ^ (uint8_t)key->data[i]) * UINT64_C(0x100000001B3);
    return h;
}

static oct_grammar *find(oct_grammars *g, const oct_buf *key, uint64_t hash) {
    for (oct_grammar *x = g->newest; x; x = x->older) {
        if (x->key_hash != hash || x->n_key != key->len || memcmp(x->key, key->data, key->len) != 0)
            continue;
        unlink_one(g, x);
        link_newest(g, x);
        return oct_grammar_ref(x);
    }
    return NULL;
}

static oct_grammar *find_locked(oct_grammars *g, const oct_buf *key) {
    pthread_mutex_lock(&g->lock);
    oct_grammar *x = find(g, key, hash_of(key));
    pthread_mutex_unlock(&g->lock);
    return x;
}

/* Keeps x, unless an equal one came first: then that is handed out. */
static oct_grammar *keep(oct_grammars *g, const oct_buf *key, oct_grammar *x) {
    const uint64_t hash = hash_of(key);
    pthread_mutex_lock(&g->lock);
    oct_grammar *other = find(g, key, hash);
    if (!other && (x->key = oct_strndup(g->mem, key->data, key->len))) {
        oct_grammar_ref(x);
        x->n_key = key->len;
        x->key_hash = hash;
        link_newest(g, x);
        shrink(g);
    }
    pthread_mutex_unlock(&g->lock);
    if (!other) return x;
    oct_grammar_unref(x);
    return other;
}

size_t oct_grammars_cache_bytes(oct_grammars *g) {
    pthread_mutex_lock(&g->lock);
    const size_t bytes = cache_bytes(g);
    pthread_mutex_unlock(&g->lock);
    return bytes;
}

void oct_grammars_destroy(oct_grammars *g) {
    if (!g) return;
    while (g->oldest) {
        oct_grammar *x = g->oldest;
        unlink_one(g, x);
        oct_grammar_unref(x);
    }
    oct_grammar_vocab_unref(g->vocab);
    pthread_mutex_destroy(&g->lock);
    oct_free(g->mem, g, 1, sizeof *g);
}

/* ---- compiling ---- */

/* What a front end makes of what ctx points to: the first rule. */
typedef uint32_t front_end(oct_build *b, const void *ctx);

static oct_status compile(oct_grammars *g, oct_buf *key, front_end *front, const void *ctx,
                          oct_grammar **out, oct_err *err) {
    *out = NULL;
    if (key->failed) {
        oct_buf_fini(key);
        return OCT_FAIL(err, OCT_E_NOMEM, "no memory for a grammar");
    }
    oct_grammar *x = find_locked(g, key);
    oct_status st = OCT_OK;
    if (!x) {
        oct_build b;
        oct_program *program = NULL;
        oct_build_init(&b, g->mem);
        const uint32_t root = front(&b, ctx);
        st = oct_program_create(&b, root, &program, err);
        oct_build_fini(&b);
        if (st == OCT_OK && oct_compiled_create(g->mem, program, g->vocab, &x) != OCT_OK)
            st = OCT_FAIL(err, OCT_E_NOMEM, "no memory for a grammar");
        if (st == OCT_OK) {
            oct_compiled_warm(x, WARM_NS);
            x = keep(g, key, x);
        }
    }
    oct_buf_fini(key);
    *out = x;
    return st;
}

static void begin_key(oct_grammars *g, oct_buf *key, char kind, const oct_grammar_style *style) {
    oct_buf_init(key, g->mem, 0);
    oct_buf_char(key, kind);
    if (!style) return;
    oct_buf_printf(key, "%d%d%zu:", style->no_blanks, style->no_additional, style->blanks.len);
    oct_buf_str(key, style->blanks);
}

/* ---- JSON ---- */

typedef struct json_ctx {
    const json_t *schema;
    const oct_grammar_style *style;
} json_ctx;

static uint32_t front_object(oct_build *b, const void *ctx) {
    oct_json_rules j;
    oct_json_rules_init(&j, b, ((const json_ctx *)ctx)->style);
    return oct_json_rule_of(&j, OCT_JSON_OBJECT);
}

oct_status oct_grammar_of_object(oct_grammars *g, const oct_grammar_style *style, oct_grammar **out,
                                 oct_err *err) {
    const json_ctx ctx = {NULL, style};
    oct_buf key;
    begin_key(g, &key, 'o', style);
    return compile(g, &key, front_object, &ctx, out, err);
}

static uint32_t front_schema(oct_build *b, const void *ctx) {
    const json_ctx *c = ctx;
    oct_json_rules j;
    oct_json_rules_init(&j, b, c->style);
    return oct_schema_compile(&j, c->schema);
}

oct_status oct_grammar_of_schema(oct_grammars *g, const json_t *schema,
                                 const oct_grammar_style *style, oct_grammar **out, oct_err *err) {
    const json_ctx ctx = {schema, style};
    oct_buf key;
    *out = NULL;
    begin_key(g, &key, 's', style);
    const size_t before = key.len;
    oct_json_dump(&key, schema, JSON_COMPACT | JSON_ENCODE_ANY);
    if (key.len - before > OCT_GRAMMAR_MAX_SCHEMA) {
        const size_t bytes = key.len - before;
        oct_buf_fini(&key);
        return OCT_FAIL(err, OCT_E_INVALID, "schema: too long (got %zu bytes, want at most %d)",
                        bytes, OCT_GRAMMAR_MAX_SCHEMA);
    }
    return compile(g, &key, front_schema, &ctx, out, err);
}

/* ---- text ---- */

static uint32_t front_regex(oct_build *b, const void *ctx) {
    const uint32_t rule = oct_build_rule(b, OCT_STR("regex"));
    oct_build_define(b, rule, oct_regex_piece(b, *(const oct_str *)ctx, OCT_REGEX_PLAIN, "regex"));
    return rule;
}

oct_status oct_grammar_of_regex(oct_grammars *g, oct_str regex, oct_grammar **out, oct_err *err) {
    oct_buf key;
    begin_key(g, &key, 'r', NULL);
    oct_buf_str(&key, regex);
    return compile(g, &key, front_regex, &regex, out, err);
}

static uint32_t front_ebnf(oct_build *b, const void *ctx) {
    return oct_ebnf_rules(b, *(const oct_str *)ctx);
}

oct_status oct_grammar_of_ebnf(oct_grammars *g, oct_str text, oct_grammar **out, oct_err *err) {
    oct_buf key;
    begin_key(g, &key, 'e', NULL);
    oct_buf_str(&key, text);
    return compile(g, &key, front_ebnf, &text, out, err);
}

typedef struct choice_ctx {
    const oct_str *choices;
    size_t n;
} choice_ctx;

static uint32_t front_choice(oct_build *b, const void *ctx) {
    const choice_ctx *c = ctx;
    const uint32_t rule = oct_build_rule(b, OCT_STR("choice"));
    const oct_piece all = oct_build_nothing(b);
    for (size_t i = 0; i < c->n && b->status == OCT_OK; i++)
        oct_build_join(b, all, oct_build_text(b, c->choices[i]));
    oct_build_define(b, rule, all);
    return rule;
}

oct_status oct_grammar_of_choice(oct_grammars *g, const oct_str *choices, size_t n,
                                 oct_grammar **out, oct_err *err) {
    const choice_ctx ctx = {choices, n};
    oct_buf key;
    begin_key(g, &key, 'c', NULL);
    for (size_t i = 0; i < n; i++) {
        oct_buf_printf(&key, "%zu:", choices[i].len);
        oct_buf_str(&key, choices[i]);
    }
    return compile(g, &key, front_choice, &ctx, out, err);
}
