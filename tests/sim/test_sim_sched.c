/*
 * test_sim_sched.c - the scheduler and the cache under seeded random traffic: 1,000 seeds of 1,000
 * steps. test_sim_sched SEED runs that one alone, test_sim_sched --seeds N the first N.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

static const uint32_t n_steps = 1000;
static uint64_t first_seed = 1, n_seeds = 1000;

static void add(sim_counts *sum, const sim_counts *n) {
    sum->n_steps += n->n_steps;
    sum->n_finished += n->n_finished;
    sum->n_aborted += n->n_aborted;
    sum->n_failed += n->n_failed;
    sum->n_preempted += n->n_preempted;
    sum->n_mixed += n->n_mixed;
    sum->n_passed += n->n_passed;
    sum->n_beside += n->n_beside;
    sum->n_hits += n->n_hits;
    sum->n_hit_blocks += n->n_hit_blocks;
    sum->n_evicted += n->n_evicted;
    sum->n_resets += n->n_resets;
    sum->n_shelved += n->n_shelved;
    sum->n_fetched += n->n_fetched;
    sum->n_taken_back += n->n_taken_back;
}

static void KV2_every_block_of_every_step(void **s) {
    (void)s;
    static sim_world w;
    sim_counts n = {0};
    for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
        if (!sim_run(&w, seed, n_steps))
            fail_msg("%s; replay: test_sim_sched %" PRIu64, w.failed, seed);
        add(&n, &w.n);
    }
    print_message("%" PRIu64 " steps, %" PRIu64 " beside another, %" PRIu64 " mixed, %" PRIu64
                  " finished, %" PRIu64 " aborted, %" PRIu64 " failed, %" PRIu64
                  " preemptions, %" PRIu64 " passed, %" PRIu64 " hits of %" PRIu64
                  " blocks, %" PRIu64 " evictions, %" PRIu64 " to shelves, %" PRIu64
                  " back, %" PRIu64 " plans taken back, %" PRIu64 " reloads\n",
                  n.n_steps, n.n_beside, n.n_mixed, n.n_finished, n.n_aborted, n.n_failed,
                  n.n_preempted, n.n_passed, n.n_hits, n.n_hit_blocks, n.n_evicted, n.n_shelved,
                  n.n_fetched, n.n_taken_back, n.n_resets);
    if (n_seeds < 100) return;
    /* Each kind of event in numbers, or the run proves nothing. */
    assert_true(n.n_steps >= n_seeds * n_steps && n.n_beside > 100 * n_seeds);
    assert_true(n.n_preempted > n_seeds && n.n_mixed > 10 * n_seeds && n.n_finished > 10 * n_seeds);
    assert_true(n.n_aborted > n_seeds && n.n_failed > n_seeds && n.n_resets > n_seeds);
    assert_true(n.n_hits > 10 * n_seeds && n.n_evicted > 10 * n_seeds);
    assert_true(n.n_shelved > 10 * n_seeds && n.n_fetched > n_seeds && n.n_taken_back > n_seeds);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "--seeds") == 0) {
        n_seeds = strtoull(argv[2], NULL, 10);
        if (argc > 3) first_seed = strtoull(argv[3], NULL, 10);
    } else if (argc > 1) {
        first_seed = strtoull(argv[1], NULL, 10);
        n_seeds = 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(KV2_every_block_of_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
