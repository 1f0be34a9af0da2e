/* speak/tags.c - finding tags and the ends of values in a text that comes in pieces. */
#include "speak/parts.h"

/* Whether text, from `at` on, begins with the tag: 1; could with more text: 0; no: -1. */
static int begins(oct_str text, size_t at, oct_str tag) {
    const size_t left = text.len - at, n = left < tag.len ? left : tag.len;
    if (memcmp(text.ptr + at, tag.ptr, n) != 0) return -1;
    return n == tag.len;
}

oct_speak_hit oct_speak_find_tag(oct_str text, const oct_str *tags, int n) {
    for (size_t at = 0; at < text.len; at++) {
        bool open = false;
        for (int i = 0; i < n; i++) {
            if (text.ptr[at] != tags[i].ptr[0]) continue;
            const int is = begins(text, at, tags[i]);
            if (is == 1) return (oct_speak_hit){at, i};
            open = open || is == 0;
        }
        if (open) return (oct_speak_hit){at, -1};
    }
    return (oct_speak_hit){text.len, -1};
}

size_t oct_speak_blanks(oct_str text) {
    size_t n = 0;
    while (n < text.len && memchr(" \t\r\n", text.ptr[n], 4)) n++;
    return n;
}

/* Whether the value begins with this character. A name may stand before it, with marks of its own
 * ("get[ARGS]{"): then only a brace begins it. */
static bool begin(oct_speak_balance *b, char ch) {
    if (memchr(" \t\r\n", ch, 4)) return false;
    if (ch == '{' || (ch == '[' && !b->named)) return b->begun = true;
    b->named = true;
    return false;
}

bool oct_speak_balanced(oct_speak_balance *b, oct_str text) {
    for (; b->at < text.len; b->at++) {
        const char ch = text.ptr[b->at];
        if (!b->begun && !begin(b, ch)) continue;
        if (b->escaped) {
            b->escaped = false;
        } else if (b->quote) {
            if (ch == '\\') b->escaped = true;
            if (ch == b->quote) b->quote = '\0';
        } else if (ch == '"' || ch == '\'') {
            b->quote = ch;
        } else if (ch == '{' || ch == '[' || ch == '(') {
            b->depth++;
        } else if ((ch == '}' || ch == ']' || ch == ')') && --b->depth == 0) {
            b->at++;
            return true;
        }
    }
    return false;
}
