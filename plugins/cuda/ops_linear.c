/*
 * ops_linear.c - matrix products: which kernel, with how many rows a tile, how many stages, and
 * whether blocks share tiles.
 *
 * The choice depends on shapes alone and never shows in a result: int8 sums are exact, and float
 * sums are made of the same chunks of k whoever adds them (kernels/linear_body.cuh).
 */
#include "kernels/linear_sm90.h"
#include "launch.h"
#include "weights.h"

/* ---- what is multiplied ---------------------------------------------------------------------- */

/* Rows of the operation, of one matrix or grouped by expert. */
typedef struct product {
    const char *what;
    const oct_cuda_weight *w;
    octet_rows x, out;
    octet_qrows qx;
    uint32_t n_rows, n_in; /* of the result, of x */
    uint32_t out_dtype, accumulate;
} product;

static int32_t open_rows(octet_stream *s, const product *j, oct_linear_params *p) {
    const int i8 = j->w->desc.dtype == OCTET_I8, f32 = j->out_dtype == OCTET_F32;
    octet_device *dev = s->dev;
    oct_p_rows rows, out;
    if (j->out_dtype != 0 && !f32)
        return oct_cuda_fail(dev, OCTET_E_UNSUPPORTED,
                             "%s: unknown type of result (got %u, want %u)", j->what, j->out_dtype,
                             OCTET_F32);
    if (i8)
        CUDA_TRY(
            oct_cuda_qrows(dev, j->qx, j->n_in, j->w->params.k, j->what, &rows, &p->row_scale));
    else
        CUDA_TRY(oct_cuda_rows(dev, j->x, j->n_in, j->w->params.k, 2, j->what, &rows));
    CUDA_TRY(oct_cuda_rows(dev, j->out, j->n_rows, j->w->params.n, f32 ? 4 : 2, j->what, &out));
    p->fault = oct_cuda_fault_word(s);
    p->weight = j->w->params;
    p->rows = rows.data;
    p->row_bytes = rows.stride * (i8 ? 1 : 2);
    p->k_bytes = j->w->params.k * (i8 ? 1 : 2);
    p->out = out.data;
    p->out_stride = out.stride;
    p->n_rows = j->n_rows;
    p->n_in = j->n_in;
    p->n_experts = 1;
    p->flags = (f32 ? OCT_LINEAR_OUT_F32 : 0) | (j->accumulate ? OCT_LINEAR_ACCUMULATE : 0) |
               (rows.vec ? OCT_LINEAR_ALIGNED : 0);
    return OCTET_OK;
}

/* ---- the kernels through mma.sync ------------------------------------------------------------ */

/* Shared memory that a kernel may declare besides. */
enum { N_HEIGHTS = 5, MAX_STAGES = 11, STATIC_BYTES = 4096 };
static const uint32_t heights[N_HEIGHTS] = {8, 16, 32, 64, 128}; /* rows of a tile */

static uint64_t up(uint64_t n, uint64_t each) { return (n + each - 1) / each; }

/* The lowest tile that holds the rows of a matrix; of experts half as many again as they have on
 * average, because rows never fall evenly. */
static int choose_height(uint64_t n_rows, uint64_t n_experts) {
    const uint64_t rows = n_experts > 1 ? up(3 * n_rows, 2 * n_experts) : n_rows;
    int h = 0;
    while (h + 1 < N_HEIGHTS && heights[h] < rows) h++;
    return h;
}

/* Whether blocks should share tiles: where whole ones would leave more than a twentieth of the
 * blocks idle in the last round, or nobody knows how rows fell. */
static int want_split(const oct_linear_params *p, uint64_t n_tiles, uint64_t n_blocks) {
    if (p->first) return 1;
    return n_tiles * 20 < up(n_tiles, n_blocks) * n_blocks * 19;
}

/* Room for partial sums: int32 of one tile a block, always zero between launches; behind it
 * floats. Of fixed size, so that it is made once. */
enum { FLOAT_SLOT_BYTES = 256 << 10 };

static int32_t open_slots(octet_stream *s, oct_linear_params *p, int i8) {
    const uint64_t n_sms = (uint64_t)s->dev->n_sms;
    const uint64_t i8_bytes = n_sms * 128 * OCT_TILE_OUTPUTS * 4;
    CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_LINEAR, i8_bytes + n_sms * FLOAT_SLOT_BYTES,
                              &p->slots));
    CUDA_TRY(oct_cuda_scratch(s, OCT_CUDA_SCRATCH_COUNTERS, n_sms * 4, &p->counters));
    if (!i8) p->slots += i8_bytes;
    return OCTET_OK;
}

/* Rows of x at least, of a tile's units, in bytes of the slots: of floats a sum for each chunk. */
static uint64_t slot_bytes(const oct_linear_params *p, uint32_t height, int i8) {
    const uint64_t chunks = i8 ? 1 : up(p->weight.k_tiles, OCT_LINEAR_CHUNK_TILES);
    return chunks * height * OCT_TILE_OUTPUTS * 4;
}

static int32_t run_mma(octet_stream *s, oct_linear_params *p) {
    const octet_device *dev = s->dev;
    const int i8 = p->weight.dtype == OCTET_I8;
    const int h = choose_height(p->n_rows, p->first ? p->n_experts : 1);
    const uint32_t stage = OCT_TILE_BYTES + heights[h] * OCT_TILE_K_BYTES;
    const uint32_t extra = 16 + (p->first ? oct_linear_group_bytes(p->n_experts) : 0);
    const uint64_t n_blocks = (uint64_t)dev->n_sms;
    const uint64_t n_tiles = up(p->weight.n, OCT_TILE_OUTPUTS) * up(p->n_rows, heights[h]);
    uint64_t units = n_tiles;
    const uint64_t n_stages = ((uint64_t)dev->shared_bytes - STATIC_BYTES - extra) / stage;
    p->n_stages = (uint32_t)(n_stages < MAX_STAGES ? n_stages : MAX_STAGES);
    if (p->n_stages < 2)
        return oct_cuda_fail(s->dev, OCTET_E_UNSUPPORTED,
                             "linear: too little shared memory (got %d bytes)", dev->shared_bytes);
    if (want_split(p, n_tiles, n_blocks) && slot_bytes(p, heights[h], i8) <= FLOAT_SLOT_BYTES) {
        p->flags |= OCT_LINEAR_SPLIT;
        units *= i8 ? p->weight.k_tiles : up(p->weight.k_tiles, OCT_LINEAR_CHUNK_TILES);
        CUDA_TRY(open_slots(s, p, i8));
    }
    /* Of experts the tiles are not known: the grid is whole, blocks without work end at once. */
    const uint64_t grid = p->first || units > n_blocks ? n_blocks : units;
    const oct_cuda_kernel first = i8 ? OCT_K_linear_i8_8 : OCT_K_linear_float_8;
    return oct_cuda_launch(s, (oct_cuda_kernel)((int)first + h), (oct_grid){grid, 1, 1},
                           OCT_LINEAR_THREADS, p->n_stages * stage + extra, p);
}

/* ---- the kernel through wgmma ------------------------------------------------------------------
 */

/* Nanoseconds of each kernel, fitted to the table of octet bench kernels (bench/results): a step of
 * one multiprocessor, 128 x 256 x 128 products through wgmma and 128 x 128 x 128 through mma.sync,
 * and what comes before and after the steps. */
enum { SM90_STEP_NS = 590, SM90_ENDS_NS = 20000, MMA_STEP_NS = 1350, MMA_ENDS_NS = 10000 };

static int want_sm90(const octet_device *dev, const oct_linear_params *p) {
    if (dev->sm != 90 || p->weight.dtype != OCTET_I8 || !(p->flags & OCT_LINEAR_ALIGNED)) return 0;
    if (dev->wgmma != OCT_CUDA_BY_SHAPE) return dev->wgmma == OCT_CUDA_ALWAYS;
    const uint64_t n_groups = p->first ? p->n_experts : 1, n_sms = (uint64_t)dev->n_sms;
    const uint64_t rows = up(p->n_rows, n_groups), steps = up(p->k_bytes, OCT_TILE_K_BYTES);
    if (rows <= 32) return 0; /* as fast as weights come from memory */
    const uint64_t high = up(rows, OCT_SM90_ROWS) * n_groups;
    const uint64_t tiles = up(p->weight.n, OCT_SM90_OUTPUTS) * high;
    const uint64_t mma_tiles = up(p->weight.n, OCT_TILE_OUTPUTS) * high;
    return SM90_ENDS_NS + up(tiles, n_sms) * steps * SM90_STEP_NS <=
           MMA_ENDS_NS + mma_tiles * steps * MMA_STEP_NS / n_sms;
}

static int32_t map_rows(octet_device *dev, const oct_linear_params *p, uint32_t n_box, void *map) {
    /* One row has no next one, whatever its stride says. */
    const cuuint64_t row = p->row_bytes % 16 ? up(p->k_bytes, 16) * 16 : p->row_bytes;
    const cuuint64_t size[2] = {p->k_bytes, p->n_in}, stride[1] = {row};
    const cuuint32_t box[2] = {OCT_TILE_K_BYTES, n_box}, every[2] = {1, 1};
    CU_TRY(dev, cuTensorMapEncodeTiled, map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2,
           (void *)(uintptr_t)p->rows, size, stride, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return OCTET_OK;
}

static int32_t run_sm90(octet_stream *s, const oct_linear_params *p) {
    oct_linear_sm90_params all = {.fault = p->fault, .linear = *p};
    const uint64_t n_sms = (uint64_t)s->dev->n_sms;
    const uint64_t tiles = up(p->weight.n, OCT_SM90_OUTPUTS) * up(p->n_rows, OCT_SM90_ROWS);
    CUDA_TRY(map_rows(s->dev, &all.linear, p->map ? 1 : OCT_SM90_ROWS, all.x_map));
    return OCT_LAUNCH(s, linear_sm90, ((oct_grid){p->first || tiles > n_sms ? n_sms : tiles, 1, 1}),
                      OCT_SM90_THREADS, oct_linear_sm90_bytes(p->n_experts, p->first != 0), &all);
}

/* ---- the kernel for few rows through wgmma ----------------------------------------------------
 */

/* Rows of a tile, and shared memory of a block: of two on a multiprocessor, of the highest of one.
 */
enum { FEW_HEIGHTS = 7, FEW_ROWS = 256 };
static const struct {
    uint32_t rows, room, blocks, ranks; /* ranks: blocks of a cluster that share a tile, at most */
} few_heights[FEW_HEIGHTS] = {{8, 110 << 10, 2, 4},  {16, 110 << 10, 2, 4},  {32, 110 << 10, 2, 4},
                              {64, 110 << 10, 2, 4}, {128, 110 << 10, 2, 4}, {192, 204 << 10, 1, 2},
                              {256, 204 << 10, 1, 2}};

/* Steps that a block is to have at least. */
enum { FEW_STEPS = 4 };

static int want_few(const octet_device *dev, const oct_linear_params *p) {
    return dev->sm == 90 && dev->wgmma != OCT_CUDA_NEVER && p->weight.dtype == OCTET_I8 &&
           (p->flags & OCT_LINEAR_ALIGNED) && !p->first && p->n_rows <= FEW_ROWS;
}

static int32_t run_few(octet_stream *s, const oct_linear_params *p) {
    oct_linear_few_params all = {.fault = p->fault, .linear = *p, .n_ranks = 1};
    const uint64_t n_tiles = up(p->weight.n, OCT_TILE_OUTPUTS), k_tiles = p->weight.k_tiles;
    int h = 0;
    while (few_heights[h].rows < p->n_rows) h++;
    const uint32_t rows = few_heights[h].rows;
    const uint64_t most = (uint64_t)s->dev->n_sms * few_heights[h].blocks;
    const uint64_t room = s->dev->few_room ? (uint64_t)s->dev->few_room : few_heights[h].room;
    for (uint32_t n = 2; n <= few_heights[h].ranks && k_tiles >= (uint64_t)n * FEW_STEPS; n *= 2) {
        const uint64_t now = up(n_tiles * all.n_ranks, most), then = up(n_tiles * n, most);
        /* Of two blocks a multiprocessor one is enough to keep memory busy; one alone is to have
         * even work: the fewest rounds, in steps. */
        if (few_heights[h].blocks > 1 ? then == 1 : then * all.n_ranks < now * n) all.n_ranks = n;
    }
    if (s->dev->few_ranks) all.n_ranks = (uint32_t)s->dev->few_ranks;
    all.linear.n_stages = (uint32_t)up(k_tiles, all.n_ranks);
    while (oct_linear_few_bytes(rows, all.linear.n_stages) > room && all.linear.n_stages > 1)
        all.linear.n_stages--;
    CUDA_TRY(map_rows(s->dev, &all.linear, rows, all.x_map));
    return oct_cuda_launch_clusters(
        s, (oct_cuda_kernel)(OCT_K_linear_few_8 + h), (oct_grid){n_tiles * all.n_ranks, 1, 1},
        OCT_LINEAR_FEW_THREADS, oct_linear_few_bytes(rows, all.linear.n_stages), all.n_ranks, &all);
}

static int32_t run(octet_stream *s, oct_linear_params *p) {
    if (want_few(s->dev, p)) return run_few(s, p);
    return want_sm90(s->dev, p) ? run_sm90(s, p) : run_mma(s, p);
}

/* ---- the operations -------------------------------------------------------------------------- */

int32_t oct_cuda_linear(octet_stream *s, const octet_linear_op *op) {
    CUDA_BEGIN(s, op, "linear");
    oct_linear_params p = {0};
    const oct_cuda_weight *w = oct_cuda_weight_get(s->dev, op->weight, "linear");
    if (!w) return OCTET_E_INVALID;
    if (w->desc.n_experts)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID,
                             "linear: a weight of %u experts (want one matrix)", w->desc.n_experts);
    if (op->n_rows == 0) return OCTET_OK;
    const product j = {.what = "linear",
                       .w = w,
                       .x = op->x,
                       .out = op->out,
                       .qx = op->qx,
                       .n_rows = op->n_rows,
                       .n_in = op->n_rows,
                       .out_dtype = op->out_dtype,
                       .accumulate = op->accumulate};
    CUDA_TRY(open_rows(s, &j, &p));
    return run(s, &p);
}

int32_t oct_cuda_linear_grouped(octet_stream *s, const octet_linear_grouped_op *op) {
    CUDA_BEGIN(s, op, "linear_grouped");
    oct_linear_params p = {0};
    const oct_cuda_weight *w = oct_cuda_weight_get(s->dev, op->weight, "linear_grouped");
    if (!w) return OCTET_E_INVALID;
    if (w->desc.n_experts == 0)
        return oct_cuda_fail(
            s->dev, OCTET_E_INVALID,
            "linear_grouped: the weight is one matrix (want one made with n_experts)");
    if (op->n_rows == 0) return OCTET_OK;
    if (op->n_in == 0)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID, "linear_grouped: no rows of input");
    if (op->row.buffer == 0 && op->n_in < op->n_rows)
        return oct_cuda_fail(s->dev, OCTET_E_INVALID,
                             "linear_grouped: too few rows of input (got %u, want %u)", op->n_in,
                             op->n_rows);
    const product j = {.what = "linear_grouped",
                       .w = w,
                       .x = op->x,
                       .out = op->out,
                       .qx = op->qx,
                       .n_rows = op->n_rows,
                       .n_in = op->n_in,
                       .out_dtype = op->out_dtype,
                       .accumulate = op->accumulate};
    CUDA_TRY(open_rows(s, &j, &p));
    p.n_experts = w->desc.n_experts;
    CUDA_TRY(oct_cuda_at(s->dev, op->first, (p.n_experts + 1ull) * 4, 4, "linear_grouped: first",
                         &p.first));
    CUDA_TRY(
        oct_cuda_at_optional(s->dev, op->row, op->n_rows * 4ull, 4, "linear_grouped: row", &p.map));
    return run(s, &p);
}
