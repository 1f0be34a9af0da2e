/* Any bytes as a GGUF file: container, hyperparameters, and the values of every tensor. */
#include "../memory_file.h"
#include "base/log.h"
#include "store/config.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static oct_model_config config;
    oct_gguf *g;
    oct_err err = {0};
    oct_log_set_level(OCT_LOG_OFF);
    if (oct_gguf_open(oct_system_allocator(), memory_file(data, size), &g, &err) != OCT_OK) {
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
    if (oct_model_config_from_gguf(g, &config, &err) == OCT_OK) oct_model_config_fini(&config);
    oct_gguf_close(g);
    return 0;
}
