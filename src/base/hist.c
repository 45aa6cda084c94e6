/* SPDX-License-Identifier: MIT */
/*
 * Doubling buckets; percentiles are interpolated inside a bucket, so they are
 * right to the bucket and plausible within it.
 */
#include "base/hist.h"

static unsigned bucket_of(uint64_t ns)
{
	unsigned b = 0;

	while (b < FERRY_HIST_BUCKETS - 1 &&
	       ns >= (uint64_t)FERRY_HIST_FIRST_NS << b)
		b++;
	return b;
}

void ferry_hist_add(struct ferry_hist *h, uint64_t ns)
{
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&h->count[bucket_of(ns)], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	while (ns > max &&
	       !atomic_compare_exchange_weak(&h->max_ns, &max, ns))
		;
}

void ferry_hist_read(struct ferry_hist *h, uint64_t out[FERRY_HIST_BUCKETS])
{
	for (unsigned i = 0; i < FERRY_HIST_BUCKETS; i++)
		out[i] = atomic_load_explicit(&h->count[i],
					      memory_order_relaxed);
}

uint64_t ferry_hist_percentile_ns(const uint64_t hist[FERRY_HIST_BUCKETS],
				  double p)
{
	uint64_t total = 0, below = 0;
	double want;

	for (unsigned i = 0; i < FERRY_HIST_BUCKETS; i++)
		total += hist[i];
	if (!total)
		return 0;

	want = p / 100.0 * (double)total;
	for (unsigned i = 0; i < FERRY_HIST_BUCKETS; i++) {
		double hi = (double)((uint64_t)FERRY_HIST_FIRST_NS << i);
		double lo = i ? hi / 2 : 0;

		if (hist[i] && (double)(below + hist[i]) >= want) {
			double in = (want - (double)below) / (double)hist[i];

			return (uint64_t)(lo + (hi - lo) * (in > 0 ? in : 0));
		}
		below += hist[i];
	}
	return (uint64_t)FERRY_HIST_FIRST_NS << (FERRY_HIST_BUCKETS - 1);
}
