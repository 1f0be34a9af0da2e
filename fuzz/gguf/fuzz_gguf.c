/* Any bytes as a GGUF file: container, the values of every tensor, and the whole as a checkpoint:
 * hyperparameters, names, experts taken apart, rows put in order. */
#include "../memory_file.h"
#include "base/log.h"
#include "store/checkpoint.h"
#include "store/gguf.h"
#include "store/gguf_quants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tensor(const oct_gguf *g, const oct_tensor *t) {
    const oct_allocator *mem = oct_system_allocator();
    void *raw = oct_alloc(mem, t->bytes, 1);
    if (!raw || oct_file_read(oct_gguf_file(g), t->offset, raw, t->bytes, NULL) != OCT_OK) abort();
    if (oct_dtype_block_elems(t->dtype) > 1) {
        const size_t n = (size_t)(t->n_rows * t->row_elems);
        float *values = oct_alloc(mem, n, sizeof *values);
        if (!values) abort();
        oct_gguf_dequantize(t->dtype, raw, n, values);
        oct_free(mem, values, n, sizeof *values);
    }
    oct_free(mem, raw, t->bytes, 1);
}

static void read_checkpoint(const char *path) {
    const oct_allocator *mem = oct_system_allocator();
    oct_checkpoint *c;
    oct_err err = {0};
    if (oct_checkpoint_open(mem, path, &c, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort();
        return;
    }
    for (size_t i = 0; i < oct_checkpoint_n_tensors(c); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(c, i);
        if (!oct_dtype_is_real(t->dtype) || t->n_rows == 0 || t->row_elems > 1 << 16) continue;
        float *v = oct_alloc(mem, t->row_elems, sizeof *v);
        if (!v || oct_checkpoint_read_rows(c, t, t->n_rows - 1, 1, v, NULL) != OCT_OK) abort();
        oct_free(mem, v, t->row_elems, sizeof *v);
    }
    oct_checkpoint_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = memory_file(data, size);
    oct_gguf *g;
    oct_err err = {0};
    oct_log_set_level(OCT_LOG_OFF);
    if (oct_gguf_open(oct_system_allocator(), path, &g, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort();
        return 0;
    }
    for (size_t i = 0; i < oct_gguf_n_values(g); i++) {
        const oct_gguf_value *v = oct_gguf_value_at(g, i);
        int64_t whole;
        double real;
        for (uint64_t k = 0; k < v->n && k < 1000; k++)
            (void)(oct_gguf_value_i64(v, k, &whole) + oct_gguf_value_f64(v, k, &real));
    }
    for (size_t i = 0; i < oct_gguf_n_tensors(g); i++) read_tensor(g, oct_gguf_tensor_at(g, i));
    oct_gguf_close(g);
    read_checkpoint(path);
    return 0;
}
