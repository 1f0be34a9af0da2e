/* net/http.c - the request head and the chunked coding; see net/http.h. */
#include "net/http.h"

#include "base/checked.h"
#include "base/num.h"

enum {
    SIZE_LINE_BYTES = 256,
    TRAILER_BYTES = 8 << 10,
    FRAMING_SLACK = 64 << 10,
    SIZE_DIGITS = 16,
    BYTES_MAX = 16 << 20,
};

static unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : c;
}

bool oct_http_same_name(oct_str a, const char *b) {
    size_t i = 0;
    for (; i < a.len; i++)
        if (b[i] == '\0' || lower((unsigned char)a.ptr[i]) != lower((unsigned char)b[i]))
            return false;
    return b[i] == '\0';
}

/* A byte of a token. */
static bool is_token(unsigned char c) {
    if ((c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z')) return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

const char *oct_http_method_name(oct_http_method m) {
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    return names[m];
}

const char *oct_http_reason(int status) {
    static const struct {
        int status;
        const char *phrase;
    } rows[] = {{200, "OK"},
                {201, "Created"},
                {202, "Accepted"},
                {204, "No Content"},
                {304, "Not Modified"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {408, "Request Timeout"},
                {409, "Conflict"},
                {411, "Length Required"},
                {413, "Content Too Large"},
                {414, "URI Too Long"},
                {415, "Unsupported Media Type"},
                {417, "Expectation Failed"},
                {422, "Unprocessable Content"},
                {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"},
                {500, "Internal Server Error"},
                {501, "Not Implemented"},
                {503, "Service Unavailable"},
                {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (rows[i].status == status) return rows[i].phrase;
    return "Status";
}

/* --- the head --- */

void oct_http_parser_init(oct_http_parser *p, const oct_http_limits *limits) {
    *p = (oct_http_parser){0};
    p->request_line_bytes = oct_min_size(limits->request_line_bytes, BYTES_MAX);
    p->header_bytes = oct_min_size(limits->header_bytes, BYTES_MAX);
    p->header_fields = limits->header_fields < OCT_HTTP_FIELDS_MAX ? limits->header_fields
                                                                   : (uint32_t)OCT_HTTP_FIELDS_MAX;
}

static bool refuse(oct_http_refusal *r, int status, const char *reason) {
    *r = (oct_http_refusal){status, reason};
    return false;
}

static oct_str part(oct_str bytes, oct_http_span s) { return (oct_str){bytes.ptr + s.at, s.len}; }

static oct_http_span span_of(size_t from, size_t to) {
    return (oct_http_span){(uint32_t)from, (uint32_t)(to - from)};
}

static bool all_token(oct_str s) {
    for (size_t i = 0; i < s.len; i++)
        if (!is_token((unsigned char)s.ptr[i])) return false;
    return s.len > 0;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* "HTTP/1.1"; the digits go to *major and *minor. */
static bool read_version(oct_str v, int *major, int *minor) {
    if (v.len != 8 || memcmp(v.ptr, "HTTP/", 5) != 0 || v.ptr[6] != '.') return false;
    if (!is_digit(v.ptr[5]) || !is_digit(v.ptr[7])) return false;
    *major = v.ptr[5] - '0';
    *minor = v.ptr[7] - '0';
    return true;
}

static bool read_method(oct_str name, oct_http_method *out) {
    for (int m = OCT_HTTP_GET; m <= (int)OCT_HTTP_OPTIONS; m++) {
        if (!oct_str_is(name, oct_http_method_name((oct_http_method)m))) continue;
        *out = (oct_http_method)m;
        return true;
    }
    return false;
}

static bool take_request_line(oct_http_parser *p, oct_str bytes, size_t end) {
    const oct_str line = {bytes.ptr + p->line_at, end - p->line_at};
    if (line.len == 0 && !p->skipped_blank) {
        p->skipped_blank = true; /* one stray line end between requests is forgiven */
        return true;
    }
    const char *sp1 = memchr(line.ptr, ' ', line.len);
    const size_t method_len = sp1 ? (size_t)(sp1 - line.ptr) : line.len;
    const oct_str rest = sp1 ? (oct_str){sp1 + 1, line.len - method_len - 1} : (oct_str){"", 0};
    const char *sp2 = rest.len > 0 ? memchr(rest.ptr, ' ', rest.len) : NULL;
    if (!sp2 || sp2 == rest.ptr) return refuse(&p->refusal, 400, "malformed request line");
    const oct_str method = {line.ptr, method_len};
    const oct_str version = {sp2 + 1, rest.len - (size_t)(sp2 - rest.ptr) - 1};
    int major = 0, minor = 0;
    if (!all_token(method) || !read_version(version, &major, &minor))
        return refuse(&p->refusal, 400, "malformed request line");
    if (oct_str_is(method, "PRI")) return refuse(&p->refusal, 400, "HTTP/2 is not spoken here");
    if (major != 1) return refuse(&p->refusal, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (!read_method(method, &p->head.method)) return refuse(&p->refusal, 501, "unknown method");
    p->head.minor = minor == 0 ? 0 : 1;
    p->head.keep_alive = p->head.minor == 1;
    const size_t target_at = p->line_at + method_len + 1;
    p->head.target = span_of(target_at, target_at + (size_t)(sp2 - rest.ptr));
    p->in_fields = true;
    return true;
}

static bool good_host(oct_str v) {
    for (size_t i = 0; i < v.len; i++) {
        const unsigned char c = (unsigned char)v.ptr[i];
        const bool alnum = is_digit((char)c) || (lower(c) >= 'a' && lower(c) <= 'z');
        if (!alnum && !strchr("-._~:[]%", c)) return false;
    }
    return true;
}

static bool note_length(oct_http_parser *p, oct_str v) {
    if (p->n_length++ > 0) return refuse(&p->refusal, 400, "Content-Length given twice");
    for (size_t i = 0; i < v.len; i++)
        if (!is_digit(v.ptr[i])) return refuse(&p->refusal, 400, "malformed Content-Length");
    if (!oct_parse_u64(v, &p->head.length))
        return refuse(&p->refusal, 400, "malformed Content-Length");
    p->head.has_length = true;
    return true;
}

static bool note_coding(oct_http_parser *p, oct_str v) {
    if (p->n_coding++ > 0) return refuse(&p->refusal, 400, "Transfer-Encoding given twice");
    if (!oct_http_same_name(v, "chunked"))
        return refuse(&p->refusal, 501, "unknown transfer coding (only chunked is read)");
    p->head.chunked = true;
    return true;
}

/* The options of a Connection field, in a list with commas. */
static void note_connection(oct_http_parser *p, oct_str v) {
    for (size_t at = 0; at < v.len;) {
        size_t to = at;
        while (to < v.len && v.ptr[to] != ',') to++;
        size_t from = at, end = to;
        while (from < end && (v.ptr[from] == ' ' || v.ptr[from] == '\t')) from++;
        while (end > from && (v.ptr[end - 1] == ' ' || v.ptr[end - 1] == '\t')) end--;
        const oct_str option = {v.ptr + from, end - from};
        if (oct_http_same_name(option, "close")) p->head.keep_alive = false;
        if (oct_http_same_name(option, "keep-alive") && p->head.minor == 0)
            p->head.keep_alive = true;
        at = to + 1;
    }
}

/* What a field means for framing; all others are the caller's. */
static bool note_field(oct_http_parser *p, oct_str name, oct_str v) {
    if (oct_http_same_name(name, "host")) {
        if (p->n_host++ > 0) return refuse(&p->refusal, 400, "Host given twice");
        if (!good_host(v)) return refuse(&p->refusal, 400, "malformed Host");
    } else if (oct_http_same_name(name, "content-length")) {
        return note_length(p, v);
    } else if (oct_http_same_name(name, "transfer-encoding")) {
        return note_coding(p, v);
    } else if (oct_http_same_name(name, "connection")) {
        note_connection(p, v);
    } else if (oct_http_same_name(name, "content-type")) {
        if (p->n_type++ > 0) return refuse(&p->refusal, 400, "Content-Type given twice");
    } else if (oct_http_same_name(name, "authorization")) {
        if (p->n_auth++ > 0) return refuse(&p->refusal, 400, "Authorization given twice");
    } else if (oct_http_same_name(name, "content-encoding")) {
        if (v.len > 0 && !oct_http_same_name(v, "identity"))
            return refuse(&p->refusal, 415, "Content-Encoding is not read (only identity)");
    } else if (oct_http_same_name(name, "expect") && p->head.minor > 0) {
        if (!oct_http_same_name(v, "100-continue"))
            return refuse(&p->refusal, 417, "unknown Expect (only 100-continue)");
        p->head.expect_continue = true;
    }
    return true;
}

static bool take_field(oct_http_parser *p, oct_str bytes, size_t end) {
    const oct_str line = {bytes.ptr + p->line_at, end - p->line_at};
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return refuse(&p->refusal, 400, "folded header field");
    const char *colon = memchr(line.ptr, ':', line.len);
    const oct_str name = {line.ptr, colon ? (size_t)(colon - line.ptr) : line.len};
    if (!colon || !all_token(name)) return refuse(&p->refusal, 400, "malformed header field");
    if (p->head.n_fields >= p->header_fields)
        return refuse(&p->refusal, 431, "too many header fields");
    size_t from = p->line_at + name.len + 1, to = end;
    while (from < to && (bytes.ptr[from] == ' ' || bytes.ptr[from] == '\t')) from++;
    while (to > from && (bytes.ptr[to - 1] == ' ' || bytes.ptr[to - 1] == '\t')) to--;
    oct_http_field *f = &p->head.fields[p->head.n_fields++];
    f->name = span_of(p->line_at, p->line_at + name.len);
    f->value = span_of(from, to);
    return note_field(p, name, part(bytes, f->value));
}

static bool finish_head(oct_http_parser *p) {
    if (p->n_length > 0 && p->n_coding > 0)
        return refuse(&p->refusal, 400, "Content-Length together with Transfer-Encoding");
    if (p->n_coding > 0 && p->head.minor == 0)
        return refuse(&p->refusal, 400, "Transfer-Encoding in an HTTP/1.0 request");
    if (p->n_host == 0 && p->head.minor == 1) return refuse(&p->refusal, 400, "no Host");
    return true;
}

/* Looks at one byte that does not end a line. */
static bool check_byte(oct_http_parser *p, unsigned char c) {
    if (!p->in_fields) {
        if (p->scan_at == p->line_at && !is_token(c))
            return refuse(&p->refusal, 400, "malformed request line");
        if (c < 0x20 || c > 0x7E) return refuse(&p->refusal, 400, "malformed request line");
        if (p->scan_at - p->line_at >= p->request_line_bytes)
            return refuse(&p->refusal, 414, "request line too long");
        return true;
    }
    if (p->scan_at - p->fields_at >= p->header_bytes)
        return refuse(&p->refusal, 431, "header fields too large");
    if ((c < 0x20 && c != '\t') || c == 0x7F)
        return refuse(&p->refusal, 400, "control character in a header field");
    return true;
}

/* A line ends at scan_at. WHOLE when it was the blank one. */
static oct_http_progress take_line(oct_http_parser *p, oct_str bytes) {
    const size_t end = p->scan_at;
    const bool blank = p->in_fields && end == p->line_at;
    bool ok;
    if (blank)
        ok = finish_head(p);
    else if (p->in_fields)
        ok = take_field(p, bytes, end);
    else
        ok = take_request_line(p, bytes, end);
    if (!ok) return OCT_HTTP_BAD;
    p->line_at = p->scan_at = end + 2;
    if (p->fields_at == 0 && p->in_fields) p->fields_at = p->line_at;
    p->head.head_bytes = p->line_at;
    return blank ? OCT_HTTP_WHOLE : OCT_HTTP_MORE;
}

oct_http_progress oct_http_parser_feed(oct_http_parser *p, oct_str bytes) {
    while (p->scan_at < bytes.len) {
        const unsigned char c = (unsigned char)bytes.ptr[p->scan_at];
        if (c == '\r') {
            if (p->scan_at + 1 == bytes.len) return OCT_HTTP_MORE;
            if (bytes.ptr[p->scan_at + 1] != '\n') {
                (void)refuse(&p->refusal, 400, "bare carriage return");
                return OCT_HTTP_BAD;
            }
            const oct_http_progress got = take_line(p, bytes);
            if (got != OCT_HTTP_MORE) return got;
            continue;
        }
        if (c == '\n') (void)refuse(&p->refusal, 400, "bare line feed");
        if (c == '\n' || !check_byte(p, c)) return OCT_HTTP_BAD;
        p->scan_at++;
    }
    return OCT_HTTP_MORE;
}

oct_str oct_http_head_field(const oct_http_head *head, oct_str bytes, const char *name) {
    for (uint32_t i = 0; i < head->n_fields; i++)
        if (oct_http_same_name(part(bytes, head->fields[i].name), name))
            return part(bytes, head->fields[i].value);
    return (oct_str){NULL, 0};
}

/* --- the chunked coding --- */

enum chunk_stage {
    AT_SIZE,
    AT_EXTENSION,
    AT_SIZE_LF,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_TRAILER,      /* start of a trailer line */
    AT_TRAILER_LINE, /* inside one */
    AT_TRAILER_LF,
    AT_END_LF,
    AT_END
};

void oct_http_chunked_init(oct_http_chunked *d, size_t max_body_bytes) {
    *d = (oct_http_chunked){.stage = AT_SIZE, .max_body_bytes = max_body_bytes};
}

static int hex_value(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_size_byte(oct_http_chunked *d, unsigned char c) {
    const int h = hex_value(c);
    if (h >= 0) {
        if (++d->n_digits > SIZE_DIGITS) return refuse(&d->refusal, 400, "chunk size too long");
        d->left = d->left << 4 | (uint64_t)h;
        return true;
    }
    if (d->n_digits == 0 || (c != ';' && c != '\r'))
        return refuse(&d->refusal, 400, "malformed chunk size");
    d->stage = c == ';' ? AT_EXTENSION : AT_SIZE_LF;
    return true;
}

static bool end_size_line(oct_http_chunked *d, unsigned char c) {
    if (c != '\n') return refuse(&d->refusal, 400, "bare carriage return");
    if (d->left > d->max_body_bytes - d->body_bytes)
        return refuse(&d->refusal, 413, "body too large");
    d->stage = d->left > 0 ? AT_DATA : AT_TRAILER;
    d->n_digits = d->line_bytes = 0;
    return true;
}

static bool take_trailer_byte(oct_http_chunked *d, unsigned char c) {
    if (++d->trailer_bytes > TRAILER_BYTES) return refuse(&d->refusal, 400, "trailers too large");
    if (c == '\r') {
        d->stage = d->stage == AT_TRAILER ? AT_END_LF : AT_TRAILER_LF;
        return true;
    }
    if ((c < 0x20 && c != '\t') || c == 0x7F || (d->stage == AT_TRAILER && !is_token(c)))
        return refuse(&d->refusal, 400, "malformed trailer");
    d->stage = AT_TRAILER_LINE;
    return true;
}

/* One byte of framing. */
static bool take_framing(oct_http_chunked *d, unsigned char c) {
    if (d->stage < AT_TRAILER && ++d->framing_bytes > FRAMING_SLACK + d->body_bytes)
        return refuse(&d->refusal, 400, "chunk framing larger than the content");
    switch (d->stage) {
    case AT_SIZE:
    case AT_EXTENSION:
        if (++d->line_bytes > SIZE_LINE_BYTES)
            return refuse(&d->refusal, 400, "chunk size line too long");
        if (d->stage == AT_SIZE) return take_size_byte(d, c);
        if (c == '\r')
            d->stage = AT_SIZE_LF;
        else if ((c < 0x20 && c != '\t') || c == 0x7F)
            return refuse(&d->refusal, 400, "control character in a chunk extension");
        return true;
    case AT_SIZE_LF:
        return end_size_line(d, c);
    case AT_DATA_CR:
    case AT_DATA_LF:
        if (c != (d->stage == AT_DATA_CR ? '\r' : '\n'))
            return refuse(&d->refusal, 400, "chunk longer than its size");
        d->stage = d->stage == AT_DATA_CR ? AT_DATA_LF : AT_SIZE;
        return true;
    case AT_TRAILER:
    case AT_TRAILER_LINE:
        return take_trailer_byte(d, c);
    default: /* AT_TRAILER_LF, AT_END_LF */
        if (c != '\n') return refuse(&d->refusal, 400, "bare carriage return");
        d->stage = d->stage == AT_END_LF ? AT_END : AT_TRAILER;
        return true;
    }
}

oct_http_progress oct_http_chunked_feed(oct_http_chunked *d, oct_str in, size_t *used,
                                        oct_buf *body) {
    size_t at = 0;
    bool ok = true;
    while (ok && at < in.len && d->stage != AT_END) {
        if (d->stage == AT_DATA) {
            const size_t n = d->left < in.len - at ? (size_t)d->left : in.len - at;
            oct_buf_add(body, in.ptr + at, n);
            at += n;
            d->left -= n;
            d->body_bytes += n;
            if (d->left == 0) d->stage = AT_DATA_CR;
        } else {
            ok = take_framing(d, (unsigned char)in.ptr[at++]);
        }
    }
    *used = at;
    if (!ok) return OCT_HTTP_BAD;
    return d->stage == AT_END ? OCT_HTTP_WHOLE : OCT_HTTP_MORE;
}
