/* SPDX-License-Identifier: MIT */
/*
 * A channel of pages is lost in postcopy, and main lives: the source, told so
 * or telling it, sends over the others what did not come.  Whoever waits for a
 * page that may have been under way on it asks again at once.
 *
 * A mark that cannot come on a channel that is lost makes its BARRIER or FINISH
 * void; the source hears LOST in its place, and says another.
 *
 * Threads: loss by the receiver that broke, the rest by the reader.
 */
#include "mig/target_impl.h"

/* Others are left for bulk, and it is the link that broke. */
static bool is_one_of_several(struct ferry_target *t,
			      const struct ferry_err *why)
{
	struct ferry_inflow *in = &t->in;

	return (t->features & FERRY_FEATURE_SURVIVE) &&
	       ferry_err_is_link(why) && ferry_status_is_handed(&t->status) &&
	       t->postcopy &&
	       ferry_marks_alive(&in->gate, in->receiver, in->data);
}

enum telling { TELL, NOBODY_ASKS, LINK_IS_LOST };

/* Once all is here, no channel of pages matters any more. */
static enum telling begin_telling(struct ferry_target *t)
{
	enum telling what = TELL;

	pthread_mutex_lock(&t->lock);
	if (t->end.quit || t->recovery.waiting)
		what = LINK_IS_LOST;
	else if (t->end.done || t->told_enough)
		what = NOBODY_ASKS;
	t->telling += what == TELL;
	pthread_mutex_unlock(&t->lock);
	return what;
}

static void end_telling(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->telling--;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

void ferry_survive_end(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->told_enough = true;
	while (t->telling)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

static uint32_t number_of(const struct ferry_inflow *in,
			  const struct ferry_receiver *r)
{
	unsigned i = (unsigned)(r - in->receiver);

	return i < in->data ?
	       ferry_channel_number(FERRY_CHANNEL_DATA, i) :
	       ferry_channel_number(FERRY_CHANNEL_URGENT, i - in->data);
}

bool ferry_survive_loss(struct ferry_target *t, struct ferry_receiver *r,
			const struct ferry_err *why)
{
	enum telling what;
	struct ferry_err err;

	if (!is_one_of_several(t, why))
		return false;
	what = begin_telling(t);
	if (what != TELL)
		return what == NOBODY_ASKS;
	if (!ferry_receiver_is_dropped(r)) {
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s: the others take "
			  "its share over", why->msg);
		/* If that fails, main is lost, whose reader knows. */
		(void)!ferry_answer_say(&t->in.answer, FERRY_RP_LOST,
					number_of(&t->in, r), &err);
	}
	ferry_fault_ask_once_more(&t->in.fault);
	end_telling(t);
	return true;
}

int ferry_survive_void(struct ferry_target *t, struct ferry_receiver *r,
		       struct ferry_err *e)
{
	if (!is_one_of_several(t, e))
		return -1;
	/* Silent for too long: it ends, and says so itself. */
	r->chan->ops->shutdown(r->chan);
	return 1;
}

static struct ferry_receiver *find(struct ferry_inflow *in, uint32_t number)
{
	enum ferry_channel_type type;
	unsigned index;

	if (!ferry_channel_of_number(number, &type, &index))
		return NULL;
	if (type == FERRY_CHANNEL_DATA)
		return index < in->data ? &in->receiver[index] : NULL;
	return index < in->urgent ? &in->receiver[in->data + index] : NULL;
}

int ferry_survive_lost(struct ferry_target *t, struct ferry_rd *rd,
		       struct ferry_err *e)
{
	struct ferry_inflow *in = &t->in;
	struct ferry_receiver *r;
	uint32_t number;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_LOST, &number, e))
		return -1;
	r = find(in, number);
	if (!r || t->returning || !t->postcopy ||
	    !(t->features & FERRY_FEATURE_SURVIVE))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "LOST of channel "
				     "0x%x comes out of turn", number);
	ferry_receiver_drop(r);
	if (!ferry_marks_alive(&in->gate, in->receiver, in->data))
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "the last channel "
				     "for bulk was lost");
	ferry_verify_restart(t);
	t->may_ask = true;
	return 0;
}
