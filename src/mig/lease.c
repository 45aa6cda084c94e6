/* SPDX-License-Identifier: MIT */
/*
 * The lease, both ends, as arithmetic.
 */
#include "mig/lease.h"

#include <stddef.h>

/* ---- the source ----------------------------------------------------------- */

void ferry_lease_give(struct ferry_lease_given *g, uint64_t now_ns)
{
	/* By conductor and heart: never back. */
	uint64_t last = atomic_load(&g->last_ns);

	while (last < now_ns &&
	       !atomic_compare_exchange_weak(&g->last_ns, &last, now_ns))
		;
}

uint64_t ferry_lease_left_ns(const struct ferry_lease_given *g,
			     uint64_t now_ns)
{
	uint64_t last = atomic_load(&g->last_ns);
	uint64_t until = last + g->length_ns + g->length_ns / 100 +
			 FERRY_LEASE_MARGIN_NS;

	return now_ns < until ? until - now_ns : 0;
}

/* ---- the target ----------------------------------------------------------- */

/* Twice as often as it is remembered within its length: when the place is
 * taken by another, its answer would be of no use. */
uint32_t ferry_lease_ask(struct ferry_lease_held *h, uint64_t now_ns)
{
	uint64_t *at = &h->asked_ns[h->n % FERRY_LEASE_ASKS];

	if (!h->length_ns ||
	    (h->n && now_ns - *at < h->length_ns / (FERRY_LEASE_ASKS / 2)))
		return 0;
	if (!++h->n)
		h->n = 1;
	h->asked_ns[h->n % FERRY_LEASE_ASKS] = now_ns;
	return h->n;
}

static bool extend(struct ferry_lease_held *h, uint64_t since_ns)
{
	uint64_t until = since_ns + h->length_ns;

	if (!h->length_ns || until <= h->until_ns)
		return false;
	h->until_ns = until;
	return true;
}

bool ferry_lease_renew(struct ferry_lease_held *h, uint32_t n)
{
	/* One that was not asked, or so long ago that it is forgotten. */
	if (!n || n > h->n || h->n - n >= FERRY_LEASE_ASKS)
		return false;
	return extend(h, h->asked_ns[n % FERRY_LEASE_ASKS]);
}

bool ferry_lease_run(struct ferry_lease_held *h)
{
	return h->loaded_ns && extend(h, h->loaded_ns);
}
