/* SPDX-License-Identifier: MIT */
/* See file.h. */
#include "vmm/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"

int ferry_file_open(struct ferry_file *f, const char *path,
		    struct ferry_err *e)
{
	/* NONBLOCK: a fifo must be refused, not waited for */
	FERRY_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return ferry_err_set(e, FERRY_E_IO, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: not a regular file", path);
	f->bytes = (uint64_t)st.st_size;
	f->path = path;
	f->fd = ferry_steal_fd(&fd);
	return 0;
}

void ferry_file_close(struct ferry_file *f)
{
	ferry_cleanup_fd(&f->fd);
	f->fd = -1;
}

int ferry_file_read(const struct ferry_file *f, uint64_t at, void *buf,
		    uint64_t bytes, struct ferry_err *e)
{
	uint8_t *to = buf;

	if (at > f->bytes || bytes > f->bytes - at)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: octets %" PRIu64 "+%" PRIu64
				     " are past the end of the file (%" PRIu64
				     ")", f->path, at, bytes, f->bytes);
	while (bytes) {
		ssize_t n = pread(f->fd, to, bytes, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ferry_err_set(e, FERRY_E_IO, errno, "read %s",
					     f->path);
		if (n == 0)
			return ferry_err_set(e, FERRY_E_IO, 0,
					     "%s became shorter while it was "
					     "read", f->path);
		to += n;
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}
