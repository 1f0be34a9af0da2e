/*
 * test_quantize_layouts.c - the same numbers in three spellings: what one layout writes computes as
 * what another writes, and its names, types, shapes and configuration are those that the tools
 * leave (tests/data/layouts).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "quantize/quantize.h"
#include "store/safetensors.h"
#include "support/byte_tokenizer.h"
#include "support/layouts.h"
#include "support/tiny_model.h"

static const oct_allocator *mem;
static char source[128], result[128], text[192];
static const oct_layout *const all_layouts[] = {&oct_layout_modelslim, &oct_layout_quark,
                                                &oct_layout_compressed};

static int make_folders(void **state) {
    if (tiny_make_folder(state) != 0) return -1;
    mem = oct_system_allocator();
    snprintf(source, sizeof source, "%s/in", tiny_folder);
    snprintf(result, sizeof result, "%s/out", tiny_folder);
    for (size_t i = 0; i < sizeof text; i++) text[i] = tiny_token((int)i);
    return mkdir(source, 0777);
}

/* ---- sources --------------------------------------------------------------------------------- */

/* A float model of the family and sizes of a quantised layout: what the tool was given. */
static void source_of_layout(const char *name) {
    layout l = {.seed = 12345}, bare = {.seed = 12345};
    char path[512];
    size_t i;
    json_t *line;
    snprintf(path, sizeof path, OCT_TEST_DATA "/layouts/%s.json", name);
    l.root = json_load_file(path, 0, NULL);
    assert_non_null(l.root);
    const bool wide = strcmp(name, "quark-int8") == 0; /* exported from F32 */
    json_array_foreach(json_object_get(l.root, "tensors"), i, line)
        layout_spread(&l, json_string_value(line));
    bare.root = json_object();
    for (i = 0; i < l.n; i++) {
        layout_tensor t = l.v[i];
        if (strstr(t.name, "_scale") || strstr(t.name, "_zero_point")) continue;
        char *expert = strstr(t.name, "_proj.weight");
        if (strstr(t.name, ".experts.")) { /* as the family spells them */
            expert -= strstr(t.name, "gate_proj") || strstr(t.name, "down_proj") ? 4 : 2;
            const char *w = *expert == 'g' ? "w1" : *expert == 'd' ? "w2" : "w3";
            snprintf(expert, 16, "%s.weight", w);
        }
        t.t.dtype = wide ? OCT_DTYPE_F32 : OCT_DTYPE_BF16;
        assert_true(oct_tensor_measure(&t.t));
        layout_add(&bare, &t);
    }
    json_object_set(bare.root, "model_type", json_object_get(l.root, "model_type"));
    json_object_set_new(bare.root, "quantization_config", json_null());
    layout_write_config(&bare, source);
    layout_write_tensors(&bare, source);
    free(l.v), free(bare.v);
    json_decref(l.root), json_decref(bare.root);
}

/* The small float model, in F32: then all layouts keep scales and norms alike. */
static void wide_source(void) {
    oct_checkpoint *c;
    oct_safetensors_writer *w;
    oct_err err = {0};
    char path[256];
    tiny_copy_file(TINY_FLOAT, source, "config.json");
    need(oct_checkpoint_open(mem, TINY_FLOAT, &c, &err), &err);
    need(oct_safetensors_writer_create(mem, &w, &err), &err);
    const size_t n = oct_checkpoint_n_tensors(c);
    for (size_t i = 0; i < n; i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(c, i);
        need(oct_safetensors_writer_add(w, t->name, OCT_DTYPE_F32, t->rank, t->shape, &err), &err);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", source);
    need(oct_safetensors_writer_begin(w, path, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(c, i);
        const uint64_t count = t->n_rows * t->row_elems;
        float *v = malloc(count * sizeof *v);
        need(oct_checkpoint_read_rows(c, t, 0, t->n_rows, v, &err), &err);
        need(oct_safetensors_writer_write(w, t->name, 0, v, count * sizeof *v, &err), &err);
        free(v);
    }
    need(oct_safetensors_writer_finish(w, &err), &err);
    oct_safetensors_writer_destroy(w);
    oct_checkpoint_close(c);
}

/* ---- running it ------------------------------------------------------------------------------ */

static oct_status try_quantise(const oct_quantize_options *o, oct_quantize_report *r,
                               oct_err *err) {
    const oct_device_options od = {.n_threads = 1, .bind_threads = 2};
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_tokenizer *tok = byte_tokenizer();
    need(oct_device_open(mem, "cpu", &od, &device, err), err);
    need(oct_checkpoint_open(mem, source, &ckpt, err), err);
    const oct_status st = oct_quantize(mem, device, ckpt, tok, result, o, r, err);
    oct_tokenizer_destroy(tok);
    oct_checkpoint_close(ckpt);
    oct_device_close(device);
    return st;
}

static oct_quantize_options options_of(const oct_layout *spelling, oct_quantize_scheme scheme,
                                       oct_quantize_kv kv) {
    oct_quantize_options o = oct_quantize_defaults;
    o.layout = spelling;
    o.scheme = scheme;
    o.kv = kv;
    o.calib_text = (oct_str){text, sizeof text};
    return o;
}

/* Into an empty folder. */
static oct_quantize_report quantise(const oct_quantize_options *o) {
    oct_quantize_report r;
    oct_err err = {0};
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", result);
    assert_int_equal(system(command), 0);
    need(try_quantise(o, &r, &err), &err);
    return r;
}

static void logits_of(const char *folder, float *out) {
    const oct_model_options o = {.max_rows = 16, .max_seqs = 4, .quiet = true};
    oct_err err = {0};
    tiny t;
    need(tiny_try_open(&t, folder, 1, &o, &err), &err);
    tiny_logits(&t, out);
    tiny_close(&t);
}

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB };

static double distance(const oct_layout *spelling, oct_quantize_scheme scheme, oct_quantize_kv kv,
                       float dynamic_error, const float *want, float *got) {
    oct_quantize_options o = options_of(spelling, scheme, kv);
    o.dynamic_error = dynamic_error;
    quantise(&o);
    logits_of(result, got);
    const double rms = relative_rms(got, want, N_LOGITS);
    print_message("%s scheme %d kv %d: relative RMS %.5f\n", spelling->name, scheme, kv, rms);
    return rms;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void dynamic_scales_give_the_same_logits_in_every_layout(void **s) {
    static float want[N_LOGITS], first[N_LOGITS], got[N_LOGITS];
    (void)s;
    wide_source();
    logits_of(source, want);
    for (int kv = 0; kv < 2; kv++) {
        const oct_quantize_kv k = kv ? OCT_QUANTIZE_KV_CHANNEL : OCT_QUANTIZE_KV_NONE;
        for (size_t i = 0; i < OCT_COUNT(all_layouts); i++) {
            const double d =
                distance(all_layouts[i], OCT_QUANTIZE_W8A8_DYNAMIC, k, 1, want, i ? got : first);
            assert_true(d > 1e-6 && d < 0.1);
            if (i) assert_memory_equal(got, first, sizeof got);
        }
    }
}

/* The offset is added before rounding in one and behind it in the other: equal but for ties.
 * Quark's static preset has one scale a weight and no offset, so that its numbers are others. */
static void static_scales_in_every_layout(void **s) {
    static float want[N_LOGITS], first[N_LOGITS], got[N_LOGITS];
    (void)s;
    wide_source();
    logits_of(source, want);
    for (int mixed = 0; mixed < 2; mixed++) {
        const float bound = mixed ? 0 : 1; /* of the error above which an input stays dynamic */
        const oct_quantize_kv none = OCT_QUANTIZE_KV_NONE;
        const double d =
            distance(&oct_layout_modelslim, OCT_QUANTIZE_W8A8, none, bound, want, first);
        assert_true(d < 0.1);
        distance(&oct_layout_compressed, OCT_QUANTIZE_W8A8, none, bound, want, got);
        assert_true(relative_rms(got, first, N_LOGITS) < 1e-3);
        assert_true(distance(&oct_layout_quark, OCT_QUANTIZE_W8A8, none, bound, want, got) < 0.2);
    }
}

static void coarse_cache_scales(void **s) {
    static float want[N_LOGITS], got[N_LOGITS];
    (void)s;
    wide_source();
    logits_of(source, want);
    const oct_quantize_scheme dynamic = OCT_QUANTIZE_W8A8_DYNAMIC;
    assert_true(distance(&oct_layout_compressed, dynamic, OCT_QUANTIZE_KV_HEAD, 1, want, got) < .1);
    assert_true(distance(&oct_layout_compressed, dynamic, OCT_QUANTIZE_KV_TENSOR, 1, want, got) <
                .1);
    assert_true(distance(&oct_layout_quark, dynamic, OCT_QUANTIZE_KV_TENSOR, 1, want, got) < .1);
}

/* BF16 scales and norms are chosen before rows are quantised: little is lost. */
static void a_model_of_16_bits(void **s) {
    static float want[N_LOGITS], got[N_LOGITS];
    (void)s;
    tiny_copy_file(TINY_FLOAT, source, "config.json");
    tiny_copy_file(TINY_FLOAT, source, "model.safetensors");
    logits_of(source, want);
    const oct_quantize_kv none = OCT_QUANTIZE_KV_NONE;
    const oct_quantize_scheme dynamic = OCT_QUANTIZE_W8A8_DYNAMIC;
    const double d = distance(&oct_layout_modelslim, dynamic, none, 1, want, got);
    assert_true(distance(&oct_layout_quark, dynamic, none, 1, want, got) < 1.2 * d);
    assert_true(distance(&oct_layout_compressed, dynamic, none, 1, want, got) < 1.2 * d);
}

/* ---- spelling -------------------------------------------------------------------------------- */

static json_t *result_config(void) {
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", result);
    json_t *c = json_load_file(path, 0, NULL);
    assert_non_null(c);
    json_t *q = json_incref(json_object_get(c, "quantization_config"));
    json_decref(c);
    return q;
}

/* Every tensor of the tool's list is there, of that type and shape, and no other; `more` counts
 * those that a list of symmetric inputs does not have. */
static void check_tensors(const char *name, size_t more) {
    layout l = {.seed = 1};
    oct_safetensors *st;
    oct_err err = {0};
    char path[512];
    size_t i, n = 0;
    json_t *line;
    snprintf(path, sizeof path, OCT_TEST_DATA "/layouts/%s.json", name);
    l.root = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", result);
    need(oct_safetensors_open(mem, path, &st, &err), &err);
    json_object_del(l.root, "quantization_config"); /* nothing is left out here */
    json_array_foreach(json_object_get(l.root, "tensors"), i, line)
        layout_spread(&l, json_string_value(line));
    for (i = 0; i < l.n; i++) {
        const oct_tensor *want = &l.v[i].t,
                         *got = oct_safetensors_find(st, oct_str_of(l.v[i].name));
        if (!got) fail_msg("%s: missing", l.v[i].name);
        if (got->dtype != want->dtype || !oct_tensor_has_shape(got, want->rank, want->shape))
            fail_msg("%s: got %s of rank %u", l.v[i].name, oct_dtype_name(got->dtype), got->rank);
        n++;
    }
    assert_int_equal(oct_safetensors_n(st), n + more);
    oct_safetensors_close(st);
    free(l.v);
    json_decref(l.root);
}

static int by_string(const void *a, const void *b) {
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

static void sort_list(json_t *list) {
    json_t *v[512];
    const size_t n = json_array_size(list);
    assert_true(n <= OCT_COUNT(v));
    for (size_t i = 0; i < n; i++) v[i] = json_incref(json_array_get(list, i));
    qsort(v, n, sizeof *v, by_string);
    json_array_clear(list);
    for (size_t i = 0; i < n; i++) json_array_append_new(list, v[i]);
}

/* The whole configuration, or one key of it. */
static void check_config(const char *name, const char *key) {
    char path[512];
    snprintf(path, sizeof path, OCT_TEST_DATA "/layouts/%s.json", name);
    json_t *root = json_load_file(path, 0, NULL), *got = result_config();
    json_t *want = json_object_get(root, "quantization_config");
    sort_list(json_object_get(got, "ignore"));
    sort_list(json_object_get(want, "ignore"));
    const json_t *a = key ? json_object_get(got, key) : got,
                 *b = key ? json_object_get(want, key) : want;
    if (!json_equal(a, b)) {
        char *text_a = json_dumps(a, JSON_SORT_KEYS), *text_b = json_dumps(b, JSON_SORT_KEYS);
        fail_msg("%s: %s\nwant %s", name, text_a, text_b);
    }
    json_decref(got);
    json_decref(root);
}

static void spelled_as_the_tools_do(void **s) {
    static const struct {
        const char *name;
        const oct_layout *layout;
        oct_quantize_kv kv;
    } cases[] = {
        {"ct-w8a8", &oct_layout_compressed, OCT_QUANTIZE_KV_NONE},
        {"ct-w8a8-kvint8", &oct_layout_compressed, OCT_QUANTIZE_KV_TENSOR},
        {"ct-w8a8-kvint8-head", &oct_layout_compressed, OCT_QUANTIZE_KV_HEAD},
        {"qwen2-ct-w8a8", &oct_layout_compressed, OCT_QUANTIZE_KV_NONE},
        {"mixtral-ct-w8a8", &oct_layout_compressed, OCT_QUANTIZE_KV_NONE},
        {"quark-ptpc-int8", &oct_layout_quark, OCT_QUANTIZE_KV_NONE},
    };
    (void)s;
    for (size_t i = 0; i < OCT_COUNT(cases); i++) {
        source_of_layout(cases[i].name);
        const oct_quantize_options o =
            options_of(cases[i].layout, OCT_QUANTIZE_W8A8_DYNAMIC, cases[i].kv);
        quantise(&o);
        check_tensors(cases[i].name, 0);
        check_config(cases[i].name, NULL);
    }
}

static void quark_static_and_mixtral(void **s) {
    (void)s;
    source_of_layout("quark-int8");
    oct_quantize_options o = options_of(&oct_layout_quark, OCT_QUANTIZE_W8A8, OCT_QUANTIZE_KV_NONE);
    o.dynamic_error = 10;
    quantise(&o);
    check_tensors("quark-int8", 0);
    check_config("quark-int8", "global_quant_config");
    check_config("quark-int8", "export");

    /* The list of the tool does not name the router; other engines need it. */
    source_of_layout("mixtral-quark-ptpc-int8");
    o.scheme = OCT_QUANTIZE_W8A8_DYNAMIC;
    quantise(&o);
    check_tensors("mixtral-quark-ptpc-int8", 0);
    check_config("mixtral-quark-ptpc-int8", "global_quant_config");
    json_t *q = result_config();
    const json_t *list = json_object_get(q, "exclude");
    assert_int_equal(json_array_size(list), LAYOUT_LAYERS + 1);
    assert_non_null(strstr(json_string_value(json_array_get(list, 0)), ".mlp.gate"));
    json_decref(q);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Attention static, experts dynamic, in every layout; each loads, and is asked for whole. */
static void experts_in_every_layout(void **s) {
    (void)s;
    source_of_layout("mixtral-ct-w8a8");
    for (size_t i = 0; i < OCT_COUNT(all_layouts); i++) {
        oct_quantize_options o =
            options_of(all_layouts[i], OCT_QUANTIZE_W8A8, OCT_QUANTIZE_KV_AUTO);
        o.dynamic_error = 10;
        const oct_quantize_report r = quantise(&o);
        assert_int_equal(r.n_static, LAYOUT_LAYERS * 4);
        assert_int_equal(r.n_dynamic, LAYOUT_LAYERS * 3 * LAYOUT_E);
        const oct_model_options mo = {.max_rows = 16, .max_seqs = 4, .quiet = true};
        oct_err err = {0};
        tiny t;
        need(tiny_try_open(&t, result, 1, &mo, &err), &err);
        assert_int_equal(oct_checkpoint_unused(t.ckpt, NULL), 0);
        tiny_close(&t);
    }
}

enum { MOE_LOGITS = TINY_TOKENS * LAYOUT_V };

static void take_moe(void *ctx, uint32_t first, uint32_t n_rows, const float *logits) {
    memcpy((float *)ctx + (size_t)first * LAYOUT_V, logits,
           (size_t)n_rows * LAYOUT_V * sizeof *logits);
}

static void moe_logits(const char *folder, float *out) {
    const oct_model_options o = {.max_rows = 16, .max_seqs = 4, .quiet = true};
    int32_t tokens[TINY_TOKENS];
    oct_runner *r;
    oct_err err = {0};
    tiny t;
    for (int i = 0; i < TINY_TOKENS; i++) tokens[i] = tiny_token(i);
    need(tiny_try_open(&t, folder, 1, &o, &err), &err);
    need(oct_runner_create(mem, t.model, &r, &err), &err);
    need(oct_runner_logits(r, tokens, TINY_TOKENS, take_moe, out, &err), &err);
    oct_runner_destroy(r);
    tiny_close(&t);
}

static void experts_compute_what_the_float_model_does(void **s) {
    static float want[MOE_LOGITS], first[MOE_LOGITS], got[MOE_LOGITS];
    (void)s;
    source_of_layout("mixtral-ct-w8a8");
    moe_logits(source, want);
    for (size_t i = 0; i < OCT_COUNT(all_layouts); i++) {
        const oct_quantize_options o =
            options_of(all_layouts[i], OCT_QUANTIZE_W8A8_DYNAMIC, OCT_QUANTIZE_KV_NONE);
        quantise(&o);
        moe_logits(result, i < 2 ? first : got);
        const double rms = relative_rms(i < 2 ? first : got, want, MOE_LOGITS);
        print_message("%s: relative RMS %.5f\n", all_layouts[i]->name, rms);
        assert_true(rms > 1e-6 && rms < 0.2);
    }
    assert_memory_equal(got, first, sizeof got); /* Quark's and compressed-tensors' scales */
}

/* ---- files ----------------------------------------------------------------------------------- */

static void shards_have_an_index(void **s) {
    static float one[N_LOGITS], many[N_LOGITS];
    (void)s;
    wide_source();
    for (size_t i = 0; i < OCT_COUNT(all_layouts); i++) {
        oct_quantize_options o =
            options_of(all_layouts[i], OCT_QUANTIZE_W8A8_DYNAMIC, OCT_QUANTIZE_KV_NONE);
        assert_int_equal(quantise(&o).n_files, 1);
        logits_of(result, one);
        /* In the same folder the old file would be taken for the result. */
        oct_quantize_report r;
        oct_err err = {0};
        o.max_shard_bytes = 20000;
        assert_int_equal(try_quantise(&o, &r, &err), OCT_E_INVALID);
        expect_words(&err, "does not belong to the result");
        assert_true(quantise(&o).n_files > 3);
        logits_of(result, many);
        assert_memory_equal(one, many, sizeof one);
    }
}

static void what_has_no_spelling_is_refused(void **s) {
    static const struct {
        const oct_layout *layout;
        oct_quantize_kv kv;
        const char *words;
    } cases[] = {
        {&oct_layout_quark, OCT_QUANTIZE_KV_HEAD, "got head, want tensor, c8, or none"},
        {&oct_layout_modelslim, OCT_QUANTIZE_KV_HEAD, "got head, want c8, or none"},
        {&oct_layout_modelslim, OCT_QUANTIZE_KV_TENSOR, "--format modelslim"},
    };
    (void)s;
    wide_source();
    for (size_t i = 0; i < OCT_COUNT(cases); i++) {
        const oct_quantize_options o =
            options_of(cases[i].layout, OCT_QUANTIZE_W8A8_DYNAMIC, cases[i].kv);
        oct_quantize_report r;
        oct_err err = {0};
        assert_int_equal(try_quantise(&o, &r, &err), OCT_E_UNSUPPORTED);
        expect_words(&err, cases[i].words);
    }
}

/* A description is looked for before config.json: one of an older run would win. */
static void a_stranger_in_the_folder_is_refused(void **s) {
    (void)s;
    wide_source();
    oct_quantize_options o =
        options_of(&oct_layout_modelslim, OCT_QUANTIZE_W8A8_DYNAMIC, OCT_QUANTIZE_KV_NONE);
    oct_quantize_report r;
    oct_err err = {0};
    quantise(&o);
    o.layout = &oct_layout_quark;
    assert_int_equal(try_quantise(&o, &r, &err), OCT_E_INVALID);
    expect_words(&err, "quant_model_description.json");
}

#define IN_FOLDERS(f) cmocka_unit_test_setup_teardown(f, make_folders, tiny_remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDERS(dynamic_scales_give_the_same_logits_in_every_layout),
        IN_FOLDERS(static_scales_in_every_layout),
        IN_FOLDERS(coarse_cache_scales),
        IN_FOLDERS(a_model_of_16_bits),
        IN_FOLDERS(spelled_as_the_tools_do),
        IN_FOLDERS(quark_static_and_mixtral),
        IN_FOLDERS(experts_in_every_layout),
        IN_FOLDERS(experts_compute_what_the_float_model_does),
        IN_FOLDERS(shards_have_an_index),
        IN_FOLDERS(what_has_no_spelling_is_refused),
        IN_FOLDERS(a_stranger_in_the_folder_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
