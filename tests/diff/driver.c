/*
 * What octet makes of many inputs, one after the other, for the differential tests: the same inputs
 * go to a reference library and both verdicts are compared (tests/diff/compare.py).
 *
 *     diff_driver safetensors|tokenizer|template < RECORDS
 *
 * A record is one or two fields, each a 4-byte little-endian length and its bytes:
 *     safetensors   the file
 *     tokenizer     tokenizer.json; a JSON array of texts
 *     template      the source; a JSON object of variables
 * Each record is answered by one line of JSON, {"ok": RESULT} or {"error": SENTENCE, "status": S}.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../fuzz/memory_file.h"
#include "base/log.h"
#include "codec/json.h"
#include "store/safetensors.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef struct field {
    uint8_t *data; /* a byte longer than size, zero */
    size_t size;
} field;

static const oct_allocator *mem;

/* False at the end of the input; a cut record is a fault of the caller. */
static bool read_field(field *f, bool first) {
    uint8_t head[4];
    const size_t got = fread(head, 1, sizeof head, stdin);
    if (got == 0 && first && feof(stdin)) return false;
    if (got != sizeof head) abort();
    f->size =
        (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    f->data = calloc(f->size + 1, 1);
    if (!f->data || fread(f->data, 1, f->size, stdin) != f->size) abort();
    return true;
}

static oct_str view(const field *f) { return (oct_str){(const char *)f->data, f->size}; }

static json_t *parsed(const field *f) {
    json_t *v = NULL;
    oct_err err = {0};
    if (oct_json_parse(view(f), "record", &oct_json_file_limits, &v, &err) != OCT_OK) {
        fprintf(stderr, "diff_driver: %s\n", err.text);
        abort();
    }
    return v;
}

static void answer(const char *key, const char *text) {
    oct_buf line;
    oct_buf_init(&line, mem, 0);
    oct_buf_printf(&line, "{\"%s\": %s}\n", key, text);
    fwrite(oct_buf_cs(&line), 1, line.len, stdout);
    oct_buf_fini(&line);
}

static void answer_error(oct_status status, const oct_err *err) {
    oct_buf line;
    if (!err->text[0]) abort(); /* a refusal without its reason */
    oct_buf_init(&line, mem, 0);
    oct_buf_cstr(&line, "{\"error\": ");
    oct_json_quote(&line, oct_str_of(err->text));
    oct_buf_printf(&line, ", \"status\": \"%s\"}\n", oct_status_name(status));
    fwrite(oct_buf_cs(&line), 1, line.len, stdout);
    oct_buf_fini(&line);
}

/* [[name, dtype, [shape], data in hex], ...] in the order of their bytes. */
static void safetensors(const field *file) {
    oct_safetensors *st = NULL;
    oct_err err = {0};
    oct_buf b;
    const oct_status status =
        oct_safetensors_open(mem, memory_file(file->data, file->size), &st, &err);
    if (status != OCT_OK) {
        answer_error(status, &err);
        return;
    }
    oct_buf_init(&b, mem, 0);
    oct_buf_char(&b, '[');
    for (size_t i = 0; i < oct_safetensors_n(st); i++) {
        const oct_tensor *t = oct_safetensors_at(st, i);
        uint8_t *data = calloc(t->bytes + 1, 1);
        if (!data || oct_safetensors_read(st, t, data, &err) != OCT_OK) abort();
        oct_buf_cstr(&b, i ? ", [" : "[");
        oct_json_quote(&b, t->name);
        oct_buf_printf(&b, ", \"%s\", [", oct_dtype_name(t->dtype));
        for (uint32_t d = 0; d < t->rank; d++)
            oct_buf_printf(&b, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
        oct_buf_cstr(&b, "], \"");
        for (uint64_t k = 0; k < t->bytes; k++) oct_buf_printf(&b, "%02x", data[k]);
        oct_buf_cstr(&b, "\"]");
        free(data);
    }
    oct_buf_char(&b, ']');
    answer("ok", oct_buf_cs(&b));
    oct_buf_fini(&b);
    oct_safetensors_close(st);
}

/* [[ids], ...] with what the post-processor adds, then the decoding of each, as [ids, text]. */
static void tokenizer(const field *file, const field *texts) {
    oct_tokenizer *tok = NULL;
    oct_err err = {0};
    const oct_str none = {NULL, 0};
    const oct_status status = oct_tokenizer_parse(mem, view(file), none, none, &tok, &err);
    if (status != OCT_OK) {
        answer_error(status, &err);
        return;
    }
    json_t *all = parsed(texts);
    oct_ids ids;
    oct_buf b, text;
    oct_ids_init(&ids, mem);
    oct_buf_init(&b, mem, 0);
    oct_buf_init(&text, mem, 0);
    oct_buf_char(&b, '[');
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const oct_str s = {json_string_value(one), json_string_length(one)};
        oct_ids_clear(&ids);
        oct_buf_clear(&text);
        oct_buf_cstr(&b, i ? ", " : "");
        if (oct_tokenizer_encode(tok, s, OCT_ENCODE_ADD_SPECIAL | OCT_ENCODE_PARSE_SPECIAL, &ids,
                                 &err) != OCT_OK) {
            oct_json_quote(&b, oct_str_of(err.text));
            continue;
        }
        oct_buf_cstr(&b, "[[");
        for (size_t k = 0; k < ids.len; k++)
            oct_buf_printf(&b, "%s%" PRId32, k ? ", " : "", ids.data[k]);
        oct_buf_cstr(&b, "], ");
        oct_tokenizer_decode(tok, ids.data, ids.len, false, &text);
        oct_json_quote(&b, oct_buf_view(&text));
        oct_buf_char(&b, ']');
    }
    oct_buf_char(&b, ']');
    answer("ok", oct_buf_cs(&b));
    oct_buf_fini(&b);
    oct_buf_fini(&text);
    oct_ids_fini(&ids);
    oct_tokenizer_destroy(tok);
    json_decref(all);
}

/* The rendered text. */
static void template(const field *source, const field *variables) {
    static const oct_template_limits limits = {
        .max_steps = 200000, .max_output_bytes = 1 << 20, .max_memory_bytes = 1 << 24};
    json_t *vars = parsed(variables);
    oct_template *t = NULL;
    oct_err err = {0};
    oct_buf text, quoted;
    oct_buf_init(&text, mem, 0);
    oct_buf_init(&quoted, mem, 0);
    json_t *messages = json_incref(json_object_get(vars, "messages"));
    json_t *tools = json_incref(json_object_get(vars, "tools"));
    const oct_template_input in = {.messages = messages,
                                   .tools = tools,
                                   .add_generation_prompt =
                                       json_is_true(json_object_get(vars, "add_generation_prompt")),
                                   .kwargs = vars,
                                   .now = 1700000000};
    oct_status status =
        oct_template_create(mem, (const char *)source->data, source->size, &t, &err);
    if (status == OCT_OK) status = oct_template_render(t, &in, &limits, &text, &err);
    if (status == OCT_OK) {
        oct_json_quote(&quoted, oct_buf_view(&text));
        answer("ok", oct_buf_cs(&quoted));
    } else {
        answer_error(status, &err);
    }
    oct_template_release(t);
    oct_buf_fini(&text);
    oct_buf_fini(&quoted);
    json_decref(messages);
    json_decref(tools);
    json_decref(vars);
}

int main(int argc, char **argv) {
    const char *kind = argc == 2 ? argv[1] : "";
    field a, b = {0};
    mem = oct_system_allocator();
    oct_log_set_level(OCT_LOG_OFF);
    while (read_field(&a, true)) {
        if (strcmp(kind, "safetensors") != 0 && !read_field(&b, false)) return 2;
        if (strcmp(kind, "safetensors") == 0)
            safetensors(&a);
        else if (strcmp(kind, "tokenizer") == 0)
            tokenizer(&a, &b);
        else if (strcmp(kind, "template") == 0)
            template(&a, &b);
        else
            return 2;
        fflush(stdout);
        free(a.data);
        free(b.data);
        b.data = NULL;
    }
    return 0;
}
