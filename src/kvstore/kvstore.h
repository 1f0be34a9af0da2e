/*
 * kvstore/kvstore.h - blocks of the KV cache in a folder that outlives the process.
 *
 * The owner hands over jobs: a block to be written, blocks to be read into memory. One thread of
 * the store's own does them, reads first, so that nobody waits for a disk who does not want to.
 * Nothing of this is ever needed: a write that finds no room in the queue, no room on the disk or
 * no right to the folder is dropped and counted, a file that is damaged or foreign is not read.
 *
 * What a block is, its text and its bytes, is compared in full (kvstore/block_file.h). Two
 * processes may use one folder.
 *
 * Ownership  The store owns its jobs; what a job points to is the owner's, until it is taken back.
 * Threads    One owner; get_stats: any.
 * Elsewhere  Which blocks are worth keeping: engine/. The fingerprint: apps/.
 */
#ifndef OCT_KVSTORE_KVSTORE_H
#define OCT_KVSTORE_KVSTORE_H

#include "base/alloc.h"
#include "base/status.h"
#include "kvstore/block_file.h"
#include "kvstore/folder.h"

typedef struct oct_kvstore oct_kvstore;

typedef struct oct_kvstore_options {
    const char *path;        /* made if it is not there; its parent must be */
    oct_kvstore_shape shape; /* fingerprint: two models whose blocks could differ in a bit have
                                different ones */
    uint64_t max_bytes;      /* of all block files in the folder */
    uint32_t max_blocks;     /* of a text; longer ones are neither written nor read */
    uint32_t n_writes;       /* jobs that can wait or run at once */
    uint32_t n_reads;
} oct_kvstore_options;

/* A job. Between take and put the owner fills it; after done says so it looks at it and gives it
 * back. */
typedef struct oct_kvstore_job {
    bool writes;
    /* Whose: the owner's. */
    void *user;
    uint32_t shelf;
    /* Which text. A write has room for it in the job (salt_bytes, own_ids); a read points to the
     * owner's. */
    oct_str salt;
    const int32_t *ids;
    char salt_bytes[OCT_KVSTORE_SALT_BYTES];
    int32_t *own_ids; /* [max_blocks * block_tokens] */
    /* Blocks first .. first + n - 1 of the text; a write has one. bytes[n] are memory for one block
     * each; cap max_blocks in a read, 1 in a write. */
    uint32_t first, n;
    void **bytes;
    /* Set when it is done: how many blocks from the first on were read, or written. */
    uint32_t n_good;

    uint32_t epoch; /* the store's, like the next */
    struct oct_kvstore_job *next;
} oct_kvstore_job;

/* OCT_E_IO: the folder cannot be made or read. OCT_E_INVALID: it is no folder. */
OCT_MUST_CHECK oct_status oct_kvstore_open(const oct_allocator *mem,
                                           const oct_kvstore_options *options, oct_kvstore **out,
                                           oct_err *err);
/* Drops the jobs that have not begun and waits for the one that has. Accepts NULL. */
void oct_kvstore_close(oct_kvstore *s);

uint64_t oct_kvstore_block_bytes(const oct_kvstore *s);

/* How many blocks of a text from block `first` on lie in the folder, at most n, as far as is known
 * without looking. keys[first + n] is scratch. */
uint32_t oct_kvstore_count(oct_kvstore *s, oct_str salt, const int32_t *ids, uint32_t first,
                           uint32_t n, oct_kvstore_key *keys);
/* Whether the last block of the text does. */
bool oct_kvstore_has(oct_kvstore *s, const oct_kvstore_text *text);

/* A free job, or NULL: all are on their way; or, for a write, the disk takes none at present. */
oct_kvstore_job *oct_kvstore_take(oct_kvstore *s, bool writes);
/* Queues it. */
void oct_kvstore_put(oct_kvstore *s, oct_kvstore_job *job);
/* Gives back a job that was taken and not queued, or that is done. */
void oct_kvstore_drop(oct_kvstore *s, oct_kvstore_job *job);
/* A job that is done, or NULL after wait_ns without one (0: at once). */
oct_kvstore_job *oct_kvstore_done(oct_kvstore *s, uint64_t wait_ns);
/* Jobs that were put and not told by done. */
uint32_t oct_kvstore_n_out(const oct_kvstore *s);

/* Forgets every block: nothing that was queued or written before is read after, and the files of
 * this fingerprint are deleted. */
void oct_kvstore_reset(oct_kvstore *s);

/* Counters since open, and what the folder holds as far as is known. */
typedef struct oct_kvstore_stats {
    uint64_t n_written, n_read; /* blocks */
    uint64_t n_ignored;         /* files that were damaged or foreign */
    uint64_t n_failed;          /* writes that the system refused */
    uint64_t n_deleted;         /* files, to make room */
    uint64_t n_blocks;          /* of this fingerprint */
    uint64_t bytes;             /* of all block files */
} oct_kvstore_stats;
void oct_kvstore_get_stats(oct_kvstore *s, oct_kvstore_stats *out);

#endif
