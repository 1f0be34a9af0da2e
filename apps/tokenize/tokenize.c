/*
 * apps/tokenize/tokenize.c - `octet tokenize`, `detokenize` and `render`: a tokenizer and a chat
 * template as filters, one JSON value a line in and out. MODEL may hold tokenizer files only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "commands.h"
#include "open.h"
#include "text/chat.h"

typedef struct filter {
    open_options open;
    bool jsonl, no_special, skip_special;
    oct_tokenizer *tokenizer;
    oct_template *template, *tool_template;
} filter;

/* One line in, one line out. */
typedef oct_status filter_fn(filter *f, const json_t *in, oct_buf *out, oct_err *err);

static oct_status tokenize_line(filter *f, const json_t *in, oct_buf *out, oct_err *err) {
    const oct_str text = {json_string_value(in), json_string_length(in)};
    if (!json_is_string(in)) return OCT_FAIL(err, OCT_E_INVALID, "not a JSON string");
    oct_ids ids;
    oct_ids_init(&ids, oct_system_allocator());
    const unsigned flags = OCT_ENCODE_PARSE_SPECIAL | (f->no_special ? 0 : OCT_ENCODE_ADD_SPECIAL);
    const oct_status st = oct_tokenizer_encode(f->tokenizer, text, flags, &ids, err);
    oct_buf_char(out, '[');
    for (size_t i = 0; i < ids.len; i++) oct_buf_printf(out, "%s%d", i ? ", " : "", ids.data[i]);
    oct_buf_char(out, ']');
    oct_ids_fini(&ids);
    return st;
}

static oct_status detokenize_line(filter *f, const json_t *in, oct_buf *out, oct_err *err) {
    if (!json_is_array(in)) return OCT_FAIL(err, OCT_E_INVALID, "not a JSON array of ids");
    oct_ids ids;
    oct_buf text;
    oct_status st = OCT_OK;
    oct_ids_init(&ids, oct_system_allocator());
    oct_buf_init(&text, oct_system_allocator(), 0);
    for (size_t i = 0; i < json_array_size(in) && st == OCT_OK; i++) {
        const json_t *id = json_array_get(in, i);
        const json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v >= oct_tokenizer_n_vocab(f->tokenizer))
            st = OCT_FAIL(err, OCT_E_INVALID, "element %zu is not an id below %d", i,
                          oct_tokenizer_n_vocab(f->tokenizer));
        else
            oct_ids_push(&ids, (int32_t)v);
    }
    if (st == OCT_OK) oct_tokenizer_decode(f->tokenizer, ids.data, ids.len, f->skip_special, &text);
    oct_json_quote(out, oct_buf_view(&text));
    oct_buf_fini(&text);
    oct_ids_fini(&ids);
    return st;
}

static oct_status render_line(filter *f, const json_t *in, oct_buf *out, oct_err *err) {
    if (!json_is_object(in)) return OCT_FAIL(err, OCT_E_INVALID, "not a JSON object");
    const json_t *tools = json_object_get(in, "tools");
    const json_t *prompt = json_object_get(in, "add_generation_prompt");
    const json_t *go_on = json_object_get(in, "continue_final_message");
    const json_t *kwargs = json_object_get(in, "chat_template_kwargs");
    const oct_tokenizer *t = f->tokenizer;
    const oct_template_var vars[] = {{"bos_token", oct_tokenizer_bos_text(t).ptr},
                                     {"eos_token", oct_tokenizer_eos_text(t).ptr},
                                     {"pad_token", oct_tokenizer_pad_text(t).ptr},
                                     {"unk_token", oct_tokenizer_unk_text(t).ptr}};
    oct_template_var set[OCT_COUNT(vars)];
    size_t n_set = 0;
    for (size_t i = 0; i < OCT_COUNT(vars); i++)
        if (vars[i].value && vars[i].value[0]) set[n_set++] = vars[i];
    const oct_chat_request req = {.messages = json_object_get(in, "messages"),
                                  .tools = json_is_null(tools) ? NULL : tools,
                                  .add_generation_prompt = prompt ? json_is_true(prompt) : true,
                                  .continue_final_message = json_is_true(go_on),
                                  .kwargs = json_is_null(kwargs) ? NULL : kwargs,
                                  .vars = set,
                                  .n_vars = n_set};
    oct_template *chosen = req.tools && f->tool_template ? f->tool_template : f->template;
    oct_buf text;
    oct_buf_init(&text, oct_system_allocator(), 0);
    const oct_status st = oct_chat_render(chosen, &req, NULL, &text, err);
    oct_json_quote(out, oct_buf_view(&text));
    oct_buf_fini(&text);
    return st;
}

static int run_lines(filter *f, filter_fn *fn, const char *name) {
    oct_json_limits limits = oct_json_request_limits;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    unsigned long n = 0;
    int status = EXIT_CLEAN;
    oct_buf out;

    oct_buf_init(&out, oct_system_allocator(), 0);
    while (status == EXIT_CLEAN && (len = getline(&line, &cap, stdin)) > 0) {
        json_t *in = NULL;
        oct_err err = {0};
        n++;
        oct_buf_clear(&out);
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
        if (len == 0) continue;
        oct_status st = oct_json_parse((oct_str){line, (size_t)len}, "JSON", &limits, &in, &err);
        if (st == OCT_OK) st = fn(f, in, &out, &err);
        json_decref(in);
        if (st == OCT_OK && !out.failed) {
            oct_buf_char(&out, '\n');
            fwrite(out.data, 1, out.len, stdout);
            fflush(stdout); /* a program that waits for the answer to its line gets it */
        } else {
            status = cli_fail(EXIT_USAGE, "%s: line %lu: %s", name, n, st ? err.text : "no memory");
        }
    }
    free(line);
    oct_buf_fini(&out);
    return fflush(stdout) == 0 ? status : cli_fail(EXIT_SYSTEM, "%s: cannot write to stdout", name);
}

static int open_template(filter *f, const char *name, oct_template **out) {
    oct_err err = {0};
    const oct_str source = oct_tokenizer_chat_template(f->tokenizer, name);
    if (!source.ptr)
        return name ? -1 : cli_fail(EXIT_MODEL, "render: the model has no chat template");
    const oct_status st =
        oct_template_create(oct_system_allocator(), source.ptr, source.len, out, &err);
    return st == OCT_OK ? -1 : cli_fail(EXIT_MODEL, "chat template: %s", err.text);
}

static int filter_run(const cli_command *self, int argc, char **argv, filter_fn *fn) {
    filter f = {.open = OPEN_OPTIONS_DEFAULT};
    f.open.log_level = "warn";
    const cli_flag no_special = cli_switch("no-special", &f.no_special,
                                           "leave out BOS and the like that the tokenizer adds");
    const cli_flag skip_special =
        cli_switch("skip-special", &f.skip_special, "leave out special tokens");
    const cli_flag flags[] = {
        cli_switch("jsonl", &f.jsonl, "the form of the lines (the only one)"),
        fn == detokenize_line ? skip_special : no_special,
    };
    const cli_group groups[] = {{"Flags", flags, fn == render_line ? 1 : OCT_COUNT(flags)}};
    const char *path;
    unsigned n_pos;
    int status = cli_parse(self, groups, OCT_COUNT(groups), argc, argv, &path, 1, &n_pos);
    if (status >= 0) return status;
    if (n_pos == 0) return cli_fail(EXIT_USAGE, "%s: want a MODEL", self->name);
    status = open_tokenizer(&f.open, path, &f.tokenizer);
    if (status < 0 && fn == render_line) status = open_template(&f, NULL, &f.template);
    if (status < 0 && fn == render_line) status = open_template(&f, "tool_use", &f.tool_template);
    if (status < 0) status = run_lines(&f, fn, self->name);
    oct_template_release(f.template);
    oct_template_release(f.tool_template);
    oct_tokenizer_destroy(f.tokenizer);
    return status;
}

static int tokenize_run(const cli_command *self, int argc, char **argv) {
    return filter_run(self, argc, argv, tokenize_line);
}
static int detokenize_run(const cli_command *self, int argc, char **argv) {
    return filter_run(self, argc, argv, detokenize_line);
}
static int render_run(const cli_command *self, int argc, char **argv) {
    return filter_run(self, argc, argv, render_line);
}

const cli_command tokenize_command = {
    .name = "tokenize",
    .summary = "JSON strings in, arrays of token ids out, a line each",
    .usage = "MODEL --jsonl",
    .examples = "  echo '\"Hello world\"' | octet tokenize model --jsonl",
    .run = tokenize_run,
};
const cli_command detokenize_command = {
    .name = "detokenize",
    .summary = "arrays of token ids in, JSON strings out, a line each",
    .usage = "MODEL --jsonl",
    .examples = "  echo '[19556, 905]' | octet detokenize model --jsonl",
    .run = detokenize_run,
};
const cli_command render_command = {
    .name = "render",
    .summary = "chat requests in, rendered prompts out, a line each",
    .usage = "MODEL --jsonl",
    .examples = "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | octet "
                "render model --jsonl",
    .run = render_run,
};
