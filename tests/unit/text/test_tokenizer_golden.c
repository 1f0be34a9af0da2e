/*
 * Published vocabularies against the reference library's ids and texts: expected.json beside each
 * tokenizer.json. The folder is $OCTET_GOLDEN/tokenizers (default ../shared/golden); without it the
 * tests say SKIPPED.
 */
#include "text_files.h"

#include "base/clock.h"
#include "codec/json.h"

static bool golden_folder(const char *name, char *out, size_t size) {
    const char *root = getenv("OCTET_GOLDEN");
    char path[1024];
    snprintf(out, size, "%s/tokenizers/%s", root ? root : OCT_SOURCE_DIR "/../shared/golden", name);
    snprintf(path, sizeof path, "%s/expected.json", out);
    if (file_exists(path)) return true;
    print_message("SKIPPED: no golden data at %s (set OCTET_GOLDEN)\n", path);
    return false;
}

static size_t ids_of(const json_t *list, int32_t **out) {
    const size_t n = json_array_size(list);
    *out = calloc(n + 1, sizeof **out);
    for (size_t i = 0; i < n; i++) (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void check_entry(const oct_tokenizer *tok, const json_t *entry) {
    const oct_str text = oct_json_str(json_object_get(entry, "text"));
    int32_t *ids, *special;
    const size_t n = ids_of(json_object_get(entry, "ids"), &ids);
    const size_t n_special = ids_of(json_object_get(entry, "ids_special"), &special);
    check_ids(tok, text, OCT_ENCODE_PARSE_SPECIAL, ids, n);
    check_ids(tok, text, OCT_ENCODE_PARSE_SPECIAL | OCT_ENCODE_ADD_SPECIAL, special, n_special);
    check_text(tok, ids, n, false, oct_json_str(json_object_get(entry, "decoded")));
    check_text(tok, ids, n, true, oct_json_str(json_object_get(entry, "decoded_skip")));
    free(ids);
    free(special);
}

static void agrees(const char *name) {
    char folder[900], path[1024];
    oct_buf text;
    json_t *expected = NULL;
    oct_err err = {0};
    if (!golden_folder(name, folder, sizeof folder)) skip();
    snprintf(path, sizeof path, "%s/expected.json", folder);
    oct_buf_init(&text, MEM, 0);
    read_file(path, &text);
    assert_int_equal(oct_json_parse(oct_buf_view(&text), "expected.json", &oct_json_file_limits,
                                    &expected, &err),
                     OCT_OK);
    const uint64_t begin = oct_now_ns();
    oct_tokenizer *tok = open_tokenizer(folder);
    print_message("%s: opened in %.0f ms\n", name, (double)(oct_now_ns() - begin) / 1e6);
    const json_t *entries = json_object_get(expected, "encode");
    assert_true(json_array_size(entries) > 100);
    for (size_t i = 0; i < json_array_size(entries); i++)
        check_entry(tok, json_array_get(entries, i));
    oct_tokenizer_destroy(tok);
    json_decref(expected);
    oct_buf_fini(&text);
}

static void llama3_1_agrees(void **state) {
    (void)state;
    agrees("llama3_1");
}

static void qwen3_agrees(void **state) {
    (void)state;
    agrees("qwen3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_1_agrees),
        cmocka_unit_test(qwen3_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
