/*
 * kern/x86/elem_avx2.c - the row operations for AVX2. The body is in elem_v16.h.
 */
#include "kern/x86/v16_avx2.h"

#include "kern/x86/elem_v16.h"
