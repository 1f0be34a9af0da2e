/*
 * kernels/list.h - every kernel: the file it stands in (kernels/FILE.cu), its name without "oct_"
 * and the struct of its arguments. A kernel that is not here is not found; one that is here and
 * missing in its file fails as the device opens.
 */
#ifndef OCT_CUDA_LIST_H
#define OCT_CUDA_LIST_H

#include "attn.h"
#include "linear.h"
#include "linear_sm90.h"
#include "rows.h"
#include "side.h"
#include "weight.h"

/* kernels/FILE.cu that are compiled and embedded; files.cmake names the same. */
/* clang-format off */
#define OCT_CUDA_FILES(X) X(rows) X(norm) X(pack) X(attn_input) X(attn_i8) X(attn_join) \
    X(attn_float) X(attn_half) X(attn_half_prompt) X(attn_prompt) X(attn_prompt_sm90) X(linear_i8) \
    X(linear_float) X(linear_sm90) X(linear_few_sm90) X(side_moe) \
    X(side_sample) X(side_choose)

/* FILE, NAME, PARAMS. Those of one NAME_C stay together, C ascending: they are chosen by adding. */
#define OCT_CUDA_KERNELS(X) \
    X(rows, embed, oct_embed_params) \
    X(norm, norm_1, oct_norm_params) \
    X(norm, norm_2, oct_norm_params) \
    X(norm, norm_4, oct_norm_params) \
    X(norm, norm_16, oct_norm_params) \
    X(rows, quantize_1, oct_quantize_params) \
    X(rows, quantize_2, oct_quantize_params) \
    X(rows, quantize_4, oct_quantize_params) \
    X(rows, quantize_16, oct_quantize_params) \
    X(rows, act_1, oct_act_params) \
    X(rows, act_2, oct_act_params) \
    X(rows, act_4, oct_act_params) \
    X(rows, act_16, oct_act_params) \
    X(rows, gather, oct_gather_params) \
    X(rows, softcap, oct_softcap_params) \
    X(rows, feed, oct_feed_params) \
    X(attn_input, attn_sums, oct_attn_sums_params) \
    X(attn_input, attn_input, oct_attn_input_params) \
    X(attn_join, attn_join_1, oct_attn_params) \
    X(attn_join, attn_join_2, oct_attn_params) \
    X(attn_join, attn_join_4, oct_attn_params) \
    X(attn_join, attn_join_16, oct_attn_params) \
    X(attn_i8, attn_i8_64, oct_attn_params) \
    X(attn_i8, attn_i8_128, oct_attn_params) \
    X(attn_i8, attn_i8_256, oct_attn_params) \
    X(attn_i8, attn_i8_token_64, oct_attn_params) \
    X(attn_i8, attn_i8_token_128, oct_attn_params) \
    X(attn_i8, attn_i8_token_256, oct_attn_params) \
    X(attn_float, attn_f32_64, oct_attn_params) \
    X(attn_float, attn_f32_128, oct_attn_params) \
    X(attn_float, attn_f32_256, oct_attn_params) \
    X(attn_half, attn_bf16_64, oct_attn_params) \
    X(attn_half, attn_bf16_128, oct_attn_params) \
    X(attn_half, attn_bf16_256, oct_attn_params) \
    X(attn_half, attn_f16_64, oct_attn_params) \
    X(attn_half, attn_f16_128, oct_attn_params) \
    X(attn_half, attn_f16_256, oct_attn_params) \
    X(attn_half, attn_fp8_64, oct_attn_params) \
    X(attn_half, attn_fp8_128, oct_attn_params) \
    X(attn_half, attn_fp8_256, oct_attn_params) \
    X(attn_half, attn_rows_256, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_bf16_64, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_bf16_128, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_f16_64, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_f16_128, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_fp8_64, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_fp8_128, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_rows_64, oct_attn_params) \
    X(attn_half_prompt, attn_prompt_rows_128, oct_attn_params) \
    X(attn_prompt, attn_prompt_64, oct_attn_params) \
    X(attn_prompt, attn_prompt_128, oct_attn_params) \
    X(attn_prompt, attn_prompt_token_64, oct_attn_params) \
    X(attn_prompt, attn_prompt_token_128, oct_attn_params) \
    X(attn_prompt_sm90, attn_prompt_sm90_64, oct_attn_params) \
    X(attn_prompt_sm90, attn_prompt_sm90_128, oct_attn_params) \
    X(pack, pack, oct_pack_params) \
    X(linear_i8, linear_i8_8, oct_linear_params) \
    X(linear_i8, linear_i8_16, oct_linear_params) \
    X(linear_i8, linear_i8_32, oct_linear_params) \
    X(linear_i8, linear_i8_64, oct_linear_params) \
    X(linear_i8, linear_i8_128, oct_linear_params) \
    X(linear_float, linear_float_8, oct_linear_params) \
    X(linear_float, linear_float_16, oct_linear_params) \
    X(linear_float, linear_float_32, oct_linear_params) \
    X(linear_float, linear_float_64, oct_linear_params) \
    X(linear_float, linear_float_128, oct_linear_params) \
    X(linear_sm90, linear_sm90, oct_linear_sm90_params) \
    X(linear_few_sm90, linear_few_8, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_16, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_32, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_64, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_128, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_192, oct_linear_few_params) \
    X(linear_few_sm90, linear_few_256, oct_linear_few_params) \
    X(side_moe, route, oct_route_params) \
    X(side_moe, permute_one, oct_permute_params) \
    X(side_moe, permute_count, oct_permute_params) \
    X(side_moe, permute_first, oct_permute_params) \
    X(side_moe, permute_place, oct_permute_params) \
    X(side_moe, quantize_grouped_1, oct_quantize_grouped_params) \
    X(side_moe, quantize_grouped_2, oct_quantize_grouped_params) \
    X(side_moe, quantize_grouped_4, oct_quantize_grouped_params) \
    X(side_moe, quantize_grouped_16, oct_quantize_grouped_params) \
    X(side_moe, combine, oct_combine_params) \
    X(side_sample, sample_look, oct_sample_params) \
    X(side_sample, sample_weigh, oct_sample_params) \
    X(side_choose, sample_choose, oct_sample_params)
/* clang-format on */

#endif
