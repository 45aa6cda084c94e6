/* SPDX-License-Identifier: MIT */
/*
 * The memory of a VM whose process is dead, from the file that it had it in
 * (`ferry run --ram-path`): a plain dump, for whoever looks for data.
 */
#include "ram_dump.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PIECE		(1 << 20)
#define LOOK_NS		(20 * FERRY_NS_PER_MS)
#define DYING_NS	(3 * FERRY_NS_PER_S)

bool ferry_is_ram_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* 1: somebody holds the lock; 0; or -1. */
static int is_locked(int fd, const char *path, struct ferry_err *e)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_GETLK, &lock))
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	return lock.l_type != F_UNLCK;
}

/* Its process holds a lock as long as it lives; one that was just killed has
 * much memory to give back first. */
static int check_dead(int fd, const char *path, struct ferry_err *e)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	uint64_t until = ferry_now_ns() + DYING_NS;
	int locked;

	while ((locked = is_locked(fd, path, e)) > 0 && ferry_now_ns() < until)
		nanosleep(&pause, NULL);
	return locked <= 0 ? locked :
	       ferry_err_set(e, FERRY_E_STATE, 0, "%s is the RAM of a VM that "
			     "lives: name the VM", path);
}

static int copy_piece(int from, int to, off_t at, uint8_t *buf, size_t bytes,
		      struct ferry_err *e)
{
	ssize_t got = pread(from, buf, bytes, at);

	if (got <= 0)
		return ferry_err_set(e, FERRY_E_IO, got ? errno : EIO,
				     "read the RAM");
	return pwrite(to, buf, (size_t)got, at) == got ? (int)got :
	       ferry_err_set(e, FERRY_E_IO, errno, "write the dump");
}

/* -1 with an error, or how many octets there were. */
static int64_t copy_data(int from, int to, off_t bytes, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(PIECE);
	off_t at = 0, end;
	int64_t held = 0;

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "a buffer");
	while ((at = lseek(from, at, SEEK_DATA)) >= 0 && at < bytes) {
		end = lseek(from, at, SEEK_HOLE);
		if (end <= at)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "look for the RAM's holes");
		held += end - at;
		while (at < end) {
			off_t n = end - at < PIECE ? end - at : PIECE;
			int got = copy_piece(from, to, at, buf, (size_t)n, e);

			if (got < 0)
				return -1;
			at += got;
		}
	}
	return held;
}

static int copy(int from, const char *path, uint64_t *held, uint64_t *all,
		struct ferry_err *e)
{
	FERRY_AUTO_FD to = open(path, O_WRONLY | O_CREAT | O_EXCL |
				    O_CLOEXEC, 0600);
	struct stat st;
	int64_t n;

	if (to < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	if (fstat(from, &st) || ftruncate(to, st.st_size))
		n = ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	else
		n = copy_data(from, to, st.st_size, e);
	if (n < 0 || fsync(to)) {
		unlink(path);
		return n < 0 ? ferry_err_wrap(e, "%s", path) :
		       ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	}
	*held = (uint64_t)n;
	*all = (uint64_t)st.st_size;
	return 0;
}

int ferry_ram_dump(const char *ram, const char *to, uint64_t *held,
		   uint64_t *all, struct ferry_err *e)
{
	FERRY_AUTO_FD from = open(ram, O_RDONLY | O_CLOEXEC);

	if (from < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", ram);
	return check_dead(from, ram, e) ? -1 : copy(from, to, held, all, e);
}
