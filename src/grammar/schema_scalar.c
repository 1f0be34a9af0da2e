/* grammar/schema_scalar.c - strings and numbers. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "grammar/regex.h"
#include "grammar/schema_parts.h"

/* ---- strings ---- */

/* What formats look like. Narrower than their standards where those allow what nobody reads. */
static const struct {
    const char *name, *regex;
} formats[] = {
    {"date",
     "\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|"
     "30)|02-(?:0[1-9]|1\\d|2[0-8]))"},
    {"time", "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]"
             "\\d)"},
    {"date-time", "[1-9]\\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-"
                  "9]|[12]\\d|30)|"
                  "02-(?:0[1-9]|1\\d|2[0-8]))T(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?("
                  "?:Z|[+-](?:[01]"
                  "\\d|2[0-3]):[0-5]\\d)"},
    {"duration",
     "P(?:\\d{1,4}W|(?:\\d{1,4}Y(?:\\d{1,2}M(?:\\d{1,2}D)?)?|\\d{1,2}M(?:\\d{1,2}D)?|\\d{1,3}"
     "D)(?:T(?:\\d{1,2}H(?:\\d{1,2}M(?:\\d{1,2}S)?)?|\\d{1,2}M(?:\\d{1,2}S)?|\\d{1,2}S))?|T"
     "(?:\\d{1,2}H(?:\\d{1,2}M(?:\\d{1,2}S)?)?|\\d{1,2}M(?:\\d{1,2}S)?|\\d{1,2}S))"},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"email",
     "[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,3}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}"
     "[A-Za-z0-9])?\\.){1,4}[A-Za-z]{2,12}"},
    {"hostname",
     "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}"
     "[A-Za-z0-9])?){0,4}"},
    {"ipv4",
     "(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"},
    {"ipv6",
     "(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::(?:[0-9a-fA-F]{1,4}:){0,5}[0-9a-fA-F]{1,4}|"
     "(?:[0-9a-fA-F]{1,4}:){1,3}:(?:[0-9a-fA-F]{1,4}:){0,2}[0-9a-fA-F]{1,4})"},
    {"uri",
     "[a-zA-Z][a-zA-Z0-9+.-]{0,15}://[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?(?::\\d{1,4})?"
     "(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*(?:\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!"
     "$&'()*+,;=:@/?-]*)?"},
};

static const char *format_regex(oct_schema *s, const json_t *format) {
    const oct_str name = oct_json_str(format);
    char shown[OCT_JSON_SHOWN];
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (oct_str_is(name, formats[i].name)) return formats[i].regex;
    if (oct_str_is(name, "password")) return NULL; /* how it is shown */
    oct_schema_fail(s, "format", "%s is not supported", oct_json_show(format, shown));
    return NULL;
}

static oct_piece quote(oct_build *b, oct_piece inside) {
    const oct_piece open = oct_build_text(b, OCT_STR("\""));
    const oct_piece close = oct_build_text(b, OCT_STR("\""));
    return oct_build_cat(b, oct_build_cat(b, open, inside), close);
}

/* A character that is itself, or a short escape: what is copied often is to be small. */
static oct_piece short_char(oct_build *b) {
    static const oct_char_range self[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    static const oct_char_range shorts[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'},
                                            {'n', 'n'}, {'r', 'r'}, {'t', 't'}};
    const oct_piece all = oct_build_nothing(b);
    oct_build_join(b, all, oct_build_chars(b, self, 3));
    const oct_piece escape = oct_build_text(b, OCT_STR("\\"));
    oct_build_join(b, all, oct_build_cat(b, escape, oct_build_chars(b, shorts, 6)));
    return all;
}

/* Strings of the same bounds are one rule. */
static oct_piece bounded_string(oct_schema *s, uint32_t min, uint32_t max) {
    for (uint32_t i = 0; i < s->n_strings; i++)
        if (s->strings[i].min == min && s->strings[i].max == max)
            return oct_build_call(s->b, s->strings[i].rule);
    if (s->n_strings == s->cap_strings) {
        const uint32_t cap = s->cap_strings ? s->cap_strings * 2 : 8;
        void *p = oct_grow(s->b->mem, s->strings, s->cap_strings, cap, sizeof *s->strings);
        if (!p) {
            OCT_BUILD_FAIL(s->b, OCT_E_NOMEM, "no memory for a grammar");
            return oct_build_nothing(s->b);
        }
        s->strings = p;
        s->cap_strings = cap;
    }
    const uint32_t rule = oct_build_rule(s->b, OCT_STR("string"));
    oct_build_define(s->b, rule, quote(s->b, oct_build_repeat(s->b, short_char(s->b), min, max)));
    s->strings[s->n_strings++] = (oct_string_rule){min, max, rule};
    return oct_build_call(s->b, rule);
}

oct_piece oct_schema_string(oct_schema *s, const json_t *schema) {
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");
    const char *regex = format ? format_regex(s, format) : NULL;
    uint64_t min = 0, max = UINT64_MAX;
    const bool has_min = oct_schema_count(s, schema, "minLength", &min);
    const bool has_max = oct_schema_count(s, schema, "maxLength", &max);
    if (pattern && !json_is_string(pattern)) oct_schema_fail(s, "pattern", "must be a string");
    if (pattern && regex) oct_schema_fail(s, "pattern", "is not supported beside format");
    if ((pattern || regex) && ((has_min && min > 0) || has_max))
        oct_schema_fail(s, has_max ? "maxLength" : "minLength",
                        "is not supported beside pattern or format");
    if (min > max) oct_schema_fail(s, "minLength", "more than maxLength");
    if (min > OCT_JSON_MAX_CHARS)
        oct_schema_fail(s, "minLength", "too long (want at most %d)", OCT_JSON_MAX_CHARS);
    if (s->b->status != OCT_OK) return oct_build_nothing(s->b);
    if (pattern) {
        const oct_piece p =
            oct_regex_piece(s->b, oct_json_str(pattern), OCT_REGEX_JSON_SEARCH, "schema: pattern");
        return quote(s->b, p);
    }
    if (regex)
        return quote(s->b, oct_regex_piece(s->b, oct_str_of(regex), OCT_REGEX_JSON, "format"));
    if (min == 0 && !has_max) return oct_json_call(s->j, OCT_JSON_STRING);
    if (has_max && max > OCT_JSON_MAX_CHARS) max = OCT_JSON_MAX_CHARS;
    return bounded_string(s, (uint32_t)min, has_max ? (uint32_t)max : OCT_BUILD_NO_LIMIT);
}
