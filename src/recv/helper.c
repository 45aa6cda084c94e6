/* SPDX-License-Identifier: MIT */
/*
 * The queue between a reader and who places for it.  To be woken costs as much
 * as to place some pages, so nobody is woken for a single run: the helper when
 * half of the buffers are full, the reader when half of them are free.
 */
#include "recv/helper.h"

#include <stdlib.h>

#define ENOUGH		(FERRY_HELPER_RUNS / 2)
#define RUN_BYTES	((size_t)FERRY_RAMBODY_RUN * FERRY_PAGE_BYTES)

/* The next run; NULL when there will be none.  Caller holds the lock. */
static const struct ferry_helper_run *await_run(struct ferry_helper *h)
{
	while (h->given - h->done < ENOUGH && !h->quit &&
	       (!h->pressed || h->given == h->done))
		pthread_cond_wait(&h->given_more, &h->lock);
	return h->given == h->done ? NULL :
				     &h->run[h->done % FERRY_HELPER_RUNS];
}

static void place(struct ferry_helper *h, const struct ferry_helper_run *r,
		  struct ferry_err *e)
{
	bool failed = h->failed;

	pthread_mutex_unlock(&h->lock);
	failed = failed || ferry_placer_pages(h->placer, r->block, r->first,
					      r->n, r->pages, e);
	pthread_mutex_lock(&h->lock);
	if (failed && !h->failed)
		h->why = *e;
	h->failed = failed;
	h->done++;
	if (h->until && h->done >= h->until)
		pthread_cond_signal(&h->done_more);
}

static void help(void *arg)
{
	struct ferry_helper *h = arg;
	const struct ferry_helper_run *r;
	struct ferry_err err = { 0 };

	pthread_mutex_lock(&h->lock);
	while ((r = await_run(h)))
		place(h, r, &err);
	pthread_mutex_unlock(&h->lock);
}

static int make_buffers(struct ferry_helper *h, struct ferry_err *e)
{
	for (unsigned i = 1; i < FERRY_HELPER_RUNS; i++)
		if (posix_memalign((void **)&h->run[i].pages,
				   FERRY_PAGE_BYTES, RUN_BYTES)) {
			h->run[i].pages = NULL;
			return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
					     "buffers for pages");
		}
	return 0;
}

static void free_buffers(struct ferry_helper *h)
{
	for (unsigned i = 1; i < FERRY_HELPER_RUNS; i++)
		free(h->run[i].pages);
}

static void forget(struct ferry_helper *h)
{
	free_buffers(h);
	pthread_cond_destroy(&h->given_more);
	pthread_cond_destroy(&h->done_more);
	pthread_mutex_destroy(&h->lock);
}

int ferry_helper_start(struct ferry_helper *h, struct ferry_placer *placer,
		       uint8_t *pages, struct ferry_err *e)
{
	*h = (struct ferry_helper){ .placer = placer };
	h->run[0].pages = pages;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->given_more, NULL);
	pthread_cond_init(&h->done_more, NULL);
	if (!make_buffers(h, e) &&
	    !ferry_thread_start(&h->thread, "ferry-place", help, h, e))
		return 0;
	forget(h);
	return -1;
}

/* Until so many are done.  Caller holds the lock. */
static int await_done(struct ferry_helper *h, uint64_t until,
		      struct ferry_err *e)
{
	h->until = until;
	while (h->done < until)
		pthread_cond_wait(&h->done_more, &h->lock);
	h->until = 0;
	if (!h->failed)
		return 0;
	*e = h->why;
	return -1;
}

int ferry_helper_give(struct ferry_helper *h, struct ferry_mem_block *block,
		      uint64_t first, uint32_t n, uint8_t **pages,
		      struct ferry_err *e)
{
	struct ferry_helper_run *r;
	uint64_t until = 0;
	int rc;

	pthread_mutex_lock(&h->lock);
	r = &h->run[h->given % FERRY_HELPER_RUNS];
	r->block = block;
	r->first = first;
	r->n = n;
	h->given++;
	if (h->given - h->done >= ENOUGH)
		pthread_cond_signal(&h->given_more);
	if (h->given - h->done == FERRY_HELPER_RUNS)
		until = h->given - ENOUGH;
	rc = await_done(h, until, e);
	*pages = h->run[h->given % FERRY_HELPER_RUNS].pages;
	pthread_mutex_unlock(&h->lock);
	return rc;
}

int ferry_helper_settle(struct ferry_helper *h, struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&h->lock);
	h->pressed = true;
	pthread_cond_signal(&h->given_more);
	rc = await_done(h, h->given, e);
	h->pressed = false;
	pthread_mutex_unlock(&h->lock);
	return rc;
}

void ferry_helper_fini(struct ferry_helper *h)
{
	if (!ferry_helper_is_there(h))
		return;
	pthread_mutex_lock(&h->lock);
	h->quit = true;
	pthread_cond_signal(&h->given_more);
	pthread_mutex_unlock(&h->lock);
	ferry_thread_join(&h->thread);
	forget(h);
}
