/*
 * octet/octet.h - octet inside another program: open a model, submit requests, poll their answers,
 * cancel, close. Link with liboctet (pkg-config octet). examples/chat.c is a whole program.
 *
 * One engine holds one model and one thread that computes for all its requests together. What a
 * request is told depends on the request alone, never on what else runs.
 *
 * Errors     A function that can fail returns a code of octet/status.h, OCTET_OK (0) or above, and
 *            writes one sentence, "WHERE: WHAT (got X, want Y)", into sentence[sentence_bytes]
 *            (cut to fit and always ended by NUL; NULL or 0 bytes declines it; "" on success).
 *            Nothing here ends the process, prints to stdout, or handles signals.
 * Versions   Each struct begins with struct_bytes, which the caller sets to its sizeof before the
 *            call. Members are only appended; what an older caller lacks counts as zero, and what
 *            a newer caller sets and this library does not know is refused.
 * Ownership  The library copies what it is given, unless it says otherwise; the caller gives back
 *            engines (octet_engine_close) and requests (octet_request_release), in any order.
 * Threads    All functions may be called from any thread. Two threads at once: on one engine, yes,
 *            except while it is opened or closed; on one request, octet_cancel beside anything but
 *            octet_request_release. More is said at each function.
 */
#ifndef OCTET_OCTET_H
#define OCTET_OCTET_H

#include <stddef.h>
#include <stdint.h>

#include <octet/status.h>

#if defined(__GNUC__)
#define OCTET_API __attribute__((visibility("default")))
#else
#define OCTET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct octet_engine octet_engine;
typedef struct octet_request octet_request;

/* "0.1.0"; static storage. */
OCTET_API const char *octet_version(void);

/* Least level of the lines on stderr, of the whole process: 0 debug, 1 information, 2 warnings (as
 * it begins), 3 errors, 4 no line at all. Any thread. */
OCTET_API void octet_log_level(int32_t level);

/* ---- an engine ------------------------------------------------------------------------------ */

#define OCTET_ENGINE_UNBOUND 1u         /* compute threads are not bound to cores */
#define OCTET_ENGINE_STRICT 2u          /* refuse what a checkpoint is else only warned of */
#define OCTET_ENGINE_NO_PREFIX_CACHE 4u /* every prompt is computed from its first token */
#define OCTET_ENGINE_NO_ASYNC 8u        /* a step is prepared when the one before has ended */

/* Zero or NULL: as `octet serve` chooses, unless something else is said. The words are those of the
 * flags of that name in docs/commands.md. */
typedef struct octet_engine_options {
    uint32_t struct_bytes;
    uint32_t flags;                  /* OCTET_ENGINE_... */
    uint32_t n_threads;              /* that compute; 0: all cores of the process */
    uint32_t max_model_len;          /* tokens of a sequence; 0: the model's own */
    uint32_t max_num_seqs;           /* most sequences of one step; 0: 16 */
    uint32_t max_num_batched_tokens; /* most tokens of one step; 0: 512 */
    uint32_t max_num_queued_reqs;    /* most requests that wait or run; 0: 1024 more
                                        than max_num_seqs */
    uint32_t block_size;             /* tokens of a cache block; 0: 32 */
    uint64_t kv_cache_bytes;         /* 0: room for max_num_seqs sequences of max_model_len, but no
                                        more than 0.4 of the memory that is free */
    uint64_t seed;                   /* of made-up weights */
    const char *device;              /* "auto", "cpu", "cuda:N", "/path/plugin.so:N" */
    const char *device_settings;     /* "KEY=VALUE,..." */
    const char *quantization;        /* "auto", "int8", ... */
    const char *kv_cache_dtype;
    const char *kv_cache_dtype_skip_layers;
    const char *load_format; /* "auto", "safetensors", "gguf", "dummy" */
    const char *hf_overrides;
    const char *tokenizer; /* a folder; NULL: the model's own */
    /* Called on the opening thread while weights load: done of total bytes. NULL: nobody is told.
     */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    uint64_t kv_offload_bytes; /* of host memory for blocks that the cache handed out for others */
    const char *kv_store;      /* a folder that keeps blocks for the next start; NULL: none */
    uint64_t kv_store_bytes;   /* most of the files there; 0: 16 GiB */
} octet_engine_options;

/* Fixed after opening. Strings live as long as the engine. */
typedef struct octet_engine_info {
    uint32_t struct_bytes; /* set by the caller */
    uint32_t max_model_len;
    uint32_t n_vocab;
    uint32_t n_blocks, block_tokens; /* of the KV cache */
    uint32_t has_tokenizer;          /* 0: requests are token ids and get no text */
    uint32_t has_chat_template;      /* 0: requests cannot be messages */
    uint32_t reserved;
    uint64_t weight_bytes; /* on the device */
    const char *device, *family, *scheme;
    const char *template_error; /* why the model's chat template is not usable; else "" */
} octet_engine_info;

/* Loads model (a folder, a GGUF file, or "preset:NAME" with load_format "dummy") and starts the
 * engine. options NULL: defaults. Takes as long as reading the weights does. *out is NULL on
 * failure: OCTET_E_INVALID options, CORRUPT or UNSUPPORTED or IO files, NOMEM, DEVICE. */
OCTET_API int32_t octet_engine_open(const char *model, const octet_engine_options *options,
                                    octet_engine **out, char *sentence, size_t sentence_bytes);
/* Ends all requests as OCTET_FINISH_CANCELLED, stops the thread and gives everything back. Requests
 * may still be polled and must still be released. One thread, nobody else inside, and not from
 * on_ready. Accepts NULL. */
OCTET_API void octet_engine_close(octet_engine *e);

/* OCTET_E_INVALID: struct_bytes is less than the first version's. */
OCTET_API int32_t octet_engine_get_info(const octet_engine *e, octet_engine_info *out);

/* ---- a request ------------------------------------------------------------------------------ */

typedef struct octet_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* UTF-8 */
} octet_message;

#define OCTET_REQUEST_SEEDED 1u       /* seed counts; else one is drawn */
#define OCTET_REQUEST_IGNORE_EOS 2u   /* the model's end tokens do not end the answer */
#define OCTET_REQUEST_KEEP_STOP 4u    /* what stopped the answer stays in its text */
#define OCTET_REQUEST_KEEP_SPECIAL 8u /* special tokens leave text */
#define OCTET_REQUEST_NO_TEXT 16u     /* only ids are wanted */
#define OCTET_REQUEST_LOGPROBS 32u    /* of the drawn tokens */
#define OCTET_REQUEST_NO_BOS 64u      /* text: no special tokens are added around it */

/* Fill it with octet_request_defaults, then set the prompt and what shall differ. */
typedef struct octet_request_spec {
    uint32_t struct_bytes;
    uint32_t flags; /* OCTET_REQUEST_... */

    /* The prompt: exactly one of the three. */
    const octet_message *messages; /* [n_messages] through the model's chat template */
    const char *text;              /* UTF-8, continued */
    const int32_t *ids;            /* [n_ids] */
    uint32_t n_messages, n_ids;

    uint32_t max_tokens; /* of the answer; 0, or more than fit: as many as fit */
    uint32_t min_tokens;
    float temperature;        /* 0: always the likeliest token */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    int32_t top_k;            /* 0: off */
    float repetition_penalty; /* > 0; 1: off */
    float frequency_penalty, presence_penalty;
    uint32_t choice; /* with the seed and a token's position: the key of its random number */
    uint64_t seed;

    const char *const *stop; /* [n_stop] strings that end the answer */
    const int32_t *stop_ids; /* [n_stop_ids] */
    uint32_t n_stop, n_stop_ids;
    const char *cache_salt; /* cached beginnings are shared among equal salts only; NULL: none */

    /* Called on the engine's thread when there is something new for octet_poll; must not block.
     * May poll with timeout 0 and cancel this request; may not release it or close the engine. It
     * may come before octet_submit has returned. NULL: nobody is told. */
    void (*on_ready)(void *user, octet_request *request);
    void *user;
} octet_request_spec;

/* What the model's generation_config.json says of sampling, and no more than that: temperature 0.7
 * where it says nothing, everything else off. spec->struct_bytes is set by the caller.
 * OCTET_E_INVALID as above. */
OCTET_API int32_t octet_request_defaults(const octet_engine *e, octet_request_spec *spec);

/* Hands the request over. The answer comes by octet_poll. *out is NULL on failure: OCTET_E_FULL as
 * many wait as may (try later), INVALID the request contradicts itself or can never fit,
 * UNSUPPORTED messages or text without template or tokenizer, CANCELLED, DEVICE, NOMEM. */
OCTET_API int32_t octet_submit(octet_engine *e, const octet_request_spec *spec, octet_request **out,
                               char *sentence, size_t sentence_bytes);

#define OCTET_RUNNING 0u          /* more will come */
#define OCTET_FINISH_STOP 1u      /* an end token, a stop string or a stop id */
#define OCTET_FINISH_LENGTH 2u    /* max_tokens */
#define OCTET_FINISH_CANCELLED 3u /* octet_cancel, or the engine was closed */
#define OCTET_FINISH_ERROR 4u     /* see status and error */

typedef struct octet_output {
    uint32_t struct_bytes; /* set by the caller */
    uint32_t finish;       /* OCTET_RUNNING or OCTET_FINISH_... */
    /* New since the last poll. */
    const char *text; /* whole UTF-8 characters, ended by NUL; text may be held back */
    size_t text_bytes;
    const int32_t *tokens; /* [n_tokens] */
    const float *logprobs; /* [n_tokens], or NULL when they were not asked for */
    uint32_t n_tokens;
    int32_t status;    /* OCTET_FINISH_ERROR: why, a code; else OCTET_OK */
    const char *error; /* OCTET_FINISH_ERROR: a sentence; else "" */
    /* So far. */
    uint32_t n_prompt, n_completion, n_cached; /* n_cached: prompt tokens found in the cache */
    uint32_t reserved;
    uint64_t arrival_ns, first_token_ns, last_token_ns; /* CLOCK_MONOTONIC; 0: not yet */
} octet_output;

/* Waits for something new, at most timeout_ms (0: not at all; below 0: for ever), and gives
 * everything that has come since the last call. Nothing new in time is OCTET_OK with no text, no
 * tokens and OCTET_RUNNING; an answer that has ended says so again and again. Pointers in *out are
 * valid until the next poll of this request or its release. One thread at a time for a request. */
OCTET_API int32_t octet_poll(octet_request *r, int32_t timeout_ms, octet_output *out);

/* The request ends soon, as OCTET_FINISH_CANCELLED unless it has ended by then. Any thread. */
OCTET_API void octet_cancel(octet_request *r);

/* Cancels if it has not ended, and gives the request back. Waits for an on_ready that runs; none is
 * called afterwards. Accepts NULL. */
OCTET_API void octet_request_release(octet_request *r);

#ifdef __cplusplus
}
#endif

#endif
