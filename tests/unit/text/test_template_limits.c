/*
 * text/template.h under limits: wherever steps, memory or output end, a template of the vectors
 * either renders what it always renders or fails with the sentence of a limit; wherever the system
 * refuses memory while one is compiled, that is said and nothing stays behind.
 */
#include "template_check.h"

static json_t *all; /* tests/data/template/vectors.json */

static int load(void **state) {
    (void)state;
    all = json_load_file(OCT_TEST_DATA "/template/vectors.json", 0, NULL);
    return all ? 0 : -1;
}

static int unload(void **state) {
    (void)state;
    json_decref(all);
    return 0;
}

/* Renders once; true when the limits sufficed. */
static bool renders_as(const oct_template *t, const oct_template_input *in,
                       const oct_template_limits *limits, oct_str want) {
    oct_err err = {.code = OCT_OK};
    oct_buf out;
    oct_buf_init(&out, oct_system_allocator(), 0);
    const oct_status st = oct_template_render(t, in, limits, &out, &err);
    if (st == OCT_OK)
        assert_true(oct_str_eq(oct_buf_view(&out), want));
    else if (st != OCT_E_INVALID || !strstr(err.text, "limit"))
        fail_msg("said: %s", err.text);
    else
        assert_int_equal(out.len, 0);
    oct_buf_fini(&out);
    return st == OCT_OK;
}

static bool suffices(const oct_template *t, const oct_template_limits *limits, oct_str want) {
    const oct_template_input in = {.kwargs = json_object_get(all, "vars")};
    return renders_as(t, &in, limits, want);
}

/* Calls try with every template that renders; seed differs from one to the next. */
static void each(void (*try)(const oct_template *t, oct_str source, oct_str want, size_t seed)) {
    const json_t *cases = json_object_get(all, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const oct_str source = oct_json_str(json_object_get(one, "t"));
        const oct_str want = oct_json_str(json_object_get(one, "out"));
        oct_template *t;
        if (!want.ptr) continue;
        if (oct_template_create(oct_system_allocator(), source.ptr, source.len, &t, NULL) != OCT_OK)
            fail_msg("%s", source.ptr);
        try(t, source, want, i);
        oct_template_release(t);
    }
}

/* What the vectors' variables take alone: limits below it say nothing of the template. */
static size_t memory_of_vars(void) {
    static size_t least;
    oct_template *t;
    if (least) return least;
    assert_int_equal(oct_template_create(oct_system_allocator(), "", 0, &t, NULL), OCT_OK);
    do least += 16;
    while (!suffices(t, &(oct_template_limits){.max_memory_bytes = least}, OCT_STR("")));
    oct_template_release(t);
    return least;
}

static void any_memory(const oct_template *t, oct_str source, oct_str want, size_t seed) {
    (void)source, (void)seed;
    oct_template_limits limits = {.max_memory_bytes = memory_of_vars()};
    while (!suffices(t, &limits, want))
        limits.max_memory_bytes += 16 + limits.max_memory_bytes / 512;
}

static void any_steps(const oct_template *t, oct_str source, oct_str want, size_t seed) {
    (void)source, (void)seed;
    oct_template_limits limits = {.max_steps = 1};
    while (!suffices(t, &limits, want)) limits.max_steps += 1 + limits.max_steps / 32;
}

static void any_output(const oct_template *t, oct_str source, oct_str want, size_t seed) {
    (void)source, (void)seed;
    oct_template_limits limits = {.max_output_bytes = 1};
    while (!suffices(t, &limits, want)) limits.max_output_bytes += 1 + want.len / 8;
}

/* All that a render is given counts. */
static void memory_for_the_input(void) {
    static const oct_template_var vars[] = {{"bos_token", "<s>"}, {"pad_token", NULL}};
    json_t *list = json_of("[{\"role\": \"user\", \"content\": [1.5, null, true, \"text\"]}]");
    const oct_template_input in = {
        .messages = list, .tools = list, .documents = list, .vars = vars, .n_vars = 2};
    oct_template *t;
    const oct_str source = OCT_STR("{{ bos_token }}{{ tools == documents }}{{ messages|length }}");
    assert_int_equal(oct_template_create(oct_system_allocator(), source.ptr, source.len, &t, NULL),
                     OCT_OK);
    oct_template_limits limits = {.max_memory_bytes = 16};
    while (!renders_as(t, &in, &limits, OCT_STR("<s>True1"))) limits.max_memory_bytes += 16;
    assert_true(limits.max_memory_bytes > 1000);
    oct_template_release(t);
    json_decref(list);
}

static void memory_ends_anywhere(void **state) {
    (void)state;
    memory_for_the_input();
    each(any_memory);
}

static void steps_end_anywhere(void **state) {
    (void)state;
    each(any_steps);
}

static void output_ends_anywhere(void **state) {
    (void)state;
    each(any_output);
}

/* A comment in front moves the place where the tree's memory asks for its next chunk. */
static void refuse_compiling(oct_str source, size_t pad) {
    oct_buf padded;
    oct_buf_init(&padded, oct_system_allocator(), 0);
    oct_buf_cstr(&padded, "{#");
    for (size_t i = 0; i < 16 * pad; i++) oct_buf_char(&padded, ' ');
    oct_buf_cstr(&padded, "#}");
    oct_buf_str(&padded, source);
    for (size_t k = 0;; k++) {
        oct_fault_alloc f;
        oct_err err = {.code = OCT_OK};
        oct_template *made;
        oct_fault_alloc_init(&f, k, 0);
        const oct_status st =
            oct_template_create(&f.allocator, padded.data, padded.len, &made, &err);
        oct_template_release(made);
        assert_int_equal(f.live_blocks, 0);
        if (st == OCT_OK) break;
        assert_int_equal(st, OCT_E_NOMEM);
        assert_non_null(strstr(err.text, "no memory"));
    }
    oct_buf_fini(&padded);
}

static void any_refusal(const oct_template *t, oct_str source, oct_str want, size_t seed) {
    (void)t, (void)want;
    refuse_compiling(source, seed % 256);
}

static void memory_is_refused_anywhere(void **state) {
    (void)state;
    each(any_refusal);
}

/* One of each statement and of each kind of expression, small enough for every single place. */
static const char *const small[] = {
    "{% for a, (b, c) in [(1, (2, 3))] if a %}{{ a }}{{ loop.index }}{% else %}n{% endfor %}",
    "{% set (a), b = 1, 2 %}{% set n = namespace(x=1, y=2) %}{% set n.x = a + b %}{{ n.x }}",
    "{% set t | upper %}x{{ 'y' * 3 }}{% endset %}{{ t }}{{ t[::-1] }}{{ t[0] }}{{ t[-2:] }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, c=4) "
    "}}",
    "{% macro w(a) %}{{ caller(a) }}{% endmacro %}{% call(x, y='z') w(1) %}{{ x }}{{ y }}{% "
    "endcall %}",
    "{% filter upper | replace('A', 'b') %}a{% print 1, 'c' %}{% endfilter %}",
    "{% with a = 1, b = [1, 2] %}{{ a }}{{ b | join(',') }}{% endwith %}",
    "{% generation %}{{ {'k': [1], 'l': ()} | tojson(indent=1) }}{% endgeneration %}",
    "{% for x in [1, 2, 3] %}{% if x == 1 %}{% continue %}{% elif x > 2 %}{% break %}{% endif %}{{ "
    "x }}"
    "{% endfor %}",
    "{{ -1 + +2 * 3 ** 2 // 4 % 5 }}{{ 1 ~ 'a' 'b' }}{{ not (1 in [1, 2] and 2 not in (3,)) or 'x' "
    "is "
    "string }}",
    "{{ ('a' if 0 else 'b') if 1 }}{{ 5 is divisibleby 5 }}{{ [1, 'x', none] == [1] }}{{ 1 < 2 <= "
    "3 }}",
    "{{ '%s-%5.2f' % ('a', 1.5) }}{{ '{:>5}{!r}'.format('x', 'y') }}{{ 'a,b'.split(',') }}",
    "{{ 'a b'.title() }}{{ [3, 1, 2] | sort | map('string') | list }}{{ [1, 2] + [3] }}{{ "
    "'x'.upper }}",
    "{% set j = joiner('|') %}{{ j() }}{{ j() }}{% set c = cycler(1, 2) %}{{ c.next() }}{{ "
    "c.current }}",
    "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}{{ dict(a=1).items() | list }}{{ {'a': 1} | "
    "items }}",
};

static void memory_is_refused_at_every_place(void **state) {
    (void)state;
    for (size_t i = 0; i < OCT_COUNT(small); i++)
        for (size_t pad = 0; pad < 256; pad++) refuse_compiling(oct_str_of(small[i]), pad);
}

static void memory_ends_at_every_place(void **state) {
    (void)state;
    for (size_t i = 0; i < OCT_COUNT(small); i++) {
        rendered whole = render_text(small[i], NULL);
        if (whole.status != OCT_OK) fail_msg("%s: %s", small[i], whole.err.text);
        oct_template *t;
        assert_int_equal(
            oct_template_create(oct_system_allocator(), small[i], strlen(small[i]), &t, NULL),
            OCT_OK);
        const oct_template_input in = {.n_vars = 0};
        oct_template_limits limits = {.max_memory_bytes = 16};
        while (!renders_as(t, &in, &limits, oct_buf_view(&whole.text)))
            limits.max_memory_bytes += 16;
        limits = (oct_template_limits){.max_steps = 1};
        while (!renders_as(t, &in, &limits, oct_buf_view(&whole.text))) limits.max_steps++;
        oct_template_release(t);
        oct_buf_fini(&whole.text);
    }
}

/* Which of them makes the table of names grow depends on how many there are. */
static void memory_ends_at_every_name(void **state) {
    (void)state;
    static const oct_template_var vars[] = {{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"},
                                            {"e", "5"}, {"f", "6"}, {"g", "7"}, {"h", "8"}};
    oct_template *t;
    assert_int_equal(oct_template_create(oct_system_allocator(), "x", 1, &t, NULL), OCT_OK);
    for (size_t n = 0; n <= OCT_COUNT(vars); n++) {
        const oct_template_input in = {.vars = vars, .n_vars = n};
        oct_template_limits limits = {.max_memory_bytes = 16};
        while (!renders_as(t, &in, &limits, OCT_STR("x"))) limits.max_memory_bytes += 16;
    }
    oct_template_release(t);
}

static void a_failed_buffer_is_told(void **state) {
    (void)state;
    oct_template *t;
    oct_buf out;
    oct_err err = {.code = OCT_OK};
    const oct_template_input in = {.n_vars = 0};
    assert_int_equal(oct_template_create(oct_system_allocator(), "x", 1, &t, NULL), OCT_OK);
    oct_buf_init(&out, oct_system_allocator(), 1);
    oct_buf_cstr(&out, "too long");
    assert_int_equal(oct_template_render(t, &in, NULL, &out, &err), OCT_E_NOMEM);
    assert_non_null(strstr(err.text, "the output buffer has failed"));
    oct_buf_fini(&out);
    oct_template_release(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_ends_anywhere),
        cmocka_unit_test(steps_end_anywhere),
        cmocka_unit_test(output_ends_anywhere),
        cmocka_unit_test(memory_is_refused_anywhere),
        cmocka_unit_test(memory_is_refused_at_every_place),
        cmocka_unit_test(memory_ends_at_every_place),
        cmocka_unit_test(memory_ends_at_every_name),
        cmocka_unit_test(a_failed_buffer_is_told),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
