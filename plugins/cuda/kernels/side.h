/*
 * kernels/side.h - arguments of the kernels that choose: experts for rows (side_moe.cu), tokens
 * from logits (side_sample.cu).
 */
#ifndef OCT_CUDA_SIDE_H
#define OCT_CUDA_SIDE_H

#include "params.h"

/* ---- experts --------------------------------------------------------------------------------- */

/* A warp a row; shared memory: float [2 * n_experts] for each warp of a block. */
typedef struct oct_route_params {
    oct_addr fault;
    oct_p_rows logits;             /* float */
    oct_addr bias, expert, weight; /* bias may be absent */
    uint32_t n_rows, n_experts, top_k, kind;
    float scale;
    uint32_t renormalise;
} oct_route_params;

/* Pairs are counted and placed by warps, each a segment of them. permute_one does all in one block,
 * a segment a warp of it (shared memory: int32 [warps][n_experts]). The other three share the
 * table counts, int32 [n_segments][n_experts]: how many pairs of the segment go to the expert, then
 * how many of the segments before it do. */
enum { OCT_PERMUTE_WARPS = 4 }; /* of a block of permute_count and permute_place */
typedef struct oct_permute_params {
    oct_addr fault;
    oct_addr expert, first, row, place; /* int32, as octet_permute_op has them */
    oct_addr counts;
    uint32_t n_pairs, n_experts, top_k;
    uint32_t segment; /* pairs of a segment, a multiple of 32 */
    uint32_t n_segments, reserved;
} oct_permute_params;

typedef struct oct_quantize_grouped_params {
    oct_addr fault;
    oct_addr first, row; /* of permute; row may be absent */
    oct_p_rows x;
    oct_addr mul; /* float [n_experts][width], or absent */
    oct_p_quant quant;
    uint32_t n_rows, n_in, n_experts, width, group;
    uint32_t reserved;
} oct_quantize_grouped_params;

typedef struct oct_combine_params {
    oct_addr fault;
    oct_p_rows x, shared, out;    /* shared may be absent */
    oct_addr place, weight, gate; /* gate may be absent */
    uint32_t n_rows, width, top_k, accumulate;
} oct_combine_params;

/* ---- sampling -------------------------------------------------------------------------------- */

enum {
    OCT_SAMPLE_SLICE = 4096,     /* logits that a block looks at */
    OCT_SAMPLE_SLICES = 1024,    /* of a row at most */
    OCT_SAMPLE_BINS = 1024,      /* by how far below the largest */
    OCT_SAMPLE_BINS_A_UNIT = 32, /* of (x - max) / T */
    OCT_SAMPLE_LIST = 8192,      /* candidates that are held in shared memory */
    OCT_SAMPLE_PARTS = 4096,     /* pieces of a row that the list of the likeliest knows */
    OCT_SAMPLE_LOOK_BYTES = OCT_SAMPLE_SLICE * 4, /* shared memory of sample_look */
    OCT_SAMPLE_CHOOSE_BYTES = OCT_SAMPLE_LIST * 8 + OCT_SAMPLE_SLICES * 8, /* of sample_choose */
};

/* What is known of a slice of a row: of the logits as they came, and as the draw sees them. */
typedef struct oct_sample_slice {
    double sum_came; /* exp(x - max_came) added up */
    double sum_p;    /* p of section 11 */
    uint64_t weight; /* of the p that min-p leaves, as integers */
    float max_came, max;
    int32_t best;  /* the lowest id that has max */
    uint32_t lost; /* 1: a NaN or +infinity among either */
} oct_sample_slice;

typedef struct oct_sample_params {
    oct_addr fault;
    oct_p_rows logits;            /* float */
    oct_addr rows;                /* octet_sample_row [n_rows] */
    oct_addr seen, bias, masks;   /* may be absent */
    oct_addr out;                 /* octet_sample_out [n_rows] */
    oct_addr top_id, top_logprob; /* [n_rows][max_top] */
    oct_addr slices;              /* oct_sample_slice [n_rows][n_slices] */
    oct_addr bins;                /* uint32 [n_rows][OCT_SAMPLE_BINS] */
    oct_addr changed;             /* float [n_rows][changed_stride]: masked, biased, penalised */
    uint64_t changed_stride;      /* elements, a multiple of 4 */
    uint32_t n_seen, n_bias, n_masks; /* entries there are */
    uint32_t n_rows, n_vocab, n_slices, max_top;
    uint32_t part; /* logits of a piece, a power of two from 64 to a slice */
    uint32_t reserved;
} oct_sample_params;

#endif
