/* kernels/attn_float.cu - attention over float and E4M3 caches (attn_float.cuh). */
#include "attn_float.cuh"

template <int PAD, class FROM> OCT_DEVICE void attn_float(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_block<attn_span_float<PAD, FROM>> block;
    oct_grid_launch_next();
    oct_grid_wait();
    block.run(p, room);
}

template <int PAD, class T> OCT_DEVICE void attn_cache(const oct_attn_params &p) {
    attn_float<PAD, attn_from_cache<PAD, T>>(p);
}

OCT_KERNEL(attn_f32_64, oct_attn_params, 128) { attn_cache<64, attn_f32>(p); }
OCT_KERNEL(attn_f32_128, oct_attn_params, 128) { attn_cache<128, attn_f32>(p); }
OCT_KERNEL(attn_f32_256, oct_attn_params, 128) { attn_cache<256, attn_f32>(p); }
OCT_KERNEL(attn_half_64, oct_attn_params, 128) { attn_cache<64, attn_half>(p); }
OCT_KERNEL(attn_half_128, oct_attn_params, 128) { attn_cache<128, attn_half>(p); }
OCT_KERNEL(attn_half_256, oct_attn_params, 128) { attn_cache<256, attn_half>(p); }
OCT_KERNEL(attn_fp8_64, oct_attn_params, 128) { attn_cache<64, attn_e4m3>(p); }
OCT_KERNEL(attn_fp8_128, oct_attn_params, 128) { attn_cache<128, attn_e4m3>(p); }
OCT_KERNEL(attn_fp8_256, oct_attn_params, 128) { attn_cache<256, attn_e4m3>(p); }
/* The rows of this step. */
OCT_KERNEL(attn_rows_64, oct_attn_params, 128) { attn_float<64, attn_from_rows<64>>(p); }
OCT_KERNEL(attn_rows_128, oct_attn_params, 128) { attn_float<128, attn_from_rows<128>>(p); }
OCT_KERNEL(attn_rows_256, oct_attn_params, 128) { attn_float<256, attn_from_rows<256>>(p); }
