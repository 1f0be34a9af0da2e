/* fuzz/tokenizer_use.h - what a tokenizer that was accepted must be able to do. */
#ifndef OCT_FUZZ_TOKENIZER_USE_H
#define OCT_FUZZ_TOKENIZER_USE_H

#include <stdlib.h>

#include "base/buf.h"
#include "codec/utf8.h"
#include "text/tokenizer.h"

static const char tokenizer_sample[] =
    "hello  world\n\n x's 123 <s> \xC3\xA9 e\xCC\x81 \xE4\xB8\xAD \xF0\x9F\x98\x80";

/* Encodes and decodes without a fault, and gives only ids that it has. */
static void tokenizer_use(const oct_tokenizer *tok) {
    oct_ids ids;
    oct_buf text;
    oct_err err = {0};
    oct_ids_init(&ids, oct_system_allocator());
    oct_buf_init(&text, oct_system_allocator(), 0);
    for (unsigned flags = 0; flags < 4; flags++) {
        oct_ids_clear(&ids);
        if (oct_tokenizer_encode(tok, OCT_STR(tokenizer_sample), flags, &ids, &err) != OCT_OK)
            continue;
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

#endif
