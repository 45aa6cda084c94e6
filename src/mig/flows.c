/* SPDX-License-Identifier: MIT */
/*
 * Connections, for the API.
 */
#include "mig/flows.h"

#include <stdbool.h>
#include <string.h>

#include "wire/multifd.h"

static enum ferry_packing packing_of(uint32_t method)
{
	switch (method) {
	case FERRY_PACKET_ZLIB:
		return FERRY_PACKING_ZLIB;
	case FERRY_PACKET_ZSTD:
		return FERRY_PACKING_ZSTD;
	}
	return FERRY_PACKING_NONE;
}

int ferry_flows_read(struct ferry_flow *flow, unsigned data, unsigned urgent,
		     unsigned i, struct ferry_channel_stats *out)
{
	bool bulk = i < data;
	struct ferry_channel_stats all = { .size = out->size };

	if (i >= data + urgent)
		return -1;
	all.kind = bulk ? FERRY_CHANNEL_KIND_DATA : FERRY_CHANNEL_KIND_URGENT;
	all.index = bulk ? i : i - data;
	flow += bulk ? i : FERRY_DATA_CHANNELS_MAX + i - data;
	all.packing = packing_of(atomic_load_explicit(&flow->method,
						      memory_order_relaxed));
	all.bytes = ferry_counted(&flow->bytes);
	all.normal_pages = ferry_counted(&flow->normal_pages);
	all.zero_pages = ferry_counted(&flow->zero_pages);
	all.blocked_ns = ferry_counted(&flow->blocked_ns);
	all.packed_from_bytes = ferry_counted(&flow->packed_from);
	all.packed_to_bytes = ferry_counted(&flow->packed_to);
	memcpy(out, &all, out->size < sizeof(all) ? out->size : sizeof(all));
	return 0;
}
