/* tests/unit/text/template_check.h - rendering in one line, for the template tests. */
#ifndef OCT_TESTS_TEMPLATE_CHECK_H
#define OCT_TESTS_TEMPLATE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/attr.h"
#include "codec/json.h"
#include "text/template.h"

/* What came of a render. */
typedef struct rendered {
    oct_status status;
    oct_buf text;
    oct_err err;
} rendered;

static inline json_t *json_of(const char *text) {
    json_t *v = NULL;
    oct_err err = {.code = OCT_OK};
    if (oct_json_parse(oct_str_of(text), "test", &oct_json_file_limits, &v, &err) != OCT_OK)
        fail_msg("bad JSON in the test: %s", err.text);
    return v;
}

static inline rendered render_with(oct_str source, const json_t *vars,
                                   const oct_template_limits *limits) {
    rendered r = {.status = OCT_OK};
    oct_template *t;
    oct_buf_init(&r.text, oct_system_allocator(), 0);
    r.status = oct_template_create(oct_system_allocator(), source.ptr, source.len, &t, &r.err);
    if (r.status != OCT_OK) return r;
    const oct_template_input in = {.kwargs = vars,
                                   .messages = json_object_get(vars, "messages"),
                                   .tools = json_object_get(vars, "tools")};
    r.status = oct_template_render(t, &in, limits, &r.text, &r.err);
    oct_template_release(t);
    return r;
}

/* vars: a JSON object as text, or NULL. */
static inline rendered render_text(const char *source, const char *vars) {
    json_t *v = vars ? json_of(vars) : NULL;
    const rendered r = render_with(oct_str_of(source), v, NULL);
    json_decref(v);
    return r;
}

static inline void renders(const char *source, const char *vars, const char *want) {
    rendered r = render_text(source, vars);
    if (r.status != OCT_OK) fail_msg("%s\nfailed: %s", source, r.err.text);
    assert_string_equal(oct_buf_cs(&r.text), want);
    oct_buf_fini(&r.text);
}

/* The template is refused, when compiled or rendered, with a sentence that holds word. */
static inline void refused(const char *source, const char *vars, const char *word) {
    rendered r = render_text(source, vars);
    if (r.status == OCT_OK) fail_msg("%s\ngave: %s", source, oct_buf_cs(&r.text));
    if (!strstr(r.err.text, word)) fail_msg("%s\nsaid: %s\nwant: %s", source, r.err.text, word);
    assert_int_equal(r.text.len, 0);
    oct_buf_fini(&r.text);
}

#endif
