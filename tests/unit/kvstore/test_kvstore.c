/* test_kvstore.c - what was written is read, bit for bit; whatever else is found is not. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "kvstore/kvstore.h"

enum { TOKENS = 4, MOST = 6, BYTES = 4096 };

static char folder[64];
static int32_t ids[MOST * TOKENS];
static unsigned char content[MOST][BYTES];

static oct_kvstore_options options(void) {
    return (oct_kvstore_options){
        .path = folder,
        .shape = {.fingerprint = {1, 2}, .block_bytes = BYTES, .block_tokens = TOKENS},
        .max_bytes = 1 << 20,
        .max_blocks = MOST,
        .n_writes = 2,
        .n_reads = 2};
}

static int make_folder(void **st) {
    (void)st;
    snprintf(folder, sizeof folder, "/tmp/octet-kvstore-XXXXXX");
    for (int i = 0; i < MOST * TOKENS; i++) ids[i] = i * 3 + 1;
    for (int b = 0; b < MOST; b++)
        for (int i = 0; i < BYTES; i++) content[b][i] = (unsigned char)(b * 31 + i * 7 + i / 256);
    return mkdtemp(folder) ? 0 : -1;
}

/* fn for every file; returns how many there are. */
static int each_file(void (*fn)(const char *path)) {
    char path[512];
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        n++;
        if (fn) fn(path);
    }
    closedir(d);
    return n;
}

static void delete_file(const char *path) { (void)unlink(path); }

static int drop_folder(void **st) {
    (void)st;
    (void)each_file(delete_file);
    return rmdir(folder);
}

static oct_kvstore *open_store(const oct_kvstore_options *o) {
    oct_kvstore *s;
    oct_err err = {0};
    if (oct_kvstore_open(oct_system_allocator(), o, &s, &err) != OCT_OK) fail_msg("%s", err.text);
    return s;
}

static oct_kvstore_stats stats(oct_kvstore *s) {
    oct_kvstore_stats n;
    oct_kvstore_get_stats(s, &n);
    return n;
}

/* Block b of the text; whether it was taken and written. */
static bool write_block(oct_kvstore *s, oct_str salt, uint32_t b) {
    oct_kvstore_job *job = oct_kvstore_take(s, true);
    if (!job) return false;
    memcpy(job->own_ids, ids, (b + 1) * TOKENS * sizeof *ids);
    job->ids = job->own_ids;
    job->salt = salt;
    job->first = b;
    job->n = 1;
    job->bytes[0] = content[b];
    oct_kvstore_put(s, job);
    assert_ptr_equal(oct_kvstore_done(s, 10000000000u), job);
    const bool good = job->n_good == 1;
    oct_kvstore_drop(s, job);
    return good;
}

static void write_all(oct_str salt) {
    const oct_kvstore_options o = options();
    oct_kvstore *s = open_store(&o);
    for (uint32_t b = 0; b < MOST; b++) assert_true(write_block(s, salt, b));
    oct_kvstore_close(s);
}

/* How many blocks of the text are told to be there and, read, are right. */
static uint32_t read_blocks(oct_kvstore *s, oct_str salt) {
    static unsigned char got[MOST][BYTES];
    oct_kvstore_key keys[MOST];
    const uint32_t n = oct_kvstore_count(s, salt, ids, 0, MOST, keys);
    if (n == 0) return 0;
    oct_kvstore_job *job = oct_kvstore_take(s, false);
    assert_non_null(job);
    job->ids = ids;
    job->salt = salt;
    job->first = 0;
    job->n = n;
    for (uint32_t i = 0; i < n; i++) job->bytes[i] = got[i];
    oct_kvstore_put(s, job);
    assert_ptr_equal(oct_kvstore_done(s, 10000000000u), job);
    const uint32_t n_good = job->n_good;
    assert_memory_equal(got, content, n_good * (size_t)BYTES);
    oct_kvstore_drop(s, job);
    return n_good;
}

static uint32_t read_all(const oct_kvstore_options *o, oct_str salt, oct_kvstore_stats *n) {
    oct_kvstore *s = open_store(o);
    const uint32_t n_good = read_blocks(s, salt);
    *n = stats(s);
    oct_kvstore_close(s);
    return n_good;
}

static void what_was_written_is_read_by_the_next(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore_stats n;
    (void)st;
    write_all((oct_str){0});
    assert_int_equal(each_file(NULL), MOST);
    assert_int_equal(read_all(&o, (oct_str){0}, &n), MOST);
    assert_int_equal(n.n_blocks, MOST);
    assert_int_equal(n.n_read, MOST);
    assert_int_equal(n.n_ignored, 0);
    assert_true(n.bytes > MOST * BYTES && n.bytes < MOST * (BYTES + 512));
}

static void KV5_salts_and_texts_are_their_own(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore_stats n;
    (void)st;
    write_all(OCT_STR("one"));
    assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
    assert_int_equal(read_all(&o, OCT_STR("two"), &n), 0);
    assert_int_equal(read_all(&o, OCT_STR("one"), &n), MOST);
    ids[2 * TOKENS]++; /* from the third block on it is another text */
    assert_int_equal(read_all(&o, OCT_STR("one"), &n), 2);
    assert_int_equal(n.n_ignored, 0);
}

static void other_models_find_nothing_and_lose_nothing(void **st) {
    oct_kvstore_stats n;
    (void)st;
    write_all((oct_str){0});
    for (int i = 0; i < 2; i++) {
        oct_kvstore_options o = options();
        o.shape.fingerprint[i]++;
        assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
        assert_int_equal(n.n_ignored, 0); /* their keys differ */
    }
    const oct_kvstore_options o = options();
    assert_int_equal(read_all(&o, (oct_str){0}, &n), MOST);
}

/* ---- damage ---- */

static long cut_to, flip_at;

static void cut_file(const char *path) { assert_int_equal(truncate(path, cut_to), 0); }

static void flip_file(const char *path) {
    unsigned char c;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &c, 1, flip_at), 1);
    c ^= 0x10;
    assert_int_equal(pwrite(fd, &c, 1, flip_at), 1);
    close(fd);
}

static void KV4_a_bit_anywhere_or_a_missing_end(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore_stats n;
    (void)st;
    /* Head, ids, first and last bytes of the block. The first block's file has one block of ids. */
    const long size = 72 + TOKENS * 4 + BYTES;
    const long at[] = {0,  8,  12, 16, 24, 32, 40, 44,   48,
                       52, 56, 64, 71, 80, 95, 96, 1000, size - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        write_all((oct_str){0});
        flip_at = at[i];
        (void)each_file(flip_file);
        assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
        assert_int_equal(n.n_ignored, 1);
        (void)each_file(delete_file);
    }
    const long ends[] = {0, 1, 71, 72, 87, 88, size - 1, size + 1};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        write_all((oct_str){0});
        cut_to = ends[i];
        (void)each_file(cut_file);
        assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
        assert_int_equal(n.n_ignored, 1);
        (void)each_file(delete_file);
    }
}

static void what_is_damaged_is_written_again(void **st) {
    const oct_kvstore_options o = options();
    (void)st;
    write_all((oct_str){0});
    flip_at = 200;
    (void)each_file(flip_file);
    oct_kvstore *s = open_store(&o);
    assert_int_equal(read_blocks(s, (oct_str){0}), 0);
    for (uint32_t b = 0; b < MOST; b++) {
        const oct_kvstore_text text = {.ids = ids, .n_blocks = b + 1};
        assert_false(oct_kvstore_has(s, &text));
        assert_true(write_block(s, (oct_str){0}, b));
        assert_true(oct_kvstore_has(s, &text));
    }
    assert_int_equal(read_blocks(s, (oct_str){0}), MOST);
    oct_kvstore_close(s);
}

static char one_name[512];
static void remember(const char *path) { snprintf(one_name, sizeof one_name, "%s", path); }

static void no_file_but_a_link_a_folder_or_a_pipe(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore_stats n;
    (void)st;
    for (int kind = 0; kind < 3; kind++) {
        oct_kvstore *s = open_store(&o);
        assert_true(write_block(s, (oct_str){0}, 0));
        (void)each_file(remember);
        assert_int_equal(unlink(one_name), 0);
        assert_int_equal(kind == 0   ? symlink("/etc/passwd", one_name)
                         : kind == 1 ? mkdir(one_name, 0700)
                                     : mkfifo(one_name, 0600),
                         0);
        assert_int_equal(read_blocks(s, (oct_str){0}), 0); /* and nobody waits for the pipe */
        oct_kvstore_close(s);
        assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
        assert_int_equal(n.n_blocks, 0);
        assert_int_equal(remove(one_name), 0);
    }
}

/* ---- the folder ---- */

static void the_bound_deletes_what_was_not_used_for_longest(void **st) {
    oct_kvstore_options o = options();
    oct_kvstore_stats n;
    char salt[16];
    (void)st;
    o.max_bytes = 10 * (BYTES + 300);
    oct_kvstore *s = open_store(&o);
    for (int i = 0; i < 40; i++) {
        snprintf(salt, sizeof salt, "s%d", i);
        assert_true(write_block(s, oct_str_of(salt), 0));
        assert_true(stats(s).bytes <= o.max_bytes);
        if (i > 0) assert_int_equal(read_blocks(s, OCT_STR("s0")), 1); /* used all the time */
    }
    assert_true(stats(s).n_deleted >= 30);
    assert_true(each_file(NULL) <= 10);
    assert_int_equal(read_blocks(s, OCT_STR("s39")), 1);
    assert_int_equal(read_blocks(s, OCT_STR("s5")), 0);
    oct_kvstore_close(s);
    /* A smaller bound holds from the beginning; files of another model go like the others. */
    o.max_bytes = 3 * (BYTES + 300);
    o.shape.fingerprint[0] = 77;
    assert_int_equal(read_all(&o, (oct_str){0}, &n), 0);
    assert_true(n.n_deleted > 0 && n.bytes <= o.max_bytes && each_file(NULL) <= 3);
}

static void reset_leaves_nothing(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore_options other = o;
    oct_kvstore_stats n;
    (void)st;
    other.shape.fingerprint[0] = 99;
    oct_kvstore *s = open_store(&other);
    assert_true(write_block(s, (oct_str){0}, 0));
    oct_kvstore_close(s);
    write_all((oct_str){0});
    s = open_store(&o);
    oct_kvstore_reset(s);
    assert_int_equal(read_blocks(s, (oct_str){0}), 0);
    assert_true(write_block(s, (oct_str){0}, 0)); /* behind the deletion */
    assert_int_equal(read_blocks(s, (oct_str){0}), 1);
    oct_kvstore_close(s);
    assert_int_equal(each_file(NULL), 2);
    assert_int_equal(read_all(&other, (oct_str){0}, &n), 1);
}

static void OS6_no_room_on_the_disk(void **st) {
    const oct_kvstore_options o = options();
    struct rlimit old, small;
    (void)st;
    oct_kvstore *s = open_store(&o);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = BYTES / 2, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_false(write_block(s, (oct_str){0}, 0));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(stats(s).n_failed, 1);
    assert_int_equal(each_file(NULL), 0);   /* nothing half-written is left */
    assert_null(oct_kvstore_take(s, true)); /* it is not asked again at once */
    oct_kvstore_close(s);
}

static void OS6_a_folder_that_cannot_be_had(void **st) {
    oct_kvstore_options o = options();
    oct_kvstore *s;
    oct_err err = {0};
    char path[96];
    (void)st;
    snprintf(path, sizeof path, "%s/no/such", folder);
    o.path = path;
    assert_int_equal(oct_kvstore_open(oct_system_allocator(), &o, &s, &err), OCT_E_IO);
    assert_null(s);
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(oct_kvstore_open(oct_system_allocator(), &o, &s, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "--kv-store"));
}

static void jobs_are_bounded(void **st) {
    const oct_kvstore_options o = options();
    oct_kvstore *s = open_store(&o);
    oct_kvstore_job *jobs[4];
    (void)st;
    for (int i = 0; i < 4; i++) assert_non_null(jobs[i] = oct_kvstore_take(s, i % 2));
    assert_null(oct_kvstore_take(s, true));
    assert_null(oct_kvstore_take(s, false));
    for (int i = 0; i < 4; i++) oct_kvstore_drop(s, jobs[i]);
    assert_null(oct_kvstore_done(s, 1000));
    oct_kvstore_close(s);
}

static void KV9_memory_is_refused(void **st) {
    const oct_kvstore_options o = options();
    (void)st;
    for (size_t at = 1; at < 12; at++) {
        oct_fault_alloc mem;
        oct_kvstore *s;
        oct_err err = {0};
        oct_fault_alloc_init(&mem, at, 1);
        const oct_status got = oct_kvstore_open(&mem.allocator, &o, &s, &err);
        assert_true(got == OCT_OK || got == OCT_E_NOMEM);
        if (got == OCT_OK) oct_kvstore_close(s);
        assert_int_equal(mem.live_blocks, 0);
    }
}

static void keys_survive_deletions(void **st) {
    const oct_allocator *mem = oct_system_allocator();
    oct_kvstore_keys k = {0};
    (void)st;
    /* Few homes, so that most stand behind others. */
    for (uint64_t i = 1; i <= 1000; i++)
        assert_true(oct_kvstore_keys_add(&k, mem, (oct_kvstore_key){{i % 7, i}}));
    for (uint64_t i = 1; i <= 1000; i += 3)
        oct_kvstore_keys_remove(&k, (oct_kvstore_key){{i % 7, i}});
    for (uint64_t i = 1; i <= 1000; i++)
        assert_int_equal(oct_kvstore_keys_has(&k, (oct_kvstore_key){{i % 7, i}}), i % 3 != 1);
    assert_int_equal(k.n, 666);
    oct_kvstore_keys_fini(&k, mem);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(what_was_written_is_read_by_the_next),
        WITH_FOLDER(KV5_salts_and_texts_are_their_own),
        WITH_FOLDER(other_models_find_nothing_and_lose_nothing),
        WITH_FOLDER(KV4_a_bit_anywhere_or_a_missing_end),
        WITH_FOLDER(what_is_damaged_is_written_again),
        WITH_FOLDER(no_file_but_a_link_a_folder_or_a_pipe),
        WITH_FOLDER(the_bound_deletes_what_was_not_used_for_longest),
        WITH_FOLDER(reset_leaves_nothing),
        WITH_FOLDER(OS6_no_room_on_the_disk),
        WITH_FOLDER(OS6_a_folder_that_cannot_be_had),
        WITH_FOLDER(jobs_are_bounded),
        WITH_FOLDER(KV9_memory_is_refused),
        cmocka_unit_test(keys_survive_deletions),
    };
    oct_log_set_level(OCT_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
