/*
 * test_engine_saved.c - what one engine left in a folder the next one finds, and nobody's answer
 * shows it: over the scripted model, whose cache notices a wrong block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "harness.h"
#include "kvstore/kvstore.h"

static harness h;
static got g[16];
static int32_t prompts[16][FAKE_MAX_LEN];
static char folder[64];
static oct_kvstore *store;

static int make_folder(void **st) {
    (void)st;
    snprintf(folder, sizeof folder, "/tmp/octet-saved-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **st) {
    char command[96];
    (void)st;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static void begin(uint32_t n_blocks, uint32_t n_shelves) {
    oct_err err = {0};
    const oct_kvstore_options o = {.path = folder,
                                   .shape = {.fingerprint = {5, 6},
                                             .block_bytes = sizeof h.fake.shelf[0],
                                             .block_tokens = FAKE_BLOCK},
                                   .max_bytes = 1 << 20,
                                   .max_blocks = FAKE_MAX_LEN / FAKE_BLOCK,
                                   .n_writes = 3,
                                   .n_reads = 3};
    if (oct_kvstore_open(oct_system_allocator(), &o, &store, &err) != OCT_OK)
        fail_msg("%s", err.text);
    harness_init(&h, n_blocks, 64, 8,
                 &(oct_engine_options){.n_shelves = n_shelves, .kvstore = store});
}

/* The engine ends, and leaves what it has. */
static void end(void) {
    harness_fini(&h);
    oct_kvstore_close(store);
}

static oct_request_spec spec(int i, uint32_t n_prompt) {
    oct_request_spec s = new_spec(&g[i], prompts[i], n_prompt, 3, (uint64_t)i % 8 + 1);
    s.ignore_eos = true;
    return s;
}

static uint32_t ask(int i, uint32_t n_prompt) {
    const oct_request_spec s = spec(i, n_prompt);
    harness_submit(&h, &s);
    harness_run(&h);
    assert_expected(&h, &s, &g[i]);
    return g[i].n_cached;
}

static void the_next_engine_finds_it(void **st) {
    (void)st;
    begin(40, 40);
    for (int i = 0; i < 3; i++) assert_int_equal(ask(i, 40), 0);
    end();
    begin(40, 40);
    for (int i = 0; i < 3; i++) assert_int_equal(ask(i, 40), 36);
    assert_int_equal(harness_stats(&h).kvstore_read, 27);
    assert_int_equal(harness_stats(&h).fetched_tokens, 3 * 36);
    for (int i = 0; i < 3; i++) assert_int_equal(ask(i, 40), 36);
    assert_int_equal(harness_stats(&h).kvstore_read, 27); /* the cache has it now */
    end();
}

static void few_shelves_bring_a_part(void **st) {
    (void)st;
    begin(40, 40);
    assert_int_equal(ask(0, 40), 0);
    end();
    begin(40, 5);
    assert_int_equal(ask(0, 40), 20);
    end();
}

static void requests_for_one_beginning_read_it_once(void **st) {
    oct_request_spec s[6];
    (void)st;
    begin(60, 40);
    assert_int_equal(ask(0, 40), 0);
    end();
    begin(80, 40);
    for (int i = 0; i < 6; i++) { /* 0 and 8 are the same prompt */
        s[i] = spec(i * 8 % 16, 40);
        s[i].user = &g[i];
        memset(&g[i], 0, sizeof g[i]);
        harness_submit(&h, &s[i]);
    }
    harness_run(&h);
    for (int i = 0; i < 6; i++) {
        assert_expected(&h, &s[i], &g[i]);
        assert_int_equal(g[i].n_cached, 36);
    }
    assert_int_equal(harness_stats(&h).kvstore_read, 9);
    end();
}

static void SM_one_that_leaves_while_it_is_read_for(void **st) {
    (void)st;
    begin(60, 40);
    for (int i = 0; i < 4; i++) (void)ask(i, 40);
    end();
    for (int turns = 0; turns < 4; turns++) {
        oct_request *handles[4];
        begin(60, 40);
        for (int i = 0; i < 4; i++) {
            oct_err err = {0};
            const oct_request_spec s = spec(i, 40);
            assert_int_equal(oct_engine_submit(h.engine, &s, &handles[i], &err), OCT_OK);
        }
        for (int k = 0; k < turns; k++) assert_true(oct_engine_turn(h.engine, 0));
        for (int i = 0; i < 4; i++) {
            oct_request_cancel(handles[i]);
            oct_request_release(handles[i]);
        }
        harness_run(&h);
        for (int i = 0; i < 4; i++) assert_int_equal(atomic_load(&g[i].n_finals), 1);
        for (int k = 0; k < 50; k++) { /* what was on its way comes, and is kept */
            assert_true(oct_engine_turn(h.engine, 0));
            oct_sleep_ns(1000000);
        }
        assert_int_equal(ask(0, 40), 36);
        end();
    }
}

static void the_engine_ends_while_it_is_read_for(void **st) {
    (void)st;
    begin(60, 40);
    for (int i = 0; i < 4; i++) (void)ask(i, 40);
    end();
    begin(60, 40);
    for (int i = 0; i < 4; i++) {
        const oct_request_spec s = spec(i, 40);
        harness_submit(&h, &s);
    }
    assert_true(oct_engine_turn(h.engine, 0));
    end();
    for (int i = 0; i < 4; i++) assert_int_equal(atomic_load(&g[i].n_finals), 1);
}

static void RL6_reset_while_it_is_read_for(void **st) {
    (void)st;
    begin(60, 40);
    for (int i = 0; i < 3; i++) (void)ask(i, 40);
    end();
    begin(60, 40);
    oct_request_spec s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = spec(i, 40);
        harness_submit(&h, &s[i]);
    }
    oct_engine_reset_prefix_cache(h.engine); /* takes place behind the first look at the folder */
    harness_run(&h);
    for (int i = 0; i < 3; i++) {
        assert_expected(&h, &s[i], &g[i]);
        assert_int_equal(g[i].n_cached, 0);
    }
    end();
}

/* What went to shelves is written while requests run, too. */
static void a_busy_engine_writes(void **st) {
    (void)st;
    begin(24, 60);
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 8; i++) {
            oct_request_spec s = spec(i, 40);
            s.max_tokens = 12;
            harness_submit(&h, &s);
        }
        for (int k = 0; k < 400 && harness_stats(&h).kvstore_written < 20; k++) {
            assert_true(oct_engine_turn(h.engine, 0));
            oct_sleep_ns(100000);
            if (harness_stats(&h).n_running + harness_stats(&h).n_waiting == 0) break;
        }
        harness_run(&h);
    }
    assert_true(harness_stats(&h).kvstore_written > 0);
    end();
    begin(24, 60);
    for (int i = 0; i < 8; i++) (void)ask(i, 40);
    assert_true(harness_stats(&h).kvstore_read > 20);
    end();
}

static void copies_that_fail_are_not_written(void **st) {
    (void)st;
    begin(40, 40);
    assert_int_equal(ask(0, 40), 0);
    atomic_store(&h.fake.fail_moves, 1); /* the first one of the flush */
    end();
    begin(40, 40);
    assert_int_equal(ask(0, 40) % 4, 0); /* whatever is there is right */
    end();
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(the_next_engine_finds_it),
        WITH_FOLDER(few_shelves_bring_a_part),
        WITH_FOLDER(requests_for_one_beginning_read_it_once),
        WITH_FOLDER(SM_one_that_leaves_while_it_is_read_for),
        WITH_FOLDER(the_engine_ends_while_it_is_read_for),
        WITH_FOLDER(RL6_reset_while_it_is_read_for),
        WITH_FOLDER(a_busy_engine_writes),
        WITH_FOLDER(copies_that_fail_are_not_written),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
