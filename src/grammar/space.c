/* grammar/space.c - sets of places, found by hash; closures with a list of their own. */
#include "grammar/space.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { MAX_VISITED = OCT_SET_MAX_PLACES * 4 };

static uint32_t fail(oct_space *s, oct_status why) {
    if (s->status == OCT_OK) s->status = why;
    return OCT_SET_NONE;
}

size_t oct_space_bytes(const oct_space *s) {
    return s->arena.used_bytes + s->cap_sets * sizeof *s->sets + s->cap_chains * sizeof *s->chains +
           (s->n_set_slots + s->n_chain_slots) * sizeof(uint32_t);
}

static bool has_room(oct_space *s) {
    if (oct_space_bytes(s) <= s->limit_bytes) return true;
    (void)fail(s, OCT_E_FULL);
    return false;
}

/* ---- chains ---- */

static uint32_t mix(uint64_t h) {
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t chain_hash(uint32_t back, uint32_t below) {
    return mix(((uint64_t)back << 32 | below) + UINT64_C(0x9E3779B97F4A7C15));
}

static bool grow_chains(oct_space *s) {
    const size_t n = s->n_chain_slots ? s->n_chain_slots * 2 : 64;
    uint32_t *slots = oct_calloc(s->mem, n, sizeof *slots);
    oct_chain *chains =
        slots ? oct_grow(s->mem, s->chains, s->cap_chains, n, sizeof *chains) : NULL;
    if (!chains) {
        oct_free(s->mem, slots, slots ? n : 0, sizeof *slots);
        (void)fail(s, OCT_E_NOMEM);
        return false;
    }
    s->chains = chains;
    s->cap_chains = n;
    for (size_t k = 2; k < s->n_chains; k++) {
        size_t i = chain_hash(chains[k].back, chains[k].below) & (n - 1);
        while (slots[i]) i = (i + 1) & (n - 1);
        slots[i] = (uint32_t)k + 1;
    }
    oct_free(s->mem, s->chain_slots, s->n_chain_slots, sizeof *slots);
    s->chain_slots = slots;
    s->n_chain_slots = n;
    return true;
}

/* The chain `back` on top of `below`; OCT_CHAIN_END when it fails. */
static uint32_t chain_of(oct_space *s, uint32_t back, uint32_t below) {
    if (s->n_chains * 2 >= s->n_chain_slots && !grow_chains(s)) return OCT_CHAIN_END;
    size_t i = chain_hash(back, below) & (s->n_chain_slots - 1);
    for (; s->chain_slots[i]; i = (i + 1) & (s->n_chain_slots - 1)) {
        const oct_chain *c = &s->chains[s->chain_slots[i] - 1];
        if (c->back == back && c->below == below) return s->chain_slots[i] - 1;
    }
    s->chains[s->n_chains] = (oct_chain){back, below, s->chains[below].depth + 1};
    s->chain_slots[i] = (uint32_t)++s->n_chains;
    return (uint32_t)s->n_chains - 1;
}

/* ---- sets ---- */

static uint32_t set_hash(const oct_place *p, uint32_t n, bool at_end, bool at_unknown) {
    uint64_t h = (uint64_t)at_end << 1 | (uint64_t)at_unknown;
    for (uint32_t i = 0; i < n; i++)
        h = mix(h + ((uint64_t)p[i].state << 32 | p[i].chain)) + (h << 7);
    return mix(h);
}

static bool grow_sets(oct_space *s) {
    const size_t n = s->n_set_slots ? s->n_set_slots * 2 : 64;
    uint32_t *slots = oct_calloc(s->mem, n, sizeof *slots);
    oct_set *sets = slots ? oct_grow(s->mem, s->sets, s->cap_sets, n, sizeof *sets) : NULL;
    if (!sets) {
        oct_free(s->mem, slots, slots ? n : 0, sizeof *slots);
        (void)fail(s, OCT_E_NOMEM);
        return false;
    }
    s->sets = sets;
    s->cap_sets = n;
    for (size_t k = 1; k < s->n_sets; k++) {
        size_t i =
            set_hash(sets[k].places, sets[k].n, sets[k].at_end, sets[k].at_unknown) & (n - 1);
        while (slots[i]) i = (i + 1) & (n - 1);
        slots[i] = (uint32_t)k + 1;
    }
    oct_free(s->mem, s->set_slots, s->n_set_slots, sizeof *slots);
    s->set_slots = slots;
    s->n_set_slots = n;
    return true;
}

static uint32_t find_set(oct_space *s, const oct_place *p, uint32_t n, bool at_end,
                         bool at_unknown) {
    if (n == 0 && !at_end && !at_unknown) return OCT_SET_NONE;
    if (s->n_sets * 2 >= s->n_set_slots && !grow_sets(s)) return OCT_SET_NONE;
    size_t i = set_hash(p, n, at_end, at_unknown) & (s->n_set_slots - 1);
    for (; s->set_slots[i]; i = (i + 1) & (s->n_set_slots - 1)) {
        const oct_set *x = &s->sets[s->set_slots[i] - 1];
        if (x->n == n && x->at_end == at_end && x->at_unknown == at_unknown &&
            (n == 0 || memcmp(x->places, p, n * sizeof *p) == 0))
            return s->set_slots[i] - 1;
    }
    if (!has_room(s)) return OCT_SET_NONE;
    oct_place *copy = oct_arena_alloc(&s->arena, n, sizeof *copy);
    if (!copy) return fail(s, OCT_E_NOMEM);
    if (n > 0) memcpy(copy, p, n * sizeof *p);
    s->sets[s->n_sets] =
        (oct_set){.places = copy, .n = n, .at_end = at_end, .at_unknown = at_unknown};
    s->set_slots[i] = (uint32_t)++s->n_sets;
    return (uint32_t)s->n_sets - 1;
}

static int by_place(const void *a, const void *b) {
    const oct_place *x = a, *y = b;
    if (x->state != y->state) return x->state < y->state ? -1 : 1;
    return (x->chain > y->chain) - (x->chain < y->chain);
}

/* ---- closures: s->scratch holds what was visited ---- */

static void visit(oct_space *s, uint32_t state, uint32_t chain) {
    for (uint32_t i = 0; i < s->n_scratch; i++)
        if (s->scratch[i].state == state && s->scratch[i].chain == chain) return;
    if (s->n_scratch == MAX_VISITED) {
        (void)fail(s, OCT_E_FULL);
        return;
    }
    s->scratch[s->n_scratch++] = (oct_place){state, chain};
}

/* Follows calls and ends of what was visited, and gives the set. */
static uint32_t close_set(oct_space *s) {
    const oct_program *p = s->program;
    bool at_end = false, at_unknown = false;
    for (uint32_t i = 0; i < s->n_scratch && s->status == OCT_OK; i++) {
        const oct_place at = s->scratch[i];
        if (p->ends[at.state]) {
            if (at.chain == OCT_CHAIN_END)
                at_end = true;
            else if (at.chain == OCT_CHAIN_UNKNOWN)
                at_unknown = true;
            else
                visit(s, s->chains[at.chain].back, s->chains[at.chain].below);
        }
        for (uint32_t k = p->call_at[at.state]; k < p->call_at[at.state + 1]; k++) {
            const oct_call *c = &p->calls[k];
            if (c->is_last)
                visit(s, c->to, at.chain);
            else if (s->chains[at.chain].depth < OCT_CHAIN_MAX_DEPTH)
                visit(s, c->to, chain_of(s, c->back, at.chain));
        }
    }
    if (s->status != OCT_OK) return OCT_SET_NONE;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_scratch; i++)
        if (p->move_at[s->scratch[i].state] < p->move_at[s->scratch[i].state + 1])
            s->scratch[n++] = s->scratch[i];
    if (n > OCT_SET_MAX_PLACES) return fail(s, OCT_E_FULL);
    if (n > 1) qsort(s->scratch, n, sizeof *s->scratch, by_place);
    return find_set(s, s->scratch, n, at_end, at_unknown);
}

uint32_t oct_space_start(oct_space *s) {
    s->n_scratch = 0;
    visit(s, s->program->root, OCT_CHAIN_END);
    return close_set(s);
}

uint32_t oct_space_at(oct_space *s, uint32_t state, uint32_t chain) {
    const oct_place p = {state, chain};
    return find_set(s, &p, 1, false, false);
}

uint32_t oct_space_return(oct_space *s, uint32_t chain) {
    OCT_ASSERT(chain > OCT_CHAIN_UNKNOWN);
    s->n_scratch = 0;
    visit(s, s->chains[chain].back, s->chains[chain].below);
    return close_set(s);
}

uint32_t oct_space_step(oct_space *s, uint32_t set, uint8_t c) {
    const uint32_t class = s->program->class_of[c];
    if (s->status != OCT_OK || set == OCT_SET_NONE) return OCT_SET_NONE;
    uint32_t *next = s->sets[set].next;
    if (!next) {
        if (s->sets[set].n == 0) return OCT_SET_NONE;
        if (!has_room(s)) return OCT_SET_NONE;
        next = oct_arena_alloc(&s->arena, s->program->n_classes, sizeof *next);
        if (!next) return fail(s, OCT_E_NOMEM);
        s->sets[set].next = next;
    }
    if (next[class]) return next[class] - 1;
    const oct_set from = s->sets[set];
    s->n_scratch = 0;
    for (uint32_t i = 0; i < from.n; i++) {
        const uint32_t to = oct_program_move(s->program, from.places[i].state, c);
        if (to != UINT32_MAX) visit(s, to, from.places[i].chain);
    }
    const uint32_t found = close_set(s);
    if (s->status != OCT_OK) return OCT_SET_NONE;
    next[class] = found + 1;
    return found;
}

/* ---- from another space ---- */

static uint32_t adopt_chain(oct_space *s, const oct_space *from, uint32_t chain) {
    uint32_t backs[OCT_CHAIN_MAX_DEPTH + 1], n = 0;
    for (; chain > OCT_CHAIN_UNKNOWN; chain = from->chains[chain].below)
        backs[n++] = from->chains[chain].back;
    while (n > 0) chain = chain_of(s, backs[--n], chain);
    return chain;
}

uint32_t oct_space_adopt(oct_space *s, const oct_space *from, uint32_t set) {
    const oct_set *x = &from->sets[set];
    for (uint32_t i = 0; i < x->n; i++)
        s->scratch[i] = (oct_place){x->places[i].state, adopt_chain(s, from, x->places[i].chain)};
    if (s->status != OCT_OK) return OCT_SET_NONE;
    if (x->n > 1) qsort(s->scratch, x->n, sizeof *s->scratch, by_place);
    return find_set(s, s->scratch, x->n, x->at_end, x->at_unknown);
}

/* ---- life ---- */

oct_status oct_space_create(const oct_allocator *mem, const oct_program *program,
                            size_t limit_bytes, oct_space **out) {
    *out = NULL;
    oct_space *s = oct_calloc(mem, 1, sizeof *s);
    if (!s) return OCT_E_NOMEM;
    s->mem = mem;
    s->program = program;
    s->limit_bytes = limit_bytes;
    oct_arena_init(&s->arena, mem, 0);
    s->scratch = oct_alloc(mem, MAX_VISITED, sizeof *s->scratch);
    if (!s->scratch || !grow_sets(s) || !grow_chains(s)) {
        oct_space_destroy(s);
        return OCT_E_NOMEM;
    }
    s->sets[OCT_SET_NONE] = (oct_set){0};
    s->n_sets = 1;
    s->chains[OCT_CHAIN_END] = s->chains[OCT_CHAIN_UNKNOWN] = (oct_chain){0};
    s->n_chains = 2;
    *out = s;
    return OCT_OK;
}

void oct_space_destroy(oct_space *s) {
    if (!s) return;
    oct_free(s->mem, s->sets, s->cap_sets, sizeof *s->sets);
    oct_free(s->mem, s->chains, s->cap_chains, sizeof *s->chains);
    oct_free(s->mem, s->set_slots, s->n_set_slots, sizeof *s->set_slots);
    oct_free(s->mem, s->chain_slots, s->n_chain_slots, sizeof *s->chain_slots);
    oct_free(s->mem, s->scratch, MAX_VISITED, sizeof *s->scratch);
    oct_arena_fini(&s->arena);
    oct_free(s->mem, s, 1, sizeof *s);
}
