/*
 * store/tensor_table.h - a growing list of tensors with a lookup by name. Internal to the room.
 *
 * Ownership  The table owns its arrays; names are borrowed (usually from an arena beside it).
 */
#ifndef OCT_STORE_TENSOR_TABLE_H
#define OCT_STORE_TENSOR_TABLE_H

#include "base/alloc.h"
#include "store/tensor.h"

typedef struct oct_tensor_table {
    const oct_allocator *mem;
    oct_tensor *v;
    size_t n, cap;
    uint32_t *by_name; /* [n] once indexed */
} oct_tensor_table;

void oct_tensor_table_init(oct_tensor_table *t, const oct_allocator *mem);
void oct_tensor_table_fini(oct_tensor_table *t); /* accepts a zeroed one */

/* Appends a copy. False: no memory. Not after index. */
OCT_MUST_CHECK bool oct_tensor_table_add(oct_tensor_table *t, const oct_tensor *tensor);
/* Sorts the tensors of one file by place: offset, then size. Before index. */
void oct_tensor_table_sort(oct_tensor_table *t);
/* Makes find possible. *twice (may be NULL) is a tensor whose name another one has too, or NULL.
 * False: no memory. */
OCT_MUST_CHECK bool oct_tensor_table_index(oct_tensor_table *t, const oct_tensor **twice);
/* Forgets the index, so that tensors can be added again. */
void oct_tensor_table_unindex(oct_tensor_table *t);
const oct_tensor *oct_tensor_table_find(const oct_tensor_table *t, oct_str name);

#endif
