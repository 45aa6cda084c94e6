/* SPDX-License-Identifier: MIT */
/*
 * Where the guest finds its virtio devices: each has a window of 4 KiB in the
 * hole below 4 GiB, and an interrupt line of its own.  The DSDT lists them.
 *
 * Kicks go from KVM straight to who serves the queue (ioeventfd), interrupts
 * from there straight to KVM (irqfd, edge).
 *
 * Threads: filled before the first vCPU runs, then read-only.
 */
#ifndef FERRY_VMM_VIRTIO_BUS_H
#define FERRY_VMM_VIRTIO_BUS_H

#include "vmm/kvm.h"
#include "vmm/virtio_mmio.h"

#define FERRY_VIRTIO_DEVICES_MAX	16u

struct ferry_virtio_bus {
	const struct ferry_kvm	*kvm;
	unsigned		 count;
	struct ferry_virtio	 slot[FERRY_VIRTIO_DEVICES_MAX];
	int			 config_fd[FERRY_VIRTIO_DEVICES_MAX];
};

uint64_t ferry_virtio_bus_gpa(unsigned slot);
unsigned ferry_virtio_bus_gsi(unsigned slot);

/* device outlives the bus. */
FERRY_CHECKED int ferry_virtio_bus_add(struct ferry_virtio_bus *b,
				       const struct ferry_virtio_device *device,
				       struct ferry_err *e);
void ferry_virtio_bus_fini(struct ferry_virtio_bus *b);

/* A vCPU's access to what is not RAM.  Where there is nothing: all ones. */
void ferry_virtio_bus_read(struct ferry_virtio_bus *b, uint64_t gpa,
			   void *data, size_t bytes);
void ferry_virtio_bus_write(struct ferry_virtio_bus *b, uint64_t gpa,
			    const void *data, size_t bytes);

/* The VM is about to run; is stopped. */
void ferry_virtio_bus_run(struct ferry_virtio_bus *b);
/* All of them, in any case; the first one's reason. */
int ferry_virtio_bus_pause(struct ferry_virtio_bus *b, struct ferry_err *e);

#endif
