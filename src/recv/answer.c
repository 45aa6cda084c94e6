/* SPDX-License-Identifier: MIT */
/*
 * The return path's writer.
 */
#include "recv/answer.h"

#include <poll.h>
#include <stdio.h>

#include "wire/recvmap.h"

#define WORDS	512u	/* of a bitmap, written at once */

void ferry_answer_init(struct ferry_answer *a)
{
	*a = (struct ferry_answer){ 0 };
	pthread_mutex_init(&a->lock, NULL);
}

void ferry_answer_fini(struct ferry_answer *a)
{
	pthread_mutex_destroy(&a->lock);
}

void ferry_answer_open(struct ferry_answer *a, struct ferry_chan *chan,
		       enum ferry_dialect dialect)
{
	pthread_mutex_lock(&a->lock);
	a->chan = chan;
	a->dialect = dialect;
	a->open = true;
	a->last = NULL;
	pthread_mutex_unlock(&a->lock);
}

void ferry_answer_close(struct ferry_answer *a)
{
	pthread_mutex_lock(&a->lock);
	a->open = false;
	a->chan = NULL;
	pthread_mutex_unlock(&a->lock);
}

static int say_locked(struct ferry_answer *a, const struct ferry_rp *m,
		      struct ferry_err *e)
{
	uint8_t octets[FERRY_RP_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	if (!a->open)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "there is no return path to send %s",
				     ferry_rp_name(m->type));
	ferry_rp_encode(&w, m);
	return ferry_chan_write(a->chan, octets, ferry_wr_used(&w), e);
}

static int say(struct ferry_answer *a, const struct ferry_rp *m,
	       struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&a->lock);
	rc = say_locked(a, m, e);
	pthread_mutex_unlock(&a->lock);
	return rc;
}

int ferry_answer_say(struct ferry_answer *a, enum ferry_rp_type type,
		     uint32_t value, struct ferry_err *e)
{
	struct ferry_rp m = { .type = (uint16_t)type, .value = value };

	return say(a, &m, e);
}

int ferry_answer_bulk(struct ferry_answer *a, enum ferry_rp_type type,
		      uint32_t device, uint64_t wide, struct ferry_err *e)
{
	struct ferry_rp m = {
		.type = (uint16_t)type, .value = device, .wide = wide,
	};

	return say(a, &m, e);
}

int ferry_answer_request(struct ferry_answer *a,
			 const struct ferry_mem_block *b, uint64_t first,
			 uint64_t pages, struct ferry_err *e)
{
	struct ferry_rp m = {
		.type = FERRY_RP_REQ_PAGES,
		.span = { first * FERRY_PAGE_BYTES, pages * FERRY_PAGE_BYTES },
	};
	int rc;

	pthread_mutex_lock(&a->lock);
	if (b != a->last) {
		m.type = FERRY_RP_REQ_PAGES_ID;
		snprintf(m.name, sizeof(m.name), "%s", b->name);
		a->last = b;
	}
	rc = say_locked(a, &m, e);
	pthread_mutex_unlock(&a->lock);
	return rc;
}

/* Words [first, first + n) of what is here. */
static int say_words(struct ferry_answer *a, const struct ferry_map *map,
		     uint32_t block, uint64_t first, size_t n,
		     struct ferry_err *e)
{
	uint8_t octets[WORDS * 8];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	uint64_t word[WORDS];

	for (size_t i = 0; i < n; i++)
		word[i] = atomic_load(&map->here[block].word[first + i]) |
			  atomic_load(&map->zero[block].word[first + i]);
	ferry_recvmap_words_encode(&w, word, n);
	return ferry_chan_write(a->chan, octets, ferry_wr_used(&w), e);
}

static int say_bitmap(struct ferry_answer *a, const struct ferry_mem_block *b,
		      const struct ferry_map *map, struct ferry_err *e)
{
	uint64_t words = ferry_recvmap_words(b->pages);
	uint8_t octets[FERRY_RECVMAP_HEAD_WIRE + FERRY_RECVMAP_END_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_recvmap_head_encode(&w, b->pages);
	if (ferry_chan_write(a->chan, octets, ferry_wr_used(&w), e))
		return -1;
	for (uint64_t i = 0; i < words; i += WORDS)
		if (say_words(a, map, b->index, i, words - i < WORDS ?
			      (size_t)(words - i) : WORDS, e))
			return -1;
	w = ferry_wr_over(octets, sizeof(octets));
	ferry_recvmap_end_encode(&w);
	return ferry_chan_write(a->chan, octets, ferry_wr_used(&w), e);
}

int ferry_answer_bitmap(struct ferry_answer *a,
			const struct ferry_mem_block *b,
			const struct ferry_map *map, struct ferry_err *e)
{
	struct ferry_rp m = { .type = FERRY_RP_RECV_BITMAP };
	int rc;

	snprintf(m.name, sizeof(m.name), "%s", b->name);
	pthread_mutex_lock(&a->lock);
	rc = say_locked(a, &m, e) || say_bitmap(a, b, map, e) ? -1 : 0;
	pthread_mutex_unlock(&a->lock);
	return rc;
}

int ferry_answer_differs(struct ferry_answer *a, const char *reason,
			 struct ferry_err *e)
{
	struct ferry_rp m = { .type = FERRY_RP_DIFFERS };

	snprintf(m.reason, sizeof(m.reason), "%s", reason);
	return say(a, &m, e);
}

void ferry_answer_give_up(struct ferry_answer *a, const char *reason)
{
	struct ferry_rp why = { .type = FERRY_RP_REASON };
	struct ferry_rp shut = { .type = FERRY_RP_SHUT, .value = 1 };

	snprintf(why.reason, sizeof(why.reason), "%s", reason);
	pthread_mutex_lock(&a->lock);
	if (a->dialect == FERRY_DIALECT_FERRY)
		(void)!say_locked(a, &why, NULL);
	(void)!say_locked(a, &shut, NULL);
	a->open = false;
	pthread_mutex_unlock(&a->lock);
}

/* Unless something is being said, or there is no room for it. */
static bool try_say(struct ferry_answer *a, const struct ferry_rp *m)
{
	bool said;

	if (pthread_mutex_trylock(&a->lock))
		return false;
	said = a->open && a->chan->ops->wait(a->chan, POLLOUT, 0) == 1 &&
	       !say_locked(a, m, NULL);
	pthread_mutex_unlock(&a->lock);
	return said;
}

void ferry_answer_beat(struct ferry_answer *a, enum ferry_rp_type type,
		       uint32_t value)
{
	const struct ferry_rp m = { .type = (uint16_t)type, .value = value };

	(void)try_say(a, &m);
}

bool ferry_answer_report(struct ferry_answer *a,
			 const struct ferry_rp_faults *f)
{
	const struct ferry_rp m = { .type = FERRY_RP_FAULTS, .faults = *f };

	return try_say(a, &m);
}
