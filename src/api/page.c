/*
 * api/page.c - the page at "/": a chat for people, made of the files in src/api/page, which the
 * assembler puts into the program as they are. It asks for nothing outside this server, and what a
 * browser would run beside them is forbidden to it.
 */
#include "api/parts.h"

#define FILE_SYMBOLS(name) extern const char oct_page_##name[], oct_page_##name##_end[];
#define FILE_BYTES(name, file)                           \
    __asm__(".pushsection .rodata\n"                     \
            "oct_page_" #name ":\n"                      \
            ".incbin \"" OCT_PAGE_FOLDER "/" file "\"\n" \
            "oct_page_" #name "_end:\n"                  \
            ".popsection\n")

/* Local symbols of this file, which only the assembler defines. */
FILE_SYMBOLS(html)
FILE_SYMBOLS(css)
FILE_SYMBOLS(markdown)
FILE_SYMBOLS(script)
FILE_BYTES(html, "index.html");
FILE_BYTES(css, "page.css");
FILE_BYTES(markdown, "page_markdown.js");
FILE_BYTES(script, "page.js");

static const struct {
    const char *path, *type, *begin, *end;
} files[] = {
    {"/", "text/html; charset=utf-8", oct_page_html, oct_page_html_end},
    {"/page.css", "text/css; charset=utf-8", oct_page_css, oct_page_css_end},
    {"/page_markdown.js", "text/javascript; charset=utf-8", oct_page_markdown,
     oct_page_markdown_end},
    {"/page.js", "text/javascript; charset=utf-8", oct_page_script, oct_page_script_end},
};

void oct_api_route_page(oct_api *api, oct_http_exchange *x) {
    const oct_str path = oct_api_path(api, x);
    for (size_t i = 0; i < OCT_COUNT(files); i++) {
        if (!oct_str_is(path, files[i].path)) continue;
        oct_http_set_header(x, "Content-Security-Policy",
                            OCT_STR("default-src 'none'; script-src 'self'; style-src 'self'; "
                                    "connect-src 'self'; img-src data:; base-uri 'none'; "
                                    "form-action 'none'; frame-ancestors 'none'"));
        oct_http_set_header(x, "X-Content-Type-Options", OCT_STR("nosniff"));
        oct_http_set_header(x, "Referrer-Policy", OCT_STR("no-referrer"));
        oct_http_set_header(x, "Cache-Control", OCT_STR("no-cache"));
        (void)oct_http_respond(x, 200, files[i].type,
                               (oct_str){files[i].begin, (size_t)(files[i].end - files[i].begin)});
        return;
    }
}
