/*
 * base/status.h - how octet says no.
 *
 * A function that can fail for a reason outside the program returns oct_status and is marked
 * OCT_MUST_CHECK. The sentence for the operator goes into an oct_err that the outermost caller owns
 * (pass NULL to decline it). The first failure writes it; callers on the way out return the code
 * and leave the sentence alone.
 *
 * A broken promise inside octet is not a status: it is OCT_ASSERT (base/assert.h).
 *
 * The codes are those of include/octet/status.h (asserted in status.c), so that one list serves the
 * program and its plug-ins.
 */
#ifndef OCT_BASE_STATUS_H
#define OCT_BASE_STATUS_H

#include "base/attr.h"

typedef enum oct_status {
    OCT_OK = 0,
    OCT_E_INVALID = 1,     /* a caller's argument or a peer's bytes are out of contract */
    OCT_E_CORRUPT = 2,     /* a file contradicts itself or what was asked of it */
    OCT_E_UNSUPPORTED = 3, /* well formed, but not something this build does */
    OCT_E_NOMEM = 4,       /* memory refused */
    OCT_E_FULL = 5,        /* a bounded resource is used up for now; retry after a release */
    OCT_E_IO = 6,          /* the operating system refused; the text carries strerror */
    OCT_E_DEVICE = 7,      /* the device refused or is lost; the text carries its own code */
    OCT_E_CANCELLED = 8,   /* the client went away, or shutdown began */
} oct_status;

enum { OCT_ERR_TEXT = 512 };

typedef struct oct_err {
    oct_status code;
    int line;                /* where in our source, for the log at debug level */
    const char *file;        /* static storage */
    char text[OCT_ERR_TEXT]; /* one sentence "WHERE: WHAT (got X, want Y)", control characters
                                escaped */
} oct_err;

/* Fills *err (if any) unless it already holds a failure, and returns code: return OCT_FAIL(...). */
oct_status oct_err_set(oct_err *err, oct_status code, const char *file, int line, const char *fmt,
                       ...) OCT_PRINTF(5, 6);

/* Puts "prefix: " before the sentence that is there, for a caller that knows a better WHERE. */
void oct_err_prefix(oct_err *err, const char *fmt, ...) OCT_PRINTF(2, 3);

/* "invalid", "corrupt", ...: for logs and tests. */
const char *oct_status_name(oct_status code);

/* The value is code itself and not what the call returns, so that compilers and analysers see that
 * a failure is one; code is evaluated twice. */
#define OCT_FAIL(err, code, ...) \
    ((void)oct_err_set((err), (code), __FILE__, __LINE__, __VA_ARGS__), (code))

#define OCT_TRY(expr)                    \
    do {                                 \
        const oct_status try_ = (expr);  \
        if (try_ != OCT_OK) return try_; \
    } while (0)

#endif
