/* Each request for memory refused once, from the maker to the last mask. jansson takes its own. */
#include "grammar_side.h"
#include "support/refused_memory.h"

typedef struct work {
    const oct_tokenizer *tok;
    const json_t *schema;
} work;

static oct_status follow(const oct_allocator *mem, oct_grammar *g, const char *text) {
    enum { WORDS = (N_TOKENS + 31) / 32 };
    uint32_t mask[WORDS];
    oct_grammar_run *run = NULL;
    oct_status st = oct_grammar_run_create(mem, g, &run);
    bool fits = true;
    for (; *text && st == OCT_OK; text++) {
        st = oct_grammar_run_mask(run, mask);
        if (st == OCT_OK) st = oct_grammar_run_bytes(run, (oct_str){text, 1}, &fits);
        assert_true(fits || st != OCT_OK);
    }
    oct_grammar_run_destroy(run);
    return st;
}

static oct_status all_of_it(void *ctx, const oct_allocator *mem) {
    const work *w = ctx;
    const oct_grammar_style style = {.blanks = OCT_STR(" ?")};
    oct_grammars *maker = NULL;
    oct_grammar *g = NULL;
    oct_status st = oct_grammars_create(mem, w->tok, N_TOKENS, &maker, NULL);
    if (st == OCT_OK) st = oct_grammar_of_schema(maker, w->schema, &style, &g, NULL);
    if (st == OCT_OK) st = follow(mem, g, "{\"a\": {\"a\": null,\"n\":12},\"n\":3,\"x\":[\"b\"]}");
    oct_grammar_unref(g);
    g = NULL;
    if (st == OCT_OK)
        st =
            oct_grammar_of_ebnf(maker, OCT_STR("root ::= ([a-c] root \"b\"){2} | \"x\""), &g, NULL);
    if (st == OCT_OK) st = follow(mem, g, "axbaxb");
    oct_grammar_unref(g);
    oct_grammars_destroy(maker);
    return st;
}

static void whichever_request_is_refused_is_told(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    json_t *schema =
        json_of("{\"$ref\":\"#/$defs/"
                "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{"
                "\"$ref\":\"#/$defs/"
                "n\",\"minProperties\":0},{\"type\":\"null\"}]},\"n\":{\"type\":\"number\","
                "\"minimum\":2},\"x\":{\"type\":\"array\",\"items\":{\"type\":\"string\","
                "\"maxLength\":3}}},"
                "\"additionalProperties\":{\"const\":[{\"k\":1}]}}}}");
    work w = {s.tok, schema};
    refuse_each_request(all_of_it, &w);
    json_decref(schema);
    side_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whichever_request_is_refused_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
