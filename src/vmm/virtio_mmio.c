/* SPDX-License-Identifier: MIT */
/*
 * The registers.  See virtio_mmio.h.
 *
 * Interrupts: what a device has done is told by an eventfd that goes straight
 * into the guest (edge), past this process.  So bit 0 of InterruptStatus says
 * "look at your queues" as long as the driver is up: a driver looks in vain now
 * and then, which it must be able to do, and nobody has to wake for it.
 *
 * The guest can say anything: a value that makes no sense is ignored here, or
 * found when the device starts.
 */
#include "vmm/virtio_mmio.h"

#include <string.h>

#include "base/cleanup.h"

#define MAGIC		0x74726976u	/* "virt" */
#define VERSION		2u
#define VENDOR		0x59525246u	/* "FRRY" */

#define STATUS_DRIVER_OK	4u
#define STATUS_FEATURES_OK	FERRY_VIRTIO_FEATURES_OK
#define STATUS_NEEDS_RESET	64u
#define STATUS_FAILED		128u

#define INTERRUPT_QUEUE		1u
#define INTERRUPT_CONFIG	2u

#define TOLD_CHANGED		1u
#define TOLD_NEEDS_RESET	2u

void ferry_virtio_init(struct ferry_virtio *t,
		       const struct ferry_virtio_device *device)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	t->device = device;
	for (size_t i = 0; i < FERRY_VIRTIO_QUEUES_MAX; i++)
		t->queue[i].kick = t->queue[i].call = -1;
}

void ferry_virtio_fini(struct ferry_virtio *t)
{
	pthread_mutex_destroy(&t->lock);
}

/* ---- when the device works ---------------------------------------------- */

static bool is_driven(const struct ferry_virtio *t)
{
	const uint32_t s = t->regs.status;

	return s & STATUS_DRIVER_OK && !(s & STATUS_FAILED);
}

/* What it was told without the lock. */
static void take_told(struct ferry_virtio *t)
{
	const unsigned told = atomic_exchange(&t->told, 0);

	if (!told)
		return;
	t->regs.generation++;
	t->regs.interrupts |= INTERRUPT_CONFIG;
	if (told & TOLD_NEEDS_RESET && t->regs.status)
		t->regs.status |= STATUS_NEEDS_RESET;
}

void ferry_virtio_tell(struct ferry_virtio *t, bool needs_reset)
{
	atomic_fetch_or(&t->told, TOLD_CHANGED |
			(needs_reset ? TOLD_NEEDS_RESET : 0));
	t->interrupt(t->opaque);
}

/* The driver hears that it is no use; people hear why. */
static void start_locked(struct ferry_virtio *t)
{
	const struct ferry_virtio_device *d = t->device;
	struct ferry_err e = { 0 };

	if (t->started || !t->vm_runs || !is_driven(t))
		return;
	t->started = true;
	if (!d->ops->start(d->opaque, t, &e))
		return;
	d->ops->say(d->opaque, e.msg);
	ferry_virtio_tell(t, true);
}

static int stop_locked(struct ferry_virtio *t, struct ferry_err *e)
{
	if (!t->started)
		return 0;
	t->started = false;
	return t->device->ops->stop(t->device->opaque, t, e);
}

void ferry_virtio_run(struct ferry_virtio *t)
{
	pthread_mutex_lock(&t->lock);
	t->vm_runs = true;
	start_locked(t);
	pthread_mutex_unlock(&t->lock);
}

int ferry_virtio_pause(struct ferry_virtio *t, struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = stop_locked(t, e);
	t->vm_runs = false;
	take_told(t);
	pthread_mutex_unlock(&t->lock);
	return rc;
}

/* What a driver that resets its device had under way is of no interest. */
static void reset_locked(struct ferry_virtio *t)
{
	(void)stop_locked(t, NULL);
	t->device->ops->reset(t->device->opaque);
	t->regs = (struct ferry_virtio_regs){
		.generation = t->regs.generation };
	for (size_t i = 0; i < FERRY_VIRTIO_QUEUES_MAX; i++) {
		struct ferry_virtio_queue *q = &t->queue[i];

		*q = (struct ferry_virtio_queue){ .kick = q->kick,
						  .call = q->call };
	}
}

/* ---- registers ---------------------------------------------------------- */

/* The one that is looked at; NULL: there is no such queue. */
static struct ferry_virtio_queue *queue(struct ferry_virtio *t)
{
	return t->regs.queue_sel < t->device->queues ?
	       &t->queue[t->regs.queue_sel] : NULL;
}

/* The one that is being set up. */
static struct ferry_virtio_queue *open_queue(struct ferry_virtio *t)
{
	struct ferry_virtio_queue *q = queue(t);

	return q && !q->ready ? q : NULL;
}

static uint32_t half(uint64_t value, uint32_t sel)
{
	return sel > 1 ? 0 : (uint32_t)(value >> (32 * sel));
}

static void set_half(uint64_t *value, uint32_t sel, uint32_t v)
{
	const unsigned shift = 32 * sel;

	if (sel <= 1)
		*value = (*value & ~(0xffffffffull << shift)) |
			 (uint64_t)v << shift;
}

static uint32_t read_magic(struct ferry_virtio *t)
{
	(void)t;
	return MAGIC;
}

static uint32_t read_version(struct ferry_virtio *t)
{
	(void)t;
	return VERSION;
}

static uint32_t read_id(struct ferry_virtio *t)
{
	return t->device->id;
}

static uint32_t read_vendor(struct ferry_virtio *t)
{
	(void)t;
	return VENDOR;
}

static uint32_t read_features(struct ferry_virtio *t)
{
	return half(t->device->features, t->regs.features_sel);
}

static uint32_t read_queue_max(struct ferry_virtio *t)
{
	return queue(t) ? t->device->queue_size_max : 0;
}

static uint32_t read_ready(struct ferry_virtio *t)
{
	return queue(t) ? queue(t)->ready : 0;
}

static uint32_t read_interrupts(struct ferry_virtio *t)
{
	return t->regs.interrupts | (is_driven(t) ? INTERRUPT_QUEUE : 0);
}

static uint32_t read_status(struct ferry_virtio *t)
{
	return t->regs.status;
}

static uint32_t read_generation(struct ferry_virtio *t)
{
	return t->regs.generation;
}

/* There is no shared memory: a region of all ones. */
static uint32_t read_ones(struct ferry_virtio *t)
{
	(void)t;
	return ~0u;
}

static void write_features_sel(struct ferry_virtio *t, uint32_t v)
{
	t->regs.features_sel = v;
}

static void write_accepted_sel(struct ferry_virtio *t, uint32_t v)
{
	t->regs.accepted_sel = v;
}

static void write_accepted(struct ferry_virtio *t, uint32_t v)
{
	if (!(t->regs.status & STATUS_FEATURES_OK))
		set_half(&t->regs.accepted, t->regs.accepted_sel, v);
}

static void write_queue_sel(struct ferry_virtio *t, uint32_t v)
{
	t->regs.queue_sel = v;
}

static void write_queue_size(struct ferry_virtio *t, uint32_t v)
{
	struct ferry_virtio_queue *q = open_queue(t);

	if (q && v <= t->device->queue_size_max)
		q->size = v;
}

static void write_ready(struct ferry_virtio *t, uint32_t v)
{
	struct ferry_virtio_queue *q = queue(t);

	/* While the device works, it has the queues that it began with, until
	 * a reset. */
	if (!q || t->started)
		return;
	q->ready = v & 1 &&
		   ferry_virtio_size_fits(t->regs.accepted, q->size);
	if (q->ready)
		q->base = t->regs.accepted & FERRY_VIRTIO_F_RING_PACKED ?
			  0x80008000u : 0;
}

static void write_notify(struct ferry_virtio *t, uint32_t v)
{
	if (v < t->device->queues && t->started && t->queue[v].ready)
		t->device->ops->notify(t->device->opaque, t, v);
}

static void write_ack(struct ferry_virtio *t, uint32_t v)
{
	t->regs.interrupts &= ~v;
}

/* What it was not offered it does not get: FEATURES_OK stays off; so it does
 * for queues that were made ready with other features, and do not fit. */
static bool features_fit(const struct ferry_virtio *t)
{
	for (unsigned i = 0; i < t->device->queues; i++)
		if (t->queue[i].ready &&
		    !ferry_virtio_size_fits(t->regs.accepted,
					    t->queue[i].size))
			return false;
	return ferry_virtio_features_fit(t->device, t->regs.accepted) &&
	       t->regs.accepted & FERRY_VIRTIO_F_VERSION_1;
}

static void write_status(struct ferry_virtio *t, uint32_t v)
{
	const uint32_t was = t->regs.status;

	if (!v) {
		reset_locked(t);
		return;
	}
	v &= 0xff;
	if (v & STATUS_FEATURES_OK && !(was & STATUS_FEATURES_OK) &&
	    !features_fit(t))
		v &= ~(STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	if (!(v & STATUS_FEATURES_OK))
		v &= ~STATUS_DRIVER_OK;
	t->regs.status = v | (was & STATUS_NEEDS_RESET);
	if (is_driven(t))
		start_locked(t);
	else
		(void)stop_locked(t, NULL);
}

static void write_address(struct ferry_virtio *t, uint32_t at, uint32_t v)
{
	struct ferry_virtio_queue *q = open_queue(t);
	uint64_t *address[] = {
		q ? &q->desc : NULL, q ? &q->driver : NULL,
		q ? &q->device : NULL,
	};

	if (q)
		set_half(address[(at - 0x80) / 0x10], at % 0x10 / 4, v);
}

/* Those of 32 bits; addresses of queues are besides. */
static const struct {
	uint32_t	 at;
	uint32_t	 (*read)(struct ferry_virtio *t);
	void		 (*write)(struct ferry_virtio *t, uint32_t v);
} regs[] = {
	{ 0x000, read_magic, NULL },
	{ 0x004, read_version, NULL },
	{ 0x008, read_id, NULL },
	{ 0x00c, read_vendor, NULL },
	{ 0x010, read_features, NULL },
	{ 0x014, NULL, write_features_sel },
	{ 0x020, NULL, write_accepted },
	{ 0x024, NULL, write_accepted_sel },
	{ 0x030, NULL, write_queue_sel },
	{ 0x034, read_queue_max, NULL },
	{ 0x038, NULL, write_queue_size },
	{ 0x044, read_ready, write_ready },
	{ FERRY_VIRTIO_NOTIFY_AT, NULL, write_notify },
	{ 0x060, read_interrupts, NULL },
	{ 0x064, NULL, write_ack },
	{ 0x070, read_status, write_status },
	{ 0x0b0, read_ones, NULL },	/* length of shared memory */
	{ 0x0b4, read_ones, NULL },
	{ 0x0b8, read_ones, NULL },	/* its base */
	{ 0x0bc, read_ones, NULL },
	{ 0x0fc, read_generation, NULL },
};

static bool is_address(uint32_t at)
{
	return at >= 0x80 && at < 0xb0 && at % 0x10 < 8;
}

static uint32_t read_reg(struct ferry_virtio *t, uint32_t at)
{
	for (size_t i = 0; i < FERRY_LEN(regs); i++)
		if (regs[i].at == at && regs[i].read)
			return regs[i].read(t);
	return 0;
}

static void write_reg(struct ferry_virtio *t, uint32_t at, uint32_t v)
{
	if (is_address(at))
		write_address(t, at, v);
	for (size_t i = 0; i < FERRY_LEN(regs); i++)
		if (regs[i].at == at && regs[i].write)
			regs[i].write(t, v);
}

void ferry_virtio_read(struct ferry_virtio *t, uint32_t at, void *data,
		       size_t bytes)
{
	uint32_t v;

	memset(data, 0, bytes);
	pthread_mutex_lock(&t->lock);
	take_told(t);
	if (at >= FERRY_VIRTIO_CONFIG_AT) {
		t->device->ops->config_read(t->device->opaque,
					    at - FERRY_VIRTIO_CONFIG_AT, data,
					    bytes);
	} else if (bytes == sizeof(v)) {
		v = read_reg(t, at);
		memcpy(data, &v, sizeof(v));
	}
	pthread_mutex_unlock(&t->lock);
}

void ferry_virtio_write(struct ferry_virtio *t, uint32_t at, const void *data,
			size_t bytes)
{
	uint32_t v;

	pthread_mutex_lock(&t->lock);
	take_told(t);
	if (at >= FERRY_VIRTIO_CONFIG_AT) {
		t->device->ops->config_write(t->device->opaque,
					     at - FERRY_VIRTIO_CONFIG_AT, data,
					     bytes);
	} else if (bytes == sizeof(v)) {
		memcpy(&v, data, sizeof(v));
		write_reg(t, at, v);
	}
	pthread_mutex_unlock(&t->lock);
}
