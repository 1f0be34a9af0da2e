/* Any text: refused in one sentence, or a value that JSON can hold. */
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "codec/json.h"
#include "codec/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *v = NULL, *again = NULL;
    oct_err err = {0};
    oct_buf b;
    oct_log_set_level(OCT_LOG_OFF);
    if (oct_yaml_parse((oct_str){(const char *)data, size}, "fuzz", &v, &err) != OCT_OK) {
        if (v || strncmp(err.text, "fuzz: ", 6) != 0) __builtin_trap();
        return 0;
    }
    oct_buf_init(&b, oct_system_allocator(), 0);
    oct_json_dump(&b, v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (b.failed ||
        oct_json_parse(oct_buf_view(&b), "again", &oct_json_file_limits, &again, NULL) != OCT_OK ||
        !json_equal(v, again))
        __builtin_trap();
    json_decref(again);
    json_decref(v);
    oct_buf_fini(&b);
    return 0;
}
