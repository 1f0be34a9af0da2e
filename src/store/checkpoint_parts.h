/* store/checkpoint_parts.h - the inside of a checkpoint; internal to the room. */
#ifndef OCT_STORE_CHECKPOINT_PARTS_H
#define OCT_STORE_CHECKPOINT_PARTS_H

#include "store/checkpoint.h"
#include "store/safetensors.h"
#include "store/tensor_table.h"

typedef struct oct_shard {
    oct_safetensors *st;
} oct_shard;

typedef struct oct_synthetic oct_synthetic;

struct oct_checkpoint {
    const oct_allocator *mem;
    char *path;
    const char *overrides; /* of config.json while it is opened, or NULL */
    oct_arena arena;       /* names that no container owns */
    oct_model_config config;
    oct_generation_config generation;
    json_t *description;          /* NULL: none */
    const char *description_name; /* its file, or the usual name */
    const char *wrapper;          /* what stands for "model." in tensor names; NULL: nothing else */
    oct_gguf *gguf;               /* or NULL */
    oct_shard *shards;            /* [n_shards] */
    size_t n_shards, cap_shards;
    oct_synthetic *synthetic; /* or NULL; instead of files */
    oct_tensor_table table;
    uint8_t *used;      /* [table.n] */
    oct_buf json_files; /* names of the folder's JSON files, for messages */
    oct_buf problems;   /* the first few, joined by "; " */
    size_t n_problems;
};

/* An empty one. */
OCT_MUST_CHECK oct_status oct_checkpoint_create(const oct_allocator *mem, const char *path,
                                                oct_checkpoint **out, oct_err *err);
/* Fill an empty checkpoint whose path is set; what was opened is freed by oct_checkpoint_close. */
OCT_MUST_CHECK oct_status oct_checkpoint_open_folder(oct_checkpoint *c, oct_err *err);
OCT_MUST_CHECK oct_status oct_checkpoint_open_gguf(oct_checkpoint *c, oct_err *err);
/* The text of one of its JSON files (index, description), which must be an object; name is for
 * messages. *out is NULL on failure. */
OCT_MUST_CHECK oct_status oct_checkpoint_read_object(oct_str text, const char *name, json_t **out,
                                                     oct_err *err);

/* checkpoint_names.c: tensors that hold all experts of a layer become one for each expert; the
 * index is made again. Then which prefix the text model has. */
OCT_MUST_CHECK oct_status oct_checkpoint_split_experts(oct_checkpoint *c, oct_err *err);
void oct_checkpoint_find_wrapper(oct_checkpoint *c);
/* What may stand in front of the text model's tensors, "model." itself last. */
enum { OCT_CHECKPOINT_N_HEADS = 4 };
extern const char *const oct_checkpoint_heads[OCT_CHECKPOINT_N_HEADS];
enum { OCT_CHECKPOINT_NAME = 640 }; /* room for another spelling of a name */

/* The file in which a tensor lies. */
const oct_file *oct_checkpoint_file_of(const oct_checkpoint *c, const oct_tensor *t);

/* synthetic.c: rows as oct_checkpoint_read_raw_rows gives them; the rest for the checkpoint. */
void oct_synthetic_read(const oct_checkpoint *c, const oct_tensor *t, uint64_t row0,
                        uint64_t n_rows, void *dst);
uint64_t oct_synthetic_seed(const oct_checkpoint *c);
const oct_file *oct_synthetic_file(const oct_checkpoint *c);
void oct_synthetic_free(oct_checkpoint *c);

#endif
