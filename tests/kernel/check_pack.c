/* check_pack.c - packing moves bytes and adds small integers: variants are compared byte for byte,
 * the slots by themselves and through whole matrices.
 */
#include <string.h>

#include "cases.h"
#include "checks.h"
#include "kern/pack.h"

enum { B_SRC, B_WANT, B_GOT, B_SUMS_WANT, B_SUMS_GOT };

enum { LINE = 64, J = OCT_PANEL_OUTPUTS, BLOCK_BYTES = LINE * J };

typedef struct block_case {
    size_t n_blocks, gap; /* gap: bytes between rows */
} block_case;

static const block_case block_cases[] = {
    {0, 0}, {1, 0},  {1, 1},  {2, 0},  {2, 64}, {3, 3},   {5, 17},    {8, 0},
    {9, 2}, {32, 0}, {33, 5}, {64, 0}, {24, 0}, {140, 0}, {2047, 63},
};

/* One of the two slots; sums: words is asked for them. */
static void one_run(kcheck *t, const oct_kern *ref, const oct_kern *k, bool words, bool sums,
                    block_case b, kc_fill_kind how) {
    const size_t ld = b.n_blocks * LINE + b.gap, bytes = b.n_blocks * BLOCK_BYTES;
    const size_t src_bytes = 15 * ld + b.n_blocks * LINE;
    kc_case(t, "blocks=%zu gap=%zu sums=%d fill=%d", b.n_blocks, b.gap, sums, how);
    int8_t *src = kc_tail(t, B_SRC, src_bytes);
    char *want = kc_tail(t, B_WANT, bytes), *got = kc_tail(t, B_GOT, bytes);
    int32_t *want_sums = kc_tail(t, B_SUMS_WANT, J * 4), *got_sums = kc_tail(t, B_SUMS_GOT, J * 4);
    kc_fill_i8(t, src, src_bytes, how);
    memset(want, 0x5a, bytes);
    memset(got, 0xa5, bytes);
    for (int j = 0; j < J; j++) want_sums[j] = got_sums[j] = (int32_t)kc_random(t) >> 4;
#define RUN(table, to, to_sums)                                                      \
    do {                                                                             \
        if (words)                                                                   \
            (table)->pack.words((to), sums ? (to_sums) : NULL, src, ld, b.n_blocks); \
        else                                                                         \
            (table)->pack.halves((to), src, ld, b.n_blocks);                         \
    } while (0)
    RUN(ref, want, want_sums);
    RUN(k, got, got_sums);
    kc_same_bytes(t, want, got, bytes);
    kc_same_i32(t, want_sums, got_sums, J);
    if (t->bench && how == KC_RANDOM && b.gap == 0 && b.n_blocks >= 24) {
        double before, after;
        KC_TIME(before, RUN(ref, want, want_sums));
        KC_TIME(after, RUN(k, got, got_sums));
        kc_report(t, t->where, (double)bytes, before, after);
    }
#undef RUN
}

static void run_all(kcheck *t, const oct_kern *ref, const oct_kern *k, bool words) {
    for (size_t i = 0; i < KC_COUNT(block_cases); i++)
        for (int how = 0; how < KC_N_FILL; how++)
            for (int sums = 0; sums <= words; sums++)
                one_run(t, ref, k, words, sums, block_cases[i], (kc_fill_kind)how);
}

/* n rows as outputs n0 .. of a matrix, with the odd ends that the slots do not see. */
static void one_matrix(kcheck *t, const oct_kern *ref, const oct_kern *k, oct_pack_type type,
                       uint32_t n0, uint32_t n, uint32_t width, kc_fill_kind how) {
    const size_t bytes = oct_pack_bytes(type, n0 + n, width), elem = oct_pack_elem_bytes(type);
    const size_t ld = width + n % 3, src_bytes = ((n - 1) * ld + width) * elem;
    const size_t n_sums = (size_t)oct_pack_n_panels(n0 + n) * J;
    kc_case(t, "type=%d n0=%u n=%u k=%u fill=%d", type, n0, n, width, how);
    int8_t *src = kc_tail(t, B_SRC, src_bytes);
    char *want = kc_tail(t, B_WANT, bytes), *got = kc_tail(t, B_GOT, bytes);
    int32_t *want_sums = kc_tail(t, B_SUMS_WANT, n_sums * 4);
    int32_t *got_sums = kc_tail(t, B_SUMS_GOT, n_sums * 4);
    kc_fill_i8(t, src, src_bytes, how);
    memset(want, 0, bytes);
    memset(got, 0, bytes);
    memset(want_sums, 0, n_sums * 4);
    memset(got_sums, 0, n_sums * 4);
    if (type == OCT_PACK_I8) {
        oct_pack_i8(&ref->pack, (int8_t *)want, want_sums, src, ld, n, width, n0);
        oct_pack_i8(&k->pack, (int8_t *)got, got_sums, src, ld, n, width, n0);
    } else {
        oct_pack_float(&ref->pack, want, type, src, ld, n, width, n0);
        oct_pack_float(&k->pack, got, type, src, ld, n, width, n0);
    }
    kc_same_bytes(t, want, got, bytes);
    kc_same_i32(t, want_sums, got_sums, n_sums);
}

static void matrices(kcheck *t, const oct_kern *ref, const oct_kern *k, oct_pack_type type) {
    unsigned turn = 0;
    for (size_t a = 0; a < KC_COUNT(kc_ns); a++)
        for (size_t b = 0; b < KC_COUNT(kc_ks); b++)
            for (uint32_t n0 = 0; n0 < 40; n0 += 13, turn++)
                one_matrix(t, ref, k, type, n0, kc_ns[a], kc_ks[b],
                           (kc_fill_kind)(turn % KC_N_FILL));
    for (int how = 0; type == OCT_PACK_I8 && how < KC_N_FILL; how++)
        one_matrix(t, ref, k, type, 0, J, OCT_KERN_MAX_K, (kc_fill_kind)how);
}

void check_pack(kcheck *t, const oct_kern *ref, const oct_kern *k) {
    if (kc_begin(t, (kc_fn)ref->pack.words, (kc_fn)k->pack.words, "pack_words")) {
        run_all(t, ref, k, true);
        matrices(t, ref, k, OCT_PACK_I8);
        matrices(t, ref, k, OCT_PACK_F32);
    }
    if (kc_begin(t, (kc_fn)ref->pack.halves, (kc_fn)k->pack.halves, "pack_halves")) {
        run_all(t, ref, k, false);
        matrices(t, ref, k, OCT_PACK_BF16);
    }
}
