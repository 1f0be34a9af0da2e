/*
 * tests/kernel/kcheck.c - steps, buffers, fills, comparison, messages.
 *
 *     kcheck [--seed N] [--mask NAME] [--only SLOT] [--bench]
 */
#include "kcheck.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"

enum { SHOWN = 5 }; /* mismatches printed for one slot */

static kcheck *at_fault; /* for the signal handler */

double kc_seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

bool kc_begin(kcheck *t, kc_fn ref, kc_fn fn, const char *slot) {
    if (t->only && !strstr(slot, t->only)) return false;
    unsigned i = 0;
    while (i < t->n_seen && strcmp(t->seen[i].name, slot) != 0) i++;
    if (i == t->n_seen) {
        if (t->n_seen == KC_MAX_SLOTS) {
            fprintf(stderr, "kcheck: too many slots, raise KC_MAX_SLOTS\n");
            exit(2);
        }
        t->seen[t->n_seen].name = slot;
        t->seen[t->n_seen++].fn = ref;
    }
    if (t->seen[i].fn == fn) return false;
    t->seen[i].fn = fn;
    t->slot = slot;
    t->n_failed_slot = 0;
    printf("%-16s %s\n", slot, oct_cpu_mask_name(t->mask));
    fflush(stdout);
    return true;
}

void kc_case(kcheck *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->where, sizeof t->where, fmt, ap);
    va_end(ap);
    t->n_cases++;
}

void *kc_tail(kcheck *t, unsigned slot, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (bytes + page - 1) / page * page;
    kc_buffer *b = &t->buffers[slot];
    if (slot >= KC_MAX_BUFFERS) abort();
    if (b->map_bytes != inner + 2 * page) {
        if (b->map) munmap(b->map, b->map_bytes);
        b->map_bytes = inner + 2 * page;
        b->map = mmap(NULL, b->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (b->map == MAP_FAILED || mprotect(b->map + page, inner, PROT_READ | PROT_WRITE) != 0) {
            perror("kcheck: guarded buffer");
            exit(2);
        }
    }
    return b->map + page + inner - bytes;
}

uint32_t kc_random(kcheck *t) { /* splitmix64 */
    uint64_t z = t->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32 ^ z);
}

float kc_uniform(kcheck *t) { return (float)(int32_t)kc_random(t) * 0x1p-31f; }

#define FILL(v, n, how, least, greatest, random)     \
    for (size_t i_ = 0; i_ < (n); i_++) {            \
        switch (how) {                               \
        case KC_RANDOM:                              \
            (v)[i_] = (random);                      \
            break;                                   \
        case KC_MIN:                                 \
            (v)[i_] = (least);                       \
            break;                                   \
        case KC_MAX:                                 \
            (v)[i_] = (greatest);                    \
            break;                                   \
        case KC_ALTERNATING:                         \
            (v)[i_] = i_ & 1 ? (greatest) : (least); \
            break;                                   \
        case KC_LAST:                                \
            (v)[i_] = i_ + 1 == (n) ? (least) : 0;   \
            break;                                   \
        default:                                     \
            (v)[i_] = 0;                             \
            break;                                   \
        }                                            \
    }

void kc_fill_i8(kcheck *t, int8_t *v, size_t n, kc_fill_kind how) {
    FILL(v, n, how, -128, 127, (int8_t)(uint8_t)kc_random(t))
}

void kc_fill_i16(kcheck *t, int16_t *v, size_t n, kc_fill_kind how) {
    FILL(v, n, how, -32767, 32767, (int16_t)((int32_t)(kc_random(t) % 65535u) - 32767))
}

void kc_fill_f32(kcheck *t, float *v, size_t n, float scale, kc_fill_kind how) {
    FILL(v, n, how, -3e38f, 3e38f, kc_uniform(t) * scale)
}

static void mismatch(kcheck *t, size_t i, const char *want, const char *got) {
    t->n_failed++;
    if (t->n_failed_slot++ >= SHOWN) return;
    fprintf(stderr, "MISMATCH %s (%s) %s: [%zu] want %s, got %s (--seed %" PRIu64 ")\n", t->slot,
            oct_cpu_mask_name(t->mask), t->where, i, want, got, t->seed);
}

void kc_same_i32(kcheck *t, const int32_t *want, const int32_t *got, size_t n) {
    if (memcmp(want, got, n * sizeof *want) == 0) return;
    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i]) {
            char a[24], b[24];
            snprintf(a, sizeof a, "%" PRId32, want[i]);
            snprintf(b, sizeof b, "%" PRId32, got[i]);
            mismatch(t, i, a, b);
            return;
        }
}

void kc_same_f32(kcheck *t, const float *want, const float *got, size_t n) {
    if (memcmp(want, got, n * sizeof *want) == 0) return;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(want + i, got + i, sizeof *want) == 0) continue;
        if (want[i] != want[i] && got[i] != got[i]) continue;
        char a[40], b[40];
        snprintf(a, sizeof a, "%a", (double)want[i]);
        snprintf(b, sizeof b, "%a", (double)got[i]);
        mismatch(t, i, a, b);
        return;
    }
}

void kc_same_bytes(kcheck *t, const void *want, const void *got, size_t n) {
    const unsigned char *a = want, *b = got;
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) {
            char x[8], y[8];
            snprintf(x, sizeof x, "%02x", a[i]);
            snprintf(y, sizeof y, "%02x", b[i]);
            mismatch(t, i, x, y);
            return;
        }
}

void kc_report(kcheck *t, const char *what, double ops, double ref_seconds, double seconds) {
    if (!t->bench) return;
    printf("    %-28s reference %9.3f G/s   %s %9.3f G/s   x%.1f\n", what, 1e-9 * ops / ref_seconds,
           oct_cpu_mask_name(t->mask), 1e-9 * ops / seconds, ref_seconds / seconds);
    fflush(stdout);
}

static void on_fault(int signal) {
    char text[400];
    const int n =
        snprintf(text, sizeof text, "FAULT (signal %d) in %s (%s) %s (--seed %" PRIu64 ")\n",
                 signal, at_fault->slot ? at_fault->slot : "?", oct_cpu_mask_name(at_fault->mask),
                 at_fault->where, at_fault->seed);
    if (write(2, text, n > 0 ? (size_t)n : 0) < 0) _exit(4);
    _exit(3);
}

static int usage(void) {
    fprintf(stderr,
            "usage: kcheck [--seed N] [--mask ref|avx2|vnni|amx] [--only SLOT] [--bench]\n");
    return 2;
}

int main(int argc, char **argv) {
    static kcheck t;
    t.seed = (uint64_t)time(NULL);
    at_fault = &t;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) {
            t.bench = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            t.seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            t.only = argv[++i];
        } else if (strcmp(argv[i], "--mask") == 0 && i + 1 < argc) {
            setenv("OCTET_CPU_MASK", argv[++i], 1);
        } else {
            return usage();
        }
    }
    t.state = t.seed;
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    signal(SIGILL, on_fault);

    const uint32_t can = oct_cpu_mask();
    printf("kcheck: seed %" PRIu64 ", strongest set %s\n", t.seed, oct_cpu_mask_name(can));
    oct_kern ref, k;
    oct_kern_init(&ref, 0);
    for (uint32_t bit = 1; bit & OCT_CPU_ALL & can; bit <<= 1) {
        t.mask = bit | (bit - 1);
        oct_kern_init(&k, t.mask);
        for (size_t c = 0; c < sizeof kc_checks / sizeof *kc_checks; c++)
            kc_checks[c](&t, &ref, &k);
    }
    for (unsigned i = 0; i < KC_MAX_BUFFERS; i++)
        if (t.buffers[i].map) munmap(t.buffers[i].map, t.buffers[i].map_bytes);
    if (can == 0) printf("SKIP: this CPU has only the reference\n");
    printf("kcheck: %" PRIu64 " cases, %" PRIu64 " failed\n", t.n_cases, t.n_failed);
    return t.n_failed != 0;
}
