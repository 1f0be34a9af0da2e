/*
 * Edges of both kinds of configuration that need more than one key: rotary tensors and vocabulary
 * of GGUF, largest models of two families, overrides of config.json, rope of two kinds (rows CF4,
 * CF5).
 */
#include "store_test.h"

#include <math.h>

#include "store/config.h"

/* ---- GGUF: keys and tensors in any number ---------------------------------------------------- */

typedef struct gguf_text {
    oct_buf keys, tensors;
    uint64_t n_keys, n_tensors, data_bytes;
} gguf_text;

static void begin(gguf_text *g, const char *arch, uint32_t layers) {
    const struct {
        const char *tail;
        uint32_t v;
    } rows[] = {{"block_count", layers},        {"embedding_length", 64},
                {"feed_forward_length", 160},   {"attention.head_count", 4},
                {"attention.head_count_kv", 2}, {"context_length", 512}};
    char key[64];
    *g = (gguf_text){.n_keys = 1 + OCT_COUNT(rows)};
    oct_buf_init(&g->keys, oct_system_allocator(), 0);
    oct_buf_init(&g->tensors, oct_system_allocator(), 0);
    g_key_str(&g->keys, "general.architecture", arch);
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, rows[i].tail);
        g_key_u32(&g->keys, key, rows[i].v);
    }
}

static void u32_key(gguf_text *g, const char *key, uint32_t v) {
    g_key_u32(&g->keys, key, v);
    g->n_keys++;
}

static void text_key(gguf_text *g, const char *key, const char *v) {
    g_key_str(&g->keys, key, v);
    g->n_keys++;
}

static void f32_key(gguf_text *g, const char *key, float v) {
    g_key_f32(&g->keys, key, v);
    g->n_keys++;
}

static void bool_key(gguf_text *g, const char *key, char v) {
    g_str(&g->keys, key);
    g_u32(&g->keys, 7);
    oct_buf_char(&g->keys, v);
    g->n_keys++;
}

/* F32 or F16 of zeros; d1 0: one dimension. Multiples of 32 bytes, but for the last. */
static void tensor(gguf_text *g, const char *name, uint64_t d0, uint64_t d1, uint32_t type) {
    g_tensor(&g->tensors, name, d0, d1, type, g->data_bytes);
    const uint64_t bytes = d0 * (d1 ? d1 : 1) * (type == 0 ? 4 : 2);
    g->data_bytes += (bytes + 31) / 32 * 32;
    g->n_tensors++;
}

/* Reads it; every number of the data is 2. */
static oct_status end(gguf_text *g, oct_model_config *c, oct_err *err) {
    const float two = 2;
    oct_gguf *file;
    oct_buf b;
    *err = (oct_err){0};
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, g->n_tensors, g->n_keys);
    oct_buf_str(&b, oct_buf_view(&g->keys));
    oct_buf_str(&b, oct_buf_view(&g->tensors));
    g_pad(&b, 32);
    for (uint64_t i = 0; i < g->data_bytes; i += 4) oct_buf_add(&b, &two, 4);
    put_file("x.gguf", b.data, b.len);
    if (oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &file, err) != OCT_OK)
        fail_msg("%s", err->text);
    const oct_status st = oct_model_config_from_gguf(file, c, err);
    oct_gguf_close(file);
    oct_buf_fini(&b);
    oct_buf_fini(&g->keys);
    oct_buf_fini(&g->tensors);
    return st;
}

static void refused_gguf(gguf_text *g, oct_status want, const char *word) {
    oct_model_config c;
    oct_err err;
    const oct_status got = end(g, &c, &err);
    if (got != want) print_error("%s\n", err.text);
    assert_int_equal(got, want);
    expect_text(&err, word);
}

static oct_model_config accepted_gguf(gguf_text *g) {
    oct_model_config c;
    oct_err err;
    if (end(g, &c, &err) != OCT_OK) fail_msg("%s", err.text);
    return c;
}

#define EMBED "token_embd.weight"

static void gguf_rotary_tensors(void **state) {
    (void)state;
    gguf_text g;
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "rope_freqs.weight", 8, 0, 0);
    oct_model_config c = accepted_gguf(&g);
    assert_true(c.rope.type == OCT_ROPE_FACTORS && c.rope.factors[7] == 2 && c.vocab == 8);
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "rope_freqs.weight", 16, 0, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "rope_freqs.weight must be F32 [8] (got F32 [16])");
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "rope_freqs.weight", 16, 0, 1);
    refused_gguf(&g, OCT_E_CORRUPT, "(got F16 [16])");
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "rope_freqs.weight", 8, 1, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "(got F32 [1])"); /* two dimensions */
    begin(&g, "llama", 1);
    text_key(&g, "llama.rope.scaling.type", "linear");
    f32_key(&g, "llama.rope.scaling.factor", 4);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "rope_freqs.weight", 8, 0, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "rope_freqs.weight together with rope.scaling.type");
}

static void gguf_longrope(void **state) {
    (void)state;
    static const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    gguf_text g;
    begin(&g, "phi3", 1);
    text_key(&g, "phi3.rope.scaling.type", "longrope");
    u32_key(&g, "phi3.rope.scaling.original_context_length", 128);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, names[0], 8, 0, 0);
    tensor(&g, names[1], 8, 0, 0);
    const oct_model_config c = accepted_gguf(&g);
    assert_true(c.rope.type == OCT_ROPE_LONG && c.rope.long_factors[0] == 2);
    assert_true(fabs(c.rope.attention_factor - sqrt(1 + log(4) / log(128))) < 1e-6);
    for (int i = 0; i < 2; i++) { /* one of them alone */
        begin(&g, "phi3", 1);
        tensor(&g, EMBED, 64, 8, 0);
        tensor(&g, names[i], 8, 0, 0);
        refused_gguf(&g, OCT_E_CORRUPT, names[1 - i]);
    }
    begin(&g, "phi3", 1);
    f32_key(&g, "phi3.rope.scale_linear", 2);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, names[0], 8, 0, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "together with other scaling");
}

static void gguf_scaling(void **state) {
    (void)state;
    gguf_text g;
    begin(&g, "llama", 1);
    f32_key(&g, "llama.rope.scale_linear", 2); /* the older spelling */
    tensor(&g, EMBED, 64, 8, 0);
    oct_model_config c = accepted_gguf(&g);
    assert_true(c.rope.type == OCT_ROPE_LINEAR && c.rope.factor == 2);
    static const char *const none[] = {"none", ""};
    for (size_t i = 0; i < OCT_COUNT(none); i++) {
        begin(&g, "llama", 1);
        text_key(&g, "llama.rope.scaling.type", none[i]);
        f32_key(&g, "llama.rope.scaling.factor", 4);
        tensor(&g, EMBED, 64, 8, 0);
        c = accepted_gguf(&g);
        assert_int_equal(c.rope.type, OCT_ROPE_DEFAULT);
    }
    begin(&g, "llama", 1);
    f32_key(&g, "llama.rope.freq_base", 3e9f);
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "freq_base must be a number from 1e-30 to 1e9");
    begin(&g, "llama", 1);
    text_key(&g, "llama.rope.freq_base", "a text of more than thirty-two bytes");
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "(got \"a text of more than thirty-two b\")");
    for (char on = 0; on < 2; on++) {
        begin(&g, "llama", 1);
        bool_key(&g, "tokenizer.ggml.bos_token_id", on);
        tensor(&g, EMBED, 64, 8, 0);
        refused_gguf(&g, OCT_E_CORRUPT, on ? "(got true)" : "(got false)");
    }
    begin(&g, "llama", 1);
    u32_key(&g, "tokenizer.ggml.bos_token_id", UINT32_MAX);
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "must be a token id");
}

static void gguf_vocabulary(void **state) {
    (void)state;
    gguf_text g;
    begin(&g, "llama", 1);
    refused_gguf(&g, OCT_E_CORRUPT, "token_embd.weight is missing");
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 64, 0, 0); /* no matrix, and no tokens */
    refused_gguf(&g, OCT_E_CORRUPT, "vocabulary of 0 tokens");
    begin(&g, "llama", 1);
    tensor(&g, EMBED, 1, OCT_MAX_VOCAB + 1, 1);
    refused_gguf(&g, OCT_E_CORRUPT, "vocabulary of ");
    begin(&g, "llama", 1);
    g_str(&g.keys, "tokenizer.ggml.tokens");
    g_u32(&g.keys, 9);
    g_u32(&g.keys, 8);
    g_u64(&g.keys, 2);
    g_str(&g.keys, "a");
    g_str(&g.keys, "b");
    g.n_keys++;
    tensor(&g, EMBED, 64, 1, 0);
    tensor(&g, "output.weight", 64, 1, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "more entries than token_embd.weight has rows (got 2 and 1)");
    begin(&g, "llama", 1);
    u32_key(&g, "llama.nextn_predict_layers", 0);
    tensor(&g, EMBED, 64, 8, 0);
    accepted_gguf(&g);
}

static void gguf_families_at_their_edges(void **state) {
    (void)state;
    gguf_text g;
    begin(&g, "gemma2", 46); /* the largest: scaled by hidden / heads, whatever the head */
    u32_key(&g, "gemma2.attention.key_length", 32);
    u32_key(&g, "gemma2.attention.value_length", 32);
    tensor(&g, EMBED, 64, 8, 0);
    oct_model_config c = accepted_gguf(&g);
    assert_true(fabs(c.attention_scale - 0.25) < 1e-12);
    begin(&g, "gemma3", 62);
    u32_key(&g, "gemma3.attention.key_length", 32);
    u32_key(&g, "gemma3.attention.value_length", 32);
    tensor(&g, EMBED, 64, 8, 0);
    c = accepted_gguf(&g);
    assert_true(fabs(c.attention_scale - 0.25) < 1e-12);
    begin(&g, "gemma3", 2);
    u32_key(&g, "gemma3.attention.sliding_window", 8);
    g_str(&g.keys, "gemma3.attention.sliding_window_pattern");
    g_u32(&g.keys, 9);
    g_u32(&g.keys, 5);
    g_u64(&g.keys, 2);
    g_u32(&g.keys, 1);
    g_u32(&g.keys, 2);
    g.n_keys++;
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_CORRUPT, "sliding_window_pattern[1] is neither true nor false");
    begin(&g, "qwen2", 1);
    u32_key(&g, "qwen2.attention.sliding_window", 8);
    tensor(&g, EMBED, 64, 8, 0);
    c = accepted_gguf(&g);
    assert_int_equal(c.sliding_window, 0);
    begin(&g, "olmo2", 1);
    u32_key(&g, "olmo2.attention.sliding_window", 8);
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "OLMo 3");
    begin(&g, "qwen3", 1);
    u32_key(&g, "qwen3.expert_count", 4);
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "4 experts");
    for (uint32_t told = 0; told < 2; told++) { /* what shared experts are wide: told, or seen */
        begin(&g, "qwen2moe", 1);
        u32_key(&g, "qwen2moe.expert_count", 4);
        u32_key(&g, "qwen2moe.expert_used_count", 2);
        if (told) u32_key(&g, "qwen2moe.expert_shared_feed_forward_length", 24);
        tensor(&g, EMBED, 64, 8, 0);
        tensor(&g, "blk.0.ffn_up_shexp.weight", 64, 16, 0);
        c = accepted_gguf(&g);
        assert_int_equal(c.shared_intermediate, told ? 24 : 16);
    }
    begin(&g, "qwen2moe", 1);
    u32_key(&g, "qwen2moe.expert_count", 4);
    u32_key(&g, "qwen2moe.expert_used_count", 2);
    f32_key(&g, "qwen2moe.expert_weights_scale", 0);
    u32_key(&g, "qwen2moe.expert_gating_func", 0);
    tensor(&g, EMBED, 64, 8, 0);
    tensor(&g, "blk.0.ffn_up_shexp.weight", 64, 0, 0);
    c = accepted_gguf(&g);
    assert_true(c.shared_intermediate == 0 && !c.shared_gate);
    begin(&g, "minimax-m2", 1);
    u32_key(&g, "minimax-m2.expert_count", 4);
    u32_key(&g, "minimax-m2.expert_used_count", 2);
    u32_key(&g, "minimax-m2.expert_gating_func", 1);
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "expert_gating_func is not supported (got 1, want 2)");
    begin(&g, "qwen2moe", 1);
    u32_key(&g, "qwen2moe.expert_count", 4);
    u32_key(&g, "qwen2moe.expert_used_count", 2);
    text_key(&g, "qwen2moe.expert_gating_func", "softmax");
    tensor(&g, EMBED, 64, 8, 0);
    refused_gguf(&g, OCT_E_UNSUPPORTED, "(got \"softmax\", want 1)");
}

/* ---- config.json ----------------------------------------------------------------------------- */

#define SIZES                                                               \
    "\"hidden_size\":64,\"intermediate_size\":160,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":4,\"vocab_size\":256"
#define MODEL(type) "{\"model_type\":\"" type "\"," SIZES

static void refused(const char *text, oct_status want, const char *word) {
    oct_model_config c;
    oct_err err = {0};
    const oct_status got = oct_model_config_parse(oct_str_of(text), "config.json", &c, &err);
    if (got != want) print_error("%s: %s\n", text, err.text);
    assert_int_equal(got, want);
    expect_text(&err, word);
}

static oct_model_config accepted(const char *text) {
    oct_model_config c;
    oct_err err = {0};
    if (oct_model_config_parse(oct_str_of(text), "config.json", &c, &err) != OCT_OK)
        fail_msg("%s: %s", text, err.text);
    oct_model_config_fini(&c);
    return c;
}

static void CF5_rope(void **state) {
    (void)state;
    const oct_status bad = OCT_E_CORRUPT, no = OCT_E_UNSUPPORTED;
    refused(MODEL("llama") ",\"head_dim\":2,\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}",
            bad, "dynamic rope of 2 rotated dimensions");
    refused(MODEL("llama") ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":0.5}}", bad,
            "dynamic rope factor is below 1 (got 0.5)");
    refused(MODEL("llama") ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2,\"alpha\":1}}", no,
            "rope alpha");
    refused(MODEL("llama") ",\"rope_theta\":1,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}}",
            bad, "rope_theta must be above 1 with yarn");
    refused(MODEL("llama") ",\"rotary_dim\":1}", bad, "rotary size must be even");
    refused(MODEL("llama") ",\"rotary_dim\":3}", bad, "rotary size must be even");
    refused(
        MODEL("phi3") ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,"
                      "\"1\"],\"long_factor\":[1,1,1,1,1,1,1,1]}}",
        bad, "short_factor[7] must be a number above 0 (got \"1\")");
    refused(
        MODEL("phi3") ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,"
                      "1e300],\"long_factor\":[1,1,1,1,1,1,1,1]}}",
        bad, "short_factor[7]");
#define BOTH(full, slides) \
    MODEL("gemma3_text")   \
    ",\"rope_parameters\":{\"full_attention\":" full ",\"sliding_attention\":" slides "}}"
    refused(BOTH("{\"rope_theta\":1e6}", "{\"rope_type\":\"dynamic\",\"factor\":2}"), no,
            "rope_parameters of sliding_attention");
    refused(BOTH("{\"rope_theta\":1e6}", "{\"partial_rotary_factor\":0.5}"), no,
            "rope_parameters of sliding_attention");
    oct_model_config c = accepted(
        MODEL("gemma3_text") ",\"rope_parameters\":{\"sliding_attention\":{\"rope_theta\":7}}}");
    assert_true(c.rope.theta == 7 && !c.has_local_rope);
    /* A family without a local theta of its own, told apart. */
    c = accepted(MODEL("llama") ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":5},"
                                "\"sliding_attention\":{\"partial_rotary_factor\":1}}}");
    assert_true(c.has_local_rope && c.rope.theta == 5 && c.local_rope.theta == 10000);
    c = accepted(MODEL("llama") ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1}}");
    assert_true(fabs(c.rope.attention_factor - (0.1 * log(2) + 1)) < 1e-12);
    c = accepted(MODEL("llama") ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1,"
                                "\"mscale_all_dim\":1}}");
    assert_true(c.rope.attention_factor == 1);
    c = accepted(MODEL("llama") ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":1e9}}");
    assert_int_equal(c.max_position, 2048); /* farther than any model reaches: left alone */
    c = accepted(MODEL("phi3") ",\"original_max_position_embeddings\":1,\"rope_scaling\":{\"type\":"
                               "\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[1,"
                               "1,1,1,1,1,1,1]}}");
    assert_true(c.rope.attention_factor == 1); /* no logarithm of 1 */
}

static void CF4_heads_and_names(void **state) {
    (void)state;
    refused("{\"model_type\":\"llama\",\"hidden_size\":4096,\"intermediate_size\":8,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"vocab_size\":8}",
            OCT_E_CORRUPT, "hidden_size / num_attention_heads is 4096");
    refused(MODEL("llama") ",\"hidden_act\":\"gelu\"}", OCT_E_UNSUPPORTED, "hidden_act");
    accepted(MODEL("llama") ",\"hidden_act\":\"swish\"}");
    refused(MODEL("gemma2") ",\"hidden_activation\":\"swish\"}", OCT_E_UNSUPPORTED,
            "hidden_activation");
    refused(MODEL("mixtral") ",\"num_local_experts\":4,\"num_experts_per_tok\":0}", OCT_E_CORRUPT,
            "num_experts_per_tok");
    refused(MODEL("llama") ",\"eos_token_id\":-3}", OCT_E_CORRUPT, "eos_token_id");
    refused(MODEL("llama") ",\"eos_token_id\":4294967296}", OCT_E_CORRUPT, "eos_token_id");
}

/* Whatever else is right: a text where a number or a flag belongs is told by its key. */
static void CF4_every_key_of_json(void **state) {
    (void)state;
#define ONES "[1,1,1,1,1,1,1,1]"
    static const struct {
        const char *type,
            *rope;        /* what comes before the key in rope_scaling; NULL: a key of the top */
        const char *keys; /* separated by blanks */
    } rows[] = {
        {"llama", NULL,
         "rope_theta partial_rotary_factor rotary_dim rms_norm_eps tie_word_embeddings head_dim "
         "attention_bias mlp_bias num_key_value_heads max_position_embeddings num_hidden_layers "
         "hidden_size intermediate_size num_attention_heads vocab_size hidden_act rope_scaling"},
        {"qwen2", NULL, "qkv_bias use_sliding_window sliding_window max_window_layers"},
        {"qwen3", NULL, "use_qk_norm layer_types"},
        {"gemma2", NULL, "query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping"},
        {"gemma3_text", NULL, "rope_local_base_freq sliding_window_pattern"},
        {"granite", NULL,
         "embedding_multiplier attention_multiplier residual_multiplier logits_scaling"},
        {"llama", "\"type\":\"linear\"", "factor rope_theta partial_rotary_factor"},
        {"llama", "\"type\":\"dynamic\"", "factor"},
        {"llama", "\"type\":\"yarn\",\"factor\":2",
         "beta_fast beta_slow truncate mscale mscale_all_dim attention_factor "
         "original_max_position_embeddings"},
        {"llama", "\"type\":\"llama3\",\"factor\":2", "low_freq_factor"},
        {"llama", "\"type\":\"llama3\",\"factor\":2,\"low_freq_factor\":1", "high_freq_factor"},
        {"phi3", "\"type\":\"longrope\"", "short_factor"},
        {"phi3", "\"type\":\"longrope\",\"short_factor\":" ONES, "long_factor"},
        {"phi3", "\"type\":\"longrope\",\"short_factor\":" ONES ",\"long_factor\":" ONES,
         "factor attention_factor"},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char keys[512], *rest = keys;
        snprintf(keys, sizeof keys, "%s", rows[i].keys);
        for (char *key; (key = strsep(&rest, " "));) {
            char text[1024];
            /* Of a key that is there twice the last one counts. */
            if (rows[i].rope)
                snprintf(text, sizeof text,
                         "{\"model_type\":\"%s\"," SIZES ",\"rope_scaling\":{%s,\"%s\":\"x\"}}",
                         rows[i].type, rows[i].rope, key);
            else
                snprintf(text, sizeof text, "{\"model_type\":\"%s\"," SIZES ",\"%s\":\"x\"}",
                         rows[i].type, key);
            oct_model_config c;
            oct_err err = {0};
            const oct_status st = oct_model_config_parse(oct_str_of(text), "config.json", &c, &err);
            if (st == OCT_OK) print_error("taken: %s\n", text);
            assert_true(st == OCT_E_CORRUPT || st == OCT_E_UNSUPPORTED);
            expect_text(&err, key);
        }
    }
}

static void CF4_every_key_of_gguf(void **state) {
    (void)state;
    static const struct {
        const char *arch, *keys;
    } rows[] = {
        {"llama", "attention.key_length attention.value_length rope.freq_base rope.dimension_count "
                  "rope.scale_linear rope.scaling.factor attention.layer_norm_rms_epsilon"},
        {"gemma2", "attn_logit_softcapping final_logit_softcapping attention.sliding_window"},
        {"gemma3", "rope.freq_base_swa"},
        {"granite", "embedding_scale attention.scale residual_scale logit_scale"},
    };
    static const char *const yarn[] = {"yarn_beta_fast", "yarn_beta_slow", "attn_factor",
                                       "yarn_attn_factor", "original_context_length"};
    gguf_text g;
    char full[128];
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char keys[512], *rest = keys;
        snprintf(keys, sizeof keys, "%s", rows[i].keys);
        for (char *key; (key = strsep(&rest, " "));) {
            begin(&g, rows[i].arch, 1);
            snprintf(full, sizeof full, "%s.%s", rows[i].arch, key);
            text_key(&g, full, "x");
            tensor(&g, EMBED, 64, 8, 0);
            refused_gguf(&g, OCT_E_CORRUPT, full);
        }
    }
    for (size_t i = 0; i < OCT_COUNT(yarn); i++) {
        begin(&g, "llama", 1);
        text_key(&g, "llama.rope.scaling.type", "yarn");
        f32_key(&g, "llama.rope.scaling.factor", 2);
        snprintf(full, sizeof full, "llama.rope.scaling.%s", yarn[i]);
        text_key(&g, full, "x");
        tensor(&g, EMBED, 64, 8, 0);
        refused_gguf(&g, OCT_E_CORRUPT, full);
    }
    static const char *const moe[] = {"expert_feed_forward_length",
                                      "expert_shared_feed_forward_length"};
    for (size_t i = 0; i < OCT_COUNT(moe); i++) {
        begin(&g, "qwen2moe", 1);
        u32_key(&g, "qwen2moe.expert_count", 4);
        u32_key(&g, "qwen2moe.expert_used_count", 2);
        snprintf(full, sizeof full, "qwen2moe.%s", moe[i]);
        text_key(&g, full, "x");
        tensor(&g, EMBED, 64, 8, 0);
        refused_gguf(&g, OCT_E_CORRUPT, full);
    }
    static const char *const ids[] = {"bos", "eos", "eot", "eom"};
    for (size_t i = 0; i < OCT_COUNT(ids); i++) {
        begin(&g, "llama", 1);
        snprintf(full, sizeof full, "tokenizer.ggml.%s_token_id", ids[i]);
        text_key(&g, full, "x");
        tensor(&g, EMBED, 64, 8, 0);
        refused_gguf(&g, OCT_E_CORRUPT, full);
    }
}

/* Values that each fit their range and together leave that of floats, and the edges of lists. */
static void CF5_computed_values(void **state) {
    (void)state;
    refused(MODEL("granite") ",\"residual_multiplier\":1e9,\"rms_norm_eps\":1e-20}", OCT_E_CORRUPT,
            "residual_multiplier and rms_norm_eps do not fit (got 1e+09 and 1e-20)");
    refused(MODEL("granite") ",\"residual_multiplier\":1e-9,\"rms_norm_eps\":1e-6}", OCT_E_CORRUPT,
            "residual_multiplier and rms_norm_eps do not fit (got 1e-09 and 1e-06)");
    refused(MODEL("qwen3_moe") ",\"num_experts\":4,\"num_experts_per_tok\":5,"
                               "\"moe_intermediate_size\":8}",
            OCT_E_CORRUPT,
            "num_experts_per_tok must be from 1 to the number of experts (got 5 of 4)");
    refused(MODEL("gemma3_text") ",\"rope_local_base_freq\":0}", OCT_E_CORRUPT,
            "rope_local_base_freq");
    refused(
        MODEL("gemma3_text") ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"},"
                             "\"sliding_attention\":{\"rope_type\":\"yarn\",\"factor\":2,"
                             "\"rope_theta\":0.5}}}",
        OCT_E_CORRUPT, "rope_theta must be above 1 with yarn (got 0.5)");
    const oct_model_config c =
        accepted("{\"architectures\":[\"LlamaForCausalLM\"],\"text_config\":{\"auto_map\":{},"
                 "\"model_type\":\"llama\"," SIZES "}}"); /* no code is run */
    assert_int_equal(c.family, OCT_FAMILY_LLAMA);
}

static void overrides(void **state) {
    (void)state;
    static const struct {
        const char *text, *with, *want;
        oct_status status;
    } rows[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":3,\"c\":4}", "{\"a\": 1, \"b\": 3, \"c\": 4}", OCT_OK},
        {"{\"text_config\":{\"a\":1,\"b\":2}}", "{\"text_config\":{\"b\":3}}",
         "{\"text_config\": {\"a\": 1, \"b\": 3}}", OCT_OK},
        {"{\"text_config\":{\"a\":1}}", "{\"text_config\":7}", "{\"text_config\": 7}", OCT_OK},
        {"{}", "[1]", "--hf-overrides: not a JSON object (got [1])", OCT_E_INVALID},
        {"{}", "{", "--hf-overrides", OCT_E_INVALID},
        {"[]", "{}", "config.json: not a JSON object", OCT_E_CORRUPT},
        {"nonsense", "{}", "config.json", OCT_E_CORRUPT},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_buf text;
        oct_err err = {0};
        oct_buf_init(&text, oct_system_allocator(), 0);
        oct_buf_cstr(&text, rows[i].text);
        assert_int_equal(oct_model_config_override(&text, rows[i].with, &err), rows[i].status);
        if (rows[i].status == OCT_OK)
            assert_string_equal(oct_buf_cs(&text), rows[i].want);
        else
            expect_text(&err, rows[i].want);
        oct_buf_fini(&text);
    }
    /* What no longer fits its bound. */
    oct_buf small;
    oct_err err = {0};
    oct_buf_init(&small, oct_system_allocator(), 8);
    oct_buf_cstr(&small, "{}");
    assert_int_equal(oct_model_config_override(&small, "{\"a\":123456789}", &err), OCT_E_NOMEM);
    oct_buf_fini(&small);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(gguf_rotary_tensors),
        TEST(gguf_longrope),
        TEST(gguf_scaling),
        TEST(gguf_vocabulary),
        TEST(CF5_rope),
        TEST(gguf_families_at_their_edges),
        TEST(CF4_heads_and_names),
        TEST(CF5_computed_values),
        TEST(overrides),
        TEST(CF4_every_key_of_json),
        TEST(CF4_every_key_of_gguf),
    };
    return cmocka_run_group_tests_name("edges of configurations", tests, NULL, NULL);
}
