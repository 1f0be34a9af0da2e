/*
 * kernels/rows.h - arguments of the kernels on rows that know nothing of each other (rows.cu,
 * norm.cu).
 *
 * group: threads that hold a row, 32 or all of the block. A kernel NAME_C holds C pieces of 8
 * elements in each.
 */
#ifndef OCT_CUDA_ROWS_H
#define OCT_CUDA_ROWS_H

#include "params.h"
#include "weight.h"

typedef struct oct_embed_params {
    oct_addr fault;
    oct_p_weight table;
    oct_addr ids; /* int32 [n_rows] */
    oct_p_rows out;
    uint32_t n_rows;
    float scale;
} oct_embed_params;

typedef struct oct_norm_params {
    oct_addr fault;
    oct_p_rows x, add, out; /* add, out: may be absent */
    oct_addr weight, bias;  /* float [width]; bias may be absent */
    oct_p_quant quant;
    uint32_t n_rows, width, group, kind;
    float eps;
    uint32_t reserved;
} oct_norm_params;

typedef struct oct_quantize_params {
    oct_addr fault;
    oct_p_rows x;
    oct_addr mul; /* float [width], or absent */
    oct_p_quant quant;
    uint32_t n_rows, width, group;
    uint32_t reserved;
} oct_quantize_params;

typedef struct oct_act_params {
    oct_addr fault;
    oct_p_rows x, out; /* out may be absent */
    oct_p_quant quant;
    uint32_t n_rows, width, group;
    uint32_t kind, gated;
    uint32_t reserved;
} oct_act_params;

typedef struct oct_gather_params {
    oct_addr fault;
    oct_p_rows x, out;
    oct_addr index;   /* int32 [n_rows] */
    uint64_t n_there; /* rows of x */
    uint32_t n_rows, width;
} oct_gather_params;

typedef struct oct_softcap_params {
    oct_addr fault;
    oct_p_rows x; /* float */
    uint32_t n_rows, width;
    float cap, inv_cap;
} oct_softcap_params;

typedef struct oct_feed_params {
    oct_addr fault;
    oct_addr ids, from, drawn; /* int32, int32, octet_sample_out */
    uint32_t n_rows, n_drawn, n_vocab;
    uint32_t reserved;
} oct_feed_params;

#endif
