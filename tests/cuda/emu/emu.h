/*
 * emu.h - CUDA's words for g++: what kernels/simt.cuh includes instead of nvcc's own when the
 * kernels are compiled for the emulation. The threads of a block are fibers of one host thread
 * (fiber.cc); a warp's exchanges and a block's barriers are meetings of them (block.cc).
 *
 * What it finds, each ending the process with the kernel's name: barriers that not all threads
 * reach, or at different places; exchanges whose mask does not name who arrives; shared memory
 * beyond what a block has; a thread that ends without oct_grid_wait. Shared memory holds a pattern
 * (NaN as float, 0x7f.. as integer) before each block; copies by cp.async land when they are waited
 * for, not before. Built with AddressSanitizer, device memory has its ends watched as well.
 *
 * Threads: a block runs on one host thread; blocks of a grid run one after the other, ascending.
 */
#ifndef OCT_EMU_H
#define OCT_EMU_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define OCT_DEVICE static inline
#define __restrict__ __restrict

/* ---- vectors ----------------------------------------------------------------------------------
 */

struct uint2 {
    uint32_t x, y;
};
struct int2 {
    int32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) int4 {
    int32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline int2 make_int2(int32_t x, int32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}
static inline int4 make_int4(int32_t x, int32_t y, int32_t z, int32_t w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---- who and where ----------------------------------------------------------------------------
 */

struct emu_dim {
    uint32_t x, y, z;
};

struct emu_thread {
    emu_dim thread, block;
    emu_dim block_dim, grid_dim;
};

extern emu_thread *emu_self;
#define threadIdx (emu_self->thread)
#define blockIdx (emu_self->block)
#define blockDim (emu_self->block_dim)
#define gridDim (emu_self->grid_dim)

/* ---- kernels ----------------------------------------------------------------------------------
 */

struct emu_kernel {
    const char *name;
    size_t params_bytes;
    unsigned max_threads;
    void (*run)(const void *params); /* one thread */
    const emu_kernel *next;
};

void emu_register(emu_kernel *kernel);

#define OCT_KERNEL_BLOCKS(name, params_t, max_threads, blocks) \
    OCT_KERNEL(name, params_t, max_threads)
#define OCT_KERNEL(name, params_t, max_threads)                                         \
    static void emu_body_##name(const params_t &p);                                     \
    static void emu_run_##name(const void *p) {                                         \
        emu_body_##name(*static_cast<const params_t *>(p));                             \
    }                                                                                   \
    static emu_kernel emu_kernel_##name = {"oct_" #name, sizeof(params_t), max_threads, \
                                           emu_run_##name, nullptr};                    \
    __attribute__((constructor)) static void emu_register_##name() {                    \
        emu_register(&emu_kernel_##name);                                               \
    }                                                                                   \
    static void emu_body_##name([[maybe_unused]] const params_t &p)

/* ---- memory -----------------------------------------------------------------------------------
 */

/* The block's memory under a key: the address of something that exists once for each declaration.
 */
void *emu_shared(const void *key, size_t bytes, size_t align);
unsigned char *emu_shared_dynamic();

#define OCT_SHARED(type, name, n)              \
    static const char emu_key_##name = 0;      \
    type(&name)[n] = *static_cast<type(*)[n]>( \
        emu_shared(&emu_key_##name, sizeof(type[n]), alignof(type) < 16 ? 16 : alignof(type)))
#define OCT_SHARED_DYNAMIC(name) unsigned char *const name = emu_shared_dynamic()

template <typename T> static inline T __ldg(const T *p) { return *p; }

void emu_cp_async(char *dst, const void *src, uint32_t n, uint32_t bytes);
void emu_cp_commit();
void emu_cp_wait(int pending);
void emu_grid_wait();
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __nanosleep(unsigned) {}

/* ---- meetings ---------------------------------------------------------------------------------
 */

void emu_block_meet(const char *file, int line);
int emu_block_count(int value, const char *file, int line);
#define __syncthreads() emu_block_meet(__FILE__, __LINE__)
#define __syncthreads_count(v) emu_block_count((v) != 0, __FILE__, __LINE__)
#define __syncthreads_or(v) (emu_block_count((v) != 0, __FILE__, __LINE__) != 0)
#define __syncthreads_and(v) (emu_block_count((v) == 0, __FILE__, __LINE__) == 0)
/* A barrier of `n` threads of the block (bar.sync id, n); id 1 .. 15. */
void emu_named_barrier(int id, int n, bool wait);

enum { EMU_SLOT = 64 }; /* bytes a lane brings to a meeting of its warp, or takes from it */
typedef unsigned char emu_slots[32][EMU_SLOT];
/* The last lane of the mask to arrive makes all results from all inputs. */
typedef void emu_warp_fn(uint32_t mask, const emu_slots in, emu_slots out);
void emu_warp_meet(uint32_t mask, const void *in, size_t in_bytes, void *out, size_t out_bytes,
                   emu_warp_fn *fn);

static inline void __syncwarp(uint32_t mask = 0xffffffffu) {
    emu_warp_meet(mask, nullptr, 0, nullptr, 0, nullptr);
}
static inline uint32_t __activemask() { return 0xffffffffu; }

struct emu_shuffled {
    uint64_t bits;
    int32_t from;
};
void emu_shuffle_all(uint32_t mask, const emu_slots in, emu_slots out);

template <typename T> static inline T emu_shuffle(uint32_t mask, T v, int from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "32 or 64 bits are exchanged");
    emu_shuffled in = {0, from};
    memcpy(&in.bits, &v, sizeof v);
    uint64_t out = 0;
    emu_warp_meet(mask, &in, sizeof in, &out, sizeof out, emu_shuffle_all);
    memcpy(&v, &out, sizeof v);
    return v;
}

static inline int emu_lane() { return static_cast<int>(threadIdx.x % 32); }

/* As CUDA has it: within segments of `width` lanes; beyond the segment a lane keeps its own. */
template <typename T> static inline T __shfl_sync(uint32_t mask, T v, int lane, int width = 32) {
    return emu_shuffle(mask, v, (emu_lane() & ~(width - 1)) + (lane & (width - 1)));
}
template <typename T>
static inline T __shfl_xor_sync(uint32_t mask, T v, int bits, int width = 32) {
    const int to = emu_lane() ^ bits;
    return emu_shuffle(mask, v, to / width > emu_lane() / width ? emu_lane() : to);
}
template <typename T>
static inline T __shfl_down_sync(uint32_t mask, T v, unsigned d, int width = 32) {
    const int to = emu_lane() + static_cast<int>(d);
    return emu_shuffle(mask, v, to / width != emu_lane() / width ? emu_lane() : to);
}
template <typename T>
static inline T __shfl_up_sync(uint32_t mask, T v, unsigned d, int width = 32) {
    const int to = emu_lane() - static_cast<int>(d);
    return emu_shuffle(mask, v, to < (emu_lane() & ~(width - 1)) ? emu_lane() : to);
}

uint32_t emu_ballot(uint32_t mask, bool v);
#define __ballot_sync(mask, v) emu_ballot(mask, (v) != 0)
#define __any_sync(mask, v) (emu_ballot(mask, (v) != 0) != 0)
#define __all_sync(mask, v) (emu_ballot(mask, (v) == 0) == 0)
uint32_t __match_any_sync(uint32_t mask, uint32_t v);

uint32_t __reduce_add_sync(uint32_t mask, uint32_t v);
int32_t __reduce_add_sync(uint32_t mask, int32_t v);
uint32_t __reduce_max_sync(uint32_t mask, uint32_t v);
int32_t __reduce_max_sync(uint32_t mask, int32_t v);
uint32_t __reduce_min_sync(uint32_t mask, uint32_t v);
int32_t __reduce_min_sync(uint32_t mask, int32_t v);
uint32_t __reduce_or_sync(uint32_t mask, uint32_t v);

void emu_ldmatrix(uint32_t *r, const char *row, int n, bool transposed);
void emu_mma_s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]);
void emu_mma_u8s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]);
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]);
void emu_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]);

/* ---- atomics ----------------------------------------------------------------------------------
 */

template <typename T> static inline T atomicAdd(T *at, T v) {
    const T old = *at;
    *at = old + v;
    return old;
}
template <typename T> static inline T atomicMax(T *at, T v) {
    const T old = *at;
    if (v > old) *at = v;
    return old;
}
template <typename T> static inline T atomicMin(T *at, T v) {
    const T old = *at;
    if (v < old) *at = v;
    return old;
}
template <typename T> static inline T atomicOr(T *at, T v) {
    const T old = *at;
    *at = old | v;
    return old;
}
template <typename T> static inline T atomicExch(T *at, T v) {
    const T old = *at;
    *at = v;
    return old;
}
template <typename T> static inline T atomicCAS(T *at, T want, T v) {
    const T old = *at;
    if (old == want) *at = v;
    return old;
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

static inline uint32_t emu_bits(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}
static inline float emu_float(uint32_t u) {
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}
float emu_f16_f32(uint16_t h);
uint16_t emu_f32_f16(float v);
static inline int32_t emu_dot4(uint32_t a, uint32_t b, int32_t c) {
    uint32_t sum = static_cast<uint32_t>(c);
    for (int i = 0; i < 32; i += 8)
        sum += static_cast<uint32_t>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
    return static_cast<int32_t>(sum);
}

/* CUDA's own spellings of integer and bit helpers. */
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }
static inline float __uint_as_float(uint32_t u) { return emu_float(u); }
static inline uint32_t __float_as_uint(float v) { return emu_bits(v); }
static inline float __int_as_float(int32_t i) { return emu_float(static_cast<uint32_t>(i)); }
static inline int32_t __float_as_int(float v) { return static_cast<int32_t>(emu_bits(v)); }
static inline int __popc(uint32_t v) { return __builtin_popcount(v); }
static inline int __popcll(uint64_t v) { return __builtin_popcountll(v); }
static inline int __clz(uint32_t v) { return v ? __builtin_clz(v) : 32; }
static inline int __clzll(uint64_t v) { return v ? __builtin_clzll(v) : 64; }
static inline int __ffs(uint32_t v) { return __builtin_ffs(static_cast<int>(v)); }
static inline uint32_t __brev(uint32_t v) {
    uint32_t r = 0;
    for (int i = 0; i < 32; i++) r |= ((v >> i) & 1u) << (31 - i);
    return r;
}
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t s) {
    const uint64_t all = static_cast<uint64_t>(b) << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t pick = (s >> (4 * i)) & 0xf;
        uint32_t byte = static_cast<uint32_t>(all >> (8 * (pick & 7))) & 0xff;
        if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
        r |= byte << (8 * i);
    }
    return r;
}
static inline uint32_t __umulhi(uint32_t a, uint32_t b) {
    return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
static inline int32_t __float2int_rn(float v) {
    if (v != v) return 0;
    const float r = rintf(v);
    return r >= 0x1p31f ? INT32_MAX : r < -0x1p31f ? INT32_MIN : static_cast<int32_t>(r);
}
static inline float __int2float_rn(int32_t v) { return static_cast<float>(v); }
static inline float __fdividef(float a, float b) { return a / b; }

#endif
