/*
 * api/items.c - an answer as a list of items, for the dialects that tell it so.
 *
 * An item is open while text of its kind comes; text of another kind, a call or the end closes it.
 * Whole answers and streams make the same list.
 */
#include "api/dialects.h"

static oct_api_item *push(oct_api_choice *c, oct_speak_kind kind, uint32_t call) {
    oct_api_speech *s = &c->speech;
    if (s->n_items == s->cap_items) {
        const uint32_t cap = s->cap_items ? 2 * s->cap_items : 4;
        void *grown = oct_grow(c->job->api->mem, s->items, s->cap_items, cap, sizeof *s->items);
        if (!grown) {
            s->failed = true;
            return NULL;
        }
        s->items = grown;
        s->cap_items = cap;
    }
    s->items[s->n_items] = (oct_api_item){.kind = kind, .at = s->told.len, .call = call};
    return &s->items[s->n_items++];
}

static void close_item(oct_api_choice *c, const oct_api_item_voice *v) {
    oct_api_speech *s = &c->speech;
    if (!s->item_open) return;
    s->item_open = false;
    if (v) v->end(c, s->n_items - 1);
}

static void open_item(oct_api_choice *c, const oct_api_item_voice *v, oct_speak_kind kind,
                      uint32_t call) {
    oct_api_speech *s = &c->speech;
    if (s->item_open && s->items[s->n_items - 1].kind == kind && kind != OCT_SPEAK_CALL) return;
    close_item(c, v);
    if (!push(c, kind, call)) return;
    s->item_open = true;
    if (v) v->begin(c, s->n_items - 1);
}

void oct_api_itemize(oct_api_choice *c, const oct_api_event *ev, const void *voice) {
    const oct_api_item_voice *v = voice;
    oct_api_speech *s = &c->speech;
    const oct_str text = oct_api_event_text(c, ev);
    if (ev->kind == OCT_SPEAK_CALL_END) {
        close_item(c, v);
        return;
    }
    if (text.len == 0 && ev->kind != OCT_SPEAK_CALL) return;
    if (ev->kind != OCT_SPEAK_ARGUMENTS) open_item(c, v, ev->kind, ev->call);
    if (s->failed || ev->kind == OCT_SPEAK_CALL) return;
    oct_buf_str(&s->told, text);
    if (s->told.failed) s->failed = true;
    s->items[s->n_items - 1].len += text.len;
    if (v) v->delta(c, s->n_items - 1, text);
}

void oct_api_stream_items(oct_api_choice *c, const oct_output *out, const oct_api_item_voice *v) {
    oct_api_speech *s = &c->speech;
    oct_api_error e;
    oct_api_hear(c, out);
    for (uint32_t i = 0; i < s->n_events && !s->failed; i++) oct_api_itemize(c, &s->events[i], v);
    if (out->finish != OCT_FINISH_NONE && !s->failed) close_item(c, v);
    if (!s->failed || c->job->over) return;
    oct_api_no_memory(&e);
    c->job->over = true;
    c->job->voice->error(c->job, &e);
}

oct_str oct_api_item_text(const oct_api_choice *c, uint32_t item) {
    const oct_api_item *it = &c->speech.items[item];
    return (oct_str){oct_buf_cs(&c->speech.told) + it->at, it->len};
}
