/*
 * text/template.h: features by hand, rendered vectors, and rows TP1-TP6 and TP9 of the bad-input
 * table (TP7 and TP8 belong to requests: test_chat.c and the API tests).
 */
#include "template_check.h"

#include <pthread.h>
#include <time.h>

#include "support/refused_memory.h"

/* ---- vectors: 5,700 templates with what Jinja2 makes of them ---- */

static void vectors(void **state) {
    (void)state;
    oct_err err = {.code = OCT_OK};
    json_t *all = json_load_file(OCT_TEST_DATA "/template/vectors.json", 0, NULL);
    assert_non_null(all);
    const json_t *vars = json_object_get(all, "vars"), *cases = json_object_get(all, "cases");
    size_t n_bad = 0;
    assert_true(json_array_size(cases) > 5000);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i), *want = json_object_get(one, "out");
        const oct_str source = oct_json_str(json_object_get(one, "t"));
        rendered r = render_with(source, vars, NULL);
        const bool ok =
            json_is_null(want)
                ? r.status == OCT_E_INVALID || r.status == OCT_E_UNSUPPORTED
                : r.status == OCT_OK && oct_str_eq(oct_buf_view(&r.text), oct_json_str(want));
        if (!ok)
            print_error("%.*s\n got: %s%s\nwant: %s\n", OCT_STR_ARG(source), oct_buf_cs(&r.text),
                        r.err.text, json_is_null(want) ? "failure" : json_string_value(want));
        n_bad += !ok;
        oct_buf_fini(&r.text);
    }
    assert_int_equal(n_bad, 0);
    assert_int_equal(err.code, OCT_OK);
    json_decref(all);
}

/* ---- what the vectors cannot hold ---- */

static void lists_of_the_template_may_grow(void **state) {
    (void)state;
    renders("{% set ns = namespace(l=[]) %}{% for i in range(3) %}{{ ns.l.append(i) or '' }}"
            "{% endfor %}{{ ns.l.pop() }}{{ ns.l }}{{ ns.l.pop(0) }}",
            NULL, "2[0, 1]0");
    refused("{{ l.append(1) }}", "{\"l\": [1]}", "not allowed");
    refused("{{ l.pop() }}", "{\"l\": [1]}", "not allowed");
    renders("{% set m = l[:] %}{{ m.append(2) }}{{ m }}{{ l }}", "{\"l\": [1]}", "None[1, 2][1]");
    renders("{% set m = [1] %}{{ m.extend('ab') }}{{ m.extend([]) }}{{ m }}{{ m.pop(true) }}", NULL,
            "NoneNone[1, 'a', 'b']a");
    refused("{% set m = [1] %}{{ m.extend(5) }}", NULL, "not iterable");
    refused("{% set m = [1] %}{{ m.extend() }}", NULL, "extend");
    refused("{{ l.extend([1]) }}", "{\"l\": [1]}", "not allowed");
    refused("{% set m = [1] %}{{ m.append() }}", NULL, "append");
    refused("{% set m = [1] %}{{ m.pop('x') }}", NULL, "pop");
    refused("{% set m = [1] %}{{ m.pop(1, 2) }}", NULL, "pop");
    refused("{% set m = [1] %}{{ m.pop(1) }}", NULL, "pop index out of range");
    refused("{% set m = [1] %}{{ m.pop(-2) }}", NULL, "pop index out of range");
    refused("{{ [].pop() }}", NULL, "pop");
    refused("{{ [1].index(5) }}", NULL, "the value is not in the list");
    refused("{{ 's'.rsplit(none, 1) }}", NULL, "not supported");
}

static void from_json_reads_what_tojson_wrote(void **state) {
    (void)state;
    renders("{{ ('{\"a\": [1, 2.5, null, true, \"é\"]}'|from_json).a[4] }}", NULL, "é");
    refused("{{ '{'|from_json }}", NULL, "from_json");
    refused("{{ 5|from_json }}", NULL, "wants a string");
    refused("{{ '5'|from_json(1) }}", NULL, "from_json");
}

static void text_that_is_no_unicode_and_large_numbers(void **state) {
    (void)state;
    static const char *const halves[] = {"\\ud83d",        "\\ud83dabcdef",  "\\ud83d\\n0000",
                                         "\\ud83d\\u12g4", "\\ud83d\\u0041", "\\ud83d\\ue000",
                                         "\\udc00",        "\\ud83d\\x41ab"};
    for (size_t i = 0; i < OCT_COUNT(halves); i++) {
        char source[64];
        snprintf(source, sizeof source, "{{ '%s' }}", halves[i]);
        refused(source, NULL, "invalid escape in a string");
    }
    renders("{{ '\\ud83d\\ude00\\18\\1 \\q' }}", NULL, "\xF0\x9F\x98\x80\0018\001 \\q");
    refused("{{ 9223372036854775808 }}", NULL, "integer too large");
    refused("{{ 99999999999999999999 }}", NULL, "integer too large");
    refused("{{ 1.0000000000000000000000000000000000000000000000000000000000000000001 }}", NULL,
            "number too long");
    refused("{{ '9223372036854775808'|int }}", NULL, "integer too large");
    refused("{{ '-9223372036854775809'|int }}", NULL, "integer too large");
    refused("{{ 1e19|int }}", NULL, "integer too large");
    refused("{{ -1e19|int }}", NULL, "integer too large");
    refused("{{ 10 ** 19 }}", NULL, "integer too large");
    renders("{{ '1\\x00 2'|float }}{{ '1\\x002'|int }}{{ '1_0.5_1'|float }}{{ '1_.5'|float(7) }}{{ "
            "'1_e5'|float(7) }}"
            "{{ '0x_f'|int(7, 16) }} {{ '1__0'|int(7) }}{{ '_1'|int(7) }}{{ '1_'|int(7) }}",
            NULL, "0.0010.517715 777");
    refused("{{ 'x' is nope and '%s' }}", NULL, "nope");
    refused("{{ strftime_now(5) }}", NULL, "strftime_now");
    refused("{{ '%*d' % (99999999, 1) }}", NULL, "limit");
    refused("{{ '%99999999999d' % 1 }}", NULL, "limit");
    refused("{{ '{:99999999999}'.format(1) }}", NULL, "limit");
    refused("{{ '{:.99999999999f}'.format(1.5) }}", NULL, "limit");
    refused("{{ '{99999999999}'.format(1) }}", NULL, "limit");
}

static void strftime_is_local_and_english(void **state) {
    (void)state;
    oct_template *t;
    oct_buf out;
    const char source[] = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d') }}";
    setenv("TZ", "UTC-3", 1);
    tzset();
    assert_int_equal(
        oct_template_create(oct_system_allocator(), source, sizeof source - 1, &t, NULL), OCT_OK);
    /* 22:30 UTC on 7 April 2026 is the 8th three hours further east */
    const oct_template_input in = {.now = 1775601000};
    oct_buf_init(&out, oct_system_allocator(), 0);
    assert_int_equal(oct_template_render(t, &in, NULL, &out, NULL), OCT_OK);
    assert_string_equal(oct_buf_cs(&out), "08 Apr 2026|2026-04-08");
    oct_buf_fini(&out);
    oct_template_release(t);
    unsetenv("TZ");
    tzset();
    refused("{{ strftime_now('%9999Y') }}", NULL, "template limit exceeded");
    refused("{{ strftime_now('x' * 300) }}", NULL, "template limit exceeded");
    renders("<{{ strftime_now('') }}>", NULL, "<>");
    refused("{{ 'a,b'.split(',', sep=';') }}", NULL, "got multiple values for argument 'sep'");
    refused("{{ raise_exception(text='x') }}", NULL, "unexpected keyword argument 'text'");
    refused("{{ {(1, (2, 3)): 4} }}", NULL, "unhashable");
    renders("{% set d = {(1, 2): 3, 4: 5, none: 6} %}{{ d[(1, 2)] }}{{ d[(1, 2, 3)] is defined }}"
            "{{ d[(2, 1)] is defined }}{{ d[none] }}{{ d['x'] is defined }}",
            NULL, "3FalseFalse6False");
}

static void absent_tokens_are_undefined(void **state) {
    (void)state;
    oct_template *t;
    oct_buf out;
    const char source[] = "{{ bos_token }}{{ pad_token is defined }}{{ tools is none }}"
                          "{{ add_generation_prompt }}{{ k }}";
    const oct_template_var vars[] = {{"bos_token", "<s>"}, {"pad_token", NULL}, {"k", "var"}};
    json_t *kwargs = json_of("{\"k\": \"kwarg\", \"add_generation_prompt\": false}");
    const oct_template_input in = {
        .vars = vars, .n_vars = 3, .kwargs = kwargs, .add_generation_prompt = true};
    assert_int_equal(
        oct_template_create(oct_system_allocator(), source, sizeof source - 1, &t, NULL), OCT_OK);
    oct_buf_init(&out, oct_system_allocator(), 0);
    oct_buf_cstr(&out, "kept ");
    assert_int_equal(oct_template_render(t, &in, NULL, &out, NULL), OCT_OK);
    assert_string_equal(oct_buf_cs(&out), "kept <s>FalseTrueTruekwarg");
    oct_buf_fini(&out);
    oct_template_release(t);
    json_decref(kwargs);
}

static oct_template_content form_of(const char *source) {
    oct_template *t;
    assert_int_equal(oct_template_create(oct_system_allocator(), source, strlen(source), &t, NULL),
                     OCT_OK);
    const oct_template_content form = oct_template_content_form(t);
    oct_template_release(t);
    return form;
}

static void content_form_is_found(void **state) {
    (void)state;
    assert_int_equal(form_of("{% for m in messages %}{{ m.content }}{% endfor %}"),
                     OCT_TEMPLATE_CONTENT_STRING);
    assert_int_equal(form_of("{% for m in messages %}{% for p in m['content'] %}{{ p.text }}"
                             "{% endfor %}{% endfor %}"),
                     OCT_TEMPLATE_CONTENT_PARTS);
    assert_int_equal(
        form_of("{% for m in messages %}{% set c = m.content %}{% if c is not string %}"
                "{% for p in c|list %}{{ p }}{% endfor %}{% endif %}{% endfor %}"),
        OCT_TEMPLATE_CONTENT_PARTS);
    assert_int_equal(form_of("{% for t in tools %}{% for p in t.params %}{% endfor %}{% endfor %}"),
                     OCT_TEMPLATE_CONTENT_STRING);
}

/* Seventeen names for the content: the walk remembers sixteen. */
static void content_form_is_found_under_names(void **state) {
    (void)state;
    assert_int_equal(
        form_of("{% for m in messages %}{% for p in m[key] %}{% endfor %}{% endfor %}"),
        OCT_TEMPLATE_CONTENT_STRING);
    assert_int_equal(form_of("{% for m in messages %}{% for p in m['parts'] %}{% endfor %}"
                             "{% for p in m[0] %}{% endfor %}{% endfor %}"),
                     OCT_TEMPLATE_CONTENT_STRING);
    assert_int_equal(form_of("{% set a = m.parts %}{% for p in a %}{% endfor %}"),
                     OCT_TEMPLATE_CONTENT_STRING);
    oct_buf b;
    for (int n = 16; n <= 17; n++) {
        oct_buf_init(&b, oct_system_allocator(), 0);
        for (int i = 1; i <= n; i++) oct_buf_printf(&b, "{%% set c%d = m.content %%}", i);
        oct_buf_printf(&b, "{%% for p in c%d %%}{%% endfor %%}", n);
        assert_int_equal(form_of(oct_buf_cs(&b)),
                         n == 16 ? OCT_TEMPLATE_CONTENT_PARTS : OCT_TEMPLATE_CONTENT_STRING);
        oct_buf_fini(&b);
    }
}

static void short_ids_are_asked_for(void **state) {
    (void)state;
    static const struct {
        const char *test;
        bool want;
    } rows[] = {
        {"c.id|length != 9", true},
        {"c['id']|length == 9", true},
        {"c.id|count == 9", true},
        {"m['tool_call_id']|length != 9", true},
        {"m.tool_call_id|length > 9", true},
        {"(c.id)|length == 9", true},
        {"id|length == 9", true},
        {"c.function.id|length == 9", true},
        {"c.name|length != 9", false},
        {"c['name']|length != 9", false},
        {"c[k]|length != 9", false},
        {"c[0]|length != 9", false},
        {"c.id|upper != 9", false},
        {"c.id|length != 8", false},
        {"c.id|length != n", false},
        {"c.id|length != '9'", false},
        {"c.id == 9", false},
        {"0 < c.id|length < 9", false},
        {"9 == c.id|length", false},
    };
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        char source[128];
        oct_template *t;
        snprintf(source, sizeof source, "{%% if %s %%}{%% endif %%}", rows[i].test);
        assert_int_equal(
            oct_template_create(oct_system_allocator(), source, strlen(source), &t, NULL), OCT_OK);
        if (oct_template_wants_short_ids(t) != rows[i].want) fail_msg("%s", rows[i].test);
        oct_template_release(t);
    }
}

/* ---- rows of the bad-input table ---- */

static char *repeated(const char *head, const char *one, size_t n, const char *tail) {
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_buf_cstr(&b, head);
    for (size_t i = 0; i < n; i++) oct_buf_cstr(&b, one);
    oct_buf_cstr(&b, tail);
    char *copy = strdup(oct_buf_cs(&b));
    oct_buf_fini(&b);
    assert_non_null(copy);
    return copy;
}

static void refused_repeated(const char *head, const char *one, size_t n, const char *tail,
                             const char *word) {
    char *source = repeated(head, one, n, tail);
    rendered r = render_text(source, NULL);
    free(source);
    if (r.status == OCT_OK || !strstr(r.err.text, word)) fail_msg("%s: %s", one, r.err.text);
    oct_buf_fini(&r.text);
}

static void TP1_syntax(void **state) {
    (void)state;
    refused("{% if x y %}{% endif %}", NULL, "unexpected 'y'");
    refused("{% set (a b) = 1 %}", NULL, "unexpected 'b'");
    refused("{% set ns. = 1 %}", NULL, "unexpected '='");
    refused("{% set ((a, 1), b) = 1 %}", NULL, "unexpected number");
    refused("{% print 1 2 %}", NULL, "unexpected number");
    refused("{% print (1 %}", NULL, "unexpected");
    refused("{% with a = %}{% endwith %}", NULL, "unexpected");
    refused("{% with a 1 %}{% endwith %}", NULL, "unexpected number");
    refused("{% call m %}{% endcall %}", NULL, "a call block needs a call");
    refused("{% call 1 %}{% endcall %}", NULL, "a call block needs a call");
    refused("{% call(1) m() %}{% endcall %}", NULL, "unexpected number");
    refused("{% call (m() %}{% endcall %}", NULL, "unexpected");
    refused("{% filter 5 %}{% endfilter %}", NULL, "unexpected number");
    refused("{% generation x %}{% endgeneration %}", NULL, "unexpected 'x'");
    refused("{% macro 5() %}{% endmacro %}", NULL, "unexpected number");
    refused("{% macro m( %}{% endmacro %}", NULL, "unexpected");
    refused("{% macro m(a b) %}{% endmacro %}", NULL, "unexpected 'b'");
    refused("{% 5 %}", NULL, "unexpected number");
    renders("{% for a, in [[1], [2]] %}{{ a }}{% endfor %}{% print %}{% print 1, 2 %}", NULL,
            "1212");
    renders("{% set a, = [3] %}{{ a }}{% set (b), c = 4, 5 %}{{ b }}{{ c }}", NULL, "345");
    refused("{% if x %}", NULL, "line 1");
    refused("a\n{% for x in y %}\nb", NULL, "line 2");
    refused("{{ 'abc }}", NULL, "unterminated string");
    refused("{{ (1 }}", NULL, "unexpected '}'");
    refused("{# open", NULL, "missing end of comment");
    renders("a{#", NULL, "a");
    refused("{{ a\xEF\xBF\xBD }}", NULL, "unexpected character '\xEF\xBF\xBD'");
    refused("{{ \xCC\x81 }}", NULL, "unexpected character");
    renders("{% set \xC3\xA9t\xC3\xA9 = 1 %}{{ \xC3\xA9t\xC3\xA9 }}", NULL, "1");
    refused("{% raw %}", NULL, "missing end of raw");
    refused("{{ x|nosuch }}", NULL, "no filter or test named 'nosuch'");
    refused("{{ x is nosuch }}", NULL, "no filter or test named 'nosuch'");
    refused("{% nosuch %}", NULL, "unknown tag 'nosuch'");
    refused("{% for x in y recursive %}{% endfor %}", NULL, "recursive");
    refused("\xff", NULL, "not UTF-8");
    refused("{{ 99999999999999999999 }}", NULL, "integer too large");
}

static void TP1_too_long_or_deep(void **state) {
    (void)state;
    refused_repeated("", "0123456789abcdef", OCT_TEMPLATE_MAX_BYTES / 16, "x", "too long");
    char *just = repeated("", "0123456789abcdef", OCT_TEMPLATE_MAX_BYTES / 16, "");
    rendered r = render_text(just, NULL);
    assert_int_equal(r.status, OCT_OK);
    assert_int_equal(r.text.len, OCT_TEMPLATE_MAX_BYTES);
    oct_buf_fini(&r.text);
    free(just);

    refused_repeated("{{ ", "(", 100000, "1", "nested too deeply");
    refused_repeated("{{ ", "[", 100000, "1", "nested too deeply");
    refused_repeated("{{ ", "{1:", 1000, "1", "nested too deeply");
    refused_repeated("{{ ", "not ", 50000, "1 }}", "nested too deeply");
    refused_repeated("{{ ", "-", 100000, "1 }}", "nested too deeply");
    refused_repeated("{{ 1", " if 1", 40000, " }}", "nested too deeply");
    refused_repeated("{{ 1", " if 1 else 1", 20000, " }}", "nested too deeply");
    refused_repeated("", "{% if 1 %}", 20000, "", "nested too deeply");
    refused_repeated("", "{% for x in y %}", 15000, "", "nested too deeply");
    refused_repeated("{% set ", "(", 100000, "", "nested too deeply");
    refused_repeated("{{ x", "[x", 100000, "", "nested too deeply");
    refused_repeated("{{ f", "(f", 100000, "", "nested too deeply");
}

/* Long is not deep: chains of one precedence and of steps behind a value. */
static void long_chains_are_fine(void **state) {
    (void)state;
    char *sum = repeated("{{ 0", " + 1", 5000, " }}");
    renders(sum, NULL, "5000");
    free(sum);
    char *steps = repeated("{{ 'a'", "|upper", 5000, " }}");
    renders(steps, NULL, "A");
    free(steps);
    char *elifs = repeated("{% if 0 %}", "{% elif 0 %}", 5000, "{% else %}x{% endif %}");
    renders(elifs, NULL, "x");
    free(elifs);
}

static void TP2_raise_exception(void **state) {
    (void)state;
    rendered r = render_text("{{ raise_exception('Roles must \"alternate\", é!') }}", NULL);
    assert_int_equal(r.status, OCT_E_INVALID);
    assert_string_equal(r.err.text, "Roles must \"alternate\", é!");
    oct_buf_fini(&r.text);
    refused("text before {{ raise_exception(x) }}", "{\"x\": 5}", "5");
    refused("{{ raise_exception(x) }}", NULL, "does not say why");
    refused("{{ raise_exception('') }}", NULL, "does not say why");
}

/* What mutants of templates showed to differ from Jinja2 3.1.6. */
static void arguments_are_judged_as_python_does(void **state) {
    (void)state;
    refused("{{ [1]|sort(reverse=x) }}", NULL, "cannot be interpreted as an integer");
    refused("{{ 'ab'|sort(',') }}", NULL, "cannot be interpreted as an integer");
    refused("{{ 'a'.splitlines(x) }}", NULL, "cannot be interpreted as an integer");
    refused("{{ namespace(x) }}", NULL, "'x' is undefined");
    refused("{{ '{:,}'.format(x) }}", NULL, "unsupported format string");
    refused("{{ '{:5}'.format(none) }}", NULL, "unsupported format string");
    renders(
        "{{ '12'|int(0, x) }},{{ '12'|int(0, 99) }},{{ '0x1f'|int(0, 0) }},{{ '012'|int(7, 0) }}",
        NULL, "12,12,31,12");
    refused("{{ joiner()(1) }}", NULL, "joiner");
    renders("{{ '%0lo|%hd|%3c|%c' % (8, 3, 'é', 233) }}", NULL, "10|3|  é|é");
    renders("{{ '{:5}|{}|{!s:>6}'.format(true, true, true) }}", NULL, "    1|True|  True");
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The second that the row allows, doubled because another machine is slower and shared; debug and
 * sanitizer builds are given more. */
#if defined(__SANITIZE_THREAD__)
static const double most_seconds = 40;
#elif defined(OCT_DEBUG)
static const double most_seconds = 10;
#else
static const double most_seconds = 2;
#endif

static void exceeds(const char *source) {
    const double start = cpu_seconds();
    rendered r = render_text(source, "{\"l\": [1, 2, 3], \"s\": \"abc\"}");
    const double used = cpu_seconds() - start;
    if (r.status != OCT_E_INVALID || strcmp(r.err.text, "template limit exceeded") != 0)
        fail_msg("%s: %s %s", source, oct_status_name(r.status), r.err.text);
    assert_int_equal(r.text.len, 0);
    if (used > most_seconds) fail_msg("%s: %.1f s", source, used);
    oct_buf_fini(&r.text);
}

static void TP3_loops(void **state) {
    (void)state;
    exceeds("{% for i in range(10**9) %}x{% endfor %}");
    exceeds("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}");
    exceeds("{% for i in range(99999) %}{% for j in range(99999) %}{% continue %}{% endfor %}"
            "{% endfor %}");
    exceeds("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    exceeds("{% macro a(n) %}{{ b(n) }}{% endmacro %}{% macro b(n) %}{{ a(n) }}{% endmacro %}"
            "{{ a(1) }}");
    exceeds("{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}");
    exceeds("{% macro m(n=0) %}{% if n < 50 %}{{ m(n+1) }}{{ m(n+1) }}{% endif %}{% endmacro %}"
            "{{ m() }}");
    exceeds("{% macro m(x) %}{{ caller() }}{% call m(x) %}{{ caller }}{% endcall %}{% endmacro %}"
            "{% call m(1) %}a{% endcall %}");
    exceeds(
        "{% set a = range(99999) %}{% for i in a %}{{ 77 in a and a|unique|list }}{% endfor %}");
    exceeds("{% set a = range(99999)|list %}{% for i in a %}{{ a|sort(reverse=true)|first }}"
            "{% endfor %}");
    exceeds("{% set a = 'aaaaab' * 9999 %}{% for i in range(99999) %}{{ 'ba' * 9999 in a }}{% "
            "endfor %}");
    exceeds(
        "{% set a = 'aaaaab' * 9999 %}{% for i in range(99999) %}{{ a|upper|length }}{% endfor %}");
    exceeds("{% set a = 'a ' * 99999 %}{% for i in range(9999) %}{{ a.split()[0] }}{% endfor %}");
    exceeds(
        "{% set a = 'a' * 99999 %}{% for i in range(99999) %}{{ a.strip('xyza') }}{% endfor %}");
    exceeds("{% set a = 'é' * 99999 %}{% for i in range(99999) %}{{ a[50000] }}{% endfor %}");
    exceeds(
        "{% set a = '\"' * 9999 %}{% for i in range(99999) %}{{ a|tojson|length }}{% endfor %}");
}

static void TP4_bombs(void **state) {
    (void)state;
    exceeds("{{ 'x' * 10**9 }}");
    exceeds("{{ 'x' * 10**18 }}");
    exceeds("{{ [0] * 10**9 }}");
    exceeds("{% set s = 'x' * 1000 %}{% for i in range(99999) %}{{ s }}{% endfor %}");
    exceeds("{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
            "{% endfor %}");
    exceeds("{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
            "{% endfor %}");
    exceeds("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}"
            "{% endfor %}");
    exceeds("{% set a = ['xxxxxxxxxx' * 1000] * 1000 %}{{ a|join(a|join) }}");
    exceeds("{{ ('a' * 9999).replace('a', 'b' * 99999) }}");
    exceeds("{{ ('a' * 9999)|replace('', 'b' * 99999) }}");
    exceeds("{{ '%99999999d' % 1 }}");
    exceeds("{{ '%*d' % (99999999, 1) }}");
    exceeds("{{ '{:99999999}'.format(1) }}");
    exceeds("{{ 'a'|indent(10**12) ~ ('\\n' * 99)|indent(10**12, true, true) }}");
    exceeds("{{ [l]|tojson(indent=10**9) }}");
    exceeds("{% set ns = namespace(l=l) %}{% for i in range(70) %}{% set ns.l = [ns.l] %}"
            "{% endfor %}{{ ns.l }}");
    exceeds("{% set ns = namespace(l=l) %}{% for i in range(70) %}{% set ns.l = [ns.l] %}"
            "{% endfor %}{{ ns.l|tojson }}");
    exceeds("{% set ns = namespace(l=l) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}"
            "{% endfor %}{{ ns.l == ns.l[:] }}");
    exceeds("{% set a = [] %}{{ a.append(a) }}{{ a }}");
    exceeds("{% set a = [] %}{{ a.append(a) }}{{ a|tojson }}");
    exceeds("{% set a = [] %}{% set b = [] %}{{ a.append(b) }}{{ b.append(a) }}{{ a == b }}");
    exceeds("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}");
    exceeds("{% for i in range(99999) %}{% set ns = s * 9999 %}{% endfor %}");
}

/* A cyclic list costs no more than its depth, whichever way it is looked at. */
static void TP4_own_limits(void **state) {
    (void)state;
    const oct_template_limits small = {.max_steps = 50, .max_output_bytes = 8};
    rendered r = render_with(OCT_STR("{{ '12345678' }}"), NULL, &small);
    assert_int_equal(r.status, OCT_OK);
    oct_buf_fini(&r.text);
    r = render_with(OCT_STR("{{ '123456789' }}"), NULL, &small);
    assert_string_equal(r.err.text, "template limit exceeded");
    oct_buf_fini(&r.text);
    r = render_with(OCT_STR("{% for i in range(50) %}{% endfor %}"), NULL, &small);
    assert_string_equal(r.err.text, "template limit exceeded");
    oct_buf_fini(&r.text);
    const oct_template_limits tight = {.max_memory_bytes = 10000};
    r = render_with(OCT_STR("{{ 'x' * 20000 }}"), NULL, &tight);
    assert_string_equal(r.err.text, "template limit exceeded");
    oct_buf_fini(&r.text);
}

static void TP5_nothing_outside(void **state) {
    (void)state;
    static const char *const names[] = {"__class__",
                                        "__globals__",
                                        "__init__",
                                        "__mro__",
                                        "__subclasses__",
                                        "__builtins__",
                                        "func_globals",
                                        "gi_frame",
                                        "f_globals",
                                        "mro",
                                        "_x"};
    static const char *const objects[] = {"''",    "[]",          "{}", "1", "none",
                                          "range", "namespace()", "s",  "d", "''.join"};
    char source[128];
    for (size_t i = 0; i < OCT_COUNT(objects); i++)
        for (size_t j = 0; j < OCT_COUNT(names); j++) {
            snprintf(source, sizeof source, "[{{ (%s).%s }}{{ (%s)['%s'] is defined }}]",
                     objects[i], names[j], objects[i], names[j]);
            renders(source, "{\"s\": \"x\", \"d\": {\"k\": 1}}", "[False]");
        }
    refused("{{ ''.__class__.__mro__ }}", NULL, "has no attribute '__class__'");
    refused("{{ ''|attr('__class__') }}", NULL, "no filter or test named 'attr'");
    refused("{{ self.__init__ }}", NULL, "'self' is undefined");
    renders("{{ lipsum }}{{ self }}{{ config }}{{ request }}{{ open }}{{ eval }}{{ import }}"
            "{{ environ }}",
            NULL, "");
    refused("{{ open('/etc/passwd') }}", NULL, "'open' is undefined");
}

static void TP5_no_other_templates(void **state) {
    (void)state;
    static const char *const tags[] = {"{% include '/etc/passwd' %}", "{% import 'x' as y %}",
                                       "{% from 'x' import y %}", "{% extends 'x' %}"};
    for (size_t i = 0; i < OCT_COUNT(tags); i++) {
        rendered r = render_text(tags[i], NULL);
        assert_int_equal(r.status, OCT_E_UNSUPPORTED);
        assert_non_null(strstr(r.err.text, "is not supported"));
        oct_buf_fini(&r.text);
    }
    renders("/etc/passwd", NULL, "/etc/passwd"); /* a template is text, never a path */
}

static void TP6_wrong_values(void **state) {
    (void)state;
    const char *vars = "{\"m\": {\"content\": null}, \"l\": [1], \"n\": 9223372036854775807}";
    renders("{{ nosuch }}{{ m.nosuch }}{{ l[5] }}", vars, "");
    refused("{{ nosuch.x }}", vars, "'nosuch' is undefined");
    refused("{{ m.nosuch.x }}", vars, "'dict object' has no attribute 'nosuch'");
    refused("{{ nosuch + 'a' }}", vars, "'nosuch' is undefined");
    refused("{{ 'a' in m.content }}", vars, "'NoneType' is not iterable");
    refused("{{ m.content + 'x' }}", vars, "unsupported operand");
    refused("{{ 'x' + m.content }}", vars, "can only concatenate str");
    refused("{{ 1 / 0 }}", vars, "division by zero");
    refused("{{ 1 // 0 }}{{ 1.0 % 0 }}", vars, "division by zero");
    refused("{{ n + 1 }}", vars, "integer too large");
    refused("{{ -n - 2 }}", vars, "integer too large");
    refused("{{ n * n }}", vars, "integer too large");
    refused("{{ 2 ** 63 }}", vars, "integer too large");
    refused("{{ (-n - 1) // -1 }}", vars, "integer too large");
    renders("{{ (-n - 1) % -1 }}", vars, "0");
    refused("{{ (-n - 1)|abs }}", vars, "integer too large");
    refused("{{ -(-n - 1) }}", vars, "integer too large");
    refused("{{ 1e300|int }}", vars, "integer too large");
    refused("{{ '99999999999999999999'|int }}", vars, "integer too large");
    renders("{{ '-9223372036854775808'|int }}", vars, "-9223372036854775808");
    renders("{{ l[::n] }}{{ l[::-n - 1] }}{{ l[-n - 1:n] }}{{ 'abc'[n:] }}", vars, "[1][1][1]");
    refused("{{ l[::0] }}", vars, "step cannot be zero");
    renders("{{ range(n - 1, n)|list|length }}{{ range(-n, n, n)|list|length }}", vars, "12");
    refused("{{ range(-n, n) }}", vars, "template limit exceeded");
    refused("{{ l.pop(n) }}", vars, "not allowed");
    refused("{{ [1].pop(n) }}", vars, "out of range");
    refused("{% for a, b in l %}{% endfor %}", vars, "not iterable");
    refused("{{ {[1]: 2} }}", vars, "unhashable");
    refused("{{ ''.join([1]) }}", vars, "expected str");
    refused("{{ l|sum('k') }}", vars, "");
    refused("{{ 1 < 'a' }}", vars, "not supported between");
    refused("{{ 'a'() }}", vars, "not callable");
    refused("{{ cycler() }}", vars, "cycler");
    refused("{% for x in l %}{{ loop.cycle() }}{% endfor %}", vars, "no items for cycling");
    refused("{% for x in l %}{{ loop.cycle(x, y=1) }}{% endfor %}", vars, "no items for cycling");
}

/* ---- TP9: many threads, one of them replaces the template ---- */

enum { N_THREADS = 64, N_RENDERS = 20 };

typedef struct shared_template {
    pthread_mutex_t lock;
    oct_template *t;
    const json_t *vars;
    _Atomic int n_bad;
} shared_template;

static oct_template *version(int v) {
    char source[256];
    oct_template *t;
    snprintf(
        source, sizeof source,
        "{%% macro f(x) %%}%d{{ x }}{%% endmacro %%}{%% for i in l %%}{{ f(i) }}-{%% endfor %%}",
        v);
    assert_int_equal(oct_template_create(oct_system_allocator(), source, strlen(source), &t, NULL),
                     OCT_OK);
    return t;
}

static void *render_often(void *arg) {
    shared_template *s = arg;
    for (int i = 0; i < N_RENDERS; i++) {
        oct_buf out;
        const oct_template_input in = {.kwargs = s->vars};
        pthread_mutex_lock(&s->lock);
        oct_template *t = oct_template_retain(s->t);
        pthread_mutex_unlock(&s->lock);
        oct_buf_init(&out, oct_system_allocator(), 0);
        const oct_status st = oct_template_render(t, &in, NULL, &out, NULL);
        const char *text = oct_buf_cs(&out);
        if (st != OCT_OK || (strcmp(text, "11-12-13-") != 0 && strcmp(text, "21-22-23-") != 0))
            s->n_bad++;
        oct_buf_fini(&out);
        oct_template_release(t);
    }
    return NULL;
}

static void TP9_reload_while_rendering(void **state) {
    (void)state;
    json_t *vars = json_of("{\"l\": [1, 2, 3]}");
    shared_template s = {.t = version(1), .vars = vars};
    pthread_t threads[N_THREADS];
    pthread_mutex_init(&s.lock, NULL);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &s), 0);
    for (int i = 0; i < 20; i++) {
        oct_template *next = version(i % 2 + 1);
        pthread_mutex_lock(&s.lock);
        oct_template *old = s.t;
        s.t = next;
        pthread_mutex_unlock(&s.lock);
        oct_template_release(old);
    }
    for (int i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(s.n_bad, 0);
    oct_template_release(s.t);
    pthread_mutex_destroy(&s.lock);
    json_decref(vars);
}

/* ---- stack and memory ---- */

static void *deep_on_a_small_stack(void *arg) {
    (void)arg;
    exceeds("{% macro m(n) %}{% if n %}{% for i in [n] %}{% if i %}{{ (((m(n + 1)))) }}{% endif %}"
            "{% endfor %}{% endif %}{% endmacro %}{{ m(1) }}");
    char *deep = repeated("{{ ", "(1 or not [-", 15, "1");
    char *source = repeated(deep, "])", 15, " }}");
    renders(source, NULL, "1");
    free(source);
    free(deep);
    TP1_too_long_or_deep(NULL);
    return NULL;
}

static void works_on_256_kib_of_stack(void **state) {
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
    assert_int_equal(pthread_create(&thread, &attr, deep_on_a_small_stack, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
}

/* Recursion over a tool schema as deep as requests may have, the way gpt-oss renders types. */
static void recursive_macros_reach_schema_depth(void **state) {
    (void)state;
    char *open = repeated("", "{\"a\": ", 31, "1");
    char *vars = repeated("{\"v\": ", open, 1, "");
    char *all = repeated(vars, "}", 32, "");
    renders("{% macro walk(v) %}{% if v is mapping %}{% for k, w in v|items %}{% if true %}"
            "{{ k + walk(w) }}{% endif %}{% endfor %}{% else %}.{% endif %}{% endmacro %}"
            "{{ walk(v) }}",
            all, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.");
    free(open);
    free(vars);
    free(all);
}

static oct_status render_once(void *ctx, const oct_allocator *mem) {
    static const char source[] =
        "{% macro m(a, b=[1]) %}{{ a }}{{ b }}{% endmacro %}{% set ns = namespace(x=1) %}"
        "{% for k, v in d.items() if v %}{{ m(k)|upper }}{{ '%s' % v }}{{ loop.index }}{% endfor %}"
        "{{ d|tojson(indent=2) }}{{ d.a[::-1]|sort|join(', ') ~ 'x' * 9000 }}";
    const oct_template_input in = {.kwargs = ctx};
    oct_template *t;
    oct_buf out;
    oct_buf_init(&out, mem, 0);
    oct_status st = oct_template_create(mem, source, sizeof source - 1, &t, NULL);
    if (st == OCT_OK) st = oct_template_render(t, &in, NULL, &out, NULL);
    oct_template_release(t);
    oct_buf_fini(&out);
    return st;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    json_t *vars = json_of("{\"d\": {\"a\": [3, 1], \"b\": \"two\"}}");
    refuse_each_request(render_once, vars);
    json_decref(vars);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(lists_of_the_template_may_grow),
        cmocka_unit_test(from_json_reads_what_tojson_wrote),
        cmocka_unit_test(text_that_is_no_unicode_and_large_numbers),
        cmocka_unit_test(strftime_is_local_and_english),
        cmocka_unit_test(absent_tokens_are_undefined),
        cmocka_unit_test(content_form_is_found),
        cmocka_unit_test(content_form_is_found_under_names),
        cmocka_unit_test(short_ids_are_asked_for),
        cmocka_unit_test(TP1_syntax),
        cmocka_unit_test(TP1_too_long_or_deep),
        cmocka_unit_test(long_chains_are_fine),
        cmocka_unit_test(TP2_raise_exception),
        cmocka_unit_test(arguments_are_judged_as_python_does),
        cmocka_unit_test(TP3_loops),
        cmocka_unit_test(TP4_bombs),
        cmocka_unit_test(TP4_own_limits),
        cmocka_unit_test(TP5_nothing_outside),
        cmocka_unit_test(TP5_no_other_templates),
        cmocka_unit_test(TP6_wrong_values),
        cmocka_unit_test(TP9_reload_while_rendering),
        cmocka_unit_test(works_on_256_kib_of_stack),
        cmocka_unit_test(recursive_macros_reach_schema_depth),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
