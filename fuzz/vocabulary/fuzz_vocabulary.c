/*
 * Any lines as the vocabulary of a GGUF file: the model; the pre-tokenizer; ids of BOS, EOS, UNK
 * and PAD and the three switches, a character each ('0' is 0); then the tokens, each behind a
 * character for its type and one for its score; behind an empty line the merges. What is accepted
 * does what any tokenizer does.
 */
#include <math.h>
#include <string.h>

#include "../tokenizer_use.h"

enum { MAX_LINES = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct lines {
    const char *at, *end;
} lines;

/* The next line without its end; false behind the last one. */
static bool next(lines *l, oct_str *out) {
    if (l->at == l->end) return false;
    const char *nl = memchr(l->at, '\n', (size_t)(l->end - l->at));
    *out = (oct_str){l->at, (size_t)((nl ? nl : l->end) - l->at)};
    l->at = nl ? nl + 1 : l->end;
    return true;
}

static int digit(oct_str s, size_t i) { return i < s.len ? s.ptr[i] - '0' : -1; }

static void read_lists(lines *l, oct_vocab_desc *d) {
    static oct_str tokens[MAX_LINES], merges[MAX_LINES];
    static int32_t types[MAX_LINES];
    static float scores[MAX_LINES];
    oct_str line;
    for (; d->n_tokens < MAX_LINES && next(l, &line) && line.len > 0; d->n_tokens++) {
        const size_t head = line.len < 2 ? line.len : 2;
        tokens[d->n_tokens] = (oct_str){line.ptr + head, line.len - head};
        types[d->n_tokens] = digit(line, 0);
        scores[d->n_tokens] = digit(line, 1) == '?' - '0' ? NAN : -(float)digit(line, 1);
    }
    for (; d->n_merges < MAX_LINES && next(l, &line); d->n_merges++) merges[d->n_merges] = line;
    d->tokens = tokens;
    d->types = types;
    d->scores = scores;
    d->merges = d->n_merges ? merges : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lines l = {(const char *)data, (const char *)data + size};
    oct_vocab_desc d = {0};
    oct_str small = {"", 0};
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    (void)next(&l, &d.model);
    (void)next(&l, &d.pre);
    (void)next(&l, &small);
    d.bos_id = digit(small, 0);
    d.eos_id = digit(small, 1);
    d.unk_id = digit(small, 2);
    d.pad_id = digit(small, 3);
    d.add_bos = digit(small, 4);
    d.add_eos = digit(small, 5);
    d.add_space_prefix = digit(small, 6);
    read_lists(&l, &d);
    if (oct_tokenizer_create(oct_system_allocator(), &d, &tok, &err) == OCT_OK) {
        tokenizer_use(tok);
        oct_tokenizer_destroy(tok);
    } else if (tok || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
