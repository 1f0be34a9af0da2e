/*
 * device/cpu/prefetch.c - while attention runs, threads that are done ask for the matrix behind it.
 *
 * Attention is cut into items that differ, so threads end at different times; who is early brings
 * the beginning of its own panels of the next product into its second-level cache instead of
 * waiting. Which product that is, is known from the step before: steps of a model are alike. A
 * wrong guess costs some reads and nothing else; results never depend on it.
 */
#include "device/cpu/cpu.h"

enum {
    LINE = 64,
    SHARE_BYTES = 512 << 10, /* of a thread: what fits beside the rows in a small second level */
};

void oct_cpu_prefetch_step(octet_device *dev) {
    dev->prefetch.at = 0;
    dev->prefetch.wanted = false;
}

void oct_cpu_prefetch_attention(octet_device *dev) {
    oct_cpu_prefetch *p = &dev->prefetch;
    p->panels = NULL;
    if (!p->on || p->at >= OCT_CPU_MAX_PREFETCH) return;
    const octet_weight handle = p->next[p->at++];
    const oct_cpu_weight *w = handle ? oct_cpu_weight_get(dev, handle) : NULL;
    p->wanted = true;
    if (!w || w->n_experts) return;
    p->panels = w->panels;
    p->n_panels = oct_pack_n_panels(w->n);
    p->panel_bytes = oct_pack_panel_bytes(w->type, w->k);
}

void oct_cpu_prefetch_product(octet_device *dev, octet_weight w) {
    oct_cpu_prefetch *p = &dev->prefetch;
    if (p->wanted) p->next[p->at - 1] = w;
    p->wanted = false;
}

void oct_cpu_prefetch_share(const octet_device *dev, oct_share share) {
    const oct_cpu_prefetch *p = &dev->prefetch;
    size_t begin, end;
    if (!p->panels) return;
    oct_share_of(share, p->n_panels, 1, &begin, &end);
    const char *at = (const char *)p->panels + begin * p->panel_bytes;
    uint64_t bytes = (end - begin) * p->panel_bytes;
    if (bytes > SHARE_BYTES) bytes = SHARE_BYTES;
    for (uint64_t i = 0; i < bytes; i += LINE) __builtin_prefetch(at + i, 0, 2);
}
