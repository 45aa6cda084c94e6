/* SPDX-License-Identifier: MIT */
/*
 * A tmpfs of a few pages that stands nowhere: it has no path but
 * /proc/self/fd/N, and goes when its descriptor does.  It can be filled, and
 * given room again.
 */
#ifndef TESTS_UNIT_SMALL_TMPFS_H
#define TESTS_UNIT_SMALL_TMPFS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

struct small_tmpfs {
	int	dir;
	int	ballast;	/* a file that takes room away */
	char	path[32];
};

/* False, and errno, where one may not mount. */
static inline bool small_tmpfs_open(struct small_tmpfs *t, uint64_t bytes)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char size[32];

	*t = (struct small_tmpfs){ .dir = -1, .ballast = -1 };
	if (fs < 0)
		return false;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	if (!fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) &&
	    !fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		t->dir = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	if (t->dir < 0)
		return false;
	snprintf(t->path, sizeof(t->path), "/proc/self/fd/%d", t->dir);
	t->ballast = openat(t->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return t->ballast >= 0;
}

/* Take that much room away, all in all: 0 gives all of it back. */
static inline bool small_tmpfs_fill(struct small_tmpfs *t, uint64_t bytes)
{
	return !ftruncate(t->ballast, (off_t)bytes) &&
	       (!bytes || !posix_fallocate(t->ballast, 0, (off_t)bytes));
}

static inline void small_tmpfs_close(struct small_tmpfs *t)
{
	if (t->ballast >= 0)
		close(t->ballast);
	if (t->dir >= 0)
		close(t->dir);
}

#endif
