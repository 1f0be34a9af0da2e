/* text/tokenizer.h from a vocabulary as GGUF files have it, and the files written for it. */
#include "text_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "text/vocab.h"

#define ADD OCT_ENCODE_ADD_SPECIAL
#define PARSE OCT_ENCODE_PARSE_SPECIAL
#define MARK "\xE2\x96\x81"

enum { N_EXTRA = 5, N_BYTES = 256 + N_EXTRA, N_PIECES = 259 + 12 };

/* 256 bytes, "he" "ll" "llo" "hello" of merges, then a control token. */
typedef struct vocabulary {
    oct_buf names[N_PIECES];
    oct_str tokens[N_PIECES], merges[4];
    int32_t types[N_PIECES];
    float scores[N_PIECES];
    oct_vocab_desc desc;
} vocabulary;

static void put(vocabulary *v, const char *text, int32_t type, float score) {
    const size_t i = v->desc.n_tokens++;
    oct_buf_init(&v->names[i], MEM, 0);
    oct_buf_cstr(&v->names[i], text);
    v->tokens[i] = oct_buf_view(&v->names[i]);
    v->types[i] = type;
    v->scores[i] = score;
}

static void describe(vocabulary *v) {
    v->desc.tokens = v->tokens;
    v->desc.types = v->types;
    v->desc.bos_id = v->desc.eos_id = v->desc.unk_id = v->desc.pad_id = -1;
    v->desc.add_bos = v->desc.add_eos = v->desc.add_space_prefix = -1;
}

static void bytes_vocabulary(vocabulary *v) {
    static const char *const more[] = {"he", "ll", "llo", "hello"};
    *v = (vocabulary){0};
    oct_byte_level_setup();
    for (int b = 0; b < 256; b++) {
        oct_buf name;
        const char byte = (char)b;
        oct_buf_init(&name, MEM, 0);
        oct_byte_level_write((oct_str){&byte, 1}, &name);
        put(v, oct_buf_cs(&name), 1, 0);
        oct_buf_fini(&name);
    }
    for (size_t i = 0; i < 4; i++) put(v, more[i], 1, 0);
    put(v, "<|im_end|>", 3, 0);
    v->merges[0] = OCT_STR("h e");
    v->merges[1] = OCT_STR("l l");
    v->merges[2] = OCT_STR("ll o");
    v->merges[3] = OCT_STR("he llo");
    describe(v);
    v->desc.merges = v->merges;
    v->desc.n_merges = 4;
    v->desc.model = OCT_STR("gpt2");
    v->desc.pre = OCT_STR("smollm");
    v->desc.eos_id = 260;
}

static void pieces_vocabulary(vocabulary *v) {
    static const char *const more[] = {MARK,      "h",  "e",   "l",          "o",      "he",
                                       MARK "he", "ll", "llo", MARK "hello", MARK "h", "a"};
    *v = (vocabulary){0};
    put(v, "<unk>", 2, 0);
    put(v, "<s>", 3, 0);
    put(v, "</s>", 3, 0);
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        put(v, name, 6, 0);
    }
    for (size_t i = 0; i < OCT_COUNT(more); i++) put(v, more[i], 1, -(float)i);
    describe(v);
    v->desc.scores = v->scores;
    v->desc.model = OCT_STR("llama");
    v->desc.unk_id = 0;
    v->desc.bos_id = 1;
    v->desc.eos_id = 2;
    v->desc.chat_template = OCT_STR("{{ \"\\n\" }}");
}

static void fini(vocabulary *v) {
    for (size_t i = 0; i < v->desc.n_tokens; i++) oct_buf_fini(&v->names[i]);
}

static oct_tokenizer *create(const vocabulary *v) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    if (oct_tokenizer_create(MEM, &v->desc, &tok, &err) != OCT_OK) print_error("%s\n", err.text);
    assert_non_null(tok);
    return tok;
}

static void refused(const vocabulary *v, oct_status want, const char *word) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    const oct_status got = oct_tokenizer_create(MEM, &v->desc, &tok, &err);
    if (got != want || !strstr(err.text, word)) print_error("got \"%s\"\n", err.text);
    assert_null(tok);
    assert_int_equal(got, want);
    assert_non_null(strstr(err.text, word));
}

static void check_bytes(const oct_tokenizer *tok) {
    CHECK_IDS(tok, "hello 12", PARSE, 259, 32, 49, 50);
    CHECK_IDS(tok, "hell<|im_end|>", PARSE, 256, 257, 260);
    CHECK_IDS(tok, "<|im_end|>", 0, 60, 124, 105, 109, 95, 101, 110, 100, 124, 62);
    CHECK_TEXT(tok, true, "hello ", 259, 32, 260);
    assert_int_equal(oct_tokenizer_eos(tok), 260);
    assert_true(oct_str_is(oct_tokenizer_eos_text(tok), "<|im_end|>"));
}

static void byte_level_vocabulary(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    oct_tokenizer *tok = create(&v);
    check_bytes(tok);
    CHECK_IDS(tok, "hello", ADD, 259); /* no BOS for this family */
    oct_tokenizer_destroy(tok);
    fini(&v);
}

/* "llama-bpe" takes a piece that is a token whole and puts a BOS first. */
static void pre_name_sets_the_rules(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    v.desc.pre = OCT_STR("llama-bpe");
    v.desc.bos_id = 260;
    v.desc.n_merges = 1;
    oct_tokenizer *tok = create(&v);
    CHECK_IDS(tok, "hello", ADD, 260, 259);
    CHECK_IDS(tok, "hellos", 0, 256, 108, 108, 111, 115);
    oct_tokenizer_destroy(tok);
    v.desc.add_bos = 0;
    tok = create(&v);
    CHECK_IDS(tok, "hello", ADD, 259);
    oct_tokenizer_destroy(tok);
    v.desc.pre = OCT_STR("default"); /* through the regex engine */
    tok = create(&v);
    CHECK_IDS(tok, "he+1234", 0, 256, 43, 49, 50, 51, 52);
    oct_tokenizer_destroy(tok);
    fini(&v);
}

static void check_pieces(const oct_tokenizer *tok) {
    /* "he" scores above "▁h", so it merges first. */
    CHECK_IDS(tok, "hello hello", ADD, 1, 268, 268);
    CHECK_IDS(tok, "\xC3\xA9", 0, 259, 3 + 0xC3, 3 + 0xA9);
    CHECK_IDS(tok, "<s>hel", PARSE, 1, 265, 262);
    CHECK_TEXT(tok, true, "hello \xC3\xA9", 1, 268, 259, 3 + 0xC3, 3 + 0xA9);
    assert_true(oct_tokenizer_is_special(tok, 0));
    assert_true(oct_str_is(oct_tokenizer_chat_template(tok, NULL), "{{ \"\\n\" }}"));
}

static void sentencepiece_vocabulary(void **state) {
    (void)state;
    static vocabulary v;
    pieces_vocabulary(&v);
    oct_tokenizer *tok = create(&v);
    check_pieces(tok);
    oct_tokenizer_destroy(tok);
    v.desc.add_space_prefix = 0;
    tok = create(&v);
    CHECK_IDS(tok, "hello", 0, 264, 267);
    CHECK_TEXT(tok, true, " hello", 268);
    oct_tokenizer_destroy(tok);
    fini(&v);
}

static void TK1_TK2_TK3_what_is_refused(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    v.desc.pre = OCT_STR("no-such-pre");
    refused(&v, OCT_E_UNSUPPORTED, "no-such-pre");
    v.desc.pre = OCT_STR("smollm");
    v.desc.model = OCT_STR("t5");
    refused(&v, OCT_E_UNSUPPORTED, "t5");
    v.desc.model = OCT_STR("gpt2");
    v.merges[2] = OCT_STR("ll q");
    refused(&v, OCT_E_CORRUPT, "merges[2]");
    v.merges[2] = OCT_STR("llo");
    refused(&v, OCT_E_CORRUPT, "merges[2]");
    v.merges[2] = OCT_STR("ll x\xFF");
    refused(&v, OCT_E_CORRUPT, "merges[2]");
    v.merges[2] = OCT_STR("ll o");
    v.desc.eos_id = 261;
    refused(&v, OCT_E_CORRUPT, "eos_token_id");
    v.desc.eos_id = 260;
    v.tokens[3] = v.tokens[4];
    refused(&v, OCT_E_CORRUPT, "spelled alike");
    v.tokens[3] = OCT_STR("\xFF");
    refused(&v, OCT_E_CORRUPT, "UTF-8");
    v.types[3] = 9;
    refused(&v, OCT_E_CORRUPT, "unknown type");
    v.desc.n_tokens = 0;
    refused(&v, OCT_E_CORRUPT, "tokens");
    v.desc.n_tokens = N_BYTES;
    fini(&v);
    pieces_vocabulary(&v);
    v.desc.scores = NULL;
    refused(&v, OCT_E_CORRUPT, "scores");
    fini(&v);
}

static void written_files_give_the_same(void **state) {
    (void)state;
    static vocabulary v;
    for (int kind = 0; kind < 2; kind++) {
        char folder[] = "/tmp/octet_tokenizer_XXXXXX", path[64];
        assert_non_null(mkdtemp(folder));
        if (kind)
            pieces_vocabulary(&v);
        else
            bytes_vocabulary(&v);
        oct_tokenizer *tok = create(&v);
        oct_err err = {0};
        assert_int_equal(oct_tokenizer_write_json(tok, folder, &err), OCT_OK);
        assert_int_equal(oct_tokenizer_write_json(tok, "/no/such/folder", &err), OCT_E_IO);
        oct_tokenizer_destroy(tok);
        tok = open_tokenizer(folder);
        if (kind)
            check_pieces(tok);
        else
            check_bytes(tok);
        err = (oct_err){0};
        assert_int_equal(oct_tokenizer_write_json(tok, folder, &err), OCT_E_INVALID);
        oct_tokenizer_destroy(tok);
        fini(&v);
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        assert_int_equal(unlink(path), 0);
        snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0); /* nothing else was left */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_vocabulary),
        cmocka_unit_test(pre_name_sets_the_rules),
        cmocka_unit_test(sentencepiece_vocabulary),
        cmocka_unit_test(TK1_TK2_TK3_what_is_refused),
        cmocka_unit_test(written_files_give_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
