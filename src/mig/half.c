/* SPDX-License-Identifier: MIT */
/*
 * A half, record by record.
 */
#include "mig/half.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/extent.h"
#include "mig/greet.h"

#define BUF_BYTES (FERRY_HALF_RECORD_WIRE + FERRY_HALF_PAYLOAD_MAX + \
		   FERRY_HALF_DIGEST_WIRE)

struct half_out {
	const struct ferry_half *half;
	int		 fd;
	uint8_t		*buf;		/* a record */
	struct ferry_half_end count;
	struct ferry_mem_block *block;	/* whose pages these are */
	uint64_t	 first, pages;	/* in buf, behind place */
	struct ferry_err *e;
};

static int put(struct half_out *o, const uint8_t *p, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(o->fd, p, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ferry_err_set(o->e, FERRY_E_IO, errno,
					     "write half of a VM");
		p += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Where the payload goes. */
static struct ferry_wr payload(struct half_out *o)
{
	return ferry_wr_over(o->buf + FERRY_HALF_RECORD_WIRE,
			     FERRY_HALF_PAYLOAD_MAX);
}

static int put_record(struct half_out *o, uint32_t type, size_t bytes)
{
	size_t all = FERRY_HALF_RECORD_WIRE + bytes;
	struct ferry_wr w = ferry_wr_over(o->buf, BUF_BYTES);

	ferry_half_record_encode(&w, type, (uint32_t)bytes);
	w = ferry_wr_over(o->buf + all, FERRY_HALF_DIGEST_WIRE);
	ferry_wr_be64(&w, ferry_half_digest(o->buf, all));
	return put(o, o->buf, all + FERRY_HALF_DIGEST_WIRE);
}

static int put_head(struct half_out *o)
{
	struct ferry_half_head head = {
		.side = o->half->side, .made_s = (uint64_t)time(NULL),
	};
	uint8_t start[FERRY_HALF_START_WIRE];
	struct ferry_wr w = ferry_wr_over(start, sizeof(start));
	struct ferry_hello hello = { 0 };
	int rc;

	ferry_half_start_encode(&w);
	if (put(o, start, sizeof(start)) ||
	    ferry_greet_describe(o->half->vm, &hello, o->e))
		return -1;
	memcpy(head.session, o->half->session, sizeof(head.session));
	w = payload(o);
	ferry_half_head_encode(&w, &head);
	ferry_hello_encode(&w, &hello);
	rc = put_record(o, FERRY_HALF_HEAD, ferry_wr_used(&w));
	ferry_hello_fini(&hello);
	return rc;
}

/* ---- what it has -------------------------------------------------------- */

static bool has(const struct ferry_half *h, uint32_t block, uint64_t page)
{
	return !h->has || ferry_bitmap_test(&h->has[block], page) ||
	       (h->has_too && ferry_bitmap_test(&h->has_too[block], page));
}

/* The first page from here on that is had, or is not. */
static uint64_t next(const struct ferry_half *h,
		     const struct ferry_mem_block *b, uint64_t page, bool had)
{
	if (!h->has)
		return had ? page : b->pages;
	while (page < b->pages && has(h, b->index, page) != had)
		page++;
	return page;
}

/* From *page on, as many runs as fit. */
static int put_runs(struct half_out *o, const struct ferry_mem_block *b,
		    uint64_t *page)
{
	const struct ferry_half_place place = { .block = b->index };
	struct ferry_wr w = payload(o);
	unsigned n = 0;

	ferry_half_place_encode(&w, &place);
	for (; n < FERRY_HALF_RUNS_MAX; n++) {
		struct ferry_half_run run = {
			.first = next(o->half, b, *page, true),
		};

		*page = run.first;
		if (run.first == b->pages)
			break;
		*page = next(o->half, b, run.first, false);
		run.pages = *page - run.first;
		o->count.has += run.pages;
		ferry_half_run_encode(&w, &run);
	}
	return n ? put_record(o, FERRY_HALF_HAS, ferry_wr_used(&w)) : 0;
}

static int put_map(struct half_out *o)
{
	const struct ferry_mem *mem = &o->half->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		uint64_t page = 0;

		while (page < mem->block[i].pages)
			if (put_runs(o, &mem->block[i], &page))
				return -1;
	}
	return 0;
}

/* ---- how it came --------------------------------------------------------- */

static int put_some_sums(struct half_out *o, const struct ferry_mem_block *b,
			 uint64_t first, uint64_t pages)
{
	const struct ferry_half_place place = {
		.block = b->index, .first = first,
	};
	struct ferry_wr w = payload(o);

	ferry_half_place_encode(&w, &place);
	for (uint64_t i = first; i < first + pages; i++)
		ferry_wr_be32(&w, ferry_sums_placed(o->half->sums, b->index,
						    i));
	return put_record(o, FERRY_HALF_SUMS, ferry_wr_used(&w));
}

/* From *page on, the next run, as far as it fits. */
static int put_sums_run(struct half_out *o, const struct ferry_mem_block *b,
			uint64_t *page)
{
	uint64_t first = next(o->half, b, *page, true);
	uint64_t n = next(o->half, b, first, false) - first;

	if (n > FERRY_HALF_SUMS_MAX)
		n = FERRY_HALF_SUMS_MAX;
	*page = first + n;
	return n ? put_some_sums(o, b, first, n) : 0;
}

static int put_sums(struct half_out *o)
{
	const struct ferry_mem *mem = &o->half->vm->mem;

	for (uint32_t i = 0; o->half->sums && i < mem->blocks; i++)
		for (uint64_t page = 0; page < mem->block[i].pages;)
			if (put_sums_run(o, &mem->block[i], &page))
				return -1;
	return 0;
}

static int put_devices(struct half_out *o)
{
	const struct ferry_save *d = o->half->devices;

	for (size_t at = 0, n; d && at < d->bytes; at += n) {
		struct ferry_wr w = payload(o);

		n = d->bytes - at < FERRY_HALF_PAYLOAD_MAX ? d->bytes - at :
		    FERRY_HALF_PAYLOAD_MAX;
		ferry_wr_bytes(&w, d->data + at, n);
		if (put_record(o, FERRY_HALF_STATE, n))
			return -1;
	}
	return 0;
}

/* ---- pages -------------------------------------------------------------- */

static int flush_pages(struct half_out *o)
{
	const struct ferry_half_place place = {
		.block = o->block->index, .first = o->first,
	};
	size_t bytes = FERRY_HALF_PLACE_WIRE + o->pages * FERRY_PAGE_BYTES;
	struct ferry_wr w = payload(o);

	if (!o->pages)
		return 0;
	ferry_half_place_encode(&w, &place);
	o->count.pages += o->pages;
	o->pages = 0;
	return put_record(o, FERRY_HALF_PAGES, bytes);
}

static int add_page(struct half_out *o, uint64_t page, const uint8_t *data)
{
	if ((o->first + o->pages != page ||
	     o->pages == FERRY_HALF_PAGES_MAX) && flush_pages(o))
		return -1;
	if (!o->pages)
		o->first = page;
	memcpy(o->buf + FERRY_HALF_RECORD_WIRE + FERRY_HALF_PLACE_WIRE +
	       o->pages++ * FERRY_PAGE_BYTES, data, FERRY_PAGE_BYTES);
	return 0;
}

/* Pages that somebody has touched; only those that are had are looked at. */
static int on_touched(void *out, uint64_t first, uint64_t pages)
{
	struct half_out *o = out;

	for (uint64_t i = first; i < first + pages; i++) {
		const uint8_t *data = o->block->host + i * FERRY_PAGE_BYTES;

		if (has(o->half, o->block->index, i) &&
		    !ferry_is_zero(data, FERRY_PAGE_BYTES) &&
		    add_page(o, i, data))
			return -1;
	}
	return 0;
}

static int put_pages(struct half_out *o)
{
	struct ferry_mem *mem = (struct ferry_mem *)&o->half->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		o->block = &mem->block[i];
		if (ferry_extent_walk(o->block, on_touched, o, o->e) ||
		    flush_pages(o))
			return -1;
	}
	return 0;
}

static int put_end(struct half_out *o)
{
	struct ferry_wr w = payload(o);

	ferry_half_end_encode(&w, &o->count);
	return put_record(o, FERRY_HALF_END, ferry_wr_used(&w));
}

static int check_memory(const struct ferry_mem *mem, struct ferry_err *e)
{
	for (uint32_t i = 0; i < mem->blocks; i++)
		if (!mem->block[i].host)
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "the memory of this VM lies in a "
					     "file: there is nothing to dump");
	return 0;
}

int ferry_half_write(const struct ferry_half *h, int fd, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(BUF_BYTES);
	struct half_out o = { .half = h, .fd = fd, .buf = buf, .e = e };

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "half of a VM");
	if (check_memory(&h->vm->mem, e) || put_head(&o) || put_map(&o) ||
	    put_sums(&o) || put_devices(&o) || put_pages(&o) || put_end(&o))
		return -1;
	return 0;
}
