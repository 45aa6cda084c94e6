/* SPDX-License-Identifier: MIT */
/*
 * Channel headers and hellos as octets on a channel.
 */
#include "mig/greet.h"

#include <ferry/version.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int ferry_greet_describe(const struct ferry_vm *vm, struct ferry_hello *h,
			 struct ferry_err *e)
{
	*h = (struct ferry_hello){ 0 };
	snprintf(h->name, sizeof(h->name), "%s", vm->name);
	snprintf(h->software, sizeof(h->software), "ferry %s",
		 ferry_version());

	for (uint32_t i = 0; i < vm->mem.blocks; i++) {
		const struct ferry_mem_block *b = &vm->mem.block[i];

		if (ferry_hello_add_block(h, b->name, b->bytes, b->page_bytes,
					  b->gpa, e))
			return -1;
	}
	for (unsigned i = 0; i < vm->facts; i++) {
		const struct ferry_fact_copy *f = &vm->fact[i];

		if (ferry_hello_add_fact(h, f->name, (uint8_t)f->rule,
					 f->value, strlen(f->value), e))
			return -1;
	}
	for (uint32_t i = 0; i < vm->bulk.devs; i++) {
		const struct ferry_bulk_dev *d = &vm->bulk.dev[i];

		if (ferry_hello_add_bulk(h, d->name, d->instance, d->version,
					 e))
			return -1;
	}
	return 0;
}

int ferry_greet_send(struct ferry_chan *chan,
		     const struct ferry_channel_head *head,
		     const struct ferry_hello *hello, struct ferry_err *e)
{
	size_t size = ferry_channel_bytes(head) +
		      (hello ? ferry_hello_bytes(hello) : 0);
	FERRY_AUTO_FREE uint8_t *octets = malloc(size);
	struct ferry_wr w = ferry_wr_over(octets, size);

	if (!octets)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "hello");
	ferry_channel_encode(&w, head);
	if (hello)
		ferry_hello_encode(&w, hello);
	return ferry_chan_write(chan, octets, ferry_wr_used(&w), e);
}

static int offer_head(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_channel_decode(rd, false, arg, e);
}

static int answer_head(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_channel_decode(rd, true, arg, e);
}

int ferry_greet_read_head(struct ferry_inbuf *in, bool answer,
			  struct ferry_channel_head *head,
			  struct ferry_err *e)
{
	return ferry_inbuf_decode(in, answer ? answer_head : offer_head, head,
				  e);
}

static int hello_head(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_hello_head_decode(rd, arg, e);
}

int ferry_greet_read_hello(struct ferry_inbuf *in, bool answer,
			   struct ferry_hello *h, struct ferry_err *e)
{
	const uint8_t *at;
	struct ferry_rd rd;
	uint32_t bytes = 0;

	if (ferry_inbuf_decode(in, hello_head, &bytes, e))
		return -1;
	at = ferry_inbuf_need(in, bytes, e);
	if (!at)
		return -1;
	rd = ferry_rd_over(at, bytes);
	if (ferry_hello_decode(&rd, answer, h, e))
		return -1;
	ferry_inbuf_consume(in, bytes);
	return 0;
}
