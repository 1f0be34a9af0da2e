/*
 * Register loops for AVX-512: 16 chains of VPDPBUSD or FMA, latency at most 5, at most two a cycle.
 */
#include "kern/x86/peak_x86.h"

#define SIXTEEN(op)                                                                            \
    op("%%zmm0") op("%%zmm1") op("%%zmm2") op("%%zmm3") op("%%zmm4") op("%%zmm5") op("%%zmm6") \
        op("%%zmm7") op("%%zmm8") op("%%zmm9") op("%%zmm10") op("%%zmm11") op("%%zmm12")       \
            op("%%zmm13") op("%%zmm14") op("%%zmm15")
#define CLOBBERS                                                                             \
    "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", \
        "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17"
#define CLEAR(r) "vpxord " r ", " r ", " r "\n"
#define DOT(r) "vpdpbusd %%zmm16, %%zmm17, " r "\n"
#define FMA(r) "vfmadd231ps %%zmm16, %%zmm17, " r "\n"

enum { CHAINS = 16, DOT_MACS = 64, FMA_MACS = 16 };

uint64_t oct_peak_int8_avx512(uint64_t rounds) {
    OCT_PEAK_LOOP(rounds, SIXTEEN(CLEAR) CLEAR("%%zmm16") CLEAR("%%zmm17"), SIXTEEN(DOT), CLOBBERS);
    return rounds * 2 * CHAINS * DOT_MACS;
}

uint64_t oct_peak_f32_avx512(uint64_t rounds) {
    OCT_PEAK_LOOP(rounds, SIXTEEN(CLEAR) CLEAR("%%zmm16") CLEAR("%%zmm17"), SIXTEEN(FMA), CLOBBERS);
    return rounds * 2 * CHAINS * FMA_MACS;
}
