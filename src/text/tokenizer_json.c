/*
 * text/tokenizer_json.c - a model folder's tokenizer files.
 *
 * tokenizer.json is walked once for the extents of its members. model.vocab and model.merges are
 * read straight from the bytes (codec/json_pull.h); all the rest is copied into a small document
 * for the ordinary JSON reader.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/json.h"
#include "codec/json_pull.h"
#include "codec/utf8.h"
#include "text/tokenizer_priv.h"

#define WHERE "tokenizer.json"

enum {
    MAX_SMALL_BYTES = 16 << 20,      /* bad-input, default limits */
    MAX_TOKENIZER_BYTES = 256 << 20, /* the same */
};

typedef struct reader {
    oct_tokenizer *tok;
    oct_str vocab, merges; /* extents; .ptr NULL: absent */
    oct_buf small;         /* the document without those two */
    oct_buf scratch;
    oct_err *err;
} reader;

/* ---- extents ---- */

static oct_status keep(reader *r, const char *from, size_t n) {
    if (r->small.len + n > MAX_SMALL_BYTES)
        return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": more than %d bytes beside the vocabulary",
                        MAX_SMALL_BYTES);
    oct_buf_add(&r->small, from, n);
    return OCT_OK;
}

/* Copies the members of the object at j into r->small, except those that `big` takes. */
typedef oct_status (*big_fn)(reader *r, oct_pull *j, oct_str key, bool *taken);

static oct_status copy_object(reader *r, oct_pull *j, big_fn big) {
    bool more, first = true, wrote = false;
    OCT_TRY(oct_pull_expect(j, '{'));
    oct_buf_char(&r->small, '{');
    for (;; first = false) {
        oct_str key, span;
        bool taken = false;
        OCT_TRY(oct_pull_more(j, '}', first, &more));
        if (!more) break;
        (void)oct_pull_peek(j);
        const char *from = j->p;
        const size_t before = r->small.len;
        OCT_TRY(oct_pull_key(j, &key));
        if (wrote) oct_buf_char(&r->small, ',');
        OCT_TRY(keep(r, from, (size_t)(j->p - from)));
        OCT_TRY(big(r, j, key, &taken));
        if (taken && r->small.data && r->small.data[r->small.len - 1] == ':') {
            r->small.len = before; /* not in the small document at all */
            continue;
        }
        wrote = true;
        if (taken) continue;
        OCT_TRY(oct_pull_skip(j, &span));
        OCT_TRY(keep(r, span.ptr, span.len));
    }
    oct_buf_char(&r->small, '}');
    return OCT_OK;
}

static oct_status big_of_model(reader *r, oct_pull *j, oct_str key, bool *taken) {
    oct_str *span = oct_str_is(key, "vocab")    ? &r->vocab
                    : oct_str_is(key, "merges") ? &r->merges
                                                : NULL;
    *taken = span != NULL;
    if (!span) return OCT_OK;
    if (span->ptr) return oct_pull_fail(j, "model has a member twice");
    return oct_pull_skip(j, span);
}

static oct_status big_of_file(reader *r, oct_pull *j, oct_str key, bool *taken) {
    *taken = oct_str_is(key, "model") && oct_pull_peek(j) == '{';
    return *taken ? copy_object(r, j, big_of_model) : OCT_OK;
}

/* ---- vocabulary and merges ---- */

static oct_status read_vocab(reader *r) {
    oct_pull j;
    oct_status st;
    bool more;
    if (!r->vocab.ptr) return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": model has no vocab");
    oct_pull_init(&j, r->vocab, WHERE ": model.vocab", r->tok->mem, r->err);
    st = oct_pull_expect(&j, '{');
    for (bool first = true; st == OCT_OK; first = false) {
        oct_str key;
        int64_t id;
        st = oct_pull_more(&j, '}', first, &more);
        if (st == OCT_OK && more) st = oct_pull_key(&j, &key);
        if (st != OCT_OK || !more) break;
        /* The number's bytes lie behind the key's, which may be in a buffer of the reader's. */
        st = oct_pull_integer(&j, &id);
        if (st == OCT_OK) st = oct_tok_put_model(r->tok, id, key, &r->scratch, r->err);
    }
    oct_pull_fini(&j);
    return st;
}

static oct_status bad_merge(const reader *r, uint32_t rank, const char *what) {
    return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": model.merges[%u] %s", rank, what);
}

/* Appends a part of a merge to the scratch buffer in the vocabulary's spelling. */
static bool add_part(reader *r, oct_str part) {
    if (r->tok->bpe.byte_level) return oct_byte_level_read(part, &r->scratch);
    oct_buf_str(&r->scratch, part);
    return true;
}

/* The scratch buffer holds both parts, the left one left_len bytes long. */
static oct_status put_merge(reader *r, size_t left_len, uint32_t rank) {
    const oct_vocab *v = &r->tok->vocab;
    const char *s = oct_buf_cs(&r->scratch);
    const size_t len = r->scratch.len;
    if (r->scratch.failed) return OCT_FAIL(r->err, OCT_E_NOMEM, WHERE ": no memory");
    const int32_t left = oct_vocab_by_spell(v, s, left_len);
    const int32_t right = oct_vocab_by_spell(v, s + left_len, len - left_len);
    if (left < 0 || right < 0)
        return bad_merge(r, rank, "has a part that is not in the vocabulary");
    const int32_t id = oct_vocab_by_spell(v, s, len);
    if (id < 0) return bad_merge(r, rank, "makes a token that is not in the vocabulary");
    return oct_vocab_put_merge(&r->tok->vocab, left, right, id, rank, r->err);
}

/* "left right" with one blank between. */
static oct_status merge_of_string(reader *r, oct_pull *j, uint32_t rank) {
    oct_str s;
    OCT_TRY(oct_pull_string(j, &s));
    const char *blank = s.len ? memchr(s.ptr, ' ', s.len) : NULL;
    if (!blank || memchr(blank + 1, ' ', s.len - (size_t)(blank + 1 - s.ptr)))
        return bad_merge(r, rank, "is not two parts with one blank between");
    const size_t left = (size_t)(blank - s.ptr);
    oct_buf_clear(&r->scratch);
    if (!add_part(r, (oct_str){s.ptr, left}))
        return bad_merge(r, rank, "has a part that is not in the vocabulary");
    const size_t left_len = r->scratch.len;
    if (!add_part(r, (oct_str){blank + 1, s.len - left - 1}))
        return bad_merge(r, rank, "has a part that is not in the vocabulary");
    return put_merge(r, left_len, rank);
}

static oct_status merge_of_pair(reader *r, oct_pull *j, uint32_t rank) {
    oct_str s;
    size_t left_len = 0;
    oct_buf_clear(&r->scratch);
    OCT_TRY(oct_pull_expect(j, '['));
    for (int i = 0; i < 2; i++) {
        if (i) OCT_TRY(oct_pull_expect(j, ','));
        OCT_TRY(oct_pull_string(j, &s));
        if (!add_part(r, s)) return bad_merge(r, rank, "has a part that is not in the vocabulary");
        if (i == 0) left_len = r->scratch.len;
    }
    OCT_TRY(oct_pull_expect(j, ']'));
    return put_merge(r, left_len, rank);
}

static oct_status read_merges(reader *r) {
    oct_pull j;
    oct_status st;
    bool more;
    if (!r->merges.ptr) return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": model has no merges");
    oct_pull_init(&j, r->merges, WHERE ": model.merges", r->tok->mem, r->err);
    st = oct_pull_expect(&j, '[');
    for (uint32_t rank = 0; st == OCT_OK; rank++) {
        st = oct_pull_more(&j, ']', rank == 0, &more);
        if (st != OCT_OK || !more) break;
        if (rank == OCT_TOKENIZER_MAX_MERGES)
            st = OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": model has more than %d merges",
                          OCT_TOKENIZER_MAX_MERGES);
        else
            st = oct_pull_peek(&j) == '[' ? merge_of_pair(r, &j, rank)
                                          : merge_of_string(r, &j, rank);
    }
    oct_pull_fini(&j);
    return st;
}

/* ---- model ---- */

static oct_status model_flag(const json_t *model, const char *key, bool *out, oct_err *err) {
    *out = false;
    return oct_json_get_bool(model, key, WHERE ": model", out, err);
}

static oct_status read_model(reader *r, const json_t *model) {
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type"),
                 *dropout = json_object_get(model, "dropout");
    char shown[OCT_JSON_SHOWN];
    oct_bpe_model *bpe = &r->tok->bpe;
    if (!json_is_object(model)) return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": no model");
    /* Files from before the member existed are BPE when they have merges. */
    if (type ? !oct_str_is(oct_json_str(type), "BPE") : !r->merges.ptr)
        return OCT_FAIL(r->err, OCT_E_UNSUPPORTED, WHERE ": model: type is not supported (got %s)",
                        type ? oct_json_show(type, shown) : "nothing");
    if (dropout && !json_is_null(dropout) &&
        (!json_is_number(dropout) || json_number_value(dropout) != 0.0))
        return OCT_FAIL(r->err, OCT_E_UNSUPPORTED, WHERE ": model: dropout is not supported");
    for (size_t i = 0; i < OCT_COUNT(must_be_empty); i++) {
        const json_t *v = json_object_get(model, must_be_empty[i]);
        if (v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
            return OCT_FAIL(r->err, OCT_E_UNSUPPORTED,
                            WHERE ": model: %s is not supported (got %s)", must_be_empty[i],
                            oct_json_show(v, shown));
    }
    OCT_TRY(model_flag(model, "byte_fallback", &bpe->byte_fallback, r->err));
    OCT_TRY(model_flag(model, "fuse_unk", &bpe->fuse_unk, r->err));
    OCT_TRY(model_flag(model, "ignore_merges", &bpe->ignore_merges, r->err));
    OCT_TRY(read_vocab(r));
    OCT_TRY(read_merges(r));
    oct_str unk = {NULL, 0};
    OCT_TRY(oct_json_get_str(model, "unk_token", WHERE ": model", &unk, r->err));
    if (!unk.ptr) return OCT_OK;
    bpe->unk_id = oct_tokenizer_find(r->tok, unk);
    if (bpe->unk_id < 0)
        return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": model: unk_token is not in the vocabulary");
    return OCT_OK;
}

static oct_status read_tokenizer(reader *r, oct_str text) {
    oct_pull j;
    json_t *doc = NULL;
    size_t bad_at = 0;
    if (!oct_utf8_valid(text, &bad_at))
        return OCT_FAIL(r->err, OCT_E_CORRUPT, WHERE ": not UTF-8 (at byte %zu)", bad_at);
    oct_pull_init(&j, text, WHERE, r->tok->mem, r->err);
    oct_status st = copy_object(r, &j, big_of_file);
    if (st == OCT_OK && (oct_pull_peek(&j) != '\0' || j.p != j.end))
        st = oct_pull_fail(&j, "text behind the end");
    oct_pull_fini(&j);
    OCT_TRY(st);
    if (r->small.failed) return OCT_FAIL(r->err, OCT_E_NOMEM, WHERE ": no memory to read it");
    OCT_TRY(oct_json_parse(oct_buf_view(&r->small), WHERE, &oct_json_file_limits, &doc, r->err));
    st = oct_tok_read_pre(r->tok, json_object_get(doc, "pre_tokenizer"), r->err);
    if (st == OCT_OK)
        st = oct_tok_read_normalizer(r->tok, json_object_get(doc, "normalizer"), r->err);
    if (st == OCT_OK) st = oct_tok_read_decoder(r->tok, json_object_get(doc, "decoder"), r->err);
    if (st == OCT_OK) st = read_model(r, json_object_get(doc, "model"));
    if (st == OCT_OK) st = oct_tok_read_added(r->tok, json_object_get(doc, "added_tokens"), r->err);
    if (st == OCT_OK)
        st = oct_tok_read_post(r->tok, json_object_get(doc, "post_processor"), r->err);
    json_decref(doc);
    return st;
}

static oct_status read_small(oct_str text, const char *where, json_t **out, oct_err *err) {
    *out = NULL;
    if (!text.ptr) return OCT_OK;
    OCT_TRY(oct_json_parse(text, where, &oct_json_file_limits, out, err));
    if (json_is_object(*out)) return OCT_OK;
    json_decref(*out);
    *out = NULL;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: must be an object", where);
}

/* The files of a model folder; .ptr NULL: absent. */
typedef struct model_files {
    oct_str tokenizer, config, special_map, chat_template;
} model_files;

static oct_status read_rest(oct_tokenizer *tok, const model_files *files, oct_err *err) {
    json_t *config = NULL, *map = NULL;
    oct_status st = OCT_OK;
    /* The file of its own comes first, so a name that both have is found there. */
    if (files->chat_template.ptr)
        st = oct_tok_add_template(tok, OCT_STR("default"), files->chat_template, err);
    if (st == OCT_OK) st = read_small(files->config, "tokenizer_config.json", &config, err);
    if (st == OCT_OK) st = read_small(files->special_map, "special_tokens_map.json", &map, err);
    if (st == OCT_OK) st = oct_tok_read_config(tok, config, map, err);
    if (st == OCT_OK) st = oct_tok_finish(tok, err);
    json_decref(config);
    json_decref(map);
    return st;
}

static oct_status parse_files(const oct_allocator *mem, const model_files *files,
                              oct_tokenizer **out, oct_err *err) {
    reader r = {.err = err};
    *out = NULL;
    OCT_TRY(oct_tok_new(mem, &r.tok, err));
    oct_buf_init(&r.small, mem, 0);
    oct_buf_init(&r.scratch, mem, 0);
    oct_status st = read_tokenizer(&r, files->tokenizer);
    if (st == OCT_OK) st = read_rest(r.tok, files, err);
    oct_buf_fini(&r.small);
    oct_buf_fini(&r.scratch);
    if (st == OCT_OK) {
        *out = r.tok;
        return OCT_OK;
    }
    oct_tokenizer_destroy(r.tok);
    /* The JSON reader's word for a bad text; here it is a bad file. */
    if (st == OCT_E_INVALID) st = OCT_E_CORRUPT;
    if (err) err->code = st;
    return st;
}

oct_status oct_tokenizer_parse(const oct_allocator *mem, oct_str tokenizer_json,
                               oct_str config_json, oct_str chat_template, oct_tokenizer **out,
                               oct_err *err) {
    const model_files files = {
        .tokenizer = tokenizer_json, .config = config_json, .chat_template = chat_template};
    return parse_files(mem, &files, out, err);
}

/* ---- files ---- */

static oct_status read_all(int fd, const char *name, size_t max, oct_buf *out, oct_err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode)) return OCT_FAIL(err, OCT_E_IO, "%s: not a regular file", name);
    if ((uint64_t)st.st_size > max)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: too large (got %lld bytes, want at most %zu)",
                        name, (long long)st.st_size, max);
    if (!oct_buf_reserve(out, (size_t)st.st_size + 1))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory to read it", name);
    while (out->len < (size_t)st.st_size) {
        const ssize_t n = read(fd, out->data + out->len, (size_t)st.st_size - out->len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", name, strerror(errno));
        if (n == 0) return OCT_FAIL(err, OCT_E_IO, "%s: became shorter while it was read", name);
        out->len += (size_t)n;
    }
    return OCT_OK;
}

/* *out gets .ptr NULL when the file is not there and need not be. */
static oct_status read_file(const char *folder, const char *name, size_t max, bool needed,
                            oct_buf *buf, oct_str *out, oct_err *err) {
    oct_buf path;
    oct_buf_init(&path, buf->mem, 0);
    oct_buf_printf(&path, "%s/%s", folder, name);
    if (path.failed) return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory to read it", name);
    /* O_NONBLOCK: a FIFO without a writer is refused below and not waited for. */
    const int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const int why = errno;
    oct_buf_fini(&path);
    if (fd < 0 && why == ENOENT && !needed) return OCT_OK;
    if (fd < 0) return OCT_FAIL(err, OCT_E_IO, "%s: %s", name, strerror(why));
    const oct_status st = read_all(fd, name, max, buf, err);
    (void)close(fd);
    *out = oct_buf_view(buf);
    return st;
}

oct_status oct_tokenizer_open(const oct_allocator *mem, const char *folder, oct_tokenizer **out,
                              oct_err *err) {
    oct_buf bufs[4];
    model_files files = {0};
    *out = NULL;
    for (size_t i = 0; i < OCT_COUNT(bufs); i++) oct_buf_init(&bufs[i], mem, 0);
    oct_status st = read_file(folder, "tokenizer.json", MAX_TOKENIZER_BYTES, true, &bufs[0],
                              &files.tokenizer, err);
    if (st == OCT_OK)
        st = read_file(folder, "tokenizer_config.json", MAX_SMALL_BYTES, false, &bufs[1],
                       &files.config, err);
    if (st == OCT_OK)
        st = read_file(folder, "special_tokens_map.json", MAX_SMALL_BYTES, false, &bufs[2],
                       &files.special_map, err);
    if (st == OCT_OK)
        st = read_file(folder, "chat_template.jinja", MAX_SMALL_BYTES, false, &bufs[3],
                       &files.chat_template, err);
    if (st == OCT_OK) {
        st = parse_files(mem, &files, out, err);
        /* What a part says of its member does not name the file. */
        if (st != OCT_OK && st != OCT_E_NOMEM && err && !strstr(err->text, ".json: "))
            oct_err_prefix(err, WHERE);
    }
    for (size_t i = 0; i < OCT_COUNT(bufs); i++) oct_buf_fini(&bufs[i]);
    return st;
}
