/*
 * tests/support/byte_tokenizer.h - the smallest tokenizer that encodes any text: token b is byte b,
 * nothing is merged, nothing is special.
 */
#ifndef OCT_TESTS_BYTE_TOKENIZER_H
#define OCT_TESTS_BYTE_TOKENIZER_H

#include "codec/utf8.h"
#include "text/tokenizer.h"

enum { BYTE_TOKENS = 256 };

/* NULL when memory is refused. Ends with oct_tokenizer_destroy. */
static inline oct_tokenizer *byte_tokenizer(void) {
    char spelled[BYTE_TOKENS][4]; /* the 256 bytes in the spelling of byte-level vocabularies */
    oct_str tokens[BYTE_TOKENS];
    uint32_t extra = BYTE_TOKENS;
    for (uint32_t b = 0; b < BYTE_TOKENS; b++) {
        const bool shown = (b > 32 && b < 127) || (b > 160 && b != 173);
        tokens[b].len = oct_utf8_encode(shown ? b : extra++, spelled[b]);
        tokens[b].ptr = spelled[b];
    }
    const oct_vocab_desc d = {.model = OCT_STR("gpt2"),
                              .pre = OCT_STR("gpt-2"),
                              .tokens = tokens,
                              .n_tokens = BYTE_TOKENS,
                              .bos_id = -1,
                              .eos_id = -1,
                              .unk_id = -1,
                              .pad_id = -1,
                              .add_bos = -1,
                              .add_eos = -1,
                              .add_space_prefix = -1};
    oct_tokenizer *t = NULL;
    return oct_tokenizer_create(oct_system_allocator(), &d, &t, NULL) == OCT_OK ? t : NULL;
}

#endif
