/*
 * test_cuda_device.c - the host's part of the CUDA device over the emulation: refusals, memory,
 * order, recording, and rows DV2 to DV6 of the bad inputs. What the kernels compute is judged by
 * `octet conform` over the same emulation.
 */
#include "emulated.h"

#include <cuda.h>
#include <stdio.h>

#include "quant/float_types.h"

/* ---- a life: everything once ----------------------------------------------------------------- */

enum { ROWS = 3, WIDTH = 40, VOCAB = 5 };

typedef struct life {
    oct_device *d;
    octet_stream *stream;
    octet_event *event;
    octet_graph *graph;
    octet_weight table;
    octet_buffer ids, x, weight, q, scale;
    void *pinned;
    int8_t out[ROWS * WIDTH];
} life;

/* Ends the step or the load with the code of the first call that fails. */
#define GO(call)                             \
    do {                                     \
        const int32_t code_ = (call);        \
        if (code_ != OCTET_OK) return code_; \
    } while (0)

static int32_t load(life *l) {
    const octet_device_ops *o = l->d->ops;
    octet_device *dev = l->d->dev;
    const octet_weight_desc desc = {
        .struct_bytes = sizeof desc, .dtype = OCTET_BF16, .n = VOCAB, .k = WIDTH};
    uint16_t rows[VOCAB * WIDTH];
    float ones[WIDTH];
    for (int i = 0; i < VOCAB * WIDTH; i++) rows[i] = oct_f32_to_bf16((float)(i % 37) - 11);
    for (int i = 0; i < WIDTH; i++) ones[i] = 1;
    const octet_weight_rows all = {.struct_bytes = sizeof all, .n_rows = VOCAB, .data = rows};
    GO(o->stream_create(dev, &l->stream));
    GO(o->event_create(dev, &l->event));
    GO(o->weight_create(dev, &desc, &l->table));
    GO(o->weight_write(dev, l->table, &all));
    GO(o->buffer_create(dev, ROWS * 4, &l->ids));
    GO(o->buffer_create(dev, ROWS * WIDTH * 2, &l->x));
    GO(o->buffer_create(dev, WIDTH * 4, &l->weight));
    GO(o->buffer_create(dev, ROWS * WIDTH, &l->q));
    GO(o->buffer_create(dev, ROWS * 4, &l->scale));
    l->pinned = o->host_alloc(dev, 256);
    if (!l->pinned) return OCTET_E_NOMEM;
    GO(o->write(l->stream, (octet_ref){l->weight, 0}, ones, sizeof ones));
    return o->stream_wait(l->stream);
}

static int32_t queue_operations(life *l) {
    const octet_device_ops *o = l->d->ops;
    const octet_rows x = {{l->x, 0}, WIDTH};
    const octet_embed_op embed = {.struct_bytes = sizeof embed,
                                  .n_rows = ROWS,
                                  .table = l->table,
                                  .ids = {l->ids, 0},
                                  .out = x,
                                  .scale = 1};
    const octet_norm_op norm = {
        .struct_bytes = sizeof norm,
        .kind = OCTET_NORM_RMS,
        .n_rows = ROWS,
        .width = WIDTH,
        .x = x,
        .weight = {l->weight, 0},
        .eps = 1e-5f,
        .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = {{l->q, 0}, {l->scale, 0}, WIDTH}}};
    GO(o->embed(l->stream, &embed));
    return o->norm(l->stream, &norm);
}

static int32_t record(life *l) {
    const octet_device_ops *o = l->d->ops;
    GO(o->capture_begin(l->stream));
    const int32_t code = queue_operations(l);
    const int32_t ended = o->capture_end(l->stream, &l->graph);
    return code ? code : ended;
}

static int32_t step(life *l, int32_t first) {
    const octet_device_ops *o = l->d->ops;
    const int32_t ids[ROWS] = {first, 0, 2};
    memcpy(l->pinned, ids, sizeof ids);
    GO(o->write(l->stream, (octet_ref){l->ids, 0}, l->pinned, sizeof ids));
    if (l->graph)
        GO(o->replay(l->stream, l->graph));
    else
        GO(queue_operations(l));
    GO(o->event_record(l->stream, l->event));
    GO(o->event_wait(l->event));
    GO(o->read(l->stream, l->out, (octet_ref){l->q, 0}, sizeof l->out));
    return o->stream_wait(l->stream);
}

static void end(life *l) {
    if (!l->d) return;
    const octet_device_ops *o = l->d->ops;
    const octet_buffer buffers[] = {l->ids, l->x, l->weight, l->q, l->scale};
    o->graph_destroy(l->graph);
    o->event_destroy(l->event);
    o->stream_destroy(l->stream);
    o->host_free(l->d->dev, l->pinned);
    o->weight_destroy(l->d->dev, l->table);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        o->buffer_destroy(l->d->dev, buffers[i]);
    oct_device_close(l->d);
    memset(l, 0, sizeof *l);
}

static life begun(bool recorded) {
    life l = {.d = opened()};
    assert_int_equal(load(&l), OCTET_OK);
    if (recorded) assert_int_equal(record(&l), OCTET_OK);
    return l;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void with(const char *name, const char *value, const char *words) {
    assert_int_equal(setenv(name, value, 1), 0);
    refused(words);
    unsetenv(name);
}

static void DV2_no_device(void **s) {
    (void)s;
    with("OCT_EMU_DEVICES", "0", "CUDA_ERROR_NO_DEVICE");
}

static void DV2_old_driver(void **s) {
    (void)s;
    with("OCT_EMU_DRIVER", "12040", "the CUDA driver is too old (got 12.4, want ");
}

static void DV2_unsupported_architecture(void **s) {
    (void)s;
    with("OCT_EMU_SM", "75", "has compute capability 7.5 (want 8.0 or newer)");
    with("OCT_EMU_SM", "110", "has compute capability 11.0: no kernels for it");
}

static void DV2_index_out_of_range(void **s) {
    (void)s;
    oct_err err = {.code = OCT_OK};
    oct_device *d = NULL;
    assert_int_equal(oct_device_open(oct_system_allocator(), CUDA_PLUGIN ":3", NULL, &d, &err),
                     OCT_E_DEVICE);
    assert_non_null(strstr(err.text, "no CUDA device 3 (got 1, want 0..0)"));
}

static void info_says_what_it_is(void **s) {
    (void)s;
    oct_device *d = opened();
    assert_int_equal(d->info.act_dtype, OCTET_BF16);
    assert_string_equal(d->info.name, "cuda:0 emulated GPU, sm_89");
    assert_int_equal(d->info.n_compute_units, 4);
    assert_true(d->info.mem_total_bytes == UINT64_C(1) << 33);
    oct_device_close(d);
    assert_int_equal(emu.live(), 0);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void DV3_no_memory(void **s) {
    (void)s;
    oct_device *d = opened();
    octet_buffer b = 0;
    oct_err err = {.code = OCT_OK};
    emu.set_memory(1 << 20);
    const int32_t code = d->ops->buffer_create(d->dev, 2 << 20, &b);
    assert_int_equal(code, OCTET_E_NOMEM);
    assert_int_equal(oct_device_check_memory(d, code, "KV cache", 2 << 20, &err), OCT_E_DEVICE);
    assert_non_null(strstr(err.text,
                           "no memory for KV cache (got 1048576 bytes free, want 2097152): "
                           "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"));
    assert_int_equal(b, 0);
    emu.set_memory(UINT64_C(1) << 33);
    assert_int_equal(d->ops->buffer_create(d->dev, 2 << 20, &b), OCTET_OK);
    d->ops->buffer_destroy(d->dev, b);
    oct_device_close(d);
    assert_int_equal(emu.live(), 0);
}

static void places_are_checked(void **s) {
    (void)s;
    oct_device *d = opened();
    octet_stream *st = NULL;
    octet_buffer b = 0, gone = 0;
    char byte = 0;
    assert_int_equal(d->ops->stream_create(d->dev, &st), OCTET_OK);
    assert_int_equal(d->ops->buffer_create(d->dev, 64, &gone), OCTET_OK);
    d->ops->buffer_destroy(d->dev, gone);
    assert_int_equal(d->ops->buffer_create(d->dev, 64, &b), OCTET_OK);
    assert_int_not_equal(b, gone);
    assert_int_equal(d->ops->read(st, &byte, (octet_ref){gone, 0}, 1), OCTET_E_INVALID);
    assert_int_equal(d->ops->read(st, &byte, (octet_ref){b, 64}, 1), OCTET_E_INVALID);
    assert_int_equal(d->ops->read(st, &byte, (octet_ref){b, UINT64_MAX}, 1), OCTET_E_INVALID);
    assert_non_null(strstr(d->ops->error_text(d->dev), "read: outside its buffer"));
    assert_int_equal(d->ops->read(st, &byte, (octet_ref){b, 63}, 1), OCTET_OK);
    const octet_embed_op narrow = {.struct_bytes = 8};
    assert_int_equal(d->ops->embed(st, &narrow), OCTET_E_INVALID);
    d->ops->stream_destroy(st);
    d->ops->buffer_destroy(d->dev, b);
    oct_device_close(d);
}

/* ---- order and recording --------------------------------------------------------------------- */

static void recorded_step_is_the_step(void **s) {
    (void)s;
    life direct = begun(false);
    assert_int_equal(step(&direct, 4), OCTET_OK);
    life again = begun(true);
    assert_int_equal(step(&again, 1), OCTET_OK);
    assert_memory_not_equal(direct.out, again.out, sizeof direct.out);
    assert_int_equal(step(&again, 4), OCTET_OK);
    assert_memory_equal(direct.out, again.out, sizeof direct.out);
    end(&direct);
    end(&again);
    assert_int_equal(emu.live(), 0);
}

static void transfers_are_not_recorded(void **s) {
    (void)s;
    life l = begun(true);
    const octet_device_ops *o = l.d->ops;
    octet_graph *g = NULL, *none = NULL;
    char byte = 0;
    assert_int_equal(o->capture_begin(l.stream), OCTET_OK);
    assert_int_equal(o->write(l.stream, (octet_ref){l.x, 0}, &byte, 1), OCTET_E_INVALID);
    assert_int_equal(o->read(l.stream, &byte, (octet_ref){l.x, 0}, 1), OCTET_E_INVALID);
    assert_int_equal(o->replay(l.stream, l.graph), OCTET_E_INVALID);
    assert_int_equal(o->fill(l.stream, (octet_ref){l.x, 0}, 7, 1), OCTET_OK);
    assert_int_equal(o->capture_end(l.stream, &g), OCTET_OK);
    assert_int_equal(o->capture_end(l.stream, &none), OCTET_E_INVALID);
    o->graph_destroy(g);
    end(&l);
}

static void late_error_names_the_number(void **s) {
    (void)s;
    for (int recorded = 0; recorded < 2; recorded++) {
        life l = begun(recorded != 0);
        assert_int_equal(step(&l, VOCAB), OCTET_E_INVALID);
        assert_string_equal(l.d->ops->error_text(l.d->dev), "embed: id outside the table (got 5)");
        assert_int_equal(l.d->ops->stream_wait(l.stream), OCTET_E_INVALID); /* takes it away */
        assert_int_equal(step(&l, 1), OCTET_OK);
        end(&l);
    }
}

/* ---- calls that fail ------------------------------------------------------------------------- */

/* What the device says names the function that failed. */
static void says_who(const life *l, const char *sentence) {
    const char *text = sentence ? sentence : l->d->ops->error_text(l->d->dev);
    if (!strstr(text, emu.failed())) fail_msg("got \"%s\", want %s in it", text, emu.failed());
}

/* A whole life in which the n-th call fails with `code`: false when it had fewer. */
static bool failing_life(uint64_t n, int code) {
    life l = {0};
    oct_err err = {.code = OCT_OK};
    emu.fail_after(n, code);
    int32_t got = (int32_t)open_emulated(&l.d, &err);
    const char *sentence = got ? err.text : NULL;
    if (!got) got = load(&l);
    if (!got) got = record(&l);
    if (!got) got = step(&l, 1);
    if (got) says_who(&l, sentence);
    if (got && l.d && code == CUDA_ERROR_ILLEGAL_ADDRESS)
        assert_int_equal(l.d->ops->stream_wait(l.stream ? l.stream : NULL), OCTET_E_DEVICE);
    end(&l);
    const bool happened = emu.failed()[0] != 0;
    if (emu.live())
        fail_msg("call %llu, %s: something is left", (unsigned long long)n, emu.failed());
    emu.fail_after(0, 0);
    assert_int_equal(emu.live(), 0);
    return happened;
}

static void DV4_every_call_of_a_life(void **s) {
    (void)s;
    uint64_t n = 1;
    while (failing_life(n, CUDA_ERROR_UNKNOWN)) n++;
    assert_in_range(n, 60, 1000);
    print_message("%llu calls, each failed once\n", (unsigned long long)n - 1);
}

static void DV4_next_step_works(void **s) {
    (void)s;
    for (int recorded = 0; recorded < 2; recorded++) {
        life l = begun(recorded != 0);
        int8_t want[sizeof l.out];
        assert_int_equal(step(&l, 3), OCTET_OK);
        memcpy(want, l.out, sizeof want);
        uint64_t n = 1;
        for (;; n++) {
            emu.fail_after(n, CUDA_ERROR_UNKNOWN);
            const int32_t got = step(&l, 3);
            if (!emu.failed()[0]) break;
            assert_int_equal(got, OCTET_E_DEVICE);
            says_who(&l, NULL);
            emu.fail_after(0, 0);
            memset(l.out, 0, sizeof l.out);
            assert_int_equal(step(&l, 3), OCTET_OK);
            assert_memory_equal(want, l.out, sizeof want);
        }
        assert_true(n > 5);
        emu.fail_after(0, 0);
        end(&l);
    }
}

static void DV5_lost_for_good(void **s) {
    (void)s;
    static const int codes[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_TIMEOUT,
                                CUDA_ERROR_ECC_UNCORRECTABLE};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        life l = begun(true);
        char first[200];
        emu.fail_after(3, codes[i]);
        assert_int_equal(step(&l, 1), OCTET_E_DEVICE);
        says_who(&l, NULL);
        snprintf(first, sizeof first, "%s", l.d->ops->error_text(l.d->dev));
        assert_non_null(strstr(first, "(the device is lost)"));
        for (int k = 0; k < 3; k++) {
            assert_int_equal(step(&l, 1), OCTET_E_DEVICE);
            assert_string_equal(l.d->ops->error_text(l.d->dev), first);
        }
        end(&l);
        emu.fail_after(0, 0);
        assert_int_equal(emu.live(), 0);
    }
    life l = begun(false); /* a new context is whole */
    assert_int_equal(step(&l, 1), OCTET_OK);
    end(&l);
}

/* ---- sizes beyond 32 bits -------------------------------------------------------------------- */

/* Two rows that lie more than 2^31 elements apart; the second is what a 32-bit index would miss. */
static void DV6_rows_far_apart(void **s) {
    (void)s;
    const uint64_t stride = (UINT64_C(1) << 31) + 8;
    life l = begun(false);
    const octet_device_ops *o = l.d->ops;
    octet_buffer far = 0, index = 0;
    const int32_t one = 1;
    uint16_t row[WIDTH], got[WIDTH];
    float scale[2];
    int8_t q[2 * WIDTH];
    emu.set_memory(UINT64_C(1) << 36);
    for (int i = 0; i < WIDTH; i++) row[i] = oct_f32_to_bf16((float)(i - 20));
    assert_int_equal(o->buffer_create(l.d->dev, (stride + WIDTH) * 2, &far), OCTET_OK);
    assert_int_equal(o->buffer_create(l.d->dev, 4, &index), OCTET_OK);
    assert_int_equal(o->write(l.stream, (octet_ref){index, 0}, &one, 4), OCTET_OK);
    assert_int_equal(o->write(l.stream, (octet_ref){far, stride * 2}, row, sizeof row), OCTET_OK);

    const octet_gather_op gather = {.struct_bytes = sizeof gather,
                                    .n_rows = 1,
                                    .width = WIDTH,
                                    .x = {{far, 0}, stride},
                                    .index = {index, 0},
                                    .out = {{l.x, 0}, WIDTH}};
    const octet_quantize_op quantize = {
        .struct_bytes = sizeof quantize,
        .n_rows = 2,
        .width = WIDTH,
        .x = {{far, 0}, stride},
        .quant = {.mode = OCTET_QUANT_DYNAMIC, .out = {{l.q, 0}, {l.scale, 0}, WIDTH}}};
    const octet_act_op act = {.struct_bytes = sizeof act,
                              .kind = OCTET_ACT_RELU,
                              .n_rows = 2,
                              .width = WIDTH,
                              .x = {{far, 0}, stride},
                              .out = {{far, 0}, stride}};
    assert_int_equal(o->gather(l.stream, &gather), OCTET_OK);
    assert_int_equal(o->quantize(l.stream, &quantize), OCTET_OK);
    assert_int_equal(o->act(l.stream, &act), OCTET_OK);
    assert_int_equal(o->read(l.stream, got, (octet_ref){l.x, 0}, sizeof got), OCTET_OK);
    assert_int_equal(o->read(l.stream, scale, (octet_ref){l.scale, 0}, sizeof scale), OCTET_OK);
    assert_int_equal(o->read(l.stream, q, (octet_ref){l.q, 0}, sizeof q), OCTET_OK);
    assert_int_equal(o->stream_wait(l.stream), OCTET_OK);
    assert_memory_equal(got, row, sizeof row);
    assert_true(scale[0] == 0 && scale[1] == 20.0f / 127);
    assert_int_equal(q[WIDTH], -127);
    assert_int_equal(o->read(l.stream, got, (octet_ref){far, stride * 2}, sizeof got), OCTET_OK);
    assert_int_equal(o->stream_wait(l.stream), OCTET_OK);
    for (int i = 0; i < WIDTH; i++) assert_int_equal(got[i], i < 20 ? 0 : row[i]);

    o->buffer_destroy(l.d->dev, far);
    o->buffer_destroy(l.d->dev, index);
    end(&l);
    emu.set_memory(UINT64_C(1) << 33);
    assert_int_equal(emu.live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(DV2_no_device), /* before the driver has started */
        cmocka_unit_test(DV2_old_driver),
        cmocka_unit_test(DV2_unsupported_architecture),
        cmocka_unit_test(DV2_index_out_of_range),
        cmocka_unit_test(info_says_what_it_is),
        cmocka_unit_test(DV3_no_memory),
        cmocka_unit_test(places_are_checked),
        cmocka_unit_test(recorded_step_is_the_step),
        cmocka_unit_test(transfers_are_not_recorded),
        cmocka_unit_test(late_error_names_the_number),
        cmocka_unit_test(DV4_every_call_of_a_life),
        cmocka_unit_test(DV4_next_step_works),
        cmocka_unit_test(DV5_lost_for_good),
        cmocka_unit_test(DV6_rows_far_apart),
    };
    return cmocka_run_group_tests(tests, find_emulation, NULL);
}
