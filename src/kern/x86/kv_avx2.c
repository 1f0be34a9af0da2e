/*
 * kern/x86/kv_avx2.c - the element types of the cache for AVX2. The body is in kv_v16.h.
 */
#include "kern/x86/v16_avx2.h"

#include "kern/x86/kv_v16.h"
