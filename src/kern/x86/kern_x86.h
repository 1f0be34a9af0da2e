/*
 * kern/x86/kern_x86.h - private to kern.c: which x86 variant goes into which slot.
 */
#ifndef OCT_KERN_X86_KERN_X86_H
#define OCT_KERN_X86_KERN_X86_H

#include "kern/kern.h"

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_avx2);
OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_avx2);
OCT_DECL_GEMM_I8(oct_gemm_i8_avx2);
OCT_DECL_GEMM_I16(oct_gemm_i16_avx2);
OCT_DECL_EPILOGUE_I8(oct_epilogue_i8_avx2);
OCT_DECL_PRODUCT_I8(oct_product_i8_avx2);
OCT_DECL_EPILOGUE_F32(oct_epilogue_f32_avx2);
OCT_DECL_GEMM_FLOAT(oct_gemm_f32_avx2);
OCT_DECL_GEMM_FLOAT(oct_gemm_bf16_avx2);
OCT_DECL_GEMM_FLOAT(oct_gemm_f16_avx2);

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_avx512);
OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_avx512);
OCT_DECL_GEMM_I8(oct_gemm_i8_avx512);
OCT_DECL_GEMM_I16(oct_gemm_i16_avx512);
OCT_DECL_EPILOGUE_I8(oct_epilogue_i8_avx512);
OCT_DECL_PRODUCT_I8(oct_product_i8_avx512);
OCT_DECL_GEMM_FLOAT(oct_gemm_f32_avx512);
OCT_DECL_GEMM_FLOAT(oct_gemm_bf16_avx512);
OCT_DECL_GEMM_FLOAT(oct_gemm_f16_avx512);

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_amx);
OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_amx);
OCT_DECL_GEMM_I8(oct_gemm_i8_amx);
OCT_DECL_PRODUCT_I8(oct_product_i8_amx);

OCT_DECL_PACK_WORDS(oct_pack_words_avx2);
OCT_DECL_PACK_HALVES(oct_pack_halves_avx2);
OCT_DECL_PACK_WORDS(oct_pack_words_avx512);

static inline void oct_kern_init_pack_x86(oct_kern *k, uint32_t cpu_mask) {
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    k->pack.words = oct_pack_words_avx2;
    k->pack.halves = oct_pack_halves_avx2;
    if (!(cpu_mask & OCT_CPU_AVX512_VNNI)) return;
    k->pack.words = oct_pack_words_avx512;
}

static inline void oct_kern_init_linear_x86(oct_kern *k, uint32_t cpu_mask) {
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    k->row_unit = 6;
    k->row_bytes_i8 = oct_row_bytes_i8_avx2;
    k->prep_rows_i8 = oct_prep_rows_i8_avx2;
    k->gemm_i8 = oct_gemm_i8_avx2;
    k->gemm_i16 = oct_gemm_i16_avx2;
    k->epilogue_i8 = oct_epilogue_i8_avx2;
    k->product_i8 = oct_product_i8_avx2;
    k->epilogue_f32 = oct_epilogue_f32_avx2;
    k->gemm_f32 = oct_gemm_f32_avx2;
    k->gemm_bf16 = oct_gemm_bf16_avx2;
    k->gemm_f16 = oct_gemm_f16_avx2;

    if (!(cpu_mask & OCT_CPU_AVX512_VNNI)) return;
    k->row_bytes_i8 = oct_row_bytes_i8_avx512;
    k->prep_rows_i8 = oct_prep_rows_i8_avx512;
    k->gemm_i8 = oct_gemm_i8_avx512;
    k->gemm_i16 = oct_gemm_i16_avx512;
    k->epilogue_i8 = oct_epilogue_i8_avx512;
    k->product_i8 = oct_product_i8_avx512;
    k->gemm_f32 = oct_gemm_f32_avx512;
    k->gemm_bf16 = oct_gemm_bf16_avx512;
    k->gemm_f16 = oct_gemm_f16_avx512;

    if (!(cpu_mask & OCT_CPU_AMX_INT8)) return;
    k->row_unit = 32;
    k->row_bytes_i8 = oct_row_bytes_i8_amx;
    k->prep_rows_i8 = oct_prep_rows_i8_amx;
    k->gemm_i8 = oct_gemm_i8_amx;
    k->product_i8 = oct_product_i8_amx;
}

#endif
