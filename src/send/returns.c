/* SPDX-License-Identifier: MIT */
/*
 * The return path's reader.
 */
#include "send/returns.h"

#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
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

/* What is asked for, checked. */
struct request {
	struct ferry_mem_block *block;
	uint64_t first, pages;
};

static int check_request(struct ferry_returns *r, const struct ferry_rp *m,
			 struct request *q, struct ferry_err *e)
{
	struct ferry_mem_block *b = requested_block(r, m, e);
	struct ferry_block_shape shape;

	if (!b)
		return -1;
	shape = (struct ferry_block_shape){ b->name, b->bytes, b->page_bytes };
	if (ferry_span_check_in(&m->span, &shape, "page request", e))
		return -1;
	*q = (struct request){ b, m->span.start / FERRY_PAGE_BYTES,
			       m->span.bytes / FERRY_PAGE_BYTES };
	return 0;
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
	struct ferry_bitmap *received = atomic_load(&r->received);
	uint32_t at = atomic_load(&r->maps);
	const struct ferry_mem_block *b;
	uint64_t words, n;

	if (at >= r->mem->blocks || !received ||
	    strcmp(r->mem->block[at].name, m->name))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "a received map of "
				     "block %s, which was not asked for",
				     FERRY_SHOW(m->name));
	b = &r->mem->block[at];
	if (ferry_inbuf_decode(&r->in, map_head, (void *)(uintptr_t)b, e))
		return -1;
	words = ferry_recvmap_words(b->pages);
	for (uint64_t i = 0; i < words; i += n) {
		n = words - i < WORDS ? words - i : WORDS;
		if (map_words(r, b, &received[at], i, (size_t)n, e))
			return -1;
	}
	atomic_store(&r->maps, at + 1);
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

enum next { BROKEN, END, MORE, REQUEST };

/* Who has the turn. */
static enum next next(struct ferry_returns *r, struct request *q,
		      struct ferry_err *e)
{
	struct heard h = { .dialect = r->dialect };

	if (ferry_inbuf_decode(&r->in, decode, &h, e))
		return BROKEN;
	if (h.m.type == FERRY_RP_RECV_BITMAP && read_map(r, &h.m, e))
		return BROKEN;
	if (h.m.type != FERRY_RP_REQ_PAGES_ID &&
	    h.m.type != FERRY_RP_REQ_PAGES)
		return r->ops->message(r->arg, &h.m) ? MORE : END;
	return check_request(r, &h.m, q, e) ? BROKEN : REQUEST;
}

/* ---- turns ------------------------------------------------------------------ */

/* Until it is ours or `until`; false then, and when all is over. */
static bool take_turn(struct ferry_returns *r, uint64_t until)
{
	bool ours;

	pthread_mutex_lock(&r->lock);
	while (r->reading && !r->ended &&
	       ferry_cond_wait_until(&r->changed, &r->lock, until))
		;
	ours = !r->reading && !r->ended;
	if (ours)
		r->reading = true;
	pthread_mutex_unlock(&r->lock);
	return ours;
}

/* True when requests are answered. */
static bool give_turn(struct ferry_returns *r)
{
	bool mute;

	pthread_mutex_lock(&r->lock);
	r->reading = false;
	mute = r->mute;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return !mute;
}

/* The first one to say so says why. */
static void end(struct ferry_returns *r, struct ferry_err *why)
{
	bool ended;

	pthread_mutex_lock(&r->lock);
	ended = r->ended;
	r->ended = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (!ended)
		r->ops->broken(r->arg, why);
}

/* Nothing is answered from here on; true when somebody said that before. */
static bool fall_silent(struct ferry_returns *r)
{
	bool mute;

	pthread_mutex_lock(&r->lock);
	mute = r->mute;
	r->mute = true;
	pthread_mutex_unlock(&r->lock);
	return mute;
}

static bool may_read(struct ferry_returns *r, uint64_t until)
{
	uint64_t now = ferry_now_ns();
	int ms = now < until ?
		 (int)((until - now) / FERRY_NS_PER_MS) + 1 : 0;

	return ferry_inbuf_have(&r->in) ||
	       r->in.chan->ops->wait(r->in.chan, POLLIN, ms) > 0;
}

/* No answer can be written any more; perhaps it is said why.  While another
 * thread reads, that one hears it. */
static void hear_last_word(struct ferry_returns *r)
{
	uint64_t until = ferry_now_ns() + r->last_word_ns;
	struct ferry_err ignored;
	enum next what = MORE;
	struct request q;

	while (what >= MORE && take_turn(r, until)) {
		what = may_read(r, until) ? next(r, &q, &ignored) : BROKEN;
		give_turn(r);
	}
}

static void fail_answer(struct ferry_returns *r, struct ferry_err *why)
{
	if (ferry_err_is_link(why)) {
		if (fall_silent(r))
			return;
		hear_last_word(r);
	}
	ferry_err_wrap(why, "return path");
	end(r, why);
}

static void returns_main(void *arg)
{
	struct ferry_returns *r = arg;
	struct ferry_err err = { 0 };
	struct request q;
	enum next what;

	while (take_turn(r, UINT64_MAX)) {
		what = next(r, &q, &err);
		if (what == BROKEN)
			ferry_err_wrap(&err, "return path");
		if (what < MORE)
			end(r, &err);
		if (!give_turn(r) || what != REQUEST)
			continue;
		if (ferry_requests_answer(r->requests, q.block, q.first,
					  q.pages, &err)) {
			fail_answer(r, &err);
			return;
		}
	}
}

int ferry_returns_start(struct ferry_returns *r, struct ferry_err *e)
{
	unsigned n = r->threads ? r->threads : 1;

	r->last = NULL;
	r->maps = 0;
	r->reading = r->mute = r->ended = false;
	pthread_mutex_init(&r->lock, NULL);
	ferry_cond_init(&r->changed);
	for (unsigned i = 0; i < n; i++) {
		if (!ferry_thread_start(&r->thread[i], "ferry-return",
					returns_main, r, e))
			continue;
		if (i)	/* those that run end with the channel, in stop() */
			return -1;
		ferry_inbuf_fini(&r->in);
		pthread_cond_destroy(&r->changed);
		pthread_mutex_destroy(&r->lock);
		return -1;
	}
	return 0;
}

void ferry_returns_expect(struct ferry_returns *r, struct ferry_bitmap *maps)
{
	atomic_store(&r->maps, maps ? 0 : UINT32_MAX);
	atomic_store(&r->received, maps);
}

bool ferry_returns_run(const struct ferry_returns *r)
{
	return r->thread[0].started;
}

void ferry_returns_stop(struct ferry_returns *r)
{
	if (!ferry_returns_run(r))
		return;
	for (unsigned i = 0; i < FERRY_LEN(r->thread); i++)
		ferry_thread_join(&r->thread[i]);
	ferry_inbuf_fini(&r->in);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}
