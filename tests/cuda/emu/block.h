/* block.h - running a grid. */
#ifndef OCT_EMU_BLOCK_H
#define OCT_EMU_BLOCK_H

#include "emu.h"

/* Runs all blocks, one after the other. One grid at a time. */
void emu_run_grid(const emu_kernel *kernel, const void *params, emu_dim grid, uint32_t block,
                  uint32_t dynamic_bytes);

/* The kernel of that name, or nullptr. */
const emu_kernel *emu_find(const char *name);

#endif
