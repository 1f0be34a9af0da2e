/* base/str.h - a borrowed span of bytes: not NUL-terminated, may hold NUL. */
#ifndef OCT_BASE_STR_H
#define OCT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct oct_str {
    const char *ptr;
    size_t len;
} oct_str;

/* For printf("%.*s", OCT_STR_ARG(s)). */
#define OCT_STR_ARG(s) (int)((s).len < 4096 ? (s).len : 4096), (s).ptr
#define OCT_STR(literal) ((oct_str){(literal), sizeof(literal) - 1})

static inline oct_str oct_str_of(const char *cstr) {
    return (oct_str){cstr, cstr ? strlen(cstr) : 0};
}
static inline bool oct_str_eq(oct_str a, oct_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool oct_str_is(oct_str a, const char *cstr) {
    return oct_str_eq(a, oct_str_of(cstr));
}
static inline bool oct_str_starts(oct_str a, oct_str head) {
    return a.len >= head.len && (head.len == 0 || memcmp(a.ptr, head.ptr, head.len) == 0);
}
static inline bool oct_str_ends(oct_str a, oct_str tail) {
    return a.len >= tail.len &&
           (tail.len == 0 || memcmp(a.ptr + (a.len - tail.len), tail.ptr, tail.len) == 0);
}

#endif
