/*
 * tests/same/pair.h - a pair: one random request answered alone in the plainest engine, and again
 * among others in an engine with random settings. All of it follows from the seed.
 *
 * Steps are driven by the calling thread (oct_engine_turn), so that a seed replays exactly. (Where
 * blocks come from a folder, how many turns that takes is the disk's affair.)
 */
#ifndef OCT_TESTS_SAME_PAIR_H
#define OCT_TESTS_SAME_PAIR_H

#include "engine/backend.h"
#include "spy.h"

/* ---- random numbers -------------------------------------------------------------------------- */

typedef struct rng {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r) { /* splitmix64 */
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
/* 0 .. n-1 */
static inline uint32_t rng_below(rng *r, uint32_t n) { return (uint32_t)(rng_next(r) % n); }
static inline bool rng_one_in(rng *r, uint32_t n) { return rng_below(r, n) == 0; }

/* ---- what is asked (ask.c) ------------------------------------------------------------------- */

/* A spec and the lists that it points to; not to be moved. */
typedef struct ask {
    oct_request_spec spec;
    int32_t prompt[SAME_MAX_LEN], stop_ids[12], allowed[100], bad[3];
    oct_token_bias bias[4];
    oct_token_seq bad_words[2];
} ask;

/* The common text, of which most prompts are a beginning. */
typedef struct text {
    int32_t ids[SAME_MAX_LEN];
} text;

void text_fill(rng *r, text *t);
/* A prompt of n tokens, of which the first n_common are the common text's. */
void ask_fill(rng *r, const text *t, uint32_t n, uint32_t n_common, uint32_t max_tokens, ask *a);
/* Random sampling, lists and stops for it; the seed is set. */
void ask_fill_fields(rng *r, ask *a);
void ask_print(const ask *a);

/* ---- settings -------------------------------------------------------------------------------- */

/*
 * One line adds an axis: its name and what it may be; where it takes effect is apply_setup() of
 * pair.c. The first value is the plainest engine's. Chunks above 1000 are relative to the block;
 * isa counts the instruction sets of this machine from the widest down.
 */
#define SAME_AXES(X)                                                  \
    X(threads, 1, 2, 4)                                               \
    X(seqs, 1, 2, 3, 5, 8, 16, 33, 64)                                \
    X(chunk, 0, 1, 7, CHUNK_LESS, CHUNK_BLOCK, CHUNK_MORE, 256)       \
    X(budget, 256, 64, 100)                                           \
    X(block, 32, 64)                                                  \
    X(tight, 0, 1)                                                    \
    X(async, 0, 1)                                                    \
    X(capture, OCT_CAPTURE_NONE, OCT_CAPTURE_DECODE, OCT_CAPTURE_ALL) \
    X(padded, 0, 1)                                                   \
    X(guesses, 0, 0, 3)                                               \
    X(prefetch, 0, 1)                                                 \
    X(prefix, 0, 1)                                                   \
    X(hash_bits, 0, 2)                                                \
    X(shelves, 0, 0, 2, 7, 40)                                        \
    X(store, 0, 0, 1)                                                 \
    X(partials, 0, 1, 3)                                              \
    X(priority, 0, 1)                                                 \
    X(isa, 0, 1, 2, 3)

enum { CHUNK_LESS = 1000, CHUNK_BLOCK, CHUNK_MORE };
enum { MAX_VALUES = 8 };

#define SAME_NAME(name, ...) AXIS_##name,
typedef enum same_axis { SAME_AXES(SAME_NAME) N_AXES } same_axis;
#undef SAME_NAME

typedef struct axis {
    const char *name;
    uint32_t n;
    uint32_t values[MAX_VALUES];
} axis;
extern const axis same_axes[N_AXES];

typedef struct setup {
    uint32_t v[N_AXES];
} setup;

/* ---- pairs ----------------------------------------------------------------------------------- */

typedef struct same_model {
    const char *name; /* for people */
    const char
        *folder; /* below tests/data/models, or with `golden` below cases of the golden data */
    bool golden;
    oct_model_quant quant;
    oct_kv_choice kv;
} same_model;
enum { N_SAME_MODELS = 5 };
extern const same_model same_models[N_SAME_MODELS];

/* What all pairs together came across. */
typedef struct tally {
    uint64_t n_pairs, n_different, by_model[N_SAME_MODELS];
    uint64_t axis[N_AXES][MAX_VALUES];
    uint64_t n_shared, n_mixed, n_preemptions; /* of the engines */
    uint64_t n_subject_preemptions, n_overlapped, n_replays, n_guesses, n_right_guesses;
    uint64_t n_shelved, n_fetched;    /* blocks */
    uint64_t n_stored, n_read;        /* blocks of a folder */
    uint64_t hits[SAME_MAX_LEN / 32]; /* pairs by cached blocks of 32 that the request found */
    uint64_t finish[OCT_N_FINISH], n_tokens, n_kv, n_logprobs;
} tally;

typedef struct pair_options {
    int model;       /* index, or -1: by the seed */
    spy_plant plant; /* in both runs; PLANT_KV_BIT in the second */
    bool quiet;      /* differences are expected: nothing is printed */
    bool loud;       /* settings are printed though nothing differs */
} pair_options;

/* False where the answers differ; the first difference, the seed and all settings are printed. */
bool pair_run(uint64_t seed, const pair_options *o, tally *t);
/* $OCTET_DEVICE, else "cpu". */
const char *same_device(void);
/* False: the model's folder is not here. */
bool same_model_path(const same_model *m, char *out, size_t size);

#endif
