/*
 * store/presets.c - see presets.h. The numbers are those of the config.json that each model was
 * published with; keys that do not change shapes or arithmetic are left out.
 */
#include "store/presets.h"

#include <string.h>

#include "base/str.h"

#define QWEN3_REST                                                                   \
    "\"hidden_act\":\"silu\",\"head_dim\":128,\"max_position_embeddings\":40960,"    \
    "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000,\"vocab_size\":151936,"           \
    "\"attention_bias\":false,\"torch_dtype\":\"bfloat16\",\"bos_token_id\":151643," \
    "\"eos_token_id\":151645,"
#define QWEN3_COMMON \
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\"," QWEN3_REST
#define QWEN3_MOE_COMMON                                                                    \
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\"," QWEN3_REST \
    "\"num_experts\":128,\"num_experts_per_tok\":8,\"norm_topk_prob\":true,"                \
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"tie_word_embeddings\":false,"
#define LLAMA_31_COMMON                                                                            \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","                          \
    "\"hidden_act\":\"silu\",\"head_dim\":128,\"max_position_embeddings\":131072,"                 \
    "\"rms_norm_eps\":1e-05,\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\","     \
    "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"                             \
    "\"original_max_position_embeddings\":8192},\"vocab_size\":128256,"                            \
    "\"attention_bias\":false,\"mlp_bias\":false,\"tie_word_embeddings\":false,"                   \
    "\"torch_dtype\":\"bfloat16\",\"bos_token_id\":128000,\"eos_token_id\":[128001,128008,128009]" \
    ","

static const oct_preset presets[] = {
    {"qwen3-0.6b",
     QWEN3_COMMON "\"hidden_size\":1024,\"intermediate_size\":3072,\"num_hidden_layers\":28,"
                  "\"num_attention_heads\":16,\"num_key_value_heads\":8,"
                  "\"tie_word_embeddings\":true}"},
    {"qwen3-4b",
     QWEN3_COMMON "\"hidden_size\":2560,\"intermediate_size\":9728,\"num_hidden_layers\":36,"
                  "\"num_attention_heads\":32,\"num_key_value_heads\":8,"
                  "\"tie_word_embeddings\":true}"},
    {"qwen3-8b",
     QWEN3_COMMON "\"hidden_size\":4096,\"intermediate_size\":12288,\"num_hidden_layers\":36,"
                  "\"num_attention_heads\":32,\"num_key_value_heads\":8,"
                  "\"tie_word_embeddings\":false}"},
    {"qwen3-32b",
     QWEN3_COMMON "\"hidden_size\":5120,\"intermediate_size\":25600,\"num_hidden_layers\":64,"
                  "\"num_attention_heads\":64,\"num_key_value_heads\":8,"
                  "\"tie_word_embeddings\":false}"},
    {"qwen3-30b-a3b",
     QWEN3_MOE_COMMON "\"hidden_size\":2048,\"intermediate_size\":6144,\"num_hidden_layers\":48,"
                      "\"num_attention_heads\":32,\"num_key_value_heads\":4,"
                      "\"moe_intermediate_size\":768}"},
    {"qwen3-235b-a22b",
     QWEN3_MOE_COMMON "\"hidden_size\":4096,\"intermediate_size\":12288,\"num_hidden_layers\":94,"
                      "\"num_attention_heads\":64,\"num_key_value_heads\":4,"
                      "\"moe_intermediate_size\":1536}"},
    {"llama-3.1-8b",
     LLAMA_31_COMMON "\"hidden_size\":4096,\"intermediate_size\":14336,\"num_hidden_layers\":32,"
                     "\"num_attention_heads\":32,\"num_key_value_heads\":8}"},
    {"llama-3.1-70b",
     LLAMA_31_COMMON "\"hidden_size\":8192,\"intermediate_size\":28672,\"num_hidden_layers\":80,"
                     "\"num_attention_heads\":64,\"num_key_value_heads\":8}"},
    {"minimax-m2",
     "{\"architectures\":[\"MiniMaxM2ForCausalLM\"],\"model_type\":\"minimax_m2\","
     "\"hidden_act\":\"silu\",\"hidden_size\":3072,\"intermediate_size\":1536,"
     "\"num_hidden_layers\":62,\"num_attention_heads\":48,\"num_key_value_heads\":8,"
     "\"head_dim\":128,\"rotary_dim\":64,\"rope_theta\":5000000,\"rms_norm_eps\":1e-06,"
     "\"max_position_embeddings\":196608,\"vocab_size\":200064,\"num_local_experts\":256,"
     "\"num_experts_per_tok\":8,\"scoring_func\":\"sigmoid\",\"use_routing_bias\":true,"
     "\"shared_intermediate_size\":0,\"use_qk_norm\":true,\"qk_norm_type\":\"per_layer\","
     "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"bos_token_id\":200019,"
     "\"eos_token_id\":200020}"}};

const char oct_preset_names[] =
    "qwen3-0.6b, qwen3-4b, qwen3-8b, qwen3-32b, qwen3-30b-a3b, qwen3-235b-a22b, "
    "llama-3.1-8b, llama-3.1-70b, minimax-m2";

static const char head[] = "preset:";

bool oct_preset_is(const char *name) { return strncmp(name, head, sizeof head - 1) == 0; }

/* Takes "-w8a8" or the like off the end. */
static oct_str take_storage(oct_str s, oct_preset_storage *storage) {
    static const struct {
        const char *tail;
        oct_preset_storage storage;
    } tails[] = {
        {"-bf16", OCT_PRESET_BF16}, {"-w8a8", OCT_PRESET_W8A8}, {"-w8a8c8", OCT_PRESET_W8A8C8}};
    *storage = OCT_PRESET_BF16;
    for (size_t i = 0; i < OCT_COUNT(tails); i++) {
        const oct_str tail = oct_str_of(tails[i].tail);
        if (!oct_str_ends(s, tail)) continue;
        *storage = tails[i].storage;
        s.len -= tail.len;
        break;
    }
    return s;
}

oct_status oct_preset_find(const char *name, const oct_preset **out, oct_preset_storage *storage,
                           oct_err *err) {
    *out = NULL;
    const size_t skip = oct_preset_is(name) ? sizeof head - 1 : 0;
    const oct_str model = take_storage(oct_str_of(name + skip), storage);
    for (size_t i = 0; i < OCT_COUNT(presets); i++)
        if (oct_str_is(model, presets[i].name)) {
            *out = &presets[i];
            return OCT_OK;
        }
    return OCT_FAIL(
        err, OCT_E_INVALID,
        "%.80s: no such preset (want one of %s, with -bf16, -w8a8 or -w8a8c8 behind it)", name,
        oct_preset_names);
}
