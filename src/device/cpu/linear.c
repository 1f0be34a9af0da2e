/*
 * device/cpu/linear.c - matrix products: rows prepared once, outputs shared out among the threads.
 *
 * With many rows and few panels a split by panels alone leaves threads idle, so the threads form a
 * grid of row parts times panel parts; the shape with the least work for the busiest thread wins,
 * fewest row parts first (a thread that has all rows reads its panels once). Results do not depend
 * on the split (kern/linear.h).
 *
 * A prompt that gives every thread OWN_ROWS rows is cut by rows alone: norms, activations and
 * quantisation are cut like that too, so a thread finds in its own caches what it wrote there the
 * operation before, and it prepares its rows itself, with nobody to wait for. Fewer rows would not
 * pay for reading all panels.
 */
#include "kern/linear.h"
#include "base/checked.h"
#include "device/cpu/cpu.h"

/* Preparing fewer bytes than this is quicker than waking the others for it. */
enum { PREP_ALONE_BYTES = 32 * 1024, OWN_ROWS = 96 };

typedef struct linear_job {
    const oct_kern *kern;
    const oct_cpu_weight *w;
    uint32_t m, n_panels;
    uint32_t row_parts;
    char *scratch; /* OCT_KERN_LINEAR_SCRATCH a thread */

    /* int8 */
    const int8_t *q;
    size_t ldq, row_bytes;
    const float *row_scale;
    char *operand;
    bool prepared;
    /* float */
    const float *x;
    size_t ldx;

    float *out;
    size_t ldo;
    int add;
} linear_job;

static uint32_t ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

static uint32_t choose_row_parts(uint32_t m, uint32_t unit, uint32_t n_panels, uint32_t n_threads) {
    uint32_t best = 1;
    uint64_t least = UINT64_MAX;
    if (n_threads > 1 && m / n_threads >= OWN_ROWS) return n_threads;
    for (uint32_t parts = 1; parts <= n_threads && parts <= ceil_div(m, unit); parts++) {
        if (n_threads % parts) continue;
        const uint64_t rows = (uint64_t)ceil_div(ceil_div(m, unit), parts) * unit;
        const uint64_t work = rows * ceil_div(n_panels, n_threads / parts);
        if (work >= least) continue;
        least = work;
        best = parts;
    }
    return best;
}

static void prep_share(void *ctx, oct_share share) {
    const linear_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->m, j->kern->row_unit, &begin, &end);
    if (begin < end)
        j->kern->prep_rows_i8(j->q + begin * j->ldq, j->ldq, (uint32_t)(end - begin), j->w->k,
                              j->operand + begin * j->row_bytes);
}

static void product_i8(const linear_job *j, size_t row, size_t n_rows, size_t panel,
                       size_t panel_end, void *scratch) {
    const oct_linear_i8_weight weight = oct_cpu_weight_i8(j->w);
    const oct_linear_i8_args args = {.rows = j->operand + row * j->row_bytes,
                                     .rs = j->row_scale + row,
                                     .m = (uint32_t)n_rows,
                                     .weight = &weight,
                                     .out = j->out + row * j->ldo,
                                     .ldo = j->ldo,
                                     .add = j->add};
    oct_kern_linear_i8(j->kern, &args, (uint32_t)panel, (uint32_t)panel_end, scratch);
}

static void product_float(const linear_job *j, size_t row, size_t n_rows, size_t panel,
                          size_t panel_end, void *scratch) {
    const oct_linear_float_weight weight = oct_cpu_weight_float(j->w);
    const oct_linear_float_args args = {.rows = j->x + row * j->ldx,
                                        .ldr = j->ldx,
                                        .m = (uint32_t)n_rows,
                                        .weight = &weight,
                                        .out = j->out + row * j->ldo,
                                        .ldo = j->ldo,
                                        .add = j->add};
    oct_kern_linear_float(j->kern, &args, (uint32_t)panel, (uint32_t)panel_end, scratch);
}

static void product_share(void *ctx, oct_share share) {
    const linear_job *j = ctx;
    const oct_share by_row = {share.index % j->row_parts, j->row_parts};
    const oct_share by_panel = {share.index / j->row_parts, share.n_threads / j->row_parts};
    size_t row, row_end, panel, panel_end;
    oct_share_of(by_row, j->m, j->kern->row_unit, &row, &row_end);
    oct_share_of(by_panel, j->n_panels, 1, &panel, &panel_end);
    if (row >= row_end || panel >= panel_end) return;
    void *scratch = j->scratch + (size_t)share.index * OCT_KERN_LINEAR_SCRATCH;
    if (j->w->type == OCT_PACK_I8 && !j->prepared) prep_share(ctx, by_row);
    if (j->w->type == OCT_PACK_I8)
        product_i8(j, row, row_end - row, panel, panel_end, scratch);
    else
        product_float(j, row, row_end - row, panel, panel_end, scratch);
}

/* The int8 rows of the operation, prepared for the kernels of this table. */
static int32_t prepare(octet_device *dev, const octet_linear_op *op, linear_job *j) {
    uint64_t operand_bytes = 0;
    CPU_TRY(oct_cpu_qrows(dev, op->qx, op->n_rows, j->w->k, "linear: qx", "linear: scale of qx",
                          &j->q, &j->row_scale));
    j->ldq = op->qx.stride;
    j->row_bytes = dev->kern.row_bytes_i8(j->w->k);
    if (!oct_mul_u64(op->n_rows, j->row_bytes, &operand_bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "linear: too many rows (got %u)", op->n_rows);
    j->operand = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_OPERAND, operand_bytes);
    if (!j->operand) return OCTET_E_NOMEM;
    /* Who has rows to himself prepares them on the way to the product. */
    j->prepared = j->row_parts < oct_pool_n_threads(dev->pool);
    if (!j->prepared) return OCTET_OK;
    if (operand_bytes < PREP_ALONE_BYTES)
        prep_share(j, (oct_share){0, 1});
    else
        oct_pool_run(dev->pool, prep_share, j);
    return OCTET_OK;
}

int32_t oct_cpu_linear(octet_device *dev, const octet_linear_op *op) {
    const unsigned n_threads = oct_pool_n_threads(dev->pool);
    const oct_cpu_weight *w = oct_cpu_weight_matrix(dev, op->weight, "linear");
    if (!w) return OCTET_E_INVALID;
    if (op->n_rows == 0) return OCTET_OK;
    oct_cpu_prefetch_product(dev, op->weight);
    if (op->out_dtype != 0 && op->out_dtype != OCTET_F32)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED, "linear: unknown type of result (got %u, want %u)",
                        op->out_dtype, OCTET_F32);
    linear_job j = {.kern = &dev->kern,
                    .w = w,
                    .m = op->n_rows,
                    .n_panels = oct_pack_n_panels(w->n),
                    .ldo = op->out.stride,
                    .add = op->accumulate != 0};
    CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, w->n, "linear: out", &j.out));
    j.row_parts = choose_row_parts(j.m, dev->kern.row_unit, j.n_panels, n_threads);
    if (w->type == OCT_PACK_I8) {
        CPU_TRY(prepare(dev, op, &j));
    } else {
        float *x = NULL;
        CPU_TRY(oct_cpu_rows(dev, op->x, op->n_rows, w->k, "linear: x", &x));
        j.x = x;
        j.ldx = op->x.stride;
    }
    j.scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS,
                                (uint64_t)n_threads * OCT_KERN_LINEAR_SCRATCH);
    if (!j.scratch) return OCTET_E_NOMEM;
    oct_pool_run(dev->pool, product_share, &j);
    return OCTET_OK;
}
