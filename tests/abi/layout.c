/*
 * tests/abi/layout.c - where every member of every public struct lies. A difference here is a
 * change of the contract with plug-ins that exist already: members are appended, never moved.
 *
 * For 64-bit pointers, which is all that octet supports.
 */
#include <octet/device.h>

#include <octet/octet.h>

_Static_assert(sizeof(void *) == 8, "64-bit pointers");

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define AT(type, member, at) \
    _Static_assert(offsetof(type, member) == (at), "place of " #member " in " #type)

_Static_assert(OCTET_NUMERICS_REV == 1u, "a new revision refuses older plug-ins: see CHANGELOG");

SIZE(octet_ref, 16);
AT(octet_ref, buffer, 0);
AT(octet_ref, offset, 8);

SIZE(octet_host, 24);
AT(octet_host, struct_bytes, 0);
AT(octet_host, numerics_rev, 4);
AT(octet_host, ctx, 8);
AT(octet_host, log, 16);

SIZE(octet_open_options, 32);
AT(octet_open_options, struct_bytes, 0);
AT(octet_open_options, ordinal, 4);
AT(octet_open_options, n_threads, 8);
AT(octet_open_options, bind_threads, 12);
AT(octet_open_options, settings, 16);
AT(octet_open_options, overlap, 24);

SIZE(octet_device_info, 160);
AT(octet_device_info, struct_bytes, 0);
AT(octet_device_info, act_dtype, 4);
AT(octet_device_info, n_compute_units, 8);
AT(octet_device_info, reserved, 12);
AT(octet_device_info, mem_total_bytes, 16);
AT(octet_device_info, mem_free_bytes, 24);
AT(octet_device_info, name, 32);

SIZE(octet_rows, 24);
AT(octet_rows, data, 0);
AT(octet_rows, stride, 16);

SIZE(octet_qrows, 40);
AT(octet_qrows, data, 0);
AT(octet_qrows, scale, 16);
AT(octet_qrows, stride, 32);

SIZE(octet_quant, 64);
AT(octet_quant, mode, 0);
AT(octet_quant, reserved, 4);
AT(octet_quant, param, 8);
AT(octet_quant, out, 24);

SIZE(octet_weight_desc, 32);
AT(octet_weight_desc, struct_bytes, 0);
AT(octet_weight_desc, dtype, 4);
AT(octet_weight_desc, n, 8);
AT(octet_weight_desc, k, 16);
AT(octet_weight_desc, n_experts, 24);
AT(octet_weight_desc, reserved, 28);

SIZE(octet_weight_rows, 56);
AT(octet_weight_rows, struct_bytes, 0);
AT(octet_weight_rows, reserved, 4);
AT(octet_weight_rows, row, 8);
AT(octet_weight_rows, n_rows, 16);
AT(octet_weight_rows, data, 24);
AT(octet_weight_rows, col_scale, 32);
AT(octet_weight_rows, int_bias, 40);
AT(octet_weight_rows, bias, 48);

SIZE(octet_weight_part, 56);
AT(octet_weight_part, struct_bytes, 0);
AT(octet_weight_part, given, 4);
AT(octet_weight_part, row, 8);
AT(octet_weight_part, n_rows, 16);
AT(octet_weight_part, data, 24);
AT(octet_weight_part, col_scale, 32);
AT(octet_weight_part, int_bias, 40);
AT(octet_weight_part, bias, 48);

SIZE(octet_weight_reader, 24);
AT(octet_weight_reader, struct_bytes, 0);
AT(octet_weight_reader, reserved, 4);
AT(octet_weight_reader, ctx, 8);
AT(octet_weight_reader, read, 16);

SIZE(octet_kv_desc, 112);
AT(octet_kv_desc, struct_bytes, 0);
AT(octet_kv_desc, kind, 4);
AT(octet_kv_desc, n_kv_heads, 8);
AT(octet_kv_desc, head_dim, 12);
AT(octet_kv_desc, block_tokens, 16);
AT(octet_kv_desc, reserved, 20);
AT(octet_kv_desc, block_bytes, 24);
AT(octet_kv_desc, base, 32);
AT(octet_kv_desc, k_scale, 48);
AT(octet_kv_desc, k_offset, 64);
AT(octet_kv_desc, v_scale, 80);
AT(octet_kv_desc, v_offset, 96);
_Static_assert(OCTET_KV_F32 == 1 && OCTET_KV_BF16 == 2 && OCTET_KV_I8_CHANNEL == 3, "kinds");
_Static_assert(OCTET_KV_I8_TOKEN == 4 && OCTET_KV_FP8_CHANNEL == 5 && OCTET_KV_F16 == 6, "kinds");

SIZE(octet_batch, 104);
AT(octet_batch, struct_bytes, 0);
AT(octet_batch, n_seqs, 4);
AT(octet_batch, n_rows, 8);
AT(octet_batch, max_seq_rows, 12);
AT(octet_batch, max_kv_len, 16);
AT(octet_batch, table_stride, 20);
AT(octet_batch, row_pos, 24);
AT(octet_batch, row_slot, 40);
AT(octet_batch, seq_row, 56);
AT(octet_batch, seq_kv_len, 72);
AT(octet_batch, block_table, 88);

SIZE(octet_embed_op, 64);
AT(octet_embed_op, struct_bytes, 0);
AT(octet_embed_op, n_rows, 4);
AT(octet_embed_op, table, 8);
AT(octet_embed_op, ids, 16);
AT(octet_embed_op, out, 32);
AT(octet_embed_op, scale, 56);
AT(octet_embed_op, reserved, 60);

SIZE(octet_norm_op, 192);
AT(octet_norm_op, struct_bytes, 0);
AT(octet_norm_op, kind, 4);
AT(octet_norm_op, n_rows, 8);
AT(octet_norm_op, width, 12);
AT(octet_norm_op, x, 16);
AT(octet_norm_op, add, 40);
AT(octet_norm_op, weight, 64);
AT(octet_norm_op, bias, 80);
AT(octet_norm_op, eps, 96);
AT(octet_norm_op, reserved, 100);
AT(octet_norm_op, out, 104);
AT(octet_norm_op, quant, 128);

SIZE(octet_quantize_op, 120);
AT(octet_quantize_op, struct_bytes, 0);
AT(octet_quantize_op, n_rows, 4);
AT(octet_quantize_op, width, 8);
AT(octet_quantize_op, reserved, 12);
AT(octet_quantize_op, x, 16);
AT(octet_quantize_op, mul, 40);
AT(octet_quantize_op, quant, 56);

SIZE(octet_linear_op, 112);
AT(octet_linear_op, struct_bytes, 0);
AT(octet_linear_op, n_rows, 4);
AT(octet_linear_op, weight, 8);
AT(octet_linear_op, x, 16);
AT(octet_linear_op, qx, 40);
AT(octet_linear_op, out, 80);
AT(octet_linear_op, out_dtype, 104);
AT(octet_linear_op, accumulate, 108);

SIZE(octet_attn_input_op, 344);
AT(octet_attn_input_op, struct_bytes, 0);
AT(octet_attn_input_op, n_heads, 4);
AT(octet_attn_input_op, qk_norm, 8);
AT(octet_attn_input_op, rotary_dim, 12);
AT(octet_attn_input_op, qkv, 16);
AT(octet_attn_input_op, q_norm, 40);
AT(octet_attn_input_op, k_norm, 56);
AT(octet_attn_input_op, norm_eps, 72);
AT(octet_attn_input_op, n_rope_rows, 76);
AT(octet_attn_input_op, rope, 80);
AT(octet_attn_input_op, kv, 96);
AT(octet_attn_input_op, batch, 208);
AT(octet_attn_input_op, q_norm_bias, 312);
AT(octet_attn_input_op, k_norm_bias, 328);

SIZE(octet_attention_op, 376);
AT(octet_attention_op, struct_bytes, 0);
AT(octet_attention_op, n_heads, 4);
AT(octet_attention_op, q, 8);
AT(octet_attention_op, fresh, 32);
AT(octet_attention_op, kv, 56);
AT(octet_attention_op, batch, 168);
AT(octet_attention_op, scale, 272);
AT(octet_attention_op, softcap, 276);
AT(octet_attention_op, window, 280);
AT(octet_attention_op, mask, 284);
AT(octet_attention_op, out, 288);
AT(octet_attention_op, quant, 312);

SIZE(octet_act_op, 136);
AT(octet_act_op, struct_bytes, 0);
AT(octet_act_op, kind, 4);
AT(octet_act_op, gated, 8);
AT(octet_act_op, n_rows, 12);
AT(octet_act_op, width, 16);
AT(octet_act_op, reserved, 20);
AT(octet_act_op, x, 24);
AT(octet_act_op, out, 48);
AT(octet_act_op, quant, 72);

SIZE(octet_gather_op, 80);
AT(octet_gather_op, struct_bytes, 0);
AT(octet_gather_op, n_rows, 4);
AT(octet_gather_op, width, 8);
AT(octet_gather_op, reserved, 12);
AT(octet_gather_op, x, 16);
AT(octet_gather_op, index, 40);
AT(octet_gather_op, out, 56);

SIZE(octet_feed_op, 64);
AT(octet_feed_op, struct_bytes, 0);
AT(octet_feed_op, n_rows, 4);
AT(octet_feed_op, n_drawn, 8);
AT(octet_feed_op, n_vocab, 12);
AT(octet_feed_op, ids, 16);
AT(octet_feed_op, from, 32);
AT(octet_feed_op, drawn, 48);

SIZE(octet_sample_row, 80);
AT(octet_sample_row, temperature, 0);
AT(octet_sample_row, top_p, 4);
AT(octet_sample_row, min_p, 8);
AT(octet_sample_row, repetition_penalty, 12);
AT(octet_sample_row, frequency_penalty, 16);
AT(octet_sample_row, presence_penalty, 20);
AT(octet_sample_row, top_k, 24);
AT(octet_sample_row, flags, 28);
AT(octet_sample_row, seed, 32);
AT(octet_sample_row, choice, 40);
AT(octet_sample_row, position, 44);
AT(octet_sample_row, n_top, 48);
AT(octet_sample_row, forced, 52);
AT(octet_sample_row, seen_begin, 56);
AT(octet_sample_row, seen_end, 60);
AT(octet_sample_row, bias_begin, 64);
AT(octet_sample_row, bias_end, 68);
AT(octet_sample_row, mask, 72);
AT(octet_sample_row, reserved, 76);

SIZE(octet_seen_token, 12);
AT(octet_seen_token, id, 0);
AT(octet_seen_token, n_output, 4);
AT(octet_seen_token, in_prompt, 8);

SIZE(octet_bias, 8);
AT(octet_bias, id, 0);
AT(octet_bias, value, 4);

SIZE(octet_sample_out, 16);
AT(octet_sample_out, token, 0);
AT(octet_sample_out, status, 4);
AT(octet_sample_out, logprob, 8);
AT(octet_sample_out, rank, 12);

SIZE(octet_sample_op, 152);
AT(octet_sample_op, struct_bytes, 0);
AT(octet_sample_op, n_rows, 4);
AT(octet_sample_op, n_vocab, 8);
AT(octet_sample_op, max_top, 12);
AT(octet_sample_op, logits, 16);
AT(octet_sample_op, rows, 40);
AT(octet_sample_op, seen, 56);
AT(octet_sample_op, bias, 72);
AT(octet_sample_op, masks, 88);
AT(octet_sample_op, out, 104);
AT(octet_sample_op, top_id, 120);
AT(octet_sample_op, top_logprob, 136);

SIZE(octet_route_op, 104);
AT(octet_route_op, struct_bytes, 0);
AT(octet_route_op, kind, 4);
AT(octet_route_op, n_rows, 8);
AT(octet_route_op, n_experts, 12);
AT(octet_route_op, top_k, 16);
AT(octet_route_op, renormalise, 20);
AT(octet_route_op, scale, 24);
AT(octet_route_op, reserved, 28);
AT(octet_route_op, logits, 32);
AT(octet_route_op, bias, 56);
AT(octet_route_op, expert, 72);
AT(octet_route_op, weight, 88);

SIZE(octet_permute_op, 80);
AT(octet_permute_op, struct_bytes, 0);
AT(octet_permute_op, n_rows, 4);
AT(octet_permute_op, n_experts, 8);
AT(octet_permute_op, top_k, 12);
AT(octet_permute_op, expert, 16);
AT(octet_permute_op, first, 32);
AT(octet_permute_op, row, 48);
AT(octet_permute_op, place, 64);

SIZE(octet_quantize_grouped_op, 160);
AT(octet_quantize_grouped_op, struct_bytes, 0);
AT(octet_quantize_grouped_op, n_rows, 4);
AT(octet_quantize_grouped_op, n_in, 8);
AT(octet_quantize_grouped_op, width, 12);
AT(octet_quantize_grouped_op, n_experts, 16);
AT(octet_quantize_grouped_op, reserved, 20);
AT(octet_quantize_grouped_op, first, 24);
AT(octet_quantize_grouped_op, row, 40);
AT(octet_quantize_grouped_op, x, 56);
AT(octet_quantize_grouped_op, mul, 80);
AT(octet_quantize_grouped_op, quant, 96);

SIZE(octet_linear_grouped_op, 152);
AT(octet_linear_grouped_op, struct_bytes, 0);
AT(octet_linear_grouped_op, n_rows, 4);
AT(octet_linear_grouped_op, n_in, 8);
AT(octet_linear_grouped_op, out_dtype, 12);
AT(octet_linear_grouped_op, accumulate, 16);
AT(octet_linear_grouped_op, reserved, 20);
AT(octet_linear_grouped_op, weight, 24);
AT(octet_linear_grouped_op, first, 32);
AT(octet_linear_grouped_op, row, 48);
AT(octet_linear_grouped_op, x, 64);
AT(octet_linear_grouped_op, qx, 88);
AT(octet_linear_grouped_op, out, 128);

SIZE(octet_combine_op, 144);
AT(octet_combine_op, struct_bytes, 0);
AT(octet_combine_op, n_rows, 4);
AT(octet_combine_op, width, 8);
AT(octet_combine_op, top_k, 12);
AT(octet_combine_op, accumulate, 16);
AT(octet_combine_op, reserved, 20);
AT(octet_combine_op, x, 24);
AT(octet_combine_op, place, 48);
AT(octet_combine_op, weight, 64);
AT(octet_combine_op, shared, 80);
AT(octet_combine_op, shared_gate, 104);
AT(octet_combine_op, out, 120);

SIZE(octet_softcap_op, 40);
AT(octet_softcap_op, struct_bytes, 0);
AT(octet_softcap_op, n_rows, 4);
AT(octet_softcap_op, width, 8);
AT(octet_softcap_op, cap, 12);
AT(octet_softcap_op, x, 16);

SIZE(octet_device_ops, 384);
AT(octet_device_ops, struct_bytes, 0);
AT(octet_device_ops, numerics_rev, 4);
AT(octet_device_ops, plugin_name, 8);
AT(octet_device_ops, open, 16);
AT(octet_device_ops, close, 24);
AT(octet_device_ops, info, 32);
AT(octet_device_ops, error_text, 40);
AT(octet_device_ops, buffer_create, 48);
AT(octet_device_ops, buffer_destroy, 56);
AT(octet_device_ops, host_alloc, 64);
AT(octet_device_ops, host_free, 72);
AT(octet_device_ops, stream_create, 80);
AT(octet_device_ops, stream_destroy, 88);
AT(octet_device_ops, stream_wait, 96);
AT(octet_device_ops, event_create, 104);
AT(octet_device_ops, event_destroy, 112);
AT(octet_device_ops, event_record, 120);
AT(octet_device_ops, event_wait, 128);
AT(octet_device_ops, stream_wait_event, 136);
AT(octet_device_ops, write, 144);
AT(octet_device_ops, read, 152);
AT(octet_device_ops, copy, 160);
AT(octet_device_ops, fill, 168);
AT(octet_device_ops, capture_begin, 176);
AT(octet_device_ops, capture_end, 184);
AT(octet_device_ops, replay, 192);
AT(octet_device_ops, graph_destroy, 200);
AT(octet_device_ops, weight_create, 208);
AT(octet_device_ops, weight_write, 216);
AT(octet_device_ops, weight_destroy, 224);
AT(octet_device_ops, weight_bytes, 232);
AT(octet_device_ops, kv_block_bytes, 240);
AT(octet_device_ops, embed, 248);
AT(octet_device_ops, norm, 256);
AT(octet_device_ops, quantize, 264);
AT(octet_device_ops, linear, 272);
AT(octet_device_ops, attn_input, 280);
AT(octet_device_ops, attention, 288);
AT(octet_device_ops, act, 296);
AT(octet_device_ops, gather, 304);
AT(octet_device_ops, sample, 312);
AT(octet_device_ops, route, 320);
AT(octet_device_ops, permute, 328);
AT(octet_device_ops, quantize_grouped, 336);
AT(octet_device_ops, linear_grouped, 344);
AT(octet_device_ops, combine, 352);
AT(octet_device_ops, softcap, 360);
AT(octet_device_ops, weight_load, 368);
AT(octet_device_ops, feed, 376);

/* ---- octet/octet.h ---- */

SIZE(octet_engine_options, 152);
AT(octet_engine_options, struct_bytes, 0);
AT(octet_engine_options, flags, 4);
AT(octet_engine_options, n_threads, 8);
AT(octet_engine_options, max_model_len, 12);
AT(octet_engine_options, max_num_seqs, 16);
AT(octet_engine_options, max_num_batched_tokens, 20);
AT(octet_engine_options, max_num_queued_reqs, 24);
AT(octet_engine_options, block_size, 28);
AT(octet_engine_options, kv_cache_bytes, 32);
AT(octet_engine_options, seed, 40);
AT(octet_engine_options, device, 48);
AT(octet_engine_options, device_settings, 56);
AT(octet_engine_options, quantization, 64);
AT(octet_engine_options, kv_cache_dtype, 72);
AT(octet_engine_options, kv_cache_dtype_skip_layers, 80);
AT(octet_engine_options, load_format, 88);
AT(octet_engine_options, hf_overrides, 96);
AT(octet_engine_options, tokenizer, 104);
AT(octet_engine_options, progress, 112);
AT(octet_engine_options, progress_ctx, 120);
AT(octet_engine_options, kv_offload_bytes, 128);
AT(octet_engine_options, kv_store, 136);
AT(octet_engine_options, kv_store_bytes, 144);

SIZE(octet_engine_info, 72);
AT(octet_engine_info, struct_bytes, 0);
AT(octet_engine_info, max_model_len, 4);
AT(octet_engine_info, n_vocab, 8);
AT(octet_engine_info, n_blocks, 12);
AT(octet_engine_info, block_tokens, 16);
AT(octet_engine_info, has_tokenizer, 20);
AT(octet_engine_info, has_chat_template, 24);
AT(octet_engine_info, reserved, 28);
AT(octet_engine_info, weight_bytes, 32);
AT(octet_engine_info, device, 40);
AT(octet_engine_info, family, 48);
AT(octet_engine_info, scheme, 56);
AT(octet_engine_info, template_error, 64);

SIZE(octet_message, 16);
AT(octet_message, role, 0);
AT(octet_message, content, 8);

SIZE(octet_request_spec, 136);
AT(octet_request_spec, struct_bytes, 0);
AT(octet_request_spec, flags, 4);
AT(octet_request_spec, messages, 8);
AT(octet_request_spec, text, 16);
AT(octet_request_spec, ids, 24);
AT(octet_request_spec, n_messages, 32);
AT(octet_request_spec, n_ids, 36);
AT(octet_request_spec, max_tokens, 40);
AT(octet_request_spec, min_tokens, 44);
AT(octet_request_spec, temperature, 48);
AT(octet_request_spec, top_p, 52);
AT(octet_request_spec, min_p, 56);
AT(octet_request_spec, top_k, 60);
AT(octet_request_spec, repetition_penalty, 64);
AT(octet_request_spec, frequency_penalty, 68);
AT(octet_request_spec, presence_penalty, 72);
AT(octet_request_spec, choice, 76);
AT(octet_request_spec, seed, 80);
AT(octet_request_spec, stop, 88);
AT(octet_request_spec, stop_ids, 96);
AT(octet_request_spec, n_stop, 104);
AT(octet_request_spec, n_stop_ids, 108);
AT(octet_request_spec, cache_salt, 112);
AT(octet_request_spec, on_ready, 120);
AT(octet_request_spec, user, 128);

SIZE(octet_output, 96);
AT(octet_output, struct_bytes, 0);
AT(octet_output, finish, 4);
AT(octet_output, text, 8);
AT(octet_output, text_bytes, 16);
AT(octet_output, tokens, 24);
AT(octet_output, logprobs, 32);
AT(octet_output, n_tokens, 40);
AT(octet_output, status, 44);
AT(octet_output, error, 48);
AT(octet_output, n_prompt, 56);
AT(octet_output, n_completion, 60);
AT(octet_output, n_cached, 64);
AT(octet_output, reserved, 68);
AT(octet_output, arrival_ns, 72);
AT(octet_output, first_token_ns, 80);
AT(octet_output, last_token_ns, 88);
