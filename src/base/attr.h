/* base/attr.h - compiler attributes under our own names. */
#ifndef OCT_BASE_ATTR_H
#define OCT_BASE_ATTR_H

#define OCT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define OCT_MUST_CHECK __attribute__((warn_unused_result))
#define OCT_LIKELY(x) __builtin_expect(!!(x), 1)
#define OCT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define OCT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
