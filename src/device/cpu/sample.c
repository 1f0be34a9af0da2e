/*
 * device/cpu/sample.c - one token for each row of logits, a row a thread at a time.
 *
 * The ranges a row names (what it has seen, biases, its mask) are checked against the arrays here;
 * the kernel trusts them.
 */
#include "kern/sample.h"

#include <stdatomic.h>

#include "device/cpu/cpu.h"

typedef struct sample_job {
    const octet_device *dev;
    const octet_sample_op *op;
    float *logits;
    const octet_sample_row *rows;
    const octet_seen_token *seen;
    const octet_bias *bias;
    const uint32_t *masks;
    octet_sample_out *out;
    int32_t *top_id;
    float *top_logprob;
    char *scratch;
    size_t scratch_bytes; /* a thread */
    atomic_uint next;     /* the next row nobody took: rows differ much in what they ask */
} sample_job;

static size_t mask_words(const octet_sample_op *op) { return ((size_t)op->n_vocab + 31) / 32; }

static void sample_row(const sample_job *j, size_t r, void *scratch) {
    const octet_sample_row *row = &j->rows[r];
    const size_t top = r * j->op->max_top;
    const oct_sample_args args = {
        .logits = j->logits + r * j->op->logits.stride,
        .n_vocab = j->op->n_vocab,
        .row = row,
        .seen = j->seen ? j->seen + row->seen_begin : NULL,
        .n_seen = row->seen_end - row->seen_begin,
        .bias = j->bias ? j->bias + row->bias_begin : NULL,
        .n_bias = row->bias_end - row->bias_begin,
        .mask = row->mask < 0 ? NULL : j->masks + (size_t)row->mask * mask_words(j->op),
        .out = &j->out[r],
        .top_id = j->top_id ? j->top_id + top : NULL,
        .top_logprob = j->top_logprob ? j->top_logprob + top : NULL,
        .max_top = j->op->max_top};
    oct_kern_sample(&j->dev->kern, &args, scratch);
}

static void sample_share(void *ctx, oct_share share) {
    sample_job *j = ctx;
    for (;;) {
        const unsigned r = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (r >= j->op->n_rows) return;
        sample_row(j, r, j->scratch + share.index * j->scratch_bytes);
    }
}

static int32_t check_row(octet_device *dev, const octet_sample_op *op, const octet_sample_row *row,
                         uint32_t r) {
    const uint64_t n_seen = oct_cpu_bytes_behind(dev, op->seen) / sizeof(octet_seen_token);
    const uint64_t n_bias = oct_cpu_bytes_behind(dev, op->bias) / sizeof(octet_bias);
    const uint64_t n_masks = oct_cpu_bytes_behind(dev, op->masks) / 4 / mask_words(op);
    if (row->seen_begin > row->seen_end ||
        (row->seen_end > row->seen_begin && row->seen_end > n_seen))
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: row %u: seen %u..%u outside its array (%llu)",
                        r, row->seen_begin, row->seen_end, (unsigned long long)n_seen);
    if (row->bias_begin > row->bias_end ||
        (row->bias_end > row->bias_begin && row->bias_end > n_bias))
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: row %u: bias %u..%u outside its array (%llu)",
                        r, row->bias_begin, row->bias_end, (unsigned long long)n_bias);
    if (row->mask >= 0 && (uint64_t)row->mask >= n_masks)
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: row %u: mask %d outside its array (%llu)", r,
                        row->mask, (unsigned long long)n_masks);
    if ((row->flags & OCTET_SAMPLE_FORCED) &&
        (row->forced < 0 || (uint32_t)row->forced >= op->n_vocab))
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: row %u: forced token %d outside %u", r,
                        row->forced, op->n_vocab);
    if (row->n_top > op->max_top)
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: row %u: top %u of at most %u", r, row->n_top,
                        op->max_top);
    return OCTET_OK;
}

int32_t oct_cpu_sample(octet_device *dev, const octet_sample_op *op) {
    sample_job j = {.dev = dev, .op = op};
    const uint64_t n = op->n_rows, n_top = n * op->max_top;
    if (n == 0) return OCTET_OK;
    if (op->n_vocab == 0 || op->n_vocab > INT32_MAX)
        return CPU_FAIL(dev, OCT_E_INVALID, "sample: bad vocabulary (got %u)", op->n_vocab);
    CPU_TRY(oct_cpu_rows(dev, op->logits, n, op->n_vocab, "sample: logits", &j.logits));
    CPU_TRY(oct_cpu_at(dev, op->rows, n * sizeof *j.rows, 8, "sample: rows", &j.rows));
    CPU_TRY(oct_cpu_at_optional(dev, op->seen, 0, 4, "sample: seen", &j.seen));
    CPU_TRY(oct_cpu_at_optional(dev, op->bias, 0, 4, "sample: bias", &j.bias));
    CPU_TRY(oct_cpu_at_optional(dev, op->masks, 0, 4, "sample: masks", &j.masks));
    CPU_TRY(oct_cpu_at(dev, op->out, n * sizeof *j.out, 4, "sample: out", &j.out));
    if (op->max_top) {
        CPU_TRY(oct_cpu_at(dev, op->top_id, n_top * 4, 4, "sample: top_id", &j.top_id));
        CPU_TRY(oct_cpu_at(dev, op->top_logprob, n_top * 4, 4, "sample: top", &j.top_logprob));
    }
    for (uint32_t r = 0; r < n; r++) CPU_TRY(check_row(dev, op, &j.rows[r], r));

    j.scratch_bytes = (oct_kern_sample_scratch_bytes(op->n_vocab) + 63) / 64 * 64;
    j.scratch = oct_cpu_scratch(dev, OCT_CPU_SCRATCH_THREADS,
                                (uint64_t)oct_pool_n_threads(dev->pool) * j.scratch_bytes);
    if (!j.scratch) return OCTET_E_NOMEM;
    oct_cpu_share_rows(dev, n, op->n_vocab, sample_share, &j);
    return OCTET_OK;
}
