/* tests/abi/headers.c - each public header compiles alone in C11, in either order, twice. */
#include <octet/device.h>

#include <octet/status.h>

#include <octet/device.h>

/* The entry point has the type the header promises. */
octet_device_plugin_fn octet_device_plugin_v1;
int abi_headers_c(const octet_device_ops *ops);
int abi_headers_c(const octet_device_ops *ops) {
    return OCTET_HAS(ops, sample) ? OCTET_OK : OCTET_E_UNSUPPORTED;
}
