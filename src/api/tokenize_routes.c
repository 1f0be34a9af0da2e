/*
 * api/tokenize_routes.c - POST /tokenize and /detokenize, in two dialects: vLLM's (prompt or
 * messages) and llama-server's (content). They are told apart by the key content.
 */
#include "api/parts.h"
#include "codec/utf8.h"

typedef struct asked {
    bool add_special, parse_special, with_strings, llama;
    oct_buf text;
    oct_ids ids;
} asked;

static oct_status read_content(const json_t *body, asked *a, oct_api_error *e) {
    const json_t *v = json_object_get(body, "content");
    char shown[OCT_JSON_SHOWN];
    a->llama = true;
    a->add_special = false;
    OCT_TRY(oct_api_read_bool(body, "add_special", &a->add_special, e));
    OCT_TRY(oct_api_read_bool(body, "parse_special", &a->parse_special, e));
    OCT_TRY(oct_api_read_bool(body, "with_pieces", &a->with_strings, e));
    if (!json_is_string(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "content", "content: must be a string (got %s)",
                              oct_json_show(v, shown));
    oct_buf_str(&a->text, oct_json_str(v));
    return OCT_OK;
}

static oct_status read_prompt(oct_api *api, const json_t *body, asked *a, oct_api_error *e) {
    const json_t *v = json_object_get(body, "prompt");
    oct_api_fields f = {.add_generation_prompt = true};
    char shown[OCT_JSON_SHOWN];
    const bool chat = !v && json_object_get(body, "messages");
    a->add_special = !chat;
    OCT_TRY(oct_api_read_bool(body, "add_special_tokens", &a->add_special, e));
    OCT_TRY(oct_api_read_bool(body, "return_token_strs", &a->with_strings, e));
    if (chat) {
        OCT_TRY(oct_api_read_bool(body, "add_generation_prompt", &f.add_generation_prompt, e));
        OCT_TRY(oct_api_read_bool(body, "continue_final_message", &f.continue_final_message, e));
        return oct_api_render(api, body, &f, &a->text, NULL, e);
    }
    if (!json_is_string(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "prompt", "prompt: must be a string (got %s)",
                              oct_json_show(v, shown));
    oct_buf_str(&a->text, oct_json_str(v));
    return OCT_OK;
}

static oct_status encode(const oct_api *api, asked *a, oct_api_error *e) {
    oct_err err = {0};
    const unsigned flags = (a->add_special ? OCT_ENCODE_ADD_SPECIAL : 0) |
                           (a->parse_special ? OCT_ENCODE_PARSE_SPECIAL : 0);
    if (a->text.failed) return oct_api_no_memory(e);
    OCT_TRY(oct_api_check_text(api, oct_buf_view(&a->text), 0, e));
    const oct_status st =
        oct_tokenizer_encode(api->cfg.tokenizer, oct_buf_view(&a->text), flags, &a->ids, &err);
    if (st == OCT_E_NOMEM || a->ids.failed) return oct_api_no_memory(e);
    if (st != OCT_OK)
        return oct_api_refuse(e, OCT_API_REFUSED, "prompt", "prompt: %.*s", OCT_API_REASON,
                              err.text);
    return OCT_OK;
}

/* A text, or the bytes of one that is no text by itself. */
static void write_piece(oct_buf *b, oct_str bytes) {
    if (oct_utf8_valid(bytes, NULL)) {
        oct_json_quote(b, bytes);
        return;
    }
    oct_buf_char(b, '[');
    for (size_t i = 0; i < bytes.len; i++)
        oct_buf_printf(b, "%s%d", i ? "," : "", (unsigned char)bytes.ptr[i]);
    oct_buf_char(b, ']');
}

static void write_llama(const oct_api *api, const asked *a, oct_buf *b) {
    oct_buf_cstr(b, "{\"tokens\":");
    if (!a->with_strings) {
        oct_api_write_ids(b, a->ids.data, a->ids.len);
    } else {
        oct_buf_char(b, '[');
        for (size_t i = 0; i < a->ids.len; i++) {
            oct_buf_printf(b, "%s{\"id\":%d,\"piece\":", i ? "," : "", a->ids.data[i]);
            write_piece(b, oct_tokenizer_token_bytes(api->cfg.tokenizer, a->ids.data[i]));
            oct_buf_char(b, '}');
        }
        oct_buf_char(b, ']');
    }
    oct_buf_char(b, '}');
}

static void write_vllm(const oct_api *api, const asked *a, oct_buf *b) {
    oct_buf_printf(b, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", a->ids.len,
                   api->info.max_model_len);
    oct_api_write_ids(b, a->ids.data, a->ids.len);
    oct_buf_cstr(b, ",\"token_strs\":");
    if (!a->with_strings) {
        oct_buf_cstr(b, "null}");
        return;
    }
    oct_buf spelling;
    oct_buf_init(&spelling, api->mem, 0);
    oct_buf_char(b, '[');
    for (size_t i = 0; i < a->ids.len; i++) {
        oct_buf_clear(&spelling);
        oct_tokenizer_token_spelling(api->cfg.tokenizer, a->ids.data[i], &spelling);
        if (i > 0) oct_buf_char(b, ',');
        oct_json_quote(b, oct_buf_view(&spelling));
        if (spelling.failed) b->failed = true;
    }
    oct_buf_cstr(b, "]}");
    oct_buf_fini(&spelling);
}

static oct_status need_tokenizer(const oct_api *api, oct_api_error *e) {
    if (api->cfg.tokenizer) return OCT_OK;
    return oct_api_refuse(e, OCT_API_REFUSED, NULL, "the model has no tokenizer");
}

static oct_status tokenize(oct_api *api, const json_t *body, asked *a, oct_buf *b,
                           oct_api_error *e) {
    OCT_TRY(oct_api_check_model(api, body, e));
    OCT_TRY(need_tokenizer(api, e));
    OCT_TRY(json_object_get(body, "content") ? read_content(body, a, e)
                                             : read_prompt(api, body, a, e));
    OCT_TRY(encode(api, a, e));
    if (a->llama)
        write_llama(api, a, b);
    else
        write_vllm(api, a, b);
    return OCT_OK;
}

static oct_status detokenize(oct_api *api, const json_t *body, asked *a, oct_buf *b,
                             oct_api_error *e) {
    const json_t *v = json_object_get(body, "tokens");
    char shown[OCT_JSON_SHOWN];
    OCT_TRY(oct_api_check_model(api, body, e));
    OCT_TRY(need_tokenizer(api, e));
    if (!json_is_array(v))
        return oct_api_refuse(e, OCT_API_MALFORMED, "tokens",
                              "tokens: must be an array of ids (got %s)", oct_json_show(v, shown));
    OCT_TRY(oct_api_read_ids(api, v, "tokens", &a->ids, e));
    oct_tokenizer_decode(api->cfg.tokenizer, a->ids.data, a->ids.len, false, &a->text);
    if (a->text.failed) return oct_api_no_memory(e);
    /* Both dialects ask alike: one answer for both. */
    oct_buf_cstr(b, "{\"prompt\":");
    oct_json_quote(b, oct_buf_view(&a->text));
    oct_buf_cstr(b, ",\"content\":");
    oct_json_quote(b, oct_buf_view(&a->text));
    oct_buf_char(b, '}');
    return OCT_OK;
}

static void run(oct_api *api, oct_http_exchange *x,
                oct_status (*fn)(oct_api *, const json_t *, asked *, oct_buf *, oct_api_error *)) {
    asked a = {.parse_special = true};
    json_t *body;
    oct_api_error e;
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_buf_init(&a.text, api->mem, 0);
    oct_ids_init(&a.ids, api->mem);
    oct_status st = oct_api_parse_body(api, oct_http_request_body(x), &body, &e);
    if (st == OCT_OK) st = fn(api, body, &a, &b, &e);
    json_decref(body);
    if (st == OCT_OK)
        oct_api_answer(api, x, 200, &b);
    else
        oct_api_answer_error(api, x, &e);
    oct_ids_fini(&a.ids);
    oct_buf_fini(&a.text);
    oct_buf_fini(&b);
}

void oct_api_route_tokenize(oct_api *api, oct_http_exchange *x) { run(api, x, tokenize); }
void oct_api_route_detokenize(oct_api *api, oct_http_exchange *x) { run(api, x, detokenize); }
