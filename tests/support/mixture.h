/*
 * tests/support/mixture.h - a dense Llama checkpoint rewritten as a Mixtral whose experts are all
 * copies of its MLP. Whatever the router says, the weights of the chosen experts sum to 1, so the
 * mixture's logits are the dense model's to rounding.
 *
 * Include after cmocka.h and support/tiny_model.h.
 */
#ifndef OCT_TESTS_MIXTURE_H
#define OCT_TESTS_MIXTURE_H

#include "store/checkpoint.h"
#include "store/safetensors_writer.h"

enum { MIXTURE_EXPERTS = 4, MIXTURE_ROWS = 256 };

/* What a test may want otherwise. */
typedef struct mixture_options {
    const char *left_out;  /* a tensor that is not written */
    const char *narrow;    /* a tensor that is written as F16, not F32 */
    const char *more_json; /* appended to config.json, with a comma before it */
} mixture_options;

typedef struct mixture {
    const oct_checkpoint *ckpt;
    const mixture_options *o;
    oct_safetensors_writer *w;
    bool writing; /* second pass: the values */
    float *rows;
} mixture;

static inline uint16_t mixture_half(float v) { return (uint16_t)(v > 0 ? 0x2c00 : 0xac00); }

/* Declares the tensor, or writes it: from t, or made up where t is NULL. */
static inline void mixture_tensor(mixture *m, const char *name, const oct_tensor *t, uint64_t n,
                                  uint64_t k) {
    const bool narrow = m->o->narrow && strcmp(m->o->narrow, name) == 0;
    const uint64_t shape[2] = {t && t->rank == 1 ? k : n, k};
    oct_err err = {0};
    if (m->o->left_out && strcmp(m->o->left_out, name) == 0) return;
    if (!m->writing) {
        need(oct_safetensors_writer_add(m->w, oct_str_of(name),
                                        narrow ? OCT_DTYPE_F16 : OCT_DTYPE_F32,
                                        t && t->rank == 1 ? 1 : 2, shape, &err),
             &err);
        return;
    }
    const uint64_t element = narrow ? 2 : 4;
    for (uint64_t row = 0; row < n; row += MIXTURE_ROWS) {
        const uint64_t here = n - row < MIXTURE_ROWS ? n - row : MIXTURE_ROWS;
        if (t)
            need(oct_checkpoint_read_rows(m->ckpt, t, row, here, m->rows, &err), &err);
        else
            for (uint64_t i = 0; i < here * k; i++)
                m->rows[i] = (float)((int)((i * 2654435761u >> 7) % 201) - 100) / 400.0f;
        for (uint64_t i = 0; narrow && i < here * k; i++)
            ((uint16_t *)m->rows)[i] = mixture_half(m->rows[i]);
        need(oct_safetensors_writer_write(m->w, oct_str_of(name), row * k * element, m->rows,
                                          here * k * element, &err),
             &err);
    }
}

static inline void mixture_pass(mixture *m) {
    static const char *const parts[][2] = {{".mlp.gate_proj.weight", "w1"},
                                           {".mlp.up_proj.weight", "w3"},
                                           {".mlp.down_proj.weight", "w2"}};
    const oct_model_config *c = oct_checkpoint_config(m->ckpt);
    char name[160];
    for (size_t i = 0; i < oct_checkpoint_n_tensors(m->ckpt); i++) {
        const oct_tensor *t = oct_checkpoint_tensor_at(m->ckpt, i);
        int part = -1;
        for (int p = 0; p < 3; p++)
            if (oct_str_ends(t->name, oct_str_of(parts[p][0]))) part = p;
        if (part < 0) {
            mixture_tensor(m, t->name.ptr, t, t->n_rows, t->row_elems);
            continue;
        }
        const int prefix = (int)(t->name.len - strlen(parts[part][0]));
        for (int e = 0; e < MIXTURE_EXPERTS; e++) {
            snprintf(name, sizeof name, "%.*s.block_sparse_moe.experts.%d.%s.weight", prefix,
                     t->name.ptr, e, parts[part][1]);
            mixture_tensor(m, name, t, t->n_rows, t->row_elems);
        }
    }
    for (uint32_t l = 0; l < c->n_layers; l++) {
        snprintf(name, sizeof name, "model.layers.%u.block_sparse_moe.gate.weight", l);
        mixture_tensor(m, name, NULL, MIXTURE_EXPERTS, c->hidden);
    }
}

static inline void mixture_config(const oct_model_config *c, const char *folder,
                                  const mixture_options *o) {
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"architectures\":[\"MixtralForCausalLM\"],\"model_type\":\"mixtral\","
            "\"hidden_size\":%u,\"intermediate_size\":%u,\"num_hidden_layers\":%u,"
            "\"num_attention_heads\":%u,\"num_key_value_heads\":%u,\"head_dim\":%u,"
            "\"vocab_size\":%u,\"max_position_embeddings\":%u,\"rms_norm_eps\":%.9g,"
            "\"rope_theta\":%.9g,\"tie_word_embeddings\":%s,\"sliding_window\":null,"
            "\"num_local_experts\":%d,\"num_experts_per_tok\":2%s}",
            c->hidden, c->intermediate, c->n_layers, c->n_heads, c->n_kv_heads, c->head_dim,
            c->vocab, c->max_position, c->rms_eps, c->rope.theta,
            c->tie_word_embeddings ? "true" : "false", MIXTURE_EXPERTS,
            o->more_json ? o->more_json : "");
    assert_int_equal(fclose(f), 0);
}

/* Writes config.json and model.safetensors into the folder. */
static inline void mixture_write(const oct_checkpoint *from, const char *folder,
                                 const mixture_options *o) {
    static const mixture_options plain;
    const oct_model_config *c = oct_checkpoint_config(from);
    const size_t widest = c->hidden > c->intermediate ? c->hidden : c->intermediate;
    char path[4096];
    oct_err err = {0};
    mixture m = {.ckpt = from, .o = o ? o : &plain};
    assert_int_equal(c->rope.type, OCT_ROPE_DEFAULT);
    mixture_config(c, folder, m.o);
    m.rows = malloc(MIXTURE_ROWS * widest * sizeof *m.rows);
    assert_non_null(m.rows);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    need(oct_safetensors_writer_create(oct_system_allocator(), &m.w, &err), &err);
    mixture_pass(&m);
    need(oct_safetensors_writer_begin(m.w, path, &err), &err);
    m.writing = true;
    mixture_pass(&m);
    need(oct_safetensors_writer_finish(m.w, &err), &err);
    oct_safetensors_writer_destroy(m.w);
    free(m.rows);
}

#endif
