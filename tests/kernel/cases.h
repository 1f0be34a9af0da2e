/*
 * tests/kernel/cases.h - the shapes that kernels and devices are judged with: around every width a
 * variant may unroll or pad by, and the sizes of real models.
 */
#ifndef OCT_TESTS_CASES_H
#define OCT_TESTS_CASES_H

#include <stdint.h>

typedef struct kc_gemm_shape {
    uint32_t m, n, k;
} kc_gemm_shape;

/* Multiplied out with each other. */
static const uint32_t kc_ms[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 17, 33};
static const uint32_t kc_ns[] = {1, 16, 17, 48, 65, 80};
static const uint32_t kc_ks[] = {1, 4, 63, 64, 65, 130, 257};

/* As they are: K of real projections, chunk borders, the longest K there is. */
static const kc_gemm_shape kc_gemm_shapes[] = {
    {1, 48, 576},    {5, 33, 576},    {16, 32, 576},  {40, 80, 576},  {1, 64, 1536},
    {13, 48, 1536},  {32, 16, 1536},  {64, 33, 1536}, {1, 32, 8960},  {3, 16, 8960},
    {14, 17, 8960},  {33, 16, 8960},  {13, 16, 511},  {14, 16, 512},  {19, 16, 513},
    {4, 16, 1023},   {7, 16, 1025},   {23, 16, 1088}, {100, 16, 192}, {97, 34, 64},
    {1, 16, 131071}, {13, 1, 131071}, {34, 16, 2112},
};

/* Rows x k x panels of the products inside attention: heads times tokens, head_dim or 32 tokens. */
static const kc_gemm_shape kc_attention_shapes[] = {
    {1, 32, 64},  {2, 32, 64},   {3, 32, 128},  {4, 32, 80},  {5, 32, 96},   {6, 32, 128},
    {7, 32, 128}, {8, 32, 128},  {12, 32, 256}, {13, 32, 64}, {28, 32, 128}, {65, 32, 128},
    {1, 64, 32},  {2, 128, 32},  {3, 128, 32},  {6, 80, 32},  {7, 128, 32},  {14, 256, 32},
    {28, 64, 32}, {65, 128, 32}, {9, 16, 4},    {1, 16, 4},   {2, 48, 12},
};

#define KC_COUNT(array) (sizeof(array) / sizeof *(array))

#endif
