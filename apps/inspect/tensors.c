/* apps/inspect/tensors.c - the tensors of a checkpoint as a list. */
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "codec/utf8.h"
#include "inspect.h"

json_t *inspect_text(const char *text) {
    oct_buf whole;
    oct_buf_init(&whole, oct_system_allocator(), 0);
    oct_utf8_repair(&whole, oct_str_of(text));
    json_t *v = whole.failed ? NULL : json_stringn(oct_buf_cs(&whole), whole.len);
    oct_buf_fini(&whole);
    return v;
}

const char *inspect_shape(const oct_tensor *t, char out[256]) {
    size_t used = (size_t)snprintf(out, 256, "[");
    for (uint32_t d = 0; d < t->rank && used < 256; d++)
        used += (size_t)snprintf(out + used, 256 - used, "%s%llu", d ? ", " : "",
                                 (unsigned long long)t->shape[d]);
    if (used < 256) snprintf(out + used, 256 - used, "]");
    return out;
}

void inspect_print_tensors(const oct_checkpoint *ckpt) {
    int widest = 0;
    char shape[256];
    for (size_t i = 0; i < oct_checkpoint_n_tensors(ckpt); i++) {
        const int n = (int)oct_checkpoint_tensor_at(ckpt, i)->name.len;
        if (n > widest && n <= 72) widest = n;
    }
    for (size_t i = 0; i < oct_checkpoint_n_tensors(ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(ckpt, i);
        printf("%-*s  %-7s %-18s %12llu  %s\n", widest, t->name.ptr, oct_dtype_name(t->dtype),
               inspect_shape(t, shape), (unsigned long long)t->bytes,
               oct_checkpoint_file_name(ckpt, t));
    }
}

json_t *inspect_tensor_to_json(const oct_checkpoint *ckpt, const oct_tensor *t) {
    json_t *shape = json_array();
    for (uint32_t d = 0; d < t->rank; d++)
        oct_json_push(&shape, json_integer((json_int_t)t->shape[d]));
    return json_pack("{s:s, s:s, s:o, s:I, s:o}", "name", t->name.ptr, "dtype",
                     oct_dtype_name(t->dtype), "shape", shape, "bytes", (json_int_t)t->bytes,
                     "file", inspect_text(oct_checkpoint_file_name(ckpt, t)));
}

json_t *inspect_tensors_to_json(const oct_checkpoint *ckpt) {
    json_t *list = json_array();
    for (size_t i = 0; i < oct_checkpoint_n_tensors(ckpt); i++)
        oct_json_push(&list, inspect_tensor_to_json(ckpt, oct_checkpoint_tensor_at(ckpt, i)));
    return list;
}
