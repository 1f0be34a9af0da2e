/* Regular expressions, EBNF and choices: texts that must be accepted and refused; what is refused
 * itself, and how; SO2, SO3 and SO4 by id. */
#include "base/clock.h"
#include "grammar_side.h"

typedef struct row {
    const char *source;
    const char *yes[8], *no[8];
} row;

static const row regexes[] = {
    {"abc", {"abc"}, {"ab", "abcd", "xabc", ""}},
    {"^abc$", {"abc"}, {"ab", "abcd"}},
    {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
    {"(a|b)*c", {"c", "ababc"}, {"ab", "ca"}},
    {"(?:ab)+", {"ab", "abab"}, {"", "aba"}},
    {"(?P<x>a)(?<y>b)", {"ab"}, {"a"}},
    {"a{2}", {"aa"}, {"a", "aaa"}},
    {"a{2,}", {"aa", "aaaa"}, {"a"}},
    {"a{,2}b", {"b", "ab", "aab"}, {"aaab"}},
    {"a{1,3}?", {"a", "aaa"}, {"", "aaaa"}},
    {"a{x}", {"a{x}"}, {"a"}},
    {"(ab?){2}c*", {"aa", "abab", "aabcc"}, {"a", "aba b"}},
    {"[a-c]", {"a", "b", "c"}, {"d", ""}},
    {"[^a-c]", {"d", "\xC3\xA9", "\n"}, {"a", "dd"}},
    {"[]a]", {"]", "a"}, {"b"}},
    {"[a-]", {"a", "-"}, {"b"}},
    {"[\\]\\-\\\\]", {"]", "-", "\\"}, {"a"}},
    {"\\d\\D\\w\\W\\s\\S", {"1a_ \tx"}, {"aa_ \tx", "1a_ \t "}},
    {"[\\d.]+", {"1.2", "..."}, {"a"}},
    {"[^\\w]", {" ", "-"}, {"a", "\xC3\xA9"}},
    {".", {"a", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80"}, {"\n", "ab", "\xE4", "\xED\xA0\x80"}},
    {"\\x41\\u00e9\\u{1F600}\\.\\/\\-", {"A\xC3\xA9\xF0\x9F\x98\x80./-"}, {"A"}},
    {"[\xC3\xA0-\xC3\xBF]", {"\xC3\xA9"}, {"e", "\xC4\x80"}},
    {"[\\u0800-\\uFFFF]",
     {"\xE0\xA0\x80", "\xEF\xBF\xBF", "\xEE\x80\x80"},
     {"\xDF\xBF", "\xED\xA0\x80"}},
    {"[\\U00010000-\\U0010FFFF]",
     {"\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"},
     {"\xEF\xBF\xBF", "\xF4\x90\x80\x80"}},
    {"(a*)*b", {"b", "aaab"}, {"a"}},
    {"\\Aab\\Z", {"ab"}, {"a"}},
};

static const row grammars[] = {
    {"root ::= \"a\"", {"a"}, {"", "b", "aa"}},
    {"# comment\nroot ::= a b # more\na ::= \"x\" |\n  \"y\"\nb::=[0-9]+\n",
     {"x1", "y23"},
     {"x", "z1"}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "(())"}, {"(", "())"}},
    {"root ::= (\"a\" | 'b')* \"c\"?", {"", "abab", "c", "abc"}, {"cc"}},
    {"root ::= x{2} y{1,} z{0,2}\nx ::= \"x\"\ny ::= \"y\"\nz ::= \"z\"",
     {"xxy", "xxyyzz"},
     {"xy", "xxyzzz"}},
    {"root ::= [^\"\\\\\\x00-\\x1F]+ \"\\n\\t\\\"\\\\\\u00e9\"",
     {"ab\n\t\"\\\xC3\xA9"},
     {"\"\n\t\"\\\xC3\xA9"}},
    {"root ::= . .", {"ab", "\xE4\xB8\xAD\n"}, {"a"}},
    {"root ::= item (\",\" item)*\nitem ::= [a-z_-]+", {"a", "a,b-c"}, {",", "a,"}},
    {"root-x ::= \"a\"\nroot ::= root-x root-x", {"aa"}, {"a"}},
    {"root ::= a a \"b\"\na ::= \"\" | \"a\"", {"b", "ab", "aab"}, {"a", "aaab"}},
};

static oct_grammar *make(side *s, char kind, const char *source, oct_err *err) {
    oct_grammar *g = NULL;
    const oct_str text = oct_str_of(source);
    const oct_status st = kind == 'r' ? oct_grammar_of_regex(s->maker, text, &g, err)
                                      : oct_grammar_of_ebnf(s->maker, text, &g, err);
    assert_true((st == OCT_OK) == (g != NULL));
    return g;
}

static void each_row(char kind, const row *rows, size_t n) {
    side s;
    side_open(&s, oct_system_allocator());
    for (size_t i = 0; i < n; i++) {
        oct_err err = {0};
        oct_grammar *g = make(&s, kind, rows[i].source, &err);
        if (!g) fail_msg("%s: %s", rows[i].source, err.text);
        for (int k = 0; k < 8 && rows[i].yes[k]; k++)
            if (!accepts(g, oct_str_of(rows[i].yes[k])))
                fail_msg("%s refuses %s", rows[i].source, rows[i].yes[k]);
        for (int k = 0; k < 8 && rows[i].no[k]; k++)
            if (accepts(g, oct_str_of(rows[i].no[k])))
                fail_msg("%s accepts %s", rows[i].source, rows[i].no[k]);
        oct_grammar_unref(g);
    }
    side_close(&s);
}

static void regexes_accept_and_refuse(void **state) {
    (void)state;
    each_row('r', regexes, sizeof regexes / sizeof *regexes);
}

static void grammars_accept_and_refuse(void **state) {
    (void)state;
    each_row('e', grammars, sizeof grammars / sizeof *grammars);
}

static void choices_are_taken_as_they_are(void **state) {
    side s;
    oct_grammar *g = NULL;
    const oct_str list[] = {OCT_STR("yes"), OCT_STR("no"), OCT_STR("not (a) regex*"), OCT_STR("")};
    (void)state;
    side_open(&s, oct_system_allocator());
    assert_int_equal(oct_grammar_of_choice(s.maker, list, 4, &g, NULL), OCT_OK);
    for (size_t i = 0; i < 4; i++) assert_true(accepts(g, list[i]));
    assert_false(accepts(g, OCT_STR("ye")));
    assert_false(accepts(g, OCT_STR("nono")));
    assert_false(accepts(g, OCT_STR("not aa regex")));
    oct_grammar_unref(g);
    side_close(&s);
}

static void refused(side *s, char kind, const char *source, const char *word) {
    oct_err err = {0};
    oct_grammar *g = make(s, kind, source, &err);
    if (g || err.code != OCT_E_INVALID || !strstr(err.text, word))
        fail_msg("%.60s: want a refusal that says %s, got %s", source, word, err.text);
}

static void what_is_not_regular_is_named(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    refused(&s, 'r', "(a)\\1", "back references");
    refused(&s, 'r', "(?=a)b", "look-ahead");
    refused(&s, 'r', "(?!a)b", "look-ahead");
    refused(&s, 'r', "(?<=a)b", "look-behind");
    refused(&s, 'r', "(?<!a)b", "look-behind");
    refused(&s, 'r', "\\bword\\b", "word boundaries");
    refused(&s, 'r', "\\p{L}", "Unicode properties");
    refused(&s, 'r', "(?i)a", "group");
    refused(&s, 'r', "a^b", "anchors");
    refused(&s, 'r', "a$b", "anchors");
    refused(&s, 'r', "(^a)", "anchors");
    refused(&s, 'r', "a++", "possessive");
    refused(&s, 'r', "*a", "nothing to repeat");
    refused(&s, 'r', "a**", "nothing to repeat");
    refused(&s, 'r', "a{3,2}", "backwards");
    refused(&s, 'r', "[b-a]", "backwards");
    refused(&s, 'r', "(a", "without its end");
    refused(&s, 'r', "a)", "nothing opened");
    refused(&s, 'r', "[a", "without its end");
    refused(&s, 'r', "a\\", "backslash");
    refused(&s, 'r', "\\q", "escape");
    refused(&s, 'r', "\\xZZ", "code point");
    refused(&s, 'r', "\xFF", "UTF-8");
    refused(&s, 'r', "[\\D]x[^\\x00-\\U0010FFFF]", "no text");
    side_close(&s);
}

static void grammars_that_are_none(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    refused(&s, 'e', "", "root");
    refused(&s, 'e', "a ::= \"b\"", "root");
    refused(&s, 'e', "root ::= a", "a is not defined");
    refused(&s, 'e', "root ::= \"a", "without its end");
    refused(&s, 'e', "root ::= [a", "without its end");
    refused(&s, 'e', "root ::= (\"a\"", "without its end");
    refused(&s, 'e', "root ::= \"a\")", "nothing opened");
    refused(&s, 'e', "root ::= \"a\" root ::= \"b\"", "twice");
    refused(&s, 'e', "root = \"a\"", "name ::=");
    refused(&s, 'e', "root ::= \"a\"{2,1}", "backwards");
    refused(&s, 'e', "root ::= \"a\"{x}", "counts");
    refused(&s, 'e', "root ::= * \"a\"", "nothing to repeat");
    refused(&s, 'e', "root ::= \"\\q\"", "escape");
    refused(&s, 'e', "root ::= \"a\" $", "not understood");
    side_close(&s);
}

static void SO2_depth_and_left_recursion(void **state) {
    side s;
    char *deep = malloc(8200);
    (void)state;
    side_open(&s, oct_system_allocator());
    memset(deep, '(', 8000);
    deep[8000] = '\0';
    refused(&s, 'r', deep, "too deep");
    memcpy(deep, "root ::= ", 9);
    refused(&s, 'e', deep, "too deep");
    refused(&s, 'e', "root ::= root \"a\" | \"a\"", "left-recursive");
    refused(&s, 'e', "root ::= a | \"x\"\na ::= b \"y\"\nb ::= e root\ne ::= \"\" | \"z\"",
            "left-recursive");
    refused(&s, 'e', "root ::= root", "no text");
    refused(&s, 'e', "root ::= \"a\" root", "no text");
    oct_str long_text = {calloc(30001, 1), 30000};
    memset((char *)(uintptr_t)long_text.ptr, '(', 30000);
    oct_grammar *g = NULL;
    oct_err err = {0};
    assert_int_equal(oct_grammar_of_regex(s.maker, long_text, &g, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "too long"));
    free((char *)(uintptr_t)long_text.ptr);
    free(deep);
    side_close(&s);
}

static void SO3_regexes_are_bounded(void **state) {
    side s;
    oct_err err = {0};
    (void)state;
    side_open(&s, oct_system_allocator());
    refused(&s, 'r', "a{1,1000000}", "too large");
    refused(&s, 'r', "(){1000000}", "too large");
    refused(&s, 'r', "((a{500}){500}){500}", "too large");
    refused(&s, 'r', "(a|b)*a(a|b){20}", "too l");
    refused(&s, 'r', "(((((a*)*)*)*)*)*(?<=x)", "look-behind");
    oct_grammar *g = make(&s, 'r', "(a+)+$", &err);
    assert_non_null(g);
    char text[4096];
    memset(text, 'a', sizeof text);
    const uint64_t begin = oct_now_ns();
    assert_true(accepts(g, (oct_str){text, sizeof text}));
    text[sizeof text - 1] = 'b';
    assert_false(accepts(g, (oct_str){text, sizeof text}));
    assert_true(oct_now_ns() - begin < 1000000000);
    oct_grammar_unref(g);
    side_close(&s);
}

static void SO4_many_values_and_properties(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    for (int kind = 0; kind < 3; kind++) {
        json_t *list = json_array(), *object = json_object();
        const int n = kind == 0 ? 100000 : kind == 1 ? 4000 : 10000;
        for (int i = 0; i < n; i++) {
            char name[16];
            snprintf(name, sizeof name, "v%d", i);
            if (kind < 2)
                json_array_append_new(list, json_string(name));
            else
                json_object_set_new(object, name, json_true());
        }
        json_t *schema =
            json_pack("{s:o}", kind < 2 ? "enum" : "properties", kind < 2 ? list : object);
        json_decref(kind < 2 ? object : list);
        oct_grammar *g = NULL;
        oct_err err = {0};
        const oct_status st = oct_grammar_of_schema(s.maker, schema, &plain_style, &g, &err);
        assert_int_equal(st, kind == 1 ? OCT_OK : OCT_E_INVALID);
        if (g) assert_true(accepts(g, OCT_STR("\"v3999\"")));
        oct_grammar_unref(g);
        json_decref(schema);
    }
    side_close(&s);
}

/* Too many ways at once end the run with an error and leave the grammar usable. */
static void SO6_an_ambiguous_grammar_ends_its_run(void **state) {
    side s;
    oct_err err = {0};
    oct_grammar_run *run = NULL;
    (void)state;
    side_open(&s, oct_system_allocator());
    oct_grammar *g = make(
        &s, 'e', "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root root | \"\"", &err);
    assert_non_null(g);
    assert_int_equal(oct_grammar_run_create(oct_system_allocator(), g, &run), OCT_OK);
    oct_status st = OCT_OK;
    for (int i = 0; i < 400 && st == OCT_OK; i++) {
        bool fits = false;
        st = oct_grammar_run_bytes(run, OCT_STR("a"), &fits);
        if (!fits) break;
    }
    assert_true(st == OCT_E_FULL);
    oct_grammar_run_destroy(run);
    assert_true(accepts(g, OCT_STR("ab")));
    oct_grammar_unref(g);
    side_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regexes_accept_and_refuse),
        cmocka_unit_test(grammars_accept_and_refuse),
        cmocka_unit_test(choices_are_taken_as_they_are),
        cmocka_unit_test(what_is_not_regular_is_named),
        cmocka_unit_test(grammars_that_are_none),
        cmocka_unit_test(SO2_depth_and_left_recursion),
        cmocka_unit_test(SO3_regexes_are_bounded),
        cmocka_unit_test(SO4_many_values_and_properties),
        cmocka_unit_test(SO6_an_ambiguous_grammar_ends_its_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
