/*
 * Register loops for AVX2. 12 independent chains: VPMADDWD has a latency of 3 to 5, FMA of 4 or 5,
 * and two can start in a cycle, so ten are enough everywhere.
 */
#include <immintrin.h>

#include "kern/x86/peak_x86.h"

#define TWELVE(op)                                                                             \
    op("%%ymm0") op("%%ymm1") op("%%ymm2") op("%%ymm3") op("%%ymm4") op("%%ymm5") op("%%ymm6") \
        op("%%ymm7") op("%%ymm8") op("%%ymm9") op("%%ymm10") op("%%ymm11")
#define CLOBBERS                                                                             \
    "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", \
        "ymm11", "ymm12", "ymm13"
#define CLEAR(r) "vpxor " r ", " r ", " r "\n"
#define MADD(r) "vpmaddwd %%ymm13, " r ", " r "\n"
#define FMA(r) "vfmadd231ps %%ymm12, %%ymm13, " r "\n"

enum { CHAINS = 12, MADD_MACS = 16, FMA_MACS = 8 };

uint64_t oct_peak_int8_avx2(uint64_t rounds) {
    OCT_PEAK_LOOP(rounds, TWELVE(CLEAR) CLEAR("%%ymm13"), TWELVE(MADD), CLOBBERS);
    return rounds * 2 * CHAINS * MADD_MACS;
}

/* With the addition that every VPMADDWD needs: what a product can reach here. */
#define MADD_ADD(r) "vpmaddwd %%ymm13, %%ymm12, %%ymm14\n vpaddd %%ymm14, " r ", " r "\n"

uint64_t oct_peak_int8_sum_avx2(uint64_t rounds) {
    OCT_PEAK_LOOP(rounds, TWELVE(CLEAR) CLEAR("%%ymm12") CLEAR("%%ymm13"), TWELVE(MADD_ADD),
                  "ymm14", CLOBBERS);
    return rounds * 2 * CHAINS * MADD_MACS;
}

uint64_t oct_peak_f32_avx2(uint64_t rounds) {
    OCT_PEAK_LOOP(rounds, TWELVE(CLEAR) CLEAR("%%ymm12") CLEAR("%%ymm13"), TWELVE(FMA), CLOBBERS);
    return rounds * 2 * CHAINS * FMA_MACS;
}

uint64_t oct_read_avx2(const void *from, size_t bytes) {
    const char *p = from, *end = p + bytes;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; p < end; p += 512) {
        _mm_prefetch(p + 4096, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 64, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 128, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 192, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 256, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 320, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 384, _MM_HINT_T0);
        _mm_prefetch(p + 4096 + 448, _MM_HINT_T0);
        const __m256i *v = (const __m256i *)p;
#pragma GCC unroll 8
        for (int i = 0; i < 16; i += 4) {
            a = _mm256_xor_si256(a, _mm256_loadu_si256(v + i));
            b = _mm256_xor_si256(b, _mm256_loadu_si256(v + i + 1));
            c = _mm256_xor_si256(c, _mm256_loadu_si256(v + i + 2));
            d = _mm256_xor_si256(d, _mm256_loadu_si256(v + i + 3));
        }
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1) ^
           (uint64_t)_mm256_extract_epi64(a, 2) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}
