/*
 * bench_sched.c - what the host spends on a step of many sequences: the scheduler alone, then the
 * whole engine over a model that takes no time. Prints medians, and fails when the loop allocates
 * anything, or in a release build when a median is beyond what is promised.
 *
 *     bench_sched [N_SEQS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/backend.h"
#include "sched/sched.h"

enum { BLOCK = 32, MOST_SEQS = 1024, N_STEPS = 2000, LENGTH = 4096, PROMPT = 512 };

static const double step_us = 20, request_us = 10; /* the promises */
static int status;
static uint32_t n_seqs = 256;

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, double *us, uint32_t n, double most) {
    qsort(us, n, sizeof *us, by_size);
    printf("%-58s median %7.2f us, 99 %% %7.2f us\n", what, us[n / 2], us[n - n / 100 - 1]);
#ifdef NDEBUG
    if (most > 0 && us[n / 2] > most) {
        printf("  more than the %.0f us that are promised\n", most);
        status = 1;
    }
#else
    (void)most;
#endif
}

static void need(bool ok, const char *what) {
    if (ok) return;
    printf("failed: %s\n", what);
    exit(1);
}

static double us_since(uint64_t begin) { return (double)(oct_now_ns() - begin) / 1e3; }

/* ---- the scheduler ---- */

typedef struct one {
    oct_sched_seq q;
    int32_t tokens[LENGTH];
    oct_kv_block blocks[LENGTH / BLOCK];
} one;

static oct_fault_alloc mem;
static oct_kv_pool *pool;
static oct_kv_prefix *prefix;
static oct_sched *sched;
static one *all;
static double us[N_STEPS];

/* A sequence with n_common tokens of one text; the others nobody has had before. */
static void fill(uint32_t i, uint32_t n_prompt, uint32_t n_common) {
    static uint32_t n_texts;
    one *o = &all[i];
    n_texts++;
    memset(&o->q, 0, sizeof o->q);
    o->q.n_prompt = o->q.n_tokens = n_prompt;
    o->q.max_tokens = LENGTH;
    o->q.tokens = o->tokens;
    for (uint32_t p = 0; p < LENGTH; p++)
        o->tokens[p] = (int32_t)(p < n_common ? p : p * 7 + n_texts * 131071 + 1);
    oct_kv_table_init(&o->q.table, o->blocks, LENGTH / BLOCK, BLOCK);
}

static void collect(const oct_sched_plan *plan) {
    for (uint32_t k = 0; k < plan->n_items; k++) {
        const oct_sched_item *it = &plan->items[k];
        if (!it->samples) continue;
        oct_sched_collected(sched, it->seq, it->first + it->n_rows);
        it->seq->n_tokens++;
    }
}

static void make_sched(void) {
    const uint32_t n_blocks = n_seqs * (LENGTH / BLOCK);
    const oct_sched_options o = {.max_num_seqs = n_seqs,
                                 .max_num_batched_tokens = 1 << 20,
                                 .max_logits = n_seqs,
                                 .by_priority = true,
                                 .prefix = NULL};
    oct_sched_options with = o;
    oct_fault_alloc_init(&mem, SIZE_MAX, 0);
    need(oct_kv_pool_create(&mem.allocator, n_blocks, &pool, NULL) == OCT_OK, "pool");
    const oct_kv_prefix_options po = {.block_tokens = BLOCK, .seed = 1};
    need(oct_kv_prefix_create(&mem.allocator, pool, &po, &prefix, NULL) == OCT_OK, "index");
    with.prefix = prefix;
    need(oct_sched_create(&mem.allocator, &with, pool, BLOCK, &sched, NULL) == OCT_OK, "sched");
    all = calloc(n_seqs, sizeof *all);
    need(all != NULL, "memory");
}

/* Decodes of n_seqs sequences, their blocks entered when they are full. */
static void bench_steps(void) {
    for (uint32_t i = 0; i < n_seqs; i++) {
        fill(i, PROMPT + i, 0);
        oct_sched_add(sched, &all[i].q);
    }
    collect(oct_sched_next(sched));
    const size_t before = mem.n_requests;
    for (uint32_t k = 0; k < N_STEPS; k++) {
        const uint64_t begin = oct_now_ns();
        const oct_sched_plan *plan = oct_sched_next(sched);
        need(plan->n_decodes == n_seqs, "every sequence decodes");
        collect(plan);
        us[k] = us_since(begin);
    }
    need(mem.n_requests == before, "a step allocates nothing");
    tell("scheduler and cache, a step of decodes", us, N_STEPS, step_us);
}

/* Some sequences go and as many come, as under load: what adding one costs, and what it adds to the
 * plan that lets it in, lookup of its prompt included. */
static void bench_requests(uint32_t n_common, const char *what) {
    enum { ROUNDS = 100 };
    const uint32_t n_new = n_seqs / 4 ? n_seqs / 4 : 1;
    size_t n_requests = 0;
    for (uint32_t k = 0; k <= ROUNDS; k++) { /* the first one leaves the common text */
        uint64_t begin = oct_now_ns();
        collect(oct_sched_next(sched));
        const double decodes = us_since(begin) * (n_seqs - n_new) / n_seqs;
        for (uint32_t i = 0; i < n_new; i++) {
            const uint32_t at = (k * n_new + i) % n_seqs;
            oct_sched_remove(sched, &all[at].q);
            fill(at, PROMPT, n_common);
        }
        const size_t before = mem.n_requests;
        begin = oct_now_ns();
        for (uint32_t i = 0; i < n_new; i++) oct_sched_add(sched, &all[(k * n_new + i) % n_seqs].q);
        const oct_sched_plan *plan = oct_sched_next(sched);
        us[k] = (us_since(begin) - decodes) / n_new;
        need(plan->n_admitted == n_new, "all are let in at once");
        need(k == 0 || (all[k * n_new % n_seqs].q.n_cached > 0) == (n_common > 0), "hits");
        collect(plan);
        n_requests += mem.n_requests - before;
    }
    need(n_requests == 0, "a new sequence allocates nothing");
    tell(what, us + 1, ROUNDS, request_us);
}

/* ---- the engine ---- */

static octet_sample_out outs[MOST_SEQS];
static uint32_t n_outs, n_told;

static oct_status null_submit(void *ctx, const oct_model_batch *b, oct_err *err) {
    (void)ctx;
    (void)err;
    n_outs = b->n_logits;
    return OCT_OK;
}
static oct_status null_collect(void *ctx, oct_model_result *res, oct_err *err) {
    (void)ctx;
    (void)err;
    for (uint32_t i = 0; i < n_outs; i++)
        outs[i] = (octet_sample_out){.token = (int32_t)i + 7, .status = OCTET_SAMPLED};
    *res = (oct_model_result){.n = n_outs, .out = outs};
    return OCT_OK;
}
static void on_output(void *user, const oct_output *out) {
    (void)user;
    n_told += out->n_tokens;
}

static void bench_engine(void) {
    const oct_engine_backend backend = {.max_model_len = LENGTH,
                                        .n_vocab = 32000,
                                        .block_tokens = BLOCK,
                                        .max_rows = 1 << 20,
                                        .max_seqs = n_seqs,
                                        .max_logits = n_seqs,
                                        .submit = null_submit,
                                        .collect = null_collect};
    const oct_engine_options eo = {.n_blocks = n_seqs * (LENGTH / BLOCK)};
    oct_engine *e;
    oct_err err = {0};
    oct_fault_alloc_init(&mem, SIZE_MAX, 0);
    if (oct_engine_create_on(&mem.allocator, &backend, NULL, &eo, &e, &err) != OCT_OK)
        need(false, err.text);
    static int32_t prompt[PROMPT];
    for (uint32_t i = 0; i < n_seqs; i++) {
        oct_request_spec s = OCT_REQUEST_SPEC_DEFAULT;
        for (uint32_t p = 0; p < PROMPT; p++) prompt[p] = (int32_t)((p * 7 + i * 31) % 32000);
        s.prompt = prompt;
        s.n_prompt = PROMPT;
        s.max_tokens = LENGTH - PROMPT;
        s.detokenize = false;
        s.ignore_eos = true;
        s.sampling.temperature = 0;
        s.on_output = on_output;
        const uint64_t begin = oct_now_ns();
        need(oct_engine_submit(e, &s, NULL, &err) == OCT_OK, err.text);
        us[i] = us_since(begin);
    }
    tell("engine, accepting a request of 512 tokens", us, n_seqs, 0);
    for (int k = 0; k < 4; k++) oct_engine_turn(e, 0);
    const size_t before = mem.n_requests;
    const uint32_t told = n_told;
    for (uint32_t k = 0; k < N_STEPS; k++) {
        const uint64_t begin = oct_now_ns();
        oct_engine_turn(e, 0);
        us[k] = us_since(begin);
    }
    need(mem.n_requests == before, "a step of the engine allocates nothing");
    need(n_told - told >= N_STEPS * n_seqs, "every sequence got a token in every step");
    tell("engine, a whole turn: plan, batch, results, callbacks", us, N_STEPS, 0);
    oct_engine_destroy(e);
}

int main(int argc, char **argv) {
    if (argc > 1) n_seqs = (uint32_t)strtoul(argv[1], NULL, 10);
    need(n_seqs >= 1 && n_seqs <= MOST_SEQS, "1 to 1024 sequences");
    printf("%u running sequences\n", n_seqs);
    make_sched();
    bench_steps();
    bench_requests(0, "a new sequence of 512 tokens, nothing cached");
    bench_requests(PROMPT, "a new sequence of 512 tokens, all of them cached");
    for (uint32_t i = 0; i < n_seqs; i++) oct_sched_remove(sched, &all[i].q);
    oct_sched_destroy(sched);
    oct_kv_prefix_destroy(prefix);
    oct_kv_pool_destroy(pool);
    free(all);
    bench_engine();
    return status;
}
