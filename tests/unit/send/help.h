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

/* The same numbers on every run. */
static inline uint32_t dice(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

#endif
