/* SPDX-License-Identifier: MIT */
/*
 * The block list behind MEM_SIZE, the first record of the RAM section's START.
 * An entry is not self-describing: which fields it has depends on what the
 * stream agreed to before, which the reader says here.  Pure, any thread.
 */
#ifndef FERRY_WIRE_RAMLIST_H
#define FERRY_WIRE_RAMLIST_H

#include "base/limits.h"
#include "wire/decode.h"
#include "wire/mapped.h"

struct ferry_ramlist {
	/* Filled by the caller after ferry_ramlist_init(). */
	bool		gpa;		/* x-ignore-shared: be64 address */
	bool		mapped;		/* mapped-ram: its header */
	/*
	 * Postcopy was advised: blocks of huge pages state their page size.
	 * Returns the host page of the reader's own block, 0 for a name it
	 * does not know.  NULL: not advised.
	 */
	uint32_t	(*page_bytes)(void *arg, const char *name);
	void		*arg;
	/*
	 * For a reader without blocks of its own, instead: the page sizes that
	 * POSTCOPY_ADVISE named, as an OR.  What follows the size of an entry
	 * can then be told: a page size, or else a name or a record.
	 */
	uint64_t	page_sizes;

	uint64_t	total_bytes;
	uint64_t	seen_bytes;
	uint32_t	blocks;		/* decoded so far */
};

struct ferry_ramlist_block {
	char		name[FERRY_NAME_MAX + 1];
	uint64_t	bytes;
	uint64_t	gpa;		/* 0 unless list.gpa */
	uint32_t	page_bytes;	/* 4096 unless stated */
	struct ferry_mapped mapped;	/* zeroes unless list.mapped */
};

/* total_bytes: addr of the MEM_SIZE record. */
FERRY_CHECKED int ferry_ramlist_init(struct ferry_ramlist *l,
				     uint64_t total_bytes,
				     struct ferry_err *e);

/* All blocks have been read. */
static inline bool ferry_ramlist_done(const struct ferry_ramlist *l)
{
	return l->seen_bytes == l->total_bytes;
}

/*
 * Stream decoder: the next entry; not to be called when done.  With mapped
 * the file position then jumps to mapped.pages_offset + bytes.  Whether names
 * repeat, and sizes fit, is for the caller, who has the blocks.
 */
FERRY_CHECKED int ferry_ramlist_decode(struct ferry_rd *r,
				       struct ferry_ramlist *l,
				       struct ferry_ramlist_block *b,
				       struct ferry_err *e);

/* One entry.  page_bytes is written iff l->page_bytes is set and it is not
 * 4096 (the function is not called). */
void ferry_ramlist_encode(struct ferry_wr *w, const struct ferry_ramlist *l,
			  const struct ferry_ramlist_block *b);
size_t ferry_ramlist_bytes(const struct ferry_ramlist *l,
			   const struct ferry_ramlist_block *b);

#endif
