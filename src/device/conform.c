/*
 * device/conform.c - runs the groups of cases on two devices and compares what came out.
 *
 * Each case runs on the reference first, then on the device, from the same random numbers. The
 * first difference of a case is kept as a sentence; a case that fails does not stop the group.
 */
#include "device/conform.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "device/conform_side.h"

typedef struct run {
    oct_cf_side want, got; /* reference, device */
    oct_conform_options options;
    bool exact; /* floats too must be equal bit for bit */
    char first_failed[640];
    double worst;
    uint64_t best_ns_sum;
} run;

/* ---- comparing ------------------------------------------------------------------------------- */

static double value_of(const oct_cf_out *o, size_t i) {
    switch (o->type) {
    case 'f':
        return (double)((const float *)o->data)[i];
    case 'c':
        return (double)((const int8_t *)o->data)[i];
    default:
        return (double)((const int32_t *)o->data)[i];
    }
}

static size_t element_bytes(const oct_cf_out *o) { return o->type == 'c' ? 1 : 4; }

/* Whether element i may stand; *part: how much of the tolerance it took. */
static bool same(const run *r, const oct_cf_out *want, const oct_cf_out *got, size_t i,
                 double *part) {
    const size_t bytes = element_bytes(want);
    const double w = value_of(want, i), g = value_of(got, i);
    *part = 0;
    if (memcmp((const char *)want->data + i * bytes, (const char *)got->data + i * bytes, bytes) ==
        0)
        return true;
    *part = INFINITY;
    if (isnan(w) && isnan(g)) return *part = 0, true; /* a NaN's payload is left open */
    if (r->exact || want->type == 'i' || !isfinite(w) || !isfinite(g)) return false;
    return oct_within(got->tol, w, g, part); /* that of the device which is judged */
}

static void keep_first(run *r, const char *sentence) {
    if (!r->first_failed[0])
        snprintf(r->first_failed, sizeof r->first_failed, "%s: %s", r->want.what, sentence);
}

static bool compare_out(run *r, const oct_cf_out *want, const oct_cf_out *got) {
    char text[256];
    size_t n_bad = 0, first = 0;
    double first_part = 0;
    if (want->n != got->n || strcmp(want->name, got->name) != 0) {
        keep_first(r, "the case is broken: its sides have different outputs");
        return false;
    }
    for (size_t i = 0; i < want->n; i++) {
        double part = 0;
        const bool good = same(r, want, got, i, &part);
        if (good && part > r->worst) r->worst = part;
        if (good) continue;
        if (n_bad++ == 0) first = i, first_part = part;
    }
    if (n_bad == 0) return true;
    if (first_part > r->worst) r->worst = first_part;
    snprintf(text, sizeof text,
             "%s[%zu][%zu]: got %.9g, want %.9g (%.3g of the tolerance); %zu of "
             "%zu differ",
             want->name, first / want->width, first % want->width, value_of(got, first),
             value_of(want, first), first_part, n_bad, want->n);
    keep_first(r, text);
    return false;
}

static bool compare(run *r) {
    if (r->want.failed[0]) {
        char text[300];
        snprintf(text, sizeof text, "the reference failed: %s", r->want.failed);
        keep_first(r, text);
        return false;
    }
    if (r->got.absent) return true;
    if (r->got.failed[0]) {
        keep_first(r, r->got.failed);
        return false;
    }
    if (r->want.n_outs != r->got.n_outs || r->want.n_outs == 0) {
        keep_first(r, "the case is broken: outputs missing");
        return false;
    }
    for (unsigned i = 0; i < r->want.n_outs; i++)
        if (!compare_out(r, &r->want.outs[i], &r->got.outs[i])) return false;
    return true;
}

/* ---- running --------------------------------------------------------------------------------- */

static bool run_case(run *r, const oct_cf_group *group, unsigned index) {
    const uint64_t seed = r->options.seed * 0x2545f4914f6cdd1du + index;
    uint64_t best = UINT64_MAX;
    oct_cf_reset(&r->want, seed);
    group->run(&r->want, index);
    for (unsigned i = 0; i < (r->options.n_repeats ? r->options.n_repeats : 1); i++) {
        oct_cf_reset(&r->got, seed);
        group->run(&r->got, index);
        if (r->got.op_ns < best) best = r->got.op_ns;
    }
    r->best_ns_sum += best;
    return compare(r);
}

static void run_group(run *r, const oct_cf_group *group, oct_conform_report_fn *report, void *ctx,
                      oct_conform_result *out) {
    oct_conform_line line = {.group = group->name};
    r->first_failed[0] = 0;
    r->worst = 0;
    r->best_ns_sum = 0;
    const unsigned every = r->options.quick && group->n_cases > 3 ? 3 : 1;
    for (unsigned i = r->options.seed % every; i < group->n_cases; i += every) {
        line.n_cases++;
        if (!run_case(r, group, i)) line.n_failed++;
        if (r->got.absent) line.n_absent++;
    }
    line.worst = r->worst;
    if (r->options.n_repeats && line.n_cases)
        line.mean_us = (double)r->best_ns_sum / 1000 / line.n_cases;
    line.first_failed = r->first_failed[0] ? r->first_failed : NULL;
    out->n_cases += line.n_cases;
    out->n_failed += line.n_failed;
    out->n_absent += line.n_absent;
    if (report) report(ctx, &line);
}

static void run_groups(run *r, const oct_cf_group *groups, oct_conform_report_fn *report, void *ctx,
                       oct_conform_result *out) {
    const char *only = r->options.only;
    for (; groups->name; groups++)
        if (!only || strncmp(groups->name, only, strlen(only)) == 0)
            run_group(r, groups, report, ctx, out);
}

oct_status oct_conform_run(oct_device *d, const oct_conform_options *options,
                           oct_conform_report_fn *report, void *ctx, oct_conform_result *out,
                           oct_err *err) {
    const oct_device_options reference = {.n_threads = 1, .bind_threads = 2, .settings = "mask=0"};
    oct_device *ref = NULL;
    memset(out, 0, sizeof *out);
    run *r = oct_calloc(d->mem, 1, sizeof *r);
    if (!r) return OCT_FAIL(err, OCT_E_NOMEM, "conform: no memory");
    if (options) r->options = *options;
    r->exact = d->ops == oct_cpu_device_ops();
    oct_status st = oct_device_open(d->mem, "cpu", &reference, &ref, err);
    if (st == OCT_OK) st = oct_cf_open(&r->want, ref, err);
    if (st == OCT_OK) st = oct_cf_open(&r->got, d, err);
    if (st == OCT_OK) {
        run_groups(r, oct_cf_row_groups, report, ctx, out);
        run_groups(r, oct_cf_attention_groups, report, ctx, out);
        run_groups(r, oct_cf_sample_groups, report, ctx, out);
        if (OCTET_HAS(d->ops, softcap)) run_groups(r, oct_cf_softcap_groups, report, ctx, out);
        if (OCTET_HAS(d->ops, feed)) run_groups(r, oct_cf_feed_groups, report, ctx, out);
        run_groups(r, oct_cf_model_groups, report, ctx, out);
        if (oct_device_has_experts(d)) run_groups(r, oct_cf_expert_groups, report, ctx, out);
    }
    oct_cf_close(&r->got);
    oct_cf_close(&r->want);
    oct_device_close(ref);
    oct_free(d->mem, r, 1, sizeof *r);
    return st;
}
