/*
 * check_attn.c - the pieces of attention, bit for bit: head sizes around every padding, visible
 * ranges of every kind, memory outside the range poisoned with NaN.
 */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "quant/contract.h"

static const uint32_t heads[] = {1, 8, 16, 20, 32, 64, 72, 80, 96, 100, 128, 192, 256};

static const uint32_t ranges[][2] = {{0, 128}, {0, 1},   {127, 128}, {0, 16},
                                     {15, 17}, {16, 32}, {31, 97},   {5, 100},
                                     {64, 65}, {1, 128}, {0, 127},   {100, 116}};

static const oct_attn_score hows[] = {{1e-7f, 0, 0}, {3e-4f, 0, 0}, {1e-6f, 50.0f, 1.0f / 50.0f},
                                      {0, 0, 0},     {1e38f, 0, 0}, {-2e-6f, 0, 0}};

static void *buffer(kcheck *t, unsigned slot, size_t n, size_t size) {
    return kc_tail(t, slot, n * size);
}

static void check_q24(kcheck *t, oct_attn_q24_fn ref, oct_attn_q24_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "attn_q24")) return;
    for (size_t h = 0; h < KC_COUNT(heads); h++)
        for (int how = 0; how < KC_N_FILL + 3; how++) {
            const uint32_t hd = heads[h], pad = (hd + 63) / 64 * 64;
            float *q = buffer(t, 0, hd, 4), *s = buffer(t, 1, hd, 4), *scale = buffer(t, 2, 2, 4);
            int16_t *want = buffer(t, 3, 2 * pad, 2), *got = buffer(t, 4, 2 * pad, 2);
            kc_fill_f32(t, q, hd, how == KC_N_FILL ? 1e-30f : 4.0f,
                        how < KC_N_FILL ? (kc_fill_kind)how : KC_RANDOM);
            kc_fill_f32(t, s, hd, 0.05f, KC_RANDOM);
            if (how == KC_N_FILL + 1) q[kc_random(t) % hd] = NAN;
            if (how == KC_N_FILL + 2) q[kc_random(t) % hd] = -INFINITY;
            kc_case(t, "hd=%u fill=%d", hd, how);
            scale[0] = ref(want, q, s, hd, pad);
            scale[1] = fn(got, q, s, hd, pad);
            kc_same_bytes(t, want, got, 2 * pad * sizeof *want);
            kc_same_f32(t, scale, scale + 1, 1);
        }
}

static void check_softmax_i8(kcheck *t, oct_attn_softmax_i8_fn ref, oct_attn_softmax_i8_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "attn_softmax_i8")) return;
    int32_t *c = buffer(t, 0, 2 * OCT_ATTN_SPAN, 4), *l = buffer(t, 1, 2, 4);
    int16_t *want = buffer(t, 2, 2 * OCT_ATTN_SPAN, 2), *got = buffer(t, 3, 2 * OCT_ATTN_SPAN, 2);
    float *m = buffer(t, 4, 2, 4);
    for (size_t r = 0; r < KC_COUNT(ranges); r++)
        for (size_t s = 0; s < KC_COUNT(hows); s++)
            for (int how = 0; how < 4; how++) {
                for (int i = 0; i < 2 * OCT_ATTN_SPAN; i++)
                    c[i] = how == 0   ? (int32_t)kc_random(t) / 4
                           : how == 1 ? -5
                           : how == 2 ? (int32_t)(kc_random(t) % 100000)
                                      : (i & 1 ? INT32_MAX : INT32_MIN);
                kc_case(t, "range=%u..%u score=%zu fill=%d", ranges[r][0], ranges[r][1], s, how);
                ref(want, c, ranges[r][0], ranges[r][1], &hows[s], &m[0], &l[0]);
                fn(got, c, ranges[r][0], ranges[r][1], &hows[s], &m[1], &l[1]);
                kc_same_f32(t, m, m + 1, 1);
                kc_same_i32(t, l, l + 1, 1);
                if (isfinite(m[0])) kc_same_bytes(t, want, got, 2 * OCT_ATTN_SPAN * sizeof *want);
            }
    double a, b;
    if (!t->bench) return;
    for (int i = 0; i < 2 * OCT_ATTN_SPAN; i++) c[i] = (int32_t)kc_random(t) / 64;
    KC_TIME(a, ref(want, c, 0, OCT_ATTN_SPAN, &hows[0], m, l));
    KC_TIME(b, fn(got, c, 0, OCT_ATTN_SPAN, &hows[0], m, l));
    kc_report(t, "128 scores", OCT_ATTN_SPAN, a, b);
}

static void check_softmax_i8_token(kcheck *t, oct_attn_softmax_i8_token_fn ref,
                                   oct_attn_softmax_i8_token_fn fn) {
    enum { N = OCT_ATTN_SPAN };
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "attn_softmax_i8_token")) return;
    int32_t *c = buffer(t, 0, 2 * N, 4), *l = buffer(t, 1, 2, 4);
    int16_t *want = buffer(t, 2, 2 * N, 2), *got = buffer(t, 3, 2 * N, 2);
    float *m = buffer(t, 4, 2, 4), *w = buffer(t, 5, 2, 4);
    float *ks = buffer(t, 6, N, 4), *vs = buffer(t, 7, N, 4);
    for (size_t r = 0; r < KC_COUNT(ranges); r++)
        for (size_t s = 0; s < KC_COUNT(hows); s++)
            for (int how = 0; how < 8; how++) {
                const uint32_t lo = ranges[r][0], hi = ranges[r][1];
                for (int i = 0; i < 2 * N; i++)
                    c[i] = how == 1   ? -5
                           : how == 2 ? (int32_t)(kc_random(t) % 100000)
                           : how == 3 ? (i & 1 ? INT32_MAX : INT32_MIN)
                                      : (int32_t)kc_random(t) / 4;
                for (uint32_t i = 0; i < N; i++) {
                    const bool in = i >= lo && i < hi;
                    ks[i] = in ? 1e-3f + fabsf(kc_uniform(t)) : NAN;
                    vs[i] = in ? how == 4   ? 1e-6f
                                 : how == 5 ? 1e36f * fabsf(kc_uniform(t))
                                            : 0.05f + fabsf(kc_uniform(t))
                               : NAN;
                }
                if (how == 6) ks[lo + kc_random(t) % (hi - lo)] = NAN;
                if (how == 7) vs[lo + kc_random(t) % (hi - lo)] = NAN;
                kc_case(t, "range=%u..%u score=%zu fill=%d", lo, hi, s, how);
                ref(want, c, lo, hi, &hows[s], ks, vs, &m[0], &l[0], &w[0]);
                fn(got, c, lo, hi, &hows[s], ks, vs, &m[1], &l[1], &w[1]);
                kc_same_f32(t, m, m + 1, 1);
                kc_same_i32(t, l, l + 1, 1);
                kc_same_f32(t, w, w + 1, 1);
                if (isfinite(m[0])) kc_same_bytes(t, want, got, 2 * N * sizeof *want);
            }
}

static void check_softmax_f32(kcheck *t, oct_attn_softmax_f32_fn ref, oct_attn_softmax_f32_fn fn) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, "attn_softmax_f32")) return;
    for (size_t r = 0; r < KC_COUNT(ranges); r++)
        for (size_t s = 0; s < KC_COUNT(hows); s++)
            for (int how = 0; how < KC_N_FILL + 1; how++) {
                const uint32_t lo = ranges[r][0], hi = ranges[r][1];
                float *want = buffer(t, 0, hi, 4), *got = buffer(t, 1, hi, 4),
                      *m = buffer(t, 2, 4, 4);
                kc_fill_f32(t, want, hi, 1e7f, how < KC_N_FILL ? (kc_fill_kind)how : KC_RANDOM);
                if (how == KC_N_FILL) want[lo] = NAN;
                for (uint32_t i = 0; i < lo; i++) want[i] = NAN;
                memcpy(got, want, hi * sizeof *got);
                kc_case(t, "range=%u..%u score=%zu fill=%d", lo, hi, s, how);
                ref(want, lo, hi, &hows[s], &m[0], &m[2]);
                fn(got, lo, hi, &hows[s], &m[1], &m[3]);
                kc_same_f32(t, m, m + 1, 1);
                kc_same_f32(t, m + 2, m + 3, 1);
                kc_same_f32(t, want, got, hi);
            }
}

static void check_qk(kcheck *t, const char *name, oct_attn_qk_fn ref, oct_attn_qk_fn fn,
                     size_t size) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, name)) return;
    static const uint32_t ms[] = {1, 2, 3, 4, 5, 7, 9};
    for (size_t h = 0; h < KC_COUNT(heads); h++)
        for (size_t i = 0; i < KC_COUNT(ms); i++) {
            const uint32_t hd = heads[h], m = ms[i];
            const size_t n = (size_t)(m - 1) * OCT_ATTN_SPAN + OCT_ATTN_SUB;
            float *q = buffer(t, 0, (size_t)m * hd, 4);
            uint16_t *k = buffer(t, 1, (size_t)hd * OCT_ATTN_SUB, size);
            float *want = buffer(t, 2, n, 4), *got = buffer(t, 3, n, 4);
            kc_fill_f32(t, q, (size_t)m * hd, 2.0f, KC_RANDOM);
            if (size == 4)
                kc_fill_f32(t, (float *)(void *)k, (size_t)hd * OCT_ATTN_SUB, 2.0f, KC_RANDOM);
            else
                for (uint32_t j = 0; j < hd * OCT_ATTN_SUB; j++) k[j] = (uint16_t)kc_random(t);
            memset(want, 0, n * 4);
            memset(got, 0, n * 4);
            kc_case(t, "hd=%u m=%u", hd, m);
            ref(want, OCT_ATTN_SPAN, q, hd, m, k, hd);
            fn(got, OCT_ATTN_SPAN, q, hd, m, k, hd);
            kc_same_f32(t, want, got, n);
        }
}

static void check_pv(kcheck *t, const char *name, oct_attn_pv_fn ref, oct_attn_pv_fn fn,
                     size_t size) {
    if (!kc_begin(t, (kc_fn)ref, (kc_fn)fn, name)) return;
    static const uint32_t at[][2] = {{0, 32}, {0, 1}, {31, 32}, {3, 17}, {5, 5}};
    for (size_t h = 0; h < KC_COUNT(heads); h++)
        for (size_t r = 0; r < KC_COUNT(at); r++)
            for (uint32_t gap = 0; gap < 2; gap++) {
                const uint32_t hd = heads[h], lo = at[r][0], hi = at[r][1];
                const size_t ldv = hd + gap * 3, n = (OCT_ATTN_SUB - 1) * ldv + hd;
                float *p = buffer(t, 0, OCT_ATTN_SUB, 4), *want = buffer(t, 2, hd, 4),
                      *got = buffer(t, 3, hd, 4);
                uint16_t *v = buffer(t, 1, n, size);
                kc_fill_f32(t, p, OCT_ATTN_SUB, 1.0f, KC_RANDOM);
                kc_fill_f32(t, want, hd, 1.0f, KC_RANDOM);
                memcpy(got, want, hd * sizeof *got);
                memset(v, 0xff, n * size); /* NaN wherever nobody may look */
                for (size_t i = lo; i < hi; i++)
                    for (size_t d = 0; d < hd; d++) {
                        const float x = kc_uniform(t);
                        if (size == 4)
                            ((float *)(void *)v)[i * ldv + d] = x;
                        else
                            v[i * ldv + d] = (uint16_t)(oct_f32_bits(x) >> 16);
                    }
                kc_case(t, "hd=%u range=%u..%u ldv=%zu", hd, lo, hi, ldv);
                ref(want, p, lo, hi, v, ldv, hd);
                fn(got, p, lo, hi, v, ldv, hd);
                kc_same_f32(t, want, got, hd);
            }
}

static void check_merge(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    const int i32 =
        kc_begin(t, (kc_fn)ref->attn.merge_i32, (kc_fn)k->attn.merge_i32, "attn_merge_i32");
    const int f32 =
        kc_begin(t, (kc_fn)ref->attn.merge_f32, (kc_fn)k->attn.merge_f32, "attn_merge_f32");
    for (size_t h = 0; h < KC_COUNT(heads) && (i32 || f32); h++) {
        const uint32_t hd = heads[h];
        float *want = buffer(t, 0, hd, 4), *got = buffer(t, 1, hd, 4), *of = buffer(t, 2, hd, 4);
        int32_t *oi = buffer(t, 3, 2 * hd, 4);
        kc_fill_f32(t, want, hd, 1e6f, KC_RANDOM);
        memcpy(got, want, hd * sizeof *got);
        kc_fill_f32(t, of, hd, 1e6f, KC_RANDOM);
        for (uint32_t d = 0; d < 2 * hd; d++) oi[d] = (int32_t)kc_random(t) / 2;
        kc_case(t, "hd=%u", hd);
        ref->attn.merge_f32(want, of, 0.25f, 0.7f, hd);
        k->attn.merge_f32(got, of, 0.25f, 0.7f, hd);
        kc_same_f32(t, want, got, hd);
        ref->attn.merge_i32(want, oi, hd, 0.3f, 0.7f, hd);
        k->attn.merge_i32(got, oi, hd, 0.3f, 0.7f, hd);
        kc_same_f32(t, want, got, hd);
    }
}

static void check_finish(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (!kc_begin(t, (kc_fn)ref->attn.finish, (kc_fn)k->attn.finish, "attn_finish")) return;
    for (size_t h = 0; h < KC_COUNT(heads); h++)
        for (unsigned options = 0; options < 4; options++) {
            const uint32_t hd = heads[h];
            float *acc = buffer(t, 0, hd, 4), *off = buffer(t, 1, hd, 4), *s = buffer(t, 2, hd, 4);
            float *want = buffer(t, 3, hd, 4), *got = buffer(t, 4, hd, 4);
            kc_fill_f32(t, acc, hd, 1e6f, KC_RANDOM);
            kc_fill_f32(t, off, hd, 1.0f, KC_RANDOM);
            kc_fill_f32(t, s, hd, 2.0f, KC_RANDOM);
            const float *v_offset = options & 1 ? off : NULL, *v_scale = options & 2 ? s : NULL;
            kc_case(t, "hd=%u options=%x", hd, options);
            ref->attn.finish(want, acc, 0.37f, v_offset, v_scale, hd);
            k->attn.finish(got, acc, 0.37f, v_offset, v_scale, hd);
            kc_same_f32(t, want, got, hd);
        }
}

void check_attn(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    check_q24(t, ref->attn.q24, k->attn.q24);
    check_softmax_i8(t, ref->attn.softmax_i8, k->attn.softmax_i8);
    check_softmax_i8_token(t, ref->attn.softmax_i8_token, k->attn.softmax_i8_token);
    check_softmax_f32(t, ref->attn.softmax_f32, k->attn.softmax_f32);
    check_qk(t, "attn_qk_f32", ref->attn.qk_f32, k->attn.qk_f32, 4);
    check_qk(t, "attn_qk_bf16", ref->attn.qk_bf16, k->attn.qk_bf16, 2);
    check_pv(t, "attn_pv_f32", ref->attn.pv_f32, k->attn.pv_f32, 4);
    check_pv(t, "attn_pv_bf16", ref->attn.pv_bf16, k->attn.pv_bf16, 2);
    check_merge(t, ref, k);
    check_finish(t, ref, k);
}
