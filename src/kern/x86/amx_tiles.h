/*
 * kern/x86/amx_tiles.h - setting up the tile registers; private to the AMX files.
 */
#ifndef OCT_KERN_X86_AMX_TILES_H
#define OCT_KERN_X86_AMX_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* What LDTILECFG reads. */
typedef struct oct_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16]; /* of each tile register; only the first 8 exist */
    uint8_t rows[16];
} oct_amx_config;
_Static_assert(sizeof(oct_amx_config) == 64, "the layout LDTILECFG reads");

/* The compiler does not see that tile instructions read memory: what was written must be there. */
#define OCT_AMX_FENCE() __asm__ volatile("" ::: "memory")

/* Tile i gets rows[i] rows of 64 bytes. All tiles are zero after it. */
static inline void oct_amx_configure(const uint8_t rows[8]) {
    oct_amx_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = rows[i];
    }
    /* Not through the intrinsic, which tells gcc 12 only of the first eight bytes. */
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

#endif
