/* SPDX-License-Identifier: MIT */
/*
 * Scattering a packet.  Hot.
 */
#include "recv/scatter.h"

/* How many of the n offsets from i on follow each other. */
static uint32_t run_length(const uint64_t *offset, uint32_t n)
{
	uint32_t run = 1;

	while (run < n && offset[run] == offset[run - 1] + FERRY_PAGE_BYTES)
		run++;
	return run;
}

static int place_normal(struct ferry_placer *r, struct ferry_mem_block *b,
			const struct ferry_packet *p, const uint8_t *pages,
			struct ferry_err *e)
{
	uint32_t run;

	for (uint32_t i = 0; i < p->normal_pages; i += run) {
		run = run_length(p->offset + i, p->normal_pages - i);
		if (ferry_placer_pages(r, b,
				       p->offset[i] / FERRY_PAGE_BYTES, run,
				       pages + (size_t)i * FERRY_PAGE_BYTES,
				       e))
			return -1;
	}
	return 0;
}

static int place_zero(struct ferry_placer *r, struct ferry_mem_block *b,
		      const struct ferry_packet *p, struct ferry_err *e)
{
	const uint64_t *offset = p->offset + p->normal_pages;
	uint32_t run, n = p->zero_pages;

	for (uint32_t i = 0; i < n; i += run) {
		run = run_length(offset + i, n - i);
		if (ferry_placer_zeroes(r, b,
					offset[i] / FERRY_PAGE_BYTES, run, e))
			return -1;
	}
	return 0;
}

/*
 * Pieces of a huge page must be put together in the order of their addresses,
 * but a packet lists normal pages before zero ones: merge the two lists.
 */
static int place_merged(struct ferry_placer *r, struct ferry_mem_block *b,
			const struct ferry_packet *p, const uint8_t *pages,
			struct ferry_err *e)
{
	uint32_t n = 0, z = p->normal_pages;
	uint32_t end = p->normal_pages + p->zero_pages;

	while (n < p->normal_pages || z < end) {
		int rc;

		if (z == end || (n < p->normal_pages &&
				 p->offset[n] < p->offset[z])) {
			rc = ferry_placer_pages(r, b,
						p->offset[n] /
						FERRY_PAGE_BYTES, 1,
						pages + (size_t)n *
						FERRY_PAGE_BYTES, e);
			n++;
		} else {
			rc = ferry_placer_zeroes(r, b,
						 p->offset[z] /
						 FERRY_PAGE_BYTES, 1, e);
			z++;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int ferry_scatter(struct ferry_placer *r, struct ferry_mem_block *b,
		  const struct ferry_packet *p, const uint8_t *pages,
		  struct ferry_err *e)
{
	if (b->host_pages > 1)
		return place_merged(r, b, p, pages, e);
	return place_normal(r, b, p, pages, e) || place_zero(r, b, p, e) ?
	       -1 : 0;
}
