/* Folders and GGUF files as one thing: rows CL2, CF8, CF9, ST10, ST12, ST13, names and row order.
 */
#include "store_test.h"

#include "store/checkpoint.h"

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"vocab_size\":3}";

static oct_status try_open(const char *path, oct_err *err) {
    oct_checkpoint *c;
    *err = (oct_err){0};
    const oct_status status = oct_checkpoint_open(oct_system_allocator(), path, &c, err);
    assert_true((status == OCT_OK) == (c != NULL));
    oct_checkpoint_close(c);
    return status;
}

static void refuse(oct_status want, const char *word) {
    oct_err err;
    const oct_status status = try_open(test_dir, &err);
    if (status != want) print_error("%s\n", err.text);
    assert_int_equal(status, want);
    expect_text(&err, word);
}

static oct_checkpoint *must_open(const char *path) {
    oct_checkpoint *c;
    oct_err err = {0};
    if (oct_checkpoint_open(oct_system_allocator(), path, &c, &err) != OCT_OK) {
        print_error("%s\n", err.text);
        fail();
    }
    return c;
}

/* One F32 vector "name" of four values first, first + 1, ... */
static void put_shard(const char *file, const char *name, float first) {
    char header[256];
    float v[4] = {first, first + 1, first + 2, first + 3};
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", name);
    put_safetensors(file, header, v, sizeof v);
}

static void CL2_missing_files(void **state) {
    (void)state;
    oct_err err;
    assert_int_equal(try_open(in_dir("absent"), &err), OCT_E_IO);
    expect_text(&err, "absent: No such file");
    refuse(OCT_E_CORRUPT, "config.json is missing (the folder is empty)");
    put_text("notes.txt", "hello");
    refuse(OCT_E_CORRUPT, "config.json is missing");
    assert_int_equal(try_open(in_dir("notes.txt"), &err), OCT_E_CORRUPT);
    expect_text(&err, "neither a folder with config.json nor a GGUF file");
    put_text("m.gguf", "GG");
    refuse(OCT_E_CORRUPT, "name the file itself: m.gguf");
    assert_int_equal(try_open(in_dir("m.gguf"), &err), OCT_E_CORRUPT);
    expect_text(&err, "not a GGUF file");
    put_text("config.json", config);
    refuse(OCT_E_CORRUPT, "model.safetensors is missing");
    put_text("config.json", "");
    refuse(OCT_E_CORRUPT, "config.json: empty");
    assert_int_equal(unlink(in_dir("config.json")), 0);
    assert_int_equal(mkdir(in_dir("config.json"), 0700), 0);
    refuse(OCT_E_IO, "not a regular file");
}

static void CF9_only_pickles(void **state) {
    (void)state;
    static const char *const names[] = {"pytorch_model.bin", "x.pt", "x.pth", "x.ckpt"};
    put_text("config.json", config);
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        put_text(names[i], "\x80\x02");
        assert_int_equal(chmod(in_dir(names[i]), 0), 0);
        refuse(OCT_E_UNSUPPORTED, names[i]);
        refuse(OCT_E_UNSUPPORTED, "safetensors only");
        assert_int_equal(unlink(in_dir(names[i])), 0);
    }
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}");
    refuse(OCT_E_UNSUPPORTED, "only safetensors");
}

static void CF2_file_over_its_limit(void **state) {
    (void)state;
    put_text("config.json", config);
    assert_int_equal(truncate(in_dir("config.json"), (off_t)1 << 30), 0);
    refuse(OCT_E_CORRUPT, "too large");
}

static void F1_1_which_files_are_the_model(void **state) {
    (void)state;
    put_text("config.json", config);
    put_shard("one.safetensors", "a", 1);
    put_shard("two.safetensors", "b", 2);
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_n_tensors(c), 2);
    oct_checkpoint_close(c);
    put_shard("three.safetensors", "b", 2);
    refuse(OCT_E_CORRUPT, "tensor b is in two shards");
    put_shard("model.safetensors", "m", 3);
    assert_int_equal(mkdir(in_dir("optional"), 0700), 0);
    put_text("optional/quarot.safetensors", "broken");
    c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_n_tensors(c), 1);
    assert_non_null(oct_checkpoint_find(c, "m"));
    oct_checkpoint_close(c);
    put_text("quant_model_description.json", "{\"m\":\"FLOAT\"}");
    put_shard("quant_model_weight_w8a8.safetensors", "q", 3);
    c = must_open(test_dir);
    assert_non_null(oct_checkpoint_find(c, "q"));
    assert_null(oct_checkpoint_find(c, "m"));
    assert_non_null(oct_checkpoint_description(c));
    oct_checkpoint_close(c);
    put_text("quant_model_description.json", "[]");
    refuse(OCT_E_CORRUPT, "quant_model_description.json: not a JSON object");
}

static void ST12_index(void **state) {
    (void)state;
    put_text("config.json", config);
    put_shard("model-00001-of-00002.safetensors", "a", 1);
    put_shard("model-00002-of-00002.safetensors", "b", 5);
#define INDEX(map)                           \
    put_text("model.safetensors.index.json", \
             "{\"metadata\":{\"total_size\":7},\"weight_map\":{" map "}}")
#define A "\"a\":\"model-00001-of-00002.safetensors\""
#define B "\"b\":\"model-00002-of-00002.safetensors\""
    INDEX(A "," B); /* total_size is wrong: a warning */
    oct_checkpoint *c = must_open(test_dir);
    float v[4];
    const oct_tensor *b = oct_checkpoint_find(c, "b");
    assert_int_equal(oct_checkpoint_read_rows(c, b, 0, 1, v, NULL), OCT_OK);
    assert_true(v[0] == 5 && v[3] == 8);
    oct_checkpoint_close(c);
    INDEX(A);
    refuse(OCT_E_CORRUPT, "shard model-00002-of-00002.safetensors is not listed");
    INDEX(A "," B ",\"c\":\"model-00002-of-00002.safetensors\"");
    refuse(OCT_E_CORRUPT, "tensor c is not in model-00002");
    INDEX("\"a\":\"model-00002-of-00002.safetensors\","
          "\"b\":\"model-00001-of-00002.safetensors\"");
    refuse(OCT_E_CORRUPT, "is not in");
    INDEX(A "," B ",\"c\":\"model-00003-of-00002.safetensors\"");
    refuse(OCT_E_CORRUPT, "shard model-00003-of-00002.safetensors is missing");
    put_shard("model-00002-of-00002.safetensors", "a", 5);
    INDEX(A);
    put_shard("extra.safetensors", "z", 1);
    INDEX(A ",\"b\":\"model-00002-of-00002.safetensors\"");
    refuse(OCT_E_CORRUPT, "tensor a is in two shards");
    put_text("model.safetensors.index.json", "{\"weight_map\":{}}");
    refuse(OCT_E_CORRUPT, "weight_map is empty");
    put_text("model.safetensors.index.json", "{}");
    refuse(OCT_E_CORRUPT, "weight_map");
    put_text("model.safetensors.index.json", "{");
    refuse(OCT_E_CORRUPT, "model.safetensors.index.json: ");
}

static void F1_1_index_whose_shards_exist_is_taken(void **state) {
    (void)state;
    put_text("config.json", config);
    put_text("a.safetensors.index.json", "{\"weight_map\":{\"x\":\"gone.safetensors\"}}");
    put_text("b.safetensors.index.json", "{\"weight_map\":{\"y\":\"here.safetensors\"}}");
    put_shard("here.safetensors", "y", 1);
    oct_checkpoint *c = must_open(test_dir);
    assert_non_null(oct_checkpoint_find(c, "y"));
    oct_checkpoint_close(c);
}

static void CF8_file_names(void **state) {
    (void)state;
    static const char *const names[] = {"\"/etc/passwd\"",
                                        "\"../x.safetensors\"",
                                        "\"sub/x.safetensors\"",
                                        "\"..\"",
                                        "\".\"",
                                        "\"\"",
                                        "\"a\\\\b.safetensors\"",
                                        "\"a\\u0000.safetensors\"",
                                        "\"a\\n.safetensors\"",
                                        "7",
                                        "null"};
    char index[256];
    put_text("config.json", config);
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        snprintf(index, sizeof index, "{\"weight_map\":{\"a\":%s}}", names[i]);
        put_text("model.safetensors.index.json", index);
        refuse(OCT_E_CORRUPT, "want the name of a file beside it");
    }
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"pipe.safetensors\"}}");
    assert_int_equal(mkfifo(in_dir("pipe.safetensors"), 0600), 0);
    refuse(OCT_E_IO, "not a regular file");
    /* The layout of the usual download cache: links to files elsewhere. */
    assert_int_equal(mkdir(in_dir("blobs"), 0700), 0);
    put_shard("blobs/0123", "a", 1);
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"link.safetensors\"}}");
    assert_int_equal(symlink("blobs/0123", in_dir("link.safetensors")), 0);
    oct_checkpoint_close(must_open(test_dir));
}

static void ST10_missing_wrong_and_unused(void **state) {
    (void)state;
    const uint64_t four = 4, two[2] = {2, 2};
    oct_err err = {0};
    oct_buf b;
    put_text("config.json", config);
    put_shard("model.safetensors", "a", 1);
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_unused(c, NULL), 1);
    oct_buf_init(&b, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_unused(c, &b), 1);
    assert_string_equal(oct_buf_cs(&b), "a");
    oct_buf_fini(&b);
    assert_non_null(oct_checkpoint_need(c, "a", 1, &four));
    assert_int_equal(oct_checkpoint_unused(c, NULL), 0);
    assert_int_equal(oct_checkpoint_check_needs(c, &err), OCT_OK);
    assert_null(oct_checkpoint_need(c, "a", 2, two));
    assert_null(oct_checkpoint_need_as(c, "a", OCT_DTYPE_I8, 1, &four));
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        assert_null(oct_checkpoint_need(c, name, 1, &four));
    }
    assert_int_equal(oct_checkpoint_check_needs(c, &err), OCT_E_CORRUPT);
    expect_text(&err,
                "7 tensors are missing or wrong: a: got F32 [4], want a float type [2, 2]; "
                "a: got F32 [4], want I8 [4]; m0 is missing; m1 is missing; m2 is missing; ...");
    oct_checkpoint_close(c);
}

static void ST11_vectors_are_finite(void **state) {
    (void)state;
    oct_err err = {0};
    oct_arena arena;
    const float *v;
    float bad[4] = {1, 2, 0, 4};
    put_text("config.json", config);
    put_shard("model.safetensors", "n.module.weight", 1);
    oct_checkpoint *c = must_open(test_dir);
    oct_arena_init(&arena, oct_system_allocator(), 0);
    assert_int_equal(oct_checkpoint_vector(c, &arena, "n.weight", 4, false, &v, &err), OCT_OK);
    assert_true(v && v[3] == 4);
    assert_int_equal(oct_checkpoint_vector(c, &arena, "n.bias", 4, true, &v, &err), OCT_OK);
    assert_null(v);
    assert_int_equal(oct_checkpoint_check_needs(c, &err), OCT_OK);
    assert_int_equal(oct_checkpoint_vector(c, &arena, "n.bias", 4, false, &v, &err), OCT_OK);
    assert_int_equal(oct_checkpoint_check_needs(c, NULL), OCT_E_CORRUPT);
    oct_checkpoint_close(c);
    const uint32_t nan_bits = 0x7FC00000;
    memcpy(&bad[2], &nan_bits, 4);
    put_safetensors("model.safetensors",
                    "{\"n.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", bad,
                    sizeof bad);
    c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_vector(c, &arena, "n.weight", 4, false, &v, &err),
                     OCT_E_CORRUPT);
    expect_text(&err, "model.safetensors: tensor n.weight: not finite at index 2");
    oct_checkpoint_close(c);
    oct_arena_fini(&arena);
}

static void ST13_changed_while_read(void **state) {
    (void)state;
    oct_err err = {0};
    float v[4];
    put_text("config.json", config);
    put_shard("model.safetensors", "a", 1);
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_check_unchanged(c, &err), OCT_OK);
    assert_int_equal(truncate(in_dir("model.safetensors"), 8), 0);
    assert_int_equal(oct_checkpoint_read_rows(c, oct_checkpoint_find(c, "a"), 0, 1, v, &err),
                     OCT_E_CORRUPT);
    expect_text(&err, "changed while it was read");
    err = (oct_err){0};
    assert_int_equal(oct_checkpoint_check_unchanged(c, &err), OCT_E_CORRUPT);
    oct_checkpoint_close(c);
}

static void rows_of_every_float_type(void **state) {
    (void)state;
    unsigned char data[4 + 8 + 8 + 16 + 32 + 1] = {0};
    const double f64[4] = {1, -2, 0.5, 3};
    const float f32[4] = {1, -2, 0.5f, 3};
    const uint16_t bf[4] = {0x3F80, 0xC000, 0x3F00, 0x4040},
                   f16[4] = {0x3C00, 0xC000, 0x3800, 0x4200};
    static const char *const names[] = {"f64", "f32", "bf", "f16"};
    memcpy(data + 1, f64, 32); /* one odd byte in front: nothing is aligned */
    memcpy(data + 33, f32, 16);
    memcpy(data + 49, bf, 8);
    memcpy(data + 57, f16, 8);
    put_text("config.json", config);
    put_safetensors("model.safetensors",
                    "{\"odd\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                    "\"f64\":{\"dtype\":\"F64\",\"shape\":[2,2],\"data_offsets\":[1,33]},"
                    "\"f32\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[33,49]},"
                    "\"bf\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[49,57]},"
                    "\"f16\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[57,65]}}",
                    data, 65);
    oct_checkpoint *c = must_open(test_dir);
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        float v[4] = {0};
        const oct_tensor *t = oct_checkpoint_find(c, names[i]);
        assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 2, v, NULL), OCT_OK);
        assert_memory_equal(v, f32, sizeof f32);
        assert_int_equal(oct_checkpoint_read_rows(c, t, 1, 1, v, NULL), OCT_OK);
        assert_true(v[0] == 0.5f && v[1] == 3);
    }
    oct_checkpoint_close(c);
}

/* ---- GGUF --------------------------------------------------------------------------------------
 */

/* A one-layer file with q [2 heads * 4][2], its bias, k [4][2] and three model tensors; element e
 * of each is e. */
/* n_heads 1: one head of eight dimensions, of which four rotate. n_experts: stacks of [2][4]. */
static void put_gguf_of(const char *arch, uint32_t n_heads, uint32_t n_experts) {
    static const struct {
        const char *name;
        uint64_t d0, d1;
    } rows[] = {{"token_embd.weight", 2, 3},
                {"output_norm.weight", 2, 0},
                {"output.weight", 2, 3},
                {"blk.0.attn_q.weight", 2, 8},
                {"blk.0.attn_q.bias", 8, 0},
                {"blk.0.attn_k.weight", 2, 4},
                {"blk.0.attn_v.weight", 2, 4},
                {"blk.0.attn_norm.weight", 2, 0},
                {"blk.0.ffn_norm.weight", 2, 0},
                {"odd.one", 2, 0},
                {"blk.0.attn_q_norm.weight", 4, 0},
                {"blk.0.ffn_up.7.weight", 2, 4}};
    static const char *const stacks[] = {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight",
                                         "blk.0.ffn_down_exps.weight"};
    const uint32_t n_stacks = n_experts ? OCT_COUNT(stacks) : 0;
    const struct {
        const char *tail;
        uint32_t v;
    } keys[] = {{"block_count", 1},
                {"embedding_length", 8},
                {"feed_forward_length", 8},
                {"attention.head_count", n_heads},
                {"attention.head_count_kv", 1},
                {"context_length", 16},
                {"rope.dimension_count", 4},
                {"expert_count", n_experts},
                {"expert_used_count", n_experts}};
    char key[64];
    oct_buf b;
    uint64_t at = 0;
    oct_buf_init(&b, oct_system_allocator(), 0);
    g_head(&b, 3, OCT_COUNT(rows) + n_stacks, 1 + OCT_COUNT(keys));
    g_key_str(&b, "general.architecture", arch);
    for (size_t i = 0; i < OCT_COUNT(keys); i++) {
        snprintf(key, sizeof key, "%s.%s", arch, keys[i].tail);
        g_key_u32(&b, key, keys[i].v);
    }
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        g_tensor(&b, rows[i].name, rows[i].d0, rows[i].d1, 0, at);
        at += (4 * rows[i].d0 * (rows[i].d1 ? rows[i].d1 : 1) + 31) / 32 * 32;
    }
    for (uint32_t i = 0; i < n_stacks; i++) {
        g_str(&b, stacks[i]);
        g_u32(&b, 3);
        g_u64(&b, 4);
        g_u64(&b, 2);
        g_u64(&b, n_experts);
        g_u32(&b, 0);
        g_u64(&b, at);
        at += (4ull * 8 * n_experts + 31) / 32 * 32;
    }
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        g_pad(&b, 32);
        for (uint64_t e = 0; e < rows[i].d0 * (rows[i].d1 ? rows[i].d1 : 1); e++) {
            const float v = (float)e;
            oct_buf_add(&b, &v, 4);
        }
    }
    for (uint32_t i = 0; i < n_stacks; i++) {
        g_pad(&b, 32);
        for (uint32_t e = 0; e < 8 * n_experts; e++) {
            const float v = (float)(100 * i + e);
            oct_buf_add(&b, &v, 4);
        }
    }
    put_file("m.gguf", b.data, b.len);
    oct_buf_fini(&b);
}

static void put_gguf(const char *arch) { put_gguf_of(arch, 2, 0); }

static void gguf_names_are_mapped(void **state) {
    (void)state;
    put_gguf("qwen3");
    oct_checkpoint *c = must_open(in_dir("m.gguf"));
    static const char *const names[] = {"model.embed_tokens.weight",
                                        "model.norm.weight",
                                        "lm_head.weight",
                                        "model.layers.0.self_attn.q_proj.weight",
                                        "model.layers.0.self_attn.q_proj.bias",
                                        "model.layers.0.self_attn.v_proj.weight",
                                        "model.layers.0.input_layernorm.weight",
                                        "model.layers.0.post_attention_layernorm.weight",
                                        "model.layers.0.self_attn.q_norm.weight",
                                        "odd.one"};
    for (size_t i = 0; i < OCT_COUNT(names); i++) assert_non_null(oct_checkpoint_find(c, names[i]));
    assert_non_null(oct_checkpoint_gguf(c));
    assert_int_equal(oct_checkpoint_config(c)->family, OCT_FAMILY_QWEN3);
    float v[16];
    const oct_tensor *q = oct_checkpoint_find(c, names[3]);
    assert_int_equal(oct_checkpoint_read_rows(c, q, 0, 8, v, NULL), OCT_OK);
    for (int i = 0; i < 16; i++) assert_true(v[i] == (float)i); /* qwen3 keeps the usual order */
    oct_checkpoint_close(c);
}

static void gguf_llama_rows_are_put_back(void **state) {
    (void)state;
    /* Usual row a * 2 + b of a head of four is stored as row 2b + a. */
    static const int stored[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    float v[16], bias[8], part[4];
    put_gguf("llama");
    oct_checkpoint *c = must_open(in_dir("m.gguf"));
    const oct_tensor *q = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(oct_checkpoint_read_rows(c, q, 0, 8, v, NULL), OCT_OK);
    for (int r = 0; r < 8; r++)
        assert_true(v[2 * r] == (float)(2 * stored[r]) &&
                    v[2 * r + 1] == (float)(2 * stored[r] + 1));
    for (uint64_t r = 0; r + 2 <= 8; r++) { /* any piece, across heads too */
        assert_int_equal(oct_checkpoint_read_raw_rows(c, q, r, 2, part, NULL), OCT_OK);
        assert_memory_equal(part, v + 2 * r, sizeof part);
    }
    const oct_tensor *qb = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.bias");
    assert_int_equal(oct_checkpoint_read_rows(c, qb, 0, 1, bias, NULL), OCT_OK);
    for (int r = 0; r < 8; r++) assert_true(bias[r] == (float)stored[r]);
    const oct_tensor *val = oct_checkpoint_find(c, "model.layers.0.self_attn.v_proj.weight");
    assert_int_equal(oct_checkpoint_read_rows(c, val, 0, 4, v, NULL), OCT_OK);
    for (int i = 0; i < 8; i++) assert_true(v[i] == (float)i);
    oct_checkpoint_close(c);
}

/* GLM-4 rotates neighbours in the first half of a head; the rest of its rows stay. */
static void gguf_glm4_rows_are_put_back(void **state) {
    (void)state;
    static const int stored[8] = {0, 2, 1, 3, 4, 5, 6, 7};
    float v[16], bias[8];
    put_gguf_of("glm4", 1, 0);
    oct_checkpoint *c = must_open(in_dir("m.gguf"));
    const oct_tensor *q = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(oct_checkpoint_read_rows(c, q, 0, 8, v, NULL), OCT_OK);
    for (int r = 0; r < 8; r++) assert_true(v[2 * r] == (float)(2 * stored[r]));
    const oct_tensor *qb = oct_checkpoint_find(c, "model.layers.0.self_attn.q_proj.bias");
    assert_int_equal(oct_checkpoint_read_rows(c, qb, 0, 1, bias, NULL), OCT_OK);
    for (int r = 0; r < 8; r++) assert_true(bias[r] == (float)stored[r]);
    oct_checkpoint_close(c);
}

static void gguf_stacked_experts_are_one_tensor_each(void **state) {
    (void)state;
    static const struct {
        const char *arch, *block;
        const char *parts[3];
    } families[] = {{"llama", "block_sparse_moe", {"w1", "w3", "w2"}},
                    {"qwen3moe", "mlp", {"gate_proj", "up_proj", "down_proj"}}};
    char name[96];
    float v[8];
    for (size_t f = 0; f < OCT_COUNT(families); f++) {
        put_gguf_of(families[f].arch, 2, 3);
        oct_checkpoint *c = must_open(in_dir("m.gguf"));
        for (unsigned p = 0; p < 3; p++)
            for (unsigned e = 0; e < 3; e++) {
                snprintf(name, sizeof name, "model.layers.0.%s.experts.%u.%s.weight",
                         families[f].block, e, families[f].parts[p]);
                const oct_tensor *t = oct_checkpoint_find(c, name);
                assert_non_null(t);
                assert_true(oct_tensor_has_shape(t, 2, (const uint64_t[]){2, 4}));
                assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 2, v, NULL), OCT_OK);
                for (unsigned i = 0; i < 8; i++) assert_true(v[i] == (float)(100 * p + 8 * e + i));
            }
        /* Files of before experts were stacked. */
        snprintf(name, sizeof name, "model.layers.0.%s.experts.7.%s.weight", families[f].block,
                 families[f].parts[1]);
        assert_non_null(oct_checkpoint_find(c, name));
        oct_checkpoint_close(c);
    }
}

static uint64_t fingerprint_of_folder(void) {
    uint64_t hash = 0;
    oct_checkpoint *c = must_open(test_dir);
    assert_int_equal(oct_checkpoint_fingerprint(c, &hash, NULL), OCT_OK);
    oct_checkpoint_close(c);
    return hash;
}

/* One tensor of SAMPLED bytes, of which byte `changed` differs (none when there is no such byte).
 */
enum { SAMPLED = 40001 };

static uint64_t fingerprint_with(size_t changed) {
    static unsigned char v[SAMPLED + 16];
    char header[256];
    for (size_t i = 0; i < sizeof v; i++) v[i] = (unsigned char)(i * 7);
    if (changed < SAMPLED) v[changed] ^= 1;
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%d,%d]}}",
             SAMPLED, SAMPLED, SAMPLED, SAMPLED + 16);
    put_text("config.json", config);
    put_safetensors("model.safetensors", header, v, sizeof v);
    return fingerprint_of_folder();
}

static void fingerprint_is_of_the_weights(void **state) {
    (void)state;
    const uint64_t plain = fingerprint_with(SIZE_MAX);
    assert_true(plain == fingerprint_with(SIZE_MAX));
    static const size_t seen[] = {0,           4095,           SAMPLED / 2 - 2047, SAMPLED / 2,
                                  SAMPLED - 1, SAMPLED - 4096, SAMPLED / 2 + 2000};
    for (size_t i = 0; i < OCT_COUNT(seen); i++) assert_true(fingerprint_with(seen[i]) != plain);
    assert_true(fingerprint_with(10000) == plain); /* between the samples, as documented */

    /* Another order, another cut: the same. Another name or type: not. */
    put_safetensors("model.safetensors",
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                    "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                    "wxyz", 4);
    const uint64_t one = fingerprint_of_folder();
    put_safetensors("model.safetensors",
                    "{\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                    "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                    "yzwx", 4);
    assert_true(fingerprint_of_folder() == one);
    put_safetensors("model.safetensors",
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                    "\"c\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                    "wxyz", 4);
    assert_true(fingerprint_of_folder() != one);
    put_safetensors("model.safetensors",
                    "{\"a\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                    "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                    "wxyz", 4);
    assert_true(fingerprint_of_folder() != one);
}

typedef struct digest {
    uint64_t v[2];
} digest;

static digest digest_of(const char *path) {
    digest d = {{0, 0}};
    oct_checkpoint *c = must_open(path);
    assert_int_equal(oct_checkpoint_digest(c, d.v, NULL), OCT_OK);
    oct_checkpoint_close(c);
    return d;
}

static bool same_digest(digest a, digest b) { return a.v[0] == b.v[0] && a.v[1] == b.v[1]; }

/* A tensor longer than a piece, of which any byte counts. */
static void a_digest_is_of_every_byte(void **state) {
    (void)state;
    enum { LONG = (1 << 20) + 5 };
    static unsigned char v[LONG + 2];
    static const char *const names[] = {"a", "c"};
    static const size_t at[] = {SIZE_MAX, SIZE_MAX, 5000,    (1 << 20) - 1,
                                1 << 20,  LONG - 1, LONG + 1};
    digest seen[OCT_COUNT(at) + 1];
    put_text("config.json", config);
    for (size_t i = 0; i < OCT_COUNT(seen); i++) {
        char header[256];
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
                 "\"d\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%d,%d]}}",
                 names[i == OCT_COUNT(at)], LONG, LONG, LONG, LONG + 2);
        const size_t byte = i < OCT_COUNT(at) ? at[i] : SIZE_MAX;
        if (byte != SIZE_MAX) v[byte] ^= 1;
        put_safetensors("model.safetensors", header, v, sizeof v);
        if (byte != SIZE_MAX) v[byte] ^= 1;
        seen[i] = digest_of(test_dir);
        for (size_t k = 0; k < i; k++) assert_int_equal(same_digest(seen[k], seen[i]), i == 1);
    }
}

static oct_status take_digest(void *ctx, const oct_allocator *mem) {
    digest d;
    oct_checkpoint *c;
    oct_status status = oct_checkpoint_open(mem, ctx, &c, NULL);
    if (status == OCT_OK) status = oct_checkpoint_digest(c, d.v, NULL);
    oct_checkpoint_close(c);
    return status;
}

static void a_digest_that_cannot_be_taken(void **state) {
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}";
    put_text("config.json", config);
    put_safetensors("model.safetensors", header, "12345678", 8);
    refuse_each_request(take_digest, test_dir);
    oct_checkpoint *c = must_open(test_dir);
    put_safetensors("model.safetensors", header, "123", 3);
    assert_int_equal(oct_checkpoint_digest(c, (uint64_t[2]){0}, NULL), OCT_E_CORRUPT);
    oct_checkpoint_close(c);
}

static oct_status open_and_close(void *ctx, const oct_allocator *mem) {
    oct_checkpoint *c;
    const oct_status status = oct_checkpoint_open(mem, ctx, &c, NULL);
    oct_checkpoint_close(c);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    put_text("config.json", config);
    put_text("generation_config.json", "{\"temperature\":0.5}");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"x.safetensors\"}}");
    put_shard("x.safetensors", "a", 1);
    refuse_each_request(open_and_close, test_dir);
}

/* ---- golden ------------------------------------------------------------------------------------
 */

static void golden_folders_open(void **state) {
    (void)state;
    char path[2048];
    if (!golden_root()) skip();
    for (size_t i = 0; golden_folder(i, path); i++) {
        const uint64_t shape[2] = {256, 64};
        oct_checkpoint *c = must_open(path);
        const oct_model_config *m = oct_checkpoint_config(c);
        assert_true(m->vocab == 256 && m->hidden == 64 && m->n_layers == 2);
        const oct_tensor *t = oct_checkpoint_need(c, "model.embed_tokens.weight", 2, shape);
        assert_non_null(t);
        float *v = test_malloc(256 * 64 * sizeof *v);
        assert_int_equal(oct_checkpoint_read_rows(c, t, 0, 256, v, NULL), OCT_OK);
        test_free(v);
        oct_checkpoint_close(c);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(CL2_missing_files),
        TEST(CF9_only_pickles),
        TEST(CF2_file_over_its_limit),
        TEST(F1_1_which_files_are_the_model),
        TEST(ST12_index),
        TEST(F1_1_index_whose_shards_exist_is_taken),
        TEST(CF8_file_names),
        TEST(ST10_missing_wrong_and_unused),
        TEST(ST11_vectors_are_finite),
        TEST(ST13_changed_while_read),
        TEST(rows_of_every_float_type),
        TEST(gguf_names_are_mapped),
        TEST(gguf_llama_rows_are_put_back),
        TEST(gguf_glm4_rows_are_put_back),
        TEST(gguf_stacked_experts_are_one_tensor_each),
        TEST(every_allocation_may_fail),
        TEST(golden_folders_open),
        TEST(fingerprint_is_of_the_weights),
        TEST(a_digest_is_of_every_byte),
        TEST(a_digest_that_cannot_be_taken),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
