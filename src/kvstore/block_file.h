/*
 * kvstore/block_file.h - one block of the KV cache as a file.
 *
 *     head      fixed, see block_file.c: magic, version, fingerprint, sizes, checksum
 *     salt      salt_len bytes, then zeros up to a multiple of 8
 *     ids       int32 [n_blocks * block_tokens]: the whole text from its first token to the end of
 *               this block
 *     bytes     [block_bytes]: what the device keeps for the block, layer by layer
 *
 * The checksum (128 bits, XXH3) is over all of it. A file is taken only if its length, head, salt
 * and every id are the wanted ones and the checksum is right; the name is only where to look.
 *
 * Ownership  Borrows everything for the call.
 * Threads    Any; a writer takes a name that nobody else has.
 */
#ifndef OCT_KVSTORE_BLOCK_FILE_H
#define OCT_KVSTORE_BLOCK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* What all blocks of a model on a device have in common. */
typedef struct oct_kvstore_shape {
    uint64_t fingerprint[2];
    uint64_t block_bytes;
    uint32_t block_tokens;
} oct_kvstore_shape;

/* Which block it is. */
typedef struct oct_kvstore_text {
    oct_str salt;       /* at most OCT_KVSTORE_SALT_BYTES */
    const int32_t *ids; /* [n_blocks * block_tokens] */
    uint32_t n_blocks;  /* of the text; the block is the last of them */
} oct_kvstore_text;

enum { OCT_KVSTORE_SALT_BYTES = 128 };

/* Names of files that are being written begin so. */
#define OCT_KVSTORE_TEMP ".tmp-"

typedef enum oct_kvstore_found {
    OCT_KVSTORE_GOOD,
    OCT_KVSTORE_ABSENT,  /* no such file (any more), or it cannot be opened */
    OCT_KVSTORE_DAMAGED, /* too short or long, or its checksum is wrong */
    OCT_KVSTORE_FOREIGN, /* another format, version, model or text */
} oct_kvstore_found;

/* The bytes of the block's file. */
uint64_t oct_kvstore_file_bytes(const oct_kvstore_shape *shape, const oct_kvstore_text *text);

/* Reads `name` in the folder into bytes[block_bytes], whose content is unspecified unless good. */
oct_kvstore_found oct_kvstore_file_read(int folder, const char *name,
                                        const oct_kvstore_shape *shape,
                                        const oct_kvstore_text *text, void *bytes);
/* Writes it under another name and gives it this one when it is whole. 0, or errno; nothing is left
 * behind then. */
int oct_kvstore_file_write(int folder, const char *name, const oct_kvstore_shape *shape,
                           const oct_kvstore_text *text, const void *bytes);

#endif
