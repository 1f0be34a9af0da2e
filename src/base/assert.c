/* base/assert.c - the last words of a broken promise. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void oct_assert_failed(const char *expr, const char *file, int line) {
    fprintf(stderr, "octet: broken promise: %s (%s:%d)\n", expr, file, line);
    abort();
}
