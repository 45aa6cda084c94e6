/* SPDX-License-Identifier: MIT */
/*
 * The list of bulk devices, and the handle that their callbacks are given.
 */
#include "dev/bulk.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the list ------------------------------------------------------------ */

const struct ferry_bulk_dev *ferry_bulk_find(const struct ferry_bulk_list *l,
					     const char *name,
					     uint32_t instance)
{
	for (uint32_t i = 0; i < l->devs; i++)
		if (strcmp(l->dev[i].name, name) == 0 &&
		    l->dev[i].instance == instance)
			return &l->dev[i];
	return NULL;
}

int ferry_bulk_list_add(struct ferry_bulk_list *l,
			const struct ferry_bulk_dev *dev, struct ferry_err *e)
{
	struct ferry_bulk_dev *grown;

	if (ferry_bulk_find(l, dev->name, dev->instance))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "bulk device %s/%" PRIu32 " is there "
				     "twice", dev->name, dev->instance);
	if (l->devs == FERRY_BULK_DEVICES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "bulk device %s: more than %u of them",
				     dev->name, FERRY_BULK_DEVICES_MAX);
	grown = realloc(l->dev, (l->devs + 1) * sizeof(*grown));
	if (!grown)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "bulk device %s", dev->name);
	l->dev = grown;
	l->dev[l->devs++] = *dev;
	return 0;
}

void ferry_bulk_list_fini(struct ferry_bulk_list *l)
{
	free(l->dev);
	*l = (struct ferry_bulk_list){ 0 };
}

void ferry_bulk_name_stats(const struct ferry_bulk_dev *dev,
			   struct ferry_bulk_stats *all,
			   struct ferry_bulk_stats *out)
{
	all->size = out->size;
	all->instance = dev->instance;
	snprintf(all->name, sizeof(all->name), "%s", dev->name);
	memcpy(out, all, out->size < sizeof(*all) ? out->size : sizeof(*all));
}

/* ---- the handle ---------------------------------------------------------- */

int ferry_bulk_init(struct ferry_bulk *b, struct ferry_err *e)
{
	*b = (struct ferry_bulk){
		.over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (b->over_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	return 0;
}

void ferry_bulk_fini(struct ferry_bulk *b)
{
	if (b->over_fd >= 0)
		close(b->over_fd);
	b->over_fd = -1;
}

/* It cannot fail: the counter holds more than anybody raises. */
void ferry_bulk_raise(struct ferry_bulk *b)
{
	(void)!eventfd_write(b->over_fd, 1);
}

void ferry_bulk_lower(struct ferry_bulk *b)
{
	eventfd_t ignored;

	(void)!eventfd_read(b->over_fd, &ignored);
}

int ferry_bulk_fd(const struct ferry_bulk *b)
{
	return b->over_fd;
}

int ferry_bulk_is_over(const struct ferry_bulk *b)
{
	struct pollfd p = { .fd = b->over_fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

int ferry_bulk_write(struct ferry_bulk *b, const void *data, size_t bytes,
		     unsigned flags, struct ferry_err *e)
{
	const unsigned known = FERRY_BULK_INITIAL | FERRY_BULK_CONFIG;
	const uint8_t *at = data;

	if (!b->write)
		return ferry_err_set(e, FERRY_E_STATE, 0, "a bulk device "
				     "hands out at the source only");
	if (flags & ~known)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "a bulk device "
				     "hands out with flags 0x%x", flags);
	for (; bytes > FERRY_BULK_BUFFER_MAX; bytes -= FERRY_BULK_BUFFER_MAX) {
		if (b->write(b->arg, at, FERRY_BULK_BUFFER_MAX, 0, e))
			return -1;
		at += FERRY_BULK_BUFFER_MAX;
	}
	return b->write(b->arg, at, bytes, flags, e);
}

const char *ferry_bulk_state_name(enum ferry_bulk_state state)
{
	static const char *const name[] = {
		[FERRY_BULK_STATE_NONE] = "none",
		[FERRY_BULK_STATE_ACTIVE] = "active",
		[FERRY_BULK_STATE_SAVING] = "saving",
		[FERRY_BULK_STATE_SAVED] = "saved",
		[FERRY_BULK_STATE_LOADED] = "loaded",
		[FERRY_BULK_STATE_FAILED] = "failed",
	};

	return (unsigned)state < sizeof(name) / sizeof(name[0]) ?
	       name[state] : "unknown";
}
