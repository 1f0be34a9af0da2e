/*
 * fake_backend.h - a model without weights that notices every wrong number in a batch.
 *
 * Its cache remembers, for each slot, which token of which position was written there. Attention of
 * a row walks the row's sequence through the block table and requires all earlier positions to be
 * there; what it "computes" is a hash of the tokens that it found, so a foreign block, a stale slot
 * or a wrong position changes the tokens that are drawn. fake_expect draws the same tokens from a
 * request alone, without an engine.
 *
 * Two steps can be on their way. A block that the first writes to may be written by the second for
 * the same place of a sequence only, and no slot twice.
 */
#ifndef OCT_TESTS_FAKE_BACKEND_H
#define OCT_TESTS_FAKE_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/backend.h"

enum {
    FAKE_VOCAB = 300,
    FAKE_BLOCK = 4,
    FAKE_EOS = 2,
    FAKE_BYTE_0 = 3,   /* byte b is token FAKE_BYTE_0 + b */
    FAKE_WORD_0 = 259, /* " w0", " w1", ... */
    FAKE_POISON = 299, /* a prompt with it gives logits that are not finite */
    FAKE_MAX_LEN = 512,
    FAKE_SHELVES = 256,
};

typedef struct fake_script { /* what is drawn for sequences whose seed is FAKE_SCRIPT_SEED + index
                              */
    uint32_t n_prompt, n;
    int32_t ids[64];
} fake_script;
#define FAKE_SCRIPT_SEED UINT64_C(0x5c12000000000000)

/* What a step gave. */
typedef struct fake_result {
    uint32_t n_out, max_top;
    octet_sample_out out[1024];
    int32_t top_id[1024 * 8];
    float top_logprob[1024 * 8];
    uint32_t n_written;
    int32_t written_slot[2048];
} fake_result;

typedef struct fake_backend {
    oct_engine_backend backend; /* hand this to oct_engine_create_on */
    uint32_t n_blocks;
    int32_t *cache_token, *cache_pos;           /* [n_blocks * FAKE_BLOCK] */
    int32_t shelf[FAKE_SHELVES][2][FAKE_BLOCK]; /* tokens, then positions: what moves copied */
    uint64_t n_stores, n_loads;
    atomic_int fail_moves; /* so many next moves are refused */
    fake_script scripts[8];
    atomic_int fail_steps;    /* so many next steps are refused */
    atomic_int fail_collects; /* so many next steps fail while they compute */
    bool lost;                /* the probe fails */
    atomic_bool blocked;      /* collect waits while set */
    void (*hook)(void *);     /* called in collect */
    void *hook_arg;
    uint64_t n_steps, n_mixed;
    uint64_t n_beside;    /* steps that were submitted while another was on its way */
    uint64_t n_unknown;   /* rows whose token was not known when they were submitted */
    fake_result steps[2]; /* the newest is steps[n_steps % 2] */
    uint32_t n_pending;
} fake_backend;

void fake_init(fake_backend *f, uint32_t n_blocks, uint32_t max_rows, uint32_t max_seqs);
void fake_fini(fake_backend *f);

/* The hash from which the token behind these tokens is drawn. */
uint64_t fake_hash(const int32_t *tokens, uint32_t n);
float fake_logprob(uint64_t hash, int32_t id);

/* What the request must give when it has the engine for itself, by a second, naive way. Returns the
 * number of tokens written to out[spec->max_tokens]. Knows no stop strings. */
uint32_t fake_expect(const fake_backend *f, const oct_request_spec *spec, uint64_t seed,
                     const int32_t *eos, uint32_t n_eos, int32_t *out);

#endif
