/*
 * kernels/sm90.cuh - Hopper's own instructions: bulk copies that complete on barriers in shared
 * memory, warpgroup products (wgmma), and registers that warpgroups hand to each other. For files
 * NAME_sm90.cu alone, which the emulation of the tests leaves out.
 *
 * A barrier has a phase that ends when all arrivals that it was made for and all bytes announced to
 * it have come; who waits names the parity of the phase. Bulk copies and wgmma touch shared memory
 * by a way of their own (the async proxy): between them barriers are enough; ordinary stores that
 * they are to see need oct_fence_async before a barrier.
 */
#ifndef OCT_CUDA_SM90_CUH
#define OCT_CUDA_SM90_CUH

#include "ptx.cuh"

/* ---- barriers in shared memory ----------------------------------------------------------------
 */

OCT_DEVICE void oct_bar_init(oct_smem bar, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

/* Makes barriers that were initialised known to copies; a __syncthreads follows. */
OCT_DEVICE void oct_bar_publish() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

OCT_DEVICE void oct_bar_arrive(oct_smem bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

/* Arrives and announces bytes of copies. */
OCT_DEVICE void oct_bar_expect(oct_smem bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}

OCT_DEVICE void oct_bar_wait(oct_smem bar, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}

/* A barrier of `n` threads of the block, number 1 .. 15. */
OCT_DEVICE void oct_bar_named(uint32_t number, uint32_t n) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n) : "memory");
}

/* ---- copies -----------------------------------------------------------------------------------
 */

/* `bytes` (a multiple of 16) from global to shared memory, both at multiples of 16. */
OCT_DEVICE void oct_bulk_load(oct_smem dst, const void *src, uint32_t bytes, oct_smem bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(dst),
                 "l"(__cvta_generic_to_global(src)), "r"(bytes), "r"(bar)
                 : "memory");
}

/* The box of a tensor map whose first element is (column, row). */
OCT_DEVICE void oct_tensor_load(oct_smem dst, const void *map, int32_t column, int32_t row,
                                oct_smem bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(dst),
                 "l"(map), "r"(column), "r"(row), "r"(bar)
                 : "memory");
}

OCT_DEVICE void oct_tensor_prefetch(const void *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Ordinary stores to shared memory become visible to copies and wgmma. */
OCT_DEVICE void oct_fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- warpgroups -------------------------------------------------------------------------------
 */

template <int N> OCT_DEVICE void oct_registers_more() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> OCT_DEVICE void oct_registers_less() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* Before the first wgmma, and after registers of one were touched otherwise. */
OCT_DEVICE void oct_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
OCT_DEVICE void oct_wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Until at most N of the newest groups are running. */
template <int N> OCT_DEVICE void oct_wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* An operand in shared memory: rows of 128 bytes of k in the 128-byte swizzle, eight rows in 1024
 * bytes, the first at a multiple of 1024. Adding 2 to it moves on by 32 bytes of k. */
OCT_DEVICE uint64_t oct_wgmma_operand(oct_smem at) {
    return (uint64_t)((at & 0x3ffffu) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* d[64][256] = A[64][32] B[256][32]^T + (add ? d : 0), signed bytes, exact. Of a warpgroup's warp
 * w, with g = lane / 4, t = lane % 4: d[4 j + 2 h + e] is row 16 w + g + 8 h, column 8 j + 2 t + e.
 */
OCT_DEVICE void oct_wgmma_s8_256(int32_t (&d)[128], uint64_t a, uint64_t b, uint32_t add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, "
        "%8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, "
        "%40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, "
        "%72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, "
        "%88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, "
        "%104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, "
        "%120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p;\n}"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]),
          "+r"(d[7]), "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]),
          "+r"(d[14]), "+r"(d[15]), "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]),
          "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]),
          "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]), "+r"(d[32]), "+r"(d[33]), "+r"(d[34]),
          "+r"(d[35]), "+r"(d[36]), "+r"(d[37]), "+r"(d[38]), "+r"(d[39]), "+r"(d[40]), "+r"(d[41]),
          "+r"(d[42]), "+r"(d[43]), "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]), "+r"(d[48]),
          "+r"(d[49]), "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]),
          "+r"(d[56]), "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]),
          "+r"(d[63]), "+r"(d[64]), "+r"(d[65]), "+r"(d[66]), "+r"(d[67]), "+r"(d[68]), "+r"(d[69]),
          "+r"(d[70]), "+r"(d[71]), "+r"(d[72]), "+r"(d[73]), "+r"(d[74]), "+r"(d[75]), "+r"(d[76]),
          "+r"(d[77]), "+r"(d[78]), "+r"(d[79]), "+r"(d[80]), "+r"(d[81]), "+r"(d[82]), "+r"(d[83]),
          "+r"(d[84]), "+r"(d[85]), "+r"(d[86]), "+r"(d[87]), "+r"(d[88]), "+r"(d[89]), "+r"(d[90]),
          "+r"(d[91]), "+r"(d[92]), "+r"(d[93]), "+r"(d[94]), "+r"(d[95]), "+r"(d[96]), "+r"(d[97]),
          "+r"(d[98]), "+r"(d[99]), "+r"(d[100]), "+r"(d[101]), "+r"(d[102]), "+r"(d[103]),
          "+r"(d[104]), "+r"(d[105]), "+r"(d[106]), "+r"(d[107]), "+r"(d[108]), "+r"(d[109]),
          "+r"(d[110]), "+r"(d[111]), "+r"(d[112]), "+r"(d[113]), "+r"(d[114]), "+r"(d[115]),
          "+r"(d[116]), "+r"(d[117]), "+r"(d[118]), "+r"(d[119]), "+r"(d[120]), "+r"(d[121]),
          "+r"(d[122]), "+r"(d[123]), "+r"(d[124]), "+r"(d[125]), "+r"(d[126]), "+r"(d[127])
        : "l"(a), "l"(b), "r"(add));
}

/* An operand in shared memory as cells of 8 rows x 16 bytes, 128 bytes without a gap: the next cell
 * along k is k_bytes further, the next 8 rows row_bytes. */
OCT_DEVICE uint64_t oct_wgmma_cells(oct_smem at, uint32_t k_bytes, uint32_t row_bytes) {
    return (uint64_t)((at & 0x3ffffu) >> 4) | (uint64_t)(k_bytes >> 4) << 16 |
           (uint64_t)(row_bytes >> 4) << 32;
}

/*
 * d[64][N] = A[64][32] B[N][32]^T + (add ? d : 0) with A in registers, exact; d as above. A's
 * registers of warp w, four bytes each, with g = lane / 4, t = lane % 4:
 *   a[0] row 16 w + g, k 4 t ..        a[1] row 16 w + g + 8, k 4 t ..
 *   a[2] row 16 w + g, k 16 + 4 t ..   a[3] row 16 w + g + 8, k 16 + 4 t ..
 */
#define OCT_D8(d, i)                                                                            \
    "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3]), "+r"(d[i + 4]), "+r"(d[i + 5]), \
        "+r"(d[i + 6]), "+r"(d[i + 7])
#define OCT_D32(d, i) OCT_D8(d, i), OCT_D8(d, i + 8), OCT_D8(d, i + 16), OCT_D8(d, i + 24)
#define OCT_WGMMA_64(types)                                                             \
    "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                        \
    "wgmma.mma_async.sync.aligned.m64n64k32.s32." types " {"                            \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "            \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " \
    "{%32, %33, %34, %35}, %36, p;\n}"
#define OCT_WGMMA_128(types)                                                            \
    "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"                                        \
    "wgmma.mma_async.sync.aligned.m64n128k32.s32." types " {"                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "            \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "  \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "  \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, " \
    "{%64, %65, %66, %67}, %68, p;\n}"

/* Signed bytes, N = 128. */
OCT_DEVICE void oct_wgmma_s8(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
    asm volatile(OCT_WGMMA_128("s8.s8")
                 : OCT_D32(d, 0), OCT_D32(d, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

/* A of unsigned bytes, N = 128. */
OCT_DEVICE void oct_wgmma_u8s8(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
    asm volatile(OCT_WGMMA_128("u8.s8")
                 : OCT_D32(d, 0), OCT_D32(d, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

/* A of unsigned bytes, N = 64. */
OCT_DEVICE void oct_wgmma_u8s8(int32_t (&d)[32], const uint32_t (&a)[4], uint64_t b, uint32_t add) {
    asm volatile(OCT_WGMMA_64("u8.s8")
                 : OCT_D32(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

#endif
