/*
 * codec/sse.h - server-sent events: "data: ...\n\n" written, and the stream read back piece by
 * piece.
 *
 * Ownership  The parser owns what it holds back between feeds. Threads: one at a time.
 */
#ifndef OCT_CODEC_SSE_H
#define OCT_CODEC_SSE_H

#include "base/buf.h"
#include "base/status.h"

/* Appends one event that carries data. Line ends inside data (LF, CR, CRLF) start a new "data: "
 * line, so no payload can end the event early. */
void oct_sse_write(oct_buf *b, oct_str data);

/* name is "" unless the event named itself. Both spans live until the callback returns. Returning
 * other than OCT_OK stops the feed, which returns the same. */
typedef oct_status (*oct_sse_event_fn)(void *ctx, oct_str name, oct_str data);

typedef struct oct_sse_parser {
    oct_sse_event_fn on_event;
    void *ctx;
    oct_buf line, data, name;
    bool after_cr, started, has_data;
} oct_sse_parser;

/* max_event_bytes bounds one line and one event (0: none). */
void oct_sse_parser_init(oct_sse_parser *p, const oct_allocator *mem, size_t max_event_bytes,
                         oct_sse_event_fn on_event, void *ctx);
void oct_sse_parser_fini(oct_sse_parser *p);
/* Takes the next bytes, cut anywhere. OCT_E_INVALID past max_event_bytes (or memory refused); else
 * what the callback returned. An event that its blank line did not end is never delivered. */
OCT_MUST_CHECK oct_status oct_sse_parser_feed(oct_sse_parser *p, oct_str bytes, oct_err *err);

#endif
