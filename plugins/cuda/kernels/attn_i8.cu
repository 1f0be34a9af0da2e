/* kernels/attn_i8.cu - attention over int8 caches, 8 queries a block (attn_i8.cuh). */
#include "attn_i8.cuh"

template <int PAD, bool TOKEN> OCT_DEVICE void attn_i8(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_block<attn_span_i8<PAD, TOKEN>> block;
    oct_grid_launch_next();
    block.run(p, room);
}

/* A scale a channel. */
OCT_KERNEL(attn_i8_64, oct_attn_params, 128) { attn_i8<64, false>(p); }
OCT_KERNEL(attn_i8_128, oct_attn_params, 128) { attn_i8<128, false>(p); }
OCT_KERNEL(attn_i8_256, oct_attn_params, 128) { attn_i8<256, false>(p); }
/* A scale a token. */
OCT_KERNEL(attn_i8_token_64, oct_attn_params, 128) { attn_i8<64, true>(p); }
OCT_KERNEL(attn_i8_token_128, oct_attn_params, 128) { attn_i8<128, true>(p); }
OCT_KERNEL(attn_i8_token_256, oct_attn_params, 128) { attn_i8<256, true>(p); }
