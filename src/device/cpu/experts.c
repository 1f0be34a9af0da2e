/*
 * device/cpu/experts.c - the way of rows to experts and back: route, permute, combine.
 *
 * Results depend on a row alone and not on the threads: route and combine work row by row, in the
 * order of slots; permute is a counting sort, stable by construction, and short enough for the
 * caller alone (8 numbers a row).
 */
#include "device/cpu/experts.h"

#include <string.h>

#include "kern/elem_math.h"
#include "kern/route.h"

enum {
    MAX_TOP_K = OCTET_MAX_TOP_K,
    MAX_EXPERTS = 65536, /* as for weights */
};

/* ---- what all of them check ------------------------------------------------------------------ */

static int32_t check_counts(octet_device *dev, uint32_t n_rows, uint32_t n_experts, uint32_t top_k,
                            const char *what) {
    if (n_experts == 0 || n_experts > MAX_EXPERTS || top_k == 0 || top_k > n_experts ||
        top_k > MAX_TOP_K)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED,
                        "%s: bad choice of experts (got %u of %u, want 1..%d of at most %d)", what,
                        top_k, n_experts, MAX_TOP_K, MAX_EXPERTS);
    if ((uint64_t)n_rows * top_k > INT32_MAX)
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: too many rows (got %u times %u)", what, n_rows,
                        top_k);
    return OCTET_OK;
}

int32_t oct_cpu_groups_open(octet_device *dev, octet_ref first, octet_ref row, uint32_t n_experts,
                            uint32_t n_rows, uint32_t n_in, const char *what, oct_cpu_groups *out) {
    *out = (oct_cpu_groups){.n_experts = n_experts, .n_rows = n_rows};
    if (n_experts == 0 || n_experts > MAX_EXPERTS || n_rows > INT32_MAX)
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: bad counts (got %u experts, %u rows)", what,
                        n_experts, n_rows);
    CPU_TRY(oct_cpu_at(dev, first, ((uint64_t)n_experts + 1) * 4, 4, what, &out->first));
    CPU_TRY(oct_cpu_at_optional(dev, row, (uint64_t)n_rows * 4, 4, what, &out->row));
    bool ascending = out->first[0] == 0 && out->first[n_experts] == (int32_t)n_rows;
    for (uint32_t e = 0; e < n_experts; e++) ascending &= out->first[e] <= out->first[e + 1];
    if (!ascending)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "%s: first rows of experts do not ascend from 0 to %u (got %d to %d)", what,
                        n_rows, out->first[0], out->first[n_experts]);
    if (!out->row && n_in != n_rows)
        return CPU_FAIL(dev, OCT_E_INVALID, "%s: %u grouped rows of an input of %u (want as many)",
                        what, n_rows, n_in);
    for (uint32_t i = 0; out->row && i < n_rows; i++)
        if (out->row[i] < 0 || (uint32_t)out->row[i] >= n_in)
            return CPU_FAIL(dev, OCT_E_INVALID, "%s: row outside its input (got %d, want < %u)",
                            what, out->row[i], n_in);
    return OCTET_OK;
}

/* ---- route ----------------------------------------------------------------------------------- */

typedef struct route_job {
    const octet_device *dev;
    oct_route_rule rule;
    size_t n_rows;
    const float *logits;
    size_t ld;
    float *scratch; /* [n_threads][2 * n_experts] */
    int32_t *expert;
    float *weight;
} route_job;

static void route_share(void *ctx, oct_share share) {
    const route_job *j = ctx;
    const size_t k = j->rule.top_k;
    float *scratch = j->scratch + (size_t)share.index * 2 * j->rule.n_experts;
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++)
        oct_kern_route_row(&j->dev->kern, &j->rule, j->logits + r * j->ld, scratch,
                           j->expert + r * k, j->weight + r * k);
}

int32_t oct_cpu_route(octet_device *dev, const octet_route_op *op) {
    CPU_TRY(check_counts(dev, op->n_rows, op->n_experts, op->top_k, "route"));
    if (op->kind != OCTET_ROUTE_SOFTMAX && op->kind != OCTET_ROUTE_SIGMOID)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "route: unknown kind (got %u)", op->kind);
    route_job j = {
        .dev = dev,
        .rule = {.kind = op->kind == OCTET_ROUTE_SIGMOID ? OCT_ROUTE_SIGMOID : OCT_ROUTE_SOFTMAX,
                 .n_experts = op->n_experts,
                 .top_k = op->top_k,
                 .renormalise = op->renormalise != 0,
                 .scale = op->scale},
        .n_rows = op->n_rows,
        .ld = op->logits.stride};
    const uint64_t chosen = (uint64_t)op->n_rows * op->top_k * 4;
    float *logits = NULL;
    CPU_TRY(oct_cpu_rows(dev, op->logits, op->n_rows, op->n_experts, "route: logits", &logits));
    j.logits = logits;
    CPU_TRY(oct_cpu_at_optional(dev, op->bias, (uint64_t)op->n_experts * 4, 4, "route: bias",
                                &j.rule.bias));
    CPU_TRY(oct_cpu_at(dev, op->expert, chosen, 4, "route: expert", &j.expert));
    CPU_TRY(oct_cpu_at(dev, op->weight, chosen, 4, "route: weight", &j.weight));
    const uint64_t scratch = (uint64_t)oct_pool_n_threads(dev->pool) * 2 * op->n_experts * 4;
    j.scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS, scratch);
    if (!j.scratch) return OCTET_E_NOMEM;
    /* An exponential and a look for each slot, for each logit. */
    oct_cpu_share_rows(dev, op->n_rows, (uint64_t)op->n_experts * (op->top_k + 4), route_share, &j);
    return OCTET_OK;
}

/* ---- permute --------------------------------------------------------------------------------- */

int32_t oct_cpu_permute(octet_device *dev, const octet_permute_op *op) {
    const int32_t *expert = NULL;
    int32_t *first = NULL, *row = NULL, *place = NULL;
    CPU_TRY(check_counts(dev, op->n_rows, op->n_experts, op->top_k, "permute"));
    const uint32_t n = op->n_rows * op->top_k;
    const uint64_t bytes = (uint64_t)n * 4;
    CPU_TRY(oct_cpu_at(dev, op->expert, bytes, 4, "permute: expert", &expert));
    CPU_TRY(
        oct_cpu_at(dev, op->first, ((uint64_t)op->n_experts + 1) * 4, 4, "permute: first", &first));
    CPU_TRY(oct_cpu_at(dev, op->row, bytes, 4, "permute: row", &row));
    CPU_TRY(oct_cpu_at(dev, op->place, bytes, 4, "permute: place", &place));
    for (uint32_t i = 0; i < n; i++)
        if (expert[i] < 0 || (uint32_t)expert[i] >= op->n_experts)
            return CPU_FAIL(dev, OCT_E_INVALID, "permute: no such expert (got %d, want < %u)",
                            expert[i], op->n_experts);
    /* Counted one place further, then summed up: first[e] is where expert e's rows begin. While
     * rows are placed it runs to where they end, which is where those of e + 1 begin. */
    memset(first, 0, ((size_t)op->n_experts + 1) * sizeof *first);
    for (uint32_t i = 0; i < n; i++) first[expert[i] + 1]++;
    for (uint32_t e = 0; e < op->n_experts; e++) first[e + 1] += first[e];
    for (uint32_t i = 0; i < n; i++) {
        const int32_t at = first[expert[i]]++;
        row[at] = (int32_t)(i / op->top_k);
        place[i] = at;
    }
    memmove(first + 1, first, op->n_experts * sizeof *first);
    first[0] = 0;
    return OCTET_OK;
}

/* ---- combine --------------------------------------------------------------------------------- */

typedef struct combine_job {
    const octet_device *dev;
    size_t n_rows, width;
    uint32_t top_k;
    int add;
    const float *x, *shared, *gate, *weight;
    size_t ldx, ld_shared, ldo;
    const int32_t *place;
    float *out;
} combine_job;

static void combine_share(void *ctx, oct_share share) {
    const combine_job *j = ctx;
    const float *x[MAX_TOP_K + 1];
    float w[MAX_TOP_K + 1];
    size_t begin, end;
    oct_share_of(share, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        uint32_t n = 0;
        for (; n < j->top_k; n++) {
            x[n] = j->x + (size_t)j->place[r * j->top_k + n] * j->ldx;
            w[n] = j->weight[r * j->top_k + n];
        }
        if (j->shared) { /* one more term; times 1 it is a plain addition, to the bit */
            x[n] = j->shared + r * j->ld_shared;
            w[n++] = j->gate ? 1.0f / (1.0f + oct_exp_f32(-j->gate[r])) : 1.0f;
        }
        j->dev->kern.elem.weighted_sum(j->out + r * j->ldo, x, w, n, j->width, j->add);
    }
}

int32_t oct_cpu_combine(octet_device *dev, const octet_combine_op *op) {
    combine_job j = {.dev = dev,
                     .n_rows = op->n_rows,
                     .width = op->width,
                     .top_k = op->top_k,
                     .add = op->accumulate != 0,
                     .ldx = op->x.stride,
                     .ld_shared = op->shared.stride,
                     .ldo = op->out.stride};
    float *x = NULL, *shared = NULL;
    CPU_TRY(check_counts(dev, op->n_rows, MAX_EXPERTS, op->top_k, "combine"));
    const uint32_t n = op->n_rows * op->top_k;
    CPU_TRY(oct_cpu_rows(dev, op->x, n, op->width, "combine: x", &x));
    CPU_TRY(oct_cpu_at(dev, op->place, (uint64_t)n * 4, 4, "combine: place", &j.place));
    CPU_TRY(oct_cpu_at(dev, op->weight, (uint64_t)n * 4, 4, "combine: weight", &j.weight));
    if (op->shared.data.buffer)
        CPU_TRY(oct_cpu_rows(dev, op->shared, op->n_rows, op->width, "combine: shared", &shared));
    CPU_TRY(oct_cpu_at_optional(dev, op->shared_gate, (uint64_t)op->n_rows * 4, 4,
                                "combine: shared_gate", &j.gate));
    CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, op->width, "combine: out", &j.out));
    for (uint32_t i = 0; i < n; i++)
        if (j.place[i] < 0 || (uint32_t)j.place[i] >= n)
            return CPU_FAIL(dev, OCT_E_INVALID, "combine: place outside x (got %d, want < %u)",
                            j.place[i], n);
    j.x = x;
    j.shared = shared;
    oct_cpu_share_rows(dev, op->n_rows, (uint64_t)op->width * op->top_k, combine_share, &j);
    return OCTET_OK;
}
