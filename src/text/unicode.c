/*
 * text/unicode.c - the class table. Planes 4 to 13 hold nothing assigned and 15 and 16 are private
 * use, so only the others are asked; the untouched part of the table costs no memory.
 */
#include "text/unicode.h"

#include <pthread.h>
#include <utf8proc.h>

uint8_t oct_unicode_class[0x110000];

static bool is_white_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

static uint8_t class_of(uint32_t cp) {
    const uint8_t ws = is_white_space(cp) ? OCT_UNI_WS : 0;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return OCT_UNI_L | OCT_UNI_UP;
    case UTF8PROC_CATEGORY_LL:
        return OCT_UNI_L | OCT_UNI_LOW;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return OCT_UNI_L | OCT_UNI_UP | OCT_UNI_LOW;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return OCT_UNI_M | OCT_UNI_UP | OCT_UNI_LOW;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return OCT_UNI_N;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return OCT_UNI_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return OCT_UNI_S;
    default:
        return ws;
    }
}

static void fill(void) {
    for (uint32_t cp = 0; cp < 0x34000; cp++) oct_unicode_class[cp] = class_of(cp);
    for (uint32_t cp = 0xE0000; cp < 0xE0200; cp++) oct_unicode_class[cp] = class_of(cp);
}

void oct_unicode_setup(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, fill);
}

bool oct_unicode_is_word(uint32_t cp) {
    if (oct_unicode_class[cp] & (OCT_UNI_L | OCT_UNI_M)) return true;
    if (cp == 0x200C || cp == 0x200D) return true;
    /* Circled and squared capitals are symbols with the Alphabetic property. */
    if ((cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
        (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189))
        return true;
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC;
}
