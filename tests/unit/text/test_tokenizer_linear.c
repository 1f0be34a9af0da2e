/* Row TK5 of the bad-input table: long runs cost time in proportion. With an argument, the row's
 * own words: a text of so many MiB (32, for release builds) against one of half the size.
 *
 * What is timed is the thread's own processor time, the least of runs that take turns. Memory that
 * was given back stays with the process, so that after the first turn no run waits for the kernel's
 * pages: they cost the more the busier the machine is, and half as much again by chance of where a
 * buffer last grew. */
#include "text_files.h"

#include <math.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static size_t mib = 4;

/* So many times the text may cost this much more. The row says 2.2 for twice. The suite, with small
 * texts on machines whose cores and caches others share, only tells linear (8) from quadratic (64):
 * a text that no longer fits the cache costs up to 13 times one of an eighth that does. */
static size_t times = 8;
static double allowed = 24;

static double thread_seconds(void) {
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_of(const oct_tokenizer *tok, const char *unit, size_t len) {
    oct_buf text;
    oct_ids ids;
    oct_err err = {0};
    oct_buf_init(&text, MEM, 0);
    assert_true(oct_buf_reserve(&text, len + 8));
    while (text.len < len) oct_buf_cstr(&text, unit);
    oct_ids_init(&ids, MEM);
    const double begin = thread_seconds();
    assert_int_equal(
        oct_tokenizer_encode(tok, oct_buf_view(&text), OCT_ENCODE_PARSE_SPECIAL, &ids, &err),
        OCT_OK);
    const double seconds = thread_seconds() - begin;
    assert_true(ids.len > 0);
    oct_ids_fini(&ids);
    oct_buf_fini(&text);
    return seconds;
}

static void linear(const char *folder) {
    static const char *const units[] = {
        "a", " ", "\n", "\xCC\x81", "\xCC\x81\xCC\xA3", "\xF0\x9F\x98\x80", "<", " \n", "'s"};
    oct_tokenizer *tok = open_tokenizer(folder);
    for (size_t i = 0; i < OCT_COUNT(units); i++) {
        double one = 1e9, more = 1e9; /* the best of the tries: others only add time */
        for (int attempt = 0; attempt < 8 && (attempt < 2 || more > allowed * one); attempt++) {
            more = fmin(more, cpu_of(tok, units[i], mib << 20));
            one = fmin(one, cpu_of(tok, units[i], (mib << 20) / times));
        }
        print_message("unit %zu: %.3f s, %zu times the text %.3f s\n", i, one, times, more);
        assert_true(more <= allowed * one);
    }
    oct_tokenizer_destroy(tok);
}

static void TK5_runs_of_bytes(void **state) {
    (void)state;
    linear(OCT_TEST_DATA "/tokenizer/bytes");
}

static void TK5_runs_of_pieces(void **state) {
    (void)state;
    linear(OCT_TEST_DATA "/tokenizer/pieces");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(TK5_runs_of_bytes),
        cmocka_unit_test(TK5_runs_of_pieces),
    };
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
#endif
    if (argc > 1) {
        mib = strtoul(argv[1], NULL, 10);
        times = 2;
        allowed = 2.2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
