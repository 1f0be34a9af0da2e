/*
 * apps/tuning.h - flags that change how steps are computed and never what they give: overlap,
 * recorded steps, guessed tokens, prefetch, binding. For commands with an engine; the names and the
 * JSON are those of vLLM and of its Ascend plug-in.
 */
#ifndef OCT_APPS_TUNING_H
#define OCT_APPS_TUNING_H

#include "engine/engine.h"
#include "open.h"

enum { TUNING_N_FLAGS = 5, TUNING_MAX_SIZES = 256 };

/* What --additional-config may say of the scheduler (ascend_scheduler_config): where the numbers
 * go; a member NULL is one that the command has not. */
typedef struct tuning_sched {
    uint64_t *max_num_seqs, *max_num_batched_tokens, *chunk_tokens, *long_partials;
} tuning_sched;

typedef struct tuning {
    bool eager;
    const char *compilation, *speculative, *additional; /* JSON as given, or NULL */

    /* Of tuning_read. */
    oct_capture_options capture;
    oct_draft_options draft;
    uint32_t sizes[TUNING_MAX_SIZES];
} tuning;

/* Overlap on, recorded decode steps. */
void tuning_defaults(tuning *t, open_options *open);
void tuning_flags(tuning *t, open_options *open, cli_flag flags[TUNING_N_FLAGS]);
/* After the command line: reads the JSON; -1, or the exit status. */
int tuning_read(tuning *t, open_options *open, const tuning_sched *sched);
/* Before the model is loaded: what of its options follows. t must live as long as the model. */
void tuning_model(const tuning *t, oct_model_options *mo);

#endif
