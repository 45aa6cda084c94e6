/* SPDX-License-Identifier: MIT */
/*
 * One front-end, from its first message to its last: read a request, check it
 * against its row, hand it to its handler, answer.
 *
 * Whether a request fails is told in the way that the front-end asked for it:
 * with an ack that is not zero, and the conversation goes on; where it asked
 * for none, by closing, as it would otherwise never know.
 *
 * Threads: the control thread.
 */
#include "vu/be/device.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/counter.h"

/* NULL: none has it. */
static const struct ferry_vb_on *handler_of(uint32_t request)
{
	const struct ferry_vb_on *const tables[] = {
		ferry_vb_on_device, ferry_vb_on_memory, ferry_vb_on_ring,
	};

	for (size_t i = 0; i < FERRY_LEN(tables); i++)
		for (const struct ferry_vb_on *on = tables[i]; on->fn; on++)
			if (on->request == request)
				return on;
	return NULL;
}

static enum ferry_vu_form form_of(const struct ferry_vu_row *row,
				  const struct ferry_vu_header *h)
{
	/* Some front-ends send a u64 along with messages that are a
	 * descriptor and nothing else. */
	if (row->form == FERRY_VU_NONE && row->fds_min && h->bytes == 8)
		return FERRY_VU_U64;
	return row->form;
}

static int check_request(struct ferry_vhost *v, const struct ferry_vu_row *row,
			 const struct ferry_vu_fds *fds, struct ferry_err *e)
{
	if (row->feature >= 0 && !ferry_vb_agreed(v, (unsigned)row->feature))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s without %s, which it needs",
				     row->name,
				     ferry_vu_feature_name(
					     (unsigned)row->feature));
	if (fds->n < row->fds_min || fds->n > row->fds_max)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s with %u descriptors", row->name,
				     fds->n);
	return 0;
}

/* Decode and do it. */
static int handle(struct ferry_vhost *v, struct ferry_vu_msg *m,
		  const uint8_t *payload, struct ferry_vu_fds *fds,
		  struct ferry_vb_reply *reply, struct ferry_err *e)
{
	const struct ferry_vu_row *row = ferry_vu_row(m->h.request);
	const struct ferry_vb_on *on = handler_of(m->h.request);

	if (!row || !on)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "request %" PRIu32 " is not known",
				     m->h.request);
	if (m->h.flags & FERRY_VU_REPLY)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s is marked as a reply", row->name);
	if (check_request(v, row, fds, e) ||
	    ferry_vu_payload_decode(payload, form_of(row, &m->h), m, e))
		return -1;
	if (on->fn(v, m, fds, reply, e))
		return ferry_err_wrap(e, "%s", row->name);
	return 0;
}

static int send_reply(struct ferry_vhost *v, uint32_t request,
		      enum ferry_vu_form form, struct ferry_vb_reply *reply,
		      struct ferry_err *e)
{
	reply->msg.h.request = request;
	reply->msg.h.flags = FERRY_VU_VERSION | FERRY_VU_REPLY;
	return ferry_vu_send(&v->session.sock, &reply->msg, form, &reply->fd,
			     reply->fd >= 0, e);
}

/*
 * rc: of the handler.  0: go on; -1: close.  An answer of its own stands for
 * an ack, so a request that has one and failed cannot be answered.
 */
static int answer(struct ferry_vhost *v, const struct ferry_vu_header *h,
		  struct ferry_vb_reply *reply, int rc, struct ferry_err *e)
{
	const struct ferry_vu_row *row = ferry_vu_row(h->request);
	bool wants_ack = h->flags & FERRY_VU_NEED_REPLY &&
			 (ferry_vb_agreed(v, FERRY_VU_F_REPLY_ACK) ||
			  (row && row->always_ack));

	if (reply->sent)
		return rc;
	if (row && row->has_reply)
		return rc ? -1 : send_reply(v, h->request, row->reply, reply,
					    e);
	if (!wants_ack)
		return rc;
	if (rc)
		ferry_vb_log(v, FERRY_VB_WARNING, "refused: %s", e->msg);
	reply->msg.u64 = rc ? 1 : 0;
	return send_reply(v, h->request, FERRY_VU_U64, reply, e);
}

/* One request.  1: go on; 0: the front-end went, or stop; -1 with *e. */
static int serve_one(struct ferry_vhost *v, struct ferry_err *e)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	struct ferry_vb_reply reply = { .fd = -1 };
	struct ferry_vu_msg m = { 0 };
	int rc;

	rc = ferry_vu_recv(&v->session.sock, &m.h, payload, &fds, e);
	if (rc <= 0)
		return rc;
	ferry_vb_log(v, FERRY_VB_DEBUG, "%s (%" PRIu32 "), flags 0x%" PRIx32
		     ", %" PRIu32 " octets, %u descriptors",
		     ferry_vu_name(m.h.request), m.h.request, m.h.flags,
		     m.h.bytes, fds.n);
	rc = handle(v, &m, payload, &fds, &reply, e);
	rc = answer(v, &m.h, &reply, rc, e);
	if (reply.fd >= 0)
		close(reply.fd);
	return rc ? -1 : 1;
}

static void begin(struct ferry_vhost *v, int fd)
{
	pthread_mutex_lock(&v->backend_lock);
	v->session = (struct ferry_vb_session){
		.sock = { .fd = fd, .stop = v->stop },
		.backend_fd = -1,
		.postcopy = FERRY_VB_POSTCOPY_NONE,
		.transfer = { .fd = -1, .quit = -1, .done = -1 },
	};
	pthread_mutex_unlock(&v->backend_lock);
	atomic_store(&v->touch.missing, false);
	atomic_store(&v->touch.broken, false);
	atomic_store(&v->counts.connected, 1);
	ferry_count(&v->counts.connections, 1);
}

/*
 * The front-end is gone, or is to be.  First of all whoever waits for its
 * pages is let go, and told that they are not to be believed.
 */
static void end(struct ferry_vhost *v)
{
	struct ferry_vb_session *s = &v->session;

	ferry_vb_postcopy_abandon(&s->postcopy, &v->memory, &v->touch);
	ferry_vb_transfer_stop(v);
	ferry_vb_queues_reset(v);
	ferry_vb_memory_clear(&v->memory);
	ferry_vb_dirty_close(&v->dirty);
	ferry_vb_inflight_close(&s->inflight);
	pthread_mutex_lock(&v->backend_lock);
	if (s->backend_fd >= 0)
		close(s->backend_fd);
	s->backend_fd = -1;
	pthread_mutex_unlock(&v->backend_lock);
	close(s->sock.fd);
	s->sock.fd = -1;
	atomic_store(&v->counts.connected, 0);
}

void ferry_vb_session_serve(struct ferry_vhost *v, int fd)
{
	struct ferry_err e = { 0 };
	int rc;

	begin(v, fd);
	if (v->ops.connected && v->ops.connected(v->opaque, &e)) {
		ferry_vb_log(v, FERRY_VB_WARNING, "front-end turned away: %s",
			     e.msg);
		end(v);
		return;
	}
	ferry_vb_log(v, FERRY_VB_INFO, "a front-end came");
	do
		rc = serve_one(v, &e);
	while (rc > 0);
	if (rc < 0)
		ferry_vb_log(v, FERRY_VB_ERROR, "front-end: %s; the connection"
			     " is closed", e.msg);
	else
		ferry_vb_log(v, FERRY_VB_INFO, "the front-end went");
	end(v);
	if (v->ops.disconnected)
		v->ops.disconnected(v->opaque);
}
