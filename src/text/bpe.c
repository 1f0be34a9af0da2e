/*
 * text/bpe.c - three ways through a piece, with one result.
 *
 *   whole    the piece is a token that its own bytes merge into: one look into a table. What a
 *            token's bytes merge into is found out when it is met first and kept in `whole`.
 *   short    up to SHORT symbols: the ranks of all neighbours in an array, the lowest searched.
 *   long     positions wait in one list a rank, and a heap holds the ranks that have any. Lists are
 *            nearly always in order of position as they grow; one that is not is sorted when it is
 *            needed. So a run of 32 MiB of one letter costs a few steps a byte, where a heap of all
 *            positions would miss the cache at every step.
 *
 * In a list a position may be stale (a neighbour was merged away): it is checked when taken.
 */
#include "text/bpe.h"

#include <string.h>

#include "base/assert.h"
#include "base/checked.h"
#include "text/unicode.h"

enum { SHORT = 96 };
#define NONE UINT32_MAX

void oct_bpe_begin(oct_bpe_worker *w, const oct_allocator *mem, const oct_bpe_model *model) {
    *w = (oct_bpe_worker){.mem = mem, .model = model, .free_link = NONE};
    oct_ids_init(&w->symbols, mem);
}

void oct_bpe_end(oct_bpe_worker *w) {
    oct_ids_fini(&w->symbols);
    oct_free(w->mem, w->next, w->cap_nodes, sizeof *w->next);
    oct_free(w->mem, w->prev, w->cap_nodes, sizeof *w->prev);
    oct_free(w->mem, w->buckets, w->n_buckets, sizeof *w->buckets);
    oct_free(w->mem, w->links, w->cap_links, sizeof *w->links);
    oct_free(w->mem, w->ranks, w->cap_ranks, sizeof *w->ranks);
}

/* Room for want elements of *p; false: refused. */
static bool room(const oct_allocator *mem, void *p, size_t *cap, size_t want, size_t size) {
    void **ptr = p;
    if (want <= *cap) return true;
    want = oct_max_size(want, oct_max_size(256, *cap + *cap / 2));
    void *grown = oct_grow(mem, *ptr, *cap, want, size);
    if (!grown) return false;
    *ptr = grown;
    *cap = want;
    return true;
}

/* ---- short pieces ---- */

static size_t merge_short(const oct_vocab *v, int32_t *ids, size_t n) {
    uint32_t rank[SHORT];
    int32_t to[SHORT];
    for (size_t i = 0; i + 1 < n; i++) {
        const oct_pair *p = oct_vocab_pair(v, ids[i], ids[i + 1]);
        rank[i] = p ? p->rank : NONE;
        to[i] = p ? p->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NONE) break;
        ids[best] = to[best];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
            memmove(to + best, to + best + 1, (n - best - 1) * sizeof *to);
        }
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const oct_pair *p = oct_vocab_pair(v, ids[i], ids[i + 1]);
            rank[i] = p ? p->rank : NONE;
            to[i] = p ? p->id : -1;
        }
    }
    return n;
}

/* ---- long pieces ---- */

static void heap_push(oct_bpe_worker *w, uint32_t rank) {
    if (!room(w->mem, &w->ranks, &w->cap_ranks, w->n_ranks + 1, sizeof *w->ranks)) {
        w->failed = true;
        return;
    }
    size_t i = w->n_ranks++;
    for (; i > 0 && w->ranks[(i - 1) / 2] > rank; i = (i - 1) / 2)
        w->ranks[i] = w->ranks[(i - 1) / 2];
    w->ranks[i] = rank;
}

static void heap_pop(oct_bpe_worker *w) {
    const uint32_t last = w->ranks[--w->n_ranks];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= w->n_ranks) break;
        if (k + 1 < w->n_ranks && w->ranks[k + 1] < w->ranks[k]) k++;
        if (w->ranks[k] >= last) break;
        w->ranks[i] = w->ranks[k];
        i = k;
    }
    if (w->n_ranks) w->ranks[i] = last;
}

static uint32_t link_new(oct_bpe_worker *w, uint32_t pos) {
    uint32_t l = w->free_link;
    if (l != NONE) {
        w->free_link = w->links[l].next;
    } else {
        if (!room(w->mem, &w->links, &w->cap_links, w->n_links + 1, sizeof *w->links)) {
            w->failed = true;
            return NONE;
        }
        l = (uint32_t)w->n_links++;
    }
    w->links[l] = (oct_bpe_link){pos, NONE};
    return l;
}

/* Lets position pos wait for the merge of its pair, if it has one. */
static void wait_for(oct_bpe_worker *w, uint32_t pos) {
    const int32_t *ids = w->symbols.data;
    const oct_pair *p = oct_vocab_pair(w->model->vocab, ids[pos], ids[w->next[pos]]);
    if (!p) return;
    const uint32_t l = link_new(w, pos);
    if (l == NONE) return;
    oct_bpe_bucket *b = &w->buckets[p->rank];
    if (b->head == NONE) {
        *b = (oct_bpe_bucket){l, l, 0};
        heap_push(w, p->rank);
    } else if (pos < w->links[b->head].pos) {
        w->links[l].next = b->head;
        b->head = l;
    } else {
        b->unsorted |= pos < w->links[b->tail].pos;
        w->links[b->tail].next = l;
        b->tail = l;
    }
}

static uint32_t merge_lists(oct_bpe_link *links, uint32_t a, uint32_t b) {
    uint32_t head = NONE, *end = &head;
    while (a != NONE && b != NONE) {
        uint32_t *least = links[b].pos < links[a].pos ? &b : &a;
        *end = *least;
        end = &links[*least].next;
        *least = *end;
    }
    *end = a != NONE ? a : b;
    return head;
}

/* Merge sort from below: bin k holds a sorted list of 2^k runs. */
static void bucket_sort(oct_bpe_worker *w, oct_bpe_bucket *b) {
    uint32_t bins[32];
    unsigned n_bins = 0;
    oct_bpe_link *links = w->links;
    for (uint32_t rest = b->head; rest != NONE;) {
        uint32_t run = rest, end = rest;
        while (links[end].next != NONE && links[links[end].next].pos >= links[end].pos)
            end = links[end].next;
        rest = links[end].next;
        links[end].next = NONE;
        unsigned k = 0;
        for (; k < n_bins && bins[k] != NONE; k++) {
            run = merge_lists(links, bins[k], run);
            bins[k] = NONE;
        }
        if (k == n_bins) n_bins++;
        bins[k] = run;
    }
    uint32_t all = NONE;
    for (unsigned k = 0; k < n_bins; k++) all = merge_lists(links, bins[k], all);
    b->head = all;
    for (b->tail = all; links[b->tail].next != NONE;) b->tail = links[b->tail].next;
    b->unsorted = 0;
}

/* Takes the first position of the lowest rank. */
static uint32_t take(oct_bpe_worker *w, uint32_t rank) {
    oct_bpe_bucket *b = &w->buckets[rank];
    if (b->unsorted) bucket_sort(w, b);
    const uint32_t l = b->head, pos = w->links[l].pos;
    b->head = w->links[l].next;
    if (b->head == NONE) heap_pop(w);
    w->links[l].next = w->free_link;
    w->free_link = l;
    return pos;
}

static bool long_setup(oct_bpe_worker *w, size_t n) {
    size_t cap = w->cap_nodes;
    if (!room(w->mem, &w->next, &cap, n, sizeof *w->next)) return false;
    if (!room(w->mem, &w->prev, &w->cap_nodes, cap, sizeof *w->prev)) {
        /* Both arrays have one size: give the first its old one back. */
        oct_free(w->mem, w->next, cap, sizeof *w->next);
        oct_free(w->mem, w->prev, w->cap_nodes, sizeof *w->prev);
        w->next = w->prev = NULL;
        w->cap_nodes = 0;
        return false;
    }
    OCT_ASSERT(w->cap_nodes == cap);
    if (!w->buckets) {
        w->buckets = oct_alloc(w->mem, w->model->vocab->n_ranks, sizeof *w->buckets);
        if (!w->buckets) return false;
        w->n_buckets = w->model->vocab->n_ranks;
        memset(w->buckets, 0xFF, w->n_buckets * sizeof *w->buckets);
    }
    for (size_t i = 0; i < n; i++) {
        w->next[i] = i + 1 < n ? (uint32_t)(i + 1) : NONE;
        w->prev[i] = i ? (uint32_t)(i - 1) : NONE;
    }
    return true;
}

static bool merge_long(oct_bpe_worker *w, oct_ids *out) {
    const oct_vocab *v = w->model->vocab;
    const size_t n = w->symbols.len;
    int32_t *ids = w->symbols.data;
    if (v->n_ranks == 0) {
        for (size_t i = 0; i < n; i++) oct_ids_push(out, ids[i]);
        return !out->failed;
    }
    if (!long_setup(w, n)) return false;
    for (uint32_t i = 0; i + 1 < n && !w->failed; i++) wait_for(w, i);
    while (w->n_ranks && !w->failed) {
        const uint32_t rank = w->ranks[0], pos = take(w, rank);
        const uint32_t right = ids[pos] < 0 ? NONE : w->next[pos];
        const oct_pair *p = right == NONE ? NULL : oct_vocab_pair(v, ids[pos], ids[right]);
        if (!p || p->rank != rank) continue; /* stale */
        ids[pos] = p->id;
        ids[right] = -1;
        w->next[pos] = w->next[right];
        if (w->next[pos] != NONE) w->prev[w->next[pos]] = pos;
        if (w->prev[pos] != NONE) wait_for(w, w->prev[pos]);
        if (w->next[pos] != NONE) wait_for(w, pos);
    }
    for (uint32_t i = 0; i != NONE && !w->failed; i = w->next[i]) oct_ids_push(out, ids[i]);
    return !w->failed && !out->failed;
}

/* ---- symbols ---- */

static void push_unknown(oct_bpe_worker *w, bool after_unknown) {
    if (w->model->unk_id < 0 || (w->model->fuse_unk && after_unknown)) return;
    oct_ids_push(&w->symbols, w->model->unk_id);
}

static bool fall_back(oct_bpe_worker *w, const uint8_t *s, unsigned n) {
    if (!w->model->byte_fallback) return false;
    for (unsigned i = 0; i < n; i++)
        if (w->model->byte_id[s[i]] < 0) return false;
    for (unsigned i = 0; i < n; i++) oct_ids_push(&w->symbols, w->model->byte_id[s[i]]);
    return true;
}

static bool split_symbols(oct_bpe_worker *w, oct_str piece) {
    const oct_bpe_model *m = w->model;
    const uint8_t *s = (const uint8_t *)piece.ptr;
    bool unknown = false;
    unsigned n = 1;
    oct_ids_clear(&w->symbols);
    if (!oct_ids_reserve(&w->symbols, piece.len)) return false;
    for (size_t i = 0; i < piece.len; i += n) {
        int32_t id = -1;
        if (m->byte_level) {
            id = m->byte_id[s[i]];
        } else {
            (void)oct_unicode_at(s, i, &n);
            id = oct_vocab_by_spell(m->vocab, s + i, n);
        }
        if (id >= 0) {
            oct_ids_push(&w->symbols, id);
        } else if (m->byte_level || !fall_back(w, s + i, n)) {
            push_unknown(w, unknown);
            unknown = true;
            continue;
        }
        unknown = false;
    }
    return !w->symbols.failed;
}

static bool merge_all(oct_bpe_worker *w, oct_str piece, oct_ids *out) {
    if (!split_symbols(w, piece)) return false;
    if (w->symbols.len > SHORT) return merge_long(w, out);
    const size_t n = merge_short(w->model->vocab, w->symbols.data, w->symbols.len);
    if (!oct_ids_reserve(out, n)) return false;
    for (size_t i = 0; i < n; i++) oct_ids_push(out, w->symbols.data[i]);
    return true;
}

bool oct_bpe_piece(oct_bpe_worker *w, oct_str piece, oct_ids *out) {
    const oct_bpe_model *m = w->model;
    const int32_t id = oct_vocab_by_spell(m->vocab, piece.ptr, piece.len);
    if (id < 0) return merge_all(w, piece, out);
    _Atomic uint8_t *whole = &m->vocab->entries[id].whole;
    uint8_t known = atomic_load_explicit(whole, memory_order_relaxed);
    if (m->ignore_merges || known == OCT_WHOLE_YES) {
        oct_ids_push(out, id);
        return !out->failed;
    }
    const size_t before = out->len;
    if (!merge_all(w, piece, out)) return false;
    if (known == OCT_WHOLE_UNKNOWN) {
        known = out->len == before + 1 && out->data[before] == id ? OCT_WHOLE_YES : OCT_WHOLE_NO;
        atomic_store_explicit(whole, known, memory_order_relaxed);
    }
    return true;
}
