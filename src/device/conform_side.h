/*
 * device/conform_side.h - inside conform: one device while a case runs on it, and what cases are
 * written with.
 *
 * A case is a function that draws its inputs from the side's random numbers, runs operations, and
 * names its outputs. It runs once for each side with the same numbers; then the outputs are
 * compared one by one. After a failed call the rest of the case does nothing.
 *
 * Ownership  Everything made through a side is freed by oct_cf_reset.
 */
#ifndef OCT_DEVICE_CONFORM_SIDE_H
#define OCT_DEVICE_CONFORM_SIDE_H

#include <stdarg.h>

#include "base/arena.h"
#include "base/clock.h"
#include "device/conform.h"
#include "device/tolerance.h"

enum { OCT_CF_MAX_OBJECTS = 256, OCT_CF_MAX_OUTS = 48 };

typedef struct oct_cf_out {
    const char *name;
    char type; /* 'f' float, 'c' int8, 'i' int32 */
    void *data;
    size_t n, width; /* elements, and how many make a row */
    oct_tolerance tol;
} oct_cf_out;

typedef struct oct_cf_side {
    oct_device *d;
    octet_stream *stream;
    bool recording; /* operations are recorded: nothing to wait for */
    oct_arena arena;
    uint64_t rng;
    char what[96];    /* the case, for people */
    char failed[256]; /* empty: every call succeeded */
    bool absent;      /* the case is about something optional that the device has not */
    uint64_t op_ns;

    octet_buffer buffers[OCT_CF_MAX_OBJECTS];
    octet_weight weights[OCT_CF_MAX_OBJECTS];
    unsigned n_buffers, n_weights;
    oct_cf_out outs[OCT_CF_MAX_OUTS];
    unsigned n_outs;
} oct_cf_side;

OCT_MUST_CHECK oct_status oct_cf_open(oct_cf_side *s, oct_device *d, oct_err *err);
void oct_cf_close(oct_cf_side *s);
void oct_cf_reset(oct_cf_side *s, uint64_t seed);

/* The name of the case, once per case. */
void oct_cf_case(oct_cf_side *s, const char *fmt, ...) OCT_PRINTF(2, 3);
/* A call's answer: keeps the first failure. True while all is well. */
bool oct_cf_check(oct_cf_side *s, int32_t code, const char *operation);
/* Asks for block_bytes; false where there is no such cache: a failure, or absent if the kind is
 * optional. */
bool oct_cf_kv_bytes(oct_cf_side *s, octet_kv_desc *kv);

/* Runs one operation of the table, waits for it, and counts its time. */
#define OCT_CF_OP(s, name, op)                                                         \
    do {                                                                               \
        if (!(s)->failed[0]) {                                                         \
            const uint64_t began_ = oct_now_ns();                                      \
            oct_cf_check(s, (s)->d->ops->name((s)->stream, op), #name);                \
            if (!(s)->recording)                                                       \
                oct_cf_check(s, (s)->d->ops->stream_wait((s)->stream), #name " wait"); \
            (s)->op_ns += oct_now_ns() - began_;                                       \
        }                                                                              \
    } while (0)

/* ---- random numbers, the same on both sides -------------------------------------------------- */

uint32_t oct_cf_u32(oct_cf_side *s);
uint32_t oct_cf_below(oct_cf_side *s, uint32_t n);
float oct_cf_uniform(oct_cf_side *s, float low, float high);
/* Host memory of the case, zeroed. */
void *oct_cf_mem(oct_cf_side *s, size_t n, size_t size);
/* n values of about `size`, exact in bfloat16 so that every row type holds them. */
float *oct_cf_floats(oct_cf_side *s, size_t n, float size);
/* n int8 values; fill 0 random, 1 all -128, 2 all 127, 3 alternating extremes, 4 zero. */
int8_t *oct_cf_bytes(oct_cf_side *s, size_t n, unsigned fill);

/* ---- device memory --------------------------------------------------------------------------- */

octet_ref oct_cf_put(oct_cf_side *s, const void *data, size_t bytes);
/* Memory for a result, filled with 0xff: NaN for floats. */
octet_ref oct_cf_room(oct_cf_side *s, size_t bytes);
octet_rows oct_cf_put_rows(oct_cf_side *s, const float *rows, size_t n_rows, size_t width,
                           size_t stride);
/* Cosines and sines of n_pos positions for pairs of rotary_dim. */
octet_ref oct_cf_put_rope(oct_cf_side *s, uint32_t n_pos, uint32_t rotary_dim);
octet_rows oct_cf_rows_room(oct_cf_side *s, size_t n_rows, size_t stride);
octet_quant oct_cf_quant_room(oct_cf_side *s, uint32_t mode, size_t n_rows, size_t width,
                              float scale, float offset);

/* A matrix of n x k random values: int8 (fill as oct_cf_bytes), or floats of about `size`. */
typedef struct oct_cf_matrix {
    uint32_t dtype, n, k;
    uint32_t n_experts; /* 0: one matrix */
    unsigned fill;
    float size;
    bool int_bias, bias;
} oct_cf_matrix;
octet_weight oct_cf_weight(oct_cf_side *s, const oct_cf_matrix *m);

/* ---- results --------------------------------------------------------------------------------- */

void oct_cf_out_f32(oct_cf_side *s, const char *name, octet_ref ref, size_t n, size_t width,
                    oct_tolerance tol);
void oct_cf_out_i32(oct_cf_side *s, const char *name, octet_ref ref, size_t n, size_t width);
void oct_cf_out_rows(oct_cf_side *s, const char *name, octet_rows rows, size_t n_rows, size_t width,
                     oct_tolerance tol);
/* Quantised rows: q may differ by q_slack (0: exact), the scales within tol. */
void oct_cf_out_quant(oct_cf_side *s, const octet_quant *q, size_t n_rows, size_t width,
                      double q_slack, oct_tolerance tol);

/* ---- groups of cases ------------------------------------------------------------------------- */

typedef struct oct_cf_group {
    const char *name;
    unsigned n_cases;
    void (*run)(oct_cf_side *s, unsigned index);
} oct_cf_group;

/* Ends with a name of NULL. */
extern const oct_cf_group oct_cf_row_groups[];       /* conform_rows.c */
extern const oct_cf_group oct_cf_attention_groups[]; /* conform_attention.c */
extern const oct_cf_group oct_cf_sample_groups[];    /* conform_sample.c */
extern const oct_cf_group oct_cf_softcap_groups[];   /* the same, of an optional operation */
extern const oct_cf_group oct_cf_feed_groups[];      /* the same */
extern const oct_cf_group oct_cf_model_groups[];     /* conform_model.c */
extern const oct_cf_group oct_cf_expert_groups[];    /* conform_experts.c; optional */

#endif
