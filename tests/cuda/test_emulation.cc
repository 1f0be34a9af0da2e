/*
 * test_emulation.cc - the emulation itself: what it must find is planted and found, each in a
 * process of its own; fragments of matrix products lie where the manual says.
 */
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "../../plugins/cuda/kernels/ptx.cuh"
#include "block.h"

static int n_failed;

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            n_failed++;                                                        \
        }                                                                      \
    } while (0)

struct plan {
    uint64_t data;
};

template <typename T>
static void run(const char *kernel, T *data, uint32_t blocks, uint32_t threads) {
    const plan p = {reinterpret_cast<uint64_t>(data)};
    emu_run_grid(emu_find(kernel), &p, {blocks, 1, 1}, threads, 0);
}

/* ---- what must be found -----------------------------------------------------------------------
 */

OCT_KERNEL(bad_missing, plan, 64) {
    oct_grid_wait();
    if (threadIdx.x < 40) __syncthreads();
    if (threadIdx.x >= 40 && p.data) __syncwarp(0xffffffffu);
}

OCT_KERNEL(bad_places, plan, 64) {
    oct_grid_wait();
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

OCT_KERNEL(bad_mask, plan, 32) {
    oct_grid_wait();
    if (threadIdx.x < 16) (void)__shfl_xor_sync(0xffff0000u, 1, 1);
}

OCT_KERNEL(bad_lane, plan, 32) {
    oct_grid_wait();
    if (threadIdx.x < 16) (void)__shfl_sync(0x0000ffffu, 1, 20);
}

OCT_KERNEL(bad_wait, plan, 32) { (void)p; }

OCT_KERNEL(bad_room, plan, 32) {
    OCT_SHARED(float, room, 13000);
    oct_grid_wait();
    room[threadIdx.x] = 0;
}

OCT_KERNEL(bad_copy, plan, 32) {
    OCT_SHARED(unsigned char, room, 64);
    oct_grid_wait();
    oct_cp_async16(oct_smem_at(room + 4), oct_ptr<const char>(p.data));
}

static void found(const char *kernel, const char *words) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    fflush(stderr);
    const pid_t child = fork();
    if (child == 0) {
        static uint32_t data[64];
        dup2(ends[1], 2);
        run(kernel, data, 1,
            kernel == std::string("oct_bad_missing") || kernel == std::string("oct_bad_places")
                ? 64
                : 32);
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[256];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    const bool ended = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (ended && said.find(words) != std::string::npos) return;
    fprintf(stderr, "%s: want it ended by \"%s\", got status %d: %s\n", kernel, words, status,
            said.c_str());
    n_failed++;
}

/* ---- what must be right -----------------------------------------------------------------------
 */

/* Shared memory is new in each block; copies land when they are waited for. */
OCT_KERNEL(fresh, plan, 32) {
    OCT_SHARED(uint32_t, room, 32);
    uint32_t *out = oct_ptr<uint32_t>(p.data) + 4 * blockIdx.x;
    oct_grid_wait();
    if (threadIdx.x == 0) {
        out[0] = room[7];
        oct_cp_async16(oct_smem_at(room), oct_ptr<const uint32_t>(p.data) + 8, 8);
        oct_cp_commit();
        out[1] = room[0];
        oct_cp_wait<0>();
        out[2] = room[0] + room[1];
        out[3] = room[2] | room[3];
    }
    __syncthreads();
    room[threadIdx.x] = 5;
}

/* C[16][8] = A[16][32] B[32][8] of bytes, A by rows and B by columns in shared memory. */
struct product_data {
    alignas(16) int8_t a[16][32], b[8][32];
    int32_t c[16][8];
};

OCT_KERNEL(product, plan, 32) {
    product_data *d = oct_ptr<product_data>(p.data);
    OCT_SHARED(unsigned char, room, 16 * 32 + 8 * 32);
    oct_grid_wait();
    memcpy(room + 16 * threadIdx.x, &d->a[0][0] + 16 * threadIdx.x, 16);
    if (threadIdx.x < 16) memcpy(room + 512 + 16 * threadIdx.x, &d->b[0][0] + 16 * threadIdx.x, 16);
    __syncthreads();
    const uint32_t l = threadIdx.x;
    uint32_t a[4], b[2];
    int32_t c[4] = {1, 1, 1, 1};
    /* Matrices in the order of a: rows 0-7 and 8-15 of the first 16 bytes, then of the second. */
    oct_ldmatrix4(a, oct_smem_at(room + (l % 16) * 32 + l / 16 * 16));
    oct_ldmatrix2(b, oct_smem_at(room + 512 + (l % 8) * 32 + l / 8 % 2 * 16));
    oct_mma_s8(c, a, b);
    for (uint32_t i = 0; i < 4; i++) d->c[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] = c[i];
}

OCT_KERNEL(lanes, plan, 64) {
    uint32_t *out = oct_ptr<uint32_t>(p.data);
    const uint32_t t = threadIdx.x;
    oct_grid_wait();
    uint32_t v = t;
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    const uint32_t up = __shfl_up_sync(0xffffffffu, t, 1u, 8);
    const uint32_t down = __shfl_down_sync(0xffffffffu, t, 3u);
    const uint32_t odd = __ballot_sync(0xffffffffu, t & 1);
    const uint32_t most = __reduce_max_sync(0xffffffffu, t);
    uint32_t half = 0; /* two exchanges of one warp at a time */
    if (t & 1)
        half = __reduce_add_sync(0xaaaaaaaau, t);
    else
        half = __reduce_add_sync(0x55555555u, t);
    const int all = __syncthreads_count(t > 9);
    uint32_t *mine = out + 8 * t;
    mine[0] = v, mine[1] = up, mine[2] = down, mine[3] = odd;
    mine[4] = most, mine[5] = half, mine[6] = static_cast<uint32_t>(all);
}

static void check_lanes() {
    static uint32_t out[64 * 8];
    run("oct_lanes", out, 1, 64);
    for (uint32_t t = 0; t < 64; t++) {
        const uint32_t *mine = out + 8 * t, base = t / 32 * 32;
        CHECK(mine[0] == 31 * 16 + 32 * base);
        CHECK(mine[1] == (t % 8 ? t - 1 : t));
        CHECK(mine[2] == (t % 32 + 3 < 32 ? t + 3 : t));
        CHECK(mine[3] == 0xaaaaaaaau);
        CHECK(mine[4] == base + 31);
        CHECK(mine[5] == (t & 1 ? 256 : 240) + 16 * base);
        CHECK(mine[6] == 54);
    }
}

static void check_product() {
    static product_data d;
    for (int i = 0; i < 16 * 32; i++) d.a[i / 32][i % 32] = static_cast<int8_t>(i * 37 % 256 - 128);
    for (int i = 0; i < 8 * 32; i++) d.b[i / 32][i % 32] = static_cast<int8_t>(i * 91 % 256 - 128);
    run("oct_product", &d, 1, 32);
    for (int r = 0; r < 16; r++)
        for (int n = 0; n < 8; n++) {
            int32_t sum = 1;
            for (int k = 0; k < 32; k++) sum += d.a[r][k] * d.b[n][k];
            CHECK(d.c[r][n] == sum);
        }
}

static void check_fresh() {
    static uint32_t data[16];
    data[8] = 11, data[9] = 31, data[10] = data[11] = 99;
    run("oct_fresh", data, 2, 32);
    for (int b = 0; b < 2; b++) {
        CHECK(data[4 * b] == 0x7fffffffu);
        CHECK(data[4 * b + 1] == 0x7fffffffu);
        CHECK(data[4 * b + 2] == 42);
        CHECK(data[4 * b + 3] == 0);
    }
}

int main() {
    found("oct_bad_missing", "wait for what never comes");
    found("oct_bad_places", "threads at different barriers");
    found("oct_bad_mask", "is not of its own mask");
    found("oct_bad_lane", "a lane that is not of the mask");
    found("oct_bad_wait", "ends without oct_grid_wait");
    found("oct_bad_room", "bytes of static shared memory, want <= 49152");
    found("oct_bad_copy", "cp.async: misaligned");
    check_lanes();
    check_product();
    check_fresh();
    if (n_failed) fprintf(stderr, "%d failed\n", n_failed);
    return n_failed != 0;
}
