/*
 * apps/bench/dataset.c - see dataset.h.
 *
 * Draws, in this order, all from one generator: random: every input length, every output length,
 * every offset, then the shared prefix; what follows of a prompt is ids in a row from its offset,
 * and whatever lengthens one whose text reads back as fewer ids. Files: the order of the entries.
 */
#include "dataset.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "bench/random.h"
#include "codec/json.h"
#include "codec/json_pull.h"
#include "store/file.h"

static const uint64_t max_file_bytes = 4ull << 30;
static const oct_json_limits item_limits = {
    .max_bytes = 64 << 20, .max_depth = 64, .allow_nonfinite = true};

enum { TRIES = 10, SHAREGPT_LEAST = 4, SHAREGPT_PROMPT = 1024, SHAREGPT_ALL = 2048 };

/* ---- flags ---- */

static cli_flag length_flag(const char *name, uint64_t *out, const char *help) {
    return (cli_flag){
        .name = name, .type = CLI_COUNT, .out = out, .value = "N", .max = 1 << 24, .help = help};
}

void dataset_flags(dataset_options *o, cli_flag flags[DATASET_N_FLAGS]) {
    const cli_flag all[DATASET_N_FLAGS] = {
        cli_choice("dataset-name", &o->name, "random|sharegpt|custom|prefix_repetition",
                   "where prompts come from"),
        cli_string(
            "dataset-path", &o->path, "FILE",
            "sharegpt: a JSON list of conversations; custom: a JSON object with \"prompt\" a "
            "line"),
        cli_count("num-prompts", &o->n_prompts, 1, 1 << 24, "requests"),
        length_flag("input-len", &o->input_len, "tokens of a prompt, whatever the set"),
        length_flag("output-len", &o->output_len, "tokens of an answer, whatever the set"),
        length_flag("random-input-len", &o->random_input_len, "tokens of a prompt"),
        length_flag("random-output-len", &o->random_output_len, "tokens of an answer"),
        length_flag("random-prefix-len", &o->random_prefix_len,
                    "tokens before each prompt, the same for all"),
        cli_number("random-range-ratio", &o->random_range_ratio, "R", 0, 0.999,
                   "lengths are uniform within this share of them"),
        length_flag("sharegpt-output-len", &o->sharegpt_output_len,
                    "tokens of an answer; those of the file unless given"),
        length_flag("custom-output-len", &o->custom_output_len,
                    "tokens of an answer; 0: \"output_tokens\" of each line"),
        length_flag("prefix-repetition-prefix-len", &o->prefix_len, "tokens of a shared prefix"),
        length_flag("prefix-repetition-suffix-len", &o->suffix_len, "tokens behind it"),
        cli_count("prefix-repetition-num-prefixes", &o->n_prefixes, 1, 1 << 20, "prefixes"),
        length_flag("prefix-repetition-output-len", &o->prefix_output_len, "tokens of an answer"),
        length_flag("seed", &o->seed, "of lengths, prompts and arrivals"),
    };
    memcpy(flags, all, sizeof all);
}

bool dataset_ignores_eos(const dataset_options *o) {
    return strcmp(o->name, "random") == 0 || strcmp(o->name, "prefix_repetition") == 0;
}

/* ---- items ---- */

typedef struct maker {
    const dataset_options *o;
    const oct_tokenizer *tok;
    dataset *d;
    bench_random random;
    int32_t *allowed; /* [n_allowed] ids that are no special ones */
    uint32_t n_allowed;
    oct_ids ids;
    oct_buf text;
    oct_err *err;
} maker;

static oct_status no_memory(maker *m) { return OCT_FAIL(m->err, OCT_E_NOMEM, "bench: no memory"); }

static oct_status add_item(maker *m, oct_str text, uint64_t n_prompt, uint64_t n_output) {
    dataset *d = m->d;
    if (d->n == d->cap) {
        const uint32_t cap = d->cap ? 2 * d->cap : 256;
        dataset_item *items =
            oct_grow(oct_system_allocator(), d->items, d->cap, cap, sizeof *items);
        if (!items) return no_memory(m);
        d->items = items;
        d->cap = cap;
    }
    d->items[d->n++] = (dataset_item){
        .at = d->texts.len,
        .len = text.len,
        .n_prompt = (uint32_t)n_prompt,
        .n_output = (uint32_t)(n_output > 0 ? n_output : 1),
    };
    oct_buf_str(&d->texts, text);
    return d->texts.failed ? no_memory(m) : OCT_OK;
}

static oct_status count_tokens(maker *m, oct_str text, size_t *out) {
    oct_ids_clear(&m->ids);
    OCT_TRY(oct_tokenizer_encode(m->tok, text, OCT_ENCODE_PARSE_SPECIAL, &m->ids, m->err));
    *out = m->ids.len;
    return OCT_OK;
}

/* ---- random ids ---- */

static oct_status allow_ids(maker *m) {
    const int32_t n = oct_tokenizer_n_vocab(m->tok);
    m->allowed = oct_alloc(oct_system_allocator(), (size_t)n, sizeof *m->allowed);
    if (!m->allowed) return no_memory(m);
    for (int32_t id = 0; id < n; id++)
        if (oct_tokenizer_has(m->tok, id) && !oct_tokenizer_is_special(m->tok, id))
            m->allowed[m->n_allowed++] = id;
    if (m->n_allowed == 0)
        return OCT_FAIL(m->err, OCT_E_INVALID, "bench: the tokenizer has special tokens only");
    return OCT_OK;
}

static int32_t draw_id(maker *m) {
    return m->allowed[bench_random_in(&m->random, 0, m->n_allowed - 1)];
}

/* The text of m->ids, which reads back as `want` ids where a few attempts can bring that about. */
static oct_status settle(maker *m, size_t want) {
    for (int tries = 0;; tries++) {
        oct_buf_clear(&m->text);
        oct_tokenizer_decode(m->tok, m->ids.data, m->ids.len, false, &m->text);
        if (m->text.failed) return no_memory(m);
        size_t n;
        OCT_TRY(count_tokens(m, oct_buf_view(&m->text), &n));
        if (n == want || tries == TRIES) return OCT_OK;
        while (m->ids.len < want && !m->ids.failed) oct_ids_push(&m->ids, draw_id(m));
        if (m->ids.failed) return no_memory(m);
        m->ids.len = want;
    }
}

/* Special tokens that the server adds belong to the length that was asked for. */
static uint64_t less_special(maker *m, uint64_t len) {
    oct_ids_clear(&m->ids);
    if (oct_tokenizer_encode(m->tok, OCT_STR(""), OCT_ENCODE_ADD_SPECIAL, &m->ids, m->err) !=
        OCT_OK)
        return len;
    return len > m->ids.len ? len - m->ids.len : 0;
}

static int64_t low(uint64_t len, double ratio) { return (int64_t)floor((double)len * (1 - ratio)); }
static int64_t high(uint64_t len, double ratio) { return (int64_t)ceil((double)len * (1 + ratio)); }

typedef struct draws {
    int64_t *input, *output, *offset; /* [n] */
    int32_t *prefix;
} draws;

static oct_status make_random_from(maker *m, const draws *w, uint64_t n, size_t n_prefix) {
    for (uint64_t i = 0; i < n; i++) {
        oct_ids_clear(&m->ids);
        for (size_t k = 0; k < n_prefix; k++) oct_ids_push(&m->ids, w->prefix[k]);
        for (int64_t k = 0; k < w->input[i]; k++)
            oct_ids_push(&m->ids,
                         m->allowed[((uint64_t)w->offset[i] + i + (uint64_t)k) % m->n_allowed]);
        if (m->ids.failed) return no_memory(m);
        OCT_TRY(settle(m, n_prefix + (size_t)w->input[i]));
        OCT_TRY(add_item(m, oct_buf_view(&m->text), m->ids.len, (uint64_t)w->output[i]));
    }
    return OCT_OK;
}

static oct_status make_random(maker *m) {
    const dataset_options *o = m->o;
    const oct_allocator *mem = oct_system_allocator();
    const uint64_t n = o->n_prompts, n_prefix = o->random_prefix_len;
    const uint64_t output = o->output_len ? o->output_len : o->random_output_len;
    const uint64_t input = less_special(m, o->input_len ? o->input_len : o->random_input_len);
    const double ratio = o->random_range_ratio;
    const int64_t least = low(output, ratio);
    int64_t *numbers = oct_alloc(mem, 3 * n, sizeof *numbers);
    draws w = {numbers, numbers + n, numbers + 2 * n,
               oct_alloc(mem, n_prefix + 1, sizeof *w.prefix)};
    oct_status st = numbers && w.prefix ? OCT_OK : no_memory(m);
    for (uint64_t i = 0; st == OCT_OK && i < n; i++)
        w.input[i] = bench_random_in(&m->random, low(input, ratio), high(input, ratio));
    for (uint64_t i = 0; st == OCT_OK && i < n; i++)
        w.output[i] = bench_random_in(&m->random, least > 0 ? least : 1, high(output, ratio));
    for (uint64_t i = 0; st == OCT_OK && i < n; i++)
        w.offset[i] = bench_random_in(&m->random, 0, oct_tokenizer_n_vocab(m->tok) - 1);
    for (uint64_t k = 0; st == OCT_OK && k < n_prefix; k++) w.prefix[k] = draw_id(m);
    if (st == OCT_OK) st = make_random_from(m, &w, n, n_prefix);
    oct_free(mem, w.prefix, n_prefix + 1, sizeof *w.prefix);
    oct_free(mem, numbers, 3 * n, sizeof *numbers);
    return st;
}

/* ---- prefixes that come again ---- */

static oct_status make_prefixes(maker *m) {
    const dataset_options *o = m->o;
    const uint64_t n = o->n_prefixes < o->n_prompts ? o->n_prefixes : o->n_prompts;
    oct_buf prefix;
    oct_status st = OCT_OK;
    oct_buf_init(&prefix, oct_system_allocator(), 0);
    for (uint64_t p = 0; st == OCT_OK && p < n; p++) {
        const uint64_t n_here = o->n_prompts / n + (p < o->n_prompts % n);
        oct_ids_clear(&m->ids);
        for (uint64_t k = 0; k < o->prefix_len; k++) oct_ids_push(&m->ids, draw_id(m));
        st = settle(m, o->prefix_len);
        const size_t n_prefix = m->ids.len;
        oct_buf_clear(&prefix);
        oct_buf_str(&prefix, oct_buf_view(&m->text));
        for (uint64_t i = 0; st == OCT_OK && i < n_here; i++) {
            oct_ids_clear(&m->ids);
            for (uint64_t k = 0; k < o->suffix_len; k++) oct_ids_push(&m->ids, draw_id(m));
            st = settle(m, o->suffix_len);
            const size_t n_all = n_prefix + m->ids.len, kept = prefix.len;
            oct_buf_str(&prefix, oct_buf_view(&m->text));
            if (st == OCT_OK) st = prefix.failed ? no_memory(m) : OCT_OK;
            if (st == OCT_OK)
                st = add_item(m, oct_buf_view(&prefix), n_all,
                              o->output_len ? o->output_len : o->prefix_output_len);
            prefix.len = kept;
        }
    }
    oct_buf_fini(&prefix);
    return st;
}

/* ---- files ---- */

static void swap_items(dataset_item *a, dataset_item *b) {
    const dataset_item t = *a;
    *a = *b;
    *b = t;
}

static void shuffle(maker *m) {
    for (uint32_t i = m->d->n; i > 1; i--)
        swap_items(&m->d->items[i - 1], &m->d->items[bench_random_in(&m->random, 0, i - 1)]);
}

/* The first n; with fewer, some again. */
static oct_status take_first(maker *m) {
    dataset *d = m->d;
    const uint32_t had = d->n, want = (uint32_t)m->o->n_prompts;
    if (had == 0)
        return OCT_FAIL(m->err, OCT_E_INVALID, "--dataset-path: %s: no entry that can be used",
                        oct_path_base(m->o->path));
    while (d->n < want) {
        const dataset_item again = d->items[bench_random_in(&m->random, 0, had - 1)];
        OCT_TRY(add_item(m, OCT_STR(""), again.n_prompt, again.n_output));
        d->items[d->n - 1] = again;
    }
    d->n = want;
    return OCT_OK;
}

static oct_status read_turn(const json_t *turns, size_t i, oct_str *out) {
    *out = oct_json_str(json_object_get(json_array_get(turns, i), "value"));
    return out->ptr ? OCT_OK : OCT_E_INVALID;
}

/* An entry that does not fit is left out, as the reference does. */
static oct_status read_conversation(maker *m, const json_t *entry) {
    const dataset_options *o = m->o;
    const json_t *turns = json_object_get(entry, "conversations");
    const uint64_t forced = o->output_len ? o->output_len : o->sharegpt_output_len;
    oct_str prompt, answer;
    size_t n_prompt, n_answer;
    if (json_array_size(turns) < 2 || read_turn(turns, 0, &prompt) != OCT_OK ||
        read_turn(turns, 1, &answer) != OCT_OK)
        return OCT_OK;
    OCT_TRY(count_tokens(m, answer, &n_answer));
    OCT_TRY(count_tokens(m, prompt, &n_prompt));
    const uint64_t n_output = forced ? forced : n_answer;
    if (n_prompt < SHAREGPT_LEAST || (!forced && n_answer < SHAREGPT_LEAST) ||
        n_prompt > SHAREGPT_PROMPT || n_prompt + n_output > SHAREGPT_ALL)
        return OCT_OK;
    return add_item(m, prompt, n_prompt, n_output);
}

static oct_status read_line(maker *m, const json_t *entry, unsigned line) {
    const uint64_t forced = m->o->output_len ? m->o->output_len : m->o->custom_output_len;
    const oct_str prompt = oct_json_str(json_object_get(entry, "prompt"));
    int64_t n_output = 0;
    size_t n_prompt;
    if (!prompt.ptr)
        return OCT_FAIL(m->err, OCT_E_INVALID, "--dataset-path: line %u: no text under \"prompt\"",
                        line);
    OCT_TRY(
        oct_json_get_i64(entry, "output_tokens", "--dataset-path", 1, 1 << 24, &n_output, m->err));
    if (!forced && n_output == 0)
        return OCT_FAIL(m->err, OCT_E_INVALID,
                        "--dataset-path: line %u: no \"output_tokens\" (or want "
                        "--custom-output-len)",
                        line);
    OCT_TRY(count_tokens(m, prompt, &n_prompt));
    return add_item(m, prompt, n_prompt, forced ? forced : (uint64_t)n_output);
}

static oct_status read_conversations(maker *m, oct_str file) {
    oct_pull j;
    oct_status st;
    bool more = false;
    oct_pull_init(&j, file, oct_path_base(m->o->path), oct_system_allocator(), m->err);
    st = oct_pull_expect(&j, '[');
    for (bool first = true; st == OCT_OK; first = false) {
        oct_str span;
        json_t *entry = NULL;
        st = oct_pull_more(&j, ']', first, &more);
        if (st != OCT_OK || !more) break;
        st = oct_pull_skip(&j, &span);
        if (st == OCT_OK) st = oct_json_parse(span, j.where, &item_limits, &entry, m->err);
        if (st == OCT_OK) st = read_conversation(m, entry);
        json_decref(entry);
    }
    oct_pull_fini(&j);
    return st;
}

static oct_status read_lines(maker *m, oct_str file) {
    unsigned line = 0;
    for (size_t at = 0; at < file.len;) {
        const char *end = memchr(file.ptr + at, '\n', file.len - at);
        const size_t len = end ? (size_t)(end - file.ptr) - at : file.len - at;
        oct_str text = {file.ptr + at, len};
        at += len + 1;
        line++;
        while (text.len > 0 && (text.ptr[text.len - 1] == '\r' || text.ptr[text.len - 1] == ' '))
            text.len--;
        if (text.len == 0) continue;
        json_t *entry = NULL;
        char where[64];
        snprintf(where, sizeof where, "--dataset-path: line %u", line);
        OCT_TRY(oct_json_parse(text, where, &item_limits, &entry, m->err));
        const oct_status st = read_line(m, entry, line);
        json_decref(entry);
        OCT_TRY(st);
    }
    return OCT_OK;
}

static oct_status read_file(maker *m, oct_status (*read)(maker *m, oct_str file)) {
    oct_buf file;
    if (!m->o->path)
        return OCT_FAIL(m->err, OCT_E_INVALID, "--dataset-name %s: want --dataset-path FILE",
                        m->o->name);
    oct_buf_init(&file, oct_system_allocator(), 0);
    oct_status st =
        oct_file_read_small(oct_system_allocator(), m->o->path, max_file_bytes, &file, m->err);
    if (st == OCT_OK) st = read(m, oct_buf_view(&file));
    oct_buf_fini(&file);
    if (st != OCT_OK) return st;
    if (read == read_conversations) shuffle(m);
    return take_first(m);
}

oct_status dataset_make(const dataset_options *o, const oct_tokenizer *tok, dataset *out,
                        oct_err *err) {
    const oct_allocator *mem = oct_system_allocator();
    maker m = {.o = o, .tok = tok, .d = out, .err = err};
    oct_status st;
    *out = (dataset){0};
    oct_buf_init(&out->texts, mem, 0);
    oct_buf_init(&m.text, mem, 0);
    oct_ids_init(&m.ids, mem);
    bench_random_seed(&m.random, o->seed);
    st = allow_ids(&m);
    if (st != OCT_OK) {
    } else if (strcmp(o->name, "random") == 0) {
        st = make_random(&m);
    } else if (strcmp(o->name, "prefix_repetition") == 0) {
        st = make_prefixes(&m);
    } else {
        st = read_file(&m, strcmp(o->name, "sharegpt") == 0 ? read_conversations : read_lines);
    }
    oct_free(mem, m.allowed, (size_t)oct_tokenizer_n_vocab(tok), sizeof *m.allowed);
    oct_ids_fini(&m.ids);
    oct_buf_fini(&m.text);
    if (st != OCT_OK) dataset_free(out);
    return st;
}

void dataset_free(dataset *d) {
    oct_free(oct_system_allocator(), d->items, d->cap, sizeof *d->items);
    oct_buf_fini(&d->texts);
    *d = (dataset){0};
}
