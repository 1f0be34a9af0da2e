/*
 * device/cpu/experts.h - inside the CPU device: the checked order of grouped rows, as permute left
 * it in device memory. Borrowed for the operation.
 */
#ifndef OCT_DEVICE_CPU_EXPERTS_H
#define OCT_DEVICE_CPU_EXPERTS_H

#include "device/cpu/cpu.h"

typedef struct oct_cpu_groups {
    uint32_t n_experts, n_rows;
    const int32_t *first; /* [n_experts + 1], ascending from 0 to n_rows */
    const int32_t *row;   /* [n_rows], each below n_in; NULL: grouped row i reads row i */
} oct_cpu_groups;

int32_t oct_cpu_groups_open(octet_device *dev, octet_ref first, octet_ref row, uint32_t n_experts,
                            uint32_t n_rows, uint32_t n_in, const char *what, oct_cpu_groups *out);

/* The row of the input behind grouped row i. */
static inline size_t oct_cpu_groups_row(const oct_cpu_groups *g, size_t i) {
    return g->row ? (size_t)g->row[i] : i;
}

#endif
