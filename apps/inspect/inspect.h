/* apps/inspect/inspect.h - what the files of `octet inspect` share. */
#ifndef OCT_APPS_INSPECT_H
#define OCT_APPS_INSPECT_H

#include <jansson.h>

#include "model/survey.h"
#include "open.h"

/* One model that is looked at. */
typedef struct inspected {
    const char *path;
    opened m; /* checkpoint and device; survey needs both */
    oct_survey *survey;
    oct_status why_shape_only; /* not OCT_OK: no weights could be opened, only a configuration */
} inspected;

typedef struct inspect_options {
    open_options open;
    uint64_t memory; /* 0: not given */
    bool json, tensors, values;
} inspect_options;

/* report.c: one model. */
void inspect_print(const inspected *x, const inspect_options *o);
json_t *inspect_to_json(const inspected *x, const inspect_options *o);

/* tensors.c */
void inspect_print_tensors(const oct_checkpoint *ckpt);
json_t *inspect_tensors_to_json(const oct_checkpoint *ckpt);
json_t *inspect_tensor_to_json(const oct_checkpoint *ckpt, const oct_tensor *t);
/* "[64, 128]" */
const char *inspect_shape(const oct_tensor *t, char out[256]);

/* fields.c: the hyperparameters in a fixed order. i runs from 0 until false is returned; the value
 * is a new reference. */
bool inspect_field(const oct_model_config *c, size_t i, const char **name, json_t **value);

/* compare.c: exit status. */
int inspect_compare(const inspected *a, const inspected *b, const inspect_options *o);

/* A path as a JSON string: what is no UTF-8 in it is replaced. NULL: no memory. */
json_t *inspect_text(const char *text);

/* JSON on stdout; takes value over. NULL: there was no memory for it. */
int inspect_dump(json_t *value);

#endif
