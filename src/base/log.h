/*
 * base/log.h - one event, one line on stderr: "2026-11-21T13:08:35Z INFO text".
 *
 * Control characters and invalid bytes in the text are escaped and the line is cut to 1 KiB, so
 * what a stranger sends cannot forge a second line (bad-input LG1). A line that cannot be written
 * is dropped. The level is fixed at start. Any thread.
 */
#ifndef OCT_BASE_LOG_H
#define OCT_BASE_LOG_H

#include "base/attr.h"

typedef enum oct_log_level {
    OCT_LOG_DEBUG,
    OCT_LOG_INFO,
    OCT_LOG_WARN,
    OCT_LOG_ERROR,
    OCT_LOG_OFF
} oct_log_level;

void oct_log_set_level(oct_log_level level);
void oct_log(oct_log_level level, const char *fmt, ...) OCT_PRINTF(2, 3);

#define oct_debug(...) oct_log(OCT_LOG_DEBUG, __VA_ARGS__)
#define oct_info(...) oct_log(OCT_LOG_INFO, __VA_ARGS__)
#define oct_warn(...) oct_log(OCT_LOG_WARN, __VA_ARGS__)
#define oct_error(...) oct_log(OCT_LOG_ERROR, __VA_ARGS__)

#endif
