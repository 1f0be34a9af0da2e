/* api/models.c - the small routes: models, health, version, load. */
#include "api/parts.h"

static void write_card(const oct_api *api, const char *name, oct_buf *b) {
    oct_buf_cstr(b, "{\"id\":");
    oct_api_write_string(b, name);
    oct_buf_printf(b, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"vllm\",\"root\":",
                   (long long)api->created);
    oct_api_write_string(b, api->cfg.root);
    oct_buf_printf(b, ",\"parent\":null,\"max_model_len\":%u,\"permission\":[{\"id\":\"modelperm-",
                   api->info.max_model_len);
    oct_buf_printf(b, "%016llx", (unsigned long long)api->created);
    oct_buf_printf(b, "\",\"object\":\"model_permission\",\"created\":%lld,",
                   (long long)api->created);
    oct_buf_cstr(b,
                 "\"allow_create_engine\":false,\"allow_sampling\":true,\"allow_logprobs\":true,"
                 "\"allow_search_indices\":false,\"allow_view\":true,\"allow_fine_tuning\":false,"
                 "\"organization\":\"*\",\"group\":null,\"is_blocking\":false}]}");
}

void oct_api_route_models(oct_api *api, oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < api->cfg.n_names; i++) {
        if (i > 0) oct_buf_char(&b, ',');
        write_card(api, api->cfg.names[i], &b);
    }
    oct_buf_cstr(&b, "]}");
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}

void oct_api_route_health(oct_api *api, oct_http_exchange *x) {
    oct_api_error e = {0};
    oct_err err = {0};
    oct_status st = OCT_OK;
    oct_buf b;
    if (atomic_load(&api->draining))
        st = oct_api_refuse(&e, OCT_API_BUSY, NULL, "the server is stopping");
    else if (!oct_engine_health(api->cfg.engine, &err))
        st = oct_api_refuse(&e, OCT_API_BUSY, NULL, "%.*s", OCT_API_REASON, err.text);
    if (st != OCT_OK) {
        oct_api_answer_error(api, x, &e);
        return;
    }
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, "{\"status\":\"ok\"}");
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}

void oct_api_route_version(oct_api *api, oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_buf_cstr(&b, "{\"version\":");
    oct_api_write_string(&b, api->cfg.version);
    oct_buf_char(&b, '}');
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}

void oct_api_route_load(oct_api *api, oct_http_exchange *x) {
    oct_buf b;
    oct_buf_init(&b, api->mem, 0);
    oct_buf_printf(&b, "{\"server_load\":%u}",
                   api->cfg.track_server_load ? oct_api_n_jobs(api) : 0);
    oct_api_answer(api, x, 200, &b);
    oct_buf_fini(&b);
}
