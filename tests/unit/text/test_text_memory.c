/*
 * Memory that is refused, request by request: tokenizers of both sources, chat requests and stop
 * strings say so, never that the file or the request is bad, and give back all they took.
 */
#include "text_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "codec/json.h"
#include "support/refused_json.h"
#include "text/chat.h"
#include "text/stop.h"
#include "vocabularies.h"

/* What was told is what was returned. */
static oct_status told(oct_status st, const oct_err *err) {
    assert_int_equal(err->code, st);
    if (st != OCT_OK && !strstr(err->text, "no memory")) print_error("said: %s\n", err->text);
    assert_true(st == OCT_OK || strstr(err->text, "no memory"));
    return st;
}

/* Long enough for every way through BPE, with marks out of order, blanks and added tokens. */
static const char text[] =
    "hello <mask> wor<|end|>ld \xE4\xB8\xAD</s> A\xCC\xA3\xCC\x81\xCC\xA3 \xEF\xAC\x81x\n"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "hellohellohellohellohellohellohellohellohellohellohellohellohellohellohellohellohello";

static oct_status encode(const oct_tokenizer *tok, const oct_allocator *mem) {
    oct_ids ids;
    oct_err err = {.code = OCT_OK};
    oct_ids_init(&ids, mem);
    const oct_status st = oct_tokenizer_encode(tok, OCT_STR(text), 3, &ids, &err);
    oct_ids_fini(&ids);
    return told(st, &err);
}

typedef struct folder {
    const char *path;
    oct_buf json; /* of the path's tokenizer.json */
} folder;

static oct_status open_once(void *ctx, const oct_allocator *mem) {
    const folder *f = ctx;
    oct_tokenizer *tok = NULL;
    oct_err err = {.code = OCT_OK};
    oct_status st = told(oct_tokenizer_open(mem, f->path, &tok, &err), &err);
    if (st == OCT_OK) {
        assert_true(oct_tokenizer_find(tok, OCT_STR("he")) >= 0);
        st = encode(tok, mem);
    }
    oct_tokenizer_destroy(tok);
    return st;
}

static oct_status parse_once(void *ctx, const oct_allocator *mem) {
    const folder *f = ctx;
    oct_tokenizer *tok = NULL;
    oct_err err = {.code = OCT_OK};
    oct_status st =
        told(oct_tokenizer_parse(mem, oct_buf_view(&f->json), OCT_STR("{\"bos_token\":\"<s>\"}"),
                                 OCT_STR("x"), &tok, &err),
             &err);
    if (st == OCT_OK) st = encode(tok, mem);
    oct_tokenizer_destroy(tok);
    return st;
}

static void OS5_tokenizer_of_a_folder(void **state) {
    (void)state;
    folder bytes = {.path = OCT_TEST_DATA "/tokenizer/bytes"};
    folder pieces = {.path = OCT_TEST_DATA "/tokenizer/pieces"};
    refuse_each_request(open_once, &bytes);
    refuse_each_request(open_once, &pieces);
}

/* A pattern that is not among the known ones, a prefix blank, and an added token of the model. */
static void OS5_tokenizer_with_its_own_pattern(void **state) {
    (void)state;
    folder f;
    oct_buf_init(&f.json, MEM, 0);
    read_file(OCT_TEST_DATA "/tokenizer/bytes/tokenizer.json", &f.json);
    replace_once(&f.json, "\"pretokenizers\": [",
                 "\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                 "\"(?:[a-z]|1|\\\\s)+|[^a-z]\"}, \"behavior\": \"Isolated\", \"invert\": false},");
    replace_once(&f.json, "\"added_tokens\": [",
                 "\"added_tokens\": [{\"id\": 259, \"content\": \"hello\", \"normalized\": true},");
    refuse_each_request(parse_once, &f);
    oct_buf_fini(&f.json);
}

static oct_status create_once(void *ctx, const oct_allocator *mem) {
    oct_tokenizer *tok = NULL;
    oct_err err = {.code = OCT_OK};
    char dir[] = "/tmp/octet_memory_XXXXXX", path[64];
    oct_status st = told(oct_tokenizer_create(mem, ctx, &tok, &err), &err);
    if (st == OCT_OK) st = encode(tok, mem);
    if (st == OCT_OK) {
        assert_non_null(mkdtemp(dir));
        st = told(oct_tokenizer_write_json(tok, dir, &err), &err);
        snprintf(path, sizeof path, "%s/tokenizer.json", dir);
        (void)unlink(path);
        snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
        (void)unlink(path);
        assert_int_equal(rmdir(dir), 0); /* no half of a file is left */
    }
    oct_tokenizer_destroy(tok);
    return st;
}

static void OS5_tokenizer_of_a_gguf_file(void **state) {
    (void)state;
    static vocabulary v;
    bytes_vocabulary(&v);
    refuse_each_request(create_once, &v.desc);
    v.desc.pre = OCT_STR("default"); /* patterns of PCRE2's */
    refuse_each_request(create_once, &v.desc);
    fini_vocabulary(&v);
    pieces_vocabulary(&v);
    refuse_each_request(create_once, &v.desc);
    fini_vocabulary(&v);
}

/* ---- chat ---- */

typedef struct conversation {
    const char *source;
    json_t *messages, *tools, *kwargs;
} conversation;

static oct_status chat_once(void *ctx, const oct_allocator *mem) {
    const conversation *c = ctx;
    oct_template *t = NULL;
    oct_buf out;
    oct_err err = {.code = OCT_OK};
    oct_buf_init(&out, mem, 0);
    oct_status st = told(oct_template_create(mem, c->source, strlen(c->source), &t, &err), &err);
    if (st == OCT_OK) {
        const oct_chat_request req = {.messages = c->messages,
                                      .tools = c->tools,
                                      .kwargs = c->kwargs,
                                      .reasoning_effort = "low"};
        st = told(oct_chat_render(t, &req, NULL, &out, &err), &err);
        if (st != OCT_OK) assert_int_equal(out.len, 0);
    }
    oct_template_release(t);
    oct_buf_fini(&out);
    return st;
}

static json_t *json_of(const char *json) {
    json_t *v = NULL;
    assert_int_equal(oct_json_parse(oct_str_of(json), "test", &oct_json_file_limits, &v, NULL),
                     OCT_OK);
    return v;
}

static void OS5_chat_request(void **state) {
    (void)state;
    conversation c = {
        .messages = json_of(
            "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, \"b\"]},"
            " {\"role\": \"assistant\", \"reasoning\": \"r\", \"tool_calls\": [{\"id\": \"1\","
            "  \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\":"
            "  {\"k\": [1, {}]}}}, {\"function\": {\"name\": \"g\", \"arguments\":"
            "  {\"x\": 1}}}, {\"function\": {\"name\": \"h\"}}]},"
            " {\"role\": \"tool\", \"tool_call_id\": \"1\", \"content\": [\"a\", \"b\"]}]"),
        .tools = json_of("[{\"type\": \"function\", \"x\": 1, \"function\": {\"name\": \"f\","
                         " \"strict\": true, \"parameters\": {}}}]"),
        .kwargs = json_of("{\"a\": 1, \"b\": [2]}"),
    };
    static const char *const sources[] = {
        "{% for m in messages %}{{ m|tojson }}{% endfor %}{{ tools }}{{ a }}",
        "{% for m in messages %}{% for p in m.content %}{{ p }}{% endfor %}{% endfor %}",
        ("{% for m in messages %}{% for c in m.tool_calls %}{{ 'x' + c.function.arguments }}"
         "{{ c.id|length == 9 }}{% endfor %}{% endfor %}"),
    };
    for (size_t i = 0; i < OCT_COUNT(sources); i++) {
        c.source = sources[i];
        refuse_each_request_and_json(chat_once, &c);
    }
    /* Arguments that are text go through the library's parser, which calls refused memory a mistake
     * in the text: only the requests of our own are refused here. */
    json_t *parsed = c.messages;
    c.messages = json_of("[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\":"
                         " \"f\", \"arguments\": \"{\\\"k\\\": [1, {}]}\"}}]}]");
    refuse_each_request(chat_once, &c);
    json_decref(parsed);
    json_decref(c.messages);
    json_decref(c.tools);
    json_decref(c.kwargs);
}

/* ---- stop strings ---- */

static oct_status stop_once(void *ctx, const oct_allocator *mem) {
    const oct_str strings[] = {OCT_STR("</end>"), OCT_STR("STOP")};
    oct_stop_set *set = NULL;
    oct_stop s;
    oct_buf out;
    oct_err err = {.code = OCT_OK};
    (void)ctx;
    oct_status st = told(oct_stop_set_create(mem, strings, 2, false, &set, &err), &err);
    oct_buf_init(&out, mem, 0);
    if (st == OCT_OK) {
        oct_stop_init(&s, set);
        (void)oct_stop_push(&s, OCT_STR("some text </e"), true, &out);
        assert_int_equal(oct_stop_held(&s), 3); /* the state does not depend on the buffer */
        assert_int_equal(oct_stop_push(&s, OCT_STR("nd>"), true, &out), 0);
        if (out.failed)
            st = OCT_E_NOMEM;
        else
            assert_string_equal(out.data, "some text ");
    }
    oct_buf_fini(&out);
    oct_stop_set_destroy(set);
    return st;
}

/* No sum of lengths may wrap. */
static void OS5_room_for_more_ids_than_there_can_be(void **state) {
    (void)state;
    oct_ids ids;
    oct_ids_init(&ids, MEM);
    oct_ids_push(&ids, 7);
    assert_false(oct_ids_reserve(&ids, SIZE_MAX));
    assert_true(ids.failed);
    assert_int_equal(ids.len, 1);
    assert_int_equal(ids.data[0], 7);
    oct_ids_clear(&ids);
    oct_ids_push(&ids, 9);
    assert_int_equal(ids.data[0], 9);
    oct_ids_fini(&ids);
}

static void OS5_stop_strings(void **state) {
    (void)state;
    refuse_each_request(stop_once, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(OS5_tokenizer_of_a_folder),
        cmocka_unit_test(OS5_tokenizer_with_its_own_pattern),
        cmocka_unit_test(OS5_tokenizer_of_a_gguf_file),
        cmocka_unit_test(OS5_chat_request),
        cmocka_unit_test(OS5_stop_strings),
        cmocka_unit_test(OS5_room_for_more_ids_than_there_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
