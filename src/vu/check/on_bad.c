/* SPDX-License-Identifier: MIT */
/*
 * Checks of what a backend makes of messages that no front-end sends, and of
 * rings that no driver makes.  It may refuse or hang up; it must not take them
 * for good, and must be there for the next front-end.
 */
#include "vu/check/rows.h"

#include <string.h>
#include <time.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/cleanup.h"
#include "vu/check/device.h"

#define GROUP	"bad"

/* ---- messages ------------------------------------------------------------ */

#define WORDS	20u		/* of 32 bits */
#define ASK	(FERRY_VU_VERSION | FERRY_VU_NEED_REPLY)

struct message {
	uint32_t	request, flags;
	uint32_t	bytes;		/* as the header says */
	uint32_t	words;		/* that are sent */
	uint32_t	word[WORDS];
	unsigned	fds;
	bool		memory;		/* is told before */
	bool		late;		/* may be found out when it is used */
};

static int send_bad(struct ferry_vc *c)
{
	const struct message *bad = c->row->arg;
	uint32_t octets[3 + WORDS] = { bad->request, bad->flags, bad->bytes };
	int fds[FERRY_VU_FDS_MAX];
	struct ferry_vu_msg m = { 0 };

	if (ferry_vc_agree(c, 0) || (bad->memory && ferry_vc_give_memory(c)))
		return -1;
	memcpy(octets + 3, bad->word, sizeof(uint32_t) * bad->words);
	for (unsigned i = 0; i < FERRY_VU_FDS_MAX; i++)
		fds[i] = c->guest.mem_fd;
	switch (ferry_vc_send_raw(c, octets, 12 + 4 * bad->words, fds,
				  bad->fds, (bad->flags & ASK) == ASK &&
				  ferry_vc_has(c, FERRY_VU_F_REPLY_ACK), &m)) {
	case FERRY_VC_ANSWERED:
		if (m.h.bytes == sizeof(m.u64) && !m.u64 && !bad->late)
			return ferry_vc_fail(c, "it was acknowledged as done");
		break;
	case FERRY_VC_CLOSED:
	case FERRY_VC_SILENT:
		break;
	}
	return ferry_vc_alive(c);
}

static const struct message
version_0 = { FERRY_VU_SET_OWNER, FERRY_VU_NEED_REPLY, 0 },
unknown = { 200, ASK, 0 },
huge = { FERRY_VU_SET_FEATURES, ASK, 0xffffffff, 2, { 0 } },
half = { FERRY_VU_SET_MEM_TABLE, FERRY_VU_VERSION, 40, 2, { 1, 0 } },
table_no_fds = { FERRY_VU_SET_MEM_TABLE, ASK, 40, 10,
		 { 1, 0, 0, 0, 0x200000, 0, 0, 1, 0, 0 } },
table_more = { FERRY_VU_SET_MEM_TABLE, ASK, 40, 10,
	       { 200, 0, 0, 0, 0x200000, 0, 0, 1, 0, 0 }, 1 },
table_wraps = { FERRY_VU_SET_MEM_TABLE, ASK, 40, 10,
		{ 1, 0, 0xfffff000, 0xffffffff, 0x200000, 0,
		  0xfffff000, 0xffffffff, 0, 0 }, 1 },
table_beyond = { FERRY_VU_SET_MEM_TABLE, ASK, 40, 10,
		 { 1, 0, 0, 0, 0, 0x4000, 0, 1, 0, 0xffffff00 }, 1 },
ring_far = { FERRY_VU_SET_VRING_NUM, ASK, 8, 2, { 60000, 64 } },
ring_zero = { FERRY_VU_SET_VRING_NUM, ASK, 8, 2, { 0, 0 } },
ring_vast = { FERRY_VU_SET_VRING_NUM, ASK, 8, 2, { 0, 0x10000 } },
base_far = { FERRY_VU_GET_VRING_BASE, ASK, 8, 2, { 60000, 0 } },
kick_far = { FERRY_VU_SET_VRING_KICK, ASK, 8, 2, { 250, 0 }, 1 },
addr_outside = { FERRY_VU_SET_VRING_ADDR, ASK, 40, 10,
		 { 0, 0, 0x1000, 0, 0x2000, 0, 0x3000, 0, 0, 0 },
		 .memory = true, .late = true },
log_no_fd = { FERRY_VU_SET_LOG_BASE, ASK, 16, 4, { 4096, 0, 0, 0 } },
config_far = { FERRY_VU_GET_CONFIG, ASK, 20, 5,
	       { 0xfffffff0, 8, 0, 0, 0 } },
inflight_vast = { FERRY_VU_GET_INFLIGHT_FD, ASK, 24, 6,
		  { 0, 0, 0, 0, 0xffffffff, 0 } },
many_fds = { FERRY_VU_SET_OWNER, ASK, 0, 0, { 0 }, FERRY_VU_FDS_MAX };

static int early_end(struct ferry_vc *c)
{
	static const uint8_t part[5] = { FERRY_VU_GET_FEATURES };
	struct ferry_vu_msg m;

	(void)ferry_vc_send_raw(c, part, sizeof(part), NULL, 0, false, &m);
	return ferry_vc_alive(c);
}

/* ---- rings --------------------------------------------------------------- */

#define GIVE_UP_MS	200		/* for the backend to look at it */

typedef void spoil_fn(struct ferry_vc *c, struct vring_desc *d);

struct ring {
	spoil_fn	*spoil;
};

static void loop(struct ferry_vc *c, struct vring_desc *d)
{
	(void)c;
	d[0].flags |= VRING_DESC_F_NEXT;
	d[0].next = 1;
	d[1].flags |= VRING_DESC_F_NEXT;
	d[1].next = 0;
}

static void next_far(struct ferry_vc *c, struct vring_desc *d)
{
	(void)c;
	d[0].flags |= VRING_DESC_F_NEXT;
	d[0].next = 0xffff;
}

static void outside(struct ferry_vc *c, struct vring_desc *d)
{
	(void)c;
	d[0].addr = 0x123000;
}

static void wraps(struct ferry_vc *c, struct vring_desc *d)
{
	(void)c;
	d[0].addr = UINT64_MAX - 4095;
	d[0].len = 0xffffffff;
}

static void across(struct ferry_vc *c, struct vring_desc *d)
{
	(void)c;
	d[0].addr = ferry_vc_gpa(FERRY_VC_HALF - 1);
	d[0].len = 4096;
}

static void table_in_table(struct ferry_vc *c, struct vring_desc *d)
{
	uint64_t at = ferry_vc_request_at(c, 4);
	struct vring_desc inner = {
		.addr = ferry_vc_gpa(at), .len = 16,
		.flags = VRING_DESC_F_INDIRECT,
	};

	memcpy(c->guest.mem + at, &inner, sizeof(inner));
	d[0] = inner;
}

static void table_odd(struct ferry_vc *c, struct vring_desc *d)
{
	d[0].addr = ferry_vc_gpa(ferry_vc_request_at(c, 4));
	d[0].len = 17;
	d[0].flags = VRING_DESC_F_INDIRECT;
}

static void head_far(struct ferry_vc *c, struct vring_desc *d)
{
	const struct ferry_vc_queue *q = &c->guest.queue[ferry_vc_asked(c)];
	uint16_t head = 0xfff0;

	(void)d;
	memcpy(c->guest.mem + q->avail + 4, &head, sizeof(head));
}

static void too_many(struct ferry_vc *c, struct vring_desc *d)
{
	const struct ferry_vc_queue *q = &c->guest.queue[ferry_vc_asked(c)];
	uint16_t idx = 0x7fff;

	(void)d;
	memcpy(c->guest.mem + q->avail + 2, &idx, sizeof(idx));
}

static int run_ring(struct ferry_vc *c)
{
	const struct timespec pause = { .tv_nsec = GIVE_UP_MS * 1000000L };
	const struct ring *bad = c->row->arg;
	unsigned q = ferry_vc_asked(c);

	if (ferry_vc_start(c, 1ull << VIRTIO_F_RING_PACKED))
		return -1;
	ferry_vc_request(c, 0, false);
	bad->spoil(c, (void *)(c->guest.mem + c->guest.queue[q].desc));
	ferry_vc_kick(&c->guest, q);
	nanosleep(&pause, NULL);
	return ferry_vc_alive(c);
}

static const struct ring
ring_loop = { loop }, ring_next = { next_far }, ring_outside = { outside },
ring_wraps = { wraps }, ring_across = { across }, ring_table = { table_in_table },
ring_odd = { table_odd }, ring_head = { head_far }, ring_many = { too_many };

#define MESSAGE(name_, arg_, what_)					\
	{ { GROUP, name_, what_ }, .run = send_bad, .arg = &arg_ }
#define RING(name_, arg_, what_)					\
	{ { GROUP, name_, what_ }, .run = run_ring, .arg = &arg_ }

static const struct ferry_vc_row rows[] = {
	MESSAGE("version-0", version_0, "a header of version 0"),
	MESSAGE("unknown", unknown, "request 200"),
	MESSAGE("payload-huge", huge, "a payload of 4 GiB"),
	MESSAGE("payload-half", half, "a front-end that dies in a payload"),
	{ { GROUP, "header-half", "a front-end that dies in a header" },
	  .run = early_end },
	MESSAGE("descriptors", many_fds, "eight descriptors where none "
		"belongs"),
	MESSAGE("table-bare", table_no_fds, "memory without its descriptor"),
	MESSAGE("table-more", table_more, "200 regions in the space of one"),
	MESSAGE("table-wraps", table_wraps, "a region past the end of all "
		"addresses"),
	MESSAGE("table-beyond", table_beyond, "a region of 64 TiB, far into "
		"a small file"),
	MESSAGE("ring-far", ring_far, "ring 60000"),
	MESSAGE("ring-zero", ring_zero, "a ring of no descriptors"),
	MESSAGE("ring-vast", ring_vast, "a ring of 65536 descriptors"),
	MESSAGE("base-far", base_far, "where ring 60000 is"),
	MESSAGE("kick-far", kick_far, "the kick of ring 250"),
	MESSAGE("addr-outside", addr_outside, "a ring outside of memory"),
	MESSAGE("log-bare", log_no_fd, "a log without its descriptor"),
	MESSAGE("config-far", config_far, "configuration at 4 GiB"),
	MESSAGE("inflight-vast", inflight_vast, "an area for 65535 rings of "
		"65535"),
	RING("chain-loop", ring_loop, "a chain that never ends"),
	RING("chain-far", ring_next, "a chain that leads outside of its ring"),
	RING("head-far", ring_head, "a buffer outside of its ring"),
	RING("too-many", ring_many, "more buffers than the ring has"),
	RING("buffer-outside", ring_outside, "a buffer outside of memory"),
	RING("buffer-wraps", ring_wraps, "a buffer past the end of all "
	     "addresses"),
	RING("buffer-across", ring_across, "a buffer past the end of a region"),
	RING("table-in-table", ring_table, "an indirect table in another"),
	RING("table-odd", ring_odd, "an indirect table of one descriptor and "
	     "an octet"),
};

const struct ferry_vc_group ferry_vc_bad = { rows, FERRY_LEN(rows) };
