/* test_model.c - loading small checkpoints, what a step refuses, and the bits it leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/safetensors.h"
#include "store/safetensors_writer.h"
#include "support/tiny_model.h"

enum { N_LOGITS = TINY_TOKENS * TINY_VOCAB };

static const oct_model_options small = {.max_rows = 16, .max_seqs = 4, .quiet = true};

/* ---- results -------------------------------------------------------------------------------- */

static void same_bits_with_any_number_of_threads(void **s) {
    (void)s;
    static float one[N_LOGITS], two[N_LOGITS];
    const char *folders[] = {TINY_FLOAT, TINY_QUANTISED};
    oct_err err = {0};
    tiny t;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        need(tiny_try_open(&t, folders[i], 1, &small, &err), &err);
        tiny_logits(&t, one);
        tiny_close(&t);
        need(tiny_try_open(&t, folders[i], 2, &small, &err), &err);
        tiny_logits(&t, two);
        tiny_close(&t);
        assert_memory_equal(one, two, sizeof one);
    }
}

static void int8_while_loading_stays_near_float(void **s) {
    (void)s;
    static float want[N_LOGITS], got[N_LOGITS];
    oct_model_options o = small;
    oct_err err = {0};
    tiny t;
    need(tiny_try_open(&t, TINY_FLOAT, 1, &o, &err), &err);
    const uint64_t float_bytes = oct_model_get_info(t.model)->step_weight_bytes;
    tiny_logits(&t, want);
    tiny_close(&t);

    o.quant = OCT_QUANT_INT8;
    need(tiny_try_open(&t, TINY_FLOAT, 1, &o, &err), &err);
    const oct_model_info *info = oct_model_get_info(t.model);
    assert_true(info->step_weight_bytes < float_bytes);
    assert_non_null(strstr(info->scheme, "INT8 on load"));
    tiny_logits(&t, got);
    tiny_close(&t);
    const double rms = relative_rms(got, want, N_LOGITS);
    print_message("int8: relative RMS %.4f\n", rms);
    assert_true(rms > 1e-6 && rms < 0.06);
}

static void facts_of_a_loaded_model(void **s) {
    (void)s;
    oct_err err = {0};
    tiny t;
    need(tiny_try_open(&t, TINY_QUANTISED, 1, &small, &err), &err);
    const oct_model_info *i = oct_model_get_info(t.model);
    assert_string_equal(i->family, "qwen3");
    assert_int_equal(i->kv_kind, OCTET_KV_I8_CHANNEL);
    assert_int_equal(i->max_model_len, 256);
    assert_int_equal(i->block_tokens, 32);
    assert_int_equal(i->max_rows, 16);
    assert_int_equal(i->max_logits, 4);
    /* two layers of q 128, k 64, v 64, o 64 x 128, gate, up and down 160 x 64 */
    assert_int_equal(i->linear_macs, 2 * (64 * 256 + 128 * 64 + 3 * 160 * 64));
    assert_false(oct_model_has_kv(t.model));
    tiny_close(&t);
}

/* ---- what load refuses ---------------------------------------------------------------------- */

static void refuse_load(const char *folder, const oct_model_options *o, oct_status want,
                        const char *words) {
    oct_err err = {0};
    tiny t;
    const oct_status st = tiny_try_open(&t, folder, 1, o, &err);
    assert_null(t.model);
    tiny_close(&t);
    assert_int_equal(st, want);
    expect_words(&err, words);
}

static void limits_are_refused_in_words(void **s) {
    (void)s;
    oct_model_options o = small;
    o.max_model_len = 257;
    refuse_load(TINY_FLOAT, &o, OCT_E_INVALID, "got 257, want at most 256");
    o = small;
    o.block_tokens = 48;
    refuse_load(TINY_FLOAT, &o, OCT_E_INVALID, "not a multiple of 32 (got 48)");
}

/* The float model from the data folder, without the tensors named. */
static void copy_without(const char *const *names, size_t n_names) {
    const oct_allocator *mem = oct_system_allocator();
    char path[4096];
    oct_safetensors *in;
    oct_safetensors_writer *out;
    oct_err err = {0};
    tiny_copy_file(TINY_FLOAT, tiny_folder, "config.json");
    need(oct_safetensors_open(mem, TINY_FLOAT "/model.safetensors", &in, &err), &err);
    need(oct_safetensors_writer_create(mem, &out, &err), &err);
    snprintf(path, sizeof path, "%s/model.safetensors", tiny_folder);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < oct_safetensors_n(in); i++) {
            const oct_tensor *t = oct_safetensors_at(in, i);
            bool left_out = false;
            for (size_t k = 0; k < n_names; k++) left_out |= strcmp(names[k], t->name.ptr) == 0;
            if (left_out) continue;
            if (pass == 0) {
                need(oct_safetensors_writer_add(out, t->name, t->dtype, t->rank, t->shape, &err),
                     &err);
                continue;
            }
            void *data = malloc(t->bytes);
            need(oct_safetensors_read(in, t, data, &err), &err);
            need(oct_safetensors_writer_write(out, t->name, 0, data, t->bytes, &err), &err);
            free(data);
        }
        if (pass == 0) need(oct_safetensors_writer_begin(out, path, &err), &err);
    }
    need(oct_safetensors_writer_finish(out, &err), &err);
    oct_safetensors_writer_destroy(out);
    oct_safetensors_close(in);
}

static void ST10_a_missing_tensor_is_named(void **s) {
    (void)s;
    const char *gone[] = {"model.layers.1.mlp.down_proj.weight"};
    copy_without(gone, 1);
    refuse_load(tiny_folder, &small, OCT_E_CORRUPT,
                "model.layers.1.mlp.down_proj.weight is missing");
    refuse_load(tiny_folder, &small, OCT_E_CORRUPT, "1 tensors are missing or wrong");
}

static void ST10_all_that_is_missing_is_told_at_once(void **s) {
    (void)s;
    const char *gone[] = {"model.norm.weight", "model.layers.0.self_attn.q_proj.weight",
                          "model.layers.1.input_layernorm.weight"};
    copy_without(gone, 3);
    for (int i = 0; i < 3; i++) refuse_load(tiny_folder, &small, OCT_E_CORRUPT, gone[i]);
    refuse_load(tiny_folder, &small, OCT_E_CORRUPT, "3 tensors are missing or wrong");
}

static void a_cache_or_scheme_that_the_files_lack(void **s) {
    (void)s;
    oct_model_options o = small;
    o.kv = OCT_KV_C8;
    refuse_load(TINY_FLOAT, &o, OCT_E_CORRUPT, "needs scales of K and V in the checkpoint");
    o = small;
    o.quant = OCT_QUANT_ASCEND;
    refuse_load(TINY_FLOAT, &o, OCT_E_CORRUPT, "quant_model_description.json");
}

/* ---- what a step refuses -------------------------------------------------------------------- */

enum { ROWS = 3, BLOCKS = 2 };

/* One sequence of three tokens in block 0; every field may be made wrong. */
typedef struct plain_batch {
    int32_t tokens[ROWS], pos[ROWS], slot[ROWS], seq_row[2], kv_len[1], table[BLOCKS], row[1];
    oct_model_batch b;
} plain_batch;

static void make_batch(plain_batch *p) {
    *p = (plain_batch){{5, 6, 7}, {0, 1, 2}, {0, 1, 2}, {0, ROWS}, {ROWS}, {0, 1}, {ROWS - 1}, {0}};
    p->b = (oct_model_batch){.n_seqs = 1,
                             .n_rows = ROWS,
                             .max_seq_rows = ROWS,
                             .max_kv_len = ROWS,
                             .table_stride = BLOCKS,
                             .tokens = p->tokens,
                             .row_pos = p->pos,
                             .row_slot = p->slot,
                             .seq_row = p->seq_row,
                             .seq_kv_len = p->kv_len,
                             .block_table = p->table,
                             .n_logits = 1,
                             .logits_row = p->row};
}

static void refuse_step(tiny *t, plain_batch *p, const char *words) {
    oct_err err = {0};
    assert_int_equal(oct_model_submit(t->model, &p->b, &err), OCT_E_INVALID);
    expect_words(&err, words);
    make_batch(p);
}

static void bad_batches_are_refused_in_words(void **s) {
    (void)s;
    oct_err err = {0};
    oct_model_result result;
    float logits[TINY_VOCAB], again[TINY_VOCAB];
    plain_batch p;
    tiny t;
    need(tiny_try_open(&t, TINY_FLOAT, 1, &small, &err), &err);
    make_batch(&p);
    refuse_step(&t, &p, "out of limits"); /* no cache yet */
    need(oct_model_kv_create(t.model, BLOCKS, &err), &err);
    need(oct_model_submit(t.model, &p.b, &err), &err);
    need(oct_model_collect(t.model, &result, &err), &err);
    need(oct_model_read_logits(t.model, logits, &err), &err);

    p.tokens[1] = TINY_VOCAB;
    refuse_step(&t, &p, "token id 256 is not below 256");
    p.tokens[2] = -1;
    refuse_step(&t, &p, "token id -1");
    p.pos[2] = 256;
    refuse_step(&t, &p, "position 256");
    p.pos[0] = -1;
    refuse_step(&t, &p, "position -1");
    p.slot[1] = BLOCKS * 32;
    refuse_step(&t, &p, "slot 64");
    p.row[0] = ROWS;
    refuse_step(&t, &p, "no row 3 for logits");
    p.row[0] = -1;
    refuse_step(&t, &p, "no row -1 for logits");
    p.b.n_rows = 0;
    refuse_step(&t, &p, "0 rows");
    p.b.n_rows = 17;
    refuse_step(&t, &p, "17 rows");
    p.b.n_seqs = 5;
    refuse_step(&t, &p, "5 sequences");
    p.b.n_logits = 5;
    refuse_step(&t, &p, "5 logits");
    p.b.max_top = OCT_MODEL_MAX_TOP + 1;
    refuse_step(&t, &p, "out of limits");

    /* Nothing of that left a trace. */
    need(oct_model_submit(t.model, &p.b, &err), &err);
    need(oct_model_submit(t.model, &p.b, &err), &err);
    assert_int_equal(oct_model_submit(t.model, &p.b, &err), OCT_E_INVALID); /* two are under way */
    for (int i = 0; i < 2; i++) need(oct_model_collect(t.model, &result, &err), &err);
    need(oct_model_read_logits(t.model, again, &err), &err);
    assert_memory_equal(logits, again, sizeof logits);
    tiny_close(&t);
}

static void a_sequence_ends_at_the_models_length(void **s) {
    (void)s;
    oct_model_options o = small;
    int32_t tokens[40] = {0};
    oct_runner *r;
    oct_err err = {0};
    tiny t;
    o.max_model_len = 40;
    need(tiny_try_open(&t, TINY_FLOAT, 1, &o, &err), &err);
    need(oct_runner_create(oct_system_allocator(), t.model, &r, &err), &err);
    need(oct_runner_feed(r, tokens, 40, &err), &err);
    assert_int_equal(oct_runner_feed(r, tokens, 1, &err), OCT_E_INVALID);
    expect_words(&err, "got 41, want at most 40");
    oct_runner_reset(r);
    need(oct_runner_feed(r, tokens, 1, &err), &err);
    oct_runner_destroy(r);
    tiny_close(&t);
}

#define WITH_FOLDER(f) cmocka_unit_test_setup_teardown(f, tiny_make_folder, tiny_remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_with_any_number_of_threads),
        cmocka_unit_test(int8_while_loading_stays_near_float),
        cmocka_unit_test(facts_of_a_loaded_model),
        cmocka_unit_test(limits_are_refused_in_words),
        WITH_FOLDER(ST10_a_missing_tensor_is_named),
        WITH_FOLDER(ST10_all_that_is_missing_is_told_at_once),
        cmocka_unit_test(a_cache_or_scheme_that_the_files_lack),
        cmocka_unit_test(bad_batches_are_refused_in_words),
        cmocka_unit_test(a_sequence_ends_at_the_models_length),
    };
    oct_log_set_level(OCT_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
