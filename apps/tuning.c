/* apps/tuning.c - see tuning.h. */
#include "tuning.h"

#include <string.h>

#include "base/log.h"
#include "codec/json.h"

void tuning_defaults(tuning *t, open_options *open) {
    *t = (tuning){.capture = {.mode = OCT_CAPTURE_DECODE, .n_warmups = 1}};
    open->overlap = true;
}

void tuning_flags(tuning *t, open_options *open, cli_flag flags[TUNING_N_FLAGS]) {
    const cli_flag all[TUNING_N_FLAGS] = {
        {.name = "async-scheduling",
         .type = CLI_SWITCH,
         .out = &open->overlap,
         .given = &open->overlap_given,
         .help = "the next step is prepared and issued while one computes; unless given, not on\n"
                 "a CPU whose every core computes"},
        cli_switch("enforce-eager", &t->eager, "no step is recorded and replayed"),
        cli_json("compilation-config", &t->compilation,
                 "cudagraph_mode: NONE, FULL_DECODE_ONLY (decode steps are recorded), FULL,\n"
                 "PIECEWISE, FULL_AND_PIECEWISE (others too); cudagraph_capture_sizes,\n"
                 "max_cudagraph_capture_size, cudagraph_num_of_warmups"),
        cli_json("speculative-config", &t->speculative,
                 "{\"method\": \"ngram\", \"num_speculative_tokens\": N}, prompt_lookup_min,\n"
                 "prompt_lookup_max: guesses from the text before"),
        cli_json("additional-config", &t->additional,
                 "enable_cpu_binding, weight_prefetch_config, ascend_scheduler_config"),
    };
    memcpy(flags, all, sizeof all);
    flags[2].alias = "-cc";
    flags[3].alias = "-sc";
}

void tuning_model(const tuning *t, oct_model_options *mo) {
    mo->capture = t->capture;
    /* A guess is a row with logits: room for sixteen sequences that guess at a time. */
    const uint32_t seqs = mo->max_seqs, guessing = seqs < 16 ? seqs : 16;
    if (t->draft.n_tokens > 0) mo->max_logits = seqs + guessing * t->draft.n_tokens;
    if (mo->max_logits > mo->max_rows) mo->max_rows = mo->max_logits;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The object of a flag; *out NULL when the flag was not given. */
static int parse(const char *flag, const char *text, json_t **out) {
    oct_err err = {0};
    *out = NULL;
    if (!text) return -1;
    if (oct_json_parse(oct_str_of(text), flag, &oct_json_file_limits, out, &err) != OCT_OK)
        return cli_fail(EXIT_USAGE, "%s", err.text);
    return -1;
}

static int not_this(const char *flag, const char *key, const char *want) {
    return cli_fail(EXIT_USAGE, "%s: %s: want %s", flag, key, want);
}

/* A count below 2^31 where the key is there. */
static int read_count(const char *flag, const json_t *o, const char *key, uint32_t least,
                      uint32_t *out) {
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return -1;
    if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > INT32_MAX)
        return not_this(flag, key, least ? "a positive integer" : "an integer, 0 or more");
    *out = (uint32_t)json_integer_value(v);
    return -1;
}

static int read_bool(const char *flag, const json_t *o, const char *key, bool *out) {
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return -1;
    if (!json_is_boolean(v)) return not_this(flag, key, "true or false");
    *out = json_is_true(v);
    return -1;
}

/* ---- --compilation-config -------------------------------------------------------------------- */

static int read_mode(const json_t *v, oct_capture_mode *out) {
    static const struct {
        const char *name;
        oct_capture_mode mode;
    } modes[] = {{"NONE", OCT_CAPTURE_NONE},
                 {"FULL_DECODE_ONLY", OCT_CAPTURE_DECODE},
                 {"FULL", OCT_CAPTURE_ALL},
                 {"PIECEWISE", OCT_CAPTURE_ALL},
                 {"FULL_AND_PIECEWISE", OCT_CAPTURE_ALL}};
    if (!v || json_is_null(v)) return -1;
    for (size_t i = 0; i < OCT_COUNT(modes); i++) {
        if (!json_is_string(v) || strcmp(json_string_value(v), modes[i].name) != 0) continue;
        *out = modes[i].mode;
        return -1;
    }
    return not_this("--compilation-config", "cudagraph_mode",
                    "NONE, PIECEWISE, FULL, FULL_DECODE_ONLY or FULL_AND_PIECEWISE");
}

static int read_sizes(tuning *t, const json_t *v) {
    static const char want[] = "a list of at most 256 positive integers";
    size_t i;
    json_t *one;
    if (!v || json_is_null(v)) return -1;
    if (!json_is_array(v) || json_array_size(v) > TUNING_MAX_SIZES)
        return not_this("--compilation-config", "cudagraph_capture_sizes", want);
    uint32_t most = 0;
    json_array_foreach(v, i, one) {
        const json_int_t n = json_is_integer(one) ? json_integer_value(one) : 0;
        if (n < 1 || n > INT32_MAX)
            return not_this("--compilation-config", "cudagraph_capture_sizes", want);
        t->sizes[i] = (uint32_t)n;
        if (t->sizes[i] > most) most = t->sizes[i];
    }
    t->capture.sizes = t->sizes;
    t->capture.n_sizes = (uint32_t)json_array_size(v);
    t->capture.max_size = most; /* above the largest a step is not recorded */
    if (t->capture.n_sizes == 0) t->capture.mode = OCT_CAPTURE_NONE;
    return -1;
}

/* Keys that are not ours are those of a compiler that is not here. */
static int read_compilation(tuning *t) {
    static const char flag[] = "--compilation-config";
    json_t *o;
    int status = parse(flag, t->compilation, &o);
    if (status < 0 && o && !json_is_object(o) && !json_is_integer(o))
        status = cli_fail(EXIT_USAGE, "%s: want a JSON object", flag);
    if (status < 0 && json_is_object(o)) {
        status = read_mode(json_object_get(o, "cudagraph_mode"), &t->capture.mode);
        if (status < 0) status = read_sizes(t, json_object_get(o, "cudagraph_capture_sizes"));
        if (status < 0)
            status = read_count(flag, o, "max_cudagraph_capture_size", 0, &t->capture.max_size);
        if (status < 0)
            status = read_count(flag, o, "cudagraph_num_of_warmups", 0, &t->capture.n_warmups);
        const json_t *max = json_object_get(o, "max_cudagraph_capture_size");
        if (status < 0 && json_is_integer(max) && t->capture.max_size == 0)
            t->capture.mode = OCT_CAPTURE_NONE;
    }
    json_decref(o);
    if (t->eager) t->capture.mode = OCT_CAPTURE_NONE;
    return status;
}

/* ---- --speculative-config -------------------------------------------------------------------- */

static int read_lookup(tuning *t, const json_t *o) {
    static const char flag[] = "--speculative-config";
    uint32_t lo = 0, hi = 0;
    int status = read_count(flag, o, "num_speculative_tokens", 1, &t->draft.n_tokens);
    if (status < 0) status = read_count(flag, o, "prompt_lookup_min", 1, &lo);
    if (status < 0) status = read_count(flag, o, "prompt_lookup_max", 1, &hi);
    if (status >= 0) return status;
    if (t->draft.n_tokens == 0 || t->draft.n_tokens > OCT_MAX_DRAFT_TOKENS)
        return cli_fail(EXIT_USAGE, "%s: num_speculative_tokens: want 1 to %d", flag,
                        OCT_MAX_DRAFT_TOKENS);
    if (lo == 0 && hi == 0) lo = hi = 5;
    t->draft.lookup_min = lo ? lo : hi;
    t->draft.lookup_max = hi ? hi : lo;
    if (t->draft.lookup_min > t->draft.lookup_max)
        return cli_fail(EXIT_USAGE, "%s: prompt_lookup_min above prompt_lookup_max (got %u and %u)",
                        flag, t->draft.lookup_min, t->draft.lookup_max);
    return -1;
}

static int read_speculative(tuning *t) {
    static const char flag[] = "--speculative-config";
    json_t *o;
    int status = parse(flag, t->speculative, &o);
    if (status < 0 && json_is_object(o)) {
        const json_t *method = json_object_get(o, "method");
        const char *name = json_is_string(method) ? json_string_value(method) : "";
        status = strcmp(name, "ngram") == 0 || strcmp(name, "[ngram]") == 0
                     ? read_lookup(t, o)
                     : cli_fail(EXIT_USAGE, "%s: method: only \"ngram\" is made here (got %.32s)",
                                flag, method ? name : "none");
    } else if (status < 0 && o && !json_is_null(o)) {
        status = cli_fail(EXIT_USAGE, "%s: want a JSON object", flag);
    }
    json_decref(o);
    return status;
}

/* ---- --additional-config --------------------------------------------------------------------- */

static const char scheduler_config[] = "--additional-config: ascend_scheduler_config";

static int read_sched_number(const json_t *o, const char *key, uint64_t *out) {
    uint32_t n = 0;
    const json_t *v = json_object_get(o, key);
    if (!out || !v || (json_is_real(v) && json_real_value(v) > INT32_MAX)) return -1; /* inf */
    const int status = read_count(scheduler_config, o, key, 1, &n);
    if (status < 0 && n > 0) *out = n;
    return status;
}

static int read_scheduler(const json_t *o, const tuning_sched *s) {
    bool on = false;
    int status = read_bool(scheduler_config, o, "enabled", &on);
    if (!o || !on) return status;
    if (status < 0) status = read_sched_number(o, "max_num_seqs", s->max_num_seqs);
    if (status < 0)
        status = read_sched_number(o, "max_num_batched_tokens", s->max_num_batched_tokens);
    if (status < 0) status = read_sched_number(o, "long_prefill_token_threshold", s->chunk_tokens);
    if (status < 0) status = read_sched_number(o, "max_long_partial_prefills", s->long_partials);
    return status;
}

static void warn_of_others(const json_t *o) {
    static const char *const known[] = {"enable_cpu_binding", "weight_prefetch_config",
                                        "ascend_scheduler_config"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v) {
        bool found = false;
        for (size_t i = 0; i < OCT_COUNT(known); i++) found |= strcmp(key, known[i]) == 0;
        if (!found) oct_warn("--additional-config: %.64s has no meaning here", key);
    }
}

static int read_additional(const tuning *t, open_options *open, const tuning_sched *sched) {
    static const char flag[] = "--additional-config";
    json_t *o;
    int status = parse(flag, t->additional, &o);
    if (status < 0 && json_is_object(o)) {
        status = read_bool(flag, o, "enable_cpu_binding", &open->cpu_binding);
        if (status < 0)
            status =
                read_bool("--additional-config: weight_prefetch_config",
                          json_object_get(o, "weight_prefetch_config"), "enabled", &open->prefetch);
        if (status < 0)
            status = read_scheduler(json_object_get(o, "ascend_scheduler_config"), sched);
        if (status < 0) warn_of_others(o);
    } else if (status < 0 && o && !json_is_null(o)) {
        status = cli_fail(EXIT_USAGE, "%s: want a JSON object", flag);
    }
    json_decref(o);
    return status;
}

int tuning_read(tuning *t, open_options *open, const tuning_sched *sched) {
    int status = read_compilation(t);
    if (status < 0) status = read_speculative(t);
    if (status < 0) status = read_additional(t, open, sched);
    if (status < 0 && t->draft.n_tokens > 0 && open->overlap && open->overlap_given)
        oct_warn("--async-scheduling: steps do not overlap where --speculative-config guesses");
    return status;
}
