/* apps/serve/info.c - what GET /server_info tells: flags, environment, system. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "serve.h"

extern char **environ;

/* Names of what nobody is told. */
static bool is_secret(const char *name) {
    static const char *const words[] = {"KEY", "key", "TOKEN", "token", "SECRET", "PASSWORD"};
    for (size_t i = 0; i < OCT_COUNT(words); i++)
        if (strstr(name, words[i]) && !strstr(name, "tokens") && !strstr(name, "tokenizer"))
            return true;
    return false;
}

static json_t *text_or_null(const char *s) { return s ? json_string(s) : json_null(); }

static json_t *value_of(const cli_flag *f) {
    switch (f->type) {
    case CLI_SWITCH:
        return json_boolean(*(const bool *)f->out);
    case CLI_STRING:
    case CLI_JSON:
    case CLI_CHOICE:
        return text_or_null(*(const char *const *)f->out);
    case CLI_COUNT:
        return json_integer((json_int_t) * (const uint64_t *)f->out);
    case CLI_NUMBER:
        return json_real(*(const double *)f->out);
    case CLI_STRINGS:
        break;
    }
    const cli_strings *list = f->out;
    json_t *array = json_array();
    for (unsigned i = 0; i < list->n; i++)
        if (array) (void)json_array_append_new(array, json_string(list->at[i]));
    return array;
}

json_t *serve_settings(const cli_group *groups, size_t n) {
    json_t *all = json_object();
    for (size_t g = 0; all && g < n; g++)
        for (size_t i = 0; i < groups[g].n; i++) {
            const cli_flag *f = &groups[g].flags[i];
            char name[64];
            size_t k = 0;
            if (is_secret(f->name)) continue;
            for (; f->name[k] && k + 1 < sizeof name; k++)
                name[k] = f->name[k] == '-' ? '_' : f->name[k];
            name[k] = '\0';
            (void)json_object_set_new(all, name, value_of(f));
        }
    return all;
}

static json_t *environment(void) {
    json_t *all = json_object();
    for (char **e = environ; all && *e; e++) {
        char name[128];
        const char *equals = strchr(*e, '=');
        const size_t len = equals ? (size_t)(equals - *e) : 0;
        if (len == 0 || len >= sizeof name) continue;
        memcpy(name, *e, len);
        name[len] = '\0';
        if (strncmp(name, "VLLM_", 5) != 0 && strncmp(name, "OCTET_", 6) != 0) continue;
        if (!is_secret(name)) (void)json_object_set_new(all, name, json_string(equals + 1));
    }
    return all;
}

static json_t *this_system(const server *s) {
    struct utsname u;
    const octet_device_info *d = &s->m.device->info;
    json_t *all = json_object();
    if (!all) return NULL;
    if (uname(&u) == 0) {
        (void)json_object_set_new(all, "os", json_sprintf("%s %s", u.sysname, u.release));
        (void)json_object_set_new(all, "machine", json_string(u.machine));
    }
    (void)json_object_set_new(all, "octet_version", json_string(OCT_VERSION));
    (void)json_object_set_new(all, "device", json_string(d->name));
    (void)json_object_set_new(all, "device_memory_bytes",
                              json_integer((json_int_t)d->mem_total_bytes));
    (void)json_object_set_new(all, "fingerprint", json_string(s->fingerprint));
    return all;
}

int serve_make_info(server *s) {
    if (!s->o.dev_mode) return -1;
    s->info[0] = json_incref(s->o.settings);
    s->info[1] = environment();
    s->info[2] = this_system(s);
    if (s->info[0] && s->info[1] && s->info[2]) return -1;
    return cli_fail(EXIT_SYSTEM, "serve: no memory");
}
