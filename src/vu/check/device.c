/* SPDX-License-Identifier: MIT */
/*
 * See device.h.
 */
#include "vu/check/device.h"

#include <string.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#define BLK_BYTES	4096u
#define NET_HEAD_BYTES	12u
#define NET_BYTES	60u
#define REQUEST_BYTES	0x3000u
#define STATUS_AT	0x2800u		/* of a request's memory */
#define PACKED_START	0x80008000u	/* both wrap counters are 1 */

int ferry_vc_give_memory(struct ferry_vc *c)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_SET_MEM_TABLE };
	int fds[] = { c->guest.mem_fd, c->guest.mem_fd };

	ferry_vc_guest_table(&c->guest, &m.mem);
	return ferry_vc_ask(c, &m, fds, m.mem.n, NULL);
}

unsigned ferry_vc_asked(const struct ferry_vc *c)
{
	return c->how->device == FERRY_VU_NET ? 1 : 0;
}

unsigned ferry_vc_queues(const struct ferry_vc *c)
{
	return c->how->device == FERRY_VU_NET ? 2 : 1;
}

int ferry_vc_place_ring(struct ferry_vc *c, unsigned i, bool logged)
{
	const struct ferry_vc_queue *q = &c->guest.queue[i];
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_VRING_ADDR,
		.addr = {
			.index = i, .flags = logged ? FERRY_VU_ADDR_LOG : 0,
			.desc = ferry_vc_user_addr(q->desc),
			.avail = ferry_vc_user_addr(q->avail),
			.used = ferry_vc_user_addr(q->used),
			.log = ferry_vc_gpa(c->guest.packed ? q->desc :
					    q->used),
		},
	};

	return ferry_vc_ask(c, &m, NULL, 0, NULL);
}

int ferry_vc_start_ring(struct ferry_vc *c, unsigned i, uint32_t base,
			bool logged)
{
	const struct ferry_vc_queue *q = &c->guest.queue[i];
	uint32_t size = q->size, on = 1;

	if (ferry_vc_state(c, FERRY_VU_SET_VRING_NUM, i, &size) ||
	    ferry_vc_state(c, FERRY_VU_SET_VRING_BASE, i, &base) ||
	    ferry_vc_place_ring(c, i, logged) ||
	    ferry_vc_give(c, FERRY_VU_SET_VRING_KICK, i, q->kick) ||
	    ferry_vc_give(c, FERRY_VU_SET_VRING_CALL, i, q->call))
		return -1;
	if (!(c->features & FERRY_VU_VIRTIO_F_PROTOCOL))
		return 0;	/* then a ring is enabled from the start */
	return ferry_vc_state(c, FERRY_VU_SET_VRING_ENABLE, i, &on);
}

int ferry_vc_stop_ring(struct ferry_vc *c, unsigned i, uint32_t *base)
{
	*base = 0;
	return ferry_vc_state(c, FERRY_VU_GET_VRING_BASE, i, base);
}

int ferry_vc_driver_ok(struct ferry_vc *c)
{
	if (!ferry_vc_has(c, FERRY_VU_F_STATUS))
		return 0;
	return ferry_vc_set(c, FERRY_VU_SET_STATUS,
			    VIRTIO_CONFIG_S_ACKNOWLEDGE |
			    VIRTIO_CONFIG_S_DRIVER |
			    VIRTIO_CONFIG_S_FEATURES_OK |
			    VIRTIO_CONFIG_S_DRIVER_OK);
}

int ferry_vc_start(struct ferry_vc *c, uint64_t without)
{
	if (ferry_vc_agree(c, without) || ferry_vc_give_memory(c))
		return -1;
	c->guest.packed = c->features >> VIRTIO_F_RING_PACKED & 1;
	for (unsigned i = 0; i < ferry_vc_queues(c); i++)
		if (ferry_vc_queue_new(&c->guest, i, &c->err) ||
		    ferry_vc_start_ring(c, i, c->guest.packed ?
					PACKED_START : 0, false))
			return -1;
	return ferry_vc_driver_ok(c);
}

/* ---- requests ------------------------------------------------------------ */

uint64_t ferry_vc_request_at(const struct ferry_vc *c, unsigned n)
{
	return ferry_vc_scratch(ferry_vc_asked(c)) +
	       n % FERRY_VC_REQUESTS * (uint64_t)REQUEST_BYTES;
}

static uint16_t put_frame(struct ferry_vc *c, uint64_t at, bool indirect)
{
	const struct ferry_vc_part parts[] = {
		{ at, NET_HEAD_BYTES, false },
		{ at + 64, NET_BYTES, false },
	};

	/* A broadcast of a kind for experiments (IEEE 802, 0x88b5). */
	memset(c->guest.mem + at, 0, 64 + NET_BYTES);
	memset(c->guest.mem + at + 64, 0xff, 6);
	memcpy(c->guest.mem + at + 64 + 6, "\2ferry\x88\xb5", 8);
	return ferry_vc_put(&c->guest, ferry_vc_asked(c), parts, 2, indirect);
}

static uint16_t put_read(struct ferry_vc *c, uint64_t at, bool indirect)
{
	const struct virtio_blk_outhdr head = { .type = VIRTIO_BLK_T_IN };
	const struct ferry_vc_part parts[] = {
		{ at, sizeof(head), false },
		{ at + 0x1000, BLK_BYTES, true },
		{ at + STATUS_AT, 1, true },
	};

	memcpy(c->guest.mem + at, &head, sizeof(head));
	memset(c->guest.mem + at + STATUS_AT, 0xee, 1);
	return ferry_vc_put(&c->guest, ferry_vc_asked(c), parts, 3, indirect);
}

uint16_t ferry_vc_request(struct ferry_vc *c, unsigned n, bool indirect)
{
	uint64_t at = ferry_vc_request_at(c, n);

	return c->how->device == FERRY_VU_NET ? put_frame(c, at, indirect) :
						put_read(c, at, indirect);
}

int ferry_vc_done(struct ferry_vc *c, uint16_t *id)
{
	uint32_t bytes, most = BLK_BYTES + 1;

	if (!ferry_vc_wait(&c->guest, ferry_vc_asked(c), c->how->limit_ms, id,
			   &bytes))
		return ferry_vc_fail(c, "a request was not done in %u ms",
				     c->how->limit_ms);
	/* Of a packed buffer that is only read it means nothing. */
	if (c->how->device == FERRY_VU_NET)
		most = c->guest.packed ? UINT32_MAX : 0;
	if (bytes > most)
		return ferry_vc_fail(c, "%u octets are said to be written, "
				     "where %u is all that could", bytes, most);
	return 0;
}

int ferry_vc_once(struct ferry_vc *c)
{
	uint16_t put = ferry_vc_request(c, 0, false), got;
	uint8_t status;

	ferry_vc_kick(&c->guest, ferry_vc_asked(c));
	if (ferry_vc_done(c, &got))
		return -1;
	if (got != put)
		return ferry_vc_fail(c, "buffer %u was made available, %u is "
				     "used", put, got);
	status = c->guest.mem[ferry_vc_request_at(c, 0) + STATUS_AT];
	if (c->how->device == FERRY_VU_BLK && status != VIRTIO_BLK_S_OK)
		return ferry_vc_fail(c, "reading the first sectors ended with "
				     "status %u", status);
	return 0;
}
