/* SPDX-License-Identifier: MIT */
/*
 * Scope cleanup: a variable marked FERRY_AUTO_* is released when it goes out
 * of scope.  Declare it initialised (-1, NULL); hand it over with steal.
 * close() is never retried: Linux has freed the number even on EINTR.
 */
#ifndef FERRY_BASE_CLEANUP_H
#define FERRY_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void ferry_cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void ferry_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void ferry_cleanup_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* Holding a resource until the scope ends is use enough. */
#define FERRY_AUTO_(fn)	__attribute__((cleanup(fn), unused))

#define FERRY_AUTO_FD	FERRY_AUTO_(ferry_cleanup_fd) int
#define FERRY_AUTO_FREE	FERRY_AUTO_(ferry_cleanup_free)
#define FERRY_AUTO_FILE	FERRY_AUTO_(ferry_cleanup_file) FILE *

static inline int ferry_steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define ferry_steal(ptr)				\
	({						\
		__typeof__(*(ptr)) taken_ = *(ptr);	\
		*(ptr) = NULL;				\
		taken_;					\
	})

#define FERRY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

#endif
