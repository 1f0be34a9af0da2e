/*
 * quant/contract.c - the revision the header names is the one the device contract carries.
 */
#include "quant/contract.h"

#include <octet/device.h>

_Static_assert(OCT_NUMERICS_REV == OCTET_NUMERICS_REV,
               "docs/numerics.md, quant and octet/device.h speak of one revision");

/* The threshold spelled as bits is the number the contract names. */
_Static_assert(OCT_ROW_ABSMAX_MIN_BITS == (127u - 100u) << 23, "2^-100");
