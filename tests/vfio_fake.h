/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device that is made up: it answers the system calls of
 * dev/vfio_port.h as <linux/vfio.h> says that a kernel does, and takes nothing
 * that it does not allow.
 *
 * Its state is so many blocks, each with a generation that the "guest" counts
 * up while the device runs.  What is read is a stream of items (number,
 * generation, octets that follow from both) that ends with one that holds the
 * sum of all generations; a device that is given a stream checks all of that.
 *
 * Threads: any.
 */
#ifndef FERRY_TESTS_VFIO_FAKE_H
#define FERRY_TESTS_VFIO_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dev/vfio_port.h"

#define FAKE_BLOCKS_MAX	64u
#define FAKE_ITEM_BYTES	1000u
#define FAKE_PEERS_MAX	8u
#define FAKE_FD		1000000	/* the device's: no number the kernel gives */
#define FAKE_LOG_PAGES	4096u

enum fake_failure {
	FAKE_FAILS_IN_PLACE,	/* and changes nothing */
	FAKE_FAILS_HALFWAY,	/* a change of state has begun */
	FAKE_FAILS_TO_ERROR,	/* a change of state ends in ERROR */
};

struct vfio_fake_config {
	uint64_t	 can;		/* VFIO_MIGRATION_* */
	bool		 tells_size, logs_dma;
	unsigned	 blocks;
	unsigned	 initial;	/* of them needed first */
	size_t		 at_once;	/* octets of a read or write; 0: any */
	unsigned	 eintr, eagain;	/* each so many reads and writes; 0 */
	bool		 silent;	/* data is never ready */
	bool		 no_data_fd;	/* gives none */
};

struct vfio_fake {
	struct vfio_fake_config cfg;
	pthread_mutex_t	 lock;
	_Atomic uint32_t state;
	bool		 vm_runs;	/* what stands beside it matters */
	struct vfio_fake *peer[FAKE_PEERS_MAX];
	unsigned	 peers;
	unsigned	 resets;
	char		 odd[120];	/* what a kernel would not have liked */

	/* Faults: the call of this number, from 1. */
	unsigned	 calls, fail_at;
	int		 fail_with;
	enum fake_failure failure;
	_Atomic bool	 failed;
	bool		 fails_on;	/* and all changes of state behind it */

	/* The transfer. */
	int		 data_fd, last_fd;
	unsigned	 opened, closed;
	bool		 open;		/* the session; the fd may outlive it */
	unsigned	 transfers;	/* reads and writes */
	uint32_t	 generation[FAKE_BLOCKS_MAX];
	bool		 dirty[FAKE_BLOCKS_MAX];
	unsigned	 first;		/* blocks needed first: not read yet */
	uint8_t		 item[FAKE_ITEM_BYTES];
	size_t		 item_at, item_end;	/* being read, or written */
	bool		 ended, wrong;
	uint64_t	 octets;

	/* The log of what it writes. */
	bool		 logs;
	uint64_t	 log_iova, log_bytes, log_page;
	uint8_t		 log[FAKE_LOG_PAGES];
	unsigned	 reports;
};

extern const struct ferry_vfio_sys vfio_fake_sys;	/* arg: the fake */

void vfio_fake_init(struct vfio_fake *f, const struct vfio_fake_config *cfg);
void vfio_fake_fini(struct vfio_fake *f);

/* Those that may reach each other: n in a row. */
void vfio_fake_join(struct vfio_fake *f, unsigned n);

/* The guest makes it change; nothing when it does not run. */
void vfio_fake_touch(struct vfio_fake *f, uint64_t turn);

/* It writes to these addresses; false: it may not. */
bool vfio_fake_dma(struct vfio_fake *f, uint64_t iova, uint64_t bytes);

/* The same state is in both. */
bool vfio_fake_same(struct vfio_fake *a, struct vfio_fake *b);

/* All that it gave is closed. */
bool vfio_fake_is_tidy(struct vfio_fake *f);

#endif
