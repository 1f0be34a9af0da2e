/* Any text as a regular expression, plain and as a schema's pattern. */
#include "../grammar_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_str text = {(const char *)data, size};
    oct_grammars *maker = fuzz_maker();
    oct_grammar *g = NULL;
    oct_err err = {0};
    const oct_status st = oct_grammar_of_regex(maker, text, &g, &err);
    fuzz_took(st, g, &err, size);
    json_t *schema = json_pack("{s:s, s:s%}", "type", "string", "pattern", text.ptr, text.len);
    if (schema) { /* UTF-8 */
        const oct_grammar_style style = {0};
        oct_err again = {0};
        g = NULL;
        const oct_status second = oct_grammar_of_schema(maker, schema, &style, &g, &again);
        fuzz_took(second, g, &again, size);
        json_decref(schema);
    }
    oct_grammars_destroy(maker);
    return 0;
}
