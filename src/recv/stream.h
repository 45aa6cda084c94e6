/* SPDX-License-Identifier: MIT */
/*
 * Reading the main stream: its opening, section headers, payloads, and the
 * bodies of the RAM section.
 *
 * Threads: the target's main thread.
 */
#ifndef FERRY_RECV_STREAM_H
#define FERRY_RECV_STREAM_H

#include "chan/inbuf.h"
#include "recv/helper.h"
#include "wire/config.h"
#include "wire/ramlist.h"
#include "wire/section.h"

/* A buffer that holds any record but a package. */
#define FERRY_STREAM_BUF_BYTES	(128u << 10)

/* File header and CONFIGURATION. */
FERRY_CHECKED int ferry_stream_open(struct ferry_inbuf *in,
				    struct ferry_config *c,
				    struct ferry_err *e);

/* The next section header. */
FERRY_CHECKED int ferry_stream_section(struct ferry_inbuf *in,
				       struct ferry_section *s,
				       struct ferry_err *e);

/* n octets that follow, borrowed until the next read. */
FERRY_CHECKED int ferry_stream_payload(struct ferry_inbuf *in, size_t n,
				       struct ferry_rd *rd,
				       struct ferry_err *e);

FERRY_CHECKED int ferry_stream_footer(struct ferry_inbuf *in, uint32_t id,
				      struct ferry_err *e);

/* ---- the RAM section ------------------------------------------------------ */

/* What a reader may want to do at certain places of the body; a slot may be
 * NULL. */
struct ferry_rambody_hooks {
	/* Of a VM whose blocks are not known: this is one; instead of a
	 * comparison.  NULL: that was all of them. */
	int (*adopt)(void *arg, const struct ferry_ramlist_block *lb,
		     struct ferry_err *e);
	/* MULTIFD_FLUSH or EOS was read, and what came before is placed. */
	int (*mark)(void *arg, uint32_t kind, struct ferry_err *e);
	void		*arg;
};

struct ferry_rambody {
	struct ferry_inbuf *in;
	struct ferry_rambody_hooks hooks;
	uint64_t	 page_sizes;	/* adopt: of ADVISE */
	struct ferry_placer placer;
	bool		 advised;	/* postcopy may follow */
	bool		 listed;	/* MEM_SIZE was read */
	bool		 postcopy;	/* LISTEN was read */
	bool		 gathers;	/* a run waits for octets that have not
					 * arrived, and is placed by a helper:
					 * nobody waits for its pages before
					 * the mark behind it */
	struct ferry_mem_block *last;	/* for CONTINUE */

	/* A run of neighbours that waits to be placed. */
	struct ferry_mem_block *block;
	uint64_t	 first;
	uint32_t	 n;
	uint8_t		*pages;		/* own, or one of the helper's */
	uint8_t		*own;
	struct ferry_helper helper;

	uint64_t	 next;		/* the neighbour of the last page */
	uint32_t	 row;		/* neighbours that came in a row */
};

FERRY_CHECKED int ferry_rambody_init(struct ferry_rambody *b,
				     struct ferry_inbuf *in,
				     struct ferry_place *place,
				     struct ferry_err *e);
void ferry_rambody_fini(struct ferry_rambody *b);

/* One body, from behind the section header up to its EOS. */
FERRY_CHECKED int ferry_rambody_read(struct ferry_rambody *b,
				     struct ferry_err *e);

#endif
