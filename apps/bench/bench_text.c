/*
 * apps/bench/bench_text.c - `octet bench text MODEL FILE`: how fast a tokenizer turns text into ids
 * and back, on one thread. The file is cut at line ends into texts of a few KiB, each of which is
 * encoded by itself, as requests are; nothing is remembered from one to the next.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench.h"
#include "bench/bench_online.h"
#include "codec/utf8.h"
#include "open.h"
#include "store/file.h"

static const uint64_t max_file_bytes = 1ull << 30;
enum { MAX_REPEATS = 64 };

typedef struct text_bench {
    open_options open;
    uint64_t piece, repeats;
    bool json;
    oct_tokenizer *tok;
    oct_buf file, back;
    oct_ids ids;
    double encode_s[MAX_REPEATS], decode_s[MAX_REPEATS];
    uint64_t n_texts, n_tokens;
    bool same; /* what comes back is what went in, text by text */
} text_bench;

/* The text at `at`: up to the line end behind `piece` bytes. */
static oct_str text_at(const text_bench *b, size_t at) {
    const oct_str all = oct_buf_view(&b->file);
    const size_t left = all.len - at;
    if (left <= b->piece) return (oct_str){all.ptr + at, left};
    const char *end = memchr(all.ptr + at + b->piece, '\n', left - b->piece);
    return (oct_str){all.ptr + at, end ? (size_t)(end + 1 - (all.ptr + at)) : left};
}

static oct_status run_once(text_bench *b, double *encode_s, double *decode_s, oct_err *err) {
    uint64_t encode_ns = 0, decode_ns = 0;
    b->n_texts = b->n_tokens = 0;
    b->same = true;
    for (size_t at = 0; at < b->file.len;) {
        const oct_str text = text_at(b, at);
        oct_ids_clear(&b->ids);
        oct_buf_clear(&b->back);
        const uint64_t t0 = oct_now_ns();
        OCT_TRY(oct_tokenizer_encode(b->tok, text, OCT_ENCODE_PARSE_SPECIAL, &b->ids, err));
        const uint64_t t1 = oct_now_ns();
        oct_tokenizer_decode(b->tok, b->ids.data, b->ids.len, false, &b->back);
        decode_ns += oct_now_ns() - t1;
        encode_ns += t1 - t0;
        if (b->back.failed) return OCT_FAIL(err, OCT_E_NOMEM, "bench: no memory");
        b->same = b->same && oct_str_eq(oct_buf_view(&b->back), text);
        b->n_tokens += b->ids.len;
        b->n_texts++;
        at += text.len;
    }
    *encode_s = (double)encode_ns / 1e9;
    *decode_s = (double)decode_ns / 1e9;
    return OCT_OK;
}

static int tell(text_bench *b) {
    const double mb = (double)b->file.len / 1e6;
    const double encode = bench_median(b->encode_s, (unsigned)b->repeats);
    const double decode = bench_median(b->decode_s, (unsigned)b->repeats);
    if (b->json)
        printf("{\"bytes\": %zu, \"texts\": %" PRIu64 ", \"tokens\": %" PRIu64
               ", \"encode_s\": %.6f, \"encode_mb_per_s\": %.3f, \"decode_s\": %.6f, "
               "\"decode_mb_per_s\": %.3f, \"same\": %s}\n",
               b->file.len, b->n_texts, b->n_tokens, encode, mb / encode, decode, mb / decode,
               b->same ? "true" : "false");
    else
        printf("%.1f MB in %" PRIu64 " texts, %" PRIu64 " tokens: encode %.1f MB/s, decode %.1f "
               "MB/s%s\n",
               mb, b->n_texts, b->n_tokens, mb / encode, mb / decode,
               b->same ? "" : " (what comes back differs: the tokenizer normalises)");
    return EXIT_CLEAN;
}

static int measure(text_bench *b, const char *model, const char *path) {
    const oct_allocator *mem = oct_system_allocator();
    oct_err err = {0};
    int status = open_tokenizer(&b->open, model, &b->tok);
    if (status >= 0) return status;
    oct_buf_init(&b->file, mem, 0);
    oct_buf_init(&b->back, mem, 0);
    oct_ids_init(&b->ids, mem);
    oct_status st = oct_file_read_small(mem, path, max_file_bytes, &b->file, &err);
    if (st == OCT_OK && b->file.len == 0)
        st = OCT_FAIL(&err, OCT_E_INVALID, "%s: empty", oct_path_base(path));
    for (uint64_t i = 0; st == OCT_OK && i <= b->repeats; i++) {
        const uint64_t at = i > 0 ? i - 1 : 0; /* the first is not counted */
        st = run_once(b, &b->encode_s[at], &b->decode_s[at], &err);
    }
    status = st == OCT_OK ? tell(b) : cli_fail(cli_status_of(st), "%s", err.text);
    oct_ids_fini(&b->ids);
    oct_buf_fini(&b->back);
    oct_buf_fini(&b->file);
    oct_tokenizer_destroy(b->tok);
    return status;
}

static const cli_command text_command = {
    .name = "bench text",
    .summary = "text to ids and back, bytes a second on one thread",
    .usage = "MODEL FILE",
    .examples = "  octet bench text model-w8a8c8 book.txt\n"
                "  octet bench text model-w8a8c8 book.txt --piece 512 --json\n",
};

int bench_text_run(int argc, char **argv) {
    text_bench b = {.open = OPEN_OPTIONS_DEFAULT, .piece = 4096, .repeats = 5};
    const cli_flag flags[] = {
        cli_count("piece", &b.piece, 1, 1 << 30, "bytes of a text, up to the next line end"),
        cli_count("repeats", &b.repeats, 1, MAX_REPEATS, "counted runs, after one that is not"),
        cli_switch("json", &b.json, "a JSON object"),
    };
    const cli_group groups[] = {{"Measurement", flags, OCT_COUNT(flags)}};
    const char *pos[2];
    unsigned n_pos;
    const int status =
        cli_parse(&text_command, groups, OCT_COUNT(groups), argc, argv, pos, 2, &n_pos);
    if (status >= 0) return status;
    if (n_pos != 2)
        return cli_fail(EXIT_USAGE, "bench text: want MODEL and FILE; see octet bench text --help");
    return measure(&b, pos[0], pos[1]);
}
