/* base/status.c - one sentence a failure, with control characters of strangers made visible. */
#include "base/status.h"

#include <octet/status.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert((int)OCT_E_INVALID == OCTET_E_INVALID && (int)OCT_E_CORRUPT == OCTET_E_CORRUPT &&
                   (int)OCT_E_UNSUPPORTED == OCTET_E_UNSUPPORTED &&
                   (int)OCT_E_NOMEM == OCTET_E_NOMEM && (int)OCT_E_FULL == OCTET_E_FULL &&
                   (int)OCT_E_IO == OCTET_E_IO && (int)OCT_E_DEVICE == OCTET_E_DEVICE &&
                   (int)OCT_E_CANCELLED == OCTET_E_CANCELLED,
               "one list of codes");

static void escape_controls(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

oct_status oct_err_set(oct_err *err, oct_status code, const char *file, int line, const char *fmt,
                       ...) {
    if (!err || err->code != OCT_OK) return code;

    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    escape_controls(err->text);
    err->code = code;
    err->file = file;
    err->line = line;
    return code;
}

void oct_err_prefix(oct_err *err, const char *fmt, ...) {
    if (!err || err->code == OCT_OK) return;

    char head[OCT_ERR_TEXT], tail[OCT_ERR_TEXT];
    va_list args;
    va_start(args, fmt);
    vsnprintf(head, sizeof head, fmt, args);
    va_end(args);
    escape_controls(head);
    memcpy(tail, err->text, sizeof tail);
    const int n = snprintf(err->text, sizeof err->text, "%.*s: %.*s", OCT_ERR_TEXT / 2, head,
                           OCT_ERR_TEXT / 2 - 3, tail);
    (void)n;
}

const char *oct_status_name(oct_status code) {
    static const char *const names[] = {"ok",   "invalid", "corrupt", "unsupported", "no memory",
                                        "full", "io",      "device",  "cancelled"};
    return (unsigned)code < OCT_COUNT(names) ? names[code] : "unknown";
}
