/* text/pretok.h: the pieces of each known pattern are those of the reference library for the same
 * texts (blanks, contractions, digits, marks, scripts, controls), and the regex engine agrees with
 * the scanner where it can run the same pattern. */
#include "text_files.h"

#include "base/arena.h"
#include "text/pretok.h"
#include "text/unicode.h"

/* clang-format off */
static const char *const texts[] = {
    " \n\n  x",
    "a \r\n b",
    "don't DON'T we'LL it'\xC5\xBF",
    "12345 x9",
    "e\xCC\x81tude \xC3\xA9",
    "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD ok \xE2\x80\x8D!",
    "tab\tword\xC2\xA0nb\xE3\x80\x80id",
    "HTTPServer is\xC3\x89t\xC3\xA9's",
    "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4 \xE0\xA5\xA8\xE0\xA5\xA9",
    "if(x_1){y+=2;}\n\n",
    "...  \n/ /\n",
    "  \xCC\x81x \xC2\xAD\x01""a",
    "foo\xE2\x80\xA8""bar   ",
};

static const struct {
    const char *patterns[3]; /* applied one after the other */
    const char *pieces[13]; /* by text, parted by '~' */
} rows[] = {
    {{oct_pattern_gpt2},
     {" \n\n ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'~T~ we~'~LL~ it~'~\xC5\xBF",
      "12345~ x~9",
      "e~\xCC\x81~tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\t~word~\xC2\xA0~nb~\xE3\x80\x80~id",
      "HTTPServer~ is\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB~\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ \xE0\xA5\xA8\xE0\xA5\xA9",
      "if~(~x~_~1~){~y~+=~2~;}~\n\n",
      "...~  ~\n~/~ /~\n",
      " ~ \xCC\x81~x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8~bar~   "}},
    {{oct_pattern_qwen2},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'T~ we~'LL~ it~'\xC5\xBF",
      "1~2~3~4~5~ x~9",
      "e~\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8~\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81~x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8""bar~   "}},
    {{oct_pattern_llama3},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'T~ we~'LL~ it~'\xC5\xBF",
      "123~45~ x~9",
      "e~\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81~x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8""bar~   "}},
    {{oct_pattern_qwen35},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'T~ we~'LL~ it~'\xC5\xBF",
      "1~2~3~4~5~ x~9",
      "e\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8~\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8""bar~   "}},
    {{oct_pattern_digits3, oct_pattern_cjk, oct_pattern_deepseek3},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'T~ we~'LL~ it~'~\xC5\xBF",
      "123~45~ x~9",
      "e\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ ~\xE2\x80\x8D~!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB~\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81x~ ~\xC2\xAD~\x01""a",
      "foo~\xE2\x80\xA8""bar~   "}},
    {{oct_pattern_o200k},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don't~ DON'T~ we'LL~ it'\xC5\xBF",
      "123~45~ x~9",
      "e\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is~\xC3\x89t\xC3\xA9's",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8""bar~   "}},
    {{oct_pattern_tekken},
     {" \n\n~ ~ x",
      "a~ \r\n~ b",
      "don~'t~ DON~'T~ we~'LL~ it~'\xC5\xBF",
      "1~2~3~4~5~ x~9",
      "e\xCC\x81tude~ \xC3\xA9",
      "\xF0\x9F\x91\x8B\xF0\x9F\x8F\xBD~ ok~ \xE2\x80\x8D!",
      "tab~\tword~\xC2\xA0nb~\xE3\x80\x80id",
      "HTTPServer~ is~\xC3\x89t\xC3\xA9~'s",
      "\xE4\xB8\xAD\xE6\x96\x87\xE3\x82\xAB\xE3\x82\xBF\xE3\x82\xAB\xE3\x83\x8A~\xE3\x83\xBB\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4~ ~\xE0\xA5\xA8~\xE0\xA5\xA9",
      "if~(x~_~1~){~y~+=~2~;}\n\n",
      "...~  \n~/~ /\n",
      " ~ \xCC\x81x~ \xC2\xAD\x01~a",
      "foo~\xE2\x80\xA8""bar~   "}},
};
/* clang-format on */

static void pieces_of(const oct_pretok *p, oct_str text, oct_buf *out) {
    oct_pretok_cursor c;
    oct_str piece;
    bool more;
    oct_buf_clear(out);
    oct_pretok_begin(&c, p, text);
    for (bool first = true;; first = false) {
        assert_int_equal(oct_pretok_next(&c, &piece, &more, NULL), OCT_OK);
        if (!more) break;
        if (!first) oct_buf_char(out, '~');
        assert_true(piece.len > 0);
        oct_buf_str(out, piece);
    }
    oct_pretok_end(&c);
}

static void known_patterns_cut_as_the_reference(void **state) {
    (void)state;
    oct_arena arena;
    oct_buf got;
    oct_unicode_setup();
    oct_arena_init(&arena, MEM, 0);
    oct_buf_init(&got, MEM, 0);
    for (size_t r = 0; r < OCT_COUNT(rows); r++) {
        oct_pretok p = {0};
        for (size_t k = 0; k < 3 && rows[r].patterns[k]; k++) {
            assert_non_null(oct_scan_find(oct_str_of(rows[r].patterns[k])));
            assert_int_equal(
                oct_pretok_add_pattern(&p, &arena, oct_str_of(rows[r].patterns[k]), NULL), OCT_OK);
        }
        for (size_t t = 0; t < OCT_COUNT(texts); t++) {
            pieces_of(&p, oct_str_of(texts[t]), &got);
            assert_string_equal(oct_buf_cs(&got), rows[r].pieces[t]);
        }
        oct_pretok_fini(&p);
    }
    oct_buf_fini(&got);
    oct_arena_fini(&arena);
}

static uint64_t seed = 42;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed % n);
}

/* A pattern inside a group is another text, so it goes to the regex engine. */
static void regex_engine_agrees_with_scanners(void **state) {
    (void)state;
    static const char *const atoms[] = {"a",
                                        "Z",
                                        "s",
                                        "t",
                                        "'m",
                                        "'D",
                                        "'re",
                                        "'Ve",
                                        "'\xC5\xBF",
                                        "'lx",
                                        "ll",
                                        "'",
                                        "1",
                                        "9",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r",
                                        "\t",
                                        "\xC2\xA0",
                                        "\xE3\x80\x80",
                                        ".",
                                        "/",
                                        "_",
                                        "\xC3\xA9",
                                        "\xCC\x81",
                                        "\xE4\xB8\xAD",
                                        "\xC7\x85",
                                        "\xF0\x9F\x98\x80",
                                        "\xC2\xAD",
                                        "\x01",
                                        "\xC2\xBD",
                                        "\xE2\x80\xA8"};
    oct_arena arena;
    oct_buf got, want, text, pattern;
    oct_unicode_setup();
    oct_arena_init(&arena, MEM, 0);
    oct_buf_init(&got, MEM, 0);
    oct_buf_init(&want, MEM, 0);
    oct_buf_init(&text, MEM, 0);
    oct_buf_init(&pattern, MEM, 0);
    for (size_t r = 0; r < OCT_COUNT(rows); r++) {
        oct_pretok scan = {0}, regex = {0};
        for (size_t k = 0; k < 3 && rows[r].patterns[k]; k++) {
            oct_buf_clear(&pattern);
            oct_buf_printf(&pattern, "(?:%s)", rows[r].patterns[k]);
            assert_null(oct_scan_find(oct_buf_view(&pattern)));
            assert_int_equal(
                oct_pretok_add_pattern(&scan, &arena, oct_str_of(rows[r].patterns[k]), NULL),
                OCT_OK);
            assert_int_equal(oct_pretok_add_pattern(&regex, &arena, oct_buf_view(&pattern), NULL),
                             OCT_OK);
        }
        for (int round = 0; round < 1500; round++) {
            oct_buf_clear(&text);
            for (uint32_t n = 1 + dice(24); n > 0; n--)
                oct_buf_cstr(&text, atoms[dice(OCT_COUNT(atoms))]);
            pieces_of(&scan, oct_buf_view(&text), &got);
            pieces_of(&regex, oct_buf_view(&text), &want);
            assert_string_equal(oct_buf_cs(&got), oct_buf_cs(&want));
        }
        oct_pretok_fini(&scan);
        oct_pretok_fini(&regex);
    }
    oct_buf_fini(&got);
    oct_buf_fini(&want);
    oct_buf_fini(&text);
    oct_buf_fini(&pattern);
    oct_arena_fini(&arena);
}

/* A pattern that looks at the rest of the text from every place must not hang. */
static void TK4_slow_pattern_runs_into_its_limit(void **state) {
    (void)state;
    enum { LEN = 200000 };
    static char text[LEN];
    oct_arena arena;
    oct_pretok p = {0};
    oct_pretok_cursor c;
    oct_str piece;
    oct_err err = {0};
    bool more = true;
    oct_status st = OCT_OK;
    memset(text, 'a', LEN);
    oct_arena_init(&arena, MEM, 0);
    assert_int_equal(oct_pretok_add_pattern(&p, &arena, OCT_STR("a*?a*?a*?a*?b|a"), NULL), OCT_OK);
    oct_pretok_begin(&c, &p, (oct_str){text, LEN});
    while (st == OCT_OK && more) st = oct_pretok_next(&c, &piece, &more, &err);
    oct_pretok_end(&c);
    assert_int_equal(st, OCT_E_FULL);
    assert_non_null(strstr(err.text, "pattern"));
    oct_pretok_fini(&p);
    oct_arena_fini(&arena);
}

static void TK4_more_stages_than_there_are(void **state) {
    (void)state;
    oct_arena arena;
    oct_pretok p = {0};
    oct_err err = {0};
    oct_arena_init(&arena, MEM, 0);
    for (int i = 0; i < OCT_PRETOK_MAX_STAGES; i++)
        assert_int_equal(
            oct_pretok_add_pattern(&p, &arena, i % 2 ? OCT_STR("x+") : oct_str_of(oct_pattern_gpt2),
                                   NULL),
            OCT_OK);
    assert_int_equal(oct_pretok_add_pattern(&p, &arena, OCT_STR("y+"), &err), OCT_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "stages"));
    assert_int_equal(p.n_stages, OCT_PRETOK_MAX_STAGES);
    oct_pretok_fini(&p);
    oct_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_patterns_cut_as_the_reference),
        cmocka_unit_test(regex_engine_agrees_with_scanners),
        cmocka_unit_test(TK4_slow_pattern_runs_into_its_limit),
        cmocka_unit_test(TK4_more_stages_than_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
