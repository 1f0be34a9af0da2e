/*
 * A model folder's tokenizer files: which are read, what of each is told by its name, and files
 * that are no files, too large, or end before they should.
 */
#include "text_files.h"

#include <sys/stat.h>
#include <unistd.h>

#define BYTES OCT_TEST_DATA "/tokenizer/bytes"
#define ADD OCT_ENCODE_ADD_SPECIAL
#define PARSE OCT_ENCODE_PARSE_SPECIAL

static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                    "special_tokens_map.json", "chat_template.jinja"};
static char folder[64];

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, oct_str text) {
    FILE *f = fopen(path_of(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text.ptr, 1, text.len, f), text.len);
    assert_int_equal(fclose(f), 0);
}

/* A folder with a copy of the small tokenizer.json. */
static int make_folder(void **state) {
    oct_buf json;
    (void)state;
    strcpy(folder, "/tmp/octet_files_XXXXXX");
    assert_non_null(mkdtemp(folder));
    oct_buf_init(&json, MEM, 0);
    read_file(BYTES "/tokenizer.json", &json);
    write_text("tokenizer.json", oct_buf_view(&json));
    oct_buf_fini(&json);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    for (size_t i = 0; i < OCT_COUNT(names); i++) (void)remove(path_of(names[i]));
    return rmdir(folder);
}

static void refused(oct_status want, const char *sentence) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    assert_int_equal(oct_tokenizer_open(MEM, folder, &tok, NULL), want); /* nobody asks why */
    assert_int_equal(oct_tokenizer_open(MEM, folder, &tok, &err), want);
    assert_null(tok);
    if (!strstr(err.text, sentence)) print_error("said: %s\n", err.text);
    assert_non_null(strstr(err.text, sentence));
}

static void each_file_is_read(void **state) {
    (void)state;
    write_text("tokenizer_config.json",
               OCT_STR("{\"eos_token\": \"<|end|>\", \"chat_template\": \"c\"}"));
    write_text("special_tokens_map.json",
               OCT_STR("{\"bos_token\": \"<|bos|>\", \"eos_token\": \"<tool>\"}"));
    write_text("chat_template.jinja", OCT_STR("file"));
    oct_tokenizer *tok = open_tokenizer(folder);
    assert_int_equal(oct_tokenizer_eos(tok), 271); /* the config comes before the map */
    assert_true(oct_str_is(oct_tokenizer_bos_text(tok), "<|bos|>"));
    assert_true(oct_str_is(oct_tokenizer_chat_template(tok, NULL), "file"));
    oct_tokenizer_destroy(tok);
}

static void what_is_wrong_is_told_with_its_file(void **state) {
    (void)state;
    write_text("special_tokens_map.json", OCT_STR("[]"));
    refused(OCT_E_CORRUPT, "special_tokens_map.json: must be an object");
    write_text("special_tokens_map.json", OCT_STR(""));
    refused(OCT_E_CORRUPT, "special_tokens_map.json: empty");
    write_text("tokenizer_config.json", OCT_STR("{\"a\": }"));
    refused(OCT_E_CORRUPT, "tokenizer_config.json: ");
    write_text("tokenizer.json",
               OCT_STR("{\"normalizer\": {\"type\": \"Lowercase\"}, \"model\": {\"type\": \"BPE\","
                       " \"vocab\": {}, \"merges\": []}}"));
    refused(OCT_E_UNSUPPORTED, "tokenizer.json: normalizer: type is not supported");
    write_text("tokenizer.json", OCT_STR(""));
    refused(OCT_E_CORRUPT, "tokenizer.json: ");
}

static void sparse(const char *name, off_t bytes) {
    write_text(name, OCT_STR("{}"));
    assert_int_equal(truncate(path_of(name), bytes), 0);
}

static void TK3_files_that_are_too_large(void **state) {
    (void)state;
    sparse("special_tokens_map.json", (16 << 20) + 1);
    refused(OCT_E_CORRUPT,
            "special_tokens_map.json: too large (got 16777217 bytes, want at most 16777216)");
    sparse("tokenizer.json", (256 << 20) + 1);
    refused(OCT_E_CORRUPT, "tokenizer.json: too large (got 268435457 bytes");
}

/* A FIFO would keep a reader waiting for ever. */
static void CF_files_that_are_none(void **state) {
    (void)state;
    assert_int_equal(mkdir(path_of("special_tokens_map.json"), 0700), 0);
    refused(OCT_E_IO, "special_tokens_map.json: not a regular file");
    assert_int_equal(rmdir(path_of("special_tokens_map.json")), 0);
    assert_int_equal(mkfifo(path_of("special_tokens_map.json"), 0600), 0);
    refused(OCT_E_IO, "special_tokens_map.json: not a regular file");
    assert_int_equal(unlink(path_of("special_tokens_map.json")), 0);
    assert_int_equal(symlink("special_tokens_map.json", path_of("special_tokens_map.json")), 0);
    refused(OCT_E_IO, "special_tokens_map.json: Too many levels");
}

/* Files of /sys say one page and hold less. */
static void CF_a_file_that_ends_early(void **state) {
    static const char file[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    struct stat st;
    (void)state;
    if (stat(file, &st) != 0 || st.st_size < 4096) {
        print_message("SKIPPED: no %s\n", file);
        skip();
    }
    assert_int_equal(symlink(file, path_of("tokenizer_config.json")), 0);
    refused(OCT_E_IO, "tokenizer_config.json: became shorter while it was read");
}

/* ---- tokenizer.json itself ---- */

static void parse_refused(oct_str json, const char *sentence) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    const oct_status st =
        oct_tokenizer_parse(MEM, json, (oct_str){NULL, 0}, (oct_str){NULL, 0}, &tok, &err);
    if (!strstr(err.text, sentence)) print_error("said: %s\n", err.text);
    assert_int_equal(st, OCT_E_CORRUPT);
    assert_null(tok);
    assert_non_null(strstr(err.text, sentence));
}

#define MODEL(vocab, merges) \
    "\"model\": {\"type\": \"BPE\", \"vocab\": " vocab ", \"merges\": " merges "}"
#define WITH_NUL(text) ((oct_str){text, sizeof text - 1})

#define FUSE "\"decoder\": {\"type\": \"Fuse\"}, "
#define FUSED(vocab, merges) FUSE MODEL(vocab, merges)

static void TK3_text_that_is_broken(void **state) {
    (void)state;
    parse_refused(WITH_NUL("{\"a\": \0}"), "no value");
    parse_refused(WITH_NUL("{\"a\": [\0]}"), "a NUL byte");
    parse_refused(WITH_NUL("{\"a\": nu\0l}"), "a NUL byte");
    parse_refused(WITH_NUL("{" FUSED("{}", "[]") "}\0"), "text behind the end");
    parse_refused(OCT_STR("{" FUSED("{}", "[]") "} x"), "text behind the end");
    parse_refused(OCT_STR("{\"a\\"), "unknown escape");
    parse_refused(OCT_STR("{\"a\\n"), "a string without an end");
    parse_refused(WITH_NUL("{\"a\\\0\": 1}"), "unknown escape");
    parse_refused(OCT_STR("{" FUSED("{\"\\udc00\": 1}", "[]") "}"), "half a surrogate pair");
    parse_refused(OCT_STR("{" FUSED("{\"\\ud83d\\n0000\": 1}", "[]") "}"), "half a surrogate pair");
    parse_refused(OCT_STR("{" FUSED("{\"\\ud83dabcdef\": 1}", "[]") "}"), "half a surrogate pair");
    parse_refused(OCT_STR("{" FUSED("{\"\\ud83d\\ue000\": 1}", "[]") "}"), "half a surrogate pair");
    parse_refused(OCT_STR("{" FUSED("{\"\\u00g0\": 1}", "[]") "}"), "unknown escape");
    parse_refused(OCT_STR("{" FUSED("{\"a\": 1 \"b\": 2}", "[]") "}"), "no ','");
    parse_refused(OCT_STR("{" FUSED("{\"a\": 1, \"b\": 2, \"ab\": 3}", "[\"a b\" \"a b\"]") "}"),
                  "no ','");
    parse_refused(OCT_STR("{" FUSED("[]", "[]") "}"), "no '{'");
    parse_refused(OCT_STR("{" FUSED("{}", "{}") "}"), "no '['");
    parse_refused(OCT_STR("{" FUSE "\"model\": 5}"), "no model");
    parse_refused(OCT_STR("{\"a\": ]}"), "no value");
    parse_refused(OCT_STR("{\"a\": ,}"), "no value");
}

static void repeat(oct_buf *b, const char *one, size_t n) {
    for (size_t i = 0; i < n; i++) oct_buf_cstr(b, one);
}

static void TK3_more_merges_than_the_limit(void **state) {
    (void)state;
    oct_buf json;
    oct_buf_init(&json, MEM, 0);
    oct_buf_cstr(
        &json,
        "{" FUSE
        "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"aa\": 1}, \"merges\": [\"a a\"");
    repeat(&json, ",\"a a\"", OCT_TOKENIZER_MAX_MERGES);
    oct_buf_cstr(&json, "]}}");
    parse_refused(oct_buf_view(&json), "model has more than 4194304 merges");
    oct_buf_fini(&json);
}

static void TK3_more_beside_the_vocabulary_than_the_limit(void **state) {
    (void)state;
    oct_buf json;
    oct_buf_init(&json, MEM, 0);
    oct_buf_cstr(&json, "{\"a\": \"");
    repeat(&json, "0123456789abcdef", 1 << 20);
    oct_buf_cstr(&json, "\"}");
    parse_refused(oct_buf_view(&json), "more than 16777216 bytes beside the vocabulary");
    oct_buf_clear(&json);
    oct_buf_cstr(&json, "{\"");
    repeat(&json, "0123456789abcdef", 1 << 20);
    oct_buf_cstr(&json, "\": 1}");
    parse_refused(oct_buf_view(&json), "more than 16777216 bytes beside the vocabulary");
    oct_buf_fini(&json);
}

static void added_json(oct_buf *json, int n) {
    oct_buf_clear(json);
    oct_buf_cstr(json, "{\"decoder\": {\"type\": \"Fuse\"}, \"added_tokens\": [");
    for (int i = 0; i < n; i++)
        oct_buf_printf(json, "%s{\"id\":%d,\"content\":\"<%d>\"}", i ? "," : "", i + 1, i);
    oct_buf_cstr(json, "], " MODEL("{\"a\": 0}", "[]") "}");
}

static void TK2_many_added_tokens(void **state) {
    (void)state;
    oct_buf json;
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    oct_buf_init(&json, MEM, 0);
    added_json(&json, OCT_TOKENIZER_MAX_ADDED + 1);
    parse_refused(oct_buf_view(&json), "added_tokens: more than 65536");
    added_json(&json, 3000);
    if (oct_tokenizer_parse(MEM, oct_buf_view(&json), (oct_str){NULL, 0}, (oct_str){NULL, 0}, &tok,
                            &err) != OCT_OK)
        fail_msg("%s", err.text);
    CHECK_IDS(tok, "a<0>a<2999><70><700>", PARSE, 0, 1, 0, 3000, 71, 701);
    oct_tokenizer_destroy(tok);
    oct_buf_fini(&json);
}

/* Blanks that one token's rule took are gone for the next one; rules end where the text does. */
static void rules_of_added_tokens(void **state) {
    (void)state;
    static const char json[] =
        "{\"added_tokens\": [{\"id\": 10, \"content\": \"<r>\", \"rstrip\": true},"
        " {\"id\": 11, \"content\": \" <x>\"}, {\"id\": 12, \"content\": \"<l>\", \"lstrip\": "
        "true},"
        " {\"id\": 13, \"content\": \"w\", \"single_word\": true}], \"decoder\": {\"type\": "
        "\"Fuse\"}," MODEL("{\"a\": 0, \"<\": 1, \"x\": 2, \">\": 3, \" \": 4, \"-\": 5}",
                           "[]") "}";
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    if (oct_tokenizer_parse(MEM, OCT_STR(json), (oct_str){NULL, 0}, (oct_str){NULL, 0}, &tok,
                            &err) != OCT_OK)
        fail_msg("%s", err.text);
    CHECK_IDS(tok, "a <x>", PARSE, 0, 11);
    CHECK_IDS(tok, "<r> <x>", PARSE, 10, 1, 2, 3);
    CHECK_IDS(tok, "<r>  ", PARSE, 10);
    CHECK_IDS(tok, "  <l>", PARSE, 12);
    CHECK_IDS(tok, "<r>  <l>", PARSE, 10, 12);
    CHECK_IDS(tok, "w", PARSE, 13);
    CHECK_IDS(tok, "-w-", PARSE, 5, 13, 5);
    check_ids(tok, OCT_STR("aw"), PARSE, (const int32_t[]){0}, 1); /* a letter touches it */
    check_ids(tok, OCT_STR("\xC3\xA9w"), PARSE, NULL, 0);
    check_ids(tok, OCT_STR("wa"), PARSE, (const int32_t[]){0}, 1);
    oct_tokenizer_destroy(tok);
}

/* Of a vocabulary of bytes, a token that is not written in their alphabet is only found when the
 * added tokens name it so. */
static void TK2_tokens_outside_the_alphabet(void **state) {
    (void)state;
#define BYTES_MODEL(vocab, added)                                                               \
    "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, \"decoder\": " \
    "{\"type\": "                                                                               \
    "\"ByteLevel\"}, \"added_tokens\": [" added "], " MODEL(vocab, "[]") "}"
    static const char good[] =
        BYTES_MODEL("{\"a\": 0, \"a b\": 1, \"c\": 2}",
                    "{\"id\": 1, \"content\": \"a b\"}, {\"id\": 2, \"content\": \"c\"}");
    oct_tokenizer *tok = NULL;
    oct_buf spelling, text;
    assert_int_equal(
        oct_tokenizer_parse(MEM, OCT_STR(good), (oct_str){NULL, 0}, (oct_str){NULL, 0}, &tok, NULL),
        OCT_OK);
    CHECK_IDS(tok, "aa bac", PARSE, 0, 1, 0, 2);
    oct_buf_init(&spelling, MEM, 0);
    for (int32_t id = 0; id < 3; id++) oct_tokenizer_token_spelling(tok, id, &spelling);
    oct_tokenizer_token_spelling(tok, 3, &spelling); /* no such token */
    assert_string_equal(oct_buf_cs(&spelling), "aa bc");
    assert_int_equal(oct_tokenizer_find(tok, OCT_STR("a c")), -1);
    oct_buf_init(&text, MEM, 0);
    repeat(&text, "a", 8193);
    assert_int_equal(oct_tokenizer_find(tok, oct_buf_view(&text)), -1);
    oct_buf_fini(&text);
    oct_buf_fini(&spelling);
    oct_tokenizer_destroy(tok);
    parse_refused(
        OCT_STR(BYTES_MODEL("{\"a\": 0, \"a b\": 1}", "{\"id\": 1, \"content\": \"a c\"}")),
        "added_tokens: id 1 is taken by another token");
    parse_refused(OCT_STR(BYTES_MODEL("{\"a\": 0, \"b\": 1}", "{\"id\": 1, \"content\": \"a c\"}")),
                  "added_tokens: id 1 is taken by another token");
    parse_refused(
        OCT_STR(BYTES_MODEL("{\"a\": 0, \"b\": 1}",
                            "{\"id\": 5, \"content\": \"x\"}, {\"id\": 5, \"content\": \"y\"}")),
        "added_tokens: id 5 is taken by another token");
}

static void TK6_text_that_is_too_long(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    oct_ids ids;
    oct_err err = {0};
    oct_ids_init(&ids, MEM);
    /* refused before a byte is read */
    assert_int_equal(oct_tokenizer_encode(tok, (oct_str){"x", (size_t)1 << 31}, PARSE, &ids, &err),
                     OCT_E_INVALID);
    assert_non_null(strstr(err.text, "too long (got 2147483648 bytes, want below 2 GiB)"));
    oct_ids_fini(&ids);
    oct_tokenizer_destroy(tok);
}

int main(void) {
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(each_file_is_read),
        IN_FOLDER(what_is_wrong_is_told_with_its_file),
        IN_FOLDER(TK3_files_that_are_too_large),
        IN_FOLDER(CF_files_that_are_none),
        IN_FOLDER(CF_a_file_that_ends_early),
        cmocka_unit_test(TK3_text_that_is_broken),
        cmocka_unit_test(TK3_more_merges_than_the_limit),
        cmocka_unit_test(TK3_more_beside_the_vocabulary_than_the_limit),
        cmocka_unit_test(TK2_many_added_tokens),
        cmocka_unit_test(rules_of_added_tokens),
        cmocka_unit_test(TK2_tokens_outside_the_alphabet),
        cmocka_unit_test(TK6_text_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
