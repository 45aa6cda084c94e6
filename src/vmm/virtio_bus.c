/* SPDX-License-Identifier: MIT */
/* See virtio_bus.h. */
#include "vmm/virtio_bus.h"

#include <string.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "vmm/layout.h"

/* Those of a PC that nobody else has here. */
static const uint8_t lines[FERRY_VIRTIO_DEVICES_MAX] = {
	16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 10, 11, 12, 14, 15,
};

uint64_t ferry_virtio_bus_gpa(unsigned slot)
{
	return FERRY_GPA_VIRTIO + (uint64_t)slot * FERRY_VIRTIO_MMIO_BYTES;
}

unsigned ferry_virtio_bus_gsi(unsigned slot)
{
	return lines[slot];
}

static int make_fd(int *fd, const char *name, struct ferry_err *e)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd >= 0 ? 0 : ferry_err_set(e, FERRY_E_IO, errno,
					    "%s: eventfd", name);
}

static void interrupt(void *opaque)
{
	(void)eventfd_write(*(const int *)opaque, 1);
}

static int wire_queue(struct ferry_virtio_bus *b, unsigned slot,
		      unsigned queue, struct ferry_err *e)
{
	struct ferry_virtio *t = &b->slot[slot];
	struct ferry_virtio_queue *q = &t->queue[queue];
	const uint64_t at = ferry_virtio_bus_gpa(slot) + FERRY_VIRTIO_NOTIFY_AT;

	if (make_fd(&q->kick, t->device->name, e) ||
	    make_fd(&q->call, t->device->name, e) ||
	    ferry_kvm_irqfd(b->kvm, lines[slot], q->call, e))
		return -1;
	return queue < t->device->served ?
	       ferry_kvm_ioeventfd(b->kvm, at, queue, q->kick, e) : 0;
}

static int wire(struct ferry_virtio_bus *b, unsigned slot, struct ferry_err *e)
{
	const struct ferry_virtio_device *d = b->slot[slot].device;

	if (make_fd(&b->config_fd[slot], d->name, e) ||
	    ferry_kvm_irqfd(b->kvm, lines[slot], b->config_fd[slot], e))
		return -1;
	for (unsigned i = 0; i < d->queues; i++)
		if (wire_queue(b, slot, i, e))
			return ferry_err_wrap(e, "%s queue %u", d->name, i);
	return 0;
}

int ferry_virtio_bus_add(struct ferry_virtio_bus *b,
			 const struct ferry_virtio_device *device,
			 struct ferry_err *e)
{
	const unsigned slot = b->count;

	if (slot == FERRY_VIRTIO_DEVICES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: more than %u "
				     "virtio devices", device->name,
				     FERRY_VIRTIO_DEVICES_MAX);
	ferry_virtio_init(&b->slot[slot], device);
	b->slot[slot].interrupt = interrupt;
	b->slot[slot].opaque = &b->config_fd[slot];
	b->config_fd[slot] = -1;
	b->count++;
	return wire(b, slot, e);
}

static void free_slot(struct ferry_virtio_bus *b, unsigned slot)
{
	struct ferry_virtio *t = &b->slot[slot];

	for (unsigned i = 0; i < t->device->queues; i++) {
		ferry_cleanup_fd(&t->queue[i].kick);
		ferry_cleanup_fd(&t->queue[i].call);
	}
	ferry_cleanup_fd(&b->config_fd[slot]);
	ferry_virtio_fini(t);
}

void ferry_virtio_bus_fini(struct ferry_virtio_bus *b)
{
	while (b->count)
		free_slot(b, --b->count);
}

/* Whose window that is, all of it; NULL: nobody's. */
static struct ferry_virtio *find(struct ferry_virtio_bus *b, uint64_t gpa,
				 size_t bytes, uint32_t *at)
{
	const uint64_t slot = (gpa - FERRY_GPA_VIRTIO) /
			      FERRY_VIRTIO_MMIO_BYTES;

	if (gpa < FERRY_GPA_VIRTIO || slot >= b->count)
		return NULL;
	*at = (uint32_t)((gpa - FERRY_GPA_VIRTIO) % FERRY_VIRTIO_MMIO_BYTES);
	return *at + bytes <= FERRY_VIRTIO_MMIO_BYTES ? &b->slot[slot] : NULL;
}

void ferry_virtio_bus_read(struct ferry_virtio_bus *b, uint64_t gpa,
			   void *data, size_t bytes)
{
	uint32_t at;
	struct ferry_virtio *t = find(b, gpa, bytes, &at);

	if (t)
		ferry_virtio_read(t, at, data, bytes);
	else
		memset(data, 0xff, bytes);
}

void ferry_virtio_bus_write(struct ferry_virtio_bus *b, uint64_t gpa,
			    const void *data, size_t bytes)
{
	uint32_t at;
	struct ferry_virtio *t = find(b, gpa, bytes, &at);

	if (t)
		ferry_virtio_write(t, at, data, bytes);
}

void ferry_virtio_bus_run(struct ferry_virtio_bus *b)
{
	for (unsigned i = 0; i < b->count; i++)
		ferry_virtio_run(&b->slot[i]);
}

int ferry_virtio_bus_pause(struct ferry_virtio_bus *b, struct ferry_err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < b->count; i++)
		if (ferry_virtio_pause(&b->slot[i], rc ? NULL : e))
			rc = -1;
	return rc;
}
