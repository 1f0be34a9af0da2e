/*
 * device/cpu/grouped.c - operations on rows grouped by expert: quantize_grouped, linear_grouped.
 *
 * A product of few rows first prepares the grouped rows one behind the other (shared out by rows),
 * then every thread computes its panels of every expert that has rows: the share of the panels is
 * the one under which the weight was written, so a thread reads what lies near it whichever experts
 * a step happens to use, and the work is even however unevenly the rows fell.
 *
 * The int8 rows of a prompt are cut into pieces, each a block of one expert's rows, and who is free
 * takes the next piece and prepares it himself: what he prepared is still in his cache when the
 * panels pass, while all rows in every thread would come from memory. Results do not depend on the
 * split (kern/linear.h).
 */
#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "device/cpu/experts.h"
#include "kern/linear.h"

/* Preparing fewer bytes than this is quicker than waking the others for it. */
enum { PREP_ALONE_BYTES = 64 * 1024 };

/* Rows are handed out in pieces when there are as many for each expert in use, so that reading its
 * panels far from where they were written is paid for, and as many pieces for each thread, so that
 * the last of them are no long wait. */
enum { PIECE_ROWS = 96, PIECES_PER_THREAD = 4 };

/* ---- quantize_grouped ------------------------------------------------------------------------ */

typedef struct quantize_job {
    const octet_device *dev;
    oct_cpu_groups groups;
    size_t width;
    const float *x, *mul;
    size_t ldx;
    const oct_row_quant *rules; /* [n_experts] */
    oct_cpu_quant quant;
} quantize_job;

static void quantize_share(void *ctx, oct_share share) {
    const quantize_job *j = ctx;
    const int32_t *first = j->groups.first;
    oct_cpu_quant quant = j->quant;
    size_t begin, end, e = 0;
    oct_share_of(share, j->groups.n_rows, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        while ((size_t)first[e + 1] <= i) e++;
        quant.rule = j->rules[e];
        oct_cpu_quant_row(j->dev, &quant, i, j->x + oct_cpu_groups_row(&j->groups, i) * j->ldx,
                          j->mul ? j->mul + e * j->width : NULL, j->width);
    }
}

/* The rule of every expert that has rows. */
static int32_t read_rules(octet_device *dev, const octet_quantize_grouped_op *op, quantize_job *j) {
    const uint32_t n = op->n_experts, mode = op->quant.mode;
    const float *param = NULL, none[2] = {0, 0};
    if (mode == OCTET_QUANT_STATIC_BEFORE || mode == OCTET_QUANT_STATIC_AFTER)
        CPU_TRY(oct_cpu_at(dev, op->quant.param, (uint64_t)n * 2 * sizeof(float), sizeof(float),
                           "quantize_grouped: param", &param));
    oct_row_quant *rules = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_ITEMS, (uint64_t)n * sizeof *rules);
    if (!rules) return OCTET_E_NOMEM;
    for (uint32_t e = 0; e < n; e++)
        if (j->groups.first[e] < j->groups.first[e + 1])
            CPU_TRY(oct_cpu_quant_rule(dev, mode, param ? param + (size_t)2 * e : none,
                                       "quantize_grouped", &rules[e]));
    j->rules = rules;
    return OCTET_OK;
}

int32_t oct_cpu_quantize_grouped(octet_device *dev, const octet_quantize_grouped_op *op) {
    quantize_job j = {.dev = dev, .width = op->width, .ldx = op->x.stride};
    octet_quant place = op->quant;
    uint64_t mul_bytes = 0;
    float *x = NULL;
    if (op->quant.mode == OCTET_QUANT_NONE)
        return CPU_FAIL(dev, OCT_E_INVALID, "quantize_grouped: no quantisation named");
    if (!oct_mul_u64((uint64_t)op->width * sizeof(float), op->n_experts, &mul_bytes))
        return CPU_FAIL(dev, OCT_E_INVALID, "quantize_grouped: too large");
    CPU_TRY(oct_cpu_groups_open(dev, op->first, op->row, op->n_experts, op->n_rows, op->n_in,
                                "quantize_grouped", &j.groups));
    CPU_TRY(oct_cpu_rows(dev, op->x, op->n_in, op->width, "quantize_grouped: x", &x));
    CPU_TRY(oct_cpu_at_optional(dev, op->mul, mul_bytes, sizeof(float), "quantize_grouped: mul",
                                &j.mul));
    place.mode = OCTET_QUANT_DYNAMIC; /* where rows go; what is done to them: read_rules */
    CPU_TRY(oct_cpu_quant_target(dev, &place, op->n_rows, op->width, "quantize_grouped: out",
                                 &j.quant));
    CPU_TRY(read_rules(dev, op, &j));
    j.x = x;
    oct_cpu_share_rows(dev, op->n_rows, op->width, quantize_share, &j);
    return OCTET_OK;
}

/* ---- linear_grouped -------------------------------------------------------------------------- */

/* Grouped rows row .. row + n - 1, which are of one expert. */
typedef struct piece {
    uint32_t expert, row, n;
} piece;

typedef struct product_job {
    const oct_kern *kern;
    const oct_cpu_weight *w;
    oct_cpu_groups groups;
    uint32_t n_panels;
    char *scratch; /* OCT_KERN_LINEAR_SCRATCH a thread */

    /* What is read: int8 rows with scales, or float rows, and where they are prepared, grouped. */
    const int8_t *q;
    const float *scale;
    size_t ldq;
    const float *x;
    size_t ldx;
    char *operand; /* [n_rows][row_bytes]; with pieces [n_threads][operand_bytes] */
    size_t row_bytes;
    float *row_scale; /* [n_rows], int8; with pieces behind the rows of each thread */

    const piece *pieces; /* NULL: threads share the panels */
    uint32_t n_pieces;
    size_t piece_rows, operand_bytes; /* of the largest; behind its rows are their scales */
    atomic_uint next_piece;

    float *out;
    size_t ldo;
    int add;
} product_job;

/* Grouped rows begin .. end-1, to the first of which operand and row_scale belong. */
static void prepare_rows(const product_job *j, size_t begin, size_t end, char *operand,
                         float *row_scale) {
    const uint32_t k = j->w->k;
    for (size_t i = begin; i < end; i++, operand += j->row_bytes) {
        const size_t row = oct_cpu_groups_row(&j->groups, i);
        if (j->q) {
            j->kern->prep_rows_i8(j->q + row * j->ldq, j->ldq, 1, k, operand);
            row_scale[i - begin] = j->scale[row];
        } else {
            memcpy(operand, j->x + row * j->ldx, k * sizeof(float));
        }
    }
}

static void prepare_share(void *ctx, oct_share share) {
    const product_job *j = ctx;
    size_t begin, end;
    oct_share_of(share, j->groups.n_rows, 1, &begin, &end);
    prepare_rows(j, begin, end, j->operand + begin * j->row_bytes, j->row_scale + begin);
}

/* Panels panel .. panel_end-1 of grouped rows of one expert, prepared. */
static void rows_i8(const product_job *j, const oct_cpu_weight *w, const piece *p, const char *rows,
                    const float *row_scale, uint32_t panel, uint32_t panel_end, void *scratch) {
    const oct_linear_i8_weight weight = oct_cpu_weight_i8(w);
    const oct_linear_i8_args args = {.rows = rows,
                                     .rs = row_scale,
                                     .m = p->n,
                                     .weight = &weight,
                                     .out = j->out + p->row * j->ldo,
                                     .ldo = j->ldo,
                                     .add = j->add};
    oct_kern_linear_i8(j->kern, &args, panel, panel_end, scratch);
}

static void rows_float(const product_job *j, const oct_cpu_weight *w, const piece *p,
                       uint32_t panel, uint32_t panel_end, void *scratch) {
    const oct_linear_float_weight weight = oct_cpu_weight_float(w);
    const float *rows = j->operand
                            ? (const float *)(const void *)(j->operand + p->row * j->row_bytes)
                            : j->x + p->row * j->ldx;
    const oct_linear_float_args args = {.rows = rows,
                                        .ldr = j->operand ? j->w->k : j->ldx,
                                        .m = p->n,
                                        .weight = &weight,
                                        .out = j->out + p->row * j->ldo,
                                        .ldo = j->ldo,
                                        .add = j->add};
    oct_kern_linear_float(j->kern, &args, panel, panel_end, scratch);
}

static void product_share(void *ctx, oct_share share) {
    const product_job *j = ctx;
    const int32_t *first = j->groups.first;
    void *scratch = j->scratch + (size_t)share.index * OCT_KERN_LINEAR_SCRATCH;
    size_t panel, panel_end;
    oct_share_of(share, j->n_panels, 1, &panel, &panel_end);
    if (panel >= panel_end) return;
    for (uint32_t e = 0; e < j->groups.n_experts; e++) {
        const piece p = {e, (uint32_t)first[e], (uint32_t)(first[e + 1] - first[e])};
        if (p.n == 0) continue;
        const oct_cpu_weight w = oct_cpu_weight_expert(j->w, e);
        if (w.type == OCT_PACK_I8)
            rows_i8(j, &w, &p, j->operand + p.row * j->row_bytes, j->row_scale + p.row,
                    (uint32_t)panel, (uint32_t)panel_end, scratch);
        else
            rows_float(j, &w, &p, (uint32_t)panel, (uint32_t)panel_end, scratch);
    }
}

/* ---- pieces ---- */

static void piece_share(void *ctx, oct_share share) {
    product_job *j = ctx;
    void *scratch = j->scratch + (size_t)share.index * OCT_KERN_LINEAR_SCRATCH;
    char *operand = j->operand + share.index * j->operand_bytes;
    float *row_scale = (float *)(void *)(operand + j->piece_rows * j->row_bytes);
    uint32_t i;
    while ((i = atomic_fetch_add_explicit(&j->next_piece, 1, memory_order_relaxed)) < j->n_pieces) {
        const piece *p = &j->pieces[i];
        const oct_cpu_weight w = oct_cpu_weight_expert(j->w, p->expert);
        prepare_rows(j, p->row, (size_t)p->row + p->n, operand, row_scale);
        rows_i8(j, &w, p, operand, row_scale, 0, j->n_panels, scratch);
    }
}

static uint32_t rows_at_once(const product_job *j, uint32_t n) {
    return oct_kern_linear_rows_i8(j->kern, n, j->w->k);
}

/* Whether the rows are handed out in pieces, and of how many. */
static bool count_pieces(octet_device *dev, product_job *j) {
    const int32_t *first = j->groups.first;
    const unsigned n_threads = oct_pool_n_threads(dev->pool);
    uint64_t n_used = 0, n_pieces = 0;
    if (!j->q) return false;
    for (uint32_t e = 0; e < j->groups.n_experts; e++) {
        const uint32_t n = (uint32_t)(first[e + 1] - first[e]), rows = rows_at_once(j, n);
        if (n == 0) continue;
        n_used++;
        n_pieces += n / rows + (n % rows != 0);
        j->piece_rows = oct_max_size(j->piece_rows, oct_min_size(rows, n));
    }
    j->n_pieces = (uint32_t)n_pieces; /* no more than rows */
    return n_threads == 1 || (j->groups.n_rows >= n_used * PIECE_ROWS &&
                              n_pieces >= (uint64_t)n_threads * PIECES_PER_THREAD);
}

static int32_t cut_pieces(octet_device *dev, product_job *j) {
    const int32_t *first = j->groups.first;
    piece *p =
        oct_cpu_scratch(dev, OCT_CPU_SCRATCH_ITEMS, (uint64_t)j->n_pieces * sizeof *j->pieces);
    if (!p) return OCTET_E_NOMEM;
    j->pieces = p;
    for (uint32_t e = 0; e < j->groups.n_experts; e++) {
        const uint32_t end = (uint32_t)first[e + 1],
                       rows = rows_at_once(j, end - (uint32_t)first[e]);
        for (uint32_t row = (uint32_t)first[e]; row < end; row += rows)
            *p++ = (piece){e, row, (uint32_t)oct_min_size(rows, end - row)};
    }
    j->operand_bytes = (j->piece_rows * (j->row_bytes + sizeof(float)) + 63) / 64 * 64;
    j->operand = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_OPERAND,
                                 oct_pool_n_threads(dev->pool) * (uint64_t)j->operand_bytes);
    return j->operand ? OCTET_OK : OCTET_E_NOMEM;
}

/* ---- the operation ---- */

static int32_t open_input(octet_device *dev, const octet_linear_grouped_op *op, product_job *j) {
    const uint32_t k = j->w->k;
    if (j->w->type != OCT_PACK_I8) {
        float *x = NULL;
        CPU_TRY(oct_cpu_rows(dev, op->x, op->n_in, k, "linear_grouped: x", &x));
        j->x = x;
        j->ldx = op->x.stride;
        j->row_bytes = k * sizeof(float);
        return OCTET_OK;
    }
    CPU_TRY(oct_cpu_qrows(dev, op->qx, op->n_in, k, "linear_grouped: qx",
                          "linear_grouped: scale of qx", &j->q, &j->scale));
    j->ldq = op->qx.stride;
    j->row_bytes = dev->kern.row_bytes_i8(k);
    return OCTET_OK;
}

/* Float rows that are grouped already are read where they are. */
static int32_t prepare(octet_device *dev, product_job *j) {
    const uint64_t n = j->groups.n_rows;
    uint64_t rows = 0, all = 0;
    if (!j->q && !j->groups.row) return OCTET_OK;
    if (!oct_mul_u64(n, j->row_bytes, &rows) || !oct_add_u64(rows, n * sizeof(float), &all))
        return CPU_FAIL(dev, OCT_E_INVALID, "linear_grouped: too many rows (got %llu)",
                        (unsigned long long)n);
    j->operand = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_OPERAND, all);
    if (!j->operand) return OCTET_E_NOMEM;
    j->row_scale = (float *)(void *)(j->operand + rows); /* row_bytes is a multiple of 4 */
    if (rows < PREP_ALONE_BYTES)
        prepare_share(j, (oct_share){0, 1});
    else
        oct_pool_run(dev->pool, prepare_share, j);
    return OCTET_OK;
}

int32_t oct_cpu_linear_grouped(octet_device *dev, const octet_linear_grouped_op *op) {
    const oct_cpu_weight *w = oct_cpu_weight_get(dev, op->weight);
    if (!w) return OCTET_E_INVALID;
    if (w->n_experts == 0)
        return CPU_FAIL(dev, OCT_E_INVALID,
                        "linear_grouped: the weight is one matrix (want one made with n_experts)");
    if (op->n_rows == 0) return OCTET_OK;
    if (op->n_in == 0) return CPU_FAIL(dev, OCT_E_INVALID, "linear_grouped: no rows of input");
    if (op->out_dtype != 0 && op->out_dtype != OCTET_F32)
        return CPU_FAIL(dev, OCT_E_UNSUPPORTED,
                        "linear_grouped: unknown type of result (got %u, want %u)", op->out_dtype,
                        OCTET_F32);
    product_job j = {.kern = &dev->kern,
                     .w = w,
                     .n_panels = oct_pack_n_panels(w->n),
                     .ldo = op->out.stride,
                     .add = op->accumulate != 0};
    CPU_TRY(oct_cpu_groups_open(dev, op->first, op->row, w->n_experts, op->n_rows, op->n_in,
                                "linear_grouped", &j.groups));
    CPU_TRY(oct_cpu_rows(dev, op->out, op->n_rows, w->n, "linear_grouped: out", &j.out));
    CPU_TRY(open_input(dev, op, &j));
    const bool in_pieces = count_pieces(dev, &j);
    CPU_TRY(in_pieces ? cut_pieces(dev, &j) : prepare(dev, &j));
    j.scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS,
                                (uint64_t)oct_pool_n_threads(dev->pool) * OCT_KERN_LINEAR_SCRATCH);
    if (!j.scratch) return OCTET_E_NOMEM;
    oct_pool_run(dev->pool, in_pieces ? piece_share : product_share, &j);
    return OCTET_OK;
}
