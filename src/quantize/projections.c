/* quantize/projections.c - names come from the family's table, tensors from the file. */
#include "quantize/projections.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/arch.h"

enum { NAME = 256 };

static oct_status no_memory(oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "quantize: no memory");
}

oct_status oct_projection_misfit(const oct_allocator *mem, const oct_tensor *t, uint64_t n,
                                 uint64_t k, oct_err *err) {
    oct_buf text;
    oct_buf_init(&text, mem, 0);
    oct_tensor_describe(t, &text);
    oct_buf_printf(&text, ", want float [%" PRIu64, n);
    if (k) oct_buf_printf(&text, ", %" PRIu64, k);
    const oct_status st =
        OCT_FAIL(err, OCT_E_CORRUPT, "tensor %s: got %s]", t->name.ptr, oct_buf_cs(&text));
    oct_buf_fini(&text);
    return st;
}

static oct_status add(oct_projection_list *l, const oct_checkpoint *ckpt, const char *name,
                      oct_projection p, oct_err *err) {
    char full[NAME];
    snprintf(full, sizeof full, "%s.weight", name);
    p.weight = oct_checkpoint_find(ckpt, full);
    if (!p.weight) return OCT_FAIL(err, OCT_E_CORRUPT, "tensor %s: missing", full);
    if (!oct_tensor_has_shape(p.weight, 2, (const uint64_t[]){p.n, p.k}) ||
        !oct_dtype_is_real(p.weight->dtype))
        return oct_projection_misfit(l->mem, p.weight, p.n, p.k, err);
    snprintf(full, sizeof full, "%s.bias", name);
    p.bias = oct_checkpoint_find(ckpt, full);
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        oct_projection *v = oct_grow(l->mem, l->v, l->cap, cap, sizeof *v);
        if (!v) return no_memory(err);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = p;
    return OCT_OK;
}

static oct_status add_group(oct_projection_list *l, const oct_checkpoint *ckpt, uint32_t layer,
                            int first, int in, uint32_t n,
                            const oct_arch_projection group[OCT_ARCH_MAX_GROUP], oct_err *err) {
    char name[NAME];
    for (uint32_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s", layer, group[i].suffix);
        OCT_TRY(add(
            l, ckpt, name,
            (oct_projection){
                .layer = layer, .p = first + (int)i, .in = in, .n = group[i].n, .k = group[i].k},
            err));
    }
    return OCT_OK;
}

static oct_status add_experts(oct_projection_list *l, const oct_checkpoint *ckpt, uint32_t layer,
                              oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    static const int places[OCT_ARCH_N_EXPERT] = {OCT_P_GATE, OCT_P_UP, OCT_P_DOWN};
    const oct_arch *arch = oct_arch_of(c->family);
    oct_arch_projection parts[OCT_ARCH_N_EXPERT];
    char name[NAME];
    oct_arch_expert(c, parts);
    for (uint32_t e = 0; e < c->n_experts; e++)
        for (size_t i = 0; i < OCT_COUNT(parts); i++) {
            snprintf(name, sizeof name, "model.layers.%u.%s.experts.%u.%s", layer, arch->moe, e,
                     parts[i].suffix);
            OCT_TRY(add(l, ckpt, name,
                        (oct_projection){.layer = layer,
                                         .p = places[i],
                                         .in = -1,
                                         .is_expert = true,
                                         .n = parts[i].n,
                                         .k = parts[i].k},
                        err));
        }
    return OCT_OK;
}

static oct_status add_layer(oct_projection_list *l, const oct_checkpoint *ckpt, uint32_t layer,
                            oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    const bool moe = c->layer_is_moe[layer];
    oct_arch_projection group[OCT_ARCH_MAX_GROUP];
    uint32_t n = oct_arch_qkv(c, group);
    OCT_TRY(add_group(l, ckpt, layer, OCT_P_Q, OCT_IN_QKV, n, group, err));
    n = oct_arch_o(c, group);
    OCT_TRY(add_group(l, ckpt, layer, OCT_P_O, OCT_IN_O, n, group, err));
    if (moe) OCT_TRY(add_experts(l, ckpt, layer, err));
    n = oct_arch_gate_up(c, layer, group); /* of a layer with experts: the shared one's */
    OCT_TRY(add_group(l, ckpt, layer, OCT_P_GATE, moe ? -1 : OCT_IN_MLP, n, group, err));
    n = oct_arch_down(c, layer, group);
    return add_group(l, ckpt, layer, OCT_P_DOWN, moe ? -1 : OCT_IN_DOWN, n, group, err);
}

static int by_address(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t) * (const oct_tensor *const *)a,
                    y = (uintptr_t) * (const oct_tensor *const *)b;
    return (x > y) - (x < y);
}

oct_status oct_projections_find(oct_projection_list *l, const oct_allocator *mem,
                                const oct_checkpoint *ckpt, oct_err *err) {
    const uint32_t n_layers = oct_checkpoint_config(ckpt)->n_layers;
    *l = (oct_projection_list){.mem = mem, .n_layers = n_layers};
    l->first = oct_calloc(mem, (size_t)n_layers + 1, sizeof *l->first);
    if (!l->first) return no_memory(err);
    for (uint32_t i = 0; i < n_layers; i++) {
        l->first[i] = l->n;
        OCT_TRY(add_layer(l, ckpt, i, err));
    }
    l->first[n_layers] = l->n;
    l->owned = oct_calloc(mem, 2 * l->n, sizeof *l->owned);
    if (!l->owned) return no_memory(err);
    for (size_t i = 0; i < l->n; i++) {
        l->owned[l->n_owned++] = l->v[i].weight;
        if (l->v[i].bias) l->owned[l->n_owned++] = l->v[i].bias;
    }
    qsort(l->owned, l->n_owned, sizeof *l->owned, by_address);
    return OCT_OK;
}

void oct_projections_fini(oct_projection_list *l) {
    if (!l->mem) return;
    oct_free(l->mem, l->owned, 2 * l->n, sizeof *l->owned);
    oct_free(l->mem, l->first, (size_t)l->n_layers + 1, sizeof *l->first);
    oct_free(l->mem, l->v, l->cap, sizeof *l->v);
    *l = (oct_projection_list){0};
}

bool oct_projections_own(const oct_projection_list *l, const oct_tensor *t) {
    return l->n_owned && bsearch(&t, l->owned, l->n_owned, sizeof *l->owned, by_address) != NULL;
}
