/* Any bytes as a safetensors file; what is accepted must be readable whole. */
#include <string.h>

#include "../memory_file.h"
#include "store/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_allocator *mem = oct_system_allocator();
    oct_safetensors *st;
    oct_err err = {0};
    if (oct_safetensors_open(mem, memory_file(data, size), &st, &err) != OCT_OK) {
        if (err.text[0] == '\0') abort(); /* a refusal without a reason */
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < oct_safetensors_n(st); i++) {
        const oct_tensor *t = oct_safetensors_at(st, i);
        void *p = oct_alloc(mem, t->bytes, 1);
        if (!p || oct_safetensors_read(st, t, p, NULL) != OCT_OK) abort();
        if (oct_safetensors_find(st, t->name) != t) abort();
        oct_free(mem, p, t->bytes, 1);
        sum += t->bytes;
    }
    if (sum > size) abort(); /* ranges must not overlap */
    oct_safetensors_close(st);
    return 0;
}
