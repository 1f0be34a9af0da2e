/* apps/main.c - the octet command: which command runs, and the help of them all. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

static const cli_command *const commands[] = {
    &serve_command,      &run_command,     &conform_command,   &quantize_command,
    &eval_command,       &inspect_command, &bench_command,     &tokenize_command,
    &detokenize_command, &render_command,  &run_batch_command,
};

static int print_commands(FILE *to) {
    fprintf(to,
            "octet %s - serves INT8-quantised language models over the OpenAI API\n\n"
            "Usage: octet COMMAND [arguments]\n\nCommands:\n",
            OCT_VERSION);
    for (size_t i = 0; i < OCT_COUNT(commands); i++)
        fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to,
            "\nExamples:\n"
            "  octet quantize model.gguf model-w8a8c8 --scheme w8a8-dynamic --kv c8\n"
            "  octet run model-w8a8c8 \"Why is the sky blue?\"\n"
            "  octet serve model-w8a8c8 --port 8000\n\n"
            "octet COMMAND --help tells more, octet --version which octet this is. Exit statuses:\n"
            "0 clean, 1 internal failure, 2 command line, 3 model files, 4 operating system, 5 "
            "device.\n");
    return EXIT_CLEAN;
}

/* A closed stdin, stdout or stderr: the next file or socket must not take its number (CL7). */
static void hold_standard_fds(void) {
    for (int fd; (fd = open("/dev/null", O_RDWR)) >= 0;)
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    hold_standard_fds();
    if (argc < 2) {
        print_commands(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_commands(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)
        return printf("octet %s\n", OCT_VERSION), EXIT_CLEAN;
    for (size_t i = 0; i < OCT_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 2, argv + 2);
    return cli_fail(EXIT_USAGE, "unknown command (got %.64s); octet --help lists them", argv[1]);
}
