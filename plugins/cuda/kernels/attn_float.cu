/* kernels/attn_float.cu - attention over float32 caches (attn_float.cuh). */
#include "attn_float.cuh"

template <int PAD> OCT_DEVICE void attn_float(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_block<attn_span_float<PAD>> block;
    oct_grid_launch_next();
    oct_grid_wait();
    block.run(p, room);
}

OCT_KERNEL(attn_f32_64, oct_attn_params, 128) { attn_float<64>(p); }
OCT_KERNEL(attn_f32_128, oct_attn_params, 128) { attn_float<128>(p); }
OCT_KERNEL(attn_f32_256, oct_attn_params, 128) { attn_float<256>(p); }
