/* sched/parts.h - the scheduler's inside, shared by its source files only. */
#ifndef OCT_SCHED_PARTS_H
#define OCT_SCHED_PARTS_H

#include "sched/sched.h"

typedef struct oct_sched_list {
    oct_sched_seq *head, *tail;
    uint32_t n;
} oct_sched_list;

struct oct_sched {
    const oct_allocator *mem;
    oct_sched_options opt;
    oct_kv_pool *pool;
    uint32_t block_tokens;
    uint64_t n_arrivals, n_plans;
    uint64_t decodes_ns, row_ns;
    oct_sched_list waiting, running; /* each in order */
    uint32_t n_lent;                 /* holds of steps on their way */

    /* While a plan is made. */
    bool beside;                           /* a step is on its way: nobody is preempted */
    uint32_t budget_rows, budget_logits;   /* what is left */
    uint32_t long_above, budget_long_rows; /* a prompt that lacks more is long; rows for those */
    uint32_t reserved;                     /* blocks that running sequences will want */
    uint32_t n_groups;
    oct_sched_plan plan;
    uint64_t *groups; /* [max_num_seqs] whose prompt is being computed */
    uint32_t
        *n_gone; /* [n_blocks of the pool] holders in thought gone; 0 outside of look_without */
    oct_sched_item items[]; /* [max_num_seqs] */
};

/* In order: a before b. */
static inline bool oct_sched_before(const oct_sched_seq *a, const oct_sched_seq *b) {
    return a->priority != b->priority ? a->priority < b->priority : a->arrival < b->arrival;
}
void oct_sched_list_remove(oct_sched_list *l, oct_sched_seq *seq);
/* Looks for the place from the end: those that come late belong there. */
void oct_sched_list_insert(oct_sched_list *l, oct_sched_seq *seq);

#endif
