/*
 * grammar/program.c - subset construction, a rule at a time, within a number of states and steps.
 *
 * A set of the builder's states is kept without those that only have empty edges. Sets are found
 * again by a hash; one set is one state of the program, whichever rule it belongs to.
 */
#include "grammar/program.h"

#include <stdlib.h>
#include <string.h>

typedef struct made_move {
    uint32_t from;
    oct_move move;
} made_move;

typedef struct made_call {
    uint32_t from, rule, back;
} made_call;

typedef struct list {
    uint32_t *data;
    size_t n, cap;
} list;

typedef struct maker {
    oct_build *b;
    const oct_allocator *mem;
    oct_err *err;
    uint64_t n_steps;
    /* The builder's edges by state. */
    uint32_t *edge_at; /* [n_states + 1] */
    uint32_t *edge_of; /* [n_edges] */
    uint8_t *flags;    /* [n_states] */
    uint32_t *stamp;   /* [n_states] closure() that saw it last */
    uint32_t now;
    list todo, set, sources; /* scratch: states to visit, a closure, its beginnings */
    /* Sets. */
    list members;   /* of all sets, one after the other */
    list member_at; /* [n + 1] */
    uint32_t n_made;
    uint32_t *slots; /* hash: set + 1 */
    uint32_t n_slots;
    /* What was found. */
    made_move *moves;
    size_t n_moves, cap_moves;
    made_call *calls;
    size_t n_calls, cap_calls;
    uint32_t *start; /* [n_rules] set, or UINT32_MAX */
    list rules;      /* in use */
} maker;

enum { IS_KEPT = 1, IS_END = 2 };

static oct_status no_memory(maker *m) {
    return OCT_FAIL(m->err, OCT_E_NOMEM, "no memory for a grammar");
}

static bool push(maker *m, list *l, uint32_t v) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 256;
        void *p = oct_grow(m->mem, l->data, l->cap, cap, sizeof *l->data);
        if (!p) return false;
        l->data = p;
        l->cap = cap;
    }
    l->data[l->n++] = v;
    return true;
}

static void list_free(maker *m, list *l) { oct_free(m->mem, l->data, l->cap, sizeof *l->data); }

static oct_status step(maker *m, size_t n) {
    m->n_steps += n;
    if (m->n_steps <= OCT_PROGRAM_MAX_STEPS) return OCT_OK;
    return OCT_FAIL(m->err, OCT_E_INVALID, "takes too long to compile (want at most %d steps)",
                    OCT_PROGRAM_MAX_STEPS);
}

/* ---- edges by state ---- */

static oct_status index_edges(maker *m) {
    oct_build *b = m->b;
    m->edge_at = oct_calloc(m->mem, (size_t)b->n_states + 1, sizeof *m->edge_at);
    m->edge_of = oct_alloc(m->mem, b->n_edges, sizeof *m->edge_of);
    m->flags = oct_calloc(m->mem, b->n_states, 1);
    m->stamp = oct_calloc(m->mem, b->n_states, sizeof *m->stamp);
    m->start = oct_alloc(m->mem, b->n_rules, sizeof *m->start);
    if (!m->edge_at || !m->edge_of || !m->flags || !m->stamp || !m->start) return no_memory(m);
    memset(m->start, 0xFF, b->n_rules * sizeof *m->start);
    for (size_t i = 0; i < b->n_edges; i++) m->edge_at[b->edges[i].from + 1]++;
    for (uint32_t s = 0; s < b->n_states; s++) m->edge_at[s + 1] += m->edge_at[s];
    for (size_t i = b->n_edges; i-- > 0;) { /* fills each state's part from its end */
        const oct_edge *e = &b->edges[i];
        m->edge_of[--m->edge_at[e->from + 1]] = (uint32_t)i;
        if (e->kind != OCT_EDGE_EMPTY) m->flags[e->from] |= IS_KEPT;
    }
    /* edge_at[s + 1] is now where s begins. */
    memmove(m->edge_at, m->edge_at + 1, b->n_states * sizeof *m->edge_at);
    m->edge_at[b->n_states] = (uint32_t)b->n_edges;
    for (size_t r = 0; r < b->n_rules; r++)
        if (b->rules[r].defined) m->flags[b->rules[r].to] |= IS_KEPT | IS_END;
    return OCT_OK;
}

/* ---- sets ---- */

/* What can be reached from m->sources without a byte and without a call, ascending, into m->set. */
static oct_status closure(maker *m) {
    const oct_build *b = m->b;
    m->now++;
    m->todo.n = m->set.n = 0;
    for (size_t i = 0; i < m->sources.n; i++) {
        if (m->stamp[m->sources.data[i]] == m->now) continue;
        m->stamp[m->sources.data[i]] = m->now;
        if (!push(m, &m->todo, m->sources.data[i])) return no_memory(m);
    }
    while (m->todo.n > 0) {
        const uint32_t s = m->todo.data[--m->todo.n];
        if ((m->flags[s] & IS_KEPT) && !push(m, &m->set, s)) return no_memory(m);
        OCT_TRY(step(m, 1 + m->edge_at[s + 1] - m->edge_at[s]));
        for (uint32_t i = m->edge_at[s]; i < m->edge_at[s + 1]; i++) {
            const oct_edge *e = &b->edges[m->edge_of[i]];
            if (e->kind != OCT_EDGE_EMPTY || m->stamp[e->to] == m->now) continue;
            m->stamp[e->to] = m->now;
            if (!push(m, &m->todo, e->to)) return no_memory(m);
        }
    }
    return OCT_OK;
}

static int by_value(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t hash_of(const uint32_t *v, size_t n) {
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < n; i++) h = (h ^ v[i]) * UINT64_C(0xD6E8FEB86659FD93), h ^= h >> 29;
    return (uint32_t)(h ^ h >> 32);
}

static const uint32_t *members(const maker *m, uint32_t set, size_t *n) {
    *n = m->member_at.data[set + 1] - m->member_at.data[set];
    return m->members.data + m->member_at.data[set];
}

static oct_status grow_slots(maker *m) {
    const uint32_t n = m->n_slots ? m->n_slots * 2 : 1024;
    uint32_t *slots = oct_calloc(m->mem, n, sizeof *slots);
    if (!slots) return no_memory(m);
    for (uint32_t s = 0; s < m->n_made; s++) {
        size_t len;
        const uint32_t *v = members(m, s, &len);
        uint32_t i = hash_of(v, len) & (n - 1);
        while (slots[i]) i = (i + 1) & (n - 1);
        slots[i] = s + 1;
    }
    oct_free(m->mem, m->slots, m->n_slots, sizeof *m->slots);
    m->slots = slots;
    m->n_slots = n;
    return OCT_OK;
}

/* The number of the set that m->sources lead to. */
static oct_status find_set(maker *m, uint32_t *out) {
    OCT_TRY(closure(m));
    if (m->set.n > 1) qsort(m->set.data, m->set.n, sizeof *m->set.data, by_value);
    if (m->n_made * 2 >= m->n_slots) OCT_TRY(grow_slots(m));
    uint32_t i = hash_of(m->set.data, m->set.n) & (m->n_slots - 1);
    for (; m->slots[i]; i = (i + 1) & (m->n_slots - 1)) {
        size_t n;
        const uint32_t *v = members(m, m->slots[i] - 1, &n);
        if (n == m->set.n && (n == 0 || memcmp(v, m->set.data, n * sizeof *v) == 0)) {
            *out = m->slots[i] - 1;
            return OCT_OK;
        }
    }
    if (m->n_made >= OCT_PROGRAM_MAX_STATES)
        return OCT_FAIL(m->err, OCT_E_INVALID, "too large (want at most %d states)",
                        OCT_PROGRAM_MAX_STATES);
    for (size_t k = 0; k < m->set.n; k++)
        if (!push(m, &m->members, m->set.data[k])) return no_memory(m);
    if (!push(m, &m->member_at, (uint32_t)m->members.n)) return no_memory(m);
    m->slots[i] = ++m->n_made;
    *out = m->n_made - 1;
    return OCT_OK;
}

/* ---- what leads out of a set ---- */

static oct_status add_move(maker *m, uint32_t from, unsigned lo, unsigned hi, uint32_t to) {
    if (m->n_moves > 0) { /* neighbours that lead to one place are one */
        made_move *last = &m->moves[m->n_moves - 1];
        if (last->from == from && last->move.to == to && last->move.hi + 1u == lo) {
            last->move.hi = (uint8_t)hi;
            return OCT_OK;
        }
    }
    if (m->n_moves == m->cap_moves) {
        const size_t cap = m->cap_moves ? m->cap_moves * 2 : 256;
        void *p = oct_grow(m->mem, m->moves, m->cap_moves, cap, sizeof *m->moves);
        if (!p) return no_memory(m);
        m->moves = p;
        m->cap_moves = cap;
    }
    m->moves[m->n_moves++] = (made_move){from, {(uint8_t)lo, (uint8_t)hi, to}};
    return OCT_OK;
}

static oct_status add_call(maker *m, uint32_t from, uint32_t rule, uint32_t back) {
    if (m->n_calls == m->cap_calls) {
        const size_t cap = m->cap_calls ? m->cap_calls * 2 : 64;
        void *p = oct_grow(m->mem, m->calls, m->cap_calls, cap, sizeof *m->calls);
        if (!p) return no_memory(m);
        m->calls = p;
        m->cap_calls = cap;
    }
    m->calls[m->n_calls++] = (made_call){from, rule, back};
    return OCT_OK;
}

/* The bytes that a set reads: cut into spans that all its edges treat alike, each leads to a set.
 */
static oct_status spread(maker *m, uint32_t set, const list *edges) {
    const oct_build *b = m->b;
    bool begins[257] = {false};
    uint16_t span_of[257];
    unsigned los[257];
    size_t n_spans = 0, total = 0;
    if (edges->n == 1) {
        const oct_edge *e = &b->edges[edges->data[0]];
        uint32_t to;
        m->sources.n = 0;
        if (!push(m, &m->sources, e->to)) return no_memory(m);
        OCT_TRY(find_set(m, &to));
        return add_move(m, set, e->lo, e->hi, to);
    }
    for (size_t i = 0; i < edges->n; i++) {
        const oct_edge *e = &b->edges[edges->data[i]];
        begins[e->lo] = true;
        begins[e->hi + 1] = true;
    }
    for (unsigned c = 0; c < 257; c++) {
        if (begins[c]) los[n_spans++] = c;
        span_of[c] = (uint16_t)(n_spans > 0 ? n_spans - 1 : 0);
    }
    /* Counting sort of (edge, span). */
    uint32_t at[258] = {0};
    for (size_t i = 0; i < edges->n; i++) {
        const oct_edge *e = &b->edges[edges->data[i]];
        for (unsigned s = span_of[e->lo]; s <= span_of[e->hi]; s++) at[s + 1]++, total++;
    }
    OCT_TRY(step(m, total));
    uint32_t *targets = oct_alloc(m->mem, total, sizeof *targets);
    if (!targets) return no_memory(m);
    for (size_t s = 0; s < n_spans; s++) at[s + 1] += at[s];
    uint32_t fill[257];
    memcpy(fill, at, sizeof fill);
    for (size_t i = 0; i < edges->n; i++) {
        const oct_edge *e = &b->edges[edges->data[i]];
        for (unsigned s = span_of[e->lo]; s <= span_of[e->hi]; s++) targets[fill[s]++] = e->to;
    }
    oct_status st = OCT_OK;
    for (size_t s = 0; s < n_spans && st == OCT_OK; s++) {
        if (at[s + 1] == at[s]) continue;
        uint32_t to;
        m->sources.n = 0;
        for (uint32_t k = at[s]; k < at[s + 1] && st == OCT_OK; k++)
            if (!push(m, &m->sources, targets[k])) st = no_memory(m);
        if (st == OCT_OK) st = find_set(m, &to);
        if (st == OCT_OK) st = add_move(m, set, los[s], los[s + 1] - 1, to);
    }
    oct_free(m->mem, targets, total, sizeof *targets);
    return st;
}

typedef struct call_edge {
    uint32_t rule, to;
} call_edge;

static int by_rule(const void *a, const void *b) {
    const call_edge *x = a, *y = b;
    if (x->rule != y->rule) return x->rule < y->rule ? -1 : 1;
    return (x->to > y->to) - (x->to < y->to);
}

static oct_status use_rule(maker *m, uint32_t rule) {
    const oct_rule *r = &m->b->rules[rule];
    if (m->start[rule] != UINT32_MAX) return OCT_OK;
    if (!r->defined) return OCT_FAIL(m->err, OCT_E_INVALID, "rule %s is not defined", r->name);
    m->sources.n = 0;
    if (!push(m, &m->sources, r->from) || !push(m, &m->rules, rule)) return no_memory(m);
    return find_set(m, &m->start[rule]);
}

static oct_status spread_calls(maker *m, uint32_t set, const list *edges) {
    call_edge *all = oct_alloc(m->mem, edges->n, sizeof *all);
    oct_status st = OCT_OK;
    if (!all) return no_memory(m);
    for (size_t i = 0; i < edges->n; i++) {
        const oct_edge *e = &m->b->edges[edges->data[i]];
        all[i] = (call_edge){e->rule, e->to};
    }
    qsort(all, edges->n, sizeof *all, by_rule);
    for (size_t i = 0, k; i < edges->n && st == OCT_OK; i = k) {
        uint32_t back = 0;
        st = use_rule(m, all[i].rule);
        m->sources.n = 0;
        for (k = i; k < edges->n && all[k].rule == all[i].rule && st == OCT_OK; k++)
            if (!push(m, &m->sources, all[k].to)) st = no_memory(m);
        if (st == OCT_OK) st = find_set(m, &back);
        if (st == OCT_OK) st = add_call(m, set, all[i].rule, back);
    }
    oct_free(m->mem, all, edges->n, sizeof *all);
    return st;
}

static oct_status expand(maker *m, uint32_t set, list *bytes, list *calls) {
    size_t n;
    const uint32_t *v = members(m, set, &n);
    bytes->n = calls->n = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = m->edge_at[v[i]]; k < m->edge_at[v[i] + 1]; k++) {
            const uint32_t at = m->edge_of[k];
            const uint8_t kind = m->b->edges[at].kind;
            if (kind == OCT_EDGE_BYTES && !push(m, bytes, at)) return no_memory(m);
            if (kind == OCT_EDGE_CALL && !push(m, calls, at)) return no_memory(m);
        }
    if (bytes->n > 0) OCT_TRY(spread(m, set, bytes));
    if (calls->n > 0) OCT_TRY(spread_calls(m, set, calls));
    return OCT_OK;
}

static oct_status make_sets(maker *m, uint32_t root) {
    list bytes = {0}, calls = {0};
    oct_status st = push(m, &m->member_at, 0) ? OCT_OK : no_memory(m);
    if (st == OCT_OK) st = use_rule(m, root);
    for (uint32_t set = 0; set < m->n_made && st == OCT_OK; set++)
        st = expand(m, set, &bytes, &calls);
    list_free(m, &bytes);
    list_free(m, &calls);
    return st;
}

/* ---- which states lead to an end ---- */

static bool set_ends(const maker *m, uint32_t set) {
    size_t n;
    const uint32_t *v = members(m, set, &n);
    for (size_t i = 0; i < n; i++)
        if (m->flags[v[i]] & IS_END) return true;
    return false;
}

/* Things by a key: where[key] .. where[key + 1] in order. */
typedef struct index {
    uint32_t *where, *order;
    size_t n_keys, n;
} index_by;

static void index_free(maker *m, index_by *x) {
    oct_free(m->mem, x->where, x->n_keys + 1, sizeof *x->where);
    oct_free(m->mem, x->order, x->n, sizeof *x->order);
}

static oct_status index_make(maker *m, index_by *x, size_t n_keys, size_t n,
                             uint32_t (*key)(const maker *, size_t)) {
    x->n_keys = n_keys;
    x->n = n;
    x->where = oct_calloc(m->mem, n_keys + 1, sizeof *x->where);
    x->order = oct_alloc(m->mem, n, sizeof *x->order);
    if (!x->where || !x->order) return no_memory(m);
    for (size_t i = 0; i < n; i++) x->where[key(m, i)]++;
    uint32_t sum = 0;
    for (size_t k = 0; k <= n_keys; k++) sum += x->where[k], x->where[k] = sum;
    for (size_t i = n; i-- > 0;) x->order[--x->where[key(m, i)]] = (uint32_t)i;
    return OCT_OK;
}

static uint32_t move_to(const maker *m, size_t i) { return m->moves[i].move.to; }
static uint32_t call_back(const maker *m, size_t i) { return m->calls[i].back; }
static uint32_t call_start(const maker *m, size_t i) { return m->start[m->calls[i].rule]; }
static uint32_t call_from(const maker *m, size_t i) { return m->calls[i].from; }

/* good[s]: an end of s's rule can be reached. A call counts when its rule has an end. */
static oct_status find_good(maker *m, bool *good) {
    index_by moves = {0}, backs = {0}, starts = {0};
    oct_status st = index_make(m, &moves, m->n_made, m->n_moves, move_to);
    if (st == OCT_OK) st = index_make(m, &backs, m->n_made, m->n_calls, call_back);
    if (st == OCT_OK) st = index_make(m, &starts, m->n_made, m->n_calls, call_start);
    m->todo.n = 0;
    for (uint32_t s = 0; s < m->n_made && st == OCT_OK; s++)
        if (set_ends(m, s)) {
            good[s] = true;
            if (!push(m, &m->todo, s)) st = no_memory(m);
        }
    while (m->todo.n > 0 && st == OCT_OK) {
        const uint32_t s = m->todo.data[--m->todo.n];
#define REACH(state)                                       \
    do {                                                   \
        const uint32_t t_ = (state);                       \
        if (!good[t_]) {                                   \
            good[t_] = true;                               \
            if (!push(m, &m->todo, t_)) st = no_memory(m); \
        }                                                  \
    } while (0)
        for (uint32_t i = moves.where[s]; i < moves.where[s + 1] && st == OCT_OK; i++)
            REACH(m->moves[moves.order[i]].from);
        for (uint32_t i = backs.where[s]; i < backs.where[s + 1] && st == OCT_OK; i++) {
            const made_call *c = &m->calls[backs.order[i]];
            if (good[m->start[c->rule]]) REACH(c->from);
        }
        for (uint32_t i = starts.where[s]; i < starts.where[s + 1] && st == OCT_OK; i++) {
            const made_call *c = &m->calls[starts.order[i]];
            if (good[c->back]) REACH(c->from);
        }
#undef REACH
    }
    index_free(m, &moves);
    index_free(m, &backs);
    index_free(m, &starts);
    return st;
}

static void drop_bad(maker *m, const bool *good) {
    size_t n = 0;
    for (size_t i = 0; i < m->n_moves; i++)
        if (good[m->moves[i].from] && good[m->moves[i].move.to]) m->moves[n++] = m->moves[i];
    m->n_moves = n;
    n = 0;
    for (size_t i = 0; i < m->n_calls; i++)
        if (good[m->calls[i].from] && good[m->calls[i].back] && good[m->start[m->calls[i].rule]])
            m->calls[n++] = m->calls[i];
    m->n_calls = n;
}

/* ---- rules that call themselves first ---- */

typedef struct first {
    index_by calls; /* by the state that they leave */
    bool *empty;    /* [n_rules] the rule matches the empty text */
    uint32_t *seen; /* [n_made] the walk that met it last */
    uint32_t now;
    list found;    /* states of one walk */
    list from, to; /* which rule calls which before anything was read */
} first;

/* The states of a rule that are reached before anything was read, as far as is known which rules
 * can be empty. */
static oct_status walk_first(maker *m, first *f, uint32_t rule) {
    f->now++;
    f->found.n = 0;
    if (!push(m, &f->found, m->start[rule])) return no_memory(m);
    f->seen[m->start[rule]] = f->now;
    for (size_t at = 0; at < f->found.n; at++) {
        const uint32_t s = f->found.data[at];
        OCT_TRY(step(m, 1 + f->calls.where[s + 1] - f->calls.where[s]));
        for (uint32_t i = f->calls.where[s]; i < f->calls.where[s + 1]; i++) {
            const made_call *c = &m->calls[f->calls.order[i]];
            if (!f->empty[c->rule] || f->seen[c->back] == f->now) continue;
            f->seen[c->back] = f->now;
            if (!push(m, &f->found, c->back)) return no_memory(m);
        }
    }
    return OCT_OK;
}

static oct_status find_empty(maker *m, first *f) {
    bool more = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < m->rules.n; i++) {
            const uint32_t rule = m->rules.data[i];
            if (f->empty[rule]) continue;
            OCT_TRY(walk_first(m, f, rule));
            for (size_t k = 0; k < f->found.n && !f->empty[rule]; k++)
                f->empty[rule] = set_ends(m, f->found.data[k]);
            more = more || f->empty[rule];
        }
    }
    return OCT_OK;
}

static oct_status find_first_calls(maker *m, first *f) {
    for (size_t i = 0; i < m->rules.n; i++) {
        const uint32_t rule = m->rules.data[i];
        OCT_TRY(walk_first(m, f, rule));
        for (size_t k = 0; k < f->found.n; k++) {
            const uint32_t s = f->found.data[k];
            for (uint32_t c = f->calls.where[s]; c < f->calls.where[s + 1]; c++)
                if (!push(m, &f->from, rule) || !push(m, &f->to, m->calls[f->calls.order[c]].rule))
                    return no_memory(m);
        }
    }
    return OCT_OK;
}

/* Takes away rules that no rule left calls first, until none is or all that are left go round. */
static oct_status check_rounds(maker *m, const first *f) {
    const size_t n = m->b->n_rules;
    uint32_t *n_callers = oct_calloc(m->mem, n, sizeof *n_callers);
    uint32_t *where = oct_calloc(m->mem, n + 1, sizeof *where);
    uint32_t *order = oct_alloc(m->mem, f->from.n, sizeof *order);
    oct_status st = n_callers && where && order ? OCT_OK : no_memory(m);
    size_t n_left = m->rules.n;
    m->todo.n = 0;
    if (st == OCT_OK) {
        for (size_t i = 0; i < f->from.n; i++) where[f->from.data[i]]++, n_callers[f->to.data[i]]++;
        uint32_t sum = 0;
        for (size_t k = 0; k <= n; k++) sum += where[k], where[k] = sum;
        for (size_t i = f->from.n; i-- > 0;) order[--where[f->from.data[i]]] = (uint32_t)i;
    }
    for (size_t i = 0; i < m->rules.n && st == OCT_OK; i++)
        if (n_callers[m->rules.data[i]] == 0 && !push(m, &m->todo, m->rules.data[i]))
            st = no_memory(m);
    while (m->todo.n > 0 && st == OCT_OK) {
        const uint32_t rule = m->todo.data[--m->todo.n];
        n_left--;
        for (uint32_t i = where[rule]; i < where[rule + 1] && st == OCT_OK; i++) {
            const uint32_t to = f->to.data[order[i]];
            if (--n_callers[to] == 0 && !push(m, &m->todo, to)) st = no_memory(m);
        }
    }
    for (size_t i = 0; i < m->rules.n && n_left > 0 && st == OCT_OK; i++)
        if (n_callers[m->rules.data[i]] > 0)
            st = OCT_FAIL(m->err, OCT_E_INVALID,
                          "rule %s is left-recursive: it comes back before anything was read",
                          m->b->rules[m->rules.data[i]].name);
    oct_free(m->mem, order, f->from.n, sizeof *order);
    oct_free(m->mem, where, n + 1, sizeof *where);
    oct_free(m->mem, n_callers, n, sizeof *n_callers);
    return st;
}

static oct_status check_first(maker *m) {
    first f = {0};
    oct_status st = index_make(m, &f.calls, m->n_made, m->n_calls, call_from);
    f.empty = oct_calloc(m->mem, m->b->n_rules, sizeof *f.empty);
    f.seen = oct_calloc(m->mem, m->n_made, sizeof *f.seen);
    if (!f.empty || !f.seen) st = no_memory(m);
    if (st == OCT_OK) st = find_empty(m, &f);
    if (st == OCT_OK) st = find_first_calls(m, &f);
    if (st == OCT_OK) st = check_rounds(m, &f);
    index_free(m, &f.calls);
    oct_free(m->mem, f.empty, m->b->n_rules, sizeof *f.empty);
    oct_free(m->mem, f.seen, m->n_made, sizeof *f.seen);
    list_free(m, &f.found);
    list_free(m, &f.from);
    list_free(m, &f.to);
    return st;
}

/* ---- the program ---- */

static void make_classes(const maker *m, oct_program *p) {
    bool begins[257] = {true};
    for (size_t i = 0; i < m->n_moves; i++) {
        begins[m->moves[i].move.lo] = true;
        begins[m->moves[i].move.hi + 1] = true;
    }
    for (unsigned c = 0; c < 256; c++) {
        if (begins[c]) p->byte_of[p->n_classes++] = (uint8_t)c;
        p->class_of[c] = (uint8_t)(p->n_classes - 1);
    }
}

static uint32_t move_from(const maker *m, size_t i) { return m->moves[i].from; }

static oct_status fill(maker *m, oct_program *p) {
    index_by moves = {0}, calls = {0};
    oct_status st = index_make(m, &moves, m->n_made, m->n_moves, move_from);
    if (st == OCT_OK) st = index_make(m, &calls, m->n_made, m->n_calls, call_from);
    p->n_states = m->n_made;
    p->moves = oct_alloc(p->mem, m->n_moves, sizeof *p->moves);
    p->move_at = oct_alloc(p->mem, (size_t)p->n_states + 1, sizeof *p->move_at);
    p->calls = oct_alloc(p->mem, m->n_calls, sizeof *p->calls);
    p->call_at = oct_alloc(p->mem, (size_t)p->n_states + 1, sizeof *p->call_at);
    p->ends = oct_calloc(p->mem, p->n_states, sizeof *p->ends);
    if (!p->moves || !p->move_at || !p->calls || !p->call_at || !p->ends) st = no_memory(m);
    if (st == OCT_OK) {
        const size_t n_at = (size_t)p->n_states + 1;
        memcpy(p->move_at, moves.where, n_at * sizeof *p->move_at);
        memcpy(p->call_at, calls.where, n_at * sizeof *p->call_at);
        for (size_t i = 0; i < m->n_moves; i++) p->moves[i] = m->moves[moves.order[i]].move;
        for (uint32_t s = 0; s < p->n_states; s++) p->ends[s] = set_ends(m, s);
        for (size_t i = 0; i < m->n_calls; i++) {
            const made_call *c = &m->calls[calls.order[i]];
            p->calls[i] = (oct_call){.to = m->start[c->rule], .back = c->back};
            p->calls[i].is_last = p->ends[c->back] &&
                                  p->move_at[c->back] == p->move_at[c->back + 1] &&
                                  p->call_at[c->back] == p->call_at[c->back + 1];
        }
        make_classes(m, p);
        p->bytes = sizeof *p + m->n_moves * sizeof *p->moves + m->n_calls * sizeof *p->calls +
                   n_at * (2 * sizeof(uint32_t) + sizeof(bool));
    }
    index_free(m, &moves);
    index_free(m, &calls);
    return st;
}

static oct_status make(maker *m, uint32_t root, oct_program *p) {
    OCT_TRY(index_edges(m));
    OCT_TRY(make_sets(m, root));
    bool *good = oct_calloc(m->mem, m->n_made, sizeof *good);
    if (!good) return no_memory(m);
    oct_status st = find_good(m, good);
    p->root = m->start[root];
    if (st == OCT_OK && !good[p->root])
        st = OCT_FAIL(m->err, OCT_E_INVALID, "there is no text that it accepts");
    if (st == OCT_OK) drop_bad(m, good);
    oct_free(m->mem, good, m->n_made, sizeof *good);
    OCT_TRY(st);
    OCT_TRY(check_first(m));
    return fill(m, p);
}

static void maker_free(maker *m) {
    const oct_build *b = m->b;
    oct_free(m->mem, m->edge_at, (size_t)b->n_states + 1, sizeof *m->edge_at);
    oct_free(m->mem, m->edge_of, b->n_edges, sizeof *m->edge_of);
    oct_free(m->mem, m->flags, b->n_states, 1);
    oct_free(m->mem, m->stamp, b->n_states, sizeof *m->stamp);
    oct_free(m->mem, m->start, b->n_rules, sizeof *m->start);
    oct_free(m->mem, m->slots, m->n_slots, sizeof *m->slots);
    oct_free(m->mem, m->moves, m->cap_moves, sizeof *m->moves);
    oct_free(m->mem, m->calls, m->cap_calls, sizeof *m->calls);
    list *const lists[] = {&m->todo, &m->set, &m->sources, &m->members, &m->member_at, &m->rules};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) list_free(m, lists[i]);
}

oct_status oct_program_create(oct_build *b, uint32_t root, oct_program **out, oct_err *err) {
    *out = NULL;
    if (b->status != OCT_OK) return OCT_FAIL(err, b->status, "%s", b->err.text);
    oct_program *p = oct_calloc(b->mem, 1, sizeof *p);
    if (!p) return OCT_FAIL(err, OCT_E_NOMEM, "no memory for a grammar");
    p->mem = b->mem;
    maker m = {.b = b, .mem = b->mem, .err = err};
    const oct_status st = make(&m, root, p);
    if (st != OCT_OK) { /* of what fill() made, only sizes that it knew are freed */
        oct_free(p->mem, p->moves, m.n_moves, sizeof *p->moves);
        oct_free(p->mem, p->calls, m.n_calls, sizeof *p->calls);
        p->moves = NULL;
        p->calls = NULL;
        oct_program_destroy(p);
        p = NULL;
    }
    maker_free(&m);
    *out = p;
    return st;
}

void oct_program_destroy(oct_program *p) {
    if (!p) return;
    const size_t n_at = (size_t)p->n_states + 1;
    if (p->moves) oct_free(p->mem, p->moves, p->move_at[p->n_states], sizeof *p->moves);
    if (p->calls) oct_free(p->mem, p->calls, p->call_at[p->n_states], sizeof *p->calls);
    oct_free(p->mem, p->move_at, n_at, sizeof *p->move_at);
    oct_free(p->mem, p->call_at, n_at, sizeof *p->call_at);
    oct_free(p->mem, p->ends, p->n_states, sizeof *p->ends);
    oct_free(p->mem, p, 1, sizeof *p);
}

uint32_t oct_program_move(const oct_program *p, uint32_t state, uint8_t c) {
    uint32_t lo = p->move_at[state], hi = p->move_at[state + 1];
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (p->moves[mid].hi < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->move_at[state + 1] && p->moves[lo].lo <= c ? p->moves[lo].to : UINT32_MAX;
}
