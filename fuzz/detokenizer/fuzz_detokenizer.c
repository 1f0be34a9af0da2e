/*
 * Any bytes as a text, as ids and as stop strings. A text that is UTF-8 comes back from its ids; a
 * stream of any ids is UTF-8 and equals the whole; what a stop matcher lets through and holds back
 * are together what it was given.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/utf8.h"
#include "text/detokenizer.h"
#include "text/stop.h"
#include "text/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEM oct_system_allocator()

/* 256 bytes, the pairs of four letters and two blanks, one control token. */
static oct_tokenizer *tokenizer_of_bytes(const char *pre) {
    static oct_buf names[512];
    static oct_str tokens[512], merges[64];
    static int32_t types[512];
    static oct_buf merge_names[64];
    oct_vocab_desc d = {.model = OCT_STR("gpt2"), .pre = oct_str_of(pre)};
    oct_tokenizer *tok = NULL;
    oct_byte_level_setup();
    for (size_t i = 0; i < 512; i++) oct_buf_init(&names[i], MEM, 0);
    for (; d.n_tokens < 256; d.n_tokens++) {
        const char byte = (char)d.n_tokens;
        oct_byte_level_write((oct_str){&byte, 1}, &names[d.n_tokens]);
    }
    static const char letters[] = "abc  ";
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            oct_buf *merge = &merge_names[d.n_merges];
            oct_buf_init(merge, MEM, 0);
            oct_byte_level_write((oct_str){&letters[i], 1}, merge);
            oct_buf_char(merge, ' ');
            oct_byte_level_write((oct_str){&letters[k], 1}, merge);
            const char both[2] = {letters[i], letters[k]};
            oct_byte_level_write((oct_str){both, 2}, &names[d.n_tokens++]);
            merges[d.n_merges++] = oct_buf_view(merge);
        }
    }
    oct_buf_cstr(&names[d.n_tokens++], "<|end|>");
    for (size_t i = 0; i < d.n_tokens; i++) {
        tokens[i] = oct_buf_view(&names[i]);
        types[i] = i + 1 == d.n_tokens ? 3 : 1;
    }
    d.tokens = tokens;
    d.merges = merges;
    d.types = types;
    d.bos_id = d.eos_id = d.unk_id = d.pad_id = -1;
    if (oct_tokenizer_create(MEM, &d, &tok, NULL) != OCT_OK) abort();
    for (size_t i = 0; i < d.n_tokens; i++) oct_buf_fini(&names[i]);
    for (size_t i = 0; i < d.n_merges; i++) oct_buf_fini(&merge_names[i]);
    return tok;
}

static void text_comes_back(const oct_tokenizer *tok, oct_str text) {
    oct_ids ids;
    oct_buf out;
    oct_ids_init(&ids, MEM);
    oct_buf_init(&out, MEM, 0);
    const oct_status st = oct_tokenizer_encode(tok, text, OCT_ENCODE_PARSE_SPECIAL, &ids, NULL);
    if ((st == OCT_OK) != oct_utf8_valid(text, NULL)) abort();
    if (st == OCT_OK) {
        oct_tokenizer_decode(tok, ids.data, ids.len, false, &out);
        if (!oct_str_eq(oct_buf_view(&out), text)) abort();
    }
    oct_ids_fini(&ids);
    oct_buf_fini(&out);
}

static void stream_is_whole(const oct_tokenizer *tok, const uint8_t *data, size_t size) {
    oct_ids ids;
    oct_buf whole, stream;
    oct_detokenizer d;
    oct_ids_init(&ids, MEM);
    oct_buf_init(&whole, MEM, 0);
    oct_buf_init(&stream, MEM, 0);
    oct_detokenizer_init(&d, tok, size & 1);
    for (size_t i = 0; i + 1 < size; i += 2) {
        const int32_t id = (int32_t)((data[i] << 8 | data[i + 1]) % 280) - 2;
        oct_ids_push(&ids, id);
        oct_detokenizer_push(&d, id, &stream);
        if (!oct_utf8_valid(oct_buf_view(&stream), NULL)) abort();
    }
    oct_detokenizer_flush(&d, &stream);
    oct_tokenizer_decode(tok, ids.data, ids.len, size & 1, &whole);
    if (!oct_str_eq(oct_buf_view(&whole), oct_buf_view(&stream))) abort();
    oct_ids_fini(&ids);
    oct_buf_fini(&whole);
    oct_buf_fini(&stream);
}

/* The first bytes are the lengths of four stop strings, which are cut from the text's start. */
static void stops_keep_the_text(oct_str text) {
    oct_str strings[4];
    oct_stop_set *set = NULL;
    oct_stop s;
    oct_buf out;
    size_t n = 0, at = 4;
    if (text.len < 4) return;
    for (; n < 4; n++) {
        const size_t len = 1 + (uint8_t)text.ptr[n] % 8;
        if (len > text.len - at) break;
        strings[n] = (oct_str){text.ptr + at, len};
        at += len;
    }
    if (oct_stop_set_create(MEM, strings, n, false, &set, NULL) != OCT_OK) abort();
    oct_stop_init(&s, set);
    oct_buf_init(&out, MEM, 0);
    int index = -1;
    for (size_t i = at; i < text.len && index < 0; i += 3) {
        const size_t len = text.len - i < 3 ? text.len - i : 3;
        index = oct_stop_push(&s, (oct_str){text.ptr + i, len}, true, &out);
        if (index < 0 && out.len + oct_stop_held(&s) != i - at + len) abort();
    }
    oct_stop_flush(&s, &out);
    if (index < 0 && out.len != text.len - at) abort();
    if (out.len && memcmp(out.data, text.ptr + at, out.len) != 0) abort();
    for (size_t k = 0; k < n; k++)
        if (out.len && memmem(out.data, out.len, strings[k].ptr, strings[k].len)) abort();
    oct_buf_fini(&out);
    oct_stop_set_destroy(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const pres[] = {"smollm", "llama-bpe", "deepseek-v3",
                                       "gpt-4o", "tekken",    "default"};
    static oct_tokenizer *toks[OCT_COUNT(pres)]; /* kept for all inputs */
    const oct_str text = {(const char *)data, size};
    for (size_t i = 0; i < OCT_COUNT(pres); i++) {
        if (!toks[i]) toks[i] = tokenizer_of_bytes(pres[i]);
        text_comes_back(toks[i], text);
    }
    stream_is_whole(toks[0], data, size);
    stops_keep_the_text(text);
    return 0;
}
