/*
 * api/request_lists.c - the fields that hold lists: stop strings, token ids, biases, words.
 *
 * Ids are checked against the width of the logits, the table that they will index.
 */
#include <math.h>

#include "api/parts.h"
#include "base/num.h"

static oct_status wrong_type(const char *name, const char *want, const json_t *v,
                             oct_api_error *e) {
    char shown[OCT_JSON_SHOWN];
    return oct_api_refuse(e, OCT_API_MALFORMED, name, "%s: must be %s (got %s)", name, want,
                          oct_json_show(v, shown));
}

static oct_status too_many(const char *name, size_t got, size_t most, oct_api_error *e) {
    return oct_api_refuse(e, OCT_API_REFUSED, name,
                          "%s: too many entries (got %zu, want at most %zu)", name, got, most);
}

static const json_t *given(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_null(v) ? NULL : v;
}

/* Element i of an array of ids. */
static oct_status read_id(const oct_api *api, const json_t *array, size_t i, const char *name,
                          int32_t *out, oct_api_error *e) {
    const json_t *v = json_array_get(array, i);
    const bool wide = fabs(json_real_value(v)) >= 0x1p63; /* an integer that int64 cannot hold */
    char shown[OCT_JSON_SHOWN];
    if (!json_is_integer(v) && !wide)
        return oct_api_refuse(e, OCT_API_MALFORMED, name, "%s[%zu]: must be a token id (got %s)",
                              name, i, oct_json_show(v, shown));
    const json_int_t id = json_integer_value(v);
    if (wide || id < 0 || id >= (json_int_t)api->info.n_vocab)
        return oct_api_refuse(e, OCT_API_REFUSED, name,
                              "%s[%zu]: no such token (got %s, want 0 to %u)", name, i,
                              oct_json_show(v, shown), api->info.n_vocab - 1);
    *out = (int32_t)id;
    return OCT_OK;
}

oct_status oct_api_read_ids(const oct_api *api, const json_t *array, const char *param,
                            oct_ids *out, oct_api_error *e) {
    const size_t n = json_array_size(array);
    if (!oct_ids_reserve(out, n ? n : 1)) return oct_api_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        int32_t id = 0;
        OCT_TRY(read_id(api, array, i, param, &id, e));
        oct_ids_push(out, id);
    }
    return OCT_OK;
}

/* A list of ids in the arena, at most one for every token. */
static oct_status read_id_list(const oct_api *api, const json_t *body, const char *name,
                               oct_arena *arena, int32_t **out, uint32_t *n_out, oct_api_error *e) {
    const json_t *v = given(body, name);
    if (!v) return OCT_OK;
    if (!json_is_array(v)) return wrong_type(name, "an array of token ids", v, e);
    const size_t n = json_array_size(v);
    if (n > api->info.n_vocab) return too_many(name, n, api->info.n_vocab, e);
    *out = oct_arena_alloc(arena, n, sizeof **out);
    if (!*out || OCT_FAULT(JOB_LIST, 0)) return oct_api_no_memory(e);
    for (size_t i = 0; i < n; i++) OCT_TRY(read_id(api, v, i, name, &(*out)[i], e));
    *n_out = (uint32_t)n;
    return OCT_OK;
}

static oct_status read_stop(const oct_api *api, const json_t *body, oct_arena *arena,
                            oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "stop");
    if (!v) return OCT_OK;
    if (!json_is_string(v) && !json_is_array(v))
        return wrong_type("stop", "a string or an array of strings", v, e);
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    const uint32_t most = api->cfg.limits.stop_strings, most_bytes = api->cfg.limits.stop_bytes;
    if (n > most) return too_many("stop", n, most, e);
    f->stop = oct_arena_alloc(arena, n, sizeof *f->stop);
    if (!f->stop || OCT_FAULT(JOB_STOP, (uint64_t)f->seed)) return oct_api_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(one))
            return wrong_type("stop", "a string or an array of strings", one, e);
        f->stop[i] = oct_json_str(one);
        if (f->stop[i].len == 0 || f->stop[i].len > most_bytes)
            return oct_api_refuse(e, OCT_API_REFUSED, "stop",
                                  "stop[%zu]: out of range (got %zu bytes, want 1 to %u)", i,
                                  f->stop[i].len, most_bytes);
    }
    f->n_stop = (uint32_t)n;
    return OCT_OK;
}

static oct_status read_bias(const oct_api *api, const json_t *body, oct_arena *arena,
                            oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "logit_bias"), *value;
    const char *key;
    char shown[OCT_JSON_SHOWN];
    if (!v) return OCT_OK;
    if (!json_is_object(v)) return wrong_type("logit_bias", "an object", v, e);
    const size_t n = json_object_size(v);
    if (n > api->cfg.limits.logit_bias)
        return too_many("logit_bias", n, api->cfg.limits.logit_bias, e);
    f->bias = oct_arena_alloc(arena, n, sizeof *f->bias);
    if (!f->bias) return oct_api_no_memory(e);
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        int64_t id;
        if (!oct_parse_i64(oct_str_of(key), &id) || id < 0 || id >= api->info.n_vocab) {
            json_t *text = json_string(key);
            oct_json_show(text, shown);
            json_decref(text);
            return oct_api_refuse(e, OCT_API_REFUSED, "logit_bias",
                                  "logit_bias: no such token (got %s, want 0 to %u)", shown,
                                  api->info.n_vocab - 1);
        }
        if (!json_is_number(value))
            return wrong_type("logit_bias", "numbers by token id", value, e);
        const double most = 100, b = json_number_value(value);
        f->bias[f->n_bias++] = (oct_token_bias){(int32_t)id, (float)(b > most    ? most
                                                                     : b < -most ? -most
                                                                                 : b)};
    }
    return OCT_OK;
}

/* ---- bad words ---- */

static oct_status add_word(const oct_api *api, oct_str word, bool blank, oct_arena *arena,
                           oct_api_fields *f, oct_api_error *e) {
    oct_buf text;
    oct_ids ids;
    oct_err err = {0};
    oct_buf_init(&text, api->mem, 0);
    oct_ids_init(&ids, api->mem);
    if (blank) oct_buf_char(&text, ' ');
    oct_buf_str(&text, word);
    oct_status st = oct_tokenizer_encode(api->cfg.tokenizer, oct_buf_view(&text), 0, &ids, &err);
    const oct_token_seq *plain = f->n_bad_words ? &f->bad_words[f->n_bad_words - 1] : NULL;
    /* With a blank in front the word counts once more where that is another first token. */
    const bool wanted =
        ids.len > 0 && (!blank || !plain || (plain->n == ids.len && plain->ids[0] != ids.data[0]));
    if (st == OCT_OK && !ids.failed && wanted) {
        int32_t *copy = oct_arena_alloc(arena, ids.len, sizeof *copy);
        if (copy) {
            memcpy(copy, ids.data, ids.len * sizeof *copy);
            f->bad_words[f->n_bad_words++] = (oct_token_seq){copy, (uint32_t)ids.len};
        } else {
            st = OCT_E_NOMEM;
        }
    }
    if (text.failed || ids.failed || st == OCT_E_NOMEM)
        st = oct_api_no_memory(e);
    else if (st != OCT_OK)
        st = oct_api_refuse(e, OCT_API_REFUSED, "bad_words", "bad_words: %.200s", err.text);
    oct_buf_fini(&text);
    oct_ids_fini(&ids);
    return st;
}

static oct_status read_bad_words(const oct_api *api, const json_t *body, oct_arena *arena,
                                 oct_api_fields *f, oct_api_error *e) {
    const json_t *v = given(body, "bad_words");
    if (!v) return OCT_OK;
    if (!json_is_array(v)) return wrong_type("bad_words", "an array of strings", v, e);
    const size_t n = json_array_size(v);
    const uint32_t most_bytes = api->cfg.limits.stop_bytes;
    if (n > api->cfg.limits.bad_words)
        return too_many("bad_words", n, api->cfg.limits.bad_words, e);
    if (n > 0 && !api->cfg.tokenizer)
        return oct_api_refuse(e, OCT_API_REFUSED, "bad_words",
                              "bad_words: the model has no tokenizer");
    f->bad_words = oct_arena_alloc(arena, 2 * n, sizeof *f->bad_words);
    if (!f->bad_words) return oct_api_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        oct_str word = oct_json_str(json_array_get(v, i));
        if (!json_is_string(json_array_get(v, i)))
            return wrong_type("bad_words", "an array of strings", json_array_get(v, i), e);
        while (word.len > 0 && word.ptr[0] == ' ') word.ptr++, word.len--;
        if (word.len == 0 || word.len > most_bytes)
            return oct_api_refuse(e, OCT_API_REFUSED, "bad_words",
                                  "bad_words[%zu]: out of range (got %zu bytes, want 1 to %u)", i,
                                  word.len, most_bytes);
        OCT_TRY(add_word(api, word, false, arena, f, e));
        OCT_TRY(add_word(api, word, true, arena, f, e));
    }
    return OCT_OK;
}

oct_status oct_api_read_lists(oct_api *api, const json_t *body, oct_arena *arena, oct_api_fields *f,
                              oct_api_error *e) {
    OCT_TRY(read_stop(api, body, arena, f, e));
    if (f->n_stop > 0 && !api->cfg.tokenizer)
        return oct_api_refuse(e, OCT_API_REFUSED, "stop", "stop: the model has no tokenizer");
    OCT_TRY(read_id_list(api, body, "stop_token_ids", arena, &f->stop_ids, &f->n_stop_ids, e));
    OCT_TRY(read_id_list(api, body, "allowed_token_ids", arena, &f->allowed, &f->n_allowed, e));
    /* An empty list is the others' default, and says nothing; this one would forbid everything. */
    if (f->allowed && f->n_allowed == 0)
        return oct_api_refuse(e, OCT_API_REFUSED, "allowed_token_ids",
                              "allowed_token_ids: must not be empty");
    OCT_TRY(read_bias(api, body, arena, f, e));
    return read_bad_words(api, body, arena, f, e);
}
