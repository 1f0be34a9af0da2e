/* apps/inspect/report.c - one model: for people, and as JSON. */
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "inspect.h"

enum { TEXT = 512 };

typedef struct group {
    uint32_t first, last;
    uint64_t stored_bytes, device_bytes, kv_block_bytes;
} group;

/* The run of layers that are stored like layer `first`. */
static group group_from(const oct_survey *s, uint32_t first) {
    group g = {.first = first, .last = first};
    for (uint32_t l = first; l < s->n_layers; l++) {
        const oct_survey_layer *layer = &s->layers[l];
        if (!oct_survey_layer_alike(&s->layers[first], layer)) break;
        g.last = l;
        g.stored_bytes += layer->stored_bytes;
        g.device_bytes += layer->device_bytes;
        g.kv_block_bytes += layer->kv_block_bytes;
    }
    return g;
}

static uint64_t kv_bytes(const oct_survey *s) { return s->kv_block_bytes / s->block_tokens; }

/* Tokens of a sequence that the memory is asked for. */
static uint32_t context_of(const inspected *x, const inspect_options *o) {
    const uint32_t most = oct_checkpoint_config(x->m.ckpt)->max_position;
    return o->open.max_model_len ? (uint32_t)o->open.max_model_len : most;
}

/* ---- text ------------------------------------------------------------------------------------ */

static const char *in_bytes(uint64_t bytes, char out[32]) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}};
    for (size_t i = 0; i < OCT_COUNT(units); i++)
        if ((double)bytes >= units[i].unit) {
            snprintf(out, 32, "%.2f %s", (double)bytes / units[i].unit, units[i].name);
            return out;
        }
    snprintf(out, 32, "%llu bytes", (unsigned long long)bytes);
    return out;
}

static void print_head(const inspected *x) {
    const oct_model_config *c = oct_checkpoint_config(x->m.ckpt);
    const oct_survey *s = x->survey;
    char stored[32], device[32];
    printf("%s\n", x->path);
    printf(
        "  family %s, scheme %s: %u layers, hidden %u, %u heads of %u (%u KV), intermediate %u\n",
        oct_family_name(c->family), s->scheme, c->n_layers, c->hidden, c->n_heads, c->head_dim,
        c->n_kv_heads, c->intermediate);
    if (c->n_experts) {
        printf("  %u experts of %u, %u a token", c->n_experts, c->moe_intermediate,
               c->n_experts_used);
        if (c->shared_intermediate) printf(", a shared one of %u", c->shared_intermediate);
        printf("\n");
    }
    printf("  vocabulary %u, context %u tokens, %s embeddings\n", c->vocab, c->max_position,
           s->own_head ? "separate" : "tied");
    printf("  %.1f million parameters", (double)s->n_parameters / 1e6);
    if (c->n_experts) printf(", %.1f million a token", (double)s->n_active / 1e6);
    if (x->why_shape_only != OCT_OK) {
        printf("\n");
        return;
    }
    printf("; %zu tensors, %s as stored, %s on %s\n", oct_checkpoint_n_tensors(x->m.ckpt),
           in_bytes(s->stored_bytes, stored), in_bytes(s->device_bytes, device),
           x->m.device->info.name);
}

static void print_layers(const oct_survey *s) {
    char text[TEXT], bytes[32];
    for (uint32_t l = 0; l < s->n_layers;) {
        const group g = group_from(s, l);
        oct_survey_layer_text(&s->layers[l], text, sizeof text);
        if (g.first == g.last)
            printf("  layer %u: ", g.first);
        else
            printf("  layers %u-%u: ", g.first, g.last);
        printf("%s; KV %s; %s\n", text, s->layers[l].kv[0] ? s->layers[l].kv : "refused",
               in_bytes(g.stored_bytes, bytes));
        l = g.last + 1;
    }
    const oct_survey_layer *ends = &s->layers[s->n_layers];
    printf("  ");
    for (uint32_t i = 0; i < ends->n_parts; i++)
        printf("%s%s %s", i ? ", " : "", ends->part[i].name, ends->part[i].label);
    printf("; %s\n", in_bytes(ends->stored_bytes, bytes));
}

static void print_costs(const inspected *x, const inspect_options *o) {
    const oct_survey *s = x->survey;
    const uint32_t context = context_of(x, o);
    char all[32], given[32], weights[32];
    if (s->kv_block_bytes)
        printf("  KV cache: %llu bytes a token; %s for %u tokens\n",
               (unsigned long long)kv_bytes(s), in_bytes(kv_bytes(s) * context, all), context);
    if (!o->memory) return;
    const oct_survey_room room = oct_survey_fit(s, o->memory, context);
    printf("  in %s: ", in_bytes(o->memory, given));
    if (!room.weights_fit)
        printf("the weights do not fit (%s)\n", in_bytes(s->device_bytes, weights));
    else
        printf("the weights and %llu tokens of cache: %llu sequences of %u tokens\n",
               (unsigned long long)room.tokens, (unsigned long long)room.sequences, context);
}

void inspect_print(const inspected *x, const inspect_options *o) {
    const oct_survey *s = x->survey;
    const bool whole = x->why_shape_only == OCT_OK;
    print_head(x);
    if (whole) print_layers(s);
    if (whole) print_costs(x, o);
    if (s->n_unused) printf("  %zu tensors are not used: %s\n", s->n_unused, s->unused);
    for (size_t i = 0; i < s->n_refused && i < OCT_SURVEY_REFUSALS; i++)
        printf("  refused: %s\n", s->refused[i].text);
    if (s->n_refused > OCT_SURVEY_REFUSALS)
        printf("  refused: %zu more\n", s->n_refused - OCT_SURVEY_REFUSALS);
    if (!o->tensors || !whole) return;
    printf("\n");
    inspect_print_tensors(x->m.ckpt);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void set_int(json_t **obj, const char *key, uint64_t v) {
    oct_json_put(obj, key, json_integer((json_int_t)v));
}
static void set_str(json_t **obj, const char *key, const char *v) {
    oct_json_put(obj, key, inspect_text(v));
}

static json_t *parts_to_json(const oct_survey_layer *layer) {
    json_t *obj = json_object();
    for (uint32_t i = 0; i < layer->n_parts; i++)
        set_str(&obj, layer->part[i].name, layer->part[i].label);
    return obj;
}

static json_t *group_to_json(const oct_survey *s, const group *g) {
    const oct_survey_layer *layer = &s->layers[g->first];
    char text[TEXT];
    json_t *obj = json_object();
    oct_survey_layer_text(layer, text, sizeof text);
    set_int(&obj, "first", g->first);
    set_int(&obj, "last", g->last);
    set_str(&obj, "scheme", text);
    set_str(&obj, "kv", layer->kv);
    oct_json_put(&obj, "experts", json_boolean(layer->has_experts));
    oct_json_put(&obj, "projections", parts_to_json(layer));
    set_int(&obj, "stored_bytes", g->stored_bytes);
    set_int(&obj, "device_bytes", g->device_bytes);
    set_int(&obj, "kv_bytes_per_token", g->kv_block_bytes / s->block_tokens);
    return obj;
}

static json_t *groups_to_json(const oct_survey *s) {
    json_t *list = json_array();
    for (uint32_t l = 0; l < s->n_layers;) {
        const group g = group_from(s, l);
        oct_json_push(&list, group_to_json(s, &g));
        l = g.last + 1;
    }
    return list;
}

static json_t *ends_to_json(const oct_survey *s) {
    const oct_survey_layer *ends = &s->layers[s->n_layers];
    json_t *obj = json_object();
    oct_json_put(&obj, "projections", parts_to_json(ends));
    set_int(&obj, "stored_bytes", ends->stored_bytes);
    set_int(&obj, "device_bytes", ends->device_bytes);
    return obj;
}

static json_t *memory_to_json(const inspected *x, const inspect_options *o) {
    const uint32_t context = context_of(x, o);
    const oct_survey_room room = oct_survey_fit(x->survey, o->memory, context);
    json_t *obj = json_object();
    set_int(&obj, "bytes", o->memory);
    oct_json_put(&obj, "weights_fit", json_boolean(room.weights_fit));
    set_int(&obj, "tokens", room.tokens);
    set_int(&obj, "sequences", room.sequences);
    set_int(&obj, "sequence_tokens", context);
    return obj;
}

static json_t *refused_to_json(const oct_survey *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_refused && i < OCT_SURVEY_REFUSALS; i++)
        oct_json_push(&list, json_pack("{s:s, s:s}", "kind", oct_status_name(s->refused[i].status),
                                       "reason", s->refused[i].text));
    return list;
}

static json_t *config_to_json(const oct_model_config *c) {
    json_t *obj = json_object(), *value;
    const char *name;
    for (size_t i = 0; inspect_field(c, i, &name, &value); i++) oct_json_put(&obj, name, value);
    return obj;
}

json_t *inspect_to_json(const inspected *x, const inspect_options *o) {
    const oct_survey *s = x->survey;
    const oct_model_config *c = oct_checkpoint_config(x->m.ckpt);
    const bool whole = x->why_shape_only == OCT_OK;
    json_t *obj = json_object();
    set_str(&obj, "model", x->path);
    set_str(&obj, "family", oct_family_name(c->family));
    set_str(&obj, "architecture", oct_family_architecture(c->family));
    set_str(&obj, "scheme", s->scheme);
    oct_json_put(&obj, "config", config_to_json(c));
    set_int(&obj, "parameters", s->n_parameters);
    set_int(&obj, "active_parameters", s->n_active);
    set_int(&obj, "tensors", whole ? oct_checkpoint_n_tensors(x->m.ckpt) : 0);
    set_int(&obj, "stored_bytes", whole ? s->stored_bytes : 0);
    set_str(&obj, "device", x->m.device->info.name);
    set_int(&obj, "device_bytes", whole ? s->device_bytes : 0);
    oct_json_put(&obj, "groups", whole ? groups_to_json(s) : json_array());
    oct_json_put(&obj, "ends", whole ? ends_to_json(s) : json_null());
    set_int(&obj, "kv_bytes_per_token", whole ? kv_bytes(s) : 0);
    set_int(&obj, "context_tokens", context_of(x, o));
    oct_json_put(&obj, "memory", o->memory && whole ? memory_to_json(x, o) : json_null());
    oct_json_put(&obj, "unused",
                 json_pack("{s:I, s:s}", "count", (json_int_t)s->n_unused, "names",
                           s->unused ? s->unused : ""));
    oct_json_put(&obj, "refused", refused_to_json(s));
    if (o->tensors && whole) oct_json_put(&obj, "tensor_list", inspect_tensors_to_json(x->m.ckpt));
    return obj;
}
