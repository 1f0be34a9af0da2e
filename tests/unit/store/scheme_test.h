/*
 * tests/unit/store/scheme_test.h - a small checkpoint, tensor by tensor, and what a scheme makes of
 * its projection.
 */
#ifndef OCT_SCHEME_TEST_H
#define OCT_SCHEME_TEST_H

#include "store_test.h"

#include "store/safetensors_writer.h"
#include "store/scheme.h"

typedef struct part {
    const char *name;
    oct_dtype dtype;
    uint32_t rank;
    uint64_t shape[3];
    const void *data;
} part;

#define PART(name, type, ...) \
    { name, OCT_DTYPE_##type, __VA_ARGS__ }

/* quant: the quantization_config, or NULL; description: of ModelSlim, or NULL. */
static inline void put_parts(const part *e, size_t n, const char *quant, const char *description) {
    static const char config[] =
        "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":8,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":2,"
        "\"head_dim\":2,\"vocab_size\":3%s%s}";
    static char text[65536];
    oct_safetensors_writer *w;
    snprintf(text, sizeof text, config, quant ? ",\"quantization_config\":" : "",
             quant ? quant : "");
    put_text("config.json", text);
    unlink(in_dir("quant_model_description.json"));
    if (description) put_text("quant_model_description.json", description);
    assert_int_equal(oct_safetensors_writer_create(oct_system_allocator(), &w, NULL), OCT_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(oct_safetensors_writer_add(w, oct_str_of(e[i].name), e[i].dtype, e[i].rank,
                                                    e[i].shape, NULL),
                         OCT_OK);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("model.safetensors"), NULL), OCT_OK);
    for (size_t i = 0; i < n; i++) {
        oct_tensor t = {.dtype = e[i].dtype, .rank = e[i].rank};
        memcpy(t.shape, e[i].shape, sizeof e[i].shape);
        assert_true(oct_tensor_measure(&t));
        assert_int_equal(
            oct_safetensors_writer_write(w, oct_str_of(e[i].name), 0, e[i].data, t.bytes, NULL),
            OCT_OK);
    }
    assert_int_equal(oct_safetensors_writer_finish(w, NULL), OCT_OK);
    oct_safetensors_writer_destroy(w);
}

typedef struct asked {
    oct_checkpoint *c;
    oct_scheme *s;
    oct_arena arena;
    oct_linear_source lin;
    oct_kv_source kv;
    oct_err err;
} asked;

static inline oct_status ask_folder(asked *a, const char *folder, const oct_scheme_options *opts) {
    memset(a, 0, sizeof *a);
    oct_arena_init(&a->arena, oct_system_allocator(), 0);
    OCT_TRY(oct_checkpoint_open(oct_system_allocator(), folder, &a->c, &a->err));
    return oct_scheme_open(oct_system_allocator(), a->c, opts, &a->s, &a->err);
}

static inline oct_status ask_open(asked *a, const oct_scheme_options *opts) {
    return ask_folder(a, test_dir, opts);
}

/* One projection [n, k] of the folder. */
static inline oct_status ask(asked *a, const oct_scheme_options *opts, const char *prefix,
                             uint64_t n, uint64_t k) {
    OCT_TRY(ask_open(a, opts));
    OCT_TRY(oct_scheme_linear(a->s, &a->arena, prefix, n, k, false, &a->lin, &a->err));
    return oct_checkpoint_check_needs(a->c, &a->err);
}

/* The cache of attention "a", heads of 2. */
static inline oct_status ask_kv(asked *a, uint32_t n_heads) {
    OCT_TRY(ask_open(a, NULL));
    OCT_TRY(oct_scheme_kv(a->s, &a->arena, "a", n_heads, 2, &a->kv, &a->err));
    return oct_checkpoint_check_needs(a->c, &a->err);
}

static inline void done(asked *a) {
    oct_scheme_close(a->s);
    oct_checkpoint_close(a->c);
    oct_arena_fini(&a->arena);
}

static inline void ok(asked *a, oct_status st) {
    if (st == OCT_OK) return;
    print_error("%s\n", a->err.text);
    done(a);
    fail();
}

/* What was asked must have been refused with this word in the sentence. */
static inline void refused(asked *a, oct_status got, oct_status want, const char *word) {
    const bool right = got == want && strstr(a->err.text, word);
    if (!right)
        print_error("status %d, sentence: \"%s\"\nwanted:   \"%s\"\n", (int)got, a->err.text, word);
    done(a);
    assert_true(right);
}

static inline void all_used(asked *a) {
    oct_buf left;
    oct_buf_init(&left, oct_system_allocator(), 0);
    const size_t n = oct_checkpoint_unused(a->c, &left);
    if (n) print_error("%s: not used: %s\n", oct_checkpoint_path(a->c), oct_buf_cs(&left));
    oct_buf_fini(&left);
    assert_int_equal(n, 0);
}

#endif
