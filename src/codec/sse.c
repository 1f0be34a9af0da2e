/* codec/sse.c - see codec/sse.h. */
#include "codec/sse.h"

void oct_sse_write(oct_buf *b, oct_str data) {
    size_t from = 0;
    for (;;) {
        size_t to = from;
        while (to < data.len && data.ptr[to] != '\n' && data.ptr[to] != '\r') to++;
        oct_buf_cstr(b, "data: ");
        if (to > from) oct_buf_add(b, data.ptr + from, to - from);
        oct_buf_char(b, '\n');
        if (to == data.len) break;
        from = to + 1;
        if (data.ptr[to] == '\r' && from < data.len && data.ptr[from] == '\n') from++;
    }
    oct_buf_char(b, '\n');
}

void oct_sse_parser_init(oct_sse_parser *p, const oct_allocator *mem, size_t max_event_bytes,
                         oct_sse_event_fn on_event, void *ctx) {
    *p = (oct_sse_parser){.on_event = on_event, .ctx = ctx};
    oct_buf_init(&p->line, mem, max_event_bytes);
    oct_buf_init(&p->data, mem, max_event_bytes);
    oct_buf_init(&p->name, mem, max_event_bytes);
}

void oct_sse_parser_fini(oct_sse_parser *p) {
    oct_buf_fini(&p->line);
    oct_buf_fini(&p->data);
    oct_buf_fini(&p->name);
}

static oct_status end_event(oct_sse_parser *p) {
    oct_status status = OCT_OK;
    if (p->has_data) status = p->on_event(p->ctx, oct_buf_view(&p->name), oct_buf_view(&p->data));
    oct_buf_clear(&p->data);
    oct_buf_clear(&p->name);
    p->has_data = false;
    return status;
}

/* One whole line: a blank one ends the event, "field: value" adds to it, ":..." is a comment. */
static oct_status end_line(oct_sse_parser *p) {
    oct_str line = oct_buf_view(&p->line);
    if (!p->started && oct_str_starts(line, OCT_STR("\xEF\xBB\xBF"))) {
        line.ptr += 3;
        line.len -= 3;
    }
    p->started = true;
    oct_status status = OCT_OK;
    if (line.len == 0) {
        status = end_event(p);
    } else {
        const char *colon = memchr(line.ptr, ':', line.len);
        const oct_str field = {line.ptr, colon ? (size_t)(colon - line.ptr) : line.len};
        oct_str value = {"", 0};
        if (colon) value = (oct_str){colon + 1, line.len - field.len - 1};
        if (value.len > 0 && value.ptr[0] == ' ') value = (oct_str){value.ptr + 1, value.len - 1};
        if (oct_str_is(field, "data")) {
            if (p->has_data) oct_buf_char(&p->data, '\n');
            oct_buf_str(&p->data, value);
            p->has_data = true;
        } else if (oct_str_is(field, "event")) {
            oct_buf_clear(&p->name);
            oct_buf_str(&p->name, value);
        }
    }
    oct_buf_clear(&p->line);
    return status;
}

oct_status oct_sse_parser_feed(oct_sse_parser *p, oct_str bytes, oct_err *err) {
    size_t at = 0;
    while (at < bytes.len) {
        if (p->after_cr) {
            p->after_cr = false;
            if (bytes.ptr[at] == '\n') {
                at++;
                continue;
            }
        }
        size_t to = at;
        while (to < bytes.len && bytes.ptr[to] != '\n' && bytes.ptr[to] != '\r') to++;
        if (to > at) oct_buf_add(&p->line, bytes.ptr + at, to - at);
        const bool whole = to < bytes.len;
        at = to;
        if (p->line.failed) return OCT_FAIL(err, OCT_E_INVALID, "event stream: line too long");
        if (!whole) break;
        p->after_cr = bytes.ptr[at++] == '\r';
        OCT_TRY(end_line(p));
        if (p->data.failed || p->name.failed)
            return OCT_FAIL(err, OCT_E_INVALID, "event stream: event too long");
    }
    return OCT_OK;
}
