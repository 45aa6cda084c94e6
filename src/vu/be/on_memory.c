/* SPDX-License-Identifier: MIT */
/*
 * Requests about memory: the guest's, the dirty log, the in-flight area.
 *
 * Queues that run are drained before memory goes away under them; for a log it
 * is enough that they stand still.
 *
 * In postcopy a table is three messages.  It is mapped without access and our
 * addresses are the answer; the front-end's word, eight octets of zero, says
 * that it can serve faults; only then is the memory registered and opened.
 *
 * Threads: the control thread.
 */
#include "vu/be/device.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int protection(const struct ferry_vhost *v)
{
	return v->session.postcopy.listening ? PROT_NONE :
					       PROT_READ | PROT_WRITE;
}

/* Rings of queues that run, where the memory is now.  The first failure. */
static int remap_rings(struct ferry_vhost *v, struct ferry_err *e)
{
	int rc = 0;

	for (uint32_t i = 0; i < v->shape.queues; i++) {
		struct ferry_vb_ring *r = &v->queue[i].ring;
		struct ferry_err *to = rc ? NULL : e;

		if (!v->queue[i].started || !ferry_vb_ring_remap(r, to))
			continue;
		ferry_vb_ring_wrong(r, "its memory was taken away");
		rc = -1;
	}
	return rc;
}

static void warn_of_file(struct ferry_vhost *v)
{
	const struct ferry_vb_region *r = &v->memory.region[v->memory.n - 1];

	if (!r->sealed)
		ferry_vb_log(v, FERRY_VB_DEBUG, "memory at 0x%" PRIx64
			     ": its file is not sealed against shrinking",
			     r->gpa);
}

static int add(struct ferry_vhost *v, const struct ferry_vu_region *r,
	       struct ferry_vu_fds *fds, unsigned i, struct ferry_err *e)
{
	if (ferry_vb_memory_add(&v->memory, r, ferry_vu_fds_take(fds, i),
				protection(v), e))
		return -1;
	warn_of_file(v);
	return 0;
}

static void addresses(const struct ferry_vb_region *r,
		      struct ferry_vu_region *out)
{
	*out = (struct ferry_vu_region){
		.gpa = r->gpa, .bytes = r->bytes,
		.user_addr = (uintptr_t)r->at, .fd_offset = r->fd_offset,
	};
}

/* The front-end's word, on the same request. */
static int await_word(struct ferry_vhost *v, struct ferry_err *e)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	struct ferry_vu_msg m;
	int rc = ferry_vu_recv(&v->session.sock, &m.h, payload, &fds, e);

	if (rc < 0)
		return -1;
	if (!rc)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "the front-end went before it said that"
				     " it serves faults");
	if (m.h.request != FERRY_VU_SET_MEM_TABLE || m.h.bytes != 8 || fds.n)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s in place of the word that faults are"
				     " served", ferry_vu_name(m.h.request));
	if (ferry_vu_payload_decode(payload, FERRY_VU_U64, &m, e))
		return -1;
	if (m.u64)
		return ferry_err_set(e, FERRY_E_PEER, 0,
				     "the front-end does not serve faults"
				     " (%" PRIu64 ")", m.u64);
	return 0;
}

static int exchange_table(struct ferry_vhost *v, struct ferry_vb_reply *reply,
			  struct ferry_err *e)
{
	reply->msg.h.request = FERRY_VU_SET_MEM_TABLE;
	reply->msg.h.flags = FERRY_VU_VERSION | FERRY_VU_REPLY;
	reply->msg.mem.n = v->memory.n;
	for (unsigned i = 0; i < v->memory.n; i++)
		addresses(&v->memory.region[i], &reply->msg.mem.region[i]);
	reply->sent = true;
	if (ferry_vu_send(&v->session.sock, &reply->msg, FERRY_VU_MEM, NULL, 0,
			  e) || await_word(v, e))
		return -1;
	return ferry_vb_postcopy_register(&v->session.postcopy, &v->memory,
					  &v->touch, e);
}

static int replace_table(struct ferry_vhost *v, const struct ferry_vu_mem *mem,
			 struct ferry_vu_fds *fds, struct ferry_err *e)
{
	ferry_vb_memory_clear(&v->memory);
	for (uint32_t i = 0; i < mem->n; i++)
		if (add(v, &mem->region[i], fds, i, e))
			return -1;
	return 0;
}

static int on_mem_table(struct ferry_vhost *v, struct ferry_vu_msg *m,
			struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			struct ferry_err *e)
{
	bool listening = v->session.postcopy.listening;
	int rc;

	if (fds->n != m->mem.n)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%u descriptors for %" PRIu32 " regions",
				     fds->n, m->mem.n);
	if (!listening && ferry_vb_memory_same(&v->memory, &m->mem, fds->fd))
		return 0;

	ferry_vb_queues_hold(v, true);
	rc = replace_table(v, &m->mem, fds, e);
	if (!rc && listening)
		rc = exchange_table(v, reply, e);
	if (rc)		/* what is shut would kill who touches it */
		ferry_vb_memory_clear(&v->memory);
	if (remap_rings(v, rc ? NULL : e))
		rc = -1;
	ferry_vb_queues_release(v);
	return rc;
}

static int on_max_slots(struct ferry_vhost *v, struct ferry_vu_msg *m,
			struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			struct ferry_err *e)
{
	(void)v, (void)m, (void)fds, (void)e;
	reply->msg.u64 = FERRY_VU_REGIONS_MAX;
	return 0;
}

/* With postcopy slots are not offered (ferry_vb_protocol_features()). */
static int check_whole(const struct ferry_vhost *v, struct ferry_err *e)
{
	if (!v->session.postcopy.listening)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "in postcopy memory comes as one table");
}

static int on_add_region(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	int rc;

	(void)reply;
	if (fds->n != 1)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "a region without its descriptor");
	if (check_whole(v, e))
		return -1;
	ferry_vb_queues_hold(v, false);
	rc = add(v, &m->region, fds, 0, e);
	ferry_vb_queues_release(v);
	return rc;
}

static int on_remove_region(struct ferry_vhost *v, struct ferry_vu_msg *m,
			    struct ferry_vu_fds *fds,
			    struct ferry_vb_reply *reply, struct ferry_err *e)
{
	int rc;

	(void)fds, (void)reply;
	if (check_whole(v, e))
		return -1;
	ferry_vb_queues_hold(v, true);
	rc = ferry_vb_memory_remove(&v->memory, &m->region, e);
	if (remap_rings(v, rc ? NULL : e))
		rc = -1;
	ferry_vb_queues_release(v);
	return rc;
}

/* ---- the dirty log ------------------------------------------------------ */

static int on_log_base(struct ferry_vhost *v, struct ferry_vu_msg *m,
		       struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		       struct ferry_err *e)
{
	int rc;

	ferry_vb_queues_hold(v, false);
	rc = ferry_vb_dirty_open(&v->dirty, &m->log, fds->fd[0], e);
	ferry_vb_queues_release(v);
	reply->msg.u64 = m->log.bytes;
	return rc;
}

/* An eventfd to kick after marking: nobody is known to use it. */
static int on_log_fd(struct ferry_vhost *v, struct ferry_vu_msg *m,
		     struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		     struct ferry_err *e)
{
	(void)v, (void)m, (void)fds, (void)reply, (void)e;
	return 0;
}

/* ---- in flight ---------------------------------------------------------- */

static bool packed(const struct ferry_vhost *v)
{
	return v->session.features & FERRY_VIRTIO_F_RING_PACKED;
}

static int check_inflight(const struct ferry_vhost *v,
			  const struct ferry_vu_inflight *f,
			  struct ferry_err *e)
{
	if (f->queues && f->queues <= v->shape.queues && f->queue_size &&
	    f->queue_size <= v->shape.queue_size_max)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "%u queues of %u buffers for a device with"
			     " %" PRIu32 " of at most %" PRIu32, f->queues,
			     f->queue_size, v->shape.queues,
			     v->shape.queue_size_max);
}

static int on_get_inflight(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	struct ferry_vu_inflight *f = &reply->msg.inflight;

	(void)fds;
	if (check_inflight(v, &m->inflight, e))
		return -1;
	*f = m->inflight;
	if (v->shape.flags & FERRY_VHOST_INFLIGHT_PACKED_ONLY && !packed(v)) {
		f->bytes = f->fd_offset = 0;	/* none */
		return 0;
	}
	reply->fd = ferry_vb_inflight_make(f, packed(v), e);
	return reply->fd < 0 ? -1 : 0;
}

static int on_set_inflight(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)reply;
	if (check_inflight(v, &m->inflight, e))
		return -1;
	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (v->queue[i].started)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "queue %" PRIu32 " runs", i);
	return ferry_vb_inflight_open(&v->session.inflight, &m->inflight,
				      fds->fd[0], packed(v), e);
}

const struct ferry_vb_on ferry_vb_on_memory[] = {
	{ FERRY_VU_SET_MEM_TABLE, on_mem_table },
	{ FERRY_VU_GET_MAX_MEM_SLOTS, on_max_slots },
	{ FERRY_VU_ADD_MEM_REG, on_add_region },
	{ FERRY_VU_REM_MEM_REG, on_remove_region },
	{ FERRY_VU_SET_LOG_BASE, on_log_base },
	{ FERRY_VU_SET_LOG_FD, on_log_fd },
	{ FERRY_VU_GET_INFLIGHT_FD, on_get_inflight },
	{ FERRY_VU_SET_INFLIGHT_FD, on_set_inflight },
	{ 0 },
};
