/*
 * text/vocab.c - open-addressed tables that are at most two thirds full.
 *
 *   I1  A spelling is in by_spell once exactly when its token has MODEL and not RAW.
 *   I2  No table is ever full, so a probe ends.
 */
#include "text/vocab.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "codec/utf8.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

void oct_vocab_init(oct_vocab *v, const oct_allocator *mem) {
    *v = (oct_vocab){.mem = mem};
    oct_buf_init(&v->pool, mem, UINT32_MAX);
}

void oct_vocab_fini(oct_vocab *v) {
    oct_free(v->mem, v->entries, v->cap_entries, sizeof *v->entries);
    oct_free(v->mem, v->by_spell.slots, v->by_spell.n_slots, sizeof(oct_vocab_slot));
    oct_free(v->mem, v->by_text.slots, v->by_text.n_slots, sizeof(oct_vocab_slot));
    oct_free(v->mem, v->pairs, v->n_pair_slots, sizeof *v->pairs);
    oct_buf_fini(&v->pool);
    *v = (oct_vocab){0};
}

static oct_status no_memory(oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer: no memory for the vocabulary");
}

static uint32_t hash_of(const void *bytes, size_t len) { return (uint32_t)XXH3_64bits(bytes, len); }

static void map_place(oct_vocab_map *m, oct_vocab_slot slot) {
    const uint32_t mask = m->n_slots - 1;
    uint32_t i = slot.hash & mask;
    while (m->slots[i].id_plus_1) i = (i + 1) & mask;
    m->slots[i] = slot;
}

static bool map_add(const oct_allocator *mem, oct_vocab_map *m, uint32_t hash, int32_t id) {
    if ((uint64_t)(m->n_used + 1) * 3 > (uint64_t)m->n_slots * 2) {
        oct_vocab_map bigger = {.n_slots = m->n_slots ? m->n_slots * 2 : 256, .n_used = m->n_used};
        bigger.slots = oct_calloc(mem, bigger.n_slots, sizeof *bigger.slots);
        if (!bigger.slots) return false;
        for (uint32_t i = 0; i < m->n_slots; i++)
            if (m->slots[i].id_plus_1) map_place(&bigger, m->slots[i]);
        oct_free(mem, m->slots, m->n_slots, sizeof *m->slots);
        *m = bigger;
    }
    map_place(m, (oct_vocab_slot){hash, (uint32_t)id + 1});
    m->n_used++;
    return true;
}

int32_t oct_vocab_by_spell(const oct_vocab *v, const void *bytes, size_t len) {
    const oct_vocab_map *m = &v->by_spell;
    if (m->n_slots == 0 || len > v->max_spell) return -1;
    const uint32_t hash = hash_of(bytes, len), mask = m->n_slots - 1;
    for (uint32_t i = hash & mask; m->slots[i].id_plus_1; i = (i + 1) & mask) {
        if (m->slots[i].hash != hash) continue;
        const int32_t id = (int32_t)(m->slots[i].id_plus_1 - 1);
        const oct_vocab_entry *e = &v->entries[id];
        if (e->spell_len == len && memcmp(v->pool.data + e->spell_off, bytes, len) == 0) return id;
    }
    return -1;
}

int32_t oct_vocab_by_text(const oct_vocab *v, oct_str text) {
    const oct_vocab_map *m = &v->by_text;
    if (m->n_slots == 0) return -1;
    const uint32_t hash = hash_of(text.ptr, text.len), mask = m->n_slots - 1;
    for (uint32_t i = hash & mask; m->slots[i].id_plus_1; i = (i + 1) & mask) {
        if (m->slots[i].hash != hash) continue;
        const int32_t id = (int32_t)(m->slots[i].id_plus_1 - 1);
        if (oct_str_eq(oct_vocab_text(v, id), text)) return id;
    }
    return -1;
}

static oct_status grow_entries(oct_vocab *v, uint32_t n, oct_err *err) {
    if (n > v->cap_entries) {
        uint32_t cap = v->cap_entries ? v->cap_entries : 1024;
        while (cap < n) cap *= 2;
        oct_vocab_entry *e = oct_grow(v->mem, v->entries, v->cap_entries, cap, sizeof *e);
        if (!e) return no_memory(err);
        v->entries = e;
        v->cap_entries = cap;
    }
    if (n > v->n) {
        memset((void *)(v->entries + v->n), 0, (n - v->n) * sizeof *v->entries);
        v->n = n;
    }
    return OCT_OK;
}

oct_status oct_vocab_put(oct_vocab *v, int64_t id, oct_str spell, uint8_t flags, oct_err *err) {
    if (id < 0 || id >= OCT_TOKENIZER_MAX_VOCAB)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "tokenizer: id of token \"%.*s\" is out of range (got %lld, want 0 to %d)",
                        (int)(spell.len < 64 ? spell.len : 64), spell.ptr, (long long)id,
                        OCT_TOKENIZER_MAX_VOCAB - 1);
    if (spell.len > OCT_TOKENIZER_MAX_TOKEN_BYTES)
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "tokenizer: token %lld is too long (got %zu bytes, want at most %d)",
                        (long long)id, spell.len, OCT_TOKENIZER_MAX_TOKEN_BYTES);
    if (oct_vocab_has(v, id))
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer: two tokens have the id %lld",
                        (long long)id);
    const bool model = (flags & (OCT_TOKEN_MODEL | OCT_TOKEN_RAW)) == OCT_TOKEN_MODEL;
    const int32_t other =
        model ? oct_vocab_by_spell(v, spell.ptr, spell.len) : oct_vocab_by_text(v, spell);
    if (other >= 0)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer: tokens %d and %lld are spelled alike",
                        other, (long long)id);
    OCT_TRY(grow_entries(v, (uint32_t)id + 1, err));
    oct_vocab_entry *e = &v->entries[id];
    e->spell_off = e->text_off = (uint32_t)v->pool.len;
    e->spell_len = e->text_len = (uint16_t)spell.len;
    oct_buf_str(&v->pool, spell);
    if (v->pool.failed) return no_memory(err);
    e->flags = flags | OCT_TOKEN_HAS;
    if (model && spell.len > v->max_spell) v->max_spell = (uint32_t)spell.len;
    if (!map_add(v->mem, model ? &v->by_spell : &v->by_text, hash_of(spell.ptr, spell.len),
                 (int32_t)id))
        return no_memory(err);
    return OCT_OK;
}

oct_status oct_vocab_set_text(oct_vocab *v, int32_t id, oct_str text, oct_err *err) {
    oct_vocab_entry *e = &v->entries[id];
    OCT_ASSERT(text.len <= UINT16_MAX);
    e->text_off = (uint32_t)v->pool.len;
    e->text_len = (uint16_t)text.len;
    oct_buf_str(&v->pool, text);
    return v->pool.failed ? no_memory(err) : OCT_OK;
}

oct_status oct_vocab_index_text(oct_vocab *v, int32_t id, oct_err *err) {
    const oct_str text = oct_vocab_text(v, id);
    if (oct_vocab_by_text(v, text) == id) return OCT_OK;
    return map_add(v->mem, &v->by_text, hash_of(text.ptr, text.len), id) ? OCT_OK : no_memory(err);
}

static oct_pair *pair_slot(oct_pair *slots, uint32_t n_slots, uint32_t left, uint32_t right) {
    const uint32_t mask = n_slots - 1;
    uint32_t i = oct_pair_hash(left, right) & mask;
    while (slots[i].left != UINT32_MAX && (slots[i].left != left || slots[i].right != right))
        i = (i + 1) & mask;
    return &slots[i];
}

static bool pairs_grow(oct_vocab *v) {
    const uint32_t n = v->n_pair_slots ? v->n_pair_slots * 2 : 1024;
    oct_pair *slots = oct_alloc(v->mem, n, sizeof *slots);
    if (!slots) return false;
    memset(slots, 0xFF, n * sizeof *slots);
    for (uint32_t i = 0; i < v->n_pair_slots; i++)
        if (v->pairs[i].left != UINT32_MAX)
            *pair_slot(slots, n, v->pairs[i].left, v->pairs[i].right) = v->pairs[i];
    oct_free(v->mem, v->pairs, v->n_pair_slots, sizeof *slots);
    v->pairs = slots;
    v->n_pair_slots = n;
    return true;
}

oct_status oct_vocab_put_merge(oct_vocab *v, int32_t left, int32_t right, int32_t id, uint32_t rank,
                               oct_err *err) {
    if ((uint64_t)(v->n_pairs + 1) * 3 > (uint64_t)v->n_pair_slots * 2 && !pairs_grow(v))
        return no_memory(err);
    oct_pair *p = pair_slot(v->pairs, v->n_pair_slots, (uint32_t)left, (uint32_t)right);
    if (p->left == UINT32_MAX) v->n_pairs++;
    *p = (oct_pair){(uint32_t)left, (uint32_t)right, rank, id};
    if (rank >= v->n_ranks) v->n_ranks = rank + 1;
    return OCT_OK;
}

/* Visible Latin-1 stands for itself; the other 68 bytes are 256, 257, ... in order. */
static struct {
    uint16_t cp_of[256];
    int16_t byte_of[256 + 68];
} alphabet;

static void alphabet_fill(void) {
    uint16_t next = 256;
    for (size_t i = 0; i < OCT_COUNT(alphabet.byte_of); i++) alphabet.byte_of[i] = -1;
    for (uint16_t b = 0; b < 256; b++) {
        const bool visible =
            (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        alphabet.cp_of[b] = visible ? b : next++;
        alphabet.byte_of[alphabet.cp_of[b]] = (int16_t)b;
    }
}

void oct_byte_level_setup(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, alphabet_fill);
}

bool oct_byte_level_bytes(oct_str s, char *out, size_t *len) {
    unsigned n;
    *len = 0;
    for (size_t i = 0; i < s.len; i += n) {
        const uint32_t cp = oct_unicode_at((const uint8_t *)s.ptr, i, &n);
        const int byte = cp < OCT_COUNT(alphabet.byte_of) ? alphabet.byte_of[cp] : -1;
        if (byte < 0) return false;
        out[(*len)++] = (char)byte;
    }
    return true;
}

bool oct_byte_level_read(oct_str s, oct_buf *out) {
    size_t len;
    if (!oct_buf_reserve(out, s.len)) return true; /* out->failed tells */
    const bool ok = oct_byte_level_bytes(s, out->data + out->len, &len);
    if (ok) out->len += len;
    out->data[out->len] = '\0';
    return ok;
}

void oct_byte_level_write(oct_str bytes, oct_buf *out) {
    for (size_t i = 0; i < bytes.len; i++) {
        char utf8[4];
        oct_buf_add(out, utf8, oct_utf8_encode(alphabet.cp_of[(uint8_t)bytes.ptr[i]], utf8));
    }
}
