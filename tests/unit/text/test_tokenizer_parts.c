/*
 * The parts of tokenizer.json and tokenizer_config.json one by one (row TK1 of the bad-input
 * table): in a small file of which each part can be replaced, what is refused is named, what is
 * accepted does what it says.
 */
#include "text_files.h"

#define SPACE "\xE2\x96\x81" /* the mark of Metaspace */

/* JSON text of each part; NULL: left away. */
typedef struct parts {
    const char *normalizer, *pre, *decoder, *post, *added, *model, *config;
} parts;

#define VOCAB                                                                                    \
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"" SPACE "\":3,\"" SPACE "a\":4,\"<0x41>\":5,\"1\":6," \
    "\"2\":7,\"12\":8,\"<s>\":9,\"</s>\":10,\"c\":11,\"\\u00c4\":12,\"\\ud83d\\ude00\":13,"      \
    "\"x\\n\\t\\/\\\\\\\"\":14}"
#define MERGES "\"merges\":[\"a b\",\"" SPACE " a\",[\"1\",\"2\"]]"
static const char spaced_decoder[] =
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" SPACE
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
    "\"content\":\" \",\"start\":1,\"stop\":0}]}";
static const char byte_level[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}";

static void member(oct_buf *b, const char *name, const char *value) {
    if (value) oct_buf_printf(b, "%s\"%s\":%s", b->len > 1 ? "," : "", name, value);
}

static oct_status parse(const parts *p, oct_tokenizer **tok, oct_err *err) {
    oct_buf b;
    *err = (oct_err){0};
    oct_buf_init(&b, MEM, 0);
    oct_buf_char(&b, '{');
    member(&b, "normalizer", p->normalizer);
    member(&b, "pre_tokenizer", p->pre);
    member(&b, "decoder", p->decoder ? p->decoder : spaced_decoder);
    member(&b, "post_processor", p->post);
    member(&b, "added_tokens", p->added);
    member(&b, "model", p->model ? p->model : "{\"type\":\"BPE\"," VOCAB "," MERGES "}");
    oct_buf_cstr(&b, "}");
    const oct_str config = p->config ? oct_str_of(p->config) : (oct_str){NULL, 0};
    const oct_status st =
        oct_tokenizer_parse(MEM, oct_buf_view(&b), config, (oct_str){NULL, 0}, tok, err);
    oct_buf_fini(&b);
    return st;
}

static void refused(parts p, oct_status want, const char *word) {
    oct_tokenizer *tok = NULL;
    oct_err err;
    const oct_status got = parse(&p, &tok, &err);
    if (got != want || !strstr(err.text, word))
        print_error("%s, \"%s\", want %s\n", oct_status_name(got), err.text, word);
    assert_int_equal(got, want);
    assert_non_null(strstr(err.text, word));
    assert_null(tok);
}

static oct_tokenizer *made(parts p) {
    oct_tokenizer *tok = NULL;
    oct_err err;
    if (parse(&p, &tok, &err) != OCT_OK) fail_msg("%s", err.text);
    return tok;
}

static void normalizers(void **state) {
    (void)state;
    const oct_status no = OCT_E_UNSUPPORTED;
    refused((parts){.normalizer = "{\"type\":\"Prepend\"}"}, no, "prepend");
    refused((parts){.normalizer = "{\"type\":\"Prepend\",\"prepend\":\"\"}"}, no, "prepend");
    refused((parts){.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"}}"}, no,
            "Replace pattern");
    refused((parts){.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"}, no,
            "content is not supported (got nothing)");
    refused((parts){.normalizer = "{\"type\":\"Sequence\"}"}, no, "normalizers");
    refused(
        (parts){.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\"}]}"},
        no, "\"Sequence\"");
    refused((parts){.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"lstrip\":1}]}"},
            OCT_E_CORRUPT, "lstrip");
    refused((parts){.normalizer = "7"}, no, "type is not supported (got \"\")");
    oct_buf many;
    oct_buf_init(&many, MEM, 0);
    oct_buf_cstr(&many, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}");
    for (int i = 0; i < 8; i++) oct_buf_cstr(&many, ",{\"type\":\"NFC\"}");
    oct_buf_cstr(&many, "]}");
    refused((parts){.normalizer = oct_buf_cs(&many)}, no, "more than 8 steps");
    oct_buf_clear(&many);
    oct_buf_cstr(&many, "{\"type\":\"Prepend\",\"prepend\":\"");
    for (int i = 0; i < 5000; i++) oct_buf_char(&many, 'x');
    oct_buf_cstr(&many, "\"}");
    refused((parts){.normalizer = oct_buf_cs(&many)}, no, "prepend");
    oct_buf_fini(&many);
    /* A with diaeresis, in two characters and in one. */
    oct_tokenizer *tok = made((parts){.normalizer = "{\"type\":\"NFC\"}"});
    CHECK_IDS(tok, "A\xCC\x88", 0, 12);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.normalizer = "{\"type\":\"NFKD\"}",
                       .model = "{\"type\":\"BPE\",\"vocab\":{\"1\":0,\"2\":1},\"merges\":[]}"});
    CHECK_IDS(tok, "\xC2\xB2\xC2\xB9", 0, 1, 0); /* superscripts */
    oct_tokenizer_destroy(tok);
}

/* The beginning of a text is one; behind a token a text begins anew only for "always". */
static void where_a_mark_goes_in_front(void **state) {
    (void)state;
    static const char added[] = "[{\"id\":9,\"content\":\"<s>\"}]";
    static const char *const schemes[] = {"first", "always", "never"};
    char pre[256];
    for (int i = 0; i < 3; i++) {
        snprintf(pre, sizeof pre,
                 "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE "\",\"prepend_scheme\":\"%s\"}",
                 schemes[i]);
        oct_tokenizer *tok = made((parts){.pre = pre, .added = added});
        if (i == 0) CHECK_IDS(tok, "a<s>a", 0, 4, 9, 0);
        if (i == 1) CHECK_IDS(tok, "a<s>a", 0, 4, 9, 4);
        if (i == 2) CHECK_IDS(tok, "a<s>a", 0, 0, 9, 0);
        CHECK_IDS(tok, " a", 0, 4); /* it has one */
        /* characters that begin with the mark's bytes are none */
        CHECK_IDS(tok, " \xE2\x96\x82\xE2\x80\xA6 a", 0, 3, 4);
        oct_tokenizer_destroy(tok);
    }
}

static void pre_tokenizers(void **state) {
    (void)state;
    const oct_status no = OCT_E_UNSUPPORTED;
    static const char meta[] = "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE "\"}";
    char two[256];
    refused((parts){.pre = "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"String\":"
                           "\" \"}}"},
            no, "Split pattern");
    refused((parts){.pre = "{\"type\":\"Split\",\"behavior\":\"Removed\"}"}, no, "Split behavior");
    refused((parts){.pre = "{\"type\":\"Metaspace\",\"replacement\":\"_\"}"}, no,
            "Metaspace replacement");
    refused((parts){.pre = "{\"type\":\"Metaspace\",\"replacement\":\"\"}"}, no, "replacement");
    refused((parts){.pre = "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE
                           "\",\"prepend_scheme\":\"last\"}"},
            no, "prepend_scheme");
    static const char *const before[] = {"{\"type\":\"Digits\"}", meta};
    for (size_t i = 0; i < OCT_COUNT(before); i++) {
        snprintf(two, sizeof two, "{\"type\":\"Sequence\",\"pretokenizers\":[%s,%s]}", before[i],
                 meta);
        refused((parts){.pre = two}, no, "Metaspace after another part");
    }
    snprintf(two, sizeof two,
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":"
             "\"ByteLevel\"}]}");
    refused((parts){.pre = two, .decoder = byte_level}, no, "add_prefix_space after a split");
    oct_tokenizer *tok = made((parts){.pre = "{\"type\":\"Digits\",\"individual_digits\":true}"});
    CHECK_IDS(tok, "12", 0, 6, 7);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.pre = "{\"type\":\"Digits\"}"});
    CHECK_IDS(tok, "a12b", 0, 0, 8, 1);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.pre = meta});
    CHECK_IDS(tok, "a a", 0, 4, 4);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.pre = "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE
                              "\",\"prepend_scheme\":\"never\",\"split\":false}"});
    CHECK_IDS(tok, "a a", 0, 0, 4);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.pre = "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE
                              "\",\"add_prefix_space\":false}"});
    CHECK_IDS(tok, "a", 0, 0);
    oct_tokenizer_destroy(tok);
    /* With its own blank in front, and without its pattern. */
    tok =
        made((parts){.pre = "{\"type\":\"ByteLevel\",\"use_regex\":false}",
                     .decoder = byte_level,
                     .model = "{\"type\":\"BPE\",\"vocab\":{\"\\u0120\":0,\"a\":1,\"\\u0120a\":2},"
                              "\"merges\":[\"\\u0120 a\"]}"});
    CHECK_IDS(tok, "a", 0, 2);
    oct_tokenizer_destroy(tok);
}

static void patterns(void **state) {
    (void)state;
    static const struct {
        const char *regex, *word; /* NULL: taken */
    } rows[] = {
        {"\\\\x{41}+", NULL},
        {"(?:a)", NULL},
        {"(?=a)a", NULL},
        {"(?!b)a", NULL},
        {"(?>a)", NULL},
        {"(?<=a)b", NULL},
        {"(?<!a)b", NULL},
        {"(?i:a)", NULL},
        {"a{2}", NULL},
        {"a{1,}", NULL},
        {"a{0,1}b", NULL},
        {"a+?", NULL},
        {"a++", NULL},
        {"\\\\P{L}", NULL},
        {"\\\\pL+", NULL},
        {"[^a\\\\s]+", NULL},
        {"a??b", NULL},
        {"(?:ab){1}", NULL},
        {"(?:a?){1}b", NULL},
        {"\\\\", "a \\ at its end"},
        {"a\\\\kb", "a back-reference"},
        {"a\\\\g1", "a back-reference"},
        {"[]a]", "a ] at the start"},
        {"[a[b]]", "a class inside"},
        {"[a\\\\h]", "read differently"},
        {"(?<n>a)", "unknown kind"},
        {"(?<", "unknown kind"},
        {"(?i)a", "unknown kind"},
        {"(?", "unknown kind"},
        {"a+*", "nested quantifier"},
        {"a**", "nested quantifier"},
        {"a+?+", "nested quantifier"},
        {"a+??", "nested quantifier"},
        {"a+?{2}", "nested quantifier"},
        {"(?:a{2,})+", "nested quantifier"},
        {"(?:a{1,3}){2}", "nested quantifier"},
        {"a{1,5000}", "above 1000"},
        {"a{2}+", "counted repeat"},
        {"\\\\p{L", "invalid"},
        {"a{x}", NULL},
        {"a{1x}", NULL},
        {"a{1,2,3}", NULL},
        {"a{}", NULL},
        {"a{1", NULL},
        {"a{,3}b", "without a lower bound"},
        {"a(?<", "unknown kind"},
        {"a(?<=", "unmatched ("},
        {"a(?i", "unknown kind"},
        {"a(?<!b)c", NULL},
        {"a(?i:b)", NULL},
        {"a(?=b", "unmatched ("},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char pre[256];
        snprintf(pre, sizeof pre,
                 "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"%s\"}}",
                 rows[i].regex);
        if (rows[i].word)
            refused((parts){.pre = pre}, OCT_E_UNSUPPORTED, rows[i].word);
        else
            oct_tokenizer_destroy(made((parts){.pre = pre}));
    }
}

static void decoders(void **state) {
    (void)state;
    const oct_status no = OCT_E_UNSUPPORTED;
#define DECODERS(...) "{\"type\":\"Sequence\",\"decoders\":[" __VA_ARGS__ "]}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"\"}"
#define FUSE "{\"type\":\"Fuse\"}"
#define META "{\"type\":\"Metaspace\",\"replacement\":\"" SPACE "\"}"
    refused((parts){.decoder = "null"}, no, "no decoder");
    refused((parts){.decoder = "{\"type\":\"Sequence\"}"}, no, "decoders");
    refused((parts){.decoder = "{\"type\":\"CTC\"}"}, no, "CTC");
    refused((parts){.decoder = "{\"type\":\"Fuse\",\"split\":0}"}, OCT_E_CORRUPT, "split");
    refused((parts){.decoder = DECODERS(FUSE "," REPLACE)}, no, "order");
    refused((parts){.decoder = DECODERS(FUSE "," META)}, no, "order");
    refused((parts){.decoder = DECODERS(FUSE "," FUSE)}, no, "order");
    refused((parts){.decoder = DECODERS(FUSE ",{\"type\":\"ByteFallback\"}")}, no, "order");
    refused((parts){.decoder = "{\"type\":\"Strip\",\"content\":\" \"}"}, no, "order");
    refused((parts){.decoder = DECODERS(FUSE ",{\"type\":\"Strip\",\"content\":\"x\"}")}, no,
            "Strip");
    refused((parts){.decoder = DECODERS(FUSE ",{\"type\":\"Strip\",\"content\":\" \",\"stop\":1}")},
            no, "Strip");
    refused(
        (parts){.decoder = DECODERS(FUSE ",{\"type\":\"Strip\",\"content\":\" \",\"start\":99}")},
        OCT_E_CORRUPT, "start");
    refused((parts){.decoder = DECODERS(REPLACE "," REPLACE "," REPLACE "," REPLACE "," REPLACE)},
            no, "more than 4 Replace");
    refused((parts){.decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"}}"}, no,
            "String");
    refused((parts){.decoder = byte_level}, no, "does not fit");
    refused((parts){.decoder = DECODERS("{\"type\":\"ByteLevel\"}," FUSE), .pre = byte_level}, no,
            "does not fit");
    refused((parts){.decoder = "{\"type\":\"Metaspace\"}"}, no, "replacement");
    refused(
        (parts){.decoder = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":1}"},
        no, "prepend_scheme");
}

static void post_processors(void **state) {
    (void)state;
    const oct_status no = OCT_E_UNSUPPORTED;
#define SINGLE(items, special) \
    "{\"type\":\"TemplateProcessing\",\"single\":[" items "],\"special_tokens\":{" special "}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\"}}"
#define MARK "{\"SpecialToken\":{\"id\":\"<s>\"}}"
#define IDS "\"<s>\":{\"ids\":[9]}"
    refused((parts){.post = "{\"type\":\"TemplateProcessing\"}"}, no, "single");
    refused((parts){.post = SINGLE(MARK, IDS)}, no, "single");
    refused((parts){.post = SINGLE(TEXT "," TEXT, "")}, no, "single");
    refused((parts){.post = SINGLE("{\"Sequence\":{\"id\":\"B\"}}", "")}, no, "single");
    refused((parts){.post = SINGLE(MARK "," TEXT, "")}, no, "token");
    refused((parts){.post = SINGLE("{\"SpecialToken\":{}}," TEXT, IDS)}, no, "token");
    refused((parts){.post = SINGLE(MARK "," TEXT, "\"<s>\":{\"ids\":[\"9\"]}")}, OCT_E_CORRUPT,
            "is not in the vocabulary");
    refused((parts){.post = SINGLE(MARK "," TEXT, "\"<s>\":{\"ids\":[9,9,9,9,9,9,9,9,9,9,9,9,9,9,"
                                                  "9,9,9]}")},
            no, "more than 16 tokens");
    refused((parts){.post = "{\"type\":\"Sequence\",\"processors\":[" SINGLE(
                        MARK "," TEXT, IDS) "," SINGLE(TEXT, "") "]}"},
            no, "single");
    refused((parts){.post = "{\"type\":\"Sequence\",\"processors\":[" SINGLE(
                        TEXT "," MARK, IDS) "," SINGLE(TEXT, "") "]}"},
            no, "single");
    oct_tokenizer *tok = made((parts){.post = SINGLE(MARK "," TEXT "," MARK, IDS)});
    CHECK_IDS(tok, "ab", OCT_ENCODE_ADD_SPECIAL, 9, 2, 9);
    CHECK_IDS(tok, "ab", 0, 2);
    oct_tokenizer_destroy(tok);
}

static void models(void **state) {
    (void)state;
    const oct_status bad = OCT_E_CORRUPT;
#define MODEL(vocab, merges) "{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
    refused((parts){.model = "[]"}, bad, "no model");
    refused((parts){.model = "{" VOCAB "}"}, OCT_E_UNSUPPORTED, "got nothing");
    refused((parts){.model = "{\"type\":\"BPE\"," MERGES "}"}, bad, "no vocab");
    refused((parts){.model = "{\"type\":\"BPE\"," VOCAB "}"}, bad, "no merges");
    refused((parts){.model = "{\"type\":\"BPE\",\"fuse_unk\":1," VOCAB "," MERGES "}"}, bad,
            "fuse_unk");
    refused((parts){.model = "{\"type\":\"BPE\",\"unk_token\":\"<u>\"," VOCAB "," MERGES "}"}, bad,
            "unk_token is not in the vocabulary");
    refused((parts){.model = "{\"type\":\"BPE\",\"unk_token\":1," VOCAB "," MERGES "}"}, bad,
            "unk_token");
    refused(
        (parts){.model = "{\"type\":\"BPE\",\"continuing_subword_prefix\":1," VOCAB "," MERGES "}"},
        OCT_E_UNSUPPORTED, "continuing_subword_prefix");
    refused((parts){.model = MODEL("{\"a\":0,}", "[]")}, bad, "no '\"'");
    refused((parts){.model = MODEL("{\"a\" 0}", "[]")}, bad, "no ':'");
    refused((parts){.model = MODEL("{\"a\":0 \"b\":1}", "[]")}, bad, "no ','");
    refused((parts){.model = MODEL("{\"a\":1e0}", "[]")}, bad, "no integer");
    refused((parts){.model = MODEL("{\"a\":+1}", "[]")}, bad, "no integer");
    refused((parts){.model = MODEL("{\"\\ud83dx\":1}", "[]")}, bad, "surrogate");
    refused((parts){.model = MODEL("{\"\\ud83d\\u0041\":1}", "[]")}, bad, "surrogate");
    refused((parts){.model = MODEL("{\"\\ud83d\\ue000\":1}", "[]")}, bad, "surrogate");
    refused((parts){.model = MODEL("{\"\\u00g0\":1}", "[]")}, bad, "escape");
    refused((parts){.model = MODEL("{\"\\u00\x01\":1}", "[]")}, bad, "escape");
    refused((parts){.model = MODEL("{\"\\n\x01\":1}", "[]")}, bad, "control");
    refused((parts){.model = MODEL("{\"a\":0,\"b\":1}", "[\"a b\"]")}, bad, "makes a token");
    refused((parts){.model = MODEL("{\"a\":0}", "[\"\"]")}, bad, "one blank between");
    refused(
        (parts){.model = MODEL("{\"a\":0}", "[\"a b\"]"), .pre = byte_level, .decoder = byte_level},
        bad, "has a part that is not");
    refused((parts){.model = MODEL("{\"a\":0}", "[\"\xC2\xA0 a\"]"),
                    .pre = byte_level,
                    .decoder = byte_level},
            bad, "has a part that is not");
    refused((parts){.model = MODEL("{\"a\":0}", "[\"a \xC2\xA0\"]"),
                    .pre = byte_level,
                    .decoder = byte_level},
            bad, "has a part that is not");
    refused((parts){.model = MODEL("{\"a\":0}", "[[\"a\",\"\xC2\xA0\"]]"),
                    .pre = byte_level,
                    .decoder = byte_level},
            bad, "has a part that is not");
    oct_tokenizer *tok = made((parts){.model = "{\t\n\r\"type\":\"BPE\", \"dropout\" : 0.0 ,"
                                               "\"unk_token\":\"c\"," VOCAB "," MERGES "}"});
    CHECK_IDS(tok, "abz\xF0\x9F\x98\x80", 0, 2, 11, 13);
    assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, 14), "x\n\t/\\\""));
    oct_tokenizer_destroy(tok);
    /* A file without a type is BPE when it has merges. */
    tok = made((parts){.model = "{" VOCAB "," MERGES "}"});
    CHECK_IDS(tok, "ab", 0, 2);
    oct_tokenizer_destroy(tok);
    tok = made((parts){.model = "{\"type\":\"BPE\",\"byte_fallback\":true," VOCAB "," MERGES "}"});
    CHECK_IDS(tok, "A", 0, 5);
    oct_tokenizer_destroy(tok);
}

static void added(void **state) {
    (void)state;
    refused((parts){.added = "{}"}, OCT_E_CORRUPT, "added_tokens must be an array");
    refused((parts){.added = "[{\"id\":20}]"}, OCT_E_CORRUPT, "added_tokens[0]");
    refused((parts){.added = "[{\"id\":\"20\",\"content\":\"x\"}]"}, OCT_E_CORRUPT,
            "added_tokens[0]");
    refused((parts){.added = "[{\"id\":20,\"content\":\"x\",\"special\":1}]"}, OCT_E_CORRUPT,
            "special");
    oct_tokenizer *tok = made((parts){.added = "null"});
    oct_tokenizer_destroy(tok);
}

static void configs(void **state) {
    (void)state;
    const oct_status bad = OCT_E_CORRUPT;
#define LLAMA \
    "{\"tokenizer_class\":\"%s\",\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"}"
    refused((parts){.config = "[]"}, bad, "must be an object");
    refused((parts){.config = "{"}, bad, "tokenizer_config.json");
    refused((parts){.config = "{\"bos_token\":7}"}, bad, "bos_token must be a string");
    refused((parts){.config = "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}"}, bad,
            "wants a number");
    refused((parts){.config = "{\"added_tokens_decoder\":{\"20\":{}}}"}, bad, "wants a number");
    refused((parts){.config = "{\"chat_template\":[{\"name\":\"a\"}]}"}, bad,
            "chat_template[0] wants a name and a template");
    refused((parts){.config = "{\"chat_template\":[{\"template\":\"a\"}]}"}, bad,
            "chat_template[0]");
    refused((parts){.config = "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true}"},
            bad, "add_bos_token");
    refused((parts){.config = "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false,"
                              "\"add_eos_token\":true}"},
            bad, "add_eos_token");
    oct_buf many;
    oct_buf_init(&many, MEM, 0);
    oct_buf_cstr(&many, "{\"chat_template\":[{\"name\":\"n\",\"template\":\"t\"}");
    for (int i = 0; i < 16; i++) oct_buf_cstr(&many, ",{\"name\":\"n\",\"template\":\"t\"}");
    oct_buf_cstr(&many, "]}");
    refused((parts){.config = oct_buf_cs(&many)}, OCT_E_UNSUPPORTED, "more than 16 templates");
    oct_buf_fini(&many);

    static const char *const classes[] = {"LlamaTokenizer", "LlamaTokenizerFast",
                                          "CodeLlamaTokenizer", "CodeLlamaTokenizerFast", "Other"};
    for (size_t i = 0; i < OCT_COUNT(classes); i++) {
        char text[256];
        snprintf(text, sizeof text, LLAMA ",\"add_bos_token\":%s,\"add_eos_token\":true}",
                 classes[i], i % 2 ? "true" : "false");
        oct_tokenizer *tok = made((parts){.config = text});
        if (i == 4)
            CHECK_IDS(tok, "a", OCT_ENCODE_ADD_SPECIAL, 0);
        else if (i % 2)
            CHECK_IDS(tok, "a", OCT_ENCODE_ADD_SPECIAL, 9, 0, 10);
        else
            CHECK_IDS(tok, "a", OCT_ENCODE_ADD_SPECIAL, 0, 10);
        oct_tokenizer_destroy(tok);
    }
    /* The same added token in both files is one; null is nothing. */
    oct_tokenizer *tok = made((parts){
        .added = "[{\"id\":20,\"content\":\"<t>\",\"special\":true}]",
        .config = "{\"pad_token\":null,\"added_tokens_decoder\":{\"20\":{\"content\":\"<t>\","
                  "\"special\":true},\"21\":{\"content\":\"<v>\"}}}"});
    CHECK_IDS(tok, "<t><v>", OCT_ENCODE_PARSE_SPECIAL, 20, 21);
    oct_tokenizer_destroy(tok);
    refused((parts){.added = "[{\"id\":20,\"content\":\"<t>\"}]",
                    .config = "{\"added_tokens_decoder\":{\"20\":{\"content\":\"<w>\"}}}"},
            bad, "20");
}

/* What names a byte to the decoder, and what only looks like it. */
static void TK9_names_of_bytes(void **state) {
    (void)state;
    static const char *const names[] = {"<0x4a>", "<0x/1>", "<0x:1>", "<0xG1>",
                                        "<0x1G>", "<1x41>", "<0x41)", "<0x041>"};
    oct_buf model;
    oct_buf_init(&model, MEM, 0);
    oct_buf_cstr(
        &model,
        "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"<0x4A>\":0,\"<0x99>\":1,\"<0xFf>\":2");
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        oct_buf_printf(&model, ",\"%s\":%zu", names[i], i + 3);
    oct_buf_cstr(&model, "}}");
    oct_tokenizer *tok = made((parts){.model = oct_buf_cs(&model)});
    assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, 0), "J"));
    assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, 1), "\x99"));
    assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, 2), "<0xFf>"));
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        assert_true(oct_str_is(oct_tokenizer_token_bytes(tok, (int32_t)i + 3), names[i]));
    oct_tokenizer_destroy(tok);
    oct_buf_fini(&model);
}

/* A token whose characters are not in the vocabulary is never reached by merging: it is unknown, as
 * in the reference, unless pieces that are tokens are taken whole. */
static void a_token_that_merging_does_not_reach(void **state) {
    (void)state;
#define LONE                                                                                    \
    "{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,\"merges\":[],\"vocab\":{\"?\":0," \
    "\"xy\":1}"
    oct_tokenizer *tok = made((parts){.model = LONE "}"});
    CHECK_IDS(tok, "xy", 0, 0);
    CHECK_IDS(tok, "xy", 0, 0); /* it is known now */
    oct_tokenizer_destroy(tok);
    tok = made((parts){.model = LONE ",\"ignore_merges\":true}"});
    CHECK_IDS(tok, "xy", 0, 1);
    oct_tokenizer_destroy(tok);
}

/* Beyond the length that is merged in place, and no merge at all. */
static void a_long_piece_without_merges(void **state) {
    (void)state;
    oct_tokenizer *tok =
        made((parts){.model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0,\"ab\":1}}"});
    char text[201] = "";
    int32_t want[200] = {0};
    memset(text, 'a', 200);
    check_ids(tok, (oct_str){text, 200}, 0, want, 200);
    oct_tokenizer_destroy(tok);
}

/* Tokens with the mark inside keep a text whole before BPE: "a b" is one of them here. */
static void a_mark_inside_a_token(void **state) {
    (void)state;
    static const char normalizer[] =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}";
    oct_tokenizer *tok =
        made((parts){.normalizer = normalizer,
                     .model = "{\"type\":\"BPE\",\"merges\":[\"a " SPACE "\",\"a" SPACE
                              " b\"],\"vocab\":{\"a\":0,\"b\":1,\"" SPACE "\":2,\"a" SPACE
                              "\":3,\"a" SPACE "b\":4}}"});
    CHECK_IDS(tok, "a b a", 0, 4, 2, 0);
    CHECK_TEXT(tok, false, "a b a", 4, 2, 0);
    oct_tokenizer_destroy(tok);
}

/* An added token whose text the normalizer takes away is never found. */
static void an_added_token_that_normalizes_to_nothing(void **state) {
    (void)state;
    static const char normalizer[] =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"c\"},\"content\":\"\"}";
    oct_tokenizer *tok =
        made((parts){.normalizer = normalizer,
                     .added = "[{\"id\":20,\"content\":\"c\",\"normalized\":true}]",
                     .model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0}}"});
    CHECK_IDS(tok, "aca", 0, 0, 0);
    assert_int_equal(oct_tokenizer_find(tok, OCT_STR("c")), 20);
    oct_tokenizer_destroy(tok);
}

static void TK2_a_token_whose_text_is_too_long(void **state) {
    (void)state;
    oct_buf decoder;
    oct_buf_init(&decoder, MEM, 0);
    oct_buf_cstr(&decoder, "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
                           "{\"String\":\"a\"},\"content\":\"");
    for (int i = 0; i < 3000; i++) oct_buf_char(&decoder, 'x');
    oct_buf_cstr(&decoder, "\"},{\"type\":\"Fuse\"}]}");
    refused((parts){.decoder = oct_buf_cs(&decoder),
                    .model = "{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0,\"aa\":1}}"},
            OCT_E_CORRUPT, "decoder: text of token 1 is too long");
    oct_buf_fini(&decoder);
}

static void TK4_stages_and_patterns_without_end(void **state) {
    (void)state;
    oct_buf pre;
    oct_buf_init(&pre, MEM, 0);
    oct_buf_cstr(&pre, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 17; i++) oct_buf_printf(&pre, "%s{\"type\":\"Digits\"}", i ? "," : "");
    oct_buf_cstr(&pre, "]}");
    refused((parts){.pre = oct_buf_cs(&pre)}, OCT_E_UNSUPPORTED,
            "pre_tokenizer: more than 16 stages");
    oct_buf_clear(&pre);
    oct_buf_cstr(&pre, "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"");
    for (int i = 0; i < 70000; i++) oct_buf_char(&pre, 'x');
    oct_buf_cstr(&pre, "\"}}");
    refused((parts){.pre = oct_buf_cs(&pre)}, OCT_E_UNSUPPORTED,
            "pre_tokenizer: pattern is too long (got 70000");
    oct_buf_fini(&pre);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalizers),
        cmocka_unit_test(pre_tokenizers),
        cmocka_unit_test(patterns),
        cmocka_unit_test(decoders),
        cmocka_unit_test(post_processors),
        cmocka_unit_test(models),
        cmocka_unit_test(added),
        cmocka_unit_test(configs),
        cmocka_unit_test(where_a_mark_goes_in_front),
        cmocka_unit_test(TK9_names_of_bytes),
        cmocka_unit_test(a_token_that_merging_does_not_reach),
        cmocka_unit_test(a_long_piece_without_merges),
        cmocka_unit_test(a_mark_inside_a_token),
        cmocka_unit_test(an_added_token_that_normalizes_to_nothing),
        cmocka_unit_test(TK2_a_token_whose_text_is_too_long),
        cmocka_unit_test(TK4_stages_and_patterns_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
