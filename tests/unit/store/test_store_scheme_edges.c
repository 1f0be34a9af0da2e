/* Sections 1 and 4 of the format notes at their edges: tensors that are there and do not fit, keys
 * in their rarer spellings, what is absent, and reads that fail half way. A test is named by the
 * section, or by the row of the list of bad input. */
#include "scheme_test.h"

static const signed char W[8] = {10, -20, 30, 127, -128, 5, 0, 64};
static const unsigned char F8S[8] = {0x38, 0x40, 0xB8, 0, 0x38, 0x38, 0x7E, 0x01};
static const float scales[2] = {0.5f, 0.25f}, one = 0.5f, quarter = 0.25f, floats[8] = {1, 2},
                   four[4] = {1, 2, 3, 4}, in_scale = 0.125f, in_offset = -5;
static const int32_t qbias[2] = {3, 4};
static const oct_scheme_options strict = {.strict = true}, fixed = {.mix_static = true};

#define W8 PART("p.weight", I8, 2, {2, 4}, W)
#define F8 PART("p.weight", F8_E4M3, 2, {2, 4}, F8S)
#define CHANNEL PART("p.weight_scale", F32, 2, {2, 1}, scales)
#define BIAS PART("p.bias", F32, 1, {2}, scales)
#define N(a) (sizeof(a) / sizeof *(a))

/* The projection "p" [2, 4] of these tensors. */
static void refuse(const part *e, size_t n, const char *quant, const char *description,
                   oct_status want, const char *word) {
    asked a;
    put_parts(e, n, quant, description);
    refused(&a, ask(&a, NULL, "p", 2, 4), want, word);
}

/* The same, for a model whose projections have a bias. */
static oct_status ask_biased(asked *a, const char *prefix) {
    OCT_TRY(ask_open(a, NULL));
    OCT_TRY(oct_scheme_linear(a->s, &a->arena, prefix, 2, 4, true, &a->lin, &a->err));
    return oct_checkpoint_check_needs(a->c, &a->err);
}

/* ---- 1: ModelSlim ------------------------------------------------------------------------------
 */

static void F1_5_both_names_of_a_weight(void **state) {
    (void)state;
    const signed char other[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const part e[] = {W8, PART("p.weight_packed", I8, 2, {2, 4}, other), CHANNEL};
    signed char q[8];
    asked a;
    put_parts(e, N(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(oct_scheme_read_i8(a.c, &a.lin, 0, 2, q, NULL), OCT_OK);
    assert_memory_equal(q, W, sizeof W); /* the plain one is the weight */
    assert_int_equal(oct_checkpoint_unused(a.c, NULL), 1);
    done(&a);
}

#define STATIC(weight, bias)                                                                       \
    weight, PART("p.input_scale", F32, 1, {1}, &in_scale),                                         \
        PART("p.input_offset", F32, 1, {1}, &in_offset), PART("p.deq_scale", F32, 1, {2}, scales), \
        PART("p.quant_bias", I32, 1, {2}, bias)

static void F1_6_values_out_of_range(void **state) {
    (void)state;
    static const char w8a8[] = "{\"p.weight\":\"W8A8\"}";
    const int32_t most[2] = {0, INT32_MAX}, least[2] = {INT32_MIN, 0};
    const int64_t above[2] = {947628162, (int64_t)1 << 40}, below[2] = {-((int64_t)1 << 40), 0};
    const part high[] = {STATIC(W8, most)}, low[] = {STATIC(W8, least)};
    const part wide[] = {STATIC(PART("p.weight", I8, 2, {4, 2}, W), qbias)};
    part bits[] = {STATIC(W8, qbias)};
    refuse(high, N(high), NULL, w8a8, OCT_E_CORRUPT,
           "p.quant_bias: index 1: the sum of a row could overflow (got 2147483647, want within "
           "+-2147418111)");
    refuse(low, N(low), NULL, w8a8, OCT_E_CORRUPT,
           "p.quant_bias: index 0: the sum of a row could overflow (got -2147483648");
    refuse(wide, N(wide), NULL, w8a8, OCT_E_CORRUPT, "p.weight: got I8 [4, 2], want I8 [2, 4]");
    bits[3] = (part)PART("p.deq_scale", I64, 1, {2}, above);
    refuse(bits, N(bits), NULL, w8a8, OCT_E_CORRUPT,
           "p.deq_scale: index 1 is not the bits of a float32 (got 1099511627776)");
    bits[3].data = below;
    refuse(bits, N(bits), NULL, w8a8, OCT_E_CORRUPT,
           "p.deq_scale: index 0 is not the bits of a float32 (got -1099511627776)");
}

static void F1_7_bias_of_a_model_that_has_one(void **state) {
    (void)state;
    static const char *const schemes[] = {"W8A8_DYNAMIC", "W8A16", "WFP8AFP8_DYNAMIC", "FLOAT"};
    char text[64];
    asked a;
    for (size_t i = 0; i < N(schemes); i++) {
        const part weights[] = {W8, W8, F8, PART("p.weight", F32, 2, {2, 4}, floats)};
        const part e[] = {weights[i], CHANNEL, BIAS};
        snprintf(text, sizeof text, "{\"p.weight\":\"%s\"}", schemes[i]);
        put_parts(e, N(e), NULL, text);
        ok(&a, ask_biased(&a, "p"));
        assert_true(a.lin.kind != OCT_LINEAR_ABSENT && a.lin.bias && a.lin.bias[1] == 0.25f);
        done(&a);
        put_parts(e, N(e) - 1, NULL, text);
        refused(&a, ask_biased(&a, "p"), OCT_E_CORRUPT, "p.bias is missing");
    }
}

static void F1_7_tensors_that_do_not_fit(void **state) {
    (void)state;
    static const char *const schemes[] = {"{\"p.weight\":\"W8A8_DYNAMIC\"}",
                                          "{\"p.weight\":\"W8A16\"}"};
    const part turned[] = {PART("p.weight", I8, 2, {4, 2}, W), CHANNEL};
    const part offsets[] = {W8, CHANNEL, PART("p.weight_offset", F32, 1, {2}, scales)};
    for (size_t i = 0; i < N(schemes); i++)
        refuse(turned, N(turned), NULL, schemes[i], OCT_E_CORRUPT,
               "p.weight: got I8 [4, 2], want I8 [2, 4]");
    refuse(offsets, N(offsets), NULL, schemes[0], OCT_E_UNSUPPORTED,
           "p.weight_offset: index 0 (got 0.5, want 0");
    refuse(offsets, N(offsets), NULL, schemes[1], OCT_E_CORRUPT,
           "p.weight_offset: index 0 (got 0.5, want a whole number");
}

static void F1_8_experts_are_dynamic_though_static_was_asked_for(void **state) {
    (void)state;
    const part e[] = {PART("l.mlp.experts.0.up_proj.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.0.up_proj.weight_scale", F32, 1, {2}, scales)};
    asked a;
    put_parts(e, N(e), NULL, "{\"l.mlp.experts.0.up_proj.weight\":\"W8A8_MIX\"}");
    ok(&a, ask(&a, &fixed, "l.mlp.experts.0.up_proj", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.act == OCT_ACT_DYNAMIC);
    done(&a);
}

static void F1_3_fp8(void **state) {
    (void)state;
    static const char *const names[] = {"WFP8AFP8_DYNAMIC", "W8A8FP8_DYNAMIC"};
    const part e[] = {F8, CHANNEL, PART("p.weight_offset", F32, 1, {2}, ((float[2]){0, 0}))};
    const part shifted[] = {F8, CHANNEL, PART("p.weight_offset", F32, 1, {2}, scales)};
    float rows[8];
    char text[64];
    asked a;
    for (size_t i = 0; i < N(names); i++) {
        snprintf(text, sizeof text, "{\"p.weight\":\"%s\"}", names[i]);
        put_parts(e, N(e), NULL, text);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_true(a.lin.kind == OCT_LINEAR_FP8 && a.lin.fp8_act == OCT_FP8_ACT_TOKEN);
        assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, NULL), OCT_OK);
        assert_true(rows[0] == 0.5f && rows[1] == 1 && rows[2] == -0.5f && rows[6] == 112);
        all_used(&a);
        done(&a);
        refuse(shifted, N(shifted), NULL, text, OCT_E_UNSUPPORTED, "p.weight_offset: index 0");
    }
}

static void F1_3_projections_without_a_scheme(void **state) {
    (void)state;
    const part e[] = {PART("p.weight", F32, 2, {2, 4}, floats),
                      PART("o.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), NULL, "{\"group_size\":0}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    ok(&a, oct_scheme_linear(a.s, &a.arena, "o", 2, 4, false, &a.lin, &a.err)); /* told once */
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    refuse(e + 1, 1, NULL, "{\"group_size\":0}", OCT_E_CORRUPT, "p.weight is missing");
}

static void F1_9_offsets_by_group(void **state) {
    (void)state;
    const signed char offsets[4] = {1, 0, 0, -1};
    const part e[] = {W8, PART("p.weight_scale", F32, 2, {2, 2}, four),
                      PART("p.weight_offset", I8, 2, {2, 2}, offsets)};
    float rows[8];
    asked a;
    put_parts(e, N(e), NULL, "{\"p.weight\":\"W8A16\",\"group_size\":2}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, NULL), OCT_OK);
    assert_true(rows[0] == 9 && rows[2] == 60 && rows[4] == -384 && rows[7] == 260);
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 1, 0, rows, NULL), OCT_OK);
    done(&a);
}

static void ST11_bias_of_a_float_projection(void **state) {
    (void)state;
    const uint32_t inf = 0x7F800000;
    const part e[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    float bias[2] = {0};
    memcpy(&bias[1], &inf, 4);
    refuse((part[]){e[0], {"p.bias", OCT_DTYPE_F32, 1, {2}, bias}}, 2, NULL, NULL, OCT_E_CORRUPT,
           "tensor p.bias: index 1 (got inf");
}

/* What was asked for by a word, and descriptions beside a configuration. */
static void F1_2_words_and_rules_of_one_tensor(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL, PART("l.mlp.experts.all.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.0.w1.weight", I8, 2, {2, 4}, W),
                      PART("l.mlp.experts.1.w1.weight", I8, 2, {2, 4}, W)};
    asked a;
    put_parts(e, 3, "{\"quant_method\":\"w8a8_int8\"}", NULL);
    ok(&a, ask(&a, &(oct_scheme_options){.forced = "auto"}, "p", 2, 4));
    assert_string_equal(oct_scheme_name(a.s), "w8a8_int8");
    done(&a);
    put_parts(e, 2, "{\"kv_quant_type\":null}", "{\"p.weight\":\"W8A8_DYNAMIC\"}");
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_string_equal(oct_scheme_name(a.s), "ascend");
    done(&a);
#define QUARK_OF(which)                                                                    \
    "{\"quant_method\":\"quark\",\"global_quant_config\":{\"weight\":null},\"layer_quant_" \
    "config\":"                                                                            \
    "{\"*experts." which "*\":{\"weight\":{\"dtype\":\"uint8\",\"qscheme\":\"per_tensor\"}}}}"
    put_parts(e + 3, 2, QUARK_OF("1"), NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "got \"uint8\"");
    put_parts(e + 3, 2, QUARK_OF("0"), NULL);
    refused(&a, ask_open(&a, NULL), OCT_E_UNSUPPORTED, "got \"uint8\"");
}

static void F1_5_wrapped_projection_without_a_scheme(void **state) {
    (void)state;
    const part e[] = {PART("language_model.model.embed_tokens.weight", F32, 2, {2, 4}, floats),
                      PART("language_model.model.layers.0.p.weight", F32, 2, {2, 4}, floats)};
    asked a;
    put_parts(e, N(e), NULL, "{\"group_size\":0}");
    ok(&a, ask(&a, NULL, "model.layers.0.p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
}

static void F1_5_names_longer_than_any_of_ours(void **state) {
    (void)state;
    char name[OCT_TENSOR_MAX_NAME + 1], tail[] = ".experts.1.up_proj.weight";
    /* Asked for as ".weight_packed" it would not fit; nobody asks, and opening says nothing. */
    for (size_t n = 630; n <= 645; n++) {
        memset(name, 'x', n);
        strcpy(name + n - strlen(tail), tail);
        const part e[] = {{name, OCT_DTYPE_F32, 2, {2, 4}, floats}, W8, CHANNEL};
        asked a;
        put_parts(e, N(e), "{\"quant_method\":\"w8a8_int8\"}", NULL);
        ok(&a, ask(&a, &strict, "p", 2, 4));
        assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
        done(&a);
    }
}

/* ---- 1.11, 1.12: the cache ---------------------------------------------------------------------
 */

#define KV(name, type, ...) PART("a." name, type, __VA_ARGS__)
#define C8_PAIR \
    KV("k_proj.kv_cache_scale", F32, 1, {4}, four), KV("v_proj.kv_cache_scale", F32, 1, {4}, four)

static void refuse_kv(const part *e, size_t n, const char *quant, const char *description,
                      oct_status want, const char *word) {
    asked a;
    put_parts(e, n, quant, description);
    refused(&a, ask_kv(&a, 2), want, word);
}

static void F1_11_types_and_entries(void **state) {
    (void)state;
    const float off[4] = {0, 1, -2, 3};
    const part e[] = {C8_PAIR, KV("k_proj.kv_cache_offset", F32, 1, {4}, off)};
    static const struct {
        const char *text;
        oct_kv_kind want;
    } rows[] = {
        {"{\"kv_quant_type\":\"KV8\"}", OCT_KV_KIND_I8},
        {"{\"a.k_proj.kv_cache_scale\":\"C8\",\"a.k_proj.kv_cache_offset\":\"C8\","
         "\"a.other\":\"W8A8\"}",
         OCT_KV_KIND_I8},
        {"{\"a.k_proj.kv_cache_scale\":\"W8A8\"}", OCT_KV_KIND_FLOAT}, /* not said to be C8 */
        {"{\"a.k_proj.kv_cache_scale\":\"FLOAT\"}", OCT_KV_KIND_FLOAT},
    };
    asked a;
    for (size_t i = 0; i < N(rows); i++) {
        put_parts(e, N(e), NULL, rows[i].text);
        ok(&a, ask_kv(&a, 2));
        assert_int_equal(a.kv.kind, rows[i].want);
        assert_true(!a.kv.k_offset || a.kv.k_offset[2] == -2);
        done(&a);
    }
    refuse_kv(e, 2, NULL, "{\"a.k_proj.kv_cache_offset\":\"C8\"}", OCT_E_CORRUPT,
              "tensor a.k_proj.kv_cache_offset is listed as C8 but is in no file");
}

static void F1_11_a_layer_with_one_half(void **state) {
    (void)state;
    const part mixed[] = {KV("fa_k.scale", F32, 1, {2}, scales),
                          PART("b.k_proj.kv_cache_scale", F32, 1, {4}, four),
                          PART("b.v_proj.kv_cache_scale", F32, 1, {4}, four)};
    const part wrong[] = {KV("k_proj.kv_cache_scale", F32, 1, {4}, four),
                          KV("v_proj.kv_cache_scale", F32, 1, {3}, four)};
    char name[700];
    memset(name, 'x', sizeof name);
    strcpy(name + sizeof name - 12, ".fa_v.scale");
    const part far[] = {{name, OCT_DTYPE_F32, 1, {2}, scales}};
    refuse_kv(mixed, N(mixed), NULL, "{\"kv_cache_type\":\"C8\"}", OCT_E_CORRUPT,
              "a.fa_v.scale is missing");
    refuse_kv(wrong, N(wrong), NULL, "{\"kv_cache_type\":\"C8\"}", OCT_E_CORRUPT,
              "a.v_proj.kv_cache_scale: got F32 [3], want 4 floats");
    refuse_kv(far, 1, NULL, "{\"fa_quant_type\":\"FAQuant\"}", OCT_E_CORRUPT, "is missing (xxx");
}

/* Scales of keys that were repeated for their query heads before they were measured. */
static void F1_12_a_scale_for_each_query_head(void **state) {
    (void)state;
    const part e[] = {KV("fa_k.scale", F32, 2, {2, 1}, scales),
                      KV("fa_v.scale", F32, 2, {2, 1}, scales),
                      KV("fa_q.scale", F32, 2, {2, 1}, scales)};
    const float rising[2] = {0.25f, 0.5f};
    part up[3];
    asked a;
    memcpy(up, e, sizeof e);
    up[0].data = rising;
    put_parts(up, 3, NULL, "{\"fa_quant_type\":\"FAKQuant\"}");
    ok(&a, ask_kv(&a, 1)); /* one head of keys, two of queries */
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.k_scale[0] == 0.5f && a.kv.k_scale[1] == 0.5f);
    assert_true(a.kv.v_scale[0] == 0.5f && a.kv.grain == OCT_KV_GRAIN_HEAD);
    all_used(&a);
    done(&a);
}

/* ---- 4: compressed-tensors ---------------------------------------------------------------------
 */

#define CT_W "\"weights\":{\"num_bits\":8,\"type\":\"int\",\"strategy\":\"channel\"}"
#define CT_TOKEN "\"input_activations\":{\"strategy\":\"token\",\"dynamic\":true}"
#define CT(group, more) \
    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{" group "}}" more "}"
#define LINEAR ",\"targets\":[\"Linear\"]"

static void F4_1_strategies_that_are_left_out(void **state) {
    (void)state;
    const part rows[] = {W8, CHANNEL}, single[] = {W8, PART("p.weight_scale", F32, 0, {0}, &one)},
               blocks[] = {W8, PART("p.weight_scale", F32, 2, {2, 2}, four)},
               wide[] = {W8, PART("p.weight_scale", F32, 2, {2, 1}, four)};
    const struct {
        const char *weights;
        const part *e;
        float second; /* of the second row's first weight */
    } cases[] = {{"{\"num_bits\":8}", single, -64},
                 {"{\"group_size\":-1}", rows, -32},
                 {"{\"group_size\":2}", blocks, -384},
                 {"{\"strategy\":null,\"group_size\":128}", wide, -256},
                 {"{\"strategy\":\"group\"}", wide, -256}}; /* of 128 columns */
    char config[256];
    float v[8];
    asked a;
    for (size_t i = 0; i < N(cases); i++) {
        snprintf(config, sizeof config, CT("\"weights\":%s" LINEAR, ""), cases[i].weights);
        put_parts(cases[i].e, 2, config, NULL);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_int_equal(a.lin.kind, OCT_LINEAR_W8A16);
        assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, v, NULL), OCT_OK);
        assert_true(v[4] == cases[i].second);
        done(&a);
    }
}

#define F8_W(more) "\"weights\":{\"type\":\"float\"," more "}"
#define F8_IN(more) ",\"input_activations\":{\"type\":\"float\"," more "}"

static void F4_4_blocks_of_fp8(void **state) {
    (void)state;
    static const char dynamic[] =
        CT(F8_W("\"strategy\":\"block\",\"block_structure\":[2,2]")
               F8_IN("\"strategy\":\"group\",\"group_size\":2,\"dynamic\":true") LINEAR,
           "");
    static const char alone[] =
        CT(F8_W("\"strategy\":\"block\",\"block_structure\":null") LINEAR, "");
    const part e[] = {F8, PART("p.weight_scale", F32, 2, {1, 2}, four)};
    const part whole[] = {F8, PART("p.weight_scale", F32, 2, {1, 1}, &one)};
    float v[8];
    asked a;
    put_parts(e, N(e), dynamic, NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_FP8 && a.lin.fp8_act == OCT_FP8_ACT_BLOCK);
    assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, v, NULL), OCT_OK);
    assert_true(v[0] == 1 && v[2] == -2 && v[6] == 896);
    done(&a);
    put_parts(whole, N(whole), alone, NULL); /* 128 x 128, float inputs */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.fp8_act == OCT_FP8_ACT_NONE && a.lin.block_n == 128);
    assert_string_equal(a.lin.label, "FP8 weights");
    done(&a);
}

static void F4_1_fields_that_are_refused(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL};
    static const struct {
        const char *config;
        oct_status status;
        const char *word;
    } rows[] = {
        {CT("\"weights\":{\"type\":7}" LINEAR, ""), OCT_E_CORRUPT,
         "weights: type must be a string"},
        {CT("\"weights\":{\"num_bits\":\"8\"}" LINEAR, ""), OCT_E_CORRUPT, "num_bits must be"},
        {CT("\"weights\":{\"group_size\":-2}" LINEAR, ""), OCT_E_CORRUPT, "group_size must be"},
        {CT(F8_W("\"strategy\":\"block\",\"block_structure\":[2,70000]") LINEAR, ""),
         OCT_E_UNSUPPORTED, "block_structure is not supported (got [2,70000], want two sizes)"},
        {CT(F8_W("\"strategy\":\"block\",\"block_structure\":[2]") LINEAR, ""), OCT_E_UNSUPPORTED,
         "block_structure"},
        {CT(F8_W("\"strategy\":\"block\",\"block_structure\":[\"2\",2]") LINEAR, ""),
         OCT_E_UNSUPPORTED, "block_structure"},
        {CT("\"weights\":{\"strategy\":\"group\",\"group_size\":2,\"actorder\":\"dynamic\"}" LINEAR,
            ""),
         OCT_E_UNSUPPORTED, "actorder is not supported (got \"dynamic\""},
        {CT(CT_W ",\"input_activations\":{\"strategy\":\"channel\",\"dynamic\":true}" LINEAR, ""),
         OCT_E_UNSUPPORTED,
         "input_activations.strategy is not supported (got \"channel\", want token)"},
        {CT(F8_W("\"strategy\":\"channel\"") F8_IN("\"dynamic\":true,\"symmetric\":false") LINEAR,
            ""),
         OCT_E_UNSUPPORTED, "input_activations.symmetric is not supported"},
        {CT(CT_W ",\"input_activations\":7" LINEAR, ""), OCT_E_CORRUPT,
         "input_activations is no object (got 7)"},
        {CT(CT_TOKEN LINEAR, ""), OCT_E_UNSUPPORTED, "weights is not supported (got nothing"},
        {CT(CT_W LINEAR, ",\"kv_cache_scheme\":{\"type\":\"float\",\"strategy\":\"token\"}"),
         OCT_E_UNSUPPORTED, "kv_cache_scheme.strategy"},
    };
    for (size_t i = 0; i < N(rows); i++)
        refuse(e, N(e), rows[i].config, NULL, rows[i].status, rows[i].word);
    char *many = malloc(32768);
    size_t n = (size_t)sprintf(many, "{\"config_groups\":{\"g\":{}");
    for (int i = 0; i < 1024; i++) n += (size_t)sprintf(many + n, ",\"g%d\":{}", i);
    strcpy(many + n, "}}");
    refuse(e, N(e), many, NULL, OCT_E_UNSUPPORTED, "config_groups: more than 1024 groups");
    free(many);
}

static void F4_1_what_is_there_but_says_nothing(void **state) {
    (void)state;
    const part e[] = {W8, CHANNEL}, f[] = {PART("p.weight", F32, 2, {2, 4}, floats)};
    static const char asym[] =
        CT(CT_W ",\"input_activations\":{\"strategy\":\"token\",\"dynamic\":true,\"symmetric\":"
                "false}" LINEAR,
           "");
    asked a;
    put_parts(f, N(f), CT("\"weights\":null,\"input_activations\":null" LINEAR, ""), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    put_parts(f, N(f), CT("\"targets\":[\"Linear\"]", ""), NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_FLOAT);
    done(&a);
    put_parts(e, N(e),
              CT(CT_W "," CT_TOKEN ",\"output_activations\":null,\"format\":null" LINEAR,
                 ",\"sparsity_config\":{\"format\":\"dense\"},\"kv_cache_scheme\":null"),
              NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_int_equal(a.lin.kind, OCT_LINEAR_INT8);
    done(&a);
    /* Zero points at run time: symmetric here, told once; not when strict. */
    put_parts(
        e, N(e),
        "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{" CT_W
        ",\"input_activations\":{\"dynamic\":true,\"symmetric\":false}" LINEAR "},\"h\":{" CT_W
        ",\"input_activations\":{\"dynamic\":true,\"symmetric\":false},\"targets\":[\"q\"]}}}",
        NULL);
    ok(&a, ask(&a, NULL, "p", 2, 4));
    assert_true(a.lin.kind == OCT_LINEAR_INT8 && a.lin.act == OCT_ACT_DYNAMIC);
    done(&a);
    put_parts(e, N(e), asym, NULL);
    refused(&a, ask_open(&a, &strict), OCT_E_UNSUPPORTED,
            "input_activations.symmetric is not supported (got false, want true for dynamic");
}

static void F4_2_a_fused_entry_that_takes_too_long(void **state) {
    (void)state;
    const part e[] = {
        PART("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.q_proj.weight", I8, 2, {2, 4}, W)};
    asked a;
    put_parts(e, 1, CT(CT_W ",\"targets\":[\"re:(a+)+qkv_proj\"]", ""), NULL);
    refused(&a, ask(&a, NULL, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.q_proj", 2, 4),
            OCT_E_UNSUPPORTED, "takes too many steps");
}

/* ---- 4.4, 4.6: one rule for all ----------------------------------------------------------------
 */

static void F4_4_spellings_of_fp8(void **state) {
    (void)state;
    static const char *const same[] = {
        "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"activation_scheme\":\"dynamic\"}",
        "{\"quant_method\":\"fp8\",\"fmt\":\"float8_e4m3fn\",\"activation_scheme\":null}",
        "{\"quant_method\":\"fp8\",\"fmt\":null,\"weight_block_size\":null}",
        "{\"quant_method\":\"fp8\",\"ignore\":[\"p\"]}"}; /* listed, but the file has 8 bits */
    const part e[] = {F8, CHANNEL};
    const part plain[] = {F8, PART("p.weight_scale", F32, 2, {1, 2}, four)};
    const part both[] = {F8, PART("p.weight_scale_inv", F32, 2, {1, 2}, four),
                         PART("q.weight_scale", F32, 0, {0}, &one)};
    float v[8];
    asked a;
    for (size_t i = 0; i < N(same); i++) {
        put_parts(e, N(e), same[i], NULL);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_true(a.lin.kind == OCT_LINEAR_FP8 && a.lin.fp8_act == OCT_FP8_ACT_TOKEN);
        done(&a);
    }
    /* Blocks whose scale has the plain name; and both names in one file. */
    for (int i = 0; i < 2; i++) {
        put_parts(i ? both : plain, i ? 3 : 2,
                  "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}", NULL);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, v, NULL), OCT_OK);
        assert_true(v[0] == 1 && v[2] == -2 && v[6] == 896);
        done(&a);
    }
    refuse(e, N(e), "{\"quant_method\":\"fp8\",\"weight_block_size\":[70000,2]}", NULL,
           OCT_E_UNSUPPORTED, "weight_block_size is not supported (got [70000,2]");
    refuse(e + 1, 1, "{\"quant_method\":\"fp8\",\"ignore\":[\"p\"]}", NULL, OCT_E_CORRUPT,
           "p.weight is missing");
}

static void F4_6_blocks_of_int8(void **state) {
    (void)state;
    const part e[] = {W8, PART("p.weight_scale", F32, 2, {1, 2}, four)};
    const part none[] = {W8};
    static const char *const configs[] = {
        "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2],"
        "\"activation_scheme\":\"dynamic\"}",
        "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2],"
        "\"activation_scheme\":null}"};
    float v[8];
    asked a;
    for (size_t i = 0; i < N(configs); i++) {
        put_parts(e, N(e), configs[i], NULL);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_int_equal(a.lin.kind, OCT_LINEAR_W8A16);
        assert_int_equal(oct_scheme_read_rows(a.c, &a.lin, 0, 2, v, NULL), OCT_OK);
        assert_true(v[0] == 10 && v[3] == 254 && v[4] == -128);
        done(&a);
    }
    refuse(none, 1, configs[0], NULL, OCT_E_CORRUPT, "p.weight_scale_inv is missing");
    refuse(e, N(e), "{\"quant_method\":\"blockwise_int8\",\"weight_block_size\":[2,2,2]}", NULL,
           OCT_E_UNSUPPORTED, "weight_block_size");
}

/* ---- scales of a cache under any name ----------------------------------------------------------
 */

#define KV_CT(spec) CT(CT_W "," CT_TOKEN LINEAR, ",\"kv_cache_scheme\":{" spec "}")

static void F4_5_channels_and_halves(void **state) {
    (void)state;
    const part e[] = {KV("k_scale", F32, 1, {4}, four), KV("v_scale", F32, 1, {4}, four)};
    const part v_only[] = {KV("v_proj.v_scale", F32, 1, {1}, &one)};
    const part zeros[] = {e[0], e[1], KV("v_zero_point", I8, 1, {1}, W)};
    asked a;
    put_parts(e, N(e), KV_CT("\"strategy\":\"channel\""), NULL);
    ok(&a, ask_kv(&a, 2));
    assert_true(a.kv.kind == OCT_KV_KIND_I8 && a.kv.grain == OCT_KV_GRAIN_CHANNEL);
    assert_true(a.kv.k_scale[2] == 3 && a.kv.v_scale[3] == 4);
    done(&a);
    refuse_kv(v_only, 1, KV_CT("\"type\":\"float\""), NULL, OCT_E_CORRUPT,
              "a.k_proj.k_scale is missing");
    refuse_kv(zeros, N(zeros), KV_CT("\"strategy\":\"channel\""), NULL, OCT_E_UNSUPPORTED,
              "a.v_zero_point: index 0 (got 10, want 0");
}

static void F4_5_scales_that_nobody_asked_for(void **state) {
    (void)state;
    const part e[] = {F8, CHANNEL, PART("b.k_scale", F32, 0, {0}, &one),
                      PART("b.v_scale", F32, 0, {0}, &quarter)};
    asked a;
    put_parts(e, N(e), "{\"quant_method\":\"fp8\"}", NULL);
    ok(&a, ask_kv(&a, 2)); /* layer "a" has none: it stays float */
    assert_true(a.kv.kind == OCT_KV_KIND_FLOAT && a.kv.offered == OCT_KV_KIND_FLOAT);
    ok(&a, oct_scheme_kv(a.s, &a.arena, "b", 2, 2, &a.kv, &a.err));
    assert_true(a.kv.kind == OCT_KV_KIND_FLOAT && a.kv.offered == OCT_KV_KIND_FP8);
    assert_true(a.kv.v_scale[3] == 0.25f);
    done(&a);
    put_parts(e, N(e), NULL, "{\"p.weight\":\"WFP8AFP8_DYNAMIC\"}");
    ok(&a, ask_kv(&a, 2)); /* ModelSlim has no cache unless it says so */
    assert_int_equal(a.kv.kind, OCT_KV_KIND_FLOAT);
    done(&a);
}

/* Another cache was asked for: the scales are known all the same. */
static void F4_5_scales_that_are_left(void **state) {
    (void)state;
    const part e[] = {C8_PAIR, KV("k_scale", F32, 0, {0}, &one), KV("v_scale", F32, 0, {0}, &one),
                      KV("v_proj.output_zero_point", I8, 1, {1}, W),
                      KV("q_scale", F32, 0, {0}, &one)};
    asked a;
    put_parts(e, N(e), NULL, NULL);
    ok(&a, ask_open(&a, NULL));
    oct_scheme_kv_leave(a.s, "a");
    all_used(&a);
    done(&a);
}

/* ---- values ------------------------------------------------------------------------------------
 */

static void ST11_whole_numbers_of_every_type(void **state) {
    (void)state;
    const int8_t i8 = -5;
    const int16_t i16 = -5;
    const int32_t i32 = -5;
    const int64_t i64 = -5;
    const uint16_t bf = 0xC0A0, f16 = 0xC500;
    const float f32 = -5;
    const part zeros[] = {PART("p.input_zero_point", I8, 1, {1}, &i8),
                          PART("p.input_zero_point", I16, 1, {1}, &i16),
                          PART("p.input_zero_point", I32, 1, {1}, &i32),
                          PART("p.input_zero_point", I64, 1, {1}, &i64),
                          PART("p.input_zero_point", BF16, 1, {1}, &bf),
                          PART("p.input_zero_point", F16, 1, {1}, &f16),
                          PART("p.input_zero_point", F32, 1, {1}, &f32)};
    static const char config[] =
        CT("\"weights\":{},\"input_activations\":{\"symmetric\":false}" LINEAR, "");
    for (size_t i = 0; i < N(zeros); i++) {
        part e[] = {W8, PART("p.weight_scale", F32, 0, {0}, &one),
                    PART("p.input_scale", F32, 0, {0}, &in_scale), zeros[i]};
        asked a;
        put_parts(e, N(e), config, NULL);
        ok(&a, ask(&a, NULL, "p", 2, 4));
        assert_true(a.lin.input_offset == -5 && a.lin.int_bias[0] == 5 * 147);
        done(&a);
        e[3].name = "p.weight_zero_point";
        refuse(e, N(e), config, NULL, OCT_E_UNSUPPORTED, "p.weight_zero_point: index 0 (got -5");
    }
    const part odd[] = {W8, CHANNEL, PART("p.weight_zero_point", U8, 1, {1}, W)};
    refuse(odd, N(odd), CT(CT_W LINEAR, ""), NULL, OCT_E_UNSUPPORTED, "index 0 (got nan, want 0");
    const part none[] = {W8, CHANNEL, PART("p.weight_zero_point", I8, 1, {0}, W)};
    asked a;
    put_parts(none, N(none), CT(CT_W LINEAR, ""), NULL); /* an empty one says nothing */
    ok(&a, ask(&a, NULL, "p", 2, 4));
    done(&a);
}

static void F3_6_widest_of_symmetric_and_shifted(void **state) {
    (void)state;
    const float s[2] = {0.5f, 0.25f};
    const signed char z[2] = {0, 3};
#define EXPERT(e, i)                                                    \
    PART("l.mlp.experts." e ".w2.weight", I8, 2, {2, 4}, W),            \
        PART("l.mlp.experts." e ".w2.weight_scale", F32, 0, {0}, &one), \
        PART("l.mlp.experts." e ".w2.input_scale", F32, 0, {0}, &s[i]), \
        PART("l.mlp.experts." e ".w2.input_zero_point", I8, 0, {0}, &z[i])
    const part e[] = {EXPERT("0", 0), EXPERT("1", 1)};
    static const char config[] =
        CT("\"weights\":{},\"input_activations\":{\"symmetric\":false}" LINEAR, "");
    asked a;
    put_parts(e, N(e), config, NULL);
    ok(&a, ask(&a, NULL, "l.mlp.experts.1.w2", 2, 4));
    /* [-64, 63.5] and [-32.75, 31]: the first holds the other. */
    assert_true(a.lin.input_scale == 0.5f && a.lin.input_offset == 0);
    ok(&a, oct_scheme_linear(a.s, &a.arena, "l.mlp.experts.0.w2", 2, 4, false, &a.lin, &a.err));
    assert_true(a.lin.input_scale == 0.5f && a.lin.input_offset == 0);
    done(&a);
    const part none[] = {e[0], e[1], e[2],
                         e[4], e[5], PART("l.mlp.experts.1.w2.input_scale", F32, 1, {2}, s)};
    put_parts(none, N(none), config, NULL); /* the other expert's is misshapen */
    refused(&a, ask(&a, NULL, "l.mlp.experts.0.w2", 2, 4), OCT_E_CORRUPT,
            "l.mlp.experts.1.w2.input_scale: got F32 [2], want 1 floats");
}

static void F3_6_experts_that_differ_in_one_thing(void **state) {
    (void)state;
    const float s[2] = {0.5f, 0.5f}, bad = -1;
    const signed char z[2] = {0, 10};
    part e[] = {EXPERT("0", 0), EXPERT("1", 1)};
    static const char config[] =
        CT("\"weights\":{},\"input_activations\":{\"symmetric\":false}" LINEAR, "");
    asked a;
    put_parts(e, N(e), config, NULL);
    ok(&a, ask(&a, NULL, "l.mlp.experts.0.w2", 2, 4));
    /* [-64, 63.5] and [-69, 58.5]: one range from -69 to 63.5. */
    assert_true(a.lin.input_scale == 132.5f / 255 && a.lin.input_offset == 5);
    done(&a);
    e[6].data = &bad;
    put_parts(e, N(e), config, NULL);
    refused(&a, ask(&a, NULL, "l.mlp.experts.0.w2", 2, 4), OCT_E_CORRUPT,
            "l.mlp.experts.1.w2.input_scale: index 0 (got -1");
    refuse((part[]){W8}, 1, config, NULL, OCT_E_CORRUPT, "p.weight_scale is missing");
}

/* More rows than are summed at a time. */
static void F4_3_sums_of_many_rows(void **state) {
    (void)state;
    enum { ROWS = 300, COLS = 4096 };
    static signed char w[ROWS * COLS];
    for (int r = 0; r < ROWS; r++) memset(w + r * COLS, r % 100 - 50, COLS);
    const part e[] = {PART("p.weight", I8, 2, {ROWS, COLS}, w),
                      PART("p.weight_scale", F32, 0, {0}, &one),
                      PART("p.input_scale", F32, 0, {0}, &in_scale),
                      PART("p.input_zero_point", F32, 0, {0}, &in_offset)};
    asked a;
    put_parts(e, N(e), CT("\"weights\":{},\"input_activations\":{\"symmetric\":false}" LINEAR, ""),
              NULL);
    ok(&a, ask(&a, NULL, "p", ROWS, COLS));
    for (int r = 0; r < ROWS; r++) assert_int_equal(a.lin.int_bias[r], 5 * (r % 100 - 50) * COLS);
    done(&a);
}

/* ---- reads that fail ---------------------------------------------------------------------------
 */

/* The file is cut at every byte after it was opened: what needs those bytes says so. */
static void cut_while_read(const part *e, size_t n, const char *quant, const char *description) {
    struct stat st;
    asked a;
    bool failed = false;
    put_parts(e, n, quant, description);
    ok(&a, ask_open(&a, NULL));
    ok(&a, oct_scheme_linear(a.s, &a.arena, "p", 2, 4, false, &a.lin, &a.err));
    const oct_linear_source whole = a.lin;
    assert_int_equal(stat(in_dir("model.safetensors"), &st), 0);
    for (off_t size = st.st_size - 1; size >= st.st_size - 64; size--) {
        assert_int_equal(truncate(in_dir("model.safetensors"), size), 0);
        float rows[8];
        oct_err err = {0};
        oct_status got = oct_scheme_linear(a.s, &a.arena, "p", 2, 4, false, &a.lin, &err);
        if (got == OCT_OK && a.lin.kind == OCT_LINEAR_INT8)
            got = oct_scheme_read_i8(a.c, &a.lin, 0, 2, (int8_t *)rows, &err);
        else if (got == OCT_OK)
            got = oct_scheme_read_rows(a.c, &a.lin, 0, 2, rows, &err);
        if (got == OCT_OK) got = oct_scheme_kv(a.s, &a.arena, "a", 2, 2, &a.kv, &err);
        if (got == OCT_OK && !failed) continue; /* the last bytes were not asked for */
        failed = true;
        assert_int_equal(got, OCT_E_CORRUPT);
        expect_text(&err, "model.safetensors: changed while it was read (ends at byte");
    }
    assert_true(failed);
    assert_int_equal(truncate(in_dir("model.safetensors"), 8), 0);
    float rows[8];
    assert_int_equal(whole.kind == OCT_LINEAR_INT8
                         ? oct_scheme_read_i8(a.c, &whole, 0, 2, (int8_t *)rows, NULL)
                         : oct_scheme_read_rows(a.c, &whole, 0, 2, rows, NULL),
                     OCT_E_CORRUPT);
    done(&a);
}

static void ST13_cut_while_a_projection_is_read(void **state) {
    (void)state;
    const int64_t bits[2] = {947628162, 939239554};
    const signed char zero[2] = {0}, five = -5;
    const part slim[] = {
        W8, PART("p.deq_scale", I64, 1, {2}, bits), PART("p.input_offset", F32, 1, {1}, &in_offset),
        PART("p.input_scale", F32, 1, {1}, &in_scale), PART("p.quant_bias", I32, 1, {2}, qbias)};
    const part ct[] = {W8,
                       PART("p.weight_scale", F32, 0, {0}, &one),
                       PART("p.weight_zero_point", I8, 1, {2}, zero),
                       PART("p.input_scale", F32, 0, {0}, &in_scale),
                       PART("p.input_zero_point", I8, 1, {1}, &five),
                       KV("k_scale", F32, 1, {1}, &one),
                       KV("v_scale", F32, 1, {1}, &one),
                       KV("k_zero_point", I8, 1, {1}, zero),
                       KV("v_zero_point", I8, 1, {1}, zero)};
    const part sums[] = {ct[0], ct[1], ct[3], PART("p.input_zero_point", I32, 1, {1}, qbias)};
    static const char shifted[] =
        CT("\"weights\":{},\"input_activations\":{\"symmetric\":false}" LINEAR,
           ",\"kv_cache_scheme\":{}");
    const part packed[] = {PART("p.weight_packed", I32, 2, {2, 1}, W), CHANNEL};
    const part fa[] = {W8,
                       CHANNEL,
                       KV("fa_k.scale", F32, 1, {2}, scales),
                       KV("fa_v.scale", F32, 1, {2}, scales),
                       KV("fa_k.offset", I8, 1, {2}, zero),
                       KV("fa_v.offset", I8, 1, {2}, zero)};
    const part c8[] = {F8, CHANNEL, C8_PAIR, KV("k_proj.kv_cache_offset", I8, 1, {4}, W),
                       KV("v_proj.kv_cache_offset", I8, 1, {4}, W)};
    cut_while_read(slim, N(slim), NULL, "{\"p.weight\":\"W8A8\"}");
    cut_while_read(packed, N(packed),
                   CT(CT_W "," CT_TOKEN LINEAR, ",\"format\":\"pack-quantized\""), NULL);
    cut_while_read(ct, N(ct), shifted, NULL);
    cut_while_read(sums, N(sums), shifted, NULL); /* the weight is the last of the file */
    cut_while_read(fa, N(fa), NULL,
                   "{\"p.weight\":\"W8A8_DYNAMIC\",\"fa_quant_type\":\"FAQuant\"}");
    cut_while_read(c8, N(c8), NULL, "{\"p.weight\":\"WFP8AFP8_DYNAMIC\",\"kv_cache_type\":\"C8\"}");
}

/* ---- memory ------------------------------------------------------------------------------------
 */

static oct_status ask_everything(void *ctx, const oct_allocator *mem) {
    asked a = {0};
    const size_t *arena_limit = ctx;
    float rows[8];
    oct_arena_init(&a.arena, mem, *arena_limit);
    oct_status st = oct_checkpoint_open(mem, test_dir, &a.c, &a.err);
    if (st == OCT_OK) st = oct_scheme_open(mem, a.c, NULL, &a.s, &a.err);
    if (st == OCT_OK) st = oct_scheme_linear(a.s, &a.arena, "p", 2, 4, false, &a.lin, &a.err);
    if (st == OCT_OK && a.lin.kind == OCT_LINEAR_INT8)
        st = oct_scheme_read_i8(a.c, &a.lin, 0, 2, (int8_t *)rows, &a.err);
    if (st == OCT_OK) st = oct_scheme_kv(a.s, &a.arena, "a", 2, 2, &a.kv, &a.err);
    done(&a);
    return st;
}

/* Each request of the system's memory, and each of the caller's arena, is refused once. */
static void refuse_each(void) {
    size_t limit = 0;
    refuse_each_request(ask_everything, &limit);
    for (limit = 1;; limit++) {
        const oct_status got = ask_everything(&limit, oct_system_allocator());
        if (got == OCT_OK) break;
        assert_int_equal(got, OCT_E_NOMEM);
        assert_true(limit < 4096);
    }
    assert_true(limit > 16);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const int64_t bits[2] = {947628162, 939239554};
    const signed char zero[4] = {0};
    const int16_t minus_five = -5;
    const part slim[] = {W8,
                         PART("p.deq_scale", I64, 1, {2}, bits),
                         PART("p.input_offset", I16, 1, {1}, &minus_five),
                         PART("p.input_scale", F32, 1, {1}, &in_scale),
                         PART("p.quant_bias", I32, 1, {2}, qbias),
                         PART("p.weight_offset", I8, 1, {2}, zero),
                         KV("k_proj.kv_cache_scale", F32, 1, {1}, four),
                         KV("v_proj.kv_cache_scale", F32, 1, {1}, four),
                         KV("k_proj.kv_cache_offset", I8, 1, {4}, zero),
                         KV("v_proj.kv_cache_offset", I8, 1, {4}, zero)};
    const part packed[] = {PART("p.weight_packed", I32, 2, {2, 1}, W), CHANNEL, BIAS,
                           KV("k_scale", F32, 3, {2, 1, 1}, scales),
                           KV("v_scale", F32, 3, {2, 1, 1}, scales)};
    const part f8[] = {F8, PART("p.weight_scale_inv", F32, 2, {1, 2}, four),
                       KV("k_scale", F32, 0, {0}, &one), KV("v_scale", F32, 0, {0}, &one)};
    const part smooth[] = {PART("p.div.mul_scale", F32, 1, {4}, four),
                           PART("p.linear.weight", I8, 2, {2, 4}, W),
                           PART("p.linear.weight_scale", F32, 1, {2}, scales),
                           PART("p.linear.bias", F32, 1, {2}, scales)};
    put_parts(slim, N(slim), NULL, "{\"p.weight\":\"W8A8\",\"kv_cache_type\":\"C8\"}");
    refuse_each();
    put_parts(packed, N(packed),
              CT(CT_W "," CT_TOKEN LINEAR, ",\"format\":\"pack-quantized\",\"kv_cache_scheme\":{"
                                           "\"strategy\":\"attn_head\"}"),
              NULL);
    refuse_each();
    put_parts(f8, N(f8), "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}", NULL);
    refuse_each();
    put_parts(smooth, N(smooth), NULL, "{\"p.linear.weight\":\"W8A8_DYNAMIC\"}");
    refuse_each();
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(F1_3_fp8),
        TEST(F1_3_projections_without_a_scheme),
        TEST(F1_2_words_and_rules_of_one_tensor),
        TEST(F1_9_offsets_by_group),
        TEST(ST11_bias_of_a_float_projection),
        TEST(F3_6_experts_that_differ_in_one_thing),
        TEST(F1_5_both_names_of_a_weight),
        TEST(F1_5_wrapped_projection_without_a_scheme),
        TEST(F1_5_names_longer_than_any_of_ours),
        TEST(F1_6_values_out_of_range),
        TEST(F1_7_bias_of_a_model_that_has_one),
        TEST(F1_7_tensors_that_do_not_fit),
        TEST(F1_8_experts_are_dynamic_though_static_was_asked_for),
        TEST(F1_11_types_and_entries),
        TEST(F1_11_a_layer_with_one_half),
        TEST(F1_12_a_scale_for_each_query_head),
        TEST(F3_6_widest_of_symmetric_and_shifted),
        TEST(F4_1_strategies_that_are_left_out),
        TEST(F4_1_fields_that_are_refused),
        TEST(F4_1_what_is_there_but_says_nothing),
        TEST(F4_2_a_fused_entry_that_takes_too_long),
        TEST(F4_3_sums_of_many_rows),
        TEST(F4_4_blocks_of_fp8),
        TEST(F4_4_spellings_of_fp8),
        TEST(F4_5_channels_and_halves),
        TEST(F4_5_scales_that_nobody_asked_for),
        TEST(F4_5_scales_that_are_left),
        TEST(F4_6_blocks_of_int8),
        TEST(ST11_whole_numbers_of_every_type),
        TEST(ST13_cut_while_a_projection_is_read),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("scheme edges", tests, NULL, NULL);
}
