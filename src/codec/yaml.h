/*
 * codec/yaml.h - a YAML file as JSON values: what settings files need of YAML, and no more.
 *
 * One document of mappings, lists and scalars. Plain scalars are null, true and false (also yes,
 * no, on, off, in YAML 1.1's cases), whole numbers, numbers, or strings; quoted ones are strings.
 * Anchors, aliases, tags, several documents and keys that are no scalars or come twice are refused.
 *
 * Ownership  *out is the caller's to json_decref. Threads: pure function.
 * Elsewhere  JSON itself: codec/json.h.
 */
#ifndef OCT_CODEC_YAML_H
#define OCT_CODEC_YAML_H

#include <jansson.h>

#include "base/status.h"
#include "base/str.h"

enum { OCT_YAML_MAX_BYTES = 1 << 20, OCT_YAML_MAX_DEPTH = 32, OCT_YAML_MAX_PARTS = 10000 };

/* Reads text; an empty one is null. OCT_E_INVALID: "WHERE: REASON (at line N)", N from 1;
 * OCT_E_NOMEM. */
OCT_MUST_CHECK oct_status oct_yaml_parse(oct_str text, const char *where, json_t **out,
                                         oct_err *err);

#endif
