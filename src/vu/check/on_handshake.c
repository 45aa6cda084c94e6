/* SPDX-License-Identifier: MIT */
/*
 * Checks of the handshake: what a front-end says before there is a guest.
 */
#include "vu/check/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "vu/check/device.h"

#define GROUP	"handshake"

static int features(struct ferry_vc *c)
{
	uint64_t first, again;

	if (ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &first) ||
	    ferry_vc_set(c, FERRY_VU_SET_OWNER, 0) ||
	    ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &again))
		return -1;
	if (first != again)
		return ferry_vc_fail(c, "0x%" PRIx64 ", then 0x%" PRIx64,
				     first, again);
	return 0;
}

static int protocol_first(struct ferry_vc *c)
{
	uint64_t offered, got;

	if (ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &offered))
		return -1;
	if (!(offered & FERRY_VU_VIRTIO_F_PROTOCOL))
		return ferry_vc_not_offered(c, "feature 30, PROTOCOL_FEATURES");
	return ferry_vc_u64(c, FERRY_VU_GET_PROTOCOL_FEATURES, &got) ||
	       ferry_vc_set(c, FERRY_VU_SET_PROTOCOL_FEATURES,
			    got & 1u << FERRY_VU_F_REPLY_ACK) ? -1 : 0;
}

static int virtio_1(struct ferry_vc *c)
{
	if (ferry_vc_agree(c, 0))
		return -1;
	if (!(c->offered >> 32 & 1))
		return ferry_vc_fail(c, "feature 32, VERSION_1, is not "
				     "offered: a driver of virtio 1 gives up");
	return 0;
}

static int acks(struct ferry_vc *c)
{
	if (ferry_vc_agree(c, 0))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_REPLY_ACK))
		return ferry_vc_not_offered(c, "REPLY_ACK");
	return ferry_vc_set(c, FERRY_VU_SET_FEATURES, c->features);
}

/* A request with an answer of its own gets that one, and no ack besides. */
static int one_answer(struct ferry_vc *c)
{
	static const uint32_t ask[3] = {
		FERRY_VU_GET_FEATURES,
		FERRY_VU_VERSION | FERRY_VU_NEED_REPLY, 0,
	};
	struct ferry_vu_msg m;
	uint64_t again;

	if (ferry_vc_agree(c, 0))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_REPLY_ACK))
		return ferry_vc_not_offered(c, "REPLY_ACK");
	if (ferry_vc_send_raw(c, ask, sizeof(ask), NULL, 0, true, &m) !=
	    FERRY_VC_ANSWERED)
		return ferry_vc_fail(c, "GET_FEATURES with need_reply: no "
				     "answer");
	if (m.h.flags != (FERRY_VU_VERSION | FERRY_VU_REPLY))
		return ferry_vc_fail(c, "GET_FEATURES with need_reply: the "
				     "answer's flags are 0x%x, not 0x5",
				     m.h.flags);
	return ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &again);
}

static int queues(struct ferry_vc *c)
{
	uint64_t n;

	if (ferry_vc_agree(c, 0))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_MQ))
		return ferry_vc_not_offered(c, "MQ");
	if (ferry_vc_u64(c, FERRY_VU_GET_QUEUE_NUM, &n))
		return -1;
	return n && n <= 256 ? 0 :
	       ferry_vc_fail(c, "GET_QUEUE_NUM: %" PRIu64 " queues", n);
}

static int config(struct ferry_vc *c)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_CONFIG, .config = { .bytes = 8 },
	};

	if (ferry_vc_agree(c, 0))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_CONFIG))
		return ferry_vc_not_offered(c, "CONFIG");
	if (ferry_vc_ask(c, &m, NULL, 0, NULL))
		return -1;
	return m.config.bytes == 8 ? 0 :
	       ferry_vc_fail(c, "GET_CONFIG: asked for 8 octets, got %u",
			     m.config.bytes);
}

static int slots(struct ferry_vc *c)
{
	uint64_t n;

	if (ferry_vc_agree(c, 0))
		return -1;
	if (!(c->protocol_offered >> FERRY_VU_F_CONFIGURE_MEM_SLOTS & 1))
		return ferry_vc_not_offered(c, "CONFIGURE_MEM_SLOTS");
	if (ferry_vc_set(c, FERRY_VU_SET_PROTOCOL_FEATURES, c->protocol |
			 1ull << FERRY_VU_F_CONFIGURE_MEM_SLOTS) ||
	    ferry_vc_u64(c, FERRY_VU_GET_MAX_MEM_SLOTS, &n))
		return -1;
	return n ? 0 : ferry_vc_fail(c, "GET_MAX_MEM_SLOTS: none");
}

static int status(struct ferry_vc *c)
{
	uint64_t got;

	if (ferry_vc_agree(c, 0))
		return -1;
	if (!ferry_vc_has(c, FERRY_VU_F_STATUS))
		return ferry_vc_not_offered(c, "STATUS");
	/* ACKNOWLEDGE, DRIVER, FEATURES_OK */
	if (ferry_vc_set(c, FERRY_VU_SET_STATUS, 11) ||
	    ferry_vc_u64(c, FERRY_VU_GET_STATUS, &got))
		return -1;
	return (got & 11) == 11 ? 0 :
	       ferry_vc_fail(c, "status 11 was set, %" PRIu64 " is read", got);
}

/* As QEMU does for a network device. */
static int rings_early(struct ferry_vc *c)
{
	FERRY_AUTO_FD call = eventfd(0, EFD_CLOEXEC);
	uint32_t on = 1;

	if (ferry_vc_agree(c, 0) ||
	    ferry_vc_give(c, FERRY_VU_SET_VRING_CALL, 0, call) ||
	    ferry_vc_give(c, FERRY_VU_SET_VRING_ERR, 0, call) ||
	    ferry_vc_state(c, FERRY_VU_SET_VRING_ENABLE, 0, &on))
		return -1;
	return ferry_vc_give_memory(c) ||
	       ferry_vc_set(c, FERRY_VU_SET_FEATURES, c->features) ? -1 : 0;
}

static int table_again(struct ferry_vc *c)
{
	if (ferry_vc_agree(c, 0) || ferry_vc_give_memory(c))
		return -1;
	return ferry_vc_give_memory(c);
}

static int again(struct ferry_vc *c)
{
	for (int i = 0; i < 5; i++) {
		if (i % 2 ? ferry_vc_agree(c, 0) :
		    ferry_vc_agree(c, 0) || ferry_vc_give_memory(c))
			return ferry_err_wrap(&c->err, "connection %d", i + 1);
		ferry_vc_hang_up(c);
		if (ferry_vc_connect(c))
			return -1;
	}
	return ferry_vc_agree(c, 0);
}

/* A header whose octets come one by one is a header all the same. */
static int slowly(struct ferry_vc *c)
{
	static const uint32_t ask[3] = {
		FERRY_VU_GET_FEATURES, FERRY_VU_VERSION, 0,
	};
	const char *octets = (const char *)ask;
	struct ferry_vu_msg m;

	for (size_t i = 0; i + 1 < sizeof(ask); i++)
		if (ferry_vc_send_raw(c, octets + i, 1, NULL, 0, false, &m) ==
		    FERRY_VC_CLOSED)
			return ferry_vc_fail(c, "closed in the middle");
	if (ferry_vc_send_raw(c, octets + sizeof(ask) - 1, 1, NULL, 0, true,
			      &m) != FERRY_VC_ANSWERED)
		return ferry_vc_fail(c, "GET_FEATURES in twelve parts: no "
				     "answer");
	return 0;
}

static const struct ferry_vc_row rows[] = {
	{ { GROUP, "features", "GET_FEATURES is answered, with the same each "
	    "time" }, .run = features },
	{ { GROUP, "protocol-first", "protocol features are agreed on before "
	    "SET_FEATURES" }, .run = protocol_first },
	{ { GROUP, "virtio-1", "VERSION_1 is offered" }, .run = virtio_1 },
	{ { GROUP, "acks", "a request with need_reply is acknowledged" },
	  .run = acks },
	{ { GROUP, "one-answer", "a request that has an answer gets no ack "
	    "besides" }, .run = one_answer },
	{ { GROUP, "queues", "GET_QUEUE_NUM says 1 to 256" }, .run = queues },
	{ { GROUP, "config", "GET_CONFIG gives as much as was asked for" },
	  .run = config },
	{ { GROUP, "memory-slots", "GET_MAX_MEM_SLOTS is answered" },
	  .run = slots },
	{ { GROUP, "status", "the status is kept" }, .run = status },
	{ { GROUP, "rings-early", "CALL, ERR and ENABLE may come before memory "
	    "and features" }, .run = rings_early },
	{ { GROUP, "memory-again", "the same memory may be told twice" },
	  .run = table_again },
	{ { GROUP, "again", "the next front-end is served, six times" },
	  .run = again },
	{ { GROUP, "slowly", "a message may come octet by octet" },
	  .run = slowly },
};

const struct ferry_vc_group ferry_vc_handshake = { rows, FERRY_LEN(rows) };
