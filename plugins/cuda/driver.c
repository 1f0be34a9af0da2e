/* driver.c - finds libcuda.so.1 and its functions. */
#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

oct_cu_table oct_cu;

#define TEXT_OF(x) #x
#define SYMBOL(x) TEXT_OF(x) /* the name behind the macro of <cuda.h> */

typedef struct entry {
    const char *symbol;
    size_t offset; /* in oct_cu_table */
} entry;

static const entry entries[] = {
#define ENTRY(function) {SYMBOL(function), offsetof(oct_cu_table, function)},
    OCT_CU_FUNCTIONS(ENTRY)
#undef ENTRY
};

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static int loaded;

static int fill_table(void *library, char *why, size_t cap) {
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        void *at = dlsym(library, entries[i].symbol);
        if (!at) {
            snprintf(why, cap, "libcuda.so.1 is too old (got no %s, want the driver of CUDA %d.%d)",
                     entries[i].symbol, CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
            return -1;
        }
        memcpy((char *)&oct_cu + entries[i].offset, &at, sizeof at);
    }
    return 0;
}

static int load(char *why, size_t cap) {
    /* Never unloaded: its threads and exit handlers outlive a device. */
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *text = dlerror();
        snprintf(why, cap, "no CUDA driver (%s)", text ? text : "libcuda.so.1 does not load");
        return -1;
    }
    if (fill_table(library, why, cap) != 0) return -1;
    const CUresult result = oct_cu.cuInit(0);
    if (result == CUDA_SUCCESS) return 0;
    char text[160];
    oct_cu_describe(result, text, sizeof text);
    snprintf(why, cap, "the CUDA driver does not start (cuInit: %s)", text);
    return -1;
}

int oct_cu_load(char *why, size_t cap) {
    pthread_mutex_lock(&load_lock);
    if (!loaded && load(why, cap) == 0) loaded = 1;
    const int ok = loaded;
    pthread_mutex_unlock(&load_lock);
    return ok ? 0 : -1;
}

void oct_cu_describe(CUresult result, char *text, size_t cap) {
    const char *name = NULL, *sentence = NULL;
    if (oct_cu.cuGetErrorName(result, &name) != CUDA_SUCCESS || !name) name = "unknown error";
    if (oct_cu.cuGetErrorString(result, &sentence) != CUDA_SUCCESS || !sentence) sentence = "";
    snprintf(text, cap, "%s, code %d%s%s", name, (int)result, sentence[0] ? ": " : "", sentence);
}
