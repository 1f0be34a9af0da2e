/* Any bytes as tokenizer.json and, behind a NUL byte, tokenizer_config.json. What is accepted
 * encodes and decodes without a fault, and gives only ids that it has. */
#include <stdlib.h>
#include <string.h>

#include "../tokenizer_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    const char *nul = size ? memchr(bytes, '\0', size) : NULL;
    const size_t first = nul ? (size_t)(nul - bytes) : size;
    const oct_str config = nul ? (oct_str){nul + 1, size - first - 1} : (oct_str){NULL, 0};
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    if (oct_tokenizer_parse(oct_system_allocator(), (oct_str){bytes, first}, config,
                            (oct_str){NULL, 0}, &tok, &err) == OCT_OK) {
        tokenizer_use(tok);
        oct_tokenizer_destroy(tok);
    } else if (tok || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
