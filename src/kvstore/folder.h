/*
 * kvstore/folder.h - which blocks a folder holds, and how much of it they take.
 *
 * Files are called FINGERPRINT-KEY.octkv, two and four times eight hex digits. Those of other
 * fingerprints belong to other models: they are never opened, but they count and go like the rest.
 *
 * Ownership  A set owns its table; everything else is borrowed for the call.
 * Threads    Nothing here locks.
 */
#ifndef OCT_KVSTORE_FOLDER_H
#define OCT_KVSTORE_FOLDER_H

#include "base/alloc.h"
#include "base/status.h"
#include "kvstore/block_file.h"

typedef struct oct_kvstore_key {
    uint64_t h[2];
} oct_kvstore_key;

enum { OCT_KVSTORE_NAME = 64 };

/* A set of keys. */
typedef struct oct_kvstore_keys {
    oct_kvstore_key *at; /* [cap], {0, 0}: empty */
    size_t n, cap;       /* cap: a power of two, or 0 */
} oct_kvstore_keys;

void oct_kvstore_keys_fini(oct_kvstore_keys *k, const oct_allocator *mem);
bool oct_kvstore_keys_has(const oct_kvstore_keys *k, oct_kvstore_key key);
/* False: no memory, and the set is as before. */
bool oct_kvstore_keys_add(oct_kvstore_keys *k, const oct_allocator *mem, oct_kvstore_key key);
void oct_kvstore_keys_remove(oct_kvstore_keys *k, oct_kvstore_key key);

/* Of the block that ends after each of n blocks of a text, into out[n]. */
void oct_kvstore_keys_of(const oct_kvstore_shape *shape, oct_str salt, const int32_t *ids,
                         uint32_t n, oct_kvstore_key *out);
oct_kvstore_key oct_kvstore_key_of(const oct_kvstore_shape *shape, const oct_kvstore_text *text);
void oct_kvstore_name_of(const oct_kvstore_shape *shape, oct_kvstore_key key,
                         char out[OCT_KVSTORE_NAME]);

/* What a scan found. */
typedef struct oct_kvstore_census {
    oct_kvstore_keys keys; /* of this fingerprint */
    uint64_t bytes;        /* of all block files */
    uint64_t n_files, n_deleted;
} oct_kvstore_census;

/* Looks at every name in the folder. Where all take more than max_bytes, those not used for the
 * longest time are deleted until an eighth of it is free; `wipe` deletes all of this fingerprint.
 * What other writers left half-written long ago goes, too. Files for which there is no memory are
 * passed over. 0, or errno: the folder cannot be read.
 */
int oct_kvstore_folder_scan(int folder, const oct_allocator *mem, const oct_kvstore_shape *shape,
                            uint64_t max_bytes, bool wipe, oct_kvstore_census *out);

#endif
