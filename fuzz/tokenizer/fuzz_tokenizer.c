/* Any bytes as tokenizer.json and, behind a NUL byte, tokenizer_config.json. What is accepted
 * encodes and decodes without a fault, and gives only ids that it has. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "codec/utf8.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sample[] =
    "hello  world\n\n x's 123 <s> \xC3\xA9 e\xCC\x81 \xE4\xB8\xAD \xF0\x9F\x98\x80";

static void use(const oct_tokenizer *tok) {
    oct_ids ids;
    oct_buf text;
    oct_err err = {0};
    oct_ids_init(&ids, oct_system_allocator());
    oct_buf_init(&text, oct_system_allocator(), 0);
    for (unsigned flags = 0; flags < 4; flags++) {
        oct_ids_clear(&ids);
        if (oct_tokenizer_encode(tok, OCT_STR(sample), flags, &ids, &err) != OCT_OK) continue;
        for (size_t i = 0; i < ids.len; i++)
            if (!oct_tokenizer_has(tok, ids.data[i])) abort();
        oct_buf_clear(&text);
        oct_tokenizer_decode(tok, ids.data, ids.len, flags & 1, &text);
        if (!oct_utf8_valid(oct_buf_view(&text), NULL)) abort();
        if (text.len > ids.len * oct_tokenizer_max_token_bytes(tok) * 3) abort();
    }
    for (int32_t id = -1; id <= oct_tokenizer_n_vocab(tok) && id < 2000; id++) {
        oct_buf_clear(&text);
        oct_tokenizer_token_spelling(tok, id, &text);
        if (oct_tokenizer_token_bytes(tok, id).len > oct_tokenizer_max_token_bytes(tok)) abort();
    }
    oct_ids_fini(&ids);
    oct_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    const char *nul = size ? memchr(bytes, '\0', size) : NULL;
    const size_t first = nul ? (size_t)(nul - bytes) : size;
    const oct_str config = nul ? (oct_str){nul + 1, size - first - 1} : (oct_str){NULL, 0};
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    if (oct_tokenizer_parse(oct_system_allocator(), (oct_str){bytes, first}, config,
                            (oct_str){NULL, 0}, &tok, &err) == OCT_OK) {
        use(tok);
        oct_tokenizer_release(tok);
    } else if (tok || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
