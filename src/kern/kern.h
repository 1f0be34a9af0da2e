/*
 * kern/kern.h - the CPU kernels as one table of function pointers.
 *
 * oct_kern_init first fills every slot with the scalar reference (kern_ref*.c), then lets each
 * instruction set it may use overwrite the slots it does better, weakest first. The reference is
 * always complete, so a table is never half empty and a new kernel is one assignment.
 *
 * Contract (docs/numerics.md): every variant returns the same bits, integers and floats alike; only
 * the payload of a NaN is left open. The reference is what the words of the contract say, in C.
 *
 * Every slot is one thread's work on memory of the caller: nothing is allocated, nothing is kept.
 * Pointers need the alignment of their type unless a comment says more. Outputs never overlap
 * inputs unless a comment says so. The floating point environment is the default one: nearest even,
 * denormals kept.
 *
 * Threads    A filled table is read-only and may be shared.
 * Elsewhere  The packed layout: kern/pack.h. Blocking over rows and panels, which is what a caller
 *            of a linear layer wants: kern/linear.h. What the CPU can do: kern/cpu.h.
 */
#ifndef OCT_KERN_KERN_H
#define OCT_KERN_KERN_H

#include <stddef.h>
#include <stdint.h>

#include "kern/attn_kern.h"
#include "kern/cpu.h"
#include "kern/elem.h"
#include "kern/kv_kern.h"
#include "kern/pack.h"

/* |-128 * -128| * OCT_KERN_MAX_K is still an int32. */
enum { OCT_KERN_MAX_K = 131071 };

/* The largest row_unit of any variant; callers that block over rows use multiples of it. */
enum { OCT_KERN_MAX_ROW_UNIT = 32 };

/* ---- int8 matrix products ----------------------------------------------------------------- */

/* Bytes of one operand row for k values: what prep_rows_i8 writes. A multiple of 64. */
#define OCT_DECL_ROW_BYTES_I8(name) size_t(name)(uint32_t k)

/* Turns m int8 rows q[m][ldq] of k values into the form the same table's gemm_i8 reads. out is
 * 64-byte aligned, m * row_bytes_i8(k) bytes; all of them are written but the gap after the padded
 * row, which nobody reads. */
#define OCT_DECL_PREP_ROWS_I8(name) \
    void(name)(const int8_t *q, size_t ldq, uint32_t m, uint32_t k, void *out)

/* c[i][16p + j] = sum over k of row i times output j of panel p, exact. rows: m prepared rows,
 * row_bytes apart. panels: n_panels panels of kpad (a multiple of 64) values a row, panel_bytes
 * apart, 64-byte aligned. colsum[16 * n_panels]: the sums over k of the panels (kern/pack.h). c
 * has 16 * n_panels columns, rows ldc apart. */
#define OCT_DECL_GEMM_I8(name)                                                              \
    void(name)(const void *rows, size_t row_bytes, uint32_t m, const int8_t *panels,        \
               uint32_t kpad, size_t panel_bytes, uint32_t n_panels, const int32_t *colsum, \
               int32_t *c, size_t ldc)

/* The same with 16-bit rows a[m][lda] as they are, |a| <= 32767 (never -32768), for k a multiple of
 * 4. The caller guarantees that every sum of |a * w| fits an int32. */
#define OCT_DECL_GEMM_I16(name)                                                            \
    void(name)(const int16_t *a, size_t lda, uint32_t m, const int8_t *panels, uint32_t k, \
               size_t panel_bytes, uint32_t n_panels, int32_t *c, size_t ldc)

/*
 * What follows an int8 product, for n columns that need not be a multiple of 16. Per element
 *
 *     v = ((float)(c + ibias[j]) * rs[i]) * cs[j]      ibias NULL: nothing is added
 *     v = v + fbias[j]                                 unless fbias is NULL
 *     y = add ? y + v : v
 *
 * c + ibias must fit an int32 (checked when the weight is prepared).
 */
typedef struct oct_epilogue_i8 {
    const int32_t *ibias; /* [n] or NULL */
    const float *rs;      /* [m] row scales; NULL: 1.0f for all */
    const float *cs;      /* [n] column scales */
    const float *fbias;   /* [n] or NULL */
    int add;              /* y += instead of y = */
} oct_epilogue_i8;

#define OCT_DECL_EPILOGUE_I8(name)                                                             \
    void(name)(const int32_t *c, size_t ldc, uint32_t m, uint32_t n, const oct_epilogue_i8 *e, \
               float *y, size_t ldy)

/*
 * gemm_i8 and epilogue_i8 in one: y[m][ldy] for n columns of the panels, of which there are
 * ceil(n / 16), so that the sums need not pass through memory. Everything of e, and colsum, belongs
 * to the first of these panels. c: OCT_KERN_PRODUCT_CELLS(m) cells for sums on their way, 64-byte
 * aligned.
 */
enum { OCT_KERN_PRODUCT_PANELS = 4 }; /* no variant works on more at a time */
#define OCT_KERN_PRODUCT_CELLS(m) ((size_t)(m)*OCT_KERN_PRODUCT_PANELS * 16)
#define OCT_DECL_PRODUCT_I8(name)                                                    \
    void(name)(const void *rows, size_t row_bytes, uint32_t m, const int8_t *panels, \
               uint32_t kpad, size_t panel_bytes, uint32_t n, const int32_t *colsum, \
               const oct_epilogue_i8 *e, float *y, size_t ldy, int32_t *c)

/* ---- float matrix products ---------------------------------------------------------------- */

/*
 * c[i][16p + j] for float rows a[m][lda] and panels [k][16] of the storage type named by the slot,
 * panel_bytes apart, 64-byte aligned. One chain of fmaf per output, k ascending, in chunks of
 * OCT_NUMERICS_CHUNK values; a chunk's sum is added to the total of those before it.
 */
#define OCT_DECL_GEMM_FLOAT(name)                                                      \
    void(name)(const float *a, size_t lda, uint32_t m, const void *panels, uint32_t k, \
               size_t panel_bytes, uint32_t n_panels, float *c, size_t ldc)

/* y = c + fbias (c alone when fbias is NULL); with add, y = y + that. */
#define OCT_DECL_EPILOGUE_F32(name)                                                             \
    void(name)(const float *c, size_t ldc, uint32_t m, uint32_t n, const float *fbias, int add, \
               float *y, size_t ldy)

typedef OCT_DECL_ROW_BYTES_I8(*oct_row_bytes_i8_fn);
typedef OCT_DECL_PREP_ROWS_I8(*oct_prep_rows_i8_fn);
typedef OCT_DECL_GEMM_I8(*oct_gemm_i8_fn);
typedef OCT_DECL_GEMM_I16(*oct_gemm_i16_fn);
typedef OCT_DECL_EPILOGUE_I8(*oct_epilogue_i8_fn);
typedef OCT_DECL_PRODUCT_I8(*oct_product_i8_fn);
typedef OCT_DECL_GEMM_FLOAT(*oct_gemm_float_fn);
typedef OCT_DECL_EPILOGUE_F32(*oct_epilogue_f32_fn);

typedef struct oct_kern {
    uint32_t cpu_mask; /* the OCT_CPU_ bits this table was filled for */

    /* int8 products: row_unit, row_bytes_i8, prep_rows_i8, gemm_i8 and product_i8 belong together
     * and are overwritten together. row_unit: how many rows gemm_i8 likes to get a multiple of. */
    uint32_t row_unit;
    oct_row_bytes_i8_fn row_bytes_i8;
    oct_prep_rows_i8_fn prep_rows_i8;
    oct_gemm_i8_fn gemm_i8;
    oct_gemm_i16_fn gemm_i16;
    oct_epilogue_i8_fn epilogue_i8;
    oct_product_i8_fn product_i8;

    /* float products */
    oct_gemm_float_fn gemm_f32;
    oct_gemm_float_fn gemm_bf16;
    oct_gemm_float_fn gemm_f16;
    oct_epilogue_f32_fn epilogue_f32;

    oct_kern_elem elem;       /* kern/elem.h: rows: norms, activations, quantisation */
    oct_kern_attn_slots attn; /* kern/attn_kern.h: the pieces of kern/attn.h */
    oct_kern_kv_slots kv;     /* kern/kv_kern.h: element types of the cache */
    oct_kern_pack_slots pack; /* kern/pack.h: the pieces of packing a matrix */
} oct_kern;

/* Fills the table for the bits of cpu_mask (0: the reference alone). A bit without the weaker ones
 * below it is ignored; a bit this CPU lacks must not be set: pass oct_cpu_mask(). */
void oct_kern_init(oct_kern *k, uint32_t cpu_mask);

#endif
