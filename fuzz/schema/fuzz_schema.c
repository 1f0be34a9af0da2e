/* Any JSON as a schema. The first byte chooses how JSON is written. */
#include "../grammar_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *schema = NULL;
    if (size == 0) return 0;
    const oct_str text = {(const char *)data + 1, size - 1};
    const oct_grammar_style style = {.no_blanks = data[0] & 1, .no_additional = data[0] & 2};
    if (oct_json_parse(text, "fuzz", &oct_json_request_limits, &schema, NULL) != OCT_OK) return 0;
    oct_grammars *maker = fuzz_maker();
    oct_grammar *g = NULL;
    oct_err err = {0};
    const oct_status st = oct_grammar_of_schema(maker, schema, &style, &g, &err);
    fuzz_took(st, g, &err, size);
    oct_grammars_destroy(maker);
    json_decref(schema);
    return 0;
}
