/* tests/abi/headers.c - each public header compiles alone in C11, in either order, twice. */
#include <octet/octet.h>

#include <octet/device.h>

#include <octet/status.h>

#include <octet/device.h>

#include <octet/octet.h>

/* The entry point has the type the header promises. */
octet_device_plugin_fn octet_device_plugin_v1;
int abi_headers_c(const octet_device_ops *ops);
int abi_headers_c(const octet_device_ops *ops) {
    return OCTET_HAS(ops, sample) ? OCTET_OK : OCTET_E_UNSUPPORTED;
}

/* Poll has the type that a program in another language binds. */
int32_t (*const abi_poll_c)(octet_request *, int32_t, octet_output *) = octet_poll;
