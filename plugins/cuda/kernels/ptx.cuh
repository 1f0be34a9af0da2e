/*
 * kernels/ptx.cuh - every instruction that C++ cannot say, as an inline function with two bodies:
 * PTX, and for the emulation what the PTX manual says it does.
 */
#ifndef OCT_CUDA_PTX_CUH
#define OCT_CUDA_PTX_CUH

#include "simt.cuh"

/* ---- order of kernels ------------------------------------------------------------------------ */

/* Waits until the kernels before this one are done and their writes visible. */
OCT_DEVICE void oct_grid_wait() {
#if OCT_EMU
    emu_grid_wait();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel may begin to start its blocks: call it early, it promises nothing of memory. */
OCT_DEVICE void oct_grid_launch_next() {
#if !OCT_EMU && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Asks for memory ahead of its use: `bytes` (a multiple of 16) at a multiple of 16 come into the
 * second cache, if the chip can be asked so. */
OCT_DEVICE void oct_prefetch(oct_addr at, uint32_t bytes) {
#if OCT_EMU || __CUDA_ARCH__ < 900
    (void)at;
    (void)bytes;
#else
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(at), "r"(bytes) : "memory");
#endif
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* Address in shared memory, as the instructions below want it. */
#if OCT_EMU
typedef char *oct_smem;
OCT_DEVICE oct_smem oct_smem_at(const void *p) {
    return static_cast<char *>(const_cast<void *>(p));
}
#else
typedef uint32_t oct_smem;
OCT_DEVICE oct_smem oct_smem_at(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

/* ---- clusters of blocks ------------------------------------------------------------------------
 */

/* For kernels that were started so (launch.h), on sm_90 and newer; the emulation has none. All
 * threads of all blocks arrive and wait in turn: what was written before arriving is visible after
 * waiting. Shared memory of another block may be touched between two such meetings alone. */
#if !OCT_EMU && __CUDA_ARCH__ >= 900
OCT_DEVICE void oct_cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
OCT_DEVICE void oct_cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

/* The place in block `rank` that is `at` here. */
OCT_DEVICE uint32_t oct_cluster_at(oct_smem at, uint32_t rank) {
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}
OCT_DEVICE int4 oct_cluster_load4(oct_smem at, uint32_t rank) {
    int4 v;
    asm volatile("ld.shared::cluster.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(oct_cluster_at(at, rank))
                 : "memory");
    return v;
}
OCT_DEVICE void oct_cluster_store(oct_smem at, uint32_t rank, uint32_t v) {
    asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(oct_cluster_at(at, rank)), "r"(v)
                 : "memory");
}
#else
OCT_DEVICE void oct_cluster_arrive() {}
OCT_DEVICE void oct_cluster_wait() {}
OCT_DEVICE void oct_cluster_store(oct_smem, uint32_t, uint32_t) {}
#endif

/* ---- asynchronous copies to shared memory ------------------------------------------------------
 */

/* 16 bytes, both aligned to 16; of them the first `n` (0 .. 16) are read, the others become 0. */
OCT_DEVICE void oct_cp_async16(oct_smem dst, const void *src, uint32_t n = 16) {
#if OCT_EMU
    emu_cp_async(dst, src, n, 16);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(n)
                 : "memory");
#endif
}

/* 4 or 8 bytes, through the first cache. */
template <int BYTES> OCT_DEVICE void oct_cp_async_small(oct_smem dst, const void *src, uint32_t n) {
    static_assert(BYTES == 4 || BYTES == 8, "cp.async takes 4, 8 or 16 bytes");
#if OCT_EMU
    emu_cp_async(dst, src, n, BYTES);
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(dst), "l"(src), "n"(BYTES),
                 "r"(n)
                 : "memory");
#endif
}

/* Ends a group of copies of this thread; wait<N> returns when all but the last N groups are there
 * (for this thread: others need __syncthreads behind it). */
OCT_DEVICE void oct_cp_commit() {
#if OCT_EMU
    emu_cp_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N> OCT_DEVICE void oct_cp_wait() {
#if OCT_EMU
    emu_cp_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/* ---- matrix fragments ------------------------------------------------------------------------ */

/* Four 8 x 8 matrices of 16-bit elements: lane l names row l % 8 of matrix l / 8 (16 bytes), and
 * gets of matrix i elements 2 (l % 4), + 1 of row l / 4. Of bytes: 4 of them, 4 (l % 4) on. */
OCT_DEVICE void oct_ldmatrix4(uint32_t r[4], oct_smem row) {
#if OCT_EMU
    emu_ldmatrix(r, row, 4, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
#endif
}

OCT_DEVICE void oct_ldmatrix2(uint32_t r[2], oct_smem row) {
#if OCT_EMU
    emu_ldmatrix(r, row, 2, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row)
                 : "memory");
#endif
}

/* The same, each matrix transposed (16-bit elements). */
OCT_DEVICE void oct_ldmatrix4_trans(uint32_t r[4], oct_smem row) {
#if OCT_EMU
    emu_ldmatrix(r, row, 4, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
#endif
}

OCT_DEVICE void oct_ldmatrix2_trans(uint32_t r[2], oct_smem row) {
#if OCT_EMU
    emu_ldmatrix(r, row, 2, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row)
                 : "memory");
#endif
}

/* ---- matrix products, a warp each: C[16][8] += A[16][K] B[K][8] -------------------------------
 */

/*
 * With g = lane / 4, t = lane % 4, E elements in a register (4 bytes, 2 halves):
 *   a[0] rows g,     k E t ..        a[1] rows g + 8, k E t ..
 *   a[2] rows g,     k 4 E + E t ..  a[3] rows g + 8, k 4 E + E t ..
 *   b[0] column g,   k E t ..        b[1] column g,   k 4 E + E t ..
 *   c[0], c[1]: row g, columns 2 t, 2 t + 1;  c[2], c[3]: row g + 8.
 */

/* K = 32 signed bytes into exact int32 (they wrap). */
OCT_DEVICE void oct_mma_s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
#if OCT_EMU
    emu_mma_s8(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* A of unsigned bytes. */
OCT_DEVICE void oct_mma_u8s8(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
#if OCT_EMU
    emu_mma_u8s8(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* K = 16 bf16 into float. */
OCT_DEVICE void oct_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
#if OCT_EMU
    emu_mma_bf16(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* K = 16 halves into float. */
OCT_DEVICE void oct_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
#if OCT_EMU
    emu_mma_f16(c, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* c + the products of four signed bytes each. */
OCT_DEVICE int32_t oct_dot4(uint32_t a, uint32_t b, int32_t c) {
#if OCT_EMU
    return emu_dot4(a, b, c);
#else
    return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#endif
}

#endif
