/* Narrow float types: the published vectors, every code there and back, ties and edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "quant/float_types.h"

static void bf16_rounds_to_even(void **state) {
    (void)state;
    const struct {
        uint32_t f32;
        uint16_t bf16;
    } rows[] = {{0x3F808000, 0x3F80}, {0x3F818000, 0x3F82}, {0x40490FDB, 0x4049},
                {0x3A83126F, 0x3A83}, {0x477FE000, 0x4780}, {0x7F800000, 0x7F80},
                {0x7F7FFFFF, 0x7F80}, {0x80000000, 0x8000}, {0x7F800001, 0x7FC0}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        assert_int_equal(oct_f32_to_bf16(oct_f32_from_bits(rows[i].f32)), rows[i].bf16);
    for (uint32_t h = 0; h < 0x10000; h++)
        if ((h & 0x7FFF) <= 0x7F80)
            assert_int_equal(oct_f32_to_bf16(oct_bf16_to_f32((uint16_t)h)), h);
}

/* The value of a half by its definition. */
static double half_value(uint32_t h) {
    const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
    const double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void f16_every_code(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float v = oct_f16_to_f32((uint16_t)h);
        if ((h & 0x7FFF) > 0x7C00) {
            assert_true(isnan(v) && isnan(oct_f16_to_f32(oct_f32_to_f16(v))));
            continue;
        }
        if ((h & 0x7FFF) == 0x7C00)
            assert_true(isinf(v) && (v < 0) == (h >> 15));
        else
            assert_true((double)v == half_value(h));
        assert_int_equal(oct_f32_to_f16(v), h);
    }
}

static void f16_ties_go_to_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7BFF; h++) {
        const float lo = oct_f16_to_f32((uint16_t)h), hi = oct_f16_to_f32((uint16_t)(h + 1));
        const float mid = lo + (hi - lo) / 2; /* exact: one bit more */
        assert_int_equal(oct_f32_to_f16(mid), h + (h & 1));
        assert_int_equal(oct_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(oct_f32_to_f16(-nextafterf(mid, 1e9f)), 0x8000 | (h + 1));
    }
    assert_int_equal(oct_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(oct_f32_to_f16(65520), 0x7C00);
    assert_int_equal(oct_f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(oct_f32_to_f16(1e-30f), 0);
}

static void e4m3_vectors(void **state) {
    (void)state;
    const struct {
        float v;
        uint8_t code;
    } rows[] = {{0.1f, 0x1D},     {1, 0x38},        {-17, 0xD8},           {18, 0x59},
                {19, 0x5A},       {240, 0x77},      {448, 0x7E},           {500, 0x7E},
                {0x1p-9f, 0x01},  {0x1p-10f, 0x00}, {0.0029296875f, 0x02}, {-0.0f, 0x80},
                {INFINITY, 0x7E}, {-1e9f, 0xFE},    {463.9f, 0x7E},        {0x1p-30f, 0x00}};
    for (size_t i = 0; i < OCT_COUNT(rows); i++)
        assert_int_equal(oct_f32_to_e4m3(rows[i].v), rows[i].code);
    assert_true(oct_e4m3_to_f32(0x1D) == 0.1015625f && oct_e4m3_to_f32(0x7E) == 448);
    assert_true(isnan(oct_e4m3_to_f32(0x7F)) && isnan(oct_e4m3_to_f32(0xFF)));
    assert_int_equal(oct_f32_to_e4m3(NAN) & 0x7F, 0x7F);
    for (uint32_t b = 0; b < 256; b++)
        if ((b & 0x7F) != 0x7F) assert_int_equal(oct_f32_to_e4m3(oct_e4m3_to_f32((uint8_t)b)), b);
    for (uint32_t b = 0; b < 0x7E; b++) {
        const float lo = oct_e4m3_to_f32((uint8_t)b), hi = oct_e4m3_to_f32((uint8_t)(b + 1));
        assert_int_equal(oct_f32_to_e4m3((lo + hi) / 2), b + (b & 1));
    }
}

static void rows_at_any_alignment(void **state) {
    (void)state;
    unsigned char bytes[67];
    float out[33];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(37 * i + 11);
    for (size_t off = 0; off < 3; off++) {
        oct_f16_row_to_f32(bytes + off, 32, out);
        for (size_t i = 0; i < 32; i++) {
            const uint16_t h = (uint16_t)(bytes[off + 2 * i] | bytes[off + 2 * i + 1] << 8);
            assert_int_equal(oct_f32_bits(out[i]), oct_f32_bits(oct_f16_to_f32(h)));
        }
        oct_bf16_row_to_f32(bytes + off, 32, out);
        for (size_t i = 0; i < 32; i++) {
            const uint32_t h = bytes[off + 2 * i] | (uint32_t)bytes[off + 2 * i + 1] << 8;
            assert_int_equal(oct_f32_bits(out[i]), h << 16);
        }
        oct_e4m3_row_to_f32(bytes + off, 33, out);
        assert_int_equal(oct_f32_bits(out[32]), oct_f32_bits(oct_e4m3_to_f32(bytes[off + 32])));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_rounds_to_even), cmocka_unit_test(f16_every_code),
        cmocka_unit_test(f16_ties_go_to_even), cmocka_unit_test(e4m3_vectors),
        cmocka_unit_test(rows_at_any_alignment)};
    return cmocka_run_group_tests_name("float types", tests, NULL, NULL);
}
