/*
 * kern/kern_ref.h - private to the room: each reference file fills its own slots. Every slot is
 * filled by exactly one of them.
 */
#ifndef OCT_KERN_KERN_REF_H
#define OCT_KERN_KERN_REF_H

#include "kern/kern.h"

void oct_kern_init_linear_ref(oct_kern *k); /* linear_ref.c: the int8 and float products */
void oct_kern_init_elem_ref(oct_kern *k);   /* elem_ref.c */
void oct_kern_init_attn_ref(oct_kern *k);   /* attn_ref.c */
void oct_kern_init_kv_ref(oct_kern *k);     /* kv_ref.c */
void oct_kern_init_pack_ref(oct_kern *k);   /* pack.c */

#endif
