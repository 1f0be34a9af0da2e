/*
 * apps/serve/tokenizer_info.c - what /tokenizer_info tells: tokenizer_config.json of the folder
 * that the tokenizer came from, with tokenizer_class and chat_template always there.
 */
#include <stdio.h>

#include "codec/json.h"
#include "serve.h"
#include "store/file.h"

/* {} where there is no such file, as with GGUF. */
static int read_config(const server *s, json_t **out) {
    const char *folder = s->o.open.tokenizer ? s->o.open.tokenizer : s->o.model;
    char path[4096];
    oct_err err = {0};
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    *out = NULL;
    oct_status st = OCT_OK;
    if (snprintf(path, sizeof path, "%s/tokenizer_config.json", folder) < (int)sizeof path &&
        oct_file_read_small(oct_system_allocator(), path, oct_json_file_limits.max_bytes, &text,
                            NULL) == OCT_OK)
        st = oct_json_parse(oct_buf_view(&text), path, &oct_json_file_limits, out, &err);
    oct_buf_fini(&text);
    if (st != OCT_OK) return cli_fail(EXIT_MODEL, "%s", err.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = json_object();
    }
    return -1;
}

static void set(json_t *to, const char *key, oct_str value) {
    json_object_set_new(to, key, value.ptr ? json_stringn(value.ptr, value.len) : json_null());
}

int serve_tokenizer_info(server *s) {
    json_t *info;
    if (!s->o.tokenizer_info || !s->m.tokenizer) return -1;
    const int status = read_config(s, &info);
    if (status >= 0) return status;
    if (!json_object_get(info, "tokenizer_class"))
        set(info, "tokenizer_class", OCT_STR("PreTrainedTokenizerFast"));
    set(info, "chat_template", oct_tokenizer_chat_template(s->m.tokenizer, NULL));
    oct_buf_init(&s->tokenizer_info, oct_system_allocator(), 0);
    oct_json_dump(&s->tokenizer_info, info, JSON_COMPACT);
    json_decref(info);
    if (!s->tokenizer_info.failed) return -1;
    return cli_fail(EXIT_SYSTEM, "serve: no memory for /tokenizer_info");
}
