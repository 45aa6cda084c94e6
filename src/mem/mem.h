/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as the engine sees it: blocks, cut into target pages of 4 KiB
 * (the unit of the wire and of every bitmap), backed by host pages of 4 KiB or
 * 2 MiB (the unit of faults, discards and claims).
 *
 * A block may lie in no memory of this process (a parked VM's, say): then its
 * pages are read by its ferry_mem_store, or, of a VM that is being parked,
 * written to a file, and nobody may look at `host`.
 *
 * Threads: filled before the engine starts, then read-only.
 */
#ifndef FERRY_MEM_MEM_H
#define FERRY_MEM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

/* Where pages are that do not lie in memory.  Any thread. */
struct ferry_mem_store {
	/* n <= FERRY_PACKET_PAGES_MAX pages of one block, ascending, one
	 * behind the other into out. */
	int (*read)(void *arg, uint32_t block, const uint64_t *page,
		    uint32_t n, uint8_t *out, struct ferry_err *e);

	/* How many pages from this one on are alike (>= 1): *zero, known to
	 * be zero without reading, or not. */
	uint64_t (*run)(void *arg, uint32_t block, uint64_t page, bool *zero);
	void		*arg;
};

struct ferry_mem_block {
	char		 name[FERRY_NAME_MAX + 1];
	uint8_t		*host;
	uint64_t	 bytes;
	uint64_t	 pages;		/* of 4 KiB */
	uint32_t	 page_bytes;	/* host page */
	uint32_t	 host_pages;	/* target pages per host page: 1, 512 */
	uint64_t	 gpa;
	int		 fd;		/* -1: private anonymous */
	uint64_t	 fd_offset;
	uint32_t	 index;
	const struct ferry_mem_store *store;	/* NULL: memory, at host */
	bool		 in_file;	/* in fd only: host is NULL */
};

struct ferry_mem {
	struct ferry_mem_block *block;
	uint32_t	 blocks;
	uint64_t	 pages;		/* all blocks */
};

/* Checks and copies; FERRY_E_INVALID with a sentence that names the block. */
FERRY_CHECKED int ferry_mem_add(struct ferry_mem *m, const char *name,
				void *host, uint64_t bytes,
				uint32_t page_bytes, uint64_t gpa, int fd,
				uint64_t fd_offset, struct ferry_err *e);

/* The same for a block in a store, which must outlive m; read only. */
FERRY_CHECKED int ferry_mem_add_stored(struct ferry_mem *m, const char *name,
				       uint64_t bytes, uint32_t page_bytes,
				       uint64_t gpa,
				       const struct ferry_mem_store *store,
				       struct ferry_err *e);

/* The same for a block that is only written, to a file that stays open. */
FERRY_CHECKED int ferry_mem_add_file(struct ferry_mem *m, const char *name,
				     uint64_t bytes, uint32_t page_bytes,
				     uint64_t gpa, int fd, uint64_t fd_offset,
				     struct ferry_err *e);
void ferry_mem_fini(struct ferry_mem *m);

/* NULL when there is none. */
struct ferry_mem_block *ferry_mem_by_name(const struct ferry_mem *m,
					  const char *name);
struct ferry_mem_block *ferry_mem_by_addr(const struct ferry_mem *m,
					  const void *addr);

/* A run of target pages of one block. */
struct ferry_run {
	struct ferry_mem_block *block;
	uint64_t	first;
	uint64_t	pages;
};

/* All octets zero?  Any alignment, any length. */
bool ferry_is_zero(const void *data, size_t bytes);

#endif
