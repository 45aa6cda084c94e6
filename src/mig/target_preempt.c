/* SPDX-License-Identifier: MIT */
/*
 * QEMU's preempt channel, of a VM that is adopted: it says nothing of itself,
 * carries the records of pages from LISTEN on, and ends with EOS (from a QEMU
 * 7.2) or not at all.
 *
 * Thread: "ferry-preempt"; admit by the door.
 */
#include "mig/target_impl.h"

static bool await_listen(struct ferry_target *t)
{
	struct ferry_preempt *p = &t->adopted.preempt;
	bool listening;

	pthread_mutex_lock(&t->lock);
	while (!p->listening && !t->end.quit && !t->end.done)
		pthread_cond_wait(&t->changed, &t->lock);
	listening = p->listening;
	pthread_mutex_unlock(&t->lock);
	return listening;
}

/* What was on its way is lost: the source has to come back, as for main. */
static void broke(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	if (t->recovery.possible && !t->recovery.waiting && !t->end.done &&
	    ferry_map_missing(&t->in.map))
		t->main->ops->shutdown(t->main);
	pthread_mutex_unlock(&t->lock);
}

/* Without recovery, main tells what is missing. */
static void preempt_main(void *target)
{
	struct ferry_target *t = target;
	struct ferry_preempt *p = &t->adopted.preempt;
	struct ferry_err err = { 0 };

	if (!await_listen(t))
		return;
	if (!ferry_rambody_read(&p->body, &err))
		return;
	if (ferry_err_is_link(&err))
		broke(t);
	else
		ferry_target_failed(t, &err);
}

bool ferry_preempt_wanted(struct ferry_target *t)
{
	bool wanted, all = ferry_lanes_all_here(&t->adopted.lanes);

	pthread_mutex_lock(&t->lock);
	wanted = t->vm->how.preempt && t->arrived && all &&
		 t->dialect == FERRY_DIALECT_QEMU && !t->adopted.preempt.here;
	pthread_mutex_unlock(&t->lock);
	return wanted;
}

/* Caller holds the lock. */
static int begin(struct ferry_target *t, struct ferry_inbuf *in,
		 struct ferry_err *e)
{
	struct ferry_preempt *p = &t->adopted.preempt;

	if (p->here || t->end.quit || t->end.done || !t->arrived)
		return ferry_err_set(e, FERRY_E_STATE, 0, "a preempt channel "
				     "is not wanted now");
	p->in = *in;
	if (ferry_rambody_init(&p->body, &p->in, &t->in.place, e))
		return -1;
	p->body.listed = p->body.postcopy = true;
	if (ferry_thread_start(&p->thread, "ferry-preempt", preempt_main, t,
			       e)) {
		ferry_rambody_fini(&p->body);
		return -1;
	}
	p->chan = in->chan;
	p->here = true;
	*in = (struct ferry_inbuf){ 0 };
	return 0;
}

int ferry_preempt_admit(struct ferry_target *t, struct ferry_inbuf *in,
			struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&t->params);
	int rc;

	ferry_chan_set_name(in->chan, "preempt");
	in->chan->ops->set_timeout(in->chan, 0, ms);
	pthread_mutex_lock(&t->lock);
	rc = begin(t, in, e);
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void ferry_preempt_listen(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->adopted.preempt.listening = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

void ferry_preempt_stop(struct ferry_target *t)
{
	struct ferry_preempt *p = &t->adopted.preempt;

	if (!p->chan)
		return;
	p->chan->ops->shutdown(p->chan);
	ferry_thread_join(&p->thread);
	ferry_rambody_fini(&p->body);
	ferry_inbuf_fini(&p->in);
	ferry_chan_close(p->chan);
	p->chan = NULL;
	p->here = p->listening = false;
}
