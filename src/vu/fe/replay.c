/* SPDX-License-Identifier: MIT */
/*
 * A backend that has just come is told all that the one before it knew; and
 * the in-flight area, which is kept for that.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>

#include "base/cleanup.h"

#define FEATURES_OK	8u
#define BEFORE_RUNNING	(1u | 2u | FEATURES_OK)	/* of the status */

static int replay_queues(struct ferry_vhost_fe *f, bool *kept,
			 struct ferry_err *e)
{
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++) {
		struct ferry_vf_queue *q = &f->queue[i];

		if (!q->started)
			continue;
		if (q->lost || f->want.state_lost)
			*kept = false;
		else if (ferry_vf_send_queue(f, q, e))
			return -1;
	}
	return 0;
}

int ferry_vf_replay(struct ferry_vhost_fe *f, bool *kept, struct ferry_err *e)
{
	const struct ferry_vf_want *w = &f->want;

	*kept = true;
	if (w->listening && ferry_vf_send_listen(f, e))
		return -1;
	if (w->features_set &&
	    ((w->log && ferry_vf_send_log(f, e)) ||
	     ferry_vf_send_features(f, e)))
		return -1;
	if (w->status_set &&
	    ferry_vf_send_status(f, w->status & BEFORE_RUNNING, e))
		return -1;
	if ((w->mtu && ferry_vf_send_mtu(f, e)) ||
	    (w->regions && ferry_vf_send_memory(f, e)) ||
	    (w->inflight.area.queues && ferry_vf_send_inflight(f, e)) ||
	    replay_queues(f, kept, e))
		return -1;
	return w->status_set && w->status & ~BEFORE_RUNNING ?
	       ferry_vf_send_status(f, w->status, e) : 0;
}

/* ---- the in-flight area ---- */

static int give_area(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_INFLIGHT_FD,
		.inflight = f->want.inflight.area,
	};
	int fd = f->want.inflight.fd;

	return ferry_vf_ask(f, &m, (struct ferry_vf_fds){ &fd, 1 }, NULL, e);
}

static int get_area(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vf_inflight *in = &f->want.inflight;
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_INFLIGHT_FD,
		.inflight = { .queues = in->area.queues,
			      .queue_size = in->area.queue_size },
	};

	if (ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, &fds, e))
		return -1;
	if (!m.inflight.bytes)	/* it wants none after all */
		return 0;
	if (fds.n != 1) {
		(void)ferry_err_set(e, FERRY_E_PROTO, 0,
				    "GET_INFLIGHT_FD: an area of %" PRIu64
				    " octets with %u descriptors",
				    m.inflight.bytes, fds.n);
		ferry_vf_break(f, e);
		return -1;
	}
	in->area.bytes = m.inflight.bytes;
	in->area.fd_offset = m.inflight.fd_offset;
	in->fd = ferry_vu_fds_take(&fds, 0);
	return give_area(f, e);
}

int ferry_vf_send_inflight(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_INFLIGHT_SHMFD))
		return 0;
	return f->want.inflight.fd >= 0 ? give_area(f, e) : get_area(f, e);
}

static int use_inflight(struct ferry_vhost_fe *f, uint32_t queues,
			uint32_t entries, struct ferry_err *e)
{
	struct ferry_vf_inflight *in = &f->want.inflight;

	if (!queues || queues > FERRY_VHOST_FE_QUEUES_MAX || !entries ||
	    entries > UINT16_MAX)
		return ferry_vf_never(ferry_err_set(
			e, FERRY_E_INVALID, 0, "in-flight area: %" PRIu32
			" queues of %" PRIu32, queues, entries));
	if (in->area.queues != queues || in->area.queue_size != entries) {
		ferry_cleanup_fd(&in->fd);
		in->fd = -1;
	}
	in->area.queues = (uint16_t)queues;
	in->area.queue_size = (uint16_t)entries;
	return ferry_vf_send_inflight(f, e);
}

int ferry_vhost_fe_use_inflight(struct ferry_vhost_fe *f, uint32_t queues,
				uint32_t entries, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, use_inflight(f, queues, entries, &err), true,
			      &err, e);
}
