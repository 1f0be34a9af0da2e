/* plugin.c - the table of the CUDA device and the one symbol that goes out. */
#include "plugin.h"

static const octet_device_ops table = {
    .struct_bytes = sizeof table,
    .numerics_rev = OCTET_NUMERICS_REV,
    .plugin_name = "cuda",
    .open = oct_cuda_open,
    .close = oct_cuda_close,
    .info = oct_cuda_info,
    .error_text = oct_cuda_error_text,
    .buffer_create = oct_cuda_buffer_create,
    .buffer_destroy = oct_cuda_buffer_destroy,
    .host_alloc = oct_cuda_host_alloc,
    .host_free = oct_cuda_host_free,
    .stream_create = oct_cuda_stream_create,
    .stream_destroy = oct_cuda_stream_destroy,
    .stream_wait = oct_cuda_stream_wait,
    .event_create = oct_cuda_event_create,
    .event_destroy = oct_cuda_event_destroy,
    .event_record = oct_cuda_event_record,
    .event_wait = oct_cuda_event_wait,
    .stream_wait_event = oct_cuda_stream_wait_event,
    .write = oct_cuda_write,
    .read = oct_cuda_read,
    .copy = oct_cuda_copy,
    .fill = oct_cuda_fill,
    .capture_begin = oct_cuda_capture_begin,
    .capture_end = oct_cuda_capture_end,
    .replay = oct_cuda_replay,
    .graph_destroy = oct_cuda_graph_destroy,
    .weight_create = oct_cuda_weight_create,
    .weight_write = oct_cuda_weight_write,
    .weight_destroy = oct_cuda_weight_destroy,
    .weight_bytes = oct_cuda_weight_bytes,
    .weight_load = oct_cuda_weight_load,
    .kv_block_bytes = oct_cuda_kv_block_bytes,
    .embed = oct_cuda_embed,
    .norm = oct_cuda_norm,
    .quantize = oct_cuda_quantize,
    .linear = oct_cuda_linear,
    .linear_grouped = oct_cuda_linear_grouped,
    .attn_input = oct_cuda_attn_input,
    .attention = oct_cuda_attention,
    .act = oct_cuda_act,
    .gather = oct_cuda_gather,
    .sample = oct_cuda_sample,
    .route = oct_cuda_route,
    .permute = oct_cuda_permute,
    .quantize_grouped = oct_cuda_quantize_grouped,
    .combine = oct_cuda_combine,
    .softcap = oct_cuda_softcap,
    .feed = oct_cuda_feed,
};

/* It needs no driver yet: that is looked for when a device is opened. */
__attribute__((visibility("default"))) const octet_device_ops *
octet_device_plugin_v1(const octet_host *host);

const octet_device_ops *octet_device_plugin_v1(const octet_host *host) {
    if (host->numerics_rev == OCTET_NUMERICS_REV) return &table;
    if (host->log)
        host->log(host->ctx, OCTET_LOG_ERROR, "cuda: made for another revision of the arithmetic");
    return NULL;
}
