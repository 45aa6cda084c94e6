/* SPDX-License-Identifier: MIT */
/*
 * VFIO devices: the state of an assigned device moves with its VM.
 *
 * Given the file descriptor of a device whose kernel driver knows migration
 * (version 2 of the protocol in <linux/vfio.h>), this is a bulk device
 * (<ferry/bulk.h>) of the VM: it hands out state while the VM runs where the
 * driver can (PRE_COPY), stops peer to peer DMA before it stops (P2P), and
 * tells which pages the device has written where the device logs them.
 *
 * No hardware has run this: it is tested against a device that is made up.
 *
 * The device's migration state is this library's between the begin of a
 * migration and its end: do not set it meanwhile.  Else it is yours: stop a
 * device whose VM is paused, and set it RUNNING when the VM goes on.
 */
#ifndef FERRY_VFIO_H
#define FERRY_VFIO_H

#include <ferry/bulk.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_vfio;

/* Addresses of the device, and the memory that they are mapped to. */
struct ferry_vfio_range {
	uint64_t iova;		/* as the device says it */
	uint64_t bytes;
	void *addr;		/* inside one block of the VM */
};

struct ferry_vfio_config {
	uint32_t size;
	uint32_t instance;
	const char *name;	/* of the bulk device, as ferry_vm_add_bulk()
				 * has it */
	int fd;			/* of the device; yours, and open as long as
				 * the VM is described */
	uint32_t chunk_bytes;	/* read at once: 4096 to
				 * FERRY_BULK_BUFFER_MAX; 0: that */
	uint32_t silent_ms;	/* the device gives nothing, or takes nothing,
				 * for so long: it has failed; 0: 30000 */
	uint32_t range_count;	/* at most 256; 0: its writes are found by
				 * other means, which are yours */
	const struct ferry_vfio_range *ranges;	/* all that it may write;
				 * copied */
	uint64_t page_bytes;	/* how finely writes are logged, if the device
				 * can: a power of two from 4096; 0: 4096 */

	/*
	 * VFIO_DEVICE_RESET was done: at the source because the device failed
	 * and came out of it in no other way (the guest's driver has lost it),
	 * at the target when a migration failed.  Engine's main thread.
	 * May be NULL.
	 */
	void (*was_reset)(void *opaque);
	void *opaque;
};

#define FERRY_VFIO_CONFIG_INIT FERRY_SIZED(ferry_vfio_config)

/* What a device can, beyond handing out its state when it is stopped. */
enum ferry_vfio_feature {
	FERRY_VFIO_P2P		= 1,	/* stands in two steps: several devices
					 * that reach each other need it */
	FERRY_VFIO_PRE_COPY	= 2,	/* hands out while the VM runs */
	FERRY_VFIO_DATA_SIZE	= 4,	/* tells how much is left */
	FERRY_VFIO_DMA_LOG	= 8,	/* logs what it writes */
};

/*
 * Add the device to a VM that no migration has used yet.  The same devices are
 * on both sides; whether two of them fit together is for their driver to say,
 * which is when the state is loaded: state what it needs by
 * ferry_vm_add_fact(), such as the versions of its firmware.
 *
 * FERRY_E_UNSUPPORTED: the driver cannot migrate it, or ranges are given and
 * the device has no log.  Returns NULL and fills *e on failure.
 */
struct ferry_vfio *ferry_vfio_add(struct ferry_vm *vm,
				  const struct ferry_vfio_config *config,
				  struct ferry_err *e);

/* After ferry_vm_free(): the VM points here.  NULL is nothing. */
void ferry_vfio_free(struct ferry_vfio *v);

/* Bits of enum ferry_vfio_feature.  Any thread. */
unsigned ferry_vfio_features(const struct ferry_vfio *v);

#ifdef __cplusplus
}
#endif
#endif
