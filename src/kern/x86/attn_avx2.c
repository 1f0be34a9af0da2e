/*
 * kern/x86/attn_avx2.c - the pieces of attention for AVX2. The body is in attn_v16.h.
 */
#include "kern/x86/v16_avx2.h"

#include "kern/x86/attn_v16.h"
