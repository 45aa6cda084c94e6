/* SPDX-License-Identifier: MIT */
/*
 * Checks of the dirty log: what the backend wrote is marked, in time, and
 * nothing beside the log is.
 */
#include "vu/check/rows.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/virtio_config.h>

#include "base/cleanup.h"
#include "vu/check/device.h"

#define GROUP		"log"
#define NO_PACKED	(1ull << VIRTIO_F_RING_PACKED)
#define PAGE		4096u

/* One bit a page, up to the end of the higher half. */
struct log {
	int		fd;
	uint64_t	bytes;
	_Atomic uint8_t	*bits;
};

static int open_log(struct ferry_vc *c, struct log *l, uint64_t bytes)
{
	l->bytes = bytes;
	l->fd = memfd_create("ferry-vhost-check-log", MFD_CLOEXEC);
	if (l->fd < 0 || ftruncate(l->fd, (off_t)bytes))
		return ferry_vc_fail(c, "a log: %s", strerror(errno));
	l->bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd,
		       0);
	return l->bits == MAP_FAILED ?
	       ferry_vc_fail(c, "a log: %s", strerror(errno)) : 0;
}

static void close_log(struct log *l)
{
	if (l->bits && l->bits != MAP_FAILED)
		munmap((void *)l->bits, l->bytes);
	ferry_cleanup_fd(&l->fd);
}

static uint64_t whole_bytes(void)
{
	return (ferry_vc_gpa(FERRY_VC_MEM_BYTES - 1) / PAGE / 64 + 1) * 8;
}

static bool is_marked(const struct log *l, uint64_t at)
{
	uint64_t page = ferry_vc_gpa(at) / PAGE;

	return atomic_load(&l->bits[page / 8]) >> page % 8 & 1;
}

static bool is_clean(const struct log *l)
{
	for (uint64_t i = 0; i < l->bytes; i++)
		if (atomic_load(&l->bits[i]))
			return false;
	return true;
}

static int give(struct ferry_vc *c, const struct log *l)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_LOG_BASE,
		.log = { .bytes = l->bytes },
	};

	return ferry_vc_ask(c, &m, &l->fd, 1, NULL);
}

/* Of the queue that is asked; as QEMU begins and ends it. */
static int turn(struct ferry_vc *c, bool on)
{
	uint64_t all = on ? FERRY_VU_VIRTIO_F_LOG_ALL : 0;

	return ferry_vc_set(c, FERRY_VU_SET_FEATURES, c->features | all) ||
	       ferry_vc_place_ring(c, ferry_vc_asked(c), on) ? -1 : 0;
}

/* 0; or what a check without a log ends with. */
static int needs(struct ferry_vc *c)
{
	if (!ferry_vc_has(c, FERRY_VU_F_LOG_SHMFD))
		return ferry_vc_not_offered(c, "LOG_SHMFD: no precopy");
	if (!(c->offered & FERRY_VU_VIRTIO_F_LOG_ALL))
		return ferry_vc_not_offered(c, "feature 26, LOG_ALL: no "
					    "precopy");
	return 0;
}

static int with_log(struct ferry_vc *c, uint64_t bytes,
		    int (*then)(struct ferry_vc *c, struct log *l))
{
	struct log l = { .fd = -1 };
	int rc = ferry_vc_start(c, NO_PACKED);

	if (!rc)
		rc = needs(c);
	if (!rc)
		rc = open_log(c, &l, bytes);
	if (!rc)
		rc = give(c, &l) || turn(c, true) ? -1 : then(c, &l);
	close_log(&l);
	return rc;
}

static int on_and_off(struct ferry_vc *c, struct log *l)
{
	(void)l;
	return turn(c, false);
}

static int look_at_used(struct ferry_vc *c, struct log *l)
{
	uint32_t base;

	if (ferry_vc_once(c) ||
	    ferry_vc_stop_ring(c, ferry_vc_asked(c), &base))
		return -1;
	return is_marked(l, c->guest.queue[ferry_vc_asked(c)].used) ? 0 :
	       ferry_vc_fail(c, "the used ring was written and is not marked "
			     "when GET_VRING_BASE is answered");
}

static int look_at_buffer(struct ferry_vc *c, struct log *l)
{
	uint64_t at = ferry_vc_request_at(c, 0);
	uint32_t base;

	if (ferry_vc_once(c) ||
	    ferry_vc_stop_ring(c, ferry_vc_asked(c), &base))
		return -1;
	if (c->how->device == FERRY_VU_NET)
		return is_marked(l, at) ?
		       ferry_vc_fail(c, "a buffer that is only read was marked "
				     "as written") : 0;
	if (!is_marked(l, at + 0x1000))
		return ferry_vc_fail(c, "data was written to a buffer and is "
				     "not marked");
	return is_marked(l, at + 0x2000) ? 0 :
	       ferry_vc_fail(c, "the status octet was written and is not "
			     "marked");
}

static int look_behind(struct ferry_vc *c, struct log *l)
{
	if (ferry_vc_once(c) || turn(c, false))
		return -1;
	for (uint64_t i = 0; i < l->bytes; i++)
		atomic_store(&l->bits[i], 0);
	if (ferry_vc_once(c))
		return -1;
	return is_clean(l) ? 0 : ferry_vc_fail(c, "marked, when logging was "
					       "turned off");
}

static int ask_beyond(struct ferry_vc *c, struct log *l)
{
	(void)l;
	/* How the request itself ends is the backend's business. */
	(void)ferry_vc_once(c);
	return ferry_vc_alive(c);
}

static int base(struct ferry_vc *c)
{
	return with_log(c, whole_bytes(), on_and_off);
}

static int used(struct ferry_vc *c)
{
	return with_log(c, whole_bytes(), look_at_used);
}

static int buffer(struct ferry_vc *c)
{
	return with_log(c, whole_bytes(), look_at_buffer);
}

static int off(struct ferry_vc *c)
{
	return with_log(c, whole_bytes(), look_behind);
}

static int bounds(struct ferry_vc *c)
{
	return with_log(c, PAGE, ask_beyond);
}

static const struct ferry_vc_row rows[] = {
	{ { GROUP, "log", "a log is taken, turned on and off" }, .run = base },
	{ { GROUP, "log-used", "the used ring is marked before the ring has "
	    "stopped" }, .asks = true, .run = used },
	{ { GROUP, "log-buffer", "so are buffers that it wrote, and no others" },
	  .asks = true, .run = buffer },
	{ { GROUP, "log-off", "nothing is marked when it is turned off" },
	  .asks = true, .run = off },
	{ { GROUP, "log-bounds", "memory behind the log's end costs nothing "
	    "but its bits" }, .asks = true, .run = bounds },
};

const struct ferry_vc_group ferry_vc_log = { rows, FERRY_LEN(rows) };
