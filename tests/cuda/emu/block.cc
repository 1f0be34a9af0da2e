/*
 * block.cc - a block: its fibers, their meetings, its shared memory.
 *
 * The fibers run in the order of their numbers, each until it has to wait. A meeting is over when
 * all who belong to it have come; if a whole round lets nobody run, somebody waits for one who
 * never comes, and that is a fault of the kernel.
 */
#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fiber.h"

namespace {

enum { MAX_THREADS = 1024, MAX_STATIC = 48 << 10, MAX_SHARED = 99 << 10, N_MEETINGS = 40 };
const uint32_t pattern = 0x7fffffff; /* a NaN, a large integer */

struct copy {
    char *dst;
    const void *src;
    uint32_t n, bytes;
    unsigned group;
};

struct meeting { /* of lanes of a warp */
    uint32_t mask, arrived, left;
    bool over;
    emu_warp_fn *fn;
    emu_slots in, out;
};

struct warp {
    meeting at[N_MEETINGS]; /* mask 0: free */
};

struct thread {
    emu_fiber fiber;
    emu_thread self;
    const bool *until; /* waits while *until is false; nullptr: ready */
    const char *waits; /* for the sentence */
    int waits_line;
    bool grid_waited;
    unsigned n_groups;
    std::vector<copy> copies;
};

struct barrier {
    unsigned n, value;
    const char *file;
    int line;
    bool *over; /* of this round */
    unsigned result;
};

struct shared_part {
    const void *key;
    void *data;
    size_t bytes, align;
};

const emu_kernel *kernel;
const void *args;
thread *threads; /* [MAX_THREADS] */
warp *warps;     /* [MAX_THREADS / 32] */
uint32_t n_threads, n_alive;
thread *now;
std::vector<shared_part> parts;
unsigned char *dynamic;
barrier whole, named[16];
bool rounds[2]; /* whether a barrier of the block is over, by turns */
unsigned round_at;
bool named_rounds[16][2];
unsigned named_at[16];

[[noreturn]] void fatal(const char *fmt, ...) {
    va_list list;
    va_start(list, fmt);
    fprintf(stderr, "emulation: kernel %s", kernel ? kernel->name : "?");
    if (now)
        fprintf(stderr, ", block %u,%u,%u, thread %u", now->self.block.x, now->self.block.y,
                now->self.block.z, now->self.thread.x);
    fputs(": ", stderr);
    vfprintf(stderr, fmt, list);
    fputc('\n', stderr);
    va_end(list);
    abort();
}

void fill(void *at, size_t bytes) {
    char *p = static_cast<char *>(at);
    for (size_t i = 0; i < bytes; i++)
        p[i] = reinterpret_cast<const char *>(&pattern)[i % sizeof pattern];
}

void wait_for(const bool *until, const char *what, int line) {
    now->until = until;
    now->waits = what;
    now->waits_line = line;
    thread *me = now;
    emu_fiber_yield();
    me->until = nullptr;
}

/* ---- barriers of the block --------------------------------------------------------------------
 */

void release(barrier *b, bool *next) {
    b->result = b->value;
    *b->over = true;
    b->n = b->value = 0;
    b->file = nullptr;
    *next = false;
    b->over = next;
}

void release_block() {
    round_at ^= 1;
    release(&whole, &rounds[round_at]);
}

unsigned block_meet(unsigned value, const char *file, int line) {
    if (whole.n && (whole.line != line || strcmp(whole.file, file) != 0))
        fatal("threads at different barriers: %s:%d and %s:%d", whole.file, whole.line, file, line);
    whole.file = file;
    whole.line = line;
    whole.value += value;
    bool *over = whole.over;
    if (++whole.n == n_alive)
        release_block();
    else
        wait_for(over, "__syncthreads at line", line);
    return whole.result;
}

/* ---- a thread ---------------------------------------------------------------------------------
 */

void land(const copy &c) {
    memcpy(c.dst, c.src, c.n);
    memset(c.dst + c.n, 0, c.bytes - c.n);
}

void run_thread(void *) {
    thread *me = now;
    kernel->run(args);
    if (!me->grid_waited) fatal("ends without oct_grid_wait");
    for (const copy &c : me->copies) land(c);
    me->copies.clear();
    n_alive--;
    if (whole.n && whole.n == n_alive) release_block();
}

void begin_thread(thread *t, uint32_t index, emu_dim block, emu_dim grid) {
    t->self = {{index, 0, 0}, block, {n_threads, 1, 1}, grid};
    t->until = nullptr;
    t->grid_waited = false;
    t->n_groups = 0;
    t->copies.clear();
    emu_fiber_start(&t->fiber, run_thread, nullptr);
}

[[noreturn]] void deadlock() {
    char text[400];
    size_t n = 0;
    uint32_t shown = 0;
    now = nullptr;
    for (uint32_t i = 0; i < n_threads && shown < 4; i++) {
        if (threads[i].fiber.done) continue;
        n += static_cast<size_t>(snprintf(text + n, sizeof text - n, "%sthread %u in %s %d",
                                          shown ? ", " : "", i, threads[i].waits,
                                          threads[i].waits_line));
        shown++;
    }
    fatal("%u of %u threads wait for what never comes: %s ...", n_alive, n_threads, text);
}

void run_block(emu_dim block, emu_dim grid) {
    for (shared_part &p : parts) fill(p.data, p.bytes);
    for (uint32_t w = 0; w < n_threads / 32; w++)
        for (meeting &m : warps[w].at) m.mask = 0;
    whole = {};
    whole.over = &rounds[round_at];
    rounds[round_at] = false;
    for (int i = 0; i < 16; i++) {
        named[i] = {};
        named[i].over = &named_rounds[i][named_at[i]];
        *named[i].over = false;
    }
    n_alive = n_threads;
    for (uint32_t i = 0; i < n_threads; i++) begin_thread(&threads[i], i, block, grid);
    while (n_alive) {
        bool moved = false;
        for (uint32_t i = 0; i < n_threads; i++) {
            thread *t = &threads[i];
            if (t->fiber.done || (t->until && !*t->until)) continue;
            moved = true;
            now = t;
            emu_self = &t->self;
            emu_fiber_resume(&t->fiber);
        }
        if (!moved) deadlock();
    }
    now = nullptr;
}

emu_kernel *all;

} // namespace

emu_thread *emu_self;

void emu_register(emu_kernel *k) {
    k->next = all;
    all = k;
}

const emu_kernel *emu_find(const char *name) {
    for (const emu_kernel *k = all; k; k = k->next)
        if (!strcmp(k->name, name)) return k;
    return nullptr;
}

void emu_run_grid(const emu_kernel *k, const void *params, emu_dim grid, uint32_t block,
                  uint32_t dynamic_bytes) {
    if (!threads) {
        threads = new thread[MAX_THREADS]();
        warps = new warp[MAX_THREADS / 32]();
    }
    kernel = k;
    args = params;
    n_threads = block;
    if (block == 0 || block % 32 || block > k->max_threads)
        fatal("block of %u threads, want a multiple of 32 up to %u", block, k->max_threads);
    void *room = nullptr;
    if (posix_memalign(&room, 1024, dynamic_bytes ? dynamic_bytes : 1) != 0) fatal("no memory");
    dynamic = static_cast<unsigned char *>(room);
    for (uint32_t z = 0; z < grid.z; z++)
        for (uint32_t y = 0; y < grid.y; y++)
            for (uint32_t x = 0; x < grid.x; x++) {
                fill(dynamic, dynamic_bytes);
                run_block({x, y, z}, grid);
            }
    size_t used = dynamic_bytes;
    for (shared_part &p : parts) {
        used += p.bytes;
        free(p.data);
    }
    parts.clear();
    free(dynamic);
    if (used > MAX_SHARED) fatal("%zu bytes of shared memory, want <= %d", used, MAX_SHARED);
    kernel = nullptr;
}

/* ---- what kernels call ------------------------------------------------------------------------
 */

void *emu_shared(const void *key, size_t bytes, size_t align) {
    size_t used = bytes;
    for (const shared_part &p : parts) {
        if (p.key == key) return p.data;
        used += p.bytes;
    }
    if (used > MAX_STATIC) fatal("%zu bytes of static shared memory, want <= %d", used, MAX_STATIC);
    shared_part p = {key, nullptr, bytes, align};
    if (posix_memalign(&p.data, align, bytes) != 0) fatal("no memory");
    fill(p.data, bytes);
    parts.push_back(p);
    return p.data;
}

unsigned char *emu_shared_dynamic() { return dynamic; }

void emu_grid_wait() { now->grid_waited = true; }

void emu_cp_async(char *dst, const void *src, uint32_t n, uint32_t bytes) {
    const uintptr_t both = reinterpret_cast<uintptr_t>(dst) | reinterpret_cast<uintptr_t>(src);
    if (n > bytes || reinterpret_cast<uintptr_t>(dst) % bytes || (n && both % bytes))
        fatal("cp.async: misaligned, or %u of %u bytes", n, bytes);
    now->copies.push_back({dst, src, n, bytes, now->n_groups});
}

void emu_cp_commit() { now->n_groups++; }

void emu_cp_wait(int pending) {
    std::vector<copy> &c = now->copies;
    size_t kept = 0;
    for (size_t i = 0; i < c.size(); i++) {
        if (c[i].group + static_cast<unsigned>(pending) < now->n_groups)
            land(c[i]);
        else
            c[kept++] = c[i];
    }
    c.resize(kept);
}

void emu_block_meet(const char *file, int line) { block_meet(0, file, line); }

int emu_block_count(int value, const char *file, int line) {
    return static_cast<int>(block_meet(static_cast<unsigned>(value), file, line));
}

void emu_named_barrier(int id, int n, bool wait) {
    if (id < 1 || id > 15 || n % 32) fatal("barrier %d of %d threads", id, n);
    barrier *b = &named[id];
    bool *over = b->over;
    if (b->n && b->line != n) fatal("barrier %d of %d and of %d threads", id, b->line, n);
    b->line = n;
    if (++b->n == static_cast<unsigned>(n)) {
        named_at[id] ^= 1;
        release(b, &named_rounds[id][named_at[id]]);
    } else if (wait) {
        wait_for(over, "a barrier of its own number,", id);
    }
}

static meeting *meeting_of(uint32_t mask, uint32_t bit, emu_warp_fn *fn) {
    meeting *room = nullptr;
    for (meeting &m : warps[now->self.thread.x / 32].at) {
        if (m.mask == mask && !m.over && !(m.arrived & bit)) {
            if (m.fn != fn) fatal("lanes %08x of a warp are at different exchanges", mask);
            return &m;
        }
        if (!m.mask && !room) room = &m;
    }
    if (!room) fatal("too many exchanges of one warp at a time");
    room->mask = mask;
    room->arrived = room->left = 0;
    room->over = false;
    room->fn = fn;
    return room;
}

void emu_warp_meet(uint32_t mask, const void *in, size_t in_bytes, void *out, size_t out_bytes,
                   emu_warp_fn *fn) {
    const uint32_t lane = now->self.thread.x % 32, bit = 1u << lane;
    if (!(mask & bit)) fatal("lane %u is not of its own mask %08x", lane, mask);
    meeting *m = meeting_of(mask, bit, fn);
    if (in_bytes) memcpy(m->in[lane], in, in_bytes);
    m->arrived |= bit;
    if (m->arrived == mask) {
        if (fn) fn(mask, m->in, m->out);
        m->over = true;
    } else {
        wait_for(&m->over, "an exchange of lanes", static_cast<int>(mask));
    }
    if (out_bytes) memcpy(out, m->out[lane], out_bytes);
    m->left |= bit;
    if (m->left == mask) m->mask = 0;
}

[[noreturn]] void emu_fatal(const char *what) { fatal("%s", what); }
