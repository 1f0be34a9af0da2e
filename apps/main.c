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

/* octet(1), and the commands for what packaging/pages.sh makes. */
static int print_page(bool man) {
    if (!man)
        for (size_t i = 0; i < OCT_COUNT(commands); i++) puts(commands[i]->name);
    if (!man) return EXIT_CLEAN;
    fputs(".TH OCTET 1 \"\" \"octet " OCT_VERSION "\" \"octet\"\n.SH NAME\noctet \\- serves "
          "INT8-quantised language models over the OpenAI API\n.SH SYNOPSIS\n.B octet\n"
          ".I COMMAND\n[arguments]\n.SH COMMANDS\n",
          stdout);
    for (size_t i = 0; i < OCT_COUNT(commands); i++)
        printf(".TP\n.BR octet\\-%s (1)\n%s\n", commands[i]->name, commands[i]->summary);
    fputs(
        ".SH EXIT STATUS\n0 clean, 1 internal failure, 2 command line, 3 model files, 4 operating "
        "system, 5 device.\n.SH ENVIRONMENT\n.TP\n.B OCTET_CPU_MASK\nbounds the instruction "
        "sets: a number, or ref, avx2, vnni, amx\n.TP\n.B OMP_NUM_THREADS\nbounds the threads "
        "unless \\-\\-threads is given\n.TP\n.B VLLM_API_KEY\nthe key of clients unless "
        "\\-\\-api\\-key is given\n.TP\n.B VLLM_SERVER_DEV_MODE\n1: routes for development\n",
        stdout);
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
    if (strcmp(argv[1], "--help=man") == 0 || strcmp(argv[1], "--help=words") == 0)
        return print_page(argv[1][7] == 'm');
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)
        return printf("octet %s\n", OCT_VERSION), EXIT_CLEAN;
    for (size_t i = 0; i < OCT_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 2, argv + 2);
    return cli_fail(EXIT_USAGE, "unknown command (got %.64s); octet --help lists them", argv[1]);
}
