/*
 * kern/x86/kv_avx512.c - the element types of the cache for AVX-512. The body is in kv_v16.h.
 */
#include "kern/x86/v16_avx512.h"

#include "kern/x86/kv_v16.h"
