/*
 * store/checkpoint_names.c - the spellings in which writers name the same tensor.
 *
 * The model asks for one spelling; a file may have another:
 *   - a wrapper around the text model: model.language_model.layers.0... for model.layers.0...;
 *   - the block of experts: block_sparse_moe or mlp, and w1, w3, w2 or gate_proj, up_proj,
 *     down_proj, in any combination (Mixtral files of different tools have three of the four);
 *   - all experts of a layer stacked in one tensor [experts, rows, columns]: such a tensor is taken
 *     apart when the folder is opened, so that everybody else sees one expert at a time.
 * Lists in a quantisation config are matched against the names as the file has them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "store/checkpoint_parts.h"

enum { MAX_STACKED_NAME = 512 };

/* ---- wrappers -------------------------------------------------------------------------------- */

const char *const oct_checkpoint_heads[OCT_CHECKPOINT_N_HEADS] = {
    "model.language_model.", "language_model.model.", "language_model.", "model."};
static const char embed[] = "embed_tokens.weight";

void oct_checkpoint_find_wrapper(oct_checkpoint *c) {
    char name[128];
    c->wrapper = NULL;
    if (oct_tensor_table_find(&c->table, OCT_STR("model.embed_tokens.weight"))) return;
    for (size_t i = 0; i < OCT_COUNT(oct_checkpoint_heads) && !c->wrapper; i++) {
        snprintf(name, sizeof name, "%s%s", oct_checkpoint_heads[i], embed);
        if (oct_tensor_table_find(&c->table, oct_str_of(name)))
            c->wrapper = oct_checkpoint_heads[i];
    }
}

/* ---- spellings ------------------------------------------------------------------------------- */

typedef struct spelling {
    char text[OCT_CHECKPOINT_NAME];
    size_t len;
    bool fits;
} spelling;

static void put(spelling *s, const char *from, size_t n) {
    s->fits = s->fits && n < sizeof s->text - s->len;
    if (!s->fits) return;
    memcpy(s->text + s->len, from, n);
    s->len += n;
    s->text[s->len] = '\0';
}

static void puts_to(spelling *s, const char *from) { put(s, from, strlen(from)); }

static bool starts(const char *s, const char *head) { return strncmp(s, head, strlen(head)) == 0; }

static const oct_tensor *look(const oct_checkpoint *c, const spelling *s) {
    return s->fits ? oct_tensor_table_find(&c->table, (oct_str){s->text, s->len}) : NULL;
}

/* Begins a name in the file's wrapper; gives what of it is left to put. */
static const char *put_wrapper(spelling *s, const oct_checkpoint *c, const char *name) {
    if (!c->wrapper || !starts(name, "model.")) return name;
    puts_to(s, c->wrapper);
    return name + strlen("model.");
}

/* "experts.E.PROJECTION..." with the projection in the other spelling; false for something else. */
static bool put_expert(spelling *s, const char *rest, bool w) {
    static const char *const plain[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const numbered[] = {"w1", "w3", "w2"};
    const size_t digits = strspn(rest + 8, "0123456789");
    const char *p = rest + 8 + digits + 1;
    if (digits == 0 || rest[8 + digits] != '.') return false;
    put(s, rest, (size_t)(p - rest));
    for (size_t i = 0; i < OCT_COUNT(plain); i++) {
        const char *const both[] = {plain[i], numbered[i]};
        for (size_t k = 0; k < 2; k++) {
            const size_t n = strlen(both[k]);
            if (!starts(p, both[k]) || (p[n] != '\0' && p[n] != '.')) continue;
            puts_to(s, w ? numbered[i] : plain[i]);
            puts_to(s, p + n);
            return true;
        }
    }
    return false;
}

/* The name with this block of experts, and w1, w3, w2 for projections if w. */
static const oct_tensor *try_moe(const oct_checkpoint *c, const char *name, const char *block,
                                 bool w) {
    static const char *const blocks[] = {".mlp.", ".block_sparse_moe."};
    const char *at = NULL, *rest = NULL;
    spelling s = {.fits = true};
    for (size_t i = 0; i < OCT_COUNT(blocks) && !at; i++)
        if ((at = strstr(name, blocks[i]))) rest = at + strlen(blocks[i]);
    if (!at) return NULL;
    name = put_wrapper(&s, c, name);
    put(&s, name, (size_t)(at - name));
    puts_to(&s, block);
    if (!starts(rest, "experts."))
        puts_to(&s, rest);
    else if (!put_expert(&s, rest, w))
        return NULL;
    return look(c, &s);
}

/* The bias of sigmoid routing lies beside the router or inside it. */
static const oct_tensor *try_router_bias(const oct_checkpoint *c, const char *name) {
    static const char tail[] = ".e_score_correction_bias";
    static const char *const blocks[] = {".mlp.gate", ".mlp", ".block_sparse_moe.gate",
                                         ".block_sparse_moe"};
    const char *at = strstr(name, ".mlp.");
    if (!at) at = strstr(name, ".block_sparse_moe.");
    if (!at || !oct_str_ends(oct_str_of(name), OCT_STR(tail))) return NULL;
    for (size_t i = 0; i < OCT_COUNT(blocks); i++) {
        spelling s = {.fits = true};
        const char *from = put_wrapper(&s, c, name);
        put(&s, from, (size_t)(at - from));
        puts_to(&s, blocks[i]);
        puts_to(&s, tail);
        const oct_tensor *t = look(c, &s);
        if (t) return t;
    }
    return NULL;
}

/* "A.shared_head.B" for "A.B": the head of a layer that predicts further tokens. */
static const oct_tensor *try_shared_head(const oct_checkpoint *c, const char *name) {
    static const char part[] = "shared_head.";
    size_t dots = 0, at = strlen(name);
    spelling s = {.fits = true}, old = {.fits = true};
    const char *mark = strstr(name, part);
    if (mark) { /* an older spelling of the same */
        const bool head = starts(mark + sizeof part - 1, "head.");
        put(&old, name, (size_t)(mark - name));
        puts_to(&old, "transformer.shared_head.");
        puts_to(&old, head ? "output." : "");
        puts_to(&old, mark + sizeof part - 1 + (head ? strlen("head.") : 0));
        return look(c, &old);
    }
    while (at > 0 && dots < 2) dots += name[--at] == '.';
    if (dots < 2) return NULL;
    put(&s, name, at + 1);
    puts_to(&s, part);
    puts_to(&s, name + at + 1);
    return look(c, &s);
}

static const oct_tensor *try_wrapper(const oct_checkpoint *c, const char *name) {
    spelling s = {.fits = true};
    if (!c->wrapper) return NULL;
    if (starts(name, "lm_head."))
        puts_to(&s, "language_model.");
    else if (!starts(name, "model."))
        return NULL;
    puts_to(&s, put_wrapper(&s, c, name));
    return look(c, &s);
}

const oct_tensor *oct_checkpoint_find(const oct_checkpoint *c, const char *name) {
    const oct_tensor *t = oct_tensor_table_find(&c->table, oct_str_of(name));
    if (t || c->gguf) return t;
    t = try_wrapper(c, name);
    if (!t) t = try_moe(c, name, ".mlp.", false);
    if (!t) t = try_moe(c, name, ".block_sparse_moe.", false);
    if (!t) t = try_moe(c, name, ".block_sparse_moe.", true);
    if (!t) t = try_moe(c, name, ".mlp.", true);
    if (!t) t = try_router_bias(c, name);
    if (!t) t = try_shared_head(c, name);
    return t;
}

/* ---- stacked experts ------------------------------------------------------------------------- */

typedef struct stack {
    size_t head;        /* characters up to ".experts." and behind it */
    const char *proj;   /* "gate_up_proj" */
    const char *tail;   /* ".weight", ".weight_scale", ... as one expert has it */
    uint32_t rank_left; /* dimensions of one expert */
} stack;

/* Whether a tensor holds all experts of a layer. */
static bool is_stacked(const oct_tensor *t, stack *out) {
    static const char *const projections[] = {"gate_up_proj", "gate_proj", "up_proj", "down_proj"};
    static const struct {
        const char *is, *becomes;
        uint32_t min_rank, max_rank;
    } tails[] = {{"", ".weight", 3, 3},
                 {".weight", ".weight", 3, 3},
                 {".weight_scale", ".weight_scale", 1, 3},
                 {"_weight_scale", ".weight_scale", 1, 3},
                 {"_scale", ".weight_scale", 1, 3},
                 {".weight_zero_point", ".weight_zero_point", 1, 3},
                 {".weight_offset", ".weight_offset", 1, 3}};
    const char *at = strstr(t->name.ptr, ".experts.");
    if (!at || t->name.len > MAX_STACKED_NAME || t->bytes == 0) return false;
    at += strlen(".experts.");
    for (size_t p = 0; p < OCT_COUNT(projections); p++) {
        if (!starts(at, projections[p])) continue;
        for (size_t k = 0; k < OCT_COUNT(tails); k++) {
            if (strcmp(at + strlen(projections[p]), tails[k].is) != 0) continue;
            if (t->rank < tails[k].min_rank || t->rank > tails[k].max_rank) return false;
            *out =
                (stack){(size_t)(at - t->name.ptr), projections[p], tails[k].becomes, t->rank - 1};
            return true;
        }
    }
    return false;
}

/* One expert's part: `rows` of the rows of each expert, from row `first`. */
static oct_status add_view(oct_checkpoint *c, const oct_tensor *t, const stack *s, uint64_t expert,
                           const char *proj, uint64_t first, uint64_t rows, oct_err *err) {
    char name[MAX_STACKED_NAME + 64];
    const int n = snprintf(name, sizeof name, "%.*s%" PRIu64 ".%s%s", (int)s->head, t->name.ptr,
                           expert, proj, s->tail);
    const uint64_t expert_bytes = t->bytes / t->shape[0];
    oct_tensor v = {.dtype = t->dtype, .rank = s->rank_left, .file = t->file, .offset = t->offset};
    for (uint32_t d = 0; d < s->rank_left; d++) v.shape[d] = t->shape[d + 1];
    v.offset += expert * expert_bytes;
    if (s->rank_left > 0) {
        v.offset += expert_bytes / t->shape[1] * first;
        v.shape[0] = rows;
    }
    v.name = (oct_str){oct_arena_strndup(&c->arena, name, (size_t)n), (size_t)n};
    oct_tensor_measure_part(&v);
    if (!v.name.ptr || !oct_tensor_table_add(&c->table, &v))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    return OCT_OK;
}

static oct_status split(oct_checkpoint *c, const oct_tensor *t, const stack *s, oct_err *err) {
    const bool both = strcmp(s->proj, "gate_up_proj") == 0;
    const uint64_t rows = s->rank_left ? t->shape[1] : 1;
    const uint64_t half = both && s->rank_left ? rows / 2 : rows;
    if (s->rank_left == 2 && strcmp(s->tail, ".weight") == 0) {
        const bool down = strcmp(s->proj, "down_proj") == 0;
        const uint64_t width = c->config.hidden, at = down ? t->shape[1] : t->shape[2];
        if (at != width)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s: experts are stacked in an order that is not supported (got "
                            "[%" PRIu64 ", %" PRIu64 ", %" PRIu64 "], want %u %s)",
                            t->name.ptr, t->shape[0], t->shape[1], t->shape[2], c->config.hidden,
                            down ? "in the middle" : "last");
    }
    if (both && s->rank_left && rows % 2 != 0)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: gate and up rows are not alike (got %" PRIu64 ")",
                        t->name.ptr, rows);
    for (uint64_t e = 0; e < t->shape[0]; e++) {
        OCT_TRY(add_view(c, t, s, e, both ? "gate_proj" : s->proj, 0, half, err));
        if (both) OCT_TRY(add_view(c, t, s, e, "up_proj", s->rank_left ? half : 0, half, err));
    }
    return OCT_OK;
}

/* There are no more parts than bytes in the file: a stacked tensor has no empty dimension. */
oct_status oct_checkpoint_split_experts(oct_checkpoint *c, oct_err *err) {
    const size_t n = c->table.n;
    const oct_tensor *twice;
    size_t kept = 0, n_stacked = 0;
    stack s;
    for (size_t i = 0; i < n; i++) n_stacked += is_stacked(&c->table.v[i], &s);
    if (n_stacked == 0) return OCT_OK;
    oct_tensor_table_unindex(&c->table);
    for (size_t i = 0; i < n; i++) {
        const oct_tensor t = c->table.v[i]; /* the array moves when it grows */
        if (is_stacked(&t, &s)) OCT_TRY(split(c, &t, &s, err));
    }
    for (size_t i = 0; i < c->table.n; i++)
        if (i >= n || !is_stacked(&c->table.v[i], &s)) c->table.v[kept++] = c->table.v[i];
    c->table.n = kept;
    if (!oct_tensor_table_index(&c->table, &twice))
        return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
    return twice ? OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: tensor %.128s is there twice, alone and among stacked experts",
                            c->path, twice->name.ptr)
                 : OCT_OK;
}
