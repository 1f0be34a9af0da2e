/* check_gemm_float.c - one chain per output: the float products, too, have one right answer. */
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "kern/pack.h"

enum { B_A, B_SRC, B_PANELS, B_C_REF, B_C };

/* Weights as raw storage; every bit pattern of a 16-bit type is met in the long run, NaN,
 * infinities and subnormals included (kind 1), or numbers of ordinary size (kind 0). */
static void fill_weights(kcheck *t, void *v, oct_pack_type type, size_t n, unsigned kind) {
    for (size_t i = 0; i < n; i++) {
        const float x = kc_uniform(t);
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (type == OCT_PACK_F32) {
            if (kind == 1 && kc_random(t) % 4096 == 0) bits = kc_random(t);
            memcpy((char *)v + i * 4, &bits, 4);
        } else {
            uint16_t h = (uint16_t)(bits >> 16);
            if (type == OCT_PACK_F16)
                h = (uint16_t)((kc_random(t) & 0x83ffu) | (8 + kc_random(t) % 8) << 10);
            if (kind == 1 && kc_random(t) % 1024 == 0) h = (uint16_t)kc_random(t);
            memcpy((char *)v + i * 2, &h, 2);
        }
    }
}

static oct_gemm_float_fn slot_of(const oct_kern *k, oct_pack_type type) {
    return type == OCT_PACK_BF16 ? k->gemm_bf16 : type == OCT_PACK_F16 ? k->gemm_f16 : k->gemm_f32;
}

static void one_shape(kcheck *t, const oct_kern *ref, const oct_kern *k, oct_pack_type type,
                      kc_gemm_shape s, unsigned kind) {
    const uint32_t n_panels = oct_pack_n_panels(s.n);
    const size_t panel_bytes = oct_pack_panel_bytes(type, s.k), elem = oct_pack_elem_bytes(type);
    const size_t lda = s.k + s.m % 3, ldc = (size_t)n_panels * 16 + s.m % 2 * 5;
    const size_t cells = (s.m - 1) * ldc + (size_t)n_panels * 16, n_a = (s.m - 1) * lda + s.k;
    kc_case(t, "m=%u n=%u k=%u kind=%u", s.m, s.n, s.k, kind);
    void *src = kc_tail(t, B_SRC, (size_t)s.n * s.k * elem);
    void *panels = kc_tail(t, B_PANELS, oct_pack_bytes(type, s.n, s.k));
    float *a = kc_tail(t, B_A, n_a * 4);
    float *want = kc_tail(t, B_C_REF, cells * 4), *got = kc_tail(t, B_C, cells * 4);
    fill_weights(t, src, type, (size_t)s.n * s.k, kind);
    memset(panels, 0, oct_pack_bytes(type, s.n, s.k));
    oct_pack_float(&ref->pack, panels, type, src, s.k, s.n, s.k, 0);
    kc_fill_f32(t, a, n_a, 3.0f, KC_RANDOM);
    memset(want, 0x5a, cells * 4);
    memset(got, 0x5a, cells * 4);
    slot_of(ref, type)(a, lda, s.m, panels, s.k, panel_bytes, n_panels, want, ldc);
    slot_of(k, type)(a, lda, s.m, panels, s.k, panel_bytes, n_panels, got, ldc);
    kc_same_f32(t, want, got, cells);
    if (t->bench && kind == 0 && s.k == 1536) {
        double before, after;
        KC_TIME(before,
                slot_of(ref, type)(a, lda, s.m, panels, s.k, panel_bytes, n_panels, want, ldc));
        KC_TIME(after, slot_of(k, type)(a, lda, s.m, panels, s.k, panel_bytes, n_panels, got, ldc));
        kc_report(t, t->where, (double)s.m * s.n * s.k, before, after);
    }
}

void check_gemm_float(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    static const char *const names[] = {"", "gemm_f32", "gemm_bf16", "gemm_f16"};
    static const kc_gemm_shape shapes[] = {
        {1, 16, 1},    {1, 17, 64},   {1, 80, 255},  {1, 64, 256},   {1, 130, 257}, {2, 16, 513},
        {3, 33, 40},   {4, 16, 300},  {5, 16, 256},  {6, 48, 64},    {7, 16, 257},  {8, 65, 31},
        {9, 16, 300},  {12, 32, 128}, {13, 16, 600}, {16, 130, 64},  {17, 16, 257}, {1, 65, 1536},
        {8, 64, 1536}, {33, 64, 576}, {31, 129, 96}, {24, 256, 320}, {2, 64, 1536},
    };
    for (int type = OCT_PACK_F32; type <= OCT_PACK_F16; type++) {
        if (!kc_begin(t, (kc_fn)slot_of(ref, type), (kc_fn)slot_of(k, type), names[type])) continue;
        for (size_t i = 0; i < KC_COUNT(shapes); i++)
            for (unsigned kind = 0; kind < 2; kind++)
                one_shape(t, ref, k, (oct_pack_type)type, shapes[i], kind);
    }
}
