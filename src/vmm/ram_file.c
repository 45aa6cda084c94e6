/* SPDX-License-Identifier: MIT */
/*
 * RAM in a file with a name, which outlives this process when that is killed:
 * what a VM had received before is not lost with it (`ferry rescue`).  Who
 * ends in order takes the file along.
 */
#include "vmm/ram_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/limits.h"

/* Held as long as this process lives: who finds the file knows. */
static int take_lock(int fd, const char *path, struct ferry_err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, F_OFD_SETLK, &lock) ? 0 :
	       ferry_err_set(e, FERRY_E_IO, errno, "lock RAM in %s", path);
}

static int create(const char *path, struct ferry_err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		ferry_err_set(e, FERRY_E_INVALID, EEXIST, "RAM in %s: it "
			      "exists: another VM has it, or one that was "
			      "killed left it behind; look at it with "
			      "`ferry rescue`, or remove it", path);
	else if (fd < 0)
		ferry_err_set(e, FERRY_E_IO, errno, "RAM in %s", path);
	return fd;
}

/* Of what a fault can be served. */
static int check_kind(int fd, const char *path, uint32_t *page_bytes,
		      struct ferry_err *e)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return ferry_err_set(e, FERRY_E_IO, errno, "RAM in %s", path);
	if (fs.f_type == TMPFS_MAGIC) {
		*page_bytes = FERRY_PAGE_BYTES;
		return 0;
	}
	if (fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize == FERRY_HUGE_BYTES) {
		*page_bytes = FERRY_HUGE_BYTES;
		return 0;
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "RAM in %s: it has to lie "
			     "in a tmpfs, such as /dev/shm, or in a hugetlbfs "
			     "with pages of 2 MiB", path);
}

int ferry_ram_file_open(const char *path, uint64_t bytes,
			uint32_t *page_bytes, struct ferry_err *e)
{
	int fd = create(path, e);

	if (fd < 0)
		return -1;
	if (check_kind(fd, path, page_bytes, e) || take_lock(fd, path, e))
		goto fail;
	if (ftruncate(fd, (off_t)bytes)) {
		ferry_err_set(e, FERRY_E_IO, errno, "size of RAM in %s", path);
		goto fail;
	}
	return fd;
fail:
	unlink(path);
	close(fd);
	return -1;
}
