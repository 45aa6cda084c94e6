/* SPDX-License-Identifier: MIT */
#include "send/tell_sums.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/sum.h"
#include "mem/extent.h"
#include "wire/verify.h"

struct telling {
	struct ferry_speaker *speak;
	const struct ferry_mem_block *block;
	struct ferry_err *e;
	bool		 told;
	uint32_t	*sum;
	uint8_t		*octets;
	size_t		 room;
};

static int tell(struct telling *t, uint64_t first, uint32_t n)
{
	const uint8_t *at = t->block->host + first * FERRY_PAGE_BYTES;
	struct ferry_wr w = ferry_wr_over(t->octets, t->room);

	for (uint32_t i = 0; i < n; i++)
		t->sum[i] = ferry_page_sum(at + (size_t)i * FERRY_PAGE_BYTES);
	ferry_verify_encode(&w, t->block->name, first, t->sum, n);
	t->told = true;
	return ferry_speak_octets(t->speak, &w, t->e);
}

static int tell_run(void *arg, uint64_t first, uint64_t pages)
{
	struct telling *t = arg;

	while (pages) {
		uint32_t n = pages < FERRY_VERIFY_PAGES_MAX ?
			     (uint32_t)pages : FERRY_VERIFY_PAGES_MAX;

		if (tell(t, first, n))
			return -1;
		first += n;
		pages -= n;
	}
	return 0;
}

int ferry_tell_sums(struct ferry_speaker *s, struct ferry_err *e)
{
	size_t room = ferry_verify_bytes("", FERRY_VERIFY_PAGES_MAX) +
		      FERRY_NAME_MAX;
	FERRY_AUTO_FREE uint32_t *sum = calloc(FERRY_VERIFY_PAGES_MAX,
					       sizeof(*sum));
	FERRY_AUTO_FREE uint8_t *octets = malloc(room);
	struct telling t = { .speak = s, .e = e, .sum = sum,
			     .octets = octets, .room = room };

	if (!sum || !octets)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "sums");
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		t.block = &s->mem->block[i];
		if (!t.block->host)
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "verify: block %s does not lie "
					     "in memory", t.block->name);
		if (ferry_extent_walk(&s->mem->block[i], tell_run, &t, e))
			return -1;
	}
	/* That all is zero is to be compared, too. */
	return t.told || !t.block ? 0 : tell(&t, 0, 1);
}
