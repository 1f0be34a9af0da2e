/* Sections 1 to 4 of the format notes: what each writer's spelling means, and every refusal. A test
 * is named by the section it comes from. */
#include "scheme_test.h"

static const signed char W[8] = {10, -20, 30, 127, -128, 5, 0, 64};
static const float scales[2] = {0.5f, 0.25f}, one_scale = 0.5f, in_scale = 0.125f,
                   floats[8] = {1, 2};
static const float quarter = 0.25f;
static const signed char zero_points[2], minus_five = -5;

#define W8 PART("p.weight", I8, 2, {2, 4}, W)
#define CHANNEL PART("p.weight_scale", F32, 2, {2, 1}, scales)
#define N(a) (sizeof(a) / sizeof *(a))

/* ---- 1: ModelSlim ------------------------------------------------------------------------------
 */

static void F1_3_every_scheme_string(void **state) {
    (void)state;
    static const char *const no[] = {"C8",
                                     "FAQuant",
                                     "FAKQuant",
                                     "W4A8_DYNAMIC",
                                     "W4A4_DYNAMIC",
                                     "W4A16",
                                     "NF4",
                                     "W8A8S",
                                     "W8A8SC",
                                     "W16A16S",
                                     "W16A16SC",
                                     "W8A8_TIMESTEP",
                                     "W8A8_MXFP8",
                                     "W4A8_MXFP",
                                     "W4A4_MXFP4",
                                     "W4A4_MXFP4_DUALSCALE",
                                     "W4A4_MXFP4_SVD",
                                     "W4A4_MXFP4_FLATQUANT",
                                     "W4A16_MXFP4",
                                     "W4A4_FLATQUANT_DYNAMIC",
                                     "W8A8_FLATQUANT_DYNAMIC",
                                     "W4A8_FLATQUANT_DYNAMIC",
                                     "UNKNOWN",
                                     "INT8"};
    const part e[] = {W8, CHANNEL};
    asked a;
    char text[128];
    for (size_t i = 0; i < N(no); i++) {
        snprintf(text, sizeof text, "{\"p.weight\":\"%s\"}", no[i]);
        put_parts(e, N(e), NULL, text);
        snprintf(text, sizeof text, "got \"%s\"", no[i]);
        refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_UNSUPPORTED, text);
    }
}

static void F1_9_int8_weights_alone(void **state) {
    (void)state;
    const float off[2] = {-3, 0}, grouped[4] = {1, 2, 3, 4};
    const part e[] = {W8, CHANNEL, PART("p.weight_offset", F32, 2, {2, 1}, off)};
    const part g[] = {W8, PART("p.weight_scale", F32, 2, {2, 2}, grouped)};
    float rows[8];
    asked a;
    put_parts(e, N(e), NULL, "{\"p.weight\":\"W8A16\"}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_W8A16);
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, NULL), OCT_OK);
    assert_true(rows[0] == 6.5f && rows[3] == 65 && rows[4] == -32 && rows[7] == 16);
    all_used(&a);
    done(&a);
    put_parts(g, N(g), NULL, "{\"p.weight\":\"W8A16\",\"group_size\":2}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 1, 1, rows, NULL), OCT_OK);
    assert_true(rows[0] == -384 && rows[1] == 15 && rows[2] == 0 && rows[3] == 256);
    done(&a);
}

static void F1_4_experts_must_be_alike(void **state) {
    (void)state;
    const part e[] = {PART("l.mlp.experts.0.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.0.up_proj.weight_scale", F32, 1, {2}, scales),
                      PART("l.mlp.experts.1.up_proj.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), NULL,
              "{\"l.mlp.experts.0.up_proj.weight\":\"W8A8_DYNAMIC\","
              "\"l.mlp.experts.1.up_proj.weight\":\"FLOAT\"}");
    refused(&a, ask_open(&a, NULL), OCT_E_CORRUPT, "experts of one layer: some but not all");
    put_parts(e, 2, NULL, "{\"l.mlp.experts.0.up_proj.weight\":\"W8A8\"}");
    refused(&a, ask(&a, NULL, "l.mlp.experts.0.up_proj", 2, 4), OCT_E_UNSUPPORTED,
            "routed experts are always dynamic");
}

static void F1_4_fused_shards_when_strict(void **state) {
    (void)state;
    const oct_scheme_options strict = {.strict = true};
    const part e[] = {PART("a.q_proj.weight", I8, 2, {2, 4}, W),
                      PART("a.q_proj.weight_scale", F32, 1, {2}, scales),
                      PART("a.k_proj.weight", F32, 2, {2, 4}, floats),
                      PART("a.v_proj.weight", I8, 2, {2, 4}, W)};
    asked a;
    put_parts(e, 3, NULL, "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\",\"a.k_proj.weight\":\"FLOAT\"}");
    ok(&a, ask_open(&a, NULL)); /* separate products are right all the same */
    done(&a);
    refused(&a, ask_open(&a, &strict), OCT_E_CORRUPT, "a.qkv_proj: some but not all are quantised");
    put_parts(e, 4, NULL,
              "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\",\"a.v_proj.weight\":\"W8A8\","
              "\"a.k_proj.weight\":\"FLOAT\"}");
    refused(&a, ask_open(&a, &strict), OCT_E_CORRUPT, "a.qkv_proj");
    put_parts(e, 2, NULL, "{\"a.q_proj.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask_open(&a, &strict));
    assert_int_equal(oct_scheme_check_unused(a.s, &a.err), OCT_E_CORRUPT);
    expect_text(&a.err, "2 tensors are not used by this model: a.q_proj.weight");
    done(&a);
}

static void F1_5_names(void **state) {
    (void)state;
    const part packed[] = {PART("p.weight_packed", I8, 2, {2, 4}, W), CHANNEL};
    const part wrapped[] = {
        PART("model.language_model.embed_tokens.weight", F32, 2, {3, 4}, (float[12]){0}),
        PART("model.language_model.layers.0.x.weight", I8, 2, {2, 4}, W),
        PART("model.language_model.layers.0.x.weight_scale", F32, 1, {2}, scales),
        PART("language_model.lm_head.weight", F32, 2, {2, 4}, floats)};
    const part shared[] = {
        PART("model.layers.2.shared_head.head.weight", I8, 2, {2, 4}, W),
        PART("model.layers.2.shared_head.head.weight_scale", F32, 1, {2}, scales)};
    asked a;
    put_parts(packed, N(packed), NULL, "{\"p.weight_packed\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.col_scale[1] == 0.25f);
    all_used(&a);
    done(&a);
    put_parts(wrapped, N(wrapped), NULL,
              "{\"model.layers.0.x.weight\":\"W8A8_DYNAMIC\",\"lm_head.weight\":\"FLOAT\"}");
    ok(&a, ask(&a, NULL, "model.layers.0.x", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    assert_non_null(oct_checkpoint_find(a.c, "model.embed_tokens.weight"));
    ok(&a, oct_scheme_linear(a.s, &a.arena, "lm_head", 2, 4, false, &a.lin, &a.err));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    put_parts(shared, N(shared), NULL,
              "{\"model.layers.2.shared_head.head.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "model.layers.2.head", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
}

static void F1_1_description_of_an_old_writer(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    asked a;
    put_parts(e, N(e), NULL, NULL);
    put_text("quant_model_description_w8a8_dynamic.json",
             "{\"p.weight\":\"W8A8_DYNAMIC\",\"fa_quant_type\":null,\"kv_quant_type\":null}");
    ok(&a, ask(&a, &(oct_scheme_options){.forced = "ascend"}, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
}

static void F2_4_rotations_in_the_description(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    asked a;
    put_parts(e, N(e), NULL,
              "{\"p.weight\":\"W8A8_DYNAMIC\",\"metadata\":{\"quarot\":{\"heads_rotation\":"
              "{\"layers\":[0]}}}}");
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "metadata.quarot.heads_rotation");
    put_parts(e, N(e), NULL,
              "{\"p.weight\":\"W8A8_DYNAMIC\",\"metadata\":{\"quarot\":{\"heads_rotation\":"
              "{\"layers\":[]}}},\"optional\":{\"quarot\":{\"rotation_map\":{}}}}");
    ok(&a, ask(&a, NULL, "p", 2, 4)); /* folded into the weights: nothing to do */
    done(&a);
}

static void F1_11_spellings_of_c8(void **state) {
    (void)state;
    const uint16_t half[4] = {0x3800, 0x3400, 0x3800, 0x3400}; /* 0.5, 0.25 */
    const float heads[2] = {0.5f, 0.25f};
    const part f16[] = {PART("a.k_proj.kv_cache_scale", F16, 1, {4}, half),
                        PART("a.v_proj.kv_cache_scale", F16, 1, {4}, half)};
    const part fused[] = {PART("a.qkv_proj.k_proj.kv_cache_scale", F16, 1, {4}, half),
                          PART("a.qkv_proj.v_proj.kv_cache_scale", F16, 1, {4}, half)};
    const part fa[] = {PART("a.fa_k.scale", F32, 2, {2, 1}, heads),
                       PART("a.fa_v.scale", F32, 2, {2, 1}, heads),
                       PART("a.fa_q.scale", F32, 2, {2, 1}, heads),
                       PART("a.fa_k.offset", I8, 2, {2, 1}, zero_points)};
    asked a;
    put_parts(f16, N(f16), NULL, "{\"kv_quant_type\":\"C8\"}");
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.k_scale[1] == 0.25f && !a.kv.k_offset);
    done(&a);
    put_parts(f16, N(f16), NULL, "{\"a.k_proj.kv_cache_scale\":\"C8\"}"); /* only listed */
    ok(&a, ask_kv(&a, 2));
    assert_int_equal(a.kv.kind, OCT_KV_KIND_I8);
    done(&a);
    put_parts(fused, N(fused), NULL, "{\"kv_cache_type\":\"C8\"}");
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.v_scale[3] == 0.25f);
    done(&a);
    put_parts(fa, N(fa), NULL, "{\"fa_quant_type\":\"FAQuant\"}");
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.grain == OCT_KV_GRAIN_HEAD);
    assert_true(a.kv.k_scale[1] == 0.5f && a.kv.k_scale[2] == 0.25f);
    all_used(&a);
    done(&a);
    put_parts(fa, 1, NULL, "{\"fa_quant_type\":\"FAKQuant\"}");
    refused(&a, ask_open(&a, NULL), OCT_E_CORRUPT, "a.fa_v.scale is missing");
}

/* ---- 3: Quark ----------------------------------------------------------------------------------
 */

#define Q_W "\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_channel\",\"ch_axis\":0}"
#define Q_TOKEN                                                                        \
    "\"input_tensors\":{\"dtype\":\"int8\",\"qscheme\":\"per_channel\",\"ch_axis\":1," \
    "\"is_dynamic\":true}"
#define Q_STATIC "\"input_tensors\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\"}"
#define QUARK(spec) "{\"quant_method\":\"quark\",\"global_quant_config\":{" spec "}}"

static void quark_refused(const char *config, const char *word) {
    const part e[] = {W8, CHANNEL};
    asked a;
    put_parts(e, N(e), config, NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_UNSUPPORTED, word);
}

static void F3_3_specifications_that_are_refused(void **state) {
    (void)state;
    quark_refused(QUARK("\"weight\":{\"dtype\":\"int4\",\"qscheme\":\"per_channel\"}"),
                  "weight.dtype is not supported (got \"int4\"");
    quark_refused(QUARK("\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_group\"}"), "per_group");
    quark_refused(
        QUARK("\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_channel\",\"ch_axis\":1}"),
        "ch_axis");
    quark_refused(
        QUARK("\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\",\"symmetric\":false}"),
        "symmetric");
    quark_refused(
        QUARK("\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\",\"is_dynamic\":true}"),
        "is_dynamic");
    quark_refused(QUARK("\"weight\":[]"), "several levels");
    quark_refused(
        QUARK(Q_W ",\"input_tensors\":{\"dtype\":\"fp8_e4m3\",\"qscheme\":\"per_tensor\"}"),
        "the weights' type");
    quark_refused(QUARK(Q_W ",\"input_tensors\":{\"dtype\":\"int8\",\"qscheme\":\"per_channel\"}"),
                  "input_tensors.qscheme");
    quark_refused(QUARK(Q_W "," Q_TOKEN ",\"output_tensors\":{\"dtype\":\"int8\"}"),
                  "output_tensors");
    quark_refused(QUARK(Q_W "," Q_TOKEN ",\"bias\":{\"dtype\":\"int8\"}"), "bias");
    quark_refused("{\"quant_method\":\"quark\",\"export\":{\"weight_format\":\"x\"}}",
                  "export.weight_format");
    quark_refused("{\"quant_method\":\"quark\",\"exclude\":[\"re:(\"]}", "exclude: pattern");
}

static void F3_2_which_specification_holds(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL, PART("p.input_scale", F32, 0, {0}, &in_scale)};
    const part f[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), QUARK(Q_W "," Q_STATIC), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.act == OCT_ACT_STATIC_AFTER && a.lin.input_scale == 0.125f);
    assert_true(a.lin.col_scale[0] == 0.0625f && !a.lin.int_bias);
    done(&a);
    put_parts(e, 2,
              "{\"quant_method\":\"quark\",\"global_quant_config\":{" Q_W "," Q_STATIC
              "},\"layer_quant_config\":{\"x\":{},\"?\":{" Q_W "," Q_TOKEN "}}}",
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.act, OCT_ACT_DYNAMIC);
    done(&a);
    put_parts(f, 1,
              "{\"quant_method\":\"quark\",\"exclude\":[\"[o-q]\"],\"global_quant_config\":{" Q_W
              "," Q_TOKEN "}}",
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    put_parts(f, 1, QUARK(Q_W "," Q_TOKEN), NULL); /* a router that no list names */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    put_parts(e, 2, "{\"quant_method\":\"quark\",\"exclude\":[\"p\"]}", NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "is I8, but quantization_config.exclude");
    put_parts(e, 1, QUARK(Q_W "," Q_TOKEN), NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "p.weight_scale is missing");
    put_parts(e, 2, QUARK(Q_W "," Q_STATIC), NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "p.input_scale is missing");
}

static void F3_2_by_class_and_by_name(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL, PART("q.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), /* the class comes before the whole, a name before the class */
              "{\"quant_method\":\"quark\",\"global_quant_config\":{},\"layer_type_quant_config\":{"
              "\"Conv2d\":{},\"Linear\":{" Q_W "," Q_TOKEN "}},\"layer_quant_config\":{\"q\":{}},"
              "\"softmax_quant_spec\":{\"dtype\":\"int8\"}}",
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    ok(&a, oct_scheme_linear(a.s, &a.arena, "q", 2, 4, false, &a.lin, &a.err));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
}

static void F3_6_inputs_of_experts(void **state) {
    (void)state;
    const float small = 0.125f, large = 0.5f;
    const part e[] = {PART("l.mlp.experts.0.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.0.up_proj.weight_scale", F32, 0, {0}, &quarter),
                      PART("l.mlp.experts.0.up_proj.input_scale", F32, 0, {0}, &small),
                      PART("l.mlp.experts.1.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.1.up_proj.weight_scale", F32, 0, {0}, &quarter),
                      PART("l.mlp.experts.1.up_proj.input_scale", F32, 0, {0}, &large)};
    const char config[] =
        QUARK("\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\"}," Q_STATIC);
    const char dynamic[] = QUARK(
        "\"weight\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\"},\"input_tensors\":{\"dtype\":"
        "\"int8\",\"qscheme\":\"per_tensor\",\"is_dynamic\":true}");
    asked a;
    put_parts(e, N(e), config, NULL);
    ok(&a, ask(&a, NULL, "l.block_sparse_moe.experts.0.w3", 2, 4)); /* the other spelling */
    assert_true(a.lin.input_scale == large && a.lin.col_scale[1] == 0.125f);
    ok(&a,
       oct_scheme_linear(a.s, &a.arena, "l.mlp.experts.1.up_proj", 2, 4, false, &a.lin, &a.err));
    assert_true(a.lin.input_scale == large);
    done(&a);
    put_parts(e, N(e), dynamic, NULL); /* one scale for a tensor: a scale a row here */
    ok(&a, ask(&a, NULL, "l.mlp.experts.0.up_proj", 2, 4));
    assert_true(a.lin.act == OCT_ACT_DYNAMIC && a.lin.col_scale[1] == 0.25f);
    done(&a);
}

static void F3_7_cache(void **state) {
    (void)state;
    const part e[] = {PART("a.k_proj.output_scale", F32, 0, {0}, &one_scale),
                      PART("a.v_proj.output_scale", F32, 0, {0}, &quarter)};
#define Q_KV(spec)                                                                            \
    "{\"quant_method\":\"quark\",\"kv_cache_quant_config\":{\"*k_proj\":{\"output_tensors\":" \
    "{" spec "}},\"*v_proj\":{\"output_tensors\":{" spec "}}}}"
    asked a;
    put_parts(e, 2, Q_KV("\"dtype\":\"int8\",\"qscheme\":\"per_tensor\""), NULL);
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.v_scale[3] == 0.25f);
    done(&a);
    /* As older files say it: entries among the layers, which a list calls the cache's. */
    put_parts(
        e, 2,
        "{\"quant_method\":\"quark\",\"export\":{\"kv_cache_group\":[\"*k_proj\",\"*v_proj\"]},"
        "\"layer_quant_config\":{\"*k_proj\":{\"output_tensors\":{\"dtype\":\"fp8_e4m3\","
        "\"qscheme\":\"per_tensor\"}},\"*v_proj\":{\"output_tensors\":{\"dtype\":\"fp8_e4m3\","
        "\"qscheme\":\"per_tensor\"}}}}",
        NULL);
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_FP8 && a.kv.v_scale[3] == 0.25f);
    done(&a);
    put_parts(e, 1, Q_KV("\"dtype\":\"fp8_e4m3\",\"qscheme\":\"per_tensor\""), NULL);
    refused(&a, ask_kv(&a, 2), OCT_E_CORRUPT, "a.v_proj.output_scale is missing"); /* never 1.0 */
    put_parts(e, 2, Q_KV("\"dtype\":\"fp8_e4m3\",\"qscheme\":\"per_channel\""), NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "output_tensors.qscheme");
    put_parts(e, 2, "{\"quant_method\":\"quark\"}", NULL); /* there, but not asked for */
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_FLOAT && a.kv.offered == OCT_KV_KIND_FP8 && a.kv.k_scale);
    done(&a);
}

/* ---- 4: compressed-tensors and the plain methods -----------------------------------------------
 */

#define CT_W "\"weights\":{\"num_bits\":8,\"type\":\"int\",\"strategy\":\"channel\"}"
#define CT_TOKEN "\"input_activations\":{\"strategy\":\"token\",\"dynamic\":true}"
#define CT(group, more) \
    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{" group "}}" more "}"
#define LINEAR ",\"targets\":[\"Linear\"]"

static void ct_refused(const char *config, oct_status status, const char *word) {
    const part e[] = {W8, CHANNEL};
    asked a;
    put_parts(e, N(e), config, NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), status, word);
}

static void F4_1_configs_that_are_refused(void **state) {
    (void)state;
    ct_refused("{\"quant_method\":\"compressed-tensors\"}", OCT_E_CORRUPT, "config_groups");
    ct_refused(CT("\"weights\":{\"num_bits\":4}" LINEAR, ""), OCT_E_UNSUPPORTED,
               "weights.num_bits is not supported (got 4");
    ct_refused(CT("\"weights\":{\"strategy\":\"tensor_group\"}" LINEAR, ""), OCT_E_UNSUPPORTED,
               "strategy");
    ct_refused(CT("\"weights\":{\"type\":\"x\"}" LINEAR, ""), OCT_E_UNSUPPORTED, "weights.type");
    ct_refused(CT("\"weights\":{\"dynamic\":\"local\"}" LINEAR, ""), OCT_E_UNSUPPORTED, "local");
    ct_refused(CT("\"weights\":{\"symmetric\":3}" LINEAR, ""), OCT_E_CORRUPT, "symmetric");
    ct_refused(
        CT(CT_W ",\"input_activations\":{\"strategy\":\"group\",\"group_size\":4}" LINEAR, ""),
        OCT_E_UNSUPPORTED, "input_activations.strategy");
    ct_refused(CT(CT_W ",\"output_activations\":{}" LINEAR, ""), OCT_E_UNSUPPORTED,
               "output_activations");
    ct_refused(CT(CT_W LINEAR, ",\"format\":\"marlin-24\""), OCT_E_UNSUPPORTED, "marlin-24");
    ct_refused(CT(CT_W LINEAR, ",\"sparsity_config\":{\"format\":\"x\"}"), OCT_E_UNSUPPORTED,
               "sparsity_config");
    ct_refused(CT(CT_W LINEAR, ",\"transform_config\":{\"config_groups\":{\"r\":{}}}"),
               OCT_E_UNSUPPORTED, "transform_config");
    ct_refused(CT(CT_W ",\"targets\":7", ""), OCT_E_CORRUPT, "not a list");
    ct_refused(CT(CT_W ",\"targets\":[\"re:(?R)\"]", ""), OCT_E_UNSUPPORTED, "an unknown kind");
    ct_refused(CT(CT_W ",\"targets\":[\"q\"]", ""), OCT_E_CORRUPT, "no target");
    ct_refused(CT(CT_W LINEAR, ",\"ignore\":[\"re:.*\"]"), OCT_E_CORRUPT,
               "quantization_config.ignore");
    ct_refused(
        "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"W4A16\":[\"Linear\"]}}",
        OCT_E_UNSUPPORTED, "preset \"W4A16\"");
    ct_refused(CT("\"weights\":{\"strategy\":\"tensor\"}," CT_TOKEN LINEAR, ""), OCT_E_CORRUPT,
               "p.weight_scale: got F32 [2, 1], want 1");
    ct_refused(CT(CT_W LINEAR, ",\"kv_cache_scheme\":{\"strategy\":\"block\"}"), OCT_E_UNSUPPORTED,
               "kv_cache_scheme.strategy");
    ct_refused(CT(CT_W LINEAR, ",\"kv_cache_scheme\":{\"num_bits\":4}"), OCT_E_UNSUPPORTED,
               "kv_cache_scheme.num_bits");
}

static void F4_1_older_and_shorter_spellings(void **state) {
    (void)state;
    const unsigned char f8[8] = {0x38};
    const part e[] = {W8, CHANNEL};
    const part f[] = {PART("p.weight", F8_E4M3, 2, {2, 4}, f8), CHANNEL};
    const part plain[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), CT(CT_W "," CT_TOKEN LINEAR, ""), NULL);
    char config[1024];
    FILE *in = fopen(in_dir("config.json"), "r");
    config[fread(config, 1, sizeof config - 1, in)] = '\0';
    fclose(in);
    char *key = strstr(config, "quantization_config");
    memmove(key + 18, key + 19, strlen(key + 19) + 1);
    memcpy(key, "compression_config", 18); /* the first name of the key */
    put_text("config.json", config);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_string_equal(oct_scheme_name(a.s), "compressed-tensors");
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
#define PRESET(name) "{\"config_groups\":{\"" name "\":[\"Linear\"]}}" /* without a method, too */
    put_parts(e, N(e), PRESET("W8A8"), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.act == OCT_ACT_DYNAMIC);
    done(&a);
    put_parts(f, N(f), PRESET("FP8_DYNAMIC"), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_FP8 && a.lin.fp8_act == OCT_FP8_ACT_TOKEN);
    done(&a);
    put_parts(plain, 1, PRESET("UNQUANTIZED"), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
}

static void F4_3_int8(void **state) {
    (void)state;
    const signed char bad[2] = {0, 3};
    const part dyn[] = {W8, CHANNEL, PART("p.weight_zero_point", I8, 2, {2, 1}, zero_points)};
    const part asym[] = {W8, PART("p.weight_scale", F32, 1, {1}, &one_scale),
                         PART("p.input_scale", F32, 1, {1}, &in_scale),
                         PART("p.input_zero_point", I8, 1, {1}, &minus_five)};
    const part wrong[] = {W8, CHANNEL, PART("p.weight_zero_point", I8, 2, {2, 1}, bad)};
    const char stat[] = CT("\"weights\":{\"strategy\":\"tensor\"},\"input_activations\":{"
                           "\"strategy\":\"tensor\",\"symmetric\":false}" LINEAR,
                           "");
    asked a;
    put_parts(dyn, N(dyn), CT(CT_W "," CT_TOKEN LINEAR, ""), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.act == OCT_ACT_DYNAMIC);
    all_used(&a);
    done(&a);
    put_parts(asym, N(asym), stat, NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.act == OCT_ACT_STATIC_AFTER && a.lin.input_offset == -5);
    assert_true(a.lin.int_bias[0] == 5 * 147 && a.lin.int_bias[1] == 5 * -59);
    assert_true(a.lin.col_scale[0] == 0.0625f && a.lin.col_scale[1] == 0.0625f);
    all_used(&a);
    done(&a);
    put_parts(wrong, N(wrong), CT(CT_W "," CT_TOKEN LINEAR, ""), NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_UNSUPPORTED,
            "p.weight_zero_point: index 1 (got 3, want 0");
    put_parts(asym, N(asym),
              CT("\"weights\":{\"strategy\":\"tensor\"},\"input_activations\":{\"strategy\":"
                 "\"tensor\"}" LINEAR,
                 ""),
              NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "p.input_zero_point: got -5, want 0");
}

static void F4_3_packed_and_alone(void **state) {
    (void)state;
    unsigned char bytes[16];
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 8; i++) bytes[r * 8 + i] = i < 5 ? (unsigned char)(118 + r + i) : 0;
    const part e[] = {PART("p.weight_packed", I32, 2, {2, 2}, bytes), CHANNEL,
                      PART("p.weight_shape", I64, 1, {2}, ((int64_t[2]){2, 5}))};
    signed char q[10];
    float rows[10];
    asked a;
    put_parts(e, N(e), CT(CT_W "," CT_TOKEN LINEAR, ",\"format\":\"pack-quantized\""), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 5));
    assert_int_equal(oct_scheme_read_i8(a.c, &a.lin, 0, 2, q, NULL), OCT_OK);
    assert_true(q[0] == -10 && q[4] == -6 && q[5] == -9 && q[9] == -5);
    all_used(&a);
    done(&a);
    put_parts(e, N(e), CT(CT_W LINEAR, ",\"format\":\"pack-quantized\""), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 5));
    assert_int_equal(a.lin.kind, OCT_LINEAR_W8A16);
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, NULL), OCT_OK);
    assert_true(rows[0] == -5 && rows[4] == -3 && rows[5] == -2.25f && rows[9] == -1.25f);
    done(&a);
}

static void F4_2_matching(void **state) {
    (void)state;
    const part e[] = {PART("m.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("m.up_proj.weight_scale", F32, 1, {2}, scales)};
    static const char *const yes[] = {"[\"Linear\"]",         "[\"linear\"]",
                                      "[\"m.up_proj\"]",      "[\"re:m\\\\.(gate|up)_proj$\"]",
                                      "[\"m.gate_up_proj\"]", "[\"re:.*gate_up_proj\"]"};
    static const char *const no[] = {"[\"Embedding\"]", "[\"re:up_proj\"]", "[\"up_proj\"]",
                                     "[\"re:.*gate\"]"};
    char config[512];
    asked a;
    for (size_t i = 0; i < N(yes) + N(no); i++) {
        const bool want = i < N(yes);
        snprintf(config, sizeof config, CT(CT_W "," CT_TOKEN ",\"targets\":%s", ""),
                 want ? yes[i] : no[i - N(yes)]);
        put_parts(e, N(e), config, NULL);
        if (want) {
            ok(&a, ask(&a, NULL, "m.up_proj", 2, 4));
            assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
            done(&a);
        } else {
            refused(&a, ask(&a, NULL, "m.up_proj", 2, 4), OCT_E_CORRUPT, "no target");
        }
    }
}

static void F4_4_fp8(void **state) {
    (void)state;
    const unsigned char f8[8] = {0x38, 0x40, 0xB8, 0, 0x38, 0x38, 0x7E, 0x01};
    const float blocks[2] = {2, 4};
    const part block[] = {PART("p.weight", F8_E4M3, 2, {2, 4}, f8),
                          PART("p.weight_scale_inv", F32, 2, {1, 2}, blocks)};
    const part stat[] = {PART("p.weight", F8_E4M3, 2, {2, 4}, f8),
                         PART("p.weight_scale", F32, 0, {0}, &one_scale),
                         PART("p.input_scale", F32, 0, {0}, &in_scale)};
    const part row[] = {PART("p.weight", F8_E4M3, 2, {2, 4}, f8), CHANNEL};
    float rows[8];
    asked a;
    put_parts(block, 2, "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}", NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_FP8 && a.lin.fp8_act == OCT_FP8_ACT_BLOCK);
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, NULL), OCT_OK);
    assert_true(rows[0] == 2 && rows[1] == 4 && rows[2] == -4 && rows[3] == 0);
    assert_true(rows[5] == 2 && rows[6] == 4 * 448 && rows[7] == 4 * 0.001953125f);
    done(&a);
    put_parts(stat, 3, "{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\"}", NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.fp8_act == OCT_FP8_ACT_STATIC && a.lin.input_scale == 0.125f);
    all_used(&a);
    done(&a);
    put_parts(row, 2, "{\"quant_method\":\"fbgemm_fp8\",\"activation_scale_ub\":1200}", NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.fp8_act == OCT_FP8_ACT_TOKEN && a.lin.fp8_act_max == 1200);
    done(&a);
    put_parts(block, 2,
              "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2],\"activation_scheme\":"
              "\"static\"}",
              NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "activation_scheme");
    put_parts(block, 2, "{\"quant_method\":\"fp8\",\"weight_block_size\":[1,2]}", NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "want [2, 2] for blocks of 1 x 2");
    put_parts(row, 2, "{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "e5m2");
    put_parts(stat, 2, "{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\"}", NULL);
    refused(&a, ask(&a, NULL, "p", 2, 4), OCT_E_CORRUPT, "p.input_scale is missing");
}

static void F4_4_lists_of_layers(void **state) {
    (void)state;
    const unsigned char f8[8] = {0x38};
    const part e[] = {PART("model.layers.0.m.gate.weight", F32, 2, {2, 4}, floats),
                      PART("model.layers.0.m.up_proj.weight", F8_E4M3, 2, {2, 4}, f8),
                      PART("model.layers.0.m.up_proj.weight_scale", F32, 0, {0}, &one_scale)};
    static const char *const keys[] = {"ignored_layers", "modules_to_not_convert", "ignore"};
    static const char *const entries[] = {"model.layers.0.m.gate", "gate", "re:.*gate$"};
    char config[256];
    asked a;
    for (size_t k = 0; k < N(keys); k++)
        for (size_t i = 0; i < N(entries); i++) {
            snprintf(config, sizeof config, "{\"quant_method\":\"fp8\",\"%s\":[\"%s\"]}", keys[k],
                     entries[i]);
            put_parts(e, N(e), config, NULL);
            ok(&a, ask(&a, NULL, "model.layers.0.m.gate", 2, 4));
            assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
            ok(&a, oct_scheme_linear(a.s, &a.arena, "model.layers.0.m.up_proj", 2, 4, false, &a.lin,
                                     &a.err));
            assert_int_equal(a.lin.kind, OCT_LINEAR_FP8);
            done(&a);
        }
}

static void F4_5_cache(void **state) {
    (void)state;
    const float heads[2] = {0.5f, 0.25f}, bad = 0;
    static const char *const k[] = {"a.k_scale", "a.k_proj.k_scale", "a.qkv_proj.k_scale",
                                    "a.k_proj.output_scale", "a.kv_scale"};
    static const char *const v[] = {"a.v_scale", "a.v_proj.v_scale", "a.qkv_proj.v_scale",
                                    "a.v_proj.output_scale", NULL};
#define KV_CT(spec) CT(CT_W "," CT_TOKEN LINEAR, ",\"kv_cache_scheme\":{" spec "}")
    asked a;
    for (size_t i = 0; i < N(k); i++) {
        const part e[] = {{k[i], OCT_DTYPE_F32, 0, {0}, &one_scale},
                          {v[i] ? v[i] : "x", OCT_DTYPE_F32, 0, {0}, &quarter}};
        put_parts(e, 2, KV_CT("\"type\":\"float\""), NULL);
        ok(&a, ask_kv(&a, 2));
        assert_true(a.kv.kind == OCT_KV_KIND_FP8 && a.kv.k_scale[3] == 0.5f);
        assert_true(a.kv.v_scale[0] == (v[i] ? 0.25f : 0.5f));
        done(&a);
    }
    const part e[] = {PART("a.k_scale", F32, 3, {2, 1, 1}, heads),
                      PART("a.v_scale", F32, 3, {2, 1, 1}, heads),
                      PART("a.k_zero_point", I8, 1, {1}, &minus_five)};
    const part zero[] = {PART("a.k_scale", F32, 0, {0}, &bad),
                         PART("a.v_scale", F32, 0, {0}, &quarter)};
    put_parts(e, 2, KV_CT("\"strategy\":\"attn_head\""), NULL);
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.k_scale[1] == 0.5f && a.kv.k_scale[2] == 0.25f);
    assert_int_equal(a.kv.grain, OCT_KV_GRAIN_HEAD);
    done(&a);
    put_parts(e, 2, KV_CT("\"dynamic\":true"), NULL);
    ok(&a, ask_kv(&a, 2));
    assert_int_equal(a.kv.kind, OCT_KV_KIND_I8_HEAD);
    done(&a);
    put_parts(e, 2, KV_CT("\"strategy\":\"tensor\""), NULL);
    refused(&a, ask_kv(&a, 2), OCT_E_CORRUPT, "a.k_scale: got F32 [2, 1, 1], want 1");
    put_parts(e, 1, KV_CT("\"strategy\":\"attn_head\""), NULL);
    refused(&a, ask_kv(&a, 2), OCT_E_CORRUPT, "a.v_scale is missing");
    put_parts(e, 3, KV_CT("\"strategy\":\"attn_head\""), NULL);
    refused(&a, ask_kv(&a, 2), OCT_E_UNSUPPORTED, "a.k_zero_point: index 0 (got -5");
    put_parts(zero, 2, KV_CT("\"strategy\":\"tensor\""), NULL);
    refused(&a, ask_kv(&a, 2), OCT_E_CORRUPT, "a.k_scale: index 0 (got 0");
}

static void F4_6_other_spellings(void **state) {
    (void)state;
    const float blocks[2] = {2, 4};
    const part e[] = {W8, CHANNEL};
    const part b[] = {W8, PART("p.weight_scale_inv", F32, 2, {1, 2}, blocks)};
    static const char *const others[] = {"bitsandbytes", "gptq", "awq", "experts_int8"};
    char config[128];
    float rows[8];
    asked a;
    put_parts(e, 2, "{\"quant_method\":\"w8a8_int8\",\"ignore\":[\"lm_head\"]}", NULL);
    ok(&a, ask(&a, &(oct_scheme_options){.forced = "w8a8_int8"}, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.act == OCT_ACT_DYNAMIC);
    done(&a);
    put_parts(b, 2, "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2]}", NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 1, rows, NULL), OCT_OK);
    assert_true(rows[0] == 20 && rows[3] == 508);
    done(&a);
    put_parts(b, 2, "{\"quant_method\":\"blockwise_int8\"}", NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "weight_block_size");
    for (size_t i = 0; i < N(others); i++) {
        snprintf(config, sizeof config, "{\"quant_method\":\"%s\"}", others[i]);
        put_parts(e, 2, config, NULL);
        refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, others[i]);
    }
    put_parts(e, 2, "{\"quant_method\":\"quark\"}", NULL);
    refused(&a, ask_open(&a, &(oct_scheme_options){.forced = "fp8"}), OCT_E_INVALID,
            "config.json says quark");
}

/* ---- experts in one tensor ---------------------------------------------------------------------
 */

static void F3_6_stacked_experts(void **state) {
    (void)state;
    float gu[2 * 4 * 4], down[2 * 4 * 2], rows[8];
    for (size_t i = 0; i < N(gu); i++) gu[i] = (float)i;
    for (size_t i = 0; i < N(down); i++) down[i] = (float)i;
    const part e[] = {PART("model.layers.0.mlp.experts.gate_up_proj", F32, 3, {2, 4, 4}, gu),
                      PART("model.layers.0.mlp.experts.down_proj", F32, 3, {2, 4, 2}, down)};
    const part odd[] = {PART("model.layers.0.mlp.experts.gate_up_proj", F32, 3, {2, 4, 2}, gu)};
    asked a;
    put_parts(e, 2, NULL, NULL);
    ok(&a, ask(&a, NULL, "model.layers.0.mlp.experts.1.up_proj", 2, 4));
    assert_int_equal(oct_checkpoint_read_rows(a.c, a.lin.weight, 0, 2, rows, NULL), OCT_OK);
    assert_true(rows[0] == 24 && rows[7] == 31);
    ok(&a, oct_scheme_linear(a.s, &a.arena, "model.layers.0.block_sparse_moe.experts.1.w2", 4, 2,
                             false, &a.lin, &a.err));
    assert_int_equal(oct_checkpoint_read_rows(a.c, a.lin.weight, 0, 4, rows, NULL), OCT_OK);
    assert_true(rows[0] == 8 && rows[7] == 15);
    assert_int_equal(oct_checkpoint_unused(a.c, NULL), 4);
    done(&a);
    put_parts(odd, 1, NULL, NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "stacked in an order");
}

/* ---- memory ------------------------------------------------------------------------------------
 */

static oct_status ask_all(void *ctx, const oct_allocator *mem) {
    asked a = {0};
    oct_arena_init(&a.arena, mem, 0);
    oct_status st = oct_checkpoint_open(mem, ctx, &a.c, NULL);
    if (st == OCT_OK) st = oct_scheme_open(mem, a.c, NULL, &a.s, NULL);
    if (st == OCT_OK) st = oct_scheme_linear(a.s, &a.arena, "p", 2, 4, false, &a.lin, NULL);
    if (st == OCT_OK) st = oct_scheme_kv(a.s, &a.arena, "a", 2, 2, &a.kv, NULL);
    done(&a);
    return st;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const part e[] = {W8,
                      PART("p.weight_scale", F32, 1, {1}, &one_scale),
                      PART("p.weight_zero_point", I8, 1, {2}, zero_points),
                      PART("p.input_scale", F32, 1, {1}, &in_scale),
                      PART("p.input_zero_point", I8, 1, {1}, &minus_five),
                      PART("a.k_scale", F32, 0, {0}, &one_scale),
                      PART("a.v_scale", F32, 0, {0}, &one_scale),
                      PART("l.mlp.experts.down_proj", F32, 3, {1, 4, 2}, floats)};
    const part d[] = {W8, CHANNEL, PART("a.fa_k.scale", F32, 2, {2, 1}, scales),
                      PART("a.fa_v.scale", F32, 2, {2, 1}, scales)};
    put_parts(e, N(e),
              CT("\"weights\":{\"strategy\":\"tensor\"},\"input_activations\":{\"strategy\":"
                 "\"tensor\",\"symmetric\":false}" LINEAR,
                 ",\"ignore\":[\"re:x\",\"y\"],\"kv_cache_scheme\":{}"),
              NULL);
    refuse_each_request(ask_all, test_dir);
    put_parts(e, N(e) - 1,
              "{\"quant_method\":\"quark\",\"exclude\":[\"*x\"],\"layer_quant_config\":{\"q*\":{}},"
              "\"global_quant_config\":{\"weight\":{\"dtype\":\"int8\",\"qscheme\":"
              "\"per_tensor\"},\"input_tensors\":{\"dtype\":\"int8\",\"qscheme\":\"per_tensor\","
              "\"symmetric\":false}}}",
              NULL);
    refuse_each_request(ask_all, test_dir);
    put_parts(d, N(d), NULL, "{\"p.weight\":\"W8A16\",\"fa_quant_type\":\"FAQuant\"}");
    refuse_each_request(ask_all, test_dir);
    put_parts(d, N(d), "{\"quant_method\":\"w8a8_int8\",\"ignore\":[\"z\"]}", NULL);
    refuse_each_request(ask_all, test_dir);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(F1_1_description_of_an_old_writer),
        TEST(F1_3_every_scheme_string),
        TEST(F1_4_experts_must_be_alike),
        TEST(F1_4_fused_shards_when_strict),
        TEST(F1_5_names),
        TEST(F1_9_int8_weights_alone),
        TEST(F1_11_spellings_of_c8),
        TEST(F2_4_rotations_in_the_description),
        TEST(F3_2_which_specification_holds),
        TEST(F3_2_by_class_and_by_name),
        TEST(F3_3_specifications_that_are_refused),
        TEST(F3_6_inputs_of_experts),
        TEST(F3_7_cache),
        TEST(F4_1_configs_that_are_refused),
        TEST(F4_1_older_and_shorter_spellings),
        TEST(F4_2_matching),
        TEST(F4_3_int8),
        TEST(F4_3_packed_and_alone),
        TEST(F4_4_fp8),
        TEST(F4_4_lists_of_layers),
        TEST(F4_5_cache),
        TEST(F4_6_other_spellings),
        TEST(F3_6_stacked_experts),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
