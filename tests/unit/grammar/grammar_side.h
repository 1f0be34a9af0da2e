/*
 * A small byte-level vocabulary for tests of the grammar room: every byte, and tokens of several
 * bytes as real ones have them; and a walk of a text through a grammar.
 */
#ifndef TESTS_UNIT_GRAMMAR_SIDE_H
#define TESTS_UNIT_GRAMMAR_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/json.h"
#include "grammar/grammar.h"
#include "text/vocab.h"

static const char *const more_tokens[] = {
    "\",",  "\":",      "\": ",         "\"}",      "\"]",      "\"},",         "{\"",
    "[\"",  "[[",       "]]",           "}}",       "]}",       "},",           "],",
    ", \"", ",\"",      "true",         "false",    "null",     " true",        "tr",
    "ue",   "12",       "123",          "1.",       ".5",       "0.0",          "-1",
    "e+",   "\n\n",     "\n  ",         "  ",       "    ",     "the",          " the",
    "name", "age",      "id",           "ab",       "abc",      "\\n",          "\\u",
    "\\\"", "\xC3\xA9", "\xE4\xB8\xAD", "\xE4\xB8", "\xAD\xE6", "\xF0\x9F\x98", "\xF0\x9F\x98\x80",
    "yes",  "no",       "maybe",        "not",      "a\"",      "b\":",         "2024",
    "-0",   "00",       "T1",           "@x",       "x.",       "({",           "a b"};
enum { N_MORE = sizeof more_tokens / sizeof *more_tokens, N_TOKENS = 256 + N_MORE + 1 };

typedef struct side {
    oct_tokenizer *tok;
    oct_grammars *maker;
} side;

static inline void side_open(side *s, const oct_allocator *mem) {
    static oct_buf spelled[N_TOKENS];
    oct_str tokens[N_TOKENS];
    int32_t types[N_TOKENS];
    oct_err err = {0};
    oct_byte_level_setup();
    for (int i = 0; i < N_TOKENS; i++) {
        const char byte = (char)i;
        oct_buf_init(&spelled[i], oct_system_allocator(), 0);
        const oct_str text = i < 256            ? (oct_str){&byte, 1}
                             : i < 256 + N_MORE ? oct_str_of(more_tokens[i - 256])
                                                : OCT_STR("<end>");
        types[i] = i == N_TOKENS - 1 ? 3 : 1;
        if (types[i] == 3)
            oct_buf_str(&spelled[i], text);
        else
            oct_byte_level_write(text, &spelled[i]);
        tokens[i] = oct_buf_view(&spelled[i]);
    }
    const oct_vocab_desc desc = {.model = OCT_STR("gpt2"),
                                 .pre = OCT_STR("gpt-2"),
                                 .tokens = tokens,
                                 .n_tokens = N_TOKENS,
                                 .types = types,
                                 .bos_id = -1,
                                 .eos_id = N_TOKENS - 1,
                                 .unk_id = -1,
                                 .pad_id = -1,
                                 .add_bos = 0,
                                 .add_eos = 0,
                                 .add_space_prefix = 0};
    if (oct_tokenizer_create(mem, &desc, &s->tok, &err) != OCT_OK) fail_msg("%s", err.text);
    for (int i = 0; i < N_TOKENS; i++) oct_buf_fini(&spelled[i]);
    if (oct_grammars_create(mem, s->tok, N_TOKENS, &s->maker, &err) != OCT_OK)
        fail_msg("%s", err.text);
}

static inline void side_close(side *s) {
    oct_grammars_destroy(s->maker);
    oct_tokenizer_destroy(s->tok);
}

static inline json_t *json_of(const char *text) {
    json_t *v = NULL;
    oct_err err = {0};
    if (oct_json_parse(oct_str_of(text), "test", &oct_json_request_limits, &v, &err) != OCT_OK)
        fail_msg("%s in %s", err.text, text);
    return v;
}

/* Whether g accepts the whole of text, byte by byte. */
static inline bool accepts(oct_grammar *g, oct_str text) {
    oct_grammar_run *run = NULL;
    bool fits = true;
    assert_int_equal(oct_grammar_run_create(oct_system_allocator(), g, &run), OCT_OK);
    for (size_t i = 0; i < text.len && fits; i++)
        assert_int_equal(oct_grammar_run_bytes(run, (oct_str){text.ptr + i, 1}, &fits), OCT_OK);
    fits = fits && oct_grammar_run_may_end(run);
    oct_grammar_run_destroy(run);
    return fits;
}

static const oct_grammar_style plain_style = {0};

static inline oct_grammar *schema_grammar(side *s, const char *schema,
                                          const oct_grammar_style *style) {
    json_t *v = json_of(schema);
    oct_grammar *g = NULL;
    oct_err err = {0};
    if (oct_grammar_of_schema(s->maker, v, style ? style : &plain_style, &g, &err) != OCT_OK)
        fail_msg("%s: %s", schema, err.text);
    json_decref(v);
    return g;
}

#endif
