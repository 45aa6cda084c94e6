/* SPDX-License-Identifier: MIT */
/*
 * The system calls that a VFIO device takes, as the kernel answers them.
 */
#include "dev/vfio_port.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int sys_ioctl(void *arg, int fd, unsigned long request, void *data)
{
	int rc = ioctl(fd, request, data);

	(void)arg;
	return rc < 0 ? -errno : rc;
}

static ssize_t sys_read(void *arg, int fd, void *to, size_t bytes)
{
	ssize_t n = read(fd, to, bytes);

	(void)arg;
	return n < 0 ? -errno : n;
}

static ssize_t sys_write(void *arg, int fd, const void *from, size_t bytes)
{
	ssize_t n = write(fd, from, bytes);

	(void)arg;
	return n < 0 ? -errno : n;
}

static int sys_poll(void *arg, struct pollfd *p, nfds_t n, int timeout_ms)
{
	int rc = poll(p, n, timeout_ms);

	(void)arg;
	return rc < 0 ? -errno : rc;
}

static void sys_close(void *arg, int fd)
{
	(void)arg;
	close(fd);
}

const struct ferry_vfio_sys ferry_vfio_kernel = {
	.ioctl = sys_ioctl, .read = sys_read, .write = sys_write,
	.poll = sys_poll, .close = sys_close,
};
