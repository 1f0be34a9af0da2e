/*
 * kv/shelves.c - places in host memory for what blocks held, and the list of what must be copied.
 *
 * A shelf is empty; or holds the entry of a text whose block was handed out; or holds a copy of
 * what a block holds that has the entry itself, so that this block can be handed out without
 * copying again.
 *
 * Invariants, true between calls:
 *   H1  the ring (through the place n_shelves, which is no shelf) holds exactly the shelves without
 *       pins, each once, the one that was used last at its end.
 *   H2  shelf_of and copy_of are inverse to one another; a block with a copy has an entry.
 *   H3  a shelf with an entry is no copy.
 *
 * Why a list of moves and no copying: the order of the list is the order in which blocks and
 * shelves changed hands, so whoever makes the moves in order, before the step that was planned with
 * them, never reads what was overwritten. A block may be copied to a shelf, that shelf to another
 * block, all within one plan.
 */
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"
#include "kv/parts.h"

#define NO_BLOCK OCT_KV_NO_BLOCK
#define NO_SHELF UINT32_MAX

/* ---- the ring ---- */

static void link_behind(oct_kv_prefix *p, uint32_t s, uint32_t before) {
    const uint32_t after = p->shelf_next[before];
    p->shelf_prev[s] = before;
    p->shelf_next[s] = after;
    p->shelf_next[before] = s;
    p->shelf_prev[after] = s;
}

static void unlink_shelf(oct_kv_prefix *p, uint32_t s) {
    p->shelf_next[p->shelf_prev[s]] = p->shelf_next[s];
    p->shelf_prev[p->shelf_next[s]] = p->shelf_prev[s];
    p->shelf_next[s] = p->shelf_prev[s] = NO_SHELF;
}

static bool is_empty(const oct_kv_prefix *p, uint32_t s) {
    return p->serial[p->n_blocks + s] == 0 && p->copy_of[s] == NO_BLOCK;
}

/* Empty ones are taken first. */
static void link_shelf(oct_kv_prefix *p, uint32_t s) {
    link_behind(p, s, is_empty(p, s) ? p->n_shelves : p->shelf_prev[p->n_shelves]);
}

/* To where it belongs now. */
static void relink(oct_kv_prefix *p, uint32_t s) {
    if (p->pins[s] > 0) return;
    unlink_shelf(p, s);
    link_shelf(p, s);
}

/* ---- life ---- */

oct_status oct_kv_shelves_init(oct_kv_prefix *p, oct_err *err) {
    const uint32_t n = p->n_shelves;
    if (n == 0) return OCT_OK;
    p->shelf_of = oct_alloc(p->mem, p->n_blocks, sizeof *p->shelf_of);
    p->copy_of = oct_alloc(p->mem, n, sizeof *p->copy_of);
    p->pins = oct_calloc(p->mem, n, sizeof *p->pins);
    p->shelf_next = oct_alloc(p->mem, (size_t)n + 1, sizeof *p->shelf_next);
    p->shelf_prev = oct_alloc(p->mem, (size_t)n + 1, sizeof *p->shelf_prev);
    p->moves = oct_alloc(p->mem, (size_t)p->n_blocks * 2, sizeof *p->moves);
    if (!p->shelf_of || !p->copy_of || !p->pins || !p->shelf_next || !p->shelf_prev || !p->moves)
        return OCT_FAIL(err, OCT_E_NOMEM, "kv: no memory to count %u shelves", n);
    memset(p->shelf_of, 0xff, p->n_blocks * sizeof *p->shelf_of); /* NO_SHELF */
    memset(p->copy_of, 0xff, n * sizeof *p->copy_of);             /* NO_BLOCK */
    for (uint32_t i = 0; i <= n; i++) {
        p->shelf_next[i] = i < n ? i + 1 : 0;
        p->shelf_prev[i] = i > 0 ? i - 1 : n;
    }
    return OCT_OK;
}

void oct_kv_shelves_fini(oct_kv_prefix *p) {
    const size_t n = p->n_shelves;
    oct_free(p->mem, p->shelf_of, p->n_blocks, sizeof *p->shelf_of);
    oct_free(p->mem, p->copy_of, n, sizeof *p->copy_of);
    oct_free(p->mem, p->pins, n, sizeof *p->pins);
    oct_free(p->mem, p->shelf_next, n + 1, sizeof *p->shelf_next);
    oct_free(p->mem, p->shelf_prev, n + 1, sizeof *p->shelf_prev);
    oct_free(p->mem, p->moves, (size_t)p->n_blocks * 2, sizeof *p->moves);
}

void oct_kv_shelves_reset(oct_kv_prefix *p) {
    for (uint32_t s = 0; s < p->n_shelves; s++) {
        if (p->copy_of[s] != NO_BLOCK) p->shelf_of[p->copy_of[s]] = NO_SHELF;
        p->copy_of[s] = NO_BLOCK;
        relink(p, s);
    }
}

/* ---- copies ---- */

void oct_kv_shelf_is_copy(oct_kv_prefix *p, uint32_t s, oct_kv_block b) {
    OCT_ASSERT(p->shelf_of[b] == NO_SHELF && p->copy_of[s] == NO_BLOCK);
    p->shelf_of[b] = s;
    p->copy_of[s] = b;
    relink(p, s);
}

void oct_kv_copy_follow(oct_kv_prefix *p, oct_kv_block b, oct_kv_block to) {
    const uint32_t s = p->n_shelves > 0 ? p->shelf_of[b] : NO_SHELF;
    if (s == NO_SHELF) return;
    p->shelf_of[b] = NO_SHELF;
    p->copy_of[s] = NO_BLOCK;
    if (to != NO_BLOCK)
        oct_kv_shelf_is_copy(p, s, to);
    else
        relink(p, s);
}

/* ---- moves ---- */

static void list_move(oct_kv_prefix *p, oct_kv_block b, uint32_t s, bool to_shelf) {
    p->moves[p->n_moves++] = (oct_kv_move){.block = b, .shelf = s, .to_shelf = to_shelf};
    p->n_stores += to_shelf;
    p->n_loads += !to_shelf;
}

const oct_kv_move *oct_kv_prefix_moves(const oct_kv_prefix *p, uint32_t *n_out) {
    *n_out = p->n_moves;
    return p->moves;
}

void oct_kv_prefix_moves_made(oct_kv_prefix *p) { p->n_moves = p->n_stores = p->n_loads = 0; }

/* The shelf not used longest, emptied. */
static uint32_t free_shelf(oct_kv_prefix *p) {
    const uint32_t s = p->shelf_next[p->n_shelves];
    if (s == p->n_shelves || OCT_FAULT(SHELF_NONE, 0)) return NO_SHELF; /* all are pinned */
    if (p->serial[p->n_blocks + s] != 0) {
        oct_kv_entry_drop(p, p->n_blocks + s);
        p->stats.n_dropped++;
    }
    if (p->copy_of[s] != NO_BLOCK) p->shelf_of[p->copy_of[s]] = NO_SHELF;
    p->copy_of[s] = NO_BLOCK;
    return s;
}

bool oct_kv_shelve(oct_kv_prefix *p, oct_kv_block b) {
    uint32_t s = p->shelf_of[b];
    if (s != NO_SHELF) {
        p->shelf_of[b] = NO_SHELF;
        p->copy_of[s] = NO_BLOCK;
    } else {
        if (p->n_stores == p->n_blocks) return false;
        s = free_shelf(p);
        if (s == NO_SHELF) return false;
        list_move(p, b, s, true);
    }
    oct_kv_entry_move(p, b, p->n_blocks + s);
    relink(p, s);
    p->stats.n_shelved++;
    return true;
}

static void fetch(oct_kv_prefix *p, uint32_t s, oct_kv_block b) {
    oct_kv_entry_move(p, p->n_blocks + s, b);
    oct_kv_pool_keep(p->pool, b, true);
    oct_kv_shelf_is_copy(p, s, b);
    list_move(p, b, s, false);
    p->stats.n_fetched++;
}

void oct_kv_prefix_take(oct_kv_prefix *p, oct_kv_block *found, uint32_t n) {
    /* All that was found is taken before anything is acquired, which could hand it out. */
    for (uint32_t i = 0; i < n; i++)
        if (found[i] & OCT_KV_ON_SHELF)
            oct_kv_shelf_pin(p, found[i] ^ OCT_KV_ON_SHELF);
        else
            oct_kv_pool_take(p->pool, found[i]);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t s = found[i] ^ OCT_KV_ON_SHELF;
        if (!(found[i] & OCT_KV_ON_SHELF)) continue;
        const oct_status st = oct_kv_pool_acquire(p->pool, 1, &found[i]);
        OCT_ASSERT(st == OCT_OK);
        (void)st;
        fetch(p, s, found[i]);
        oct_kv_shelf_unpin(p, s);
    }
}

/* ---- shelves in others' hands ---- */

void oct_kv_shelf_pin(oct_kv_prefix *p, uint32_t s) {
    if (p->pins[s]++ == 0) unlink_shelf(p, s);
}

void oct_kv_shelf_unpin(oct_kv_prefix *p, uint32_t s) {
    OCT_ASSERT(p->pins[s] > 0);
    if (--p->pins[s] == 0) link_shelf(p, s);
}

bool oct_kv_shelf_reserve(oct_kv_prefix *p, uint32_t *shelf_out) {
    const uint32_t s = p->n_shelves > 0 ? free_shelf(p) : NO_SHELF;
    if (s == NO_SHELF) return false;
    oct_kv_shelf_pin(p, s);
    *shelf_out = s;
    return true;
}

void oct_kv_shelf_enter(oct_kv_prefix *p, oct_kv_chain *chain, const int32_t *ids, uint32_t s) {
    OCT_ASSERT(is_empty(p, s) && p->pins[s] > 0);
    if (chain->epoch == p->epoch && !OCT_FAULT(SHELF_STALE, 0)) {
        oct_kv_place at = oct_kv_entry_find(p, chain->serial, ids);
        if (at == OCT_KV_NO_PLACE) {
            at = p->n_blocks + s;
            oct_kv_entry_put(p, at, ++p->last_serial, chain->serial, ids);
            p->stats.n_entered++;
        }
        p->saved[at] = 1;
        chain->serial = p->serial[at];
        chain->n_blocks++;
    }
    oct_kv_shelf_unpin(p, s);
}

/* ---- saving ---- */

static oct_kv_place place_of(const oct_kv_prefix *p, uint32_t at) {
    return at & OCT_KV_ON_SHELF ? p->n_blocks + (at ^ OCT_KV_ON_SHELF) : at;
}

bool oct_kv_prefix_unsaved(const oct_kv_prefix *p, uint32_t *cursor, uint32_t n_looks,
                           uint32_t *at) {
    for (; n_looks > 0 && p->stats.n_entries > 0; n_looks--) {
        const oct_kv_place place = *cursor < p->n_places ? *cursor : 0;
        *cursor = place + 1;
        if (p->serial[place] == 0 || p->saved[place]) continue;
        *at = oct_kv_is_shelf(p, place) ? OCT_KV_ON_SHELF | (place - p->n_blocks) : place;
        return true;
    }
    return false;
}

void oct_kv_prefix_set_saved(oct_kv_prefix *p, uint32_t at) { p->saved[place_of(p, at)] = 1; }

bool oct_kv_prefix_pin_copy(oct_kv_prefix *p, uint32_t at, uint32_t *shelf_out) {
    OCT_ASSERT(p->serial[place_of(p, at)] != 0);
    uint32_t s = at & OCT_KV_ON_SHELF ? at ^ OCT_KV_ON_SHELF : p->shelf_of[at];
    if (s == NO_SHELF) {
        if (p->n_stores == p->n_blocks) return false;
        s = free_shelf(p);
        if (s == NO_SHELF) return false;
        oct_kv_shelf_is_copy(p, s, at);
        list_move(p, at, s, true);
    }
    oct_kv_shelf_pin(p, s);
    *shelf_out = s;
    return true;
}

/* The salt of a root; false: it was forgotten. */
static bool salt_of(const oct_kv_prefix *p, uint64_t root, oct_str *out) {
    *out = (oct_str){0};
    if (root == 0) return true;
    for (uint32_t i = 0; i < p->n_salts; i++) {
        if (p->salts[i].root != root) continue;
        *out = (oct_str){p->salts[i].bytes, p->salts[i].len};
        return true;
    }
    return false;
}

uint32_t oct_kv_prefix_text(const oct_kv_prefix *p, uint32_t at, int32_t *out, uint32_t cap_blocks,
                            oct_str *salt_out) {
    const oct_kv_place last = place_of(p, at);
    oct_kv_place place = last;
    uint32_t n = 0;
    for (; place != OCT_KV_NO_PLACE && n <= cap_blocks; n++) {
        const uint64_t before = p->before[place];
        place = oct_kv_entry_numbered(p, before);
        if (place == OCT_KV_NO_PLACE && !salt_of(p, before, salt_out)) return 0;
    }
    if (n > cap_blocks) return 0;
    place = last;
    for (uint32_t i = n; i-- > 0; place = oct_kv_entry_numbered(p, p->before[place]))
        memcpy(out + (size_t)i * p->block_tokens, oct_kv_ids_of(p, place),
               p->block_tokens * sizeof *out);
    return n;
}

/* ---- invariants ---- */

void oct_kv_shelves_check(const oct_kv_prefix *p) {
#ifdef OCT_DEBUG
    uint32_t n_ring = 0, n_free = 0;
    bool used = false;
    for (uint32_t s = 0; s < p->n_shelves; s++) {
        const oct_kv_block b = p->copy_of[s];
        n_free += p->pins[s] == 0;
        OCT_ASSERT((p->pins[s] == 0) == (p->shelf_next[s] != NO_SHELF));
        OCT_ASSERT(b == NO_BLOCK || (p->shelf_of[b] == s && p->serial[b] != 0)); /* H2 */
        OCT_ASSERT(b == NO_BLOCK || p->serial[p->n_blocks + s] == 0);            /* H3 */
    }
    for (oct_kv_block b = 0; p->n_shelves > 0 && b < p->n_blocks; b++)
        OCT_ASSERT(p->shelf_of[b] == NO_SHELF || p->copy_of[p->shelf_of[b]] == b); /* H2 */
    if (p->n_shelves == 0) return;
    for (uint32_t s = p->shelf_next[p->n_shelves]; s != p->n_shelves; s = p->shelf_next[s]) {
        OCT_ASSERT(n_ring++ < n_free && p->shelf_prev[p->shelf_next[s]] == s);
        OCT_ASSERT(!is_empty(p, s) || !used);
        used = used || !is_empty(p, s);
    }
    OCT_ASSERT(n_ring == n_free); /* H1 */
#else
    (void)p;
#endif
}
