/* SPDX-License-Identifier: MIT */
/*
 * A command is two octets, its class and its number, and what belongs to it: of
 * just that size.  See virtio_net_control.h.
 */
#include "vmm/virtio_net_control.h"

#include <linux/virtio_net.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "vmm/virtio_ring.h"

#define COMMANDS_MAX	64u	/* of a kick */
#define HEAD_BYTES	2u

static bool set_pairs(const struct ferry_net_control *c,
		      struct ferry_virtio *t, const uint8_t *data)
{
	const unsigned pairs = data[0] | (unsigned)data[1] << 8;

	return pairs >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN &&
	       pairs <= t->device->pairs &&
	       c->set_pairs(c->opaque, t, pairs);
}

static bool announced(const struct ferry_net_control *c,
		      struct ferry_virtio *t, const uint8_t *data)
{
	(void)t, (void)data;
	c->announced(c->opaque);
	return true;
}

static const struct {
	uint8_t		class, number;
	unsigned	feature;	/* that the driver took */
	unsigned	bytes;		/* behind the head */
	bool		(*do_it)(const struct ferry_net_control *c,
				 struct ferry_virtio *t, const uint8_t *data);
} rows[] = {
	{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
	  VIRTIO_NET_F_MQ, 2, set_pairs },
	{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK,
	  VIRTIO_NET_F_GUEST_ANNOUNCE, 0, announced },
};

static bool obey(const struct ferry_net_control *c, struct ferry_virtio *t,
		 const struct ferry_virtio_command *cmd)
{
	if (cmd->said_bytes < HEAD_BYTES)
		return false;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		if (rows[i].class == cmd->said[0] &&
		    rows[i].number == cmd->said[1])
			return t->regs.accepted >> rows[i].feature & 1 &&
			       cmd->said_bytes == HEAD_BYTES + rows[i].bytes &&
			       rows[i].do_it(c, t, cmd->said + HEAD_BYTES);
	return false;
}

static int serve(const struct ferry_net_control *c, struct ferry_virtio *t,
		 const struct ferry_virtio_ring *r, unsigned *done,
		 struct ferry_err *e)
{
	struct ferry_virtio_command cmd;
	int rc = 0;

	for (*done = 0; *done < COMMANDS_MAX; ++*done) {
		rc = ferry_virtio_ring_next(r, &cmd, e);
		if (rc <= 0)
			break;
		rc = ferry_virtio_ring_answer(r, &cmd, obey(c, t, &cmd) ?
					      VIRTIO_NET_OK : VIRTIO_NET_ERR,
					      e);
		if (rc)
			break;
	}
	return rc;
}

int ferry_net_control_serve(const struct ferry_net_control *c,
			    struct ferry_virtio *t, unsigned queue,
			    struct ferry_err *e)
{
	struct ferry_virtio_queue *q = &t->queue[queue];
	const struct ferry_virtio_ring r = { c->ram, t->regs.accepted, q };
	unsigned done;
	int rc = serve(c, t, &r, &done, e);

	if (done && ferry_virtio_ring_calls(&r))
		(void)eventfd_write(q->call, 1);
	return rc;
}
