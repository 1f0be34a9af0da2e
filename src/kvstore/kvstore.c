/*
 * kvstore/kvstore.c - jobs, and the thread that does them.
 *
 * Invariants
 *   K1  a job is free, the owner's, in one of the two queues, running, or done: in one place.
 *   K2  keys has only blocks that were seen in the folder, or written, under this epoch.
 *   K3  the thread alone touches the folder, so a reset that it does between two jobs leaves
 *       nothing of what was written before.
 *
 * A refused write makes the store take none for a while: a full disk is asked again every ten
 * seconds, not for each block.
 */
#include "kvstore/kvstore.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/thread.h"

static const uint64_t pause_ns = 10000000000u, wipe_again_ns = 100000000;

typedef struct queue {
    oct_kvstore_job *head, *tail;
} queue;

struct oct_kvstore {
    const oct_allocator *mem;
    oct_kvstore_options opt;
    char *path;
    int folder;
    oct_thread thread;
    oct_kvstore_job *jobs; /* [n_writes + n_reads] */
    int32_t *ids;          /* [n_writes][max_blocks * block_tokens] */
    void **bytes;          /* [n_reads][max_blocks], then [n_writes] */

    pthread_mutex_t lock;
    pthread_cond_t work, finished; /* both on the monotonic clock */
    queue reads, writes, done;
    oct_kvstore_job *free_reads, *free_writes;
    oct_kvstore_keys keys;
    oct_kvstore_stats stats;
    uint32_t epoch;
    uint64_t paused_until;
    bool closing, wipe;

    uint32_t n_out;            /* the owner's */
    uint64_t next_ignored_log; /* the thread's */
};

static void append(queue *q, oct_kvstore_job *job) {
    job->next = NULL;
    if (q->tail)
        q->tail->next = job;
    else
        q->head = job;
    q->tail = job;
}

static oct_kvstore_job *pop(queue *q) {
    oct_kvstore_job *job = q->head;
    if (!job) return NULL;
    q->head = job->next;
    if (!q->head) q->tail = NULL;
    return job;
}

/* So long from now on the clock of the conditions. */
static struct timespec in_time(uint64_t ns) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ns / 1000000000u);
    t.tv_nsec += (long)(ns % 1000000000u);
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* ---- the thread ---- */

/* One line when it begins, then whenever the number has doubled. */
static void tell_ignored(oct_kvstore *s, const char *name, oct_kvstore_found why, uint64_t n) {
    if (n < s->next_ignored_log) return;
    s->next_ignored_log = n * 2;
    oct_warn("--kv-store: %s/%s is %s and is ignored (%llu so far)", s->path, name,
             why == OCT_KVSTORE_DAMAGED ? "damaged" : "not of this text, model or version",
             (unsigned long long)n);
}

/* Blocks i and those behind it are not known to be there. */
static void forget_from(oct_kvstore *s, const oct_kvstore_job *job, uint32_t i, bool all) {
    for (; i < job->n; i++) {
        const oct_kvstore_text text = {
            .salt = job->salt, .ids = job->ids, .n_blocks = job->first + i + 1};
        const oct_kvstore_key key = oct_kvstore_key_of(&s->opt.shape, &text);
        pthread_mutex_lock(&s->lock);
        oct_kvstore_keys_remove(&s->keys, key);
        s->stats.n_blocks = s->keys.n;
        pthread_mutex_unlock(&s->lock);
        if (!all) return;
    }
}

static void read_job(oct_kvstore *s, oct_kvstore_job *job) {
    char name[OCT_KVSTORE_NAME];
    for (uint32_t i = 0; i < job->n; i++) {
        const oct_kvstore_text text = {
            .salt = job->salt, .ids = job->ids, .n_blocks = job->first + i + 1};
        oct_kvstore_name_of(&s->opt.shape, oct_kvstore_key_of(&s->opt.shape, &text), name);
        const oct_kvstore_found found =
            oct_kvstore_file_read(s->folder, name, &s->opt.shape, &text, job->bytes[i]);
        const bool bad = found == OCT_KVSTORE_DAMAGED || found == OCT_KVSTORE_FOREIGN;
        pthread_mutex_lock(&s->lock);
        const bool stale = job->epoch != s->epoch;
        s->stats.n_read += found == OCT_KVSTORE_GOOD;
        const uint64_t n_ignored = s->stats.n_ignored += bad;
        pthread_mutex_unlock(&s->lock);
        if (bad) tell_ignored(s, name, found, n_ignored);
        if (found != OCT_KVSTORE_GOOD) {
            /* Whatever damaged one may have damaged the rest: they are written again. */
            forget_from(s, job, i, bad);
            return;
        }
        if (stale) return;
        job->n_good++;
    }
}

/* Reads the folder again, making room and forgetting what is not there. */
static int scan(oct_kvstore *s, bool wipe) {
    oct_kvstore_census c;
    const int code =
        oct_kvstore_folder_scan(s->folder, s->mem, &s->opt.shape, s->opt.max_bytes, wipe, &c);
    if (code != 0) return code;
    if (wipe) oct_kvstore_keys_fini(&c.keys, s->mem); /* nor what could not be deleted */
    pthread_mutex_lock(&s->lock);
    oct_kvstore_keys_fini(&s->keys, s->mem);
    s->keys = c.keys;
    s->stats.bytes = c.bytes;
    s->stats.n_blocks = c.keys.n;
    s->stats.n_deleted += c.n_deleted;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static void tell_refused(const oct_kvstore *s, int code, uint64_t n) {
    oct_warn("--kv-store: %s: blocks cannot be written: %s (%llu so far); tried again in %u s",
             s->path, strerror(code), (unsigned long long)n, (unsigned)(pause_ns / 1000000000u));
}

static void write_job(oct_kvstore *s, oct_kvstore_job *job) {
    char name[OCT_KVSTORE_NAME];
    const oct_kvstore_text text = {.salt = job->salt, .ids = job->ids, .n_blocks = job->first + 1};
    const uint64_t bytes = oct_kvstore_file_bytes(&s->opt.shape, &text);
    const oct_kvstore_key key = oct_kvstore_key_of(&s->opt.shape, &text);
    oct_kvstore_name_of(&s->opt.shape, key, name);
    const int code = oct_kvstore_file_write(s->folder, name, &s->opt.shape, &text, job->bytes[0]);
    pthread_mutex_lock(&s->lock);
    if (code == 0) {
        job->n_good = 1;
        s->stats.n_written++;
        if (!oct_kvstore_keys_has(&s->keys, key)) s->stats.bytes += bytes;
        (void)oct_kvstore_keys_add(&s->keys, s->mem, key);
        s->stats.n_blocks = s->keys.n;
    } else {
        s->stats.n_failed++;
        s->paused_until = oct_now_ns() + pause_ns;
    }
    const uint64_t n_failed = s->stats.n_failed;
    const bool full = s->stats.bytes > s->opt.max_bytes;
    pthread_mutex_unlock(&s->lock);
    if (code != 0) tell_refused(s, code, n_failed);
    if (full) (void)scan(s, false);
}

static void do_job(oct_kvstore *s, oct_kvstore_job *job, bool stale) {
    job->n_good = 0;
    if (stale) return;
    if (job->writes)
        write_job(s, job);
    else
        read_job(s, job);
}

/* A folder that was not wiped holds what must not be read: nothing is done until it is. */
static void wait_to_wipe_again(oct_kvstore *s) {
    const struct timespec until = in_time(wipe_again_ns);
    s->wipe = true;
    (void)pthread_cond_timedwait(&s->work, &s->lock, &until);
}

static void *store_main(void *arg) {
    oct_kvstore *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        if (s->wipe) {
            s->wipe = false;
            pthread_mutex_unlock(&s->lock);
            const int code = scan(s, true);
            pthread_mutex_lock(&s->lock);
            if (code != 0 && !s->closing) wait_to_wipe_again(s);
            continue;
        }
        if (s->closing) break;
        oct_kvstore_job *job = pop(&s->reads);
        if (!job) job = pop(&s->writes);
        if (!job) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        const bool stale = job->epoch != s->epoch;
        pthread_mutex_unlock(&s->lock);
        do_job(s, job, stale);
        pthread_mutex_lock(&s->lock);
        append(&s->done, job);
        pthread_cond_signal(&s->finished);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- life ---- */

static void init_locks(oct_kvstore *s) {
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_cond_init(&s->finished, &attr);
    pthread_condattr_destroy(&attr);
}

static bool make_jobs(oct_kvstore *s) {
    const oct_kvstore_options *o = &s->opt;
    const size_t n_ids = (size_t)o->max_blocks * o->shape.block_tokens;
    s->jobs = oct_calloc(s->mem, (size_t)o->n_writes + o->n_reads, sizeof *s->jobs);
    s->ids = oct_alloc(s->mem, o->n_writes * n_ids, sizeof *s->ids);
    s->bytes =
        oct_calloc(s->mem, (size_t)o->n_reads * o->max_blocks + o->n_writes, sizeof *s->bytes);
    if (!s->jobs || !s->ids || !s->bytes) return false;
    for (uint32_t i = 0; i < o->n_reads + o->n_writes; i++) {
        oct_kvstore_job *job = &s->jobs[i];
        oct_kvstore_job **list = i < o->n_reads ? &s->free_reads : &s->free_writes;
        job->writes = i >= o->n_reads;
        job->bytes = s->bytes + (job->writes ? (size_t)o->n_reads * o->max_blocks + (i - o->n_reads)
                                             : (size_t)i * o->max_blocks);
        job->own_ids = job->writes ? s->ids + (i - o->n_reads) * n_ids : NULL;
        job->next = *list;
        *list = job;
    }
    return true;
}

static oct_status open_folder(oct_kvstore *s, oct_err *err) {
    struct stat st;
    const char *path = s->path;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return OCT_FAIL(err, OCT_E_IO, "--kv-store: %s: %s", path, strerror(errno));
    s->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->folder < 0)
        return OCT_FAIL(err, errno == ENOTDIR ? OCT_E_INVALID : OCT_E_IO, "--kv-store: %s: %s",
                        path, strerror(errno));
    if (fstat(s->folder, &st) == 0 && (st.st_mode & 0077) != 0)
        oct_warn("--kv-store: %s can be read by other users, and what it holds follows from "
                 "prompts (chmod 700 keeps them out)",
                 path);
    const int code = scan(s, false);
    return code == 0 ? OCT_OK : OCT_FAIL(err, OCT_E_IO, "--kv-store: %s: %s", path, strerror(code));
}

static void free_parts(oct_kvstore *s) {
    const oct_kvstore_options *o = &s->opt;
    const size_t n_ids = (size_t)o->max_blocks * o->shape.block_tokens;
    oct_kvstore_keys_fini(&s->keys, s->mem);
    oct_free(s->mem, s->bytes, (size_t)o->n_reads * o->max_blocks + o->n_writes, sizeof *s->bytes);
    oct_free(s->mem, s->ids, o->n_writes * n_ids, sizeof *s->ids);
    oct_free(s->mem, s->jobs, (size_t)o->n_writes + o->n_reads, sizeof *s->jobs);
    if (s->path) oct_free(s->mem, s->path, strlen(s->path) + 1, 1);
    if (s->folder >= 0) close(s->folder);
    pthread_cond_destroy(&s->finished);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    oct_free(s->mem, s, 1, sizeof *s);
}

oct_status oct_kvstore_open(const oct_allocator *mem, const oct_kvstore_options *options,
                            oct_kvstore **out, oct_err *err) {
    OCT_ASSERT(options->shape.block_bytes > 0 && options->max_blocks > 0);
    *out = NULL;
    oct_kvstore *s = oct_calloc(mem, 1, sizeof *s);
    if (!s) return OCT_FAIL(err, OCT_E_NOMEM, "--kv-store: no memory");
    s->mem = mem;
    s->opt = *options;
    s->opt.path = NULL; /* the copy is s->path */
    s->folder = -1;
    init_locks(s);
    s->path = oct_strndup(mem, options->path, strlen(options->path));
    oct_status st =
        s->path && make_jobs(s) ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "--kv-store: no memory");
    if (st == OCT_OK) st = open_folder(s, err);
    if (st == OCT_OK) st = oct_thread_start(&s->thread, "octet-kvstore", store_main, s, err);
    if (st != OCT_OK) {
        free_parts(s);
        return st;
    }
    *out = s;
    return OCT_OK;
}

void oct_kvstore_close(oct_kvstore *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    oct_thread_join(&s->thread);
    free_parts(s);
}

/* ---- the owner ---- */

uint64_t oct_kvstore_block_bytes(const oct_kvstore *s) { return s->opt.shape.block_bytes; }

uint32_t oct_kvstore_count(oct_kvstore *s, oct_str salt, const int32_t *ids, uint32_t first,
                           uint32_t n, oct_kvstore_key *keys) {
    uint32_t k = 0;
    if (first >= s->opt.max_blocks) return 0;
    if (n > s->opt.max_blocks - first) n = s->opt.max_blocks - first;
    oct_kvstore_keys_of(&s->opt.shape, salt, ids, first + n, keys);
    pthread_mutex_lock(&s->lock);
    while (k < n && oct_kvstore_keys_has(&s->keys, keys[first + k])) k++;
    pthread_mutex_unlock(&s->lock);
    return k;
}

bool oct_kvstore_has(oct_kvstore *s, const oct_kvstore_text *text) {
    const oct_kvstore_key key = oct_kvstore_key_of(&s->opt.shape, text);
    pthread_mutex_lock(&s->lock);
    const bool has = oct_kvstore_keys_has(&s->keys, key);
    pthread_mutex_unlock(&s->lock);
    return has;
}

oct_kvstore_job *oct_kvstore_take(oct_kvstore *s, bool writes) {
    oct_kvstore_job **list = writes ? &s->free_writes : &s->free_reads;
    pthread_mutex_lock(&s->lock);
    oct_kvstore_job *job = OCT_FAULT(STORE_JOB, 0) ? NULL : *list;
    if (job && writes && s->paused_until > 0 && oct_now_ns() < s->paused_until) job = NULL;
    if (job) *list = job->next;
    pthread_mutex_unlock(&s->lock);
    return job;
}

void oct_kvstore_put(oct_kvstore *s, oct_kvstore_job *job) {
    pthread_mutex_lock(&s->lock);
    job->epoch = s->epoch;
    append(job->writes ? &s->writes : &s->reads, job);
    s->n_out++;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

void oct_kvstore_drop(oct_kvstore *s, oct_kvstore_job *job) {
    oct_kvstore_job **list = job->writes ? &s->free_writes : &s->free_reads;
    pthread_mutex_lock(&s->lock);
    job->next = *list;
    *list = job;
    pthread_mutex_unlock(&s->lock);
}

oct_kvstore_job *oct_kvstore_done(oct_kvstore *s, uint64_t wait_ns) {
    if (s->n_out == 0) return NULL;
    const struct timespec until = in_time(wait_ns);
    pthread_mutex_lock(&s->lock);
    while (!s->done.head && wait_ns > 0 &&
           pthread_cond_timedwait(&s->finished, &s->lock, &until) == 0) {
    }
    oct_kvstore_job *job = pop(&s->done);
    pthread_mutex_unlock(&s->lock);
    s->n_out -= job != NULL;
    return job;
}

uint32_t oct_kvstore_n_out(const oct_kvstore *s) { return s->n_out; }

void oct_kvstore_reset(oct_kvstore *s) {
    pthread_mutex_lock(&s->lock);
    s->epoch++;
    s->wipe = true;
    s->paused_until = 0; /* there is room now */
    oct_kvstore_keys_fini(&s->keys, s->mem);
    s->stats.n_blocks = 0;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

void oct_kvstore_get_stats(oct_kvstore *s, oct_kvstore_stats *out) {
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
}
