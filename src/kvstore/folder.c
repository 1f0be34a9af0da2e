/*
 * kvstore/folder.c - the folder itself is the only list of what it holds: any number of processes
 * may write to it, and nothing has to be kept in step with it. A process reads the names when it
 * begins and whenever it has to make room, and knows of its own files meanwhile.
 */
#include "kvstore/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/fault.h"

#define SUFFIX ".octkv"
enum { STALE_TEMP_S = 600, FIRST_CAP = 256, PIECE_IDS = 64, NAME_LEN = 16 + 1 + 32 + 6 };

/* ---- keys ---- */

static bool same(oct_kvstore_key a, oct_kvstore_key b) {
    return a.h[0] == b.h[0] && a.h[1] == b.h[1];
}
static bool is_empty(oct_kvstore_key k) { return k.h[0] == 0 && k.h[1] == 0; }
static size_t home_of(const oct_kvstore_keys *k, oct_kvstore_key key) {
    return (size_t)key.h[0] & (k->cap - 1);
}

void oct_kvstore_keys_fini(oct_kvstore_keys *k, const oct_allocator *mem) {
    oct_free(mem, k->at, k->cap, sizeof *k->at);
    *k = (oct_kvstore_keys){0};
}

/* Where the key is, or would be. */
static size_t place_of(const oct_kvstore_keys *k, oct_kvstore_key key) {
    size_t i = home_of(k, key);
    while (!is_empty(k->at[i]) && !same(k->at[i], key)) i = (i + 1) & (k->cap - 1);
    return i;
}

bool oct_kvstore_keys_has(const oct_kvstore_keys *k, oct_kvstore_key key) {
    return k->cap > 0 && !is_empty(key) && same(k->at[place_of(k, key)], key);
}

static bool grow(oct_kvstore_keys *k, const oct_allocator *mem) {
    oct_kvstore_keys more = {.n = k->n, .cap = k->cap ? k->cap * 2 : FIRST_CAP};
    more.at = oct_calloc(mem, more.cap, sizeof *more.at);
    if (!more.at) return false;
    for (size_t i = 0; i < k->cap; i++)
        if (!is_empty(k->at[i])) more.at[place_of(&more, k->at[i])] = k->at[i];
    oct_free(mem, k->at, k->cap, sizeof *k->at);
    *k = more;
    return true;
}

bool oct_kvstore_keys_add(oct_kvstore_keys *k, const oct_allocator *mem, oct_kvstore_key key) {
    if (is_empty(key) || OCT_FAULT(STORE_KEY, 0)) return false;
    if (k->n >= k->cap / 2 && !grow(k, mem)) return false;
    const size_t i = place_of(k, key);
    k->n += is_empty(k->at[i]);
    k->at[i] = key;
    return true;
}

void oct_kvstore_keys_remove(oct_kvstore_keys *k, oct_kvstore_key key) {
    if (!oct_kvstore_keys_has(k, key)) return;
    size_t hole = place_of(k, key);
    k->n--;
    /* Whoever stands behind the hole and would be looked for before it moves into it. */
    for (size_t i = (hole + 1) & (k->cap - 1); !is_empty(k->at[i]); i = (i + 1) & (k->cap - 1)) {
        const size_t home = home_of(k, k->at[i]);
        if (((i - home) & (k->cap - 1)) < ((i - hole) & (k->cap - 1))) continue;
        k->at[hole] = k->at[i];
        hole = i;
    }
    k->at[hole] = (oct_kvstore_key){0};
}

/* A chain: what stands before, and the next few ids. */
typedef struct piece {
    oct_kvstore_key before;
    int32_t ids[PIECE_IDS];
} piece;

static oct_kvstore_key key_from(XXH128_hash_t h) { return (oct_kvstore_key){{h.low64, h.high64}}; }

static oct_kvstore_key first_key(const oct_kvstore_shape *s, oct_str salt) {
    struct {
        uint64_t fingerprint[2], salt_len;
        char salt[OCT_KVSTORE_SALT_BYTES];
    } begin = {.fingerprint = {s->fingerprint[0], s->fingerprint[1]}, .salt_len = salt.len};
    OCT_ASSERT(salt.len <= sizeof begin.salt);
    if (salt.len > 0) memcpy(begin.salt, salt.ptr, salt.len);
    return key_from(XXH3_128bits(&begin, sizeof begin));
}

static oct_kvstore_key next_key(const oct_kvstore_shape *s, oct_kvstore_key key,
                                const int32_t *ids) {
    for (uint32_t at = 0; at < s->block_tokens; at += PIECE_IDS) {
        const uint32_t left = s->block_tokens - at, n = left < PIECE_IDS ? left : PIECE_IDS;
        piece l = {.before = key};
        memcpy(l.ids, ids + at, n * sizeof *ids);
        key = key_from(XXH3_128bits(&l, sizeof l.before + n * sizeof *ids));
    }
    return key;
}

void oct_kvstore_keys_of(const oct_kvstore_shape *s, oct_str salt, const int32_t *ids, uint32_t n,
                         oct_kvstore_key *out) {
    oct_kvstore_key key = first_key(s, salt);
    for (uint32_t i = 0; i < n; i++)
        out[i] = key = next_key(s, key, ids + (size_t)i * s->block_tokens);
}

oct_kvstore_key oct_kvstore_key_of(const oct_kvstore_shape *s, const oct_kvstore_text *t) {
    oct_kvstore_key key = first_key(s, t->salt);
    for (uint32_t i = 0; i < t->n_blocks; i++)
        key = next_key(s, key, t->ids + (size_t)i * s->block_tokens);
    return key;
}

/* ---- names ---- */

void oct_kvstore_name_of(const oct_kvstore_shape *s, oct_kvstore_key key,
                         char out[OCT_KVSTORE_NAME]) {
    snprintf(out, OCT_KVSTORE_NAME, "%016llx-%016llx%016llx" SUFFIX,
             (unsigned long long)s->fingerprint[0], (unsigned long long)key.h[0],
             (unsigned long long)key.h[1]);
}

static bool read_hex(const char *text, uint64_t *out) {
    *out = 0;
    for (int i = 0; i < 16; i++) {
        const char c = text[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
        *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool read_name(const char *name, uint64_t *fingerprint, oct_kvstore_key *key) {
    return strlen(name) == NAME_LEN && name[16] == '-' && strcmp(name + 49, SUFFIX) == 0 &&
           read_hex(name, fingerprint) && read_hex(name + 17, &key->h[0]) &&
           read_hex(name + 33, &key->h[1]);
}

/* ---- scanning ---- */

typedef struct found {
    int64_t s, ns; /* when it was used */
    uint64_t bytes, fingerprint;
    oct_kvstore_key key;
} found;

typedef struct list {
    found *v;
    size_t n, cap;
} list;

static bool put(list *l, const oct_allocator *mem, const found *f) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : FIRST_CAP;
        found *v = oct_grow(mem, l->v, l->cap, cap, sizeof *v);
        if (!v) return false;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *f;
    return true;
}

static int by_age(const void *pa, const void *pb) {
    const found *a = pa, *b = pb;
    if (a->s != b->s) return a->s < b->s ? -1 : 1;
    return a->ns < b->ns ? -1 : a->ns > b->ns;
}

static void delete_one(int folder, const oct_kvstore_shape *s, const found *f,
                       oct_kvstore_census *c) {
    char name[OCT_KVSTORE_NAME];
    const oct_kvstore_shape its = {.fingerprint = {f->fingerprint}};
    oct_kvstore_name_of(&its, f->key, name);
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT) return;
    c->bytes -= f->bytes;
    c->n_files--;
    c->n_deleted++;
    if (f->fingerprint == s->fingerprint[0]) oct_kvstore_keys_remove(&c->keys, f->key);
}

static void make_room(int folder, const oct_kvstore_shape *s, uint64_t max_bytes, list *l,
                      oct_kvstore_census *c) {
    if (c->bytes <= max_bytes) return;
    qsort(l->v, l->n, sizeof *l->v, by_age);
    for (size_t i = 0; i < l->n && c->bytes > max_bytes - max_bytes / 8; i++)
        delete_one(folder, s, &l->v[i], c);
}

static void look_at(int folder, const char *name, const oct_allocator *mem,
                    const oct_kvstore_shape *s, list *l, oct_kvstore_census *c) {
    struct stat st;
    found f = {0};
    const bool temp = strncmp(name, OCT_KVSTORE_TEMP, strlen(OCT_KVSTORE_TEMP)) == 0;
    if (!temp && !read_name(name, &f.fingerprint, &f.key)) return;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) return;
    if (temp) {
        if (st.st_mtime + STALE_TEMP_S < time(NULL)) (void)unlinkat(folder, name, 0);
        return;
    }
    f.s = st.st_mtim.tv_sec;
    f.ns = st.st_mtim.tv_nsec;
    f.bytes = (uint64_t)st.st_size;
    if (!put(l, mem, &f)) return;
    c->bytes += f.bytes;
    c->n_files++;
    if (f.fingerprint == s->fingerprint[0]) (void)oct_kvstore_keys_add(&c->keys, mem, f.key);
}

int oct_kvstore_folder_scan(int folder, const oct_allocator *mem, const oct_kvstore_shape *s,
                            uint64_t max_bytes, bool wipe, oct_kvstore_census *out) {
    list l = {0};
    *out = (oct_kvstore_census){0};
    const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir || OCT_FAULT(STORE_FOLDER, 0)) {
        const int code = dir ? EIO : errno;
        if (dir)
            closedir(dir);
        else if (fd >= 0)
            close(fd);
        return code;
    }
    for (const struct dirent *e; (e = readdir(dir));) look_at(folder, e->d_name, mem, s, &l, out);
    closedir(dir);
    for (size_t i = 0; wipe && i < l.n; i++)
        if (l.v[i].fingerprint == s->fingerprint[0]) delete_one(folder, s, &l.v[i], out);
    if (!wipe) make_room(folder, s, max_bytes, &l, out);
    oct_free(mem, l.v, l.cap, sizeof *l.v);
    return 0;
}
