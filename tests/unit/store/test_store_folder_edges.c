/* Folders, names and files at their edges: many shards, other series, odd names of GGUF, spellings
 * of experts, sizes that overflow, a system that refuses. */
#include "store_test.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "store/checkpoint.h"
#include "store/file.h"
#include "store/generation_config.h"
#include "store/tensor_table.h"

#define CONFIG(type, more)                                                    \
    "{\"model_type\":\"" type "\",\"hidden_size\":4,\"intermediate_size\":8," \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":3" more "}"

static oct_status try_open(const char *path, oct_checkpoint **c, oct_err *err) {
    *err = (oct_err){0};
    return oct_checkpoint_open(oct_system_allocator(), path, c, err);
}

static void refuse_path(const char *path, oct_status want, const char *word) {
    oct_checkpoint *c;
    oct_err err;
    const oct_status got = try_open(path, &c, &err);
    if (got != want) print_error("%s\n", err.text);
    assert_int_equal(got, want);
    expect_text(&err, word);
}

static void refuse(oct_status want, const char *word) { refuse_path(test_dir, want, word); }

static oct_checkpoint *must_open(const char *path) {
    oct_checkpoint *c;
    oct_err err;
    if (try_open(path, &c, &err) != OCT_OK) fail_msg("%s", err.text);
    return c;
}

/* One F32 vector of four values first, first + 1, ... */
static void put_shard(const char *file, const char *name, float first) {
    char header[256];
    const float v[4] = {first, first + 1, first + 2, first + 3};
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", name);
    put_safetensors(file, header, v, sizeof v);
}

/* ---- folders -----------------------------------------------------------------------------------
 */

static void F1_1_many_files(void **state) {
    (void)state;
    char file[32], name[16];
    put_text("config.json", CONFIG("llama", ""));
    put_text("quant_model_description_w8a8.txt", "not one of them");
    for (unsigned i = 0; i < 40; i++) {
        snprintf(file, sizeof file, "part%02u.safetensors", i);
        snprintf(name, sizeof name, "t%u", i);
        put_shard(file, name, (float)i);
    }
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_n_files(c), 40);
    assert_int_equal(oct_checkpoint_n_tensors(c), 40);
    assert_int_equal(oct_checkpoint_weight_bytes(c), 40 * 16);
    assert_string_equal(oct_path_base(oct_checkpoint_file_at(c, 39)->path), "part39.safetensors");
    assert_string_equal(oct_checkpoint_file_name(c, oct_checkpoint_find(c, "t17")),
                        "part17.safetensors");
    assert_null(oct_checkpoint_description(c));
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_unused(c, &b), 40);
    assert_string_equal(oct_buf_cs(&b), "t0, t1, t2, t3, t4, ...");
    oct_buf_fini(&b);
    oct_checkpoint_close(c);
}

static void ST12_series(void **state) {
    (void)state;
    put_text("config.json", CONFIG("llama", ""));
    put_shard("model-00001-of-00002.safetensors", "a", 1);
    put_shard("model-00002-of-00002.safetensors", "b", 5);
#define MAP(map) put_text("model.safetensors.index.json", "{\"weight_map\":{" map "}}")
#define PARTS \
    "\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model-00002-of-00002.safetensors\""
    /* Other series, of another length, name or count, or no series at all: not of this model. */
    static const char *const others[] = {
        "model-00003-of-00003.safetensors", "other-00001-of-00002.safetensors",
        "mtp-00001-of-00002.safetensors",   "model-0000x-of-00002.safetensors",
        "model-0000!-of-00002.safetensors", "model_00003-of-00002.safetensors"};
    for (size_t i = 0; i < OCT_COUNT(others); i++) put_shard(others[i], "z", 1);
    MAP(PARTS);
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_n_tensors(c), 2);
    oct_checkpoint_close(c);
    /* Tensors of one file need not follow one another. */
    put_safetensors("model-00001-of-00002.safetensors",
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                    "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                    "xy", 2);
    MAP(PARTS ",\"c\":\"model-00001-of-00002.safetensors\"");
    c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_n_files(c), 2);
    oct_checkpoint_close(c);
    put_shard("model-00003-of-00002.safetensors", "z", 1);
    refuse(OCT_E_CORRUPT, "shard model-00003-of-00002.safetensors is not listed");
}

static void ST12_more_shards_than_any_model_has(void **state) {
    (void)state;
    char *text = malloc(1 << 18);
    size_t n = (size_t)sprintf(text, "{\"weight_map\":{\"a\":\"0.safetensors\"");
    for (int i = 1; i <= 4096; i++)
        n += (size_t)sprintf(text + n, ",\"a%d\":\"%d.safetensors\"", i, i);
    strcpy(text + n, "}}");
    put_text("config.json", CONFIG("llama", ""));
    put_text("model.safetensors.index.json", text);
    free(text);
    refuse(OCT_E_CORRUPT, "model.safetensors.index.json: more than 4096 shards");
}

/* No file descriptor is left: the system's words, not a missing file. */
static void CL2_a_system_that_refuses(void **state) {
    (void)state;
    struct rlimit all, none;
    put_text("config.json", CONFIG("llama", ""));
    put_shard("model.safetensors", "a", 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    const int next = dup(0);
    assert_true(next > 0);
    close(next);
    for (unsigned left = 0; left < 2; left++) {
        oct_checkpoint *c;
        oct_err err;
        none = all;
        none.rlim_cur = (rlim_t)next + left;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        const oct_status got = try_open(test_dir, &c, &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
        if (left == 1) { /* one at a time is enough for a folder of one shard */
            assert_int_equal(got, OCT_OK);
            oct_checkpoint_close(c);
            continue;
        }
        assert_int_equal(got, OCT_E_IO);
        expect_text(&err, "Too many open files");
    }
}

static void CL2_overrides_of_a_folder(void **state) {
    (void)state;
    oct_checkpoint *c;
    oct_err err = {0};
    put_text("config.json", CONFIG("llama", ""));
    put_shard("model.safetensors", "a", 1);
    assert_int_equal(
        oct_checkpoint_open_with(oct_system_allocator(), test_dir, "{\"vocab_size\":7}", &c, &err),
        OCT_OK);
    assert_int_equal(oct_checkpoint_config(c)->vocab, 7);
    oct_checkpoint_close(c);
    assert_int_equal(oct_checkpoint_open_with(oct_system_allocator(), test_dir, "[]", &c, &err),
                     OCT_E_INVALID);
    expect_text(&err, "--hf-overrides");
}

static void CF6_generation_config_beside_a_model(void **state) {
    (void)state;
    put_text("config.json", CONFIG("llama", ""));
    put_shard("model.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq", 1);
    put_text("generation_config.json", "{\"top_k\":7}");
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_unused(c, NULL), 0); /* it is computed from the configuration */
    assert_int_equal(oct_checkpoint_generation(c)->top_k, 7);
    oct_checkpoint_close(c);
    assert_int_equal(truncate(in_dir("generation_config.json"), (off_t)1 << 30), 0);
    c = must_open(test_dir); /* too large to be one: ignored */
    assert_false(oct_checkpoint_generation(c)->has_top_k);
    oct_checkpoint_close(c);
}

static void CF6_more_stops_than_fit(void **state) {
    (void)state;
    char text[8192] = "{\"eos_token_id\":[-1";
    size_t n = strlen(text);
    oct_generation_config g;
    for (int i = 0; i < OCT_MAX_EOS + 9; i++) n += (size_t)sprintf(text + n, ",%d", i % 256);
    strcpy(text + n, "]}");
    oct_generation_config_parse(oct_str_of(text), "generation_config.json", 256, &g);
    assert_int_equal(g.n_eos, OCT_MAX_EOS);
    assert_int_equal(g.eos_ids[0], 0);
    assert_int_equal(g.n_warnings, 1); /* the first is no id */
    memmove(text + 17, text + 20, n - 17);
    oct_generation_config_parse(oct_str_of(text), "generation_config.json", 256, &g);
    assert_true(g.n_eos == OCT_MAX_EOS && g.n_warnings == 1); /* the rest, told once */
}

/* ---- names -------------------------------------------------------------------------------------
 */

static void F1_5_experts_and_routers(void **state) {
    (void)state;
    static const struct {
        const char *in_file, *asked;
    } rows[] = {
        {"model.layers.0.block_sparse_moe.experts.0.w1.weight",
         "model.layers.0.mlp.experts.0.gate_proj.weight"},
        {"model.layers.0.block_sparse_moe.experts.0.up_proj.weight",
         "model.layers.0.block_sparse_moe.experts.0.w3.weight"},
        {"model.layers.0.mlp.experts.0.w2.weight",
         "model.layers.0.block_sparse_moe.experts.0.w2.weight"},
        {"model.layers.0.mlp.experts.0.down_proj", "model.layers.0.block_sparse_moe.experts.0.w2"},
        {"model.layers.0.mlp.gate.e_score_correction_bias",
         "model.layers.0.block_sparse_moe.e_score_correction_bias"},
        {"model.layers.0.mlp.e_score_correction_bias",
         "model.layers.0.mlp.gate.e_score_correction_bias"},
        {"model.layers.0.block_sparse_moe.gate.e_score_correction_bias",
         "model.layers.0.mlp.e_score_correction_bias"},
        {"model.layers.0.shared_head.norm.weight", "model.layers.0.norm.weight"},
    };
    static const char *const unknown[] = {"model.layers.0.mlp.experts.0.gate_projection.weight",
                                          "model.layers.0.mlp.experts.x.gate_proj.weight",
                                          "model.layers.0.mlp.experts.12gate_proj.weight",
                                          "model.layers.0.mlp.gate.e_score_correction",
                                          "model.layers.9.mlp.e_score_correction_bias",
                                          "weight",
                                          "a.b",
                                          ""};
    put_text("config.json", CONFIG("llama", ""));
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        put_shard("model.safetensors", rows[i].in_file, 1);
        oct_checkpoint *c = must_open(test_dir);
        if (!oct_checkpoint_find(c, rows[i].asked)) fail_msg("%s", rows[i].asked);
        for (size_t k = 0; k < OCT_COUNT(unknown); k++)
            if (oct_checkpoint_find(c, unknown[k])) fail_msg("%s", unknown[k]);
        oct_checkpoint_close(c);
    }
}

static void F1_5_names_that_fill_their_room(void **state) {
    (void)state;
    char name[1024];
    put_text("config.json", CONFIG("llama", ""));
    put_safetensors("model.safetensors",
                    "{\"language_model.model.embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":[1],"
                    "\"data_offsets\":[0,1]},\"language_model.lm_head.weight\":{\"dtype\":\"U8\","
                    "\"shape\":[1],\"data_offsets\":[1,2]}}",
                    "xy", 2);
    oct_checkpoint *c = must_open(test_dir);
    assert_non_null(oct_checkpoint_find(c, "model.embed_tokens.weight"));
    assert_non_null(oct_checkpoint_find(c, "lm_head.weight"));
    for (size_t n = 600; n < 680; n++) { /* with the wrapper it fits or not: absent all the same */
        memset(name, 'x', n);
        memcpy(name, "model.layers.0.mlp.", 19);
        strcpy(name + n, ".mlp.e_score_correction_bias");
        assert_null(oct_checkpoint_find(c, name));
    }
    oct_checkpoint_close(c);
}

/* Scales and offsets of experts that are stacked: one a layer, one a row. */
static void F3_6_stacked_vectors(void **state) {
    (void)state;
    float v[2];
    static const float data[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    put_text("config.json", CONFIG("llama", ""));
#define E "\"model.layers.0.mlp.experts."
    put_safetensors(
        "model.safetensors",
        "{" E "gate_up_proj_scale\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]}," E
        "down_proj_weight_scale\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[32,40]}," E
        "up_proj.weight_offset\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[40,44]}," E
        "down_proj.other\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[44,48]}," E
        "gate_proj.weight\":{\"dtype\":\"F32\",\"shape\":[2,0,4],\"data_offsets\":[48,48]}," E
        "0.gate_proj.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[48,48]}}",
        data, sizeof data);
    oct_checkpoint *c = must_open(test_dir);
    const oct_tensor *t =
        oct_checkpoint_find(c, "model.layers.0.mlp.experts.1.up_proj.weight_scale");
    assert_true(t && t->rank == 1 && t->shape[0] == 2);
    assert_int_equal(oct_checkpoint_read_raw(c, t, v, NULL), OCT_OK);
    assert_true(v[0] == 6 && v[1] == 7);
    t = oct_checkpoint_find(c, "model.layers.0.mlp.experts.1.down_proj.weight_scale");
    assert_true(t && t->rank == 0);
    assert_int_equal(oct_checkpoint_read_raw(c, t, v, NULL), OCT_OK);
    assert_true(v[0] == 9);
    /* No dimension of experts, and other names: left as they are. */
    assert_non_null(oct_checkpoint_find(c, "model.layers.0.mlp.experts.up_proj.weight_offset"));
    assert_non_null(oct_checkpoint_find(c, "model.layers.0.mlp.experts.down_proj.other"));
    assert_int_equal(oct_checkpoint_n_tensors(c), 4 + 2 + 4);
    oct_checkpoint_close(c);
}

static void F3_6_stacked_wrongly(void **state) {
    (void)state;
    static const float data[12];
    put_text("config.json", CONFIG("llama", ""));
#define ONE(name, shape) \
    "{" E name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[0,48]}}"
    put_safetensors("model.safetensors", ONE("gate_up_proj", "[1,3,4]"), data, 48);
    refuse(OCT_E_CORRUPT, "experts.gate_up_proj: gate and up rows are not alike (got 3)");
    put_safetensors("model.safetensors", ONE("gate_up_proj_scale", "[4,3]"), data, 48);
    refuse(OCT_E_CORRUPT, "experts.gate_up_proj_scale: gate and up rows are not alike (got 3)");
    put_safetensors("model.safetensors", ONE("down_proj.weight", "[1,4,3]"), data, 48);
    oct_checkpoint_close(must_open(test_dir));
    put_safetensors("model.safetensors", ONE("down_proj.weight", "[1,3,4]"), data, 48);
    refuse(OCT_E_UNSUPPORTED, "in an order that is not supported (got [1, 3, 4], want 4 in the");
    put_safetensors("model.safetensors", ONE("down_proj.weight", "[12]"), data, 48);
    oct_checkpoint_close(must_open(test_dir)); /* no stack: not ours to judge */
    put_safetensors(
        "model.safetensors",
        "{" E "down_proj_scale\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}," E
        "3.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[32,48]}}",
        data, 48);
    refuse(OCT_E_CORRUPT, "experts.3.down_proj.weight_scale is there twice");
}

static oct_status open_and_close(void *ctx, const oct_allocator *mem) {
    oct_checkpoint *c;
    float rows[64];
    oct_status status = oct_checkpoint_open(mem, ctx, &c, NULL);
    const oct_tensor *t =
        status == OCT_OK ? oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight") : NULL;
    if (t) status = oct_checkpoint_read_rows(c, t, 0, t->n_rows, rows, NULL);
    uint64_t hash;
    if (status == OCT_OK) status = oct_checkpoint_fingerprint(c, &hash, NULL);
    oct_checkpoint_close(c);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    char header[4096];
    static const float data[48];
    size_t n = 1;
    put_text("config.json", CONFIG("llama", ""));
    put_text("quant_model_description_x.json", "{\"a\":\"FLOAT\"}");
    strcpy(header, "{");
    for (int i = 0; i < 24; i++)
        n += (size_t)sprintf(header + n,
                             "%s\"model.layers.%d.mlp.experts.gate_up_proj_scale\":{\"dtype\":"
                             "\"F32\",\"shape\":[1,2],\"data_offsets\":[%d,%d]}",
                             i ? "," : "", i, 8 * i, 8 * i + 8);
    strcpy(header + n, "}");
    put_safetensors("model.safetensors", header, data, 192);
    refuse_each_request(open_and_close, test_dir);
    for (int i = 0; i < 36; i++) { /* lists that grow */
        char name[32];
        snprintf(name, sizeof name, "x%02d.safetensors", i);
        put_shard(name, name, 1);
    }
    assert_int_equal(unlink(in_dir("model.safetensors")), 0);
    refuse_each_request(open_and_close, test_dir);
}

/* ---- GGUF --------------------------------------------------------------------------------------
 */

typedef struct g_row {
    const char *name;
    uint64_t d[3]; /* innermost first; 0 ends them */
} g_row;

/* An F32 file of these tensors beside an embedding; element e of each is
 * e + 1. */
static void put_gguf(const char *arch, uint32_t n_experts, const g_row *rows, size_t n) {
    static const struct {
        const char *tail;
        uint32_t v;
    } keys[] = {{"block_count", 1},
                {"embedding_length", 8},
                {"feed_forward_length", 8},
                {"attention.head_count", 2},
                {"attention.head_count_kv", 1},
                {"context_length", 16},
                {"rope.dimension_count", 4},
                {"expert_count", 0},
                {"expert_used_count", 0},
                {"expert_gating_func", 1}}; /* softmax; 2 is sigmoid */
    static const g_row embed = {"token_embd.weight", {8, 3, 0}};
    char key[64];
    oct_buf b, data;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_init(&data, oct_system_allocator(), 0);
    g_head(&b, 3, n + 1, 1 + OCT_COUNT(keys));
    g_key_str(&b, "general.architecture", arch);
    for (size_t i = 0; i < OCT_COUNT(keys); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, keys[i].tail);
        const bool counts = strncmp(keys[i].tail, "expert_", 7) == 0 && !keys[i].v;
        const bool sigmoid = i + 1 == OCT_COUNT(keys) && strcmp(arch, "minimax-m2") == 0;
        g_key_u32(&b, key, counts ? n_experts : keys[i].v + sigmoid);
    }
    for (size_t i = 0; i <= n; i++) {
        const g_row *r = i ? &rows[i - 1] : &embed;
        uint64_t count = 1;
        uint32_t rank = 0;
        while (rank < 3 && r->d[rank]) count *= r->d[rank++];
        g_str(&b, r->name);
        g_u32(&b, rank);
        for (uint32_t d = 0; d < rank; d++) g_u64(&b, r->d[d]);
        g_u32(&b, 0);
        g_u64(&b, data.len);
        for (uint64_t e = 0; e < count; e++) {
            const float v = (float)(e + 1);
            oct_buf_add(&data, &v, 4);
        }
        g_pad(&data, 32);
    }
    g_pad(&b, 32);
    oct_buf_add(&b, data.data, data.len);
    put_file("m.gguf", b.data, b.len);
    oct_buf_fini(&b);
    oct_buf_fini(&data);
}

static void gguf_names_that_have_no_meaning_stay(void **state) {
    (void)state;
    static const g_row rows[] = {{"blk.weight", {2}},
                                 {"blk..attn_q.weight", {2}},
                                 {"blk.7", {2}},
                                 {"blk.7x.attn_q.weight", {2}},
                                 {"blk.99999.attn_q.weight", {2}},
                                 {"blk.0.attn_q", {2}},
                                 {"blk.0.attn_q.scale", {2}},
                                 {"blk.0.something.weight", {2}},
                                 {"blk.0.ffn_up..weight", {2}},
                                 {"blk.0.ffn_up.x.weight", {2}},
                                 {"blk.0.ffn_up.-1.weight", {2}},
                                 {"blk.0.ffn_up.99999999999.weight", {2}},
                                 {"blk", {2}},
                                 {"blk.1", {2}},
                                 {"ffn_gate_exps.weight", {4, 2, 3}},
                                 {"ffn_gate_exps", {4, 2, 3}},
                                 {"blk.0.ffn_gate_exps.bias", {4, 2, 2}}};
    put_gguf("qwen3moe", 3, rows, OCT_COUNT(rows));
    oct_checkpoint *c = must_open(in_dir("m.gguf"));
    assert_int_equal(oct_checkpoint_n_tensors(c), 1 + OCT_COUNT(rows));
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        if (!oct_checkpoint_find(c, rows[i].name)) fail_msg("%s", rows[i].name);
    assert_int_equal(oct_checkpoint_n_files(c), 1);
    assert_string_equal(oct_path_base(oct_checkpoint_file_at(c, 0)->path), "m.gguf");
    assert_int_equal(oct_checkpoint_check_unchanged(c, NULL), OCT_OK);
    oct_checkpoint_close(c);
    oct_err err = {0};
    assert_int_equal(
        oct_checkpoint_open_with(oct_system_allocator(), in_dir("m.gguf"), "{}", &c, &err),
        OCT_E_INVALID);
    expect_text(&err, "overrides are for config.json, and this is a GGUF file");
}

static void gguf_two_names_of_one_tensor(void **state) {
    (void)state;
    static const g_row rows[] = {{"blk.0.attn_q.weight", {8, 8}}, {"blk.00.attn_q.weight", {8, 8}}};
    put_gguf("llama", 0, rows, 2);
    refuse_path(in_dir("m.gguf"), OCT_E_CORRUPT,
                "tensor model.layers.0.self_attn.q_proj.weight is there under two names");
}

static void gguf_experts_of_minimax(void **state) {
    (void)state;
    static const g_row rows[] = {{"blk.0.ffn_gate_inp.weight", {8, 3}},
                                 {"blk.0.exp_probs_b.bias", {3}},
                                 {"blk.0.ffn_gate_up_exps.weight", {8, 4, 3}},
                                 {"rope_freqs.weight", {2}}};
    float v[16];
    put_gguf("minimax-m2", 3, rows, OCT_COUNT(rows));
    oct_checkpoint *c = must_open(in_dir("m.gguf"));
    assert_non_null(oct_checkpoint_find(c, "model.layers.0.block_sparse_moe.gate.weight"));
    assert_non_null(
        oct_checkpoint_find(c, "model.layers.0.block_sparse_moe.e_score_correction_bias"));
    const oct_tensor *t =
        oct_checkpoint_find(c, "model.layers.0.block_sparse_moe.experts.2.w3.weight");
    assert_non_null(t);
    assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 2, v, NULL), OCT_OK);
    assert_int_equal(oct_checkpoint_unused(c, NULL), 1 + 1 + 1 + 6); /* rope_freqs is known */
    assert_true(v[0] == 2 * 32 + 17 && v[15] == 2 * 32 + 32);
    oct_checkpoint_close(c);
    static const g_row odd[] = {{"blk.0.ffn_gate_up_exps.weight", {8, 3, 3}}};
    put_gguf("minimax-m2", 3, odd, 1);
    refuse_path(in_dir("m.gguf"), OCT_E_CORRUPT,
                "tensor blk.0.ffn_gate_up_exps.weight: bad shape (got F32 [3, 3, 8])");
}

static void gguf_every_allocation_may_fail(void **state) {
    (void)state;
    static const g_row rows[] = {{"blk.0.attn_q.weight", {8, 8}},
                                 {"blk.0.ffn_gate_exps.weight", {8, 2, 40}},
                                 {"blk.0.ffn_gate_inp_shexp.weight", {8}},
                                 {"blk.0.ffn_up_exps.weight", {8, 2, 40}}};
    put_gguf("llama", 40, rows, OCT_COUNT(rows));
    refuse_each_request(open_and_close, (void *)(uintptr_t)in_dir("m.gguf"));
}

/* ---- rows in pairs -----------------------------------------------------------------------------
 */

/* GLM-4 stores the rows of q and k in pairs in folders too; what has another size is not touched.
 */
static void glm4_what_has_no_rows_of_heads(void **state) {
    (void)state;
    float data[32 + 4 + 1], v[32];
    for (int i = 0; i < 37; i++) data[i] = (float)i;
#define Q "\"model.layers.0.self_attn.q_proj."
    put_text("config.json", CONFIG("glm4", ",\"num_key_value_heads\":2,\"head_dim\":4"));
    put_safetensors("model.safetensors",
                    "{" Q "weight\":{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,128]}," Q
                    "odd\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[128,144]}," Q
                    "input_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[144,148]}}",
                    data, sizeof data);
    oct_checkpoint *c = must_open(test_dir);
    const oct_tensor *t = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 8, v, NULL), OCT_OK);
    const uint32_t half = oct_checkpoint_config(c)->rope.rotary_dim / 2;
    assert_int_equal(half, 1); /* half of a head rotates: one pair, whose order is the usual one */
    for (int i = 0; i < 32; i++) assert_true(v[i] == (float)i);
    assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 0, v, NULL), OCT_OK);
    t = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.input_scale");
    assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 1, v, NULL), OCT_OK);
    assert_true(v[0] == 36);
    assert_int_equal(truncate(in_dir("model.safetensors"), 300), 0);
    oct_err err = {0};
    t = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 8, v, &err), OCT_E_CORRUPT);
    expect_text(&err, "changed while it was read");
    assert_int_equal(oct_checkpoint_fingerprint(c, &(uint64_t){0}, NULL), OCT_E_CORRUPT);
    oct_checkpoint_close(c);
}

/* Rows of a narrow type are read a piece of a MiB at a time; a row may be longer than that. */
static void rows_in_pieces(void **state) {
    (void)state;
    static const unsigned shapes[2][2] = {{3, 600000}, {1800, 1000}};
    const size_t all = 1800000;
    char header[256];
    uint16_t *data = calloc(all, sizeof *data);
    float *v = calloc(all, sizeof *v);
    for (size_t i = 0; i < all; i++) data[i] = (uint16_t)(i % 251 << 7);
    put_text("config.json", CONFIG("llama", ""));
    for (size_t k = 0; k < 2; k++) {
        snprintf(
            header, sizeof header,
            "{\"some\":{\"dtype\":\"BF16\",\"shape\":[%u,%u],\"data_offsets\":[0,3600000]},"
            "\"none\":{\"dtype\":\"BF16\",\"shape\":[2,0],\"data_offsets\":[3600000,3600000]}}",
            shapes[k][0], shapes[k][1]);
        put_safetensors("model.safetensors", header, data, 2 * all);
        oct_checkpoint *c = must_open(test_dir);
        const oct_tensor *t = oct_checkpoint_find(c, "some");
        assert_int_equal(oct_checkpoint_read_rows(c, t, 0, t->n_rows, v, NULL), OCT_OK);
        for (size_t i = 0; i < all; i += 997) {
            const uint32_t bits = (uint32_t)data[i] << 16;
            assert_memory_equal(&v[i], &bits, 4);
        }
        assert_int_equal(oct_checkpoint_read_rows(c, t, 1, 0, v, NULL), OCT_OK);
        t = oct_checkpoint_find(c, "none");
        assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 2, v, NULL), OCT_OK);
        assert_int_equal(truncate(in_dir("model.safetensors"), 2000000), 0);
        oct_err err = {0};
        t = oct_checkpoint_find(c, "some");
        assert_int_equal(oct_checkpoint_read_rows(c, t, 0, t->n_rows, v, &err), OCT_E_CORRUPT);
        expect_text(&err, "changed while it was read");
        assert_int_equal(oct_checkpoint_fingerprint(c, &(uint64_t){0}, NULL), OCT_E_CORRUPT);
        oct_checkpoint_close(c);
    }
    free(data);
    free(v);
}

static void ST10_needs_beyond_the_first_few(void **state) {
    (void)state;
    oct_arena arena;
    const float *v;
    char name[700];
    put_text("config.json", CONFIG("llama", ""));
    put_shard("model.safetensors", "a", 1);
    oct_checkpoint *c = must_open(test_dir);
    oct_arena_init(&arena, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_vector(c, &arena, "plain", 4, true, &v, NULL), OCT_OK);
    assert_null(v);
    memset(name, 'n', sizeof name);
    memcpy(name + sizeof name - 8, ".weight", 8);
    assert_int_equal(oct_checkpoint_vector(c, &arena, name, 4, true, &v, NULL), OCT_OK);
    assert_null(v);
    assert_int_equal(truncate(in_dir("model.safetensors"), 70), 0);
    oct_err err = {0};
    assert_int_equal(oct_checkpoint_vector(c, &arena, "a", 4, false, &v, &err), OCT_E_CORRUPT);
    expect_text(&err, "changed while it was read");
    oct_arena_fini(&arena);
    oct_checkpoint_close(c);
}

/* ---- sizes and files ---------------------------------------------------------------------------
 */

static void ST4_measures(void **state) {
    (void)state;
    static const struct {
        oct_dtype dtype;
        uint32_t rank;
        uint64_t shape[4];
        bool fits;
    } rows[] = {{OCT_DTYPE_F64, 1, {(uint64_t)1 << 61}, false},
                {OCT_DTYPE_F64, 2, {(uint64_t)1 << 40, (uint64_t)1 << 21}, false},
                {OCT_DTYPE_U8, 2, {(uint64_t)1 << 40, (uint64_t)1 << 24}, false},
                {OCT_DTYPE_U8, 3, {(uint64_t)1 << 40, (uint64_t)1 << 40, 0}, false},
                {OCT_DTYPE_U8, 3, {0, (uint64_t)1 << 40, (uint64_t)1 << 40}, true},
                {OCT_DTYPE_Q8_0, 1, {31}, false},
                {OCT_DTYPE_Q8_0, 2, {3, 64}, true}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        oct_tensor t = {.dtype = rows[i].dtype, .rank = rows[i].rank};
        memcpy(t.shape, rows[i].shape, sizeof rows[i].shape);
        assert_int_equal(oct_tensor_measure(&t), rows[i].fits);
        if (i == 6) assert_true(t.n_rows == 3 && t.row_bytes == 68 && t.bytes == 204);
    }
}

static void tables_without_anything(void **state) {
    (void)state;
    oct_tensor_table t = {0};
    oct_tensor_table_fini(&t); /* never made */
    oct_tensor_table_init(&t, oct_system_allocator());
    const oct_tensor one = {.name = OCT_STR("a")}, empty = {.name = OCT_STR("")};
    assert_true(oct_tensor_table_add(&t, &one) && oct_tensor_table_add(&t, &empty));
    assert_true(oct_tensor_table_index(&t, NULL));
    assert_ptr_equal(oct_tensor_table_find(&t, OCT_STR("")), &t.v[1]);
    assert_ptr_equal(oct_tensor_table_find(&t, OCT_STR("a")), &t.v[0]);
    assert_null(oct_tensor_table_find(&t, OCT_STR("aa")));
    oct_tensor_table_fini(&t);
}

static void ST13_files(void **state) {
    (void)state;
    oct_file f;
    oct_err err = {0};
    char v[8];
    put_text("x", "12345678");
    assert_int_equal(oct_file_open(&f, oct_system_allocator(), in_dir("x"), &err), OCT_OK);
    assert_int_equal(oct_file_read(&f, 4, v, 4, &err), OCT_OK);
    assert_memory_equal(v, "5678", 4);
    assert_int_equal(oct_file_read(&f, 4, v, 5, &err), OCT_E_CORRUPT);
    expect_text(&err, "x: read past the end");
    err = (oct_err){0};
    assert_int_equal(oct_file_read(&f, UINT64_MAX, v, 2, &err), OCT_E_CORRUPT);
    expect_text(&err, "x: read past the end");
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    assert_int_equal(futimens(f.fd, times), 0); /* another time, the same size */
    err = (oct_err){0};
    assert_int_equal(oct_file_check_unchanged(&f, &err), OCT_E_CORRUPT);
    expect_text(&err, "x: changed while it was read");
    /* The device under the file fails. */
    const int kept = f.fd;
    err = (oct_err){0};
    f.fd = open(in_dir("x"), O_WRONLY);
    assert_int_equal(oct_file_read(&f, 2, v, 2, &err), OCT_E_IO);
    expect_text(&err, "x: Bad file descriptor at byte 2");
    close(f.fd);
    err = (oct_err){0};
    assert_int_equal(oct_file_check_unchanged(&f, &err), OCT_E_IO);
    expect_text(&err, "x: Bad file descriptor");
    f.fd = kept;
    oct_file_close(&f);
    oct_file_close(&f);
}

static void CF8_paths(void **state) {
    (void)state;
    char name[300];
    memset(name, 'n', sizeof name);
    assert_true(oct_file_name_is_plain((oct_str){name, 255}));
    assert_false(oct_file_name_is_plain((oct_str){name, 256}));
    assert_false(oct_file_name_is_plain(OCT_STR("a\x7F")));
    assert_string_equal(oct_path_base("a/b"), "b");
    assert_string_equal(oct_path_base("b"), "b");
    assert_string_equal(oct_path_base("a/b/"), "a/b/");
    static const struct {
        const char *folder, *want;
    } rows[] = {{"a", "a/x"}, {"a/", "a/x"}, {"", "x"}, {"/", "/x"}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char *p = oct_path_join(oct_system_allocator(), rows[i].folder, OCT_STR("x"));
        assert_string_equal(p, rows[i].want);
        oct_path_free(oct_system_allocator(), p);
    }
    put_text("empty", "");
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    assert_int_equal(oct_file_read_small(oct_system_allocator(), in_dir("empty"), 9, &b, NULL),
                     OCT_OK);
    assert_int_equal(b.len, 0);
    oct_buf_fini(&b);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(F1_1_many_files),
        TEST(ST12_series),
        TEST(ST12_more_shards_than_any_model_has),
        TEST(CL2_a_system_that_refuses),
        TEST(CL2_overrides_of_a_folder),
        TEST(CF6_generation_config_beside_a_model),
        TEST(CF6_more_stops_than_fit),
        TEST(F1_5_experts_and_routers),
        TEST(F1_5_names_that_fill_their_room),
        TEST(F3_6_stacked_vectors),
        TEST(F3_6_stacked_wrongly),
        TEST(every_allocation_may_fail),
        TEST(gguf_names_that_have_no_meaning_stay),
        TEST(gguf_two_names_of_one_tensor),
        TEST(gguf_experts_of_minimax),
        TEST(gguf_every_allocation_may_fail),
        TEST(glm4_what_has_no_rows_of_heads),
        TEST(rows_in_pieces),
        TEST(ST10_needs_beyond_the_first_few),
        TEST(ST4_measures),
        TEST(tables_without_anything),
        TEST(ST13_files),
        TEST(CF8_paths),
    };
    return cmocka_run_group_tests_name("folder edges", tests, NULL, NULL);
}
