/* SPDX-License-Identifier: MIT */
/*
 * The return path's reader.
 */
#include "send/returns.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "wire/recvmap.h"
#include "wire/text.h"

#define WORDS	512u	/* of a map, read at once */

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

/* ---- what has come, after a lost link -------------------------------------- */

static int map_head(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	const struct ferry_mem_block *b = arg;

	return ferry_recvmap_head_decode(rd, b->pages, e);
}

static int map_end(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	(void)arg;
	return ferry_recvmap_end_decode(rd, e);
}

static int map_words(struct ferry_returns *r, const struct ferry_mem_block *b,
		     struct ferry_bitmap *to, uint64_t first, size_t n,
		     struct ferry_err *e)
{
	const uint8_t *at = ferry_inbuf_need(&r->in, n * 8, e);
	uint64_t word[WORDS];
	struct ferry_rd rd;

	if (!at)
		return -1;
	rd = ferry_rd_over(at, n * 8);
	if (ferry_recvmap_words_decode(&rd, b->pages, first, word, n, e))
		return -1;
	for (size_t i = 0; i < n; i++)
		atomic_store(&to->word[first + i], word[i]);
	ferry_inbuf_consume(&r->in, n * 8);
	return 0;
}

/* They come in the order in which they were asked for, each once. */
static int read_map(struct ferry_returns *r, const struct ferry_rp *m,
		    struct ferry_err *e)
{
	const struct ferry_mem_block *b;
	uint64_t words, n;

	if (r->maps == r->mem->blocks || !r->received ||
	    strcmp(r->mem->block[r->maps].name, m->name))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "a received map of "
				     "block %s, which was not asked for",
				     FERRY_SHOW(m->name));
	b = &r->mem->block[r->maps];
	if (ferry_inbuf_decode(&r->in, map_head, (void *)(uintptr_t)b, e))
		return -1;
	words = ferry_recvmap_words(b->pages);
	for (uint64_t i = 0; i < words; i += n) {
		n = words - i < WORDS ? words - i : WORDS;
		if (map_words(r, b, &r->received[r->maps], i, (size_t)n, e))
			return -1;
	}
	r->maps++;
	return ferry_inbuf_decode(&r->in, map_end, NULL, e);
}

/* ---- the messages ----------------------------------------------------------- */

struct heard {
	enum ferry_dialect dialect;
	struct ferry_rp m;
};

static int decode(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct heard *h = arg;

	return ferry_rp_decode(rd, h->dialect, &h->m, e);
}

enum next { BROKEN, MUTE, END, MORE };

static enum next next(struct ferry_returns *r, bool mute, struct ferry_err *e)
{
	struct heard h = { .dialect = r->dialect };

	if (ferry_inbuf_decode(&r->in, decode, &h, e))
		return BROKEN;
	if (h.m.type == FERRY_RP_RECV_BITMAP && read_map(r, &h.m, e))
		return BROKEN;
	if (h.m.type != FERRY_RP_REQ_PAGES_ID &&
	    h.m.type != FERRY_RP_REQ_PAGES)
		return r->ops->message(r->arg, &h.m) ? MORE : END;
	if (mute || !answer(r, &h.m, e))
		return MORE;
	return ferry_err_is_link(e) ? MUTE : BROKEN;
}

/* No answer can be written any more; perhaps it is said why. */
static void hear_last_word(struct ferry_returns *r)
{
	struct ferry_chan *chan = r->in.chan;
	uint64_t until = ferry_now_ns() + r->last_word_ns;
	struct ferry_err ignored;

	for (;;) {
		uint64_t now = ferry_now_ns();
		int ms = now < until ? (int)((until - now) /
					     FERRY_NS_PER_MS) + 1 : 0;

		if (!ferry_inbuf_have(&r->in) &&
		    chan->ops->wait(chan, POLLIN, ms) <= 0)
			return;
		if (next(r, true, &ignored) != MORE)
			return;
	}
}

static void returns_main(void *arg)
{
	struct ferry_returns *r = arg;
	struct ferry_err err = { 0 };
	enum next what;

	do
		what = next(r, false, &err);
	while (what == MORE);
	if (what == MUTE)
		hear_last_word(r);
	if (what != END)
		ferry_err_wrap(&err, "return path");
	r->ops->broken(r->arg, &err);
}

int ferry_returns_start(struct ferry_returns *r, struct ferry_err *e)
{
	r->last = NULL;
	r->maps = 0;
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
