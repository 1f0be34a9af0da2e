/*
 * test_device_queue.c - the CPU device with a thread that runs what calls only queue: order, late
 * errors, and calls that must not run beside it. And the operation that feeds a step from another.
 */
#include "cpu_fixture.h"

#include "base/clock.h"

static fixture open_queued(unsigned n_threads) {
    fixture f = {NULL, NULL};
    oct_err err = {.code = OCT_OK};
    const oct_device_options o = {.n_threads = n_threads, .bind_threads = 2, .overlap = true};
    if (oct_device_open(oct_system_allocator(), "cpu", &o, &f.d, &err) != OCT_OK)
        fail_msg("%s", err.text);
    assert_true(oct_device_can_overlap(f.d));
    assert_int_equal(f.d->ops->stream_create(f.d->dev, &f.s), 0);
    return f;
}

static octet_act_op relu(octet_ref x, octet_ref out) {
    return (octet_act_op){.struct_bytes = sizeof(octet_act_op),
                          .kind = OCTET_ACT_RELU,
                          .n_rows = 1,
                          .width = 4,
                          .x = {x, 4},
                          .out = {out, 4}};
}

/* ---- order ---- */

static void many_commands_run_in_their_order(void **st) {
    (void)st;
    fixture f = open_queued(2);
    enum { N = 20000 }; /* the ring goes round some times */
    int32_t want = 0, got = -1;
    const octet_ref a = put(&f, NULL, 64), b = put(&f, NULL, 64);
    static int32_t values[N];
    for (int32_t i = 0; i < N; i++) {
        values[i] = i * 7;
        good(&f, f.d->ops->write(f.s, i % 2 ? a : b, &values[i], 4));
        if (i % 3 == 0) good(&f, f.d->ops->copy(f.s, a, b, 4));
        if (i % 2) want = values[i];
        if (i % 3 == 0) want = values[i - i % 2];
    }
    good(&f, f.d->ops->read(f.s, &got, a, 4));
    good(&f, f.d->ops->stream_wait(f.s));
    assert_int_equal(got, want);
    finish(&f);
}

static void a_call_returns_before_its_operation_ran(void **st) {
    (void)st;
    fixture f = open_queued(1);
    const uint64_t bytes = 64u << 20;
    const octet_ref big = put(&f, NULL, bytes);
    const uint64_t begin = oct_now_ns();
    for (int i = 0; i < 10; i++) good(&f, f.d->ops->fill(f.s, big, (uint8_t)i, bytes));
    const uint64_t queued = oct_now_ns() - begin;
    good(&f, f.d->ops->stream_wait(f.s));
    const uint64_t done = oct_now_ns() - begin;
    assert_true(queued * 4 < done);
    finish(&f);
}

/* ---- late errors ---- */

static void late_errors_are_told_by_waits(void **st) {
    (void)st;
    fixture f = open_queued(1);
    const float x[4] = {-1, 2, -3, 4}, zero[4] = {0}, relued[4] = {0, 2, 0, 4};
    float got[4];
    octet_event *before, *after;
    good(&f, f.d->ops->event_create(f.d->dev, &before));
    good(&f, f.d->ops->event_create(f.d->dev, &after));
    const octet_ref in = put(&f, x, sizeof x), out = put(&f, NULL, sizeof x);
    octet_act_op op = relu(in, out), broken = relu(in, (octet_ref){99, 0});
    good(&f, f.d->ops->event_record(f.s, before));
    good(&f, f.d->ops->act(f.s, &broken)); /* only queued: nothing to complain of yet */
    good(&f, f.d->ops->act(f.s, &op));
    good(&f, f.d->ops->event_record(f.s, after));
    good(&f, f.d->ops->event_wait(before)); /* the mark lies before the fault */
    bad(&f, f.d->ops->event_wait(after), OCT_E_INVALID, "not a buffer of this device");
    good(&f, f.d->ops->act(f.s, &op)); /* dropped as well, until stream_wait has told */
    bad(&f, f.d->ops->stream_wait(f.s), OCT_E_INVALID, "not a buffer of this device");
    memset(got, 1, sizeof got);
    good(&f, f.d->ops->read(f.s, got, out, sizeof got));
    good(&f, f.d->ops->stream_wait(f.s));
    assert_memory_equal(got, zero, sizeof got);
    good(&f, f.d->ops->act(f.s, &op));
    good(&f, f.d->ops->read(f.s, got, out, sizeof got));
    good(&f, f.d->ops->stream_wait(f.s));
    assert_memory_equal(got, relued, sizeof got);
    f.d->ops->event_destroy(before);
    f.d->ops->event_destroy(after);
    finish(&f);
}

static void calls_that_are_no_commands_wait(void **st) {
    (void)st;
    fixture f = open_queued(2);
    const uint64_t bytes = 8u << 20;
    unsigned char last = 0;
    for (int i = 0; i < 40; i++) { /* handles move while what is queued reads their table */
        const octet_ref r = put(&f, NULL, bytes);
        good(&f, f.d->ops->fill(f.s, r, (uint8_t)(i + 1), bytes));
        good(&f, f.d->ops->read(f.s, &last, (octet_ref){r.buffer, bytes - 1}, 1));
        f.d->ops->buffer_destroy(f.d->dev, r.buffer);
        assert_int_equal(last, i + 1);
    }
    finish(&f);
}

static void a_weight_is_written_when_its_call_returns(void **st) {
    (void)st;
    fixture f = open_queued(2);
    const octet_weight_desc desc = {
        .struct_bytes = sizeof desc, .dtype = OCTET_F32, .n = 2, .k = 4};
    const float rows[8] = {1, 2, 3, 4, 5, 6, 7, 8}, x[4] = {1, 0, 1, 0};
    const octet_weight_rows r = {.struct_bytes = sizeof r, .n_rows = 2, .data = rows};
    octet_weight w;
    float got[2];
    good(&f, f.d->ops->weight_create(f.d->dev, &desc, &w));
    good(&f, f.d->ops->weight_write(f.d->dev, w, &r));
    bad(&f, f.d->ops->weight_write(f.d->dev, 77, &r), OCT_E_INVALID, "weight");
    const octet_linear_op op = {.struct_bytes = sizeof op,
                                .n_rows = 1,
                                .weight = w,
                                .x = {put(&f, x, sizeof x), 4},
                                .out = {put(&f, NULL, sizeof got), 2}};
    good(&f, f.d->ops->linear(f.s, &op));
    good(&f, f.d->ops->read(f.s, got, op.out.data, sizeof got));
    good(&f, f.d->ops->stream_wait(f.s));
    assert_true(got[0] == 4 && got[1] == 12);
    f.d->ops->weight_destroy(f.d->dev, w);
    finish(&f);
}

static void a_graph_may_be_destroyed_behind_its_replay(void **st) {
    (void)st;
    fixture f = open_queued(1);
    const float x[4] = {-1, 2, -3, 4}, relued[4] = {0, 2, 0, 4};
    float got[4];
    const octet_ref in = put(&f, x, sizeof x), out = put(&f, NULL, sizeof x);
    const octet_act_op op = relu(in, out);
    octet_graph *g;
    good(&f, f.d->ops->capture_begin(f.s));
    good(&f, f.d->ops->act(f.s, &op));
    good(&f, f.d->ops->capture_end(f.s, &g));
    good(&f, f.d->ops->replay(f.s, g));
    f.d->ops->graph_destroy(g);
    good(&f, f.d->ops->read(f.s, got, out, sizeof got));
    good(&f, f.d->ops->stream_wait(f.s));
    assert_memory_equal(got, relued, sizeof got);
    finish(&f);
}

static void a_stream_may_go_with_work_in_it(void **st) {
    (void)st;
    fixture f = open_queued(2);
    const octet_ref big = put(&f, NULL, 1 << 20);
    for (int i = 0; i < 500; i++) good(&f, f.d->ops->fill(f.s, big, 1, 1 << 20));
    finish(&f);
}

/* ---- feed ---- */

static void feed_takes_tokens_from_where_they_were_drawn(void **st) {
    (void)st;
    fixture f = open_with(1);
    const octet_sample_out drawn[3] = {{.token = 7}, {.token = -1}, {.token = 99}};
    const int32_t ids[5] = {1, 2, 3, 4, 5};
    int32_t from[5] = {-1, 0, 1, 2, -1}, got[5];
    octet_feed_op op = {.struct_bytes = sizeof op,
                        .n_rows = 5,
                        .n_drawn = 3,
                        .n_vocab = 50,
                        .ids = put(&f, ids, sizeof ids),
                        .from = put(&f, from, sizeof from),
                        .drawn = put(&f, drawn, sizeof drawn)};
    good(&f, f.d->ops->feed(f.s, &op));
    get(&f, got, op.ids, sizeof got);
    const int32_t want[5] = {1, 7, 0, 0, 5}; /* no token, or none of the vocabulary: 0 */
    assert_memory_equal(got, want, sizeof want);
    op.n_drawn = 2;
    bad(&f, f.d->ops->feed(f.s, &op), OCT_E_INVALID, "nothing drawn at 2");
    op.n_drawn = 4;
    bad(&f, f.d->ops->feed(f.s, &op), OCT_E_INVALID, "feed: drawn");
    op.struct_bytes = 8;
    bad(&f, f.d->ops->feed(f.s, &op), OCT_E_INVALID, "struct too small");
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_commands_run_in_their_order),
        cmocka_unit_test(a_call_returns_before_its_operation_ran),
        cmocka_unit_test(late_errors_are_told_by_waits),
        cmocka_unit_test(calls_that_are_no_commands_wait),
        cmocka_unit_test(a_weight_is_written_when_its_call_returns),
        cmocka_unit_test(a_graph_may_be_destroyed_behind_its_replay),
        cmocka_unit_test(a_stream_may_go_with_work_in_it),
        cmocka_unit_test(feed_takes_tokens_from_where_they_were_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
