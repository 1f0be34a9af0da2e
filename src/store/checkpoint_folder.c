/*
 * store/checkpoint_folder.c - which files of a folder are the model.
 *
 * Weights are found in this order: an index (of several, the first by name whose shards all exist);
 * quant_model_weight*.safetensors when there is a quantisation description; model.safetensors; all
 * *.safetensors of the folder itself. Sub-folders are never entered.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/json.h"
#include "store/checkpoint_parts.h"

enum { MAX_ENTRIES = 100000, MAX_SHARDS = 4096 };

static const char description_name[] = "quant_model_description.json";

/* Names in the folder, sorted. */
typedef struct listing {
    const char **names;
    size_t n, cap;
} listing;

static oct_status no_memory(const oct_checkpoint *c, oct_err *err) {
    return OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", c->path);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static oct_status add_name(oct_checkpoint *c, listing *l, const char *name, oct_err *err) {
    if (l->n == MAX_ENTRIES)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: more than %d files", c->path, MAX_ENTRIES);
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 32;
        const char **p = oct_grow(c->mem, l->names, l->cap, cap, sizeof *p);
        if (!p) return no_memory(c, err);
        l->names = p;
        l->cap = cap;
    }
    l->names[l->n] = oct_arena_strndup(&c->arena, name, strlen(name));
    return l->names[l->n++] ? OCT_OK : no_memory(c, err);
}

static oct_status list_folder(oct_checkpoint *c, listing *l, oct_err *err) {
    DIR *dir = opendir(c->path);
    oct_status status = OCT_OK;
    if (!dir)
        return OCT_FAIL(err, errno == ENOMEM ? OCT_E_NOMEM : OCT_E_IO, "%s: %s", c->path,
                        strerror(errno));
    for (struct dirent *e; status == OCT_OK && (e = readdir(dir));)
        if (e->d_name[0] != '.') status = add_name(c, l, e->d_name, err);
    closedir(dir);
    if (l->n > 1) qsort(l->names, l->n, sizeof *l->names, by_text);
    for (size_t i = 0; i < l->n; i++)
        if (oct_str_ends(oct_str_of(l->names[i]), OCT_STR(".json")))
            oct_buf_printf(&c->json_files, "%s%s", c->json_files.len ? ", " : "", l->names[i]);
    return status;
}

static bool has_file(const listing *l, const char *name) {
    return l->n && bsearch(&name, l->names, l->n, sizeof *l->names, by_text);
}

static bool ends(const char *name, const char *tail) {
    return oct_str_ends(oct_str_of(name), oct_str_of(tail));
}

/* ---- JSON files ------------------------------------------------------------------------------ */

static oct_status read_text(oct_checkpoint *c, const char *name, oct_buf *out, oct_err *err) {
    char *path = oct_path_join(c->mem, c->path, oct_str_of(name));
    if (!path) return no_memory(c, err);
    const oct_status status = oct_file_read_small(c->mem, path, OCT_CONFIG_MAX_BYTES, out, err);
    oct_path_free(c->mem, path);
    return status;
}

oct_status oct_checkpoint_read_object(oct_str text, const char *name, json_t **out, oct_err *err) {
    oct_status status = oct_json_parse(text, name, &oct_json_file_limits, out, err);
    if (status == OCT_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = OCT_FAIL(err, OCT_E_CORRUPT, "%s: not a JSON object", name);
    }
    return status == OCT_E_INVALID ? OCT_E_CORRUPT : status;
}

static oct_status read_json_object(oct_checkpoint *c, const char *name, json_t **out,
                                   oct_err *err) {
    oct_buf text;
    oct_buf_init(&text, c->mem, 0);
    *out = NULL;
    oct_status status = read_text(c, name, &text, err);
    if (status == OCT_OK) status = oct_checkpoint_read_object(oct_buf_view(&text), name, out, err);
    oct_buf_fini(&text);
    return status;
}

/* Says which needed file is absent, and what the folder looks like instead. */
static oct_status no_config(const oct_checkpoint *c, const listing *l, oct_err *err) {
    for (size_t i = 0; i < l->n; i++)
        if (ends(l->names[i], ".gguf"))
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: config.json is missing; to use the GGUF file in it, name the file "
                            "itself: %s",
                            c->path, l->names[i]);
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: config.json is missing%s", c->path,
                    l->n ? "" : " (the folder is empty)");
}

/* Old writers put the scheme into the name (quant_model_description_w8a8.json); such a file is
 * taken when it is the only one. */
static oct_status read_description(oct_checkpoint *c, const listing *l, oct_err *err) {
    static const char head[] = "quant_model_description_";
    const char *only = NULL;
    size_t n = 0;
    c->description_name = description_name;
    for (size_t i = 0; i < l->n; i++)
        if (strncmp(l->names[i], head, sizeof head - 1) == 0 && ends(l->names[i], ".json")) {
            only = l->names[i];
            n++;
        }
    if (has_file(l, description_name))
        return read_json_object(c, description_name, &c->description, err);
    if (n != 1) return OCT_OK;
    oct_warn("%s: %s is missing; %s is read", c->path, description_name, only);
    c->description_name = only;
    return read_json_object(c, only, &c->description, err);
}

static oct_status read_settings(oct_checkpoint *c, const listing *l, oct_err *err) {
    oct_buf text;
    if (!has_file(l, "config.json")) return no_config(c, l, err);
    oct_buf_init(&text, c->mem, 0);
    oct_status status = read_text(c, "config.json", &text, err);
    if (status == OCT_OK && c->overrides)
        status = oct_model_config_override(&text, c->overrides, err);
    if (status == OCT_OK)
        status = oct_model_config_parse(oct_buf_view(&text), "config.json", &c->config, err);
    if (status == OCT_OK && has_file(l, "generation_config.json")) {
        oct_err why = {0};
        if (read_text(c, "generation_config.json", &text, &why) == OCT_OK)
            oct_generation_config_parse(oct_buf_view(&text), "generation_config.json",
                                        c->config.vocab, &c->generation);
        else
            oct_warn("%s; ignored", why.text);
    }
    oct_buf_fini(&text);
    if (status == OCT_OK) status = read_description(c, l, err);
    return status;
}

/* ---- shards ---------------------------------------------------------------------------------- */

static oct_status open_shard(oct_checkpoint *c, const char *name, oct_err *err) {
    if (c->n_shards == MAX_SHARDS)
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: more than %d shards", c->path, MAX_SHARDS);
    if (c->n_shards == c->cap_shards) {
        const size_t cap = c->cap_shards ? 2 * c->cap_shards : 16;
        oct_shard *p = oct_grow(c->mem, c->shards, c->cap_shards, cap, sizeof *p);
        if (!p) return no_memory(c, err);
        c->shards = p;
        c->cap_shards = cap;
    }
    char *path = oct_path_join(c->mem, c->path, oct_str_of(name));
    if (!path) return no_memory(c, err);
    oct_safetensors *st;
    const oct_status status = oct_safetensors_open(c->mem, path, &st, err);
    oct_path_free(c->mem, path);
    if (status != OCT_OK) return status;
    c->shards[c->n_shards].st = st;
    for (size_t i = 0; i < oct_safetensors_n(st); i++) {
        oct_tensor t = *oct_safetensors_at(st, i);
        t.file = (uint32_t)c->n_shards;
        if (!oct_tensor_table_add(&c->table, &t)) {
            c->n_shards++;
            return no_memory(c, err);
        }
    }
    c->n_shards++;
    return OCT_OK;
}

static const char *shard_name(const oct_checkpoint *c, size_t i) {
    return oct_path_base(oct_safetensors_file(c->shards[i].st)->path);
}

/* ---- index ----------------------------------------------------------------------------------- */

/* The distinct file names of a weight_map, checked (CF8), into out. */
static oct_status index_files(oct_checkpoint *c, const char *index, const json_t *map, listing *out,
                              oct_err *err) {
    const char *tensor, *last = "";
    json_t *value;
    char shown[OCT_JSON_SHOWN];
    if (!json_is_object(map))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: weight_map is missing or no object", index);
    json_object_foreach((json_t *)map, tensor, value) {
        const oct_str name = oct_json_str(value);
        if (!name.ptr || !oct_file_name_is_plain(name))
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: weight_map.%.128s: want the name of a file beside it (got %s)",
                            index, tensor, oct_json_show(value, shown));
        if (!ends(name.ptr, ".safetensors"))
            return OCT_FAIL(err, OCT_E_UNSUPPORTED,
                            "%s: weight_map.%.128s: only safetensors files are read (got %s)",
                            index, tensor, oct_json_show(value, shown));
        if (strcmp(name.ptr, last) == 0) continue;
        last = name.ptr;
        bool known = false;
        for (size_t i = 0; i < out->n && !known; i++) known = strcmp(out->names[i], last) == 0;
        if (!known && out->n == MAX_SHARDS)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: more than %d shards", index, MAX_SHARDS);
        if (!known) OCT_TRY(add_name(c, out, last, err));
    }
    if (out->n == 0) return OCT_FAIL(err, OCT_E_CORRUPT, "%s: weight_map is empty", index);
    if (out->n > 1) qsort(out->names, out->n, sizeof *out->names, by_text);
    return OCT_OK;
}

/* Length of "model" in "model-00001-of-00003.safetensors", and where "00003..." begins; 0: no. */
static size_t series_of(const char *name, const char **total) {
    static const char pattern[] = "-ddddd-of-ddddd.safetensors";
    const size_t n = strlen(name), tail = sizeof pattern - 1;
    if (n <= tail) return 0;
    for (size_t i = 0; i < tail; i++) {
        const char ch = name[n - tail + i];
        if (pattern[i] == 'd' ? (ch < '0' || ch > '9') : ch != pattern[i]) return 0;
    }
    *total = name + n - tail + 10;
    return n - tail;
}

/* A file that by its name is a part of a listed series must be listed (ST12). */
static oct_status check_unlisted(const char *index, const listing *folder, const listing *listed,
                                 oct_err *err) {
    for (size_t i = 0; i < folder->n; i++) {
        const char *total, *other;
        const size_t n = series_of(folder->names[i], &total);
        if (n == 0 || has_file(listed, folder->names[i])) continue;
        for (size_t k = 0; k < listed->n; k++)
            if (series_of(listed->names[k], &other) == n && strcmp(total, other) == 0 &&
                memcmp(listed->names[k], folder->names[i], n) == 0)
                return OCT_FAIL(err, OCT_E_CORRUPT, "%s: shard %s is not listed", index,
                                folder->names[i]);
    }
    return OCT_OK;
}

/* Every mapped tensor lies in its file, and only there. The table is indexed. */
static oct_status check_map(oct_checkpoint *c, const char *index, const json_t *map, oct_err *err) {
    const char *tensor;
    json_t *value;
    size_t n_mapped = 0;
    json_object_foreach((json_t *)map, tensor, value) {
        const oct_tensor *t = oct_tensor_table_find(&c->table, oct_str_of(tensor));
        const char *want = json_string_value(value);
        if (!t || strcmp(shard_name(c, t->file), want) != 0)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %.128s is not in %.128s%s%.128s", index,
                            tensor, want, t ? " but in " : "", t ? shard_name(c, t->file) : "");
        n_mapped++;
    }
    if (n_mapped < c->table.n)
        oct_warn("%s: %zu tensors of the shards are not listed", index, c->table.n - n_mapped);
    return OCT_OK;
}

static void check_total(const oct_checkpoint *c, const char *index, const json_t *root) {
    const json_t *total = json_object_get(json_object_get(root, "metadata"), "total_size");
    uint64_t sum = 0;
    for (size_t i = 0; i < c->table.n; i++) sum += c->table.v[i].bytes;
    if (total && (!json_is_number(total) || json_number_value(total) != (double)sum))
        oct_warn("%s: metadata.total_size is not the %" PRIu64 " bytes of the tensors", index, sum);
}

static oct_status index_table(oct_checkpoint *c, const char *where, oct_err *err) {
    const oct_tensor *twice;
    if (!oct_tensor_table_index(&c->table, &twice)) return no_memory(c, err);
    if (!twice) return OCT_OK;
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: tensor %.128s is in two shards", where,
                    twice->name.ptr);
}

static oct_status open_index(oct_checkpoint *c, const char *index, const listing *folder,
                             json_t *root, listing *files, oct_err *err) {
    const json_t *map = json_object_get(root, "weight_map");
    for (size_t i = 0; i < files->n; i++)
        if (!has_file(folder, files->names[i]))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: shard %.128s is missing", index,
                            files->names[i]);
    OCT_TRY(check_unlisted(index, folder, files, err));
    for (size_t i = 0; i < files->n; i++) OCT_TRY(open_shard(c, files->names[i], err));
    OCT_TRY(index_table(c, index, err));
    OCT_TRY(check_map(c, index, map, err));
    check_total(c, index, root);
    return OCT_OK;
}

/* Opens what the index says. *skipped: a shard is missing but another index may do. */
static oct_status try_index(oct_checkpoint *c, const char *index, const listing *folder,
                            bool may_skip, bool *skipped, oct_err *err) {
    json_t *root = NULL;
    listing files = {0};
    *skipped = false;
    oct_status status = read_json_object(c, index, &root, err);
    if (status == OCT_OK)
        status = index_files(c, index, json_object_get(root, "weight_map"), &files, err);
    for (size_t i = 0; status == OCT_OK && may_skip && i < files.n; i++)
        *skipped |= !has_file(folder, files.names[i]);
    if (status == OCT_OK && !*skipped) status = open_index(c, index, folder, root, &files, err);
    oct_free(c->mem, files.names, files.cap, sizeof *files.names);
    json_decref(root);
    return status;
}

/* ---- choosing -------------------------------------------------------------------------------- */

static oct_status no_weights(const oct_checkpoint *c, const listing *l, oct_err *err) {
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt"};
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < OCT_COUNT(pickles); k++)
            if (ends(l->names[i], pickles[k]))
                return OCT_FAIL(
                    err, OCT_E_UNSUPPORTED,
                    "%s: only pickle weights (%.128s); octet reads safetensors only and "
                    "never opens pickles",
                    c->path, l->names[i]);
    return OCT_FAIL(err, OCT_E_CORRUPT, "%s: model.safetensors is missing", c->path);
}

static bool is_wanted(const char *name, int rule) {
    if (!ends(name, ".safetensors")) return false;
    if (rule == 0) return strncmp(name, "quant_model_weight", 18) == 0;
    return rule == 2 || strcmp(name, "model.safetensors") == 0;
}

static oct_status open_plain(oct_checkpoint *c, const listing *l, oct_err *err) {
    for (int rule = c->description ? 0 : 1; rule <= 2 && c->n_shards == 0; rule++)
        for (size_t i = 0; i < l->n; i++)
            if (is_wanted(l->names[i], rule)) OCT_TRY(open_shard(c, l->names[i], err));
    if (c->n_shards == 0) return no_weights(c, l, err);
    return index_table(c, c->path, err);
}

static oct_status open_weights(oct_checkpoint *c, const listing *l, oct_err *err) {
    size_t n_left = 0;
    for (size_t i = 0; i < l->n; i++) n_left += ends(l->names[i], ".safetensors.index.json");
    for (size_t i = 0; i < l->n; i++) {
        bool skipped;
        if (!ends(l->names[i], ".safetensors.index.json")) continue;
        n_left--;
        OCT_TRY(try_index(c, l->names[i], l, n_left > 0, &skipped, err));
        if (!skipped) return OCT_OK;
    }
    return open_plain(c, l, err);
}

oct_status oct_checkpoint_open_folder(oct_checkpoint *c, oct_err *err) {
    listing l = {0};
    oct_status status = list_folder(c, &l, err);
    if (status == OCT_OK) status = read_settings(c, &l, err);
    if (status == OCT_OK) status = open_weights(c, &l, err);
    oct_free(c->mem, l.names, l.cap, sizeof *l.names);
    return status;
}
