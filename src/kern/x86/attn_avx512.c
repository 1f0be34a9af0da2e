/*
 * kern/x86/attn_avx512.c - the pieces of attention for AVX-512. The body is in attn_v16.h.
 */
#include "kern/x86/v16_avx512.h"

#include "kern/x86/attn_v16.h"
