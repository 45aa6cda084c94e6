/* SPDX-License-Identifier: MIT */
/*
 * The target's replies as a set of bits and a condition to wait on.
 */
#include "mig/replies.h"

#include "base/thread.h"
#include "wire/channel.h"

#define BAD_NEWS (FERRY_REPLY_REFUSED | FERRY_REPLY_BROKEN | \
		  FERRY_REPLY_DIFFERS)

void ferry_replies_init(struct ferry_replies *r)
{
	*r = (struct ferry_replies){ 0 };
	pthread_mutex_init(&r->lock, NULL);
	ferry_cond_init(&r->changed);
}

void ferry_replies_fini(struct ferry_replies *r)
{
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}

static unsigned bit_of(const struct ferry_rp *m)
{
	static const struct { uint16_t type; unsigned bit; } rows[] = {
		{ FERRY_RP_PONG, FERRY_REPLY_PONG },
		{ FERRY_RP_SYNCED, FERRY_REPLY_SYNCED },
		{ FERRY_RP_LOADED, FERRY_REPLY_LOADED },
		{ FERRY_RP_RUNNING, FERRY_REPLY_RUNNING },
		{ FERRY_RP_RECV_BITMAP, FERRY_REPLY_MAP },
		{ FERRY_RP_RESUME_ACK, FERRY_REPLY_RESUMED },
		{ FERRY_RP_DIFFERS, FERRY_REPLY_DIFFERS },
		{ FERRY_RP_LOST, FERRY_REPLY_LOST },
	};

	if (m->type == FERRY_RP_SHUT)
		return m->value ? FERRY_REPLY_REFUSED : FERRY_REPLY_SHUT;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == m->type)
			return rows[i].bit;
	return 0;
}

void ferry_replies_reset(struct ferry_replies *r)
{
	pthread_mutex_lock(&r->lock);
	r->seen = 0;
	r->synced = r->maps = 0;
	r->lost = (struct ferry_losses){ 0 };
	r->why = (struct ferry_err){ 0 };
	pthread_mutex_unlock(&r->lock);
}

/* Caller holds the lock. */
static void note_lost(struct ferry_replies *r, uint32_t number)
{
	enum ferry_channel_type type;
	unsigned index;

	if (!ferry_channel_of_number(number, &type, &index))
		return;
	*(type == FERRY_CHANNEL_DATA ? &r->lost.data : &r->lost.urgent) |=
		1ull << index;
}

void ferry_replies_note_loss(struct ferry_replies *r)
{
	pthread_mutex_lock(&r->lock);
	r->seen |= FERRY_REPLY_LOST;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void ferry_replies_take_losses(struct ferry_replies *r,
			       struct ferry_losses *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->lost;
	r->lost = (struct ferry_losses){ 0 };
	r->seen &= ~(unsigned)FERRY_REPLY_LOST;
	pthread_mutex_unlock(&r->lock);
}

void ferry_replies_forget_maps(struct ferry_replies *r)
{
	pthread_mutex_lock(&r->lock);
	r->maps = 0;
	r->seen &= ~(unsigned)FERRY_REPLY_MAP;
	pthread_mutex_unlock(&r->lock);
}

bool ferry_replies_post(struct ferry_replies *r, const struct ferry_rp *m)
{
	unsigned bit = bit_of(m);

	pthread_mutex_lock(&r->lock);
	r->seen |= bit;
	if (m->type == FERRY_RP_SYNCED)
		r->synced = m->value;
	if (m->type == FERRY_RP_RECV_BITMAP)
		r->maps++;
	if (m->type == FERRY_RP_LOST)
		note_lost(r, m->value);
	if (m->type == FERRY_RP_REASON && !r->why.code)
		ferry_err_set(&r->why, FERRY_E_PEER, 0, "target: %.200s",
			      m->reason);
	if (m->type == FERRY_RP_DIFFERS && !r->why.code)
		ferry_err_set(&r->why, FERRY_E_MISMATCH, 0, "target: %.200s",
			      m->reason);
	if (bit == FERRY_REPLY_REFUSED && !r->why.code)
		ferry_err_set(&r->why, FERRY_E_PEER, 0,
			      "the target gave up without saying why");
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return m->type != FERRY_RP_SHUT;
}

void ferry_replies_broken(struct ferry_replies *r, const struct ferry_err *why)
{
	pthread_mutex_lock(&r->lock);
	r->seen |= FERRY_REPLY_BROKEN;
	if (!r->why.code)
		r->why = *why;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void ferry_replies_poke(struct ferry_replies *r)
{
	pthread_mutex_lock(&r->lock);
	r->poked = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

unsigned ferry_replies_wait(struct ferry_replies *r, unsigned wanted,
			    uint64_t until_ns)
{
	unsigned seen;

	pthread_mutex_lock(&r->lock);
	while (!(r->seen & (wanted | BAD_NEWS)) && !r->poked)
		if (!ferry_cond_wait_until(&r->changed, &r->lock, until_ns))
			break;
	r->poked = false;
	seen = r->seen;
	pthread_mutex_unlock(&r->lock);
	return seen;
}

void ferry_replies_clear(struct ferry_replies *r, unsigned bits)
{
	pthread_mutex_lock(&r->lock);
	r->seen &= ~bits;
	pthread_mutex_unlock(&r->lock);
}

unsigned ferry_replies_seen(struct ferry_replies *r)
{
	unsigned seen;

	pthread_mutex_lock(&r->lock);
	seen = r->seen;
	pthread_mutex_unlock(&r->lock);
	return seen;
}

uint32_t ferry_replies_synced(struct ferry_replies *r)
{
	uint32_t synced;

	pthread_mutex_lock(&r->lock);
	synced = r->synced;
	pthread_mutex_unlock(&r->lock);
	return synced;
}

uint32_t ferry_replies_maps(struct ferry_replies *r)
{
	uint32_t maps;

	pthread_mutex_lock(&r->lock);
	maps = r->maps;
	pthread_mutex_unlock(&r->lock);
	return maps;
}

int ferry_replies_why(struct ferry_replies *r, struct ferry_err *e)
{
	pthread_mutex_lock(&r->lock);
	if (e)
		*e = r->why;
	pthread_mutex_unlock(&r->lock);
	return -1;
}
