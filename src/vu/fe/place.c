/* SPDX-License-Identifier: MIT */
/*
 * Where a queue stands whose backend died.
 *
 * A split ring says it in guest memory: used->idx.  That is where the next one
 * begins; an in-flight area tells it which of the buffers behind that were
 * begun, and in which order.  A packed ring says it in its in-flight area and
 * nowhere else, so without one the place dies with the backend.
 */
#include "vu/fe/fe.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#define AREA_ALIGN	64u	/* of each queue's part of an area */
#define AREA_HEAD	32u	/* packed: octets before its entries, */
#define AREA_ENTRY	32u	/* and of each */
#define AREA_VERSION	1u	/* 0: no backend has begun with it */
#define WRAP		0x8000u

/* What stands at the head of a packed queue's part (vhost-user, "Inflight I/O
 * tracking"). */
struct head {
	uint64_t	features;
	uint16_t	version, entries;
	uint16_t	free, old_free;
	uint16_t	used, old_used;
	uint8_t		wrap, old_wrap;
	uint8_t		zero[10];
};

_Static_assert(sizeof(struct head) == AREA_HEAD, "the specification's layout");

/*
 * Read by the kernel: in postcopy the page may be missing, and may never come,
 * and that is to be an error then, no signal.
 */
static bool read_used(const struct ferry_vhost_fe *f,
		      struct ferry_vhost_fe_queue *q)
{
	uint16_t idx;
	struct iovec to = { &idx, sizeof(idx) };
	struct iovec from = { ferry_vf_host(f, q->used + 2, sizeof(idx)),
			      sizeof(idx) };

	if (!from.iov_base ||
	    process_vm_readv(getpid(), &to, 1, &from, 1, 0) != sizeof(idx))
		return false;
	q->base = idx;
	return true;
}

/*
 * A batch that was not shown to the driver is begun anew: hence what is old.
 * A backend that finds that it was shown goes on behind it; it has to look into
 * the area anyway.
 */
static bool read_area(const struct ferry_vhost_fe *f,
		      struct ferry_vhost_fe_queue *q)
{
	const struct ferry_vf_inflight *in = &f->want.inflight;
	uint64_t part = (AREA_HEAD + (uint64_t)AREA_ENTRY *
			 in->area.queue_size + AREA_ALIGN - 1) /
			AREA_ALIGN * AREA_ALIGN;
	uint64_t at = part * q->index;
	struct head h;
	uint32_t place;

	/* Only of memory that has seals a read is sure to end. */
	if (in->fd < 0 || q->index >= in->area.queues ||
	    q->entries > in->area.queue_size || in->area.bytes < at + part ||
	    in->area.fd_offset > INT64_MAX - at ||
	    fcntl(in->fd, F_GET_SEALS) < 0 ||
	    pread(in->fd, &h, sizeof(h), (off_t)(in->area.fd_offset + at)) !=
	    sizeof(h))
		return false;
	if (!h.version)		/* nothing was taken since it was started */
		return true;
	if (h.version != AREA_VERSION || h.old_used >= q->entries)
		return false;
	place = h.old_used | (h.old_wrap ? WRAP : 0);
	q->base = place | place << 16;
	return true;
}

bool ferry_vf_find_place(const struct ferry_vhost_fe *f,
			 struct ferry_vhost_fe_queue *q)
{
	return ferry_vf_is_packed(f) ? read_area(f, q) : read_used(f, q);
}
