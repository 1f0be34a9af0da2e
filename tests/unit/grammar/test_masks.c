/* Masks: equal to trying every token, along random texts; and what a run does at the end. */
#include "grammar_side.h"

static uint64_t seed = 20261122;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

typedef struct source {
    char kind; /* s: schema, r: regex, e: EBNF, o: object */
    const char *text;
} source;

static const source sources[] = {
    {'o', ""},
    {'s', "true"},
    {'s', "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
          "\"integer\"},"
          "\"id\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":5}}},"
          "\"required\":[\"name\"]}"},
    {'s',
     "{\"$ref\":\"#/$defs/"
     "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"number\","
     "\"minimum\":-2.5,\"maximum\":120},\"abc\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
     "n\"},{\"type\":\"null\"},"
     "{\"enum\":[true,\"the\",\"the age\"]}]}},\"additionalProperties\":{\"type\":\"boolean\"}}}}"},
    {'s', "{\"type\":\"string\",\"pattern\":\"^(the|a)( b)*\"}"},
    {'r', "(ab|abc|[^a-c])*(12|123){1,3}"},
    {'r', "\\d{4}-\\d\\d"},
    {'e', "root ::= \"the\" | list\nlist ::= \"[\" (root (\",\" root)*)? \"]\""},
    {'e', "root ::= e\ne ::= t (\"-\" t)*\nt ::= [0-9]+ | \"(\" e \")\" | \"\xE4\xB8\xAD\" "},
    {'e',
     "root ::= (a | b) root | \"\"\na ::= \"a\" | \"ab\"\nb ::= \"b\" | \"bc\""}, /* ambiguous */
};

static oct_grammar *open_source(side *s, const source *x) {
    oct_grammar *g = NULL;
    oct_err err = {0};
    oct_status st = OCT_OK;
    if (x->kind == 's') return schema_grammar(s, x->text, NULL);
    if (x->kind == 'o') st = oct_grammar_of_object(s->maker, &plain_style, &g, &err);
    if (x->kind == 'r') st = oct_grammar_of_regex(s->maker, oct_str_of(x->text), &g, &err);
    if (x->kind == 'e') st = oct_grammar_of_ebnf(s->maker, oct_str_of(x->text), &g, &err);
    if (st != OCT_OK) fail_msg("%s: %s", x->text, err.text);
    return g;
}

static bool try_token(oct_grammar *g, const int32_t *before, uint32_t n, int32_t id) {
    oct_grammar_run *run = NULL;
    bool fits;
    assert_int_equal(oct_grammar_run_create(oct_system_allocator(), g, &run), OCT_OK);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(oct_grammar_run_token(run, before[i], &fits), OCT_OK);
        assert_true(fits);
    }
    assert_int_equal(oct_grammar_run_token(run, id, &fits), OCT_OK);
    oct_grammar_run_destroy(run);
    return fits;
}

enum { WORDS = (N_TOKENS + 31) / 32, STEPS = 25 };

static void walk(oct_grammar *g, const source *x) {
    int32_t ids[STEPS];
    uint32_t mask[WORDS];
    bool fits;
    oct_grammar_run *run = NULL;
    assert_int_equal(oct_grammar_run_create(oct_system_allocator(), g, &run), OCT_OK);
    for (uint32_t n = 0; n < STEPS; n++) {
        int32_t allowed[N_TOKENS];
        uint32_t n_allowed = 0;
        assert_int_equal(oct_grammar_run_mask(run, mask), OCT_OK);
        for (int32_t id = 0; id < N_TOKENS; id++) {
            const bool bit = mask[id / 32] >> (id % 32) & 1;
            if (bit != try_token(g, ids, n, id))
                fail_msg("%s: token %d after %u tokens: mask says %d", x->text, id, n, bit);
            if (bit) allowed[n_allowed++] = id;
        }
        assert_true(n_allowed > 0 || oct_grammar_run_may_end(run)); /* no dead end */
        assert_int_equal(n_allowed == 0, oct_grammar_run_must_end(run));
        if (n_allowed == 0) break;
        ids[n] = allowed[dice(n_allowed)];
        if (n_allowed > 256 && dice(3)) ids[n] = 256 + (int32_t)dice(N_MORE);
        if (!(mask[ids[n] / 32] >> (ids[n] % 32) & 1)) ids[n] = allowed[dice(n_allowed)];
        assert_int_equal(oct_grammar_run_token(run, ids[n], &fits), OCT_OK);
        assert_true(fits);
    }
    oct_grammar_run_destroy(run);
}

static void masks_are_what_trying_every_token_gives(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        oct_grammar *g = open_source(&s, &sources[i]);
        for (int round = 0; round < 6; round++) walk(g, &sources[i]);
        oct_grammar_unref(g);
    }
    side_close(&s);
}

static void a_token_that_does_not_fit_changes_nothing(void **state) {
    side s;
    bool fits;
    uint32_t a[WORDS], b[WORDS];
    oct_grammar_run *run = NULL;
    (void)state;
    side_open(&s, oct_system_allocator());
    oct_grammar *g = open_source(&s, &sources[2]);
    assert_int_equal(oct_grammar_run_create(oct_system_allocator(), g, &run), OCT_OK);
    assert_int_equal(oct_grammar_run_bytes(run, OCT_STR("{\"name\":\"x"), &fits), OCT_OK);
    assert_true(fits);
    assert_int_equal(oct_grammar_run_mask(run, a), OCT_OK);
    assert_int_equal(oct_grammar_run_bytes(run, OCT_STR("y\"q"), &fits), OCT_OK);
    assert_false(fits);
    assert_int_equal(oct_grammar_run_token(run, N_TOKENS - 1, &fits), OCT_OK); /* special */
    assert_false(fits);
    assert_int_equal(oct_grammar_run_mask(run, b), OCT_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_false(oct_grammar_run_may_end(run));
    assert_int_equal(oct_grammar_run_bytes(run, OCT_STR("\"}"), &fits), OCT_OK);
    assert_true(fits && oct_grammar_run_may_end(run) && oct_grammar_run_must_end(run));
    assert_int_equal(oct_grammar_run_reset(run), OCT_OK);
    assert_false(oct_grammar_run_may_end(run));
    oct_grammar_run_destroy(run);
    oct_grammar_unref(g);
    side_close(&s);
}

static void equal_sources_are_compiled_once(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    oct_grammar *a = open_source(&s, &sources[5]), *b = open_source(&s, &sources[5]);
    oct_grammar *c = open_source(&s, &sources[6]);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    oct_grammar_unref(a);
    oct_grammar_unref(b);
    side_close(&s);
    assert_true(accepts(c, OCT_STR("2024-01"))); /* in use: it outlives its maker */
    oct_grammar_unref(c);
}

static void SO5_the_cache_is_bounded(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    for (int i = 0; i < 110; i++) {
        char text[64];
        oct_grammar *g = NULL;
        snprintf(text, sizeof text, "x%d[a-z]{%d}", i, 22000 + i);
        assert_int_equal(oct_grammar_of_regex(s.maker, oct_str_of(text), &g, NULL), OCT_OK);
        oct_grammar_unref(g);
        assert_true(oct_grammars_cache_bytes(s.maker) <= OCT_GRAMMAR_CACHE_BYTES);
    }
    assert_true(oct_grammars_cache_bytes(s.maker) > OCT_GRAMMAR_CACHE_BYTES / 2);
    side_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_trying_every_token_gives),
        cmocka_unit_test(a_token_that_does_not_fit_changes_nothing),
        cmocka_unit_test(equal_sources_are_compiled_once),
        cmocka_unit_test(SO5_the_cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
