/* One safetensors file: every row ST1 to ST9, ST13 of the bad-input list, and the writer. */
#include "store_test.h"

#include <sys/resource.h>

#include "store/safetensors.h"
#include "store/safetensors_writer.h"

static const char good[] = "{\"a\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[2,6]}}";
static const unsigned char six[] = {0x7f, 0x80, 0, 0, 0xc0, 0x3f};

/* Opens and closes; the sentence goes to err. */
static oct_status try_open(const char *name, oct_err *err) {
    oct_safetensors *st;
    *err = (oct_err){0};
    const oct_status status = oct_safetensors_open(oct_system_allocator(), in_dir(name), &st, err);
    assert_true((status == OCT_OK) == (st != NULL));
    if (status != OCT_OK) assert_true(err->text[0] != '\0');
    oct_safetensors_close(st);
    return status;
}

static void refuse(const char *header, size_t data_bytes, const char *word) {
    static const unsigned char zeros[256];
    oct_err err;
    assert_true(data_bytes <= sizeof zeros);
    put_safetensors("x.safetensors", header, zeros, data_bytes);
    const oct_status status = try_open("x.safetensors", &err);
    if (status == OCT_OK) print_error("accepted: %s\n", header);
    assert_int_not_equal(status, OCT_OK);
    expect_text(&err, "x.safetensors: ");
    expect_text(&err, word);
}

static void reads_the_vector_of_the_format_page(void **state) {
    (void)state;
    oct_safetensors *st;
    char padded[128];
    signed char a[2];
    float b;
    snprintf(padded, sizeof padded, "%-112s", good);
    put_safetensors("x.safetensors", padded, six, sizeof six);
    assert_int_equal(
        oct_safetensors_open(oct_system_allocator(), in_dir("x.safetensors"), &st, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_n(st), 2);
    const oct_tensor *ta = oct_safetensors_find(st, OCT_STR("a"));
    const oct_tensor *tb = oct_safetensors_find(st, OCT_STR("b"));
    assert_non_null(ta);
    assert_non_null(tb);
    assert_null(oct_safetensors_find(st, OCT_STR("c")));
    assert_int_equal(ta->dtype, OCT_DTYPE_I8);
    assert_int_equal(tb->rank, 0);
    assert_int_equal(oct_safetensors_read(st, ta, a, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_read(st, tb, &b, NULL), OCT_OK);
    assert_true(a[0] == 127 && a[1] == -128 && b == 1.5f);
    oct_safetensors_close(st);
}

static void ST1_length_field(void **state) {
    (void)state;
    oct_err err;
    static const char *words[] = {"incomplete download", "header length"};
    for (size_t n = 0; n < 8; n++) {
        put_file("x.safetensors", "\2\0\0\0\0\0\0", n);
        assert_int_equal(try_open("x.safetensors", &err), OCT_E_CORRUPT);
        expect_text(&err, words[0]);
    }
    const uint64_t lengths[] = {0, 1, 100000001, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7, 3};
    for (size_t i = 0; i < OCT_COUNT(lengths); i++) {
        unsigned char bytes[10] = {0};
        memcpy(bytes, &lengths[i], 8);
        memcpy(bytes + 8, "{}", 2);
        put_file("x.safetensors", bytes, sizeof bytes);
        assert_int_equal(try_open("x.safetensors", &err), OCT_E_CORRUPT);
        expect_text(&err, lengths[i] == 3 ? words[0] : words[1]);
    }
    put_text("x.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n");
    assert_int_equal(try_open("x.safetensors", &err), OCT_E_CORRUPT);
    expect_text(&err, "git-lfs pointer");
}

static void ST2_header_text(void **state) {
    (void)state;
    oct_buf b;
    refuse("[1]", 0, "does not begin with '{'");
    refuse(" {}", 0, "does not begin with '{'");
    refuse("{}x", 0, "byte");
    refuse("{\"a\":", 0, "byte");
    refuse("{\"\xff\":1}", 0, "UTF-8");
    refuse("{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "name of 0 bytes");
    static const char *const narrow[] = {"F4", "F6_E2M3", "F6_E3M2"};
    for (size_t i = 0; i < OCT_COUNT(narrow); i++) {
        char header[128], word[64];
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,1]}}", narrow[i]);
        snprintf(word, sizeof word, "dtype %s is not supported", narrow[i]);
        refuse(header, 1, word);
    }
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,-1]}}", 1,
           "data_offsets must be two whole numbers");
    refuse("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "byte");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
           "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
           1, "duplicate");
    refuse("{\"a\":[[[[[[[[[[1]]]]]]]]]]}", 0, "byte");
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, "{\"");
    for (int i = 0; i < 4097; i++) oct_buf_char(&b, 'n');
    oct_buf_cstr(&b, "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}");
    refuse(oct_buf_cs(&b), 1, "name of 4097 bytes");
    oct_buf_clear(&b);
    oct_buf_cstr(&b, "{\"a\":{}");
    for (int i = 0; i < 1000002; i++) oct_buf_cstr(&b, ",\"a\":{}");
    oct_buf_char(&b, '}');
    refuse(oct_buf_cs(&b), 0, "more than 1000000 tensors");
    oct_buf_fini(&b);
}

static void ST3_fields(void **state) {
    (void)state;
    refuse("{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "tensor a: dtype");
    refuse("{\"a\":{\"dtype\":null,\"shape\":[],\"data_offsets\":[0,1]}}", 1, "tensor a: dtype");
    refuse("{\"a\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,1]}}", 1, "tensor a: dtype");
    refuse("{\"a\":{\"dtype\":\"I9\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "\"I9\"");
    refuse("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "F4");
    refuse("{\"a\":{\"dtype\":\"Q4_0\",\"shape\":[32],\"data_offsets\":[0,18]}}", 18, "unknown");
    refuse("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "shape");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":null,\"data_offsets\":[0,1]}}", 1, "shape");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}", 1, "shape");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 1, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,1]}}", 1, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[\"0\",1]}}", 1, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0.0,1]}}", 1, "data_offsets");
    refuse("{\"a\":7}", 1, "tensor a");
    refuse("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__.k");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__");
}

static void ST4_shape_overflow(void **state) {
    (void)state;
    static const char form[] = "{\"a\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[0,4]}}";
    static const char *const shapes[] = {"-1",
                                         "1.5",
                                         "4.0",
                                         "9223372036854775808",
                                         "1,1,1,1,1,1,1,1,1",
                                         "4194305,4194305,211106198978564",
                                         "4611686018427387904,4",
                                         "9223372036854775807,9223372036854775807,0",
                                         "\"4\""};
    char header[256];
    for (size_t i = 0; i < OCT_COUNT(shapes); i++) {
        snprintf(header, sizeof header, form, i == 5 ? "U8" : "F32", shapes[i]);
        refuse(header, 4, "");
    }
    snprintf(header, sizeof header, form, "U8", shapes[5]);
    refuse(header, 4, "tensor a: the product of its dimensions overflows");
}

static void ST5_offsets(void **state) {
    (void)state;
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,1]}}", 4, "after its end");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}}", 4, "incomplete");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[9223372036854775803,"
           "9223372036854775807]}}",
           4, "incomplete");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "differ");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-4,0]}}", 4, "data_offsets");
}

static void ST6_tiling(void **state) {
    (void)state;
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
           3, "tensor b: overlaps");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}",
           5, "tensor b: a hole");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "a hole");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 3, "after the last");
    refuse("{}", 1, "after the last");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
           2, "overlaps");
}

static void ST7_empty_scalar_and_any_order(void **state) {
    (void)state;
    oct_err err;
    put_safetensors("x.safetensors",
                    "{\"z\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[4,6]},"
                    "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                    "\"__metadata__\":{\"format\":\"pt\"},"
                    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}  ",
                    six, 6);
    assert_int_equal(try_open("x.safetensors", &err), OCT_OK);
}

static void ST8_cut_anywhere(void **state) {
    (void)state;
    oct_err err;
    char all[256];
    const uint64_t n = strlen(good);
    memcpy(all, &n, 8);
    memcpy(all + 8, good, n);
    memcpy(all + 8 + n, six, sizeof six);
    for (size_t cut = 0; cut < 8 + n + sizeof six; cut++) {
        put_file("x.safetensors", all, cut);
        assert_int_equal(try_open("x.safetensors", &err), OCT_E_CORRUPT);
        expect_text(&err, "x.safetensors: ");
        if (cut < 8 + n) expect_text(&err, "incomplete download: have");
    }
    put_file("x.safetensors", all, 8 + n + sizeof six);
    assert_int_equal(try_open("x.safetensors", &err), OCT_OK);
}

static long max_rss_kib(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void ST9_sparse_giant(void **state) {
    (void)state;
    oct_err err;
    oct_safetensors *st;
    const long before = max_rss_kib();
    put_safetensors("x.safetensors",
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[1099511627776],"
                    "\"data_offsets\":[0,1099511627776]}}",
                    "", 0);
    struct stat info;
    assert_int_equal(stat(in_dir("x.safetensors"), &info), 0);
    if (truncate(in_dir("x.safetensors"), info.st_size + ((off_t)1 << 40)) != 0) {
        print_message("SKIP: no sparse file of 1 TiB here\n");
        return;
    }
    assert_int_equal(
        oct_safetensors_open(oct_system_allocator(), in_dir("x.safetensors"), &st, &err), OCT_OK);
    oct_safetensors_close(st);
    assert_true(max_rss_kib() - before < 64 * 1024);
}

static void ST13_shortened_or_replaced_while_read(void **state) {
    (void)state;
    oct_err err = {0};
    oct_safetensors *st;
    unsigned char bytes[4096] = {0};
    put_safetensors("x.safetensors",
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4096],\"data_offsets\":[0,4096]}}", bytes,
                    sizeof bytes);
    const char *path = in_dir("x.safetensors");
    assert_int_equal(oct_safetensors_open(oct_system_allocator(), path, &st, &err), OCT_OK);
    assert_int_equal(oct_file_check_unchanged(oct_safetensors_file(st), &err), OCT_OK);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(oct_safetensors_read(st, oct_safetensors_at(st, 0), bytes, &err),
                     OCT_E_CORRUPT);
    expect_text(&err, "changed while it was read");
    err = (oct_err){0};
    assert_int_equal(oct_file_check_unchanged(oct_safetensors_file(st), &err), OCT_E_CORRUPT);
    oct_safetensors_close(st);
}

static void CF8_no_fifo_folder_or_device(void **state) {
    (void)state;
    oct_err err;
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(mkdir(in_dir("folder"), 0700), 0);
    assert_int_equal(symlink("/dev/zero", in_dir("zero")), 0);
    assert_int_equal(try_open("fifo", &err), OCT_E_IO);
    expect_text(&err, "not a regular file");
    assert_int_equal(try_open("folder", &err), OCT_E_IO);
    assert_int_equal(try_open("zero", &err), OCT_E_IO);
    expect_text(&err, "not a regular file");
    assert_int_equal(try_open("absent", &err), OCT_E_IO);
    expect_text(&err, "No such file");
    put_safetensors("x.safetensors", good, six, sizeof six);
    assert_int_equal(symlink("x.safetensors", in_dir("link")), 0);
    assert_int_equal(try_open("link", &err), OCT_OK);
}

static oct_status open_and_close(void *ctx, const oct_allocator *mem) {
    oct_safetensors *st;
    const oct_status status = oct_safetensors_open(mem, ctx, &st, NULL);
    oct_safetensors_close(st);
    return status;
}

static void every_allocation_may_fail(void **state) {
    char path[512];
    (void)state;
    put_safetensors("x.safetensors", good, six, sizeof six);
    snprintf(path, sizeof path, "%s", in_dir("x.safetensors"));
    refuse_each_request(open_and_close, path);
}

static void writer_makes_what_the_reader_reads(void **state) {
    (void)state;
    const oct_allocator *mem = oct_system_allocator();
    oct_safetensors_writer *w;
    oct_safetensors *st;
    const uint64_t shape[2] = {3, 2};
    const float f[6] = {1, 2, 3, 4, 5, 6};
    const signed char q[3] = {-128, 0, 127};
    float back[6];
    assert_int_equal(oct_safetensors_writer_create(mem, &w, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("q\"\n"), OCT_DTYPE_I8, 1, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("f"), OCT_DTYPE_F32, 2, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("bf"), OCT_DTYPE_BF16, 0, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_meta(w, OCT_STR("format"), OCT_STR("pt"), NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("out.safetensors"), NULL), OCT_OK);
    assert_int_equal(access(in_dir("out.safetensors"), F_OK), -1);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("q\"\n"), 0, q, 3, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("f"), 8, f + 2, 16, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_finish(w, NULL), OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("f"), 0, f, 8, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("bf"), 0, "\x80\x3f", 2, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("bf"), 2, "x", 1, NULL),
                     OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("no"), 0, "x", 1, NULL),
                     OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_finish(w, NULL), OCT_OK);
    const uint64_t bytes = oct_safetensors_writer_file_bytes(w);
    oct_safetensors_writer_destroy(w);

    assert_int_equal(oct_safetensors_open(mem, in_dir("out.safetensors"), &st, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_file(st)->size, bytes);
    const oct_tensor *t = oct_safetensors_find(st, OCT_STR("f"));
    assert_non_null(t);
    assert_int_equal(t->offset % 8, 0);
    assert_ptr_equal(oct_safetensors_at(st, 0), t); /* widest first */
    assert_int_equal(oct_safetensors_read(st, t, back, NULL), OCT_OK);
    assert_memory_equal(back, f, sizeof f);
    assert_non_null(oct_safetensors_find(st, OCT_STR("q\"\n")));
    oct_safetensors_close(st);
}

static void writer_refuses_and_leaves_nothing(void **state) {
    (void)state;
    const oct_allocator *mem = oct_system_allocator();
    const uint64_t shape[1] = {1};
    oct_safetensors_writer *w;
    assert_int_equal(oct_safetensors_writer_create(mem, &w, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), OCT_DTYPE_Q4_0, 1, shape, NULL),
                     OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), OCT_DTYPE_U8, 1, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("left.safetensors"), NULL), OCT_OK);
    oct_safetensors_writer_destroy(w);
    char command[128];
    snprintf(command, sizeof command, "ls '%s' | grep -q left", test_dir);
    assert_int_not_equal(system(command), 0);
    assert_int_equal(oct_safetensors_writer_create(mem, &w, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), OCT_DTYPE_U8, 1, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), OCT_DTYPE_U8, 1, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("twice"), NULL), OCT_E_INVALID);
    oct_safetensors_writer_destroy(w);
}

static void writer_replaces_only_files(void **state) {
    (void)state;
    const uint64_t shape[1] = {1};
    struct stat there;
    oct_safetensors_writer *w;
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(oct_safetensors_writer_create(oct_system_allocator(), &w, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), OCT_DTYPE_U8, 1, shape, NULL),
                     OCT_OK);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("fifo"), NULL), OCT_E_IO);
    oct_safetensors_writer_destroy(w);
    assert_int_equal(stat(in_dir("fifo"), &there), 0);
    assert_true(S_ISFIFO(there.st_mode));
}

static oct_safetensors_writer *writer_of(oct_dtype dtype, uint64_t n, const char *second) {
    oct_safetensors_writer *w;
    assert_int_equal(oct_safetensors_writer_create(oct_system_allocator(), &w, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("a"), dtype, 1, &n, NULL), OCT_OK);
    if (second)
        assert_int_equal(oct_safetensors_writer_add(w, oct_str_of(second), dtype, 1, &n, NULL),
                         OCT_OK);
    return w;
}

/* What no reader of ours would take is not written, and what the system refuses is told. */
static void writer_has_the_limits_of_the_reader(void **state) {
    (void)state;
    static const uint64_t shape[OCT_TENSOR_MAX_RANK + 1] = {1, 1};
    const uint64_t huge[2] = {UINT64_MAX, 3}, far = (uint64_t)1 << 61;
    static char name[OCT_TENSOR_MAX_NAME + 1];
    const oct_str names[] = {{name, sizeof name}, {name, 0}};
    oct_err err = {0};
    memset(name, 'n', sizeof name);
    oct_safetensors_writer *w = writer_of(OCT_DTYPE_U8, 1, NULL);
    for (size_t i = 0; i < OCT_COUNT(names); i++)
        assert_int_equal(oct_safetensors_writer_add(w, names[i], OCT_DTYPE_U8, 1, shape, NULL),
                         OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("r"), OCT_DTYPE_U8,
                                                OCT_TENSOR_MAX_RANK + 1, shape, NULL),
                     OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_add(w, OCT_STR("h"), OCT_DTYPE_U8, 2, huge, &err),
                     OCT_E_INVALID);
    expect_text(&err, "tensor h: too large");
    err = (oct_err){0};
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("no/folder"), &err), OCT_E_IO);
    expect_text(&err, "No such file");
    oct_safetensors_writer_destroy(w);
    w = writer_of(OCT_DTYPE_U8, far, "b");
    err = (oct_err){0};
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("x"), &err), OCT_E_INVALID);
    expect_text(&err, "x: too large");
    oct_safetensors_writer_destroy(w);
    w = writer_of(OCT_DTYPE_U8, far, NULL); /* no file system holds this */
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("x"), NULL), OCT_E_IO);
    oct_safetensors_writer_destroy(w);
    w = writer_of(OCT_DTYPE_U8, 1, NULL);
    assert_int_equal(oct_safetensors_writer_begin(w, in_dir("x"), NULL), OCT_OK);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("a"), UINT64_MAX, "v", 1, NULL),
                     OCT_E_INVALID);
    assert_int_equal(oct_safetensors_writer_write(w, OCT_STR("a"), 0, "v", 1, NULL), OCT_OK);
    assert_int_equal(mkdir(in_dir("x"), 0700), 0); /* a folder came into its place */
    err = (oct_err){0};
    assert_int_equal(oct_safetensors_writer_finish(w, &err), OCT_E_IO);
    expect_text(&err, "directory");
    oct_safetensors_writer_destroy(w);
    oct_safetensors_writer_destroy(NULL);
}

static oct_status write_some(void *ctx, const oct_allocator *mem) {
    oct_safetensors_writer *w;
    const uint64_t n = 3;
    char name[16];
    oct_status st = oct_safetensors_writer_create(mem, &w, NULL);
    if (st == OCT_OK) st = oct_safetensors_writer_meta(w, OCT_STR("format"), OCT_STR("pt"), NULL);
    if (st == OCT_OK) st = oct_safetensors_writer_meta(w, OCT_STR("a"), OCT_STR("b"), NULL);
    for (int i = 0; st == OCT_OK && i < 70; i++) {
        snprintf(name, sizeof name, "t%d", i);
        st = oct_safetensors_writer_add(w, oct_str_of(name), OCT_DTYPE_I8, 1, &n, NULL);
    }
    if (st == OCT_OK) st = oct_safetensors_writer_begin(w, ctx, NULL);
    for (int i = 0; st == OCT_OK && i < 70; i++) {
        snprintf(name, sizeof name, "t%d", i);
        st = oct_safetensors_writer_write(w, oct_str_of(name), 0, "abc", 3, NULL);
    }
    if (st == OCT_OK) st = oct_safetensors_writer_finish(w, NULL);
    oct_safetensors_writer_destroy(w);
    return st;
}

static void every_allocation_of_the_writer_may_fail(void **state) {
    (void)state;
    char path[512];
    oct_safetensors *st;
    snprintf(path, sizeof path, "%s", in_dir("w.safetensors"));
    refuse_each_request(write_some, path);
    assert_int_equal(oct_safetensors_open(oct_system_allocator(), path, &st, NULL), OCT_OK);
    assert_int_equal(oct_safetensors_n(st), 70);
    oct_safetensors_close(st);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(reads_the_vector_of_the_format_page),
        TEST(ST1_length_field),
        TEST(ST2_header_text),
        TEST(ST3_fields),
        TEST(ST4_shape_overflow),
        TEST(ST5_offsets),
        TEST(ST6_tiling),
        TEST(ST7_empty_scalar_and_any_order),
        TEST(ST8_cut_anywhere),
        TEST(ST9_sparse_giant),
        TEST(ST13_shortened_or_replaced_while_read),
        TEST(CF8_no_fifo_folder_or_device),
        TEST(every_allocation_may_fail),
        TEST(writer_makes_what_the_reader_reads),
        TEST(writer_refuses_and_leaves_nothing),
        TEST(writer_replaces_only_files),
        TEST(writer_has_the_limits_of_the_reader),
        TEST(every_allocation_of_the_writer_may_fail),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
