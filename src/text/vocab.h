/*
 * text/vocab.h - the tokens of a model: spelling to id, id to bytes, pair of ids to merge.
 *
 * A token has a spelling (what BPE merges: raw bytes for byte-level vocabularies, the file's own
 * UTF-8 for the others) and a text (what it decodes to). Both live in one pool of bytes.
 *
 * Internal to text. Built once, then read by any number of threads; only `whole` changes later,
 * from unknown to its one possible value.
 */
#ifndef OCT_TEXT_VOCAB_H
#define OCT_TEXT_VOCAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum {
    OCT_TOKEN_HAS = 1,     /* the id has an entry */
    OCT_TOKEN_MODEL = 2,   /* BPE may produce it */
    OCT_TOKEN_RAW = 4,     /* byte-level vocabulary, but spelled outside its alphabet */
    OCT_TOKEN_ADDED = 8,   /* found in the raw text */
    OCT_TOKEN_SPECIAL = 16 /* not shown with skip_special */
};

enum { OCT_WHOLE_UNKNOWN, OCT_WHOLE_YES, OCT_WHOLE_NO }; /* merging its own bytes gives itself */

typedef struct oct_vocab_entry {
    uint32_t spell_off, text_off;
    uint16_t spell_len, text_len;
    uint8_t flags;
    _Atomic uint8_t whole;
} oct_vocab_entry;

typedef struct oct_pair {
    uint32_t left, right; /* left UINT32_MAX: an empty slot */
    uint32_t rank;        /* lower merges first */
    int32_t id;
} oct_pair;

typedef struct oct_vocab_slot {
    uint32_t hash, id_plus_1;
} oct_vocab_slot;

typedef struct oct_vocab_map {
    oct_vocab_slot *slots;
    uint32_t n_slots, n_used; /* n_slots is 0 or a power of two */
} oct_vocab_map;

typedef struct oct_vocab {
    const oct_allocator *mem;
    oct_buf pool;
    oct_vocab_entry *entries; /* [n], cap_entries allocated */
    uint32_t n, cap_entries;
    uint32_t n_ranks;       /* every rank is below */
    uint32_t max_spell;     /* longest spelling that BPE may produce */
    oct_vocab_map by_spell; /* MODEL and not RAW */
    oct_vocab_map by_text;  /* RAW or ADDED */
    oct_pair *pairs;        /* open addressing */
    uint32_t n_pair_slots, n_pairs;
} oct_vocab;

void oct_vocab_init(oct_vocab *v, const oct_allocator *mem);
void oct_vocab_fini(oct_vocab *v);

/* Adds a token whose text is its spelling. OCT_E_CORRUPT: id out of range or taken, spelling empty,
 * too long or taken. */
OCT_MUST_CHECK oct_status oct_vocab_put(oct_vocab *v, int64_t id, oct_str spell, uint8_t flags,
                                        oct_err *err);
/* Gives a token another text. */
OCT_MUST_CHECK oct_status oct_vocab_set_text(oct_vocab *v, int32_t id, oct_str text, oct_err *err);
/* Makes a token findable by its text. */
OCT_MUST_CHECK oct_status oct_vocab_index_text(oct_vocab *v, int32_t id, oct_err *err);
/* A later merge of the same pair takes the place of the earlier. */
OCT_MUST_CHECK oct_status oct_vocab_put_merge(oct_vocab *v, int32_t left, int32_t right, int32_t id,
                                              uint32_t rank, oct_err *err);

int32_t oct_vocab_by_spell(const oct_vocab *v, const void *bytes, size_t len); /* -1: none */
int32_t oct_vocab_by_text(const oct_vocab *v, oct_str text);                   /* -1: none */

static inline bool oct_vocab_has(const oct_vocab *v, int64_t id) {
    return id >= 0 && id < v->n && (v->entries[id].flags & OCT_TOKEN_HAS) != 0;
}
static inline oct_str oct_vocab_spell(const oct_vocab *v, int32_t id) {
    return (oct_str){v->pool.data + v->entries[id].spell_off, v->entries[id].spell_len};
}
static inline oct_str oct_vocab_text(const oct_vocab *v, int32_t id) {
    return (oct_str){v->pool.data + v->entries[id].text_off, v->entries[id].text_len};
}

static inline uint32_t oct_pair_hash(uint32_t left, uint32_t right) {
    const uint64_t key = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(key >> 32) ^ (uint32_t)(key >> 12);
}

/* The merge of two neighbours, or NULL. */
static inline const oct_pair *oct_vocab_pair(const oct_vocab *v, int32_t left, int32_t right) {
    if (v->n_pair_slots == 0) return NULL;
    const uint32_t mask = v->n_pair_slots - 1;
    for (uint32_t i = oct_pair_hash((uint32_t)left, (uint32_t)right) & mask;; i = (i + 1) & mask) {
        const oct_pair *p = &v->pairs[i];
        if (p->left == (uint32_t)left && p->right == (uint32_t)right) return p;
        if (p->left == UINT32_MAX) return NULL;
    }
}

/* The byte-level alphabet: every byte has a visible character. */
void oct_byte_level_setup(void);
/* The bytes that s spells, into out, which has room for s.len; false when s leaves the alphabet. */
bool oct_byte_level_bytes(oct_str s, char *out, size_t *len);
/* Appends the bytes that s spells; false (and *out as before) when s leaves the alphabet. */
bool oct_byte_level_read(oct_str s, oct_buf *out);
/* Appends the spelling of bytes. */
void oct_byte_level_write(oct_str bytes, oct_buf *out);

#endif
