/*
 * gemm_i8 and product_i8 for AMX: signed by signed bytes, tiles of 16 rows x 64 k against 64 k x 16
 * outputs.
 *
 * A panel of the packed layout is a column of weight tiles as it stands: 16 lines of 64 bytes, each
 * 16 outputs x 4 k. Rows are plain int8, padded to whole tiles. Tile registers:
 *
 *     many rows   0 1 / 2 3  sums of two row tiles x two panels,  4 5 rows,  6 7 weights
 *     few rows    0 1 2 3    sums of one row tile x four panels,  4   rows,  5 6 7 weights in turn
 *
 * Two by two needs one load for each product. K is cut so that the weights of two panels stay in
 * the first level cache while the rows pass; the cut costs a load and a store of the sums.
 * Meanwhile the weights that come next are asked for, spread over the steps: for experts of a layer
 * they lie in memory, and reading them would take as long again as the products of a hundred rows.
 *
 * The tiles are set up at the start of a product and given back at its end, so that nothing is left
 * in a thread that waits. Rows left over by 32 are a product of their own with smaller tiles:
 * setting up in the inner loops would cost more than reading the weights twice.
 */
#include "kern/x86/amx_tiles.h"

#include <stdbool.h>

#include "kern/pack.h"
#include "kern/x86/kern_x86.h"

enum {
    J = OCT_PANEL_OUTPUTS,
    TILE_ROWS = 16,
    STEP_K = 64,
    TILE_BYTES = STEP_K * J,
    CHUNK = 1024,    /* k: 32 KiB of weights */
    PREFETCH = 4096, /* bytes ahead in a panel */
};

OCT_DECL_ROW_BYTES_I8(oct_row_bytes_i8_amx) {
    return (size_t)oct_pack_kpad(k) | 64; /* an odd number of cache lines: rows spread over sets */
}

OCT_DECL_PREP_ROWS_I8(oct_prep_rows_i8_amx) {
    const size_t row_bytes = oct_row_bytes_i8_amx(k);
    for (uint32_t i = 0; i < m; i++) {
        int8_t *to = (int8_t *)out + i * row_bytes;
        memcpy(to, q + i * ldq, k);
        memset(to + k, 0, oct_pack_kpad(k) - k);
    }
}

/* The operands of one tile product loop. */
typedef struct block {
    const char *a0, *a1; /* first and second row tile */
    size_t row_bytes;
    const int8_t *b;
    size_t panel_bytes;
    uint32_t steps; /* of STEP_K */
    int32_t *c0, *c1;
    size_t ldc_bytes;
    int first;                     /* the sums start at zero */
    const int8_t *ahead0, *ahead1; /* what to ask for of the next two panels */
    uint32_t ahead_lines;          /* of each of them, a step */
    uint32_t ahead_left;           /* of each of them, in all */
} block;

/* Into the second level: the first is full of the weights at hand. Not through the intrinsic: gcc
 * 12 takes a loop of nothing else for an empty one. */
static inline void prefetch_line(const int8_t *at) { __asm__ volatile("prefetcht1 %0" ::"m"(*at)); }

static inline void ask_ahead(const block *o, uint32_t step) {
    const size_t at = (size_t)step * o->ahead_lines * 64;
    for (size_t line = at; line < at + (size_t)o->ahead_lines * 64; line += 64) {
        prefetch_line(o->ahead0 + line);
        prefetch_line(o->ahead1 + line);
    }
}

/* Two row tiles x two panels. */
static void two_by_two(const block *o) {
    const int8_t *b0 = o->b, *b1 = o->b + o->panel_bytes;
    if (o->first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, o->c0, o->ldc_bytes);
        _tile_loadd(1, o->c0 + J, o->ldc_bytes);
        _tile_loadd(2, o->c1, o->ldc_bytes);
        _tile_loadd(3, o->c1 + J, o->ldc_bytes);
    }
    for (uint32_t s = 0; s < o->steps; s++) {
        ask_ahead(o, s);
        _tile_loadd(6, b0 + (size_t)s * TILE_BYTES, 64);
        _tile_loadd(4, o->a0 + (size_t)s * STEP_K, o->row_bytes);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, b1 + (size_t)s * TILE_BYTES, 64);
        _tile_dpbssd(1, 4, 7);
        _tile_loadd(5, o->a1 + (size_t)s * STEP_K, o->row_bytes);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, o->c0, o->ldc_bytes);
    _tile_stored(1, o->c0 + J, o->ldc_bytes);
    _tile_stored(2, o->c1, o->ldc_bytes);
    _tile_stored(3, o->c1 + J, o->ldc_bytes);
}

/* Two row tiles x the last panel of an odd number. */
static void two_by_one(const block *o) {
    if (o->first) {
        _tile_zero(0);
        _tile_zero(2);
    } else {
        _tile_loadd(0, o->c0, o->ldc_bytes);
        _tile_loadd(2, o->c1, o->ldc_bytes);
    }
    for (uint32_t s = 0; s < o->steps; s++) {
        _tile_loadd(6, o->b + (size_t)s * TILE_BYTES, 64);
        _tile_loadd(4, o->a0 + (size_t)s * STEP_K, o->row_bytes);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(5, o->a1 + (size_t)s * STEP_K, o->row_bytes);
        _tile_dpbssd(2, 5, 6);
    }
    _tile_stored(0, o->c0, o->ldc_bytes);
    _tile_stored(2, o->c1, o->ldc_bytes);
}

static inline void prefetch_tile(const int8_t *at) {
#pragma GCC unroll 16
    for (int line = 0; line < 16; line++)
        _mm_prefetch(at + PREFETCH + (size_t)line * 64, _MM_HINT_T0);
}

/* One row tile x four panels, all of k: the weights come from memory. */
static void one_by_four(const block *o) {
    const size_t pb = o->panel_bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t s = 0; s < o->steps; s++) {
        const int8_t *b = o->b + (size_t)s * TILE_BYTES;
        for (int p = 0; p < 4; p++) prefetch_tile(b + (size_t)p * pb);
        _tile_loadd(4, o->a0 + (size_t)s * STEP_K, o->row_bytes);
        _tile_loadd(5, b, 64);
        _tile_dpbssd(0, 4, 5);
        _tile_loadd(6, b + pb, 64);
        _tile_dpbssd(1, 4, 6);
        _tile_loadd(7, b + 2 * pb, 64);
        _tile_dpbssd(2, 4, 7);
        _tile_loadd(5, b + 3 * pb, 64);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_stored(0, o->c0, o->ldc_bytes);
    _tile_stored(1, o->c0 + J, o->ldc_bytes);
    _tile_stored(2, o->c0 + 2 * J, o->ldc_bytes);
    _tile_stored(3, o->c0 + 3 * J, o->ldc_bytes);
}

static void one_by_one(const block *o) {
    _tile_zero(0);
    for (uint32_t s = 0; s < o->steps; s++) {
        prefetch_tile(o->b + (size_t)s * TILE_BYTES);
        _tile_loadd(4, o->a0 + (size_t)s * STEP_K, o->row_bytes);
        _tile_loadd(5, o->b + (size_t)s * TILE_BYTES, 64);
        _tile_dpbssd(0, 4, 5);
    }
    _tile_stored(0, o->c0, o->ldc_bytes);
}

/* m rows, at most 16. */
static void few_rows(const char *rows, size_t row_bytes, uint32_t m, const int8_t *panels,
                     uint32_t kpad, size_t panel_bytes, uint32_t n_panels, int32_t *c, size_t ldc) {
    const uint8_t r = (uint8_t)m;
    oct_amx_configure((const uint8_t[8]){r, r, r, r, r, 16, 16, 16});
    for (uint32_t p = 0; p < n_panels;) {
        const block o = {.a0 = rows,
                         .row_bytes = row_bytes,
                         .b = panels + p * panel_bytes,
                         .panel_bytes = panel_bytes,
                         .steps = kpad / STEP_K,
                         .c0 = c + (size_t)p * J,
                         .ldc_bytes = ldc * sizeof *c};
        if (n_panels - p >= 4) {
            one_by_four(&o);
            p += 4;
        } else {
            one_by_one(&o);
            p += 1;
        }
    }
}

/* A product's weights: panels, and what is read after them (NULL: nothing). */
typedef struct weights {
    const int8_t *panels;
    uint32_t kpad;
    size_t panel_bytes;
    uint32_t n_panels;
    const int8_t *next;
} weights;

static inline uint32_t steps_from(const weights *w, uint32_t k0) {
    return (w->kpad - k0 < CHUNK ? w->kpad - k0 : CHUNK) / STEP_K;
}

/* Lines to ask for while two panels from p on are worked on from k0 on: those of the two that come
 * next, shared out over the steps of n_blocks pairs of row tiles. */
static void plan_ahead(block *o, const weights *w, uint32_t k0, uint32_t p, uint32_t n_blocks) {
    uint32_t steps = o->steps;
    if (w->n_panels - p > 2) {
        o->ahead0 = o->b + 2 * w->panel_bytes;
    } else if (k0 + CHUNK < w->kpad) {
        o->ahead0 = w->panels + (size_t)(k0 + CHUNK) * J;
        steps = steps_from(w, k0 + CHUNK);
    } else if (w->next) {
        o->ahead0 = w->next;
        steps = steps_from(w, 0);
    } else {
        return;
    }
    o->ahead1 = o->ahead0 + w->panel_bytes;
    o->ahead_left = steps * TILE_ROWS;
    o->ahead_lines = (o->ahead_left + o->steps * n_blocks - 1) / (o->steps * n_blocks);
}

/* A block asked for its part. */
static void step_ahead(block *o) {
    const uint32_t asked = o->steps * o->ahead_lines;
    o->ahead0 += (size_t)asked * 64;
    o->ahead1 += (size_t)asked * 64;
    o->ahead_left -= asked < o->ahead_left ? asked : o->ahead_left;
    if (o->ahead_left == 0) o->ahead_lines = 0;
}

/* m rows in pairs of tiles with 16 and second rows: m is a multiple of 16 + second. */
static void many_rows(const char *rows, size_t row_bytes, uint32_t m, uint32_t second,
                      const weights *w, bool ahead, int32_t *c, size_t ldc) {
    const uint8_t r = (uint8_t)second;
    const uint32_t block_rows = TILE_ROWS + second;
    oct_amx_configure((const uint8_t[8]){16, 16, r, r, 16, r, 16, 16});
    for (uint32_t k0 = 0; k0 < w->kpad; k0 += CHUNK)
        for (uint32_t p = 0; p < w->n_panels; p += 2) {
            block o = {.row_bytes = row_bytes,
                       .b = w->panels + p * w->panel_bytes + (size_t)k0 * J,
                       .panel_bytes = w->panel_bytes,
                       .steps = steps_from(w, k0),
                       .ldc_bytes = ldc * sizeof *c,
                       .first = k0 == 0,
                       .ahead0 = w->panels,
                       .ahead1 = w->panels};
            if (ahead) plan_ahead(&o, w, k0, p, m / block_rows);
            for (uint32_t i = 0; i < m; i += block_rows) {
                o.a0 = rows + i * row_bytes + k0;
                o.a1 = o.a0 + TILE_ROWS * row_bytes;
                o.c0 = c + i * ldc + (size_t)p * J;
                o.c1 = o.c0 + TILE_ROWS * ldc;
                if (w->n_panels - p >= 2)
                    two_by_two(&o);
                else
                    two_by_one(&o);
                step_ahead(&o);
            }
        }
}

/* Tiles are configured by the loops, whose shapes they follow. */
static void all_rows(const char *rows, size_t row_bytes, uint32_t m, const weights *w, int32_t *c,
                     size_t ldc) {
    const uint32_t whole = m / (2 * TILE_ROWS) * (2 * TILE_ROWS), left = m - whole;
    const char *tail = rows + whole * row_bytes;
    int32_t *c_tail = c + whole * ldc;
    if (whole > 0) many_rows(rows, row_bytes, whole, TILE_ROWS, w, true, c, ldc);
    if (left > TILE_ROWS)
        many_rows(tail, row_bytes, left, left - TILE_ROWS, w, whole == 0, c_tail, ldc);
    else if (left > 0)
        few_rows(tail, row_bytes, left, w->panels, w->kpad, w->panel_bytes, w->n_panels, c_tail,
                 ldc);
}

OCT_DECL_GEMM_I8(oct_gemm_i8_amx) {
    (void)colsum;
    OCT_AMX_FENCE();
    const weights w = {panels, kpad, panel_bytes, n_panels, NULL};
    all_rows(rows, row_bytes, m, &w, c, ldc);
    _tile_release();
    OCT_AMX_FENCE();
}

/* Tile registers can only be stored as they are, so the epilogue follows on the sums of a few
 * panels, which the nearest caches still hold. */
OCT_DECL_PRODUCT_I8(oct_product_i8_amx) {
    const uint32_t side = m > TILE_ROWS ? 2 : OCT_KERN_PRODUCT_PANELS;
    const size_t ldc = (size_t)side * J;
    (void)colsum;
    for (uint32_t col = 0; col < n; col += side * J) {
        const uint32_t left = n - col, width = left < side * J ? left : side * J;
        const oct_epilogue_i8 part = {.ibias = e->ibias ? e->ibias + col : NULL,
                                      .rs = e->rs,
                                      .cs = e->cs + col,
                                      .fbias = e->fbias ? e->fbias + col : NULL,
                                      .add = e->add};
        const int8_t *at = panels + col / J * panel_bytes;
        const weights w = {at, kpad, panel_bytes, (width + J - 1) / J,
                           left > width ? at + side * panel_bytes : NULL};
        OCT_AMX_FENCE();
        all_rows(rows, row_bytes, m, &w, c, ldc);
        OCT_AMX_FENCE();
        oct_epilogue_i8_avx512(c, ldc, m, width, &part, y + col, ldy);
    }
    _tile_release();
    OCT_AMX_FENCE();
}
