/* Two small vocabularies as GGUF files have them: one of bytes, one of SentencePiece's kind. */
#ifndef OCT_TEST_TEXT_VOCABULARIES_H
#define OCT_TEST_TEXT_VOCABULARIES_H

#include "text_files.h"

#include "text/vocab.h"

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

static inline void put(vocabulary *v, const char *text, int32_t type, float score) {
    const size_t i = v->desc.n_tokens++;
    oct_buf_init(&v->names[i], MEM, 0);
    oct_buf_cstr(&v->names[i], text);
    v->tokens[i] = oct_buf_view(&v->names[i]);
    v->types[i] = type;
    v->scores[i] = score;
}

static inline void describe(vocabulary *v) {
    v->desc.tokens = v->tokens;
    v->desc.types = v->types;
    v->desc.bos_id = v->desc.eos_id = v->desc.unk_id = v->desc.pad_id = -1;
    v->desc.add_bos = v->desc.add_eos = v->desc.add_space_prefix = -1;
}

static inline void bytes_vocabulary(vocabulary *v) {
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

static inline void pieces_vocabulary(vocabulary *v) {
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

static inline void fini_vocabulary(vocabulary *v) {
    for (size_t i = 0; i < v->desc.n_tokens; i++) oct_buf_fini(&v->names[i]);
}

#endif
