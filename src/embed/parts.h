/* embed/parts.h - the inside of the library's door, shared by its source files only. */
#ifndef OCT_EMBED_PARTS_H
#define OCT_EMBED_PARTS_H

#include <octet/octet.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "kvstore/kvstore.h"
#include "model/model.h"
#include "text/ids.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct octet_engine {
    oct_device *device;
    oct_checkpoint *ckpt;     /* its configuration and sampling defaults */
    oct_tokenizer *tokenizer; /* or NULL */
    oct_template *template;   /* or NULL: template_error says why, if there is one to say */
    oct_model *model;
    oct_kvstore *kvstore; /* or NULL */
    oct_engine *engine;
    char template_error[OCT_ERR_TEXT];
};

/* ---- structs that may be longer or shorter than ours ---- */

/* Copies what the caller has of a struct of `bytes` and zeroes the rest. false: shorter than the
 * first version, or a member set that is not known here. */
bool oct_embed_take(void *ours, size_t bytes, size_t least, const void *theirs);
/* The other way: as much as the caller has room for, struct_bytes left as it is. false: as above.
 */
bool oct_embed_give(void *theirs, const void *ours, size_t bytes, size_t least);

/* Writes the sentence out and returns the code. st OCT_OK: "". */
int32_t oct_embed_answer(oct_status st, const oct_err *err, char *sentence, size_t bytes);

/* ---- prompt.c ---- */

/* The ids of the prompt, appended to *out. */
OCT_MUST_CHECK oct_status oct_embed_prompt(const octet_engine *e, const octet_request_spec *spec,
                                           oct_ids *out, oct_err *err);

#endif
