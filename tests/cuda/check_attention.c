/*
 * tests/cuda/check_attention.c - a row of attention has the same bits however it is computed: as
 * part of a prompt, of a chunk of a few rows, or as a decode beside others.
 *
 *     check_attention PLUGIN|NAME [wide|large]
 *
 * A text is written to the cache once. Then all its rows attend as one prompt; after that some of
 * them again as decodes of sequences that share its blocks, as chunks of 1 to 8 rows, and as long
 * chunks behind what is cached. The float rows, the int8 rows and their scales must be equal bit
 * for bit. In one shape some values are no numbers, which rows that do not see them must not
 * notice. "wide": heads of 256 too. "large", for a GPU: a longer text as well, more shapes of int8,
 * and every row of the prompt beside that of the kernel without wgmma (settings "wgmma=0").
 *
 * Exit status 0: all equal.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "device/device.h"
#include "quant/float_types.h"

enum { BLOCK = 32, MAX_SEQS = 9 };

/* The text: more than a chunk of 512 tokens, and no multiple of anything. */
static uint32_t n_tokens = 547, n_blocks = 18;

typedef struct shape {
    uint32_t n_heads, n_kv_heads, head_dim, window;
    float softcap;
    int strange; /* float kinds: NaN and infinity in V from token STRANGE on */
} shape;

static const shape shapes[] = {{4, 1, 64, 0, 0, 0},
                               {3, 1, 128, 0, 0, 0},
                               {10, 1, 48, 300, 20, 0},
                               {1, 1, 64, 0, 0, 1},
                               {2, 1, 256, 0, 0, 0}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, STRANGE = 140 };
static const shape large[] = {
    {1, 1, 128, 0, 0, 0},   {2, 1, 64, 0, 0, 0},   {8, 4, 128, 0, 30, 0}, {5, 1, 128, 0, 0, 0},
    {12, 2, 64, 130, 0, 0}, {7, 1, 128, 64, 0, 0}, {16, 2, 128, 0, 0, 0}, {16, 2, 64, 600, 50, 0},
    {6, 2, 80, 0, 0, 0},    {32, 8, 128, 0, 0, 0}, {97, 1, 64, 0, 0, 0},
};
static const uint32_t kinds[] = {OCTET_KV_I8_CHANNEL, OCTET_KV_I8_TOKEN, OCTET_KV_FP8_CHANNEL,
                                 OCTET_KV_BF16,       OCTET_KV_F16,      OCTET_KV_F32};

typedef struct bench {
    oct_device *d;
    octet_stream *s;
    octet_buffer buffers[64];
    unsigned n_buffers;
    const shape *h;
    octet_kv_desc kv;
    uint16_t *rows; /* [n_tokens][width], as attn_input left them */
    size_t width, out_width;
} bench;

/* Rows `first` .. `first + n - 1` of the text, and what came of them. */
typedef struct result {
    uint16_t *out;
    int8_t *q;
    float *scale;
} result;

static uint32_t seed = 1;

static uint32_t next(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "check_attention: %s: %s\n", what, why);
    exit(1);
}

static void *mem(size_t n, size_t size) {
    void *p = calloc(n, size);
    if (!p) fail("memory", "refused");
    return p;
}

static void check(const bench *b, int32_t code, const char *what) {
    oct_err err = {.code = OCT_OK};
    if (oct_device_check(b->d, code, what, &err) != OCT_OK) fail(what, err.text);
}

static octet_ref room(bench *b, size_t bytes) {
    octet_ref at = {0, 0};
    check(b, b->d->ops->buffer_create(b->d->dev, bytes, &at.buffer), "buffer_create");
    if (b->n_buffers == sizeof b->buffers / sizeof *b->buffers) fail("buffers", "too many");
    b->buffers[b->n_buffers++] = at.buffer;
    return at;
}

static octet_ref put(bench *b, const void *from, size_t bytes) {
    const octet_ref at = room(b, bytes);
    check(b, b->d->ops->write(b->s, at, from, bytes), "write");
    check(b, b->d->ops->stream_wait(b->s), "write");
    return at;
}

static void get(const bench *b, void *to, octet_ref from, size_t bytes) {
    check(b, b->d->ops->read(b->s, to, from, bytes), "read");
    check(b, b->d->ops->stream_wait(b->s), "read");
}

static void drop(bench *b, unsigned down_to) {
    while (b->n_buffers > down_to) b->d->ops->buffer_destroy(b->d->dev, b->buffers[--b->n_buffers]);
}

/* ---- batches --------------------------------------------------------------------------------- */

static int32_t block_of(uint32_t i) { return (int32_t)(i * 7 % n_blocks); }

/* Sequence i has the n[i] rows at first[i] of the one text. */
static octet_batch batch_of(bench *b, uint32_t n_seqs, const uint32_t *first, const uint32_t *n) {
    int32_t *pos = mem(n_tokens, 4), *slot = mem(n_tokens, 4), *table = mem(n_seqs * n_blocks, 4);
    int32_t seq_row[MAX_SEQS + 1] = {0}, kv_len[MAX_SEQS];
    octet_batch batch = {.struct_bytes = sizeof batch, .n_seqs = n_seqs, .table_stride = n_blocks};
    for (uint32_t i = 0; i < n_seqs; i++) {
        for (uint32_t t = first[i]; t < first[i] + n[i]; t++, batch.n_rows++) {
            pos[batch.n_rows] = (int32_t)t;
            slot[batch.n_rows] = block_of(t / BLOCK) * BLOCK + (int32_t)(t % BLOCK);
        }
        for (uint32_t k = 0; k < n_blocks; k++) table[i * n_blocks + k] = block_of(k);
        seq_row[i + 1] = (int32_t)batch.n_rows;
        kv_len[i] = (int32_t)(first[i] + n[i]);
        if (n[i] > batch.max_seq_rows) batch.max_seq_rows = n[i];
        if (first[i] + n[i] > batch.max_kv_len) batch.max_kv_len = first[i] + n[i];
    }
    batch.row_pos = put(b, pos, batch.n_rows * 4);
    batch.row_slot = put(b, slot, batch.n_rows * 4);
    batch.seq_row = put(b, seq_row, (n_seqs + 1) * 4);
    batch.seq_kv_len = put(b, kv_len, n_seqs * 4);
    batch.block_table = put(b, table, (size_t)n_seqs * n_blocks * 4);
    free(pos);
    free(slot);
    free(table);
    return batch;
}

static void make_cache(bench *b, uint32_t kind) {
    const size_t channels = (size_t)b->h->n_kv_heads * b->h->head_dim;
    float *v = mem(channels, sizeof *v);
    b->kv = (octet_kv_desc){.struct_bytes = sizeof b->kv,
                            .kind = kind,
                            .n_kv_heads = b->h->n_kv_heads,
                            .head_dim = b->h->head_dim,
                            .block_tokens = BLOCK};
    b->kv.block_bytes = b->d->ops->kv_block_bytes(b->d->dev, &b->kv);
    if (!b->kv.block_bytes) fail("kv_block_bytes", "not supported");
    b->kv.base = room(b, n_blocks * b->kv.block_bytes);
    check(b, b->d->ops->fill(b->s, b->kv.base, 0xff, n_blocks * b->kv.block_bytes), "fill");
    if (kind == OCTET_KV_I8_CHANNEL || kind == OCTET_KV_FP8_CHANNEL) {
        for (size_t i = 0; i < channels; i++) v[i] = 0.01f + (float)(next() % 100) * 1e-4f;
        b->kv.k_scale = put(b, v, channels * 4);
        b->kv.v_scale = put(b, v, channels * 4);
    }
    if (kind == OCTET_KV_I8_CHANNEL) {
        for (size_t i = 0; i < channels; i++) v[i] = (float)(next() % 40) - 20;
        b->kv.v_offset = put(b, v, channels * 4);
    }
    free(v);
}

/* The bits of channel c of V of a token. */
static uint16_t *value_of(const bench *b, uint32_t token, uint32_t c) {
    return b->rows + token * b->width + (b->h->n_heads + b->h->n_kv_heads) * b->h->head_dim + c;
}

static int is_strange(const bench *b) {
    return b->h->strange && b->kv.kind != OCTET_KV_I8_CHANNEL && b->kv.kind != OCTET_KV_I8_TOKEN;
}

static void write_text(bench *b) {
    const uint32_t first = 0, n = n_tokens;
    for (size_t i = 0; i < n_tokens * b->width; i++)
        b->rows[i] = oct_f32_to_bf16(((float)(next() % 20001) - 10000) * 1e-4f);
    if (is_strange(b)) {
        *value_of(b, STRANGE, 3) = 0x7fff;
        *value_of(b, STRANGE + 1, 20) = 0x7f80;
        *value_of(b, 530, 40) = 0xff80;
    }
    const octet_attn_input_op op = {.struct_bytes = sizeof op,
                                    .n_heads = b->h->n_heads,
                                    .qkv = {put(b, b->rows, n_tokens * b->width * 2), b->width},
                                    .kv = b->kv,
                                    .batch = batch_of(b, 1, &first, &n)};
    check(b, b->d->ops->attn_input(b->s, &op), "attn_input");
    get(b, b->rows, op.qkv.data, n_tokens * b->width * 2);
}

static result attend(bench *b, uint32_t n_seqs, const uint32_t *first, const uint32_t *n) {
    const unsigned before = b->n_buffers;
    octet_attention_op op = {.struct_bytes = sizeof op,
                             .n_heads = b->h->n_heads,
                             .kv = b->kv,
                             .batch = batch_of(b, n_seqs, first, n),
                             .scale = 1.0f / sqrtf((float)b->h->head_dim),
                             .softcap = b->h->softcap,
                             .window = b->h->window};
    const size_t rows = op.batch.n_rows, values = rows * b->out_width;
    uint16_t *in = mem(rows * b->width, 2), *to = in;
    for (uint32_t i = 0; i < n_seqs; to += n[i] * b->width, i++)
        memcpy(to, b->rows + first[i] * b->width, n[i] * b->width * 2);
    op.q = (octet_rows){put(b, in, rows * b->width * 2), b->width};
    op.out = (octet_rows){room(b, values * 2), b->out_width};
    op.quant = (octet_quant){.mode = OCTET_QUANT_DYNAMIC,
                             .out = {room(b, values), room(b, rows * 4), b->out_width}};
    check(b, b->d->ops->attention(b->s, &op), "attention");
    const result r = {mem(values, 2), mem(values, 1), mem(rows, 4)};
    get(b, r.out, op.out.data, values * 2);
    get(b, r.q, op.quant.out.data, values);
    get(b, r.scale, op.quant.out.scale, rows * 4);
    free(in);
    drop(b, before);
    return r;
}

static void free_result(result *r) {
    free(r->out);
    free(r->q);
    free(r->scale);
}

/* Rows of the prompt again, cut as `first` and `n` say. Returns how many differ. */
static size_t again(bench *b, const result *prompt, uint32_t n_seqs, const uint32_t *first,
                    const uint32_t *n) {
    size_t wrong = 0, row = 0;
    result r = attend(b, n_seqs, first, n);
    for (uint32_t i = 0; i < n_seqs; i++)
        for (uint32_t t = first[i]; t < first[i] + n[i]; t++, row++) {
            const size_t a = t * b->out_width, c = row * b->out_width;
            wrong += memcmp(prompt->out + a, r.out + c, b->out_width * 2) != 0 ||
                     memcmp(prompt->q + a, r.q + c, b->out_width) != 0 ||
                     memcmp(prompt->scale + t, r.scale + row, 4) != 0;
        }
    free_result(&r);
    return wrong;
}

/* prompt: what came of the rows as one prompt, the caller's to free. */
static size_t run_case(bench *b, const shape *h, uint32_t kind, result *prompt) {
    const uint32_t all_first = 0, all_n = n_tokens;
    static const uint32_t decodes[] = {0, 31, 127, 128, 300, 511, 512, 546},
                          ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const uint32_t chunks[] = {0, 29, 120, 256, 505, 513, 540},
                          lengths[] = {3, 8, 8, 1, 8, 5, 7};
    /* A chunk of many rows beside decodes; texts in long pieces. */
    static const uint32_t mixed[] = {530, 100, 546}, mixed_n[] = {1, 60, 1};
    const uint32_t pieces[] = {0, 97, 230, 511}, pieces_n[] = {97, 133, 281, n_tokens - 511};
    size_t numbers = 0;
    b->h = h;
    b->width = (size_t)(h->n_heads + 2 * h->n_kv_heads) * h->head_dim;
    b->out_width = (size_t)h->n_heads * h->head_dim;
    b->rows = mem(n_tokens * b->width, 2);
    make_cache(b, kind);
    write_text(b);
    *prompt = attend(b, 1, &all_first, &all_n);
    const size_t n_numbers = (is_strange(b) ? (size_t)STRANGE : n_tokens) * b->out_width;
    for (size_t i = 0; i < n_numbers; i++)
        numbers += fabsf(oct_bf16_to_f32(prompt->out[i])) < 100.0f;
    size_t wrong = n_numbers - numbers;
    if (is_strange(b)) /* who sees it does notice */
        wrong += !isnan(oct_bf16_to_f32(prompt->out[STRANGE * b->out_width + 3]));
    wrong += again(b, prompt, 8, decodes, ones);
    wrong += again(b, prompt, 7, chunks, lengths);
    wrong += again(b, prompt, 3, mixed, mixed_n);
    wrong += again(b, prompt, 4, pieces, pieces_n);
    printf("%s cache %u, heads %u/%u of %u, window %u, cap %g%s: %zu rows differ\n",
           wrong ? "BAD" : "ok ", kind, h->n_heads, h->n_kv_heads, h->head_dim, h->window,
           (double)h->softcap, h->strange ? ", no numbers" : "", wrong);
    fflush(stdout);
    free(b->rows);
    drop(b, 0);
    return wrong;
}

static void begin(bench *b, const char *name, const char *settings) {
    const oct_device_options options = {.settings = settings};
    oct_err err = {.code = OCT_OK};
    *b = (bench){0};
    if (oct_device_open(oct_system_allocator(), name, &options, &b->d, &err) != OCT_OK)
        fail(name, err.text);
    check(b, b->d->ops->stream_create(b->d->dev, &b->s), "stream_create");
}

static void end(bench *b) {
    b->d->ops->stream_destroy(b->s);
    oct_device_close(b->d);
}

/* The same text through both kernels: all its rows must be equal. */
static size_t run_twins(const char *name, const shape *h, uint32_t kind) {
    static const char *const settings[] = {"wgmma=1", "wgmma=0"};
    const size_t values = (size_t)n_tokens * h->n_heads * h->head_dim;
    result r[2];
    size_t wrong = 0;
    for (int i = 0; i < 2; i++) {
        bench b;
        begin(&b, name, settings[i]);
        seed = 7;
        wrong += run_case(&b, h, kind, &r[i]);
        end(&b);
    }
    const int differ = memcmp(r[0].out, r[1].out, values * 2) != 0 ||
                       memcmp(r[0].q, r[1].q, values) != 0 ||
                       memcmp(r[0].scale, r[1].scale, n_tokens * 4) != 0;
    if (differ) printf("BAD the two kernels differ\n");
    free_result(&r[0]);
    free_result(&r[1]);
    return wrong + (size_t)differ;
}

int main(int argc, char **argv) {
    size_t wrong = 0;
    bench b;
    if (argc < 2) fail("usage", "check_attention PLUGIN|NAME [wide|large]");
    const int wide = argc > 2 && strcmp(argv[2], "wide") == 0;
    const int is_large = argc > 2 && strcmp(argv[2], "large") == 0;
    begin(&b, argv[1], NULL);
    printf("%s\n", b.d->info.name);
    for (size_t i = 0; i < (size_t)(wide ? N_SHAPES : N_SHAPES - 1); i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            result r;
            wrong += run_case(&b, &shapes[i], kinds[k], &r);
            free_result(&r);
        }
    end(&b);
    if (is_large) {
        n_tokens = 1931;
        n_blocks = (n_tokens + BLOCK - 1) / BLOCK;
        for (size_t i = 0; i < sizeof large / sizeof *large; i++)
            for (uint32_t kind = OCTET_KV_I8_CHANNEL; kind <= OCTET_KV_I8_TOKEN; kind++)
                wrong += run_twins(argv[1], &large[i], kind);
    }
    printf("%s\n", wrong ? "NOT EQUAL" : "all equal");
    return wrong != 0;
}
