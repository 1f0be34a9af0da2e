/*
 * octet/status.h - the codes that cross the boundary between octet and a device plug-in.
 * Values are never reused or renumbered.
 */
#ifndef OCTET_STATUS_H
#define OCTET_STATUS_H

#define OCTET_OK 0
#define OCTET_E_INVALID 1     /* an argument is out of contract */
#define OCTET_E_CORRUPT 2     /* data contradicts itself */
#define OCTET_E_UNSUPPORTED 3 /* well formed, but not something this side does */
#define OCTET_E_NOMEM 4       /* memory refused */
#define OCTET_E_FULL 5        /* a bounded resource is used up for now */
#define OCTET_E_IO 6          /* the operating system refused */
#define OCTET_E_DEVICE 7      /* the device refused or is lost */
#define OCTET_E_CANCELLED 8   /* called off */

#endif
