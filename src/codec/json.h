/*
 * codec/json.h - JSON from strangers, read with jansson behind checks of our own: size, depth,
 * UTF-8, byte-order mark, escapes. Consumers use jansson's own functions on the result; objects
 * keep the order of their keys.
 *
 * What a value becomes
 *   integer that fits int64   JSON integer
 *   larger integer            JSON real: tokenizer settings hold 10^30, and what a request's field
 *                             may hold is its reader's to say, by name
 *   NaN, Infinity, -Infinity  files: the JSON *string* of that name, because jansson's reals are
 *                             finite; so a reader that wants a number refuses it by type
 *   1e400                     refused
 *   \u0000 in a string        kept (use json_string_length); in a key: refused
 *
 * Ownership  The caller owns *out and gives it back with json_decref. jansson takes its memory from
 * the system. Threads: pure functions; one json_t belongs to one thread at a time.
 */
#ifndef OCT_CODEC_JSON_H
#define OCT_CODEC_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

typedef struct oct_json_limits {
    size_t max_bytes;
    uint32_t max_depth; /* of nested arrays and objects; at most OCT_JSON_DEPTH_MAX */
    uint32_t max_parts; /* strings (keys too), arrays and objects, each of which costs some hundred
                           bytes of memory for two of text; 0: no limit */
    bool allow_nonfinite; /* NaN, Infinity, -Infinity are read */
    bool warn_duplicates; /* a repeated key: last wins, one warning; false: refused */
} oct_json_limits;

enum { OCT_JSON_DEPTH_MAX = 512 };

extern const oct_json_limits oct_json_file_limits; /* 16 MiB, depth 64 */
extern const oct_json_limits
    oct_json_request_limits; /* 32 MiB, depth 64, 2^20 parts, no duplicates */

/* The whole text must be one value of any kind. On refusal *out is NULL, the status is
 * OCT_E_INVALID (OCT_E_NOMEM when memory was refused) and the sentence is
 * "WHERE: REASON (at byte N)", N counted from 0. */
OCT_MUST_CHECK oct_status oct_json_parse(oct_str text, const char *where,
                                         const oct_json_limits *limits, json_t **out, oct_err *err);

/* The key of the outermost object under which text is nested deeper than max_depth; {NULL, 0} where
 * it is not, or not under a key. What stands there of the key: its escapes are not read. */
oct_str oct_json_deep_key(oct_str text, uint32_t max_depth);

/* Appends utf8 as a string literal with quotes: escapes '"', '\', control characters, and U+2028
 * and U+2029 (line ends to some readers). Invalid UTF-8 becomes U+FFFD, so the result is always
 * JSON. */
void oct_json_quote(oct_buf *b, oct_str utf8);
/* The escape of two characters that c has in a literal ("\\n", "\\\""), else NULL. */
const char *oct_json_short_escape(uint32_t c);
/* Appends the shortest literal that reads back as v; null when v is not finite. */
void oct_json_f64(oct_buf *b, double v);
/* Appends value on one line; flags as json_dumps (JSON_COMPACT, JSON_ENSURE_ASCII, ...). Sets
 * b->failed when it cannot. */
void oct_json_dump(oct_buf *b, const json_t *value, size_t flags);

/* Building: takes value (which may be NULL) to key of *obj, or to the end of *list. Where memory is
 * refused, what was built is given back and *obj or *list is NULL and stays so: asking once, at the
 * end, is enough. (jansson's own copies lose without a word what memory was refused for.) */
void oct_json_put(json_t **obj, const char *key, json_t *value);
void oct_json_push(json_t **list, json_t *value);

/* Writes value for a message: JSON, cut to 64 bytes at a character border ("..." shows a cut).
 * Returns out. */
enum { OCT_JSON_SHOWN = 72 };
const char *oct_json_show(const json_t *value, char out[OCT_JSON_SHOWN]);

/* A JSON string as a span; {NULL, 0} for any other value (NULL too). */
oct_str oct_json_str(const json_t *value);

/*
 * Typed fields. Each looks for key in obj; absent or null leaves *out alone (its default) and is
 * OCT_OK. A wrong type or a value outside [lo, hi] is OCT_E_INVALID with the sentence
 * "WHERE: KEY must be ... (got X)". obj must be an object.
 */
OCT_MUST_CHECK oct_status oct_json_get_i64(const json_t *obj, const char *key, const char *where,
                                           int64_t lo, int64_t hi, int64_t *out, oct_err *err);
/* Takes integers too; never gives NaN or Inf. */
OCT_MUST_CHECK oct_status oct_json_get_f64(const json_t *obj, const char *key, const char *where,
                                           double lo, double hi, double *out, oct_err *err);
OCT_MUST_CHECK oct_status oct_json_get_bool(const json_t *obj, const char *key, const char *where,
                                            bool *out, oct_err *err);
/* *out borrows from obj. */
OCT_MUST_CHECK oct_status oct_json_get_str(const json_t *obj, const char *key, const char *where,
                                           oct_str *out, oct_err *err);

#endif
