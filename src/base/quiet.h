/* SPDX-License-Identifier: MIT */
/*
 * Writing to a pipe that may have lost its reader, in a process whose signals
 * are not ours: that is an error, and no SIGPIPE.
 */
#ifndef FERRY_BASE_QUIET_H
#define FERRY_BASE_QUIET_H

#include <sys/types.h>
#include <sys/uio.h>

/* As writev(2), but -errno.  Any thread. */
ssize_t ferry_writev_quietly(int fd, const struct iovec *iov, int n);

static inline ssize_t ferry_write_quietly(int fd, const void *data,
					  size_t bytes)
{
	const struct iovec iov = { (void *)data, bytes };

	return ferry_writev_quietly(fd, &iov, 1);
}

#endif
