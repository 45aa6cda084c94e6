/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device as a migration sees it: its state, and the descriptor through
 * which its data goes.  All of it by system calls that a test can answer.
 *
 * Threads: one at a time.
 */
#ifndef FERRY_DEV_VFIO_PORT_H
#define FERRY_DEV_VFIO_PORT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* What is negative is -errno. */
struct ferry_vfio_sys {
	int (*ioctl)(void *arg, int fd, unsigned long request, void *data);
	ssize_t (*read)(void *arg, int fd, void *to, size_t bytes);
	ssize_t (*write)(void *arg, int fd, const void *from, size_t bytes);
	int (*poll)(void *arg, struct pollfd *p, nfds_t n, int timeout_ms);
	void (*close)(void *arg, int fd);
};

/* The kernel's; arg is not used. */
extern const struct ferry_vfio_sys ferry_vfio_kernel;

struct ferry_vfio_port {
	const struct ferry_vfio_sys *sys;
	void		*sys_arg;
	int		 fd;		/* the embedder's */
	int		 data_fd;	/* ours; -1: no transfer */
	uint64_t	 can;		/* VFIO_MIGRATION_* */
	bool		 tells_size, logs_dma;
	uint32_t	 silent_ms;
};

/* Asks what it can. */
FERRY_CHECKED int ferry_vfio_port_init(struct ferry_vfio_port *p,
				       struct ferry_err *e);
void ferry_vfio_port_fini(struct ferry_vfio_port *p);

/* VFIO_DEVICE_FEATURE: bytes of data go there, and come back with GET. */
int ferry_vfio_feature(const struct ferry_vfio_port *p, uint32_t flags,
		       void *data, size_t bytes);

/* ---- states --------------------------------------------------------------- */

const char *ferry_vfio_state_name(uint32_t state);

FERRY_CHECKED int ferry_vfio_get(const struct ferry_vfio_port *p,
				 uint32_t *state, struct ferry_err *e);

/* In the state, a transfer goes on or there is none. */
FERRY_CHECKED int ferry_vfio_set(struct ferry_vfio_port *p, uint32_t state,
				 struct ferry_err *e);

/* A state in which a transfer begins. */
FERRY_CHECKED int ferry_vfio_open(struct ferry_vfio_port *p, uint32_t state,
				  struct ferry_err *e);

/* The same as set, and what was transferred has ended. */
FERRY_CHECKED int ferry_vfio_close(struct ferry_vfio_port *p, uint32_t state,
				   struct ferry_err *e);

/*
 * Wherever it is now, by whatever works.  Without a transfer.  A device that
 * has failed, or stands and cannot be moved, is reset (*was_reset): it has
 * lost its state.  One that runs is rather left as it is, and that is an error.
 */
FERRY_CHECKED int ferry_vfio_settle(struct ferry_vfio_port *p, uint32_t state,
				    bool *was_reset, struct ferry_err *e);

/* It is RUNNING then. */
FERRY_CHECKED int ferry_vfio_reset(struct ferry_vfio_port *p,
				   struct ferry_err *e);

/* ---- data ----------------------------------------------------------------- */

/*
 * Wait up to `ms` for data.  The octets, 0 at the end of a transfer, or:
 * -ENOMSG	there is nothing more while the VM runs
 * -ETIMEDOUT	nothing came in that time
 * -ECANCELED	over_fd is readable
 */
ssize_t ferry_vfio_read(const struct ferry_vfio_port *p, int over_fd,
			uint32_t ms, void *to, size_t bytes);

/* All of it; 0 or one of those. */
int ferry_vfio_write(const struct ferry_vfio_port *p, int over_fd,
		     const void *from, size_t bytes);

/* Made a sentence of. */
int ferry_vfio_wrong(const struct ferry_vfio_port *p, const char *what,
		     int rc, struct ferry_err *e);

/* What is left to read; zeroes where it cannot say.  -errno: not the first
 * two. */
struct ferry_vfio_left {
	uint64_t initial_bytes, dirty_bytes, stop_bytes;
};

int ferry_vfio_left(const struct ferry_vfio_port *p,
		    struct ferry_vfio_left *left);

#endif
