/* base/clock.h - monotonic time for timeouts and durations, wall time for dates only. Any thread.
 */
#ifndef OCT_BASE_CLOCK_H
#define OCT_BASE_CLOCK_H

#include <stdint.h>

uint64_t oct_now_ns(void);      /* monotonic */
int64_t oct_unix_seconds(void); /* wall clock */
void oct_sleep_ns(uint64_t ns);

#endif
