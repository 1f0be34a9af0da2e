/*
 * engine/stats.c - counters for /metrics, the answer of /health, and the throughput line.
 */
#include "base/clock.h"
#include "base/log.h"
#include "engine/parts.h"

const uint32_t oct_engine_step_bounds[OCT_ENGINE_N_STEP_BUCKETS - 1] = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

static uint64_t get(const _Atomic uint64_t *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}
static uint32_t get_gauge(const atomic_uint *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}
static void set_gauge(atomic_uint *c, uint32_t v) {
    atomic_store_explicit(c, v, memory_order_relaxed);
}

void oct_engine_gauge(oct_engine *e) {
    set_gauge(&e->count.n_running, oct_sched_n_running(e->sched));
    set_gauge(&e->count.n_waiting, oct_sched_n_waiting(e->sched) + e->n_loading + e->pause.n_held);
    set_gauge(&e->count.n_deferred, e->n_loading);
    set_gauge(&e->count.n_blocks_used, e->info.n_blocks - oct_kv_pool_n_free(e->pool));
    if (!e->prefix) return;
    oct_kv_prefix_stats ps;
    oct_kv_prefix_get_stats(e->prefix, &ps);
    set_gauge(&e->count.prefix_blocks, ps.n_entries - ps.n_on_shelves);
    set_gauge(&e->count.n_shelves_used, ps.n_on_shelves);
    atomic_store_explicit(&e->count.prefix_evictions, ps.n_evicted, memory_order_relaxed);
    atomic_store_explicit(&e->count.n_shelved, ps.n_shelved, memory_order_relaxed);
    atomic_store_explicit(&e->count.n_fetched, ps.n_fetched, memory_order_relaxed);
}

void oct_engine_count_step(oct_engine *e, const oct_step *s, uint64_t step_ns, bool failed) {
    oct_engine_counters *c = &e->count;
    uint32_t n = s->n_chunk_rows, bucket = 0;
    for (uint32_t i = 0; i < s->n_parts; i++) n += s->parts[i].samples + s->parts[i].n_draft;
    while (bucket < OCT_ENGINE_N_STEP_BUCKETS - 1 && n > oct_engine_step_bounds[bucket]) bucket++;
    oct_count(&c->n_steps, 1);
    oct_count(&c->n_failed_steps, failed);
    oct_count(&c->n_shared_steps, s->n_parts > 1);
    oct_count(&c->n_mixed_steps, s->n_decodes > 0 && s->n_decodes < s->n_parts);
    oct_count(&c->computed_prompt_tokens, s->n_chunk_rows);
    oct_count(&c->step_tokens[bucket], 1);
    oct_count(&c->step_tokens_sum, n);
    oct_count(&c->step_ns_sum, step_ns);
}

/* A mean in which the last step counts an eighth: the machine's speed changes, and one step that
 * was disturbed must not. */
static uint64_t mean(uint64_t so_far, uint64_t now) {
    return so_far == 0 ? now : so_far - so_far / 8 + now / 8;
}

void oct_engine_learn_cost(oct_engine *e, const oct_step *s, uint64_t step_ns) {
    const uint32_t enough_rows = 16; /* fewer say more about the step than about a row */
    if (s->n_chunk_rows == 0)
        e->decodes_ns = mean(e->decodes_ns, step_ns);
    else if (s->n_chunk_rows >= enough_rows) {
        const uint64_t decodes = s->n_decodes > 0 ? e->decodes_ns : 0;
        const uint64_t rows_ns = step_ns > decodes ? step_ns - decodes : 0;
        e->row_ns = mean(e->row_ns, rows_ns / s->n_chunk_rows + 1);
    }
    oct_sched_set_cost(e->sched, e->decodes_ns, e->row_ns);
}

void oct_engine_get_stats(const oct_engine *e, oct_engine_stats *out) {
    const oct_engine_counters *c = &e->count;
    *out = (oct_engine_stats){
        .n_accepted = atomic_load(&e->n_queued),
        .n_running = get_gauge(&c->n_running),
        .n_waiting = get_gauge(&c->n_waiting) + (uint32_t)oct_queue_len(e->inbox),
        .n_deferred = get_gauge(&c->n_deferred),
        .n_queued_tokens = get(&e->n_queued_tokens),
        .n_blocks = e->info.n_blocks,
        .n_blocks_used = get_gauge(&c->n_blocks_used),
        .prompt_tokens = get(&c->prompt_tokens),
        .computed_prompt_tokens = get(&c->computed_prompt_tokens),
        .cached_tokens = get(&c->cached_tokens),
        .prefix_queries = get(&c->prefix_queries),
        .prefix_evictions = get(&c->prefix_evictions),
        /* An engine that sleeps forgets when it wakes, which nobody can tell from forgetting now.
         */
        .prefix_blocks = atomic_load(&e->reset_prefix) ? 0 : get_gauge(&c->prefix_blocks),
        .fetched_tokens = get(&c->fetched_tokens),
        .n_shelved = get(&c->n_shelved),
        .n_fetched = get(&c->n_fetched),
        .n_shelves = e->info.n_shelves,
        .n_shelves_used = atomic_load(&e->reset_prefix) ? 0 : get_gauge(&c->n_shelves_used),
        .generation_tokens = get(&c->generation_tokens),
        .n_preemptions = get(&c->n_preemptions),
        .n_not_finite = get(&c->n_not_finite),
        .n_drafts = get(&c->n_drafts),
        .n_draft_tokens = get(&c->n_draft_tokens),
        .n_accepted_tokens = get(&c->n_accepted_tokens),
        .n_steps = get(&c->n_steps),
        .n_failed_steps = get(&c->n_failed_steps),
        .n_shared_steps = get(&c->n_shared_steps),
        .n_mixed_steps = get(&c->n_mixed_steps),
        .step_tokens_sum = get(&c->step_tokens_sum),
        .step_ns_sum = get(&c->step_ns_sum),
    };
    if (e->opt.kvstore) {
        oct_kvstore_stats ks;
        oct_kvstore_get_stats(e->opt.kvstore, &ks);
        out->has_kvstore = true;
        out->kvstore_written = ks.n_written;
        out->kvstore_read = ks.n_read;
        out->kvstore_ignored = ks.n_ignored;
        out->kvstore_failed = ks.n_failed;
        out->kvstore_deleted = ks.n_deleted;
        out->kvstore_blocks = ks.n_blocks;
        out->kvstore_bytes = ks.bytes;
    }
    for (int i = 0; i < OCT_MAX_DRAFT_TOKENS; i++) out->accepted_at[i] = get(&c->accepted_at[i]);
    for (int i = 0; i < OCT_N_FINISH; i++) out->finished[i] = get(&c->finished[i]);
    for (int i = 0; i < OCT_ENGINE_N_STEP_BUCKETS; i++)
        out->step_tokens[i] = get(&c->step_tokens[i]);
}

bool oct_engine_health(const oct_engine *e, oct_err *err) {
    if (atomic_load(&e->life) != OCT_ENGINE_RUNS) {
        (void)OCT_FAIL(err, OCT_E_CANCELLED, "engine: its thread does not run");
        return false;
    }
    if (atomic_load(&e->lost)) {
        (void)OCT_FAIL(err, OCT_E_DEVICE, "engine: the device is lost");
        return false;
    }
    if (atomic_load(&e->n_failed_in_a_row) >= OCT_ENGINE_FAILED_STEPS) {
        (void)OCT_FAIL(err, OCT_E_DEVICE, "engine: the last %u steps failed",
                       atomic_load(&e->n_failed_in_a_row));
        return false;
    }
    const uint64_t waiting = oct_engine_waiting_ns(e);
    if (waiting > e->opt.stuck_ns) {
        (void)OCT_FAIL(err, OCT_E_DEVICE, "engine: %u requests and no step has finished for %.1f s",
                       atomic_load(&e->n_live), (double)waiting / 1e9);
        return false;
    }
    return true;
}

uint64_t oct_engine_waiting_ns(const oct_engine *e) {
    const uint32_t n_live = atomic_load(&e->n_live);
    const uint64_t last = atomic_load(&e->last_progress_ns), now = oct_now_ns();
    return n_live > 0 && now > last ? now - last : 0;
}

void oct_engine_note_hits(oct_engine_hits *h, uint32_t n, uint32_t n_found) {
    h->looked_up = h->looked_up + n - h->n_looked_up[h->at];
    h->found = h->found + n_found - h->n_found[h->at];
    h->n_looked_up[h->at] = n;
    h->n_found[h->at] = n_found;
    h->at = (h->at + 1) % OCT_ENGINE_HIT_WINDOW;
}

/* Dashboards and scripts look for these words: they are vLLM's. Prompt tokens are those that were
 * computed; preemptions those since the last line; hits those of the last thousand requests. */
static void print_line(oct_engine *e, double seconds, uint64_t n_prompt, uint64_t n_drawn) {
    char deferred[32] = "", preemptions[48] = "";
    const oct_engine_hits *h = &e->log.hits;
    const double hits = h->looked_up > 0 ? 100.0 * (double)h->found / (double)h->looked_up : 0.0;
    const uint64_t n_preempted = get(&e->count.n_preemptions) - e->log.n_preemptions;
    if (e->n_loading > 0) snprintf(deferred, sizeof deferred, " Deferred: %u reqs,", e->n_loading);
    if (n_preempted > 0)
        snprintf(preemptions, sizeof preemptions, " Preemptions: %llu,",
                 (unsigned long long)n_preempted);
    oct_info("Engine 000: Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f "
             "tokens/s, Running: %u reqs, Waiting: %u reqs,%s%s GPU KV cache usage: %.1f%%, Prefix "
             "cache hit rate: %.1f%%",
             (double)n_prompt / seconds, (double)n_drawn / seconds, get_gauge(&e->count.n_running),
             get_gauge(&e->count.n_waiting) + (uint32_t)oct_queue_len(e->inbox), deferred,
             preemptions, 100.0 * get_gauge(&e->count.n_blocks_used) / e->info.n_blocks, hits);
}

bool oct_engine_log_is_quiet(const oct_engine *e) {
    const oct_engine_log_state *l = &e->log;
    return e->opt.log_every_ns == 0 ||
           (l->was_idle && get(&e->count.computed_prompt_tokens) == l->prompt_tokens &&
            get(&e->count.generation_tokens) == l->generation_tokens);
}

void oct_engine_log_line(oct_engine *e, uint64_t now_ns) {
    oct_engine_log_state *l = &e->log;
    if (e->opt.log_every_ns == 0) return;
    if (l->last_ns == 0) l->last_ns = now_ns;
    if (now_ns - l->last_ns < e->opt.log_every_ns) return;
    const uint64_t n_prompt = get(&e->count.computed_prompt_tokens) - l->prompt_tokens;
    const uint64_t n_drawn = get(&e->count.generation_tokens) - l->generation_tokens;
    const bool idle = n_prompt == 0 && n_drawn == 0;
    if (!idle || !l->was_idle)
        print_line(e, (double)(now_ns - l->last_ns) / 1e9, n_prompt, n_drawn);
    l->was_idle = idle;
    l->last_ns = now_ns;
    l->prompt_tokens += n_prompt;
    l->generation_tokens += n_drawn;
    l->n_preemptions = get(&e->count.n_preemptions);
}
