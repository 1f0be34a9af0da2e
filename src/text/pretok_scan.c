/*
 * text/pretok_scan.c - the published pre-tokenizer patterns as scanners.
 *
 * Each scanner gives what a backtracking engine would give for its pattern at one position: the
 * alternatives are tried in their order, and where a greedy part would have to step back, the place
 * it would step back to is remembered on the way. So a character is looked at a bounded number of
 * times, whatever the text.
 *
 * Rule for blanks in all of them: "\s*[\r\n]+" takes a run of white space up to its last line end;
 * "\s+(?!\S)" all but the last character when something else follows; "\s+" what is left.
 */
#include <string.h>

#include "text/pretok.h"
#include "text/unicode.h"

#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BLANKS "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CAPS "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALLS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

const char oct_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char oct_pattern_qwen2[] =
    SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS;
const char oct_pattern_llama3[] =
    SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS;
const char oct_pattern_qwen35[] = SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                                         "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS;
const char oct_pattern_digit[] = "\\p{N}";
const char oct_pattern_digits3[] = "\\p{N}{1,3}";
const char oct_pattern_cjk[] = "[一-龥぀-ゟ゠-ヿ]+";
const char oct_pattern_deepseek3[] =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" BLANKS;
const char oct_pattern_o200k[] = CAPS "*" SMALLS "+" SUFFIX "?|" CAPS "+" SMALLS "*" SUFFIX "?"
                                      "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS;
const char oct_pattern_tekken[] = CAPS "*" SMALLS "+|" CAPS "+" SMALLS "*"
                                       "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS;

/* The class of the character at i and its bytes; 0 and 0 at the end. */
static inline uint8_t at(const uint8_t *s, size_t i, size_t end, unsigned *n) {
    if (i >= end) return *n = 0, 0;
    if (s[i] < 0x80) return *n = 1, oct_unicode_class[s[i]];
    return oct_unicode_class[oct_unicode_at(s, i, n)];
}

/* The end of the run of characters of one of the classes. */
static inline size_t run(const uint8_t *s, size_t i, size_t end, unsigned classes) {
    unsigned n;
    while (at(s, i, end, &n) & classes) i += n;
    return i;
}

/* The end of the run of characters of none of the classes. */
static inline size_t run_not(const uint8_t *s, size_t i, size_t end, unsigned classes) {
    unsigned n;
    while (!(at(s, i, end, &n) & classes) && n) i += n;
    return i;
}

static inline bool is_line_end(uint8_t b) { return b == '\r' || b == '\n'; }

/* 's 't 're 've 'm 'll 'd; any_case also takes capitals and the long s, which folds to s. */
static size_t contraction(const uint8_t *s, size_t i, size_t end, bool any_case) {
    if (s[i] != '\'' || end - i < 2) return i;
    const uint8_t fold = any_case ? 0x20 : 0;
    const uint8_t a = s[i + 1] | (s[i + 1] < 0x80 ? fold : 0);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    if (end - i < 3) return i;
    if (any_case && s[i + 1] == 0xC5 && s[i + 2] == 0xBF) return i + 3;
    const uint8_t b = s[i + 2] | (s[i + 2] < 0x80 ? fold : 0);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    return i;
}

/* \s+(?!\S)|\s+ and, with lines, \s*[\r\n]+ before them. */
static size_t blanks(const uint8_t *s, size_t i, size_t end, bool lines) {
    size_t e = i, last = i, line_to = 0;
    unsigned n;
    while (at(s, e, end, &n) & OCT_UNI_WS) {
        last = e;
        e += n;
        if (is_line_end(s[last])) line_to = e;
    }
    if (lines && line_to) return line_to;
    if (e == end || last == i) return e;
    return last;
}

/* " ?[^classes]+" then the bytes of tail; i when it does not match. */
static size_t punctuation(const uint8_t *s, size_t i, size_t end, unsigned classes, bool slash) {
    const size_t from = i + (s[i] == ' ');
    size_t e = run_not(s, from, end, classes);
    if (e == from) return i;
    while (e < end && (is_line_end(s[e]) || (slash && s[e] == '/'))) e++;
    return e;
}

static size_t numbers(const uint8_t *s, size_t i, size_t end, unsigned max) {
    unsigned n;
    for (unsigned k = 0; k < max && (at(s, i, end, &n) & OCT_UNI_N); k++) i += n;
    return i;
}

size_t oct_scan_gpt2(const uint8_t *s, size_t i, size_t end) {
    const size_t e = contraction(s, i, end, false);
    if (e > i) return e;
    const size_t from = i + (s[i] == ' ');
    unsigned n;
    const uint8_t c = at(s, from, end, &n);
    if (c & OCT_UNI_L) return run(s, from, end, OCT_UNI_L);
    if (c & OCT_UNI_N) return run(s, from, end, OCT_UNI_N);
    if (n && !(c & OCT_UNI_WS)) return run_not(s, from, end, OCT_UNI_WS | OCT_UNI_L | OCT_UNI_N);
    return blanks(s, i, end, false);
}

/* Qwen2, Llama-3, Qwen3.5: word is the class of letters, digits the longest number. */
static inline size_t scan_words(const uint8_t *s, size_t i, size_t end, unsigned word,
                                unsigned digits) {
    size_t e = contraction(s, i, end, true);
    if (e > i) return e;
    unsigned n;
    const uint8_t c = at(s, i, end, &n);
    if (c & word) return run(s, i, end, word);
    if (c & OCT_UNI_N) return numbers(s, i, end, digits);
    if (!is_line_end(s[i])) {
        e = run(s, i + n, end, word);
        if (e > i + n) return e;
    }
    e = punctuation(s, i, end, OCT_UNI_WS | OCT_UNI_N | word, false);
    return e > i ? e : blanks(s, i, end, true);
}

static size_t scan_qwen2(const uint8_t *s, size_t i, size_t end) {
    return scan_words(s, i, end, OCT_UNI_L, 1);
}
static size_t scan_llama3(const uint8_t *s, size_t i, size_t end) {
    return scan_words(s, i, end, OCT_UNI_L, 3);
}
static size_t scan_qwen35(const uint8_t *s, size_t i, size_t end) {
    return scan_words(s, i, end, OCT_UNI_L | OCT_UNI_M, 1);
}

/* [UP]*[LOW]+ from i: a run of capitals gives back up to its last character that is also LOW. */
static size_t word_small(const uint8_t *s, size_t i, size_t end) {
    size_t e = i, back = i;
    unsigned n;
    uint8_t c;
    while ((c = at(s, e, end, &n)) & OCT_UNI_UP) {
        e += n;
        if (c & OCT_UNI_LOW) back = e;
    }
    return c & OCT_UNI_LOW ? run(s, e, end, OCT_UNI_LOW) : back;
}

/* [UP]+[LOW]* from i. */
static size_t word_caps(const uint8_t *s, size_t i, size_t end) {
    const size_t e = run(s, i, end, OCT_UNI_UP);
    return e > i ? run(s, e, end, OCT_UNI_LOW) : i;
}

/* The two word branches, each first with one leading character that is no letter or number. */
static size_t word_by_case(const uint8_t *s, size_t i, size_t end) {
    unsigned n;
    const uint8_t c = at(s, i, end, &n);
    const bool lead = !(c & (OCT_UNI_L | OCT_UNI_N)) && !is_line_end(s[i]);
    size_t e;
    if (lead && (e = word_small(s, i + n, end)) > i + n) return e;
    if ((e = word_small(s, i, end)) > i) return e;
    if (lead && (e = word_caps(s, i + n, end)) > i + n) return e;
    return word_caps(s, i, end);
}

static inline size_t scan_cased(const uint8_t *s, size_t i, size_t end, bool suffix,
                                unsigned digits) {
    size_t e = word_by_case(s, i, end);
    if (e > i) return suffix && e < end ? contraction(s, e, end, true) : e;
    e = numbers(s, i, end, digits);
    if (e > i) return e;
    e = punctuation(s, i, end, OCT_UNI_WS | OCT_UNI_L | OCT_UNI_N, true);
    return e > i ? e : blanks(s, i, end, true);
}

static size_t scan_o200k(const uint8_t *s, size_t i, size_t end) {
    return scan_cased(s, i, end, true, 3);
}
static size_t scan_tekken(const uint8_t *s, size_t i, size_t end) {
    return scan_cased(s, i, end, false, 1);
}

static inline bool is_ascii_letter(uint8_t b) { return (uint8_t)((b | 0x20) - 'a') < 26; }

static size_t scan_deepseek3(const uint8_t *s, size_t i, size_t end) {
    const unsigned word = OCT_UNI_L | OCT_UNI_M;
    unsigned n;
    size_t e;
    const uint8_t c = at(s, i, end, &n);
    if (s[i] < 0x80 && (c & (OCT_UNI_P | OCT_UNI_S))) {
        for (e = i + 1; e < end && is_ascii_letter(s[e]);) e++;
        if (e > i + 1) return e;
    }
    if (!(c & (OCT_UNI_L | OCT_UNI_P | OCT_UNI_S)) && !is_line_end(s[i])) {
        e = run(s, i + n, end, word);
        if (e > i + n) return e;
    }
    if (c & word) return run(s, i, end, word);
    const size_t from = i + (s[i] == ' ');
    e = run(s, from, end, OCT_UNI_P | OCT_UNI_S);
    if (e > from) {
        while (e < end && is_line_end(s[e])) e++;
        return e;
    }
    return blanks(s, i, end, true);
}

static size_t scan_cjk(const uint8_t *s, size_t i, size_t end) {
    unsigned n;
    for (; i < end && s[i] >= 0xE3; i += n) {
        const uint32_t c = oct_unicode_at(s, i, &n);
        if (!((c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF))) break;
    }
    return i;
}

size_t oct_scan_digit(const uint8_t *s, size_t i, size_t end) { return numbers(s, i, end, 1); }
size_t oct_scan_digits(const uint8_t *s, size_t i, size_t end) { return run(s, i, end, OCT_UNI_N); }
static size_t scan_digits3(const uint8_t *s, size_t i, size_t end) { return numbers(s, i, end, 3); }

static inline bool is_mark(const uint8_t *s, size_t i, size_t end) {
    return end - i >= 3 && s[i] == 0xE2 && s[i + 1] == 0x96 && s[i + 2] == 0x81;
}

static size_t to_mark(const uint8_t *s, size_t i, size_t end) {
    while (i < end) {
        const uint8_t *hit = memchr(s + i, 0xE2, end - i);
        if (!hit) return end;
        i = (size_t)(hit - s);
        if (is_mark(s, i, end)) return i;
        i++;
    }
    return end;
}

size_t oct_scan_mark(const uint8_t *s, size_t i, size_t end) {
    return to_mark(s, is_mark(s, i, end) ? i + 3 : i, end);
}

size_t oct_scan_mark_run(const uint8_t *s, size_t i, size_t end) {
    while (is_mark(s, i, end)) i += 3;
    return to_mark(s, i, end);
}

static const struct {
    const char *pattern;
    oct_scan_fn scan;
} known[] = {
    {oct_pattern_gpt2, oct_scan_gpt2},   {oct_pattern_qwen2, scan_qwen2},
    {oct_pattern_llama3, scan_llama3},   {oct_pattern_qwen35, scan_qwen35},
    {oct_pattern_digit, oct_scan_digit}, {oct_pattern_digits3, scan_digits3},
    {oct_pattern_cjk, scan_cjk},         {oct_pattern_deepseek3, scan_deepseek3},
    {oct_pattern_o200k, scan_o200k},     {oct_pattern_tekken, scan_tekken},
};

/* Files spell a line end in a pattern as the character itself or as an escape. */
static bool same_pattern(oct_str got, const char *want) {
    size_t i = 0;
    for (; *want; i++) {
        if (i >= got.len) return false;
        const char c = got.ptr[i];
        if (is_line_end((uint8_t)c)) {
            if (want[0] != '\\' || want[1] != (c == '\r' ? 'r' : 'n')) return false;
            want += 2;
        } else if (c != *want++) {
            return false;
        }
    }
    return i == got.len;
}

oct_scan_fn oct_scan_find(oct_str pattern) {
    for (size_t k = 0; k < OCT_COUNT(known); k++)
        if (same_pattern(pattern, known[k].pattern)) return known[k].scan;
    return NULL;
}
