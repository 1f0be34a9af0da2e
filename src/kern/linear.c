/*
 * kern/linear.c - loops around the table's products.
 *
 * int8: rows are cut in blocks whose operand stays in the second level cache, and the panels stream
 * past each block once. OPERAND_BYTES of rows for one read of a weight byte leave memory far behind
 * for every K of real models; where K is long LEAST_ROWS see to that. The kernels cut K and the
 * panels for the first level cache and write outputs from registers; nothing of that shows here.
 *
 * float: besides, panels are cut in groups so that the results of (row block x group) fit the
 * scratch and are still near when the epilogue comes.
 *
 * With few rows there is one block, and the weight is read once from front to back.
 */
#include "kern/linear.h"

#include "base/assert.h"

enum {
    /* Rows of a block, multiples of every row unit in use. */
    MOST_ROWS = 576,
    LEAST_ROWS = 96,
    FLOAT_ROWS = 192,
    OPERAND_BYTES = 512 * 1024,
    TILE_UNIT = 32, /* row unit of tile registers: such a core has 2 MiB of second level cache */
    SCRATCH_CELLS = OCT_KERN_LINEAR_SCRATCH / 4,
    GROUP_UNIT = 4, /* panels; no variant works on more at a time */
};
_Static_assert(MOST_ROWS % OCT_KERN_MAX_ROW_UNIT == 0 && LEAST_ROWS % OCT_KERN_MAX_ROW_UNIT == 0 &&
                   FLOAT_ROWS % OCT_KERN_MAX_ROW_UNIT == 0,
               "blocks end at row units");
_Static_assert(OCT_KERN_PRODUCT_CELLS(MOST_ROWS) <= SCRATCH_CELLS, "the sums of a block fit");
_Static_assert(FLOAT_ROWS *OCT_PANEL_OUTPUTS *GROUP_UNIT <= SCRATCH_CELLS, "a group fits");

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Rows of a block: all blocks about equal, each a multiple of the unit, at most most. */
static uint32_t block_rows(uint32_t m, uint32_t unit, uint32_t most) {
    const uint32_t n_blocks = (m + most - 1) / most;
    const uint32_t rows = (m + n_blocks - 1) / n_blocks;
    return min_u32((rows + unit - 1) / unit * unit, most);
}

static uint32_t most_rows_i8(uint32_t unit, size_t row_bytes) {
    const size_t bytes = unit >= TILE_UNIT ? 2 * OPERAND_BYTES : OPERAND_BYTES;
    const size_t rows = bytes / row_bytes / unit * unit;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows > MOST_ROWS ? MOST_ROWS : (uint32_t)rows;
}

/* Panels whose results for rows rows fit the scratch. */
static uint32_t group_panels(uint32_t rows) {
    return (uint32_t)SCRATCH_CELLS / (rows * OCT_PANEL_OUTPUTS) / GROUP_UNIT * GROUP_UNIT;
}

uint32_t oct_kern_linear_rows_i8(const oct_kern *k, uint32_t m, uint32_t width) {
    if (m == 0) return 0;
    return block_rows(m, k->row_unit, most_rows_i8(k->row_unit, k->row_bytes_i8(width)));
}

void oct_kern_linear_i8(const oct_kern *k, const oct_linear_i8_args *args, uint32_t panel_begin,
                        uint32_t panel_end, void *scratch) {
    const oct_linear_i8_weight *w = args->weight;
    OCT_ASSERT(w->k >= 1 && w->k <= OCT_KERN_MAX_K);
    OCT_ASSERT(panel_end <= oct_pack_n_panels(w->n));
    if (args->m == 0 || panel_begin >= panel_end) return;
    const uint32_t kpad = oct_pack_kpad(w->k);
    const size_t panel_bytes = oct_pack_panel_bytes_i8(w->k), row_bytes = k->row_bytes_i8(w->k);
    const uint32_t rows = oct_kern_linear_rows_i8(k, args->m, w->k);
    const uint32_t col = panel_begin * OCT_PANEL_OUTPUTS;
    const uint32_t n = min_u32(panel_end * OCT_PANEL_OUTPUTS, w->n) - col;

    for (uint32_t i = 0; i < args->m; i += rows) {
        const uint32_t m = min_u32(rows, args->m - i);
        const oct_epilogue_i8 e = {
            .ibias = w->ibias ? w->ibias + col : NULL,
            .rs = args->rs ? args->rs + i : NULL,
            .cs = w->cs + col,
            .fbias = w->fbias ? w->fbias + col : NULL,
            .add = args->add,
        };
        k->product_i8((const char *)args->rows + i * row_bytes, row_bytes, m,
                      w->panels + panel_begin * panel_bytes, kpad, panel_bytes, n, w->colsum + col,
                      &e, args->out + i * args->ldo + col, args->ldo, scratch);
    }
}

static oct_gemm_float_fn gemm_for(const oct_kern *k, oct_pack_type type) {
    return type == OCT_PACK_BF16 ? k->gemm_bf16 : type == OCT_PACK_F16 ? k->gemm_f16 : k->gemm_f32;
}

void oct_kern_linear_float(const oct_kern *k, const oct_linear_float_args *args,
                           uint32_t panel_begin, uint32_t panel_end, void *scratch) {
    const oct_linear_float_weight *w = args->weight;
    OCT_ASSERT(w->type != OCT_PACK_I8 && w->k >= 1);
    OCT_ASSERT(panel_end <= oct_pack_n_panels(w->n));
    if (args->m == 0 || panel_begin >= panel_end) return;
    const oct_gemm_float_fn gemm = gemm_for(k, w->type);
    const size_t panel_bytes = oct_pack_panel_bytes(w->type, w->k);
    const uint32_t rows = block_rows(args->m, k->row_unit, FLOAT_ROWS), group = group_panels(rows);

    for (uint32_t i = 0; i < args->m; i += rows) {
        const uint32_t m = min_u32(rows, args->m - i);
        for (uint32_t p = panel_begin; p < panel_end; p += group) {
            const uint32_t n_panels = min_u32(group, panel_end - p), col = p * OCT_PANEL_OUTPUTS;
            const size_t ldc = (size_t)n_panels * OCT_PANEL_OUTPUTS;
            float *c = scratch;
            gemm(args->rows + i * args->ldr, args->ldr, m,
                 (const char *)w->panels + p * panel_bytes, w->k, panel_bytes, n_panels, c, ldc);
            k->epilogue_f32(c, ldc, m, min_u32(n_panels * OCT_PANEL_OUTPUTS, w->n - col),
                            w->fbias ? w->fbias + col : NULL, args->add,
                            args->out + i * args->ldo + col, args->ldo);
        }
    }
}
