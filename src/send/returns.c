/* SPDX-License-Identifier: MIT */
/*
 * The return path's reader.
 */
#include "send/returns.h"

#include "wire/text.h"

static struct ferry_mem_block *requested_block(struct ferry_returns *r,
					       const struct ferry_rp *m,
					       struct ferry_err *e)
{
	if (m->type == FERRY_RP_REQ_PAGES_ID) {
		r->last = ferry_mem_by_name(r->mem, m->name);
		if (!r->last)
			ferry_err_set(e, FERRY_E_PROTO, 0,
				      "page request for block %s, which there "
				      "is not", FERRY_SHOW(m->name));
	} else if (!r->last) {
		ferry_err_set(e, FERRY_E_PROTO, 0,
			      "page request that names no block");
	}
	return (struct ferry_mem_block *)r->last;
}

static int answer(struct ferry_returns *r, const struct ferry_rp *m,
		  struct ferry_err *e)
{
	struct ferry_mem_block *b = requested_block(r, m, e);
	struct ferry_block_shape shape;

	if (!b)
		return -1;
	shape = (struct ferry_block_shape){ b->name, b->bytes, b->page_bytes };
	if (ferry_span_check_in(&m->span, &shape, "page request", e))
		return -1;
	return ferry_requests_answer(r->requests, b,
				     m->span.start / FERRY_PAGE_BYTES,
				     m->span.bytes / FERRY_PAGE_BYTES, e);
}

struct heard {
	enum ferry_dialect dialect;
	struct ferry_rp m;
};

static int decode(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct heard *h = arg;

	return ferry_rp_decode(rd, h->dialect, &h->m, e);
}

/* 1: a message; 0: the thread shall end; -1: broken. */
static int next(struct ferry_returns *r, struct ferry_err *e)
{
	struct heard h = { .dialect = r->dialect };

	if (ferry_inbuf_decode(&r->in, decode, &h, e))
		return -1;
	if (h.m.type == FERRY_RP_REQ_PAGES_ID ||
	    h.m.type == FERRY_RP_REQ_PAGES)
		return answer(r, &h.m, e) ? -1 : 1;
	return r->ops->message(r->arg, &h.m) ? 1 : 0;
}

static void returns_main(void *arg)
{
	struct ferry_returns *r = arg;
	struct ferry_err err = { 0 };
	int rc;

	do
		rc = next(r, &err);
	while (rc > 0);
	if (rc < 0)
		ferry_err_wrap(&err, "return path");
	r->ops->broken(r->arg, &err);
}

int ferry_returns_start(struct ferry_returns *r, struct ferry_err *e)
{
	r->last = NULL;
	if (ferry_thread_start(&r->thread, "ferry-return", returns_main, r,
			       e)) {
		ferry_inbuf_fini(&r->in);
		return -1;
	}
	return 0;
}

void ferry_returns_stop(struct ferry_returns *r)
{
	if (!r->thread.started)
		return;
	ferry_thread_join(&r->thread);
	ferry_inbuf_fini(&r->in);
}
