/* embed/prompt.c - messages or text to ids. */
#include <jansson.h>

#include "embed/parts.h"
#include "text/chat.h"

static oct_status json_of(const octet_request_spec *s, json_t **out, oct_err *err) {
    *out = json_array();
    for (uint32_t i = 0; *out && i < s->n_messages; i++) {
        const octet_message *m = &s->messages[i];
        json_t *role = json_string(m->role ? m->role : ""),
               *content = json_string(m->content ? m->content : "");
        json_t *one = role && content ? json_object() : NULL;
        /* The new references go with the calls, also with those that fail. */
        const bool put = one && json_object_set(one, "role", role) == 0 &&
                         json_object_set(one, "content", content) == 0;
        json_decref(role);
        json_decref(content);
        if (!put || json_array_append_new(*out, one) != 0) {
            if (!put) json_decref(one);
            json_decref(*out);
            *out = NULL;
            return OCT_FAIL(err, OCT_E_INVALID, "messages[%u]: not UTF-8, or no memory", i);
        }
    }
    return *out ? OCT_OK : OCT_FAIL(err, OCT_E_NOMEM, "messages: no memory");
}

/* Special tokens are variables of templates by these names, where a model has them. */
static oct_status render(const octet_engine *e, const json_t *messages, oct_buf *text,
                         oct_err *err) {
    const oct_template_var all[] = {
        {"bos_token", oct_tokenizer_bos_text(e->tokenizer).ptr},
        {"eos_token", oct_tokenizer_eos_text(e->tokenizer).ptr},
        {"pad_token", oct_tokenizer_pad_text(e->tokenizer).ptr},
        {"unk_token", oct_tokenizer_unk_text(e->tokenizer).ptr},
    };
    oct_template_var vars[OCT_COUNT(all)];
    size_t n = 0;
    for (size_t i = 0; i < OCT_COUNT(all); i++)
        if (all[i].value && all[i].value[0]) vars[n++] = all[i];
    const oct_chat_request req = {
        .messages = messages, .add_generation_prompt = true, .vars = vars, .n_vars = n};
    return oct_chat_render(e->template, &req, NULL, text, err);
}

static oct_status from_messages(const octet_engine *e, const octet_request_spec *s, oct_ids *out,
                                oct_err *err) {
    json_t *messages;
    oct_buf text;
    if (!e->template)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s",
                        e->template_error[0] ? e->template_error
                                             : "messages: the model has no chat template");
    OCT_TRY(json_of(s, &messages, err));
    oct_buf_init(&text, oct_system_allocator(), 0);
    oct_status st = render(e, messages, &text, err);
    if (st == OCT_OK)
        st = oct_tokenizer_encode(e->tokenizer, oct_buf_view(&text), OCT_ENCODE_PARSE_SPECIAL, out,
                                  err);
    oct_buf_fini(&text);
    json_decref(messages);
    return st;
}

static oct_status from_ids(const octet_request_spec *s, oct_ids *out, oct_err *err) {
    if (!oct_ids_reserve(out, s->n_ids)) return OCT_FAIL(err, OCT_E_NOMEM, "ids: no memory");
    for (uint32_t i = 0; i < s->n_ids; i++) oct_ids_push(out, s->ids[i]);
    return OCT_OK;
}

oct_status oct_embed_prompt(const octet_engine *e, const octet_request_spec *s, oct_ids *out,
                            oct_err *err) {
    const unsigned special = s->flags & OCTET_REQUEST_NO_BOS ? 0 : OCT_ENCODE_ADD_SPECIAL;
    if (!!s->messages + !!s->text + !!s->ids != 1)
        return OCT_FAIL(err, OCT_E_INVALID, "prompt: want one of messages, text and ids (got %d)",
                        !!s->messages + !!s->text + !!s->ids);
    if (s->ids) return from_ids(s, out, err);
    if (!e->tokenizer)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "prompt: the model has no tokenizer, want ids");
    if (s->messages) return from_messages(e, s, out, err);
    return oct_tokenizer_encode(e->tokenizer, oct_str_of(s->text),
                                OCT_ENCODE_PARSE_SPECIAL | special, out, err);
}
