/* Hyperparameters from GGUF metadata: what each family's files say, rows CF3 to CF5. */
#include "store_test.h"

#include <math.h>

#include "store/config.h"

enum { N_BASE = 8 };

static void base_values(oct_buf *b, const char *arch, uint32_t n_more) {
    char key[64];
    static const struct {
        const char *tail;
        uint32_t v;
    } rows[] = {
        {"block_count", 2},          {"embedding_length", 64},       {"feed_forward_length", 160},
        {"attention.head_count", 4}, {"attention.head_count_kv", 2}, {"context_length", 512}};
    g_head(b, 3, 0, N_BASE + n_more);
    g_key_str(b, "general.architecture", arch);
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, rows[i].tail);
        g_key_u32(b, key, rows[i].v);
    }
    g_str(b, "tokenizer.ggml.tokens");
    g_u32(b, 9);
    g_u32(b, 8);
    g_u64(b, 3);
    g_str(b, "a");
    g_str(b, "b");
    g_str(b, "c");
}

static oct_status from_gguf(oct_buf *b, oct_model_config *c, oct_err *err) {
    oct_gguf *g;
    *err = (oct_err){0};
    put_file("x.gguf", b->data, b->len);
    assert_int_equal(oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &g, err), OCT_OK);
    const oct_status status = oct_model_config_from_gguf(g, c, err);
    oct_gguf_close(g);
    oct_buf_clear(b);
    return status;
}

static void gguf_hyperparameters(void **state) {
    (void)state;
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    base_values(&b, "llama", 6);
    g_key_f32(&b, "llama.rope.freq_base", 500000);
    g_key_f32(&b, "llama.attention.layer_norm_rms_epsilon", 0.5f);
    g_key_str(&b, "llama.rope.scaling.type", "yarn");
    g_key_f32(&b, "llama.rope.scaling.factor", 4);
    g_key_u32(&b, "tokenizer.ggml.eos_token_id", 2);
    g_key_u32(&b, "tokenizer.ggml.eot_token_id", 2);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.family == OCT_FAMILY_LLAMA && c.n_layers == 2 && c.head_dim == 16);
    assert_true(c.vocab == 3 && c.n_kv_heads == 2 && c.max_position == 512 && c.rms_eps == 0.5);
    assert_true(c.rope.theta == 500000 && c.rope.type == OCT_ROPE_YARN && c.rope.factor == 4);
    assert_true(fabs(c.rope.attention_factor - 1.13862944) < 1e-8);
    assert_true(c.n_eos == 1 && c.eos_ids[0] == 2 && c.bos_id == -1 && c.tie_word_embeddings);
    base_values(&b, "qwen3", 1);
    g_key_u32(&b, "qwen3.attention.key_length", 32);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.family == OCT_FAMILY_QWEN3 && c.head_dim == 32 && c.qk_norm);
    oct_buf_fini(&b);
}

static void gguf_families(void **state) {
    (void)state;
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    base_values(&b, "llama", 2);
    g_key_u32(&b, "llama.expert_count", 8);
    g_key_u32(&b, "llama.expert_used_count", 2);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.family == OCT_FAMILY_MIXTRAL && c.n_experts == 8 && c.moe_intermediate == 160);
    base_values(&b, "llama", 1);
    g_key_u32(&b, "llama.expert_count", 0);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.family == OCT_FAMILY_LLAMA && c.n_experts == 0);
    base_values(&b, "gemma2", 2);
    g_key_u32(&b, "gemma2.attention.sliding_window", 8);
    g_key_f32(&b, "gemma2.final_logit_softcapping", 20);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.sliding_window == 8 && c.layer_slides[0] && !c.layer_slides[1]);
    assert_true(c.final_softcap == 20 && c.attention_softcap == 50 && c.embed_scale == 8);
    assert_false(c.norm_plus_one); /* the file's weights have the 1 */
    base_values(&b, "granite", 1);
    g_key_f32(&b, "granite.residual_scale", 0.25f);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.family == OCT_FAMILY_GRANITE && c.residual_scale == 0.25);
    base_values(&b, "gemma3", 1);
    g_key_f32(&b, "gemma3.rope.freq_base", 1000000);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.rope.theta == 1e6 && c.has_local_rope && c.local_rope.theta == 10000);
    base_values(&b, "qwen3moe", 3);
    g_key_u32(&b, "qwen3moe.expert_count", 8);
    g_key_u32(&b, "qwen3moe.expert_used_count", 9);
    g_key_u32(&b, "qwen3moe.expert_feed_forward_length", 48);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_CORRUPT);
    expect_text(&err, "got 9 of 8");
    oct_buf_fini(&b);
}

/* A file of this family with one key more. */
typedef struct more_key {
    uint32_t type; /* 4: u32, 5: i32, 6: f32, 8: string, 10: u64 */
    uint64_t whole;
    float number;
    const char *text;
} more_key;

static void refuse_key(const char *arch, const char *key, more_key v, oct_status want,
                       const char *word) {
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    base_values(&b, arch, 1);
    g_str(&b, key);
    g_u32(&b, v.type);
    if (v.type == 6)
        oct_buf_add(&b, &v.number, 4);
    else if (v.type == 8)
        g_str(&b, v.text);
    else
        oct_buf_add(&b, &v.whole, v.type == 10 ? 8 : 4);
    const oct_status got = from_gguf(&b, &c, &err);
    if (got != want) print_error("%s: %s\n", key, err.text);
    assert_int_equal(got, want);
    expect_text(&err, "x.gguf: ");
    expect_text(&err, word);
    oct_buf_fini(&b);
}
#define U32(v) ((more_key){.type = 4, .whole = (v)})
#define F32(v) ((more_key){.type = 6, .number = (v)})
#define TEXT(v) ((more_key){.type = 8, .text = (v)})

static void CF3_gguf_architecture(void **state) {
    (void)state;
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    base_values(&b, "mamba", 0);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_UNSUPPORTED);
    expect_text(&err, "architecture is not supported (got \"mamba\", want one of LlamaForCausalLM");
    g_head(&b, 3, 0, 1);
    g_key_u32(&b, "general.architecture", 3);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_UNSUPPORTED);
    expect_text(&err, "architecture");
    g_head(&b, 3, 0, 1);
    g_key_str(&b, "general.architecture", "llama");
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_CORRUPT);
    expect_text(&err, "llama.block_count is missing");
    oct_buf_fini(&b);
    refuse_key("qwen2", "qwen2.expert_count", U32(8), OCT_E_UNSUPPORTED, "8 experts");
    refuse_key("llama", "llama.expert_count", U32(8), OCT_E_CORRUPT,
               "llama.expert_used_count is missing");
    /* What else goes by the name of a family here. */
    refuse_key("olmo2", "olmo2.attention.sliding_window", U32(4096), OCT_E_UNSUPPORTED,
               "olmo2.attention.sliding_window is not supported (got 4096");
    refuse_key("glm4", "glm4.nextn_predict_layers", U32(1), OCT_E_UNSUPPORTED,
               "glm4.nextn_predict_layers is not supported (got 1");
}

/* As base_values, but with this value for one of its keys. */
static void refuse_size(const char *tail, const more_key *v, const char *word) {
    static const char *const tails[] = {
        "block_count",          "embedding_length",        "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "context_length"};
    oct_buf b;
    oct_model_config c;
    oct_err err;
    char key[64];
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 0, v ? 7 : 6);
    g_key_str(&b, "general.architecture", "llama");
    for (size_t i = 0; i < OCT_COUNT(tails); i++) {
        snprintf(key, sizeof key, "llama.%s", tails[i]);
        if (strcmp(tails[i], tail) != 0) {
            g_key_u32(&b, key, 8);
            continue;
        }
        if (!v) continue;
        g_str(&b, key);
        g_u32(&b, v->type);
        if (v->type == 6)
            oct_buf_add(&b, &v->number, 4);
        else if (v->type == 8)
            g_str(&b, v->text);
        else
            oct_buf_add(&b, &v->whole, v->type == 10 ? 8 : 4);
    }
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_CORRUPT);
    snprintf(key, sizeof key, "llama.%s", tail);
    expect_text(&err, key);
    expect_text(&err, word);
    oct_buf_fini(&b);
}

static void CF4_gguf_sizes(void **state) {
    (void)state;
    static const char *const tails[] = {
        "block_count",          "embedding_length",        "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "context_length"};
    const more_key wrong[] = {U32(0),
                              {.type = 5, .whole = (uint32_t)-1},
                              F32(1.5f),
                              F32(8),
                              TEXT("8"),
                              U32(0x80000000u),
                              {.type = 10, .whole = (uint64_t)1 << 63},
                              {.type = 10, .whole = UINT64_MAX}};
    for (size_t i = 0; i < OCT_COUNT(tails); i++) {
        for (size_t k = 0; k < OCT_COUNT(wrong); k++)
            refuse_size(tails[i], &wrong[k], "must be a whole number from 1 to ");
        if (strcmp(tails[i], "attention.head_count_kv") != 0)
            refuse_size(tails[i], NULL, "is missing");
    }
    refuse_key("llama", "llama.attention.key_length", U32(0), OCT_E_CORRUPT,
               "llama.attention.key_length must be a whole number from 1 to 512 (got 0)");
    refuse_key("llama", "llama.attention.value_length", U32(8), OCT_E_UNSUPPORTED,
               "heads of 16 keys and 8 values");
    refuse_key("qwen3moe", "qwen3moe.expert_count", U32(1u << 30), OCT_E_CORRUPT,
               "qwen3moe.expert_count must be a whole number from 1 to 4096");
}

static void CF5_gguf_relations(void **state) {
    (void)state;
    refuse_key("llama", "llama.rope.freq_base", F32(-1.5f), OCT_E_CORRUPT,
               "llama.rope.freq_base must be a number from 1e-30 to 1e9 (got -1.5)");
    refuse_key("llama", "llama.rope.freq_base", F32(0), OCT_E_CORRUPT, "llama.rope.freq_base");
    refuse_key("llama", "llama.rope.freq_base", F32(NAN), OCT_E_CORRUPT, "llama.rope.freq_base");
    refuse_key("llama", "llama.rope.freq_base", F32(INFINITY), OCT_E_CORRUPT, "freq_base");
    refuse_key("llama", "llama.attention.layer_norm_rms_epsilon", F32(0), OCT_E_CORRUPT,
               "layer_norm_rms_epsilon");
    refuse_key("llama", "llama.rope.dimension_count", U32(15), OCT_E_CORRUPT,
               "rotary size must be even, from 2 to head_dim (got 15, head_dim 16)");
    refuse_key("llama", "llama.rope.dimension_count", U32(18), OCT_E_CORRUPT, "rotary size");
    refuse_key("llama", "llama.rope.scaling.type", TEXT("longrope"), OCT_E_UNSUPPORTED,
               "llama.rope.scaling.type is not supported (got \"longrope\"");
    refuse_key("llama", "llama.rope.scaling.type", TEXT("dynamic"), OCT_E_UNSUPPORTED, "dynamic");
    refuse_key("llama", "llama.rope.scaling.factor", F32(-4), OCT_E_CORRUPT, "rope.scaling.factor");
    refuse_key("granite", "granite.residual_scale", F32(0), OCT_E_CORRUPT, "residual_scale");
    refuse_key("gemma2", "gemma2.attn_logit_softcapping", F32(-50), OCT_E_CORRUPT,
               "attn_logit_softcapping");
    refuse_key("llama", "tokenizer.ggml.bos_token_id", TEXT("one"), OCT_E_CORRUPT,
               "bos_token_id must be a token id (got \"one\")");
    refuse_key("llama", "tokenizer.ggml.eos_token_id", U32(3), OCT_E_CORRUPT,
               "eos_token_id is outside the vocabulary");
}

/* Sizes that are fine alone, of a vocabulary of three tokens. */
static void refuse_sizes(uint32_t hidden, uint32_t heads, uint32_t kv_heads, const char *word) {
    const uint32_t sizes[] = {hidden, heads, kv_heads};
    static const char *const keys[] = {"llama.embedding_length", "llama.attention.head_count",
                                       "llama.attention.head_count_kv"};
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 0, 8);
    g_key_str(&b, "general.architecture", "llama");
    g_key_u32(&b, "llama.block_count", 1);
    g_key_u32(&b, "llama.feed_forward_length", 64);
    g_key_u32(&b, "llama.context_length", 64);
    for (size_t i = 0; i < OCT_COUNT(keys); i++) g_key_u32(&b, keys[i], sizes[i]);
    g_str(&b, "tokenizer.ggml.tokens");
    g_u32(&b, 9);
    g_u32(&b, 8);
    g_u64(&b, 1);
    g_str(&b, "a");
    assert_int_equal(from_gguf(&b, &c, &err), OCT_E_CORRUPT);
    expect_text(&err, word);
    oct_buf_fini(&b);
}

static void CF5_gguf_heads(void **state) {
    (void)state;
    refuse_sizes(64, 4, 3, "num_attention_heads is not a multiple of num_key_value_heads");
    refuse_sizes(64, 3, 3, "embedding_length is not a multiple of attention.head_count");
}

static void gguf_windows_and_routing(void **state) {
    (void)state;
    static const uint8_t flags[2] = {0, 1};
    oct_buf b;
    oct_model_config c;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    base_values(&b, "phi3", 1);
    g_key_u32(&b, "phi3.attention.sliding_window", 0); /* none */
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_int_equal(c.sliding_window, 0);
    base_values(&b, "gemma3", 2);
    g_key_u32(&b, "gemma3.attention.sliding_window", 8);
    g_key_u32(&b, "gemma3.attention.sliding_window_pattern", 2);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_true(c.layer_slides[0] && !c.layer_slides[1]);
    for (uint64_t n = 1; n < 3; n++) {
        base_values(&b, "gemma3", 2);
        g_key_u32(&b, "gemma3.attention.sliding_window", 8);
        g_str(&b, "gemma3.attention.sliding_window_pattern");
        g_u32(&b, 9);
        g_u32(&b, 7);
        g_u64(&b, n);
        oct_buf_add(&b, flags, n);
        assert_int_equal(from_gguf(&b, &c, &err), n == 2 ? OCT_OK : OCT_E_CORRUPT);
        if (n == 1) expect_text(&err, "must have a value for each layer (got 1, want 2)");
    }
    assert_true(!c.layer_slides[0] && c.layer_slides[1]);
    static const struct {
        const char *key;
        uint32_t v;
        const char *word;
    } routing[] = {{"qwen3moe.expert_gating_func", 1, NULL},
                   {"qwen3moe.expert_gating_func", 2, "expert_gating_func is not supported (got 2"},
                   {"qwen3moe.expert_weights_scale", 1, NULL},
                   {"qwen3moe.expert_weights_scale", 3, "expert_weights_scale is not supported"}};
    for (size_t i = 0; i < OCT_COUNT(routing); i++) {
        base_values(&b, "qwen3moe", 3);
        g_key_u32(&b, "qwen3moe.expert_count", 8);
        g_key_u32(&b, "qwen3moe.expert_used_count", 2);
        g_key_u32(&b, routing[i].key, routing[i].v);
        const oct_status st = from_gguf(&b, &c, &err);
        assert_int_equal(st, routing[i].word ? OCT_E_UNSUPPORTED : OCT_OK);
        if (routing[i].word) expect_text(&err, routing[i].word);
    }
    base_values(&b, "qwen3moe", 3);
    g_key_u32(&b, "qwen3moe.expert_count", 8);
    g_key_u32(&b, "qwen3moe.expert_used_count", 2);
    g_str(&b, "qwen3moe.expert_weights_norm");
    g_u32(&b, 7);
    oct_buf_char(&b, 0);
    assert_int_equal(from_gguf(&b, &c, &err), OCT_OK);
    assert_false(c.norm_topk_prob);
    oct_buf_fini(&b);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(gguf_hyperparameters),  TEST(gguf_families),  TEST(gguf_windows_and_routing),
        TEST(CF3_gguf_architecture), TEST(CF4_gguf_sizes), TEST(CF5_gguf_relations),
        TEST(CF5_gguf_heads),
    };
    return cmocka_run_group_tests_name("config of GGUF", tests, NULL, NULL);
}
