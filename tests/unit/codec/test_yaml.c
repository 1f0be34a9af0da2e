/* test_yaml.c - YAML as JSON values, and what of YAML is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/json.h"
#include "codec/yaml.h"

static void is(const char *yaml, const char *json) {
    json_t *v = NULL, *want = NULL;
    oct_err err = {0};
    if (oct_yaml_parse(oct_str_of(yaml), "f", &v, &err) != OCT_OK) fail_msg("%s", err.text);
    want = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(want);
    if (!json_equal(v, want)) fail_msg("%s", json_dumps(v, JSON_ENCODE_ANY));
    json_decref(v);
    json_decref(want);
}

static void refused(const char *yaml, const char *word) {
    json_t *v = NULL;
    oct_err err = {0};
    assert_int_equal(oct_yaml_parse(oct_str_of(yaml), "f", &v, &err), OCT_E_INVALID);
    assert_null(v);
    if (!strstr(err.text, word) || strncmp(err.text, "f: ", 3) != 0) fail_msg("%s", err.text);
}

static void values(void **state) {
    (void)state;
    is("", "null");
    is("# nothing\n", "null");
    is("a: 1\nb: -2\nc: 1.5\nd: 1e3\n", "{\"a\":1,\"b\":-2,\"c\":1.5,\"d\":1000.0}");
    is("a: yes\nb: No\nc: on\nd: OFF\ne: true\nf: 'true'\n",
       "{\"a\":true,\"b\":false,\"c\":true,\"d\":false,\"e\":true,\"f\":\"true\"}");
    is("a:\nb: ~\nc: ''\n", "{\"a\":null,\"b\":null,\"c\":\"\"}");
    is("max-model-len: 25.6k\nx: 1 2\n", "{\"max-model-len\":\"25.6k\",\"x\":\"1 2\"}");
    is("a:\n- 1\n- [x, {y: z}]\n", "{\"a\":[1,[\"x\",{\"y\":\"z\"}]]}");
    is("a: |\n  two\n  lines\n", "{\"a\":\"two\\nlines\\n\"}");
    is("{\"json\": [1, null]}", "{\"json\":[1,null]}");
    is("\xc3\xa9: \"\\u00e9\"", "{\"\xc3\xa9\":\"\xc3\xa9\"}");
}

static void refusals(void **state) {
    (void)state;
    refused("a: &x 1\n", "anchors");
    refused("a: !!str 1\n", "tags");
    refused("--- 1\n--- 2\n", "more than one document");
    refused("a: 1\nb: 2\na: 3\n", "twice (at line 3)");
    refused("? [x]\n: y\n", "no scalar");
    refused("a: [1, 2\n", "at line");
    refused("a: b: c\n", "at line 1");
    refused("a: \"\\0\"\n", "NUL");
    refused("\xff\xfe", "f: ");
}

static void limits(void **state) {
    (void)state;
    char deep[3 * OCT_YAML_MAX_DEPTH];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    refused(deep, "too deeply");
    const size_t n = OCT_YAML_MAX_BYTES + 1;
    char *large = malloc(n + 1);
    memset(large, ' ', n);
    large[n] = '\0';
    refused(large, "too large");
    memcpy(large, "[", 1);
    for (size_t i = 1; i + 2 < 3 * OCT_YAML_MAX_PARTS; i += 2) memcpy(large + i, "1,", 2);
    large[3 * OCT_YAML_MAX_PARTS] = '\0';
    refused(large, "too many");
    free(large);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(refusals),
                                       cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
