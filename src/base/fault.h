/*
 * base/fault.h - named places at which a test can make something fail that real machines refuse now
 * and then: memory, a device call, a socket, room in a queue, a finite value.
 *
 *     if (!p || OCT_FAULT(REQUEST_BIAS, seed)) return false;
 *
 * In OCT_DEBUG builds this is true at one visit of the point that a test chose (board below); in
 * all others it is false and costs nothing. A point stands where the program has its own way out,
 * which it then takes: a fault is never a branch of its own.
 *
 * The list is here, in one place, so that a test can require of each point that it is reached and
 * that somebody wrote down what it does (tests/fault/test_points.py).
 *
 * Threads    any.
 */
#ifndef OCT_BASE_FAULT_H
#define OCT_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Name in the source, name on the board. Those of the device are its operations' names. */
#define OCT_FAULT_POINTS(X)                                      \
    X(NET_CONNECTION, "net: memory for a connection")            \
    X(NET_EXCHANGE, "net: memory for an exchange")               \
    X(NET_HEAD, "net: memory for a head")                        \
    X(NET_BODY, "net: memory for a body")                        \
    X(NET_WORKERS, "net: queue of the workers is full")          \
    X(NET_RECEIVE, "net: receiving fails")                       \
    X(NET_SEND, "net: sending fails")                            \
    X(NET_ANSWER, "net: memory for an answer")                   \
    X(NET_UNREAD, "net: client reads too slowly")                \
    X(JOB, "api: memory for a job")                              \
    X(JOB_BODY, "api: memory for a parsed body")                 \
    X(JOB_LIST, "api: memory for a list of ids")                 \
    X(JOB_STOP, "api: memory for stop strings")                  \
    X(JOB_RENDER, "api: memory to render")                       \
    X(JOB_ENCODE, "api: memory to tokenize")                     \
    X(JOB_PROMPTS, "api: memory for prompts")                    \
    X(JOB_CHOICES, "api: memory for choices")                    \
    X(JOB_ID, "api: memory for an id")                           \
    X(JOB_ECHO, "api: memory for the prompt's text")             \
    X(JOB_EVENT, "api: memory for an event")                     \
    X(JOB_LOGPROBS, "api: memory for logprobs")                  \
    X(JOB_USAGE, "api: memory for the usage event")              \
    X(JOB_TEXT, "api: memory for an answer's text")              \
    X(JOB_ANSWER, "api: memory for a whole answer")              \
    X(QUEUE_REQUESTS, "engine: too many requests wait")          \
    X(QUEUE_TOKENS, "engine: too many tokens wait")              \
    X(QUEUE_CLOSED, "engine: inbox is closed")                   \
    X(REQUEST, "engine: memory for a request")                   \
    X(REQUEST_TOKENS, "engine: memory for tokens")               \
    X(REQUEST_STOP_IDS, "engine: memory for stop ids")           \
    X(REQUEST_STOP_SET, "engine: memory to find stop strings")   \
    X(REQUEST_STOP, "engine: memory for stop strings")           \
    X(REQUEST_BIAS, "engine: memory for biases")                 \
    X(REQUEST_BAD_WORDS, "engine: memory for bad words")         \
    X(REQUEST_MASK, "engine: memory for a mask")                 \
    X(REQUEST_SALT, "engine: memory for a salt")                 \
    X(REQUEST_LOGPROBS, "engine: memory for prompt logprobs")    \
    X(REQUEST_SEED, "engine: random source fails")               \
    X(DEADLINE, "engine: time is up")                            \
    X(ROW_SEEN, "engine: memory for a row's counts")             \
    X(ROW_BIAS, "engine: memory for a row's biases")             \
    X(ROW_MASK, "engine: memory for a row's mask")               \
    X(ROW_NOT_FINITE, "engine: value is not finite")             \
    X(ROW_NOTHING, "engine: no token is allowed")                \
    X(PROMPT_NOT_FINITE, "engine: prompt's value is not finite") \
    X(TOKEN_UNKNOWN, "engine: drawn token does not exist")       \
    X(TEXT_TOKEN, "engine: memory for a token's text")           \
    X(TEXT_RELEASED, "engine: memory for released text")         \
    X(BLOCKS_RUNNING, "sched: no block for who runs")            \
    X(BLOCKS_NEW, "sched: no blocks for who waits")              \
    X(BLOCKS_GUESS, "sched: no block for guesses")               \
    X(PREFIX_LOST, "kv: what was cached is forgotten")           \
    X(SALT_LOST, "kv: salt is forgotten")                        \
    X(ENTRY_STALE, "kv: what was computed is not entered")       \
    X(SHELF_NONE, "kv: no shelf is free")                        \
    X(SHELF_STALE, "kv: what was read is not entered")           \
    X(SHELF_COPY, "engine: copy to or from a shelf fails")       \
    X(SAVE_COPY, "engine: copy of what is saved fails")          \
    X(STORE_JOB, "kvstore: no job is free")                      \
    X(STORE_OPEN, "kvstore: file cannot be opened")              \
    X(STORE_READ, "kvstore: read is short")                      \
    X(STORE_KEY, "kvstore: memory for a key")                    \
    X(STORE_FOLDER, "kvstore: folder cannot be read")            \
    X(STORE_RENAME, "kvstore: file gets no name")                \
    X(STORE_WRITE, "kvstore: write is refused")                  \
    X(RECORDING, "model: recording does not begin")              \
    X(DEVICE_WRITE, "device: write")                             \
    X(DEVICE_EMBED, "device: embed")                             \
    X(DEVICE_FEED, "device: feed")                               \
    X(DEVICE_NORM, "device: norm")                               \
    X(DEVICE_LINEAR, "device: linear")                           \
    X(DEVICE_ATTN_INPUT, "device: attn_input")                   \
    X(DEVICE_ATTENTION, "device: attention")                     \
    X(DEVICE_ACT, "device: act")                                 \
    X(DEVICE_GATHER, "device: gather")                           \
    X(DEVICE_SAMPLE, "device: sample")                           \
    X(DEVICE_READ, "device: read")                               \
    X(DEVICE_EVENT, "device: event_record")                      \
    X(DEVICE_CAPTURE_END, "device: capture_end")                 \
    X(DEVICE_REPLAY, "device: replay")                           \
    X(DEVICE_STEP, "device: step")

typedef enum oct_fault_point {
#define OCT_FAULT_ENUM(point, name) OCT_FAULT_##point,
    OCT_FAULT_POINTS(OCT_FAULT_ENUM)
#undef OCT_FAULT_ENUM
        OCT_N_FAULTS
} oct_fault_point;

/* Who: a number that tells the request, its seed; 0: the place does not know. */
#ifdef OCT_DEBUG
#define OCT_FAULT(point, who) oct_fault_fires(OCT_FAULT_##point, (who))
#define OCT_FAULT_CALL(name) oct_fault_call_fires(name)
#else
#define OCT_FAULT(point, who) (false && (who) != 0)
#define OCT_FAULT_CALL(name) (false && (name))
#endif

/*
 * Counts a visit of the point and says whether it is the chosen one.
 *
 * The board is the file that OCTET_FAULT_BOARD names, which a test and the program share; words of
 * the machine's byte order:
 *
 *     uint32 armed      1 + the chosen point; 0: none. Goes back to 0 when it fires
 *     uint32 countdown  fires at so many visits from here on; 1 is the next
 *     uint32 n_fired
 *     uint32 n_points   written by the program once all names are there
 *     uint64 who        at the last firing
 *     uint64 unused
 *     n_points times    char name[56], uint64 visits
 */
bool oct_fault_fires(oct_fault_point point, uint64_t who);
/* The same for the point "device: NAME", if there is one. */
bool oct_fault_call_fires(const char *name);

#endif
