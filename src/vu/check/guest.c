/* SPDX-License-Identifier: MIT */
/*
 * See guest.h.
 */
#include "vu/check/guest.h"

#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* Three kinds of address that have nothing in common. */
static const struct ferry_vu_region halves[] = {
	{ 0x40000000, FERRY_VC_HALF, 0x7e0000000000, 0 },
	{ 0x100000000, FERRY_VC_HALF, 0x7e8000000000, FERRY_VC_HALF },
};

/* Each queue's rings lie in the half of its number, its requests in the
 * other. */
#define RINGS_AT	0x10000u
#define SCRATCH_AT	0x100000u
#define TABLES_AT	0x180000u	/* indirect ones */
#define TABLE_BYTES	0x1000u

int ferry_vc_guest_init(struct ferry_vc_guest *g, struct ferry_err *e)
{
	memset(g, 0, sizeof(*g));
	for (unsigned i = 0; i < FERRY_VC_QUEUES; i++)
		g->queue[i].kick = g->queue[i].call = -1;
	g->mem_fd = memfd_create("ferry-vhost-check", MFD_CLOEXEC);
	if (g->mem_fd < 0 || ftruncate(g->mem_fd, FERRY_VC_MEM_BYTES))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "guest memory: %s", strerror(errno));
	g->mem = mmap(NULL, FERRY_VC_MEM_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED, g->mem_fd, 0);
	if (g->mem != MAP_FAILED)
		return 0;
	g->mem = NULL;
	return ferry_err_set(e, FERRY_E_IO, errno, "guest memory: %s",
			     strerror(errno));
}

void ferry_vc_guest_fini(struct ferry_vc_guest *g)
{
	for (unsigned i = 0; i < FERRY_VC_QUEUES; i++) {
		ferry_cleanup_fd(&g->queue[i].kick);
		ferry_cleanup_fd(&g->queue[i].call);
	}
	if (g->mem)
		munmap(g->mem, FERRY_VC_MEM_BYTES);
	ferry_cleanup_fd(&g->mem_fd);
}

void ferry_vc_guest_table(const struct ferry_vc_guest *g,
			  struct ferry_vu_mem *table)
{
	(void)g;
	table->n = FERRY_LEN(halves);
	memcpy(table->region, halves, sizeof(halves));
}

static const struct ferry_vu_region *half_of(uint64_t at)
{
	return &halves[at >= FERRY_VC_HALF];
}

uint64_t ferry_vc_gpa(uint64_t at)
{
	return half_of(at)->gpa + at % FERRY_VC_HALF;
}

uint64_t ferry_vc_user_addr(uint64_t at)
{
	return half_of(at)->user_addr + at % FERRY_VC_HALF;
}

uint64_t ferry_vc_scratch(unsigned i)
{
	return (1 - i) * (uint64_t)FERRY_VC_HALF + SCRATCH_AT;
}

int ferry_vc_queue_new(struct ferry_vc_guest *g, unsigned i,
		       struct ferry_err *e)
{
	struct ferry_vc_queue *q = &g->queue[i];
	uint64_t at = i * (uint64_t)FERRY_VC_HALF + RINGS_AT;

	ferry_cleanup_fd(&q->kick);
	ferry_cleanup_fd(&q->call);
	*q = (struct ferry_vc_queue){
		.desc = at, .avail = at + 0x1000, .used = at + 0x2000,
		.size = FERRY_VC_QUEUE_SIZE,
		.avail_wrap = true, .seen_wrap = true,
		.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	memset(g->mem + at, 0, 0x3000);
	if (q->kick < 0 || q->call < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd: %s",
				     strerror(errno));
	return 0;
}

/* ---- making buffers available -------------------------------------------- */

static uint16_t flags_of(const struct ferry_vc_part *p, bool more)
{
	return (uint16_t)((p->write ? VRING_DESC_F_WRITE : 0) |
			  (more ? VRING_DESC_F_NEXT : 0));
}

/* A table of its own in guest memory; *one names it. */
static void make_table(struct ferry_vc_guest *g, unsigned i,
		       const struct ferry_vc_part *part, unsigned n,
		       struct ferry_vc_part *one)
{
	uint64_t at = (1 - i) * (uint64_t)FERRY_VC_HALF + TABLES_AT +
		      g->queue[i].next * (uint64_t)TABLE_BYTES;

	for (unsigned k = 0; k < n; k++) {
		struct vring_desc d = {
			.addr = ferry_vc_gpa(part[k].at),
			.len = part[k].bytes,
			.flags = flags_of(&part[k], k + 1 < n),
			.next = (uint16_t)(k + 1),
		};

		/* A packed one has the id before the flags, no chain. */
		if (g->packed) {
			d.next = flags_of(&part[k], false);
			d.flags = 0;
		}
		memcpy(g->mem + at + k * sizeof(d), &d, sizeof(d));
	}
	*one = (struct ferry_vc_part){
		.at = at, .bytes = (uint32_t)(n * sizeof(struct vring_desc)),
	};
}

static uint16_t put_split(struct ferry_vc_guest *g, struct ferry_vc_queue *q,
			  const struct ferry_vc_part *part, unsigned n,
			  uint16_t extra)
{
	struct vring_desc *d = (void *)(g->mem + q->desc);
	_Atomic uint16_t *avail = (void *)(g->mem + q->avail);
	uint16_t head = q->next;

	for (unsigned k = 0; k < n; k++) {
		uint16_t at = q->next;

		q->next = (uint16_t)((at + 1) % q->size);
		d[at] = (struct vring_desc){
			ferry_vc_gpa(part[k].at), part[k].bytes,
			flags_of(&part[k], k + 1 < n) | extra, q->next,
		};
	}
	atomic_store(&avail[2 + q->avail_idx % q->size], head);
	q->avail_idx++;
	atomic_store(&avail[1], q->avail_idx);
	return head;
}

static uint16_t put_packed(struct ferry_vc_guest *g, struct ferry_vc_queue *q,
			   const struct ferry_vc_part *part, unsigned n,
			   uint16_t extra)
{
	struct vring_packed_desc *d = (void *)(g->mem + q->desc);
	uint16_t id = q->avail_idx, first = 0;

	q->chain[id] = (uint16_t)n;
	q->next = (uint16_t)((q->next + 1) % q->size);	/* of tables */
	for (unsigned k = 0; k < n; k++) {
		struct vring_packed_desc *at = &d[q->avail_idx];
		uint16_t flags = (uint16_t)(flags_of(&part[k], k + 1 < n) |
			extra | 1u << (q->avail_wrap ? VRING_PACKED_DESC_F_AVAIL
						     : VRING_PACKED_DESC_F_USED));

		at->addr = ferry_vc_gpa(part[k].at);
		at->len = part[k].bytes;
		at->id = id;
		if (k)
			atomic_store((_Atomic uint16_t *)&at->flags, flags);
		else
			first = flags;
		if (++q->avail_idx == q->size) {
			q->avail_idx = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	atomic_store((_Atomic uint16_t *)&d[id].flags, first);
	return id;
}

uint16_t ferry_vc_put(struct ferry_vc_guest *g, unsigned i,
		      const struct ferry_vc_part *part, unsigned n,
		      bool indirect)
{
	struct ferry_vc_part one;
	uint16_t extra = 0;

	if (indirect) {
		make_table(g, i, part, n, &one);
		part = &one;
		n = 1;
		extra = VRING_DESC_F_INDIRECT;
	}
	return g->packed ? put_packed(g, &g->queue[i], part, n, extra) :
			   put_split(g, &g->queue[i], part, n, extra);
}

void ferry_vc_kick(struct ferry_vc_guest *g, unsigned i)
{
	(void)eventfd_write(g->queue[i].kick, 1);
}

/* ---- and used ones back -------------------------------------------------- */

static bool get_split(struct ferry_vc_guest *g, struct ferry_vc_queue *q,
		      uint16_t *id, uint32_t *bytes)
{
	_Atomic uint16_t *idx = (void *)(g->mem + q->used + 2);
	const struct vring_used_elem *one;

	if (atomic_load(idx) == q->seen)
		return false;
	one = (void *)(g->mem + q->used + 4 + sizeof(*one) *
		       (q->seen % q->size));
	*id = one->id < UINT16_MAX ? (uint16_t)one->id : UINT16_MAX;
	*bytes = one->len;
	q->seen++;
	/* The next one is to be told (event index). */
	atomic_store((_Atomic uint16_t *)(g->mem + q->avail + 4 + 2ull * q->size),
		     q->seen);
	return true;
}

static bool get_packed(struct ferry_vc_guest *g, struct ferry_vc_queue *q,
		       uint16_t *id, uint32_t *bytes)
{
	struct vring_packed_desc *d = (void *)(g->mem + q->desc);
	uint16_t flags = atomic_load((_Atomic uint16_t *)&d[q->seen].flags);
	uint32_t to;

	if (!!(flags & 1u << VRING_PACKED_DESC_F_AVAIL) != q->seen_wrap ||
	    !!(flags & 1u << VRING_PACKED_DESC_F_USED) != q->seen_wrap)
		return false;
	*id = d[q->seen].id;
	*bytes = d[q->seen].len;
	to = q->seen + q->chain[*id % q->size];
	if (to >= q->size) {
		to -= q->size;
		q->seen_wrap = !q->seen_wrap;
	}
	q->seen = (uint16_t)to;
	return true;
}

bool ferry_vc_get(struct ferry_vc_guest *g, unsigned i, uint16_t *id,
		  uint32_t *bytes)
{
	return g->packed ? get_packed(g, &g->queue[i], id, bytes) :
			   get_split(g, &g->queue[i], id, bytes);
}

bool ferry_vc_wait(struct ferry_vc_guest *g, unsigned i, unsigned limit_ms,
		   uint16_t *id, uint32_t *bytes)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	uint64_t until = ferry_now_ns() + limit_ms * 1000000ull;

	while (!ferry_vc_get(g, i, id, bytes)) {
		if (ferry_now_ns() > until)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

bool ferry_vc_interrupted(struct ferry_vc_guest *g, unsigned i,
			  unsigned limit_ms)
{
	struct pollfd p = { .fd = g->queue[i].call, .events = POLLIN };
	eventfd_t n;

	return poll(&p, 1, (int)limit_ms) == 1 &&
	       !eventfd_read(g->queue[i].call, &n);
}
