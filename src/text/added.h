/*
 * text/added.h - finds added tokens in a text: leftmost, and of those the longest. Internal to
 * text.
 */
#ifndef OCT_TEXT_ADDED_H
#define OCT_TEXT_ADDED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/status.h"
#include "base/str.h"

/* A trie with siblings in lists; node 0 is the root, and the root's children have a table. */
typedef struct oct_trie_node {
    uint32_t child, sibling; /* 0: none */
    int32_t value;           /* -1: no string ends here */
    uint8_t byte;
} oct_trie_node;

typedef struct oct_trie {
    const oct_allocator *mem;
    oct_trie_node *nodes;
    uint32_t n, cap;
    uint32_t first[256]; /* 0: no string begins with the byte */
} oct_trie;

void oct_trie_init(oct_trie *t, const oct_allocator *mem);
void oct_trie_fini(oct_trie *t);
/* Adds a string (not empty); the value of one that is there is replaced. */
OCT_MUST_CHECK oct_status oct_trie_add(oct_trie *t, oct_str s, int32_t value, oct_err *err);
/* The next string in s from byte pos on; false when there is none. */
bool oct_trie_find(const oct_trie *t, oct_str s, size_t pos, size_t *from, size_t *to,
                   int32_t *value);

#endif
