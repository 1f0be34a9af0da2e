/*
 * kern/cpu.c - CPUID for the instructions, XGETBV for the registers the system saves, and for AMX
 * the request without which Linux leaves the tiles switched off.
 */
#include "kern/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, 18), 18 being the state component of the tile data. */
enum { REQ_XCOMP_PERM = 0x1023, XFEATURE_TILE_DATA = 18 };

/* State components in XCR0: SSE 1, AVX 2; opmask 5 and the two halves of zmm 6 and 7; tile 17 18 */
#define XCR0_YMM 0x06u
#define XCR0_ZMM 0xe6u
#define XCR0_TILES 0x60000u

static uint32_t xcr0_low(void) {
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static int has(uint32_t word, int bit) { return (int)(word >> bit & 1u); }

uint32_t oct_cpu_detect(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const int fma = has(c, 12), osxsave = has(c, 27), avx = has(c, 28), f16c = has(c, 29);
    if (!osxsave || !avx || !fma || !f16c) return 0;
    const uint32_t xcr0 = xcr0_low();
    if ((xcr0 & XCR0_YMM) != XCR0_YMM) return 0;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, 5)) return 0;
    uint32_t mask = OCT_CPU_AVX2;

    const int f = has(b, 16), dq = has(b, 17), bw = has(b, 30), vl = has(b, 31), vnni = has(c, 11);
    if (!(f && dq && bw && vl && vnni) || (xcr0 & XCR0_ZMM) != XCR0_ZMM) return mask;
    mask |= OCT_CPU_AVX512_VNNI;

    const int tile = has(d, 24), tile_int8 = has(d, 25);
    if (!(tile && tile_int8) || (xcr0 & XCR0_TILES) != XCR0_TILES) return mask;
    if (syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XFEATURE_TILE_DATA) != 0) return mask;
    return mask | OCT_CPU_AMX_INT8;
}

#else

uint32_t oct_cpu_detect(void) { return 0; }

#endif

uint32_t oct_cpu_mask_normal(uint32_t mask) {
    uint32_t kept = 0;
    for (uint32_t bit = 1; (bit & OCT_CPU_ALL) && (mask & bit); bit <<= 1) kept |= bit;
    return kept;
}

uint32_t oct_cpu_mask(void) {
    static const char *const names[] = {"ref", "avx2", "vnni", "amx"};
    uint32_t allowed = OCT_CPU_ALL;
    const char *env = getenv("OCTET_CPU_MASK");
    if (env && *env) {
        char *end;
        const unsigned long value = strtoul(env, &end, 0);
        if (*end == '\0') allowed = (uint32_t)value;
        for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
            if (strcmp(env, names[i]) == 0) allowed = (1u << i) - 1;
    }
    return oct_cpu_mask_normal(oct_cpu_detect() & allowed);
}

const char *oct_cpu_mask_name(uint32_t mask) {
    mask = oct_cpu_mask_normal(mask);
    if (mask & OCT_CPU_AMX_INT8) return "amx-int8";
    if (mask & OCT_CPU_AVX512_VNNI) return "avx512-vnni";
    if (mask & OCT_CPU_AVX2) return "avx2";
    return "reference";
}
