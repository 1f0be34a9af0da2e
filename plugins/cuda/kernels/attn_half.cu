/* kernels/attn_half.cu - attention over 16-bit and E4M3 caches and the rows of this step, 8 queries
 * a block (attn_half.cuh). */
#include "attn_half.cuh"

template <class T, int PAD> OCT_DEVICE void attn_half(const oct_attn_params &p) {
    OCT_SHARED_DYNAMIC(room);
    attn_block<attn_span_half<T, PAD>> block;
    oct_grid_launch_next();
    oct_grid_wait();
    block.run(p, room);
}

OCT_KERNEL_BLOCKS(attn_bf16_64, oct_attn_params, 128, 3) { attn_half<attn_bf16, 64>(p); }
OCT_KERNEL_BLOCKS(attn_bf16_128, oct_attn_params, 128, 3) { attn_half<attn_bf16, 128>(p); }
OCT_KERNEL(attn_bf16_256, oct_attn_params, 128) { attn_half<attn_bf16, 256>(p); }
OCT_KERNEL_BLOCKS(attn_f16_64, oct_attn_params, 128, 3) { attn_half<attn_f16, 64>(p); }
OCT_KERNEL_BLOCKS(attn_f16_128, oct_attn_params, 128, 3) { attn_half<attn_f16, 128>(p); }
OCT_KERNEL(attn_f16_256, oct_attn_params, 128) { attn_half<attn_f16, 256>(p); }
OCT_KERNEL_BLOCKS(attn_fp8_64, oct_attn_params, 128, 3) { attn_half<attn_e4m3, 64>(p); }
OCT_KERNEL_BLOCKS(attn_fp8_128, oct_attn_params, 128, 3) { attn_half<attn_e4m3, 128>(p); }
OCT_KERNEL(attn_fp8_256, oct_attn_params, 128) { attn_half<attn_e4m3, 256>(p); }
/* Heads of this width alone: others take attn_half_prompt.cu. */
OCT_KERNEL(attn_rows_256, oct_attn_params, 128) { attn_half<attn_rows, 256>(p); }
