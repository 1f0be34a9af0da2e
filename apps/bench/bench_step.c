/*
 * apps/bench/bench_step.c - see bench_step.h.
 *
 * Prompts go through the model in steps of at most max_rows. For decode steps all sequences get a
 * prompt of the longest context in blocks of their own, once; a step at a shorter context sees the
 * beginning of it, and a smaller batch the first of the sequences. So what a step reads from the
 * cache is what real sequences have there, and no two of them share it.
 *
 * Bytes of a step: the weights it reads, once, and the cache of all its sequences. Of experts those
 * that a batch of rows with independent choices is expected to touch. Operations: two for each
 * multiply-add of projections, head and attention (windows not taken off), as if all were INT8.
 */
#include "bench_step.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "bench.h"
#include "device/cpu/pool.h"
#include "kern/peak.h"
#include "model/runner.h"

enum { READ_BYTES = 256 << 20, MAX_DECODE = 65536 };

typedef struct figure {
    uint32_t batch, context;
    double step_s; /* median */
    double bytes, ops;
} figure;

typedef struct result {
    double prefill_s, decode_s; /* medians: of a prompt, of a token of one sequence */
    double int8_peak, read;     /* of the CPU: multiply-adds/s of all threads, bytes/s; else 0 */
    figure figures[STEP_MAX_LIST * STEP_MAX_LIST];
    unsigned n_figures;
    uint32_t n_threads;
} result;

int step_read_list(const char *flag, const char *text, uint32_t most, step_list *out) {
    *out = (step_list){0};
    for (const char *p = text;; p++) {
        const size_t len = strcspn(p, ",");
        uint64_t v;
        if (!oct_parse_scaled((oct_str){p, len}, &v) || v == 0 || v > most ||
            out->n == STEP_MAX_LIST)
            return cli_fail(EXIT_USAGE, "--%s: want at most %d numbers from 1 to %u (got %.64s)",
                            flag, STEP_MAX_LIST, most, text);
        out->at[out->n++] = (uint32_t)v;
        p += len;
        if (!*p) return -1;
    }
}

static uint32_t largest(const step_list *l) {
    uint32_t most = 0;
    for (unsigned i = 0; i < l->n; i++)
        if (l->at[i] > most) most = l->at[i];
    return most;
}

static int32_t some_id(uint32_t i, uint32_t n_vocab) {
    return (int32_t)((i * 2654435761u >> 7) % n_vocab);
}

/* ---- one sequence -----------------------------------------------------------------------------
 */

static oct_status measure_one(const step_options *o, oct_runner *r, const int32_t *ids,
                              int32_t *drawn, result *out, oct_err *err) {
    double prefill[STEP_MAX_REPEATS], decode[STEP_MAX_REPEATS];
    const uint32_t context = o->context.at[0];
    /* One run that is not counted, then the counted ones. */
    for (unsigned k = 0; k <= o->repeats; k++) {
        oct_runner_reset(r);
        uint64_t t = oct_now_ns();
        OCT_TRY(oct_runner_feed(r, ids, (uint32_t)o->prefill, err));
        if (k) prefill[k - 1] = (double)(oct_now_ns() - t) / 1e9;
        if (o->batch.n) continue;
        oct_runner_reset(r);
        if (context > 1) OCT_TRY(oct_runner_feed(r, ids, context - 1, err));
        t = oct_now_ns();
        OCT_TRY(oct_runner_greedy(r, ids + context - 1, 1, drawn, (uint32_t)o->decode, err));
        if (k) decode[k - 1] = (double)(oct_now_ns() - t) / 1e9 / (double)o->decode;
    }
    out->prefill_s = bench_median(prefill, (unsigned)o->repeats);
    if (!o->batch.n) out->decode_s = bench_median(decode, (unsigned)o->repeats);
    return OCT_OK;
}

static oct_status measure_sequence(const step_options *o, const opened *m, result *out,
                                   oct_err *err) {
    const uint32_t n_vocab = oct_model_get_info(m->model)->n_vocab;
    const oct_allocator *mem = oct_system_allocator();
    const uint32_t context = o->context.at[0];
    const uint32_t n = o->prefill > context ? (uint32_t)o->prefill : context;
    oct_runner *r = NULL;
    int32_t *ids = oct_alloc(mem, n, sizeof *ids),
            *drawn = oct_alloc(mem, o->decode, sizeof *drawn);
    oct_status st = ids && drawn ? oct_runner_create(mem, m->model, &r, err)
                                 : OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t i = 0; st == OCT_OK && i < n; i++) ids[i] = some_id(i, n_vocab);
    if (st == OCT_OK) st = measure_one(o, r, ids, drawn, out, err);
    oct_runner_destroy(r);
    oct_free(mem, ids, n, sizeof *ids);
    oct_free(mem, drawn, o->decode, sizeof *drawn);
    return st;
}

/* ---- batches ----------------------------------------------------------------------------------
 */

typedef struct decoder {
    oct_model *model;
    uint32_t n_seqs, n_rows, n_blocks; /* most of a step; blocks of a sequence */
    uint32_t max_prompt_rows;          /* of a step */
    uint32_t block_tokens;
    int32_t *words; /* one piece of memory: the arrays below */
    size_t n_words;
    int32_t *tokens, *row_pos, *row_slot, *seq_row, *seq_kv_len, *logits_row, *table;
    octet_sample_row *sample; /* [n_seqs] */
} decoder;

static oct_status decoder_init(decoder *d, const step_options *o, const opened *m, uint32_t n_seqs,
                               uint32_t n_tokens, oct_err *err) {
    const oct_model_info *info = oct_model_get_info(m->model);
    const oct_allocator *mem = oct_system_allocator();
    *d = (decoder){.model = m->model,
                   .n_seqs = n_seqs,
                   .block_tokens = info->block_tokens,
                   .max_prompt_rows = (uint32_t)o->max_rows};
    d->n_rows = n_seqs > d->max_prompt_rows ? n_seqs : d->max_prompt_rows;
    d->n_blocks = (n_tokens - 1) / info->block_tokens + 1;
    d->n_words = 3 * (size_t)d->n_rows + 3 * ((size_t)n_seqs + 1) + (size_t)n_seqs * d->n_blocks;
    d->words = oct_calloc(mem, d->n_words, sizeof *d->words);
    d->sample = oct_calloc(mem, n_seqs, sizeof *d->sample);
    if (!d->words || !d->sample) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    d->tokens = d->words;
    d->row_pos = d->tokens + d->n_rows;
    d->row_slot = d->row_pos + d->n_rows;
    d->seq_row = d->row_slot + d->n_rows;
    d->seq_kv_len = d->seq_row + n_seqs + 1;
    d->logits_row = d->seq_kv_len + n_seqs + 1;
    d->table = d->logits_row + n_seqs + 1;
    for (size_t i = 0; i < (size_t)n_seqs * d->n_blocks; i++) d->table[i] = (int32_t)i;
    for (uint32_t i = 0; i < n_seqs; i++)
        d->sample[i] = (octet_sample_row){.temperature = 1,
                                          .top_p = 1,
                                          .repetition_penalty = 1,
                                          .flags = OCTET_SAMPLE_GREEDY,
                                          .mask = -1};
    return OCT_OK;
}

static void decoder_fini(decoder *d) {
    const oct_allocator *mem = oct_system_allocator();
    oct_free(mem, d->words, d->n_words, sizeof *d->words);
    oct_free(mem, d->sample, d->n_seqs, sizeof *d->sample);
}

/* Sequence s has no slot outside its own blocks, which lie one behind the other. */
static void put_row(decoder *d, uint32_t row, uint32_t s, uint32_t pos) {
    d->row_pos[row] = (int32_t)pos;
    d->row_slot[row] = (int32_t)(s * d->n_blocks * d->block_tokens + pos);
}

static oct_model_batch batch_of(const decoder *d, uint32_t first_seq, uint32_t n_seqs,
                                uint32_t n_rows, uint32_t kv_len) {
    return (oct_model_batch){.n_seqs = n_seqs,
                             .n_rows = n_rows,
                             .max_seq_rows = n_rows / n_seqs,
                             .max_kv_len = kv_len,
                             .table_stride = d->n_blocks,
                             .tokens = d->tokens,
                             .row_pos = d->row_pos,
                             .row_slot = d->row_slot,
                             .seq_row = d->seq_row,
                             .seq_kv_len = d->seq_kv_len,
                             .block_table = d->table + (size_t)first_seq * d->n_blocks,
                             .logits_row = d->logits_row};
}

/* The prompt of sequence s: n tokens of its own. */
static oct_status feed(decoder *d, uint32_t s, uint32_t n, oct_err *err) {
    const uint32_t n_vocab = oct_model_get_info(d->model)->n_vocab;
    oct_model_result got;
    for (uint32_t at = 0, m; at < n; at += m) {
        m = n - at < d->max_prompt_rows ? n - at : d->max_prompt_rows;
        for (uint32_t i = 0; i < m; i++) {
            d->tokens[i] = some_id(s * n + at + i, n_vocab);
            put_row(d, i, s, at + i);
        }
        d->seq_row[0] = 0;
        d->seq_row[1] = (int32_t)m;
        d->seq_kv_len[0] = (int32_t)(at + m);
        const oct_model_batch batch = batch_of(d, s, 1, m, at + m);
        OCT_TRY(oct_model_submit(d->model, &batch, err));
        OCT_TRY(oct_model_collect(d->model, &got, err));
    }
    return OCT_OK;
}

/* One step of the first n sequences, each with `behind` tokens already; seconds of it. */
static oct_status decode(decoder *d, uint32_t n, uint32_t behind, double *seconds, oct_err *err) {
    oct_model_result got;
    for (uint32_t s = 0; s < n; s++) {
        put_row(d, s, s, behind);
        d->seq_row[s] = d->logits_row[s] = (int32_t)s;
        d->seq_kv_len[s] = (int32_t)behind + 1;
    }
    d->seq_row[n] = (int32_t)n;
    oct_model_batch batch = batch_of(d, 0, n, n, behind + 1);
    batch.n_logits = n;
    batch.sample = d->sample;
    const uint64_t began = oct_now_ns();
    OCT_TRY(oct_model_submit(d->model, &batch, err));
    OCT_TRY(oct_model_collect(d->model, &got, err));
    *seconds = (double)(oct_now_ns() - began) / 1e9;
    for (uint32_t s = 0; s < n; s++) {
        if (got.out[s].status != OCTET_SAMPLED)
            return OCT_FAIL(err, OCT_E_CORRUPT, "logits of position %u are not finite", behind);
        d->tokens[s] = got.out[s].token;
    }
    return OCT_OK;
}

static void count_work(const oct_model_info *info, figure *f, double context) {
    const oct_model_config *c = info->config;
    const double n = f->batch, kv_token = (double)info->kv_bytes_per_block / info->block_tokens;
    const double heads = (double)c->n_heads * c->head_dim * c->n_layers;
    double weights = (double)info->step_weight_bytes;
    if (c->n_experts > 0 && c->n_experts_used > 0) {
        const double used = c->n_experts_used, all = c->n_experts;
        const double touched = all * (1 - pow(1 - used / all, n));
        weights += (double)info->step_expert_bytes * (touched / used - 1);
    }
    f->bytes = weights + n * kv_token * context;
    f->ops =
        2 * n * ((double)info->linear_macs + (double)c->vocab * c->hidden + 2 * heads * context);
}

static oct_status measure_batch(const step_options *o, decoder *d, figure *f, double *times,
                                oct_err *err) {
    const uint32_t n_steps = (uint32_t)o->decode;
    for (uint32_t s = 0; s < f->batch; s++)
        d->tokens[s] = some_id(s + 1, oct_model_get_info(d->model)->n_vocab);
    /* As above: one round that is not counted. A step that follows a prompt is in there. */
    for (unsigned k = 0; k <= o->repeats; k++)
        for (uint32_t i = 0; i < n_steps; i++)
            OCT_TRY(
                decode(d, f->batch, f->context + i, &times[(k ? k - 1 : 0) * n_steps + i], err));
    f->step_s = bench_median(times, (unsigned)o->repeats * n_steps);
    count_work(oct_model_get_info(d->model), f, f->context + (double)(n_steps + 1) / 2);
    return OCT_OK;
}

static oct_status measure_batches(const step_options *o, const opened *m, result *r, oct_err *err) {
    const uint32_t n_seqs = largest(&o->batch), context = largest(&o->context);
    const size_t n_times = o->repeats * o->decode;
    bar fill = {"filling the cache", -1}, shown = {"decoding", -1};
    double *times = oct_alloc(oct_system_allocator(), n_times, sizeof *times);
    decoder d;
    oct_status st = decoder_init(&d, o, m, n_seqs, context + (uint32_t)o->decode, err);
    if (st == OCT_OK && !times) st = OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
    for (uint32_t s = 0; st == OCT_OK && s < n_seqs; s++) {
        st = feed(&d, s, context, err);
        if (!o->open.quiet) bar_show(&fill, s + 1, n_seqs);
    }
    bar_end(&fill);
    for (unsigned c = 0; st == OCT_OK && c < o->context.n; c++)
        for (unsigned b = 0; st == OCT_OK && b < o->batch.n; b++) {
            figure *f = &r->figures[r->n_figures++];
            *f = (figure){.batch = o->batch.at[b], .context = o->context.at[c]};
            st = measure_batch(o, &d, f, times, err);
            if (!o->open.quiet) bar_show(&shown, r->n_figures, (uint64_t)o->context.n * o->batch.n);
        }
    bar_end(&shown);
    decoder_fini(&d);
    oct_free(oct_system_allocator(), times, n_times, sizeof *times);
    return st;
}

/* ---- reports ----------------------------------------------------------------------------------
 */

/* Of what the CPU can do; 0 on another device, where nothing is said of it. */
static double share(double speed, double ceiling) { return ceiling > 0 ? speed / ceiling : 0; }

static void print_share(double part, const char *what) {
    if (part > 0) printf(" %.1f %% of the %s", 100 * part, what);
}

static void print_figures_json(const result *r) {
    printf("\"steps\": [");
    for (unsigned i = 0; i < r->n_figures; i++) {
        const figure *f = &r->figures[i];
        printf(
            "%s{\"batch\": %u, \"context\": %u, \"tpot_ms\": %.4f, \"tokens_per_s\": %.2f, "
            "\"step_bytes\": %.0f, \"of_read\": %.4f, \"step_ops\": %.0f, \"of_int8_peak\": %.4f}",
            i ? ", " : "", f->batch, f->context, f->step_s * 1e3, f->batch / f->step_s, f->bytes,
            share(f->bytes / f->step_s, r->read), f->ops,
            share(f->ops / 2 / f->step_s, r->int8_peak));
    }
    printf("]}\n");
}

static void print_figures(const result *r) {
    for (unsigned i = 0; i < r->n_figures; i++) {
        const figure *f = &r->figures[i];
        printf("  batch %-4u at %u tokens: %.3f ms a step, %.1f tokens/s, %.1f MB %.1f GB/s",
               f->batch, f->context, f->step_s * 1e3, f->batch / f->step_s, f->bytes / 1e6,
               f->bytes / f->step_s / 1e9);
        print_share(share(f->bytes / f->step_s, r->read), "read bandwidth");
        printf(", %.2f GOP %.2f TOPS", f->ops / 1e9, f->ops / f->step_s / 1e12);
        print_share(share(f->ops / 2 / f->step_s, r->int8_peak), "int8 peak");
        putchar('\n');
    }
}

static void print(const step_options *o, const opened *m, const result *r) {
    const oct_model_info *info = oct_model_get_info(m->model);
    const double prefill = (double)o->prefill / r->prefill_s;
    const double macs = prefill * (double)info->linear_macs, peak = share(macs, r->int8_peak);
    figure one = {.batch = 1};
    count_work(info, &one, o->context.at[0] + (double)o->decode / 2);
    const double decode = 1 / r->decode_s, of_read = share(one.bytes * decode, r->read);
    if (o->json) {
        printf("{\"device\": \"%s\", \"threads\": %u, \"scheme\": \"%s\", \"prefill\": %llu, "
               "\"prefill_tokens_per_s\": %.2f, \"prefill_of_int8_peak\": %.4f, "
               "\"int8_peak_tops\": %.4f, \"read_gb_per_s\": %.3f, ",
               m->device->info.name, r->n_threads, info->scheme, (unsigned long long)o->prefill,
               prefill, peak, 2 * r->int8_peak / 1e12, r->read / 1e9);
        if (o->batch.n) {
            print_figures_json(r);
            return;
        }
        printf("\"context\": %u, \"decode_tokens_per_s\": %.2f, \"decode_of_read\": %.4f, "
               "\"step_bytes\": %.0f}\n",
               o->context.at[0], decode, of_read, one.bytes);
        return;
    }
    printf("%s, %s\n", m->device->info.name, info->scheme);
    printf("  prefill %llu tokens: %.1f tokens/s, %.3f TOPS", (unsigned long long)o->prefill,
           prefill, 2 * macs / 1e12);
    print_share(peak, "int8 peak");
    putchar('\n');
    if (o->batch.n) {
        print_figures(r);
        return;
    }
    printf("  decode at %u tokens: %.1f tokens/s, %.1f MB a step, %.1f GB/s", o->context.at[0],
           decode, one.bytes / 1e6, one.bytes * decode / 1e9);
    print_share(of_read, "read bandwidth");
    putchar('\n');
}

/* ---- the command ------------------------------------------------------------------------------
 */

static oct_status measure(const step_options *o, const opened *m, result *r, oct_err *err) {
    const oct_model_info *info = oct_model_get_info(m->model);
    const uint64_t one = (info->max_model_len - 1) / info->block_tokens + 1;
    const uint64_t tokens = largest(&o->context) + o->decode;
    const uint64_t all = largest(&o->batch) * ((tokens - 1) / info->block_tokens + 1);
    const uint64_t blocks = all > one ? all : one;
    if (blocks * info->block_tokens > INT32_MAX)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "--batch, --context: a cache of %llu tokens is too large",
                        (unsigned long long)(blocks * info->block_tokens));
    OCT_TRY(oct_model_kv_create(m->model, (uint32_t)blocks, err));
    OCT_TRY(measure_sequence(o, m, r, err));
    return o->batch.n ? measure_batches(o, m, r, err) : OCT_OK;
}

/* Before the device: an open one may have bound this thread, and new ones inherit that. */
static int measure_ceilings(const step_options *o, result *r) {
    oct_err err = {0};
    uint32_t mask;
    if (!bench_on_cpu(&o->open)) return -1;
    const int status = bench_read_mask(&o->open, &mask);
    if (status >= 0) return status;
    r->int8_peak = oct_peak_int8_macs(mask) * r->n_threads;
    const oct_status st =
        oct_peak_read(oct_system_allocator(), r->n_threads, READ_BYTES, &r->read, &err);
    return st == OCT_OK ? -1 : cli_fail(cli_status_of(st), "%s", err.text);
}

int step_run(const step_options *o, const char *path) {
    opened m = {0};
    oct_err err = {0};
    result r = {.n_threads = oct_pool_count((unsigned)o->open.threads)};
    const uint64_t context = largest(&o->context) + o->decode;
    const uint32_t n_seqs = o->batch.n ? largest(&o->batch) : 1;
    /* Steps are recorded as by `octet serve`. */
    oct_model_options mo = {.capture = {.mode = OCT_CAPTURE_DECODE, .n_warmups = 1},
                            .max_rows = n_seqs > o->max_rows ? n_seqs : (uint32_t)o->max_rows,
                            .max_seqs = n_seqs,
                            .max_logits = n_seqs,
                            .max_model_len =
                                (uint32_t)(context > o->prefill ? context : o->prefill)};
    int status = measure_ceilings(o, &r);
    if (status >= 0) return status;
    status = open_model(&o->open, path, &mo, &m);
    if (status < 0) {
        const oct_status st = measure(o, &m, &r, &err);
        status = st == OCT_OK ? EXIT_CLEAN : cli_fail(cli_status_of(st), "%s", err.text);
        if (st == OCT_OK) print(o, &m, &r);
    }
    opened_close(&m);
    return status;
}
