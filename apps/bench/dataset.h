/*
 * apps/bench/dataset.h - what a benchmark asks for: prompts and how long their answers are to be.
 * The sets and their rules are those of `vllm bench` (random, sharegpt, custom, prefix_repetition),
 * drawn from one generator in one order, so that a seed names the same prompts.
 *
 * Ownership  The caller owns a dataset; the tokenizer is borrowed while it is made.
 */
#ifndef OCT_APPS_BENCH_DATASET_H
#define OCT_APPS_BENCH_DATASET_H

#include "cli.h"
#include "text/tokenizer.h"

typedef struct dataset_options {
    const char *name; /* random, sharegpt, custom, prefix_repetition */
    const char *path; /* of sharegpt and custom */
    uint64_t n_prompts, seed;
    uint64_t input_len, output_len; /* 0: the set's own */
    uint64_t random_input_len, random_output_len, random_prefix_len;
    double random_range_ratio;
    uint64_t sharegpt_output_len, custom_output_len; /* 0: as long as the file's answers */
    uint64_t prefix_len, suffix_len, n_prefixes, prefix_output_len;
} dataset_options;

#define DATASET_OPTIONS_DEFAULT                  \
    ((dataset_options){.name = "random",         \
                       .n_prompts = 1000,        \
                       .random_input_len = 1024, \
                       .random_output_len = 128, \
                       .custom_output_len = 256, \
                       .prefix_len = 256,        \
                       .suffix_len = 256,        \
                       .n_prefixes = 10,         \
                       .prefix_output_len = 128})

enum { DATASET_N_FLAGS = 16 };
void dataset_flags(dataset_options *o, cli_flag flags[DATASET_N_FLAGS]);
/* Lengths were chosen freely, so answers have to be made that long. */
bool dataset_ignores_eos(const dataset_options *o);

typedef struct dataset_item {
    size_t at, len; /* its text is texts[at .. at + len) */
    uint32_t n_prompt, n_output;
} dataset_item;

typedef struct dataset {
    dataset_item *items; /* [n] */
    uint32_t n, cap;
    oct_buf texts;
} dataset;

/* OCT_E_INVALID: a file or a length that does not fit the set; OCT_E_IO; OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status dataset_make(const dataset_options *o, const oct_tokenizer *tok,
                                       dataset *out, oct_err *err);
void dataset_free(dataset *d); /* accepts a zeroed one */
static inline oct_str dataset_text(const dataset *d, uint32_t i) {
    return (oct_str){d->texts.data + d->items[i].at, d->items[i].len};
}

#endif
