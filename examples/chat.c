/*
 * examples/chat.c - a chat in a page: octet inside another program.
 *
 *   cc chat.c $(pkg-config --cflags --libs octet) -o chat
 *   ./chat MODEL            one turn a line; an empty line or the end of input leaves
 */
#include <octet/octet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 64, MAX_LINE = 4096, MAX_ANSWER = 65536 };

static int fail(const char *sentence) {
    fprintf(stderr, "chat: %s\n", sentence);
    return EXIT_FAILURE;
}

/* Prints the answer while it comes and keeps it. OCTET_OK, or a code and its sentence. */
static int32_t answer(octet_engine *e, const octet_message *messages, uint32_t n, char *text,
                      char *sentence, size_t sentence_bytes) {
    octet_request_spec spec = {.struct_bytes = sizeof spec};
    octet_output out = {.struct_bytes = sizeof out};
    octet_request *request;
    size_t len = 0;
    octet_request_defaults(e, &spec);
    spec.messages = messages;
    spec.n_messages = n;
    spec.max_tokens = 256;
    int32_t code = octet_submit(e, &spec, &request, sentence, sentence_bytes);
    if (code != OCTET_OK) return code;
    while (out.finish == OCTET_RUNNING && octet_poll(request, -1, &out) == OCTET_OK) {
        fwrite(out.text, 1, out.text_bytes, stdout);
        fflush(stdout);
        if (len + out.text_bytes < MAX_ANSWER) {
            memcpy(text + len, out.text, out.text_bytes);
            len += out.text_bytes;
        }
    }
    text[len] = '\0';
    putchar('\n');
    code = out.finish == OCTET_FINISH_ERROR ? out.status : OCTET_OK;
    if (code != OCTET_OK) snprintf(sentence, sentence_bytes, "%s", out.error);
    octet_request_release(request);
    return code;
}

int main(int argc, char **argv) {
    static char text[MAX_MESSAGES][MAX_ANSWER];
    octet_message messages[MAX_MESSAGES];
    octet_engine_options options = {.struct_bytes = sizeof options, .max_num_seqs = 1};
    octet_engine *e;
    char sentence[512];
    uint32_t n = 0;
    if (argc != 2) return fail("want a MODEL");
    if (octet_engine_open(argv[1], &options, &e, sentence, sizeof sentence) != OCTET_OK)
        return fail(sentence);
    while (n + 2 <= MAX_MESSAGES && fgets(text[n], MAX_LINE, stdin)) {
        text[n][strcspn(text[n], "\n")] = '\0';
        if (!text[n][0]) break;
        messages[n] = (octet_message){"user", text[n]};
        if (answer(e, messages, n + 1, text[n + 1], sentence, sizeof sentence) != OCTET_OK) {
            octet_engine_close(e);
            return fail(sentence);
        }
        messages[n + 1] = (octet_message){"assistant", text[n + 1]};
        n += 2;
    }
    octet_engine_close(e);
    return EXIT_SUCCESS;
}
