/* SPDX-License-Identifier: MIT */
/*
 * Checks of rings: what is made available is used, once, and told.
 */
#include "vu/check/rows.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/cleanup.h"
#include "vu/check/device.h"

#define GROUP		"rings"
#define BIT(n)		(1ull << (n))
#define NO_PACKED	BIT(VIRTIO_F_RING_PACKED)
#define SPLIT_ONLY	(NO_PACKED | BIT(VIRTIO_RING_F_EVENT_IDX))

/* Many times a ring's size, so that its end is passed. */
#define MANY		(FERRY_VC_QUEUE_SIZE * 5u)

static int base_of(struct ferry_vc *c, uint32_t base)
{
	uint32_t got;

	if (ferry_vc_agree(c, NO_PACKED) || ferry_vc_give_memory(c) ||
	    ferry_vc_queue_new(&c->guest, 0, &c->err))
		return -1;
	/* A ring on which `base` buffers were made available and used. */
	memcpy(c->guest.mem + c->guest.queue[0].avail + 2, &base, 2);
	memcpy(c->guest.mem + c->guest.queue[0].used + 2, &base, 2);
	if (ferry_vc_start_ring(c, 0, base, false) ||
	    ferry_vc_stop_ring(c, 0, &got))
		return -1;
	return got == base ? 0 :
	       ferry_vc_fail(c, "GET_VRING_BASE: a ring that began at %u and "
			     "did nothing is at %u", base, got);
}

static int base_zero(struct ferry_vc *c)
{
	return base_of(c, 0);
}

static int base_kept(struct ferry_vc *c)
{
	return base_of(c, 40000);
}

/* QEMU 7.2 says SET_STATUS 0 before it asks where the rings are. */
static int base_behind_status(struct ferry_vc *c)
{
	uint32_t base;

	if (ferry_vc_start(c, NO_PACKED) || ferry_vc_once(c))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_STATUS))
		return ferry_vc_not_offered(c, "STATUS");
	if (ferry_vc_set(c, FERRY_VU_SET_STATUS, 0) ||
	    ferry_vc_stop_ring(c, ferry_vc_asked(c), &base))
		return -1;
	return base == 1 ? 0 : ferry_vc_fail(c, "GET_VRING_BASE behind "
					     "SET_STATUS 0: %u, not 1", base);
}

/* Put `n`, some at a time; each is used once. */
static int serve(struct ferry_vc *c, unsigned n, bool indirect)
{
	unsigned q = ferry_vc_asked(c), put = 0, done = 0;
	bool out[FERRY_VC_QUEUE_SIZE] = { false };
	uint16_t id;

	while (done < n) {
		for (; put < n && put - done < FERRY_VC_REQUESTS; put++)
			out[ferry_vc_request(c, put, indirect)] = true;
		ferry_vc_kick(&c->guest, q);
		if (ferry_vc_done(c, &id))
			return ferry_err_wrap(&c->err, "%u of %u", done + 1, n);
		if (id >= FERRY_VC_QUEUE_SIZE || !out[id])
			return ferry_vc_fail(c, "buffer %u is used, which was "
					     "not made available, or twice",
					     id);
		out[id] = false;
		done++;
	}
	return 0;
}

static int request(struct ferry_vc *c)
{
	return ferry_vc_start(c, SPLIT_ONLY) || ferry_vc_once(c) ? -1 : 0;
}

static int many(struct ferry_vc *c)
{
	return ferry_vc_start(c, SPLIT_ONLY) || serve(c, MANY, false) ? -1 : 0;
}

static int with_feature(struct ferry_vc *c, unsigned bit, const char *name,
			uint64_t without, bool indirect)
{
	if (ferry_vc_start(c, without))
		return -1;
	if (!(c->features >> bit & 1))
		return ferry_vc_not_offered(c, name);
	return serve(c, MANY, indirect);
}

static int event_index(struct ferry_vc *c)
{
	return with_feature(c, VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX", NO_PACKED,
			    false);
}

static int indirect(struct ferry_vc *c)
{
	return with_feature(c, VIRTIO_RING_F_INDIRECT_DESC, "INDIRECT_DESC",
			    NO_PACKED, true);
}

static int packed(struct ferry_vc *c)
{
	return with_feature(c, VIRTIO_F_RING_PACKED, "RING_PACKED",
			    BIT(VIRTIO_RING_F_EVENT_IDX), false);
}

static int packed_indirect(struct ferry_vc *c)
{
	return with_feature(c, VIRTIO_F_RING_PACKED, "RING_PACKED",
			    BIT(VIRTIO_RING_F_EVENT_IDX), true);
}

static int interrupt(struct ferry_vc *c)
{
	unsigned q = ferry_vc_asked(c);

	if (ferry_vc_start(c, SPLIT_ONLY))
		return -1;
	/* A spare one at the start is allowed. */
	(void)ferry_vc_interrupted(&c->guest, q, 50);
	if (ferry_vc_once(c))
		return -1;
	return ferry_vc_interrupted(&c->guest, q, c->how->limit_ms) ? 0 :
	       ferry_vc_fail(c, "a buffer was used, and the driver not told");
}

static int other_call(struct ferry_vc *c)
{
	struct ferry_vc_queue *q = &c->guest.queue[ferry_vc_asked(c)];

	if (ferry_vc_start(c, SPLIT_ONLY) || ferry_vc_once(c))
		return -1;
	ferry_cleanup_fd(&q->call);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ferry_vc_give(c, FERRY_VU_SET_VRING_CALL, ferry_vc_asked(c),
			  q->call))
		return -1;
	(void)ferry_vc_interrupted(&c->guest, ferry_vc_asked(c), 50);
	if (ferry_vc_once(c))
		return -1;
	return ferry_vc_interrupted(&c->guest, ferry_vc_asked(c),
				    c->how->limit_ms) ? 0 :
	       ferry_vc_fail(c, "a new CALL descriptor was never signalled");
}

/* What was under way is done when the ring has stopped, and nothing after. */
static int drained(struct ferry_vc *c)
{
	unsigned q = ferry_vc_asked(c), used = 0;
	uint32_t base, bytes;
	uint16_t id;

	if (ferry_vc_start(c, SPLIT_ONLY))
		return -1;
	for (unsigned i = 0; i < FERRY_VC_REQUESTS; i++)
		ferry_vc_request(c, i, false);
	ferry_vc_kick(&c->guest, q);
	if (ferry_vc_stop_ring(c, q, &base))
		return -1;
	while (ferry_vc_get(&c->guest, q, &id, &bytes))
		used++;
	if (used != base)
		return ferry_vc_fail(c, "GET_VRING_BASE said %u when %u were "
				     "used", base, used);
	return ferry_vc_wait(&c->guest, q, 100, &id, &bytes) ?
	       ferry_vc_fail(c, "a buffer was used behind GET_VRING_BASE") : 0;
}

static int restarted(struct ferry_vc *c)
{
	unsigned q = ferry_vc_asked(c);
	uint32_t base;

	if (ferry_vc_start(c, SPLIT_ONLY))
		return -1;
	for (unsigned i = 1; i <= 3; i++) {
		if (ferry_vc_once(c) || ferry_vc_stop_ring(c, q, &base))
			return -1;
		if (base != i)
			return ferry_vc_fail(c, "GET_VRING_BASE: %u, not %u",
					     base, i);
		if (ferry_vc_start_ring(c, q, base, false))
			return -1;
	}
	return ferry_vc_once(c);
}

static int disabled(struct ferry_vc *c)
{
	unsigned q = ferry_vc_asked(c);
	uint32_t off = 0, on = 1, bytes;
	uint16_t id;

	if (ferry_vc_start(c, SPLIT_ONLY))
		return -1;
	if (!(c->features & FERRY_VU_VIRTIO_F_PROTOCOL))
		return ferry_vc_not_offered(c, "feature 30, PROTOCOL_FEATURES");
	if (ferry_vc_once(c) ||
	    ferry_vc_state(c, FERRY_VU_SET_VRING_ENABLE, q, &off))
		return -1;
	ferry_vc_request(c, 1, false);
	ferry_vc_kick(&c->guest, q);
	/* It may be left, or used without an effect: a frame is dropped. */
	if (ferry_vc_wait(&c->guest, q, 100, &id, &bytes))
		ferry_vc_request(c, 1, false);
	if (ferry_vc_state(c, FERRY_VU_SET_VRING_ENABLE, q, &on))
		return -1;
	ferry_vc_kick(&c->guest, q);
	return ferry_vc_done(c, &id);
}

static int inflight(struct ferry_vc *c)
{
	FERRY_AUTO_VU_FDS got = FERRY_VU_FDS_NONE;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_INFLIGHT_FD,
		.inflight = {
			.queues = (uint16_t)ferry_vc_queues(c),
			.queue_size = FERRY_VC_QUEUE_SIZE,
		},
	};

	if (ferry_vc_agree(c, NO_PACKED))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_INFLIGHT_SHMFD))
		return ferry_vc_not_offered(c, "INFLIGHT_SHMFD");
	if (ferry_vc_ask(c, &m, NULL, 0, &got))
		return -1;
	if (!got.n && !m.inflight.bytes)
		return ferry_vc_not_offered(c, "for split rings it wants none");
	if (got.n != 1 || !m.inflight.bytes)
		return ferry_vc_fail(c, "GET_INFLIGHT_FD: %u descriptors, "
				     "%llu octets", got.n,
				     (unsigned long long)m.inflight.bytes);
	m.h.request = FERRY_VU_SET_INFLIGHT_FD;
	return ferry_vc_ask(c, &m, got.fd, 1, NULL);
}

#define ASKS	.asks = true

static const struct ferry_vc_row rows[] = {
	{ { GROUP, "base-zero", "a ring that did nothing stands where it "
	    "began" }, .run = base_zero },
	{ { GROUP, "base-kept", "also when it did not begin at 0" },
	  .run = base_kept },
	{ { GROUP, "inflight", "an area for requests in flight is given and "
	    "taken" }, .run = inflight },
	{ { GROUP, "request", "a buffer is used, whose parts lie in two "
	    "regions" }, ASKS, request },
	{ { GROUP, "many", "many times a ring's size, each once" }, ASKS,
	  many },
	{ { GROUP, "event-index", "the same with event indexes" }, ASKS,
	  event_index },
	{ { GROUP, "indirect", "the same with indirect tables" }, ASKS,
	  indirect },
	{ { GROUP, "packed", "the same with a packed ring" }, ASKS, packed },
	{ { GROUP, "packed-indirect", "and with tables in it" }, ASKS,
	  packed_indirect },
	{ { GROUP, "interrupt", "the driver is told of a used buffer" }, ASKS,
	  interrupt },
	{ { GROUP, "other-call", "it may be told by another descriptor later" },
	  ASKS, other_call },
	{ { GROUP, "drained", "GET_VRING_BASE comes when all is done, and "
	    "nothing behind it" }, ASKS, drained },
	{ { GROUP, "restarted", "a stopped ring goes on where it stood" },
	  ASKS, restarted },
	{ { GROUP, "disabled", "a ring that was disabled goes on when it is "
	    "enabled" }, ASKS, disabled },
	{ { GROUP, "base-behind-status", "SET_STATUS 0 does not forget where "
	    "the rings are" }, ASKS, base_behind_status },
};

const struct ferry_vc_group ferry_vc_rings = { rows, FERRY_LEN(rows) };
