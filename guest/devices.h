/* SPDX-License-Identifier: MIT */
/*
 * The guest's network and disk, driven by the last vCPU between two pages.
 *
 * Threads: set up by vCPU 0 before it starts the others; polled by the last one
 *          from READY on; the _Atomic members are read by vCPU 0.
 */
#ifndef GUEST_DEVICES_H
#define GUEST_DEVICES_H

#include "guest.h"
#include "virtio.h"

/* Times between two answers. */
struct pace {
	uint64_t	last;		/* clock.now; 0: none yet */
	_Atomic uint64_t longest;	/* cycles, since vCPU 0 took it */
	_Atomic uint64_t gaps[GAP_BUCKETS];
};

struct net {
	struct virtio	device;
	struct virtq	rx, tx;
	uint8_t		*rx_frames, *tx_frames;	/* of NET_SLOT_BYTES each */
	uint16_t	free[VIRTQ_SIZE];	/* tx */
	uint16_t	frees;
	uint64_t	due;			/* the next echo */
	uint64_t	next;			/* its number, from 1 on */
	uint64_t	expect;			/* of the next answer */
	uint64_t	serial;			/* of the last foreign frame */
	struct virtq	control;		/* announce=1 */
	volatile uint8_t *command;
	bool		telling;		/* the device has it */
	struct pace	pace;
	_Atomic uint64_t sent, done, got, lost, late, bad;
	_Atomic uint64_t foreign, jumps, announced;
};

#define DISK_DEPTH_MAX	64u

struct disk_slot {
	uint64_t	block;
	uint32_t	type;
	bool		busy;
};

struct disk {
	struct virtio	device;
	struct virtq	queue;
	uint8_t		*memory;		/* of the slots */
	uint32_t	*counter;		/* of each block; 0: unknown */
	uint64_t	blocks;
	struct disk_slot slot[DISK_DEPTH_MAX];
	unsigned	depth;
	struct pace	pace;
	_Atomic uint64_t reads, writes, errors, bad;
};

extern struct net net;
extern struct disk disk;

/* vCPU 0, before memory is divided: find them, set them up, or FATAL. */
void net_setup(struct cpu *c);
void disk_setup(struct cpu *c);

/* The driving vCPU: what there is to do now. */
void net_poll(struct cpu *c);
void disk_poll(struct cpu *c);

/* announce=1: the same.  True: the device asks for a frame. */
void net_announce_setup(struct cpu *c);
bool net_announce_poll(void);

/* It drives them from now on. */
void devices_start(struct cpu *c);
void devices_poll(struct cpu *c);

/* vCPU 0: lines NET and DISK, if there are such devices; all: and their
 * gaps since READY. */
void devices_report(struct cpu *c, bool all);

/* One answer came. */
void pace_note(struct cpu *c, struct pace *p);

#endif
