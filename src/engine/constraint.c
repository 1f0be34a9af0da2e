/*
 * engine/constraint.c - a request whose answer keeps to a grammar.
 *
 * The grammar begins at once or behind a text of the answer (the end of reasoning); until then
 * nothing is constrained. A row's mask depends on the token before it, so that no step has a row of
 * such a request while a token of it is on its way, and while one decodes no step is planned beside
 * another (oct_constraint_waits): the others then lose some overlap and nothing else. What was
 * drawn stays drawn when a request is preempted, so the run needs no repetition.
 *
 * And one whose reasoning has a budget: the closing tag's ids are forced when it is used up. Each
 * depends on the token before, so that such a request, too, goes one by one.
 */
#include <string.h>

#include "engine/parts.h"

oct_status oct_constraint_copy(oct_request *r, const oct_engine *e, const oct_request_spec *s,
                               oct_err *err) {
    oct_constraint *c = &r->constraint;
    if (!s->grammar) return OCT_OK;
    if (oct_grammar_n_ids(s->grammar) != e->info.n_vocab)
        return OCT_FAIL(err, OCT_E_INVALID, "grammar: of another vocabulary (got %u ids, want %u)",
                        oct_grammar_n_ids(s->grammar), e->info.n_vocab);
    if (s->grammar_after.len > OCT_MAX_GRAMMAR_AFTER)
        return OCT_FAIL(err, OCT_E_INVALID,
                        "grammar_after: too long (got %zu bytes, want at most %d)",
                        s->grammar_after.len, OCT_MAX_GRAMMAR_AFTER);
    if (s->grammar_after.len > 0) {
        const char *copy = oct_arena_strndup(&r->arena, s->grammar_after.ptr, s->grammar_after.len);
        if (!copy) return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a request");
        c->after = (oct_str){copy, s->grammar_after.len};
    }
    const oct_status st = oct_grammar_run_create(r->mem, s->grammar, &c->run);
    if (st != OCT_OK)
        return OCT_FAIL(err, st == OCT_E_NOMEM ? st : OCT_E_INVALID,
                        st == OCT_E_NOMEM ? "engine: no memory for a grammar"
                                          : "grammar: too many ways at once");
    c->open = c->after.len == 0;
    r->one_by_one = true;
    return OCT_OK;
}

void oct_constraint_fini(oct_request *r) { oct_grammar_run_destroy(r->constraint.run); }

static void allow(uint32_t *words, int32_t id) { words[id / 32] |= UINT32_C(1) << (id % 32); }

oct_status oct_constraint_mask(const oct_engine *e, const oct_request *r, uint32_t *words,
                               size_t n_words) {
    OCT_TRY(oct_grammar_run_mask(r->constraint.run, words));
    if (oct_grammar_run_may_end(r->constraint.run)) {
        for (uint32_t i = 0; i < e->opt.n_eos && !r->ignore_eos; i++)
            if (e->eos_ids[i] >= 0 && (uint32_t)e->eos_ids[i] < e->info.n_vocab)
                allow(words, e->eos_ids[i]);
        for (uint32_t i = 0; i < r->n_stop_ids; i++) allow(words, r->stop_ids[i]);
    }
    for (size_t i = 0; r->mask && i < n_words; i++) words[i] &= r->mask[i];
    return OCT_OK;
}

/* How much of c->after the answer ends with, when it ended with n of it, behind one more byte. */
static size_t follow(oct_str after, size_t n, char byte) {
    for (size_t k = n + 1; k > 0; k--) { /* the longest beginning that is an end */
        if (after.ptr[k - 1] != byte) continue;
        if (memcmp(after.ptr, after.ptr + (n + 1 - k), k - 1) == 0) return k;
    }
    return 0;
}

/* Looks for the text behind which the grammar begins; what a token has behind that is the first of
 * the grammar, or blanks. */
static oct_status look_for_begin(oct_constraint *c, oct_str bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        c->n_seen = follow(c->after, c->n_seen, bytes.ptr[i]);
        if (c->n_seen < c->after.len) continue;
        bool fits;
        c->open = true;
        return oct_grammar_run_bytes(c->run, (oct_str){bytes.ptr + i + 1, bytes.len - i - 1},
                                     &fits); /* what does not fit stays outside */
    }
    return OCT_OK;
}

oct_status oct_constraint_take(const oct_engine *e, oct_request *r, int32_t id, bool *fits) {
    oct_constraint *c = &r->constraint;
    *fits = true;
    if (c->open) return oct_grammar_run_token(c->run, id, fits);
    return look_for_begin(c,
                          e->tokenizer ? oct_tokenizer_token_bytes(e->tokenizer, id) : OCT_STR(""));
}

bool oct_constraint_complete(const oct_request *r) {
    return r->constraint.open && oct_grammar_run_must_end(r->constraint.run);
}

bool oct_constraint_may_end(const oct_request *r) {
    return r->constraint.open && oct_grammar_run_may_end(r->constraint.run);
}

bool oct_constraint_waits(const oct_engine *e) {
    for (const oct_request *r = e->live_head; r; r = r->next)
        if (r->constraint.run && r->seq.state == OCT_SCHED_RUNNING &&
            r->seq.n_computed + 1 >= r->seq.n_prompt)
            return true;
    return false;
}

/* ---- a sequence that must come ---- */

oct_status oct_closing_copy(oct_request *r, const oct_engine *e, const oct_request_spec *s,
                            oct_err *err) {
    oct_closing *c = &r->closing;
    if (s->n_close_ids == 0) return OCT_OK;
    for (uint32_t i = 0; i < s->n_close_ids; i++)
        if (s->close_ids[i] < 0 || (uint32_t)s->close_ids[i] >= e->info.n_vocab)
            return OCT_FAIL(err, OCT_E_INVALID, "close_ids[%u]: no such token (got %d)", i,
                            s->close_ids[i]);
    c->ids = oct_arena_alloc(&r->arena, s->n_close_ids, sizeof *c->ids);
    if (!c->ids) return OCT_FAIL(err, OCT_E_NOMEM, "engine: no memory for a request");
    memcpy(c->ids, s->close_ids, s->n_close_ids * sizeof *c->ids);
    c->n = s->n_close_ids;
    c->by = s->close_by;
    r->one_by_one = true;
    return OCT_OK;
}

/* As follow, of ids. */
void oct_closing_take(oct_request *r, int32_t id) {
    oct_closing *c = &r->closing;
    if (c->n_seen == c->n) return;
    c->n_drawn++;
    for (uint32_t k = c->n_seen + 1; k > 0; k--) {
        if (c->ids[k - 1] != id) continue;
        if (memcmp(c->ids, c->ids + (c->n_seen + 1 - k), (k - 1) * sizeof *c->ids) != 0) continue;
        c->n_seen = k;
        return;
    }
    c->n_seen = 0;
}

int32_t oct_closing_due(const oct_request *r) {
    const oct_closing *c = &r->closing;
    return c->n_seen == c->n || c->n_drawn < c->by ? -1 : c->ids[c->n_seen];
}
