/* SPDX-License-Identifier: MIT */
/*
 * Logging on and off: the backend is given the log, told by the device's
 * features that it is used, and by each ring's flags that the ring is too.
 */
#include "vu/fe/fe.h"

int ferry_vf_send_log(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vhost_log *l = f->want.log;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_LOG_BASE,
		.log = { .bytes = l->words * 8 },
	};

	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_LOG_SHMFD))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "its backend has no log of what it writes"
				     " (LOG_SHMFD)");
	return ferry_vf_ask(f, &m, (struct ferry_vf_fds){ &l->fd, 1 }, NULL,
			    e);
}

/* Rings say for themselves whether they are logged. */
static int send_rings(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++)
		if (f->queue[i].started && f->queue[i].ran &&
		    ferry_vf_send_addr(f, &f->queue[i], e))
			return -1;
	return 0;
}

/* Before the driver has chosen features there is nothing that is written. */
static int switch_log(struct ferry_vhost_fe *f, struct ferry_vhost_log *l,
		      struct ferry_err *e)
{
	f->want.log = l;
	if (!f->want.features_set)
		return 0;
	return (l && ferry_vf_send_log(f, e)) ||
	       ferry_vf_send_features(f, e) || send_rings(f, e) ? -1 : 0;
}

static int log_start(struct ferry_vhost_fe *f, struct ferry_vhost_log *l,
		     struct ferry_err *e)
{
	if (f->want.log)
		return ferry_vf_never(ferry_err_set(
			e, FERRY_E_STATE, 0, "the log was started"));
	if (!switch_log(f, l, e))
		return 0;
	if (f->link.up)		/* it refused */
		f->want.log = NULL;
	return -1;
}

int ferry_vhost_fe_log_start(struct ferry_vhost_fe *f,
			     struct ferry_vhost_log *l, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, log_start(f, l, &err), true, &err, e);
}

int ferry_vhost_fe_log_stop(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, f->want.log ? switch_log(f, NULL, &err) : 0,
			      true, &err, e);
}
