/*
 * tests/unit/embed/test_embed.c - the library's door over a made-up model: what it refuses, that an
 * answer is whole however it is polled, and that requests and engine may go in any order.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <octet/octet.h>

static const char model[] = "preset:qwen3-0.6b-w8a8c8";
static const char tiny[] =
    "{\"num_hidden_layers\": 2, \"hidden_size\": 64, \"intermediate_size\": 96, "
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 32, \"vocab_size\": "
    "512, "
    "\"bos_token_id\": null, \"eos_token_id\": null, \"max_position_embeddings\": 256}";

enum { LONGEST = 256, SENTENCE = 512 };

static octet_engine_options options(void) {
    return (octet_engine_options){.struct_bytes = sizeof(octet_engine_options),
                                  .n_threads = 1,
                                  .flags = OCTET_ENGINE_UNBOUND,
                                  .load_format = "dummy",
                                  .hf_overrides = tiny,
                                  .seed = 5};
}

static octet_engine *opened(const octet_engine_options *o) {
    char sentence[SENTENCE] = "x";
    octet_engine *e;
    if (octet_engine_open(model, o, &e, sentence, sizeof sentence) != OCTET_OK)
        fail_msg("%s", sentence);
    assert_string_equal(sentence, "");
    return e;
}

static int open_one(void **state) {
    const octet_engine_options o = options();
    octet_log_level(4);
    *state = opened(&o);
    return 0;
}

static int close_one(void **state) {
    octet_engine_close(*state);
    return 0;
}

static const int32_t ids[] = {1, 20, 300, 4, 5, 60, 7, 8};

static octet_request_spec spec_of(octet_engine *e, uint32_t n_ids, uint32_t max_tokens) {
    octet_request_spec s = {.struct_bytes = sizeof s};
    assert_int_equal(octet_request_defaults(e, &s), OCTET_OK);
    s.ids = ids;
    s.n_ids = n_ids;
    s.max_tokens = max_tokens;
    s.flags = OCTET_REQUEST_SEEDED;
    s.seed = n_ids;
    return s;
}

static octet_request *submitted(octet_engine *e, const octet_request_spec *s) {
    char sentence[SENTENCE];
    octet_request *r;
    if (octet_submit(e, s, &r, sentence, sizeof sentence) != OCTET_OK) fail_msg("%s", sentence);
    assert_non_null(r);
    return r;
}

typedef struct answer {
    int32_t tokens[LONGEST];
    float logprobs[LONGEST];
    uint32_t n, finish, n_polls;
    octet_output last;
} answer;

static void poll_all(octet_request *r, int32_t timeout_ms, answer *a) {
    *a = (answer){.last = {.struct_bytes = sizeof a->last}};
    while (a->finish == OCTET_RUNNING) {
        octet_output *o = &a->last;
        assert_int_equal(octet_poll(r, timeout_ms, o), OCTET_OK);
        assert_true(a->n + o->n_tokens <= LONGEST);
        if (o->n_tokens) memcpy(a->tokens + a->n, o->tokens, o->n_tokens * sizeof *o->tokens);
        if (o->n_tokens && o->logprobs)
            memcpy(a->logprobs + a->n, o->logprobs, o->n_tokens * sizeof *o->logprobs);
        a->n += o->n_tokens;
        a->finish = o->finish;
        a->n_polls++;
    }
    assert_int_equal(a->last.n_completion, a->n);
}

static void ask(octet_engine *e, const octet_request_spec *s, int32_t timeout_ms, answer *a) {
    octet_request *r = submitted(e, s);
    poll_all(r, timeout_ms, a);
    octet_request_release(r);
}

/* ---- what is kept --------------------------------------------------------------------------- */

/* The number of prompt tokens that a new engine finds in the folder. */
static uint32_t cached_in(const octet_engine_options *o, answer *a) {
    static int32_t prompt[100];
    octet_engine *e = opened(o);
    octet_request_spec s = spec_of(e, 1, 12);
    for (int i = 0; i < 100; i++) prompt[i] = i % 97;
    s.ids = prompt;
    s.n_ids = 100;
    s.flags |= OCTET_REQUEST_LOGPROBS;
    ask(e, &s, -1, a);
    octet_engine_close(e);
    return a->last.n_cached;
}

static void KV6_the_next_engine_finds_the_folder(void **state) {
    (void)state;
    static answer first, again;
    char folder[] = "/tmp/octet-embed-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    octet_engine_options o = options();
    o.kv_store = folder;
    o.kv_offload_bytes = 1 << 20;
    octet_log_level(4);
    assert_int_equal(cached_in(&o, &first), 0);
    assert_int_equal(cached_in(&o, &again), 96);
    assert_int_equal(again.n, first.n);
    assert_memory_equal(again.tokens, first.tokens, first.n * sizeof *first.tokens);
    assert_memory_equal(again.logprobs, first.logprobs, first.n * sizeof *first.logprobs);
    o.seed++; /* another model */
    assert_int_equal(cached_in(&o, &again), 0);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void open_refused(const char *name, const octet_engine_options *o, int32_t want,
                         const char *words) {
    char sentence[SENTENCE] = "";
    octet_engine *e = (octet_engine *)sentence;
    assert_int_equal(octet_engine_open(name, o, &e, sentence, sizeof sentence), want);
    assert_null(e);
    if (!strstr(sentence, words)) fail_msg("got \"%s\", want \"%s\" in it", sentence, words);
}

static void openings_that_are_refused(void **state) {
    (void)state;
    octet_engine_options o = options();
    struct {
        octet_engine_options o;
        uint64_t more;
    } later = {.o = options(), .more = 1};
    char small[8];
    octet_engine *e;

    open_refused(NULL, &o, OCTET_E_INVALID, "no model");
    open_refused("/nonexistent/model", NULL, OCTET_E_IO, "/nonexistent/model");
    o.load_format = NULL;
    open_refused(model, &o, OCTET_E_INVALID, "a preset has no weights");
    o.load_format = "pickle";
    open_refused(model, &o, OCTET_E_INVALID, "got pickle");
    o = options();
    o.kv_cache_dtype = "int3";
    open_refused(model, &o, OCTET_E_INVALID, "int3");
    o = options();
    o.device = "abacus";
    open_refused(model, &o, OCTET_E_DEVICE, "abacus");
    o = options();
    o.kv_cache_bytes = 1;
    open_refused(model, &o, OCTET_E_NOMEM, "not even one block");
    o = options();
    o.kv_store = "";
    open_refused(model, &o, OCTET_E_INVALID, "kv_store: the name is empty");
    o.kv_store = "/nonexistent/folder/blocks";
    open_refused(model, &o, OCTET_E_IO, "--kv-store: /nonexistent/folder/blocks");
    o.flags |= OCTET_ENGINE_NO_PREFIX_CACHE;
    open_refused(model, &o, OCTET_E_INVALID, "OCTET_ENGINE_NO_PREFIX_CACHE");
    o = options();
    o.kv_offload_bytes = 1;
    open_refused(model, &o, OCTET_E_INVALID, "less than a block");
    o.struct_bytes = 128; /* a caller of the first version, to whom that is no member */
    octet_engine_close(opened(&o));
    o = options();
    o.struct_bytes = 8;
    open_refused(model, &o, OCTET_E_INVALID, "another version (got 8 bytes");
    o.struct_bytes = 0xdeadbeef; /* what nobody set; it is not believed */
    open_refused(model, &o, OCTET_E_INVALID, "another version");
    later.o.struct_bytes = sizeof later;
    open_refused(model, &later.o, OCTET_E_INVALID, "another version");
    later.more = 0; /* a later caller that asks for nothing new is served */
    e = opened(&later.o);
    octet_engine_close(e);
    assert_int_equal(octet_engine_open(NULL, NULL, NULL, small, sizeof small), OCTET_E_INVALID);
    assert_int_equal(octet_engine_open(NULL, NULL, &e, small, sizeof small), OCTET_E_INVALID);
    assert_int_equal(strlen(small), sizeof small - 1); /* cut, and ended */
    assert_int_equal(octet_engine_open(NULL, NULL, &e, NULL, 0), OCTET_E_INVALID);
    octet_engine_close(NULL);
}

static void what_was_opened(void **state) {
    octet_engine_info info = {.struct_bytes = sizeof info};
    octet_engine_info old = {.struct_bytes = 8};
    assert_int_equal(octet_engine_get_info(*state, &info), OCTET_OK);
    assert_int_equal(info.struct_bytes, sizeof info);
    assert_int_equal(info.max_model_len, LONGEST);
    assert_int_equal(info.n_vocab, 512);
    assert_int_equal(info.has_tokenizer, 0);
    assert_int_equal(info.has_chat_template, 0);
    assert_string_equal(info.template_error, "");
    assert_string_equal(info.family, "qwen3");
    assert_non_null(strstr(info.device, "cpu"));
    assert_true(info.n_blocks >= 16 * LONGEST / info.block_tokens);
    assert_true(info.weight_bytes > 0);
    assert_int_equal(octet_engine_get_info(*state, &old), OCTET_E_INVALID);
    old.struct_bytes = 0xdeadbeef;
    assert_int_equal(octet_engine_get_info(*state, &old), OCTET_E_INVALID);
    assert_true(octet_version()[0] >= '0' && octet_version()[0] <= '9');
}

/* The device binds its threads, the program's own stays where it was. */
static void the_opening_thread_is_not_bound(void **state) {
    octet_engine_options o = options();
    cpu_set_t before, after;
    (void)state;
    o.flags = 0;
    o.n_threads = 2;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    octet_engine_close(opened(&o));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

/* ---- answers -------------------------------------------------------------------------------- */

static void answers_are_whole_however_they_are_polled(void **state) {
    static answer one, other;
    static const int32_t timeouts[] = {-1, 0, 1, 1000};
    octet_request_spec s = spec_of(*state, 5, 40);
    s.flags |= OCTET_REQUEST_LOGPROBS;
    ask(*state, &s, -1, &one);
    assert_int_equal(one.finish, OCTET_FINISH_LENGTH);
    assert_int_equal(one.n, 40);
    assert_int_equal(one.last.n_prompt, 5);
    assert_true(one.last.arrival_ns <= one.last.first_token_ns);
    assert_true(one.last.first_token_ns < one.last.last_token_ns);
    for (uint32_t i = 0; i < one.n; i++) assert_true(one.logprobs[i] < 0);
    for (size_t k = 0; k < sizeof timeouts / sizeof *timeouts; k++) {
        ask(*state, &s, timeouts[k], &other);
        assert_int_equal(other.n, one.n);
        assert_memory_equal(other.tokens, one.tokens, sizeof one.tokens);
        assert_memory_equal(other.logprobs, one.logprobs, sizeof one.logprobs);
    }
    s.seed++;
    ask(*state, &s, -1, &other);
    assert_memory_not_equal(other.tokens, one.tokens, sizeof one.tokens);
}

static void an_end_is_told_again_and_again(void **state) {
    static answer a;
    octet_request_spec s = spec_of(*state, 3, 0); /* as many as fit */
    octet_output out = {.struct_bytes = sizeof out}, old = {.struct_bytes = 16};
    octet_request *r = submitted(*state, &s);
    assert_int_equal(octet_poll(r, 0, &old), OCTET_E_INVALID); /* and nothing is lost */
    poll_all(r, -1, &a);
    assert_int_equal(a.n, LONGEST - 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(octet_poll(r, -1, &out), OCTET_OK);
        assert_int_equal(out.finish, OCTET_FINISH_LENGTH);
        assert_int_equal(out.n_tokens, 0);
        assert_int_equal(out.text_bytes, 0);
        assert_string_equal(out.text, "");
        assert_string_equal(out.error, "");
    }
    octet_cancel(r); /* too late, and harmless */
    octet_request_release(r);
    assert_int_equal(octet_poll(NULL, 0, &out), OCTET_E_INVALID);
    octet_cancel(NULL);
    octet_request_release(NULL);
}

static void stops(void **state) {
    static answer whole, a;
    octet_request_spec s = spec_of(*state, 4, 30);
    ask(*state, &s, -1, &whole);
    s.stop_ids = &whole.tokens[12];
    s.n_stop_ids = 1;
    ask(*state, &s, -1, &a);
    assert_int_equal(a.finish, OCTET_FINISH_STOP);
    assert_true(a.n <= 13);
    assert_int_equal(a.tokens[a.n - 1], whole.tokens[12]);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void submit_refused(octet_engine *e, const octet_request_spec *s, int32_t want,
                           const char *words) {
    char sentence[SENTENCE] = "";
    octet_request *r = (octet_request *)sentence;
    assert_int_equal(octet_submit(e, s, &r, sentence, sizeof sentence), want);
    assert_null(r);
    if (!strstr(sentence, words)) fail_msg("got \"%s\", want \"%s\" in it", sentence, words);
}

static void requests_that_are_refused(void **state) {
    octet_engine *e = *state;
    const octet_request_spec good = spec_of(e, 3, 4);
    const octet_message hello = {"user", "hello"};
    static const int32_t far[] = {100000};
    static int32_t many[LONGEST];
    octet_request_spec s = good;
    char sentence[SENTENCE];

    s.ids = NULL;
    submit_refused(e, &s, OCTET_E_INVALID, "want one of messages, text and ids (got 0)");
    s.ids = ids;
    s.text = "hello";
    submit_refused(e, &s, OCTET_E_INVALID, "(got 2)");
    s.ids = NULL;
    submit_refused(e, &s, OCTET_E_UNSUPPORTED, "no tokenizer");
    s.text = NULL;
    s.messages = &hello;
    s.n_messages = 1;
    submit_refused(e, &s, OCTET_E_UNSUPPORTED, "no tokenizer");
    s = good;
    s.n_ids = 0;
    submit_refused(e, &s, OCTET_E_INVALID, "got 0 tokens, want 1 to 255");
    s.ids = many;
    s.n_ids = LONGEST;
    submit_refused(e, &s, OCTET_E_INVALID, "got 256 tokens");
    s.ids = far;
    s.n_ids = 1;
    submit_refused(e, &s, OCTET_E_INVALID, "100000");
    s = good;
    s.top_p = 0;
    submit_refused(e, &s, OCTET_E_INVALID, "top_p");
    s = good;
    s.n_stop_ids = 1;
    submit_refused(e, &s, OCTET_E_INVALID, "a count without its list");
    s = good;
    s.struct_bytes = 0;
    submit_refused(e, &s, OCTET_E_INVALID, "another version (got 0 bytes");
    submit_refused(e, NULL, OCTET_E_INVALID, "another version");
    assert_int_equal(octet_submit(NULL, &good, NULL, sentence, sizeof sentence), OCTET_E_INVALID);
    assert_int_equal(octet_request_defaults(e, &s), OCTET_E_INVALID);
}

static void a_full_queue_says_so(void **state) {
    octet_engine_options o = options();
    octet_request *r[64];
    char sentence[SENTENCE];
    unsigned n = 0;
    int32_t code = OCTET_OK;
    (void)state;
    o.max_num_seqs = 1;
    o.max_num_queued_reqs = 1;
    octet_engine *e = opened(&o);
    const octet_request_spec s = spec_of(e, 2, 0);
    while (code == OCTET_OK && n < 64) {
        code = octet_submit(e, &s, &r[n], sentence, sizeof sentence);
        if (code == OCTET_OK) n++;
    }
    assert_int_equal(code, OCTET_E_FULL);
    assert_non_null(strstr(sentence, "try later"));
    while (n > 0) octet_request_release(r[--n]);
    octet_engine_close(e);
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void cancelled(void **state) {
    static answer a;
    const octet_request_spec s = spec_of(*state, 2, 0);
    octet_request *r = submitted(*state, &s);
    octet_cancel(r);
    octet_cancel(r);
    poll_all(r, -1, &a);
    assert_true(a.finish == OCTET_FINISH_CANCELLED || a.n == LONGEST - 2);
    octet_request_release(r);
    octet_request_release(submitted(*state, &s)); /* unasked and never polled */
}

static void closing_ends_requests_that_may_still_be_polled(void **state) {
    static answer a;
    const octet_engine_options o = options();
    octet_engine *e = opened(&o);
    octet_request *r[8];
    (void)state;
    const octet_request_spec s = spec_of(e, 2, 0);
    for (int i = 0; i < 8; i++) r[i] = submitted(e, &s);
    octet_engine_close(e);
    for (int i = 0; i < 8; i++) {
        poll_all(r[i], -1, &a);
        assert_true(a.finish == OCTET_FINISH_CANCELLED || a.finish == OCTET_FINISH_LENGTH);
        octet_cancel(r[i]);
        octet_request_release(r[i]);
    }
}

/* ---- on_ready ------------------------------------------------------------------------------- */

typedef struct listener {
    atomic_uint n_calls, n_tokens;
    atomic_bool ended;
    bool poll, cancel;
} listener;

static void on_ready(void *user, octet_request *r) {
    listener *l = user;
    atomic_fetch_add(&l->n_calls, 1);
    if (l->cancel) octet_cancel(r);
    if (!l->poll) return;
    octet_output out = {.struct_bytes = sizeof out};
    if (octet_poll(r, 0, &out) != OCTET_OK) return;
    atomic_fetch_add(&l->n_tokens, out.n_tokens);
    if (out.finish != OCTET_RUNNING) atomic_store(&l->ended, true);
}

static void somebody_is_told_of_news(void **state) {
    listener l = {.poll = true};
    octet_request_spec s = spec_of(*state, 6, 20);
    s.on_ready = on_ready;
    s.user = &l;
    octet_request *r = submitted(*state, &s);
    while (!atomic_load(&l.ended)) sched_yield();
    octet_request_release(r);
    assert_int_equal(atomic_load(&l.n_tokens), 20);
    assert_true(atomic_load(&l.n_calls) >= 1 && atomic_load(&l.n_calls) <= 21);
}

static void a_listener_may_cancel_before_submit_has_returned(void **state) {
    static answer a;
    listener l = {.cancel = true};
    octet_request_spec s = spec_of(*state, 6, 0);
    s.on_ready = on_ready;
    s.user = &l;
    octet_request *r = submitted(*state, &s);
    poll_all(r, -1, &a);
    assert_int_equal(a.finish, OCTET_FINISH_CANCELLED);
    assert_true(a.n < 200);
    octet_request_release(r);
}

/* What on_ready is given may go when release has returned: run this under a sanitizer. */
static void nobody_is_told_after_release(void **state) {
    for (int i = 0; i < 40; i++) {
        listener *l = calloc(1, sizeof *l);
        octet_request_spec s = spec_of(*state, 1 + i % 8, 1 + i % 5);
        s.on_ready = on_ready;
        s.user = l;
        octet_request *r = submitted(*state, &s);
        octet_output out = {.struct_bytes = sizeof out};
        if (i % 3) assert_int_equal(octet_poll(r, -1, &out), OCTET_OK);
        octet_request_release(r);
        free(l);
    }
}

/* ---- many threads --------------------------------------------------------------------------- */

enum { N_THREADS = 4, N_ROUNDS = 12 };

typedef struct client {
    octet_engine *engine;
    const answer *want; /* [8] by length of the prompt - 1 */
    unsigned index, n_wrong;
} client;

static void *client_run(void *arg) {
    client *c = arg;
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        answer a;
        const unsigned n = (c->index + i) % 8;
        octet_request_spec s = {.struct_bytes = sizeof s};
        octet_request *r;
        octet_request_defaults(c->engine, &s);
        s.ids = ids;
        s.n_ids = n + 1;
        s.max_tokens = 24;
        s.flags = OCTET_REQUEST_SEEDED;
        s.seed = n + 1;
        if (octet_submit(c->engine, &s, &r, NULL, 0) != OCTET_OK) {
            c->n_wrong++;
            continue;
        }
        if (i % 5 == 4) { /* leaves in the middle */
            octet_request_release(r);
            continue;
        }
        poll_all(r, i % 2 ? -1 : 1, &a);
        if (a.n != 24 || memcmp(a.tokens, c->want[n].tokens, sizeof a.tokens) != 0) c->n_wrong++;
        octet_request_release(r);
    }
    return NULL;
}

static void many_threads_get_what_each_gets_alone(void **state) {
    static answer want[8];
    pthread_t threads[N_THREADS];
    client clients[N_THREADS];
    for (unsigned n = 0; n < 8; n++) {
        const octet_request_spec s = spec_of(*state, n + 1, 24);
        ask(*state, &s, -1, &want[n]);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        clients[i] = (client){.engine = *state, .want = want, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, client_run, &clients[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < N_THREADS; i++) assert_int_equal(clients[i].n_wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(KV6_the_next_engine_finds_the_folder),
        cmocka_unit_test(openings_that_are_refused),
        cmocka_unit_test(what_was_opened),
        cmocka_unit_test(the_opening_thread_is_not_bound),
        cmocka_unit_test(answers_are_whole_however_they_are_polled),
        cmocka_unit_test(an_end_is_told_again_and_again),
        cmocka_unit_test(stops),
        cmocka_unit_test(requests_that_are_refused),
        cmocka_unit_test(a_full_queue_says_so),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(closing_ends_requests_that_may_still_be_polled),
        cmocka_unit_test(somebody_is_told_of_news),
        cmocka_unit_test(a_listener_may_cancel_before_submit_has_returned),
        cmocka_unit_test(nobody_is_told_after_release),
        cmocka_unit_test(many_threads_get_what_each_gets_alone),
    };
    return cmocka_run_group_tests_name("embed", tests, open_one, close_one);
}
