/* SPDX-License-Identifier: MIT */
/*
 * Device state: a registry of named, versioned, ordered sections.
 *
 * Threads: filled by one, then read-only.
 */
#ifndef FERRY_DEV_REGISTRY_H
#define FERRY_DEV_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/err.h"
#include "base/limits.h"

struct ferry_dev {
	char		 name[FERRY_NAME_MAX + 1];
	uint32_t	 instance;
	uint32_t	 version;
	struct ferry_device_ops ops;
	void		*opaque;
};

struct ferry_registry {
	struct ferry_dev *dev;
	uint32_t	 devs;
};

FERRY_CHECKED int ferry_registry_add(struct ferry_registry *r,
				     const char *name, uint32_t instance,
				     uint32_t version,
				     const struct ferry_device_ops *ops,
				     void *opaque, struct ferry_err *e);
void ferry_registry_fini(struct ferry_registry *r);

/* Octets that devices append to; grows, bounded by
 * FERRY_PACKAGE_BYTES_MAX.  The first failure sticks. */
struct ferry_save {
	uint8_t		*data;
	size_t		 bytes;
	size_t		 size;
	int		 failed;	/* errno, or 0 */
};

void ferry_save_fini(struct ferry_save *s);

/* n octets to fill, or NULL when it failed. */
uint8_t *ferry_save_room(struct ferry_save *s, size_t n);

/*
 * Append one FULL section per device, in order.  first_id is the section id
 * of the first.  Message names the device that failed.
 */
FERRY_CHECKED int ferry_dev_save_all(const struct ferry_registry *r,
				     uint32_t first_id, struct ferry_save *out,
				     struct ferry_err *e);

/*
 * Load sections until the data ends: each must be known, of a version not
 * above ours, there once; and none may lack.  Loaded in the order sent.
 */
FERRY_CHECKED int ferry_dev_load_all(const struct ferry_registry *r,
				     const uint8_t *data, size_t bytes,
				     struct ferry_err *e);

#endif
