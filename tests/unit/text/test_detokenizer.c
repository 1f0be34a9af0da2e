/* text/detokenizer.h: row SM1 of the bad-input table, and stream equals whole. */
#include "text_files.h"

#include "codec/utf8.h"
#include "text/detokenizer.h"

#define BYTES OCT_TEST_DATA "/tokenizer/bytes"
#define PIECES OCT_TEST_DATA "/tokenizer/pieces"

static void push_is(oct_detokenizer *d, int32_t id, const char *want) {
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    oct_detokenizer_push(d, id, &out);
    assert_string_equal(oct_buf_cs(&out), want);
    oct_buf_fini(&out);
}

static void flush_is(oct_detokenizer *d, const char *want) {
    oct_buf out;
    oct_buf_init(&out, MEM, 0);
    oct_detokenizer_flush(d, &out);
    assert_string_equal(oct_buf_cs(&out), want);
    oct_buf_fini(&out);
}

/* In the byte vocabulary the id of a byte is the byte. */
static void SM1_character_split_over_tokens(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    oct_detokenizer d;
    oct_detokenizer_init(&d, tok, true);
    push_is(&d, 0xF0, "");
    push_is(&d, 0x9F, "");
    push_is(&d, 271, ""); /* a special token in between shows nothing and breaks nothing */
    push_is(&d, 0x98, "");
    push_is(&d, 0x80, "\xF0\x9F\x98\x80");
    push_is(&d, 'a', "a");
    flush_is(&d, "");
    oct_tokenizer_destroy(tok);
}

static void SM1_character_never_completed(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(BYTES);
    oct_detokenizer d;
    oct_detokenizer_init(&d, tok, false);
    push_is(&d, 0xE4, "");
    push_is(&d, 0xB8, "");
    push_is(&d, 'x', "\xEF\xBF\xBDx");
    push_is(&d, 0xFF, "\xEF\xBF\xBD"); /* can never become a character: at once */
    push_is(&d, 0xE0, "");
    push_is(&d, 0x80, "\xEF\xBF\xBD\xEF\xBF\xBD");
    push_is(&d, 0xE4, "");
    flush_is(&d, "\xEF\xBF\xBD");
    flush_is(&d, "");
    oct_tokenizer_destroy(tok);
}

static void first_blank_of_a_text(void **state) {
    (void)state;
    oct_tokenizer *tok = open_tokenizer(PIECES);
    oct_detokenizer d;
    oct_detokenizer_init(&d, tok, true);
    push_is(&d, 1, "");
    push_is(&d, 275, "hello");
    push_is(&d, 275, " hello");
    flush_is(&d, "");
    push_is(&d, 275, "hello"); /* a new text */
    oct_detokenizer_init(&d, tok, true);
    oct_detokenizer_prime(&d);
    push_is(&d, 275, " hello");
    oct_detokenizer_init(&d, tok, false);
    push_is(&d, 1, "<s>");
    push_is(&d, 275, " hello");
    oct_tokenizer_destroy(tok);
}

/* Random ids: the joined pushes equal the whole, and both are UTF-8. */
static void stream_equals_whole(void **state) {
    (void)state;
    const char *const folders[] = {BYTES, PIECES};
    uint64_t seed = 88172645463325252u;
    for (size_t f = 0; f < OCT_COUNT(folders); f++) {
        oct_tokenizer *tok = open_tokenizer(folders[f]);
        for (int round = 0; round < 2000; round++) {
            int32_t ids[24];
            oct_buf whole, joined;
            oct_detokenizer d;
            const bool skip = round & 1;
            oct_buf_init(&whole, MEM, 0);
            oct_buf_init(&joined, MEM, 0);
            oct_detokenizer_init(&d, tok, skip);
            for (size_t i = 0; i < OCT_COUNT(ids); i++) {
                seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
                ids[i] = (int32_t)(seed % 300);
                oct_detokenizer_push(&d, ids[i], &joined);
                assert_true(oct_utf8_valid(oct_buf_view(&joined), NULL));
            }
            oct_detokenizer_flush(&d, &joined);
            oct_tokenizer_decode(tok, ids, OCT_COUNT(ids), skip, &whole);
            assert_true(oct_str_eq(oct_buf_view(&whole), oct_buf_view(&joined)));
            /* And equal the bytes of all tokens, repaired as one. */
            if (f == 0) {
                oct_buf raw, repaired;
                oct_buf_init(&raw, MEM, 0);
                oct_buf_init(&repaired, MEM, 0);
                for (size_t i = 0; i < OCT_COUNT(ids); i++)
                    if (!skip || !oct_tokenizer_is_special(tok, ids[i]))
                        oct_buf_str(&raw, oct_tokenizer_token_bytes(tok, ids[i]));
                oct_utf8_repair(&repaired, oct_buf_view(&raw));
                assert_true(oct_str_eq(oct_buf_view(&whole), oct_buf_view(&repaired)));
                oct_buf_fini(&raw);
                oct_buf_fini(&repaired);
            }
            oct_buf_fini(&whole);
            oct_buf_fini(&joined);
        }
        oct_tokenizer_destroy(tok);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(SM1_character_split_over_tokens),
        cmocka_unit_test(SM1_character_never_completed),
        cmocka_unit_test(first_blank_of_a_text),
        cmocka_unit_test(stream_equals_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
