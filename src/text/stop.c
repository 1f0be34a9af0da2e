/*
 * text/stop.c - one automaton over all stop strings (Aho and Corasick's).
 *
 * A node is a prefix of some string. Its fail link names the longest shorter prefix that is also a
 * suffix of it, so a byte moves the state down once and up only by steps that were paid before:
 * linear in the text. At most 16 children share a node, so they stand in a list.
 *
 * What has to be held back is exactly the state: the bytes of its node are the end of the text and
 * may still grow into a match. They need no buffer, because the node's string is known.
 */
#include "text/stop.h"

#include "base/assert.h"

#define NO_MATCH UINT8_MAX

typedef struct node {
    uint32_t child, sibling, fail;
    uint16_t depth;
    uint8_t byte;
    uint8_t owner; /* a string that begins with this node's bytes */
    uint8_t match; /* the longest string that ends here, or NO_MATCH */
} node;

struct oct_stop_set {
    const oct_allocator *mem;
    bool include;
    uint32_t n_strings, n_nodes, cap_nodes;
    size_t text_cap;
    oct_str strings[OCT_STOP_MAX_STRINGS]; /* into text */
    char *text;
    node *nodes; /* [n_nodes], the root first; NULL without strings */
};

static uint32_t child_of(const oct_stop_set *set, uint32_t at, uint8_t byte) {
    uint32_t c = set->nodes[at].child;
    while (c && set->nodes[c].byte != byte) c = set->nodes[c].sibling;
    return c;
}

static void add_string(oct_stop_set *set, uint8_t index) {
    const oct_str s = set->strings[index];
    uint32_t at = 0;
    for (size_t i = 0; i < s.len; i++) {
        const uint8_t byte = (uint8_t)s.ptr[i];
        uint32_t next = child_of(set, at, byte);
        if (!next) {
            next = set->n_nodes++;
            set->nodes[next] = (node){.sibling = set->nodes[at].child,
                                      .depth = (uint16_t)(i + 1),
                                      .byte = byte,
                                      .owner = index,
                                      .match = NO_MATCH};
            set->nodes[at].child = next;
        }
        at = next;
    }
    if (set->nodes[at].match == NO_MATCH) set->nodes[at].match = index;
}

static uint32_t step(const oct_stop_set *set, uint32_t at, uint8_t byte) {
    for (;;) {
        const uint32_t c = child_of(set, at, byte);
        if (c || at == 0) return c;
        at = set->nodes[at].fail;
    }
}

/* Level by level, so that shorter prefixes are finished first. queue holds n_nodes. */
static void link_fails(oct_stop_set *set, uint32_t *queue) {
    uint32_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        const uint32_t at = queue[head++];
        for (uint32_t c = set->nodes[at].child; c; c = set->nodes[c].sibling) {
            node *n = &set->nodes[c];
            n->fail = at ? step(set, set->nodes[at].fail, n->byte) : 0;
            if (n->match == NO_MATCH) n->match = set->nodes[n->fail].match;
            queue[tail++] = c;
        }
    }
}

static oct_status check(const oct_str *strings, size_t n, size_t *total, oct_err *err) {
    *total = 0;
    if (n > OCT_STOP_MAX_STRINGS)
        return OCT_FAIL(err, OCT_E_INVALID, "stop: too many strings (got %zu, want at most %d)", n,
                        OCT_STOP_MAX_STRINGS);
    for (size_t i = 0; i < n; i++) {
        if (strings[i].len == 0)
            return OCT_FAIL(err, OCT_E_INVALID, "stop[%zu]: must not be empty", i);
        if (strings[i].len > OCT_STOP_MAX_BYTES)
            return OCT_FAIL(err, OCT_E_INVALID,
                            "stop[%zu]: too long (got %zu bytes, want at most %d)", i,
                            strings[i].len, OCT_STOP_MAX_BYTES);
        *total += strings[i].len;
    }
    return OCT_OK;
}

static oct_status build(oct_stop_set *set, const oct_str *strings, size_t n, size_t total,
                        oct_err *err) {
    if (n == 0) return OCT_OK;
    set->text_cap = total;
    set->text = oct_alloc(set->mem, total, 1);
    set->cap_nodes = (uint32_t)total + 1;
    set->nodes = oct_calloc(set->mem, set->cap_nodes, sizeof *set->nodes);
    uint32_t *queue = oct_alloc(set->mem, set->cap_nodes, sizeof *queue);
    if (!set->text || !set->nodes || !queue) {
        oct_free(set->mem, queue, set->cap_nodes, sizeof *queue);
        return OCT_FAIL(err, OCT_E_NOMEM, "stop: no memory");
    }
    set->nodes[0].match = NO_MATCH;
    set->n_nodes = 1;
    char *at = set->text;
    for (size_t i = 0; i < n; i++) {
        memcpy(at, strings[i].ptr, strings[i].len);
        set->strings[i] = (oct_str){at, strings[i].len};
        at += strings[i].len;
        add_string(set, (uint8_t)i);
    }
    set->n_strings = (uint32_t)n;
    link_fails(set, queue);
    oct_free(set->mem, queue, set->cap_nodes, sizeof *queue);
    return OCT_OK;
}

oct_status oct_stop_set_create(const oct_allocator *mem, const oct_str *strings, size_t n,
                               bool include, oct_stop_set **out, oct_err *err) {
    size_t total;
    *out = NULL;
    OCT_TRY(check(strings, n, &total, err));
    oct_stop_set *set = oct_calloc(mem, 1, sizeof *set);
    if (!set) return OCT_FAIL(err, OCT_E_NOMEM, "stop: no memory");
    set->mem = mem;
    set->include = include;
    const oct_status st = build(set, strings, n, total, err);
    if (st == OCT_OK)
        *out = set;
    else
        oct_stop_set_destroy(set);
    return st;
}

void oct_stop_set_destroy(oct_stop_set *set) {
    if (!set) return;
    oct_free(set->mem, set->text, set->text_cap, 1);
    oct_free(set->mem, set->nodes, set->cap_nodes, sizeof *set->nodes);
    oct_free(set->mem, set, 1, sizeof *set);
}

void oct_stop_init(oct_stop *s, const oct_stop_set *set) {
    *s = (oct_stop){.set = set && set->n_strings ? set : NULL};
}

size_t oct_stop_held(const oct_stop *s) {
    return !s->set || s->set->include || s->done ? 0 : s->set->nodes[s->state].depth;
}

/* The bytes held back by the state, into out. */
static void release(const oct_stop *s, oct_buf *out) {
    const node *n = &s->set->nodes[s->state];
    if (oct_stop_held(s)) oct_buf_add(out, s->set->strings[n->owner].ptr, n->depth);
}

/* Drops the last n bytes of out. */
static void cut(oct_buf *out, size_t n) {
    if (out->failed || n == 0) return;
    OCT_ASSERT(n <= out->len);
    out->len -= n;
    out->data[out->len] = '\0';
}

int oct_stop_push(oct_stop *s, oct_str text, bool armed, oct_buf *out) {
    if (s->done) return -1;
    if (!s->set) {
        oct_buf_str(out, text);
        return -1;
    }
    release(s, out);
    for (size_t i = 0; i < text.len; i++) {
        s->state = step(s->set, s->state, (uint8_t)text.ptr[i]);
        const uint8_t match = s->set->nodes[s->state].match;
        if (!armed || match == NO_MATCH) continue;
        oct_buf_add(out, text.ptr, i + 1);
        if (!s->set->include) cut(out, s->set->strings[match].len);
        s->done = true;
        return match;
    }
    oct_buf_str(out, text);
    cut(out, oct_stop_held(s));
    return -1;
}

void oct_stop_flush(oct_stop *s, oct_buf *out) {
    if (s->done || !s->set) return;
    release(s, out);
    s->state = 0;
}
