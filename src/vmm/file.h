/* SPDX-License-Identifier: MIT */
/*
 * A kernel or initrd on disk, read piece by piece straight to where it goes.
 * It stays open for as long as the machine may be reset.
 */
#ifndef FERRY_VMM_FILE_H
#define FERRY_VMM_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_file {
	int		 fd;	/* -1: none */
	uint64_t	 bytes;
	const char	*path;	/* the caller's; must outlive this */
};

#define FERRY_FILE_NONE { .fd = -1 }

/* Only regular files. */
FERRY_CHECKED int ferry_file_open(struct ferry_file *f, const char *path,
				  struct ferry_err *e);
void ferry_file_close(struct ferry_file *f);

/* Exactly `bytes` octets at `at`, all of them inside the file. */
FERRY_CHECKED int ferry_file_read(const struct ferry_file *f, uint64_t at,
				  void *buf, uint64_t bytes,
				  struct ferry_err *e);

#endif
