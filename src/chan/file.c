/* SPDX-License-Identifier: MIT */
/*
 * Files on a disk.  Reads and writes wait for the disk at most, so nothing
 * needs to be woken; shutdown takes effect at the next call.
 *
 * By a path only regular files are written: what a device or a fifo was given
 * may be gone, and the source gives its VM away for it.
 *
 * A file that is written counts when it has been flushed.  One that ends
 * before that is cut back to where it began: what was saved in part, or by a
 * source that then went on by itself, must not be taken for a VM.  Who is
 * first, flush or shutdown, decides.
 */
#include "chan/stream.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static ssize_t try_readv(struct ferry_stream *s, const struct iovec *iov,
			 int n)
{
	ssize_t rc = readv(s->fd, iov, ferry_stream_iovs(n));

	return rc < 0 ? -errno : rc;
}

static ssize_t try_writev(struct ferry_stream *s, const struct iovec *iov,
			  int n)
{
	ssize_t rc = writev(s->fd, iov, ferry_stream_iovs(n));

	return rc < 0 ? -errno : rc;
}

static int prepare(struct ferry_stream *s, struct ferry_err *e)
{
	(void)s, (void)e;
	return 0;
}

static void undo(struct ferry_stream *s)
{
	uint64_t at = atomic_exchange(&s->undo_at, FERRY_STREAM_KEEP);

	if (at != FERRY_STREAM_KEEP)
		(void)!ftruncate(s->fd, (off_t)at);
}

static int flush(struct ferry_chan *c)
{
	struct ferry_stream *s = ferry_stream_of(c);

	if (fdatasync(s->fd))
		return -errno;
	if (atomic_exchange(&s->undo_at, FERRY_STREAM_KEEP) ==
	    FERRY_STREAM_KEEP && atomic_load(&s->shut))
		return -ESHUTDOWN;
	return 0;
}

const struct ferry_stream_kind ferry_stream_file = {
	.ops = {
		.kind = "file",
		.readv = ferry_stream_readv,
		.writev = ferry_stream_writev,
		.shutdown = ferry_stream_shutdown,
		.wait = ferry_stream_wait,
		.features = ferry_stream_features,
		.limit_unsent = ferry_stream_no_limit,
		.ack_at_once = ferry_stream_no_ack,
		.set_timeout = ferry_stream_set_timeout,
		.flush = flush,
		.export_key = ferry_stream_no_key,
		.close = ferry_stream_close,
	},
	.try_readv = try_readv,
	.try_writev = try_writev,
	.prepare = prepare,
	.wake = undo,
	.release = undo,
};

static int check_regular(const struct stat *st, struct ferry_err *e)
{
	static const struct { mode_t type; const char *what; } others[] = {
		{ S_IFDIR, "a folder" }, { S_IFIFO, "a fifo" },
		{ S_IFSOCK, "a socket" }, { S_IFCHR, "a character device" },
		{ S_IFBLK, "a block device" },
	};
	const char *what = "something else";

	if (S_ISREG(st->st_mode))
		return 0;
	for (size_t i = 0; i < FERRY_LEN(others); i++)
		if ((st->st_mode & S_IFMT) == others[i].type)
			what = others[i].what;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "only a regular file "
			     "keeps what is written to it; this is %s", what);
}

/* Opening alone does something to some devices and fifos. */
static int check_before_write(const char *path, struct ferry_err *e)
{
	struct stat st;

	return stat(path, &st) ? 0 : check_regular(&st, e);
}

/* O_NONBLOCK: a fifo that nobody has opened yet must not hold us here. */
static int open_path(const char *path, int for_write, struct ferry_err *e)
{
	int flags = for_write ? O_WRONLY | O_CREAT : O_RDONLY;
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);

	if (fd >= 0)
		return fd;
	return ferry_err_set(e, FERRY_E_IO, errno, "open");
}

/* Start at offset; a writer drops what lies behind it. */
static int seek_to(int fd, int for_write, uint64_t offset, struct ferry_err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return ferry_err_set(e, FERRY_E_IO, errno, "stat");
	if (for_write && check_regular(&st, e))
		return -1;
	if (for_write && ftruncate(fd, (off_t)offset))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "truncate to %" PRIu64, offset);
	if (offset && lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "seek to %" PRIu64,
				     offset);
	return 0;
}

static struct ferry_chan *open_at(const char *path, int for_write,
				  uint64_t offset, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;
	struct ferry_chan *c;

	if (for_write && check_before_write(path, e))
		return NULL;
	fd = open_path(path, for_write, e);
	if (fd < 0 || seek_to(fd, for_write, offset, e))
		return NULL;
	c = ferry_chan_fd(ferry_steal_fd(&fd), e);
	if (c && for_write)
		atomic_store(&ferry_stream_of(c)->undo_at, offset);
	return c;
}

struct ferry_chan *ferry_chan_file_at(const char *path, int for_write,
				      uint64_t offset, struct ferry_err *e)
{
	struct ferry_chan *c = open_at(path, for_write, offset, e);

	/* Of a long path enough, and room for the reason. */
	if (!c)
		ferry_err_wrap(e, "%s %.160s", for_write ? "write" : "read",
			       path);
	return c;
}

struct ferry_chan *ferry_chan_file(const char *path, int for_write,
				   struct ferry_err *e)
{
	return ferry_chan_file_at(path, for_write, 0, e);
}
