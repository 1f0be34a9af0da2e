/*
 * text/added.c - a trie of all added tokens. The first byte decides at nearly every position
 * (nearly all begin with '<' or '['), so a text is walked about as fast as it can be read; at the
 * worst a position costs the longest token, 4,096 bytes.
 */
#include "text/added.h"

#include <string.h>

void oct_trie_init(oct_trie *t, const oct_allocator *mem) { *t = (oct_trie){.mem = mem}; }

void oct_trie_fini(oct_trie *t) {
    oct_free(t->mem, t->nodes, t->cap, sizeof *t->nodes);
    *t = (oct_trie){0};
}

static bool trie_room(oct_trie *t, size_t n) {
    if (n <= t->cap - t->n) return true;
    uint64_t cap = t->cap ? t->cap : 256;
    while (cap < (uint64_t)t->n + n) cap *= 2;
    if (cap > UINT32_MAX / 2) return false;
    oct_trie_node *nodes = oct_grow(t->mem, t->nodes, t->cap, cap, sizeof *nodes);
    if (!nodes) return false;
    t->nodes = nodes;
    t->cap = (uint32_t)cap;
    return true;
}

static uint32_t child_of(const oct_trie *t, uint32_t node, uint8_t byte) {
    if (node == 0) return t->first[byte];
    uint32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte) c = t->nodes[c].sibling;
    return c;
}

static uint32_t child_add(oct_trie *t, uint32_t node, uint8_t byte) {
    const uint32_t c = t->n++;
    t->nodes[c] = (oct_trie_node){.byte = byte, .value = -1};
    if (node == 0) {
        t->first[byte] = c;
    } else {
        t->nodes[c].sibling = t->nodes[node].child;
        t->nodes[node].child = c;
    }
    return c;
}

oct_status oct_trie_add(oct_trie *t, oct_str s, int32_t value, oct_err *err) {
    if (!trie_room(t, s.len + 1))
        return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory for the added tokens");
    if (t->n == 0) t->nodes[t->n++] = (oct_trie_node){.value = -1};
    uint32_t node = 0;
    for (size_t i = 0; i < s.len; i++) {
        const uint8_t byte = (uint8_t)s.ptr[i];
        const uint32_t next = child_of(t, node, byte);
        node = next ? next : child_add(t, node, byte);
    }
    t->nodes[node].value = value;
    return OCT_OK;
}

bool oct_trie_find(const oct_trie *t, oct_str s, size_t pos, size_t *from, size_t *to,
                   int32_t *value) {
    if (t->n == 0) return false;
    for (size_t i = pos; i < s.len; i++) {
        uint32_t node = t->first[(uint8_t)s.ptr[i]];
        if (!node) continue;
        size_t best = 0;
        for (size_t k = i + 1;; k++) {
            if (t->nodes[node].value >= 0) {
                best = k;
                *value = t->nodes[node].value;
            }
            if (k == s.len) break;
            node = child_of(t, node, (uint8_t)s.ptr[k]);
            if (!node) break;
        }
        if (best) {
            *from = i;
            *to = best;
            return true;
        }
    }
    return false;
}
