/* config.json and generation_config.json: both spellings, rows CF1 to CF6. */
#include "store_test.h"

#include <math.h>
#include <time.h>

#include "store/config.h"
#include "store/generation_config.h"

#define SIZES                                                               \
    "\"hidden_size\":64,\"intermediate_size\":160,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":4,\"vocab_size\":256"
#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," SIZES

static oct_status parse(const char *text, oct_model_config *c, oct_err *err) {
    *err = (oct_err){0};
    return oct_model_config_parse(oct_str_of(text), "config.json", c, err);
}

static void accept(const char *text, oct_model_config *c) {
    oct_err err;
    if (parse(text, c, &err) != OCT_OK) {
        print_error("refused: %s\n%s\n", text, err.text);
        fail();
    }
    oct_model_config_fini(c);
}

static void refuse(const char *text, oct_status want, const char *word) {
    oct_model_config c;
    oct_err err;
    const oct_status status = parse(text, &c, &err);
    if (status != want) print_error("%s: %s\n", text, err.text);
    assert_int_equal(status, want);
    assert_null(c.quantization_config);
    expect_text(&err, "config.json");
    expect_text(&err, word);
}

static void defaults_and_old_spelling(void **state) {
    (void)state;
    oct_model_config c;
    accept("{" LLAMA "}", &c);
    assert_int_equal(c.family, OCT_FAMILY_LLAMA);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.rope.type, OCT_ROPE_DEFAULT);
    assert_true(c.rope.theta == 10000 && c.rope.rotary_dim == 16 && c.rope.attention_factor == 1);
    assert_true(c.rms_eps == 1e-6 && c.bos_id == -1 && c.n_eos == 0);
    assert_false(c.tie_word_embeddings || c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm);
    accept("{" LLAMA ",\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\","
           "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
           "\"original_max_position_embeddings\":32},\"head_dim\":32,\"num_key_value_heads\":2,"
           "\"attention_bias\":true,\"mlp_bias\":true,\"tie_word_embeddings\":true,"
           "\"bos_token_id\":1,\"eos_token_id\":[2,3],\"torch_dtype\":\"bfloat16\"}",
           &c);
    assert_int_equal(c.rope.type, OCT_ROPE_LLAMA3);
    assert_true(c.rope.theta == 500000 && c.rope.factor == 8 && c.rope.high_freq_factor == 4);
    assert_int_equal(c.rope.original_max_position, 32);
    assert_true(c.qkv_bias && c.o_bias && c.mlp_bias && c.tie_word_embeddings);
    assert_true(c.head_dim == 32 && c.n_kv_heads == 2 && c.bos_id == 1);
    assert_true(c.n_eos == 2 && c.eos_ids[1] == 3);
}

static void newer_spelling(void **state) {
    (void)state;
    oct_model_config c;
    accept("{\"architectures\":[\"Qwen3ForCausalLM\"],\"dtype\":\"bfloat16\"," SIZES
           ",\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_type\":\"linear\",\"factor\":2},"
           "\"layer_types\":[\"full_attention\",\"sliding_attention\"],\"use_sliding_window\":true,"
           "\"sliding_window\":16,\"head_dim\":32}",
           &c);
    assert_int_equal(c.family, OCT_FAMILY_QWEN3);
    assert_true(c.rope.theta == 1e6 && c.rope.type == OCT_ROPE_LINEAR && c.rope.factor == 2);
    assert_true(c.qk_norm && c.sliding_window == 16 && !c.layer_slides[0] && c.layer_slides[1]);
    accept(
        "{\"model_type\":\"qwen2\"," SIZES
        ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":5000,\"rope_type\":\"default\"}},"
        "\"sliding_window\":32768,\"use_sliding_window\":false}",
        &c);
    assert_int_equal(c.family, OCT_FAMILY_QWEN2);
    assert_true(c.rope.theta == 5000 && c.qkv_bias && !c.o_bias && c.sliding_window == 0);
    accept(
        "{\"architectures\":[\"Qwen2ForCausalLM\"],\"text_config\":{\"model_type\":\"qwen2\"," SIZES
        ",\"max_window_layers\":1,\"use_sliding_window\":true,\"sliding_window\":8},"
        "\"eos_token_id\":7}",
        &c);
    assert_true(c.n_eos == 1 && c.eos_ids[0] == 7 && !c.layer_slides[0] && c.layer_slides[1]);
}

static void yarn_attention_factor(void **state) {
    (void)state;
    oct_model_config c;
    accept("{" LLAMA ",\"max_position_embeddings\":64,\"rope_scaling\":{\"type\":\"yarn\","
           "\"factor\":4,\"original_max_position_embeddings\":32}}",
           &c);
    assert_true(c.rope.type == OCT_ROPE_YARN && fabs(c.rope.attention_factor - 1.13862944) < 1e-8);
    assert_true(c.rope.beta_fast == 32 && c.rope.beta_slow == 1 && c.rope.truncate);
    assert_int_equal(c.max_position, 128);
    accept("{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":1,"
           "\"mscale_all_dim\":1,\"truncate\":false}}",
           &c);
    assert_true(c.rope.attention_factor == 1 && !c.rope.truncate);
    accept("{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attention_factor\":0.5}}",
           &c);
    assert_true(c.rope.attention_factor == 0.5);
}

/* ---- families ------------------------------------------------------------------------------- */

#define MODEL(type) "{\"model_type\":\"" type "\"," SIZES

static uint32_t n_slides(const oct_model_config *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_layers; i++) n += c->layer_slides[i];
    return n;
}

static void windows_by_family(void **state) {
    (void)state;
    oct_model_config c;
    accept(MODEL("mistral") ",\"sliding_window\":16}", &c);
    assert_true(c.sliding_window == 16 && n_slides(&c) == 2);
    accept(MODEL("mistral") ",\"sliding_window\":null}", &c);
    assert_true(c.sliding_window == 0 && n_slides(&c) == 0);
    accept(MODEL("mistral") "}", &c); /* what the family means by saying nothing */
    assert_int_equal(c.sliding_window, 4096);
    accept(MODEL("phi3") "}", &c);
    assert_int_equal(c.sliding_window, 0);
    accept(MODEL("gemma2") "}", &c);
    assert_true(c.sliding_window == 4096 && c.layer_slides[0] && !c.layer_slides[1]);
    accept(MODEL("gemma3_text") ",\"sliding_window_pattern\":2,\"sliding_window\":8}", &c);
    assert_true(c.sliding_window == 8 && c.layer_slides[0] && !c.layer_slides[1]);
    accept(MODEL("gemma2") ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", &c);
    assert_true(!c.layer_slides[0] && c.layer_slides[1]);
}

static void factors_and_caps_by_family(void **state) {
    (void)state;
    oct_model_config c;
    accept(MODEL("llama") "}", &c);
    assert_true(c.embed_scale == 1 && c.residual_scale == 1 && c.logits_scale == 1);
    assert_true(c.attention_scale == 0.25 && c.attention_softcap == 0 && c.final_softcap == 0);
    accept(MODEL("gemma2") ",\"query_pre_attn_scalar\":64}", &c);
    assert_true(c.embed_scale == 8 && c.attention_scale == 0.125 && c.norm_plus_one);
    assert_true(c.attention_softcap == 50 && c.final_softcap == 30 && c.tie_word_embeddings);
    accept(MODEL("gemma2") ",\"attn_logit_softcapping\":null,\"final_logit_softcapping\":20}", &c);
    assert_true(c.attention_softcap == 0 && c.final_softcap == 20);
    accept(MODEL("granite") ",\"embedding_multiplier\":12,\"attention_multiplier\":0.0625,"
                            "\"residual_multiplier\":0.22,\"logits_scaling\":8}",
           &c);
    assert_true(c.embed_scale == 12 && c.attention_scale == 0.0625 && c.residual_scale == 0.22 &&
                c.logits_scale == 0.125);
    accept(MODEL("glm4") ",\"attention_bias\":true,\"head_dim\":16}", &c);
    assert_true(c.rope.rotary_dim == 8 && c.qkv_bias && !c.o_bias && c.rms_eps == 1.5625e-7);
    accept(MODEL("olmo2") "}", &c);
    assert_true(c.qk_norm && c.rms_eps == 1e-5);
}

static void two_rotary_embeddings(void **state) {
    (void)state;
    oct_model_config c;
    accept(MODEL("gemma3_text") ",\"rope_theta\":1e6,\"rope_local_base_freq\":5000,"
                                "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}}",
           &c);
    assert_true(c.rope.theta == 1e6 && c.rope.type == OCT_ROPE_LINEAR && c.rope.factor == 8);
    assert_true(c.has_local_rope && c.local_rope.theta == 5000);
    assert_true(c.local_rope.type == OCT_ROPE_DEFAULT && c.local_rope.rotary_dim == 256);
    accept(MODEL("gemma3_text") ",\"rope_parameters\":{"
                                "\"full_attention\":{\"rope_theta\":1e6,\"rope_type\":\"default\"},"
                                "\"sliding_attention\":{\"rope_theta\":7,\"rope_type\":\"linear\","
                                "\"factor\":2}}}",
           &c);
    assert_true(c.rope.theta == 1e6 && c.has_local_rope && c.local_rope.theta == 7);
    assert_true(c.local_rope.type == OCT_ROPE_LINEAR && c.local_rope.factor == 2);
    accept(
        MODEL("gemma3_text") ",\"rope_parameters\":{"
                             "\"full_attention\":{\"rope_theta\":9,\"rope_type\":\"default\"},"
                             "\"sliding_attention\":{\"rope_theta\":9,\"rope_type\":\"default\"}}}",
        &c);
    assert_true(!c.has_local_rope && c.rope.theta == 9);
    refuse(MODEL("gemma3_text") ",\"rope_local_base_freq\":0}", OCT_E_CORRUPT,
           "rope_local_base_freq");
}

#define LONG_FACTORS "\"short_factor\":[1,1,1,1,1,1,1,1.5],\"long_factor\":[2,2,2,2,2,2,2,4]"

static void longrope_factors(void **state) {
    (void)state;
    oct_model_config c;
    accept(MODEL("phi3") ",\"max_position_embeddings\":512,\"original_max_position_embeddings\":64,"
                         "\"rope_scaling\":{\"type\":\"longrope\"," LONG_FACTORS "}}",
           &c);
    assert_true(c.rope.type == OCT_ROPE_LONG && c.rope.original_max_position == 64);
    assert_true(c.rope.factors[7] == 1.5f && c.rope.long_factors[7] == 4);
    assert_true(fabs(c.rope.attention_factor - sqrt(1.5)) < 1e-12); /* ln 8 / ln 64 is 1/2 */
    accept(MODEL("phi3") ",\"rope_parameters\":{\"rope_type\":\"longrope\",\"rope_theta\":9,"
                         "\"original_max_position_embeddings\":64,\"attention_factor\":1."
                         "25," LONG_FACTORS "}}",
           &c);
    assert_true(c.rope.attention_factor == 1.25 && c.rope.theta == 9);
}

#define MIXTURE ",\"num_local_experts\":4,\"num_experts_per_tok\":2"
#define EXPERTS ",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":48"

static void experts_by_family(void **state) {
    (void)state;
    oct_model_config c;
    accept(MODEL("mixtral") MIXTURE "}", &c);
    assert_true(c.n_experts == 4 && c.n_experts_used == 2 && c.moe_intermediate == 160);
    assert_true(c.norm_topk_prob && !c.router_sigmoid && c.layer_is_moe[0] && c.layer_is_moe[1]);
    assert_int_equal(c.sliding_window, 0);
    accept(MODEL("qwen3_moe") EXPERTS ",\"norm_topk_prob\":true,\"mlp_only_layers\":[0]}", &c);
    assert_true(c.n_experts == 8 && c.moe_intermediate == 48 && c.norm_topk_prob && c.qk_norm);
    assert_true(!c.layer_is_moe[0] && c.layer_is_moe[1] && c.shared_intermediate == 0);
    accept(MODEL("qwen3_moe") EXPERTS ",\"decoder_sparse_step\":2}", &c);
    assert_true(!c.layer_is_moe[0] && c.layer_is_moe[1] && !c.norm_topk_prob);
    accept(MODEL("qwen2_moe") EXPERTS ",\"shared_expert_intermediate_size\":96,"
                                      "\"use_sliding_window\":true,\"sliding_window\":8,"
                                      "\"max_window_layers\":2}",
           &c);
    assert_true(c.shared_intermediate == 96 && c.shared_gate && c.qkv_bias);
    assert_true(c.layer_slides[0] && !c.layer_slides[1]);
    accept(MODEL("minimax_m2") MIXTURE ",\"head_dim\":32,\"rotary_dim\":16,\"use_qk_norm\":true,"
                                       "\"scoring_func\":\"sigmoid\",\"use_routing_bias\":true}",
           &c);
    assert_true(c.router_sigmoid && c.router_bias && c.norm_topk_prob && c.qk_norm);
    assert_int_equal(c.rope.rotary_dim, 16);
}

static void CF4_sizes_of_experts(void **state) {
    (void)state;
    static const char *const keys[] = {"num_experts", "num_experts_per_tok",
                                       "moe_intermediate_size", "shared_expert_intermediate_size"};
    static const char *const bad[] = {"0", "-1", "1.5", "\"4\"", "2147483648", "1e300", "[]"};
    static const char *const good[] = {"8", "2", "48", "96"};
    char text[768];
    for (size_t k = 0; k < OCT_COUNT(keys); k++)
        for (size_t i = 0; i < OCT_COUNT(bad) + 1; i++) {
            size_t at = (size_t)snprintf(text, sizeof text, "%s", MODEL("qwen2_moe"));
            for (size_t j = 0; j < OCT_COUNT(keys); j++) {
                if (j == k && i == OCT_COUNT(bad)) continue; /* missing */
                at += (size_t)snprintf(text + at, sizeof text - at, ",\"%s\":%s", keys[j],
                                       j == k ? bad[i] : good[j]);
            }
            snprintf(text + at, sizeof text - at, "}");
            refuse(text, OCT_E_CORRUPT, keys[k]);
        }
}

static void CF5_families(void **state) {
    (void)state;
    static const struct {
        const char *text, *word;
        oct_status status;
    } rows[] = {
        {MODEL("mixtral") ",\"num_local_experts\":4,\"num_experts_per_tok\":5}",
         "num_experts_per_tok must be from 1 to the number of experts (got 5 of 4)", OCT_E_CORRUPT},
        {MODEL("mixtral") ",\"num_local_experts\":128,\"num_experts_per_tok\":65}",
         "num_experts_per_tok is too large (got 65, want at most 64)", OCT_E_UNSUPPORTED},
        {MODEL("mixtral") ",\"num_local_experts\":5000,\"num_experts_per_tok\":2}",
         "num_local_experts", OCT_E_CORRUPT},
        {MODEL("qwen3_moe") EXPERTS ",\"mlp_only_layers\":[2]}", "mlp_only_layers[0]",
         OCT_E_CORRUPT},
        {MODEL("qwen3_moe") EXPERTS ",\"mlp_only_layers\":[1,-1]}", "mlp_only_layers[1]",
         OCT_E_CORRUPT},
        {MODEL("qwen3_moe") EXPERTS ",\"mlp_only_layers\":1}", "mlp_only_layers", OCT_E_CORRUPT},
        {MODEL("qwen3_moe") EXPERTS ",\"decoder_sparse_step\":0}", "decoder_sparse_step",
         OCT_E_CORRUPT},
        {MODEL("qwen3_moe") EXPERTS ",\"norm_topk_prob\":1}", "norm_topk_prob", OCT_E_CORRUPT},
        {MODEL("minimax_m2") MIXTURE ",\"scoring_func\":\"softmax\"}", "\"softmax\"",
         OCT_E_UNSUPPORTED},
        {MODEL("minimax_m2") MIXTURE ",\"qk_norm_type\":\"per_head\"}", "\"per_head\"",
         OCT_E_UNSUPPORTED},
        {MODEL("minimax_m2") MIXTURE ",\"shared_intermediate_size\":32}",
         "shared_intermediate_size", OCT_E_UNSUPPORTED},
        {MODEL("gemma2") ",\"query_pre_attn_scalar\":0}", "query_pre_attn_scalar", OCT_E_CORRUPT},
        {MODEL("gemma2") ",\"final_logit_softcapping\":-1}", "final_logit_softcapping",
         OCT_E_CORRUPT},
        {MODEL("gemma2") ",\"attn_logit_softcapping\":NaN}", "attn_logit_softcapping",
         OCT_E_CORRUPT},
        {MODEL("gemma2") ",\"hidden_activation\":\"silu\"}", "hidden_activation",
         OCT_E_UNSUPPORTED},
        {MODEL("gemma3_text") ",\"sliding_window_pattern\":0}", "sliding_window_pattern",
         OCT_E_CORRUPT},
        {MODEL("granite") ",\"residual_multiplier\":0}", "residual_multiplier", OCT_E_CORRUPT},
        {MODEL("granite") ",\"residual_multiplier\":1e-20}", "residual_multiplier", OCT_E_CORRUPT},
        {MODEL("granite") ",\"logits_scaling\":-8}", "logits_scaling", OCT_E_CORRUPT},
        {MODEL("mistral") ",\"sliding_window\":-1}", "sliding_window", OCT_E_CORRUPT},
        {MODEL("phi3") ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1],"
                       "\"long_factor\":[1]}}",
         "short_factor must have 8 numbers", OCT_E_CORRUPT},
        {MODEL("phi3") ",\"rope_scaling\":{\"type\":\"longrope\","
                       "\"short_factor\":[1,1,1,0,1,1,1,1],\"long_factor\":[1,1,1,1,1,1,1,1]}}",
         "short_factor[3]", OCT_E_CORRUPT},
        {MODEL("phi3") ",\"rope_scaling\":{\"type\":\"longrope\",\"factor\":-1," LONG_FACTORS "}}",
         "factor", OCT_E_CORRUPT},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) refuse(rows[i].text, rows[i].status, rows[i].word);
}

static void CF1_not_json(void **state) {
    (void)state;
    static const char *const texts[] = {"",     "{",   "{\"a\":1}x",       "nul",
                                        "[1,]", "{}}", "{\"a\":\"\xff\"}", "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < OCT_COUNT(texts); i++) refuse(texts[i], OCT_E_CORRUPT, "byte");
    refuse("[1]", OCT_E_CORRUPT, "not a JSON object");
    refuse("{" LLAMA ",\"rope_theta\":NaN}", OCT_E_CORRUPT, "rope_theta");
    refuse("{" LLAMA ",\"rms_norm_eps\":Infinity}", OCT_E_CORRUPT, "rms_norm_eps");
    oct_model_config c;
    accept("{" LLAMA ",\"unused\":NaN,\"hidden_act\":\"silu\",\"hidden_act\":\"silu\"}", &c);
}

static void CF2_deep_wide_and_large(void **state) {
    (void)state;
    oct_model_config c;
    oct_err err;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    for (int i = 0; i < 1000000; i++) oct_buf_char(&b, '[');
    const clock_t start = clock(); /* of this process: the machine may be busy */
    assert_int_equal(parse(oct_buf_cs(&b), &c, &err), OCT_E_CORRUPT);
    expect_text(&err, "byte");
    oct_buf_clear(&b);
    oct_buf_char(&b, '{');
    for (int i = 0; i < 1000000; i++) oct_buf_printf(&b, "\"k%d\":1,", i);
    oct_buf_cstr(&b, "\"z\":1}");
    assert_int_equal(parse(oct_buf_cs(&b), &c, &err), OCT_E_UNSUPPORTED);
    oct_buf_clear(&b);
    oct_buf_char(&b, '"');
    assert_true(oct_buf_reserve(&b, 20 << 20));
    memset(b.data + 1, 'x', 17 << 20);
    b.len += 17 << 20;
    assert_int_equal(oct_model_config_parse(oct_buf_view(&b), "config.json", &c, &err),
                     OCT_E_CORRUPT);
    oct_buf_fini(&b);
    assert_true(clock() - start < 20 * CLOCKS_PER_SEC); /* sanitizers slow it down */
}

static void CF3_architectures_and_remote_code(void **state) {
    (void)state;
    oct_model_config c;
    refuse("{\"architectures\":[\"FooForCausalLM\"]," SIZES "}", OCT_E_UNSUPPORTED,
           "\"FooForCausalLM\", want one of LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
           "MistralForCausalLM, ");
    refuse("{\"architectures\":[\"FooForCausalLM\"]," SIZES "}", OCT_E_UNSUPPORTED,
           ", MiniMaxM2ForCausalLM)");
    refuse("{\"model_type\":\"gpt9\"," SIZES "}", OCT_E_UNSUPPORTED, "gpt9");
    refuse("{" SIZES "}", OCT_E_UNSUPPORTED, "architecture");
    refuse("{\"architectures\":7," SIZES "}", OCT_E_UNSUPPORTED, "architecture");
    refuse("{\"architectures\":[\"LlamaModel\"],\"model_type\":\"llama\"," SIZES "}",
           OCT_E_UNSUPPORTED, "LlamaModel");
    accept("{" LLAMA ",\"auto_map\":{\"AutoModel\":\"evil.Model\"}}", &c);
    refuse("{" LLAMA ",\"hidden_act\":\"gelu\"}", OCT_E_UNSUPPORTED, "hidden_act");
}

/* LLAMA with one size replaced. */
static void with_size(char *out, size_t cap, const char *key, const char *value) {
    static const char *const keys[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                       "num_attention_heads", "vocab_size"};
    static const char *const good[] = {"64", "160", "2", "4", "256"};
    size_t at = (size_t)snprintf(out, cap, "{\"model_type\":\"llama\"");
    for (size_t i = 0; i < OCT_COUNT(keys); i++)
        at += (size_t)snprintf(out + at, cap - at, ",\"%s\":%s", keys[i],
                               strcmp(key, keys[i]) == 0 ? value : good[i]);
    snprintf(out + at, cap - at, "}");
}

static void CF4_sizes(void **state) {
    (void)state;
    static const char *const keys[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                       "num_attention_heads", "vocab_size"};
    static const char *const bad[] = {
        "0",     "-1",   "1.5",  "\"64\"", "2147483648", "9223372036854775808",
        "1e300", "true", "null", "[]"};
    char text[512];
    for (size_t k = 0; k < OCT_COUNT(keys); k++)
        for (size_t i = 0; i < OCT_COUNT(bad); i++) {
            with_size(text, sizeof text, keys[k], bad[i]);
            refuse(text, OCT_E_CORRUPT, keys[k]);
        }
    refuse("{\"model_type\":\"llama\"}", OCT_E_CORRUPT, "num_hidden_layers is missing");
    refuse("{" LLAMA ",\"head_dim\":0}", OCT_E_CORRUPT, "head_dim");
    refuse("{" LLAMA ",\"head_dim\":513}", OCT_E_CORRUPT, "head_dim");
    refuse("{" LLAMA ",\"max_position_embeddings\":0}", OCT_E_CORRUPT, "max_position_embeddings");
    refuse("{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":160,"
           "\"num_hidden_layers\":2,\"num_attention_heads\":1024,\"vocab_size\":256,"
           "\"head_dim\":512}",
           OCT_E_CORRUPT, "num_attention_heads * head_dim");
    with_size(text, sizeof text, "num_attention_heads", "3");
    refuse(text, OCT_E_CORRUPT, "hidden_size is not a multiple");
    with_size(text, sizeof text, "num_attention_heads", "128");
    refuse(text, OCT_E_CORRUPT, "hidden_size");
}

static void CF5_relations_and_ranges(void **state) {
    (void)state;
    static const struct {
        const char *field, *word;
        oct_status status;
    } rows[] = {
        {"\"num_key_value_heads\":3", "num_key_value_heads", OCT_E_CORRUPT},
        {"\"num_key_value_heads\":0", "num_key_value_heads", OCT_E_CORRUPT},
        {"\"head_dim\":15", "rotary size", OCT_E_CORRUPT},
        {"\"partial_rotary_factor\":0.32", "rotary size", OCT_E_CORRUPT},
        {"\"partial_rotary_factor\":1.5", "partial_rotary_factor", OCT_E_CORRUPT},
        {"\"rotary_dim\":18", "rotary size", OCT_E_CORRUPT},
        {"\"rope_theta\":0", "rope_theta", OCT_E_CORRUPT},
        {"\"rope_theta\":-1", "rope_theta", OCT_E_CORRUPT},
        {"\"rope_theta\":\"10000\"", "rope_theta", OCT_E_CORRUPT},
        {"\"rms_norm_eps\":0", "rms_norm_eps", OCT_E_CORRUPT},
        {"\"rms_norm_eps\":-1e-6", "rms_norm_eps", OCT_E_CORRUPT},
        {"\"rope_scaling\":7", "rope_scaling", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"linear\"}", "factor", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", "factor", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":-2}", "factor", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"spiral\",\"factor\":2}", "\"spiral\"", OCT_E_UNSUPPORTED},
        {"\"rope_scaling\":{\"type\":\"ntk\",\"factor\":2}", "\"ntk\"", OCT_E_UNSUPPORTED},
        {"\"rope_scaling\":{\"type\":\"dynamic\"}", "rope factor is missing", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":0.5}", "below 1 (got 0.5)",
         OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"dynamic\",\"alpha\":1000}", "rope alpha", OCT_E_UNSUPPORTED},
        {"\"rope_scaling\":{\"type\":\"longrope\"}", "short_factor must have 8", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}",
         "high_freq_factor", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
         "\"high_freq_factor\":4}",
         "high_freq_factor", OCT_E_CORRUPT},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":8,\"attention_factor\":0}",
         "attention_factor", OCT_E_CORRUPT},
        {"\"bos_token_id\":256", "bos_token_id", OCT_E_CORRUPT},
        {"\"eos_token_id\":-1", "eos_token_id", OCT_E_CORRUPT},
        {"\"eos_token_id\":[1,\"2\"]", "eos_token_id", OCT_E_CORRUPT},
        {"\"eos_token_id\":[1,256]", "eos_token_id", OCT_E_CORRUPT},
        {"\"tie_word_embeddings\":1", "tie_word_embeddings", OCT_E_CORRUPT},
        {"\"quantization_config\":[]", "quantization_config", OCT_E_CORRUPT},
    };
    char text[1024];
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        snprintf(text, sizeof text, "{" LLAMA ",%s}", rows[i].field);
        refuse(text, rows[i].status, rows[i].word);
    }
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, "{" LLAMA ",\"eos_token_id\":[0");
    for (int i = 0; i < 1024; i++) oct_buf_cstr(&b, ",1");
    oct_buf_cstr(&b, "]}");
    refuse(oct_buf_cs(&b), OCT_E_CORRUPT, "eos_token_id has 1025 entries");
    oct_buf_fini(&b);
    refuse("{\"model_type\":\"qwen3\"," SIZES ",\"layer_types\":[\"full_attention\"]}",
           OCT_E_CORRUPT, "layer_types");
    refuse("{\"model_type\":\"qwen3\"," SIZES ",\"layer_types\":[\"full_attention\",\"mamba\"]}",
           OCT_E_UNSUPPORTED, "\"mamba\"");
}

static void CF6_generation_config(void **state) {
    (void)state;
    oct_generation_config g;
#define PARSE(text) oct_generation_config_parse(OCT_STR(text), "generation_config.json", 256, &g)
    PARSE("{\"temperature\":0.6,\"top_p\":0.95,\"top_k\":20,\"min_p\":0.1,"
          "\"repetition_penalty\":1.05,\"max_new_tokens\":2048,\"eos_token_id\":[2,9],"
          "\"do_sample\":true,\"bos_token_id\":1}");
    assert_true(g.has_temperature && g.temperature == 0.6 && g.has_top_p && g.top_p == 0.95);
    assert_true(g.has_top_k && g.top_k == 20 && g.has_min_p && g.min_p == 0.1);
    assert_true(g.has_repetition_penalty && g.repetition_penalty == 1.05);
    assert_true(g.has_max_new && g.max_new_tokens == 2048 && g.n_eos == 2 && g.eos_ids[1] == 9);
    assert_int_equal(g.n_warnings, 0);
    PARSE("{\"temperature\":-1,\"top_p\":0,\"top_k\":1.5,\"min_p\":NaN,"
          "\"repetition_penalty\":\"1\",\"max_new_tokens\":0,\"eos_token_id\":[2,256,\"x\",3]}");
    assert_false(g.has_temperature || g.has_top_p || g.has_top_k || g.has_min_p ||
                 g.has_repetition_penalty || g.has_max_new);
    assert_true(g.n_eos == 2 && g.eos_ids[1] == 3);
    assert_int_equal(g.n_warnings, 8);
    PARSE("{\"temperature\":1e300,\"top_k\":-1,\"eos_token_id\":5}");
    assert_true(!g.has_temperature && g.has_top_k && g.top_k == 0 && g.n_eos == 1);
    PARSE("{\"do_sample\":\"no\",\"temperature\":0.5}");
    assert_true(g.n_warnings == 1 && g.has_temperature && g.temperature == 0.5);
    PARSE("{\"temp");
    assert_true(g.n_warnings == 1 && !g.has_temperature);
    PARSE("[]");
    assert_int_equal(g.n_warnings, 1);
    PARSE("");
    assert_int_equal(g.n_warnings, 1);
}

static void do_sample_false_is_greedy(void **state) {
    (void)state;
    oct_generation_config g;
    PARSE("{\"do_sample\":false,\"temperature\":0.7,\"top_p\":0.8}");
    assert_true(g.has_temperature && g.temperature == 0 && g.has_top_p && g.n_warnings == 0);
    PARSE("{\"do_sample\":false}");
    assert_true(g.has_temperature && g.temperature == 0);
    PARSE("{\"do_sample\":true,\"temperature\":0.7}");
    assert_true(g.has_temperature && g.temperature == 0.7);
    PARSE("{\"do_sample\":true}");
    assert_false(g.has_temperature);
    PARSE("{\"do_sample\":null}");
    assert_true(!g.has_temperature && g.n_warnings == 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(defaults_and_old_spelling),
        TEST(newer_spelling),
        TEST(yarn_attention_factor),
        TEST(windows_by_family),
        TEST(factors_and_caps_by_family),
        TEST(two_rotary_embeddings),
        TEST(longrope_factors),
        TEST(experts_by_family),
        TEST(CF4_sizes_of_experts),
        TEST(CF5_families),
        TEST(CF1_not_json),
        TEST(CF2_deep_wide_and_large),
        TEST(CF3_architectures_and_remote_code),
        TEST(CF4_sizes),
        TEST(CF5_relations_and_ranges),
        TEST(CF6_generation_config),
        TEST(do_sample_false_is_greedy),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
