/* Schemes: what makes one projection, rows CF7 and ST11, and the golden checkpoints in full. */
#include "scheme_test.h"

#include <math.h>

/* Values of the vectors in section 8.2 of the format notes. */
static const signed char W[8] = {10, -20, 30, 127, -128, 5, 0, 64};
static const float deq[2] = {6e-5f, 3e-5f}, w_scale[2] = {0.003f, 0.0015f}, zeros[4];
static const int64_t deq_bits[2] = {947628162, 939239554};
static const int32_t qbias[2] = {5931, -4875};
static const float in_scale = 0.02f, in_offset = -12, bias[2] = {0.25f, -0.125f};

#define T(name, type, ...) PART("p." name, type, __VA_ARGS__)
#define STATIC_SET                                                                    \
    T("weight", I8, 2, {2, 4}, W), T("input_scale", F32, 1, {1}, &in_scale),          \
        T("input_offset", F32, 1, {1}, &in_offset), T("deq_scale", F32, 1, {2}, deq), \
        T("quant_bias", I32, 1, {2}, qbias)
#define DYNAMIC_SET                                                            \
    T("weight", I8, 2, {2, 4}, W), T("weight_scale", F32, 2, {2, 1}, w_scale), \
        T("weight_offset", F32, 2, {2, 1}, zeros)

/* Projection "p" [2, 4]. */
static oct_status open_linear(asked *o, const oct_scheme_options *opts, bool need_bias) {
    OCT_TRY(ask_open(o, opts));
    OCT_TRY(oct_scheme_linear(o->s, &o->arena, "p", 2, 4, need_bias, &o->lin, &o->err));
    return oct_checkpoint_check_needs(o->c, &o->err);
}

static void refuse_with(const oct_scheme_options *opts, oct_status want, const char *word) {
    asked o;
    refused(&o, open_linear(&o, opts, false), want, word);
}

static void refuse(const part *e, size_t n, const char *description, oct_status want,
                   const char *word) {
    put_parts(e, n, NULL, description);
    refuse_with(NULL, want, word);
}
#define REFUSE(e, ...) refuse((e), OCT_COUNT(e), __VA_ARGS__)

/* ---- readings ----------------------------------------------------------------------------------
 */

static void float_projection(void **state) {
    (void)state;
    asked o;
    const float w[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const part e[] = {T("weight", F32, 2, {2, 4}, w), T("bias", F32, 1, {2}, bias)};
    put_parts(e, 2, NULL, NULL);
    ok(&o, open_linear(&o, NULL, true));
    assert_string_equal(oct_scheme_name(o.s), "float");
    assert_true(o.lin.kind == OCT_LINEAR_FLOAT && o.lin.act == OCT_ACT_NONE);
    assert_true(o.lin.bias[1] == -0.125f && o.lin.n == 2 && o.lin.k == 4);
    assert_string_equal(o.lin.label, "F32");
    all_used(&o);
    done(&o);
    put_parts(e, 1, NULL, NULL);
    ok(&o, open_linear(&o, NULL, false));
    assert_null(o.lin.bias);
    done(&o);
    assert_int_equal(open_linear(&o, NULL, true), OCT_E_CORRUPT);
    expect_text(&o.err, "p.bias is missing");
    assert_int_equal(o.lin.kind, OCT_LINEAR_ABSENT);
    done(&o);
}

static void F1_6_static(void **state) {
    (void)state;
    asked o;
    /* The bias is in the file too, and must not be added a second time. */
    const part e[] = {STATIC_SET, T("bias", F32, 1, {2}, bias)};
    put_parts(e, OCT_COUNT(e), NULL, "{\"p.weight\":\"W8A8\"}");
    ok(&o, open_linear(&o, NULL, true));
    assert_string_equal(oct_scheme_name(o.s), "ascend");
    assert_true(o.lin.kind == OCT_LINEAR_INT8 && o.lin.act == OCT_ACT_STATIC_BEFORE);
    assert_true(o.lin.input_scale == 0.02f && o.lin.input_offset == -12);
    assert_true(o.lin.col_scale[0] == 6e-5f && o.lin.int_bias[0] == 5931 &&
                o.lin.int_bias[1] == -4875);
    assert_null(o.lin.bias);
    assert_string_equal(o.lin.label, "W8A8");
    all_used(&o);
    done(&o);
}

static void F1_6_old_writers_tensors(void **state) {
    (void)state;
    asked o;
    const uint16_t s = 0x3CA4, off = 0xC140;
    const part e[] = {T("weight", I8, 2, {2, 4}, W),
                      T("input_scale", BF16, 1, {1}, &s),
                      T("input_offset", BF16, 1, {1}, &off),
                      T("deq_scale", I64, 1, {2}, deq_bits),
                      T("quant_bias", I32, 1, {2}, qbias),
                      T("weight_scale", F32, 2, {2, 1}, w_scale),
                      T("weight_offset", F32, 2, {2, 1}, zeros)};
    put_parts(e, OCT_COUNT(e), NULL, "{\"p.weight\":\"W8A8\",\"kv_cache_type\":null}");
    ok(&o, open_linear(&o, NULL, false));
    const uint32_t want[2] = {0x387BA882, 0x37FBA882};
    assert_memory_equal(o.lin.col_scale, want, sizeof want);
    assert_true(o.lin.input_offset == -12);
    all_used(&o);
    done(&o);
}

static void F1_7_dynamic(void **state) {
    (void)state;
    asked o;
    const part e[] = {DYNAMIC_SET, T("bias", F32, 1, {2}, bias)};
    put_parts(e, OCT_COUNT(e), NULL, "{\"p.weight\":\"W8A8_DYNAMIC\"}");
    ok(&o, open_linear(&o, NULL, false));
    assert_true(o.lin.kind == OCT_LINEAR_INT8 && o.lin.act == OCT_ACT_DYNAMIC);
    assert_true(o.lin.col_scale[1] == 0.0015f && o.lin.bias[0] == 0.25f && !o.lin.int_bias);
    all_used(&o);
    done(&o);
}

static void F1_8_mix_is_dynamic_unless_told(void **state) {
    (void)state;
    asked o;
    const part e[] = {STATIC_SET, T("weight_scale", F32, 2, {2, 1}, w_scale),
                      T("weight_offset", F32, 2, {2, 1}, zeros), T("bias", F32, 1, {2}, bias)};
    put_parts(e, OCT_COUNT(e), NULL, "{\"p.weight\":\"W8A8_MIX\"}");
    ok(&o, open_linear(&o, NULL, false));
    assert_true(o.lin.act == OCT_ACT_DYNAMIC && o.lin.bias && !o.lin.int_bias);
    all_used(&o);
    done(&o);
    ok(&o, open_linear(&o, &(oct_scheme_options){.mix_static = true}, false));
    assert_true(o.lin.act == OCT_ACT_STATIC_BEFORE && !o.lin.bias && o.lin.int_bias);
    done(&o);
}

static void F1_10_smoothing_that_was_not_folded(void **state) {
    (void)state;
    asked o;
    const float mul[4] = {1, 2, 3, 4};
    const part e[] = {T("div.mul_scale", F32, 1, {4}, mul), T("linear.weight", I8, 2, {2, 4}, W),
                      T("linear.weight_scale", F32, 2, {2, 1}, w_scale)};
    put_parts(e, OCT_COUNT(e), NULL,
              "{\"p.linear.weight\":\"W8A8_DYNAMIC\",\"p.div.mul_scale\":\"FLOAT\"}");
    ok(&o, open_linear(&o, NULL, false));
    assert_true(o.lin.kind == OCT_LINEAR_INT8 && o.lin.input_mul[3] == 4);
    all_used(&o);
    done(&o);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void CF7_description_and_files_disagree(void **state) {
    (void)state;
    const float w[8] = {0};
    const part dyn[] = {DYNAMIC_SET};
    const part flt[] = {T("weight", F32, 2, {2, 4}, w)};
    const part u8[] = {T("weight", U8, 2, {2, 4}, W), T("weight_scale", F32, 2, {2, 1}, w_scale)};
    static const char *const others[] = {"W4A16",   "W4A8_DYNAMIC", "W8A8SC",
                                         "UNKNOWN", "INT8",         "w8a8"};
    char text[128];
    for (size_t i = 0; i < OCT_COUNT(others); i++) {
        snprintf(text, sizeof text, "{\"p.weight\":\"%s\"}", others[i]);
        REFUSE(dyn, text, OCT_E_UNSUPPORTED, "p.weight: scheme is not supported");
        REFUSE(dyn, text, OCT_E_UNSUPPORTED, others[i]);
    }
    REFUSE(dyn, "{\"p.weight\":7}", OCT_E_UNSUPPORTED, "got 7");
    REFUSE(dyn, "{}", OCT_E_CORRUPT, "tensor p.weight is I8 but has no scheme");
    REFUSE(dyn, "{\"p.weight\":\"FLOAT\"}", OCT_E_CORRUPT, "p.weight: got I8");
    REFUSE(flt, "{\"p.weight\":\"W8A8_DYNAMIC\"}", OCT_E_CORRUPT, "p.weight: got F32");
    REFUSE(u8, "{\"p.weight\":\"W8A8_DYNAMIC\"}", OCT_E_CORRUPT, "p.weight: got U8");
    REFUSE(dyn, "{\"p.weight\":\"W8A8\"}", OCT_E_CORRUPT, "p.input_scale is missing");
    REFUSE(dyn, "{\"p.weight\":\"W8A8_DYNAMIC\",\"q.weight\":\"W8A8\"}", OCT_E_CORRUPT,
           "tensor q.weight is listed as W8A8 but is in no file");
    REFUSE(dyn, "{\"p.weight\":\"W8A8_DYNAMIC\",\"fa_quant_type\":\"FAQuant\"}", OCT_E_CORRUPT,
           "fa_quant_type is set, but no layer has fa_k.scale");
    REFUSE(dyn, "{\"p.weight\":\"W8A8_DYNAMIC\",\"fa_quant_type\":\"FAX\"}", OCT_E_UNSUPPORTED,
           "fa_quant_type is not supported (got \"FAX\"");
    REFUSE(dyn, "{\"p.weight\":\"W8A8_DYNAMIC\",\"kv_cache_type\":\"C4\"}", OCT_E_UNSUPPORTED,
           "\"C4\"");
    asked o;
    put_parts(flt, 1, NULL, "{}"); /* an unlisted float is taken as it is */
    ok(&o, open_linear(&o, NULL, false));
    assert_int_equal(o.lin.kind, OCT_LINEAR_FLOAT);
    done(&o);
    put_parts(dyn, OCT_COUNT(dyn), NULL, NULL); /* INT8 without any description */
    refuse_with(NULL, OCT_E_CORRUPT, "p.weight: got I8 [2, 4], want a float type");
}

static void CF7_other_formats_are_named(void **state) {
    (void)state;
    const float w[8] = {0};
    const part flt[] = {T("weight", F32, 2, {2, 4}, w)};
    put_parts(flt, 1, "{\"quant_method\":\"awq\"}", NULL);
    refuse_with(NULL, OCT_E_UNSUPPORTED, "\"awq\"");
    put_parts(flt, 1, "{\"quant_method\":\"bitsandbytes\"}", NULL);
    refuse_with(NULL, OCT_E_UNSUPPORTED, "\"bitsandbytes\"");
    put_parts(flt, 1, "{}", NULL);
    refuse_with(NULL, OCT_E_UNSUPPORTED, "quant_method");
    refuse_with(&(oct_scheme_options){.forced = "gptq"}, OCT_E_INVALID, "\"gptq\"");
    asked o;
    ok(&o, open_linear(&o, &(oct_scheme_options){.forced = "none"}, false));
    done(&o);
}

static void F1_2_forced_without_description(void **state) {
    (void)state;
    const float w[8] = {0};
    const part flt[] = {T("weight", F32, 2, {2, 4}, w)};
    put_parts(flt, 1, NULL, NULL);
    put_text("tokenizer.json", "{}");
    const oct_scheme_options opts = {.forced = "ascend"};
    refuse_with(&opts, OCT_E_CORRUPT, test_dir);
    refuse_with(&opts, OCT_E_CORRUPT, "quant_model_description.json is missing");
    refuse_with(&opts, OCT_E_CORRUPT, "JSON files found: config.json, tokenizer.json");
}

static void F2_4_rotations_as_tensors(void **state) {
    (void)state;
    const float w[8] = {0};
    static const char *const names[] = {"o_proj.heads_rotation", "down_proj.kronecker_rotation_m",
                                        "down_proj.kronecker_rotation_n", "x.input_rotation"};
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        const part e[] = {T("weight", F32, 2, {2, 4}, w), {names[i], OCT_DTYPE_F32, 1, {8}, w}};
        REFUSE(e, NULL, OCT_E_UNSUPPORTED, names[i]);
    }
}

static void ST10_roles(void **state) {
    (void)state;
    static const char w8a8[] = "{\"p.weight\":\"W8A8\"}", dyn[] = "{\"p.weight\":\"W8A8_DYNAMIC\"}";
    const part shape[] = {T("weight", I8, 2, {4, 2}, W),
                          T("weight_scale", F32, 2, {2, 1}, w_scale)};
    const part scales[] = {T("weight", I8, 2, {2, 4}, W), T("weight_scale", F32, 1, {4}, zeros)};
    const part ints[] = {T("weight", I8, 2, {2, 4}, W), T("weight_scale", I32, 1, {2}, qbias)};
    const part qb[] = {T("weight", I8, 2, {2, 4}, W), T("input_scale", F32, 1, {1}, &in_scale),
                       T("input_offset", F32, 1, {1}, &in_offset), T("deq_scale", F32, 1, {2}, deq),
                       T("quant_bias", F32, 1, {2}, deq)};
    REFUSE(shape, dyn, OCT_E_CORRUPT, "p.weight: got I8 [4, 2], want I8 [2, 4]");
    REFUSE(scales, dyn, OCT_E_CORRUPT, "p.weight_scale: got F32 [4], want 2 floats");
    REFUSE(ints, dyn, OCT_E_CORRUPT, "p.weight_scale: got I32 [2]");
    REFUSE(qb, w8a8, OCT_E_CORRUPT, "p.quant_bias: got F32 [2], want I32 [2]");
}

static void ST11_bad_values(void **state) {
    (void)state;
    static const char w8a8[] = "{\"p.weight\":\"W8A8\"}", dyn[] = "{\"p.weight\":\"W8A8_DYNAMIC\"}";
    const float bad_scale[] = {NAN, INFINITY, -INFINITY, -1, 0};
    const float bad_offset[] = {NAN, INFINITY, 128, -129, 0.5f};
    const int64_t bad_bits[][2] = {{947628162, (int64_t)1 << 40},
                                   {947628162, 0x387BA88200000000},
                                   {0x7F800000, 1},
                                   {-1077936128, 1}};
    for (size_t i = 0; i < OCT_COUNT(bad_scale); i++) {
        const float two[2] = {0.5f, bad_scale[i]};
        const part in[] = {T("weight", I8, 2, {2, 4}, W),
                           T("input_scale", F32, 1, {1}, &bad_scale[i]),
                           T("input_offset", F32, 1, {1}, &in_offset),
                           T("deq_scale", F32, 1, {2}, deq), T("quant_bias", I32, 1, {2}, qbias)};
        REFUSE(in, w8a8, OCT_E_CORRUPT, "model.safetensors: tensor p.input_scale: index 0");
        if (bad_scale[i] == 0) continue; /* a weight scale of 0 is a warning */
        const part ws[] = {T("weight", I8, 2, {2, 4}, W), T("weight_scale", F32, 1, {2}, two)};
        REFUSE(ws, dyn, OCT_E_CORRUPT, "model.safetensors: tensor p.weight_scale: index 1");
    }
    for (size_t i = 0; i < OCT_COUNT(bad_offset); i++) {
        const part in[] = {T("weight", I8, 2, {2, 4}, W), T("input_scale", F32, 1, {1}, &in_scale),
                           T("input_offset", F32, 1, {1}, &bad_offset[i]),
                           T("deq_scale", F32, 1, {2}, deq), T("quant_bias", I32, 1, {2}, qbias)};
        REFUSE(in, w8a8, OCT_E_CORRUPT, "tensor p.input_offset: index 0");
    }
    for (size_t i = 0; i < OCT_COUNT(bad_bits); i++) {
        const part in[] = {T("weight", I8, 2, {2, 4}, W), T("input_scale", F32, 1, {1}, &in_scale),
                           T("input_offset", F32, 1, {1}, &in_offset),
                           T("deq_scale", I64, 1, {2}, bad_bits[i]),
                           T("quant_bias", I32, 1, {2}, qbias)};
        REFUSE(in, w8a8, OCT_E_CORRUPT, "tensor p.deq_scale: index");
    }
    const float offsets[2] = {0, 3}, inf[2] = {1, INFINITY}, zero_scale[2] = {0.5f, 0};
    const part wo[] = {T("weight", I8, 2, {2, 4}, W), T("weight_scale", F32, 1, {2}, w_scale),
                       T("weight_offset", F32, 1, {2}, offsets)};
    REFUSE(wo, dyn, OCT_E_UNSUPPORTED, "p.weight_offset: index 1 (got 3");
    const part bi[] = {DYNAMIC_SET, T("bias", F32, 1, {2}, inf)};
    REFUSE(bi, dyn, OCT_E_CORRUPT, "tensor p.bias: index 1");
    asked o;
    const part zs[] = {T("weight", I8, 2, {2, 4}, W), T("weight_scale", F32, 1, {2}, zero_scale)};
    put_parts(zs, OCT_COUNT(zs), NULL, dyn);
    ok(&o, open_linear(&o, NULL, false));
    assert_true(o.lin.col_scale[1] == 0);
    signed char raw[8];
    assert_int_equal(oct_checkpoint_read_raw(o.c, o.lin.weight, raw, NULL), OCT_OK);
    assert_memory_equal(raw, W, sizeof W); /* -128 is legal and exact */
    done(&o);
}

/* ---- C8 ----------------------------------------------------------------------------------------
 */

#define KV(name, type, ...) PART("a." name, type, __VA_ARGS__)

static void F1_11_scales_and_offsets(void **state) {
    (void)state;
    asked o;
    const float ks[2] = {0.5f, 0.25f}, vs = 0.125f, ko[2] = {0, 0};
    const int32_t vo[2] = {0, -3};
    const part e[] = {KV("k_proj.kv_cache_scale", F32, 2, {1, 2}, ks),
                      KV("v_proj.kv_cache_scale", F32, 1, {1}, &vs),
                      KV("k_proj.kv_cache_offset", F32, 1, {2}, ko),
                      KV("v_proj.kv_cache_offset", I32, 1, {2}, vo)};
    put_parts(e, OCT_COUNT(e), NULL, "{\"kv_cache_type\":\"C8\"}");
    ok(&o, ask_kv(&o, 1));
    assert_int_equal(o.kv.kind, OCT_KV_KIND_I8);
    assert_true(o.kv.k_scale[1] == 0.25f && o.kv.v_scale[0] == 0.125f && o.kv.v_scale[1] == 0.125f);
    assert_null(o.kv.k_offset);
    assert_true(o.kv.v_offset && o.kv.v_offset[1] == -3);
    ok(&o, oct_scheme_kv(o.s, &o.arena, "b", 1, 2, &o.kv, &o.err));
    assert_false(o.kv.kind == OCT_KV_KIND_I8); /* another layer keeps float */
    all_used(&o);
    done(&o);
    put_parts(e, OCT_COUNT(e), NULL, "{}");
    ok(&o, ask_kv(&o, 1));
    assert_int_equal(o.kv.kind, OCT_KV_KIND_FLOAT);
    done(&o);
}

static void refuse_kv(const part *e, size_t n, const char *description, const char *word) {
    asked o;
    put_parts(e, n, NULL, description);
    refused(&o, ask_kv(&o, 1), OCT_E_CORRUPT, word);
}

static void ST11_c8(void **state) {
    (void)state;
    static const char c8[] = "{\"kv_cache_type\":\"C8\"}";
    const float good[2] = {0.5f, 0.25f}, bad[] = {0, -1, NAN, INFINITY}, three[3] = {1, 1, 1};
    const part only_k[] = {KV("k_proj.kv_cache_scale", F32, 1, {2}, good)};
    const part only_v[] = {KV("v_proj.kv_cache_scale", F32, 1, {2}, good)};
    const part none[] = {KV("x", F32, 1, {2}, good)};
    refuse_kv(only_k, 1, c8, "a.v_proj.kv_cache_scale is missing");
    refuse_kv(only_v, 1, c8, "a.k_proj.kv_cache_scale is missing");
    refuse_kv(none, 1, c8, "no layer has k_proj.kv_cache_scale");
    const part size[] = {KV("k_proj.kv_cache_scale", F32, 1, {3}, three),
                         KV("v_proj.kv_cache_scale", F32, 1, {2}, good)};
    refuse_kv(size, 2, c8, "a.k_proj.kv_cache_scale: got F32 [3], want 2 floats");
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        const float values[2] = {1, bad[i]};
        const part e[] = {KV("k_proj.kv_cache_scale", F32, 1, {2}, good),
                          KV("v_proj.kv_cache_scale", F32, 1, {2}, values)};
        refuse_kv(e, 2, c8, "tensor a.v_proj.kv_cache_scale: index 1");
    }
    const float far[2] = {200, 0};
    const part off[] = {KV("k_proj.kv_cache_scale", F32, 1, {2}, good),
                        KV("v_proj.kv_cache_scale", F32, 1, {2}, good),
                        KV("k_proj.kv_cache_offset", F32, 1, {2}, far)};
    refuse_kv(off, 3, c8, "tensor a.k_proj.kv_cache_offset: index 0");
    refuse_kv(off, 2, "{\"kv_cache_type\":\"C8\",\"a.k_proj.kv_cache_offset\":\"C8\"}",
              "a.k_proj.kv_cache_offset is listed as C8 but is in no file");
}

/* ---- golden ------------------------------------------------------------------------------------
 */

/* Every tensor of every dense golden checkpoint is used, and nothing is missing. */
static void read_layer(asked *o, const oct_model_config *m, uint32_t layer) {
    const uint64_t q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    const struct {
        const char *name;
        uint64_t n, k;
    } rows[] = {{"self_attn.q_proj", q, m->hidden},
                {"self_attn.k_proj", kv, m->hidden},
                {"self_attn.v_proj", kv, m->hidden},
                {"self_attn.o_proj", m->hidden, q},
                {"mlp.gate_proj", m->intermediate, m->hidden},
                {"mlp.up_proj", m->intermediate, m->hidden},
                {"mlp.down_proj", m->hidden, m->intermediate}};
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm"};
    char name[256];
    const float *v;
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s", layer, rows[i].name);
        ok(o, oct_scheme_linear(o->s, &o->arena, name, rows[i].n, rows[i].k, m->qkv_bias && i < 3,
                                &o->lin, &o->err));
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s.%s", layer, norms[i / 2],
                 i % 2 ? "bias" : "weight");
        ok(o, oct_checkpoint_vector(o->c, &o->arena, name, m->hidden, i % 2, &v, &o->err));
    }
    for (size_t i = 0; i < 4 && m->qk_norm; i++) {
        snprintf(name, sizeof name, "model.layers.%u.self_attn.%c_norm.%s", layer, "qk"[i / 2],
                 i % 2 ? "bias" : "weight");
        ok(o, oct_checkpoint_vector(o->c, &o->arena, name, m->head_dim, i % 2, &v, &o->err));
    }
    snprintf(name, sizeof name, "model.layers.%u.self_attn", layer);
    ok(o, oct_scheme_kv(o->s, &o->arena, name, m->n_kv_heads, m->head_dim, &o->kv, &o->err));
    const bool c8 = strstr(strrchr(oct_checkpoint_path(o->c), '/'), "c8") != NULL;
    assert_int_equal(o->kv.kind, c8 ? OCT_KV_KIND_I8 : OCT_KV_KIND_FLOAT);
}

static void read_golden(const char *folder) {
    asked o;
    const float *v;
    const uint64_t shape[2] = {256, 64};
    ok(&o, ask_folder(&o, folder, NULL));
    const oct_model_config *m = oct_checkpoint_config(o.c);
    for (uint32_t l = 0; l < m->n_layers; l++) read_layer(&o, m, l);
    (void)oct_checkpoint_need(o.c, "model.embed_tokens.weight", 2, shape);
    ok(&o, oct_checkpoint_vector(o.c, &o.arena, "model.norm.weight", 64, false, &v, &o.err));
    ok(&o, oct_checkpoint_vector(o.c, &o.arena, "model.norm.bias", 64, true, &v, &o.err));
    if (!m->tie_word_embeddings)
        ok(&o, oct_scheme_linear(o.s, &o.arena, "lm_head", 256, 64, false, &o.lin, &o.err));
    ok(&o, oct_checkpoint_check_needs(o.c, &o.err));
    all_used(&o);
    done(&o);
}

static void golden_checkpoints_bind(void **state) {
    (void)state;
    char path[2048];
    if (!golden_root()) skip();
    for (size_t i = 0; golden_folder(i, path); i++) read_golden(path);
}

static oct_status open_and_bind(void *ctx, const oct_allocator *mem) {
    asked o = {0};
    oct_arena_init(&o.arena, mem, 0);
    oct_status status = oct_checkpoint_open(mem, ctx, &o.c, NULL);
    if (status == OCT_OK) status = oct_scheme_open(mem, o.c, NULL, &o.s, NULL);
    if (status == OCT_OK) status = oct_scheme_linear(o.s, &o.arena, "p", 2, 4, false, &o.lin, NULL);
    done(&o);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    const part e[] = {STATIC_SET};
    put_parts(e, OCT_COUNT(e), NULL, "{\"p.weight\":\"W8A8\"}");
    refuse_each_request(open_and_bind, test_dir);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(float_projection),
        TEST(F1_6_static),
        TEST(F1_6_old_writers_tensors),
        TEST(F1_7_dynamic),
        TEST(F1_8_mix_is_dynamic_unless_told),
        TEST(F1_10_smoothing_that_was_not_folded),
        TEST(CF7_description_and_files_disagree),
        TEST(CF7_other_formats_are_named),
        TEST(F1_2_forced_without_description),
        TEST(F2_4_rotations_as_tensors),
        TEST(ST10_roles),
        TEST(ST11_bad_values),
        TEST(F1_11_scales_and_offsets),
        TEST(ST11_c8),
        TEST(every_allocation_may_fail),
        TEST(golden_checkpoints_bind),
    };
    return cmocka_run_group_tests_name("scheme", tests, NULL, NULL);
}
