/*
 * kern/x86/amx_tiles.h - the 64 bytes that describe the tile registers, private to the AMX files.
 */
#ifndef OCT_KERN_X86_AMX_TILES_H
#define OCT_KERN_X86_AMX_TILES_H

#include <stdint.h>

typedef struct oct_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16]; /* of each tile register; only the first 8 exist */
    uint8_t rows[16];
} oct_amx_config;
_Static_assert(sizeof(oct_amx_config) == 64, "the layout LDTILECFG reads");

#endif
