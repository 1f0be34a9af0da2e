/*
 * test_sample.c - sampling against a plain version that sorts, the distribution of draws, and the
 * edges: ties, masks, nothing allowed, numbers that are not finite.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/philox.h"
#include "kern/sample.h"
#include "tables.h"

static tables all;

enum { MAX_V = 4000, MAX_TOP = 20 };

static float logits[MAX_V];
static int32_t top_id[MAX_TOP];
static float top_logprob[MAX_TOP];
static octet_sample_out out;

static octet_sample_row plain(float temperature) {
    return (octet_sample_row){.temperature = temperature,
                              .top_p = 1.0f,
                              .repetition_penalty = 1.0f,
                              .forced = -1,
                              .mask = -1};
}

static oct_sample_args args_of(const octet_sample_row *row, uint32_t n) {
    return (oct_sample_args){.logits = logits,
                             .n_vocab = n,
                             .row = row,
                             .out = &out,
                             .top_id = top_id,
                             .top_logprob = top_logprob,
                             .max_top = MAX_TOP};
}

static void sample(const oct_kern *k, const oct_sample_args *a) {
    void *scratch = aligned_alloc(64, (oct_kern_sample_scratch_bytes(a->n_vocab) + 63) / 64 * 64);
    assert_non_null(scratch);
    oct_kern_sample(k, a, scratch);
    free(scratch);
}

static int32_t take(const oct_kern *k, const float *from, uint32_t n, const octet_sample_row *row) {
    memcpy(logits, from, n * sizeof *from);
    const oct_sample_args a = args_of(row, n);
    sample(k, &a);
    assert_int_equal(out.status, OCTET_SAMPLED);
    return out.token;
}

static void random_logits(uint64_t *seed, float *x, uint32_t n, float size) {
    for (uint32_t i = 0; i < n; i++) x[i] = next_uniform(seed) * size;
}

/* ---- the generator ----------------------------------------------------------------------------
 */

/* The known answers that its authors publish with it. */
static void philox_known_answers(void **s) {
    (void)s;
    static const uint32_t cases[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        oct_philox4x32(cases[i], cases[i] + 4, got);
        assert_memory_equal(got, cases[i] + 6, sizeof got);
    }
    assert_true(oct_philox_uniform(0, 0, 0) == (float)(0x6627e8d5u >> 8) * 0x1p-24f);
    assert_true(oct_philox_uniform(1, 0, 0) != oct_philox_uniform(0, 1, 0));
    assert_true(oct_philox_uniform(1, 0, 0) != oct_philox_uniform(0, 0, 1));
    assert_true(oct_philox_uniform(UINT64_C(1) << 32, 0, 0) != oct_philox_uniform(0, 0, 0));
}

/* ---- which tokens may be drawn ----------------------------------------------------------------
 */

static const float *sort_by;

static int by_value_then_id(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_by[x] != sort_by[y]) return sort_by[x] > sort_by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* The set that stays, by sorting; true when the top-p border is too close to call in doubles. */
static bool expected_set(const float *x, uint32_t n, const octet_sample_row *r, bool *stays) {
    uint32_t *ids = malloc(n * sizeof *ids), left = 0;
    double total = 0, sum = 0;
    bool close = false;
    for (uint32_t i = 0; i < n; i++) ids[i] = i;
    sort_by = x;
    qsort(ids, n, sizeof *ids, by_value_then_id);
    const float max = x[ids[0]];
    memset(stays, 0, n * sizeof *stays);
    for (; left < n; left++) {
        const double p = exp((double)(x[ids[left]] - max) / (double)r->temperature);
        if (fabs(p - (double)r->min_p) < 1e-6 * p) close = true;
        if (p < (double)r->min_p) break;
        if (r->top_k > 0 && left >= (uint32_t)r->top_k) break;
        total += p;
    }
    for (uint32_t i = 0; i < left; i++) {
        if (r->top_p < 1.0f && sum >= (double)r->top_p * total) break;
        stays[ids[i]] = true;
        sum += exp((double)(x[ids[i]] - max) / (double)r->temperature);
        if (r->top_p < 1.0f && fabs(sum - (double)r->top_p * total) < 1e-6 * total) close = true;
    }
    free(ids);
    return close;
}

/* The set is read from the processed log probabilities: what was dropped is -infinity. */
static void the_right_tokens_stay(void **s) {
    (void)s;
    static float x[MAX_V];
    static bool stays[MAX_V];
    uint64_t seed = 21;
    int judged = 0;
    for (int i = 0; i < 600; i++) {
        const uint32_t n = i % 3 == 0 ? 7 : i % 3 == 1 ? 257 : 1500;
        random_logits(&seed, x, n, i % 2 ? 12.0f : 1.0f);
        /* Every second case has many ties. */
        for (uint32_t j = 0; i % 4 < 2 && j < n; j++) x[j] = rintf(x[j] * 2.0f) * 0.5f;
        octet_sample_row r = plain(0.3f + 2.0f * fabsf(next_uniform(&seed)));
        if (i & 1) r.top_k = (int32_t)(next_random(&seed) % 60);
        if (i & 2) r.top_p = fabsf(next_uniform(&seed));
        if (i & 4) r.min_p = 0.2f * fabsf(next_uniform(&seed));
        r.flags = OCTET_SAMPLE_PROCESSED;
        r.seed = (uint64_t)i;
        if (expected_set(x, n, &r, stays)) continue;
        judged++;
        for (int t = 0; t < all.n; t++) {
            take(&all.k[t], x, n, &r);
            assert_true(stays[out.token]);
            for (uint32_t j = 0; j < n; j++) assert_int_equal(isfinite(logits[j]) != 0, stays[j]);
        }
    }
    assert_true(judged > 400);
}

static void ties_go_to_the_lower_id(void **s) {
    (void)s;
    const float x[6] = {1.0f, 3.0f, 3.0f, 3.0f, 2.0f, 3.0f};
    for (int t = 0; t < all.n; t++) {
        octet_sample_row r = plain(0.0f);
        assert_int_equal(take(&all.k[t], x, 6, &r), 1);
        r = plain(1.0f);
        r.top_k = 2;
        bool seen[6] = {false};
        for (r.position = 0; r.position < 200; r.position++) seen[take(&all.k[t], x, 6, &r)] = true;
        assert_true(seen[1] && seen[2] && !seen[3] && !seen[5] && !seen[4] && !seen[0]);
        const float zeros[3] = {-0.0f, 0.0f, -0.0f};
        r = plain(0.0f);
        assert_int_equal(take(&all.k[t], zeros, 3, &r), 0);
    }
}

/* ---- the draw ---------------------------------------------------------------------------------
 */

static void draws_follow_the_distribution(void **s) {
    (void)s;
    enum { N = 8, DRAWS = 40000 };
    const float x[N] = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, 1.5f, -3.0f, 0.25f};
    for (int t = 0; t < all.n; t++) {
        octet_sample_row r = plain(0.8f);
        r.seed = 12345;
        double total = 0, chi = 0;
        uint32_t count[N] = {0};
        for (int i = 0; i < N; i++) total += exp((double)x[i] / (double)r.temperature);
        for (r.position = 0; r.position < DRAWS; r.position++) count[take(&all.k[t], x, N, &r)]++;
        for (int i = 0; i < N; i++) {
            const double want = DRAWS * exp((double)x[i] / (double)r.temperature) / total;
            chi += (count[i] - want) * (count[i] - want) / want;
        }
        printf("chi-square of 7 degrees: %.2f\n", chi);
        assert_true(chi < 24.3); /* one in a thousand; the seed is fixed */
    }
}

static void a_draw_depends_on_seed_choice_and_position_only(void **s) {
    (void)s;
    static float x[1000];
    uint64_t seed = 4;
    random_logits(&seed, x, 1000, 2.0f);
    octet_sample_row r = plain(1.0f);
    r.seed = 99;
    int differ[3] = {0};
    for (uint32_t i = 0; i < 50; i++) {
        r.position = i;
        const int32_t first = take(&all.k[0], x, 1000, &r);
        for (int t = 0; t < all.n; t++) assert_int_equal(take(&all.k[t], x, 1000, &r), first);
        octet_sample_row other = r;
        other.seed = 100;
        differ[0] += take(&all.k[0], x, 1000, &other) != first;
        other = r;
        other.choice = 1;
        differ[1] += take(&all.k[0], x, 1000, &other) != first;
        other = r;
        other.position += 1000;
        differ[2] += take(&all.k[0], x, 1000, &other) != first;
    }
    for (int i = 0; i < 3; i++) assert_true(differ[i] > 40);
}

/* ---- what is done to the logits first ---------------------------------------------------------
 */

static void masks_biases_and_penalties(void **s) {
    (void)s;
    for (int t = 0; t < all.n; t++) {
        const float x[40] = {[3] = 5.0f, [4] = 4.0f, [35] = 3.0f, [36] = 2.0f};
        octet_sample_row r = plain(0.0f);
        oct_sample_args a = args_of(&r, 40);
        a.out = &out;

        /* The mask takes away 3 and 4; bit 4 of the second word is 36. */
        const uint32_t mask[2] = {0x7u, 0x10u};
        memcpy(logits, x, sizeof x);
        a.mask = mask;
        sample(&all.k[t], &a);
        assert_int_equal(out.token, 36);
        a.mask = NULL;

        const octet_bias bias[] = {{3, -INFINITY}, {36, 2.5f}, {99, 50.0f}, {-1, 50.0f}};
        memcpy(logits, x, sizeof x);
        a.bias = bias;
        a.n_bias = 4;
        sample(&all.k[t], &a);
        assert_int_equal(out.token, 36);
        a.n_bias = 0;

        /* 5/2 - 2*0.5 - 0.25 = 1.25 for 3; prompt only: 4/2 = 2 for 4; 35 stays at 3. */
        const octet_seen_token seen[] = {{3, 2, 0}, {4, 0, 1}, {5, 1, 1}, {4000, 1, 1}};
        r.repetition_penalty = 2.0f;
        r.frequency_penalty = 0.5f;
        r.presence_penalty = 0.25f;
        memcpy(logits, x, sizeof x);
        logits[5] = -1.0f;
        a.seen = seen;
        a.n_seen = 4;
        sample(&all.k[t], &a);
        assert_int_equal(out.token, 35);
        assert_true(logits[3] == 1.25f);
        assert_true(logits[4] == 2.0f);
        assert_true(logits[5] == -1.0f * 2.0f - 0.5f - 0.25f);
    }
}

static void what_cannot_be_sampled(void **s) {
    (void)s;
    for (int t = 0; t < all.n; t++) {
        octet_sample_row r = plain(1.0f);
        const oct_sample_args a = args_of(&r, 100);
        static const float bad[] = {NAN, INFINITY};
        for (int b = 0; b < 2; b++)
            for (int at = 0; at < 100; at += 9) {
                memset(logits, 0, sizeof logits);
                logits[at] = bad[b];
                sample(&all.k[t], &a);
                assert_int_equal(out.status, OCTET_SAMPLE_NOT_FINITE);
                assert_int_equal(out.token, -1);
            }
        memset(logits, 0, sizeof logits);
        const uint32_t none[4] = {0};
        oct_sample_args masked = a;
        masked.mask = none;
        sample(&all.k[t], &masked);
        assert_int_equal(out.status, OCTET_SAMPLE_NONE_ALLOWED);

        /* One that is left is drawn, whatever else is asked. */
        const uint32_t one[4] = {0, 0, 1u << 5, 0};
        memset(logits, 0, sizeof logits);
        masked.mask = one;
        r.top_k = 1;
        r.top_p = 0.0f;
        r.min_p = 1.0f;
        sample(&all.k[t], &masked);
        assert_int_equal(out.status, OCTET_SAMPLED);
        assert_int_equal(out.token, 69);
    }
}

/* ---- log probabilities ------------------------------------------------------------------------
 */

static double log_sum(const float *x, uint32_t n) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static void log_probabilities(void **s) {
    (void)s;
    static float x[MAX_V];
    static uint32_t ids[MAX_V];
    uint64_t seed = 8;
    for (int t = 0; t < all.n; t++) {
        random_logits(&seed, x, MAX_V, 6.0f);
        for (int i = 0; i < MAX_V; i++) x[i] = rintf(x[i] * 16.0f) / 16.0f; /* with ties */
        for (uint32_t i = 0; i < MAX_V; i++) ids[i] = i;
        sort_by = x;
        qsort(ids, MAX_V, sizeof *ids, by_value_then_id);

        octet_sample_row r = plain(0.7f);
        r.n_top = 5;
        r.flags = OCTET_SAMPLE_FORCED;
        r.forced = (int32_t)ids[7];
        assert_int_equal(take(&all.k[t], x, MAX_V, &r), ids[7]);
        const double shift = log_sum(x, MAX_V);
        assert_true(fabs((double)out.logprob - ((double)x[ids[7]] - shift)) < 2e-6);
        assert_int_equal(out.rank, 8);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(top_id[i], ids[i]);
            assert_true(fabs((double)top_logprob[i] - ((double)x[ids[i]] - shift)) < 2e-6);
        }
        assert_int_equal(top_id[5], -1);

        r.flags |= OCTET_SAMPLE_RAW_LOGITS;
        take(&all.k[t], x, MAX_V, &r);
        assert_true(out.logprob == x[ids[7]] && top_logprob[0] == x[ids[0]]);

        /* Raw ones ignore a mask; processed ones are of what is left, at the temperature. */
        uint32_t mask[(MAX_V + 31) / 32];
        memset(mask, 0xff, sizeof mask);
        mask[ids[0] / 32] &= ~(1u << ids[0] % 32);
        r = plain(0.5f);
        r.top_k = 3;
        r.n_top = 5;
        oct_sample_args a = args_of(&r, MAX_V);
        a.mask = mask;
        memcpy(logits, x, sizeof x);
        sample(&all.k[t], &a);
        assert_int_equal(top_id[0], ids[0]);
        assert_true(fabs((double)top_logprob[0] - ((double)x[ids[0]] - shift)) < 2e-6);
        r.flags = OCTET_SAMPLE_PROCESSED;
        memcpy(logits, x, sizeof x);
        sample(&all.k[t], &a);
        const float left[3] = {x[ids[1]] * 2.0f, x[ids[2]] * 2.0f, x[ids[3]] * 2.0f};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(top_id[i], ids[i + 1]);
            assert_true(fabs((double)top_logprob[i] - ((double)left[i] - log_sum(left, 3))) < 2e-6);
        }
        assert_true(isinf(top_logprob[3]));
        assert_true(out.rank >= 1 && out.rank <= 3);
    }
}

static void tables_agree_to_the_bit(void **s) {
    (void)s;
    static float x[MAX_V];
    uint64_t seed = 77;
    for (int i = 0; i < 60; i++) {
        random_logits(&seed, x, MAX_V, 10.0f);
        octet_sample_row r = plain(0.9f);
        r.top_k = i & 1 ? 50 : 0;
        r.top_p = i & 2 ? 0.9f : 1.0f;
        r.n_top = MAX_TOP;
        r.position = (uint32_t)i;
        r.flags = i & 4 ? OCTET_SAMPLE_PROCESSED : 0;
        take(&all.k[0], x, (uint32_t)(MAX_V - i), &r);
        const octet_sample_out want = out;
        float want_top[MAX_TOP];
        memcpy(want_top, top_logprob, sizeof want_top);
        for (int t = 1; t < all.n; t++) {
            take(&all.k[t], x, (uint32_t)(MAX_V - i), &r);
            assert_memory_equal(&want, &out, sizeof out);
            assert_memory_equal(want_top, top_logprob, sizeof want_top);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(the_right_tokens_stay),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(a_draw_depends_on_seed_choice_and_position_only),
        cmocka_unit_test(masks_biases_and_penalties),
        cmocka_unit_test(what_cannot_be_sampled),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(tables_agree_to_the_bit),
    };
    tables_init(&all);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
