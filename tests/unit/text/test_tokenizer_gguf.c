/* text/tokenizer.h from a vocabulary as GGUF files have it, and the files written for it. */
#include "text_files.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vocabularies.h"

#define ADD OCT_ENCODE_ADD_SPECIAL
#define PARSE OCT_ENCODE_PARSE_SPECIAL

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
    fini_vocabulary(&v);
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
    fini_vocabulary(&v);
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
    fini_vocabulary(&v);
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
    refused(&v, OCT_E_CORRUPT, "token_type[3]: unknown type 9");
    v.types[3] = -1;
    refused(&v, OCT_E_CORRUPT, "token_type[3]: unknown type -1");
    v.desc.n_tokens = 0;
    refused(&v, OCT_E_CORRUPT, "tokens: got 0 tokens");
    v.desc.n_tokens = OCT_TOKENIZER_MAX_VOCAB + 1; /* refused before one is read */
    refused(&v, OCT_E_CORRUPT, "tokens: got 4194305 tokens");
    v.desc.n_tokens = N_BYTES;
    fini_vocabulary(&v);
    pieces_vocabulary(&v);
    v.scores[260] = NAN;
    refused(&v, OCT_E_CORRUPT, "scores[260]: not a number");
    v.desc.scores = NULL;
    refused(&v, OCT_E_CORRUPT, "scores: absent");
    fini_vocabulary(&v);
}

static void TK3_merges_that_are_none(void **state) {
    (void)state;
    static const char *const rows[] = {"",     "l",    " l", "\xE4\xB8\xAD e", "h \xE4\xB8\xAD",
                                       "zz e", "h zz", "e h"};
    static vocabulary v;
    bytes_vocabulary(&v);
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        v.merges[1] = oct_str_of(rows[i]);
        refused(&v, OCT_E_CORRUPT, "tokenizer.ggml.merges[1]");
    }
    v.desc.n_merges = OCT_TOKENIZER_MAX_MERGES + 1;
    refused(&v, OCT_E_CORRUPT, "merges: got 4194305, want at most 4194304");
    fini_vocabulary(&v);
}

/* A token the user defined is found in any text and shown; one without text only keeps its id. */
static void kinds_of_tokens(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    v.types[259] = 4; /* hello */
    v.types[65] = 0;  /* undefined is normal */
    v.tokens[258] = OCT_STR("");
    v.types[258] = 5;
    v.desc.n_merges = 2;
    oct_tokenizer *tok = create(&v);
    CHECK_IDS(tok, "hellohello", 0, 259, 259);
    CHECK_IDS(tok, "A", 0, 65);
    assert_false(oct_tokenizer_is_special(tok, 259));
    CHECK_TEXT(tok, true, "hello", 259, 258);
    assert_false(oct_tokenizer_has(tok, 258));
    assert_int_equal(oct_tokenizer_n_vocab(tok), N_BYTES);
    oct_tokenizer_destroy(tok);
    fini_vocabulary(&v);
    pieces_vocabulary(&v); /* of the other kind: no score of theirs makes merges */
    v.types[268] = 4;
    v.tokens[265] = OCT_STR("");
    v.types[265] = 5;
    tok = create(&v);
    CHECK_IDS(tok, "hello", 0, 259, 264, 267);
    CHECK_IDS(tok, "a" MARK "hello", 0, 259, 270, 268);
    oct_tokenizer_destroy(tok);
    fini_vocabulary(&v);
}

/* The file says which ids go around a text; what it has no token for cannot go there. */
static void affixes(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    v.desc.add_bos = 1;
    v.desc.add_eos = 1;
    oct_tokenizer *tok = create(&v);
    CHECK_IDS(tok, "hello", ADD, 259, 260); /* no BOS in the file */
    oct_tokenizer_destroy(tok);
    v.desc.bos_id = 258;
    tok = create(&v);
    CHECK_IDS(tok, "hello", ADD, 258, 259, 260);
    oct_tokenizer_destroy(tok);
    v.desc.eos_id = -1;
    v.desc.add_space_prefix = 1;
    tok = create(&v);
    CHECK_IDS(tok, "hello", ADD, 258, 32, 259);
    CHECK_IDS(tok, " hello", 0, 32, 259);
    oct_tokenizer_destroy(tok);
    fini_vocabulary(&v);
}

/* Of pairs with one score the left one goes first, as in the library that made the scores. */
static void equal_scores_merge_from_the_left(void **state) {
    (void)state;
    static vocabulary v;
    pieces_vocabulary(&v);
    v.tokens[270] = OCT_STR("lo");
    v.scores[270] = v.scores[266]; /* "lo" as "ll" */
    v.tokens[267] = OCT_STR("");
    v.types[267] = 5; /* without "llo" */
    v.desc.add_space_prefix = 0;
    oct_tokenizer *tok = create(&v);
    CHECK_IDS(tok, "llo", 0, 266, 263);
    CHECK_IDS(tok, "elo", 0, 261, 270);
    oct_tokenizer_destroy(tok);
    v.scores[270] = v.scores[266] + 1;
    tok = create(&v);
    CHECK_IDS(tok, "llo", 0, 262, 270);
    oct_tokenizer_destroy(tok);
    fini_vocabulary(&v);
}

/* Thousands of tokens and merges: every table grows, and all of it is still found. */
static void large_vocabulary(void **state) {
    (void)state;
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    enum { SIDE = sizeof letters - 1, PAIRS = SIDE * SIDE };
    static char names[PAIRS][2], lines[PAIRS][3];
    static oct_str tokens[256 + PAIRS], merges[PAIRS];
    static vocabulary v;
    bytes_vocabulary(&v);
    memcpy(tokens, v.tokens, 256 * sizeof *tokens);
    for (int i = 0; i < PAIRS; i++) {
        names[i][0] = lines[i][0] = letters[i / SIDE];
        names[i][1] = lines[i][2] = letters[i % SIDE];
        lines[i][1] = ' ';
        tokens[256 + i] = (oct_str){names[i], 2};
        merges[i] = (oct_str){lines[i], 3};
    }
    v.desc.tokens = tokens;
    v.desc.types = NULL;
    v.desc.n_tokens = 256 + PAIRS;
    v.desc.merges = merges;
    v.desc.n_merges = PAIRS;
    v.desc.eos_id = -1;
    oct_tokenizer *tok = create(&v);
    for (int i = 0; i < PAIRS; i++) {
        const int32_t want = 256 + i;
        check_ids(tok, tokens[256 + i], 0, &want, 1);
        assert_true(oct_str_eq(oct_tokenizer_token_bytes(tok, want), tokens[256 + i]));
    }
    oct_tokenizer_destroy(tok);
    v.desc.n_tokens = N_BYTES;
    fini_vocabulary(&v);
}

/* What the files say again: NFC, a blank in front, ids on both sides, a gap, equal scores. */
static void vary(vocabulary *v, int kind) {
    if (kind % 2) {
        v->tokens[270] = OCT_STR("lo"); /* three tokens of one score, two that begin alike */
        v->scores[270] = v->scores[266] = v->scores[267];
        v->desc.add_eos = kind > 1;
        v->desc.add_space_prefix = kind > 1 ? 0 : -1;
    } else {
        v->desc.pre = kind ? OCT_STR("qwen2") : OCT_STR("smollm");
        v->desc.add_space_prefix = v->desc.add_bos = v->desc.add_eos = kind > 0;
        v->desc.bos_id = kind == 4 ? 260 : kind == 2 ? 258 : -1;
        if (kind == 6) v->tokens[2] = OCT_STR(""), v->types[2] = 5;
    }
}

static const char *const written_texts[] = {
    "hello 12",         " hello",    "e\xCC\x81 \xC3\xA9", "hell<|im_end|>o",
    "<s>llohello </s>", "ll l hell", "\xE4\xB8\xAD",
};

static void same_ids(const oct_tokenizer *a, const oct_tokenizer *b) {
    for (size_t i = 0; i < OCT_COUNT(written_texts); i++) {
        oct_ids want;
        oct_ids_init(&want, MEM);
        assert_int_equal(
            oct_tokenizer_encode(a, oct_str_of(written_texts[i]), ADD | PARSE, &want, NULL),
            OCT_OK);
        check_ids(b, oct_str_of(written_texts[i]), ADD | PARSE, want.data, want.len);
        oct_ids_fini(&want);
    }
}

static void written_files_give_the_same(void **state) {
    (void)state;
    static vocabulary v;
    for (int kind = 0; kind < 7; kind++) {
        char folder[] = "/tmp/octet_tokenizer_XXXXXX", path[64];
        assert_non_null(mkdtemp(folder));
        if (kind % 2)
            pieces_vocabulary(&v);
        else
            bytes_vocabulary(&v);
        vary(&v, kind);
        oct_tokenizer *tok = create(&v);
        oct_err err = {0};
        assert_int_equal(oct_tokenizer_write_json(tok, folder, &err), OCT_OK);
        assert_int_equal(oct_tokenizer_write_json(tok, "/no/such/folder", &err), OCT_E_IO);
        oct_tokenizer *again = open_tokenizer(folder);
        same_ids(tok, again);
        oct_tokenizer_destroy(tok);
        if (kind == 0) check_bytes(again);
        err = (oct_err){0};
        assert_int_equal(oct_tokenizer_write_json(again, folder, &err), OCT_E_INVALID);
        oct_tokenizer_destroy(again);
        fini_vocabulary(&v);
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        assert_int_equal(unlink(path), 0);
        snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0); /* nothing else was left */
    }
}

/* A name that is taken by a folder, and a disk without room: the error is told, nothing is left. */
static void a_file_that_cannot_be_written(void **state) {
    (void)state;
    static vocabulary v;
    char folder[] = "/tmp/octet_tokenizer_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    bytes_vocabulary(&v);
    oct_tokenizer *tok = create(&v);
    oct_err err = {0};
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(oct_tokenizer_write_json(tok, folder, &err), OCT_E_IO);
    assert_non_null(strstr(err.text, "tokenizer.json: "));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(folder), 0);

    err = (oct_err){0};
    assert_non_null(mkdtemp(strcpy(folder, "/tmp/octet_tokenizer_XXXXXX")));
    snprintf(path, sizeof path, "%s/tokenizer.json.part", folder);
    assert_int_equal(symlink("/dev/full", path), 0);
    assert_int_equal(oct_tokenizer_write_json(tok, folder, &err), OCT_E_IO);
    assert_non_null(strstr(err.text, "No space left"));
    assert_int_equal(rmdir(folder), 0); /* the link went too */
    oct_tokenizer_destroy(tok);
    fini_vocabulary(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_vocabulary),
        cmocka_unit_test(pre_name_sets_the_rules),
        cmocka_unit_test(sentencepiece_vocabulary),
        cmocka_unit_test(TK1_TK2_TK3_what_is_refused),
        cmocka_unit_test(TK3_merges_that_are_none),
        cmocka_unit_test(kinds_of_tokens),
        cmocka_unit_test(affixes),
        cmocka_unit_test(equal_scores_merge_from_the_left),
        cmocka_unit_test(large_vocabulary),
        cmocka_unit_test(written_files_give_the_same),
        cmocka_unit_test(a_file_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
