/*
 * kern/linear.h - a linear layer over a range of panels: the kernels of the table, blocked for the
 * caches.
 *
 * One call is one thread's share: the caller splits the panels (n / 16) among its threads and, for
 * int8, prepares the rows once before (prep_rows_i8, split by rows). Results do not depend on the
 * split.
 *
 * Ownership  Everything is borrowed for the call. scratch is the thread's own,
 *            OCT_KERN_LINEAR_SCRATCH bytes, 64-byte aligned.
 */
#ifndef OCT_KERN_LINEAR_H
#define OCT_KERN_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "kern/kern.h"
#include "kern/pack.h"

enum { OCT_KERN_LINEAR_SCRATCH = 192 * 1024 };

/* A packed int8 matrix with what its epilogue needs. */
typedef struct oct_linear_i8_weight {
    uint32_t n, k;
    const int8_t *panels;  /* kern/pack.h */
    const int32_t *colsum; /* [16 * n_panels] */
    const float *cs;       /* [n] column scales */
    const int32_t *ibias;  /* [n] or NULL */
    const float *fbias;    /* [n] or NULL */
} oct_linear_i8_weight;

typedef struct oct_linear_i8_args {
    const void *rows; /* m rows from prep_rows_i8 of the same table */
    const float *rs;  /* [m] row scales; NULL: 1.0f */
    uint32_t m;
    const oct_linear_i8_weight *weight;
    float *out; /* [m][ldo] */
    size_t ldo; /* floats */
    int add;    /* out += instead of out = */
} oct_linear_i8_args;

/* m int8 rows of width values are computed in blocks of as many rows, the last of them fewer: each
 * reads the panels once. For callers that hand rows out; 0 for no rows. */
uint32_t oct_kern_linear_rows_i8(const oct_kern *k, uint32_t m, uint32_t width);

/* Computes the outputs 16 * panel_begin .. min(n, 16 * panel_end) - 1 of every row. */
void oct_kern_linear_i8(const oct_kern *k, const oct_linear_i8_args *args, uint32_t panel_begin,
                        uint32_t panel_end, void *scratch);

/* A packed float matrix. */
typedef struct oct_linear_float_weight {
    uint32_t n, k;
    oct_pack_type type; /* not OCT_PACK_I8 */
    const void *panels;
    const float *fbias; /* [n] or NULL */
} oct_linear_float_weight;

typedef struct oct_linear_float_args {
    const float *rows; /* [m][ldr] as they are */
    size_t ldr;
    uint32_t m;
    const oct_linear_float_weight *weight;
    float *out; /* [m][ldo] */
    size_t ldo;
    int add;
} oct_linear_float_args;

void oct_kern_linear_float(const oct_kern *k, const oct_linear_float_args *args,
                           uint32_t panel_begin, uint32_t panel_end, void *scratch);

#endif
