/*
 * Any text as model.safetensors.index.json beside two shards of two tensors each. What is accepted
 * has all four, each readable whole, and no file but the two.
 */
#include "../scheme_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const scheme_row rows[] = {{"w", OCT_DTYPE_F32, 2, {2, 2}},
                                  {"x", OCT_DTYPE_F32, 2, {2, 2}},
                                  {"y", OCT_DTYPE_F32, 2, {2, 2}},
                                  {"z", OCT_DTYPE_F32, 2, {2, 2}}};

static void look(oct_checkpoint *c, oct_scheme *s, oct_arena *arena) {
    float values[4];
    oct_err err = {0};
    (void)s, (void)arena;
    if (oct_checkpoint_n_files(c) != 2) abort();
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        const oct_tensor *t = oct_checkpoint_find(c, rows[i].name);
        if (!t || oct_checkpoint_read_rows(c, t, 0, 2, values, &err) != OCT_OK || values[3] != 1)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *file = memory_file(data, size);
    if (!scheme_folder[0]) {
        char path[128];
        scheme_start("m-00001-of-00002.safetensors", rows, 2);
        scheme_put_tensors("m-00002-of-00002.safetensors", rows + 2, 2);
        scheme_path(path, "model.safetensors.index.json");
        if (symlink(file, path) != 0) abort();
    }
    scheme_read(look);
    return 0;
}
