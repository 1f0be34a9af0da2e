/* store/generation_config.c - one row a field; a bad one is reported and left out. */
#include "store/generation_config.h"

#include "base/log.h"
#include "codec/json.h"

static void reject(oct_generation_config *out, const char *why) {
    oct_warn("%s; ignored", why);
    out->n_warnings++;
}

/* True when key holds a number in [lo, hi]. */
static bool number(oct_generation_config *out, const json_t *obj, const char *key,
                   const char *where, double lo, double hi, double *value) {
    oct_err err = {0};
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return false;
    if (oct_json_get_f64(obj, key, where, lo, hi, value, &err) == OCT_OK) return true;
    reject(out, err.text);
    return false;
}

static bool integer(oct_generation_config *out, const json_t *obj, const char *key,
                    const char *where, int64_t lo, int64_t hi, int64_t *value) {
    oct_err err = {0};
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return false;
    if (oct_json_get_i64(obj, key, where, lo, hi, value, &err) == OCT_OK) return true;
    reject(out, err.text);
    return false;
}

static void add_eos(oct_generation_config *out, const json_t *v, const char *where,
                    uint32_t vocab) {
    char shown[OCT_JSON_SHOWN];
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab) {
        oct_warn("%s: eos_token_id must be a token id (got %s); ignored", where,
                 oct_json_show(v, shown));
        out->n_warnings++;
    } else if (out->n_eos == OCT_MAX_EOS) {
        oct_warn("%s: eos_token_id has more than %d entries; the rest is ignored", where,
                 OCT_MAX_EOS);
        out->n_warnings++;
    } else {
        out->eos_ids[out->n_eos++] = (int32_t)json_integer_value(v);
    }
}

static void read_eos(oct_generation_config *out, const json_t *obj, const char *where,
                     uint32_t vocab) {
    const json_t *eos = json_object_get(obj, "eos_token_id");
    if (!eos || json_is_null(eos)) return;
    if (!json_is_array(eos)) {
        add_eos(out, eos, where, vocab);
        return;
    }
    const size_t n = json_array_size(eos);
    for (size_t i = 0; i < n && i <= OCT_MAX_EOS; i++)
        add_eos(out, json_array_get(eos, i), where, vocab);
}

/* True when sampling is switched off in so many words. An absent do_sample says nothing here: the
 * files of many sampled models leave it out. */
static bool is_greedy(oct_generation_config *out, const json_t *obj, const char *where) {
    char shown[OCT_JSON_SHOWN];
    const json_t *v = json_object_get(obj, "do_sample");
    if (!v || json_is_null(v) || json_is_true(v)) return false;
    if (json_is_false(v)) return true;
    oct_warn("%s: do_sample must be true or false (got %s); ignored", where,
             oct_json_show(v, shown));
    out->n_warnings++;
    return false;
}

static void read_fields(oct_generation_config *out, const json_t *obj, const char *where) {
    int64_t whole = 0;
    out->has_temperature = number(out, obj, "temperature", where, 0, 100, &out->temperature);
    if (is_greedy(out, obj, where)) {
        out->has_temperature = true;
        out->temperature = 0;
    }
    out->has_top_p = number(out, obj, "top_p", where, 1e-9, 1, &out->top_p);
    out->has_min_p = number(out, obj, "min_p", where, 0, 1, &out->min_p);
    out->has_repetition_penalty =
        number(out, obj, "repetition_penalty", where, 1e-9, 100, &out->repetition_penalty);
    out->has_top_k = integer(out, obj, "top_k", where, -1, INT32_MAX, &whole);
    if (out->has_top_k) out->top_k = whole < 0 ? 0 : (int32_t)whole;
    out->has_max_new = integer(out, obj, "max_new_tokens", where, 1, OCT_MAX_POSITIONS, &whole);
    if (out->has_max_new) out->max_new_tokens = (uint32_t)whole;
}

void oct_generation_config_parse(oct_str text, const char *where, uint32_t vocab,
                                 oct_generation_config *out) {
    oct_err err = {0};
    json_t *obj = NULL;
    memset(out, 0, sizeof *out);
    if (oct_json_parse(text, where, &oct_json_file_limits, &obj, &err) != OCT_OK) {
        reject(out, err.text);
        return;
    }
    if (json_is_object(obj)) {
        read_fields(out, obj, where);
        read_eos(out, obj, where, vocab);
    } else {
        oct_warn("%s: not a JSON object; ignored", where);
        out->n_warnings++;
    }
    json_decref(obj);
}
