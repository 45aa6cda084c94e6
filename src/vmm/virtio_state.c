/* SPDX-License-Identifier: MIT */
/*
 * A virtio device's state: what its driver has set up, and where its queues
 * stand.  Saved when the device is stopped.
 *
 *   0             4             12       16           20           24
 *   | be32 device | be64 taken  | status | interrupts | generation |
 *   24             28            32          36       40
 *   | features sel | taken's sel | queue sel | active | be32 queues
 *   then for each queue:
 *   0           4       5         13            21            29      33
 *   | be32 size | ready | be64 desc | be64 driver | be64 device | base |
 */
#include "vmm/virtio_mmio.h"

#include <inttypes.h>

#define READY_MAX	1u
#define STATUS_MAX	0xffu
#define INTERRUPTS_MAX	3u

static void save_queue(struct ferry_wr *w, const struct ferry_virtio_queue *q)
{
	ferry_wr_be32(w, q->size);
	ferry_wr_u8(w, q->ready);
	ferry_wr_be64(w, q->desc);
	ferry_wr_be64(w, q->driver);
	ferry_wr_be64(w, q->device);
	ferry_wr_be32(w, q->base);
}

static int save(const struct ferry_section *s, void *object,
		struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_virtio *t = object;
	const struct ferry_virtio_regs *r = &t->regs;

	(void)s, (void)e;
	ferry_wr_be32(w, t->device->id);
	ferry_wr_be64(w, r->accepted);
	ferry_wr_be32(w, r->status);
	ferry_wr_be32(w, r->interrupts);
	ferry_wr_be32(w, r->generation);
	ferry_wr_be32(w, r->features_sel);
	ferry_wr_be32(w, r->accepted_sel);
	ferry_wr_be32(w, r->queue_sel);
	ferry_wr_be32(w, r->active);
	ferry_wr_be32(w, t->device->queues);
	for (unsigned i = 0; i < t->device->queues; i++)
		save_queue(w, &t->queue[i]);
	return 0;
}

/* What a driver can have set up: who starts the VM could not refuse it. */
static bool is_ring(const struct ferry_virtio_regs *regs,
		    const struct ferry_virtio_queue *q)
{
	return !(regs->status & FERRY_VIRTIO_FEATURES_OK) || !q->ready ||
	       (ferry_virtio_size_fits(regs->accepted, q->size) &&
		(regs->accepted & FERRY_VIRTIO_F_RING_PACKED ||
		 q->base <= UINT16_MAX));
}

static int load_queue(struct ferry_rd *r, const struct ferry_virtio *t,
		      const struct ferry_virtio_regs *regs,
		      struct ferry_virtio_queue *q, unsigned i,
		      struct ferry_err *e)
{
	uint8_t ready;

	q->size = ferry_rd_be32(r);
	ready = ferry_rd_u8(r);
	q->desc = ferry_rd_be64(r);
	q->driver = ferry_rd_be64(r);
	q->device = ferry_rd_be64(r);
	q->base = ferry_rd_be32(r);
	q->ready = ready;
	if (ready > READY_MAX || q->size > t->device->queue_size_max ||
	    (q->ready && !q->size))
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: queue %u has "
				     "%" PRIu32 " buffers (%u), the most here "
				     "is %" PRIu32, t->device->name, i,
				     q->size, ready,
				     t->device->queue_size_max);
	if (!is_ring(regs, q))
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: queue %u: a "
				     "split ring has a power of two of buffers"
				     " and stands at 0 to 65535, not %" PRIu32
				     " and %" PRIu32, t->device->name, i,
				     q->size, q->base);
	return 0;
}

static int load_regs(struct ferry_rd *r, const struct ferry_virtio *t,
		     struct ferry_virtio_regs *regs, struct ferry_err *e)
{
	const uint32_t id = ferry_rd_be32(r);
	uint32_t queues;

	regs->accepted = ferry_rd_be64(r);
	regs->status = ferry_rd_be32(r);
	regs->interrupts = ferry_rd_be32(r);
	regs->generation = ferry_rd_be32(r);
	regs->features_sel = ferry_rd_be32(r);
	regs->accepted_sel = ferry_rd_be32(r);
	regs->queue_sel = ferry_rd_be32(r);
	regs->active = ferry_rd_be32(r);
	queues = ferry_rd_be32(r);
	if (id != t->device->id || queues != t->device->queues)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s: the source's "
				     "has type %" PRIu32 " and %" PRIu32
				     " queues, the one here type %" PRIu32
				     " and %u queues: give both the same "
				     "--vhost-user options", t->device->name,
				     id, queues, t->device->id,
				     t->device->queues);
	if (regs->status > STATUS_MAX || regs->interrupts > INTERRUPTS_MAX ||
	    regs->active > t->device->pairs)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: status 0x%"
				     PRIx32 ", interrupts 0x%" PRIx32 ", %"
				     PRIu32 " pairs of queues in use",
				     t->device->name, regs->status,
				     regs->interrupts, regs->active);
	if (regs->accepted & ~t->device->features)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s: the guest "
				     "uses virtio features (0x%" PRIx64
				     ") that the backend here does not offer "
				     "(0x%" PRIx64 ")", t->device->name,
				     regs->accepted & ~t->device->features,
				     t->device->features);
	if (regs->status & FERRY_VIRTIO_FEATURES_OK &&
	    !ferry_virtio_features_fit(t->device, regs->accepted))
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: features 0x%"
				     PRIx64 ", of which no driver takes some",
				     t->device->name, regs->accepted);
	return 0;
}

static int load(const struct ferry_section *s, void *object,
		struct ferry_rd *r, struct ferry_err *e)
{
	struct ferry_virtio_queue queue[FERRY_VIRTIO_QUEUES_MAX] = { 0 };
	struct ferry_virtio_regs regs = { 0 };
	struct ferry_virtio *t = object;

	(void)s;
	if (load_regs(r, t, &regs, e))
		return -1;
	for (unsigned i = 0; i < t->device->queues; i++)
		if (load_queue(r, t, &regs, &queue[i], i, e))
			return -1;
	if (ferry_section_ill_sized(r, e))
		return -1;
	t->regs = regs;
	for (unsigned i = 0; i < t->device->queues; i++) {
		queue[i].kick = t->queue[i].kick;
		queue[i].call = t->queue[i].call;
		t->queue[i] = queue[i];
	}
	return 0;
}

const struct ferry_section ferry_section_virtio = {
	.name = "virtio-mmio", .version = 1, .save = save, .load = load,
};
