/* apps/inspect/inspect.c - `octet inspect MODEL`: what a checkpoint holds and what serving it
 * costs. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "open.h"
#include "store/scheme.h"

typedef struct group_line {
    const char *label; /* scheme of the projections */
    bool int8_kv;
    uint64_t bytes;
} group_line;

static const char *const projections[] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

static void shape_of(const oct_model_config *c, unsigned p, uint64_t *n, uint64_t *k) {
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim,
                   kv = (uint64_t)c->n_kv_heads * c->head_dim;
    const uint64_t shapes[][2] = {{q, c->hidden},
                                  {kv, c->hidden},
                                  {kv, c->hidden},
                                  {c->hidden, q},
                                  {c->intermediate, c->hidden},
                                  {c->intermediate, c->hidden},
                                  {c->hidden, c->intermediate}};
    *n = shapes[p][0];
    *k = shapes[p][1];
}

/* The scheme of one layer as text ("W8A8_DYNAMIC", or with exceptions) and its bytes as stored. */
static oct_status describe_layer(oct_checkpoint *ckpt, oct_scheme *s, oct_arena *arena, uint32_t l,
                                 char *text, size_t text_bytes, uint64_t *bytes, oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    const char *main_label = NULL;
    size_t used = 0;
    oct_kv_source kv;
    char name[160];

    *bytes = 0;
    text[0] = '\0';
    for (unsigned p = 0; p < OCT_COUNT(projections); p++) {
        oct_linear_source src;
        uint64_t n, k;
        shape_of(c, p, &n, &k);
        snprintf(name, sizeof name, "model.layers.%u.%s", l, projections[p]);
        OCT_TRY(oct_scheme_linear(s, arena, name, n, k, false, &src, err));
        if (src.kind == OCT_LINEAR_ABSENT) continue;
        *bytes += src.weight->bytes;
        const char *label =
            src.kind == OCT_LINEAR_FLOAT ? oct_dtype_name(src.weight->dtype) : src.label;
        if (!main_label)
            used = (size_t)snprintf(text, text_bytes, "%s", main_label = label);
        else if (strcmp(label, main_label) != 0 && used < text_bytes)
            used += (size_t)snprintf(text + used, text_bytes - used, ", %s %s",
                                     strchr(projections[p], '.') + 1, label);
    }
    snprintf(name, sizeof name, "model.layers.%u.self_attn", l);
    OCT_TRY(oct_scheme_kv(s, arena, name, c->n_kv_heads, c->head_dim, &kv, err));
    if (used < text_bytes)
        snprintf(text + used, text_bytes - used, "; KV %s", oct_kv_source_text(&kv));
    return OCT_OK;
}

static oct_status print_layers(oct_checkpoint *ckpt, oct_scheme *s, oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    char line[256] = "", previous[256] = "";
    uint64_t bytes = 0, sum = 0;
    uint32_t first = 0;
    oct_arena arena;
    oct_status st = OCT_OK;

    oct_arena_init(&arena, oct_system_allocator(), 0);
    for (uint32_t l = 0; l <= c->n_layers && st == OCT_OK; l++) {
        if (l < c->n_layers) {
            st = describe_layer(ckpt, s, &arena, l, line, sizeof line, &bytes, err);
            oct_arena_reset(&arena);
        }
        if (l > 0 && (l == c->n_layers || strcmp(line, previous) != 0)) {
            printf("  layers %u-%u: %s, %.1f MB\n", first, l - 1, previous, (double)sum / 1e6);
            first = l;
            sum = 0;
        }
        sum += bytes;
        memcpy(previous, line, sizeof line);
    }
    oct_arena_fini(&arena);
    return st == OCT_OK ? oct_checkpoint_check_needs(ckpt, err) : st;
}

static void print_head(const oct_checkpoint *ckpt, const oct_scheme *s, const char *path) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    printf("%s\n", path);
    printf(
        "  family %s, scheme %s: %u layers, hidden %u, %u heads of %u (%u KV), intermediate %u\n",
        oct_family_name(c->family), oct_scheme_name(s), c->n_layers, c->hidden, c->n_heads,
        c->head_dim, c->n_kv_heads, c->intermediate);
    printf("  vocabulary %u, context %u tokens, %s embeddings\n", c->vocab, c->max_position,
           oct_checkpoint_find(ckpt, "lm_head.weight") || !c->tie_word_embeddings ? "separate"
                                                                                  : "tied");
    printf("  %zu tensors, %.1f MB as stored\n", oct_checkpoint_n_tensors(ckpt),
           (double)oct_checkpoint_weight_bytes(ckpt) / 1e6);
}

static void print_costs(const oct_checkpoint *ckpt, const oct_scheme *s, uint64_t memory) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    const bool int8 = oct_scheme_has_kv(s);
    const uint64_t values = 2ull * c->n_layers * c->n_kv_heads * c->head_dim;
    const uint64_t per_token = values * (int8 ? 1 : 4), weights = oct_checkpoint_weight_bytes(ckpt);
    printf("  KV cache: %llu bytes a token (%s); %.1f MB for a full context\n",
           (unsigned long long)per_token, int8 ? "INT8" : "float32 on the CPU",
           (double)per_token * c->max_position / 1e6);
    if (!memory) return;
    if (memory <= weights)
        printf("  in %.1f GB: the weights do not fit\n", (double)memory / 1e9);
    else
        printf("  in %.1f GB: the weights and %llu tokens of cache\n", (double)memory / 1e9,
               (unsigned long long)((memory - weights) / per_token));
}

static int inspect_run(const cli_command *self, int argc, char **argv) {
    open_options o = OPEN_OPTIONS_DEFAULT;
    uint64_t memory = 0;
    o.log_level = "warn";
    const cli_flag flags[] = {
        {.name = "memory",
         .type = CLI_COUNT,
         .out = &memory,
         .value = "BYTES",
         .min = 1,
         .help = "say how many tokens of cache fit beside the weights (24g)"},
        {.name = "quantization",
         .alias = "-q",
         .type = CLI_CHOICE,
         .out = &o.quantization,
         .choices = "auto|none|ascend|compressed-tensors|quark|fp8|fbgemm_fp8|w8a8_int8|"
                    "blockwise_int8",
         .help = "what the checkpoint must be (ascend: ModelSlim)"},
    };
    const cli_group groups[] = {{"Flags", flags, OCT_COUNT(flags)}};
    const char *path;
    unsigned n_pos;
    int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, &path, 1, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0) return cli_fail(EXIT_USAGE, "inspect: want a MODEL");

    opened m = {0};
    oct_err err = {0};
    oct_scheme *scheme = NULL;
    status = open_checkpoint(&o, path, &m);
    if (status < 0) {
        const oct_scheme_options so = {.forced = o.quantization};
        oct_status st = oct_scheme_open(oct_system_allocator(), m.ckpt, &so, &scheme, &err);
        if (st == OCT_OK) {
            print_head(m.ckpt, scheme, path);
            st = print_layers(m.ckpt, scheme, &err);
        }
        if (st == OCT_OK) print_costs(m.ckpt, scheme, memory);
        status = st == OCT_OK ? EXIT_CLEAN : cli_fail(EXIT_MODEL, "%s", err.text);
    }
    oct_scheme_close(scheme);
    opened_close(&m);
    return status;
}

const cli_command inspect_command = {
    .name = "inspect",
    .summary = "what a checkpoint holds and what serving it costs",
    .usage = "MODEL",
    .examples = "  octet inspect model-w8a8c8\n  octet inspect model.gguf --memory 24g",
    .run = inspect_run,
};
