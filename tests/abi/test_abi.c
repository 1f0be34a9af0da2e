/*
 * tests/abi/test_abi.c - the loader against plug-ins that are right, old, new, wrong or no plug-ins
 * at all. bad-input rows DV1 and DV2: each refusal names what was wanted and what was found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "device/device.h"

#define PLUGIN(name) ABI_PLUGIN_DIR "/octet_" name ".so"

static void refused(const char *name, oct_status want, const char *sentence) {
    const oct_device_options o = {.plugin_dir = ABI_PLUGIN_DIR};
    oct_err err = {.code = OCT_OK};
    oct_device *d = (oct_device *)&err;
    assert_int_equal(oct_device_open(oct_system_allocator(), name, &o, &d, &err), want);
    assert_null(d);
    if (!strstr(err.text, sentence)) fail_msg("got \"%s\", want \"%s\" in it", err.text, sentence);
    assert_null(strchr(err.text, '\n'));
}

static oct_device *opened(const char *name) {
    const oct_device_options o = {.plugin_dir = ABI_PLUGIN_DIR, .settings = "seed=3"};
    oct_err err = {.code = OCT_OK};
    oct_device *d = NULL;
    if (oct_device_open(oct_system_allocator(), name, &o, &d, &err) != OCT_OK)
        fail_msg("%s", err.text);
    return d;
}

static void null_plugin_serves(void **s) {
    (void)s;
    oct_device *d = opened(PLUGIN("null"));
    oct_err err = {.code = OCT_OK};
    octet_buffer buf = 0;
    octet_stream *st = NULL;
    char got[8] = "";
    assert_string_equal(d->info.name, "null: computes nothing");
    assert_string_equal(d->source, PLUGIN("null"));
    assert_false(oct_device_can_capture(d));
    assert_int_equal(d->ops->stream_create(d->dev, &st), 0);
    assert_int_equal(d->ops->buffer_create(d->dev, 8, &buf), 0);
    assert_int_equal(d->ops->write(st, (octet_ref){buf, 1}, "abc", 3), 0);
    assert_int_equal(d->ops->read(st, got, (octet_ref){buf, 0}, 5), 0);
    assert_memory_equal(got, "\0abc\0", 5);
    const int32_t code = d->ops->read(st, got, (octet_ref){buf, 4}, 5);
    assert_int_equal(oct_device_check(d, code, "read", &err), OCT_E_INVALID);
    assert_string_equal(err.text,
                        "null: computes nothing: read failed (code 1: read outside a buffer)");
    bool fast = true;
    void *host = oct_device_host_alloc(d, 100, &fast);
    assert_non_null(host);
    assert_false(fast);
    oct_device_host_free(d, host, 100, fast);
    d->ops->stream_destroy(st);
    d->ops->buffer_destroy(d->dev, buf);
    oct_device_close(d);
}

static void found_by_name_in_the_folder(void **s) {
    (void)s;
    oct_device *d = opened("null");
    assert_string_equal(d->source, PLUGIN("null"));
    oct_device_close(d);
}

static void later_table_is_welcome(void **s) {
    (void)s;
    oct_device *d = opened(PLUGIN("future"));
    assert_true(d->ops->struct_bytes > sizeof(octet_device_ops));
    assert_true(oct_device_has_experts(d));
    oct_device_close(d);
}

static void oldest_table_serves_without_later_abilities(void **s) {
    (void)s;
    oct_device *d = opened(PLUGIN("oldest"));
    assert_false(oct_device_has_experts(d));
    oct_device_close(d);
}

static void DV1_short_table(void **s) {
    (void)s;
    refused(PLUGIN("short"), OCT_E_DEVICE, "table too small (got 312 bytes, want at least 320)");
}
static void DV1_wrong_numerics(void **s) {
    (void)s;
    refused(PLUGIN("wrong_numerics"), OCT_E_DEVICE, "other arithmetic (got revision 2, want 1)");
}
static void DV1_missing_member(void **s) {
    (void)s;
    refused(PLUGIN("missing_member"), OCT_E_DEVICE,
            "member missing from its table (got NULL, want "
            "linear)");
    refused(PLUGIN("half_capture"), OCT_E_DEVICE, "want capture_end, replay or graph_destroy");
    refused(PLUGIN("half_experts"), OCT_E_DEVICE,
            "want permute, quantize_grouped, linear_grouped or combine");
}
static void DV1_declines(void **s) {
    (void)s;
    refused(PLUGIN("declines"), OCT_E_DEVICE,
            "the plug-in declines (it says: this machine is too warm)");
}
static void DV1_no_symbol(void **s) {
    (void)s;
    refused(PLUGIN("no_symbol"), OCT_E_DEVICE,
            "not an octet plug-in (got no symbol octet_device_plugin_v1)");
}
static void DV1_not_elf(void **s) {
    (void)s;
    refused(PLUGIN("not_elf"), OCT_E_DEVICE, "does not load as a plug-in (got: ");
}
static void DV1_missing_file(void **s) {
    (void)s;
    refused("/nonexistent/x.so", OCT_E_DEVICE, "/nonexistent/x.so: no such plug-in");
    refused("cuda", OCT_E_DEVICE, "/octet_cuda.so: no such plug-in");
}
static void DV1_relative_name(void **s) {
    (void)s;
    assert_int_equal(chdir(ABI_PLUGIN_DIR), 0);
    refused("./octet_null.so", OCT_E_DEVICE, "relative path refused");
    refused("plugins/octet_null.so", OCT_E_DEVICE, "relative path refused");
    refused("octet_null.so", OCT_E_INVALID, "not a device name");
    refused("", OCT_E_INVALID, "not a device name");
    refused("cuda:x", OCT_E_INVALID, "bad number after ':'");
    refused("cuda:4096", OCT_E_INVALID, "bad number after ':'");
}
static void DV1_bad_info(void **s) {
    (void)s;
    refused(PLUGIN("bad_info"), OCT_E_DEVICE, "unknown type of float rows (got 99, want 1 or 2)");
}
static void DV2_no_device(void **s) {
    (void)s;
    refused(PLUGIN("no_device"), OCT_E_DEVICE,
            "device 0 does not open (code 7: no device found: driver 3.1, want 4.0)");
}
static void DV2_index_out_of_range(void **s) {
    (void)s;
    refused(PLUGIN("null") ":5", OCT_E_DEVICE,
            "device 5 does not open (code 7: there is only device 0)");
}

static void auto_takes_the_cpu(void **s) {
    (void)s;
    oct_err err = {.code = OCT_OK};
    const oct_device_options o = {.plugin_dir = ABI_PLUGIN_DIR, .n_threads = 1};
    oct_device *d = NULL;
    assert_int_equal(oct_device_open(oct_system_allocator(), "auto", &o, &d, &err), OCT_OK);
    assert_string_equal(d->source, "cpu (built in)");
    assert_true(oct_device_can_capture(d));
    oct_device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_plugin_serves),
        cmocka_unit_test(found_by_name_in_the_folder),
        cmocka_unit_test(later_table_is_welcome),
        cmocka_unit_test(oldest_table_serves_without_later_abilities),
        cmocka_unit_test(DV1_short_table),
        cmocka_unit_test(DV1_wrong_numerics),
        cmocka_unit_test(DV1_missing_member),
        cmocka_unit_test(DV1_declines),
        cmocka_unit_test(DV1_no_symbol),
        cmocka_unit_test(DV1_not_elf),
        cmocka_unit_test(DV1_missing_file),
        cmocka_unit_test(DV1_relative_name),
        cmocka_unit_test(DV1_bad_info),
        cmocka_unit_test(DV2_no_device),
        cmocka_unit_test(DV2_index_out_of_range),
        cmocka_unit_test(auto_takes_the_cpu),
    };
    oct_log_set_level(OCT_LOG_OFF);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
