/* Sections 1 to 4 of the format notes: each thing that a file may be wrong in, or that is not read,
 * and has no test beside the reading of its format (test_store_scheme.c, test_store_formats.c). A
 * test is named by the section. */
#include "scheme_test.h"

#include <math.h>

static const signed char W[8] = {10, -20, 30, 127, -128, 5, 0, 64}, zero_points[2];
static const float scales[2] = {0.5f, 0.25f}, one = 0.5f, floats[8] = {1, 2};
static const float in_scale = 0.125f, in_offset = -5;
static const int32_t qbias[2] = {3, 4};
static const oct_scheme_options strict = {.strict = true};

#define W8 PART("p.weight", I8, 2, {2, 4}, W)
#define CHANNEL PART("p.weight_scale", F32, 2, {2, 1}, scales)
#define TENSOR PART("p.weight_scale", F32, 1, {1}, &one)
#define N(a) (sizeof(a) / sizeof *(a))

/* The projection "p" [2, 4] of these tensors. */
static void refuse(const part *e, size_t n, const char *quant, const char *description,
                   oct_status want, const char *word) {
    asked a;
    put_parts(e, n, quant, description);
    refused(&a, ask(&a, NULL, "p", 2, 4), want, word);
}

static void refuse_open(const part *e, size_t n, const char *quant, const char *description,
                        const oct_scheme_options *opts, oct_status want, const char *word) {
    asked a;
    put_parts(e, n, quant, description);
    refused(&a, ask_open(&a, opts), want, word);
}

/* ---- 1: ModelSlim ------------------------------------------------------------------------------
 */

static void F1_2_which_method_wins(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    static const char slim[] = "{\"p.weight\":\"W8A8_DYNAMIC\"}",
                      w8a8[] = "{\"quant_method\":\"w8a8_int8\"}";
    asked a;
    put_parts(e, N(e), w8a8, slim); /* the description, unless something else is asked for */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_string_equal(oct_scheme_name(a.s), "ascend");
    done(&a);
    ok(&a, ask(&a, &(oct_scheme_options){.forced = "w8a8_int8"}, "p", 2, 4));
    assert_string_equal(oct_scheme_name(a.s), "w8a8_int8");
    done(&a);
    put_parts(e, N(e), w8a8, NULL);
    unlink(in_dir("tokenizer.json"));
    refused(&a, ask_open(&a, &(oct_scheme_options){.forced = "ascend"}), OCT_E_CORRUPT,
            "quant_model_description.json is missing (JSON files found: config.json)");
    refuse_open(e, N(e), NULL, slim, &(oct_scheme_options){.forced = "quark"}, OCT_E_INVALID,
                "--quantization quark was asked for, but config.json says nothing");
    refuse_open(e, N(e), "{\"quant_method\":7}", NULL, NULL, OCT_E_UNSUPPORTED,
                "quantization_config.quant_method is not supported (got 7");
}

static void F1_2_forced_on_a_single_file(void **state) {
    (void)state;
    static const char *const tails[] = {"block_count",          "embedding_length",
                                        "feed_forward_length",  "context_length",
                                        "attention.head_count", "attention.key_length"};
    oct_buf b;
    char key[64];
    asked a;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 1, N(tails) + 1);
    g_key_str(&b, "general.architecture", "llama");
    for (size_t i = 0; i < N(tails); i++) {
        snprintf(key, sizeof key, "llama.%s", tails[i]);
        g_key_u32(&b, key, 2);
    }
    g_tensor(&b, "token_embd.weight", 2, 2, 0, 0);
    g_pad(&b, 32);
    oct_buf_add(&b, floats, 16);
    put_file("m.gguf", b.data, b.len);
    oct_buf_fini(&b);
    refused(&a, ask_folder(&a, in_dir("m.gguf"), &(oct_scheme_options){.forced = "ascend"}),
            OCT_E_CORRUPT,
            "m.gguf: --quantization ascend was asked for, but quant_model_description.json is "
            "missing (the model is a GGUF file, not a folder)");
}

static void F1_3_metadata(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    asked a;
    /* Off in every way that writers say it; unknown keys that are no strings. */
    put_parts(e, N(e), NULL,
              "{\"p.weight\":\"W8A8_DYNAMIC\",\"kv_cache_type\":null,\"kv_quant_type\":\"\","
              "\"fa_quant_type\":null,\"indexer_quant_type\":null,\"model_quant_type\":\"W4A4\","
              "\"group_size\":null,\"version\":7,\"some_list\":[1],\"some_number\":3,"
              "\"a.quant_type\":\"INT8\",\"is_rot_used\":true}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
    refuse_open(e, N(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\",\"indexer_quant_type\":\"INT8\"}",
                NULL, OCT_E_UNSUPPORTED,
                "indexer_quant_type is not supported (got \"INT8\", want none");
    refuse_open(e, N(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\",\"kv_quant_type\":\"C4\"}", NULL,
                OCT_E_UNSUPPORTED, "kv_quant_type is not supported (got \"C4\"");
    refuse(e, N(e), NULL, "{\"p.weight\":null}", OCT_E_UNSUPPORTED, "scheme is not supported");
    refuse(e, N(e), NULL, "{\"p.weight\":[\"W8A8\"]}", OCT_E_UNSUPPORTED, "p.weight: scheme");
}

static void F1_4_shards_quantised_in_different_ways(void **state) {
    (void)state;
    const part e[] = {PART("a.q_proj.weight", I8, 2, {2, 4}, W),
                      PART("a.k_proj.weight", I8, 2, {2, 4}, W),
                      PART("m.gate_proj.weight", I8, 2, {2, 4}, W),
                      PART("m.up_proj.weight", F32, 2, {2, 4}, floats)};
    refuse_open(e, 2, NULL, "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\",\"a.k_proj.weight\":\"W8A8\"}",
                &strict, OCT_E_CORRUPT,
                "a.qkv_proj: quantised in different ways (got W8A8_DYNAMIC for a.q_proj and W8A8 "
                "for a.k_proj)");
    refuse_open(e + 2, 2, NULL,
                "{\"m.gate_proj.weight\":\"W8A8_DYNAMIC\",\"m.up_proj.weight\":\"FLOAT\"}", &strict,
                OCT_E_CORRUPT, "m.gate_up_proj: some but not all are quantised");
    /* A shard that the description leaves out is one that is float. */
    refuse_open(e, 2, NULL, "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\"}", &strict, OCT_E_CORRUPT,
                "a.qkv_proj: some but not all");
}

static void F1_4_a_shard_without_a_scheme(void **state) {
    (void)state;
    const part e[] = {PART("a.q_proj.weight", I8, 2, {2, 4}, W),
                      PART("a.q_proj.weight_scale", F32, 1, {2}, scales),
                      PART("a.k_proj.weight", I8, 2, {2, 4}, W)};
    asked a;
    put_parts(e, N(e), NULL, "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "a.q_proj", 2, 4)); /* v_proj may be absent: K serves as V */
    done(&a);
    refused(&a, ask(&a, NULL, "a.k_proj", 2, 4), OCT_E_CORRUPT,
            "tensor a.k_proj.weight is I8 but has no scheme");
}

/* "l.mlp.gate" is not "l.mlp.gate_proj", whose name begins with it. */
static void F1_4_names_are_exact(void **state) {
    (void)state;
    const part e[] = {PART("l.mlp.gate.weight", F32, 2, {2, 4}, floats),
                      PART("l.mlp.gate_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.gate_proj.weight_scale", F32, 1, {2}, scales)};
    asked a;
    put_parts(e, N(e), NULL,
              "{\"l.mlp.gate_proj.weight\":\"W8A8_DYNAMIC\",\"l.mlp.gate.weight\":\"FLOAT\"}");
    ok(&a, ask(&a, NULL, "l.mlp.gate", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    ok(&a, oct_scheme_linear(a.s, &a.arena, "l.mlp.gate_proj", 2, 4, false, &a.lin, &a.err));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
}

static void F1_4_every_expert_is_looked_at(void **state) {
    (void)state;
    const part e[] = {PART("l.mlp.experts.0.down_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.1.down_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.2.down_proj.weight", I8, 2, {2, 4}, W)};
    refuse_open(e, N(e), NULL,
                "{\"l.mlp.experts.0.down_proj.weight\":\"W8A8_DYNAMIC\","
                "\"l.mlp.experts.1.down_proj.weight\":\"W8A8_DYNAMIC\","
                "\"l.mlp.experts.2.down_proj.weight\":\"W8A16\"}",
                NULL, OCT_E_CORRUPT,
                "experts of one layer: quantised in different ways (got W8A8_DYNAMIC for "
                "l.mlp.experts.0.down_proj and W8A16 for l.mlp.experts.2.down_proj)");
    const part w[] = {PART("l.block_sparse_moe.experts.0.w1.weight", I8, 2, {2, 4}, W),
                      PART("l.block_sparse_moe.experts.0.w3.weight", I8, 2, {2, 4}, W)};
    refuse_open(w, N(w), NULL,
                "{\"l.block_sparse_moe.experts.0.w1.weight\":\"W8A8_DYNAMIC\","
                "\"l.block_sparse_moe.experts.0.w3.weight\":\"W8A16\"}",
                &strict, OCT_E_CORRUPT, "experts.0.w13: quantised in different ways");
}

static void F1_5_other_aliases(void **state) {
    (void)state;
    const part old[] = {
        PART("model.layers.2.transformer.shared_head.output.weight", I8, 2, {2, 4}, W),
        PART("model.layers.2.transformer.shared_head.output.weight_scale", F32, 1, {2}, scales),
        PART("model.layers.2.transformer.shared_head.norm.weight", F32, 1, {8}, floats)};
    asked a;
    put_parts(old, N(old), NULL,
              "{\"model.layers.2.transformer.shared_head.output.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "model.layers.2.shared_head.head", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    assert_non_null(oct_checkpoint_find(a.c, "model.layers.2.shared_head.norm.weight"));
    done(&a);
}

#define STATIC(scale_rank, ...)                              \
    W8, PART("p.input_scale", F32, scale_rank, __VA_ARGS__), \
        PART("p.input_offset", F32, 1, {1}, &in_offset), PART("p.deq_scale", F32, 1, {2}, scales)

static void F1_6_what_static_needs(void **state) {
    (void)state;
    static const char w8a8[] = "{\"p.weight\":\"W8A8\"}";
    const int64_t bits[3] = {947628162, 939239554, 1};
    const part full[] = {STATIC(1, {1}, &in_scale), PART("p.quant_bias", I32, 1, {2}, qbias)};
    static const char *const needed[] = {"p.weight", "p.input_scale", "p.input_offset",
                                         "p.deq_scale", "p.quant_bias"};
    for (size_t i = 0; i < N(full); i++) {
        part e[N(full)];
        char word[64];
        memcpy(e, full, sizeof full);
        e[i] = (part)PART("other", F32, 1, {1}, &in_scale);
        snprintf(word, sizeof word, "%s is ", needed[i]);
        refuse(e, N(e), NULL, w8a8, OCT_E_CORRUPT, i ? word : "p.weight is listed as W8A8 but");
    }
    const part per_row[] = {STATIC(1, {2}, scales), PART("p.quant_bias", I32, 1, {2}, qbias)};
    refuse(per_row, N(per_row), NULL, w8a8, OCT_E_CORRUPT, "p.input_scale: got F32 [2], want 1");
    const part long_bits[] = {W8, PART("p.input_scale", F32, 1, {1}, &in_scale),
                              PART("p.input_offset", F32, 1, {1}, &in_offset),
                              PART("p.deq_scale", I64, 1, {3}, bits),
                              PART("p.quant_bias", I32, 1, {2}, qbias)};
    refuse(long_bits, N(long_bits), NULL, w8a8, OCT_E_CORRUPT, "p.deq_scale: got I64 [3], want 2");
    const part wide_bias[] = {STATIC(1, {1}, &in_scale), PART("p.quant_bias", I64, 1, {2}, bits)};
    refuse(wide_bias, N(wide_bias), NULL, w8a8, OCT_E_CORRUPT,
           "p.quant_bias: got I64 [2], want I32 [2]");
}

static void F1_7_scales_by_group(void **state) {
    (void)state;
    const float grouped[4] = {1, 2, 3, 4};
    const part e[] = {W8, PART("p.weight_scale", F32, 2, {2, 2}, grouped)};
    refuse(e, N(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\",\"group_size\":2}", OCT_E_CORRUPT,
           "p.weight_scale: got F32 [2, 2], want 2 floats");
}

static void F1_9_group_sizes(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    static const char *const bad[] = {"-1", "2.5", "\"2\"", "4611686018427387904"};
    char text[96];
    for (size_t i = 0; i < N(bad); i++) {
        snprintf(text, sizeof text, "{\"p.weight\":\"W8A16\",\"group_size\":%s}", bad[i]);
        refuse(e, N(e), NULL, text, OCT_E_CORRUPT, "group_size");
    }
    refuse(e, N(e), NULL, "{\"p.weight\":\"W8A16\",\"group_size\":2}", OCT_E_CORRUPT,
           "p.weight_scale: got F32 [2, 1], want 4 floats");
}

static void F1_10_factors_that_are_wrong(void **state) {
    (void)state;
    const float mul[4] = {1, 2, NAN, 4};
#define SMOOTHED \
    PART("p.linear.weight", I8, 2, {2, 4}, W), PART("p.linear.weight_scale", F32, 2, {2, 1}, scales)
    const part bad[] = {PART("p.div.mul_scale", F32, 1, {4}, mul), SMOOTHED};
    const part few[] = {PART("p.div.mul_scale", F32, 1, {2}, mul), SMOOTHED};
    static const char text[] = "{\"p.linear.weight\":\"W8A8_DYNAMIC\"}";
    refuse(bad, N(bad), NULL, text, OCT_E_CORRUPT, "tensor p.div.mul_scale: index 2 (got nan");
    refuse(few, N(few), NULL, text, OCT_E_CORRUPT, "p.div.mul_scale: got F32 [2], want 4 floats");
}

static void F1_10_what_nothing_uses(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL, PART("p.smooth_scale", F32, 1, {2}, scales)};
    asked a;
    put_parts(e, N(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(oct_scheme_check_unused(a.s, &a.err), OCT_OK); /* a warning */
    done(&a);
    ok(&a, ask(&a, &strict, "p", 2, 4));
    assert_int_equal(oct_scheme_check_unused(a.s, &a.err), OCT_E_CORRUPT);
    expect_text(&a.err, "1 tensors are not used by this model: p.smooth_scale");
    done(&a);
}

#define KV(name, type, ...) PART("a." name, type, __VA_ARGS__)

static void refuse_kv(const part *e, size_t n, const char *quant, const char *description,
                      oct_status want, const char *word) {
    asked a;
    put_parts(e, n, quant, description);
    refused(&a, ask_kv(&a, 2), want, word);
}

static void F1_11_listed_scales_that_are_missing(void **state) {
    (void)state;
    const float four[4] = {1, 1, 1, 1};
    const part e[] = {KV("k_proj.kv_cache_scale", F32, 1, {4}, four),
                      KV("v_proj.kv_cache_scale", F32, 1, {4}, four)};
    refuse_kv(e, 1, NULL,
              "{\"kv_cache_type\":\"C8\",\"a.v_proj.kv_cache_scale\":\"C8\","
              "\"a.k_proj.kv_cache_scale\":\"C8\"}",
              OCT_E_CORRUPT, "tensor a.v_proj.kv_cache_scale is listed as C8 but is in no file");
    const part heads[] = {KV("k_proj.kv_cache_scale", F32, 1, {2}, four), e[1]};
    refuse_kv(heads, 2, NULL, "{\"kv_cache_type\":\"C8\"}", OCT_E_CORRUPT,
              "a.k_proj.kv_cache_scale: got F32 [2], want 4 floats");
    const part ints[] = {KV("k_proj.kv_cache_scale", I32, 1, {4}, four), e[1]};
    refuse_kv(ints, 2, NULL, "{\"kv_cache_type\":\"C8\"}", OCT_E_CORRUPT,
              "a.k_proj.kv_cache_scale: got I32 [4]");
}

static void F1_12_attention_operands(void **state) {
    (void)state;
    const float heads[3] = {0.5f, 0.25f, 1}, bad[2] = {0.5f, 0};
    const signed char off[2] = {0, 1};
#define FA_V KV("fa_v.scale", F32, 2, {2, 1}, heads)
    const part three[] = {KV("fa_k.scale", F32, 2, {3, 1}, heads), FA_V};
    const part zero[] = {KV("fa_k.scale", F32, 2, {2, 1}, bad), FA_V};
    const part offset[] = {KV("fa_k.scale", F32, 2, {2, 1}, heads), FA_V,
                           KV("fa_k.offset", I8, 2, {2, 1}, off)};
    static const char text[] = "{\"fa_quant_type\":\"FAKQuant\"}";
    refuse_kv(three, 2, NULL, text, OCT_E_CORRUPT, "a.fa_k.scale: got F32 [3, 1], want 2 floats");
    refuse_kv(zero, 2, NULL, text, OCT_E_CORRUPT, "tensor a.fa_k.scale: index 1 (got 0");
    refuse_kv(offset, 3, NULL, text, OCT_E_UNSUPPORTED, "tensor a.fa_k.offset: index 1 (got 1");
}

/* ---- 2: rotations ------------------------------------------------------------------------------
 */

static void F2_3_the_head_that_is_there_is_used(void **state) {
    (void)state;
    asked a;
    const part e[] = {PART("model.embed_tokens.weight", F32, 2, {2, 4}, floats),
                      PART("lm_head.weight", I8, 2, {2, 4}, W),
                      PART("lm_head.weight_scale", F32, 1, {2}, scales)};
    put_parts(e, N(e), NULL, "{\"lm_head.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "lm_head", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
}

static void F2_4_rotations_that_others_describe(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    static const char *const keys[] = {"r3", "r4", "online_r1_rotation", "online_had"};
    char config[256], word[64];
    refuse_open(e, N(e), NULL,
                "{\"p.weight\":\"W8A8_DYNAMIC\",\"metadata\":{\"quarot\":{\"kronecker_rotation\":"
                "{\"layers\":[\"model.layers.0.mlp.down_proj\"]}}}}",
                NULL, OCT_E_UNSUPPORTED,
                "metadata.quarot.kronecker_rotation: rotation at run time");
#define QUARK_ALGO(entry)                                                                     \
    "{\"quant_method\":\"quark\",\"algo_config\":[{\"name\":\"awq\"},{\"name\":\"rotation\"," \
    "\"r1\":true,\"r2\":true," entry "}]}"
    for (size_t i = 0; i < N(keys); i++) {
        snprintf(config, sizeof config, QUARK_ALGO("\"%s\":true"), keys[i]);
        snprintf(word, sizeof word, "algo_config[1].%s is not supported", keys[i]);
        refuse_open(e, N(e), config, NULL, NULL, OCT_E_UNSUPPORTED, word);
    }
    const part f[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(f, N(f), QUARK_ALGO("\"r3\":false,\"r4\":false"), NULL); /* folded into weights */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    done(&a);
}

/* ---- 3: Quark ----------------------------------------------------------------------------------
 */

#define Q_W "\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_channel\",\"ch_axis\":0}"
#define Q_IN(spec) "\"input_tensors\":{\"dtype\":\"int8\"," spec "}"
#define Q_TOKEN Q_IN("\"qscheme\":\"per_channel\",\"ch_axis\":1,\"is_dynamic\":true")
#define Q_STATIC Q_IN("\"qscheme\":\"per_tensor\"")
#define QUARK(spec) "{\"quant_method\":\"quark\",\"global_quant_config\":{" spec "}}"
#define QUARK_MORE(spec, more) \
    "{\"quant_method\":\"quark\",\"global_quant_config\":{" spec "}," more "}"

static void F3_1_files_and_fields(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL}, f[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(f, 1,
              QUARK_MORE(Q_W "," Q_TOKEN, "\"export\":{\"weight_format\":\"fake_quantized\"}"),
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    refuse(e, N(e),
           QUARK_MORE(Q_W "," Q_TOKEN, "\"export\":{\"weight_format\":\"fake_quantized\"}"), NULL,
           OCT_E_CORRUPT, "is I8, but quantization_config.export.weight_format leaves it");
    put_parts(e, N(e), /* keys that nobody knows, packing that is for fewer bits */
              QUARK_MORE(Q_W "," Q_TOKEN ",\"target_device\":\"x\",\"new\":[1]",
                         "\"export\":{\"pack_method\":\"reorder\",\"weight_format\":null},"
                         "\"future\":{}"),
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
#define REFUSE_W(dtype, word) \
    refuse(e, N(e), QUARK("\"weight\":{\"dtype\":" dtype "}"), NULL, OCT_E_UNSUPPORTED, word)
    REFUSE_W("\"uint8\",\"qscheme\":\"per_tensor\"",
             "weight.dtype is not supported (got \"uint8\"");
    REFUSE_W("\"mx\",\"qscheme\":\"per_group\"", "got \"mx\"");
    REFUSE_W("\"fp4\",\"qscheme\":\"per_group\"", "got \"fp4\"");
    REFUSE_W("\"fp8_e5m2\",\"qscheme\":\"per_tensor\"", "got \"fp8_e5m2\"");
    REFUSE_W("\"int8\",\"qscheme\":\"per_block\"", "qscheme is not supported (got \"per_block\"");
    REFUSE_W("\"int8\"", "qscheme is not supported (got nothing");
    refuse(e, N(e), QUARK("\"weight\":7"), NULL, OCT_E_UNSUPPORTED, "an object or null");
    refuse(e, N(e), QUARK_MORE(Q_W, "\"layer_quant_config\":[]"), NULL, OCT_E_CORRUPT,
           "layer_quant_config is no object");
    refuse(e, N(e), "{\"quant_method\":\"quark\",\"global_quant_config\":7}", NULL, OCT_E_CORRUPT,
           "global_quant_config is no object (got 7)");
}

static void F3_2_names_and_shards(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL}, shards[] = {PART("a.q_proj.weight", F32, 2, {2, 4}, floats),
                                                PART("a.k_proj.weight", I8, 2, {2, 4}, W),
                                                PART("a.k_proj.weight_scale", F32, 1, {2}, scales)};
    asked a;
    put_parts(e, N(e), /* an entry without wildcards is a whole name, not a part of one */
              QUARK_MORE(Q_W "," Q_TOKEN, "\"layer_quant_config\":{\"model.layers.0.p\":{}}"),
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
    static const char mixed[] = QUARK_MORE(Q_W "," Q_TOKEN, "\"exclude\":[\"*.q_proj\"]");
    put_parts(shards, N(shards), mixed, NULL);
    ok(&a, ask(&a, NULL, "a.k_proj", 2, 4));
    done(&a);
    refuse_open(shards, N(shards), mixed, NULL, &strict, OCT_E_CORRUPT,
                "a.qkv_proj: some but not all are quantised");
    refuse_open(shards + 1, 2, QUARK_MORE(Q_W, "\"exclude\":7"), NULL, NULL, OCT_E_CORRUPT,
                "exclude");
}

static void F3_3_inputs_that_are_refused(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
#define REFUSE_IN(spec, word) refuse(e, N(e), QUARK(spec), NULL, OCT_E_UNSUPPORTED, word)
    REFUSE_IN(Q_W "," Q_IN("\"qscheme\":\"per_channel\",\"is_dynamic\":true,\"symmetric\":false"),
              "input_tensors.symmetric is not supported (got false, want true)");
    REFUSE_IN(Q_STATIC, "input_tensors.dtype is not supported");
    REFUSE_IN(Q_W "," Q_IN("\"qscheme\":\"per_group\",\"is_dynamic\":true"), "per_group");
    refuse(e, N(e), QUARK(Q_W "," Q_IN("\"qscheme\":\"per_tensor\",\"is_dynamic\":\"yes\"")), NULL,
           OCT_E_CORRUPT, "is_dynamic");
}

static void F3_4_tensors(void **state) {
    (void)state;
    const signed char off[2] = {0, 3};
    const float bad[2] = {0.5f, -1}, nan = NAN;
    const int32_t far = 300;
    static const char dynamic[] = QUARK(Q_W "," Q_TOKEN), fixed[] = QUARK(Q_W "," Q_STATIC),
                      shifted[] =
                          QUARK(Q_W "," Q_IN("\"qscheme\":\"per_tensor\",\"symmetric\":false"));
    const part zero[] = {W8, CHANNEL, PART("p.weight_zero_point", I8, 1, {2}, off)};
    const part u8[] = {PART("p.weight", U8, 2, {2, 4}, W), CHANNEL};
    const part negative[] = {W8, PART("p.weight_scale", F32, 1, {2}, bad)};
    const part one_scale[] = {W8, TENSOR};
    const part in_nan[] = {W8, CHANNEL, PART("p.input_scale", F32, 0, {0}, &nan)};
    const part in_off[] = {W8, CHANNEL, PART("p.input_scale", F32, 0, {0}, &in_scale),
                           PART("p.input_zero_point", I32, 0, {0}, &far)};
    const part in_sym[] = {W8, CHANNEL, PART("p.input_scale", F32, 0, {0}, &in_scale),
                           PART("p.input_zero_point", I32, 0, {0}, &qbias[0])};
    refuse(zero, N(zero), dynamic, NULL, OCT_E_UNSUPPORTED,
           "p.weight_zero_point: index 1 (got 3, want 0");
    refuse(u8, N(u8), dynamic, NULL, OCT_E_CORRUPT, "p.weight: got U8 [2, 4], want I8 [2, 4]");
    refuse(negative, N(negative), dynamic, NULL, OCT_E_CORRUPT, "p.weight_scale: index 1 (got -1");
    refuse(one_scale, N(one_scale), dynamic, NULL, OCT_E_CORRUPT,
           "p.weight_scale: got F32 [1], want 2 floats");
    refuse(in_nan, N(in_nan), fixed, NULL, OCT_E_CORRUPT, "p.input_scale: index 0 (got nan");
    refuse(in_off, N(in_off), shifted, NULL, OCT_E_CORRUPT, "p.input_zero_point: index 0 (got 300");
    refuse(in_sym, N(in_sym), fixed, NULL, OCT_E_CORRUPT, "p.input_zero_point: got 3, want 0");
}

static void F3_5_experts(void **state) {
    (void)state;
    const part e[] = {PART("l.mlp.experts.0.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.0.up_proj.weight_scale", F32, 1, {2}, scales),
                      PART("l.mlp.experts.0.up_proj.weight_zero_point", I8, 1, {2}, zero_points),
                      PART("l.mlp.experts.1.up_proj.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, 3, QUARK(Q_W "," Q_TOKEN), NULL);
    ok(&a, ask(&a, NULL, "l.mlp.experts.0.up_proj", 2, 4));
    all_used(&a); /* zeros are read and dropped */
    done(&a);
    refuse_open(e, 4, QUARK(Q_W "," Q_TOKEN), NULL, NULL, OCT_E_CORRUPT,
                "experts of one layer: some but not all are quantised");
}

static void F3_7_cache_specifications(void **state) {
    (void)state;
    const part e[] = {PART("a.k_proj.output_scale", F32, 0, {0}, &one)};
#define Q_KV(k, v)                                                                            \
    "{\"quant_method\":\"quark\",\"kv_cache_quant_config\":{\"*k_proj\":{\"output_tensors\":" \
    "{" k "}},\"*v_proj\":{\"output_tensors\":{" v "}}}}"
#define I8_TENSOR "\"dtype\":\"int8\",\"qscheme\":\"per_tensor\""
#define REFUSE_KV(k, v, word) refuse_open(e, N(e), Q_KV(k, v), NULL, NULL, OCT_E_UNSUPPORTED, word)
    REFUSE_KV(I8_TENSOR, "\"dtype\":\"fp8_e4m3\",\"qscheme\":\"per_tensor\"",
              "the same for K and V");
    REFUSE_KV(I8_TENSOR, "\"dtype\":\"int8\",\"qscheme\":\"per_channel\"", "the same for K and V");
    REFUSE_KV(I8_TENSOR ",\"is_dynamic\":true", I8_TENSOR, "output_tensors.is_dynamic");
    REFUSE_KV(I8_TENSOR ",\"symmetric\":false", I8_TENSOR, "output_tensors.symmetric");
    REFUSE_KV("\"dtype\":\"int4\",\"qscheme\":\"per_tensor\"", I8_TENSOR, "got \"int4\"");
    refuse_kv(e, 0, Q_KV(I8_TENSOR, I8_TENSOR), NULL, OCT_E_CORRUPT, "a.k_scale is missing");
}

/* ---- 4: compressed-tensors and the plain methods -----------------------------------------------
 */

#define CT_W "\"weights\":{\"num_bits\":8,\"type\":\"int\",\"strategy\":\"channel\"}"
#define CT_TOKEN "\"input_activations\":{\"strategy\":\"token\",\"dynamic\":true}"
#define CT(group, more) \
    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{" group "}}" more "}"
#define LINEAR ",\"targets\":[\"Linear\"]"

static void F4_1_groups(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL}, f[] = {PART("p.weight", F32, 2, {2, 4}, floats), CHANNEL};
    asked a;
#define REFUSE_CT(config, status, word) refuse(e, N(e), config, NULL, status, word)
    REFUSE_CT("{\"config_groups\":[]}", OCT_E_CORRUPT, "config_groups is no object (got []");
    REFUSE_CT("{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":7}}",
              OCT_E_CORRUPT, "config_groups.g is no object (got 7)");
    REFUSE_CT(CT("\"weights\":7" LINEAR, ""), OCT_E_CORRUPT, "weights is no object");
    REFUSE_CT(CT("\"weights\":null," CT_TOKEN LINEAR, ""), OCT_E_UNSUPPORTED, "quantised weights");
    REFUSE_CT(CT("\"weights\":{\"dynamic\":true}" LINEAR, ""), OCT_E_UNSUPPORTED,
              "weights.dynamic is not supported");
    REFUSE_CT(CT("\"weights\":{\"strategy\":\"block\",\"block_structure\":[0,2]}" LINEAR, ""),
              OCT_E_UNSUPPORTED, "block_structure");
    REFUSE_CT(CT("\"weights\":{\"strategy\":\"block\"}" LINEAR, ""), OCT_E_UNSUPPORTED,
              "weights.strategy");
    REFUSE_CT(
        CT("\"weights\":{\"strategy\":\"group\",\"group_size\":2,\"actorder\":\"group\"}" LINEAR,
           ""),
        OCT_E_UNSUPPORTED, "actorder");
    REFUSE_CT(CT("\"weights\":{\"strategy\":\"group\",\"group_size\":2}," CT_TOKEN LINEAR, ""),
              OCT_E_UNSUPPORTED, "with quantised inputs");
    REFUSE_CT(
        CT(CT_W ",\"input_activations\":{\"type\":\"float\",\"strategy\":\"tensor\"}" LINEAR, ""),
        OCT_E_UNSUPPORTED, "input_activations.type");
    REFUSE_CT(CT(CT_W ",\"input_activations\":{\"strategy\":\"token\"}" LINEAR, ""),
              OCT_E_UNSUPPORTED,
              "input_activations.strategy is not supported (got \"token\", want "
              "tensor)");
    static const char *const formats[] = {"nvfp4-pack-quantized", "mxfp4-pack-quantized",
                                          "mxfp8-quantized", "sparse-24-bitmask"};
    char config[512];
    for (size_t i = 0; i < N(formats); i++) {
        snprintf(config, sizeof config, CT(CT_W LINEAR ",\"format\":\"%s\"", ""), formats[i]);
        REFUSE_CT(config, OCT_E_UNSUPPORTED, formats[i]); /* a group's own */
    }
    /* A file that was written before it was compressed: floats and scales beside them. */
    refuse(f, N(f), CT(CT_W "," CT_TOKEN LINEAR, ",\"quantization_status\":\"frozen\""), NULL,
           OCT_E_CORRUPT, "p.weight: got F32 [2, 4], want I8 [2, 4]");
    put_parts(e, N(e),
              CT(CT_W "," CT_TOKEN LINEAR, ",\"sparsity_config\":{},\"transform_config\":{"
                                           "\"config_groups\":{}},\"ignore\":null"),
              NULL); /* there, but empty */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    done(&a);
}

static void F4_2_shards_and_experts(void **state) {
    (void)state;
    const part shards[] = {PART("a.q_proj.weight", F32, 2, {2, 4}, floats),
                           PART("a.k_proj.weight", I8, 2, {2, 4}, W),
                           PART("a.k_proj.weight_scale", F32, 1, {2}, scales)};
    const part experts[] = {PART("l.mlp.experts.0.up_proj.weight", I8, 2, {2, 4}, W),
                            PART("l.mlp.experts.1.up_proj.weight", I8, 2, {2, 4}, W),
                            PART("l.mlp.experts.2.up_proj.weight", F32, 2, {2, 4}, floats)};
    static const char some[] = CT(CT_W "," CT_TOKEN LINEAR, ",\"ignore\":[\"re:.*q_proj\"]");
    asked a;
    put_parts(shards, N(shards), some, NULL);
    ok(&a, ask(&a, NULL, "a.q_proj", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    refuse_open(shards, N(shards), some, NULL, &strict, OCT_E_CORRUPT,
                "a.qkv_proj: some but not all are quantised");
    refuse_open(experts, N(experts), CT(CT_W "," CT_TOKEN LINEAR, ""), NULL, NULL, OCT_E_CORRUPT,
                "experts of one layer: some but not all are quantised (got W8A8_DYNAMIC for "
                "l.mlp.experts.0.up_proj and FLOAT for l.mlp.experts.2.up_proj)");
}

static void F4_3_tensors(void **state) {
    (void)state;
    const unsigned char bytes[16] = {0};
    const float inf[2] = {1, INFINITY};
    static const char dynamic[] = CT(CT_W "," CT_TOKEN LINEAR, "");
    const part scale[] = {W8, PART("p.weight_scale", F32, 2, {2, 1}, inf)};
    const part wide[] = {W8, PART("p.weight_scale", F32, 2, {2, 2}, floats)};
    const part bias[] = {W8, CHANNEL, PART("p.bias", F32, 1, {2}, inf)};
    const part packed[] = {PART("p.weight_packed", I32, 2, {2, 2}, bytes), CHANNEL};
    refuse(scale, N(scale), dynamic, NULL, OCT_E_CORRUPT, "p.weight_scale: index 1 (got inf");
    refuse(wide, N(wide), dynamic, NULL, OCT_E_CORRUPT, "p.weight_scale: got F32 [2, 2]");
    refuse(bias, N(bias), dynamic, NULL, OCT_E_CORRUPT, "p.bias: index 1 (got inf");
    refuse(packed, N(packed), CT(CT_W "," CT_TOKEN LINEAR, ",\"format\":\"pack-quantized\""), NULL,
           OCT_E_CORRUPT, "p.weight_packed: got I32 [2, 2], want I32 [2, 1]");
}

static void F4_4_fields_and_scales(void **state) {
    (void)state;
    const unsigned char f8[8] = {0};
    const float zero = 0, nan = NAN;
#define F8 PART("p.weight", F8_E4M3, 2, {2, 4}, f8)
    const part row[] = {F8, CHANNEL};
    const part in_zero[] = {F8, TENSOR, PART("p.input_scale", F32, 1, {1}, &zero)};
    const part w_nan[] = {F8, PART("p.weight_scale", F32, 0, {0}, &nan)};
    const part as_int[] = {W8, TENSOR};
#define REFUSE_FP8(e, fields, status, word) \
    refuse(e, N(e), "{\"quant_method\":\"fp8\"" fields "}", NULL, status, word)
    REFUSE_FP8(row, ",\"activation_scheme\":\"x\"", OCT_E_UNSUPPORTED, "activation_scheme");
    REFUSE_FP8(row, ",\"weight_block_size\":[128]", OCT_E_UNSUPPORTED, "weight_block_size");
    REFUSE_FP8(row, ",\"weight_block_size\":[0,128]", OCT_E_UNSUPPORTED, "two sizes");
    REFUSE_FP8(row, ",\"weight_block_size\":[128,1e9]", OCT_E_UNSUPPORTED, "two sizes");
    REFUSE_FP8(row, ",\"ignored_layers\":{}", OCT_E_CORRUPT, "ignored_layers");
    REFUSE_FP8(row, ",\"modules_to_not_convert\":[3]", OCT_E_CORRUPT, "modules_to_not_convert");
    REFUSE_FP8(in_zero, ",\"activation_scheme\":\"static\"", OCT_E_CORRUPT,
               "p.input_scale: index 0 (got 0");
    REFUSE_FP8(w_nan, "", OCT_E_CORRUPT, "p.weight_scale: index 0 (got nan");
    REFUSE_FP8(as_int, "", OCT_E_CORRUPT, "p.weight: got I8 [2, 4], want F8_E4M3 [2, 4]");
    refuse(row, N(row), "{\"quant_method\":\"fbgemm_fp8\",\"activation_scale_ub\":-1}", NULL,
           OCT_E_CORRUPT, "activation_scale_ub");
    refuse(row, 1, "{\"quant_method\":\"fbgemm_fp8\"}", NULL, OCT_E_CORRUPT,
           "p.weight_scale is missing");
}

static void F4_5_scales_of_the_cache(void **state) {
    (void)state;
    const float bad[] = {-1, NAN, INFINITY}, heads[2] = {0.5f, 0.25f};
#define KV_CT(spec) CT(CT_W "," CT_TOKEN LINEAR, ",\"kv_cache_scheme\":{" spec "}")
    for (size_t i = 0; i < N(bad); i++) {
        const part e[] = {KV("k_scale", F32, 0, {0}, &one), KV("v_scale", F32, 0, {0}, &bad[i])};
        refuse_kv(e, N(e), KV_CT("\"type\":\"float\""), NULL, OCT_E_CORRUPT, "a.v_scale: index 0");
    }
    const part three[] = {KV("k_scale", F32, 1, {3}, floats), KV("v_scale", F32, 1, {3}, floats)};
    const part heads_only[] = {KV("k_scale", F32, 3, {2, 1, 1}, heads),
                               KV("v_scale", F32, 3, {2, 1, 1}, heads)};
    refuse_kv(heads_only, 0, KV_CT("\"strategy\":\"tensor\""), NULL, OCT_E_CORRUPT,
              "a.k_scale is missing"); /* never 1 */
    refuse_kv(three, 2, KV_CT("\"strategy\":\"channel\""), NULL, OCT_E_CORRUPT,
              "a.k_scale: got F32 [3], want 4 floats");
    refuse_kv(heads_only, 2, KV_CT("\"strategy\":\"tensor\""), NULL, OCT_E_CORRUPT,
              "a.k_scale: got F32 [2, 1, 1], want 1 floats"); /* finer than declared */
    refuse_open(heads_only, 2, KV_CT("\"type\":\"float\",\"dynamic\":true"), NULL, NULL,
                OCT_E_UNSUPPORTED, "kv_cache_scheme.dynamic");
    refuse_open(heads_only, 2, CT(CT_W LINEAR, ",\"kv_cache_scheme\":7"), NULL, NULL, OCT_E_CORRUPT,
                "kv_cache_scheme is no object");
}

static void F4_6_methods_alone(void **state) {
    (void)state;
    const float blocks[4] = {2, 4, 2, 4};
    const part b[] = {W8, PART("p.weight_scale_inv", F32, 2, {2, 2}, blocks)};
    const part e[] = {W8, CHANNEL};
    refuse(b, N(b),
           "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2],"
           "\"activation_scheme\":\"static\"}",
           NULL, OCT_E_UNSUPPORTED, "activation_scheme is not supported (got \"static\"");
    refuse(b, N(b), "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2]}", NULL,
           OCT_E_CORRUPT, "p.weight_scale_inv: got F32 [2, 2], want [1, 2] for blocks of 2 x 2");
    refuse(e, 1, "{\"quant_method\":\"w8a8_int8\"}", NULL, OCT_E_CORRUPT,
           "p.weight_scale is missing");
    refuse_open(e, N(e), "{\"quant_method\":\"w8a8_int8\",\"ignore\":[\"re:(\"]}", NULL, NULL,
                OCT_E_UNSUPPORTED, "quantization_config.ignore: pattern");
    refuse_open(e, N(e), NULL, NULL, &(oct_scheme_options){.forced = "bitsandbytes"}, OCT_E_INVALID,
                "--quantization: not known (got \"bitsandbytes\"");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(F1_2_which_method_wins),
        TEST(F1_2_forced_on_a_single_file),
        TEST(F1_3_metadata),
        TEST(F1_4_shards_quantised_in_different_ways),
        TEST(F1_4_a_shard_without_a_scheme),
        TEST(F1_4_names_are_exact),
        TEST(F1_4_every_expert_is_looked_at),
        TEST(F1_5_other_aliases),
        TEST(F1_6_what_static_needs),
        TEST(F1_7_scales_by_group),
        TEST(F1_9_group_sizes),
        TEST(F1_10_factors_that_are_wrong),
        TEST(F1_10_what_nothing_uses),
        TEST(F1_11_listed_scales_that_are_missing),
        TEST(F1_12_attention_operands),
        TEST(F2_3_the_head_that_is_there_is_used),
        TEST(F2_4_rotations_that_others_describe),
        TEST(F3_1_files_and_fields),
        TEST(F3_2_names_and_shards),
        TEST(F3_3_inputs_that_are_refused),
        TEST(F3_4_tensors),
        TEST(F3_5_experts),
        TEST(F3_7_cache_specifications),
        TEST(F4_1_groups),
        TEST(F4_2_shards_and_experts),
        TEST(F4_3_tensors),
        TEST(F4_4_fields_and_scales),
        TEST(F4_5_scales_of_the_cache),
        TEST(F4_6_methods_alone),
    };
    return cmocka_run_group_tests_name("refusals", tests, NULL, NULL);
}
