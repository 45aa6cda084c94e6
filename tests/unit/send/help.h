/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the source's half share: memory in blocks of awkward sizes
 * (made up, or real), and channels in memory.
 */
#ifndef TESTS_UNIT_SEND_HELP_H
#define TESTS_UNIT_SEND_HELP_H

#include "base/cleanup.h"
#include "base/thread.h"
#include "chan/chan.h"
#include "send/encode.h"
#include "unit/mem/help.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)
#define HUGE_PAGES	(HUGE / PAGE)

/* The error is of this code and its sentence has this in it. */
static inline void assert_says(const struct ferry_err *e, int code,
			       const char *part)
{
	if (e->code != code || !strstr(e->msg, part))
		fail_msg("error %s '%s', not %s '%s'", ferry_err_name(e->code),
			 e->msg, ferry_err_name(code), part);
}

/* A block that is only spoken of: there is no memory behind it. */
static inline void made_up_block(struct ferry_mem *m, const char *name,
				 uint64_t pages, uint32_t page_bytes)
{
	struct ferry_mem_block *b;

	if (!m->block)
		m->block = calloc(FERRY_BLOCKS_MAX, sizeof(*m->block));
	assert_non_null(m->block);
	b = &m->block[m->blocks];
	*b = (struct ferry_mem_block){
		.bytes = pages * PAGE, .pages = pages, .fd = -1,
		.page_bytes = page_bytes,
		.host_pages = (uint32_t)(page_bytes / PAGE),
		.index = m->blocks,
	};
	snprintf(b->name, sizeof(b->name), "%s", name);
	m->blocks++;
	m->pages += pages;
}

/* ---- the far end of a channel ------------------------------------------- */

/* Reads all that is written, until the writer shuts down or closes. */
struct sink {
	struct ferry_chan *end;
	struct ferry_thread thread;
	uint8_t		*data;
	size_t		 bytes, size;
	_Atomic size_t	 so_far;	/* bytes, for others to look at */
};

/* Returns the end to write to, which is the caller's. */
struct ferry_chan *sink_open(struct sink *s, const char *name);

/* Until so many octets have come. */
void sink_wait_bytes(const struct sink *s, size_t bytes);

/* All has come: joins the reader.  The writer has shut down or closed. */
void sink_wait(struct sink *s);
void sink_fini(struct sink *s);

/* ---- what has come ------------------------------------------------------ */

#define TALLY_BLOCKS_MAX	8

struct tally {
	const struct ferry_mem *mem;
	uint8_t		*image[TALLY_BLOCKS_MAX];	/* as the target's */
	uint8_t		*count[TALLY_BLOCKS_MAX];	/* per page */
	uint64_t	 normal, zero;
	uint32_t	 syncs, last_sync;
	bool		 ends_with_sync;
	void		(*each)(void *arg, uint32_t block, uint64_t page);
	void		*arg;
};

void tally_init(struct tally *t, const struct ferry_mem *mem);
void tally_fini(struct tally *t);

/* Decode all of it; anything that a target would refuse fails the test. */
void tally_packets(struct tally *t, const uint8_t *data, size_t bytes);
void tally_records(struct tally *t, const uint8_t *data, size_t bytes);

/* Each page that came is as it is in memory, and came this often where
 * wanted[block][page] is not 0, and never where it is. */
void tally_check(const struct tally *t, uint8_t *const wanted[]);

/* The same numbers on every run. */
static inline uint32_t dice(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

#endif
