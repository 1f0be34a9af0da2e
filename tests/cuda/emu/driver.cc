/*
 * driver.cc - a stand-in for libcuda.so.1: the functions that plugins/cuda/driver.h names, over
 * host memory. Streams run at once; a stream that records keeps a list of what to do instead, and a
 * graph is that list. Device memory is malloc's, so that AddressSanitizer watches its ends, and
 * holds a pattern until it is written.
 */
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <vector>

#include "block.h"
#include "control.h"

#define OUT extern "C" __attribute__((visibility("default")))

struct CUstream_st {
    bool recording = false;
    bool broken = false; /* something that cannot be recorded was asked of it */
    std::vector<std::function<void()>> list;
};
struct CUevent_st {
    int unused;
};
struct CUgraph_st {
    std::vector<std::function<void()>> list;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> list;
};
struct CUmod_st {
    int unused;
};
struct CUfunc_st {
    const emu_kernel *kernel;
    int dynamic_max;
};
struct CUctx_st {
    int unused;
};

namespace {

/* From here on memory comes from the system, page by page as it is touched. */
const size_t LARGE = 64u << 20;
const int SHARED_MAX = 99 << 10; /* of a block of compute capability 8.9 */
const int STATIC_ASSUMED = 1024;

std::mutex lock;
CUctx_st the_context;
CUstream_st the_default;
thread_local CUcontext current;
std::map<CUdeviceptr, size_t> memory;
std::map<std::string, CUfunc_st> functions;
uint64_t n_host, n_objects, n_calls, fail_at;
uint64_t bytes_used, bytes_total;
int fail_code = CUDA_ERROR_UNKNOWN, lost;
std::string failed_name, fail_only;
bool env_read;

uint64_t env(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtoull(v, nullptr, 10) : otherwise;
}

void read_env() {
    if (env_read) return;
    env_read = true;
    bytes_total = env("OCT_EMU_MEMORY", 1ull << 33);
    fail_at = env("OCT_EMU_FAIL_CALL", 0);
    fail_code = static_cast<int>(env("OCT_EMU_FAIL_CODE", CUDA_ERROR_UNKNOWN));
    const char *only = getenv("OCT_EMU_FAIL_NAME");
    fail_only = only ? only : "";
}

bool loses(int code) {
    return code == CUDA_ERROR_ILLEGAL_ADDRESS || code == CUDA_ERROR_LAUNCH_FAILED ||
           code == CUDA_ERROR_ECC_UNCORRECTABLE || code == CUDA_ERROR_LAUNCH_TIMEOUT ||
           code == CUDA_ERROR_MISALIGNED_ADDRESS || code == CUDA_ERROR_ILLEGAL_INSTRUCTION;
}

/* What every call does first. symbol: the name, perhaps with the version that cuda.h puts on it. */
CUresult counted(const char *symbol) {
    const std::string all = symbol, name = all.substr(0, all.find("_v"));
    read_env();
    if (fail_only.empty() || fail_only == name) n_calls++;
    if (lost) return static_cast<CUresult>(lost);
    if (fail_at == 0 || n_calls != fail_at || (!fail_only.empty() && fail_only != name))
        return CUDA_SUCCESS;
    fail_at = 0;
    failed_name = name;
    if (loses(fail_code)) lost = fail_code;
    return static_cast<CUresult>(fail_code);
}

#define CALL(name)                          \
    std::lock_guard<std::mutex> held(lock); \
    if (const CUresult r_ = counted(#name)) return r_

/* ... and one that needs a context. */
#define CALL_IN_CONTEXT(name) \
    CALL(name);               \
    if (!current) return CUDA_ERROR_INVALID_CONTEXT

CUstream_st *stream_of(CUstream s) {
    return !s || s == CU_STREAM_PER_THREAD || s == CU_STREAM_LEGACY ? &the_default : s;
}

/* Now, or into the list. */
CUresult queue(CUstream s, std::function<void()> what) {
    CUstream_st *at = stream_of(s);
    if (at->recording)
        at->list.push_back(std::move(what));
    else
        what();
    return CUDA_SUCCESS;
}

CUresult not_recorded(CUstream s) {
    CUstream_st *at = stream_of(s);
    if (!at->recording) return CUDA_SUCCESS;
    at->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* Whether [at, at + bytes) lies in one allocation. */
bool there(CUdeviceptr at, size_t bytes) {
    auto it = memory.upper_bound(at);
    if (it == memory.begin()) return false;
    --it;
    return at - it->first <= it->second && bytes <= it->second - (at - it->first);
}

void *host_of(CUdeviceptr at) { return reinterpret_cast<void *>(at); }

int sm() { return static_cast<int>(env("OCT_EMU_SM", 89)); }

} // namespace

/* ---- what tests ask ---------------------------------------------------------------------------
 */

OUT void emu_fail_after(uint64_t n, int code) {
    std::lock_guard<std::mutex> held(lock);
    read_env();
    fail_at = n ? n_calls + n : 0;
    fail_code = code;
    lost = 0;
    failed_name.clear();
}
OUT uint64_t emu_calls(void) { return n_calls; }
OUT uint64_t emu_live(void) { return memory.size() + n_host + n_objects; }
OUT void emu_set_memory(uint64_t bytes) {
    read_env();
    bytes_total = bytes;
}
OUT const char *emu_failed(void) { return failed_name.c_str(); }

/* ---- start ------------------------------------------------------------------------------------
 */

OUT CUresult cuInit(unsigned) {
    CALL(cuInit);
    return env("OCT_EMU_DEVICES", 1) ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

OUT CUresult cuDriverGetVersion(int *version) {
    CALL(cuDriverGetVersion);
    *version = static_cast<int>(env("OCT_EMU_DRIVER", 13000));
    return CUDA_SUCCESS;
}

OUT CUresult cuGetErrorName(CUresult code, const char **text) {
    switch (code) {
    case CUDA_ERROR_OUT_OF_MEMORY:
        *text = "CUDA_ERROR_OUT_OF_MEMORY";
        break;
    case CUDA_ERROR_NO_DEVICE:
        *text = "CUDA_ERROR_NO_DEVICE";
        break;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
        *text = "CUDA_ERROR_ILLEGAL_ADDRESS";
        break;
    case CUDA_ERROR_LAUNCH_TIMEOUT:
        *text = "CUDA_ERROR_LAUNCH_TIMEOUT";
        break;
    case CUDA_ERROR_INVALID_VALUE:
        *text = "CUDA_ERROR_INVALID_VALUE";
        break;
    case CUDA_ERROR_UNKNOWN:
        *text = "CUDA_ERROR_UNKNOWN";
        break;
    default:
        *text = "CUDA_ERROR";
    }
    return CUDA_SUCCESS;
}

OUT CUresult cuGetErrorString(CUresult code, const char **text) {
    *text = code == fail_code && !failed_name.empty() ? "on request of a test"
                                                      : "so says the emulation";
    return CUDA_SUCCESS;
}

OUT CUresult cuDeviceGetCount(int *n) {
    CALL(cuDeviceGetCount);
    *n = static_cast<int>(env("OCT_EMU_DEVICES", 1));
    return CUDA_SUCCESS;
}

OUT CUresult cuDeviceGet(CUdevice *dev, int ordinal) {
    CALL(cuDeviceGet);
    if (ordinal < 0 || static_cast<uint64_t>(ordinal) >= env("OCT_EMU_DEVICES", 1))
        return CUDA_ERROR_INVALID_DEVICE;
    *dev = ordinal;
    return CUDA_SUCCESS;
}

OUT CUresult cuDeviceGetName(char *name, int cap, CUdevice) {
    CALL(cuDeviceGetName);
    snprintf(name, static_cast<size_t>(cap), "emulated GPU");
    return CUDA_SUCCESS;
}

OUT CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute which, CUdevice) {
    CALL(cuDeviceGetAttribute);
    switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *out = sm() / 10;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *out = sm() % 10;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *out = 4;
        return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *out = SHARED_MAX;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

OUT CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice) {
    CALL(cuDevicePrimaryCtxRetain);
    n_objects++;
    *out = &the_context;
    return CUDA_SUCCESS;
}

OUT CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuDevicePrimaryCtxRelease");
    n_objects--;
    return r;
}

OUT CUresult cuCtxSetCurrent(CUcontext context) {
    CALL(cuCtxSetCurrent);
    current = context;
    return CUDA_SUCCESS;
}

OUT CUresult cuCtxSynchronize(void) {
    CALL_IN_CONTEXT(cuCtxSynchronize);
    return CUDA_SUCCESS;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

OUT CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
    CALL_IN_CONTEXT(cuMemGetInfo);
    *total = bytes_total;
    *free_bytes = bytes_total > bytes_used ? bytes_total - bytes_used : 0;
    return CUDA_SUCCESS;
}

OUT CUresult cuMemAlloc(CUdeviceptr *out, size_t bytes) {
    CALL_IN_CONTEXT(cuMemAlloc);
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > bytes_total || bytes_used > bytes_total - bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    void *p = nullptr;
    if (bytes >= LARGE) {
        p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    } else if (posix_memalign(&p, 256, bytes) != 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        memset(p, 0xff, bytes);
    }
    *out = reinterpret_cast<CUdeviceptr>(p);
    memory[*out] = bytes;
    bytes_used += bytes;
    return CUDA_SUCCESS;
}

/* A lost device still gives back what the process holds, as far as leaks of ours are concerned. */
OUT CUresult cuMemFree(CUdeviceptr at) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuMemFree");
    const auto it = memory.find(at);
    if (it == memory.end()) return CUDA_ERROR_INVALID_VALUE;
    bytes_used -= it->second;
    if (it->second >= LARGE)
        munmap(host_of(at), it->second);
    else
        free(host_of(at));
    memory.erase(it);
    return r;
}

OUT CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned) {
    CALL_IN_CONTEXT(cuMemHostAlloc);
    *out = calloc(1, bytes);
    if (!*out) return CUDA_ERROR_OUT_OF_MEMORY;
    n_host++;
    return CUDA_SUCCESS;
}

OUT CUresult cuMemFreeHost(void *p) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuMemFreeHost");
    free(p);
    n_host--;
    return r;
}

OUT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream s) {
    CALL_IN_CONTEXT(cuMemcpyHtoDAsync);
    if (const CUresult r = not_recorded(s)) return r;
    if (!there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    memcpy(host_of(to), from, bytes);
    return CUDA_SUCCESS;
}

OUT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream s) {
    CALL_IN_CONTEXT(cuMemcpyDtoHAsync);
    if (const CUresult r = not_recorded(s)) return r;
    if (!there(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, host_of(from), bytes);
    return CUDA_SUCCESS;
}

OUT CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
    CALL_IN_CONTEXT(cuMemcpyDtoDAsync);
    if (!there(to, bytes) || !there(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    return queue(s, [=] { memmove(host_of(to), host_of(from), bytes); });
}

OUT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s) {
    CALL_IN_CONTEXT(cuMemsetD8Async);
    if (!there(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (value == 0 && bytes >= LARGE && to % 4096 == 0) { /* pages read as zero again */
        const size_t whole = bytes / 4096 * 4096;
        return queue(s, [=] {
            madvise(host_of(to), whole, MADV_DONTNEED);
            memset(host_of(to + whole), 0, bytes - whole);
        });
    }
    return queue(s, [=] { memset(host_of(to), value, bytes); });
}

/* ---- kernels ----------------------------------------------------------------------------------
 */

OUT CUresult cuModuleLoadData(CUmodule *out, const void *image) {
    CALL_IN_CONTEXT(cuModuleLoadData);
    const int major = sm() / 10;
    uint32_t magic = 0;
    memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50u) return CUDA_ERROR_INVALID_IMAGE; /* what a fatbin begins with */
    if (major != 8 && major != 9 && major != 10 && major != 12) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    *out = new CUmod_st();
    n_objects++;
    return CUDA_SUCCESS;
}

OUT CUresult cuModuleUnload(CUmodule m) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuModuleUnload");
    delete m;
    n_objects--;
    return r;
}

OUT CUresult cuModuleGetFunction(CUfunction *out, CUmodule, const char *name) {
    CALL_IN_CONTEXT(cuModuleGetFunction);
    const emu_kernel *k = emu_find(name);
    if (!k) return CUDA_ERROR_NOT_FOUND;
    CUfunc_st &f = functions[name];
    f = {k, 48 << 10};
    *out = &f;
    return CUDA_SUCCESS;
}

/* What a kernel declares is only known when it runs. A little is assumed, so that a host which
 * forgets about it is refused. */
OUT CUresult cuFuncGetAttribute(int *out, CUfunction_attribute which, CUfunction) {
    CALL_IN_CONTEXT(cuFuncGetAttribute);
    if (which != CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
    *out = STATIC_ASSUMED;
    return CUDA_SUCCESS;
}

OUT CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute which, int value) {
    CALL_IN_CONTEXT(cuFuncSetAttribute);
    if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ||
        value + STATIC_ASSUMED > SHARED_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    f->dynamic_max = value;
    return CUDA_SUCCESS;
}

/* Maps are for kernels that are left out here. */
OUT CUresult cuTensorMapEncodeTiled(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                    const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                    const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                    CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
    CALL(cuTensorMapEncodeTiled);
    return CUDA_ERROR_NOT_SUPPORTED;
}

OUT CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **) {
    CALL_IN_CONTEXT(cuLaunchKernelEx);
    const emu_dim grid = {c->gridDimX, c->gridDimY, c->gridDimZ};
    const uint32_t block = c->blockDimX, shared = c->sharedMemBytes;
    if (!grid.x || !grid.y || !grid.z || !block || block > f->kernel->max_threads ||
        c->blockDimY != 1 || c->blockDimZ != 1 || shared > static_cast<uint32_t>(f->dynamic_max))
        return CUDA_ERROR_INVALID_VALUE;
    const char *from = static_cast<const char *>(params[0]);
    const std::vector<char> args(from, from + f->kernel->params_bytes);
    const emu_kernel *k = f->kernel;
    return queue(c->hStream, [=] { emu_run_grid(k, args.data(), grid, block, shared); });
}

/* ---- streams and events -----------------------------------------------------------------------
 */

OUT CUresult cuStreamCreate(CUstream *out, unsigned) {
    CALL_IN_CONTEXT(cuStreamCreate);
    *out = new CUstream_st();
    n_objects++;
    return CUDA_SUCCESS;
}

OUT CUresult cuStreamDestroy(CUstream s) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuStreamDestroy");
    delete s;
    n_objects--;
    return r;
}

OUT CUresult cuStreamSynchronize(CUstream s) {
    CALL_IN_CONTEXT(cuStreamSynchronize);
    return not_recorded(s);
}

OUT CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) {
    CALL_IN_CONTEXT(cuStreamWaitEvent);
    return CUDA_SUCCESS;
}

OUT CUresult cuEventCreate(CUevent *out, unsigned) {
    CALL_IN_CONTEXT(cuEventCreate);
    *out = new CUevent_st();
    n_objects++;
    return CUDA_SUCCESS;
}

OUT CUresult cuEventDestroy(CUevent e) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuEventDestroy");
    delete e;
    n_objects--;
    return r;
}

OUT CUresult cuEventRecord(CUevent, CUstream) {
    CALL_IN_CONTEXT(cuEventRecord);
    return CUDA_SUCCESS;
}

OUT CUresult cuEventSynchronize(CUevent) {
    CALL_IN_CONTEXT(cuEventSynchronize);
    return CUDA_SUCCESS;
}

/* ---- graphs -----------------------------------------------------------------------------------
 */

OUT CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode) {
    CALL_IN_CONTEXT(cuStreamBeginCapture);
    if (s->recording) return CUDA_ERROR_ILLEGAL_STATE;
    s->recording = true;
    s->broken = false;
    s->list.clear();
    return CUDA_SUCCESS;
}

OUT CUresult cuStreamEndCapture(CUstream s, CUgraph *out) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuStreamEndCapture");
    *out = nullptr;
    if (!s->recording) return CUDA_ERROR_ILLEGAL_STATE;
    s->recording = false;
    if (r) return r;
    if (s->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *out = new CUgraph_st();
    (*out)->list.swap(s->list);
    n_objects++;
    return CUDA_SUCCESS;
}

OUT CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph g, unsigned long long) {
    CALL_IN_CONTEXT(cuGraphInstantiateWithFlags);
    *out = new CUgraphExec_st();
    (*out)->list = g->list;
    n_objects++;
    return CUDA_SUCCESS;
}

OUT CUresult cuGraphUpload(CUgraphExec, CUstream) {
    CALL_IN_CONTEXT(cuGraphUpload);
    return CUDA_SUCCESS;
}

OUT CUresult cuGraphLaunch(CUgraphExec g, CUstream s) {
    CALL_IN_CONTEXT(cuGraphLaunch);
    if (const CUresult r = not_recorded(s)) return r;
    for (const auto &step : g->list) step();
    return CUDA_SUCCESS;
}

OUT CUresult cuGraphExecDestroy(CUgraphExec g) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuGraphExecDestroy");
    delete g;
    n_objects--;
    return r;
}

OUT CUresult cuGraphDestroy(CUgraph g) {
    std::lock_guard<std::mutex> held(lock);
    const CUresult r = counted("cuGraphDestroy");
    delete g;
    n_objects--;
    return r;
}
