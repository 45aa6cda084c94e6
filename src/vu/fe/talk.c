/* SPDX-License-Identifier: MIT */
/*
 * Requests and their answers.
 *
 * One request is under way at a time, and each is waited for until it is done.
 * So whatever else comes on the socket is no answer to anything: what lies
 * there before a request is sent ends the connection, as does an answer that is
 * late, for another request, or of another form.  An answer can never be taken
 * for that of another request.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/cleanup.h"

void ferry_vf_say(struct ferry_vhost_fe *f, enum ferry_vf_level level,
		  const char *fmt, ...)
{
	char line[512];
	va_list args;
	int n;

	if (!f->log)
		return;
	n = snprintf(line, sizeof(line), "%s: ", f->label);
	va_start(args, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, args);
	va_end(args);
	f->log(f->opaque, (int)level, line);
}

static void break_link(struct ferry_vf_link *l, const struct ferry_err *why)
{
	if (!l->up)
		return;
	l->up = false;
	l->why = *why;
	shutdown(l->sock.fd, SHUT_RDWR);
}

void ferry_vf_break(struct ferry_vhost_fe *f, const struct ferry_err *why)
{
	break_link(&f->link, why);
}

/* *e is what broke it. */
static int broken(struct ferry_vf_link *l, struct ferry_err *e)
{
	break_link(l, e);
	return -1;
}

/* ---- one way ---- */

/* Nothing may lie there that nobody asked for. */
static int check_silence(struct ferry_vf_link *l, struct ferry_err *e)
{
	struct pollfd p = { .fd = l->sock.fd, .events = POLLIN };

	if (poll(&p, 1, 0) <= 0)
		return 0;
	if (p.revents & (POLLHUP | POLLERR))
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "the backend closed the connection");
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "the backend said something that nobody asked"
			     " for");
}

static int send_msg(struct ferry_vf_link *l, struct ferry_vu_msg *m,
		    enum ferry_vu_form form, struct ferry_vf_fds fds,
		    struct ferry_err *e)
{
	if (!l->up)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "its backend is away%s%s",
				     *l->why.msg ? ": " : "",
				     l->why.msg);
	if (check_silence(l, e) ||
	    ferry_vu_send(&l->sock, m, form, fds.fd, fds.n, e)) {
		ferry_err_wrap(e, "%s", ferry_vu_name(m->h.request));
		return broken(l, e);
	}
	return 0;
}

static int check_header(const struct ferry_vu_header *sent,
			const struct ferry_vu_header *got,
			const struct ferry_vu_fds *fds, bool fds_may_come,
			struct ferry_err *e)
{
	const uint32_t flags = FERRY_VU_VERSION | FERRY_VU_REPLY;

	if (got->request != sent->request)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the backend answered %s (%" PRIu32
				     ") in its place",
				     ferry_vu_name(got->request),
				     got->request);
	if (got->flags != flags)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the backend's answer has the flags 0x%"
				     PRIx32 ", not 0x%" PRIx32, got->flags,
				     flags);
	if (fds->n && !fds_may_come)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the backend's answer has %u descriptors",
				     fds->n);
	return 0;
}

static int receive(struct ferry_vf_link *l, struct ferry_vu_msg *m,
		   enum ferry_vu_form form, struct ferry_vu_fds *got,
		   bool fds_may_come, struct ferry_err *e)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	struct ferry_vu_header sent = m->h;
	int rc = ferry_vu_recv(&l->sock, &m->h, payload, got, e);

	if (rc < 0 && e->code == FERRY_E_TIMEOUT)
		return ferry_err_set(e, FERRY_E_TIMEOUT, 0,
				     "the backend has not %s %" PRIu32 " ms",
				     l->sock.until_ns ? "come so far within" :
				     "answered for", l->sock.limit_ms);
	if (rc < 0)
		return -1;
	if (!rc)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "the backend closed the connection"
				     " instead of answering");
	if (check_header(&sent, &m->h, got, fds_may_come, e))
		return -1;
	return ferry_vu_payload_decode(payload,
				       ferry_vu_answer_form(&m->h, form), m,
				       e);
}

static int answer(struct ferry_vf_link *l, struct ferry_vu_msg *m,
		  enum ferry_vu_form form, struct ferry_vu_fds *got,
		  struct ferry_err *e)
{
	FERRY_AUTO_VU_FDS none = FERRY_VU_FDS_NONE;
	uint32_t request = m->h.request;

	if (!receive(l, m, form, got ? got : &none, got, e))
		return 0;
	ferry_err_wrap(e, "%s", ferry_vu_name(request));
	return broken(l, e);
}

/* ---- there and back ---- */

/* Is it answered at all, and by what?  Before the choice of protocol features
 * nothing is acked. */
static bool wants_ack(const struct ferry_vf_link *l,
		      const struct ferry_vu_row *row)
{
	return row->always_ack || row->request == FERRY_VU_POSTCOPY_END ||
	       (!row->has_reply && l->agreed &&
		ferry_vf_link_agreed(l, FERRY_VU_F_REPLY_ACK));
}

static int ack(struct ferry_vf_link *l, const struct ferry_vu_msg *m,
	       struct ferry_err *e)
{
	struct ferry_vu_msg reply = { .h = m->h };

	if (answer(l, &reply, FERRY_VU_U64, NULL, e))
		return -1;
	if (!reply.u64)
		return 0;
	return ferry_err_set(e, FERRY_E_PEER, 0,
			     "%s: the backend refused it (%" PRId64 ")",
			     ferry_vu_name(m->h.request),
			     (int64_t)reply.u64);
}

/* It takes one request after the other: one that is answered shows that those
 * before it are done. */
static int sync_behind(struct ferry_vf_link *l, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h = { FERRY_VU_GET_FEATURES, FERRY_VU_VERSION, 0 },
	};

	return send_msg(l, &m, FERRY_VU_NONE, FERRY_VF_NO_FDS, e) ||
	       answer(l, &m, FERRY_VU_U64, NULL, e) ? -1 : 0;
}

int ferry_vf_link_ask(struct ferry_vf_link *l, struct ferry_vu_msg *m,
		      struct ferry_vf_fds fds, struct ferry_vu_fds *got,
		      struct ferry_err *e)
{
	const struct ferry_vu_row *row = ferry_vu_row(m->h.request);
	bool acked = wants_ack(l, row);

	m->h.flags = FERRY_VU_VERSION | (acked ? FERRY_VU_NEED_REPLY : 0);
	if (send_msg(l, m, row->form, fds, e))
		return -1;
	if (row->has_reply)
		return answer(l, m, row->reply, got, e);
	return acked ? ack(l, m, e) : sync_behind(l, e);
}

int ferry_vf_link_ask_u64(struct ferry_vf_link *l, uint32_t request,
			  uint64_t value, struct ferry_err *e)
{
	struct ferry_vu_msg m = { .h.request = request, .u64 = value };

	return ferry_vf_link_ask(l, &m, FERRY_VF_NO_FDS, NULL, e);
}

int ferry_vf_link_ask_plain(struct ferry_vf_link *l, uint32_t request,
			    uint64_t *value, struct ferry_err *e)
{
	struct ferry_vu_msg m = { .h.request = request };

	if (ferry_vf_link_ask(l, &m, FERRY_VF_NO_FDS, NULL, e))
		return -1;
	if (value)
		*value = m.u64;
	return 0;
}

/* ---- on the device's link ---- */

int ferry_vf_send(struct ferry_vhost_fe *f, struct ferry_vu_msg *m,
		  enum ferry_vu_form form, struct ferry_vf_fds fds,
		  struct ferry_err *e)
{
	return send_msg(&f->link, m, form, fds, e);
}

int ferry_vf_answer(struct ferry_vhost_fe *f, struct ferry_vu_msg *m,
		    enum ferry_vu_form form, struct ferry_vu_fds *got,
		    struct ferry_err *e)
{
	return answer(&f->link, m, form, got, e);
}

int ferry_vf_ask(struct ferry_vhost_fe *f, struct ferry_vu_msg *m,
		 struct ferry_vf_fds fds, struct ferry_vu_fds *got,
		 struct ferry_err *e)
{
	return ferry_vf_link_ask(&f->link, m, fds, got, e);
}

int ferry_vf_ask_u64(struct ferry_vhost_fe *f, uint32_t request,
		     uint64_t value, struct ferry_err *e)
{
	return ferry_vf_link_ask_u64(&f->link, request, value, e);
}

int ferry_vf_ask_plain(struct ferry_vhost_fe *f, uint32_t request,
		       uint64_t *value, struct ferry_err *e)
{
	return ferry_vf_link_ask_plain(&f->link, request, value, e);
}

int ferry_vf_ask_state(struct ferry_vhost_fe *f, uint32_t request,
		       uint32_t index, uint32_t num, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = request, .state = { index, num },
	};

	return ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, NULL, e);
}

/* ---- public functions ---- */

void ferry_vf_enter(struct ferry_vhost_fe *f)
{
	pthread_mutex_lock(&f->lock);
}

/* What may be asked without waiting for whoever talks. */
void ferry_vf_unlock(struct ferry_vhost_fe *f)
{
	const struct ferry_vf_link *l = &f->link;

	pthread_mutex_lock(&f->seen_lock);
	f->seen = (struct ferry_vf_seen){
		.up = l->up, .offered = l->offered, .protocol = l->protocol,
		.queues = l->queues, .connections = f->connections,
		.lost = f->lost,
	};
	pthread_mutex_unlock(&f->seen_lock);
	pthread_mutex_unlock(&f->lock);
}

int ferry_vf_leave(struct ferry_vhost_fe *f, int rc, bool remembered,
		   const struct ferry_err *why, struct ferry_err *e)
{
	bool away = !f->link.up;

	ferry_vf_unlock(f);
	if (!rc || (rc == -1 && remembered && away))
		return 0;
	if (e) {
		*e = *why;
		ferry_err_wrap(e, "%s", f->label);
	}
	return -1;
}
