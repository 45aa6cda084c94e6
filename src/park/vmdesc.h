/* SPDX-License-Identifier: MIT */
/*
 * QEMU's description of its device state: JSON that follows the end of a
 * precopy stream and says, among much else, how long each device's section is.
 * Only that is kept of it.  Pure, but for the array; any thread.
 */
#ifndef FERRY_PARK_VMDESC_H
#define FERRY_PARK_VMDESC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

struct ferry_vmdesc_device {
	char		name[FERRY_NAME_MAX + 1];
	uint32_t	instance;
	uint64_t	bytes;		/* of the section's body */
};

struct ferry_vmdesc {
	struct ferry_vmdesc_device *device;	/* heap */
	size_t		devices;		/* <= FERRY_SECTIONS_MAX */
	size_t		wrong_at;		/* after a failure: octet */
};

/* All octets are one JSON object and white space.  On failure *v is empty. */
FERRY_CHECKED int ferry_vmdesc_parse(const void *text, size_t bytes,
				     struct ferry_vmdesc *v,
				     struct ferry_err *e);
void ferry_vmdesc_fini(struct ferry_vmdesc *v);

/* False when it does not know the device. */
bool ferry_vmdesc_find(const struct ferry_vmdesc *v, const char *name,
		       uint32_t instance, uint64_t *bytes);

/* FULL sections that lie end to end, each as long as it says, and nothing
 * else. */
bool ferry_vmdesc_covers(const struct ferry_vmdesc *v, const void *sections,
			 size_t bytes);

#endif
