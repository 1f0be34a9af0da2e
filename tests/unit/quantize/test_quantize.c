/*
 * test_quantize.c - a small float model quantised both ways: every tensor that docs/quantize.md
 * lists and no other, the numbers recomputed from what was written, the small files, and that the
 * result loads and computes nearly the same.
 *
 * The source is tests/data/models/llama-tied with a tokenizer of single bytes beside it.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "quant/contract.h"
#include "quantize/plan.h"
#include "quantize/quantize.h"
#include "store/file.h"
#include "store/safetensors.h"
#include "support/tiny_model.h"

enum {
    CALIB = 256,
    LAYERS = 2,
    HIDDEN = 64,
    INNER = 160,
    KV = 32,
    N_LOGITS = TINY_TOKENS * TINY_VOCAB
};

static const oct_allocator *mem;
static char source[128], result[128], calib_text[CALIB];

/* ---- the source ----------------------------------------------------------------------------- */

/* A byte-level tokenizer: 256 tokens, one for each byte, in the order of the bytes. */
static void write_tokenizer(const char *folder) {
    char path[256];
    int extra = 0;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\":"
          " {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true},"
          " \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"},"
          " \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {",
          f);
    for (int b = 0; b < 256; b++) {
        /* The published byte alphabet: printable bytes stand for themselves, the others for the
         * code points from 256 on. */
        const bool plain =
            (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
        const int code = plain ? b : 256 + extra++;
        fprintf(f, "%s\"\\u%04x\": %d", b ? ", " : "", code, b);
    }
    fputs("}}}", f);
    assert_int_equal(fclose(f), 0);
}

static int make_source(void **state) {
    if (tiny_make_folder(state) != 0) return -1;
    mem = oct_system_allocator();
    snprintf(source, sizeof source, "%s/in", tiny_folder);
    snprintf(result, sizeof result, "%s/out", tiny_folder);
    if (mkdir(source, 0777) != 0) return -1;
    tiny_copy_file(TINY_FLOAT, source, "config.json");
    tiny_copy_file(TINY_FLOAT, source, "model.safetensors");
    write_tokenizer(source);
    return 0;
}

/* ---- running it ----------------------------------------------------------------------------- */

typedef struct watcher {
    uint64_t done, total; /* of the phase at hand */
    char phase[32], phases[128];
    unsigned n_calls, n_notes, n_noted; /* n_noted: inputs in the notes */
    char notes[2][256];
} watcher;

/* Within a phase the work only grows; a phase before "writing" ends complete. */
static void on_progress(void *ctx, const char *phase, uint64_t done, uint64_t total) {
    watcher *w = ctx;
    if (strcmp(w->phase, phase) == 0) {
        assert_true(done >= w->done && total == w->total);
    } else {
        assert_true(w->done == w->total && total > 0);
        snprintf(w->phase, sizeof w->phase, "%s", phase);
        strcat(strcat(w->phases, phase), ";");
    }
    w->done = done;
    w->total = total;
    w->n_calls++;
}

static void on_note(void *ctx, const char *line) {
    watcher *w = ctx;
    assert_true(w->n_notes < 2 && strlen(line) < sizeof w->notes[0]);
    w->n_noted += (unsigned)strtoul(line, NULL, 10);
    strcpy(w->notes[w->n_notes++], line);
}

static oct_quantize_options options_of(oct_quantize_scheme scheme, watcher *w) {
    oct_quantize_options o = oct_quantize_defaults;
    o.scheme = scheme;
    for (int i = 0; i < CALIB; i++) calib_text[i] = tiny_token(i);
    o.calib_text = (oct_str){calib_text, CALIB};
    o.progress = on_progress;
    o.note = on_note;
    o.ctx = w;
    *w = (watcher){0};
    return o;
}

static oct_status try_quantise(const char *from, const char *to, const oct_quantize_options *o,
                               bool with_tokenizer, oct_quantize_report *report, oct_err *err) {
    const oct_device_options od = {.n_threads = 1, .bind_threads = 2};
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_tokenizer *tok = NULL;
    need(oct_device_open(mem, "cpu", &od, &device, err), err);
    need(oct_checkpoint_open(mem, from, &ckpt, err), err);
    if (with_tokenizer) need(oct_tokenizer_open(mem, source, &tok, err), err);
    const oct_status st = oct_quantize(mem, device, ckpt, tok, to, o, report, err);
    oct_tokenizer_destroy(tok);
    oct_checkpoint_close(ckpt);
    oct_device_close(device);
    return st;
}

static oct_quantize_report quantise(const oct_quantize_options *o) {
    oct_quantize_report report;
    oct_err err = {0};
    need(try_quantise(source, result, o, true, &report, &err), &err);
    return report;
}

/* ---- what was written ----------------------------------------------------------------------- */

static oct_safetensors *weights;
static json_t *description;
static size_t n_checked; /* tensors that a check below asked for */

static json_t *read_json(const char *name) {
    char path[256];
    json_error_t e;
    snprintf(path, sizeof path, "%s/%s", result, name);
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!j) fail_msg("%s: %s", name, e.text);
    return j;
}

static void open_result(void) {
    char path[256];
    oct_err err = {0};
    snprintf(path, sizeof path, "%s/quant_model_weights.safetensors", result);
    need(oct_safetensors_open(mem, path, &weights, &err), &err);
    description = read_json("quant_model_description.json");
    n_checked = 0;
}

static void close_result(void) {
    oct_safetensors_close(weights);
    json_decref(description);
}

static bool has(const char *name) { return oct_safetensors_find(weights, oct_str_of(name)); }

/* The tensor, which must be so; the caller frees it. d1 0: a vector. */
static void *take(const char *prefix, const char *suffix, oct_dtype dtype, uint64_t d0, uint64_t d1,
                  const char *scheme) {
    char name[160];
    oct_err err = {0};
    snprintf(name, sizeof name, "%s.%s", prefix, suffix);
    const oct_tensor *t = oct_safetensors_find(weights, oct_str_of(name));
    if (!t) fail_msg("%s: missing", name);
    const char *said = json_string_value(json_object_get(description, name));
    if (t->dtype != dtype || t->rank != (d1 ? 2u : 1u) || t->shape[0] != d0 ||
        (d1 && t->shape[1] != d1) || !said || strcmp(said, scheme) != 0)
        fail_msg("%s: %s, rank %u, [%u, ...], %s", name, oct_dtype_name(t->dtype), t->rank,
                 (unsigned)t->shape[0], said ? said : "not described");
    void *data = malloc(t->bytes);
    need(oct_safetensors_read(weights, t, data, &err), &err);
    n_checked++;
    return data;
}

static void check_bf16_exact(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    assert_int_equal(bits & 0xffff, 0);
}

static void check_rows(const int8_t *w, uint64_t n, uint64_t k) {
    for (uint64_t r = 0; r < n; r++) {
        int most = 0;
        for (uint64_t i = 0; i < k; i++) most = abs(w[r * k + i]) > most ? abs(w[r * k + i]) : most;
        assert_int_equal(most, 127); /* a row's largest magnitude is 127 steps, never -128 */
    }
}

/* The source's own rows of a projection. */
static float *source_rows(const oct_checkpoint *c, const char *prefix, uint64_t n, uint64_t k) {
    char name[160];
    oct_err err = {0};
    snprintf(name, sizeof name, "%s.weight", prefix);
    const oct_tensor *t = oct_checkpoint_find(c, name);
    float *w = malloc(n * k * sizeof *w);
    need(oct_checkpoint_read_rows(c, t, 0, n, w, &err), &err);
    return w;
}

/* Without smoothing, rows and scales follow from the source alone: w * (127 / absmax), rounded to
 * even; scale absmax / 127. scale NULL: only the rows. */
static void check_against_source(const oct_checkpoint *c, const char *prefix, const int8_t *q,
                                 const float *scale, uint64_t n, uint64_t k) {
    float *w = source_rows(c, prefix, n, k);
    for (uint64_t r = 0; r < n; r++) {
        float most = 0;
        for (uint64_t i = 0; i < k; i++) most = fmaxf(most, fabsf(w[r * k + i]));
        const float inv = 127.0f / most;
        for (uint64_t i = 0; i < k; i++)
            assert_int_equal(q[r * k + i], (int)nearbyintf(w[r * k + i] * inv));
        if (scale) assert_true(scale[r] == most / 127.0f);
    }
    free(w);
}

/* deq_scale = input_scale * weight_scale, and the bias that takes the offset out of the sums. */
static void check_static(const oct_checkpoint *c, const char *prefix, const int8_t *q, uint64_t n,
                         uint64_t k) {
    float *scale = take(prefix, "input_scale", OCT_DTYPE_F32, 1, 0, "W8A8");
    float *offset = take(prefix, "input_offset", OCT_DTYPE_F32, 1, 0, "W8A8");
    float *deq = take(prefix, "deq_scale", OCT_DTYPE_F32, n, 0, "W8A8");
    int32_t *bias = take(prefix, "quant_bias", OCT_DTYPE_I32, n, 0, "W8A8");
    assert_true(*scale > 0 && isfinite(*scale));
    check_bf16_exact(*scale);
    assert_true(*offset == rintf(*offset) && *offset >= -128 && *offset <= 127);
    float *w = c ? source_rows(c, prefix, n, k) : NULL;
    for (uint64_t r = 0; r < n; r++) {
        long sum = 0;
        float most = 0;
        for (uint64_t i = 0; i < k; i++) sum += q[r * k + i];
        for (uint64_t i = 0; w && i < k; i++) most = fmaxf(most, fabsf(w[r * k + i]));
        assert_int_equal(bias[r], -(long)*offset * sum);
        assert_true(deq[r] > 0 && isfinite(deq[r]));
        if (w) assert_true(deq[r] == *scale * (most / 127.0f));
    }
    free(w), free(scale), free(offset), free(deq), free(bias);
}

/* One int8 projection and all beside it. c: the source when nothing was smoothed, else NULL. */
static bool check_projection(const oct_checkpoint *c, const char *prefix, uint64_t n, uint64_t k) {
    char name[160];
    snprintf(name, sizeof name, "%s.deq_scale", prefix);
    const bool is_static = has(name);
    int8_t *q = take(prefix, "weight", OCT_DTYPE_I8, n, k, is_static ? "W8A8" : "W8A8_DYNAMIC");
    check_rows(q, n, k);
    if (is_static) {
        check_static(c, prefix, q, n, k);
        if (c) check_against_source(c, prefix, q, NULL, n, k);
    } else {
        float *scale = take(prefix, "weight_scale", OCT_DTYPE_F32, n, 1, "W8A8_DYNAMIC");
        float *zero = take(prefix, "weight_offset", OCT_DTYPE_F32, n, 1, "W8A8_DYNAMIC");
        for (uint64_t r = 0; r < n; r++)
            assert_true(scale[r] > 0 && isfinite(scale[r]) && zero[r] == 0);
        if (c) check_against_source(c, prefix, q, scale, n, k);
        free(scale), free(zero);
    }
    free(q);
    return is_static;
}

static void check_cache(const char *prefix) {
    float *scale = take(prefix, "kv_cache_scale", OCT_DTYPE_F32, KV, 0, "C8");
    float *offset = take(prefix, "kv_cache_offset", OCT_DTYPE_F32, KV, 0, "C8");
    for (int i = 0; i < KV; i++) assert_true(scale[i] > 0 && isfinite(scale[i]) && offset[i] == 0);
    free(scale), free(offset);
}

/* Every tensor of the layout, and no other. Counts the static projections. */
static unsigned check_tensors(const oct_checkpoint *unsmoothed, bool kv_c8, bool head_int8) {
    static const struct {
        const char *name;
        uint64_t n, k;
    } all[OCT_N_PROJECTIONS] = {
        {"self_attn.q_proj", 64, HIDDEN}, {"self_attn.k_proj", KV, HIDDEN},
        {"self_attn.v_proj", KV, HIDDEN}, {"self_attn.o_proj", HIDDEN, 64},
        {"mlp.gate_proj", INNER, HIDDEN}, {"mlp.up_proj", INNER, HIDDEN},
        {"mlp.down_proj", HIDDEN, INNER},
    };
    unsigned n_static = 0;
    char prefix[64];
    for (int l = 0; l < LAYERS; l++) {
        bool is_static[OCT_N_PROJECTIONS];
        for (int p = 0; p < OCT_N_PROJECTIONS; p++) {
            snprintf(prefix, sizeof prefix, "model.layers.%d.%s", l, all[p].name);
            is_static[p] = check_projection(unsmoothed, prefix, all[p].n, all[p].k);
            n_static += is_static[p];
            if (kv_c8 && (p == OCT_P_K || p == OCT_P_V)) check_cache(prefix);
        }
        assert_true(is_static[OCT_P_Q] == is_static[OCT_P_K]);
        assert_true(is_static[OCT_P_Q] == is_static[OCT_P_V]);
        assert_true(is_static[OCT_P_GATE] == is_static[OCT_P_UP]);
        snprintf(prefix, sizeof prefix, "model.layers.%d", l);
        free(take(prefix, "input_layernorm.weight", OCT_DTYPE_F32, HIDDEN, 0, "FLOAT"));
        free(take(prefix, "post_attention_layernorm.weight", OCT_DTYPE_F32, HIDDEN, 0, "FLOAT"));
    }
    free(take("model", "norm.weight", OCT_DTYPE_F32, HIDDEN, 0, "FLOAT"));
    free(take("model", "embed_tokens.weight", OCT_DTYPE_BF16, TINY_VOCAB, HIDDEN, "FLOAT"));
    if (head_int8) {
        assert_false(check_projection(NULL, "lm_head", TINY_VOCAB, HIDDEN));
    }
    assert_int_equal(n_checked, oct_safetensors_n(weights));
    return n_static;
}

static void check_description(bool any_static, bool kv_c8) {
    const char *type = any_static ? "W8A8" : "W8A8_DYNAMIC";
    const json_t *d = description;
    assert_string_equal(json_string_value(json_object_get(d, "model_quant_type")), type);
    assert_string_equal(json_string_value(json_object_get(d, "version")), "1.0.0");
    assert_true(json_is_integer(json_object_get(d, "group_size")));
    assert_int_equal(json_integer_value(json_object_get(d, "group_size")), 0);
    const json_t *cache = json_object_get(d, "kv_cache_type"),
                 *quant = json_object_get(d, "kv_quant_type");
    assert_int_equal(cache != NULL, kv_c8);
    assert_int_equal(quant != NULL, kv_c8);
    if (kv_c8) assert_string_equal(json_string_value(cache), "C8");
    if (kv_c8) assert_string_equal(json_string_value(quant), "C8");
    assert_int_equal(json_object_size(d), n_checked + 3 + (kv_c8 ? 2 : 0));
}

/* Names in the result's folder, all of them. */
static void check_files(void) {
    const char *want[] = {"config.json", "quant_model_description.json",
                          "quant_model_weights.safetensors", "tokenizer.json"};
    unsigned n = 0;
    DIR *d = opendir(result);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        bool known = false;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        for (size_t i = 0; i < OCT_COUNT(want); i++) known |= strcmp(want[i], e->d_name) == 0;
        if (!known) fail_msg("%s: unexpected", e->d_name);
        n++;
    }
    closedir(d);
    assert_int_equal(n, OCT_COUNT(want));
}

/* ---- whether it still computes the same ----------------------------------------------------- */

static double distance_from_float(oct_kv_choice kv) {
    static float want[N_LOGITS], got[N_LOGITS];
    oct_model_options o = {.max_rows = 16, .max_seqs = 4, .quiet = true};
    oct_err err = {0};
    tiny t;
    need(tiny_try_open(&t, source, 1, &o, &err), &err);
    tiny_logits(&t, want);
    tiny_close(&t);
    o.kv = kv;
    need(tiny_try_open(&t, result, 1, &o, &err), &err);
    assert_int_equal(oct_model_get_info(t.model)->kv_kind,
                     kv == OCT_KV_C8 ? OCTET_KV_I8_CHANNEL : OCTET_KV_F32);
    tiny_logits(&t, got);
    tiny_close(&t);
    return relative_rms(got, want, N_LOGITS);
}

static void quantise_and_check(oct_quantize_scheme scheme, bool head_int8) {
    watcher w;
    oct_quantize_options o = options_of(scheme, &w);
    o.head_int8 = head_int8;
    const oct_quantize_report r = quantise(&o);
    assert_string_equal(w.phases, "calibrating;choosing scales;writing;");
    assert_true(w.n_calls > 6);
    assert_int_equal(w.done, w.total);

    open_result();
    const unsigned n_static = check_tensors(NULL, true, head_int8);
    assert_int_equal(n_static, r.n_static);
    assert_int_equal(r.n_static + r.n_dynamic, LAYERS * OCT_N_PROJECTIONS);
    assert_int_equal(r.int8_bytes, LAYERS * (2 * 64 * 64 + 2 * KV * 64 + 3 * INNER * 64));
    if (scheme == OCT_QUANTIZE_W8A8)
        assert_true((double)r.static_bytes >= 0.755 * (double)r.int8_bytes);
    else
        assert_int_equal(n_static, 0);
    check_description(n_static > 0, true);
    check_files();
    close_result();

    json_t *config = read_json("config.json");
    assert_null(json_object_get(config, "quantization_config"));
    assert_int_equal(json_is_true(json_object_get(config, "tie_word_embeddings")), !head_int8);
    assert_int_equal(json_integer_value(json_object_get(config, "hidden_size")), HIDDEN);
    json_decref(config);

    const double rms = distance_from_float(OCT_KV_C8);
    print_message("%u static: relative RMS %.4f\n", n_static, rms);
    assert_true(rms > 1e-6 && rms < 0.1);
}

static void dynamic_scales_and_an_int8_cache(void **s) {
    (void)s;
    quantise_and_check(OCT_QUANTIZE_W8A8_DYNAMIC, true);
}

static void static_scales_and_an_int8_cache(void **s) {
    (void)s;
    quantise_and_check(OCT_QUANTIZE_W8A8, false);
}

/* Without smoothing every number follows from the source and can be recomputed. */
static void without_smoothing_all_numbers_follow(void **s) {
    (void)s;
    oct_checkpoint *c;
    oct_err err = {0};
    watcher w;
    need(oct_checkpoint_open(mem, source, &c, &err), &err);
    for (int scheme = 0; scheme < 2; scheme++) {
        oct_quantize_options o =
            options_of(scheme ? OCT_QUANTIZE_W8A8 : OCT_QUANTIZE_W8A8_DYNAMIC, &w);
        o.smooth_alpha = 0;
        o.kv = OCT_QUANTIZE_KV_NONE;
        o.head_int8 = false;
        o.dynamic_error = 1; /* nothing is so bad */
        quantise(&o);
        open_result();
        assert_int_equal(check_tensors(c, false, false), scheme ? LAYERS * OCT_N_PROJECTIONS : 0);
        check_description(scheme, false);
        close_result();
        assert_int_equal(w.n_notes, 0);
        const double rms = distance_from_float(OCT_KV_AUTO);
        print_message("relative RMS %.4f\n", rms);
        assert_true(rms < 0.1);
    }
    oct_checkpoint_close(c);
}

/* With a bound that nothing meets, inputs go dynamic until the least share of static bytes. */
static void a_share_of_the_bytes_stays_static(void **s) {
    (void)s;
    watcher w;
    oct_quantize_options o = options_of(OCT_QUANTIZE_W8A8, &w);
    o.dynamic_error = 0;
    const oct_quantize_report r = quantise(&o);
    assert_int_equal(w.n_notes, 2);
    assert_int_equal(w.n_noted, LAYERS * OCT_N_IN);
    assert_non_null(strstr(w.notes[0], "keep a dynamic scale, in layers: "));
    assert_non_null(
        strstr(w.notes[1], "stay static, because 75.5 % of the bytes must, in layers: "));
    assert_true(r.n_dynamic > 0 && r.n_static > 0);
    assert_true((double)r.static_bytes >= (double)o.min_static * (double)r.int8_bytes);
    open_result();
    assert_int_equal(check_tensors(NULL, true, o.head_int8), r.n_static);
    close_result();
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void what_is_quantised_already_is_refused(void **s) {
    (void)s;
    oct_quantize_report r;
    oct_err err = {0};
    struct stat st;
    watcher w;
    const oct_quantize_options o = options_of(OCT_QUANTIZE_W8A8_DYNAMIC, &w);
    assert_int_equal(try_quantise(TINY_QUANTISED, result, &o, true, &r, &err), OCT_E_UNSUPPORTED);
    expect_words(&err, "quantised already");
    assert_int_equal(w.n_calls, 0);
    assert_int_not_equal(stat(result, &st), 0);
}

static void the_source_is_not_overwritten(void **s) {
    (void)s;
    oct_quantize_report r;
    oct_err err = {0};
    watcher w;
    const oct_quantize_options o = options_of(OCT_QUANTIZE_W8A8_DYNAMIC, &w);
    assert_int_equal(try_quantise(source, source, &o, true, &r, &err), OCT_E_INVALID);
    expect_words(&err, "cannot replace its source");
}

static void calibration_needs_a_tokenizer(void **s) {
    (void)s;
    oct_quantize_report r;
    oct_err err = {0};
    watcher w;
    oct_quantize_options o = options_of(OCT_QUANTIZE_W8A8_DYNAMIC, &w);
    assert_int_equal(try_quantise(source, result, &o, false, &r, &err), OCT_E_CORRUPT);
    expect_words(&err, "calibration needs it");
    oct_err fresh = {0};
    o.calib_text = OCT_STR("");
    assert_int_equal(try_quantise(source, result, &o, true, &r, &fresh), OCT_E_INVALID);
    expect_words(&fresh, "no tokens");
    /* Nothing is calibrated without smoothing and cache scales. */
    oct_err none = {0};
    o.smooth_alpha = 0;
    o.kv = OCT_QUANTIZE_KV_NONE;
    need(try_quantise(source, result, &o, false, &r, &none), &none);
}

#define WITH_SOURCE(f) cmocka_unit_test_setup_teardown(f, make_source, tiny_remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_SOURCE(dynamic_scales_and_an_int8_cache),
        WITH_SOURCE(static_scales_and_an_int8_cache),
        WITH_SOURCE(without_smoothing_all_numbers_follow),
        WITH_SOURCE(a_share_of_the_bytes_stays_static),
        WITH_SOURCE(what_is_quantised_already_is_refused),
        WITH_SOURCE(the_source_is_not_overwritten),
        WITH_SOURCE(calibration_needs_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
