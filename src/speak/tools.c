/*
 * speak/tools.c - the table of tool-call parsers, and the machine that they are rows of.
 *
 * A call stands in a block: an opening, a body, an end. Outside a block text is content; a block is
 * kept until its end is there, then its body is decoded. If it is no call, the block is content,
 * opening and end included.
 *
 * Blanks before a first call with nothing else before it, between calls and behind the last one are
 * told as content only if other content follows.
 *
 * Rejected: telling the arguments of a call while they come. They could not be taken back when the
 * call turns out to be none, and clients would see a call that the whole answer does not have.
 */
#include "base/attr.h"
#include "speak/parts.h"
#include "text/template.h"

enum { MAX_OPENINGS = 2 };

typedef struct opening {
    const char *tag;
    const char *close; /* NULL: one balanced value */
    bool keep;         /* the tag is part of the body */
} opening;

struct oct_speak_tools {
    const char *name;
    opening openings[MAX_OPENINGS]; /* .tag NULL: none */
    bool at_start;                  /* a block opens only where no text was before */
    const char *skip;               /* dropped behind a call; NULL: nothing */
    oct_speak_decode *decode;
    bool short_ids;
};

#define DEEPSEEK                                                    \
    {                                                               \
        { "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", false } \
    }
#define QWEN \
    { {"<tool_call>", "</tool_call>", false}, {"<function=", "</function>", true}, }
static const oct_speak_tools table[] = {
    {"deepseek_v3", DEEPSEEK, false, NULL, oct_speak_decode_deepseek, false},
    {"deepseek_v31", DEEPSEEK, false, NULL, oct_speak_decode_deepseek, false},
    {"hermes",
     {{"<tool_call>", "</tool_call>", false}},
     false,
     NULL,
     oct_speak_decode_hermes,
     false},
    {"llama3_json",
     {{"<|python_tag|>", NULL, false}, {"{", NULL, true}},
     true,
     ";",
     oct_speak_decode_llama,
     false},
    {"minimax_m2",
     {{"<minimax:tool_call>", "</minimax:tool_call>", false}},
     false,
     NULL,
     oct_speak_decode_minimax,
     false},
    {"mistral", {{"[TOOL_CALLS]", NULL, false}}, false, NULL, oct_speak_decode_mistral, true},
    {"pythonic", {{"[", NULL, true}}, true, NULL, oct_speak_decode_python, false},
    {"qwen3_coder", QWEN, false, "</tool_call>", oct_speak_decode_qwen, false},
    {"qwen3_xml", QWEN, false, "</tool_call>", oct_speak_decode_qwen, false},
};

/* What the grammar of tool_choice "required" gives: each element of the array is a block, so that
 * an answer that is cut off still has those that were whole. */
static const oct_speak_tools required = {"required", {{"{", NULL, true}},       true,
                                         NULL,       oct_speak_decode_required, false};

const oct_speak_tools *oct_speak_find_tools(const char *name) {
    if (strcmp(name, "llama4_json") == 0) name = "llama3_json";
    for (size_t i = 0; i < OCT_COUNT(table); i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

const char *oct_speak_tools_names(void) {
    return "deepseek_v3|deepseek_v31|hermes|llama3_json|llama4_json|minimax_m2|mistral|pythonic|"
           "qwen3_coder|qwen3_xml";
}

bool oct_speak_wants_short_ids(const oct_speak_tools *t) { return t && t->short_ids; }

/* ---- life ---- */

void oct_speak_calls_init(oct_speak_calls *c, const oct_allocator *mem,
                          const oct_speak_setup *setup, oct_speak_fn *fn, void *ctx) {
    *c = (oct_speak_calls){.mem = mem,
                           .parser = setup->tools,
                           .mode = setup->mode,
                           .name = setup->name,
                           .functions = setup->functions,
                           .one_call = setup->one_call,
                           .fn = fn,
                           .ctx = ctx,
                           .opening = -1};
    if (setup->mode == OCT_SPEAK_REQUIRED) c->parser = &required;
    oct_buf_init(&c->text, mem, 0);
    oct_buf_init(&c->blanks, mem, 0);
    oct_buf_init(&c->spoken, mem, 0);
}

void oct_speak_calls_fini(oct_speak_calls *c) {
    oct_buf_fini(&c->text);
    oct_buf_fini(&c->blanks);
    oct_buf_fini(&c->spoken);
    oct_free(c->mem, c->pending, c->cap_pending, sizeof *c->pending);
}

/* ---- telling ---- */

static void tell(oct_speak_calls *c, oct_speak_kind kind, oct_str text) {
    if (!c->failed) c->fn(c->ctx, kind, text);
}

/* Blanks, and with a demanded array what holds it together. */
static size_t gap(const oct_speak_calls *c, oct_str text) {
    const char *const between = c->mode == OCT_SPEAK_REQUIRED ? " \t\r\n[,]" : " \t\r\n";
    size_t n = 0;
    while (n < text.len && text.ptr[n] && strchr(between, text.ptr[n])) n++;
    return n;
}

/* Content. Blanks wait where they may turn out to stand between calls. */
static void tell_text(oct_speak_calls *c, oct_str text) {
    if (!c->told_text) {
        const size_t n = gap(c, text);
        oct_buf_add(&c->blanks, text.ptr, n);
        if (c->blanks.failed) c->failed = true;
        text = (oct_str){text.ptr + n, text.len - n};
        if (text.len == 0) return;
        if (c->blanks.len > 0) tell(c, OCT_SPEAK_CONTENT, oct_buf_view(&c->blanks));
        oct_buf_clear(&c->blanks);
        c->told_text = true;
    }
    if (text.len > 0) tell(c, OCT_SPEAK_CONTENT, text);
}

static void tell_calls(oct_speak_calls *c) {
    const char *spoken = oct_buf_cs(&c->spoken);
    for (size_t i = 0; i < c->n_pending; i++) {
        const oct_speak_pending *p = &c->pending[i];
        if (c->one_call && c->n_calls > 0) break;
        tell(c, OCT_SPEAK_CALL, (oct_str){spoken + p->name_at, p->name_len});
        tell(c, OCT_SPEAK_ARGUMENTS, (oct_str){spoken + p->args_at, p->args_len});
        tell(c, OCT_SPEAK_CALL_END, OCT_STR(""));
        c->n_calls++;
    }
    oct_buf_clear(&c->blanks);
    c->told_text = false; /* blanks wait again */
}

/* ---- blocks ---- */

/* The text that is not told. */
static oct_str rest(const oct_speak_calls *c) {
    return (oct_str){oct_buf_cs(&c->text) + c->past_at, c->text.len - c->past_at};
}

static void drop(oct_speak_calls *c, size_t n) {
    c->past_at += n;
    c->opening = -1;
}

/* The block in text[0..end) is whole, its body ends at body_end. */
static void close_block(oct_speak_calls *c, size_t body_end, size_t end) {
    const char *text = rest(c).ptr;
    c->n_pending = 0;
    oct_buf_clear(&c->spoken);
    const oct_str body = {text + c->body_at, body_end - c->body_at};
    const bool good = c->parser->decode(c, body) && c->n_pending > 0 && !c->spoken.failed;
    if (c->spoken.failed) c->failed = true;
    if (good)
        tell_calls(c);
    else if (c->mode != OCT_SPEAK_REQUIRED || c->n_calls == 0)
        tell_text(c, (oct_str){text, end}); /* of a demanded array the rest is only cut off */
    drop(c, end);
}

/* Whether the block's end is there; everything up to it is then gone. */
static bool end_block(oct_speak_calls *c) {
    const opening *o = &c->parser->openings[c->opening];
    const oct_str text = rest(c);
    if (!o->close) {
        if (!oct_speak_balanced(&c->balance,
                                (oct_str){text.ptr + c->body_at, text.len - c->body_at}))
            return false;
        const size_t end = c->body_at + c->balance.at;
        close_block(c, end, end);
        return true;
    }
    const size_t len = strlen(o->close);
    const char *at = text.len - c->seen >= len
                         ? memmem(text.ptr + c->seen, text.len - c->seen, o->close, len)
                         : NULL;
    if (!at) {
        if (text.len - c->seen >= len) c->seen = text.len - len + 1;
        return false;
    }
    close_block(c, (size_t)(at - text.ptr), (size_t)(at - text.ptr) + len);
    return true;
}

static void begin_block(oct_speak_calls *c, int which) {
    const opening *o = &c->parser->openings[which];
    c->opening = which;
    c->body_at = o->keep ? 0 : strlen(o->tag);
    c->seen = c->body_at;
    c->balance = (oct_speak_balance){0};
}

/* Tells what is content and finds the next opening. False: nothing more can be said now. */
static bool find_block(oct_speak_calls *c) {
    const oct_speak_tools *p = c->parser;
    oct_str tags[MAX_OPENINGS + 1];
    int n = 0, skip = -1;
    for (; n < MAX_OPENINGS && p->openings[n].tag; n++) tags[n] = oct_str_of(p->openings[n].tag);
    const int n_openings = n;
    if (p->skip && c->n_calls > 0 && !c->told_text) tags[skip = n++] = oct_str_of(p->skip);

    const oct_str text = rest(c);
    if (p->at_start) { /* here, or not at all */
        const size_t blanks = gap(c, text);
        if (!c->told_text && blanks > 0) {
            tell_text(c, (oct_str){text.ptr, blanks});
            drop(c, blanks);
            return true;
        }
    }
    const oct_speak_hit hit = oct_speak_find_tag(text, tags, n);
    const bool far = p->at_start && (c->told_text || hit.at > 0);
    tell_text(c, (oct_str){text.ptr, far ? text.len : hit.at});
    drop(c, far ? text.len : hit.at);
    if (far || hit.tag < 0) return false;
    if (hit.tag < n_openings) {
        begin_block(c, hit.tag);
        return true;
    }
    if (c->told_text) tell_text(c, tags[skip]); /* text came before it after all */
    drop(c, tags[skip].len);
    return true;
}

/* ---- a function that was named ---- */

static void tell_named(oct_speak_calls *c, oct_str text, bool last) {
    if (!c->named_begun && (text.len > 0 || last)) {
        c->named_begun = true;
        tell(c, OCT_SPEAK_CALL, c->name);
    }
    if (text.len > 0) tell(c, OCT_SPEAK_ARGUMENTS, text);
    if (last) tell(c, OCT_SPEAK_CALL_END, OCT_STR(""));
}

/* ---- feeding ---- */

/* The text is over: a block without its end may still be a call. */
static void finish(oct_speak_calls *c) {
    if (c->opening >= 0) {
        const size_t end = rest(c).len;
        close_block(c, end, end);
    }
    tell_text(c, rest(c)); /* a tail that could have begun a tag */
    c->past_at = c->text.len;
    if (c->n_calls == 0 && c->blanks.len > 0) tell(c, OCT_SPEAK_CONTENT, oct_buf_view(&c->blanks));
}

void oct_speak_calls_feed(oct_speak_calls *c, oct_str text, bool last) {
    if (c->failed) return;
    if (c->mode == OCT_SPEAK_NAMED) {
        tell_named(c, text, last);
        return;
    }
    if (!c->parser) {
        if (text.len > 0) tell(c, OCT_SPEAK_CONTENT, text);
        return;
    }
    oct_buf_str(&c->text, text);
    if (c->text.failed) c->failed = true;
    while (!c->failed && rest(c).len > 0)
        if (!(c->opening >= 0 ? end_block(c) : find_block(c))) break;
    if (last && !c->failed) finish(c);
    oct_buf_consume(&c->text, c->past_at);
    c->past_at = 0;
}

/* ---- pending calls ---- */

bool oct_speak_add_call(oct_speak_calls *c, oct_str name, const json_t *args) {
    oct_err err = {0};
    if (name.len == 0) return false;
    if (c->n_pending == c->cap_pending) {
        const size_t cap = c->cap_pending ? 2 * c->cap_pending : 4;
        void *grown = oct_grow(c->mem, c->pending, c->cap_pending, cap, sizeof *c->pending);
        if (!grown) return !(c->failed = true);
        c->pending = grown;
        c->cap_pending = cap;
    }
    oct_speak_pending *p = &c->pending[c->n_pending];
    p->name_at = c->spoken.len;
    p->name_len = name.len;
    oct_buf_str(&c->spoken, name);
    p->args_at = c->spoken.len;
    if (!args) {
        oct_buf_cstr(&c->spoken, "{}");
    } else {
        const oct_status st = oct_template_dump_json_spaced(args, &c->spoken, &err);
        if (st == OCT_E_NOMEM) c->failed = true;
        if (st != OCT_OK) return false;
    }
    p->args_len = c->spoken.len - p->args_at;
    if (c->spoken.failed) return !(c->failed = true);
    c->n_pending++;
    return true;
}
