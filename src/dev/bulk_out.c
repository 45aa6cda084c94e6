/* SPDX-License-Identifier: MIT */
/*
 * Saving bulk devices: the conductor gives an order to all threads, and waits
 * for what they make of it.
 */
#include "dev/bulk_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define IDLE_NS		(50 * FERRY_NS_PER_MS)	/* had nothing: ask again */

/* What is pending gets less, as long as a new low comes so often. */
#define SHRINKS_NS	(2 * FERRY_NS_PER_S)

/* ---- a device's thread ---------------------------------------------------- */

/* So many may be sent; false: it is over. */
static bool await_credit(struct ferry_bulk_saver *s)
{
	struct ferry_bulk_out *out = s->out;
	bool may;

	pthread_mutex_lock(&out->lock);
	while (s->index >= s->limit && !out->closed)
		pthread_cond_wait(&out->changed, &out->lock);
	may = !out->closed;
	pthread_mutex_unlock(&out->lock);
	return may;
}

static void note_sent(struct ferry_bulk_saver *s, size_t bytes, uint64_t since)
{
	struct ferry_bulk_out *out = s->out;
	uint64_t ns = ferry_now_ns() - since;

	s->call_ns += ns;
	pthread_mutex_lock(&out->lock);
	s->index++;
	if (out->order == FERRY_BULK_ORDER_SAVE) {
		s->stats.pause_bytes += bytes;
		s->stats.send_ns += ns;
	} else {
		s->stats.precopy_bytes += bytes;
	}
	pthread_mutex_unlock(&out->lock);
}

static int send_packet(struct ferry_bulk_saver *s, const void *data,
		       size_t bytes, unsigned flags, struct ferry_err *e)
{
	struct ferry_bulk_packet p = {
		.device = s->number, .flags = (uint16_t)flags,
		.bytes = (uint32_t)bytes, .index = s->index,
	};
	uint64_t since = ferry_now_ns();

	if (!await_credit(s))
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "the migration is over");
	if (s->stopped)
		p.flags |= FERRY_BULK_PACKET_STOPPED;
	if (s->out->ops->send(s->out->arg, &p, data, e))
		return -1;
	note_sent(s, bytes, since);
	return 0;
}

static int write_piece(void *arg, const void *data, size_t bytes,
		       unsigned flags, struct ferry_err *e)
{
	struct ferry_bulk_saver *s = arg;

	if (!s->write_err.code &&
	    send_packet(s, data, bytes, flags, &s->write_err) &&
	    !s->write_err.code)
		s->write_err.code = FERRY_E_IO;
	if (!s->write_err.code)
		return 0;
	*e = s->write_err;
	return -1;
}

/* What sending said counts, not what the device makes of it; and what the
 * device says is not the link's trouble, whatever it calls it. */
static int blame(struct ferry_bulk_saver *s, struct ferry_err *e)
{
	if (s->write_err.code) {
		*e = s->write_err;
		return -1;
	}
	if (!e->code || ferry_err_is_link(e))
		e->code = FERRY_E_DEVICE;
	return ferry_err_wrap(e, "save bulk device %s/%" PRIu32, s->dev->name,
			      s->dev->instance);
}

static void note_pending(struct ferry_bulk_saver *s,
			 const struct ferry_bulk_pending *p)
{
	struct ferry_bulk_out *out = s->out;
	uint64_t more = p->initial_bytes + p->dirty_bytes;

	pthread_mutex_lock(&out->lock);
	s->stats.pending_bytes = more + p->stop_bytes;
	if (more < s->low_bytes - s->low_bytes / 64) {
		s->low_bytes = more;
		s->low_ns = ferry_now_ns();
	}
	pthread_mutex_unlock(&out->lock);
}

static int look(struct ferry_bulk_saver *s, struct ferry_err *e)
{
	struct ferry_bulk_pending p = { .size = sizeof(p) };

	if (s->dev->ops.pending(s->dev->opaque, &p, e))
		return blame(s, e);
	note_pending(s, &p);
	return 0;
}

/* 1: more at once; 0: later. */
static int iterate(struct ferry_bulk_saver *s, struct ferry_err *e)
{
	uint64_t since = ferry_now_ns();
	int rc;

	if (look(s, e))
		return -1;
	rc = s->dev->ops.iterate(s->dev->opaque, &s->handle, e);
	if (rc < 0 || s->write_err.code)
		return blame(s, e);
	pthread_mutex_lock(&s->out->lock);
	s->spent_ns += ferry_now_ns() - since;
	pthread_mutex_unlock(&s->out->lock);
	return look(s, e) ? -1 : rc;
}

/* The next order, other than `done`; or the same once more, after a while. */
static enum ferry_bulk_order await_order(struct ferry_bulk_saver *s,
					 enum ferry_bulk_order done,
					 uint64_t until, bool *closed)
{
	struct ferry_bulk_out *out = s->out;
	enum ferry_bulk_order order;

	pthread_mutex_lock(&out->lock);
	while (out->order == done && !out->closed &&
	       ferry_cond_wait_until(&out->changed, &out->lock, until))
		;
	order = out->order;
	*closed = out->closed;
	pthread_mutex_unlock(&out->lock);
	return order;
}

static void tell(struct ferry_bulk_saver *s, bool *flag)
{
	struct ferry_bulk_out *out = s->out;

	pthread_mutex_lock(&out->lock);
	*flag = true;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
	out->ops->changed(out->arg);
}

/* Until it is to be parked. */
static int iterate_all(struct ferry_bulk_saver *s, bool *closed,
		       struct ferry_err *e)
{
	enum ferry_bulk_order order = FERRY_BULK_ORDER_ITERATE;

	while (order == FERRY_BULK_ORDER_ITERATE && !*closed) {
		int rc = iterate(s, e);

		if (rc < 0)
			return -1;
		order = await_order(s, FERRY_BULK_ORDER_ITERATE,
				    rc ? 0 : ferry_now_ns() + IDLE_NS, closed);
	}
	return 0;
}

/* One after the other, where that is asked for; false: it is over. */
static bool await_turn(struct ferry_bulk_saver *s)
{
	struct ferry_bulk_out *out = s->out;
	bool may;

	pthread_mutex_lock(&out->lock);
	while (out->serial && out->saved < s->number && !out->closed)
		pthread_cond_wait(&out->changed, &out->lock);
	may = !out->closed;
	if (may)
		s->stats.state = FERRY_BULK_STATE_SAVING;
	pthread_mutex_unlock(&out->lock);
	return may;
}

/* Before the last packet goes: what the target says behind it may be heard
 * before sending it has returned. */
static void note_saved(struct ferry_bulk_saver *s, uint64_t ns)
{
	struct ferry_bulk_out *out = s->out;

	pthread_mutex_lock(&out->lock);
	s->stats.save_ns = ns;
	s->stats.state = FERRY_BULK_STATE_SAVED;
	out->saved++;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
}

static int save(struct ferry_bulk_saver *s, struct ferry_err *e)
{
	uint64_t since = ferry_now_ns();

	s->call_ns = 0;
	if (s->dev->ops.save(s->dev->opaque, &s->handle, e) ||
	    s->write_err.code)
		return blame(s, e);
	note_saved(s, ferry_now_ns() - since - s->call_ns);
	return send_packet(s, NULL, 0, FERRY_BULK_PACKET_LAST, e);
}

static void note_failure(struct ferry_bulk_saver *s,
			 const struct ferry_err *why)
{
	struct ferry_bulk_out *out = s->out;

	pthread_mutex_lock(&out->lock);
	if (!out->why.code)
		out->why = *why;
	s->stats.state = FERRY_BULK_STATE_FAILED;
	s->parked = true;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
	out->ops->changed(out->arg);
}

static void saver_main(void *arg)
{
	struct ferry_bulk_saver *s = arg;
	struct ferry_err err = { 0 };
	bool closed = false;
	int rc = iterate_all(s, &closed, &err);

	if (!rc && !closed) {
		tell(s, &s->parked);
		(void)!await_order(s, FERRY_BULK_ORDER_PARK, UINT64_MAX,
				   &closed);
	}
	if (!rc && !closed && await_turn(s))
		rc = save(s, &err);
	if (rc)
		note_failure(s, &err);
}

/* ---- the conductor -------------------------------------------------------- */

int ferry_bulk_out_init(struct ferry_bulk_out *out,
			const struct ferry_bulk_list *list,
			const struct ferry_bulk_out_ops *ops, void *arg,
			struct ferry_err *e)
{
	*out = (struct ferry_bulk_out){ .list = list, .ops = ops, .arg = arg };
	pthread_mutex_init(&out->lock, NULL);
	ferry_cond_init(&out->changed);
	out->saver = calloc(list->devs ? list->devs : 1, sizeof(*out->saver));
	if (!out->saver)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "bulk devices");
	for (uint32_t i = 0; i < list->devs; i++)
		out->saver[i].handle.over_fd = -1;
	for (uint32_t i = 0; i < list->devs; i++) {
		struct ferry_bulk_saver *s = &out->saver[i];

		s->out = out;
		s->dev = &list->dev[i];
		s->number = (uint16_t)i;
		s->low_bytes = UINT64_MAX;
		if (ferry_bulk_init(&s->handle, e))
			return -1;
		s->handle.write = write_piece;
		s->handle.arg = s;
	}
	return 0;
}

void ferry_bulk_out_fini(struct ferry_bulk_out *out)
{
	if (!out->ops)
		return;
	for (uint32_t i = 0; out->saver && i < out->list->devs; i++)
		ferry_bulk_fini(&out->saver[i].handle);
	free(out->saver);
	pthread_cond_destroy(&out->changed);
	pthread_mutex_destroy(&out->lock);
	*out = (struct ferry_bulk_out){ 0 };
}

static int step(struct ferry_bulk_saver *s, enum ferry_bulk_step which,
		struct ferry_err *e)
{
	if (!s->dev->ops.step(s->dev->opaque, which, e))
		return 0;
	if (!e->code || ferry_err_is_link(e))
		e->code = FERRY_E_DEVICE;
	return ferry_err_wrap(e, "bulk device %s/%" PRIu32, s->dev->name,
			      s->dev->instance);
}

int ferry_bulk_out_start(struct ferry_bulk_out *out, struct ferry_err *e)
{
	out->order = FERRY_BULK_ORDER_ITERATE;
	for (uint32_t i = 0; i < out->list->devs; i++) {
		struct ferry_bulk_saver *s = &out->saver[i];
		char name[16];

		s->begun = true;
		s->low_ns = ferry_now_ns();
		pthread_mutex_lock(&out->lock);		/* may be asked for */
		s->stats.state = FERRY_BULK_STATE_ACTIVE;
		pthread_mutex_unlock(&out->lock);
		snprintf(name, sizeof(name), "ferry-bulk-%u", i & 0xff);
		if (step(s, FERRY_BULK_BEGIN, e) ||
		    ferry_thread_start(&s->thread, name, saver_main, s, e))
			return -1;
	}
	return 0;
}

static void give_order(struct ferry_bulk_out *out, enum ferry_bulk_order order)
{
	pthread_mutex_lock(&out->lock);
	out->order = order;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
}

void ferry_bulk_out_park(struct ferry_bulk_out *out)
{
	for (uint32_t i = 0; i < out->list->devs; i++)
		ferry_bulk_raise(&out->saver[i].handle);
	give_order(out, FERRY_BULK_ORDER_PARK);
}

bool ferry_bulk_out_is_parked(struct ferry_bulk_out *out)
{
	bool all = true;

	pthread_mutex_lock(&out->lock);
	for (uint32_t i = 0; i < out->list->devs; i++)
		all = all && out->saver[i].parked;
	pthread_mutex_unlock(&out->lock);
	return all;
}

int ferry_bulk_out_stop_devices(struct ferry_bulk_out *out, uint64_t now_ns,
				struct ferry_err *e)
{
	for (uint32_t i = 0; i < out->list->devs; i++)
		out->saver[i].stopped = true;
	for (uint32_t i = 0; i < out->list->devs; i++)
		if (step(&out->saver[i], FERRY_BULK_QUIESCE, e))
			return -1;
	for (uint32_t i = 0; i < out->list->devs; i++)
		if (step(&out->saver[i], FERRY_BULK_STOP, e))
			return -1;
	pthread_mutex_lock(&out->lock);
	out->stopped_ns = now_ns;
	pthread_mutex_unlock(&out->lock);
	return 0;
}

void ferry_bulk_out_save(struct ferry_bulk_out *out)
{
	for (uint32_t i = 0; i < out->list->devs; i++)
		ferry_bulk_lower(&out->saver[i].handle);
	give_order(out, FERRY_BULK_ORDER_SAVE);
}

bool ferry_bulk_out_is_saved(struct ferry_bulk_out *out)
{
	bool all;

	pthread_mutex_lock(&out->lock);
	all = out->saved == out->list->devs;
	pthread_mutex_unlock(&out->lock);
	return all;
}

int ferry_bulk_out_check(struct ferry_bulk_out *out, struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&out->lock);
	if (out->why.code) {
		if (e)
			*e = out->why;
		rc = -1;
	}
	pthread_mutex_unlock(&out->lock);
	return rc;
}

const struct ferry_bulk_dev *
ferry_bulk_out_not_ready(struct ferry_bulk_out *out)
{
	const struct ferry_bulk_dev *dev = NULL;

	pthread_mutex_lock(&out->lock);
	for (uint32_t i = 0; !dev && i < out->list->devs; i++)
		if (!out->saver[i].stats.ready)
			dev = out->saver[i].dev;
	pthread_mutex_unlock(&out->lock);
	return dev;
}

/* So long what iterate() would hand out keeps the VM waiting otherwise. */
static bool is_worth_more(const struct ferry_bulk_saver *s, uint64_t ns)
{
	double rate = s->spent_ns ? (double)s->stats.precopy_bytes /
				    (double)s->spent_ns : 0;

	if (!s->low_bytes || s->low_bytes == UINT64_MAX ||
	    ferry_now_ns() - s->low_ns > SHRINKS_NS)
		return false;
	return rate <= 0 || (double)s->low_bytes / rate > (double)ns;
}

bool ferry_bulk_out_is_worth_more(struct ferry_bulk_out *out, uint64_t ns)
{
	bool worth = false;

	pthread_mutex_lock(&out->lock);
	for (uint32_t i = 0; i < out->list->devs; i++)
		worth = worth || is_worth_more(&out->saver[i], ns);
	pthread_mutex_unlock(&out->lock);
	return worth;
}

void ferry_bulk_out_wait(struct ferry_bulk_out *out, uint64_t until_ns)
{
	pthread_mutex_lock(&out->lock);
	if (!out->closed && !out->why.code)
		(void)!ferry_cond_wait_until(&out->changed, &out->lock,
					     until_ns);
	pthread_mutex_unlock(&out->lock);
}

void ferry_bulk_out_close(struct ferry_bulk_out *out)
{
	if (!out->ops)
		return;
	pthread_mutex_lock(&out->lock);
	if (!out->closed)
		for (uint32_t i = 0; i < out->list->devs; i++)
			ferry_bulk_raise(&out->saver[i].handle);
	out->closed = true;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
}

void ferry_bulk_out_join(struct ferry_bulk_out *out)
{
	ferry_bulk_out_close(out);
	for (uint32_t i = 0; i < out->list->devs; i++)
		ferry_thread_join(&out->saver[i].thread);
}

void ferry_bulk_out_end(struct ferry_bulk_out *out)
{
	if (!out->ops)
		return;
	ferry_bulk_out_join(out);
	for (uint32_t i = 0; i < out->list->devs; i++) {
		struct ferry_err ignored = { 0 };

		if (out->saver[i].begun)
			(void)!step(&out->saver[i], FERRY_BULK_END, &ignored);
		out->saver[i].begun = false;
	}
}

/* The first failure is kept. */
static void step_anyway(struct ferry_bulk_saver *s, enum ferry_bulk_step which,
			struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	if (step(s, which, &err) && !e->code)
		*e = err;
}

void ferry_bulk_out_stop(struct ferry_bulk_out *out, bool runs,
			 struct ferry_err *e)
{
	static const enum ferry_bulk_step steps[] = {
		FERRY_BULK_CANCEL, FERRY_BULK_PREPARE, FERRY_BULK_RUN,
	};

	if (!out->ops)
		return;
	ferry_bulk_out_join(out);
	for (unsigned n = 0; n < sizeof(steps) / sizeof(steps[0]); n++)
		for (uint32_t i = 0; i < out->list->devs; i++) {
			struct ferry_bulk_saver *s = &out->saver[i];

			if (s->begun && (!n || (runs && s->stopped)))
				step_anyway(s, steps[n], e);
		}
	for (uint32_t i = 0; i < out->list->devs; i++)
		out->saver[i].begun = out->saver[i].stopped = false;
}
