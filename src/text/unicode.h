/*
 * text/unicode.h - what kind of character a code point is, as the patterns of tokenizers ask it.
 *
 * One byte a code point, filled once from utf8proc's categories. Internal to text.
 * Threads: oct_unicode_setup may be called from any thread and must come before the rest.
 */
#ifndef OCT_TEXT_UNICODE_H
#define OCT_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OCT_UNI_L = 1,     /* \p{L} */
    OCT_UNI_N = 2,     /* \p{N} */
    OCT_UNI_M = 4,     /* \p{M} */
    OCT_UNI_P = 8,     /* \p{P} */
    OCT_UNI_S = 16,    /* \p{S} */
    OCT_UNI_WS = 32,   /* \s: the White_Space property */
    OCT_UNI_UP = 64,   /* Lu Lt Lm Lo M: what may begin a word of capitals */
    OCT_UNI_LOW = 128, /* Ll Lm Lo M: what may follow it */
};

extern uint8_t oct_unicode_class[0x110000];

void oct_unicode_setup(void);

/* \w of the added tokens' single_word rule: letters, marks, digits, connectors, joiners. */
bool oct_unicode_is_word(uint32_t cp);

/* The code point at s[i] and its length in bytes; s is valid UTF-8 and i a character border. */
static inline uint32_t oct_unicode_at(const uint8_t *s, size_t i, unsigned *len) {
    const uint8_t b = s[i];
    if (b < 0x80) return *len = 1, b;
    if (b < 0xE0) return *len = 2, (uint32_t)(b & 0x1F) << 6 | (s[i + 1] & 0x3F);
    if (b < 0xF0)
        return *len = 3,
               (uint32_t)(b & 0x0F) << 12 | (uint32_t)(s[i + 1] & 0x3F) << 6 | (s[i + 2] & 0x3F);
    return *len = 4, (uint32_t)(b & 0x07) << 18 | (uint32_t)(s[i + 1] & 0x3F) << 12 |
                         (uint32_t)(s[i + 2] & 0x3F) << 6 | (s[i + 3] & 0x3F);
}

/* The border before i (i > 0). */
static inline size_t oct_unicode_back(const uint8_t *s, size_t i) {
    do i--;
    while (i > 0 && (s[i] & 0xC0) == 0x80);
    return i;
}

#endif
