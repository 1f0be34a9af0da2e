/*
 * api/parts.h - what the files of this room share; not for others.
 *
 * The way of a request that generates: router.c finds its route; chat_completions.c or
 * completions.c reads the body into a job (request_fields.c, request_lists.c, prompt.c); job.c
 * submits it and takes the engine's news; stream.c or response.c words them.
 */
#ifndef OCT_API_PARTS_H
#define OCT_API_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "base/arena.h"
#include "base/fault.h"
#include "codec/json.h"
#include "grammar/grammar.h"
#include "text/ids.h"

enum {
    OCT_API_MAX_LABEL = 128, /* cache_salt, request id: bytes */
    OCT_API_REASON = 256,    /* bytes of a template's reason that are shown */
};

/* ---- errors.c ---- */

typedef enum oct_api_refusal {
    OCT_API_MALFORMED, /* 400 Bad Request: wrong JSON, wrong type, missing field */
    OCT_API_REFUSED,   /* 400 BadRequestError: well formed, value refused */
    OCT_API_NOT_FOUND, /* 404 NotFoundError */
    OCT_API_METHOD,    /* 405 */
    OCT_API_CONFLICT,  /* 409 Conflict: not in this state of the server */
    OCT_API_FAILED,    /* 500 InternalServerError */
    OCT_API_BUSY,      /* 503 ServiceUnavailableError, with Retry-After */
} oct_api_refusal;

/* 640 bytes of message are at most 3840 when JSON escapes all of them: a body stays under 4 KiB. */
typedef struct oct_api_error {
    oct_api_refusal kind;
    char param[64];    /* "": null */
    char message[640]; /* valid UTF-8 after oct_api_error_body */
} oct_api_error;

/* Fills *e and returns OCT_E_INVALID: return oct_api_refuse(...). param may be NULL. */
oct_status oct_api_refuse(oct_api_error *e, oct_api_refusal kind, const char *param,
                          const char *fmt, ...) OCT_PRINTF(4, 5);
/* Where there is none to make a body either. */
#define OCT_API_NO_MEMORY                                                               \
    "{\"error\":{\"message\":\"no memory for this request now; try later\",\"type\":\"" \
    "ServiceUnavailableError\",\"param\":null,\"code\":503}}"
/* 503 for refused memory. */
oct_status oct_api_no_memory(oct_api_error *e);
int oct_api_error_status(const oct_api_error *e);
/* Appends {"error":{...}}. */
void oct_api_error_body(const oct_api_error *e, oct_buf *out);

/* ---- metrics.c ---- */

typedef struct oct_api_metrics oct_api_metrics;

typedef enum oct_api_route_id {
    OCT_API_ROUTE_CHAT,
    OCT_API_ROUTE_COMPLETIONS,
    OCT_API_ROUTE_TOKENIZE,
    OCT_API_ROUTE_DETOKENIZE,
    OCT_API_ROUTE_MODELS,
    OCT_API_ROUTE_HEALTH,
    OCT_API_ROUTE_PING,
    OCT_API_ROUTE_VERSION,
    OCT_API_ROUTE_LOAD,
    OCT_API_ROUTE_METRICS,
    OCT_API_ROUTE_RESET_PREFIX,
    OCT_API_ROUTE_V1_HEALTH,
    OCT_API_ROUTE_CHAT_RENDER,
    OCT_API_ROUTE_COMPLETIONS_RENDER,
    OCT_API_ROUTE_APPLY_TEMPLATE,
    OCT_API_ROUTE_CHAT_BATCH,
    OCT_API_ROUTE_INVOCATIONS,
    OCT_API_ROUTE_TOKENIZER_INFO,
    OCT_API_ROUTE_GENERATE,
    OCT_API_ROUTE_PAUSE,
    OCT_API_ROUTE_RESUME,
    OCT_API_ROUTE_IS_PAUSED,
    OCT_API_ROUTE_ABORT,
    OCT_API_ROUTE_SERVER_INFO,
    OCT_API_ROUTE_PAGE,
    OCT_API_ROUTE_RESPONSES,
    OCT_API_ROUTE_MESSAGES,
    OCT_API_ROUTE_COUNT_TOKENS,
    OCT_API_ROUTE_OTHER, /* no such path */
    OCT_API_N_ROUTES
} oct_api_route_id;

/* What a finished request tells the histograms; times of oct_now_ns, 0: has not happened. */
typedef struct oct_api_finished {
    uint64_t begun_ns; /* when the HTTP request came */
    oct_request_times times;
    uint32_t n_prompt, n_completion, n_cached, max_tokens;
} oct_api_finished;

OCT_MUST_CHECK oct_status oct_api_metrics_create(const oct_allocator *mem, uint32_t max_model_len,
                                                 oct_api_metrics **out);
void oct_api_metrics_destroy(oct_api_metrics *m); /* accepts NULL */
void oct_api_metrics_first_token(oct_api_metrics *m, uint64_t begun_ns, uint64_t now_ns);
void oct_api_metrics_next_token(oct_api_metrics *m, uint64_t gap_ns);
void oct_api_metrics_finished(oct_api_metrics *m, const oct_api_finished *f);
void oct_api_metrics_job(oct_api_metrics *m, uint32_t n, uint32_t most_generated);
/* An answer is over; some of it was sent. */
void oct_api_metrics_http(oct_api_metrics *m, oct_api_route_id route, oct_http_method method,
                          uint64_t request_bytes, const oct_http_outcome *outcome);
/* Appends the text exposition. */
void oct_api_metrics_write(oct_api *api, oct_buf *out);

/* ---- the api ---- */

struct oct_api {
    const oct_allocator *mem;
    oct_api_config cfg; /* its strings point into arena */
    oct_arena arena;
    oct_engine_info info;
    json_t *template_kwargs;
    oct_template_var vars[4]; /* special tokens for templates */
    size_t n_vars;
    oct_ids open_tag, close_tag; /* of reasoning, as prompts hold them */
    int32_t eos_id;              /* ends a turn in a prompt; -1: unknown */
    int64_t created;             /* unix seconds */
    oct_api_metrics *metrics;
    pthread_mutex_t grammars_lock;
    oct_grammars *grammars; /* made when first needed */
    atomic_bool draining;
    atomic_uint n_jobs;
    pthread_mutex_t jobs_lock;     /* taken before a job's */
    struct oct_api_job *jobs;      /* all there are */
    atomic_ullong last_warning_ns; /* see oct_api_raise_temperature */
    atomic_uint n_unsaid;
};

/* The routes of router.c. Each answers x, now or later. */
void oct_api_route_chat(oct_api *api, oct_http_exchange *x);
void oct_api_route_completions(oct_api *api, oct_http_exchange *x);
void oct_api_route_tokenize(oct_api *api, oct_http_exchange *x);
void oct_api_route_detokenize(oct_api *api, oct_http_exchange *x);
void oct_api_route_models(oct_api *api, oct_http_exchange *x);
void oct_api_route_health(oct_api *api, oct_http_exchange *x);
void oct_api_route_version(oct_api *api, oct_http_exchange *x);
void oct_api_route_load(oct_api *api, oct_http_exchange *x);
void oct_api_route_metrics(oct_api *api, oct_http_exchange *x);
void oct_api_route_page(oct_api *api, oct_http_exchange *x);
/* dev_routes.c */
void oct_api_route_reset_prefix(oct_api *api, oct_http_exchange *x);
void oct_api_route_pause(oct_api *api, oct_http_exchange *x);
void oct_api_route_resume(oct_api *api, oct_http_exchange *x);
void oct_api_route_is_paused(oct_api *api, oct_http_exchange *x);
void oct_api_route_abort(oct_api *api, oct_http_exchange *x);
void oct_api_route_server_info(oct_api *api, oct_http_exchange *x);

void oct_api_route_chat_render(oct_api *api, oct_http_exchange *x);
void oct_api_route_completions_render(oct_api *api, oct_http_exchange *x);
void oct_api_route_apply_template(oct_api *api, oct_http_exchange *x);
void oct_api_route_chat_batch(oct_api *api, oct_http_exchange *x);
void oct_api_route_invocations(oct_api *api, oct_http_exchange *x);
void oct_api_route_tokenizer_info(oct_api *api, oct_http_exchange *x);
void oct_api_route_generate(oct_api *api, oct_http_exchange *x);
void oct_api_route_responses(oct_api *api, oct_http_exchange *x);
void oct_api_route_messages(oct_api *api, oct_http_exchange *x);
void oct_api_route_count_tokens(oct_api *api, oct_http_exchange *x);
/* The error body of Anthropic's messages. */
void oct_api_messages_error_body(int status, const char *message, oct_buf *out);

/* Whether the request carries a key, or needs none (api.c). */
bool oct_api_admits(const oct_api *api, const oct_http_exchange *x);
oct_api_route_id oct_api_route_of(const oct_api *api, const oct_http_exchange *x);
/* The path less --root-path: for routing and for keys. */
oct_str oct_api_path(const oct_api *api, const oct_http_exchange *x);
/* The value of the first `name=` in the query, as it was sent; {NULL, 0} when absent. */
oct_str oct_api_query(const oct_http_exchange *x, const char *name);
/* Its path ("none" for OCT_API_ROUTE_OTHER) and its methods as bits; NULL: its answers are not
 * counted, because they tell of the server and not of its use. */
const char *oct_api_route_label(oct_api_route_id id, unsigned *methods);
/* One whole answer, counted. A failed buffer is 503. */
void oct_api_answer(oct_api *api, oct_http_exchange *x, int status, const oct_buf *json);
void oct_api_answer_error(oct_api *api, oct_http_exchange *x, const oct_api_error *e);

/* ---- request_fields.c ---- */

typedef enum oct_api_shape { OCT_API_CHAT, OCT_API_COMPLETION } oct_api_shape;

/* What a body asks for, read and range-checked. Lists lie in the job's arena; strings borrow from
 * the body. */
typedef struct oct_api_fields {
    double temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, n, seed;
    int64_t max_tokens; /* -1: not given */
    int64_t min_tokens;
    int64_t priority;
    int64_t logprobs;        /* most likely tokens beside the drawn one; -1: none wanted */
    int64_t prompt_logprobs; /* -1: none */
    int64_t truncate;        /* 0: no; -1: to what fits; else most prompt tokens */

    bool has_seed;
    bool echo_only; /* completions with max_tokens 0: the one token that is drawn is not shown */
    bool stream, include_usage, continuous_usage;
    bool ignore_eos, include_stop, skip_special, echo;
    bool return_token_ids, tokens_as_ids, return_prompt_text;
    bool add_special_tokens;
    bool add_generation_prompt, continue_final_message;
    bool include_reasoning, parallel_calls;
    int64_t thinking_budget; /* tokens of reasoning; -1: any */
    bool truncate_right;
    int64_t stream_interval; /* tokens of an event, but for the first and the last */

    oct_str salt; /* cache_salt */
    oct_str *stop;
    int32_t *stop_ids;
    oct_token_bias *bias;
    int32_t *allowed;
    oct_token_seq *bad_words;
    uint32_t n_stop, n_stop_ids, n_bias, n_allowed, n_bad_words;
} oct_api_fields;

/* Whole numbers: a JSON integer, or a real without a fraction; one that int64 cannot hold becomes
 * the nearest that it can, which no field's range holds. */
bool oct_api_integer(const json_t *v, int64_t *out);
/* The text of the body as an object; the caller's to json_decref. */
OCT_MUST_CHECK oct_status oct_api_parse_body(const oct_api *api, oct_str body, json_t **out,
                                             oct_api_error *e);
/* Reads all sampling fields of body. */
OCT_MUST_CHECK oct_status oct_api_read_fields(oct_api *api, oct_api_shape shape, const json_t *body,
                                              oct_arena *arena, oct_api_fields *f,
                                              oct_api_error *e);
/* 404 unless absent, null or served. */
OCT_MUST_CHECK oct_status oct_api_check_model(const oct_api *api, const json_t *body,
                                              oct_api_error *e);
/* false when absent or null, then *out stays; a wrong type is refused. */
OCT_MUST_CHECK oct_status oct_api_read_bool(const json_t *body, const char *name, bool *out,
                                            oct_api_error *e);

/* request_lists.c: stop, stop_token_ids, logit_bias, allowed_token_ids, bad_words. */
OCT_MUST_CHECK oct_status oct_api_read_lists(oct_api *api, const json_t *body, oct_arena *arena,
                                             oct_api_fields *f, oct_api_error *e);
/* Appends the ids of a JSON array, each below n_vocab. */
OCT_MUST_CHECK oct_status oct_api_read_ids(const oct_api *api, const json_t *array,
                                           const char *param, oct_ids *out, oct_api_error *e);

typedef struct oct_api_job oct_api_job;

/* structured.c: response_format, structured_outputs and their older names, calls that tool_choice
 * demands; compiled into job->grammar. Of a body that has been read, its tools too. */
OCT_MUST_CHECK oct_status oct_api_read_structured(oct_api_job *job, const json_t *body,
                                                  oct_api_error *e);

/* ---- prompt.c ---- */

/* How the answer to a chat is to be read. All is borrowed from the body. */
typedef struct oct_api_manner {
    bool calls; /* tool calls are looked for, or are all there is (mode) */
    oct_speak_mode mode;
    oct_str function;    /* of OCT_SPEAK_NAMED */
    const json_t *tools; /* NULL: none */
    int thinking;        /* what template variables say: 1, 0; -1: nothing */
} oct_api_manner;

/* The prompt text of a body with messages (chat, /tokenize). how NULL: nobody reads an answer, so
 * tool_choice only shows or hides the tools. */
OCT_MUST_CHECK oct_status oct_api_render(oct_api *api, const json_t *body, const oct_api_fields *f,
                                         oct_buf *out, oct_api_manner *how, oct_api_error *e);
/* Refuses a text that is too long to fit whatever its tokens are (bad-input TK10), before it is
 * looked at. */
OCT_MUST_CHECK oct_status oct_api_check_text(const oct_api *api, oct_str text, uint64_t reserve,
                                             oct_api_error *e);
/* Ids of a text, refused beforehand when it cannot fit (bad-input TK10). reserve: output tokens
 * that were asked for. */
OCT_MUST_CHECK oct_status oct_api_encode(const oct_api *api, oct_str text, bool add_special,
                                         uint64_t reserve, oct_ids *out, oct_api_error *e);
/* Cuts the prompt as truncate_prompt_tokens says, checks the lengths and gives the most tokens that
 * the answer may have. by_default: tokens when none were asked for, 0: as many as fit. */
OCT_MUST_CHECK oct_status oct_api_fit(const oct_api *api, const oct_api_fields *f, oct_ids *prompt,
                                      uint32_t by_default, const char *param,
                                      uint32_t *max_tokens_out, oct_api_error *e);

/* ---- job.c ---- */

typedef struct oct_api_prompt {
    oct_ids ids;
    oct_buf text; /* for echo and return_prompt_text; may be empty */
    uint32_t max_tokens;
    uint64_t group; /* of its choices, when there are several */
} oct_api_prompt;

/* The four lists of a completion's logprobs object, without brackets. */
typedef struct oct_api_lists {
    oct_buf tokens, token_logprobs, top_logprobs, text_offset;
    uint32_t offset; /* code points so far */
} oct_api_lists;

enum { OCT_API_CALL_ID = 48 };

/* A tool call; name and arguments are spans of the choice's spoken, the arguments behind the name.
 */
typedef struct oct_api_call {
    char id[OCT_API_CALL_ID];
    size_t name_at, name_len, args_len;
} oct_api_call;

/* What the last output said: text is a span of the choice's said. */
typedef struct oct_api_event {
    oct_speak_kind kind;
    size_t at, len;
    uint32_t call; /* index; of CALL, ARGUMENTS, CALL_END */
} oct_api_event;

/* A run of what the answer says, for dialects that tell it as a list (items.c): reasoning, content
 * or a call (its arguments), a span of the choice's told. */
typedef struct oct_api_item {
    oct_speak_kind kind;
    size_t at, len;
    uint32_t call;
} oct_api_item;

/* What an answer says (speech.c). */
typedef struct oct_api_speech {
    oct_speak *speak; /* NULL: all is content */
    oct_buf said;     /* by the last output */
    oct_api_event *events;
    uint32_t n_events, cap_events;
    oct_buf reasoning; /* whole answers: so far */
    oct_buf spoken;    /* names and arguments of calls, so far */
    oct_api_call *calls;
    uint32_t n_calls, cap_calls;
    oct_api_item *items; /* only where the voice tells items */
    uint32_t n_items, cap_items;
    oct_buf told;
    bool item_open;
    bool reasons;         /* what was last told was reasoning */
    uint32_t n_reasoning; /* tokens up to there */
    bool failed;          /* refused memory */
} oct_api_speech;

/* One choice of the answer: one engine request. */
typedef struct oct_api_choice {
    oct_api_job *job;
    const oct_api_prompt *prompt;
    uint32_t index;
    oct_request *handle; /* guarded by job->lock */
    bool begun, done;    /* the first output came; the last one came */
    oct_buf text;        /* whole answers: content so far */
    oct_buf held;        /* streams: text that waits for the next event */
    uint32_t n_held;     /* its tokens */
    oct_api_speech speech;
    oct_buf logprobs;        /* chat: entries of "content" so far */
    oct_api_lists lists;     /* completions */
    oct_buf prompt_logprobs; /* JSON list; empty: none */
    oct_ids tokens; /* return_token_ids: whole answers so far, streams since the last event */
    oct_finish finish;
    oct_stop_kind stop_kind;
    int32_t stop_id;
    oct_buf stop_text;
    uint32_t n_completion, n_cached;
    uint64_t last_token_ns;
    oct_request_times times;
} oct_api_choice;

/* The words of an answer: functions with job->lock held. What differs between dialects of the
 * same job. */
typedef struct oct_api_voice {
    const char *id_prefix;                                    /* NULL: by shape */
    void (*output)(oct_api_choice *c, const oct_output *out); /* a stream's news */
    void (*end)(oct_api_job *job);                            /* the end of a stream */
    void (*error)(oct_api_job *job, const oct_api_error *e);  /* a stream that fails */
    void (*respond)(oct_api_job *job);                        /* the whole answer */
    bool items;                                               /* it tells items */
} oct_api_voice;

extern const oct_api_voice oct_api_voice_openai; /* job.c */

struct oct_api_job {
    oct_api *api;
    const oct_api_voice *voice;
    oct_api_job *prev, *next; /* in api->jobs */
    oct_http_exchange *x;     /* NULL in tests: nothing is sent */
    oct_api_shape shape;
    oct_arena arena;
    json_t *body;  /* until submitted */
    json_t *tools; /* of the body, for parsers; or NULL */
    oct_api_manner how;
    oct_grammar *grammar; /* that answers keep to; NULL: none */
    oct_api_fields fields;
    oct_buf id; /* "chatcmpl-..." */
    int64_t created;
    uint64_t begun_ns;
    oct_buf echo_text; /* chat echo: the last message */
    oct_buf asked;     /* dialects: what of the request the answer repeats, JSON members */
    uint32_t n_events; /* of a stream with numbered events */

    oct_api_prompt *prompts; /* [n_prompts] */
    uint32_t n_prompts;
    oct_api_choice *choices; /* [n_choices] */
    uint32_t n_choices;

    atomic_uint n_refs;
    pthread_mutex_t lock; /* the rest */
    bool running;         /* read whole; its choices are being submitted or were */
    uint32_t n_open;      /* choices without their last output */
    bool streaming;       /* the head of a stream was sent */
    bool over;            /* the answer is complete, or given up */
    bool gone;            /* so is the client */
    bool cancelled;       /* by an operator: it ends with what it has */
    oct_buf out;          /* scratch of one chunk */
};

/* The number that tells a request from others, for base/fault.h. */
static inline uint64_t oct_api_who(const oct_api_job *job) { return (uint64_t)job->fields.seed; }

OCT_MUST_CHECK oct_status oct_api_job_create(oct_api *api, oct_http_exchange *x,
                                             oct_api_shape shape, oct_api_job **out);
/* Room for n prompts; each is then filled by the caller. */
OCT_MUST_CHECK oct_status oct_api_job_set_prompts(oct_api_job *job, uint32_t n, oct_api_error *e);
/* Makes the choices. */
OCT_MUST_CHECK oct_status oct_api_job_set_choices(oct_api_job *job, oct_api_error *e);
/* The engine request of a choice, without callback. */
void oct_api_job_spec(const oct_api_choice *c, oct_request_spec *out);
/* Hands all choices to the engine and gives up the caller's reference. Whatever happens, the
 * exchange is answered. */
void oct_api_job_run(oct_api_job *job);
void oct_api_job_unref(oct_api_job *job); /* accepts NULL */
/* Whether id is the job's, with or without "chatcmpl-" or "cmpl-". */
bool oct_api_job_is(const oct_api_job *job, oct_str id);
/* Under job->lock: its requests end, and what there is of the answer is given. False: that was
 * asked for before, or nobody is there to be given it. */
bool oct_api_job_cancel(oct_api_job *job);
/* A job, read from an exchange with read, that runs; or the refusal. */
void oct_api_start(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                   oct_status (*read)(oct_api_job *job, oct_api_error *e));
/* The same with other words. */
void oct_api_start_as(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                      const oct_api_voice *voice,
                      oct_status (*read)(oct_api_job *job, oct_api_error *e));
oct_status oct_api_read_chat(oct_api_job *job, oct_api_error *e);
/* One conversation into one prompt: rendered, encoded, fitted. */
OCT_MUST_CHECK oct_status oct_api_read_messages(oct_api_job *job, const json_t *body,
                                                oct_api_prompt *p, oct_api_error *e);
oct_status oct_api_read_completion(oct_api_job *job, oct_api_error *e);

/* A job that is read and never run: what write made of the body is the answer (render_routes.c). */
void oct_api_answer_job(oct_api *api, oct_http_exchange *x, oct_api_shape shape,
                        oct_status (*write)(oct_api_job *job, oct_str body, oct_buf *out,
                                            oct_api_error *e));

/* ---- speech.c ---- */

/* The text behind which content begins in the answer to this prompt; empty: content begins at once.
 */
oct_str oct_api_speech_after(const oct_api_job *job, const oct_ids *prompt);
/* The tags of --reasoning-parser as ids. OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status oct_api_speech_prepare(oct_api *api, oct_err *err);
/* Readies the choices of a chat job for its manner. */
OCT_MUST_CHECK oct_status oct_api_speech_begin(oct_api_job *job, oct_api_error *e);
void oct_api_speech_init(oct_api_speech *s, const oct_allocator *mem);
void oct_api_speech_fini(oct_api_speech *s, const oct_allocator *mem);
/* With job->lock held: what this output says becomes the events of the choice's speech. */
void oct_api_hear(oct_api_choice *c, const oct_output *out);
/* Takes an event into the choice's items; voice: an oct_api_item_voice that hears of it, or NULL.
 */
void oct_api_itemize(oct_api_choice *c, const oct_api_event *ev, const void *voice);
/* Reads an event's text. */
oct_str oct_api_event_text(const oct_api_choice *c, const oct_api_event *ev);
oct_str oct_api_call_name(const oct_api_choice *c, uint32_t i);
oct_str oct_api_call_arguments(const oct_api_choice *c, uint32_t i);
/* "tool_calls" where calls were found, else as the engine says. */
const char *oct_api_choice_finish(const oct_api_choice *c, oct_finish f);

/* ---- stream.c, response.c, logprobs.c: with job->lock held ---- */

void oct_api_stream_output(oct_api_choice *c, const oct_output *out);
/* Sends the head. */
void oct_api_stream_begin(oct_api_job *job);
/* Usage and [DONE]. */
void oct_api_stream_end(oct_api_job *job);
void oct_api_stream_error(oct_api_job *job, const oct_api_error *e);

void oct_api_collect_output(oct_api_choice *c, const oct_output *out);
void oct_api_respond(oct_api_job *job);

/* ,"prompt_logprobs":... */
void oct_api_write_prompt_logprobs(const oct_api_choice *c, oct_buf *b);
/* Whether the choices' buffers lack something. */
bool oct_api_any_failed(const oct_api_job *job);
/* "usage" object for these counts. */
void oct_api_write_usage(const oct_api_job *job, uint32_t n_prompt, uint32_t n_completion,
                         uint32_t n_cached, oct_buf *b);
void oct_api_job_usage(const oct_api_job *job, uint32_t *n_prompt, uint32_t *n_completion,
                       uint32_t *n_cached);
/* "stop", "length", ... and the stop_reason value. */
const char *oct_api_finish_name(oct_finish f);
void oct_api_write_stop_reason(oct_buf *b, oct_finish f, oct_stop_kind kind, int32_t id,
                               oct_str text);
void oct_api_write_ids(oct_buf *b, const int32_t *ids, size_t n);
/* ,"metrics":{...},"timings":{...} where wanted: of a job with one choice, else null. */
void oct_api_write_metrics(const oct_api_job *job, oct_buf *b);
/* A value or null. */
void oct_api_write_string(oct_buf *b, const char *s);

/* Appends the logprobs of out to what the choice has collected. */
void oct_api_take_logprobs(oct_api_choice *c, const oct_output *out);
/* The object of all that was collected, or null when none are wanted. */
void oct_api_write_logprobs(const oct_api_choice *c, oct_buf *b);
void oct_api_clear_logprobs(oct_api_choice *c);

/* Says that a temperature was raised, at most once a second. */
void oct_api_say_raised(oct_api *api, double given);

#endif
