/* The layouts that llm-compressor and AMD Quark write, rebuilt small: every tensor is found under
 * the name that the model asks for, read as what it is, and none is left over. */
#include "store_test.h"
#include "support/layouts.h"

#include "store/scheme.h"

typedef struct expected {
    const char *name;
    oct_linear_kind kind;
    oct_act_quant attn, mlp;
    oct_kv_kind kv;
    oct_kv_grain grain;
} expected;

#define DYN OCT_ACT_DYNAMIC
#define STAT OCT_ACT_STATIC_AFTER
#define NO_KV OCT_KV_KIND_FLOAT, OCT_KV_GRAIN_TENSOR

static const expected table[] = {
    {"ct-fp8-dynamic", OCT_LINEAR_FP8, OCT_ACT_NONE, OCT_ACT_NONE, NO_KV},
    {"ct-mixed-asym", OCT_LINEAR_INT8, STAT, DYN, NO_KV},
    {"ct-static", OCT_LINEAR_INT8, STAT, STAT, NO_KV},
    {"ct-w8a8", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
    {"ct-w8a8-gptq", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
    {"ct-w8a8-kvfp8", OCT_LINEAR_INT8, DYN, DYN, OCT_KV_KIND_FP8, OCT_KV_GRAIN_TENSOR},
    {"ct-w8a8-kvint8", OCT_LINEAR_INT8, DYN, DYN, OCT_KV_KIND_I8, OCT_KV_GRAIN_TENSOR},
    {"ct-w8a8-kvint8-head", OCT_LINEAR_INT8, DYN, DYN, OCT_KV_KIND_I8, OCT_KV_GRAIN_HEAD},
    {"mixtral-ct-w8a8", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
    {"mixtral-quark-int8", OCT_LINEAR_INT8, STAT, STAT, NO_KV},
    {"mixtral-quark-ptpc-int8", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
    {"quark-int8", OCT_LINEAR_INT8, STAT, STAT, NO_KV},
    {"quark-ptpc-int8", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
    {"quark-ptpc-int8-kvfp8", OCT_LINEAR_INT8, DYN, DYN, OCT_KV_KIND_FP8, OCT_KV_GRAIN_TENSOR},
    {"qwen2-ct-w8a8", OCT_LINEAR_INT8, DYN, DYN, NO_KV},
};

typedef struct reading {
    oct_checkpoint *c;
    oct_scheme *s;
    oct_arena arena;
    oct_err err;
    const expected *want;
    size_t n_float, n_quantised;
} reading;

static void must(reading *r, oct_status status) {
    if (status == OCT_OK) return;
    print_error("%s: %s\n", r->want->name, r->err.text);
    fail();
}

static void read_projection(reading *r, uint32_t layer, const char *name, uint64_t n, uint64_t k,
                            bool attn, oct_linear_source *out) {
    char prefix[160];
    snprintf(prefix, sizeof prefix, "model.layers.%u.%s", layer, name);
    must(r, oct_scheme_linear(r->s, &r->arena, prefix, n, k, false, out, &r->err));
    if (out->kind == OCT_LINEAR_FLOAT) {
        r->n_float++;
        return;
    }
    r->n_quantised++;
    assert_int_equal(out->kind, r->want->kind);
    assert_int_equal(out->act, attn ? r->want->attn : r->want->mlp);
    assert_true(out->col_scale && out->col_scale[n - 1] > 0);
}

static void read_mlp(reading *r, uint32_t layer) {
    oct_linear_source gate, up, down;
    char name[96];
    const bool sparse = strncmp(r->want->name, "mixtral", 7) == 0;
    float first = 0;
    for (uint32_t e = 0; e < (sparse ? LAYOUT_E : 1); e++) {
        static const char *const dense[] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
        for (int p = 0; p < 3; p++) {
            if (sparse)
                snprintf(name, sizeof name, "block_sparse_moe.experts.%u.w%d", e,
                         p == 0   ? 1
                         : p == 1 ? 3
                                  : 2);
            else
                snprintf(name, sizeof name, "%s", dense[p]);
            oct_linear_source *out = p == 0 ? &gate : p == 1 ? &up : &down;
            read_projection(r, layer, name, p < 2 ? LAYOUT_I : LAYOUT_H,
                            p < 2 ? LAYOUT_H : LAYOUT_I, false, out);
        }
        if (!sparse || gate.act != STAT) continue;
        if (e == 0) first = gate.input_scale;
        assert_true(gate.input_scale == first && up.input_scale == first); /* one for all */
        assert_true(down.input_scale > 0);
    }
    if (!sparse) return;
    const uint64_t shape[2] = {LAYOUT_E, LAYOUT_H};
    snprintf(name, sizeof name, "model.layers.%u.block_sparse_moe.gate.weight", layer);
    assert_non_null(oct_checkpoint_need(r->c, name, 2, shape));
}

static void read_layer(reading *r, uint32_t layer) {
    static const char *const vectors[] = {"input_layernorm.weight",
                                          "post_attention_layernorm.weight"};
    oct_linear_source lin;
    oct_kv_source kv;
    char name[96];
    const float *v;
    read_projection(r, layer, "self_attn.q_proj", LAYOUT_H, LAYOUT_H, true, &lin);
    read_projection(r, layer, "self_attn.k_proj", LAYOUT_K, LAYOUT_H, true, &lin);
    read_projection(r, layer, "self_attn.v_proj", LAYOUT_K, LAYOUT_H, true, &lin);
    read_projection(r, layer, "self_attn.o_proj", LAYOUT_H, LAYOUT_H, true, &lin);
    read_mlp(r, layer);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s", layer, vectors[i]);
        must(r, oct_checkpoint_vector(r->c, &r->arena, name, LAYOUT_H, false, &v, &r->err));
    }
    snprintf(name, sizeof name, "model.layers.%u.self_attn", layer);
    must(r, oct_scheme_kv(r->s, &r->arena, name, LAYOUT_G, LAYOUT_D, &kv, &r->err));
    assert_int_equal(kv.kind, r->want->kv);
    assert_int_equal(kv.offered, r->want->kv);
    assert_int_equal(kv.grain, r->want->grain);
    assert_int_equal(kv.k_scale != NULL, kv.kind != OCT_KV_KIND_FLOAT);
    if (kv.k_scale) assert_true(kv.k_scale[LAYOUT_K - 1] > 0 && kv.v_scale[LAYOUT_K - 1] > 0);
    if (kv.grain == OCT_KV_GRAIN_HEAD) assert_true(kv.k_scale[0] == kv.k_scale[LAYOUT_D - 1]);
}

static void read_layout(const expected *want) {
    reading r = {.want = want};
    const uint64_t shape[2] = {LAYOUT_V, LAYOUT_H};
    const float *v;
    layout_make(want->name, test_dir);
    oct_arena_init(&r.arena, oct_system_allocator(), 0);
    must(&r, oct_checkpoint_open(oct_system_allocator(), test_dir, &r.c, &r.err));
    must(&r, oct_scheme_open(oct_system_allocator(), r.c, NULL, &r.s, &r.err));
    for (uint32_t layer = 0; layer < LAYOUT_LAYERS; layer++) read_layer(&r, layer);
    assert_non_null(oct_checkpoint_need(r.c, "model.embed_tokens.weight", 2, shape));
    must(&r,
         oct_checkpoint_vector(r.c, &r.arena, "model.norm.weight", LAYOUT_H, false, &v, &r.err));
    if (oct_checkpoint_find(r.c, "lm_head.weight"))
        assert_non_null(oct_checkpoint_need(r.c, "lm_head.weight", 2, shape));
    must(&r, oct_checkpoint_check_needs(r.c, &r.err));
    oct_buf left;
    oct_buf_init(&left, oct_system_allocator(), 0);
    /* Biases of a family that may have them are asked for by the projection itself. */
    if (oct_checkpoint_unused(r.c, &left) != 0)
        fail_msg("%s: not used: %s", want->name, oct_buf_cs(&left));
    oct_buf_fini(&left);
    assert_true(r.n_quantised > 0);
    const bool some_float = strstr(want->name, "static") || strstr(want->name, "quark-int8") ||
                            strstr(want->name, "mixed");
    assert_int_equal(r.n_float > 0, some_float);
    oct_scheme_close(r.s);
    oct_checkpoint_close(r.c);
    oct_arena_fini(&r.arena);
}

static void real_layouts(void **state) {
    (void)state;
    assert_int_equal(OCT_COUNT(table), LAYOUT_COUNT);
    for (size_t i = 0; i < OCT_COUNT(table); i++) read_layout(&table[i]);
}

/* A tool's file with one tensor gone or changed is refused by its name. */
static void a_scale_that_is_missing(void **state) {
    (void)state;
    oct_checkpoint *c;
    oct_scheme *s;
    oct_arena arena;
    oct_kv_source kv;
    oct_err err = {0};
    layout_make("ct-w8a8-kvint8", test_dir);
    oct_arena_init(&arena, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_open(oct_system_allocator(), test_dir, &c, &err), OCT_OK);
    assert_int_equal(oct_scheme_open(oct_system_allocator(), c, NULL, &s, &err), OCT_OK);
    assert_int_equal(oct_scheme_kv(s, &arena, "model.layers.99.self_attn", 2, 16, &kv, &err),
                     OCT_OK);
    assert_int_equal(kv.kind, OCT_KV_KIND_FLOAT);
    assert_int_equal(oct_checkpoint_check_needs(c, &err), OCT_E_CORRUPT);
    expect_text(&err, "model.layers.99.self_attn.k_scale is missing");
    oct_scheme_close(s);
    oct_checkpoint_close(c);
    oct_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(real_layouts, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_scale_that_is_missing, make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("layouts", tests, NULL, NULL);
}
