/*
 * base/assert.h - promises inside octet. Checked in OCT_DEBUG builds, gone in release: never for
 * strangers' bytes, and never with a side effect in the expression.
 */
#ifndef OCT_BASE_ASSERT_H
#define OCT_BASE_ASSERT_H

_Noreturn void oct_assert_failed(const char *expr, const char *file, int line);

#ifdef OCT_DEBUG
#define OCT_ASSERT(expr) ((expr) ? (void)0 : oct_assert_failed(#expr, __FILE__, __LINE__))
#else
#define OCT_ASSERT(expr) ((void)sizeof(!(expr)))
#endif

#endif
