/* apps/commands.h - the commands of octet; one folder each. */
#ifndef OCT_APPS_COMMANDS_H
#define OCT_APPS_COMMANDS_H

#include "cli.h"

extern const cli_command serve_command, run_command, quantize_command, eval_command,
    inspect_command, bench_command, conform_command, tokenize_command, detokenize_command,
    render_command, run_batch_command;

#endif
