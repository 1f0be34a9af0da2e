/*
 * codec/json_scan.h - the linear walk over JSON text that runs before jansson: depth without
 * recursion, escapes, and the rewriting of what jansson does not read. Internal to codec.
 */
#ifndef OCT_CODEC_JSON_SCAN_H
#define OCT_CODEC_JSON_SCAN_H

#include "codec/json.h"

/* Refuses what oct_json_parse promises to refuse and jansson would not, or not as clearly. Sets
 * *rewrite when text holds integers beyond int64, or non-finite words that limits allow. */
oct_status oct_json_scan(oct_str text, const char *where, const oct_json_limits *limits,
                         bool *rewrite, oct_err *err);

/* Appends text with those words quoted and those integers made reals. */
void oct_json_rewrite(oct_str text, const oct_json_limits *limits, oct_buf *out);

/* The byte of text that became byte out_at of the rewritten text. */
size_t oct_json_rewrite_origin(oct_str text, const oct_json_limits *limits, size_t out_at);

#endif
