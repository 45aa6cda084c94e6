/* SPDX-License-Identifier: MIT */
/*
 * Queues: set up, started, stopped, and found again when the backend that had
 * them died.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>

#include "base/limits.h"

#define ENTRIES_MAX	32768

/* Octets of a ring's three parts. */
struct parts {
	uint64_t	desc, avail, used;
};

static struct parts parts_of(const struct ferry_vhost_fe *f, uint64_t entries)
{
	if (ferry_vf_is_packed(f))
		return (struct parts){ 16 * entries, 4, 4 };
	return (struct parts){ 16 * entries, 6 + 2 * entries,
			       6 + 8 * entries };
}

void *ferry_vf_host(const struct ferry_vhost_fe *f, uint64_t gpa,
		    uint64_t bytes)
{
	for (size_t i = 0; i < f->want.regions; i++) {
		const struct ferry_vhost_region *r = &f->want.region[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->bytes &&
		    bytes <= r->bytes - (gpa - r->gpa))
			return (uint8_t *)r->host + (gpa - r->gpa);
	}
	return NULL;
}

/* ---- starting ---- */

static int check_queue(const struct ferry_vhost_fe *f,
		       const struct ferry_vhost_fe_queue *q,
		       struct ferry_err *e)
{
	struct parts parts = parts_of(f, q->entries);
	bool packed = ferry_vf_is_packed(f);

	if (q->size < sizeof(*q) || q->index >= FERRY_VHOST_FE_QUEUES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "queue %" PRIu32 ": there is none",
				     q->index);
	if (!q->entries || q->entries > ENTRIES_MAX ||
	    (!packed && q->entries & (q->entries - 1)))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "queue %" PRIu32 ": a ring of %" PRIu32
				     " entries", q->index, q->entries);
	if (!packed && q->base > UINT16_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "queue %" PRIu32 ": 0x%" PRIx32 " is no"
				     " place in a split ring", q->index,
				     q->base);
	if (!ferry_vf_host(f, q->desc, parts.desc) ||
	    !ferry_vf_host(f, q->avail, parts.avail) ||
	    !ferry_vf_host(f, q->used, parts.used))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "queue %" PRIu32 ": its ring lies outside"
				     " of memory", q->index);
	if (f->queue[q->index].started)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "queue %" PRIu32 ": it was started",
				     q->index);
	return 0;
}

static int send_fd(struct ferry_vhost_fe *f, uint32_t request, uint32_t index,
		   int fd, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = request,
		.u64 = index | (fd < 0 ? FERRY_VU_NO_FD : 0),
	};

	return ferry_vf_ask(f, &m, (struct ferry_vf_fds){ &fd, fd >= 0 }, NULL,
			    e);
}

/* What is logged of a packed ring are its descriptors, which are written. */
int ferry_vf_send_addr(struct ferry_vhost_fe *f,
		       const struct ferry_vf_queue *queue,
		       struct ferry_err *e)
{
	const struct ferry_vhost_fe_queue *q = &queue->q;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_VRING_ADDR,
		.addr = {
			.index = q->index,
			.flags = f->want.log ? FERRY_VU_ADDR_LOG : 0,
			.desc = FERRY_VF_ADDR(q->desc),
			.used = FERRY_VF_ADDR(q->used),
			.avail = FERRY_VF_ADDR(q->avail),
			.log = ferry_vf_is_packed(f) ? q->desc : q->used,
		},
	};

	return ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, NULL, e);
}

static int send_enable(struct ferry_vhost_fe *f, const struct ferry_vf_queue *q,
		       uint32_t index, struct ferry_err *e)
{
	/* Without protocol features rings are always enabled. */
	if (f->link.up && !(f->link.offered & FERRY_VU_VIRTIO_F_PROTOCOL))
		return 0;
	return ferry_vf_ask_state(f, FERRY_VU_SET_VRING_ENABLE, index,
				  q->enabled, e);
}

int ferry_vf_send_queue(struct ferry_vhost_fe *f, struct ferry_vf_queue *queue,
			struct ferry_err *e)
{
	const struct ferry_vhost_fe_queue *q = &queue->q;

	if (ferry_vf_ask_state(f, FERRY_VU_SET_VRING_NUM, q->index, q->entries,
			       e) ||
	    ferry_vf_ask_state(f, FERRY_VU_SET_VRING_BASE, q->index, q->base,
			       e) ||
	    ferry_vf_send_addr(f, queue, e) ||
	    (q->err >= 0 && send_fd(f, FERRY_VU_SET_VRING_ERR, q->index, q->err,
				    e)) ||
	    send_fd(f, FERRY_VU_SET_VRING_CALL, q->index, q->call, e))
		return -1;
	queue->ran = true;
	/* A network drops what it takes from a queue that is disabled: so it is
	 * enabled before it runs. */
	return (queue->enabled && send_enable(f, queue, q->index, e)) ||
	       send_fd(f, FERRY_VU_SET_VRING_KICK, q->index, q->kick, e) ? -1 :
	       0;
}

static int start(struct ferry_vhost_fe *f,
		 const struct ferry_vhost_fe_queue *q, struct ferry_err *e)
{
	struct ferry_vf_queue *queue;

	if (check_queue(f, q, e) || ferry_vf_state_check(f, e))
		return FERRY_VF_NEVER;
	queue = &f->queue[q->index];
	queue->q = *q;
	queue->started = true;
	queue->ran = queue->lost = false;
	if (!ferry_vf_send_queue(f, queue, e)) {
		ferry_vf_state_forget(f);
		return 0;
	}
	if (f->link.up)		/* it refused */
		queue->started = queue->ran = false;
	return -1;
}

int ferry_vhost_fe_queue_start(struct ferry_vhost_fe *f,
			       const struct ferry_vhost_fe_queue *queue,
			       struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, start(f, queue, &err), true, &err, e);
}

static int check_index(uint32_t index, struct ferry_err *e)
{
	if (index < FERRY_VHOST_FE_QUEUES_MAX)
		return 0;
	return ferry_vf_never(ferry_err_set(e, FERRY_E_INVALID, 0,
			     "queue %" PRIu32 ": there is none", index));
}

int ferry_vhost_fe_queue_enable(struct ferry_vhost_fe *f, uint32_t index,
				int on, struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	int rc;

	ferry_vf_enter(f);
	rc = check_index(index, &err);
	if (!rc) {
		f->queue[index].enabled = on;
		rc = send_enable(f, &f->queue[index], index, &err);
	}
	return ferry_vf_leave(f, rc, true, &err, e);
}

int ferry_vhost_fe_queue_call(struct ferry_vhost_fe *f, uint32_t index,
			      int fd, struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	int rc;

	ferry_vf_enter(f);
	rc = check_index(index, &err);
	if (!rc && f->queue[index].started) {
		f->queue[index].q.call = fd;
		rc = send_fd(f, FERRY_VU_SET_VRING_CALL, index, fd, &err);
	}
	return ferry_vf_leave(f, rc, true, &err, e);
}

/* ---- stopping, and a backend that died ---- */

/* It may have died between a write to the ring and marking it. */
static void mark_ring(struct ferry_vhost_fe *f,
		      const struct ferry_vhost_fe_queue *q)
{
	struct parts parts = parts_of(f, q->entries);

	if (!f->want.log)
		return;
	ferry_vf_log_mark(f->want.log, q->desc, parts.desc);
	ferry_vf_log_mark(f->want.log, q->used, parts.used);
}

void ferry_vf_queues_lost(struct ferry_vhost_fe *f)
{
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++) {
		struct ferry_vf_queue *q = &f->queue[i];

		if (!q->started || !q->ran)
			continue;
		q->ran = false;
		mark_ring(f, &q->q);
		if (!ferry_vf_find_place(f, &q->q))
			q->lost = true;
	}
}

/* Its answer is where the queue stands. */
static int ask_base(struct ferry_vhost_fe *f, struct ferry_vf_queue *q,
		    struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_VRING_BASE,
		.state = { q->q.index, 0 },
	};

	if (ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, NULL, e))
		return -1;
	if (m.state.index == q->q.index &&
	    (ferry_vf_is_packed(f) || m.state.num <= UINT16_MAX)) {
		q->q.base = m.state.num;
		return 0;
	}
	(void)ferry_err_set(e, FERRY_E_PROTO, 0,
			    "GET_VRING_BASE: the backend says that queue %"
			    PRIu32 " is at 0x%" PRIx32, m.state.index,
			    m.state.num);
	ferry_vf_break(f, e);
	return -1;
}

static int stop(struct ferry_vhost_fe *f, uint32_t index, uint32_t *base,
		struct ferry_err *e)
{
	struct ferry_vf_queue *q;
	int rc = 0;

	if (check_index(index, e))
		return FERRY_VF_NEVER;
	q = &f->queue[index];
	if (!q->started)
		return ferry_vf_never(ferry_err_set(e, FERRY_E_STATE, 0,
				     "queue %" PRIu32 ": it was not started",
				     index));
	if (q->ran && ask_base(f, q, e)) {
		/* It is away, be it that we just found out. */
		mark_ring(f, &q->q);
		if (!ferry_vf_find_place(f, &q->q))
			q->lost = true;
		rc = -1;
	}
	if (q->lost)
		ferry_vf_say(f, FERRY_VF_WARNING, "queue %" PRIu32 ": where it"
			     " stands died with its backend", index);
	q->started = q->ran = false;
	*base = q->q.base;
	return rc;
}

int ferry_vhost_fe_queue_stop(struct ferry_vhost_fe *f, uint32_t index,
			      uint32_t *base, struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	uint32_t at = 0;
	int rc;

	ferry_vf_enter(f);
	rc = ferry_vf_leave(f, stop(f, index, &at, &err), true, &err, e);
	if (base)
		*base = at;
	return rc;
}
