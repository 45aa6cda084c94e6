/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory as a backend has it mapped.
 *
 * Regions never overlap, neither where the guest has them nor where the
 * front-end has them, so an address leads to one place.
 *
 * Threads: one thread changes it while no other looks (the control thread, with
 *          the queues held: be/queue.h); between changes anyone looks.
 * Limits:  a file that its owner shrinks under us costs the process a SIGBUS.
 *          Only a seal helps against that; add() says whether there is one.
 */
#ifndef FERRY_VU_BE_MEMORY_H
#define FERRY_VU_BE_MEMORY_H

#include "vu/msg/msg.h"

struct ferry_vb_region {
	uint64_t	gpa;
	uint64_t	bytes;
	uint64_t	user_addr;	/* in the front-end */
	uint64_t	fd_offset;
	uint8_t		*at;		/* here: gpa is at[0] */
	uint8_t		*map;		/* whole pages around it */
	uint64_t	map_bytes;
	uint64_t	page_bytes;
	int		fd;
	bool		sealed;		/* cannot shrink */
};

struct ferry_vb_memory {
	unsigned		n;
	struct ferry_vb_region	region[FERRY_VU_REGIONS_MAX];
	bool			shut;	/* postcopy: some of it must not be
					 * touched yet */
};

#define FERRY_VB_MEMORY_NONE { .n = 0 }

/*
 * Map one more; fd is taken (also on failure).  protection: PROT_* (PROT_NONE
 * before postcopy's registration).  Refused: a region that overlaps one that
 * is there, goes beyond its file, or is not aligned to 4096.
 */
FERRY_CHECKED int ferry_vb_memory_add(struct ferry_vb_memory *m,
				      const struct ferry_vu_region *r, int fd,
				      int protection, struct ferry_err *e);

/* Unmap the region with this gpa, user_addr and size.  -1: there is none. */
FERRY_CHECKED int ferry_vb_memory_remove(struct ferry_vb_memory *m,
					 const struct ferry_vu_region *r,
					 struct ferry_err *e);

/* Unmap all. */
void ferry_vb_memory_clear(struct ferry_vb_memory *m);

/* The same regions from the same files?  Then what is mapped can stay. */
bool ferry_vb_memory_same(const struct ferry_vb_memory *m,
			  const struct ferry_vu_mem *table, const int *fds);

/*
 * How many octets (at most bytes) from gpa on lie one behind the other, and in
 * *at where; 0: none.
 */
static inline uint64_t
ferry_vb_memory_guest(const struct ferry_vb_memory *m, uint64_t gpa,
		      uint64_t bytes, uint8_t **at)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct ferry_vb_region *r = &m->region[i];
		uint64_t into = gpa - r->gpa;

		if (gpa < r->gpa || into >= r->bytes)
			continue;
		*at = r->at + into;
		return bytes < r->bytes - into ? bytes : r->bytes - into;
	}
	return 0;
}

/* Where `bytes` octets at the front-end's address are, whole; or NULL. */
void *ferry_vb_memory_user(const struct ferry_vb_memory *m, uint64_t user_addr,
			   uint64_t bytes);

/* The guest's address of what ferry_vb_memory_guest() or _user() gave. */
uint64_t ferry_vb_memory_gpa_of(const struct ferry_vb_memory *m,
				const void *at);

#endif
