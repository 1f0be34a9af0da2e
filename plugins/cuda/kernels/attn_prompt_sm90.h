/* kernels/attn_prompt_sm90.h - the shape of a block of attn_prompt_sm90.cu. */
#ifndef OCT_CUDA_ATTN_PROMPT_SM90_H
#define OCT_CUDA_ATTN_PROMPT_SM90_H

#include "attn.h"

/* Queries (row, head) of a tile, spans on their way, a warpgroup that copies and three that
 * multiply. */
enum { OCT_ATTN_SM90_VECTORS = 96, OCT_ATTN_SM90_STAGES = 4, OCT_ATTN_SM90_THREADS = 512 };

/* Dynamic shared memory: K and V of the spans, the results so far, the queries. */
#define OCT_ATTN_SM90_SHARED(pad) \
    (OCT_ATTN_SM90_STAGES * 256u * (pad) + OCT_ATTN_SM90_VECTORS * 6u * (pad))

#endif
