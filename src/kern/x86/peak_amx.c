/*
 * Register loop for AMX: four sums, every product on full tiles of 16 x 64 bytes.
 */
#include <immintrin.h>
#include <string.h>

#include "kern/x86/amx_tiles.h"
#include "kern/x86/peak_x86.h"

enum { PRODUCTS = 8, TILE_MACS = 16 * 16 * 64 };

uint64_t oct_peak_int8_amx(uint64_t rounds) {
    oct_amx_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    for (uint64_t i = 0; i < rounds; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return rounds * PRODUCTS * TILE_MACS;
}
