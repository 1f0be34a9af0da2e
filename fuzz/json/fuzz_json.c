/* Any text: refused with a place, or a value that is written and read back equal. */
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/log.h"
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(oct_str text, const oct_json_limits *limits) {
    json_t *v = NULL, *again = NULL;
    oct_err err = {0};
    const oct_status status = oct_json_parse(text, "fuzz", limits, &v, &err);
    if (status != OCT_OK) {
        if (v || !strstr(err.text, "(at byte ")) __builtin_trap();
        return;
    }
    char shown[OCT_JSON_SHOWN];
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    (void)oct_json_show(v, shown);
    oct_json_dump(&b, v, JSON_COMPACT);
    if (b.failed || oct_json_parse(oct_buf_view(&b), "again", limits, &again, NULL) != OCT_OK ||
        !json_equal(v, again))
        __builtin_trap();
    json_decref(again);
    json_decref(v);
    oct_buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const oct_str text = {(const char *)data, size};
    oct_log_set_level(OCT_LOG_OFF);
    check(text, &oct_json_file_limits);
    check(text, &oct_json_request_limits);
    /* Whatever the bytes are, quoted they are a JSON string. */
    json_t *v = NULL;
    oct_buf b;
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_json_quote(&b, text);
    if (oct_json_parse(oct_buf_view(&b), "quoted", &oct_json_request_limits, &v, NULL) != OCT_OK &&
        b.len <= oct_json_request_limits.max_bytes)
        __builtin_trap();
    json_decref(v);
    oct_buf_fini(&b);
    return 0;
}
