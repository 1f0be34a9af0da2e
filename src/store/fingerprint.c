/*
 * store/fingerprint.c - a number that tells one set of weights from another.
 *
 * Reading whole models would cost the start of a server, so bytes are sampled in every tensor. The
 * tensors' hashes are added up: neither their order in the file nor the cut into shards counts.
 */
#include <xxhash.h>

#include "store/checkpoint_parts.h"

enum {
    PIECE_BYTES = 1 << 20,
    BLOCK_BYTES = 4096,
    N_BLOCKS = 3, /* at the beginning, in the middle and at the end */
};

/* Name, type and shape: "lm_head.weight F32 [256, 64]". */
static oct_status hash_head(const oct_checkpoint *c, const oct_tensor *t, uint64_t *hash,
                            oct_err *err) {
    oct_buf b;
    oct_buf_init(&b, c->mem, 0);
    oct_buf_str(&b, t->name);
    oct_buf_cstr(&b, " ");
    oct_tensor_describe(t, &b);
    const bool whole = !b.failed;
    *hash = XXH3_64bits(oct_buf_cs(&b), b.len);
    oct_buf_fini(&b);
    return whole ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", t->name.ptr);
}

static oct_status read_samples(const oct_checkpoint *c, const oct_tensor *t,
                               unsigned char sample[static N_BLOCKS * BLOCK_BYTES], size_t *n_bytes,
                               oct_err *err) {
    const oct_file *f = oct_checkpoint_file_of(c, t);
    if (c->synthetic) { /* with its name, all there is to know of a tensor */
        const uint64_t seed = oct_synthetic_seed(c);
        memcpy(sample, &seed, *n_bytes = sizeof seed);
        return OCT_OK;
    }
    if (t->bytes <= N_BLOCKS * BLOCK_BYTES) {
        *n_bytes = (size_t)t->bytes;
        return oct_file_read(f, t->offset, sample, t->bytes, err);
    }
    const uint64_t last = t->bytes - BLOCK_BYTES, at[N_BLOCKS] = {0, last / 2, last};
    for (uint64_t i = 0; i < N_BLOCKS; i++)
        OCT_TRY(oct_file_read(f, t->offset + at[i], sample + i * BLOCK_BYTES, BLOCK_BYTES, err));
    *n_bytes = N_BLOCKS * BLOCK_BYTES;
    return OCT_OK;
}

oct_status oct_checkpoint_fingerprint(const oct_checkpoint *c, uint64_t *out, oct_err *err) {
    unsigned char sample[N_BLOCKS * BLOCK_BYTES];
    uint64_t sum = 0;
    for (size_t i = 0; i < c->table.n; i++) {
        const oct_tensor *t = &c->table.v[i];
        uint64_t head;
        size_t n_bytes;
        OCT_TRY(hash_head(c, t, &head, err));
        OCT_TRY(read_samples(c, t, sample, &n_bytes, err));
        sum += XXH3_64bits_withSeed(sample, n_bytes, head);
    }
    *out = sum;
    return OCT_OK;
}

/* What is hashed of a piece: all that stands before it, and its own hash. */
typedef struct chain {
    uint64_t before[2], piece[2];
} chain;

static void add_piece(uint64_t sum[2], const void *piece, size_t n) {
    const XXH128_hash_t h = XXH3_128bits(piece, n);
    const chain c = {.before = {sum[0], sum[1]}, .piece = {h.low64, h.high64}};
    const XXH128_hash_t next = XXH3_128bits(&c, sizeof c);
    sum[0] = next.low64;
    sum[1] = next.high64;
}

static oct_status digest_tensor(const oct_checkpoint *c, const oct_tensor *t, unsigned char *piece,
                                uint64_t sum[2], oct_err *err) {
    uint64_t head;
    OCT_TRY(hash_head(c, t, &head, err));
    add_piece(sum, &head, sizeof head);
    if (c->synthetic) {
        const uint64_t seed = oct_synthetic_seed(c);
        add_piece(sum, &seed, sizeof seed);
        return OCT_OK;
    }
    for (uint64_t at = 0; at < t->bytes; at += PIECE_BYTES) {
        const uint64_t left = t->bytes - at;
        const size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        OCT_TRY(oct_file_read(oct_checkpoint_file_of(c, t), t->offset + at, piece, n, err));
        add_piece(sum, piece, n);
    }
    return OCT_OK;
}

oct_status oct_checkpoint_digest(const oct_checkpoint *c, uint64_t out[2], oct_err *err) {
    unsigned char *piece = oct_alloc(c->mem, PIECE_BYTES, 1);
    oct_status st = piece ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    out[0] = out[1] = 0;
    for (size_t i = 0; st == OCT_OK && i < c->table.n; i++)
        st = digest_tensor(c, &c->table.v[i], piece, out, err);
    oct_free(c->mem, piece, PIECE_BYTES, 1);
    return st;
}
