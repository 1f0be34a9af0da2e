/*
 * grammar/compiled.c - masks: the vocabulary's tree is walked beside the program.
 *
 * A walk goes through nodes in order; the set that a node leads to lies in path at its depth, and a
 * node that leads nowhere is skipped with all that is below it.
 */
#include "grammar/compiled.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

const uint32_t oct_share_bytes[OCT_SHARE_LAYERS - 1] = {6, 10, 16, 32};

/* ---- what a state can show ---- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

/* Where a state ends or calls, exactly: a call leads into the same rule and back to the same state.
 */
static uint64_t behaviour_at_once(const oct_program *p, uint32_t state) {
    uint64_t h = mix(UINT64_C(0x9E3779B97F4A7C15), p->ends[state]);
    for (uint32_t i = p->call_at[state]; i < p->call_at[state + 1]; i++)
        h = mix(mix(h, p->calls[i].to), p->calls[i].back + (uint64_t)1);
    return h;
}

/* One byte more than `before` says. */
static void behaviour_of_more(const oct_program *p, const uint64_t *at_once, const uint64_t *before,
                              uint64_t *out) {
    for (uint32_t s = 0; s < p->n_states; s++) {
        uint64_t h = at_once[s];
        for (uint32_t i = p->move_at[s]; i < p->move_at[s + 1]; i++)
            h = mix(mix(h, (uint64_t)p->moves[i].lo << 8 | p->moves[i].hi), before[p->moves[i].to]);
        out[s] = h;
    }
}

/* False: no memory. A program that is too large for this has a behaviour for each state. */
static bool find_behaviour(oct_grammar *g) {
    enum { MOST_MOVES = 200000 };
    const oct_program *p = g->program;
    const size_t n = p->n_states;
    g->behaviour = oct_alloc(g->mem, n, (OCT_SHARE_LAYERS - 1) * sizeof *g->behaviour);
    uint64_t *work = oct_alloc(g->mem, n, 3 * sizeof *work);
    if (!g->behaviour || !work) {
        oct_free(g->mem, work, work ? n : 0, 3 * sizeof *work);
        return false;
    }
    uint64_t *at_once = work, *now = work + n, *next = work + 2 * n;
    for (uint32_t s = 0; s < n; s++) at_once[s] = now[s] = behaviour_at_once(p, s);
    const bool large = p->move_at[n] > MOST_MOVES;
    for (uint32_t layer = 0, bytes = 0; layer < OCT_SHARE_LAYERS - 1; layer++) {
        for (; bytes < oct_share_bytes[layer] && !large; bytes++) {
            behaviour_of_more(p, at_once, now, next);
            uint64_t *other = now;
            now = next;
            next = other;
        }
        for (uint32_t s = 0; s < n; s++) g->behaviour[layer * n + s] = large ? s : now[s];
    }
    oct_free(g->mem, work, n, 3 * sizeof *work);
    return true;
}

/* ---- spaces ---- */

static oct_status new_space(oct_grammar *g) {
    oct_shared_space *s = oct_calloc(g->mem, 1, sizeof *s);
    if (!s) return OCT_E_NOMEM;
    const oct_status st = oct_space_create(g->mem, g->program, OCT_SPACE_HARD_BYTES, &s->space);
    if (st != OCT_OK) {
        oct_free(g->mem, s, 1, sizeof *s);
        return st;
    }
    s->n_users = 1; /* the grammar */
    g->space = s;
    return OCT_OK;
}

static void leave_space(oct_grammar *g, oct_shared_space *s) {
    if (!s || --s->n_users > 0) return;
    oct_space_destroy(s->space);
    oct_free(g->mem, s, 1, sizeof *s);
}

/* ---- life ---- */

oct_status oct_compiled_create(const oct_allocator *mem, oct_program *program,
                               oct_grammar_vocab *vocab, oct_grammar **out) {
    *out = NULL;
    oct_grammar *g = oct_calloc(mem, 1, sizeof *g);
    if (!g) {
        oct_program_destroy(program);
        return OCT_E_NOMEM;
    }
    g->mem = mem;
    g->program = program;
    g->vocab = oct_grammar_vocab_ref(vocab);
    g->n_words = (vocab->n_ids + 31) / 32;
    atomic_init(&g->n_refs, 1);
    pthread_mutex_init(&g->lock, NULL);
    g->path = oct_alloc(mem, (size_t)vocab->max_depth + 1, sizeof *g->path);
    if (!g->path || !find_behaviour(g) || new_space(g) != OCT_OK) {
        oct_grammar_unref(g);
        return OCT_E_NOMEM;
    }
    *out = g;
    return OCT_OK;
}

oct_grammar *oct_grammar_ref(oct_grammar *g) {
    if (g) atomic_fetch_add(&g->n_refs, 1);
    return g;
}

static size_t share_bytes(const oct_grammar *g, const oct_share *s) {
    return sizeof *s + (s->bits ? g->n_words * sizeof *s->bits : 0) +
           ((size_t)s->n_ids + s->cap_nodes) * sizeof(uint32_t);
}

static void share_free(oct_grammar *g, oct_share *s) {
    if (!s) return;
    oct_free(g->mem, s->bits, s->bits ? g->n_words : 0, sizeof *s->bits);
    oct_free(g->mem, s->ids, s->n_ids, sizeof *s->ids);
    oct_free(g->mem, s->nodes, s->cap_nodes, sizeof *s->nodes);
    oct_free(g->mem, s, 1, sizeof *s);
}

static void forget_shares(oct_grammar *g) {
    for (size_t i = 0; i < g->n_slots; i++) {
        share_free(g, g->shares[i]);
        g->shares[i] = NULL;
    }
    g->share_bytes = g->n_shares = 0;
}

void oct_grammar_unref(oct_grammar *g) {
    if (!g || atomic_fetch_sub(&g->n_refs, 1) != 1) return;
    forget_shares(g);
    oct_free(g->mem, g->shares, g->n_slots, sizeof(oct_share *));
    oct_free(g->mem, g->behaviour, g->behaviour ? g->program->n_states : 0,
             (OCT_SHARE_LAYERS - 1) * sizeof *g->behaviour);
    oct_free(g->mem, g->path, (size_t)g->vocab->max_depth + 1, sizeof *g->path);
    leave_space(g, g->space);
    oct_free(g->mem, g->key, g->key ? g->n_key + 1 : 0, 1);
    oct_program_destroy(g->program);
    oct_grammar_vocab_unref(g->vocab);
    pthread_mutex_destroy(&g->lock);
    oct_free(g->mem, g, 1, sizeof *g);
}

uint32_t oct_grammar_n_ids(const oct_grammar *g) { return g->vocab->n_ids; }

uint32_t oct_grammar_n_states(const oct_grammar *g) { return g->program->n_states; }

static void note_bytes(oct_grammar *g) {
    atomic_store(&g->bytes, sizeof *g + g->n_key + g->program->bytes +
                                g->n_slots * sizeof(oct_share *) +
                                g->program->n_states * (OCT_SHARE_LAYERS - 1) * sizeof(uint64_t) +
                                g->vocab->max_depth * sizeof(uint32_t) + g->share_bytes +
                                oct_space_bytes(g->space->space));
}

/* ---- walks ---- */

static void set_bit(uint32_t *words, uint32_t id) { words[id / 32] |= UINT32_C(1) << (id % 32); }

/* Sets the bits of all tokens below node that lead on from set. */
static void walk_bits(oct_grammar *g, oct_space *s, uint32_t node, uint32_t set, uint32_t *words) {
    const oct_grammar_vocab *v = g->vocab;
    const uint32_t end = v->skip[node];
    g->path[v->depth[node]] = set;
    for (uint32_t i = node + 1; i < end;) {
        const uint32_t to = oct_space_step(s, g->path[v->depth[i] - 1], v->byte[i]);
        if (to == OCT_SET_NONE) {
            i = v->skip[i];
            continue;
        }
        g->path[v->depth[i]] = to;
        for (uint32_t k = v->token_at[i]; k < v->token_at[i + 1]; k++)
            set_bit(words, (uint32_t)v->tokens[k]);
        i++;
    }
}

static bool add_node(oct_grammar *g, oct_share *x, uint32_t node) {
    if (x->n_nodes == x->cap_nodes) {
        const uint32_t cap = x->cap_nodes ? x->cap_nodes * 2 : 16;
        void *p = oct_grow(g->mem, x->nodes, x->cap_nodes, cap, sizeof *x->nodes);
        if (!p) return false;
        x->nodes = p;
        x->cap_nodes = cap;
    }
    x->nodes[x->n_nodes++] = node;
    return true;
}

/* The same from the root into x, of tokens longer than `over` and at most `most` bytes, with the
 * nodes of such depth where the unknown caller goes on. */
static bool walk_share(oct_grammar *g, oct_space *s, uint32_t set, uint32_t over, uint32_t most,
                       oct_share *x) {
    const oct_grammar_vocab *v = g->vocab;
    g->path[0] = set;
    for (uint32_t i = 1; i < v->n_nodes;) {
        const uint32_t depth = v->depth[i];
        const uint32_t to =
            v->reach[i] > over ? oct_space_step(s, g->path[depth - 1], v->byte[i]) : OCT_SET_NONE;
        if (to == OCT_SET_NONE) {
            i = v->skip[i];
            continue;
        }
        g->path[depth] = to;
        if (depth > over) {
            for (uint32_t k = v->token_at[i]; k < v->token_at[i + 1]; k++)
                set_bit(x->bits, (uint32_t)v->tokens[k]);
            x->n_ids += v->token_at[i + 1] - v->token_at[i];
            if (oct_space_set(s, to)->at_unknown && v->skip[i] > i + 1 && !add_node(g, x, i))
                return false;
        }
        i = depth == most ? v->skip[i] : i + 1;
    }
    return s->status == OCT_OK;
}

/* A few tokens are kept as a list. */
static bool settle_share(oct_grammar *g, oct_share *x) {
    const uint32_t n = x->n_ids;
    x->n_ids = 0;
    if (n > g->n_words) return true;
    x->ids = oct_alloc(g->mem, n, sizeof *x->ids);
    if (!x->ids) return false;
    for (uint32_t w = 0; w < g->n_words; w++)
        for (uint32_t left = x->bits[w]; left; left &= left - 1)
            x->ids[x->n_ids++] = w * 32 + (uint32_t)__builtin_ctz(left);
    OCT_ASSERT(x->n_ids == n);
    oct_free(g->mem, x->bits, g->n_words, sizeof *x->bits);
    x->bits = NULL;
    return true;
}

/* NULL: no memory, or the space failed. */
static oct_share *make_share(oct_grammar *g, oct_space *s, uint32_t state, oct_share_key key) {
    const uint32_t over = key.layer > 0 ? oct_share_bytes[key.layer - 1] : 0;
    const uint32_t most =
        key.layer < OCT_SHARE_LAYERS - 1 ? oct_share_bytes[key.layer] : g->vocab->max_depth;
    const uint32_t set = oct_space_at(s, state, OCT_CHAIN_UNKNOWN);
    oct_share *x = s->status == OCT_OK ? oct_calloc(g->mem, 1, sizeof *x) : NULL;
    if (!x) return NULL;
    x->key = key;
    x->bits = oct_calloc(g->mem, g->n_words, sizeof *x->bits);
    if (x->bits && walk_share(g, s, set, over, most, x) && settle_share(g, x)) return x;
    x->n_ids = x->ids ? x->n_ids : 0;
    share_free(g, x);
    return NULL;
}

static bool grow_slots(oct_grammar *g) {
    const size_t n = g->n_slots ? g->n_slots * 2 : 64;
    oct_share **slots = oct_calloc(g->mem, n, sizeof(oct_share *));
    if (!slots) return false;
    for (size_t k = 0; k < g->n_slots; k++) {
        if (!g->shares[k]) continue;
        size_t i = mix(g->shares[k]->key.behaviour, g->shares[k]->key.layer) & (n - 1);
        while (slots[i]) i = (i + 1) & (n - 1);
        slots[i] = g->shares[k];
    }
    oct_free(g->mem, g->shares, g->n_slots, sizeof(oct_share *));
    g->shares = slots;
    g->n_slots = n;
    return true;
}

static const oct_share *share_of(oct_grammar *g, oct_space *s, uint32_t state, uint32_t layer) {
    const oct_share_key key = {layer < OCT_SHARE_LAYERS - 1
                                   ? g->behaviour[layer * (size_t)g->program->n_states + state]
                                   : state,
                               layer};
    if (g->share_bytes > OCT_SHARES_MAX_BYTES) forget_shares(g);
    if (g->n_shares * 2 >= g->n_slots && !grow_slots(g)) return NULL;
    size_t i = mix(key.behaviour, key.layer) & (g->n_slots - 1);
    for (; g->shares[i]; i = (i + 1) & (g->n_slots - 1))
        if (g->shares[i]->key.behaviour == key.behaviour && g->shares[i]->key.layer == layer)
            return g->shares[i];
    oct_share *x = make_share(g, s, state, key);
    if (!x) return NULL;
    g->shares[i] = x;
    g->n_shares++;
    g->share_bytes += share_bytes(g, x);
    return x;
}

static oct_status why(const oct_space *s) { return s->status != OCT_OK ? s->status : OCT_E_NOMEM; }

/* One layer of a state's share, and what follows behind the ends of its rule. */
static oct_status add_layer(oct_grammar *g, oct_space *s, oct_place at, uint32_t layer,
                            uint32_t *words) {
    const oct_share *x = share_of(g, s, at.state, layer);
    if (!x) return why(s);
    for (uint32_t i = 0; x->bits && i < g->n_words; i++) words[i] |= x->bits[i];
    for (uint32_t i = 0; i < x->n_ids; i++) set_bit(words, x->ids[i]);
    if (at.chain <= OCT_CHAIN_UNKNOWN || x->n_nodes == 0) return OCT_OK;
    const uint32_t back = oct_space_return(s, at.chain);
    if (back == OCT_SET_NONE) return s->status;
    for (uint32_t i = 0; i < x->n_nodes && s->status == OCT_OK; i++)
        walk_bits(g, s, x->nodes[i], back, words);
    return s->status;
}

static oct_status add_place(oct_grammar *g, oct_space *s, oct_place at, uint32_t *words) {
    for (uint32_t layer = 0; layer < OCT_SHARE_LAYERS; layer++)
        OCT_TRY(add_layer(g, s, at, layer, words));
    return OCT_OK;
}

/* A state that reads many different bytes has a large share. */
static uint32_t n_bytes_of(const oct_program *p, uint32_t state) {
    uint32_t n = 0;
    for (uint32_t i = p->move_at[state]; i < p->move_at[state + 1]; i++)
        n += p->moves[i].hi - p->moves[i].lo + 1u;
    return n;
}

void oct_compiled_warm(oct_grammar *g, uint64_t most_ns) {
    const uint64_t begin = oct_now_ns();
    const uint32_t many = 48;
    oct_space *s = g->space->space;
    pthread_mutex_lock(&g->lock);
    for (uint32_t state = 0; state < g->program->n_states && s->status == OCT_OK; state++) {
        if (n_bytes_of(g->program, state) < many) continue;
        if (oct_now_ns() - begin > most_ns || g->share_bytes > OCT_SHARES_MAX_BYTES) break;
        for (uint32_t layer = 0; layer < OCT_SHARE_LAYERS; layer++)
            if (!share_of(g, s, state, layer)) break;
    }
    note_bytes(g);
    pthread_mutex_unlock(&g->lock);
}

/* ---- runs ---- */

struct oct_grammar_run {
    const oct_allocator *mem;
    oct_grammar *grammar;
    oct_shared_space *space;
    uint32_t set;
    bool may_end, must_end;
};

static void settle(oct_grammar_run *r, uint32_t set) {
    const oct_set *x = oct_space_set(r->space->space, set);
    r->set = set;
    r->may_end = x->at_end;
    r->must_end = x->at_end && x->n == 0;
}

/* A space that has failed or grown is left: what is known of it would have to be found again, but
 * memory ends somewhere. With the lock held. */
static oct_status freshen(oct_grammar_run *r) {
    oct_grammar *g = r->grammar;
    oct_space *newest = g->space->space;
    if (newest->status != OCT_OK || oct_space_bytes(newest) > OCT_SPACE_SOFT_BYTES) {
        oct_shared_space *old = g->space;
        const oct_status st = new_space(g);
        if (st != OCT_OK) return st;
        leave_space(g, old);
    }
    if (r->space == g->space) return OCT_OK;
    const uint32_t set = oct_space_adopt(g->space->space, r->space->space, r->set);
    if (g->space->space->status != OCT_OK) return g->space->space->status;
    leave_space(g, r->space);
    r->space = g->space;
    r->space->n_users++;
    r->set = set;
    return OCT_OK;
}

static oct_status start(oct_grammar_run *r) {
    const uint32_t set = oct_space_start(r->space->space);
    if (r->space->space->status != OCT_OK) return r->space->space->status;
    settle(r, set);
    return OCT_OK;
}

oct_status oct_grammar_run_create(const oct_allocator *mem, oct_grammar *g, oct_grammar_run **out) {
    *out = NULL;
    oct_grammar_run *r = oct_calloc(mem, 1, sizeof *r);
    if (!r) return OCT_E_NOMEM;
    r->mem = mem;
    r->grammar = oct_grammar_ref(g);
    pthread_mutex_lock(&g->lock);
    r->space = g->space;
    r->space->n_users++;
    oct_status st = freshen(r);
    if (st == OCT_OK) st = start(r);
    pthread_mutex_unlock(&g->lock);
    if (st != OCT_OK) {
        oct_grammar_run_destroy(r);
        return st;
    }
    *out = r;
    return OCT_OK;
}

void oct_grammar_run_destroy(oct_grammar_run *r) {
    if (!r) return;
    pthread_mutex_lock(&r->grammar->lock);
    leave_space(r->grammar, r->space);
    pthread_mutex_unlock(&r->grammar->lock);
    oct_grammar_unref(r->grammar);
    oct_free(r->mem, r, 1, sizeof *r);
}

oct_status oct_grammar_run_reset(oct_grammar_run *r) {
    pthread_mutex_lock(&r->grammar->lock);
    oct_status st = freshen(r);
    if (st == OCT_OK) st = start(r);
    pthread_mutex_unlock(&r->grammar->lock);
    return st;
}

oct_status oct_grammar_run_bytes(oct_grammar_run *r, oct_str bytes, bool *fits) {
    *fits = false;
    pthread_mutex_lock(&r->grammar->lock);
    oct_status st = freshen(r);
    uint32_t set = r->set;
    for (size_t i = 0; i < bytes.len && st == OCT_OK; i++) {
        set = oct_space_step(r->space->space, set, (uint8_t)bytes.ptr[i]);
        st = r->space->space->status;
    }
    if (st == OCT_OK && set != OCT_SET_NONE) {
        *fits = true;
        settle(r, set);
    }
    pthread_mutex_unlock(&r->grammar->lock);
    return st;
}

oct_status oct_grammar_run_token(oct_grammar_run *r, int32_t id, bool *fits) {
    const oct_grammar_vocab *v = r->grammar->vocab;
    const oct_str bytes = oct_tokenizer_token_bytes(v->tokenizer, id);
    *fits = false;
    if (bytes.len == 0 || oct_tokenizer_is_special(v->tokenizer, id)) return OCT_OK;
    return oct_grammar_run_bytes(r, bytes, fits);
}

oct_status oct_grammar_run_mask(oct_grammar_run *r, uint32_t *words) {
    oct_grammar *g = r->grammar;
    memset(words, 0, g->n_words * sizeof *words);
    pthread_mutex_lock(&g->lock);
    oct_status st = freshen(r);
    if (st == OCT_OK) {
        oct_space *s = r->space->space;
        const oct_set at = *oct_space_set(s, r->set); /* its places stay where they are */
        for (uint32_t i = 0; i < at.n && st == OCT_OK; i++)
            st = add_place(g, s, at.places[i], words);
        note_bytes(g);
    }
    pthread_mutex_unlock(&g->lock);
    return st;
}

bool oct_grammar_run_may_end(const oct_grammar_run *r) { return r->may_end; }
bool oct_grammar_run_must_end(const oct_grammar_run *r) { return r->must_end; }
