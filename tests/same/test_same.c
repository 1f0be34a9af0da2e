/*
 * test_same.c - promise 1: a request's answer is the same whatever else is served and however.
 *
 *     test_same                    the suite
 *     test_same SEED               one pair, with all that it was made of
 *     test_same --pairs N [FIRST]  N pairs from that seed on
 *
 * OCTET_DEVICE=NAME|PATH runs pairs on that device; the suite has controls that need the CPU's.
 *
 * Tokens, logprobs (of the answer, of the prompt, of the most likely) and a hash of the K/V of each
 * computed position are compared bit for bit. The controls compute an operation in a way that the
 * promise forbids and require that this is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/num.h"
#include "pair.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SUITE_PAIRS = 60, CONTROL_PAIRS = 12 };
#elif defined(OCT_DEBUG)
enum { SUITE_PAIRS = 150, CONTROL_PAIRS = 12 };
#else
enum { SUITE_PAIRS = 300, CONTROL_PAIRS = 15 };
#endif

static void print_tally(const tally *t) {
    printf("%llu pairs, %llu different; %llu tokens, %llu logprobs, %llu positions of K/V\n",
           (unsigned long long)t->n_pairs, (unsigned long long)t->n_different,
           (unsigned long long)t->n_tokens, (unsigned long long)t->n_logprobs,
           (unsigned long long)t->n_kv);
    printf("steps of several %llu, mixed %llu; preemptions %llu, of the request itself %llu; "
           "engines that overlapped %llu\n",
           (unsigned long long)t->n_shared, (unsigned long long)t->n_mixed,
           (unsigned long long)t->n_preemptions, (unsigned long long)t->n_subject_preemptions,
           (unsigned long long)t->n_overlapped);
    printf("steps replayed %llu; guesses %llu, right %llu\n", (unsigned long long)t->n_replays,
           (unsigned long long)t->n_guesses, (unsigned long long)t->n_right_guesses);
    printf("blocks to shelves %llu, back %llu; to a folder %llu, from there %llu\n",
           (unsigned long long)t->n_shelved, (unsigned long long)t->n_fetched,
           (unsigned long long)t->n_stored, (unsigned long long)t->n_read);
    printf("cached blocks of 32 found:");
    for (size_t i = 0; i < OCT_COUNT(t->hits); i++) printf(" %llu", (unsigned long long)t->hits[i]);
    printf("; ended by stop %llu, length %llu\nmodels:",
           (unsigned long long)t->finish[OCT_FINISH_STOP],
           (unsigned long long)t->finish[OCT_FINISH_LENGTH]);
    for (int i = 0; i < N_SAME_MODELS; i++)
        printf(" %s %llu;", same_models[i].name, (unsigned long long)t->by_model[i]);
    printf("\n");
    for (int i = 0; i < N_AXES; i++) {
        printf("  %-10s", same_axes[i].name);
        for (uint32_t k = 0; k < same_axes[i].n; k++)
            printf(" %u:%llu", same_axes[i].values[k], (unsigned long long)t->axis[i][k]);
        printf("\n");
    }
}

static bool run_pairs(uint64_t first, uint64_t n, tally *t) {
    const pair_options o = {.model = -1};
    for (uint64_t i = 0; i < n; i++) {
        (void)pair_run(first + i, &o, t);
        if ((i + 1) % 1000 == 0)
            printf("%llu pairs, %llu different\n", (unsigned long long)i + 1,
                   (unsigned long long)t->n_different);
        fflush(stdout);
    }
    print_tally(t);
    return t->n_different == 0;
}

/* ---- the suite ------------------------------------------------------------------------------- */

static void KV2_alone_and_among_others_in_any_engine(void **st) {
    static tally t;
    (void)st;
    assert_true(run_pairs(1, SUITE_PAIRS, &t));
    /* What was wanted did happen. */
    assert_true(t.n_shared > 0 && t.n_mixed > 0 && t.n_overlapped > 0);
    assert_true(t.n_preemptions > 0 && t.n_subject_preemptions > 0);
    assert_true(t.n_replays > 0 && t.n_right_guesses > 0 && t.n_right_guesses < t.n_guesses);
    assert_true(t.n_shelved > 0 && t.n_fetched > 0 && t.n_stored > 0 && t.n_read > 0);
    assert_true(t.n_logprobs > 0 && t.n_kv > 0);
    assert_true(t.finish[OCT_FINISH_STOP] > 0 && t.finish[OCT_FINISH_LENGTH] > 0);
    if (SUITE_PAIRS < 300) return;
    for (size_t i = 0; i < OCT_COUNT(t.hits); i++) assert_true(t.hits[i] > 0);
    for (int i = 0; i < N_AXES; i++)
        for (uint32_t k = 0; k < same_axes[i].n; k++) assert_true(t.axis[i][k] > 0);
}

/* Among some pairs of one model the answers must differ. */
static void must_be_caught(spy_plant plant, int model) {
    static tally t;
    const pair_options wrong = {.model = model, .plant = plant, .quiet = true};
    const pair_options right = {.model = model};
    memset(&t, 0, sizeof t);
    uint32_t n = 0;
    for (uint64_t seed = 1; seed <= CONTROL_PAIRS; seed++) n += !pair_run(seed, &wrong, &t);
    print_message("noticed in %u of %u pairs\n", n, CONTROL_PAIRS);
    assert_true(n > 0);
    /* Some of the same pairs, computed as they should be. */
    for (uint64_t seed = 1; seed <= 5; seed++) assert_true(pair_run(seed, &right, &t));
}

static void control_one_scale_for_the_batch(void **st) {
    (void)st;
    must_be_caught(PLANT_TENSOR_SCALE, 1);
}
static void control_a_fixed_number_of_splits(void **st) {
    (void)st;
    must_be_caught(PLANT_SPLIT_COUNT, 1);
    must_be_caught(PLANT_SPLIT_COUNT, 2);
}
static void control_a_sum_by_threads(void **st) {
    (void)st;
    must_be_caught(PLANT_THREAD_SUM, 2);
}
static void control_one_bit_of_the_cache(void **st) {
    static tally t;
    const pair_options o = {.model = 0, .plant = PLANT_KV_BIT, .quiet = true};
    (void)st;
    for (uint64_t seed = 1; seed <= 5; seed++) assert_false(pair_run(seed, &o, &t));
}

static int usage(void) {
    fprintf(stderr, "usage: test_same [SEED | --pairs N [FIRST]]\n");
    return 2;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(KV2_alone_and_among_others_in_any_engine),
        cmocka_unit_test(control_one_scale_for_the_batch),
        cmocka_unit_test(control_a_fixed_number_of_splits),
        cmocka_unit_test(control_a_sum_by_threads),
        cmocka_unit_test(control_one_bit_of_the_cache),
    };
    static tally t;
    uint64_t n = 0, first = 1;
    char path[4096];
    oct_log_set_level(OCT_LOG_ERROR);
    for (int i = 0; i < N_SAME_MODELS; i++)
        if (!same_model_path(&same_models[i], path, sizeof path))
            printf("SKIPPED: %s; %s in its place\n", same_models[i].name, same_models[0].name);
    if (argc == 1 && strcmp(same_device(), "cpu") != 0)
        return run_pairs(1, SUITE_PAIRS, &t) ? 0 : 1;
    if (argc == 1) return cmocka_run_group_tests(tests, NULL, NULL);
    const bool many = strcmp(argv[1], "--pairs") == 0;
    if (argc > (many ? 4 : 2) || (many && argc == 2)) return usage();
    if (!oct_parse_u64(oct_str_of(argv[many ? 2 : 1]), &n)) return usage();
    if (argc == 4 && !oct_parse_u64(oct_str_of(argv[3]), &first)) return usage();
    if (many) return run_pairs(first, n, &t) ? 0 : 1;
    return pair_run(n, &(pair_options){.model = -1, .loud = true}, &t) ? 0 : 1;
}
