/* GGUF: the classes of rows ST1 to ST9, ST12 and ST13 for this container, and every block type
 * against recorded values. */
#include "store_test.h"

#include <sys/resource.h>

#include "quant/float_types.h"
#include "store/gguf.h"
#include "store/gguf_quants.h"

static oct_status try_open(const oct_buf *b, oct_err *err) {
    oct_gguf *g;
    *err = (oct_err){0};
    put_file("x.gguf", b->data ? b->data : "", b->len);
    const oct_status status = oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &g, err);
    oct_gguf_close(g);
    return status;
}

static void refuse(oct_buf *b, const char *word) {
    oct_err err;
    assert_int_not_equal(try_open(b, &err), OCT_OK);
    expect_text(&err, "x.gguf: ");
    expect_text(&err, word);
    oct_buf_clear(b);
}

/* Values of every kind and two tensors with data. */
static void build_good(oct_buf *b) {
    g_head(b, 3, 2, 8);
    g_key_str(b, "general.name", "small");
    g_key_u32(b, "a.u32", 7);
    g_key_f32(b, "a.f32", 0.5f);
    g_str(b, "a.bool");
    g_u32(b, 7);
    oct_buf_char(b, 1);
    g_str(b, "a.strings");
    g_u32(b, 9);
    g_u32(b, 8);
    g_u64(b, 2);
    g_str(b, "x");
    g_str(b, "");
    g_str(b, "a.ints");
    g_u32(b, 9);
    g_u32(b, 5);
    g_u64(b, 2);
    g_u32(b, 1);
    g_u32(b, (uint32_t)-2);
    g_str(b, "a.i8");
    g_u32(b, 1);
    oct_buf_char(b, (char)-5);
    g_str(b, "a.floats");
    g_u32(b, 9);
    g_u32(b, 6);
    g_u64(b, 0);
    g_tensor(b, "m", 4, 3, 0, 0);
    g_tensor(b, "q", 32, 0, 8, 64);
    g_pad(b, 32);
    for (int i = 0; i < 12; i++) {
        const float v = (float)i;
        oct_buf_add(b, &v, 4);
    }
    g_pad(b, 32);
    oct_buf_add(b, "\x00\x3c", 2);
    for (int i = 0; i < 32; i++) oct_buf_char(b, (char)(i - 16));
}

static void reads_values_and_tensors(void **state) {
    (void)state;
    oct_buf b;
    oct_gguf *g;
    uint64_t u, n;
    int64_t i;
    double d;
    bool flag;
    oct_str s;
    oct_buf_init(&b, oct_system_allocator(), 0);
    build_good(&b);
    put_file("x.gguf", b.data, b.len);
    assert_true(oct_gguf_is(in_dir("x.gguf")));
    assert_false(oct_gguf_is(in_dir("none")) || oct_gguf_is(test_dir));
    assert_int_equal(oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &g, NULL), OCT_OK);
    assert_int_equal(oct_gguf_n_values(g), 8);
    assert_true(oct_gguf_str(g, "general.name", &s) && oct_str_is(s, "small"));
    assert_true(oct_gguf_u64(g, "a.u32", &u) && u == 7);
    assert_true(oct_gguf_f64(g, "a.f32", &d) && d == 0.5);
    assert_true(oct_gguf_f64(g, "a.u32", &d) && d == 7);
    assert_true(oct_gguf_bool(g, "a.bool", &flag) && flag);
    assert_true(oct_gguf_i64(g, "a.i8", &i) && i == -5);
    assert_false(oct_gguf_u64(g, "a.i8", &u) || oct_gguf_u64(g, "a.bool", &u) ||
                 oct_gguf_u64(g, "a.ints", &u) || oct_gguf_str(g, "a.u32", &s) ||
                 oct_gguf_u64(g, "none", &u));
    /* What is not there, or of another kind, is nothing. */
    assert_false(oct_gguf_value_i64(oct_gguf_value_at(g, 0), 1u << 30, &i));
    assert_false(oct_gguf_value_f64(oct_gguf_value_at(g, 0), 1u << 30, &d));
    assert_null(oct_gguf_f32_array(g, "a.strings", &n));
    assert_null(oct_gguf_str_array(g, "general.architecture", &n));
    assert_int_equal(n, 0);
    const oct_str *strings = oct_gguf_str_array(g, "a.strings", &n);
    assert_true(strings && n == 2 && oct_str_is(strings[0], "x") && strings[1].len == 0);
    const int32_t *ints = oct_gguf_i32_array(g, "a.ints", &n);
    assert_true(ints && n == 2 && ints[1] == -2);
    assert_true(oct_gguf_f32_array(g, "a.floats", &n) && n == 0);
    assert_null(oct_gguf_f32_array(g, "a.ints", &n));
    const oct_tensor *m = oct_gguf_tensor(g, OCT_STR("m"));
    assert_true(m && m->rank == 2 && m->shape[0] == 3 && m->shape[1] == 4 && m->bytes == 48);
    const oct_tensor *q = oct_gguf_tensor(g, OCT_STR("q"));
    assert_true(q && q->dtype == OCT_DTYPE_Q8_0 && q->bytes == 34 && q->n_rows == 1);
    unsigned char raw[34];
    float y[32];
    assert_int_equal(oct_file_read(oct_gguf_file(g), q->offset, raw, 34, NULL), OCT_OK);
    oct_gguf_dequantize(q->dtype, raw, 32, y);
    for (int k = 0; k < 32; k++) assert_true(y[k] == (float)(k - 16));
    oct_gguf_close(g);
    oct_buf_fini(&b);
}

static void ST8_cut_anywhere(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    build_good(&b);
    const size_t all = b.len;
    assert_int_equal(try_open(&b, &err), OCT_OK);
    for (b.len = 0; b.len < all; b.len++) {
        assert_int_equal(try_open(&b, &err), OCT_E_CORRUPT);
        expect_text(&err, "x.gguf: ");
    }
    oct_buf_fini(&b);
}

static void every_byte_wrong(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    build_good(&b);
    for (size_t i = 0; i < b.len; i++)
        for (int bit = 0; bit < 8; bit += 7) {
            b.data[i] = (char)(b.data[i] ^ (1 << bit));
            (void)try_open(&b, &err); /* either answer; no crash, no leak, no giant allocation */
            b.data[i] = (char)(b.data[i] ^ (1 << bit));
        }
    oct_buf_fini(&b);
}

static void ST1_head(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    for (size_t n = 0; n < 8; n++) {
        oct_buf_add(&b, "GGUF\3\0\0", n);
        refuse(&b, n < 4 ? "not a GGUF file" : "incomplete download: ends inside its header");
    }
    oct_buf_cstr(&b, "GGML");
    g_pad(&b, 64);
    refuse(&b, "not a GGUF file");
    g_head(&b, 1, 0, 0);
    refuse(&b, "version 1");
    g_head(&b, 0x03000000, 0, 0);
    refuse(&b, "big-endian");
    g_head(&b, 4, 0, 0);
    refuse(&b, "version 4");
    static const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 40, 1000001};
    for (size_t i = 0; i < OCT_COUNT(counts); i++) {
        g_head(&b, 3, counts[i], 0);
        refuse(&b, "tensors in 24 bytes");
        g_head(&b, 3, 0, counts[i]);
        refuse(&b, "metadata values in 24 bytes");
    }
    g_head(&b, 2, 0, 0);
    assert_int_equal(try_open(&b, &err), OCT_OK);
    oct_buf_fini(&b);
}

/* A value whose key has these bytes. */
static void key_of(oct_buf *b, const char *key, size_t n) {
    g_head(b, 3, 0, 1);
    g_u64(b, n);
    oct_buf_add(b, key, n);
    g_u32(b, 4);
    g_u32(b, 1);
    g_pad(b, 64);
}

static void ST2_keys_and_names(void **state) {
    (void)state;
    char longest[1100];
    oct_buf b;
    memset(longest, 'k', sizeof longest);
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 0, 1);
    g_u64(&b, (uint64_t)1 << 62);
    g_pad(&b, 64);
    refuse(&b, "key of 4611686018427387904 bytes");
    key_of(&b, longest, sizeof longest);
    refuse(&b, "key of 1100 bytes");
    key_of(&b, "", 0);
    refuse(&b, "empty key");
    key_of(&b, "k\n", 2);
    refuse(&b, "control character");
    key_of(&b, "k\0k", 3);
    refuse(&b, "control character");
    key_of(&b, "k\xFF", 2);
    refuse(&b, "is not UTF-8");
    g_head(&b, 3, 0, 2);
    g_key_u32(&b, "k", 1);
    g_key_u32(&b, "k", 2);
    refuse(&b, "key k appears twice");
    const struct {
        const char *name;
        size_t n;
        const char *word;
    } names[] = {{"", 0, "empty tensor name"},
                 {"t\0", 2, "control character"},
                 {"\xC0\x80", 2, "not UTF-8"},
                 {longest, sizeof longest, "tensor name of 1100 bytes"}};
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        g_head(&b, 3, 1, 0);
        g_u64(&b, names[i].n);
        oct_buf_add(&b, names[i].name, names[i].n);
        g_pad(&b, 64);
        refuse(&b, names[i].word);
    }
    oct_buf_fini(&b);
}

static void ST3_types_of_values(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 0, 1);
    g_str(&b, "k");
    g_u32(&b, 13);
    g_pad(&b, 64);
    refuse(&b, "type 13");
    g_head(&b, 3, 0, 1);
    g_str(&b, "k");
    g_u32(&b, 9);
    g_u32(&b, 9);
    g_u64(&b, 1);
    g_pad(&b, 64);
    refuse(&b, "type 9");
    for (uint32_t type = 0; type < 13; type++) {
        if (type == 9) continue;
        g_head(&b, 3, 0, 1);
        g_str(&b, "k");
        g_u32(&b, 9);
        g_u32(&b, type);
        g_u64(&b, ((uint64_t)1 << 61) + 1);
        g_pad(&b, 64);
        refuse(&b, "elements");
    }
    g_head(&b, 3, 0, 1);
    g_str(&b, "k");
    g_u32(&b, 7);
    oct_buf_char(&b, 2);
    g_pad(&b, 64);
    refuse(&b, "bool");
    static const uint32_t alignments[] = {0, 48, 1u << 17, UINT32_MAX};
    for (size_t i = 0; i < OCT_COUNT(alignments); i++) {
        g_head(&b, 3, 0, 1);
        g_key_u32(&b, "general.alignment", alignments[i]);
        refuse(&b, "general.alignment must be a power of two");
    }
    g_head(&b, 3, 0, 1);
    g_key_str(&b, "general.alignment", "32");
    refuse(&b, "general.alignment");
    oct_buf_fini(&b);
}

/* One tensor with 64 bytes of data behind it. */
static void one_tensor(oct_buf *b, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset) {
    g_head(b, 3, 1, 0);
    g_tensor(b, "t", d0, d1, type, offset);
    g_pad(b, 32);
    for (int i = 0; i < 64; i++) oct_buf_char(b, 0);
}

static void ST3_types_of_tensors(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    one_tensor(&b, 31, 1, 2, 0);
    refuse(&b, "tensor t: its dimensions overflow or are no whole blocks of Q4_0");
    one_tensor(&b, 255, 0, 14, 0);
    refuse(&b, "no whole blocks of Q6_K");
    one_tensor(&b, 16, 0, 10, 0);
    refuse(&b, "tensor t: type Q2_K is not supported (want F32");
    one_tensor(&b, 16, 0, 39, 0);
    refuse(&b, "type MXFP4 is not supported");
    one_tensor(&b, 16, 0, 4, 0); /* a type that is no more */
    refuse(&b, "unknown type 4");
    one_tensor(&b, 16, 0, 200, 0);
    refuse(&b, "tensor t: unknown type 200");
    oct_buf_fini(&b);
}

static void ST4_shape_overflow(void **state) {
    (void)state;
    static const uint64_t most[4] = {4194305, 4194305, 211106198978564, 1};
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    one_tensor(&b, (uint64_t)1 << 63, 1, 0, 0);
    refuse(&b, "tensor t: dimension 0 is 9223372036854775808");
    one_tensor(&b, UINT64_MAX, 1, 0, 0);
    refuse(&b, "dimension 0");
    one_tensor(&b, (uint64_t)1 << 33, (uint64_t)1 << 33, 0, 0);
    refuse(&b, "overflow");
    g_head(&b, 3, 1, 0);
    g_str(&b, "t");
    g_u32(&b, 4);
    for (int d = 0; d < 4; d++) g_u64(&b, most[d]); /* wraps to 4 */
    g_u32(&b, 24);
    g_u64(&b, 0);
    g_pad(&b, 32);
    g_u64(&b, 0);
    refuse(&b, "overflow");
    static const uint32_t ranks[] = {0, 5, 9, UINT32_MAX};
    for (size_t i = 0; i < OCT_COUNT(ranks); i++) {
        g_head(&b, 3, 1, 0);
        g_str(&b, "t");
        g_u32(&b, ranks[i]);
        for (int k = 0; k < 64; k++) oct_buf_char(&b, 1);
        refuse(&b, "dimensions (want 1 to 4)");
    }
    oct_buf_fini(&b);
}

static void ST5_offsets(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    one_tensor(&b, 16, 0, 0, 0);
    assert_int_equal(try_open(&b, &err), OCT_OK);
    oct_buf_clear(&b);
    one_tensor(&b, 16, 0, 0, 8);
    refuse(&b, "tensor t: offset 8 is not a multiple of 32");
    one_tensor(&b, 16, 0, 0, 32);
    refuse(&b, "tensor t: incomplete download: ends at byte 96 of the data, which has 64");
    one_tensor(&b, 16, 0, 0, UINT64_MAX - 31);
    refuse(&b, "incomplete download");
    one_tensor(&b, 17, 0, 0, 0);
    refuse(&b, "incomplete download");
    oct_buf_fini(&b);
}

/* Two tensors of 32 bytes each at these offsets, with `bytes` of data behind them. */
static void two_tensors(oct_buf *b, const char *second, uint64_t at, uint64_t at2, int bytes) {
    g_head(b, 3, 2, 0);
    g_tensor(b, "t", 8, 0, 0, at);
    g_tensor(b, second, 8, 0, 0, at2);
    g_pad(b, 32);
    for (int i = 0; i < bytes; i++) oct_buf_char(b, 0);
}

static void ST6_tiling(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    one_tensor(&b, 8, 0, 0, 32);
    refuse(&b, "tensor t: a hole before it");
    two_tensors(&b, "u", 0, 64, 96);
    refuse(&b, "tensor u: a hole before it");
    two_tensors(&b, "u", 0, 0, 32); /* two names for one range */
    refuse(&b, "overlaps another tensor");
    g_head(&b, 3, 2, 0);
    g_tensor(&b, "t", 16, 0, 0, 0);
    g_tensor(&b, "u", 8, 0, 0, 32);
    g_pad(&b, 32);
    for (int i = 0; i < 64; i++) oct_buf_char(&b, 0);
    refuse(&b, "tensor u: overlaps another tensor");
    two_tensors(&b, "t", 0, 32, 64);
    refuse(&b, "tensor t appears twice");
    two_tensors(&b, "u", 0, 32, 64 + 32);
    refuse(&b, "32 bytes after the last tensor");
    oct_buf_fini(&b);
}

static void ST7_any_order_and_empty(void **state) {
    (void)state;
    oct_buf b;
    oct_err err;
    oct_buf_init(&b, oct_system_allocator(), 0);
    two_tensors(&b, "u", 32, 0, 64);
    assert_int_equal(try_open(&b, &err), OCT_OK);
    oct_buf_clear(&b);
    two_tensors(&b, "u", 0, 32, 64 + 31); /* padding to the alignment */
    assert_int_equal(try_open(&b, &err), OCT_OK);
    oct_buf_clear(&b);
    one_tensor(&b, 0, 4, 0, 0);
    refuse(&b, "tensor t: dimension 0 is 0");
    oct_buf_fini(&b);
}

static long max_rss_kib(void) {
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss;
}

static void ST9_sparse_giant(void **state) {
    (void)state;
    const off_t giant = (off_t)1 << 40;
    const long before = max_rss_kib();
    oct_buf b;
    oct_gguf *g;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 1, 0);
    g_tensor(&b, "token_embd.weight", (uint64_t)giant, 1, 24, 0);
    g_pad(&b, 32);
    put_file("x.gguf", b.data, b.len);
    if (truncate(in_dir("x.gguf"), (off_t)b.len + giant) == 0) {
        assert_int_equal(oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &g, NULL), OCT_OK);
        oct_gguf_close(g);
        assert_true(max_rss_kib() - before < 64 * 1024);
    } else {
        print_message("SKIP: no sparse file of 1 TiB here\n");
    }
    oct_buf_fini(&b);
}

static void ST12_one_part_of_many(void **state) {
    (void)state;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, 0, 1);
    g_key_u32(&b, "split.count", 2);
    refuse(&b, "one of 2 parts of a split file; merge them first");
    oct_buf_fini(&b);
}

static void ST13_changed_while_read(void **state) {
    (void)state;
    oct_buf b;
    oct_err err = {0};
    oct_gguf *g;
    float v[16];
    oct_buf_init(&b, oct_system_allocator(), 0);
    one_tensor(&b, 16, 0, 0, 0);
    put_file("x.gguf", b.data, b.len);
    assert_int_equal(oct_gguf_open(oct_system_allocator(), in_dir("x.gguf"), &g, &err), OCT_OK);
    const oct_tensor *t = oct_gguf_tensor(g, OCT_STR("t"));
    assert_int_equal(oct_file_read(oct_gguf_file(g), t->offset, v, t->bytes, &err), OCT_OK);
    assert_int_equal(truncate(in_dir("x.gguf"), (off_t)b.len - 32), 0);
    assert_int_equal(oct_file_read(oct_gguf_file(g), t->offset, v, t->bytes, &err), OCT_E_CORRUPT);
    expect_text(&err, "changed while it was read");
    err = (oct_err){0};
    assert_int_equal(oct_file_check_unchanged(oct_gguf_file(g), &err), OCT_E_CORRUPT);
    expect_text(&err, "x.gguf");
    oct_gguf_close(g);
    oct_buf_fini(&b);
}

static oct_status open_and_close(void *ctx, const oct_allocator *mem) {
    oct_gguf *g;
    const oct_status status = oct_gguf_open(mem, ctx, &g, NULL);
    oct_gguf_close(g);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    char path[512];
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    build_good(&b);
    put_file("x.gguf", b.data, b.len);
    oct_buf_fini(&b);
    snprintf(path, sizeof path, "%s", in_dir("x.gguf"));
    refuse_each_request(open_and_close, path);
}

/* The recorded blocks of tests/data/store/gguf_quants: the same bits. */
static void block_types_bit_exact(void **state) {
    (void)state;
    static const oct_dtype types[] = {OCT_DTYPE_Q4_0, OCT_DTYPE_Q4_1, OCT_DTYPE_Q5_0,
                                      OCT_DTYPE_Q5_1, OCT_DTYPE_Q8_0, OCT_DTYPE_Q4_K,
                                      OCT_DTYPE_Q5_K, OCT_DTYPE_Q6_K};
    for (size_t k = 0; k < OCT_COUNT(types); k++) {
        char path[512];
        oct_buf b;
        float want[512], got[512];
        const size_t elems = oct_dtype_block_elems(types[k]), n = elems == 32 ? 256 : 512;
        const size_t raw = n / elems * oct_dtype_block_bytes(types[k]);
        snprintf(path, sizeof path, "%s/store/gguf_quants/%s.bin", OCT_TEST_DATA,
                 oct_dtype_name(types[k]));
        oct_buf_init(&b, oct_system_allocator(), 0);
        assert_int_equal(oct_file_read_small(oct_system_allocator(), path, 1 << 20, &b, NULL),
                         OCT_OK);
        assert_int_equal(b.len, raw + n * sizeof(float));
        memcpy(want, b.data + raw, n * sizeof(float));
        oct_gguf_dequantize(types[k], b.data, n, got);
        for (size_t i = 0; i < n; i++)
            if (oct_f32_bits(want[i]) != oct_f32_bits(got[i])) {
                print_error("%s element %zu: got %.9g, want %.9g\n", oct_dtype_name(types[k]), i,
                            (double)got[i], (double)want[i]);
                fail();
            }
        oct_buf_fini(&b);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(reads_values_and_tensors),
        TEST(ST1_head),
        TEST(ST2_keys_and_names),
        TEST(ST3_types_of_values),
        TEST(ST3_types_of_tensors),
        TEST(ST4_shape_overflow),
        TEST(ST5_offsets),
        TEST(ST6_tiling),
        TEST(ST7_any_order_and_empty),
        TEST(ST8_cut_anywhere),
        TEST(ST9_sparse_giant),
        TEST(ST12_one_part_of_many),
        TEST(ST13_changed_while_read),
        TEST(every_byte_wrong),
        TEST(every_allocation_may_fail),
        TEST(block_types_bit_exact),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
