/*
 * device/conform_sample.c - cases of the sampler: each step alone, all together, and what cannot be
 * sampled. The logits are given, so the token is the same on every device.
 */
#include <math.h>
#include <string.h>

#include "device/conform_side.h"

enum { N_ROWS = 24, N_SEEN = 6, N_BIAS = 5, N_MASKS = 3, MAX_TOP = 20 };

typedef struct tables {
    octet_seen_token seen[N_SEEN];
    octet_bias bias[N_BIAS];
    uint32_t *masks;
    size_t words;
} tables;

static tables make_tables(oct_cf_side *s, uint32_t n_vocab) {
    tables t = {.words = (n_vocab + 31) / 32};
    t.masks = oct_cf_mem(s, N_MASKS * t.words, 4);
    for (uint32_t i = 0; i < N_SEEN; i++)
        t.seen[i] = (octet_seen_token){(int32_t)(i * (n_vocab / N_SEEN)), i % 3, i % 2};
    for (uint32_t i = 0; i < N_BIAS; i++)
        t.bias[i] = (octet_bias){(int32_t)(n_vocab - 1 - i), i ? 2.5f - (float)i : -INFINITY};
    for (size_t w = 0; w < t.words; w++) {
        t.masks[w] = oct_cf_u32(s);
        t.masks[t.words + w] = 0;                            /* nothing */
        t.masks[2 * t.words + w] = w + 1 == t.words ? 1 : 0; /* one token */
    }
    return t;
}

/* Row r of way: one step after the other, then all of them. */
static octet_sample_row make_row(oct_cf_side *s, unsigned way, uint32_t r, uint32_t n_vocab) {
    octet_sample_row row = {.temperature = 0.7f + 0.1f * (float)(r % 5),
                            .top_p = 1,
                            .repetition_penalty = 1,
                            .seed = (uint64_t)oct_cf_u32(s) << 32 | r,
                            .choice = r % 3,
                            .position = r * 100,
                            .n_top = r % 4 == 3 ? MAX_TOP : r % 4,
                            .mask = -1};
    const bool all = way == 9;
    if (way == 0) row.flags = OCTET_SAMPLE_GREEDY;
    if (way == 1) row.temperature = r % 2 ? 0.05f : 4;
    if (way == 2 || all) row.top_k = r % 4 == 0 ? 1 : (int32_t)(r * 7);
    if (way == 3 || all) row.top_p = r % 5 == 0 ? 0.01f : 0.3f + 0.03f * (float)(r % 20);
    if (way == 4 || all) row.min_p = 0.02f * (float)(r % 8);
    if (way == 5 || all) {
        row.repetition_penalty = 1.3f;
        row.frequency_penalty = 0.5f;
        row.presence_penalty = -0.25f;
        row.seen_begin = r % 3;
        row.seen_end = N_SEEN - r % 2;
    }
    if (way == 6 || all) row.bias_begin = r % 2, row.bias_end = N_BIAS;
    if (way == 7) row.mask = (int32_t)(r % N_MASKS);
    if (all && r % 2) row.mask = 0;
    if (way == 8) {
        row.flags = OCTET_SAMPLE_FORCED;
        row.forced = (int32_t)oct_cf_below(s, n_vocab);
    }
    if (r % 6 == 4) row.flags |= OCTET_SAMPLE_PROCESSED;
    if (r % 6 == 5) row.flags |= OCTET_SAMPLE_RAW_LOGITS;
    return row;
}

static float *make_logits(oct_cf_side *s, size_t n_vocab, size_t stride, unsigned fill) {
    float *x = oct_cf_floats(s, N_ROWS * stride, 3);
    for (size_t r = 0; r < N_ROWS; r++) {
        float *row = x + r * stride;
        if (fill == 1) /* many ties */
            for (size_t i = 0; i < n_vocab; i++) row[i] = (float)(int)row[i];
        if (fill == 2 && r % 4 == 1) row[n_vocab / 2] = NAN;
        if (fill == 2 && r % 4 == 2) row[n_vocab - 1] = INFINITY;
        if (fill == 2 && r % 4 == 3) row[0] = -INFINITY;
        for (size_t i = n_vocab; i < stride; i++) row[i] = NAN; /* padding: never drawn */
    }
    return x;
}

static void case_sample(oct_cf_side *s, unsigned index) {
    static const uint32_t vocabularies[] = {33, 1000, 49153};
    const unsigned way = index % 10, fill = index / 10 % 3;
    const uint32_t n_vocab = vocabularies[(index / 10 + index) % 3];
    const size_t stride = n_vocab + 15;
    oct_cf_case(s, "way %u, %u tokens, fill %u", way, n_vocab, fill);
    const tables t = make_tables(s, n_vocab);
    octet_sample_row *rows = oct_cf_mem(s, N_ROWS, sizeof *rows);
    for (uint32_t r = 0; r < N_ROWS; r++) rows[r] = make_row(s, way, r, n_vocab);
    const float *logits = make_logits(s, n_vocab, stride, fill);
    const octet_sample_op op = {.struct_bytes = sizeof op,
                                .n_rows = N_ROWS,
                                .n_vocab = n_vocab,
                                .max_top = MAX_TOP,
                                .logits = {oct_cf_put(s, logits, N_ROWS * stride * 4), stride},
                                .rows = oct_cf_put(s, rows, N_ROWS * sizeof *rows),
                                .seen = oct_cf_put(s, t.seen, sizeof t.seen),
                                .bias = oct_cf_put(s, t.bias, sizeof t.bias),
                                .masks = oct_cf_put(s, t.masks, N_MASKS * t.words * 4),
                                .out = oct_cf_room(s, N_ROWS * sizeof(octet_sample_out)),
                                .top_id = oct_cf_room(s, N_ROWS * MAX_TOP * 4),
                                .top_logprob = oct_cf_room(s, N_ROWS * MAX_TOP * 4)};
    OCT_CF_OP(s, sample, &op);

    /* The four numbers of a row apart: three are integers. */
    octet_sample_out out[N_ROWS];
    int32_t *numbers = oct_cf_mem(s, 3 * N_ROWS, 4);
    float *logprob = oct_cf_mem(s, N_ROWS, 4);
    if (s->failed[0]) return;
    oct_cf_check(s, s->d->ops->read(s->stream, out, op.out, sizeof out), "read");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "read wait");
    for (uint32_t r = 0; r < N_ROWS; r++) {
        const bool drawn = out[r].status == OCTET_SAMPLED;
        numbers[3 * r] = out[r].token;
        numbers[3 * r + 1] = out[r].status;
        numbers[3 * r + 2] = drawn ? (int32_t)out[r].rank : 0;
        logprob[r] = drawn ? out[r].logprob : 0;
    }
    /* A log probability is l - max - log(sum): roundings of numbers up to about 32, and the sum's
     * relative error. */
    const oct_tolerance tol = {64 * OCT_U32 * 4, 8 * OCT_U32};
    const octet_ref numbers_ref = oct_cf_put(s, numbers, 3 * N_ROWS * 4);
    const octet_ref logprob_ref = oct_cf_put(s, logprob, N_ROWS * 4);
    oct_cf_out_i32(s, "token, status, rank", numbers_ref, 3 * N_ROWS, 3);
    oct_cf_out_f32(s, "logprob", logprob_ref, N_ROWS, 1, tol);

    /* What was not asked for stays open: compare the first n_top of each row. */
    int32_t *ids = oct_cf_mem(s, N_ROWS * MAX_TOP, 4);
    float *lps = oct_cf_mem(s, N_ROWS * MAX_TOP, 4);
    oct_cf_check(s, s->d->ops->read(s->stream, ids, op.top_id, N_ROWS * MAX_TOP * 4), "read");
    oct_cf_check(s, s->d->ops->read(s->stream, lps, op.top_logprob, N_ROWS * MAX_TOP * 4), "read");
    oct_cf_check(s, s->d->ops->stream_wait(s->stream), "read wait");
    for (uint32_t r = 0; r < N_ROWS; r++)
        for (uint32_t i = 0; i < MAX_TOP; i++)
            if (i >= rows[r].n_top || out[r].status != OCTET_SAMPLED)
                ids[r * MAX_TOP + i] = 0, lps[r * MAX_TOP + i] = 0;
    oct_cf_out_i32(s, "top ids", oct_cf_put(s, ids, N_ROWS * MAX_TOP * 4), N_ROWS * MAX_TOP,
                   MAX_TOP);
    oct_cf_out_f32(s, "top logprobs", oct_cf_put(s, lps, N_ROWS * MAX_TOP * 4), N_ROWS * MAX_TOP,
                   MAX_TOP, tol);
}

static void case_softcap(oct_cf_side *s, unsigned index) {
    static const uint32_t widths[] = {33, 1000, 49153};
    static const float caps[] = {15, 30, 1};
    const uint32_t width = widths[index % 3];
    const float cap = caps[index / 3 % 3];
    const size_t stride = width + 15;
    oct_cf_case(s, "%u columns, cap %g", width, (double)cap);
    const octet_softcap_op op = {
        .struct_bytes = sizeof op,
        .n_rows = N_ROWS,
        .width = width,
        .cap = cap,
        .x = {oct_cf_put(s, make_logits(s, width, stride, index % 2 * 2), N_ROWS * stride * 4),
              stride}};
    OCT_CF_OP(s, softcap, &op);
    /* 1 - exp(-2x) loses small x to the unit of 1. */
    const oct_tolerance tol = {8 * OCT_U32 * (double)cap, 16 * OCT_U32};
    oct_cf_out_f32(s, "capped and what lies between rows", op.x.data, N_ROWS * stride, stride, tol);
}

const oct_cf_group oct_cf_softcap_groups[] = {
    {"softcap", 9, case_softcap},
    {NULL, 0, NULL},
};

static void case_feed(oct_cf_side *s, unsigned index) {
    const uint32_t n_vocab = 5000, n = index ? 400 : 3, n_drawn = index ? 257 : 2;
    octet_sample_out *drawn = oct_cf_mem(s, n_drawn, sizeof *drawn);
    int32_t *ids = oct_cf_mem(s, n, sizeof *ids), *from = oct_cf_mem(s, n, sizeof *from);
    oct_cf_case(s, "%u rows of %u drawn", n, n_drawn);
    for (uint32_t i = 0; i < n_drawn; i++)
        drawn[i] = (octet_sample_out){.token = (int32_t)oct_cf_below(s, n_vocab), .rank = i};
    drawn[0].token = -1; /* nothing could be drawn */
    drawn[1].token = (int32_t)n_vocab;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)oct_cf_below(s, n_vocab);
        from[i] = i < 3 ? (int32_t)i - 1 : (int32_t)oct_cf_below(s, n_drawn + 100) - 100;
    }
    const octet_feed_op op = {.struct_bytes = sizeof op,
                              .n_rows = n,
                              .n_drawn = n_drawn,
                              .n_vocab = n_vocab,
                              .ids = oct_cf_put(s, ids, n * sizeof *ids),
                              .from = oct_cf_put(s, from, n * sizeof *from),
                              .drawn = oct_cf_put(s, drawn, n_drawn * sizeof *drawn)};
    OCT_CF_OP(s, feed, &op);
    oct_cf_out_i32(s, "ids", op.ids, n, n);
}

const oct_cf_group oct_cf_feed_groups[] = {
    {"feed", 2, case_feed},
    {NULL, 0, NULL},
};

const oct_cf_group oct_cf_sample_groups[] = {
    {"sample", 60, case_sample},
    {NULL, 0, NULL},
};
