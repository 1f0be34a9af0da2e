/* tests/support/golden.h - where the golden data is: $OCTET_GOLDEN, else ../shared/golden beside
 * the source tree. Absent data is a visible skip, not a pass. */
#ifndef OCT_TESTS_GOLDEN_H
#define OCT_TESTS_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static inline const char *golden_root(void) {
    static char path[2048];
    struct stat st;
    const char *env = getenv("OCTET_GOLDEN");
    snprintf(path, sizeof path, "%s", env ? env : OCT_SOURCE_DIR "/../shared/golden");
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return path;
    printf("SKIPPED: no golden data at %s (set OCTET_GOLDEN)\n", path);
    return NULL;
}

#endif
