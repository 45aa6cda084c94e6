/* SPDX-License-Identifier: MIT */
/*
 * Requests about the device itself: features, configuration, status, and the
 * network's two.
 *
 * Threads: the control thread.
 */
#include "vu/be/device.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* What rings and vhost can do, whatever the device. */
#define OURS	(FERRY_VIRTIO_F_VERSION_1 | FERRY_VIRTIO_F_INDIRECT_DESC | \
		 FERRY_VIRTIO_F_EVENT_IDX | FERRY_VIRTIO_F_RING_PACKED |   \
		 FERRY_VU_VIRTIO_F_LOG_ALL | FERRY_VU_VIRTIO_F_PROTOCOL)

uint64_t ferry_vb_features(const struct ferry_vhost *v)
{
	uint64_t ours = OURS;

	if (v->shape.flags & FERRY_VHOST_NO_PACKED)
		ours &= ~FERRY_VIRTIO_F_RING_PACKED;
	return (v->shape.features | ours) & ~v->shape.without;
}

/* Each bit, and whether this device has it. */
uint64_t ferry_vb_protocol_features(struct ferry_vhost *v)
{
	const struct ferry_vhost_ops *ops = &v->ops;
	struct ferry_err e;
	bool postcopy = !(v->shape.flags & FERRY_VHOST_NO_POSTCOPY) &&
			(v->uffd >= 0 || !ferry_vb_postcopy_probe(&e));
	const struct {
		unsigned	bit;
		bool		have;
	} table[] = {
		{ FERRY_VU_F_MQ, true },
		{ FERRY_VU_F_LOG_SHMFD, true },
		{ FERRY_VU_F_REPLY_ACK, true },
		{ FERRY_VU_F_BACKEND_REQ, true },
		{ FERRY_VU_F_STATUS, true },
		{ FERRY_VU_F_RARP, ops->announce },
		{ FERRY_VU_F_NET_MTU, ops->set_mtu },
		{ FERRY_VU_F_CONFIG, v->shape.config_bytes },
		{ FERRY_VU_F_RESET_DEVICE, ops->reset },
		{ FERRY_VU_F_DEVICE_STATE, ops->save },
		{ FERRY_VU_F_INFLIGHT_SHMFD,
		  !(v->shape.flags & FERRY_VHOST_NO_INFLIGHT) },
		{ FERRY_VU_F_PAGEFAULT, postcopy },
		/* With postcopy front-ends end a table of slots with a message
		 * that few backends expect; one that sees both bits uses it. */
		{ FERRY_VU_F_CONFIGURE_MEM_SLOTS, !postcopy },
	};
	uint64_t bits = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].have)
			bits |= 1ull << table[i].bit;
	return bits;
}

static int on_nothing(struct ferry_vhost *v, struct ferry_vu_msg *m,
		      struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		      struct ferry_err *e)
{
	(void)v, (void)m, (void)fds, (void)reply, (void)e;
	return 0;
}

static int on_get_features(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)m, (void)fds, (void)e;
	reply->msg.u64 = ferry_vb_features(v);
	return 0;
}

static int check_features(struct ferry_vhost *v, uint64_t taken,
			  struct ferry_err *e)
{
	uint64_t unknown = taken & ~ferry_vb_features(v);
	uint64_t changed = taken ^ v->session.features;

	if (unknown)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "features 0x%" PRIx64 " were not offered",
				     unknown);
	changed &= ~FERRY_VU_VIRTIO_F_LOG_ALL;
	for (uint32_t i = 0; changed && i < v->shape.queues; i++)
		if (v->queue[i].started)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "features 0x%" PRIx64 " change"
					     " while queue %" PRIu32 " runs",
					     changed, i);
	return 0;
}

static int on_set_features(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)fds, (void)reply;
	if (check_features(v, m->u64, e))
		return -1;

	ferry_vb_queues_hold(v, false);
	v->session.features = m->u64;
	for (uint32_t i = 0; i < v->shape.queues; i++)
		v->queue[i].ring.features = m->u64;
	ferry_vb_queues_release(v);

	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (!(m->u64 & FERRY_VU_VIRTIO_F_PROTOCOL))
			ferry_vb_queue_set_enabled(&v->queue[i], true);
	if (v->ops.features)
		v->ops.features(v->opaque,
				m->u64 & ~(FERRY_VU_VIRTIO_F_LOG_ALL |
					   FERRY_VU_VIRTIO_F_PROTOCOL));
	return 0;
}

static int on_get_protocol(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)m, (void)fds, (void)e;
	reply->msg.u64 = ferry_vb_protocol_features(v);
	return 0;
}

static int on_set_protocol(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	uint64_t unknown = m->u64 & ~ferry_vb_protocol_features(v);

	(void)fds, (void)reply;
	if (unknown)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "protocol features 0x%" PRIx64
				     " were not offered", unknown);
	v->session.protocol = m->u64;
	return 0;
}

static int on_queue_num(struct ferry_vhost *v, struct ferry_vu_msg *m,
			struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			struct ferry_err *e)
{
	(void)m, (void)fds, (void)e;
	reply->msg.u64 = v->shape.queues;
	return 0;
}

static int on_backend_fd(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	int old;

	(void)m, (void)reply, (void)e;
	pthread_mutex_lock(&v->backend_lock);
	old = v->session.backend_fd;
	v->session.backend_fd = ferry_vu_fds_take(fds, 0);
	pthread_mutex_unlock(&v->backend_lock);
	if (old >= 0)
		close(old);
	return 0;
}

static int check_config(const struct ferry_vhost *v,
			const struct ferry_vu_config *c, struct ferry_err *e)
{
	if (c->offset + c->bytes > v->shape.config_bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%" PRIu32 " octets from %" PRIu32 " on of"
				     " a configuration that has %" PRIu32,
				     c->bytes, c->offset,
				     v->shape.config_bytes);
	return 0;
}

/* A front-end may ask for more than there is: the rest is zero. */
static int on_get_config(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	const struct ferry_vu_config *c = &m->config;
	uint32_t have = v->shape.config_bytes;
	uint32_t n = c->bytes;
	int rc = 0;

	(void)fds;
	memset(&reply->msg.config, 0, sizeof(reply->msg.config));
	reply->msg.config.offset = c->offset;
	reply->msg.config.bytes = c->bytes;
	reply->msg.config.flags = c->flags;
	if (c->offset >= have)
		n = 0;
	else if (n > have - c->offset)
		n = have - c->offset;
	if (n)
		rc = v->ops.config_get(v->opaque, c->offset,
				       reply->msg.config.data, n);
	if (rc)
		return ferry_err_set(e, FERRY_E_DEVICE, -rc,
				     "reading the configuration");
	return 0;
}

static int on_set_config(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	int rc;

	(void)fds, (void)reply;
	if (check_config(v, &m->config, e))
		return -1;
	if (!v->ops.config_set)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "the configuration cannot be written");
	rc = v->ops.config_set(v->opaque, m->config.offset, m->config.data,
			       m->config.bytes);
	if (rc)
		return ferry_err_set(e, FERRY_E_DEVICE, -rc,
				     "writing the configuration");
	return 0;
}

static int on_get_status(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	(void)m, (void)fds, (void)e;
	reply->msg.u64 = v->session.status;
	return 0;
}

/* Zero means reset; but a QEMU 7.2 says it before it asks where the rings
 * are, so they stay as they are. */
static int on_set_status(struct ferry_vhost *v, struct ferry_vu_msg *m,
			 struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
			 struct ferry_err *e)
{
	(void)fds, (void)reply;
	if (m->u64 > 0xff)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "status 0x%" PRIx64, m->u64);
	v->session.status = m->u64;
	return 0;
}

static void stop_all(struct ferry_vhost *v)
{
	for (uint32_t i = 0; i < v->shape.queues; i++) {
		ferry_vb_queue_stop(&v->queue[i], true);
		ferry_vb_queue_set_enabled(&v->queue[i], false);
	}
}

static int on_reset_owner(struct ferry_vhost *v, struct ferry_vu_msg *m,
			  struct ferry_vu_fds *fds,
			  struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)m, (void)fds, (void)reply, (void)e;
	stop_all(v);
	return 0;
}

static int on_reset_device(struct ferry_vhost *v, struct ferry_vu_msg *m,
			   struct ferry_vu_fds *fds,
			   struct ferry_vb_reply *reply, struct ferry_err *e)
{
	(void)m, (void)fds, (void)reply, (void)e;
	stop_all(v);
	v->session.status = 0;
	v->ops.reset(v->opaque);
	return 0;
}

static int on_rarp(struct ferry_vhost *v, struct ferry_vu_msg *m,
		   struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		   struct ferry_err *e)
{
	uint8_t mac[6];
	int rc;

	(void)fds, (void)reply;
	memcpy(mac, &m->u64, sizeof(mac));
	rc = v->ops.announce(v->opaque, mac);
	return rc ? ferry_err_set(e, FERRY_E_DEVICE, -rc, "announcing") : 0;
}

static int on_mtu(struct ferry_vhost *v, struct ferry_vu_msg *m,
		  struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		  struct ferry_err *e)
{
	int rc;

	(void)fds, (void)reply;
	if (m->u64 < 68 || m->u64 > 65535)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "an MTU of %" PRIu64, m->u64);
	rc = v->ops.set_mtu(v->opaque, (uint16_t)m->u64);
	return rc ? ferry_err_set(e, FERRY_E_DEVICE, -rc, "setting the MTU") :
		    0;
}

const struct ferry_vb_on ferry_vb_on_device[] = {
	{ FERRY_VU_GET_FEATURES, on_get_features },
	{ FERRY_VU_SET_FEATURES, on_set_features },
	{ FERRY_VU_SET_OWNER, on_nothing },
	{ FERRY_VU_RESET_OWNER, on_reset_owner },
	{ FERRY_VU_GET_PROTOCOL_FEATURES, on_get_protocol },
	{ FERRY_VU_SET_PROTOCOL_FEATURES, on_set_protocol },
	{ FERRY_VU_GET_QUEUE_NUM, on_queue_num },
	{ FERRY_VU_SEND_RARP, on_rarp },
	{ FERRY_VU_NET_SET_MTU, on_mtu },
	{ FERRY_VU_SET_BACKEND_REQ_FD, on_backend_fd },
	{ FERRY_VU_GET_CONFIG, on_get_config },
	{ FERRY_VU_SET_CONFIG, on_set_config },
	{ FERRY_VU_RESET_DEVICE, on_reset_device },
	{ FERRY_VU_SET_STATUS, on_set_status },
	{ FERRY_VU_GET_STATUS, on_get_status },
	{ 0 },
};
