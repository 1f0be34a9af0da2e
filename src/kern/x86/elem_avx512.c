/*
 * kern/x86/elem_avx512.c - the row operations for AVX-512. The body is in elem_v16.h.
 */
#include "kern/x86/v16_avx512.h"

#include "kern/x86/elem_v16.h"
