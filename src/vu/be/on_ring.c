/* SPDX-License-Identifier: MIT */
/*
 * Requests about rings, and the three of postcopy that are not about memory,
 * and the device's state.
 *
 * A ring starts when its kick comes and stops when its base is asked for.
 *
 * Threads: the control thread.
 */
#include "vu/be/device.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"

static struct ferry_vhost_queue *queue_at(struct ferry_vhost *v, uint64_t index,
					  struct ferry_err *e)
{
	if (index < v->shape.queues)
		return &v->queue[index];
	ferry_err_set(e, FERRY_E_PROTO, 0,
		      "queue %" PRIu64 " of a device with %" PRIu32, index,
		      v->shape.queues);
	return NULL;
}

/* The same, and it does not run. */
static struct ferry_vhost_queue *stopped_at(struct ferry_vhost *v,
					    uint64_t index,
					    struct ferry_err *e)
{
	struct ferry_vhost_queue *q = queue_at(v, index, e);

	if (!q || !q->started)
		return q;
	ferry_err_set(e, FERRY_E_PROTO, 0, "queue %" PRIu64 " runs", index);
	return NULL;
}

static int on_vring_num(struct ferry_vhost *v, struct ferry_vu_msg *m,
			struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			struct ferry_err *e)
{
	struct ferry_vhost_queue *q = stopped_at(v, m->state.index, e);

	(void)fds, (void)reply;
	if (!q)
		return -1;
	if (!m->state.num || m->state.num > v->shape.queue_size_max)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "a ring of %" PRIu32 " buffers, of at most"
				     " %" PRIu32, m->state.num,
				     v->shape.queue_size_max);
	q->said.size = m->state.num;
	return 0;
}

/* While it runs only the log's flag may change, and where it is written. */
static int on_vring_addr(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	struct ferry_vhost_queue *q = queue_at(v, m->addr.index, e);
	struct ferry_vb_ring_at at = {
		.desc = m->addr.desc, .avail = m->addr.avail,
		.used = m->addr.used, .log = m->addr.log,
		.logged = m->addr.flags & FERRY_VU_ADDR_LOG,
	};

	(void)fds, (void)reply;
	if (!q)
		return -1;
	if (q->started && (at.desc != q->said.where.desc ||
			   at.avail != q->said.where.avail ||
			   at.used != q->said.where.used))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "queue %" PRIu32 " runs and is to move",
				     q->index);
	ferry_vb_queues_hold(v, false);
	q->said.where = at;
	q->said.placed = true;
	q->ring.where = at;
	ferry_vb_queues_release(v);
	return 0;
}

static int on_set_base(struct ferry_vhost *v, struct ferry_vu_msg *m,
		       struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		       struct ferry_err *e)
{
	struct ferry_vhost_queue *q = stopped_at(v, m->state.index, e);

	(void)fds, (void)reply;
	if (!q)
		return -1;
	q->said.base = m->state.num;
	return 0;
}

static int on_get_base(struct ferry_vhost *v, struct ferry_vu_msg *m,
		       struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		       struct ferry_err *e)
{
	struct ferry_vhost_queue *q = queue_at(v, m->state.index, e);

	(void)fds;
	if (!q)
		return -1;
	reply->msg.state.index = q->index;
	reply->msg.state.num = ferry_vb_queue_stop(q, true);
	ferry_vb_queue_set_call(q, -1);
	return 0;
}

/* Nobody but the kernel is behind an eventfd; what is written to a pipe or to a
 * socket may have to wait for who reads it. */
static bool is_anonymous(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(st.st_mode & S_IFMT);
}

/* The queue of a message whose descriptor comes if it says so. */
static struct ferry_vhost_queue *with_fd(struct ferry_vhost *v,
					 const struct ferry_vu_msg *m,
					 const struct ferry_vu_fds *fds,
					 struct ferry_err *e)
{
	const uint64_t known = FERRY_VU_NO_FD | FERRY_VU_INDEX_MASK;
	bool none = m->u64 & FERRY_VU_NO_FD;

	if (m->u64 & ~known || none != !fds->n) {
		ferry_err_set(e, FERRY_E_PROTO, 0, "0x%" PRIx64
			      " with %u descriptors", m->u64, fds->n);
		return NULL;
	}
	if (!none && !is_anonymous(fds->fd[0])) {
		ferry_err_set(e, FERRY_E_PROTO, 0,
			      "its descriptor is no eventfd");
		return NULL;
	}
	return queue_at(v, m->u64 & FERRY_VU_INDEX_MASK, e);
}

static int check_start(const struct ferry_vhost_queue *q, struct ferry_err *e)
{
	if (q->started)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "queue %" PRIu32
				     " runs", q->index);
	if (q->v->memory.shut)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "queue %" PRIu32
				     ", before the front-end has said that it"
				     " serves faults", q->index);
	return 0;
}

static int on_kick(struct ferry_vhost *v, struct ferry_vu_msg *m,
		   struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		   struct ferry_err *e)
{
	struct ferry_vhost_queue *q = with_fd(v, m, fds, e);

	(void)reply;
	if (!q || check_start(q, e))
		return -1;
	ferry_cleanup_fd(&q->kick);
	q->kick = ferry_vu_fds_take(fds, 0);
	if (!q->said.size || !q->said.placed)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "queue %" PRIu32
				     " has no size, or no place", q->index);
	return ferry_vb_queue_start(q, e);
}

static int on_call(struct ferry_vhost *v, struct ferry_vu_msg *m,
		   struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		   struct ferry_err *e)
{
	struct ferry_vhost_queue *q = with_fd(v, m, fds, e);

	(void)reply;
	if (q)
		ferry_vb_queue_set_call(q, ferry_vu_fds_take(fds, 0));
	return q ? 0 : -1;
}

static int on_err(struct ferry_vhost *v, struct ferry_vu_msg *m,
		  struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		  struct ferry_err *e)
{
	struct ferry_vhost_queue *q = with_fd(v, m, fds, e);

	(void)reply;
	if (q)
		ferry_vb_queue_set_err(q, ferry_vu_fds_take(fds, 0));
	return q ? 0 : -1;
}

static int on_enable(struct ferry_vhost *v, struct ferry_vu_msg *m,
		     struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		     struct ferry_err *e)
{
	struct ferry_vhost_queue *q = queue_at(v, m->state.index, e);

	(void)fds, (void)reply;
	if (!q)
		return -1;
	if (m->state.num > 1)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "neither 0 nor 1 but %" PRIu32,
				     m->state.num);
	ferry_vb_queue_set_enabled(q, m->state.num);
	return 0;
}

/* ---- postcopy ----------------------------------------------------------- */

static int on_advise(struct ferry_vhost *v, struct ferry_vu_msg *m,
		     struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		     struct ferry_err *e)
{
	int handed = v->uffd;

	(void)m, (void)fds;
	v->uffd = -1;
	reply->fd = ferry_vb_postcopy_advise(&v->session.postcopy, handed, e);
	return reply->fd < 0 ? -1 : 0;
}

/* Memory that is there already would have pages of its own. */
static int on_listen(struct ferry_vhost *v, struct ferry_vu_msg *m,
		     struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		     struct ferry_err *e)
{
	struct ferry_vb_postcopy *p = &v->session.postcopy;

	(void)m, (void)fds, (void)reply;
	if (p->uffd < 0)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "before POSTCOPY_ADVISE");
	if (v->memory.n && !p->listening)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "there is memory already");
	p->listening = true;
	return 0;
}

static int on_end(struct ferry_vhost *v, struct ferry_vu_msg *m,
		  struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		  struct ferry_err *e)
{
	(void)m, (void)fds, (void)e;
	ferry_vb_postcopy_end(&v->session.postcopy, &v->memory, &v->touch);
	reply->msg.u64 = 0;
	return 0;
}

/* ---- the device's state -------------------------------------------------- */

static int on_transfer(struct ferry_vhost *v, struct ferry_vu_msg *m,
		       struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		       struct ferry_err *e)
{
	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (v->queue[i].started)
			return ferry_err_set(e, FERRY_E_PROTO, 0, "queue %"
					     PRIu32 " runs", i);
	reply->msg.u64 = FERRY_VU_NO_FD;
	return ferry_vb_transfer_start(v, m->transfer.direction,
				       ferry_vu_fds_take(fds, 0), e);
}

/* Whether it worked is the answer; a failure is none of the conversation. */
static int on_check(struct ferry_vhost *v, struct ferry_vu_msg *m,
		    struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		    struct ferry_err *e)
{
	int rc = ferry_vb_transfer_check(v, e);

	(void)m, (void)fds;
	if (rc)
		ferry_vb_log(v, FERRY_VB_ERROR, "%s", e->msg);
	reply->msg.u64 = rc ? 1 : 0;
	return 0;
}

const struct ferry_vb_on ferry_vb_on_ring[] = {
	{ FERRY_VU_SET_VRING_NUM, on_vring_num },
	{ FERRY_VU_SET_VRING_ADDR, on_vring_addr },
	{ FERRY_VU_SET_VRING_BASE, on_set_base },
	{ FERRY_VU_GET_VRING_BASE, on_get_base },
	{ FERRY_VU_SET_VRING_KICK, on_kick },
	{ FERRY_VU_SET_VRING_CALL, on_call },
	{ FERRY_VU_SET_VRING_ERR, on_err },
	{ FERRY_VU_SET_VRING_ENABLE, on_enable },
	{ FERRY_VU_POSTCOPY_ADVISE, on_advise },
	{ FERRY_VU_POSTCOPY_LISTEN, on_listen },
	{ FERRY_VU_POSTCOPY_END, on_end },
	{ FERRY_VU_SET_DEVICE_STATE_FD, on_transfer },
	{ FERRY_VU_CHECK_DEVICE_STATE, on_check },
	{ 0 },
};
