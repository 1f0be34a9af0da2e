/*
 * apps/eval/eval.c - `octet eval ppl` and `octet eval logits`: how good a model is, and exactly
 * what it computes. The forms of input and output are for scripts and stay as they are.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "codec/json.h"
#include "commands.h"
#include "model/runner.h"
#include "open.h"
#include "store/safetensors.h"
#include "store/safetensors_writer.h"
#include "text/tokenizer.h"

enum { WINDOW = 2048, SCORE_ROWS = 256, MAX_TEXT_BYTES = 1 << 30 };

typedef struct eval_options {
    open_options open;
    const char *text, *tokens, *out, *prefill_kv;
    uint64_t greedy, window, max_tokens;
    bool json;
} eval_options;

static int fail(oct_status st, const oct_err *err) {
    return cli_fail(cli_status_of_output(st), "%s", err->text);
}

/* A file that the command line names, and what is in it. */
static int fail_input(oct_status st, const oct_err *err) {
    return cli_fail(st == OCT_E_NOMEM ? EXIT_SYSTEM : EXIT_USAGE, "%s", err->text);
}

/* The tensor `tokens` of a safetensors file, I64 or I32 [n], as int32 ids. */
static oct_status read_tokens(const char *path, oct_ids *ids, oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    oct_safetensors *st = NULL;
    OCT_TRY(oct_safetensors_open(mem, path, &st, err));
    const oct_tensor *t = oct_safetensors_find(st, OCT_STR("tokens"));
    oct_status status = OCT_OK;
    void *raw = NULL;

    if (!t || t->rank != 1 || t->n_rows == 0 ||
        (t->dtype != OCT_DTYPE_I64 && t->dtype != OCT_DTYPE_I32))
        status =
            OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor tokens: want I64 or I32 [n], n >= 1", path);
    else if (!(raw = oct_alloc(mem, t->bytes, 1)) || !oct_ids_reserve(ids, t->row_elems))
        status = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory for %llu tokens", path,
                          (unsigned long long)t->row_elems);
    else
        status = oct_safetensors_read(st, t, raw, err);
    for (uint64_t i = 0; status == OCT_OK && i < t->row_elems; i++) {
        int64_t id;
        if (t->dtype == OCT_DTYPE_I64)
            memcpy(&id, (char *)raw + i * 8, 8);
        else
            id = ((const int32_t *)raw)[i];
        if (id < 0 || id > INT32_MAX)
            status =
                OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor tokens: element %llu is no id (got %lld)",
                         path, (unsigned long long)i, (long long)id);
        else
            oct_ids_push(ids, (int32_t)id);
    }
    if (t) oct_free(mem, raw, t->bytes, 1);
    oct_safetensors_close(st);
    return status;
}

static oct_status read_text(const opened *m, const char *path, oct_ids *ids, oct_err *err) {
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_status st = oct_file_read_small(oct_system_allocator(), path, MAX_TEXT_BYTES, &text, err);
    if (st == OCT_OK && !m->tokenizer)
        st = OCT_FAIL(err, OCT_E_CORRUPT,
                      "tokenizer.json: missing; --text needs one (or give --tokens)");
    if (st == OCT_OK) {
        st = oct_tokenizer_encode(m->tokenizer, oct_buf_view(&text), 0, ids, err);
        oct_err_prefix(err, "%s", path);
    }
    oct_buf_fini(&text);
    return st;
}

/* ---- ppl ------------------------------------------------------------------------------------ */

typedef struct ppl_result {
    double nll; /* sum */
    uint64_t n_scored;
    double seconds;
} ppl_result;

/* The ids that the tokenizer puts before a text (its BOS), from encoding nothing. */
static void prefix_ids(const opened *m, oct_ids *prefix) {
    oct_err ignored = {0};
    if (m->tokenizer && oct_tokenizer_encode(m->tokenizer, OCT_STR(""), OCT_ENCODE_ADD_SPECIAL,
                                             prefix, &ignored) != OCT_OK)
        oct_ids_clear(prefix);
}

static oct_status score_windows(const eval_options *o, const opened *m, oct_runner *r,
                                const oct_ids *ids, const oct_ids *prefix, ppl_result *out,
                                oct_err *err) {
    const uint32_t window = (uint32_t)o->window;
    static int32_t row[WINDOW];
    static float logprob[WINDOW];
    bar b = {"scoring", -1};
    const uint64_t start = oct_now_ns();
    (void)m;

    for (size_t at = 0; at < ids->len;) {
        uint32_t n = 0;
        for (size_t i = 0; i < prefix->len && n < window; i++) row[n++] = prefix->data[i];
        while (n < window && at < ids->len) row[n++] = ids->data[at++];
        oct_runner_reset(r);
        OCT_TRY(oct_runner_score(r, row, n, logprob, err));
        for (uint32_t i = 0; i + 1 < n; i++) out->nll -= (double)logprob[i];
        out->n_scored += n - 1;
        if (!o->open.quiet) bar_show(&b, at, ids->len);
    }
    bar_end(&b);
    out->seconds = (double)(oct_now_ns() - start) / 1e9;
    return OCT_OK;
}

static int print_ppl(const eval_options *o, const ppl_result *p) {
    const double nll = p->nll / (double)p->n_scored;
    if (o->json) {
        char a[32], b[32], c[32];
        oct_format_f64(exp(nll), a);
        oct_format_f64(nll, b);
        oct_format_f64(p->seconds, c);
        printf("{\"ppl\": %s, \"nll\": %s, \"tokens\": %llu, \"seconds\": %s}\n", a, b,
               (unsigned long long)p->n_scored, c);
    } else {
        printf("perplexity %.4f over %llu tokens (nll %.5f), %.1f tokens/s\n", exp(nll),
               (unsigned long long)p->n_scored, nll, (double)p->n_scored / p->seconds);
    }
    return EXIT_CLEAN;
}

static int run_ppl(eval_options *o, const char *path) {
    opened m = {0};
    oct_err err = {0};
    oct_ids ids, prefix;
    oct_runner *r = NULL;
    ppl_result result = {0};

    if (!o->text == !o->tokens)
        return cli_fail(EXIT_USAGE, "eval ppl: want either --text FILE or --tokens FILE");
    oct_ids_init(&ids, oct_system_allocator());
    oct_ids_init(&prefix, oct_system_allocator());
    oct_model_options mo = {.max_rows = SCORE_ROWS, .max_seqs = 1, .max_logits = SCORE_ROWS};
    int status = open_model(&o->open, path, &mo, &m);
    if (status < 0) {
        const uint32_t longest = oct_model_get_info(m.model)->max_model_len;
        if (o->window > longest) o->window = longest;
        oct_status st =
            o->text ? read_text(&m, o->text, &ids, &err) : read_tokens(o->tokens, &ids, &err);
        if (st != OCT_OK) status = fail_input(st, &err);
        if (st == OCT_OK && o->max_tokens && ids.len > o->max_tokens) ids.len = o->max_tokens;
        prefix_ids(&m, &prefix);
        if (st == OCT_OK && ids.len + prefix.len < 2)
            st = OCT_FAIL(&err, OCT_E_INVALID, "%s: fewer than two tokens",
                          o->text ? o->text : o->tokens);
        if (st == OCT_OK) st = oct_runner_create(oct_system_allocator(), m.model, &r, &err);
        if (st == OCT_OK) st = score_windows(o, &m, r, &ids, &prefix, &result, &err);
        if (status < 0) status = st == OCT_OK ? print_ppl(o, &result) : fail(st, &err);
    }
    oct_runner_destroy(r);
    oct_ids_fini(&ids);
    oct_ids_fini(&prefix);
    opened_close(&m);
    return status;
}

/* ---- logits --------------------------------------------------------------------------------- */

typedef struct logits_sink {
    oct_safetensors_writer *writer;
    uint32_t n_vocab;
    oct_status st;
    oct_err *err;
} logits_sink;

static void take_logits(void *ctx, uint32_t first, uint32_t n_rows, const float *logits) {
    logits_sink *s = ctx;
    const uint64_t row_bytes = (uint64_t)s->n_vocab * sizeof(float);
    if (s->st == OCT_OK)
        s->st = oct_safetensors_writer_write(s->writer, OCT_STR("logits"), first * row_bytes,
                                             logits, n_rows * row_bytes, s->err);
}

static oct_status write_greedy(const eval_options *o, oct_runner *r, const oct_ids *ids,
                               oct_safetensors_writer *w, oct_err *err) {
    const uint32_t n = (uint32_t)o->greedy;
    const oct_allocator *mem = oct_system_allocator();
    int32_t *drawn = oct_calloc(mem, n, sizeof *drawn);
    oct_status st = drawn ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "eval: no memory");
    oct_runner_reset(r);
    if (st == OCT_OK) st = oct_runner_greedy(r, ids->data, (uint32_t)ids->len, drawn, n, err);
    for (uint32_t i = 0; st == OCT_OK && i < n; i++) {
        const int64_t id = drawn[i];
        st = oct_safetensors_writer_write(w, OCT_STR("greedy"), i * sizeof id, &id, sizeof id, err);
    }
    oct_free(mem, drawn, n, sizeof *drawn);
    return st;
}

static oct_status write_logits(const eval_options *o, const opened *m, const oct_ids *ids,
                               oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    const uint64_t shape[2] = {ids->len, oct_model_get_info(m->model)->n_vocab};
    oct_safetensors_writer *w = NULL;
    oct_runner *r = NULL;
    logits_sink sink = {.n_vocab = (uint32_t)shape[1], .err = err};

    oct_status st = oct_runner_create(mem, m->model, &r, err);
    if (st == OCT_OK) st = oct_safetensors_writer_create(mem, &w, err);
    if (st == OCT_OK)
        st = oct_safetensors_writer_add(w, OCT_STR("logits"), OCT_DTYPE_F32, 2, shape, err);
    if (st == OCT_OK && o->greedy)
        st = oct_safetensors_writer_add(w, OCT_STR("greedy"), OCT_DTYPE_I64, 1,
                                        (const uint64_t[]){o->greedy}, err);
    if (st == OCT_OK) st = oct_safetensors_writer_begin(w, o->out, err);
    sink.writer = w;
    if (st == OCT_OK)
        st = oct_runner_logits(r, ids->data, (uint32_t)ids->len, take_logits, &sink, err);
    if (st == OCT_OK) st = sink.st;
    if (st == OCT_OK && o->greedy) st = write_greedy(o, r, ids, w, err);
    if (st == OCT_OK) st = oct_safetensors_writer_finish(w, err);
    oct_safetensors_writer_destroy(w);
    oct_runner_destroy(r);
    return st;
}

static int run_logits(eval_options *o, const char *path) {
    enum { MAX_FRESH = 4096 };
    opened m = {0};
    oct_err err = {0};
    oct_ids ids;
    const bool fresh = strcmp(o->prefill_kv, "float") == 0;

    if (!o->tokens || !o->out)
        return cli_fail(EXIT_USAGE,
                        "eval logits: want --tokens IN.safetensors and --out OUT.safetensors");
    oct_ids_init(&ids, oct_system_allocator());
    oct_status st = read_tokens(o->tokens, &ids, &err);
    int status = st == OCT_OK ? -1 : fail_input(st, &err);
    if (status < 0 && fresh && ids.len > MAX_FRESH)
        status =
            cli_fail(EXIT_USAGE,
                     "--prefill-kv float: a prompt of one step (got %zu tokens, want at most %d)",
                     ids.len, MAX_FRESH);
    if (status < 0) {
        const uint32_t rows = fresh ? (uint32_t)ids.len : SCORE_ROWS;
        oct_model_options mo = {
            .max_rows = rows, .max_seqs = 1, .max_logits = rows, .prefill_kv_float = fresh};
        status = open_model(&o->open, path, &mo, &m);
    }
    if (status < 0) {
        st = write_logits(o, &m, &ids, &err);
        status = st == OCT_OK ? EXIT_CLEAN : fail(st, &err);
    }
    oct_ids_fini(&ids);
    opened_close(&m);
    return status;
}

static int eval_run(const cli_command *self, int argc, char **argv) {
    eval_options o = {.open = OPEN_OPTIONS_DEFAULT, .prefill_kv = "cached", .window = WINDOW};
    o.open.log_level = "warn";
    cli_flag model_flags[OPEN_N_FLAGS];
    const unsigned n_model = open_flags_without(&o.open, "kv-cache-memory-bytes", model_flags);
    const cli_flag flags[] = {
        cli_string("text", &o.text, "FILE", "ppl: a UTF-8 text"),
        cli_string("tokens", &o.tokens, "IN.safetensors", "tensor `tokens`, I64 or I32 [n]"),
        cli_count("window", &o.window, 2, WINDOW, "ppl: tokens of a window"),
        cli_count("max-tokens", &o.max_tokens, 2, 0, "ppl: only the first N tokens of the text"),
        cli_switch("json", &o.json,
                   "ppl: one JSON object: ppl, nll (mean), tokens (scored), seconds"),
        cli_string("out", &o.out, "OUT.safetensors",
                   "logits: F32 [n, vocab], and `greedy` I64 [N]"),
        cli_count("greedy", &o.greedy, 1, 1048576,
                  "logits: also N greedy tokens after the given ones"),
        cli_choice("prefill-kv", &o.prefill_kv, "cached|float",
                   "logits: what a prompt attends to: the cache's values, or its own unquantised\n"
                   "ones"),
    };
    const cli_group groups[] = {{"Evaluation", flags, OCT_COUNT(flags)},
                                {"Model", model_flags, n_model}};
    const char *pos[2];
    unsigned n_pos;
    const int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 2 && strcmp(pos[0], "ppl") == 0) return run_ppl(&o, pos[1]);
    if (n_pos == 2 && strcmp(pos[0], "logits") == 0) return run_logits(&o, pos[1]);
    return cli_fail(EXIT_USAGE, "eval: want `ppl MODEL` or `logits MODEL`; see octet eval --help");
}

const cli_command eval_command = {
    .name = "eval",
    .summary = "perplexity of a text, or the logits of given tokens",
    .usage = "ppl|logits MODEL",
    .examples =
        "  octet eval ppl model --text book.txt --json\n"
        "  octet eval logits model --tokens in.safetensors --out out.safetensors --greedy 16",
    .notes = "ppl cuts the text into windows of 2048 tokens (or the model's maximum), each with "
             "the BOS that\n"
             "the tokenizer adds, and scores every token after the first of a window.",
    .run = eval_run,
};
