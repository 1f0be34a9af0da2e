/* tests/same/pair.c - see pair.h. */
#include "pair.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern/cpu.h"
#include "kvstore/kvstore.h"
#include "support/golden.h"

enum { MAX_TOP = 5, MAX_GUESTS = 80, MAX_TURNS = 200000, EOS = 2 };

#define SAME_AXIS(name, ...) \
    {#name, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), {__VA_ARGS__}},
const axis same_axes[N_AXES] = {SAME_AXES(SAME_AXIS)};

const same_model same_models[N_SAME_MODELS] = {
    {"W8A8 static, C8", "qwen3-modelslim-w8a8c8-offset", false, OCT_QUANT_AS_STORED, OCT_KV_AUTO},
    {"W8A8 dynamic, C8 a head", "llama-tied", false, OCT_QUANT_INT8, OCT_KV_INT8_HEAD},
    {"float", "llama-tied", false, OCT_QUANT_AS_STORED, OCT_KV_FLOAT32},
    {"experts, MIX, C8", "qwen3-moe-modelslim-mix-c8", true, OCT_QUANT_AS_STORED, OCT_KV_AUTO},
    {"experts, dynamic", "qwen3-moe-quark-ptpc-int8", true, OCT_QUANT_AS_STORED, OCT_KV_BFLOAT16},
};

bool same_model_path(const same_model *m, char *out, size_t size) {
    static const char *root;
    static bool asked;
    if (m->golden && !asked) root = golden_root(); /* says so once where there is none */
    asked |= m->golden;
    if (m->golden && !root) return false;
    if (m->golden)
        snprintf(out, size, "%s/cases/%s", root, m->folder);
    else
        snprintf(out, size, "%s/models/%s", OCT_TEST_DATA, m->folder);
    return true;
}

const char *same_device(void) {
    const char *name = getenv("OCTET_DEVICE");
    return name ? name : "cpu";
}

static void need(oct_status st, const oct_err *err) {
    if (st == OCT_OK) return;
    fprintf(stderr, "test_same: %s\n", err->text);
    exit(1);
}

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct answer {
    int32_t tokens[SAME_MAX_LEN];
    oct_token_logprob lp[SAME_MAX_LEN]; /* pointers cleared */
    oct_top_logprob top[SAME_MAX_LEN][MAX_TOP];
    oct_token_logprob prompt_lp[SAME_MAX_LEN];
    oct_top_logprob prompt_top[SAME_MAX_LEN][MAX_TOP];
    uint64_t kv[SAME_MAX_LEN];
    uint32_t n, n_lp, n_prompt_lp, n_kv;
    oct_finish finish;
    oct_stop_kind stop_kind;
    int32_t stop_id;
    char error[200];
    /* not compared */
    bool over;
    uint32_t n_cached, n_preemptions;
} answer;

static void take_logprob(const oct_token_logprob *from, oct_token_logprob *to,
                         oct_top_logprob top[MAX_TOP]) {
    *to = (oct_token_logprob){
        .id = from->id, .logprob = from->logprob, .rank = from->rank, .n_top = from->n_top};
    for (uint32_t i = 0; i < from->n_top && i < MAX_TOP; i++)
        top[i] = (oct_top_logprob){.id = from->top[i].id, .logprob = from->top[i].logprob};
}

static void on_subject(void *user, const oct_output *out) {
    answer *a = user;
    for (uint32_t i = 0; i < out->n_tokens; i++) {
        if (out->logprobs) take_logprob(&out->logprobs[i], &a->lp[a->n], a->top[a->n]);
        a->n_lp += out->logprobs != NULL;
        a->tokens[a->n++] = out->tokens[i];
    }
    for (uint32_t i = 0; out->prompt_logprobs && i < out->n_prompt; i++)
        take_logprob(&out->prompt_logprobs[i], &a->prompt_lp[i], a->prompt_top[i]);
    if (out->prompt_logprobs) a->n_prompt_lp = out->n_prompt;
    if (out->finish == OCT_FINISH_NONE) return;
    a->finish = out->finish;
    a->stop_kind = out->stop_kind;
    a->stop_id = out->stop_id;
    a->n_cached = out->n_cached;
    a->n_preemptions = out->n_preemptions;
    a->over = true;
    snprintf(a->error, sizeof a->error, "%s", out->error);
    /* The last token was drawn and never computed. */
    const uint32_t n = out->n_prompt + out->n_completion - 1;
    if (out->finish != OCT_FINISH_ERROR && spy_read_kv(n, a->kv)) a->n_kv = n;
}

static bool same_bits(float a, float b) { return memcmp(&a, &b, sizeof a) == 0; }

static bool same_logprob(const oct_token_logprob *a, const oct_top_logprob ta[MAX_TOP],
                         const oct_token_logprob *b, const oct_top_logprob tb[MAX_TOP]) {
    bool same = a->id == b->id && same_bits(a->logprob, b->logprob) && a->rank == b->rank &&
                a->n_top == b->n_top;
    for (uint32_t i = 0; same && i < a->n_top; i++)
        same = ta[i].id == tb[i].id && same_bits(ta[i].logprob, tb[i].logprob);
    return same;
}

/* False: they differ, and what says where first. */
static bool compare(const answer *a, const answer *b, char what[256]) {
#define DIFFER(...) return snprintf(what, 256, __VA_ARGS__), false
    for (uint32_t i = 0; i < a->n_kv && i < b->n_kv; i++)
        if (a->kv[i] != b->kv[i]) DIFFER("K/V of position %u", i);
    for (uint32_t i = 0; i < a->n_prompt_lp && i < b->n_prompt_lp; i++)
        if (!same_logprob(&a->prompt_lp[i], a->prompt_top[i], &b->prompt_lp[i], b->prompt_top[i]))
            DIFFER("logprob of prompt token %u: %a alone, %a among others", i,
                   (double)a->prompt_lp[i].logprob, (double)b->prompt_lp[i].logprob);
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        if (a->tokens[i] != b->tokens[i])
            DIFFER("token %u: %d alone, %d among others", i, a->tokens[i], b->tokens[i]);
        if (!same_logprob(&a->lp[i], a->top[i], &b->lp[i], b->top[i]))
            DIFFER("logprob of token %u: %a alone, %a among others", i, (double)a->lp[i].logprob,
                   (double)b->lp[i].logprob);
    }
    if (a->n != b->n || a->n_lp != b->n_lp || a->n_prompt_lp != b->n_prompt_lp ||
        a->n_kv != b->n_kv)
        DIFFER("lengths: %u tokens, %u and %u logprobs, %u K/V alone; %u, %u and %u, %u among "
               "others",
               a->n, a->n_lp, a->n_prompt_lp, a->n_kv, b->n, b->n_lp, b->n_prompt_lp, b->n_kv);
    if (a->finish != b->finish || a->stop_kind != b->stop_kind || a->stop_id != b->stop_id)
        DIFFER("end: %d %d %d alone, %d %d %d among others", a->finish, a->stop_kind, a->stop_id,
               b->finish, b->stop_kind, b->stop_id);
    return true;
#undef DIFFER
}

/* ---- traffic --------------------------------------------------------------------------------- */

typedef struct guest {
    ask a;
    uint32_t arrival, leaves; /* turns */
    oct_request *handle;
    bool in, over;
} guest;

/* Guest 0 is the request of the pair. Guest 1, with `warm`, has ended before that one comes, and
 * leaves n_common tokens of its prompt in the cache. With `twin` it is the same request with
 * another choice, which computes the prompt for both. With `crowd` guest 2 comes between the two
 * and takes most blocks for another text. */
typedef struct party {
    guest guests[MAX_GUESTS];
    uint32_t n;
    bool warm, twin, crowd;
} party;

static void on_guest(void *user, const oct_output *out) {
    guest *g = user;
    if (out->finish != OCT_FINISH_NONE) g->over = true;
}

/* Lengths at the edges of blocks and spans, short, long, and any. */
static uint32_t a_prompt_length(rng *r) {
    switch (rng_below(r, 4)) {
    case 0:
        return 1 + rng_below(r, 40);
    case 1:
        return 32 * (1 + rng_below(r, 7)) - 1 + rng_below(r, 3);
    case 2:
        return 200 + rng_below(r, 31);
    default:
        return 1 + rng_below(r, 230);
    }
}

static void invite_subject(rng *r, const text *t, guest *g) {
    const uint32_t n = a_prompt_length(r), room = SAME_MAX_LEN - n;
    const uint32_t n_new = 1 + rng_below(r, rng_one_in(r, 4) ? 40 : 16);
    ask_fill(r, t, n, n, n_new < room ? n_new : room, &g->a);
    ask_fill_fields(r, &g->a);
    g->a.spec.priority = (int64_t)rng_below(r, 3);
    g->arrival = rng_below(r, 12);
    g->leaves = UINT32_MAX;
}

/* What the request will find, or what computes the prompt for it. */
static void invite_first(rng *r, const text *t, party *p) {
    const ask *subject = &p->guests[0].a;
    guest *g = &p->guests[1];
    p->twin = rng_one_in(r, 5);
    p->warm = !p->twin;
    /* So that each number of whole blocks is as likely: a few tokens around one of them. */
    const uint32_t n = subject->spec.n_prompt, n_blocks = n / 32;
    uint32_t common = 32 * (n_blocks ? 1 + rng_below(r, n_blocks) : 0) + rng_below(r, 4);
    if (rng_one_in(r, 4) || p->twin || common > n) common = n;
    ask_fill(r, t, p->twin ? n : common + 1 + rng_below(r, 8), common, 1 + rng_below(r, 3), &g->a);
    ask_fill_fields(r, &g->a);
    g->a.spec.prompt_logprobs = -1;
    g->a.spec.cache_salt = rng_one_in(r, 8) ? OCT_STR("another") : subject->spec.cache_salt;
    if (p->twin) {
        g->a.spec.sampling = subject->spec.sampling;
        g->a.spec.sampling.choice = subject->spec.sampling.choice + 1;
    }
    g->arrival = p->twin ? p->guests[0].arrival : 0;
    g->leaves = UINT32_MAX;
}

static void invite_crowd(rng *r, const text *t, party *p) {
    guest *g = &p->guests[p->n++];
    p->crowd = true;
    ask_fill(r, t, SAME_MAX_LEN - 4 - rng_below(r, 60), 0, 1 + rng_below(r, 3), &g->a);
    g->a.spec.prompt_logprobs = -1;
    g->leaves = UINT32_MAX;
}

/* The instruction sets of this machine, the widest first, by their masks. */
static uint32_t isa_mask(uint32_t which) {
    uint32_t masks[OCT_CPU_ALL + 1], n = 0;
    for (uint32_t m = OCT_CPU_ALL + 1; m-- > 0;) {
        const uint32_t normal = oct_cpu_mask_normal(m & oct_cpu_mask());
        if (n == 0 || masks[n - 1] > normal) masks[n++] = normal;
    }
    return masks[which % n];
}

static void invite(rng *r, const text *t, const setup *s, party *p) {
    memset(p, 0, sizeof *p);
    invite_subject(r, t, &p->guests[0]);
    p->n = 1;
    if (s->v[AXIS_prefix] ? !rng_one_in(r, 4) : rng_one_in(r, 8)) {
        invite_first(r, t, p);
        p->n = 2;
    }
    if (p->warm && s->v[AXIS_prefix] && s->v[AXIS_shelves] > 0) invite_crowd(r, t, p);
    const uint32_t seqs = s->v[AXIS_seqs];
    uint32_t n_more = seqs == 1 ? rng_below(r, 3) : seqs - 1 + rng_below(r, 8);
    /* The reference is tens of times slower: large batches of it are few. */
    if (isa_mask(s->v[AXIS_isa]) == 0 && n_more > 6 && !rng_one_in(r, 8)) n_more = 6;
    for (uint32_t i = 0; i < n_more && p->n < MAX_GUESTS; i++) {
        guest *g = &p->guests[p->n++];
        const uint32_t n = 1 + rng_below(r, rng_one_in(r, 6) ? 220 : 60);
        const uint32_t common = rng_one_in(r, 2) ? rng_below(r, n + 1) : 0;
        ask_fill(r, t, n, common, 1 + rng_below(r, 30), &g->a);
        ask_fill_fields(r, &g->a);
        g->a.spec.priority = (int64_t)rng_below(r, 3);
        g->arrival = rng_below(r, 20);
        g->leaves = rng_one_in(r, 10) ? g->arrival + rng_below(r, 20) : UINT32_MAX;
    }
}

/* ---- one engine ------------------------------------------------------------------------------ */

static uint32_t chunk_of(const setup *s) {
    const uint32_t chunk = s->v[AXIS_chunk];
    return chunk < CHUNK_LESS ? chunk : s->v[AXIS_block] + chunk - CHUNK_BLOCK;
}

typedef struct stand {
    oct_device_options device;
    oct_model_options model;
    oct_engine_options engine;
    char settings[48];
    char store[64]; /* "": none */
} stand;

static void apply_setup(const setup *s, const party *p, uint32_t spare, stand *o) {
    static const int32_t eos[] = {EOS};
    static const uint32_t sizes[] = {2, 4, 8, 24, 64};
    const bool cpu = strcmp(same_device(), "cpu") == 0;
    const uint32_t *v = s->v, per_seq = SAME_MAX_LEN / v[AXIS_block];
    *o = (stand){0};
    snprintf(o->settings, sizeof o->settings, "mask=%x,prefetch=%u", isa_mask(v[AXIS_isa]),
             v[AXIS_prefetch]);
    o->device = (oct_device_options){.n_threads = v[AXIS_threads],
                                     .bind_threads = 2,
                                     .settings = cpu ? o->settings : NULL,
                                     .overlap = v[AXIS_async]};
    o->model = (oct_model_options){.max_rows = v[AXIS_budget],
                                   .max_seqs = v[AXIS_seqs],
                                   .max_logits = v[AXIS_seqs] * (1 + v[AXIS_guesses]),
                                   .block_tokens = v[AXIS_block],
                                   .quiet = true,
                                   .capture = {.mode = (oct_capture_mode)v[AXIS_capture],
                                               .sizes = sizes,
                                               .n_sizes = v[AXIS_padded] ? OCT_COUNT(sizes) : 0,
                                               .n_warmups = 1}};
    o->engine = (oct_engine_options){
        .n_blocks = v[AXIS_tight] || p->crowd ? per_seq + spare : per_seq * (p->n + 1),
        .max_chunk_tokens = chunk_of(s),
        .max_partial_prefills = v[AXIS_partials],
        .by_priority = v[AXIS_priority],
        .draft = {.n_tokens = v[AXIS_guesses], .lookup_min = 1, .lookup_max = 3},
        .no_async_scheduling = !v[AXIS_async],
        .no_prefix_caching = v[AXIS_prefix] == 0,
        .n_shelves = !v[AXIS_prefix]       ? 0
                     : v[AXIS_shelves] > 0 ? v[AXIS_shelves]
                     : v[AXIS_store]       ? 8
                                           : 0,
        .prefix_hash_bits = v[AXIS_hash_bits],
        .eos_ids = eos,
        .n_eos = 1};
}

static void let_in(oct_engine *e, guest *g, bool subject, answer *a) {
    oct_err err = {0};
    g->a.spec.on_output = subject ? on_subject : on_guest;
    g->a.spec.user = subject ? (void *)a : g;
    g->in = true;
    need(oct_engine_submit(e, &g->a.spec, &g->handle, &err), &err);
}

static bool may_enter(const party *p, uint32_t i, uint32_t turn) {
    const guest *g = &p->guests[i];
    if (i == 0 && p->warm) return p->guests[p->crowd ? 2 : 1].over;
    if (i == 2 && p->crowd) return p->guests[1].over;
    return !g->in && turn >= g->arrival;
}

/* Until the request of the pair has its answer; the others are sent home then. */
static void entertain(oct_engine *e, party *p, answer *a) {
    const uint64_t group = p->twin ? oct_engine_new_group(e) : 0;
    p->guests[0].a.spec.group = group;
    if (p->n > 1) p->guests[1].a.spec.group = group;
    for (uint32_t turn = 0; !a->over; turn++) {
        /* The twin is the leader: it comes in first. */
        for (uint32_t k = p->n; k-- > 0;)
            if (!p->guests[k].in && may_enter(p, k, turn)) let_in(e, &p->guests[k], k == 0, a);
        for (uint32_t k = 0; k < p->n; k++)
            if (p->guests[k].in && p->guests[k].leaves == turn)
                oct_request_cancel(p->guests[k].handle);
        if (turn == MAX_TURNS || !oct_engine_turn(e, 0)) {
            snprintf(a->error, sizeof a->error, "no answer after %u turns", turn);
            break;
        }
    }
    oct_engine_stop(e, 0);
    for (uint32_t k = 0; k < p->n; k++) oct_request_release(p->guests[k].handle);
}

/* What an engine did besides the answer. */
typedef struct deeds {
    oct_engine_stats stats;
    bool overlapped;
    uint64_t n_replays, n_stored;
} deeds;

/* What an earlier process leaves in the folder: the request before. */
static void prepare(oct_engine *e, party *p) {
    guest *g = &p->guests[1];
    let_in(e, g, false, NULL);
    while (!g->over) (void)oct_engine_turn(e, 0);
    oct_engine_stop(e, 0);
    oct_request_release(g->handle);
    g->handle = NULL;
    if (p->crowd) p->guests[2].in = p->guests[2].over = true; /* nothing has to be crowded out */
}

static void open_store(const stand *o, const same_model *sm, const oct_model *model,
                       oct_kvstore **out) {
    const oct_model_info *i = oct_model_get_info(model);
    oct_err err = {0};
    const oct_kvstore_options so = {.path = o->store,
                                    .shape = {.fingerprint = {(uint64_t)(sm - same_models) + 1, 1},
                                              .block_bytes = i->kv_bytes_per_block,
                                              .block_tokens = i->block_tokens},
                                    .max_bytes = 1u << 30,
                                    .max_blocks = SAME_MAX_LEN / i->block_tokens,
                                    .n_writes = 4,
                                    .n_reads = 4};
    *out = NULL;
    if (o->store[0]) need(oct_kvstore_open(oct_system_allocator(), &so, out, &err), &err);
}

/* One process: for the request before, or for all others. */
static void run_one(const char *folder, const same_model *sm, stand *o, party *p, spy_plant plant,
                    bool before, answer *out, deeds *did) {
    const oct_allocator *mem = oct_system_allocator();
    const oct_sampling *key = &p->guests[0].a.spec.sampling;
    oct_checkpoint *ckpt;
    oct_device *device;
    oct_model *model;
    oct_engine *e;
    oct_kvstore *store;
    oct_err err = {0};
    need(oct_checkpoint_open(mem, folder, &ckpt, &err), &err);
    need(oct_device_open(mem, same_device(), &o->device, &device, &err), &err);
    spy_attach(device, plant);
    need(oct_model_load(mem, device, ckpt, &o->model, &model, &err), &err);
    need(oct_model_kv_create(model, o->engine.n_blocks, &err), &err);
    if (o->engine.n_shelves > 0)
        need(oct_model_shelves_create(model, o->engine.n_shelves, &err), &err);
    open_store(o, sm, model, &store);
    o->engine.kvstore = store;
    const oct_engine_backend backend = spy_backend(model, key->seed, key->choice);
    need(oct_engine_create_on(mem, &backend, NULL, &o->engine, &e, &err), &err);
    did->overlapped = oct_engine_get_info(e)->async_scheduling;
    if (before)
        prepare(e, p);
    else
        entertain(e, p, out);
    oct_engine_get_stats(e, &did->stats);
    did->n_replays = oct_model_n_replays(model);
    oct_engine_destroy(e);
    oct_kvstore_close(store);
    oct_model_destroy(model);
    spy_detach();
    oct_device_close(device);
    oct_checkpoint_close(ckpt);
}

static void make_folder(char out[64]) {
    snprintf(out, 64, "/tmp/octet-same-XXXXXX");
    if (mkdtemp(out)) return;
    perror(out);
    exit(1);
}

static void drop_folder(const char *path) {
    oct_kvstore_census c;
    const int fd = open(path, O_RDONLY | O_DIRECTORY);
    const oct_kvstore_shape any = {0};
    (void)oct_kvstore_folder_scan(fd, oct_system_allocator(), &any, 0, false, &c);
    oct_kvstore_keys_fini(&c.keys, oct_system_allocator());
    close(fd);
    (void)rmdir(path);
}

static void run(const char *folder, const same_model *sm, const setup *s, party *p, uint32_t spare,
                spy_plant plant, answer *out, deeds *did) {
    stand o;
    deeds unused;
    memset(out, 0, sizeof *out);
    apply_setup(s, p, spare, &o);
    o.model.quant = sm->quant;
    o.model.kv = sm->kv;
    if (s->v[AXIS_prefix] && s->v[AXIS_store]) make_folder(o.store);
    if (o.store[0] && p->warm) run_one(folder, sm, &o, p, plant, true, NULL, &unused);
    run_one(folder, sm, &o, p, plant, false, out, did);
    did->n_stored = o.store[0] && p->warm ? unused.stats.kvstore_written : 0;
    if (o.store[0]) drop_folder(o.store);
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static void print_setup(uint64_t seed, const same_model *m, const setup *s, const party *p) {
    printf("  seed %" PRIu64 ": %s (%s), %u requests%s\n  settings:", seed, m->name, m->folder,
           p->n,
           p->crowd  ? ", one before, one between"
           : p->warm ? ", one before"
           : p->twin ? ", one a choice of the same prompt"
                     : "");
    for (int i = 0; i < N_AXES; i++) {
        const uint32_t v = i == AXIS_chunk ? chunk_of(s) : s->v[i];
        printf(" %s=%u", same_axes[i].name, v);
    }
    printf(" (instructions: mask %x)\n", isa_mask(s->v[AXIS_isa]));
    ask_print(&p->guests[0].a);
}

static setup plain_setup(void) {
    setup s;
    for (int i = 0; i < N_AXES; i++) s.v[i] = same_axes[i].values[0];
    return s;
}

static setup random_setup(rng *r, tally *t) {
    setup s;
    for (int i = 0; i < N_AXES; i++) {
        const uint32_t k = rng_below(r, same_axes[i].n);
        s.v[i] = same_axes[i].values[k];
        t->axis[i][k]++;
    }
    return s;
}

static void count(tally *t, int model, const answer *a, const deeds *did) {
    const oct_engine_stats *st = &did->stats;
    t->n_pairs++;
    t->by_model[model]++;
    t->n_shared += st->n_shared_steps;
    t->n_mixed += st->n_mixed_steps;
    t->n_preemptions += st->n_preemptions;
    t->n_subject_preemptions += a->n_preemptions;
    t->n_overlapped += did->overlapped;
    t->n_replays += did->n_replays;
    t->n_shelved += st->n_shelved;
    t->n_fetched += st->n_fetched;
    t->n_stored += did->n_stored;
    t->n_read += st->kvstore_read;
    t->n_guesses += st->n_draft_tokens;
    t->n_right_guesses += st->n_accepted_tokens;
    t->hits[a->n_cached / 32]++;
    t->finish[a->finish]++;
    t->n_tokens += a->n;
    t->n_kv += a->n_kv;
    t->n_logprobs += a->n_lp + a->n_prompt_lp;
}

bool pair_run(uint64_t seed, const pair_options *o, tally *t) {
    static party p, lonely;
    static answer alone, among;
    deeds did;
    text common;
    char folder[4096], what[256] = "";
    rng r = {seed * 0x2545f4914f6cdd1du + 1};
    const int model = o->model >= 0 ? o->model : (int)rng_below(&r, N_SAME_MODELS);
    const same_model *m = &same_models[model];
    /* Without golden data the first of our own stands in, with a line in the suite's output. */
    if (!same_model_path(m, folder, sizeof folder)) {
        m = &same_models[0];
        (void)same_model_path(m, folder, sizeof folder);
    }
    const setup plain = plain_setup();
    setup s = random_setup(&r, t);
    /* Planted operations read the device's memory, which is not allowed while a step is recorded.
     */
    if (o->plant != PLANT_NONE && o->plant != PLANT_KV_BIT) s.v[AXIS_capture] = OCT_CAPTURE_NONE;
    const uint32_t spare = rng_below(&r, 4);
    text_fill(&r, &common);
    invite(&r, &common, &s, &p);
    /* The lists of an ask lie in it: a copy would point into the other. */
    memset(&lonely, 0, sizeof lonely);
    lonely.n = 1;
    lonely.guests[0].a.spec = p.guests[0].a.spec;
    lonely.guests[0].leaves = UINT32_MAX;

    run(folder, m, &plain, &lonely, 0, o->plant == PLANT_KV_BIT ? PLANT_NONE : o->plant, &alone,
        &did);
    run(folder, m, &s, &p, spare, o->plant, &among, &did);
    count(t, model, &among, &did);
    bool same = compare(&alone, &among, what);
    if (same && (alone.error[0] || !alone.over || alone.n_kv == 0)) {
        snprintf(what, sizeof what, "no answer: \"%.150s\", %u K/V", alone.error, alone.n_kv);
        same = false;
    }
    t->n_different += !same;
    if ((!same && !o->quiet) || o->loud) {
        printf("%s\n", same ? "the same" : "DIFFERENT");
        if (!same) printf("  first: %s\n", what);
        if (among.error[0]) printf("  error: %s\n", among.error);
        print_setup(seed, m, &s, &p);
        printf("  %u tokens, %u K/V, %u cached, %u preemptions\n", among.n, among.n_kv,
               among.n_cached, among.n_preemptions);
        fflush(stdout);
    }
    return same;
}
