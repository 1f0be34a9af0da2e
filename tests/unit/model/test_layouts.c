/* Each layout that quantisation tools write, rebuilt small, loads and gives finite logits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "model/runner.h"
#include "support/layouts.h"

static void take(void *ctx, uint32_t first, uint32_t n_rows, const float *logits) {
    double *sum = ctx;
    (void)first;
    for (uint32_t i = 0; i < n_rows * LAYOUT_V; i++) {
        assert_true(isfinite(logits[i]));
        *sum += fabs((double)logits[i]);
    }
}

static void run_layout(const char *name, const char *folder) {
    static const int32_t tokens[8] = {1, 5, 9, 100, 3, 3, 77, 127};
    const oct_allocator *mem = oct_system_allocator();
    const oct_model_options options = {.max_rows = 8, .max_seqs = 1, .max_logits = 8};
    oct_device *device = NULL;
    oct_checkpoint *ckpt = NULL;
    oct_model *model = NULL;
    oct_runner *r = NULL;
    oct_err err = {0};
    double sum = 0;
    layout_make(name, folder);
    if (oct_device_open(mem, "cpu", &(oct_device_options){.n_threads = 1}, &device, &err) ||
        oct_checkpoint_open(mem, folder, &ckpt, &err) ||
        oct_model_load(mem, device, ckpt, &options, &model, &err) ||
        oct_runner_create(mem, model, &r, &err) ||
        oct_runner_logits(r, tokens, 8, take, &sum, &err))
        fail_msg("%s: %s", name, err.text);
    assert_true(sum > 0);
    print_message("  %-26s %s\n", name, oct_model_get_info(model)->scheme);
    oct_runner_destroy(r);
    oct_model_destroy(model);
    oct_checkpoint_close(ckpt);
    oct_device_close(device);
}

static void every_layout_loads_and_runs(void **state) {
    (void)state;
    char folder[] = "/tmp/octet-layouts-XXXXXX", command[64];
    oct_log_set_level(OCT_LOG_OFF);
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < LAYOUT_COUNT; i++) run_layout(layout_names[i], folder);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_layout_loads_and_runs)};
    return cmocka_run_group_tests_name("layouts", tests, NULL, NULL);
}
