/* SPDX-License-Identifier: MIT */
/*
 * Checks of postcopy: the backend waits for pages that come later, and does not
 * take a hole for a page of zeroes.
 */
#include "vu/check/rows.h"

#include <linux/virtio_config.h>

#include "base/cleanup.h"
#include "vu/check/pager.h"

#define GROUP		"postcopy"
#define NO_PACKED	(1ull << VIRTIO_F_RING_PACKED)

typedef int step_fn(struct ferry_vc *c, struct ferry_vc_pager *p);

static int with_pager(struct ferry_vc *c, step_fn *then)
{
	struct ferry_vc_pager p = FERRY_VC_PAGER_NONE;
	int rc = ferry_vc_agree(c, NO_PACKED);

	if (!rc)
		rc = ferry_vc_pager_advise(c, &p);
	if (!rc)
		rc = then(c, &p);
	ferry_vc_pager_fini(&p);
	return rc;
}

static int nothing(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	(void)c;
	(void)p;
	return 0;
}

static int listen_acked(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	(void)p;
	return ferry_vc_pager_listen(c);
}

/* A migration that ends in precopy: memory comes as always. */
static int advise_only(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	(void)p;
	if (ferry_vc_give_memory(c))
		return -1;
	return ferry_vc_give_memory(c);
}

static int table(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	return ferry_vc_pager_listen(c) ||
	       ferry_vc_pager_give_memory(c, p) ||
	       ferry_vc_pager_end(c, p) ? -1 : 0;
}

/* A request is there before its ring is: every page of it is missing. */
static int begin_with_holes(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	unsigned n = ferry_vc_queues(c);

	for (unsigned i = 0; i < n; i++)
		if (ferry_vc_queue_new(&c->guest, i, &c->err))
			return -1;
	ferry_vc_request(c, 0, false);
	return ferry_vc_pager_listen(c) || ferry_vc_pager_give_memory(c, p);
}

/*
 * Faults come while the ring is set up, and an ack may have to wait for them:
 * nobody serves them meanwhile here, so no ack is asked for.
 */
static int start_with_holes(struct ferry_vc *c)
{
	uint64_t acks = c->protocol & 1u << FERRY_VU_F_REPLY_ACK;
	int rc = 0;

	c->protocol &= ~acks;
	for (unsigned i = 0; i < ferry_vc_queues(c) && !rc; i++)
		rc = ferry_vc_start_ring(c, i, 0, false);
	if (!rc)
		rc = ferry_vc_driver_ok(c);
	c->protocol |= acks;
	ferry_vc_kick(&c->guest, ferry_vc_asked(c));
	return rc;
}

static int faults(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	if (begin_with_holes(c, p) || start_with_holes(c) ||
	    ferry_vc_pager_wait(c, p))
		return -1;
	if (!p->faults)
		return ferry_vc_fail(c, "a request in memory that was missing "
				     "was served without a fault");
	return ferry_vc_pager_end(c, p) || ferry_vc_once(c) ? -1 : 0;
}

/* The front-end dies while the backend waits for a page. */
static int orphaned(struct ferry_vc *c, struct ferry_vc_pager *p)
{
	if (begin_with_holes(c, p) || start_with_holes(c))
		return -1;
	ferry_uffd_close(&p->uffd);
	p->uffd.fd = -1;
	/* The second one comes to who hung with the first. */
	if (ferry_vc_alive(c))
		return -1;
	return ferry_vc_alive(c);
}

static int advise(struct ferry_vc *c)
{
	return with_pager(c, nothing);
}

/* QEMU says it once for each pair of queues. */
static int advise_again(struct ferry_vc *c)
{
	return with_pager(c, ferry_vc_pager_advise);
}

static int listen_row(struct ferry_vc *c)
{
	return with_pager(c, listen_acked);
}

static int precopy_row(struct ferry_vc *c)
{
	return with_pager(c, advise_only);
}

static int table_row(struct ferry_vc *c)
{
	return with_pager(c, table);
}

static int faults_row(struct ferry_vc *c)
{
	return with_pager(c, faults);
}

static int orphaned_row(struct ferry_vc *c)
{
	return with_pager(c, orphaned);
}

static const struct ferry_vc_row rows[] = {
	{ { GROUP, "advise", "POSTCOPY_ADVISE is answered with a descriptor "
	    "and nothing else" }, .run = advise },
	{ { GROUP, "advise-again", "also when it comes twice" },
	  .run = advise_again },
	{ { GROUP, "advise-only", "a migration that ends without postcopy "
	    "gives memory as always" }, .run = precopy_row },
	{ { GROUP, "listen", "POSTCOPY_LISTEN is acknowledged" },
	  .run = listen_row },
	{ { GROUP, "table", "the memory table is answered with the backend's "
	    "addresses, and POSTCOPY_END ends it" }, .run = table_row },
	{ { GROUP, "faults", "a request whose pages come one by one is done "
	    "right, and so is one after the end" }, .asks = true,
	  .run = faults_row },
	{ { GROUP, "orphaned", "a front-end that dies while a page is waited "
	    "for costs nothing but its own device" }, .asks = true,
	  .run = orphaned_row },
};

const struct ferry_vc_group ferry_vc_postcopy = { rows, FERRY_LEN(rows) };
