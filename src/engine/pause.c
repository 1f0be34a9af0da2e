/*
 * engine/pause.c - the engine stands still because somebody said so.
 *
 * Other threads leave what they want and wake the engine; everything is done by its thread between
 * two steps. Requests that come meanwhile are live but held: the scheduler does not know of them,
 * and they can be cancelled and run out of time like all others. An engine that stops ends its
 * pause first, because what is in has to end.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/parts.h"

void oct_pause_init(oct_engine *e) { pthread_mutex_init(&e->pause.lock, NULL); }
void oct_pause_fini(oct_engine *e) { pthread_mutex_destroy(&e->pause.lock); }

/* ---- any thread ---- */

oct_status oct_engine_pause(oct_engine *e, oct_pause_mode mode, oct_paused_fn *on_paused,
                            void *user) {
    oct_engine_pause_state *p = &e->pause;
    oct_status st = OCT_OK;
    pthread_mutex_lock(&p->lock);
    if (p->ended || atomic_load(&e->stopping)) {
        st = OCT_E_CANCELLED;
    } else if (p->n_pausers == OCT_ENGINE_MAX_PAUSERS) {
        st = OCT_E_FULL;
    } else {
        p->pausers[p->n_pausers].fn = on_paused;
        p->pausers[p->n_pausers++].user = user;
        p->abort = p->abort || mode == OCT_PAUSE_ABORT;
        atomic_store(&p->wanted, 1 + (int)mode);
    }
    pthread_mutex_unlock(&p->lock);
    if (st == OCT_OK) oct_queue_wake(e->inbox);
    return st;
}

void oct_engine_resume(oct_engine *e) {
    pthread_mutex_lock(&e->pause.lock);
    atomic_store(&e->pause.wanted, 0);
    e->pause.abort = false;
    pthread_mutex_unlock(&e->pause.lock);
    oct_queue_wake(e->inbox);
}

bool oct_engine_is_paused(const oct_engine *e) { return atomic_load(&e->pause.wanted) != 0; }

/* ---- the engine thread ---- */

bool oct_pause_hold(oct_engine *e, oct_request *r) {
    if (atomic_load(&e->pause.wanted) == 0) return false;
    r->held = true;
    e->pause.n_held++;
    return true;
}

void oct_pause_forget(oct_engine *e, oct_request *r) {
    if (!r->held) return;
    r->held = false;
    e->pause.n_held--;
}

/* What was asked for when the turn began. Only this thread takes pausers away, from the front, so
 * the first n stay what they are; those that come later are looked at in the next turn. */
typedef struct asked {
    int wanted;
    bool abort;
    uint32_t n_pausers;
} asked;

static asked look(oct_engine *e) {
    oct_engine_pause_state *p = &e->pause;
    pthread_mutex_lock(&p->lock);
    const asked a = {.wanted = atomic_load(&e->stopping) ? 0 : atomic_load(&p->wanted),
                     .abort = p->abort,
                     .n_pausers = p->n_pausers};
    p->abort = false;
    pthread_mutex_unlock(&p->lock);
    return a;
}

/* Callbacks run without the lock: they may pause and resume. */
static void tell(oct_engine *e, uint32_t n, bool paused) {
    oct_engine_pause_state *p = &e->pause;
    for (uint32_t i = 0; i < n; i++) {
        pthread_mutex_lock(&p->lock);
        oct_paused_fn *fn = p->pausers[0].fn;
        void *user = p->pausers[0].user;
        p->n_pausers--;
        memmove(p->pausers, p->pausers + 1, p->n_pausers * sizeof p->pausers[0]);
        pthread_mutex_unlock(&p->lock);
        fn(user, paused);
    }
}

static void begin_held(oct_engine *e) {
    for (oct_request *r = e->live_head; r && e->pause.n_held > 0; r = r->next) {
        if (!r->held) continue;
        oct_pause_forget(e, r);
        oct_engine_begin(e, r);
    }
}

/* What lies in the inbox counts as come later: nobody can tell. */
static void abort_begun(oct_engine *e) {
    for (oct_request *r = e->live_head, *next; r; r = next) {
        next = r->next;
        if (!r->held) oct_request_abort(e, r);
    }
}

static bool any_begun(const oct_engine *e) {
    const oct_request *r = e->live_head;
    while (r && r->held) r = r->next;
    return r != NULL;
}

bool oct_pause_turn(oct_engine *e) {
    oct_engine_pause_state *p = &e->pause;
    const asked a = look(e);
    if (a.wanted == 0) {
        if (p->n_held > 0) begin_held(e);
        p->holds = false;
        tell(e, a.n_pausers, false);
        return false;
    }
    if (a.abort) {
        oct_engine_settle(e);
        abort_begun(e);
    }
    p->holds = a.wanted == 1 + OCT_PAUSE_KEEP || !any_begun(e);
    if (!p->holds) return false;
    oct_engine_settle(e);
    atomic_store(&e->last_progress_ns, oct_now_ns()); /* nobody is stuck */
    tell(e, a.n_pausers, true);
    return true;
}

void oct_pause_end(oct_engine *e) {
    pthread_mutex_lock(&e->pause.lock);
    e->pause.ended = true;
    const uint32_t n = e->pause.n_pausers;
    pthread_mutex_unlock(&e->pause.lock);
    tell(e, n, false);
}
