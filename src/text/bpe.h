/*
 * text/bpe.h - byte-pair merging of one piece: the merge with the lowest rank first, leftmost first
 * among equals, until none applies. Internal to text.
 *
 * A worker holds scratch memory for long pieces; it belongs to one thread at a time.
 */
#ifndef OCT_TEXT_BPE_H
#define OCT_TEXT_BPE_H

#include "text/ids.h"
#include "text/vocab.h"

typedef struct oct_bpe_model {
    oct_vocab *vocab;
    bool byte_level;    /* symbols are bytes, else characters */
    bool byte_fallback; /* characters without a token become their bytes' tokens */
    bool fuse_unk, ignore_merges;
    int32_t unk_id;       /* -1: a symbol without a token gives nothing */
    int32_t byte_id[256]; /* token of a byte (or "<0xNN>"), -1: none */
} oct_bpe_model;

typedef struct oct_bpe_bucket {
    uint32_t head, tail, unsorted;
} oct_bpe_bucket;

typedef struct oct_bpe_link {
    uint32_t pos, next;
} oct_bpe_link;

typedef struct oct_bpe_worker {
    const oct_allocator *mem;
    const oct_bpe_model *model;
    oct_ids symbols;
    uint32_t *next, *prev; /* [cap_nodes] neighbours of a symbol in a long piece */
    size_t cap_nodes;
    oct_bpe_bucket *buckets; /* [n_buckets] positions by rank of the merge that waits there */
    size_t n_buckets;
    oct_bpe_link *links; /* pool of the lists in buckets */
    size_t cap_links, n_links;
    uint32_t free_link;
    uint32_t *ranks; /* heap of the ranks that have a position waiting */
    size_t cap_ranks, n_ranks;
    bool failed; /* memory was refused */
} oct_bpe_worker;

void oct_bpe_begin(oct_bpe_worker *w, const oct_allocator *mem, const oct_bpe_model *model);
void oct_bpe_end(oct_bpe_worker *w);
/* Appends the ids of a piece. False: memory was refused. */
bool oct_bpe_piece(oct_bpe_worker *w, oct_str piece, oct_ids *out);

#endif
