/*
 * text/normalize.h and text/unicode.h: the four normal forms against the library's own way through
 * whole texts, and what belongs to a word.
 */
#include "text_files.h"

#include <utf8proc.h>

#include "codec/utf8.h"
#include "text/normalize.h"
#include "text/unicode.h"

static uint64_t seed = 20261121;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* The borders of what is copied unseen, marks of many classes, compositions, Hangul, ligatures. */
static const uint32_t points[] = {
    'a',     'e',     'A',     'K',     ' ',     0x7F,    0xA0,   0xC5,   0xE9,   0x1D7,   0x2FF,
    0x300,   0x301,   0x308,   0x323,   0x327,   0x328,   0x345,  0x378,  0x37E,  0x3A9,   0x3FF,
    0x400,   0x419,   0x438,   0x482,   0x483,   0x48A,   0x52F,  0x530,  0x5B0,  0x5B4,   0x64B,
    0x915,   0x93C,   0x958,   0xF71,   0xF72,   0x1100,  0x1161, 0x11A8, 0x1E9B, 0x1EA4,  0x200F,
    0x2010,  0x2027,  0x2028,  0x2126,  0x212B,  0x2160,  0x2FFF, 0x3000, 0x3020, 0x3021,  0x302A,
    0x3040,  0x3041,  0x304B,  0x3096,  0x3099,  0x309A,  0x30A1, 0x30AB, 0x30F4, 0x30FA,  0x30FB,
    0x4DFF,  0x4E00,  0x9FFF,  0xA000,  0xABFF,  0xAC00,  0xAC01, 0xD7A3, 0xD7B0, 0xF900,  0xFB01,
    0xFB1D,  0xFF00,  0xFF01,  0xFF21,  0xFF60,  0xFF61,  0xFF76, 0xFF9E, 0xFFFD, 0x110BA, 0x1D15E,
    0x1D165, 0x1EFFF, 0x1F000, 0x1F600, 0x1FAFF, 0x1FB00, 0x2F800};

static void whole_text(oct_norm_kind kind, const oct_buf *text, oct_buf *out) {
    const bool compose = kind == OCT_NORM_NFC || kind == OCT_NORM_NFKC;
    const bool compat = kind == OCT_NORM_NFKC || kind == OCT_NORM_NFKD;
    utf8proc_uint8_t *p = NULL;
    const utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text->data, (utf8proc_ssize_t)text->len, &p,
                     UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                         (compat ? UTF8PROC_COMPAT : UTF8PROC_STABLE));
    assert_true(n > 0);
    oct_buf_clear(out);
    oct_buf_add(out, p, (size_t)n);
    free(p);
}

static void TK6_normal_forms_are_the_librarys(void **state) {
    (void)state;
    oct_norm_scratch scratch;
    oct_buf text, want;
    oct_unicode_setup();
    oct_buf_init(&scratch.a, MEM, 0);
    oct_buf_init(&scratch.b, MEM, 0);
    oct_buf_init(&text, MEM, 0);
    oct_buf_init(&want, MEM, 0);
    for (int round = 0; round < 40000; round++) {
        const oct_norm_step step = {.kind = (oct_norm_kind)(round % 4)};
        oct_str got;
        oct_buf_clear(&text);
        for (uint32_t n = 1 + dice(round % 100 ? 12 : 400); n > 0; n--) {
            char utf8[4];
            oct_buf_add(&text, utf8, oct_utf8_encode(points[dice(OCT_COUNT(points))], utf8));
        }
        assert_int_equal(oct_normalize(&step, 1, oct_buf_view(&text), &scratch, &got, NULL),
                         OCT_OK);
        whole_text(step.kind, &text, &want);
        if (!oct_str_eq(got, oct_buf_view(&want)))
            fail_msg("form %d of \"%s\"", round % 4, oct_buf_cs(&text));
    }
    oct_buf_fini(&scratch.a);
    oct_buf_fini(&scratch.b);
    oct_buf_fini(&text);
    oct_buf_fini(&want);
}

static void nothing_is_nothing(void **state) {
    (void)state;
    const oct_norm_step steps[] = {{OCT_NORM_PREPEND, {NULL, 0}, OCT_STR("_")}};
    oct_norm_scratch scratch;
    oct_str got;
    oct_buf_init(&scratch.a, MEM, 0);
    oct_buf_init(&scratch.b, MEM, 0);
    assert_int_equal(oct_normalize(steps, 1, OCT_STR(""), &scratch, &got, NULL), OCT_OK);
    assert_int_equal(got.len, 0);
    assert_int_equal(oct_normalize(steps, 1, OCT_STR("a"), &scratch, &got, NULL), OCT_OK);
    assert_true(oct_str_is(got, "_a"));
    oct_buf_fini(&scratch.a);
    oct_buf_fini(&scratch.b);
}

/* What \\w is to the engine that the tokenizer files are written for. */
static void what_belongs_to_a_word(void **state) {
    (void)state;
    static const struct {
        uint32_t point;
        bool word;
    } rows[] = {
        {'a', true},     {'Z', true},      {'0', true},      {'_', true},      {'-', false},
        {' ', false},    {'$', false},     {0xBD, false},    {0xE9, true},     {0x300, true},
        {0x903, true},   {0x200B, false},  {0x200C, true},   {0x200D, true},   {0x200E, false},
        {0x203F, true},  {0x2160, true},   {0x24B5, false},  {0x24B6, true},   {0x24E9, true},
        {0x24EA, false}, {0x0966, true},   {0x4E2D, true},   {0x1F12F, false}, {0x1F130, true},
        {0x1F149, true}, {0x1F14A, false}, {0x1F150, true},  {0x1F169, true},  {0x1F16A, false},
        {0x1F170, true}, {0x1F189, true},  {0x1F18A, false}, {0x1F600, false}};
    oct_unicode_setup();
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (oct_unicode_is_word(rows[i].point) != rows[i].word) fail_msg("U+%04X", rows[i].point);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(TK6_normal_forms_are_the_librarys),
        cmocka_unit_test(nothing_is_nothing),
        cmocka_unit_test(what_belongs_to_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
