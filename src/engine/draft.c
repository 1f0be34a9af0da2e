/*
 * engine/draft.c - tokens guessed from what a text said before (n-gram, prompt lookup).
 *
 * When the last tokens of a sequence have occurred in it before, what followed them then is tried
 * as what follows now: the guesses are rows of the same decode, each drawn with the key of its own
 * position. A guess is taken only if it is what was drawn in front of it; then the row behind it
 * has computed the right thing. So the answer is that of one token a step, whatever is guessed.
 */
#include "engine/parts.h"

enum { MAX_LOOK_BACK = 65536 }; /* tokens; the search is part of every step */

/* How many tokens before `a` and before `b` are equal, at most `most`. */
static uint32_t common_end(const int32_t *tokens, uint32_t a, uint32_t b, uint32_t most) {
    uint32_t n = 0;
    while (n < most && n < a && tokens[a - 1 - n] == tokens[b - 1 - n]) n++;
    return n;
}

uint32_t oct_draft_find(const int32_t *tokens, uint32_t n, uint32_t lookup_min, uint32_t lookup_max,
                        uint32_t most, int32_t *out) {
    const uint32_t first = n > MAX_LOOK_BACK ? n - MAX_LOOK_BACK : 0;
    uint32_t best = 0, best_len = 0;
    for (uint32_t at = n - 1; at > first && best_len < lookup_max; at--) {
        if (tokens[at - 1] != tokens[n - 1]) continue;
        const uint32_t len = common_end(tokens, at, n, lookup_max);
        if (len < lookup_min || len <= best_len) continue;
        best = at;
        best_len = len;
    }
    if (best_len == 0) return 0;
    for (uint32_t i = 0; i < most; i++) { /* behind the end the guesses themselves go on */
        const uint32_t from = best + i;
        out[i] = from < n ? tokens[from] : out[from - n];
    }
    return most;
}

/* One token is known that is not computed, and nothing of r is on its way. */
static bool may_guess(const oct_request *r) {
    return r->seq.state == OCT_SCHED_RUNNING && !r->one_by_one && r->n_flying == 0 &&
           r->seq.n_computed + 1 == r->seq.n_tokens && r->seq.n_tokens > r->seq.n_prompt;
}

void oct_drafts_guess(oct_engine *e) {
    const oct_draft_options *o = &e->opt.draft;
    for (oct_request *r = e->live_head; r; r = r->next) {
        r->seq.n_draft = 0;
        if (!may_guess(r)) continue;
        uint32_t most = r->seq.max_tokens - r->seq.n_tokens - 1; /* the last one is drawn anyway */
        if (most > o->n_tokens) most = o->n_tokens;
        r->seq.n_draft = oct_draft_find(r->tokens, r->seq.n_tokens, o->lookup_min, o->lookup_max,
                                        most, r->tokens + r->seq.n_tokens);
    }
}
