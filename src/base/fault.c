/* base/fault.c - the board that a test arms. */
#include "base/fault.h"

#ifdef OCT_DEBUG

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAME_BYTES = 56 };

typedef struct entry {
    char name[NAME_BYTES];
    _Atomic uint64_t visits;
} entry;

typedef struct board {
    _Atomic uint32_t armed, countdown, n_fired, n_points;
    _Atomic uint64_t who, unused;
    entry points[OCT_N_FAULTS];
} board;

static const char *const names[OCT_N_FAULTS] = {
#define OCT_FAULT_NAME(point, name) [OCT_FAULT_##point] = (name),
    OCT_FAULT_POINTS(OCT_FAULT_NAME)
#undef OCT_FAULT_NAME
};

static board *shared; /* NULL: no test wants to make anything fail */

static void share(void) {
    const char *path = getenv("OCTET_FAULT_BOARD");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    board *b = MAP_FAILED;
    if (ftruncate(fd, sizeof *b) == 0)
        b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (b == MAP_FAILED) return;
    for (size_t i = 0; i < OCT_N_FAULTS; i++)
        memcpy(b->points[i].name, names[i], strnlen(names[i], NAME_BYTES - 1));
    atomic_store(&b->n_points, OCT_N_FAULTS);
    shared = b;
}

bool oct_fault_fires(oct_fault_point point, uint64_t who) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, share);
    if (!shared) return false;
    board *b = shared;
    atomic_fetch_add(&b->points[point].visits, 1);
    if (atomic_load(&b->armed) != (uint32_t)point + 1) return false;
    if (atomic_fetch_sub(&b->countdown, 1) != 1) return false;
    atomic_store(&b->who, who);
    atomic_store(&b->armed, 0);
    atomic_fetch_add(&b->n_fired, 1);
    return true;
}

bool oct_fault_call_fires(const char *name) {
    static const char kind[] = "device: ";
    for (int i = OCT_FAULT_DEVICE_WRITE; i < OCT_N_FAULTS; i++)
        if (strcmp(names[i] + sizeof kind - 1, name) == 0)
            return oct_fault_fires((oct_fault_point)i, 0);
    return false;
}

#else

bool oct_fault_fires(oct_fault_point point, uint64_t who) {
    (void)point, (void)who;
    return false;
}

bool oct_fault_call_fires(const char *name) {
    (void)name;
    return false;
}

#endif
