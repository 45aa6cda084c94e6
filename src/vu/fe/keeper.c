/* SPDX-License-Identifier: MIT */
/*
 * The keeper of a device: hears when its backend goes, waits for it to come
 * back, and tells it everything anew; and hears what the backend has to say by
 * itself.
 *
 * Threads: "ferry-vhost-fe"; it alone closes a link and makes a new one, once
 *          ferry_vhost_fe_connect() has made the first.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define BACKOFF_MS_MIN	10
#define BACKOFF_MS_MAX	1000
#define LASTING_MS	1000	/* a link that was one */
#define BETWEEN_MS	1	/* a backend that says much is heard slowly */

/* True when it is to end. */
static bool pause_ms(struct ferry_vhost_fe *f, int ms)
{
	struct pollfd p = { .fd = f->stop, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* ---- what the backend says by itself ---- */

static int answer(struct ferry_vhost_fe *f, const struct ferry_vu_sock *s,
		  const struct ferry_vu_header *h, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h = { h->request, FERRY_VU_VERSION | FERRY_VU_REPLY, 0 },
		.u64 = h->request != FERRY_VU_BACKEND_CONFIG_CHANGE,
	};

	if (!(h->flags & FERRY_VU_NEED_REPLY) ||
	    !ferry_vf_agreed(f, FERRY_VU_F_REPLY_ACK))
		return 0;
	return ferry_vu_send(s, &m, FERRY_VU_U64, NULL, 0, e);
}

/* One request; -1: it is at fault. */
static int hear(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_sock s = {
		.fd = f->link.requests, .stop = f->stop,
		.limit_ms = f->request_ms,
	};
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	struct ferry_vu_header h;
	int rc = ferry_vu_recv(&s, &h, payload, &fds, e);

	if (rc < 0)
		return -1;
	if (!rc)	/* it needs this no more */
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "closed");
	if (h.request == FERRY_VU_BACKEND_CONFIG_CHANGE) {
		if (f->ops.config_changed)
			f->ops.config_changed(f->opaque);
	} else {
		ferry_vf_say(f, FERRY_VF_DEBUG, "the backend asks for %" PRIu32
			     ", which is not known", h.request);
	}
	return answer(f, &s, &h, e);
}

static void heard(struct ferry_vhost_fe *f)
{
	struct ferry_err err = { 0 };

	if (!hear(f, &err)) {
		pause_ms(f, BETWEEN_MS);
		return;
	}
	ferry_vf_say(f, err.code == FERRY_E_CLOSED ? FERRY_VF_DEBUG :
		     FERRY_VF_WARNING, "the backend's own requests: %s",
		     err.msg);
	ferry_vf_enter(f);
	ferry_cleanup_fd(&f->link.requests);
	f->link.requests = -1;
	ferry_vf_unlock(f);
}

/* ---- gone, and back ---- */

static void farewell(struct ferry_vhost_fe *f)
{
	struct ferry_err closed = { 0 }, why;

	(void)ferry_err_set(&closed, FERRY_E_CLOSED, 0,
			    "the backend closed the connection");
	ferry_vf_enter(f);
	ferry_vf_break(f, &closed);
	ferry_vf_queues_lost(f);
	ferry_vf_state_lost(f);
	ferry_vf_hang_up(f);
	f->lost++;
	why = f->link.why;
	ferry_vf_unlock(f);

	ferry_err_wrap(&why, "%s", f->label);
	if (f->log)
		f->log(f->opaque, FERRY_VF_WARNING, why.msg);
	if (f->ops.gone)
		f->ops.gone(f->opaque, &why);
}

/* A backend that takes its time to be set up is waited for no longer than one
 * that does not answer: vCPUs wait for the lock. */
static int set_up(struct ferry_vhost_fe *f, const struct ferry_vf_link *l,
		  bool *kept, struct ferry_err *e)
{
	if (ferry_vf_adopt(f, l, e))
		return -1;
	f->link.sock.until_ns = ferry_now_ns() +
				f->request_ms * FERRY_NS_PER_MS;
	if (ferry_vf_replay(f, kept, e)) {
		ferry_vf_hang_up(f);
		return -1;
	}
	f->link.sock.until_ns = 0;
	f->connections++;
	return 0;
}

static int once(struct ferry_vhost_fe *f, bool *kept, struct ferry_err *e)
{
	struct ferry_vf_link l;
	int rc;

	if (ferry_vf_dial(f, &l, e))
		return -1;
	ferry_vf_enter(f);
	rc = set_up(f, &l, kept, e);
	ferry_vf_unlock(f);
	return rc;
}

/* Distances grow while backends do not come, or do not stay. */
struct patience {
	int		ms;
	uint64_t	since_ns;	/* the link that is there */
};

static int wait_longer(struct patience *p)
{
	int ms = p->ms;

	p->ms = ms * 2 < BACKOFF_MS_MAX ? ms * 2 : BACKOFF_MS_MAX;
	return ms;
}

/* False when it is to end. */
static bool come_back(struct ferry_vhost_fe *f, struct patience *p)
{
	struct ferry_err err = { 0 };
	bool kept = true;

	do {
		int ms = wait_longer(p);

		/* That nobody listens is what is waited for to end. */
		if (err.code)
			ferry_vf_say(f, err.code == FERRY_E_IO ?
				     FERRY_VF_DEBUG : FERRY_VF_WARNING,
				     "%s; again in %d ms", err.msg, ms);
		if (pause_ms(f, ms))
			return false;
	} while (once(f, &kept, &err));

	p->since_ns = ferry_now_ns();
	ferry_vf_say(f, FERRY_VF_INFO, "the backend is back");
	if (f->ops.back)
		f->ops.back(f->opaque, kept);
	return true;
}

static bool again(struct ferry_vhost_fe *f, struct patience *p)
{
	farewell(f);
	if (ferry_now_ns() - p->since_ns > LASTING_MS * FERRY_NS_PER_MS)
		p->ms = BACKOFF_MS_MIN;
	return f->path && !(f->flags & FERRY_VHOST_FE_NO_RECONNECT) &&
	       come_back(f, p);
}

static void keeper_main(void *arg)
{
	struct ferry_vhost_fe *f = arg;
	struct patience patience = { BACKOFF_MS_MIN, ferry_now_ns() };

	for (;;) {
		struct pollfd p[] = {
			{ .fd = f->stop, .events = POLLIN },
			{ .fd = f->link.sock.fd, .events = POLLRDHUP },
			{ .fd = f->link.requests, .events = POLLIN },
		};

		if (poll(p, FERRY_LEN(p), -1) < 0)
			continue;
		if (p[0].revents)
			break;
		if (p[1].revents && !again(f, &patience))
			return;
		if (!p[1].revents && p[2].revents)
			heard(f);
	}
	ferry_vf_enter(f);
	ferry_vf_hang_up(f);
	ferry_vf_unlock(f);
}

int ferry_vf_keeper_start(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_thread_start(&f->keeper, "ferry-vhost-fe", keeper_main, f,
				  e);
}
