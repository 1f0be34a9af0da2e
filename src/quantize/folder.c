/* quantize/folder.c - small files; each is written beside its name and renamed. */
#include "quantize/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/json.h"
#include "store/file.h"

enum { COPY_LIMIT = 256 << 20, CONFIG_LIMIT = 16 << 20 };

/* What belongs to a tokenizer in a model folder. */
static const char *const tokenizer_files[] = {
    "tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "added_tokens.json",     "vocab.json",
    "merges.txt",          "tokenizer.model",
};

/* Engines look for it before they look at config.json. */
static oct_status check_description(const char *out, const char *ours, oct_err *err) {
    oct_status st = OCT_OK;
    DIR *dir = opendir(out);
    if (!dir) return OCT_FAIL(err, OCT_E_IO, "%s: %s", out, strerror(errno));
    for (struct dirent *e; st == OCT_OK && (e = readdir(dir));) {
        if (strncmp(e->d_name, "quant_model_description", 23) != 0) continue;
        if (!ours || strcmp(e->d_name, ours) != 0)
            st = OCT_FAIL(err, OCT_E_INVALID,
                          "%s: %s is there and does not belong to the result; remove it or name "
                          "another folder",
                          out, e->d_name);
    }
    closedir(dir);
    return st;
}

oct_status oct_folder_make(const char *out, const char *source, const char *description,
                           oct_err *err) {
    struct stat a, b;
    if (mkdir(out, 0777) != 0 && errno != EEXIST)
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", out, strerror(errno));
    if (stat(out, &a) != 0 || !S_ISDIR(a.st_mode))
        return OCT_FAIL(err, OCT_E_INVALID, "%s: not a folder", out);
    if (stat(source, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return OCT_FAIL(err, OCT_E_INVALID, "%s: the result cannot replace its source", out);
    if (access(out, W_OK | X_OK) != 0)
        return OCT_FAIL(err, OCT_E_IO, "%s: %s", out, strerror(errno));
    return check_description(out, description, err);
}

static oct_status write_whole(const oct_allocator *mem, const char *folder, const char *name,
                              const void *data, size_t len, oct_err *err) {
    oct_buf path, part;
    oct_status st = OCT_OK;
    oct_buf_init(&path, mem, 0);
    oct_buf_init(&part, mem, 0);
    oct_buf_printf(&path, "%s/%s", folder, name);
    oct_buf_printf(&part, "%s/.%s.part", folder, name);
    const bool named = !path.failed && !part.failed;
    if (!named) st = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    FILE *f = named ? fopen(oct_buf_cs(&part), "wb") : NULL;
    if (!f || fwrite(data, 1, len, f) != len || fflush(f) != 0)
        st = OCT_FAIL(err, OCT_E_IO, "%s: %s", oct_buf_cs(&path), strerror(errno));
    if (f && fclose(f) != 0 && st == OCT_OK)
        st = OCT_FAIL(err, OCT_E_IO, "%s: %s", oct_buf_cs(&path), strerror(errno));
    if (st == OCT_OK && rename(oct_buf_cs(&part), oct_buf_cs(&path)) != 0)
        st = OCT_FAIL(err, OCT_E_IO, "%s: %s", oct_buf_cs(&path), strerror(errno));
    if (st != OCT_OK) unlink(oct_buf_cs(&part));
    oct_buf_fini(&path);
    oct_buf_fini(&part);
    return st;
}

static int add_text(const char *text, size_t len, void *buf) {
    oct_buf_add(buf, text, len);
    return ((oct_buf *)buf)->failed ? -1 : 0;
}

oct_status oct_folder_write_json(const oct_allocator *mem, const json_t *value, const char *folder,
                                 const char *name, oct_err *err) {
    oct_buf text;
    oct_buf_init(&text, mem, 0);
    const bool ok = value && json_dump_callback(value, add_text, &text,
                                                JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    oct_buf_char(&text, '\n');
    const oct_status st = ok && !text.failed
                              ? write_whole(mem, folder, name, text.data, text.len, err)
                              : OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    oct_buf_fini(&text);
    return st;
}

/* Copies a file of the source folder if it is there. */
static oct_status copy_file(const oct_allocator *mem, const char *from, const char *to,
                            const char *name, oct_err *err) {
    oct_buf path, data;
    oct_buf_init(&path, mem, 0);
    oct_buf_init(&data, mem, 0);
    oct_buf_printf(&path, "%s/%s", from, name);
    oct_status st = OCT_OK;
    if (path.failed) {
        st = OCT_FAIL(err, OCT_E_NOMEM, "%s: no memory", name);
    } else if (access(oct_buf_cs(&path), F_OK) == 0) {
        st = oct_file_read_small(mem, oct_buf_cs(&path), COPY_LIMIT, &data, err);
        if (st == OCT_E_IO) st = OCT_E_CORRUPT; /* the model's fault, not the result's */
        if (st == OCT_OK) st = write_whole(mem, to, name, oct_buf_cs(&data), data.len, err);
    }
    oct_buf_fini(&path);
    oct_buf_fini(&data);
    return st;
}

/* ---- config.json ---------------------------------------------------------------------------- */

static oct_status config_of_folder(const oct_allocator *mem, const char *folder, bool own_head,
                                   json_t **out, oct_err *err) {
    oct_buf path, text;
    oct_buf_init(&path, mem, 0);
    oct_buf_init(&text, mem, 0);
    oct_buf_printf(&path, "%s/config.json", folder);
    oct_status st = path.failed
                        ? OCT_FAIL(err, OCT_E_NOMEM, "config.json: no memory")
                        : oct_file_read_small(mem, oct_buf_cs(&path), CONFIG_LIMIT, &text, err);
    if (st == OCT_OK)
        st =
            oct_json_parse(oct_buf_view(&text), oct_buf_cs(&path), &oct_json_file_limits, out, err);
    if (st == OCT_OK) {
        json_object_del(*out, "quantization_config");
        if (own_head) oct_json_put(out, "tie_word_embeddings", json_false());
    }
    oct_buf_fini(&path);
    oct_buf_fini(&text);
    return st;
}

static oct_status write_generation(const oct_allocator *mem, const oct_checkpoint *ckpt,
                                   const char *out, oct_err *err) {
    const oct_model_config *c = oct_checkpoint_config(ckpt);
    json_t *j = json_object();
    if (c->bos_id >= 0) oct_json_put(&j, "bos_token_id", json_integer(c->bos_id));
    if (c->n_eos) oct_json_put(&j, "eos_token_id", oct_folder_eos(c));
    const oct_status st = oct_folder_write_json(mem, j, out, "generation_config.json", err);
    json_decref(j);
    return st;
}

oct_status oct_folder_write(const oct_allocator *mem, const oct_checkpoint *ckpt,
                            const oct_tokenizer *tokenizer, const char *out, bool own_head,
                            json_t *quantization_config, oct_err *err) {
    const char *source = oct_checkpoint_path(ckpt);
    const bool gguf = oct_checkpoint_gguf(ckpt) != NULL;
    json_t *config = NULL;

    if (gguf)
        config = oct_folder_config(oct_checkpoint_config(ckpt), own_head);
    else
        OCT_TRY(config_of_folder(mem, source, own_head, &config, err));
    if (quantization_config)
        oct_json_put(&config, "quantization_config", json_incref(quantization_config));
    oct_status st = oct_folder_write_json(mem, config, out, "config.json", err);
    json_decref(config);

    if (st == OCT_OK && gguf) st = write_generation(mem, ckpt, out, err);
    if (st == OCT_OK && gguf && tokenizer) st = oct_tokenizer_write_json(tokenizer, out, err);
    if (st == OCT_OK && !gguf) st = copy_file(mem, source, out, "generation_config.json", err);
    for (size_t i = 0; !gguf && st == OCT_OK && i < OCT_COUNT(tokenizer_files); i++)
        st = copy_file(mem, source, out, tokenizer_files[i], err);
    return st;
}
