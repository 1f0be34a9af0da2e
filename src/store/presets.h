/*
 * store/presets.h - configurations of well-known models, compiled in, so that a model of their
 * shape can be made without any file (store/synthetic.h).
 *
 * Names are "preset:MODEL-STORAGE": MODEL one of the list, STORAGE bf16 (when left out), w8a8 (INT8
 * dynamic) or w8a8c8 (the same with an INT8 cache).
 */
#ifndef OCT_STORE_PRESETS_H
#define OCT_STORE_PRESETS_H

#include <stdbool.h>

#include "base/status.h"

typedef enum oct_preset_storage {
    OCT_PRESET_BF16,
    OCT_PRESET_W8A8,
    OCT_PRESET_W8A8C8,
} oct_preset_storage;

typedef struct oct_preset {
    const char *name;   /* "qwen3-32b" */
    const char *config; /* config.json */
} oct_preset;

/* Whether a MODEL argument names a preset at all. */
bool oct_preset_is(const char *name);
/* OCT_E_INVALID listing the known ones. */
OCT_MUST_CHECK oct_status oct_preset_find(const char *name, const oct_preset **out,
                                          oct_preset_storage *storage, oct_err *err);
/* "qwen3-0.6b, qwen3-4b, ..." */
extern const char oct_preset_names[];

#endif
