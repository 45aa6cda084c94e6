/* SPDX-License-Identifier: MIT */
/*
 * Postcopy from the front-end's side, at its smallest: guest memory with holes,
 * and a backend's faults filled from a copy.
 *
 * One thread, which also waits for the device: so faults are served only inside
 * ferry_vc_pager_wait().  As in talk.h: 0, or -1 with c->err.
 */
#ifndef FERRY_VU_CHECK_PAGER_H
#define FERRY_VU_CHECK_PAGER_H

#include "mem/uffd.h"
#include "vu/check/device.h"

#define FERRY_VC_PAGE	4096u
#define FERRY_VC_PAGES	(FERRY_VC_MEM_BYTES / FERRY_VC_PAGE)

struct ferry_vc_pager {
	struct ferry_uffd	uffd;		/* the backend's */
	struct ferry_vu_mem	theirs;		/* where it has the memory */
	uint8_t			*copy;		/* of all memory */
	bool			here[FERRY_VC_PAGES];
	unsigned		faults;
};

#define FERRY_VC_PAGER_NONE { .uffd = { .fd = -1 } }

/* ADVISE; not offered when PAGEFAULT is not. */
int ferry_vc_pager_advise(struct ferry_vc *c, struct ferry_vc_pager *p);
int ferry_vc_pager_listen(struct ferry_vc *c);

/* Take all memory away, and tell the backend the table: the three messages. */
int ferry_vc_pager_give_memory(struct ferry_vc *c, struct ferry_vc_pager *p);

/* Serve faults until the queue that is asked has used a buffer. */
int ferry_vc_pager_wait(struct ferry_vc *c, struct ferry_vc_pager *p);

/* Fill what is missing, END. */
int ferry_vc_pager_end(struct ferry_vc *c, struct ferry_vc_pager *p);
void ferry_vc_pager_fini(struct ferry_vc_pager *p);

#endif
