/*
 * text/tokenizer_write.c - a GGUF vocabulary as tokenizer.json and tokenizer_config.json.
 *
 * Merges are written from the table of pairs in order of rank. Splits of one token that share a
 * rank (SentencePiece scores) follow each other in order of their ids, because the file has no way
 * to say "equal".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/json.h"
#include "text/tokenizer_priv.h"

static void quote_token(const oct_tokenizer *tok, int32_t id, oct_buf *scratch, oct_buf *out) {
    oct_buf_clear(scratch);
    oct_tokenizer_token_spelling(tok, id, scratch);
    oct_json_quote(out, oct_buf_view(scratch));
    out->failed |= scratch->failed; /* the next token clears it there */
}

static const char *truth(bool v) { return v ? "true" : "false"; }

static void write_added(const oct_tokenizer *tok, oct_buf *scratch, oct_buf *out) {
    oct_buf_cstr(out, "  \"added_tokens\": [");
    for (size_t i = 0; i < tok->n_added; i++) {
        const int32_t id = tok->added[i].id;
        oct_buf_printf(out, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", id);
        quote_token(tok, id, scratch, out);
        oct_buf_printf(out,
                       ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                       "\"normalized\": false, \"special\": %s}",
                       truth(oct_tokenizer_is_special(tok, id)));
    }
    oct_buf_cstr(out, "\n  ],\n");
}

static void write_replace(const oct_norm_step *step, oct_buf *out) {
    oct_buf_cstr(out, "{\"type\": \"Replace\", \"pattern\": {\"String\": ");
    oct_json_quote(out, step->pattern);
    oct_buf_cstr(out, "}, \"content\": ");
    oct_json_quote(out, step->content);
    oct_buf_char(out, '}');
}

static void write_normalizer(const oct_tokenizer *tok, oct_buf *out) {
    if (tok->n_norms == 0) {
        oct_buf_cstr(out, "  \"normalizer\": null,\n");
        return;
    }
    oct_buf_cstr(out, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (size_t i = 0; i < tok->n_norms; i++) {
        if (i) oct_buf_cstr(out, ", ");
        if (tok->norms[i].kind == OCT_NORM_PREPEND) {
            oct_buf_cstr(out, "{\"type\": \"Prepend\", \"prepend\": ");
            oct_json_quote(out, tok->norms[i].content);
            oct_buf_char(out, '}');
        } else if (tok->norms[i].kind == OCT_NORM_NFC) {
            oct_buf_cstr(out, "{\"type\": \"NFC\"}");
        } else {
            write_replace(&tok->norms[i], out);
        }
    }
    oct_buf_cstr(out, "]},\n");
}

static void write_pre(const oct_tokenizer *tok, oct_buf *out) {
    if (!tok->bpe.byte_level) {
        oct_buf_cstr(out, "  \"pre_tokenizer\": null,\n");
        return;
    }
    const bool prefix = tok->prepend == OCT_PREPEND_ALWAYS;
    oct_buf_cstr(out, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
    if (prefix) /* ByteLevel's own prefix would come behind the cutting, or its alphabet before */
        oct_buf_cstr(out, "\n    {\"type\": \"Metaspace\", \"replacement\": \" \", "
                          "\"prepend_scheme\": \"always\", \"split\": false},");
    for (uint32_t i = 0; i < tok->pretok.n_stages; i++) {
        oct_buf_cstr(out, "\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        oct_json_quote(out, tok->pretok.stages[i].pattern);
        oct_buf_cstr(out, "}, \"behavior\": \"Isolated\", \"invert\": false},");
    }
    oct_buf_cstr(out, "\n    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                      "\"trim_offsets\": true, \"use_regex\": false}\n  ]},\n");
}

static void write_affix(const oct_tokenizer *tok, int32_t id, bool as_special, oct_buf *scratch,
                        oct_buf *out) {
    if (as_special) {
        quote_token(tok, id, scratch, out);
        oct_buf_cstr(out, ": {\"id\": ");
        quote_token(tok, id, scratch, out);
        oct_buf_printf(out, ", \"ids\": [%d], \"tokens\": [", id);
        quote_token(tok, id, scratch, out);
        oct_buf_cstr(out, "]}");
    } else {
        oct_buf_cstr(out, "{\"SpecialToken\": {\"id\": ");
        quote_token(tok, id, scratch, out);
        oct_buf_cstr(out, ", \"type_id\": 0}}");
    }
}

/* One text ("A"), or with pair two of them. */
static void write_single(const oct_tokenizer *tok, bool pair, oct_buf *scratch, oct_buf *out) {
    for (int k = 0; k <= (pair ? 1 : 0); k++) {
        if (k) oct_buf_cstr(out, ", ");
        for (size_t i = 0; i < tok->n_prefix; i++) {
            write_affix(tok, tok->prefix[i], false, scratch, out);
            oct_buf_cstr(out, ", ");
        }
        oct_buf_printf(out, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", 'A' + k, k);
        for (size_t i = 0; i < tok->n_suffix; i++) {
            oct_buf_cstr(out, ", ");
            write_affix(tok, tok->suffix[i], false, scratch, out);
        }
    }
}

static void write_post(const oct_tokenizer *tok, oct_buf *scratch, oct_buf *out) {
    if (tok->n_prefix + tok->n_suffix == 0) {
        oct_buf_cstr(out, "  \"post_processor\": null,\n");
        return;
    }
    oct_buf_cstr(out,
                 "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n    \"single\": [");
    write_single(tok, false, scratch, out);
    oct_buf_cstr(out, "],\n    \"pair\": [");
    write_single(tok, true, scratch, out);
    oct_buf_cstr(out, "],\n    \"special_tokens\": {");
    if (tok->n_prefix) write_affix(tok, tok->prefix[0], true, scratch, out);
    if (tok->n_suffix && !(tok->n_prefix && tok->prefix[0] == tok->suffix[0])) {
        if (tok->n_prefix) oct_buf_cstr(out, ", ");
        write_affix(tok, tok->suffix[0], true, scratch, out);
    }
    oct_buf_cstr(out, "}},\n");
}

static void write_decoder(const oct_tokenizer *tok, oct_buf *out) {
    if (tok->bpe.byte_level) {
        oct_buf_cstr(out, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                          "\"trim_offsets\": true, \"use_regex\": true},\n");
        return;
    }
    oct_buf_cstr(out, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [");
    for (size_t i = 0; i < tok->n_replaces; i++) {
        write_replace(&tok->replaces[i], out);
        oct_buf_cstr(out, ", ");
    }
    oct_buf_printf(out,
                   "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, "
                   "{\"type\": \"Strip\", \"content\": \" \", \"start\": %d, \"stop\": 0}]},\n",
                   tok->n_strip);
}

/* No pair comes twice. */
static int by_rank(const void *a, const void *b) {
    const oct_pair *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : 1;
}

static oct_status write_merges(const oct_tokenizer *tok, oct_buf *scratch, oct_buf *out,
                               oct_err *err) {
    const oct_vocab *v = &tok->vocab;
    oct_pair *sorted = oct_alloc(tok->mem, v->n_pairs, sizeof *sorted);
    if (!sorted) return OCT_FAIL(err, OCT_E_NOMEM, "tokenizer.json: no memory to write it");
    size_t n = 0;
    for (uint32_t i = 0; i < v->n_pair_slots; i++)
        if (v->pairs[i].left != UINT32_MAX) sorted[n++] = v->pairs[i];
    qsort(sorted, n, sizeof *sorted, by_rank);
    oct_buf_cstr(out, "    \"merges\": [");
    for (size_t i = 0; i < n; i++) {
        oct_buf_cstr(out, i ? ",\n      [" : "\n      [");
        quote_token(tok, (int32_t)sorted[i].left, scratch, out);
        oct_buf_cstr(out, ", ");
        quote_token(tok, (int32_t)sorted[i].right, scratch, out);
        oct_buf_char(out, ']');
    }
    oct_buf_cstr(out, "\n    ]\n  }\n}\n");
    oct_free(tok->mem, sorted, v->n_pairs, sizeof *sorted);
    return OCT_OK;
}

static oct_status write_model(const oct_tokenizer *tok, oct_buf *scratch, oct_buf *out,
                              oct_err *err) {
    oct_buf_cstr(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                      "    \"unk_token\": ");
    if (tok->bpe.unk_id >= 0)
        quote_token(tok, tok->bpe.unk_id, scratch, out);
    else
        oct_buf_cstr(out, "null");
    oct_buf_printf(out,
                   ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,"
                   "\n    \"fuse_unk\": %s,\n    \"byte_fallback\": %s,\n    \"ignore_merges\": %s,"
                   "\n    \"vocab\": {",
                   truth(tok->bpe.fuse_unk), truth(tok->bpe.byte_fallback),
                   truth(tok->bpe.ignore_merges));
    bool first = true;
    for (uint32_t id = 0; id < tok->vocab.n; id++) {
        /* Added tokens too: readers number those that the model lacks anew. */
        if (!oct_vocab_has(&tok->vocab, id)) continue;
        oct_buf_cstr(out, first ? "\n      " : ",\n      ");
        first = false;
        quote_token(tok, (int32_t)id, scratch, out);
        oct_buf_printf(out, ": %u", id);
    }
    oct_buf_cstr(out, "\n    },\n");
    return write_merges(tok, scratch, out, err);
}

static void write_config_name(const char *key, const oct_special_name *name, oct_buf *out) {
    oct_buf_printf(out, "  \"%s\": ", key);
    if (name->id >= 0)
        oct_json_quote(out, name->text);
    else
        oct_buf_cstr(out, "null");
    oct_buf_cstr(out, ",\n");
}

static void write_config(const oct_tokenizer *tok, oct_buf *out) {
    oct_buf_printf(out, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s,\n",
                   truth(tok->add_bos), truth(tok->add_eos));
    write_config_name("bos_token", &tok->bos, out);
    write_config_name("eos_token", &tok->eos, out);
    write_config_name("pad_token", &tok->pad, out);
    write_config_name("unk_token", &tok->unk, out);
    const oct_str source = oct_tokenizer_chat_template(tok, NULL);
    if (source.ptr) {
        oct_buf_cstr(out, "  \"chat_template\": ");
        oct_json_quote(out, source);
        oct_buf_cstr(out, ",\n");
    }
    oct_buf_cstr(out, "  \"clean_up_tokenization_spaces\": false,\n"
                      "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

/* ---- files ---- */

static oct_status io(oct_err *err, const char *name) {
    return OCT_FAIL(err, OCT_E_IO, "%s: %s", name, strerror(errno));
}

static oct_status write_fd(int fd, const oct_buf *data, const char *name, oct_err *err) {
    for (size_t done = 0; done < data->len;) {
        const ssize_t n = write(fd, data->data + done, data->len - done);
        if (n < 0 && errno != EINTR) return io(err, name);
        done += n < 0 ? 0 : (size_t)n;
    }
    return fsync(fd) == 0 ? OCT_OK : io(err, name);
}

/* Beside the final name first, then renamed: a reader sees the whole file or none. */
static oct_status write_file(const char *folder, const char *name, const oct_buf *data,
                             oct_err *err) {
    oct_buf path, part;
    if (data->failed) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory to write it", name);
    oct_buf_init(&path, data->mem, 0);
    oct_buf_init(&part, data->mem, 0);
    oct_buf_printf(&path, "%s/%s", folder, name);
    oct_buf_printf(&part, "%s/%s.part", folder, name);
    oct_status st = OCT_OK;
    if (path.failed || part.failed) {
        st = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory to write it", name);
    } else {
        const int fd = open(part.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        st = fd < 0 ? io(err, name) : write_fd(fd, data, name, err);
        if (fd >= 0) (void)close(fd); /* fsync has told what it could */
        if (st == OCT_OK && rename(part.data, path.data) != 0) st = io(err, name);
        if (st != OCT_OK && fd >= 0) (void)unlink(part.data);
    }
    oct_buf_fini(&path);
    oct_buf_fini(&part);
    return st;
}

oct_status oct_tokenizer_write_json(const oct_tokenizer *tok, const char *folder, oct_err *err) {
    oct_buf out, scratch;
    if (!tok->from_gguf)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "tokenizer: came from a folder, whose files are to be copied");
    oct_buf_init(&out, tok->mem, 0);
    oct_buf_init(&scratch, tok->mem, 0);
    oct_buf_cstr(&out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
                       "  \"padding\": null,\n");
    write_added(tok, &scratch, &out);
    write_normalizer(tok, &out);
    write_pre(tok, &out);
    write_post(tok, &scratch, &out);
    write_decoder(tok, &out);
    oct_status st = write_model(tok, &scratch, &out, err);
    if (st == OCT_OK) st = write_file(folder, "tokenizer.json", &out, err);
    oct_buf_clear(&out);
    write_config(tok, &out);
    if (st == OCT_OK) st = write_file(folder, "tokenizer_config.json", &out, err);
    oct_buf_fini(&out);
    oct_buf_fini(&scratch);
    return st;
}
