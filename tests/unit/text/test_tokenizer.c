/* text/tokenizer.h from small files of ours: rows TK1 to TK4, TK6, TK7, TK9 of the bad-input table,
 * and the rules of each part. The expected ids are the reference library's for the same files. */
#include "text_files.h"

#define BYTES OCT_TEST_DATA "/tokenizer/bytes"
#define PIECES OCT_TEST_DATA "/tokenizer/pieces"
#define ADD OCT_ENCODE_ADD_SPECIAL
#define PARSE OCT_ENCODE_PARSE_SPECIAL

/* The file with one place changed must be refused with the status and the word. */
static void refused(const char *folder, const char *from, const char *to, oct_status want,
                    const char *word) {
    oct_buf json;
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    oct_buf_init(&json, MEM, 0);
    read_file(path, &json);
    replace_once(&json, from, to);
    const oct_status got = oct_tokenizer_parse(MEM, oct_buf_view(&json), (oct_str){NULL, 0},
                                               (oct_str){NULL, 0}, &tok, &err);
    if (got != want || !strstr(err.text, word))
        print_error("%s -> %s: %s, \"%s\"\n", from, to, oct_status_name(got), err.text);
    assert_null(tok);
    assert_int_equal(got, want);
    assert_int_equal(err.code, want);
    assert_non_null(strstr(err.text, word));
    oct_buf_fini(&json);
}

static void bytes_encode_as_the_reference(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    CHECK_IDS(tok, "hello world", 0, 259, 264);
    CHECK_IDS(tok, "hello world", ADD, 270, 259, 264);
    CHECK_IDS(tok, "hello  world\n\n\nhello's", PARSE, 259, 32, 264, 268, 10, 259, 39, 115);
    CHECK_IDS(tok, "e\xCC\x81", PARSE, 195, 169); /* NFC */
    CHECK_IDS(tok, "\xC3\xA9", PARSE, 195, 169);
    CHECK_IDS(tok, "aaaaaaa", PARSE, 266, 265, 97);
    CHECK_IDS(tok, "1234", PARSE, 49, 50, 51, 52);
    CHECK_IDS(tok, "Hello'S \xC2\xA0ok", PARSE, 72, 101, 258, 39, 83, 32, 194, 160, 111, 107);
    check_ids(tok, OCT_STR(""), PARSE, NULL, 0);
    CHECK_IDS(tok, "", ADD, 270);
    oct_tokenizer_destroy(tok);
}

static void added_tokens_follow_their_rules(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    CHECK_IDS(tok, "x  <mask> y", PARSE, 120, 273, 32, 121); /* lstrip */
    CHECK_IDS(tok, "<r>  z", PARSE, 275, 122);               /* rstrip */
    CHECK_IDS(tok, "a<word>b <word> c", PARSE, 97, 60, 119, 261, 100, 62, 98, 32, 274, 32, 99);
    CHECK_IDS(tok, "<tool><|bos|>", PARSE, 272, 270);
    CHECK_IDS(tok, "<late>", PARSE, 276); /* only in tokenizer_config.json */
    oct_tokenizer_destroy(tok);
}

static void TK7_special_text_is_text_under_a_flag(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    CHECK_IDS(tok, "a<|end|>b", PARSE, 97, 271, 98);
    CHECK_IDS(tok, "<|end|>", 0, 60, 124, 101, 110, 100, 124, 62);
    CHECK_IDS(tok, "<tool>", 0, 272); /* added, but not special */
    CHECK_IDS(tok, "<|end|", PARSE, 60, 124, 101, 110, 100, 124);
    oct_tokenizer_destroy(tok);
}

static void tokens_by_id_and_name(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    oct_buf spelling;
    oct_buf_init(&spelling, MEM, 0);
    assert_int_equal(oct_tokenizer_n_vocab(tok), 277);
    assert_int_equal(oct_tokenizer_find(tok, OCT_STR("\xC4\xA0world")), 264);
    assert_int_equal(oct_tokenizer_find(tok, OCT_STR("<|end|>")), 271);
    assert_int_equal(oct_tokenizer_find(tok, OCT_STR("nothing")), -1);
    assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, 264), " world"));
    oct_tokenizer_token_spelling(tok, 264, &spelling);
    assert_string_equal(oct_buf_cs(&spelling), "\xC4\xA0world");
    assert_true(oct_tokenizer_is_special(tok, 271));
    assert_false(oct_tokenizer_is_special(tok, 272));
    assert_int_equal(oct_tokenizer_max_token_bytes(tok), 7);
    assert_int_equal(oct_tokenizer_eos(tok), 271);
    assert_true(oct_str_is(oct_tokenizer_pad_text(tok), ""));
    assert_true(oct_str_is(oct_tokenizer_bos_text(tok), "<|bos|>"));
    assert_true(oct_str_is(oct_tokenizer_chat_template(tok, "tool_use"), "{{ tools }}"));
    assert_true(oct_str_is(oct_tokenizer_chat_template(tok, NULL), "{{ messages[0].content }}"));
    assert_null(oct_tokenizer_chat_template(tok, "rag").ptr);
    oct_buf_fini(&spelling);
    oct_tokenizer_destroy(tok);
}

static void TK9_ids_without_text_give_nothing(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    CHECK_TEXT(tok, false, "hello world", 259, 269, 264, 277, 5000, INT32_MAX, -1, INT32_MIN);
    CHECK_TEXT(tok, false, "<|bos|>hello", 270, 259);
    CHECK_TEXT(tok, true, "hello<tool>", 270, 259, 272);
    assert_false(oct_tokenizer_has(tok, 269));
    assert_false(oct_tokenizer_is_special(tok, -1));
    assert_int_equal(oct_tokenizer_token_bytes(tok, 300).len, 0);
    oct_tokenizer_destroy(tok);
}

static void TK2_ids_against_embedding_rows(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    oct_err err = {0};
    assert_int_equal(oct_tokenizer_check_rows(tok, 277, &err), OCT_OK);
    assert_int_equal(oct_tokenizer_check_rows(tok, 276, &err), OCT_E_CORRUPT);
    assert_non_null(strstr(err.text, "276"));
    oct_tokenizer_destroy(tok);
}

static void pieces_encode_as_the_reference(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(PIECES);
    CHECK_IDS(tok, "hello world", ADD, 1, 275, 280);
    CHECK_IDS(tok, "  hello", ADD, 1, 270, 275);
    CHECK_IDS(tok, "aaaa\xE4\xB8\xAD", ADD, 1, 259, 282, 231, 187, 176);
    CHECK_IDS(tok, "\xC3\xA9\n", ADD, 1, 259, 269, 13);
    CHECK_IDS(tok, "<s>hello</s> world", ADD | PARSE, 1, 1, 275, 2, 270, 264, 277, 279);
    CHECK_TEXT(tok, true, "hello world", 1, 275, 280);
    CHECK_TEXT(tok, false, "<s> hello", 1, 275);
    CHECK_TEXT(tok, true, "aaaa\xE4\xB8\xAD", 1, 259, 282, 231, 187, 176);
    CHECK_TEXT(tok, true, "\xEF\xBF\xBD\n", 231, 187, 13);
    oct_tokenizer_destroy(tok);
}

/* All marks of the first token and none of the second, as in the reference. */
static void a_metaspace_decoder_strips_the_first_token(void **state) {
    static const int32_t ids[] = {270, 259, 119}; /* two marks, one mark, "t" */
    oct_tokenizer *tok = NULL;
    oct_buf json, text;
    oct_err err = {0};
    (void)state;
    oct_buf_init(&json, MEM, 0);
    read_file(PIECES "/tokenizer.json", &json);
    replace_once(&json, "\"decoders\": [",
                 "\"decoders\": [{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", "
                 "\"prepend_scheme\": \"always\"}], \"other\": [");
    assert_int_equal(oct_tokenizer_parse(MEM, oct_buf_view(&json), (oct_str){NULL, 0},
                                         (oct_str){NULL, 0}, &tok, &err),
                     OCT_OK);
    oct_buf_init(&text, MEM, 0);
    oct_tokenizer_decode(tok, ids, 3, false, &text);
    assert_string_equal(oct_buf_cs(&text), " <0x74>");
    oct_buf_clear(&text);
    oct_tokenizer_decode(tok, ids + 2, 1, false, &text);
    assert_string_equal(oct_buf_cs(&text), "<0x74>");
    oct_buf_fini(&text);
    oct_buf_fini(&json);
    oct_tokenizer_destroy(tok);
}

static void TK1_unknown_parts_are_named(void **state) {
    (void)state;
    const oct_status no = OCT_E_UNSUPPORTED;
    refused(BYTES, "\"type\": \"BPE\"", "\"type\": \"Unigram\"", no, "Unigram");
    refused(BYTES, "\"type\": \"BPE\"", "\"type\": 3", no, "model: type");
    refused(BYTES, "\"type\": \"NFC\"", "\"type\": \"Lowercase\"", no, "normalizer: type");
    refused(BYTES, "\"type\": \"Split\"", "\"type\": \"UnicodeScripts\"", no, "UnicodeScripts");
    refused(BYTES, "\"Isolated\"", "\"MergedWithNext\"", no, "MergedWithNext");
    refused(BYTES, "\"invert\": false", "\"invert\": true", no, "invert");
    refused(BYTES, "\"type\": \"TemplateProcessing\"", "\"type\": \"BertProcessing\"", no,
            "BertProcessing");
    refused(BYTES, "\"dropout\": null", "\"dropout\": 0.1", no, "dropout");
    refused(BYTES, "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", no, "</w>");
    refused(BYTES, "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": 5", no, "(got 5)");
    refused(BYTES, "\"decoder\": {\n  \"type\": \"ByteLevel\"",
            "\"decoder\": {\n  \"type\": \"WordPiece\"", no, "WordPiece");
    refused(BYTES, "\"decoder\": {\n  \"type\": \"ByteLevel\"",
            "\"decoder\": {\n  \"type\": \"Fuse\"", no, "decoder");
    refused(PIECES, "\"type\": \"Prepend\"", "\"type\": \"Precompiled\"", no, "Precompiled");
    refused(PIECES, "\"type\": \"Fuse\"", "\"type\": \"CTC\"", no, "CTC");
    refused(PIECES, "\"String\": \" \"", "\"Regex\": \" \"", no, "Replace pattern");
    refused(BYTES, "\"pretokenizers\": [",
            "\"pretokenizers\": [{\"type\": \"ByteLevel\", \"add_prefix_space\": false},", no,
            "a part after ByteLevel");
    refused(BYTES, "\"invert\": false", "\"invert\": \"false\"", OCT_E_CORRUPT,
            "invert must be true or false");
    refused(BYTES, "\"lstrip\": true", "\"lstrip\": null", OCT_E_CORRUPT,
            "lstrip must be true or false");
    refused(BYTES, "\"dropout\": null", "\"dropout\": \"0\"", OCT_E_UNSUPPORTED, "dropout");
}

static void TK2_bad_ids(void **state) {
    (void)state;
    const oct_status bad = OCT_E_CORRUPT;
    refused(BYTES, "\"!\": 33", "\"!\": -1", bad, "out of range");
    refused(BYTES, "\"!\": 33", "\"!\": 2147483648", bad, "out of range");
    refused(BYTES, "\"!\": 33", "\"!\": 99999999999999999999", bad, "no integer");
    refused(BYTES, "\"!\": 33", "\"!\": 33.0", bad, "no integer");
    refused(BYTES, "\"!\": 33", "\"!\": 1E1", bad, "no integer");
    refused(BYTES, "\"!\": 33", "\"!\": ", bad, "no integer");
    refused(BYTES, "\"!\": 33", "\"!\": \"33\"", bad, "no integer");
    refused(BYTES, "\"!\": 33", "\"!\": 34", bad, "two tokens have the id 34");
    refused(BYTES, "\"!\": 33", "\"\\\"\": 33", bad, "spelled alike");
    refused(BYTES, "\"content\": \"<tool>\"", "\"content\": \"\"", bad, "empty");
    refused(BYTES, "\"content\": \"<tool>\"", "\"content\": \"hello\"", bad, "spelled like");
    refused(BYTES, "\"id\": 272", "\"id\": 259", bad, "259");
    refused(BYTES, "\"id\": 272", "\"id\": -5", bad, "out of range");
    refused(BYTES, "\"ids\": [\n       270\n", "\"ids\": [\n       99999\n", bad, "post_processor");
}

static void TK2_long_added_token(void **state) {
    (void)state;
    char to[5000] = "\"content\": \"";
    size_t n = strlen(to);
    memset(to + n, 'x', 4097);
    strcpy(to + n + 4097, "\"");
    refused(BYTES, "\"content\": \"<tool>\"", to, OCT_E_CORRUPT, "too long");
}

static void TK3_bad_merges(void **state) {
    (void)state;
    const oct_status bad = OCT_E_CORRUPT;
    refused(BYTES, "\"he\",\n    \"llo\"", "\"hex\",\n    \"llo\"", bad, "merges[3]");
    refused(BYTES, "\"he\",\n    \"llo\"", "\"llo\",\n    \"he\"", bad, "makes a token");
    refused(BYTES, "\"he\",\n    \"llo\"", "\"he\"", bad, "no ','");
    refused(BYTES, "\"he\",\n    \"llo\"", "\"he\",\n    \"\"", bad, "merges[3]");
    refused(PIECES, "\"ll o\"", "\"ll  o\"", bad, "merges[3]");
    refused(PIECES, "\"ll o\"", "\"llo\"", bad, "merges[3]");
    refused(PIECES, "\"ll o\"", "7", bad, "no '\"'");
}

static void json_that_is_cut_or_broken(void **state) {
    (void)state;
    oct_buf json;
    oct_buf_init(&json, MEM, 0);
    read_file(BYTES "/tokenizer.json", &json);
    for (size_t len = 0; len + 2 < json.len; len += 7) {
        oct_tokenizer *tok = NULL;
        oct_err err = {0};
        /* An exact copy, so that a read behind the end is seen. */
        char *copy = malloc(len + 1);
        memcpy(copy, json.data, len);
        const oct_status st = oct_tokenizer_parse(MEM, (oct_str){copy, len}, (oct_str){NULL, 0},
                                                  (oct_str){NULL, 0}, &tok, &err);
        free(copy);
        assert_int_equal(st, OCT_E_CORRUPT);
        assert_int_not_equal(err.text[0], '\0');
    }
    oct_buf_fini(&json);
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"a\\qb\": 400,", OCT_E_CORRUPT, "escape");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"\\ud800\": 400,", OCT_E_CORRUPT, "surrogate");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"a\nb\": 400,", OCT_E_CORRUPT, "control");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"\xFF\": 400,", OCT_E_CORRUPT, "UTF-8");
    refused(BYTES, "\"merges\": [", "\"vocab\": {}, \"merges\": [", OCT_E_CORRUPT, "twice");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"\\udc00\": 400,", OCT_E_CORRUPT, "surrogate");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"\\ud800\\nabcd\": 400,", OCT_E_CORRUPT,
            "surrogate");
    refused(BYTES, "\"vocab\": {", "\"vocab\": {\"\\ud800\\u0041\": 400,", OCT_E_CORRUPT,
            "surrogate");
}

/* Texts of a few bytes, of which nothing but the walk over them sees anything. */
static void json_that_ends_too_soon(void **state) {
    (void)state;
#define TEXT(s) \
    { s, sizeof s - 1 }
    static const struct {
        oct_str text;
        const char *word;
    } rows[] = {{TEXT("{\"\\"), "an unknown escape in a string (at byte 2)"},
                {TEXT("{\"\\\0\":1}"), "an unknown escape in a string (at byte 2)"},
                {TEXT("{\"\\u12"), "an unknown escape in a string (at byte 2)"},
                {TEXT("{\"abc"), "a string without an end (at byte 5)"},
                {TEXT("{\"a\":\"b\\"), "a string without an end"},
                {TEXT("{\"a\":\0}"), "no value (at byte 5)"},
                {TEXT("{\"a\":1\0}"), "a NUL byte (at byte 6)"},
                {TEXT("{\"a\":1"), "no ',' (at byte 6)"},
                {TEXT("{\"a\":[1"), "the text ends inside a value"},
                {TEXT("{\"a\""), "no ':' (at byte 4)"},
                {TEXT("{} x"), "text behind the end (at byte 3)"},
                {TEXT("{}\0"), "text behind the end (at byte 2)"}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_tokenizer *tok = NULL;
        oct_err err = {0};
        const oct_status got = oct_tokenizer_parse(MEM, rows[i].text, (oct_str){NULL, 0},
                                                   (oct_str){NULL, 0}, &tok, &err);
        if (!strstr(err.text, rows[i].word)) fail_msg("%zu: %s", i, err.text);
        assert_int_equal(got, OCT_E_CORRUPT);
        assert_null(tok);
    }
}

static void TK4_patterns_that_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *word;
    } rows[] = {
        {"(a)\\\\1", "back-reference"},
        {"(a+)+b", "nested quantifier"},
        {"(a|b?)*c", "nested quantifier"},
        {"a{2,4}{3}", "nested quantifier"},
        {"a{5000}", "above 1000"},
        {"a{1,3}+", "counted repeat"},
        {"(a", "unmatched"},
        {"a)", "unmatched"},
        {"[a", "unterminated"},
        {"a*", "a match of nothing"},
        {"(?R)", "unknown kind"},
        {"(*LIMIT_MATCH=1)a", "a verb"},
        {"[a&&b]", "intersection"},
        {"\\\\h+", "read differently"},
        {"(?<n>a)\\\\k<n>", "unknown kind"},
        {"\\\\p{Nonsense}", "invalid"},
        {"((((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))))", "too many"},
    };
    oct_buf json, pattern;
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_buf_init(&json, MEM, 0);
        oct_buf_init(&pattern, MEM, 0);
        read_file(BYTES "/tokenizer.json", &json);
        const char *from = strstr(json.data, "\"Regex\": \""), *to = strstr(from, "\"\n");
        oct_buf_add(&pattern, from, (size_t)(to + 1 - from));
        char new_text[256];
        snprintf(new_text, sizeof new_text, "\"Regex\": \"%s\"", rows[i].pattern);
        refused(BYTES, oct_buf_cs(&pattern), new_text, OCT_E_UNSUPPORTED, rows[i].word);
        oct_buf_fini(&json);
        oct_buf_fini(&pattern);
    }
}

static void TK6_text_that_is_not_utf8(void **state) {
    (void)state;
    static const oct_str bad[] = {{"a\xFF", 2},      {"\xED\xA0\x80", 3},
                                  {"\xC0\x80", 2},   {"\xF4\x90\x80\x80", 4},
                                  {"ab\xE4\xB8", 4}, {"\x80", 1}};
    oct_tokenizer *tok = open_tokenizer(BYTES);
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        oct_ids ids;
        oct_err err = {0};
        oct_ids_init(&ids, MEM);
        assert_int_equal(oct_tokenizer_encode(tok, bad[i], PARSE, &ids, &err), OCT_E_INVALID);
        assert_non_null(strstr(err.text, "UTF-8"));
        oct_ids_fini(&ids);
    }
    CHECK_IDS(tok, "\0", PARSE, 0);                       /* ordinary text */
    CHECK_IDS(tok, "\xEF\xBB\xBF", PARSE, 239, 187, 191); /* byte-order mark */
    CHECK_IDS(tok, "\xEF\xBF\xBE", PARSE, 239, 191, 190); /* U+FFFE */
    oct_tokenizer_destroy(tok);
}

static void template_file_wins_over_the_config(void **state) {
    (void)state;
    oct_buf json;
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    oct_buf_init(&json, MEM, 0);
    read_file(BYTES "/tokenizer.json", &json);
    assert_int_equal(oct_tokenizer_parse(MEM, oct_buf_view(&json),
                                         OCT_STR("{\"chat_template\": \"config\"}"),
                                         OCT_STR("file"), &tok, &err),
                     OCT_OK);
    assert_true(oct_str_is(oct_tokenizer_chat_template(tok, NULL), "file"));
    assert_true(oct_str_is(oct_tokenizer_bos_text(tok), ""));
    oct_tokenizer_destroy(tok);
    oct_buf_fini(&json);
}

static void a_missing_folder_is_named(void **state) {
    (void)state;
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    assert_int_equal(oct_tokenizer_open(MEM, OCT_TEST_DATA "/no_such", &tok, &err), OCT_E_IO);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    assert_null(tok);
}

static void every_refused_allocation_leaves_nothing(void **state) {
    (void)state;
    oct_buf json;
    oct_buf_init(&json, MEM, 0);
    read_file(PIECES "/tokenizer.json", &json);
    for (size_t k = 0;; k++) {
        oct_fault_alloc f;
        oct_tokenizer *tok = NULL;
        oct_ids ids;
        oct_fault_alloc_init(&f, k, 1);
        oct_ids_init(&ids, &f.allocator);
        oct_status st =
            oct_tokenizer_parse(&f.allocator, oct_buf_view(&json),
                                OCT_STR("{\"bos_token\":\"<s>\"}"), OCT_STR("x"), &tok, NULL);
        if (st == OCT_OK)
            st = oct_tokenizer_encode(tok, OCT_STR("hello  world \xE4\xB8\xAD"), 3, &ids, NULL);
        oct_ids_fini(&ids);
        oct_tokenizer_destroy(tok);
        assert_int_equal(f.live_blocks, 0);
        if (st == OCT_OK) break;
        assert_true(k < 10000);
    }
    oct_buf_fini(&json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_encode_as_the_reference),
        cmocka_unit_test(added_tokens_follow_their_rules),
        cmocka_unit_test(TK7_special_text_is_text_under_a_flag),
        cmocka_unit_test(tokens_by_id_and_name),
        cmocka_unit_test(TK9_ids_without_text_give_nothing),
        cmocka_unit_test(TK2_ids_against_embedding_rows),
        cmocka_unit_test(pieces_encode_as_the_reference),
        cmocka_unit_test(a_metaspace_decoder_strips_the_first_token),
        cmocka_unit_test(TK1_unknown_parts_are_named),
        cmocka_unit_test(TK2_bad_ids),
        cmocka_unit_test(TK2_long_added_token),
        cmocka_unit_test(TK3_bad_merges),
        cmocka_unit_test(json_that_is_cut_or_broken),
        cmocka_unit_test(json_that_ends_too_soon),
        cmocka_unit_test(TK4_patterns_that_are_refused),
        cmocka_unit_test(TK6_text_that_is_not_utf8),
        cmocka_unit_test(template_file_wins_over_the_config),
        cmocka_unit_test(a_missing_folder_is_named),
        cmocka_unit_test(every_refused_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
