/* SPDX-License-Identifier: MIT */
/*
 * One device: what its driver does with the transport, the backend is told.
 *
 * A backend that goes away is connected to again, and set up anew, by the
 * front-end's library; the guest's buffers wait for it.
 */
#include "vmm/vhost_device.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "vmm/vhost_priv.h"

#define FIND_MS		5000u	/* a backend that is just being started */
#define STATUS_RUNS	15u	/* acknowledge, driver, driver and features ok */

#define BIT(n)		(1ull << (n))
#define RING_FEATURES	(BIT(28) | FERRY_VIRTIO_F_EVENT_IDX | \
			 FERRY_VIRTIO_F_VERSION_1)
/* Offloads and buffers: the backend's alone.  What needs the control queue is
 * this monitor's, which serves it; of that, a backend is told of pairs only.
 * Filters are not there. */
#define NET_FEATURES	(BIT(VIRTIO_NET_F_CSUM) | \
			 BIT(VIRTIO_NET_F_GUEST_CSUM) | \
			 BIT(VIRTIO_NET_F_GUEST_TSO4) | \
			 BIT(VIRTIO_NET_F_GUEST_TSO6) | \
			 BIT(VIRTIO_NET_F_GUEST_ECN) | \
			 BIT(VIRTIO_NET_F_GUEST_UFO) | \
			 BIT(VIRTIO_NET_F_HOST_TSO4) | \
			 BIT(VIRTIO_NET_F_HOST_TSO6) | \
			 BIT(VIRTIO_NET_F_HOST_ECN) | \
			 BIT(VIRTIO_NET_F_HOST_UFO) | \
			 BIT(VIRTIO_NET_F_MRG_RXBUF))
#define NET_OWN		(BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | \
			 BIT(VIRTIO_NET_F_CTRL_VQ) | \
			 BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
/* Where the control queue is follows from MQ: behind the last pair, or behind
 * the first.  KVM hands kicks of pairs past this process, so it can be in one
 * place only. */
#define NET_MANY	(BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ))
#define BLK_FEATURES	(BIT(VIRTIO_BLK_F_SIZE_MAX) | \
			 BIT(VIRTIO_BLK_F_SEG_MAX) | \
			 BIT(VIRTIO_BLK_F_GEOMETRY) | BIT(VIRTIO_BLK_F_RO) | \
			 BIT(VIRTIO_BLK_F_BLK_SIZE) | \
			 BIT(VIRTIO_BLK_F_FLUSH) | \
			 BIT(VIRTIO_BLK_F_TOPOLOGY) | \
			 BIT(VIRTIO_BLK_F_CONFIG_WCE) | \
			 BIT(VIRTIO_BLK_F_DISCARD) | \
			 BIT(VIRTIO_BLK_F_WRITE_ZEROES))

static void say(struct ferry_vhost_device *d, const char *text)
{
	d->all->say(d->all->opaque, text);
}

/* ---- queues ------------------------------------------------------------- */

static bool is_net(const struct ferry_vhost_device *d)
{
	return d->config.id == FERRY_VIRTIO_ID_NET;
}

static int start_queue(struct ferry_vhost_device *d,
		       const struct ferry_virtio *t, uint32_t index,
		       struct ferry_err *e)
{
	const bool on = !is_net(d) || ferry_vhost_net_uses(t, index);
	const struct ferry_virtio_queue *q = &t->queue[index];
	struct ferry_vhost_fe_queue how = FERRY_VHOST_FE_QUEUE_INIT;

	how.index = index;
	how.entries = q->size;
	how.base = q->base;
	how.desc = q->desc;
	how.avail = q->driver;
	how.used = q->device;
	how.kick = q->kick;
	how.call = q->call;
	how.err = -1;
	if (ferry_vhost_fe_queue_enable(d->fe, index, on, e) ||
	    ferry_vhost_fe_queue_start(d->fe, &how, e))
		return -1;
	d->running |= BIT(index);
	/* What was made available, or used, before: both look once. */
	(void)eventfd_write(q->kick, 1);
	(void)eventfd_write(q->call, 1);
	return 0;
}

static int prepare(struct ferry_vhost_device *d, const struct ferry_virtio *t,
		   struct ferry_err *e)
{
	struct ferry_vhost_region region[FERRY_RAM_SLOTS_MAX];
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	d->used = true;
	ferry_vhost_fe_info(d->fe, &info);
	if (ferry_vhost_fe_set_features(d->fe, t->regs.accepted &
					info.features, e))
		return -1;
	if (!d->has_memory &&
	    ferry_vhost_fe_set_memory(d->fe, region,
				      ferry_vhost_regions(d->all, region), e))
		return -1;
	d->has_memory = true;
	if (!d->has_inflight &&
	    ferry_vhost_fe_use_inflight(d->fe, d->virtio.served,
					d->virtio.queue_size_max, e))
		return -1;
	d->has_inflight = true;
	return 0;
}

static int start(void *opaque, struct ferry_virtio *t, struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;

	if (is_net(d))
		ferry_vhost_net_start(d, t);
	if (prepare(d, t, e))
		return -1;
	for (uint32_t i = 0; i < d->virtio.served; i++)
		if (t->queue[i].ready && start_queue(d, t, i, e))
			return -1;
	return ferry_vhost_fe_set_status(d->fe, STATUS_RUNS, e);
}

static bool is_away(struct ferry_vhost_device *d)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	ferry_vhost_fe_info(d->fe, &info);
	return !info.connected;
}

/* All queues that were started (what a driver set up may not be one that can
 * be), in any case; of several failures the last is told.  What a backend had
 * begun when it died, nobody knows. */
static int stop(void *opaque, struct ferry_virtio *t, struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;
	const bool worked = d->running;
	int rc = 0;

	for (uint32_t i = 0; i < d->virtio.served; i++)
		if (d->running & BIT(i) &&
		    ferry_vhost_fe_queue_stop(d->fe, i, &t->queue[i].base, e))
			rc = -1;
	d->running = 0;
	if (!rc && worked && is_away(d))
		rc = ferry_err_set(e, FERRY_E_STATE, 0, "%s: its backend at "
				   "%s is away, and what it had begun is "
				   "known to it alone: start it again first",
				   d->virtio.name, d->config.path);
	return rc;
}

static void reset(void *opaque)
{
	struct ferry_vhost_device *d = opaque;
	struct ferry_err e = { 0 };

	d->has_inflight = false;
	ferry_vhost_net_reset(d);
	if (ferry_vhost_fe_set_status(d->fe, 0, &e) ||
	    ferry_vhost_fe_reset(d->fe, &e))
		say(d, e.msg);
}

/* A queue behind those that the backend has. */
static void notify(void *opaque, struct ferry_virtio *t, unsigned queue)
{
	struct ferry_vhost_device *d = opaque;

	if (is_net(d) && queue >= d->virtio.served)
		ferry_vhost_net_notify(d, t, queue);
}

/* ---- the space of configuration ----------------------------------------- */

static void copy_part(const void *from, size_t bytes, uint32_t at, void *data,
		      size_t n)
{
	if (at < bytes)
		memcpy(data, (const uint8_t *)from + at,
		       n < bytes - at ? n : bytes - at);
}

/* What a network has of it is this monitor's. */
static void net_config_read(void *opaque, uint32_t at, void *data, size_t n)
{
	struct virtio_net_config c;

	ferry_vhost_net_config(opaque, &c);
	copy_part(&c, sizeof(c), at, data, n);
}

static void net_config_write(void *opaque, uint32_t at, const void *data,
			     size_t n)
{
	(void)opaque, (void)at, (void)data, (void)n;
}

/* What a disk has is its backend's; as it last was, while that is away. */
static void blk_config_read(void *opaque, uint32_t at, void *data, size_t n)
{
	const uint16_t queues_at = offsetof(struct virtio_blk_config,
					    num_queues);
	struct ferry_vhost_device *d = opaque;
	const uint16_t queues = (uint16_t)d->config.queues;

	if (at + n <= sizeof(d->space))
		(void)ferry_vhost_fe_config_get(d->fe, at, d->space + at,
						(uint32_t)n, NULL);
	memcpy(d->space + queues_at, &queues, sizeof(queues));
	copy_part(d->space, sizeof(d->space), at, data, n);
}

uint64_t ferry_vhost_blk_sectors(struct ferry_vhost_device *d)
{
	uint64_t sectors = 0;

	blk_config_read(d, offsetof(struct virtio_blk_config, capacity),
			&sectors, sizeof(sectors));
	return sectors;
}

static void blk_config_write(void *opaque, uint32_t at, const void *data,
			     size_t n)
{
	struct ferry_vhost_device *d = opaque;
	struct ferry_err e = { 0 };

	if (at + n <= sizeof(d->space) &&
	    ferry_vhost_fe_config_set(d->fe, at, data, (uint32_t)n, 0, &e))
		say(d, e.msg);
}

/* ---- the two kinds ------------------------------------------------------ */

static void say_slot(void *opaque, const char *text)
{
	say(opaque, text);
}

static const struct ferry_virtio_ops net_ops = {
	start, stop, reset, notify, say_slot, net_config_read, net_config_write,
};

static const struct ferry_virtio_ops blk_ops = {
	start, stop, reset, notify, say_slot, blk_config_read, blk_config_write,
};

struct kind {
	uint32_t	 id;
	const char	*name;
	unsigned	 per_queue;	/* virtqueues */
	unsigned	 control;	/* queues that are this monitor's */
	uint64_t	 features;	/* of the backend's */
	uint64_t	 own;		/* of this monitor's */
	uint64_t	 many;		/* with more than one queue */
	uint32_t	 queue_size_max;
	const struct ferry_virtio_ops *ops;
};

static const struct kind kinds[] = {
	{ FERRY_VIRTIO_ID_NET, "net", 2, 1, RING_FEATURES | NET_FEATURES,
	  NET_OWN, NET_MANY, 1024, &net_ops },
	{ FERRY_VIRTIO_ID_BLK, "blk", 1, 0, RING_FEATURES | BLK_FEATURES, 0,
	  BIT(VIRTIO_BLK_F_MQ), 128, &blk_ops },
};

static const struct kind *kind_of(uint32_t id)
{
	return id == FERRY_VIRTIO_ID_NET ? &kinds[0] : &kinds[1];
}

/* ---- the connection ----------------------------------------------------- */

/* Also that a backend is back: who was told that it went waits for it. */
static void on_log(void *opaque, int level, const char *line)
{
	if (level <= 2)
		say(opaque, line);
}

static void tell(struct ferry_vhost_device *d, bool needs_reset)
{
	struct ferry_virtio *t = __atomic_load_n(&d->t, __ATOMIC_ACQUIRE);

	if (t)
		ferry_virtio_tell(t, needs_reset);
}

static void on_config_changed(void *opaque)
{
	tell(opaque, false);
}

/* Its faults first: nobody waits for them any more. */
static void on_gone(void *opaque, const struct ferry_err *why)
{
	(void)why;
	ferry_vhost_faults_drop(opaque);
}

static int on_faults(void *opaque, int uffd,
		     const struct ferry_vhost_fault_range *range, size_t n,
		     struct ferry_err *e)
{
	return ferry_vhost_faults_take(opaque, uffd, range, n, e);
}

static void on_back(void *opaque, int kept)
{
	if (!kept)
		tell(opaque, true);
}

/* Of what the backend offers, what this monitor can hand on. */
static uint64_t handed_on(const struct ferry_vhost_device *d,
			  const struct kind *k)
{
	return k->features | (d->config.queues > 1 ? k->many : 0) |
	       (d->config.packed ? FERRY_VIRTIO_F_RING_PACKED : 0);
}

static int connect_backend(struct ferry_vhost_device *d, const struct kind *k,
			   struct ferry_err *e)
{
	struct ferry_vhost_fe_shape shape = FERRY_VHOST_FE_SHAPE_INIT;
	struct ferry_vhost_fe_ops ops = FERRY_VHOST_FE_OPS_INIT;

	shape.path = d->config.path;
	shape.name = d->virtio.name;
	shape.features = handed_on(d, k);
	shape.flags = d->config.packed ? 0 : FERRY_VHOST_FE_NO_PACKED;
	ops.config_changed = on_config_changed;
	ops.gone = on_gone;
	ops.back = on_back;
	ops.faults = on_faults;
	d->fe = ferry_vhost_fe_new(&shape, &ops, d, on_log, e);
	return d->fe ? ferry_vhost_fe_connect(d->fe, FIND_MS, e) : -1;
}

static int check_backend(struct ferry_vhost_device *d, const struct kind *k,
			 const struct ferry_vhost_fe_info *info,
			 struct ferry_err *e)
{
	/* One that does not say has one, or one pair. */
	const unsigned queues = info->queues ? info->queues : k->per_queue;

	if (!(info->features & FERRY_VIRTIO_F_VERSION_1))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s: the "
				     "backend at %s is for virtio of before "
				     "1.0 only", d->virtio.name,
				     d->config.path);
	if (queues < d->config.queues * k->per_queue)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s: the "
				     "backend at %s has %u queues, queues=%u "
				     "takes %u: give a smaller one, or let "
				     "it have more", d->virtio.name,
				     d->config.path, queues, d->config.queues,
				     d->config.queues * k->per_queue);
	if (is_net(d) && d->config.queues > 1 &&
	    !(info->features & BIT(VIRTIO_NET_F_MQ)))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s: the "
				     "backend at %s does not offer several "
				     "pairs of queues (VIRTIO_NET_F_MQ): "
				     "leave out queues=%u", d->virtio.name,
				     d->config.path, d->config.queues);
	if (k->id == FERRY_VIRTIO_ID_BLK && !info->config)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s: the "
				     "backend at %s does not say how large "
				     "its disk is", d->virtio.name,
				     d->config.path);
	return 0;
}

int ferry_vhost_device_open(struct ferry_vhost_device *d, struct ferry_err *e)
{
	const struct kind *k = kind_of(d->config.id);
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	d->virtio.id = k->id;
	snprintf(d->virtio.name, sizeof(d->virtio.name), "%s%td", k->name,
		 d - d->all->device);
	if (connect_backend(d, k, e)) {
		ferry_vhost_device_close(d);
		return -1;
	}
	ferry_vhost_fe_info(d->fe, &info);
	if (check_backend(d, k, &info, e)) {
		ferry_vhost_device_close(d);
		return -1;
	}
	d->virtio.features = (info.features & handed_on(d, k)) |
			     k->own;
	d->virtio.served = d->config.queues * k->per_queue;
	d->virtio.queues = d->virtio.served + k->control;
	d->virtio.pairs = is_net(d) ? d->config.queues : 0;
	d->virtio.together = is_net(d) && d->config.queues > 1 ? k->many : 0;
	d->virtio.queue_size_max = k->queue_size_max;
	d->virtio.ops = k->ops;
	d->virtio.opaque = d;
	return 0;
}

void ferry_vhost_device_close(struct ferry_vhost_device *d)
{
	if (d->fe)
		ferry_vhost_fe_free(d->fe);
	d->fe = NULL;
}

int ferry_vhost_device_renew(struct ferry_vhost_device *d, struct ferry_err *e)
{
	if (!d->used)
		return 0;
	ferry_vhost_device_close(d);
	d->used = false;
	d->has_memory = d->has_inflight = false;
	return ferry_vhost_device_open(d, e);
}
