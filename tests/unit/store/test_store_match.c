/* Lists of names: exact ones, Python's patterns, wildcards; and that no list can stop loading. */
#include "store_test.h"

#include "store/scheme_match.h"

static bool has(const char *json, unsigned dialect, const char *name) {
    json_t *list = json_loads(json, 0, NULL);
    oct_name_list *l;
    oct_err err = {0};
    bool hit = false;
    assert_non_null(list);
    if (oct_name_list_create(oct_system_allocator(), list, dialect, "list", &l, &err) != OCT_OK ||
        oct_name_list_has(l, name, &hit, &err) != OCT_OK)
        fail_msg("%s", err.text);
    oct_name_list_destroy(l);
    json_decref(list);
    return hit;
}

static void refuse(const char *json, unsigned dialect, const char *name, const char *word) {
    json_t *list = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    oct_name_list *l = NULL;
    oct_err err = {0};
    bool hit;
    assert_non_null(list);
    oct_status st = oct_name_list_create(oct_system_allocator(), list, dialect, "list", &l, &err);
    if (st == OCT_OK) st = oct_name_list_has(l, name, &hit, &err);
    assert_int_not_equal(st, OCT_OK);
    expect_text(&err, word);
    oct_name_list_destroy(l);
    json_decref(list);
}

static void exact_names(void **state) {
    (void)state;
    assert_true(has("[\"b\",\"a.b\",\"c\"]", 0, "a.b"));
    assert_false(has("[\"b\",\"a.b\",\"c\"]", 0, "a"));
    assert_false(has("[]", 7, "a"));
    assert_false(has("[\"re:a\",\"*\"]", 0, "a")); /* a dialect that was not asked for */
}

static void patterns_as_python_reads_them(void **state) {
    (void)state;
    assert_true(has("[\"re:.*mlp.gate$\"]", OCT_NAMES_RE, "model.layers.0.mlp.gate"));
    assert_false(has("[\"re:.*mlp.gate$\"]", OCT_NAMES_RE, "model.layers.0.mlp.gate_proj"));
    assert_true(has("[\"re:model\\\\.layers\\\\.\\\\d+\"]", OCT_NAMES_RE, "model.layers.17.x"));
    assert_false(has("[\"re:layers\"]", OCT_NAMES_RE, "model.layers")); /* from the start */
    assert_true(has("[\"re:(?:a|b)+?c[^d]\"]", OCT_NAMES_RE, "abace"));
    assert_true(has("[\"re:(?P<x>a)b\"]", OCT_NAMES_RE, "ab"));
}

static void wildcards(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool want;
    } rows[] = {
        {"*", "", true},
        {"*", "a.b", true},
        {"*gate", "mlp.gate", true},
        {"*gate", "gate_up", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"a[b-d]e", "ace", true},
        {"a[!b-d]e", "ace", false},
        {"a[]]", "a]", true},
        {"a[b", "a[b", true},
        {"a[b-", "a[b-", true},
        {"a[b-]", "a-", true}, /* a - at the end is itself */
        {"a[b-]", "ac", false},
        {"*a*b*c", "xxaxxbxxc", true},
        {"*a*b*c", "xxaxxcxxb", false},
        {"a*", "b", false},
        {"", "", true},
        {"", "a", false},
        {"**a", "bba", true},
        {"*ab", "aab", true},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        assert_int_equal(oct_glob_matches(rows[i].pattern, rows[i].name), rows[i].want);
    assert_true(has("[\"*k_proj\"]", OCT_NAMES_GLOB, "a.k_proj"));
}

static void parts_of_names(void **state) {
    (void)state;
    assert_true(has("[\"gate\"]", OCT_NAMES_PART, "model.layers.0.mlp.gate"));
    assert_true(has("[\"model\"]", OCT_NAMES_PART, "model.layers.0"));
    assert_true(has("[\"gate\"]", OCT_NAMES_PART, "ungate.gate.x")); /* not the first place */
    assert_false(has("[\"gate\"]", OCT_NAMES_PART, "model.layers.0.mlp_gate"));
    assert_false(has("[\"\"]", OCT_NAMES_PART, "model"));
    assert_true(has("[\"*gate\"]", OCT_NAMES_PART | OCT_NAMES_GLOB, "mlp.gate"));
    assert_false(has("[\"*gate\"]", OCT_NAMES_PART | OCT_NAMES_GLOB, "mlp.gate.x")); /* whole */
    assert_true(has("[\"layers.0\"]", OCT_NAMES_PART, "model.layers.0.mlp"));
    assert_false(has("[\"gate\"]", OCT_NAMES_PART, "model.layers.0.mlp.gate_proj"));
    assert_false(has("[\"layers.1\"]", OCT_NAMES_PART, "model.layers.11.mlp"));
}

static void F4_2_patterns_that_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *word;
    } rows[] = {
        {"[\"re:(\"]", "invalid"},
        {"[\"re:(*ACCEPT)\"]", "a verb"},
        {"[\"re:(?R)\"]", "unknown kind"},
        {"[\"re:(?1)\"]", "unknown kind"},
        {"[\"re:a\\\\Qb\"]", "not Python's"},
        {"[\"re:a\\\\\"]", "at its end"},
        {"[\"re:[[:alpha:]]\"]", "class inside"},
        {"[\"re:[:alpha:]\"]", "class inside"},
        {"[7]", "entry 0 is no name (got 7)"},
        {"{}", "not a list (got {})"},
        {"[\"a\\u0000b\"]", "entry 0 is no name"},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        refuse(rows[i].json, OCT_NAMES_RE, "a", rows[i].word);
    char *text = malloc(4096);
    snprintf(text, 4096, "[\"re:%02000d\"]", 0);
    refuse(text, OCT_NAMES_RE, "a", "too long");
    free(text);
}

static void F4_2_more_patterns_than_any_list_has(void **state) {
    (void)state;
    char *text = malloc(65536);
    size_t n = (size_t)sprintf(text, "[\"re:x0\"");
    for (int i = 1; i <= 4096; i++) n += (size_t)sprintf(text + n, ",\"re:x%d\"", i);
    strcpy(text + n, "]");
    refuse(text, OCT_NAMES_RE, "a", "list: more than 4096 patterns");
    for (char *at = text; (at = strstr(at, "re:")); at++) memcpy(at, "exa", 3);
    assert_true(has(text, OCT_NAMES_RE, "exax4096")); /* names that are no patterns: any number */
    free(text);
}

/* No single match takes too long, but all of them together. */
static void CF2_a_list_that_never_ends(void **state) {
    (void)state;
    json_t *list = json_loads("[\"re:(a+)+$\"]", 0, NULL);
    oct_name_list *l;
    oct_err err = {0};
    oct_status st = OCT_OK;
    bool hit;
    int n = 0;
    assert_int_equal(
        oct_name_list_create(oct_system_allocator(), list, OCT_NAMES_RE, "list", &l, &err), OCT_OK);
    for (; st == OCT_OK && n < 10000; n++)
        st = oct_name_list_has(l, "aaaaaaaaaaaaaaaab", &hit, &err);
    assert_int_equal(st, OCT_E_UNSUPPORTED);
    expect_text(&err, "list: pattern \"re:(a+)+$\" takes too many steps");
    assert_true(n > 10); /* one alone is allowed */
    oct_name_list_destroy(l);
    json_decref(list);
}

static oct_status fill_and_ask(void *ctx, const oct_allocator *mem) {
    oct_name_list *l;
    bool hit;
    OCT_TRY(oct_name_list_create(mem, ctx, OCT_NAMES_RE | OCT_NAMES_GLOB, "list", &l, NULL));
    const oct_status st = oct_name_list_has(l, "a.b", &hit, NULL);
    oct_name_list_destroy(l);
    return st;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    json_t *list = json_loads("[\"re:.*x\",\"*b\",\"c\"]", 0, NULL);
    refuse_each_request(fill_and_ask, list);
    json_decref(list);
}

/* Exponential in the name: it ends after a bounded number of steps, with the pattern's name. */
static void CF2_a_pattern_that_never_ends(void **state) {
    (void)state;
    refuse("[\"re:(a+)+$\"]", OCT_NAMES_RE, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
           "takes too many steps");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_names),
        cmocka_unit_test(patterns_as_python_reads_them),
        cmocka_unit_test(wildcards),
        cmocka_unit_test(parts_of_names),
        cmocka_unit_test(F4_2_patterns_that_are_refused),
        cmocka_unit_test(F4_2_more_patterns_than_any_list_has),
        cmocka_unit_test(CF2_a_pattern_that_never_ends),
        cmocka_unit_test(CF2_a_list_that_never_ends),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
