/*
 * model/shelves.c - what blocks of the cache held, kept in host memory. All shelves are one piece
 * of memory, the device's own where it has some, so that copies run at full speed. On the CPU its
 * pages are not touched before they are used.
 */
#include "base/assert.h"
#include "base/checked.h"
#include "model/parts.h"

oct_status oct_model_shelves_create(oct_model *m, uint32_t n, oct_err *err) {
    uint64_t bytes;
    OCT_ASSERT(!m->shelves && n > 0);
    if (oct_mul_u64(n, m->info.kv_bytes_per_block, &bytes) && bytes <= SIZE_MAX)
        m->shelves = oct_device_host_alloc(m->device, (size_t)bytes, &m->shelves_fast);
    if (!m->shelves)
        return OCT_FAIL(err, OCT_E_NOMEM,
                        "--kv-offloading-size: no host memory for %u blocks of %llu bytes", n,
                        (unsigned long long)m->info.kv_bytes_per_block);
    m->n_shelves = n;
    return OCT_OK;
}

void oct_shelves_fini(oct_model *m) {
    oct_device_host_free(m->device, m->shelves, (size_t)(m->n_shelves * m->info.kv_bytes_per_block),
                         m->shelves_fast);
    m->shelves = NULL;
}

void *oct_model_shelf(const oct_model *m, uint32_t shelf) {
    OCT_ASSERT(shelf < m->n_shelves);
    return m->shelves + (size_t)(shelf * m->info.kv_bytes_per_block);
}

oct_status oct_model_move(oct_model *m, uint32_t block, uint32_t shelf, bool to_shelf,
                          oct_err *err) {
    const octet_device_ops *ops = m->device->ops;
    unsigned char *host = oct_model_shelf(m, shelf);
    OCT_ASSERT(m->kv_buffer && block < m->n_blocks);
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        const octet_kv_desc *kv = &m->layers[l].kv;
        octet_ref at = kv->base;
        at.offset += block * kv->block_bytes;
        OCT_TRY(oct_device_check(m->device,
                                 to_shelf ? ops->read(m->stream, host, at, kv->block_bytes)
                                          : ops->write(m->stream, at, host, kv->block_bytes),
                                 to_shelf ? "read" : "write", err));
        host += kv->block_bytes;
    }
    return OCT_OK;
}

oct_status oct_model_moves_wait(oct_model *m, oct_err *err) {
    OCT_ASSERT(m->n_pending == 0);
    return oct_device_check(m->device, m->device->ops->stream_wait(m->stream), "copy", err);
}
