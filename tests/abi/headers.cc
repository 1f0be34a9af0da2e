// tests/abi/headers.cc - the public headers in C++17, as a plug-in written in C++ includes them.
#include <octet/status.h>

#include <octet/device.h>

#include <octet/octet.h>

extern "C" octet_device_plugin_fn octet_device_plugin_v1;
int abi_headers_cxx(const octet_device_ops *ops);
int abi_headers_cxx(const octet_device_ops *ops) {
    return OCTET_HAS(ops, sample) ? OCTET_OK : OCTET_E_UNSUPPORTED;
}
