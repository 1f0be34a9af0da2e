# Files of kernels/NAME.cu: those that any chip runs and the emulation of the tests too, and those
# that need Hopper's instructions. kernels/list.h names the same.
set(OCT_CUDA_KERNEL_FILES rows norm pack attn_input attn_i8 attn_join attn_float attn_half attn_half_prompt attn_prompt
  attn_prompt_sm90 linear_i8 linear_float linear_sm90 linear_few_sm90
  side_moe side_sample side_choose)
set(OCT_CUDA_KERNEL_FILES_SM90)
