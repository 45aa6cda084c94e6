/* SPDX-License-Identifier: MIT */
/*
 * A package: what follows PACKAGED, a stream of sections of its own.  A reader
 * that does not know the devices inside peels what it must know off the ends.
 * Pure, any thread; borrows the octets.
 */
#ifndef FERRY_WIRE_PACKAGE_H
#define FERRY_WIRE_PACKAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/dialect.h"

#define FERRY_PACKAGE_PINGS_MAX	8u

struct ferry_package {
	const uint8_t	*devices;	/* FULL sections and their footers */
	size_t		 device_bytes;
	bool		 listen;	/* begins with POSTCOPY_LISTEN */
	uint32_t	 ping[FERRY_PACKAGE_PINGS_MAX];	/* in order */
	uint32_t	 pings;
};

/*
 * From QEMU: LISTEN first, RUN last, PINGs before it.
 * From a ferry: LISTEN first in postcopy only; no RUN, no PING.
 * It cannot be mistaken: a FULL section ends with a footer, whose first octet
 * 0x7e stands where RUN has 08 and PING has 04.
 */
FERRY_CHECKED int ferry_package_peel(const void *data, size_t bytes,
				     enum ferry_dialect peer,
				     struct ferry_package *p,
				     struct ferry_err *e);

#endif
