/*
 * store/scheme_match.h - lists of module names in a quantisation config: exact names, "re:"
 * patterns in the dialect of Python's re (matched from the start of the name, as re.match does) and
 * shell wildcards. Internal to the room.
 *
 * The lists are strangers' bytes. Exact names are looked up, not compared one by one; patterns run
 * in PCRE2 under a limit of steps for each match and a budget for the whole list, so that no list
 * can make loading hang. A pattern that means something else in Python is refused by name.
 *
 * Ownership  Strings are borrowed from the JSON value. Threads: one at a time.
 */
#ifndef OCT_STORE_SCHEME_MATCH_H
#define OCT_STORE_SCHEME_MATCH_H

#include <jansson.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"

typedef struct oct_name_list oct_name_list;

typedef enum oct_name_dialect {
    OCT_NAMES_RE = 1,   /* "re:PATTERN" */
    OCT_NAMES_GLOB = 2, /* *, ?, [...], [!...] over the whole name; no escapes */
    OCT_NAMES_PART = 4, /* an entry also matches where it stands between dots or ends of the name */
} oct_name_dialect;

/* list: a JSON array of strings; NULL or null is an empty list. dialect: OCT_NAMES_... or-ed; exact
 * names always match. where: the key for messages, static or as long-lived as the list.
 * OCT_E_CORRUPT: no array of strings; OCT_E_UNSUPPORTED: a pattern, told by name. */
OCT_MUST_CHECK oct_status oct_name_list_create(const oct_allocator *mem, const json_t *list,
                                               unsigned dialect, const char *where,
                                               oct_name_list **out, oct_err *err);
void oct_name_list_destroy(oct_name_list *l); /* accepts NULL */

/* *hit: whether an entry matches. OCT_E_UNSUPPORTED: a pattern takes too many steps. */
OCT_MUST_CHECK oct_status oct_name_list_has(oct_name_list *l, const char *name, bool *hit,
                                            oct_err *err);
/* Whether an entry is spelled like this, ignoring case: classes of modules. */
bool oct_name_list_spells(const oct_name_list *l, const char *name);
/* The same, but only patterns that hold `word` count: for names of fused modules. */
OCT_MUST_CHECK oct_status oct_name_list_has_word(oct_name_list *l, const char *name,
                                                 const char *word, bool *hit, oct_err *err);

/* Whether a wildcard pattern matches the whole name; linear in their product at worst. */
bool oct_glob_matches(const char *pattern, const char *name);

#endif
