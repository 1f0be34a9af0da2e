/* store/scheme_float.c - plain float weights, and the block types of GGUF that read as float. */
#include "store/scheme_parts.h"

oct_status oct_scheme_float_linear(oct_scheme *s, oct_arena *arena, const char *prefix,
                                   bool need_bias, oct_linear_source *io, oct_err *err) {
    char name[OCT_SCHEME_NAME];
    const uint64_t shape[2] = {io->n, io->k};
    oct_scheme_name_of(name, prefix, ".weight");
    const oct_tensor *weight = oct_checkpoint_need(s->ckpt, name, 2, shape);
    OCT_TRY(oct_scheme_values(s, arena, prefix, ".bias", io->n, OCT_VALUE_FINITE, !need_bias,
                              &io->bias, err));
    if (!weight || (need_bias && !io->bias)) return OCT_OK;
    io->kind = OCT_LINEAR_FLOAT;
    io->weight = weight;
    io->label = oct_dtype_name(weight->dtype);
    return OCT_OK;
}

static oct_status float_open(oct_scheme *s, oct_err *err) {
    (void)s;
    (void)err;
    return OCT_OK;
}

/* No list says anything of float tensors: all are taken as they are. */
const oct_scheme_ops oct_scheme_float = {
    .name = "float", .open = float_open, .linear = oct_scheme_float_linear};
