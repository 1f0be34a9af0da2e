/* Any text as EBNF. */
#include "../grammar_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    oct_grammars *maker = fuzz_maker();
    oct_grammar *g = NULL;
    oct_err err = {0};
    const oct_status st = oct_grammar_of_ebnf(maker, (oct_str){(const char *)data, size}, &g, &err);
    fuzz_took(st, g, &err, size);
    oct_grammars_destroy(maker);
    return 0;
}
