/*
 * net/http.h - HTTP/1.1 requests read strictly from bytes: no sockets, no clock, no allocation
 * except into the caller's buffers. What two readers could understand differently is refused.
 *
 * Refusals are a status and a constant reason that holds nothing of the request. After one, nothing
 * that follows on the connection can be trusted to start a request.
 *
 * Threads: one at a time per object. Elsewhere: sockets, deadlines and answers are in conn.c.
 */
#ifndef OCT_NET_HTTP_H
#define OCT_NET_HTTP_H

#include "net/server.h"

typedef enum oct_http_progress {
    OCT_HTTP_MORE,  /* well formed so far */
    OCT_HTTP_WHOLE, /* complete */
    OCT_HTTP_BAD,   /* refused: see the status and reason */
} oct_http_progress;

typedef struct oct_http_refusal {
    int status;         /* 400, 413, 414, 415, 417, 431, 501, 505; 0: none */
    const char *reason; /* static storage */
} oct_http_refusal;

/* Offsets into the bytes of the head, which may move between feeds. */
typedef struct oct_http_span {
    uint32_t at, len;
} oct_http_span;

typedef struct oct_http_field {
    oct_http_span name, value; /* value without blanks around it */
} oct_http_field;

enum { OCT_HTTP_FIELDS_MAX = 256 };

typedef struct oct_http_head {
    oct_http_method method;
    oct_http_span target;
    uint32_t minor; /* HTTP/1.minor: 0 or 1 */
    uint32_t n_fields;
    bool keep_alive, chunked, has_length, expect_continue;
    uint64_t length;   /* Content-Length */
    size_t head_bytes; /* with the blank line that ends it */
    oct_http_field fields[OCT_HTTP_FIELDS_MAX];
} oct_http_head;

/* Reads one head, however it is cut; each byte is looked at a constant number of times. */
typedef struct oct_http_parser {
    oct_http_head head;
    oct_http_refusal refusal;
    size_t request_line_bytes, header_bytes;
    uint32_t header_fields;
    size_t line_at, scan_at, fields_at; /* start of the line in work; next byte; first field */
    bool in_fields, skipped_blank;
    uint32_t n_host, n_length, n_coding, n_type, n_auth;
} oct_http_parser;

/* header_fields beyond OCT_HTTP_FIELDS_MAX, and sizes beyond 16 MiB, are cut to these. */
void oct_http_parser_init(oct_http_parser *p, const oct_http_limits *limits);
/* bytes: everything received since the start of the request, so each call gives the same start and
 * more behind it. WHOLE: p->head is set, p->head.head_bytes were used. BAD: p->refusal is set. */
oct_http_progress oct_http_parser_feed(oct_http_parser *p, oct_str bytes);

/* The value of the first field of that name (case-insensitive) in head; {NULL, 0} when absent. */
oct_str oct_http_head_field(const oct_http_head *head, oct_str bytes, const char *name);

/* Splits and normalises a request target: origin form, absolute form (its authority is dropped) or
 * "*" with OPTIONS. path is appended to (decoded, no "." segments, single slashes, no slash at the
 * end); *query borrows from target. False with *refusal (400) for "..", NUL and other control
 * characters, bad percent escapes, what is not UTF-8 once decoded, a fragment. */
bool oct_http_target_split(oct_str target, oct_http_method method, oct_buf *path, oct_str *query,
                           oct_http_refusal *refusal);

/* Appends the decoded value of the first field called name; false when absent or badly encoded. */
bool oct_http_query_get(oct_str query, const char *name, oct_buf *out);

/* The chunked coding, removed. */
typedef struct oct_http_chunked {
    int stage;
    uint64_t left;          /* of the chunk in work */
    uint64_t body_bytes;    /* so far */
    uint64_t framing_bytes; /* so far, trailers apart */
    uint32_t line_bytes, n_digits, trailer_bytes;
    size_t max_body_bytes;
    oct_http_refusal refusal;
} oct_http_chunked;

void oct_http_chunked_init(oct_http_chunked *d, size_t max_body_bytes);
/* Appends content to body (whose failure the caller checks) and sets *used to the bytes taken;
 * after WHOLE the rest belongs to the next request. Framing may be at most as large as the content
 * plus 64 KiB, a size line 256 bytes, trailers (dropped) 8 KiB. */
oct_http_progress oct_http_chunked_feed(oct_http_chunked *d, oct_str in, size_t *used,
                                        oct_buf *body);

/* "Not Found", ...; "Status" for a code without a phrase. */
const char *oct_http_reason(int status);
/* Case-insensitive, ASCII. */
bool oct_http_same_name(oct_str a, const char *b);

#endif
