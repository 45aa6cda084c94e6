/* SPDX-License-Identifier: MIT */
/*
 * Pages as RAM records of QEMU's main stream: a word before each page.  The
 * section around them is the conductor's.
 */
#include "send/encode.h"

/* One page: its head, and the page itself unless it is zero. */
static int add_page(struct ferry_encoder *x, const struct ferry_batch *b,
		    uint32_t i, struct ferry_wr *w, int n)
{
	bool zero = ferry_encoder_is_zero(x, b, i);
	const char *name = x->last == b->block ? NULL : b->block->name;
	uint8_t *head = w->p;

	ferry_ram_page_encode(w, zero ? FERRY_RAM_ZERO : FERRY_RAM_PAGE, name,
			      b->page[i] * FERRY_PAGE_BYTES, 0);
	x->last = b->block;
	x->iov[n++] = (struct iovec){ head, (size_t)(w->p - head) };
	if (!zero)
		x->iov[n++] = (struct iovec){
			ferry_encoder_page(x, b, i), FERRY_PAGE_BYTES,
		};
	ferry_count(zero ? &x->count->zero_pages : &x->count->normal_pages, 1);
	return n;
}

static int record_pages(struct ferry_encoder *x, const struct ferry_batch *b,
			struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(x->head, sizeof(x->head));
	uint64_t bytes = 0;
	int n = 0;

	if (ferry_encoder_fetch(x, b, e))
		return -1;
	for (uint32_t i = 0; i < b->n; i++)
		n = add_page(x, b, i, &w, n);
	for (int i = 0; i < n; i++)
		bytes += x->iov[i].iov_len;
	ferry_encoder_count(x, bytes);
	return ferry_chan_writev(x->chan, x->iov, n, e);
}

int ferry_encoder_tell_zero(struct ferry_encoder *x,
			    const struct ferry_batch *zero,
			    struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(x->head, sizeof(x->head));

	for (uint32_t i = 0; i < zero->n; i++) {
		ferry_ram_page_encode(&w, FERRY_RAM_ZERO,
				      x->last == zero->block ? NULL :
				      zero->block->name,
				      zero->page[i] * FERRY_PAGE_BYTES, 0);
		x->last = zero->block;
	}
	ferry_count(&x->count->zero_pages, zero->n);
	ferry_encoder_count(x, ferry_wr_used(&w));
	return ferry_chan_write(x->chan, x->head, ferry_wr_used(&w), e);
}

/* One channel carries all: order is the mark. */
static int record_sync(struct ferry_encoder *x, uint32_t sequence,
		       struct ferry_err *e)
{
	(void)x;
	(void)sequence;
	(void)e;
	return 0;
}

static const struct ferry_encoder_ops record_ops = {
	.pages = record_pages,
	.sync = record_sync,
};

void ferry_encoder_records(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count)
{
	*x = (struct ferry_encoder){
		.ops = &record_ops, .chan = chan, .count = count,
	};
}
