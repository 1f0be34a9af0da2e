/*
 * tests/kernel/checks.h - every check of the table. Called once for each step of the mask, with the
 * reference table and the table of the step.
 */
#ifndef OCT_TESTS_CHECKS_H
#define OCT_TESTS_CHECKS_H

#include "kcheck.h"

typedef void kc_check(kcheck *t, const oct_kern *ref, const oct_kern *k);

kc_check check_gemm_i8;    /* check_gemm_i8.c: row_bytes_i8, prep_rows_i8, gemm_i8 */
kc_check check_product_i8; /* check_gemm_i8.c */
kc_check check_gemm_i16;   /* check_gemm_i8.c */
kc_check check_epilogues;  /* check_epilogue.c: epilogue_i8, epilogue_f32 */
kc_check check_gemm_float; /* check_gemm_float.c: gemm_f32, gemm_bf16, gemm_f16 */
kc_check check_elem;       /* check_elem.c: norms, activations, quantisation, sampling's sums */
kc_check check_attn;       /* check_attn.c: the pieces of attention */
kc_check check_kv;         /* check_kv.c: element types of the cache */
kc_check check_pack;       /* check_pack.c: the pieces of packing a matrix */

static kc_check *const kc_checks[] = {
    check_gemm_i8, check_product_i8, check_gemm_i16, check_epilogues, check_gemm_float,
    check_elem,    check_attn,       check_kv,       check_pack,
};

#endif
