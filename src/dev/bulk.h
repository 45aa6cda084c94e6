/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices: the list of them, and what a device sees of a migration.
 *
 * Threads: the list is filled by one, then read-only.  A handle belongs to the
 *          device's thread, but for raise and lower: any.
 */
#ifndef FERRY_DEV_BULK_H
#define FERRY_DEV_BULK_H

#include <stdbool.h>

#include <ferry/bulk.h>

#include "base/err.h"
#include "base/limits.h"

struct ferry_bulk_dev {
	char		 name[FERRY_NAME_MAX + 1];
	uint32_t	 instance;
	uint32_t	 version;
	struct ferry_bulk_ops ops;
	void		*opaque;
};

struct ferry_bulk_list {
	struct ferry_bulk_dev *dev;
	uint32_t	 devs;
};

FERRY_CHECKED int ferry_bulk_list_add(struct ferry_bulk_list *l,
				      const struct ferry_bulk_dev *dev,
				      struct ferry_err *e);
void ferry_bulk_list_fini(struct ferry_bulk_list *l);

/* NULL when there is none. */
const struct ferry_bulk_dev *ferry_bulk_find(const struct ferry_bulk_list *l,
					     const char *name,
					     uint32_t instance);

/* *all with the device's name, cut to the size that *out has. */
void ferry_bulk_name_stats(const struct ferry_bulk_dev *dev,
			   struct ferry_bulk_stats *all,
			   struct ferry_bulk_stats *out);

/*
 * What callbacks are given.  Whoever tests a device makes one of its own.
 */
struct ferry_bulk {
	int		 over_fd;	/* eventfd */

	/* One piece, at most FERRY_BULK_BUFFER_MAX octets.  NULL at the
	 * target. */
	int		(*write)(void *arg, const void *data, size_t bytes,
				 unsigned flags, struct ferry_err *e);
	void		*arg;
};

FERRY_CHECKED int ferry_bulk_init(struct ferry_bulk *b, struct ferry_err *e);
void ferry_bulk_fini(struct ferry_bulk *b);

/* The callback is to return; and it is not any more. */
void ferry_bulk_raise(struct ferry_bulk *b);
void ferry_bulk_lower(struct ferry_bulk *b);

#endif
