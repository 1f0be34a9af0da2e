/* api/errors.c - refusals in the words and the shape that clients know. */
#include <stdarg.h>
#include <stdio.h>

#include "api/parts.h"
#include "codec/utf8.h"

static const struct {
    int status;
    const char *type;
} kinds[] = {
    [OCT_API_MALFORMED] = {400, "Bad Request"},
    [OCT_API_REFUSED] = {400, "BadRequestError"},
    [OCT_API_NOT_FOUND] = {404, "NotFoundError"},
    [OCT_API_METHOD] = {405, "Bad Request"},
    [OCT_API_CONFLICT] = {409, "Conflict"},
    [OCT_API_FAILED] = {500, "InternalServerError"},
    [OCT_API_BUSY] = {503, "ServiceUnavailableError"},
};

oct_status oct_api_refuse(oct_api_error *e, oct_api_refusal kind, const char *param,
                          const char *fmt, ...) {
    va_list args;
    e->kind = kind;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    return OCT_E_INVALID;
}

oct_status oct_api_no_memory(oct_api_error *e) {
    return oct_api_refuse(e, OCT_API_BUSY, NULL, "no memory for this request now; try later");
}

int oct_api_error_status(const oct_api_error *e) { return kinds[e->kind].status; }

void oct_api_error_body(const oct_api_error *e, oct_buf *out) {
    const oct_str all = oct_str_of(e->message);
    const oct_str message = {all.ptr, oct_utf8_complete_len(all)};
    oct_buf_cstr(out, "{\"error\":{\"message\":");
    oct_json_quote(out, message);
    oct_buf_printf(out, ",\"type\":\"%s\",\"param\":", kinds[e->kind].type);
    oct_api_write_string(out, e->param[0] ? e->param : NULL);
    oct_buf_printf(out, ",\"code\":%d}}", kinds[e->kind].status);
}
