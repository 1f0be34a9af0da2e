/*
 * Register loop for AMX: four sums, every product on full tiles of 16 x 64 bytes.
 */
#include "kern/x86/amx_tiles.h"
#include "kern/x86/peak_x86.h"

enum { PRODUCTS = 8, TILE_MACS = 16 * 16 * 64 };

uint64_t oct_peak_int8_amx(uint64_t rounds) {
    oct_amx_configure((const uint8_t[8]){16, 16, 16, 16, 16, 16, 16, 16});
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
