/*
 * api/speech.c - what an answer says: the parsers of speak/ between the engine's text and the
 * wording of streams and whole answers.
 *
 * Every output becomes a run of events, in order; text of one kind that follows text of the same
 * kind is one event.
 */
#include <stdio.h>
#include <sys/random.h>

#include "api/parts.h"
#include "base/clock.h"

/* ---- the tags of reasoning in prompts ---- */

static bool encode(const oct_api *api, oct_str tag, oct_ids *out) {
    return oct_tokenizer_encode(api->cfg.tokenizer, tag, OCT_ENCODE_PARSE_SPECIAL, out, NULL) ==
               OCT_OK &&
           !out->failed;
}

oct_status oct_api_speech_prepare(oct_api *api, oct_err *err) {
    const oct_speak_reasoning *r = api->cfg.reasoning_parser;
    const oct_tokenizer *t = api->cfg.tokenizer;
    oct_ids_init(&api->open_tag, api->mem);
    oct_ids_init(&api->close_tag, api->mem);
    api->eos_id = -1;
    if (!r || !t) return OCT_OK;
    const oct_str eos = oct_tokenizer_eos_text(t);
    if (eos.len > 0) api->eos_id = oct_tokenizer_find(t, eos);
    if (encode(api, oct_speak_open_tag(r), &api->open_tag) &&
        encode(api, oct_speak_close_tag(r), &api->close_tag))
        return OCT_OK;
    return OCT_FAIL(err, OCT_E_NOMEM, "api: no memory for the tags of reasoning");
}

static bool ends_with(const int32_t *ids, size_t n, const oct_ids *tag) {
    return tag->len > 0 && n >= tag->len &&
           memcmp(ids + (n - tag->len), tag->data, tag->len * sizeof *ids) == 0;
}

/* Back from the end of the prompt to the last tag, but not into an earlier turn. */
static oct_speak_start find_start(const oct_api *api, const oct_ids *prompt) {
    for (size_t n = prompt->len; n > 0 && prompt->data[n - 1] != api->eos_id; n--) {
        if (ends_with(prompt->data, n, &api->open_tag)) return OCT_SPEAK_OPEN;
        if (ends_with(prompt->data, n, &api->close_tag)) return OCT_SPEAK_CLOSED;
    }
    return OCT_SPEAK_UNSAID;
}

oct_str oct_api_speech_after(const oct_api_job *job, const oct_ids *prompt) {
    const oct_speak_reasoning *r = job->api->cfg.reasoning_parser;
    if (!r || job->shape != OCT_API_CHAT) return OCT_STR("");
    const oct_speak_start start = find_start(job->api, prompt);
    const bool waits = oct_speak_reasons_first(r, start, job->how.thinking);
    return waits ? oct_speak_close_tag(r) : OCT_STR("");
}

/* ---- life ---- */

void oct_api_speech_init(oct_api_speech *s, const oct_allocator *mem) {
    *s = (oct_api_speech){0};
    oct_buf_init(&s->said, mem, 0);
    oct_buf_init(&s->reasoning, mem, 0);
    oct_buf_init(&s->spoken, mem, 0);
    oct_buf_init(&s->told, mem, 0);
}

void oct_api_speech_fini(oct_api_speech *s, const oct_allocator *mem) {
    oct_speak_destroy(s->speak);
    oct_buf_fini(&s->said);
    oct_buf_fini(&s->reasoning);
    oct_buf_fini(&s->spoken);
    oct_buf_fini(&s->told);
    oct_free(mem, s->items, s->cap_items, sizeof *s->items);
    oct_free(mem, s->events, s->cap_events, sizeof *s->events);
    oct_free(mem, s->calls, s->cap_calls, sizeof *s->calls);
}

static bool is_special(const oct_api *api, const oct_ids *tag) {
    return tag->len == 1 && oct_tokenizer_is_special(api->cfg.tokenizer, tag->data[0]);
}

static void on_event(void *ctx, oct_speak_kind kind, oct_str text);

oct_status oct_api_speech_begin(oct_api_job *job, oct_api_error *e) {
    const oct_api *api = job->api;
    oct_api_manner *how = &job->how;
    const oct_speak_reasoning *r = api->cfg.reasoning_parser;
    if (!r && !how->calls) return OCT_OK;
    /* Tags that leave no text could not be seen. */
    if (how->calls || (r && (is_special(api, &api->open_tag) || is_special(api, &api->close_tag))))
        job->fields.skip_special = false;
    const char *name = oct_arena_strndup(&job->arena, how->function.len ? how->function.ptr : "",
                                         how->function.len);
    if (!name) return oct_api_no_memory(e);
    how->function.ptr = name;
    job->tools = json_incref((json_t *)(uintptr_t)how->tools);
    for (uint32_t i = 0; i < job->n_choices; i++) {
        oct_api_choice *c = &job->choices[i];
        const oct_speak_setup setup = {.reasoning = r,
                                       .start = r ? find_start(api, &c->prompt->ids) : 0,
                                       .thinking = how->thinking,
                                       .tools = how->calls ? api->cfg.tool_parser : NULL,
                                       .mode = how->mode,
                                       .name = how->function,
                                       .functions = job->tools,
                                       .one_call = !job->fields.parallel_calls};
        if (oct_speak_create(api->mem, &setup, on_event, c, &c->speech.speak) != OCT_OK)
            return oct_api_no_memory(e);
    }
    return OCT_OK;
}

/* ---- calls ---- */

/* "chatcmpl-tool-" and 32 hex digits, or nine letters and digits where a template wants these. */
static void make_id(const oct_api_choice *c, char out[OCT_API_CALL_ID]) {
    static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint64_t bits[2];
    if (getrandom(bits, sizeof bits, 0) != sizeof bits) {
        bits[0] = oct_now_ns();
        bits[1] = c->index;
    }
    if (!oct_speak_wants_short_ids(c->job->api->cfg.tool_parser)) {
        snprintf(out, OCT_API_CALL_ID, "chatcmpl-tool-%016llx%016llx", (unsigned long long)bits[0],
                 (unsigned long long)bits[1]);
        return;
    }
    for (int i = 0; i < 9; i++, bits[0] /= 62) out[i] = alphabet[bits[0] % 62];
    out[9] = '\0';
}

static void begin_call(oct_api_choice *c, oct_str name) {
    oct_api_speech *s = &c->speech;
    const oct_allocator *mem = c->job->api->mem;
    if (s->n_calls == s->cap_calls) {
        const uint32_t cap = s->cap_calls ? 2 * s->cap_calls : 4;
        void *grown = oct_grow(mem, s->calls, s->cap_calls, cap, sizeof *s->calls);
        if (!grown) {
            s->failed = true;
            return;
        }
        s->calls = grown;
        s->cap_calls = cap;
    }
    oct_api_call *call = &s->calls[s->n_calls++];
    *call = (oct_api_call){.name_at = s->spoken.len, .name_len = name.len};
    make_id(c, call->id);
    oct_buf_str(&s->spoken, name);
}

oct_str oct_api_call_name(const oct_api_choice *c, uint32_t i) {
    const oct_api_call *call = &c->speech.calls[i];
    return (oct_str){oct_buf_cs(&c->speech.spoken) + call->name_at, call->name_len};
}

oct_str oct_api_call_arguments(const oct_api_choice *c, uint32_t i) {
    const oct_api_call *call = &c->speech.calls[i];
    return (oct_str){oct_buf_cs(&c->speech.spoken) + call->name_at + call->name_len,
                     call->args_len};
}

/* ---- events ---- */

static void add_event(oct_api_choice *c, oct_speak_kind kind, oct_str text) {
    oct_api_speech *s = &c->speech;
    const size_t at = s->said.len;
    oct_buf_str(&s->said, text);
    oct_api_event *last = s->n_events ? &s->events[s->n_events - 1] : NULL;
    if (last && last->kind == kind && kind != OCT_SPEAK_CALL && kind != OCT_SPEAK_CALL_END) {
        last->len += text.len;
        return;
    }
    if (s->n_events == s->cap_events) {
        const uint32_t cap = s->cap_events ? 2 * s->cap_events : 4;
        void *grown = oct_grow(c->job->api->mem, s->events, s->cap_events, cap, sizeof *s->events);
        if (!grown) {
            s->failed = true;
            return;
        }
        s->events = grown;
        s->cap_events = cap;
    }
    s->events[s->n_events++] = (oct_api_event){kind, at, text.len, s->n_calls ? s->n_calls - 1 : 0};
}

static void on_event(void *ctx, oct_speak_kind kind, oct_str text) {
    oct_api_choice *c = ctx;
    oct_api_speech *s = &c->speech;
    s->reasons = kind == OCT_SPEAK_REASONING;
    if (s->failed || (s->reasons && !c->job->fields.include_reasoning)) return;
    if (kind == OCT_SPEAK_CALL) begin_call(c, text);
    if (s->failed) return;
    if (kind == OCT_SPEAK_ARGUMENTS) {
        oct_buf_str(&s->spoken, text);
        s->calls[s->n_calls - 1].args_len += text.len;
    }
    add_event(c, kind, text);
    if (s->said.failed || s->spoken.failed) s->failed = true;
}

void oct_api_hear(oct_api_choice *c, const oct_output *out) {
    oct_api_speech *s = &c->speech;
    s->n_events = 0;
    oct_buf_clear(&s->said);
    if (!s->speak) {
        add_event(c, OCT_SPEAK_CONTENT, out->text);
    } else {
        if (out->text.len > 0 && oct_speak_feed(s->speak, out->text) != OCT_OK) s->failed = true;
        if (!s->failed && out->finish != OCT_FINISH_NONE && oct_speak_end(s->speak) != OCT_OK)
            s->failed = true;
    }
    if (s->reasons) s->n_reasoning += out->n_tokens;
    if (s->said.failed) s->failed = true;
}

oct_str oct_api_event_text(const oct_api_choice *c, const oct_api_event *ev) {
    return (oct_str){oct_buf_cs(&c->speech.said) + ev->at, ev->len};
}

const char *oct_api_choice_finish(const oct_api_choice *c, oct_finish f) {
    const bool ended = f == OCT_FINISH_STOP || f == OCT_FINISH_LENGTH;
    if (ended && c->speech.n_calls > 0 && c->job->how.mode != OCT_SPEAK_NAMED) return "tool_calls";
    return oct_api_finish_name(f);
}
