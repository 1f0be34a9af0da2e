/*
 * kernels/params.h - what the structs of kernel arguments are made of. They cross from C to CUDA,
 * so they hold fixed-width numbers alone; a place in device memory is its address.
 *
 * Every struct of a kernel's arguments begins with `oct_fault_addr fault`.
 */
#ifndef OCT_CUDA_PARAMS_H
#define OCT_CUDA_PARAMS_H

#include <stdint.h>

typedef uint64_t oct_addr; /* of device memory; 0: absent */

/* Rows of bf16 (or of what the operation says): row r at data + r * stride elements. */
typedef struct oct_p_rows {
    oct_addr data;
    uint64_t stride; /* elements */
    uint32_t vec;    /* 1: every row begins at a multiple of 16 bytes */
    uint32_t reserved;
} oct_p_rows;

/* Where a quantised copy goes: octet_quant with its places found. */
typedef struct oct_p_quant {
    oct_addr q, scale, param; /* param: float [2], static modes alone */
    uint64_t stride;          /* bytes */
    uint32_t mode;            /* OCTET_QUANT_... */
    uint32_t vec;             /* 1: every row of q begins at a multiple of 8 bytes */
} oct_p_quant;

#endif
