/*
 * api/logprobs.c - the two shapes of logprobs, and prompt_logprobs.
 *
 * Lists are collected as JSON text without brackets, so that an answer of any length is written
 * once. In a list of most likely tokens the drawn one comes first, then the others by rank.
 */
#include "api/parts.h"
#include "codec/utf8.h"

enum { N_LISTS = 4 }; /* of a completion's logprobs */

/* Lower values are of no use to anyone, and -inf is no JSON. */
static void add_value(oct_buf *b, float v) {
    const float least = -9999.0f;
    oct_json_f64(b, v >= least ? (double)v : (double)least);
}

static void add_token(const oct_api_job *job, oct_buf *b, int32_t id, oct_str bytes) {
    if (job->fields.tokens_as_ids)
        oct_buf_printf(b, "\"token_id:%d\"", id);
    else
        oct_json_quote(b, bytes);
}

static void add_comma(oct_buf *b) {
    if (b->len > 0) oct_buf_char(b, ',');
}

/* ---- chat ---- */

static void add_chat_entry(const oct_api_job *job, oct_buf *b, int32_t id, float logprob,
                           oct_str bytes) {
    oct_buf_cstr(b, "{\"token\":");
    add_token(job, b, id, bytes);
    oct_buf_cstr(b, ",\"logprob\":");
    add_value(b, logprob);
    oct_buf_cstr(b, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.len; i++)
        oct_buf_printf(b, "%s%d", i ? "," : "", (unsigned char)bytes.ptr[i]);
    oct_buf_char(b, ']');
}

/* The drawn token and the most likely others, k in all. */
static void take_chat(oct_api_choice *c, const oct_token_logprob *t) {
    const oct_api_job *job = c->job;
    oct_buf *b = &c->logprobs;
    int64_t left = job->fields.logprobs;
    add_comma(b);
    add_chat_entry(job, b, t->id, t->logprob, t->bytes);
    oct_buf_cstr(b, ",\"top_logprobs\":[");
    if (left > 0) {
        add_chat_entry(job, b, t->id, t->logprob, t->bytes);
        oct_buf_char(b, '}');
        left--;
    }
    for (uint32_t i = 0; i < t->n_top && left > 0; i++) {
        if (t->top[i].id == t->id) continue;
        oct_buf_char(b, ',');
        add_chat_entry(job, b, t->top[i].id, t->top[i].logprob, t->top[i].bytes);
        oct_buf_char(b, '}');
        left--;
    }
    oct_buf_cstr(b, "]}");
}

/* ---- completions ---- */

/* Parts of characters are all shown as U+FFFD. */
static bool same_key(oct_str a, oct_str b) {
    return oct_str_eq(a, b) || (!oct_utf8_valid(a, NULL) && !oct_utf8_valid(b, NULL));
}

/* Two tokens may have the same text: a key is written once, for the more likely one. */
static bool same_text_before(const oct_token_logprob *t, uint32_t n, oct_str bytes) {
    if (same_key(t->bytes, bytes)) return true;
    for (uint32_t i = 0; i < n; i++)
        if (same_key(t->top[i].bytes, bytes)) return true;
    return false;
}

static void add_pair(const oct_api_job *job, oct_buf *b, int32_t id, float logprob, oct_str bytes) {
    add_token(job, b, id, bytes);
    oct_buf_char(b, ':');
    add_value(b, logprob);
}

static void take_completion(oct_api_choice *c, const oct_token_logprob *t, int32_t id,
                            oct_str bytes) {
    const oct_api_job *job = c->job;
    oct_api_lists *l = &c->lists;
    const bool known = t->id >= 0; /* the first token of a prompt has no probability */
    oct_buf *const all[N_LISTS] = {&l->tokens, &l->token_logprobs, &l->top_logprobs,
                                   &l->text_offset};
    for (int i = 0; i < N_LISTS; i++) add_comma(all[i]);

    add_token(job, &l->tokens, id, bytes);
    oct_buf_printf(&l->text_offset, "%u", l->offset);
    l->offset += (uint32_t)oct_utf8_count(bytes);
    if (!known) {
        oct_buf_cstr(&l->token_logprobs, "null");
        oct_buf_cstr(&l->top_logprobs, "null");
        return;
    }
    add_value(&l->token_logprobs, t->logprob);
    oct_buf_char(&l->top_logprobs, '{');
    add_pair(job, &l->top_logprobs, t->id, t->logprob, t->bytes);
    for (uint32_t i = 0; i < t->n_top; i++) {
        if (t->top[i].id == t->id) continue;
        if (!job->fields.tokens_as_ids && same_text_before(t, i, t->top[i].bytes)) continue;
        oct_buf_char(&l->top_logprobs, ',');
        add_pair(job, &l->top_logprobs, t->top[i].id, t->top[i].logprob, t->top[i].bytes);
    }
    oct_buf_char(&l->top_logprobs, '}');
}

/* ---- prompts ---- */

static void add_ranked(oct_buf *b, int32_t id, float logprob, uint32_t rank, oct_str bytes) {
    oct_buf_printf(b, "\"%d\":{\"logprob\":", id);
    add_value(b, logprob);
    oct_buf_printf(b, ",\"rank\":%u,\"decoded_token\":", rank);
    oct_json_quote(b, bytes);
    oct_buf_char(b, '}');
}

static void take_prompt(oct_api_choice *c, const oct_token_logprob *all, uint32_t n,
                        int64_t n_top) {
    oct_buf *b = &c->prompt_logprobs;
    oct_buf_cstr(b, "[null");
    for (uint32_t i = 1; i < n; i++) {
        const oct_token_logprob *t = &all[i];
        oct_buf_cstr(b, ",{");
        add_ranked(b, t->id, t->logprob, t->rank, t->bytes);
        for (uint32_t k = 0; k < t->n_top && k < n_top; k++) {
            if (t->top[k].id == t->id) continue;
            oct_buf_char(b, ',');
            add_ranked(b, t->top[k].id, t->top[k].logprob, k + 1, t->top[k].bytes);
        }
        oct_buf_char(b, '}');
    }
    oct_buf_char(b, ']');
}

/* The prompt of an echo. Its lists may be longer than this field asked for: the engine makes one
 * for both fields. */
static void take_echo(oct_api_choice *c, const oct_token_logprob *all, uint32_t n) {
    const oct_tokenizer *tok = c->job->api->cfg.tokenizer;
    for (uint32_t i = 0; i < n; i++) {
        oct_token_logprob t = all[i];
        const int32_t id = c->prompt->ids.data[i];
        if (t.n_top > (uint32_t)c->job->fields.logprobs)
            t.n_top = (uint32_t)c->job->fields.logprobs;
        take_completion(c, &t, id, tok ? oct_tokenizer_token_bytes(tok, id) : OCT_STR(""));
    }
}

/* ---- all ---- */

void oct_api_take_logprobs(oct_api_choice *c, const oct_output *out) {
    const oct_api_job *job = c->job;
    const oct_api_fields *f = &job->fields;
    const bool completion = job->shape == OCT_API_COMPLETION;
    if (out->prompt_logprobs && f->prompt_logprobs >= 0)
        take_prompt(c, out->prompt_logprobs, out->n_prompt, f->prompt_logprobs);
    if (f->logprobs < 0) return;
    if (out->prompt_logprobs && f->echo && completion)
        take_echo(c, out->prompt_logprobs, out->n_prompt);
    if (!out->logprobs || f->echo_only) return;
    for (uint32_t i = 0; i < out->n_tokens; i++) {
        if (completion)
            take_completion(c, &out->logprobs[i], out->logprobs[i].id, out->logprobs[i].bytes);
        else
            take_chat(c, &out->logprobs[i]);
    }
}

void oct_api_write_logprobs(const oct_api_choice *c, oct_buf *b) {
    const oct_api_lists *l = &c->lists;
    if (c->job->fields.logprobs < 0) {
        oct_buf_cstr(b, "null");
    } else if (c->job->shape == OCT_API_CHAT) {
        oct_buf_cstr(b, "{\"content\":[");
        oct_buf_str(b, oct_buf_view(&c->logprobs));
        oct_buf_cstr(b, "]}");
    } else {
        oct_buf_cstr(b, "{\"text_offset\":[");
        oct_buf_str(b, oct_buf_view(&l->text_offset));
        oct_buf_cstr(b, "],\"token_logprobs\":[");
        oct_buf_str(b, oct_buf_view(&l->token_logprobs));
        oct_buf_cstr(b, "],\"tokens\":[");
        oct_buf_str(b, oct_buf_view(&l->tokens));
        oct_buf_cstr(b, "],\"top_logprobs\":[");
        oct_buf_str(b, oct_buf_view(&l->top_logprobs));
        oct_buf_cstr(b, "]}");
    }
    if (c->job->fields.logprobs >= 0 && OCT_FAULT(JOB_LOGPROBS, oct_api_who(c->job)))
        b->failed = true;
    if (c->logprobs.failed || l->tokens.failed || l->token_logprobs.failed ||
        l->top_logprobs.failed || l->text_offset.failed)
        b->failed = true;
}

void oct_api_clear_logprobs(oct_api_choice *c) {
    oct_buf_clear(&c->logprobs);
    oct_buf_clear(&c->lists.tokens);
    oct_buf_clear(&c->lists.token_logprobs);
    oct_buf_clear(&c->lists.top_logprobs);
    oct_buf_clear(&c->lists.text_offset);
}
