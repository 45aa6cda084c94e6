/* SPDX-License-Identifier: MIT */
/*
 * What a VFIO device writes: asked for range by range, and each in pieces of
 * so many pages, so that a bitmap is small whatever the size of the memory.
 */
#include "dev/vfio_dma.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dev/vfio_abi.h"

#define BITS		(256u << 10)	/* of one question: 1 GiB in 4 KiB */
#define WORDS		(BITS / 64)
#define PAGE_LEAST	4096u
#define PAGE_MOST	(1u << 30)

static int check_range(const struct ferry_vfio_range *r, uint64_t page_bytes,
		       struct ferry_err *e)
{
	uint64_t end;

	if (!r->addr || !r->bytes || (r->iova | r->bytes) % page_bytes ||
	    __builtin_add_overflow(r->iova, r->bytes, &end))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "range 0x%" PRIx64
				     "+0x%" PRIx64 " at %p: whole pages of "
				     "%" PRIu64 " octets, with an address",
				     r->iova, r->bytes, r->addr, page_bytes);
	return 0;
}

static int check(const struct ferry_vfio_config *c, uint64_t page_bytes,
		 struct ferry_err *e)
{
	if (page_bytes < PAGE_LEAST || page_bytes > PAGE_MOST ||
	    page_bytes & (page_bytes - 1))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "page_bytes "
				     "%" PRIu64 ": a power of two, %u to %u",
				     page_bytes, PAGE_LEAST, PAGE_MOST);
	if (c->range_count > FERRY_VFIO_RANGES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%" PRIu32
				     " ranges: at most %u; join those that "
				     "touch", c->range_count,
				     FERRY_VFIO_RANGES_MAX);
	for (uint32_t i = 0; i < c->range_count; i++)
		if (check_range(&c->ranges[i], page_bytes, e))
			return -1;
	return 0;
}

int ferry_vfio_dma_init(struct ferry_vfio_dma *d,
			const struct ferry_vfio_port *port,
			const struct ferry_vfio_config *c, struct ferry_err *e)
{
	d->port = port;
	d->page_bytes = c->page_bytes ? c->page_bytes : PAGE_LEAST;
	if (check(c, d->page_bytes, e))
		return -1;
	if (!c->range_count)
		return 0;
	if (!port->logs_dma)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "the device "
				     "keeps no log of what it writes: give no "
				     "ranges, and find its writes in the "
				     "IOMMU's log");
	d->range = calloc(c->range_count, sizeof(*d->range));
	d->bits = calloc(WORDS, sizeof(*d->bits));
	if (!d->range || !d->bits)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "its ranges");
	memcpy(d->range, c->ranges, c->range_count * sizeof(*d->range));
	d->ranges = c->range_count;
	return 0;
}

void ferry_vfio_dma_fini(struct ferry_vfio_dma *d)
{
	ferry_vfio_dma_stop(d);
	free(d->range);
	free(d->bits);
	d->range = NULL;
	d->bits = NULL;
}

int ferry_vfio_dma_start(struct ferry_vfio_dma *d, struct ferry_err *e)
{
	struct vfio_device_feature_dma_logging_range *r;
	struct vfio_device_feature_dma_logging_control c = {
		.page_size = d->page_bytes, .num_ranges = d->ranges,
	};
	int rc;

	r = calloc(d->ranges, sizeof(*r));
	if (!r)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "its ranges");
	for (uint32_t i = 0; i < d->ranges; i++) {
		r[i].iova = d->range[i].iova;
		r[i].length = d->range[i].bytes;
	}
	c.ranges = (uintptr_t)r;
	rc = ferry_vfio_feature(d->port, VFIO_DEVICE_FEATURE_SET |
				VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &c,
				sizeof(c));
	free(r);
	if (rc)
		return ferry_err_set(e, FERRY_E_DEVICE, -rc, "log what it "
				     "writes");
	d->started = true;
	return 0;
}

/* The first bit from `at` on that is set, or is not. */
static uint64_t next(const uint64_t *bits, uint64_t at, uint64_t end, bool set)
{
	while (at < end && (bits[at / 64] >> at % 64 & 1) != set)
		at += set && !(at % 64) && !bits[at / 64] ? 64 : 1;
	return at < end ? at : end;
}

/* Runs of set bits, as one piece of memory each. */
static void mark_runs(const struct ferry_vfio_dma *d, const uint8_t *base,
		      uint64_t pages)
{
	uint64_t from = next(d->bits, 0, pages, true), to;

	for (; from < pages; from = next(d->bits, to, pages, true)) {
		to = next(d->bits, from, pages, false);
		d->mark(d->mark_arg, base + from * d->page_bytes,
			(to - from) * d->page_bytes);
	}
}

static int collect_piece(struct ferry_vfio_dma *d,
			 const struct ferry_vfio_range *r, uint64_t at,
			 uint64_t bytes, struct ferry_err *e)
{
	struct vfio_device_feature_dma_logging_report report = {
		.iova = r->iova + at, .length = bytes,
		.page_size = d->page_bytes, .bitmap = (uintptr_t)d->bits,
	};
	int rc;

	memset(d->bits, 0, WORDS * sizeof(*d->bits));
	rc = ferry_vfio_feature(d->port, VFIO_DEVICE_FEATURE_GET |
				VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
				&report, sizeof(report));
	if (rc)
		return ferry_err_set(e, FERRY_E_DEVICE, -rc, "ask what it has "
				     "written at 0x%" PRIx64,
				     r->iova + at);
	mark_runs(d, (uint8_t *)r->addr + at, bytes / d->page_bytes);
	return 0;
}

int ferry_vfio_dma_collect(struct ferry_vfio_dma *d, struct ferry_err *e)
{
	const uint64_t most = BITS * d->page_bytes;

	for (uint32_t i = 0; i < d->ranges; i++) {
		const struct ferry_vfio_range *r = &d->range[i];

		for (uint64_t at = 0; at < r->bytes; at += most)
			if (collect_piece(d, r, at, r->bytes - at < most ?
					  r->bytes - at : most, e))
				return -1;
	}
	return 0;
}

/* What is lost by a failure is a log that nobody asks for. */
void ferry_vfio_dma_stop(struct ferry_vfio_dma *d)
{
	if (!d->started)
		return;
	d->started = false;
	(void)!ferry_vfio_feature(d->port, VFIO_DEVICE_FEATURE_SET |
				  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL,
				  0);
}
