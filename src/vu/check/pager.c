/* SPDX-License-Identifier: MIT */
/*
 * See pager.h.  Pages are placed through the backend's userfaultfd, which fills
 * the page cache and wakes the backend in one go; our own mapping is never
 * touched where a page is missing, as that would fill the hole with zeroes.
 */
#include "vu/check/pager.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

int ferry_vc_pager_advise(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	FERRY_AUTO_VU_FDS got = FERRY_VU_FDS_NONE;
	struct ferry_vu_msg m = { .h.request = FERRY_VU_POSTCOPY_ADVISE };

	if (!ferry_vc_has(c, FERRY_VU_F_PAGEFAULT))
		return ferry_vc_not_offered(c, "PAGEFAULT: no postcopy");
	if (ferry_vc_ask(c, &m, NULL, 0, &got))
		return -1;
	if (m.h.bytes || got.n != 1)
		return ferry_vc_fail(c, "POSTCOPY_ADVISE: %u octets and %u "
				     "descriptors, not none and one",
				     m.h.bytes, got.n);
	if (p->uffd.fd >= 0)
		ferry_uffd_close(&p->uffd);
	p->uffd.fd = ferry_vu_fds_take(&got, 0);
	fcntl(p->uffd.fd, F_SETFL, fcntl(p->uffd.fd, F_GETFL) | O_NONBLOCK);
	return 0;
}

int ferry_vc_pager_listen(struct ferry_vc *c)
{
	return ferry_vc_set(c, FERRY_VU_POSTCOPY_LISTEN, 0);
}

static int check_table(struct ferry_vc *c, const struct ferry_vu_mem *ours,
		       const struct ferry_vu_mem *theirs)
{
	if (theirs->n != ours->n)
		return ferry_vc_fail(c, "SET_MEM_TABLE in postcopy: %u regions"
				     " were told, %u are answered", ours->n,
				     theirs->n);
	for (unsigned i = 0; i < ours->n; i++) {
		if (theirs->region[i].gpa != ours->region[i].gpa ||
		    theirs->region[i].bytes != ours->region[i].bytes)
			return ferry_vc_fail(c, "SET_MEM_TABLE in postcopy: "
					     "region %u comes back as another "
					     "one", i);
		if (theirs->region[i].user_addr == ours->region[i].user_addr)
			return ferry_vc_fail(c, "SET_MEM_TABLE in postcopy: "
					     "the answer has our addresses, not"
					     " the backend's: its faults could "
					     "not be told apart");
	}
	return 0;
}

int ferry_vc_pager_give_memory(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_SET_MEM_TABLE };
	struct ferry_vu_msg ready = {
		.h = { FERRY_VU_SET_MEM_TABLE, FERRY_VU_VERSION, 0 },
	};
	int fds[] = { c->guest.mem_fd, c->guest.mem_fd };
	struct ferry_vu_mem ours;

	p->copy = malloc(FERRY_VC_MEM_BYTES);
	if (!p->copy)
		return ferry_vc_fail(c, "out of memory");
	memcpy(p->copy, c->guest.mem, FERRY_VC_MEM_BYTES);
	if (fallocate(c->guest.mem_fd, FALLOC_FL_PUNCH_HOLE |
		      FALLOC_FL_KEEP_SIZE, 0, FERRY_VC_MEM_BYTES))
		return ferry_vc_fail(c, "fallocate: %s", strerror(errno));
	ferry_vc_guest_table(&c->guest, &m.mem);
	ours = m.mem;
	if (ferry_vc_exchange(c, &m, fds, ours.n, FERRY_VU_MEM) ||
	    check_table(c, &ours, &m.mem))
		return -1;
	p->theirs = m.mem;
	return ferry_vu_send(&c->sock, &ready, FERRY_VU_U64, NULL, 0, &c->err);
}

/* ---- faults -------------------------------------------------------------- */

/* Where in memory an address of the backend's is; or UINT64_MAX. */
static uint64_t translate(const struct ferry_vc_pager *p, uint64_t addr)
{
	for (unsigned i = 0; i < p->theirs.n; i++) {
		const struct ferry_vu_region *r = &p->theirs.region[i];

		if (addr >= r->user_addr && addr - r->user_addr < r->bytes)
			return addr - r->user_addr +
			       i * (uint64_t)FERRY_VC_HALF;
	}
	return UINT64_MAX;
}

static int serve(struct ferry_vc *c, struct ferry_vc_pager *p, uint64_t addr)
{
	uint64_t at = translate(p, addr);
	int64_t rc;

	if (at == UINT64_MAX)
		return ferry_vc_fail(c, "a fault at 0x%" PRIx64 ", which is in "
				     "no region that the backend told", addr);
	at -= at % FERRY_VC_PAGE;
	addr -= addr % FERRY_VC_PAGE;
	p->faults++;
	if (p->here[at / FERRY_VC_PAGE]) {
		ferry_uffd_wake(&p->uffd, (void *)(uintptr_t)addr,
				FERRY_VC_PAGE);
		return 0;
	}
	rc = ferry_uffd_copy(&p->uffd, (void *)(uintptr_t)addr, p->copy + at,
			     FERRY_VC_PAGE);
	if (rc == -EEXIST)
		return ferry_vc_fail(c, "the page at %" PRIu64 " is there, "
				     "though nobody sent it: memory is locked "
				     "or populated", at);
	if (rc < 0)
		return ferry_vc_fail(c, "a page cannot be placed by the "
				     "backend's userfaultfd: %s",
				     strerror((int)-rc));
	p->here[at / FERRY_VC_PAGE] = true;
	return 0;
}

/* Only what was placed may be looked at. */
static bool has_used(struct ferry_vc *c, const struct ferry_vc_pager *p)
{
	unsigned q = ferry_vc_asked(c);
	uint64_t used = c->guest.queue[q].used;
	uint32_t bytes;
	uint16_t id;

	return p->here[used / FERRY_VC_PAGE] &&
	       ferry_vc_get(&c->guest, q, &id, &bytes);
}

int ferry_vc_pager_wait(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	uint64_t until = ferry_now_ns() + c->how->limit_ms * 1000000ull;

	while (!has_used(c, p)) {
		struct pollfd fd = { .fd = p->uffd.fd, .events = POLLIN };
		struct ferry_uffd_fault fault;

		if (ferry_now_ns() > until)
			return ferry_vc_fail(c, "a request was not done in %u "
					     "ms, with %u faults served",
					     c->how->limit_ms, p->faults);
		if (poll(&fd, 1, 5) == 1 &&
		    ferry_uffd_read(&p->uffd, &fault, 1) == 1 &&
		    serve(c, p, fault.addr))
			return -1;
	}
	return 0;
}

/* ---- the end ------------------------------------------------------------- */

int ferry_vc_pager_end(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	uint64_t bad;

	for (unsigned i = 0; i < FERRY_VC_PAGES; i++) {
		if (!p->here[i])
			memcpy(c->guest.mem + i * (size_t)FERRY_VC_PAGE,
			       p->copy + i * (size_t)FERRY_VC_PAGE,
			       FERRY_VC_PAGE);
		p->here[i] = true;
	}
	if (ferry_vc_u64(c, FERRY_VU_POSTCOPY_END, &bad))
		return -1;
	if (bad)
		return ferry_vc_fail(c, "POSTCOPY_END: %" PRIu64, bad);
	ferry_uffd_close(&p->uffd);
	p->uffd.fd = -1;
	return 0;
}

void ferry_vc_pager_fini(struct ferry_vc_pager *p)
{
	if (p->uffd.fd >= 0)
		ferry_uffd_close(&p->uffd);
	free(p->copy);
}
