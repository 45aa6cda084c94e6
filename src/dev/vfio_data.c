/* SPDX-License-Identifier: MIT */
/*
 * The data of a VFIO device: read and written in pieces, beside the
 * descriptor that says that it is over.
 */
#include "dev/vfio_port.h"

#include "base/clock.h"
#include "dev/vfio_abi.h"

#define PAUSE_MS 1	/* poll() says ready, and read() says not yet */

static uint32_t ms_until(uint64_t until_ns)
{
	uint64_t now = ferry_now_ns();

	return now >= until_ns ? 0 :
	       (uint32_t)((until_ns - now + FERRY_NS_PER_MS - 1) /
			  FERRY_NS_PER_MS);
}

/* fd -1: for over_fd alone. */
static int await(const struct ferry_vfio_port *p, int fd, short events,
		 int over_fd, uint32_t ms)
{
	struct pollfd at[] = {
		{ .fd = over_fd, .events = POLLIN },
		{ .fd = fd, .events = events },
	};
	int n = p->sys->poll(p->sys_arg, at, fd < 0 ? 1 : 2, (int)ms);

	if (n < 0)
		return n;
	if (at[0].revents)
		return -ECANCELED;
	return n ? 0 : -ETIMEDOUT;
}

/* What was interrupted is tried again, what is not ready waited for. */
static bool again(const struct ferry_vfio_port *p, int over_fd, ssize_t *rc,
		  uint64_t until_ns)
{
	if (*rc != -EINTR && *rc != -EAGAIN)
		return false;
	if (*rc == -EAGAIN && await(p, -1, 0, over_fd, PAUSE_MS) ==
			      -ECANCELED)
		*rc = -ECANCELED;
	else if (ferry_now_ns() < until_ns)
		return true;
	else
		*rc = -ETIMEDOUT;
	return false;
}

ssize_t ferry_vfio_read(const struct ferry_vfio_port *p, int over_fd,
			uint32_t ms, void *to, size_t bytes)
{
	uint64_t until = ferry_now_ns() + ms * FERRY_NS_PER_MS;
	ssize_t rc;

	do {
		rc = await(p, p->data_fd, POLLIN, over_fd, ms_until(until));
		if (!rc)
			rc = p->sys->read(p->sys_arg, p->data_fd, to, bytes);
	} while (again(p, over_fd, &rc, until));
	return rc;
}

static ssize_t write_some(const struct ferry_vfio_port *p, int over_fd,
			  const void *from, size_t bytes)
{
	uint64_t until = ferry_now_ns() + p->silent_ms * FERRY_NS_PER_MS;
	ssize_t rc;

	do {
		rc = await(p, p->data_fd, POLLOUT, over_fd, ms_until(until));
		if (!rc)
			rc = p->sys->write(p->sys_arg, p->data_fd, from,
					   bytes);
	} while (again(p, over_fd, &rc, until));
	return rc ? rc : -EIO;
}

int ferry_vfio_write(const struct ferry_vfio_port *p, int over_fd,
		     const void *from, size_t bytes)
{
	const uint8_t *at = from;

	while (bytes) {
		ssize_t n = write_some(p, over_fd, at, bytes);

		if (n < 0)
			return (int)n;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int ferry_vfio_wrong(const struct ferry_vfio_port *p, const char *what,
		     int rc, struct ferry_err *e)
{
	if (rc == -ECANCELED)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "the migration is over");
	if (rc == -ETIMEDOUT)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: the device "
				     "has been silent for %u ms", what,
				     p->silent_ms);
	return ferry_err_set(e, FERRY_E_DEVICE, -rc, "%s", what);
}

/* A transfer that has begun while the VM runs can say what is left of it. */
static int ask_live(const struct ferry_vfio_port *p,
		    struct ferry_vfio_left *left)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	int rc;

	if (p->data_fd < 0)
		return 0;
	rc = p->sys->ioctl(p->sys_arg, p->data_fd, VFIO_MIG_GET_PRECOPY_INFO,
			   &info);
	if (rc < 0)
		return rc;
	left->initial_bytes = info.initial_bytes;
	left->dirty_bytes = info.dirty_bytes;
	return 0;
}

int ferry_vfio_left(const struct ferry_vfio_port *p,
		    struct ferry_vfio_left *left)
{
	struct vfio_device_feature_mig_data_size size = { 0 };
	uint64_t live;
	int rc;

	*left = (struct ferry_vfio_left){ 0 };
	rc = ask_live(p, left);
	if (!p->tells_size ||
	    ferry_vfio_feature(p, VFIO_DEVICE_FEATURE_GET |
				  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size,
			       sizeof(size)))
		return rc;
	/* What there would be if it were stopped now: with what it would hand
	 * out before. */
	live = left->initial_bytes + left->dirty_bytes;
	if (size.stop_copy_length > live)
		left->stop_bytes = size.stop_copy_length - live;
	return rc;
}
