/*
 * model/survey.c - see survey.h.
 *
 * Asks for everything that binding asks for, by the outline of the family, but keeps only labels
 * and sizes. A refusal is noted and the walk goes on, so that one bad tensor does not hide the
 * rest.
 */
#include "model/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/bind_parts.h"
#include "model/outline.h"

typedef struct surveyor {
    oct_survey *s;
    oct_model *m;  /* options and layers for the rules of binding; nothing is loaded into it */
    oct_binder *b; /* scheme NULL: none could be had */
} surveyor;

static const char refused_label[] = "?";

void oct_survey_refuse(oct_survey *s, oct_status status, const char *text) {
    if (status == OCT_E_NOMEM) {
        s->no_memory = true;
        return;
    }
    const size_t at = s->n_refused++;
    if (at >= OCT_SURVEY_REFUSALS) return;
    const char *copy = oct_arena_strndup(&s->arena, text, strlen(text));
    s->refused[at].status = status;
    s->refused[at].text = copy ? copy : "";
    s->no_memory |= !copy;
}

/* ---- one item -------------------------------------------------------------------------------- */

/* What people see of an item: its name in the layer, experts as one. */
static const char *part_name(oct_survey *s, const oct_outline_item *item) {
    const char *at = item->name, *experts;
    char name[OCT_BIND_NAME];
    if (strncmp(at, "model.layers.", 13) == 0) at = strchr(at + 13, '.') + 1;
    if (item->kind == OCT_OUTLINE_EMBED) at += strlen("model.");
    experts = item->kind == OCT_OUTLINE_EXPERT ? strstr(at, ".experts.") : NULL;
    if (!experts)
        snprintf(name, sizeof name, "%s", at);
    else
        snprintf(name, sizeof name, "%.*s.experts.*%s", (int)(experts - at), at,
                 strchr(experts + strlen(".experts."), '.'));
    const char *copy = oct_arena_strndup(&s->arena, name, strlen(name));
    s->no_memory |= !copy;
    return copy ? copy : "";
}

/* Float storage is told by its type. */
static const char *label_of(const oct_linear_source *src) {
    if (src->kind == OCT_LINEAR_ABSENT) return refused_label;
    return src->kind == OCT_LINEAR_FLOAT ? oct_dtype_name(src->weight->dtype) : src->label;
}

static uint64_t bytes_on_device(const surveyor *v, uint32_t dtype, uint64_t n, uint64_t k,
                                uint32_t n_experts) {
    const octet_weight_desc desc = {
        .struct_bytes = sizeof desc, .dtype = dtype, .n = n, .k = k, .n_experts = n_experts};
    return v->m->device->ops->weight_bytes(v->m->device->dev, &desc);
}

/* How the projection is stored; status and sentence when it cannot be read. */
static oct_status look_up(const surveyor *v, const oct_outline_item *item, oct_linear_source *src,
                          oct_err *err) {
    char name[OCT_BIND_NAME];
    *src = (oct_linear_source){0};
    snprintf(name, sizeof name, "%s.weight", item->name);
    if (v->b->scheme && item->kind != OCT_OUTLINE_EMBED)
        return oct_scheme_linear(v->b->scheme, &v->b->arena, item->name, item->n, item->k,
                                 item->bias, src, err);
    const uint64_t shape[2] = {item->n, item->k};
    src->weight = v->b->scheme ? oct_checkpoint_need(v->b->ckpt, name, 2, shape)
                               : oct_checkpoint_find(v->b->ckpt, name);
    src->kind = src->weight ? OCT_LINEAR_FLOAT : OCT_LINEAR_ABSENT;
    return OCT_OK;
}

/* Routers and the embedding stay as they are whatever -q says. */
static uint32_t storage_of(const surveyor *v, const oct_outline_item *item,
                           const oct_linear_source *src) {
    const bool stays = item->kind == OCT_OUTLINE_ROUTER || item->kind == OCT_OUTLINE_EMBED;
    uint32_t act;
    return oct_bind_storage(v->b, src, stays ? OCT_BIND_AS_STORED : OCT_BIND_AS_WISHED, &act);
}

static void take_matrix(const surveyor *v, const oct_outline_item *item, oct_survey_layer *layer) {
    const bool expert = item->kind == OCT_OUTLINE_EXPERT;
    const oct_model_config *c = &v->m->config;
    oct_linear_source src;
    oct_err why = {0};
    const oct_status st = look_up(v, item, &src, &why);
    if (st != OCT_OK) {
        oct_survey_refuse(v->s, st, why.text);
        src.kind = OCT_LINEAR_ABSENT;
    }
    const uint64_t n_parameters = item->n * item->k + (item->bias ? item->n : 0);
    layer->n_parameters += n_parameters;
    if (!expert || item->expert < c->n_experts_used) v->s->n_active += n_parameters;
    if (expert && item->expert > 0) return; /* like the first, or refused when loaded */

    if (layer->n_parts < OCT_SURVEY_PARTS)
        layer->part[layer->n_parts++] = (oct_survey_part){part_name(v->s, item), label_of(&src)};
    if (src.kind == OCT_LINEAR_ABSENT || !v->b->scheme) return;
    const uint32_t dtype = storage_of(v, item, &src);
    layer->device_bytes += bytes_on_device(v, dtype, item->n, item->k, expert ? c->n_experts : 0);
    /* A tied head that is quantised on load is a matrix of its own. */
    if (item->kind == OCT_OUTLINE_EMBED && !v->s->own_head && v->m->options.quant == OCT_QUANT_INT8)
        layer->device_bytes += bytes_on_device(v, OCTET_I8, item->n, item->k, 0);
}

static void take_vector(const surveyor *v, const oct_outline_item *item, oct_survey_layer *layer) {
    const char *tails[] = {item->kind == OCT_OUTLINE_NORM ? ".weight" : "", ".bias"};
    const float *values;
    char name[OCT_BIND_NAME];
    oct_err why = {0};
    layer->n_parameters += item->n;
    v->s->n_active += item->n;
    for (size_t i = 0; i < (item->kind == OCT_OUTLINE_NORM ? 2u : 1u); i++) {
        snprintf(name, sizeof name, "%s%s", item->name, tails[i]);
        const oct_status st =
            oct_checkpoint_vector(v->b->ckpt, &v->b->arena, name, item->n, i == 1, &values, &why);
        if (st != OCT_OK) {
            oct_survey_refuse(v->s, st, why.text);
            return;
        }
    }
}

static oct_status take(void *ctx, const oct_outline_item *item, oct_err *err) {
    const surveyor *v = ctx;
    oct_survey_layer *layer = &v->s->layers[item->layer];
    (void)err;
    layer->has_experts |= item->kind == OCT_OUTLINE_EXPERT;
    if (item->k)
        take_matrix(v, item, layer);
    else
        take_vector(v, item, layer);
    oct_arena_reset(&v->b->arena);
    return OCT_OK;
}

static void take_cache(const surveyor *v, uint32_t l) {
    oct_survey_layer *layer = &v->s->layers[l];
    octet_kv_desc *kv = &v->m->layers[l].kv;
    char prefix[64];
    oct_err why = {0};
    layer->kv = "";
    if (!v->b->scheme) return;
    snprintf(prefix, sizeof prefix, "model.layers.%u.", l);
    const oct_status st = oct_bind_kv(v->b, l, prefix, &v->m->layers[l], &why);
    oct_arena_reset(&v->b->arena);
    if (st != OCT_OK) {
        oct_survey_refuse(v->s, st, why.text);
        return;
    }
    layer->kv = oct_kv_kind_name(kv->kind);
    layer->kv_block_bytes = kv->block_bytes;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The layer that a tensor belongs to by its name; n_layers for none. */
static uint32_t layer_of(const oct_tensor *t, uint32_t n_layers) {
    const char *at = strstr(t->name.ptr, "layers.");
    uint64_t l;
    if (!at || (at != t->name.ptr && at[-1] != '.')) return n_layers;
    at += strlen("layers.");
    const oct_str digits = {at, strspn(at, "0123456789")};
    return oct_parse_u64(digits, &l) && l < n_layers ? (uint32_t)l : n_layers;
}

static void add_up(oct_survey *s, const oct_checkpoint *ckpt) {
    for (size_t i = 0; i < oct_checkpoint_n_tensors(ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(ckpt, i);
        s->layers[layer_of(t, s->n_layers)].stored_bytes += t->bytes;
    }
    for (uint32_t l = 0; l <= s->n_layers; l++) {
        s->n_parameters += s->layers[l].n_parameters;
        s->stored_bytes += s->layers[l].stored_bytes;
        s->device_bytes += s->layers[l].device_bytes;
        s->kv_block_bytes += s->layers[l].kv_block_bytes;
    }
}

static void take_unused(oct_survey *s, const oct_checkpoint *ckpt) {
    oct_buf names;
    oct_buf_init(&names, s->mem, 4096);
    s->n_unused = oct_checkpoint_unused(ckpt, &names);
    s->unused = oct_arena_strndup(&s->arena, oct_buf_cs(&names), names.len);
    s->no_memory |= !s->unused;
    oct_buf_fini(&names);
}

static oct_status walk(surveyor *v, oct_err *err) {
    oct_survey *s = v->s;
    const oct_model_config *c = &v->m->config;
    oct_checkpoint *ckpt = v->b->ckpt;
    const oct_model_options *o = &v->m->options;
    oct_err why = {0};
    s->own_head = oct_bind_own_head(v->b);
    OCT_TRY(oct_kv_skip_parse(o->kv_skip_layers, c, v->b->kv_skip, err));
    oct_status st = oct_bind_open_scheme(v->b, &why);
    if (st == OCT_E_NOMEM) return OCT_FAIL(err, st, "%s", why.text);
    if (st != OCT_OK) oct_survey_refuse(s, st, why.text);
    s->scheme = st == OCT_OK ? oct_scheme_name(v->b->scheme) : "refused";
    if (c->n_experts && !oct_device_has_experts(v->m->device))
        oct_survey_refuse(s, OCT_E_UNSUPPORTED, "the device has no operations for experts");

    for (uint32_t l = 0; l < c->n_layers; l++) {
        OCT_TRY(oct_outline_layer(c, l, take, v, err));
        take_cache(v, l);
    }
    OCT_TRY(oct_outline_ends(c, s->own_head, take, v, err));
    s->layers[c->n_layers].kv = "";
    why = (oct_err){0};
    st = v->b->scheme ? oct_checkpoint_check_needs(ckpt, &why) : OCT_OK;
    if (st == OCT_OK && v->b->scheme && o->strict) st = oct_scheme_check_unused(v->b->scheme, &why);
    if (st != OCT_OK) oct_survey_refuse(s, st, why.text);
    add_up(s, ckpt);
    if (v->b->scheme) take_unused(s, ckpt); /* else nobody asked for anything */
    return OCT_OK;
}

oct_status oct_survey_create(const oct_allocator *mem, oct_device *device, oct_checkpoint *ckpt,
                             const oct_model_options *options, oct_survey **out, oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    oct_survey *s = oct_calloc(mem, 1, sizeof *s);
    oct_model *m = oct_calloc(mem, 1, sizeof *m);
    oct_binder b = {.m = m, .ckpt = ckpt};
    oct_status st = OCT_OK;
    *out = NULL;
    if (s) {
        *s = (oct_survey){.mem = mem, .n_layers = c->n_layers, .scheme = "", .unused = ""};
        oct_arena_init(&s->arena, mem, 0);
        s->block_tokens = options->block_tokens ? options->block_tokens : OCT_MODEL_BLOCK_TOKENS;
        s->layers = oct_calloc(mem, c->n_layers + 1, sizeof *s->layers);
    }
    if (m) {
        m->mem = mem;
        m->device = device;
        m->config = *c;
        m->options = *options;
        m->arch = oct_arch_of(c->family);
        m->info.block_tokens = s ? s->block_tokens : 0;
        m->layers = oct_calloc(mem, c->n_layers, sizeof *m->layers);
    }
    oct_arena_init(&b.arena, mem, 0);
    if (!s || !m || !s->layers || !m->layers)
        st = OCT_FAIL(err, OCT_E_NOMEM, "survey: no memory");
    else
        st = walk(&(surveyor){s, m, &b}, err);
    if (st == OCT_OK && s->no_memory) st = OCT_FAIL(err, OCT_E_NOMEM, "survey: no memory");
    oct_scheme_close(b.scheme);
    oct_arena_fini(&b.arena);
    if (m) {
        oct_free(mem, m->staged, m->staged_cap, 1);
        oct_free(mem, m->layers, c->n_layers, sizeof *m->layers);
        oct_free(mem, m, 1, sizeof *m);
    }
    if (st == OCT_OK)
        *out = s;
    else
        oct_survey_destroy(s);
    return st;
}

void oct_survey_destroy(oct_survey *s) {
    if (!s) return;
    oct_arena_fini(&s->arena);
    if (s->layers) oct_free(s->mem, s->layers, s->n_layers + 1, sizeof *s->layers);
    oct_free(s->mem, s, 1, sizeof *s);
}

/* ---- for people ------------------------------------------------------------------------------ */

/* Routers and the like, which are float in every scheme. */
static bool goes_without_saying(const oct_survey_part *p) {
    const size_t n = strlen(p->name);
    return (n > 5 && strcmp(p->name + n - 5, ".gate") == 0) ||
           strcmp(p->name, "mlp.shared_expert_gate") == 0;
}

void oct_survey_layer_text(const oct_survey_layer *layer, char *out, size_t size) {
    const char *most = NULL;
    uint32_t most_n = 0;
    size_t used;
    for (uint32_t i = 0; i < layer->n_parts; i++) {
        uint32_t n = 0;
        if (goes_without_saying(&layer->part[i])) continue;
        for (uint32_t k = 0; k < layer->n_parts; k++)
            n += !goes_without_saying(&layer->part[k]) &&
                 strcmp(layer->part[i].label, layer->part[k].label) == 0;
        if (n > most_n) most = layer->part[i].label, most_n = n;
    }
    used = (size_t)snprintf(out, size, "%s", most ? most : "");
    for (uint32_t i = 0; most && i < layer->n_parts && used < size; i++)
        if (!goes_without_saying(&layer->part[i]) && strcmp(layer->part[i].label, most) != 0)
            used += (size_t)snprintf(out + used, size - used, ", %s %s", layer->part[i].name,
                                     layer->part[i].label);
}

bool oct_survey_layer_alike(const oct_survey_layer *a, const oct_survey_layer *b) {
    if (a->n_parts != b->n_parts || strcmp(a->kv, b->kv) != 0) return false;
    for (uint32_t i = 0; i < a->n_parts; i++)
        if (strcmp(a->part[i].name, b->part[i].name) != 0 ||
            strcmp(a->part[i].label, b->part[i].label) != 0)
            return false;
    return true;
}

oct_survey_room oct_survey_fit(const oct_survey *s, uint64_t memory_bytes, uint64_t seq_tokens) {
    oct_survey_room room = {.weights_fit = memory_bytes >= s->device_bytes};
    if (!room.weights_fit || s->kv_block_bytes == 0) return room;
    const uint64_t blocks = (memory_bytes - s->device_bytes) / s->kv_block_bytes;
    room.tokens = blocks * s->block_tokens;
    if (seq_tokens) room.sequences = blocks / ((seq_tokens - 1) / s->block_tokens + 1);
    return room;
}
