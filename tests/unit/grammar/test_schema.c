/* Schemas: texts that must be accepted and refused, keyword by keyword. */
#include "grammar_side.h"

typedef struct row {
    const char *schema;
    const char *yes[10], *no[14];
} row;

static const row rows[] = {
    {"true",
     {"1", "\"a\"", "{\"a\":[1,2,{}]}", "[]", "null", "-1.5e+10", "{ \"a\": 1 }"},
     {"", "{", "[1,]", "{\"a\"}", "01", "1.", "nul", "'a'", "{a:1}", "[1 2]"}},
    {"{\"type\":\"object\"}",
     {"{}", "{ }", "{\"a\":1}", "{\"a\": {\"b\": []}}", "{\n  \"a\": 1\n}"},
     {"[]", "1", "{\"a\":1,}", "{,}"}},
    {"{\"type\":\"boolean\"}", {"true", "false"}, {"1", "True", "\"true\"", "null"}},
    {"{\"type\":\"null\"}", {"null"}, {"0", "Null"}},
    {"{\"type\":[\"boolean\",\"null\"]}", {"true", "false", "null"}, {"0"}},
    {"{\"type\":\"boolean\",\"nullable\":true}", {"true", "null"}, {"0"}},
    {"{\"type\":\"string\"}",
     {"\"\"", "\"abc\"", "\"\xC3\xA9\"", "\"\\n\\u00e9\\\"\"", "\"\\ud83d\\ude00\"",
      "\"\xF0\x9F\x98\x80\""},
     {"\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\\ude00\"", "\"\x80\"", "\"\xED\xA0\x80\"",
      "\"\xC0\x80\"", "\"a\"b"}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"abc\"", "\"\xE4\xB8\xAD\xE4\xB8\xAD\"", "\"\\n\\t\""},
     {"\"a\"", "\"abcd\"", "\"\"", "\"\xE4\xB8\xAD\""}},
    {"{\"type\":\"string\",\"minLength\":2}", {"\"ab\"", "\"abcdef\""}, {"\"a\"", "\"\""}},
    {"{\"type\":\"string\",\"maxLength\":0}", {"\"\""}, {"\"a\""}},
    {"{\"type\":\"string\",\"pattern\":\"^a+$\"}",
     {"\"a\"", "\"aaa\""},
     {"\"\"", "\"b\"", "\"ab\""}},
    {"{\"type\":\"string\",\"pattern\":\"b\"}",
     {"\"b\"", "\"abc\"", "\"\\\"b\""},
     {"\"\"", "\"ac\""}},
    {"{\"type\":\"string\",\"pattern\":\"^x|y$\"}",
     {"\"x\"", "\"xa\"", "\"ay\""},
     {"\"ax\"", "\"ya\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[\\\"\\\\\\\\]$\"}",
     {"\"\\\"\"", "\"\\\\\""},
     {"\"\"\"", "\"a\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-28\"", "\"1999-12-31\""},
     {"\"2024-02-30\"", "\"2024-13-01\"", "\"24-01-01\"", "\"2024-04-31\""}},
    {"{\"type\":\"string\",\"format\":\"date-time\"}",
     {"\"2024-02-28T10:00:00Z\"", "\"2024-02-28T23:59:59.123+02:00\""},
     {"\"2024-02-28\"", "\"2024-02-28T24:00:00Z\""}},
    {"{\"type\":\"string\",\"format\":\"time\"}",
     {"\"10:00:00Z\""},
     {"\"10:00\"", "\"25:00:00Z\""}},
    {"{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"123e4567-e89b-12d3-a456-426614174000\""},
     {"\"123e4567\"", "\"\""}},
    {"{\"type\":\"string\",\"format\":\"email\"}",
     {"\"a.b@example.org\""},
     {"\"a@b\"", "\"@b.org\"", "\"a b@c.org\""}},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}",
     {"\"127.0.0.1\"", "\"255.255.255.255\""},
     {"\"256.0.0.1\"", "\"1.2.3\""}},
    {"{\"type\":\"string\",\"format\":\"uri\"}",
     {"\"https://example.org/a?b=c#d\""},
     {"\"example\"", "\"http:// a\""}},
    {"{\"type\":\"integer\"}", {"0", "-1", "123", "-10"}, {"01", "1.0", "--1", "+1", "-", "1e3"}},
    {"{\"type\":\"integer\",\"minimum\":0}", {"0", "7", "10000"}, {"-1", "-0"}},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":120}",
     {"3", "9", "10", "99", "100", "120"},
     {"2", "0", "121", "130", "200", "1000", "-5"}},
    {"{\"type\":\"integer\",\"minimum\":-20,\"maximum\":-3}",
     {"-20", "-3", "-10"},
     {"-21", "-2", "0", "3", "-100"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":-2,\"exclusiveMaximum\":2}",
     {"-1", "0", "1"},
     {"-2", "2"}},
    {"{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":3.5}", {"2", "3"}, {"1", "4"}},
    {"{\"type\":\"integer\",\"maximum\":5}", {"5", "0", "-100"}, {"6", "10"}},
    {"{\"type\":\"integer\",\"multipleOf\":7}", {"0", "7", "-14", "700"}, {"1", "8", "15"}},
    {"{\"type\":\"number\"}", {"0", "-1.5", "1e5", "3.25E-3"}, {"1.", ".5", "1e", "00"}},
    {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
     {"0", "1", "0.5", "0.0", "1.0", "1.00", "0.999"},
     {"1.1", "1.01", "2", "-0.1", "10", "0.", "1e0"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0}",
     {"0.1", "1", "0.001", "12.5"},
     {"0", "0.0", "-1"}},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":2.5}",
     {"-1.25", "-1.2", "-1", "0", "2.5", "2.50", "2.49", "-0.5"},
     {"-1.26", "-1.3", "-2", "2.51", "2.6", "3"}},
    {"{\"type\":\"number\",\"exclusiveMaximum\":100}",
     {"99", "99.999", "-1000"},
     {"100", "100.0", "101"}},
    {"{\"enum\":[\"a\",1,null,{\"x\":[1,2]},\"\xC3\xA9\"]}",
     {"\"a\"", "1", "null", "{\"x\":[1,2]}", "{ \"x\": [1, 2] }", "\"\xC3\xA9\""},
     {"\"b\"", "2", "{}", "\"ab\""}},
    {"{\"type\":\"string\",\"enum\":[\"a\",1]}", {"\"a\""}, {"1"}},
    {"{\"const\":\"x\"}", {"\"x\""}, {"\"y\"", "x"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
     "\"boolean\"}},\"required\":[\"a\",\"b\"]}",
     {"{\"a\":1,\"b\":true}", "{ \"a\": 1, \"b\": false }"},
     {"{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"a\":1,\"b\":true,\"c\":1}",
      "{\"a\":1,\"b\":true,}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
     "\"boolean\"}}}",
     {"{}", "{\"a\":1}", "{\"b\":true}", "{\"a\":1,\"b\":true}"},
     {"{,\"b\":true}", "{\"a\":1,}", "{\"c\":1}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{\"type\":\"null\"},\"c\":{}},"
     "\"required\":[\"b\"]}",
     {"{\"b\":null}", "{\"a\":1,\"b\":null}", "{\"b\":null,\"c\":2}",
      "{\"a\":1,\"b\":null,\"c\":2}"},
     {"{}", "{\"a\":1}", "{\"c\":2}", "{\"a\":1,\"c\":2}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"ab\":{\"type\":"
     "\"integer\"}},\"required\":[\"a\"],\"additionalProperties\":{\"type\":\"boolean\"}}",
     {"{\"a\":1}", "{\"a\":1,\"b\":true}", "{\"a\":1,\"ab\":2,\"abc\":true,\"\":false}",
      "{\"a\":1,\"aa\":true,\"\xC3\xA9\":true}"},
     {"{\"a\":1,\"b\":1}", "{\"b\":true}", "{\"a\":1,\"a\":true}", "{\"a\":1,\"ab\":true}"}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,"
     "\"maxProperties\":2}",
     {"{\"a\":1}", "{\"a\":1,\"b\":2}"},
     {"{}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":true}"}},
    {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
    {"{\"type\":\"object\",\"required\":[\"x\"]}",
     {"{\"x\":1}", "{\"x\":1,\"y\":2}"},
     {"{}", "{\"y\":1}"}},
    {"{\"type\":\"object\",\"patternProperties\":{\"^[a-z]+$\":{\"type\":\"integer\"}},"
     "\"additionalProperties\":false}",
     {"{}", "{\"ab\":1,\"c\":2}"},
     {"{\"A\":1}", "{\"a\":true}"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
     {"[]", "[1]", "[1, 2,3]", "[ 1 ]"},
     {"[true]", "[1,]", "[,1]", "[1 2]"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}",
     {"[1]", "[1,2]"},
     {"[]", "[1,2,3]"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2}",
     {"[1,2]", "[1,2,3,4]"},
     {"[]", "[1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],"
     "\"items\":false}",
     {"[]", "[1]", "[1,true]"},
     {"[true]", "[1,2]", "[1,true,1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"}],\"items\":{\"type\":\"null\"},"
     "\"minItems\":2}",
     {"[1,null]", "[1,null,null]"},
     {"[1]", "[null,null]", "[1,1]"}},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"object\",\"properties\":{\"a\":{}},"
     "\"required\":[\"a\"]}]}",
     {"1", "{\"a\":[]}"},
     {"{}", "true"}},
    {"{\"oneOf\":[{\"const\":\"a\"},{\"const\":\"b\"}]}", {"\"a\"", "\"b\""}, {"\"c\""}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
     "\"integer\"}},\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
     {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"},
     {"{}"}},
    {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":["
     "\"a\"]},{\"properties\":{\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}]}",
     {"{\"a\":1,\"b\":null}"},
     {"{\"a\":1}", "{\"b\":null}"}},
    {"{\"allOf\":[{\"type\":[\"integer\",\"string\"]},{\"type\":\"number\",\"minimum\":5},{"
     "\"maximum\":7}]}",
     {"5", "7"},
     {"4", "8", "5.5", "\"a\""}},
    {"{\"$ref\":\"#/$defs/"
     "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
     "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
     "n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":{\"v\":3,\"next\":null}}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":{}}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}"}},
    {"{\"definitions\":{\"a/b\":{\"type\":\"integer\"}},\"type\":\"array\",\"items\":{\"$ref\":\"#/"
     "definitions/a~1b\",\"description\":\"x\"}}",
     {"[1]"},
     {"[true]"}},
    {"{\"title\":\"t\",\"description\":\"d\",\"default\":1,\"examples\":[1],\"$schema\":\"x\",\"$"
     "id\":\"y\",\"type\":\"integer\"}",
     {"1"},
     {"true"}},
    {"{\"$ref\":\"#/$defs/s\",\"maxLength\":2,\"$defs\":{\"s\":{\"type\":\"string\"}}}",
     {"\"ab\""},
     {"\"abc\""}},
};

static void each_keyword_accepts_and_refuses(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        oct_grammar *g = schema_grammar(&s, rows[i].schema, NULL);
        for (int k = 0; k < 10 && rows[i].yes[k]; k++)
            if (!accepts(g, oct_str_of(rows[i].yes[k])))
                fail_msg("%s refuses %s", rows[i].schema, rows[i].yes[k]);
        for (int k = 0; k < 14 && rows[i].no[k]; k++)
            if (accepts(g, oct_str_of(rows[i].no[k])))
                fail_msg("%s accepts %s", rows[i].schema, rows[i].no[k]);
        oct_grammar_unref(g);
    }
    side_close(&s);
}

static void refused(const char *schema, const char *word) {
    side s;
    side_open(&s, oct_system_allocator());
    json_t *v = json_of(schema);
    oct_grammar *g = NULL;
    oct_err err = {0};
    const oct_status st = oct_grammar_of_schema(s.maker, v, &plain_style, &g, &err);
    if (st != OCT_E_INVALID || !strstr(err.text, word))
        fail_msg("%s: want a refusal that says %s, got %s", schema, word, err.text);
    json_decref(v);
    side_close(&s);
}

static void SO1_schemas_that_are_none(void **state) {
    (void)state;
    refused("[]", "schema");
    refused("\"x\"", "schema");
    refused("{\"type\":\"strin\"}", "type");
    refused("{\"type\":7}", "type");
    refused("{\"$ref\":\"http://example.org/a\"}", "$ref");
    refused("{\"$ref\":\"#/$defs/none\"}", "$ref");
    refused("{\"type\":\"string\",\"pattern\":\"(\"}", "pattern");
    refused("{\"type\":\"string\",\"pattern\":1}", "pattern");
    refused("{\"properties\":{\"a\":3}}", "schema");
    refused("{\"properties\":[]}", "properties");
    refused("{\"type\":\"object\",\"required\":\"a\"}", "required");
    refused("{\"enum\":[]}", "enum");
    refused("{\"type\":\"string\",\"minLength\":-1}", "minLength");
    refused("false", "no text");
    refused("{\"type\":\"object\",\"properties\":{\"a\":false},\"required\":[\"a\"]}", "no text");
}

static void unsupported_keywords_are_named(void **state) {
    (void)state;
    refused("{\"not\":{}}", "not");
    refused("{\"if\":{},\"then\":{}}", "if");
    refused("{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems");
    refused("{\"type\":\"array\",\"contains\":{}}", "contains");
    refused("{\"type\":\"object\",\"propertyNames\":{}}", "propertyNames");
    refused("{\"type\":\"object\",\"dependentRequired\":{}}", "dependentRequired");
    refused("{\"type\":\"object\",\"minProperties\":2}", "minProperties");
    refused("{\"type\":\"number\",\"multipleOf\":0.1}", "multipleOf");
    refused("{\"type\":\"string\",\"format\":\"regex\"}", "format");
    refused("{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "maxLength");
    refused("{\"enum\":[\"a\"],\"minLength\":3}", "minLength");
}

static void SO2_cyclic_references(void **state) {
    (void)state;
    refused("{\"$ref\":\"#\"}", "$ref");
    refused("{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/"
            "$defs/a\"}}}",
            "$ref");
    refused("{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
            "a\"},{\"type\":\"null\"}]}},\"$ref\":\"#/$defs/a\"}",
            "left-recursive");
    refused("{\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"x\":{\"$ref\":\"#/$defs/"
            "a\"}},\"required\":[\"x\"]}},\"$ref\":\"#/$defs/a\"}",
            "no text");
}

static void blanks_follow_the_style(void **state) {
    side s;
    (void)state;
    side_open(&s, oct_system_allocator());
    const char *schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\"}},"
                         "\"required\":[\"a\"],\"additionalProperties\":true}";
    const oct_grammar_style tight = {.no_blanks = true}, own = {.blanks = OCT_STR("_*")},
                            few = {.no_additional = true};
    oct_grammar *g = schema_grammar(&s, schema, &tight);
    assert_true(accepts(g, OCT_STR("{\"a\":[1,2]}")));
    assert_false(accepts(g, OCT_STR("{\"a\": [1,2]}")));
    assert_false(accepts(g, OCT_STR("{\"a\":[1, 2]}")));
    oct_grammar_unref(g);
    g = schema_grammar(&s, schema, &own);
    assert_true(accepts(g, OCT_STR("{__\"a\":_[1_,2]}")));
    assert_false(accepts(g, OCT_STR("{ \"a\":[1,2]}")));
    oct_grammar_unref(g);
    g = schema_grammar(&s, schema, NULL);
    assert_true(accepts(g, OCT_STR("{\"a\":[],\"b\":1}")));
    oct_grammar_unref(g);
    g = schema_grammar(&s, schema, &few);
    assert_false(accepts(g, OCT_STR("{\"a\":[],\"b\":1}")));
    oct_grammar_unref(g);
    side_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_keyword_accepts_and_refuses),
        cmocka_unit_test(SO1_schemas_that_are_none),
        cmocka_unit_test(unsupported_keywords_are_named),
        cmocka_unit_test(SO2_cyclic_references),
        cmocka_unit_test(blanks_follow_the_style),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
