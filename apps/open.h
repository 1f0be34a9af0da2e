/*
 * apps/open.h - what every command that takes a MODEL does first: device, checkpoint, tokenizer,
 * model, and the flags for them. Failures end as one line on stderr and an exit status.
 */
#ifndef OCT_APPS_OPEN_H
#define OCT_APPS_OPEN_H

#include <octet/octet.h>

#include "cli.h"
#include "device/device.h"
#include "embed/keep.h"
#include "model/model.h"
#include "store/checkpoint.h"
#include "text/tokenizer.h"

typedef struct open_options {
    const char *device, *device_settings, *quantization, *kv_cache_dtype, *kv_skip_layers,
        *cpu_mask, *tokenizer, *log_level;
    const char *load_format, *hf_overrides;
    uint64_t seed;
    bool seed_given;
    uint64_t threads, max_model_len, block_size, kv_cache_memory;
    bool cpu_binding, quiet, strict;
    bool overlap;       /* no flag here: the command queues steps beside each other */
    bool overlap_given; /* said by a flag, not by default */
    bool prefetch;      /* nor here: the CPU asks for weights ahead of their use */

    /* Of keep_flags. */
    double offload_gib; /* 0: none */
    const char *kv_store;
    double kv_store_gib;
} open_options;

#define OPEN_OPTIONS_DEFAULT                  \
    ((open_options){.device = "auto",         \
                    .quantization = "auto",   \
                    .kv_cache_dtype = "auto", \
                    .load_format = "auto",    \
                    .block_size = 32,         \
                    .cpu_binding = true,      \
                    .kv_store_gib = 16,       \
                    .log_level = "info"})

/* The first of them concern the device, the last the tokenizer and what is printed: a command that
 * opens no model offers only those. */
enum { OPEN_N_FLAGS = 18, OPEN_N_DEVICE_FLAGS = 5, OPEN_N_FILE_FLAGS = 3 };
/* Fills flags[OPEN_N_FLAGS] so that they write into *o. */
void open_flags(open_options *o, cli_flag *flags);
/* The same less the one that the command has no use for; returns how many. */
unsigned open_flags_without(open_options *o, const char *name, cli_flag *flags);

/* Where blocks are kept beyond the cache; for commands with an engine. */
enum { KEEP_N_FLAGS = 3 };
void keep_flags(open_options *o, cli_flag flags[KEEP_N_FLAGS]);
/* After the command line: -1, or the exit status. */
int keep_check(const open_options *o, bool prefix_caching);
oct_keep_options keep_options(const open_options *o);

/* The table of vLLM's flags that scripts carry and that are read without effect (vllm_flags.c). */
extern const cli_foreign vllm_flags[];
/* --model */
cli_flag model_flag(const char **model);
/* The model of a command line: the argument, or --model's. Warns of the flags without effect. -1,
 * or the exit status. */
int pick_model(const char *command, const char *argument, const char **model);
/* Sets what --log-level says; the functions below do so, too. */
void open_log_level(const open_options *o);

typedef struct opened {
    oct_device *device;
    oct_checkpoint *ckpt;
    oct_tokenizer *tokenizer; /* NULL when the folder has none */
    oct_model *model;
} opened;

/* Each returns -1, or the exit status after having said why. Progress is shown on a terminal. */
int open_tokenizer(const open_options *o, const char *path, oct_tokenizer **out);
int open_checkpoint(const open_options *o, const char *path, opened *out);
/* The checkpoint alone: files, or what --load-format dummy makes up. */
OCT_MUST_CHECK oct_status open_weights(const open_options *o, const char *path,
                                       oct_checkpoint **out, oct_err *err);
/* The tokenizer that belongs to a checkpoint; *out NULL and OCT_OK when the folder has none. */
OCT_MUST_CHECK oct_status open_own_tokenizer(const open_options *o, const oct_checkpoint *ckpt,
                                             oct_tokenizer **out, oct_err *err);
int open_device(const open_options *o, opened *out);
/* What the flags say of a model, into *mo; what they leave open stays. */
int open_model_options(const open_options *o, oct_model_options *mo);
/* device, checkpoint, tokenizer and model; limits (max_rows, ...) come from mo, flags win. */
int open_model(const open_options *o, const char *path, oct_model_options *mo, opened *out);
void opened_close(opened *o);
/* The same through the library's own door: what the flags say goes into *eo, whose other members
 * are the command's; an engine that runs comes out. -1, or the exit status. */
int open_engine(const open_options *o, const char *path, octet_engine_options *eo,
                octet_engine **out);

/* A bar on stderr when that is a terminal: "label  42 % [#####     ]". */
typedef struct bar {
    const char *label;
    int last;
} bar;
void bar_show(bar *b, uint64_t done, uint64_t total);
void bar_end(bar *b);

#endif
