/* Formats of templates, "%" and format(): flags, widths, types, marked-up text, and what is
 * refused. */
#include "template_check.h"

/* The expected texts are Jinja2's. */
static void formats_are_pythons(void **state) {
    (void)state;
    static const struct {
        const char *expression, *want;
    } rows[] = {
        {"'{:+}'.format(1.5)", "+1.5"},
        {"'{:010}'.format(-1.5)", "-0000001.5"},
        {"'{:,}'.format(12345.5)", "12,345.5"},
        {"'{:.3}'.format(123.0)", "1.23e+02"},
        {"'{:.3}'.format(12.0)", "12.0"},
        {"'{:.3}'.format(0.000015)", "1.5e-05"},
        {"'{:.0}'.format(15.0)", "2e+01"},
        {"'{:.1}'.format(10.0)", "1e+01"},
        {"'{:.3}'.format(123456.0)", "1.23e+05"},
        {"'{:#.3}'.format(123.0)", "1.23e+02"},
        {"'{:#.10}'.format(0.0)", "0.000000000"},
        {"'{:#}'.format(1e300)", "1.e+300"},
        {"'{:#}'.format(1.5)", "1.5"},
        {"'{:<05d}'.format(42)", "42000"},
        {"'{:^05d}'.format(4)", "00400"},
        {"'{:x=+05d}'.format(4)", "+xxx4"},
        {"'{:05}'.format('a')", "a0000"},
        {"'{:012,}'.format(1234)", "0,000,001,234"},
        {"'{:013,}'.format(1234)", "0,000,001,234"},
        {"'{:012,}'.format(-1234.5)", "-0,001,234.5"},
        {"'{:,}'.format(-1234567)", "-1,234,567"},
        {"'{:>12,}'.format(1234567)", "   1,234,567"},
        {"'{:_}'.format(12345)", "12_345"},
        {"'{:_x}'.format(1048575)", "f_ffff"},
        {"'{:#_b}'.format(37)", "0b10_0101"},
        {"'{:#b}'.format(5)", "0b101"},
        {"'{:#o}'.format(8)", "0o10"},
        {"'{:#X}'.format(255)", "0XFF"},
        {"'{:3c}'.format(65)", "  A"},
        {"'{:n}'.format(12345)", "12345"},
        {"'{:n}'.format(1.5)", "1.5"},
        {"'{:+}'.format(true)", "+1"},
        {"'{:F}'.format(1.5)", "1.500000"},
        {"'{:G}'.format(0.0001)", "0.0001"},
        {"'{:#g}'.format(1.0)", "1.00000"},
        {"'{:#.0f}'.format(1.0)", "1."},
        {"'{:#.0e}'.format(1.0)", "1.e+00"},
        {"'{:#.1E}'.format(1.0)", "1.0E+00"},
        {"'{:#G}'.format(1.0)", "1.00000"},
        {"'{:#.0F}'.format(1.0)", "1."},
        {"'{:#.0%}'.format(1.0)", "100.%"},
        {"'{:,.2%}'.format(12.5)", "1,250.00%"},
        {"'{: }'.format(1)", " 1"},
        {"'{:-}'.format(5)", "5"},
        {"'{:e}'.format(5)", "5.000000e+00"},
        {"'{!a}'.format('é中😀~')", "'\\xe9\\u4e2d\\U0001f600~'"},
        {"'%a' % 'é中😀~'", "'\\xe9\\u4e2d\\U0001f600~'"},
        {"'%.60d' % 7", "000000000000000000000000000000000000000000000000000000000007"},
        {"'%#x %#X %#o' % (255, 255, 8)", "0xff 0XFF 0o10"},
        {"'%.2c' % 'a'", "a"},
        {"'%c' % 233", "é"},
        {"'%5c|%-5c|' % (65, 'b')", "    A|b    |"},
        {"'%d' % 2.9", "2"},
        {"'%u' % -3", "-3"},
        {"('%s <%r %a' | safe) % ('<', '>', '&')", "&lt; <&#39;&gt;&#39; &#39;&amp;&#39;"},
        {"('%d' | safe) % 5", "5"},
        {"('{} {:>3} {!r}' | safe).format('<', '>', 'a') ~ ('{}' | safe).format('<i>' | safe)",
         "&lt;   &gt; &#39;a&#39;<i>"},
        {"(('%s' | safe) % '<') + '<'", "&lt;&lt;"},
        {"(('{}' | safe).format('<')) + '<'", "&lt;&lt;"},
        {"'%*d|' % (-3, 1)", "1  |"},
        {"'%.*f' % (-3, 1.5)", "2"},
    };
    static const char *const bad[] = {
        "'{:0+}'.format(1)",
        "'{:=5}'.format('a')",
        "'{:+s}'.format('a')",
        "'{:-}'.format('a')",
        "'{:#s}'.format('a')",
        "'{:,s}'.format('a')",
        "'{:,x}'.format(1)",
        "'{:_c}'.format(1)",
        "'{:+c}'.format(5)",
        "'{:#c}'.format(5)",
        "'{:.2}'.format(5)",
        "'{:.}'.format(1.5)",
        "'{:d}'.format(1.5)",
        "'{:s}'.format(1)",
        "'{:,n}'.format(1.5)",
        "'{:dd}'.format(1)",
        "'{!x}'.format(1)",
        "'{:5}'.format([1])",
        "'%x' % 1.5",
        "('%x' | safe) % 1",
        "('%c' | safe) % 1",
        "('{:>5}' | safe).format('x' | safe)",
        "'%d' % 1e300",
        "'%.101f' % 1.5",
        "'%.101d' % 1",
        "'{:.101f}'.format(1.5)",
        "'%z' % 1",
        "'%' % 1",
        "'%c' % 'ab'",
        "'%c' % ''",
        "'%c' % 1114112",
        "'%c' % -1",
        "'%d' % 'a'",
        "'%f' % 'a'",
        "'%(k' % {'k': 1}",
        "'%(j)s' % {'k': 1}",
        "'%(k)s' % 1",
        "'%*d' % ('a', 1)",
        "'%*d' % 1",
    };
    char source[160];
    for (size_t i = 0; i < OCT_COUNT(rows); i++) {
        snprintf(source, sizeof source, "{{ %s }}", rows[i].expression);
        renders(source, NULL, rows[i].want);
    }
    for (size_t i = 0; i < OCT_COUNT(bad); i++) {
        snprintf(source, sizeof source, "{{ %s }}", bad[i]);
        refused(source, NULL, "template l"); /* "line ..." or "limit exceeded" */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_are_pythons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
