/* SPDX-License-Identifier: MIT */
/*
 * The guest of a check: a little memory in two regions, and the driver of a
 * virtqueue, split or packed.
 *
 * Memory is one memfd.  Its halves lie apart in the guest's addresses and in
 * those that the front-end says it has them at, and the second one's offset in
 * the file is not 0: who mixes the three kinds of address up finds nothing.
 *
 * One thread.  Offsets below are into the memory.
 */
#ifndef FERRY_VU_CHECK_GUEST_H
#define FERRY_VU_CHECK_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vu/msg/msg.h"

#define FERRY_VC_MEM_BYTES	(4u << 20)
#define FERRY_VC_HALF		(FERRY_VC_MEM_BYTES / 2)
#define FERRY_VC_QUEUE_SIZE	64u
#define FERRY_VC_QUEUES		2u

/* Where a queue's parts are; the same for split and packed. */
struct ferry_vc_queue {
	uint64_t	desc, avail, used;
	uint32_t	size;
	int		kick, call;
	uint16_t	next;		/* the descriptor that comes next */
	uint16_t	avail_idx, seen; /* packed: places */
	bool		avail_wrap, seen_wrap;
	uint16_t	chain[FERRY_VC_QUEUE_SIZE];	/* packed: of each id */
};

struct ferry_vc_guest {
	int		mem_fd;
	uint8_t		*mem;
	bool		packed;
	struct ferry_vc_queue queue[FERRY_VC_QUEUES];
};

/* A part of a buffer. */
struct ferry_vc_part {
	uint64_t	at;		/* offset */
	uint32_t	bytes;
	bool		write;		/* by the device */
};

FERRY_CHECKED int ferry_vc_guest_init(struct ferry_vc_guest *g,
				      struct ferry_err *e);
void ferry_vc_guest_fini(struct ferry_vc_guest *g);

/* The two regions, for SET_MEM_TABLE; both descriptors are mem_fd. */
void ferry_vc_guest_table(const struct ferry_vc_guest *g,
			  struct ferry_vu_mem *table);
uint64_t ferry_vc_gpa(uint64_t at);
uint64_t ferry_vc_user_addr(uint64_t at);

/* Octets that belong to nobody, of queue i: its requests go there. */
uint64_t ferry_vc_scratch(unsigned i);

/* A queue that was never used, new event descriptors. */
FERRY_CHECKED int ferry_vc_queue_new(struct ferry_vc_guest *g, unsigned i,
				     struct ferry_err *e);

/* Make a buffer available; its id.  indirect: through a table of its own. */
uint16_t ferry_vc_put(struct ferry_vc_guest *g, unsigned i,
		      const struct ferry_vc_part *part, unsigned n,
		      bool indirect);

/* The next one that the device has used, if any. */
bool ferry_vc_get(struct ferry_vc_guest *g, unsigned i, uint16_t *id,
		  uint32_t *bytes);

/* The same, waiting for it; looks at memory, not for interrupts. */
bool ferry_vc_wait(struct ferry_vc_guest *g, unsigned i, unsigned limit_ms,
		   uint16_t *id, uint32_t *bytes);
void ferry_vc_kick(struct ferry_vc_guest *g, unsigned i);

/* Has an interrupt come (within limit_ms)?  It is taken. */
bool ferry_vc_interrupted(struct ferry_vc_guest *g, unsigned i,
			  unsigned limit_ms);

#endif
