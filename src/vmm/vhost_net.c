/* SPDX-License-Identifier: MIT */
/*
 * What a network has besides its pairs of queues: a space of configuration, and
 * a control queue behind the last pair, which this monitor serves; its backend
 * knows nothing of it.
 *
 * Announcing: when a VM has come, its network has to learn where it is.  A
 * driver that can do it (GUEST_ANNOUNCE) is asked to: it knows all addresses of
 * the guest.  SEND_RARP is for the others, as vhost-user says, and for a VM
 * that comes and is not to run yet.  Whoever the VM comes to asks anew, so that
 * nothing of this moves with it.
 *
 * Threads: vCPUs or the engine, under the transport's lock; ..._announce: the
 *          engine's, and does not wait for it.
 */
#include "vmm/vhost_device.h"

#include <linux/virtio_net.h>
#include <string.h>

#include "vmm/vhost_priv.h"
#include "vmm/virtio_net_control.h"

#define BIT(n)		(1ull << (n))
#define CAN_ANNOUNCE	(BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | \
			 BIT(VIRTIO_NET_F_CTRL_VQ))

/* ---- the space of configuration ----------------------------------------- */

void ferry_vhost_net_config(const struct ferry_vhost_device *d,
			    struct virtio_net_config *c)
{
	*c = (struct virtio_net_config){
		.status = VIRTIO_NET_S_LINK_UP,
		.max_virtqueue_pairs = (uint16_t)d->config.queues,
	};
	if (d->announces)
		c->status |= VIRTIO_NET_S_ANNOUNCE;
	memcpy(c->mac, d->config.mac, sizeof(c->mac));
}

/* ---- pairs --------------------------------------------------------------- */

/* Until it says so, a driver uses the first. */
static unsigned pairs_in_use(const struct ferry_virtio *t)
{
	return t->regs.active ? t->regs.active : 1;
}

bool ferry_vhost_net_uses(const struct ferry_virtio *t, unsigned queue)
{
	return queue / 2 < pairs_in_use(t);
}

/* From so many pairs to so many; -1: the backend refuses. */
static int enable(struct ferry_vhost_device *d, unsigned from, unsigned to,
		  struct ferry_err *e)
{
	const unsigned low = from < to ? from : to;
	const unsigned high = from < to ? to : from;

	for (unsigned i = 2 * low; i < 2 * high; i++)
		if (d->running & BIT(i) &&
		    ferry_vhost_fe_queue_enable(d->fe, i, from < to, e))
			return -1;
	return 0;
}

static bool are_set_up(const struct ferry_vhost_device *d, unsigned pairs)
{
	const uint64_t all = BIT(2 * pairs) - 1;

	return (d->running & all) == all;
}

static bool set_pairs(void *opaque, struct ferry_virtio *t, unsigned pairs)
{
	struct ferry_vhost_device *d = opaque;
	const unsigned was = pairs_in_use(t);
	struct ferry_err e = { 0 };

	if (!are_set_up(d, pairs))
		return false;
	if (enable(d, was, pairs, &e)) {
		d->all->say(d->all->opaque, e.msg);
		(void)enable(d, pairs, was, NULL);
		return false;
	}
	t->regs.active = pairs;
	return true;
}

/* ---- the control queue --------------------------------------------------- */

static void announced(void *opaque)
{
	struct ferry_vhost_device *d = opaque;

	d->announces = false;
}

/* A ring that makes no sense costs this device, until its driver resets it. */
void ferry_vhost_net_notify(struct ferry_vhost_device *d,
			    struct ferry_virtio *t, unsigned queue)
{
	const struct ferry_net_control c = {
		.ram = d->all->ram, .set_pairs = set_pairs,
		.announced = announced, .opaque = d,
	};
	struct ferry_err e = { 0 };

	if (d->control_broken ||
	    !(t->regs.accepted & BIT(VIRTIO_NET_F_CTRL_VQ)) ||
	    !ferry_net_control_serve(&c, t, queue, &e))
		return;
	d->control_broken = true;
	ferry_err_wrap(&e, "%s: its control queue", d->virtio.name);
	d->all->say(d->all->opaque, e.msg);
	ferry_virtio_tell(t, true);
}

/* ---- announcing ----------------------------------------------------------- */

void ferry_vhost_net_start(struct ferry_vhost_device *d, struct ferry_virtio *t)
{
	d->can_announce = (t->regs.accepted & CAN_ANNOUNCE) == CAN_ANNOUNCE;
	if (!d->arrives)
		return;
	d->arrives = false;
	if (!d->can_announce)
		return;
	d->announces = true;
	ferry_virtio_tell(t, false);
}

int ferry_vhost_net_announce(struct ferry_vhost_device *d, struct ferry_err *e)
{
	return d->can_announce ||
	       ferry_vhost_fe_announce(d->fe, d->config.mac, e) >= 0 ? 0 : -1;
}

void ferry_vhost_net_reset(struct ferry_vhost_device *d)
{
	d->can_announce = d->announces = d->control_broken = false;
}
