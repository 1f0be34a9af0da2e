/* model/arch.c - the table of families. */
#include "model/arch.h"

#include <math.h>
#include <octet/device.h>

#include "base/attr.h"

static const oct_arch archs[] = {
    {OCT_FAMILY_LLAMA, OCTET_ACT_SILU, OCTET_QK_NORM_NONE},
    {OCT_FAMILY_QWEN2, OCTET_ACT_SILU, OCTET_QK_NORM_NONE},
    {OCT_FAMILY_QWEN3, OCTET_ACT_SILU, OCTET_QK_NORM_HEAD},
};
_Static_assert(OCT_COUNT(archs) == OCT_FAMILY_COUNT, "one row a family");

const oct_arch *oct_arch_of(oct_family family) {
    for (unsigned i = 0; i < OCT_COUNT(archs); i++)
        if (archs[i].family == family) return &archs[i];
    return 0;
}

float oct_arch_attention_scale(const oct_model_config *c) {
    return 1.0f / sqrtf((float)c->head_dim);
}

uint32_t oct_arch_window(const oct_model_config *c, uint32_t layer) {
    return c->layer_slides[layer] ? c->sliding_window : 0;
}
