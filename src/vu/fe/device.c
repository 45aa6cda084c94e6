/* SPDX-License-Identifier: MIT */
/*
 * Requests about the device itself: configuration, features, status, reset,
 * and what only networks have.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"

/* ---- configuration ---- */

static int check_config(const struct ferry_vhost_fe *f, uint32_t offset,
			uint32_t bytes, struct ferry_err *e)
{
	if (!bytes || bytes > FERRY_VHOST_FE_CONFIG_BYTES_MAX ||
	    offset > FERRY_VHOST_FE_CONFIG_BYTES_MAX - bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "configuration: octets %" PRIu32 "+%"
				     PRIu32 " of %d", offset, bytes,
				     FERRY_VHOST_FE_CONFIG_BYTES_MAX);
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_CONFIG))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "the backend has no configuration");
	return 0;
}

static int get_config(struct ferry_vhost_fe *f, uint32_t offset, void *data,
		      uint32_t bytes, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_CONFIG,
		.config = { .offset = offset, .bytes = bytes },
	};

	if (check_config(f, offset, bytes, e) ||
	    ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, NULL, e))
		return -1;
	if (!m.h.bytes)
		return ferry_err_set(e, FERRY_E_PEER, 0,
				     "GET_CONFIG: the backend refused it");
	if (m.config.offset != offset || m.config.bytes != bytes) {
		(void)ferry_err_set(e, FERRY_E_PROTO, 0,
				    "GET_CONFIG: the backend answered octets %"
				    PRIu32 "+%" PRIu32 ", not %" PRIu32 "+%"
				    PRIu32, m.config.offset, m.config.bytes,
				    offset, bytes);
		ferry_vf_break(f, e);
		return -1;
	}
	memcpy(data, m.config.data, bytes);
	return 0;
}

int ferry_vhost_fe_config_get(struct ferry_vhost_fe *f, uint32_t offset,
			      void *data, uint32_t bytes, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, get_config(f, offset, data, bytes, &err),
			      false, &err, e);
}

int ferry_vhost_fe_config_set(struct ferry_vhost_fe *f, uint32_t offset,
			      const void *data, uint32_t bytes,
			      int for_migration, struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_CONFIG,
		.config = { offset, bytes, for_migration ? 1 : 0, { 0 } },
	};
	int rc;

	ferry_vf_enter(f);
	rc = check_config(f, offset, bytes, &err);
	if (!rc) {
		memcpy(m.config.data, data, bytes);
		rc = ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, NULL, &err);
	}
	return ferry_vf_leave(f, rc, false, &err, e);
}

/* ---- features and status ---- */

int ferry_vf_send_features(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint64_t features = f->want.features;

	features |= f->link.offered & FERRY_VU_VIRTIO_F_PROTOCOL;
	if (f->want.log)
		features |= FERRY_VU_VIRTIO_F_LOG_ALL;
	return ferry_vf_ask_u64(f, FERRY_VU_SET_FEATURES, features, e);
}

static int set_features(struct ferry_vhost_fe *f, uint64_t features,
			struct ferry_err *e)
{
	uint64_t strange = features & ~f->link.offered;

	if (strange && f->link.up) {
		(void)ferry_err_set(e, FERRY_E_INVALID, 0,
				    "features 0x%" PRIx64
				    " are not the backend's", strange);
		return FERRY_VF_NEVER;
	}
	f->want.features = features;
	f->want.features_set = true;
	if (f->want.log && ferry_vf_send_log(f, e))
		return -1;
	return ferry_vf_send_features(f, e);
}

int ferry_vhost_fe_set_features(struct ferry_vhost_fe *f, uint64_t features,
				struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, set_features(f, features, &err), true, &err,
			      e);
}

int ferry_vf_send_status(struct ferry_vhost_fe *f, uint8_t status,
			 struct ferry_err *e)
{
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_STATUS))
		return 0;
	return ferry_vf_ask_u64(f, FERRY_VU_SET_STATUS, status, e);
}

int ferry_vhost_fe_set_status(struct ferry_vhost_fe *f, uint8_t status,
			      struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	f->want.status = status;
	f->want.status_set = true;
	return ferry_vf_leave(f, ferry_vf_send_status(f, status, &err), true,
			      &err, e);
}

static int get_status(struct ferry_vhost_fe *f, uint8_t *status,
		      struct ferry_err *e)
{
	uint64_t v;

	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_STATUS)) {
		*status = f->want.status;
		return 0;
	}
	if (ferry_vf_ask_plain(f, FERRY_VU_GET_STATUS, &v, e))
		return -1;
	*status = (uint8_t)v;
	if (v <= UINT8_MAX)
		return 0;
	(void)ferry_err_set(e, FERRY_E_PROTO, 0,
			    "GET_STATUS: 0x%" PRIx64 " is no status", v);
	ferry_vf_break(f, e);
	return -1;
}

int ferry_vhost_fe_get_status(struct ferry_vhost_fe *f, uint8_t *status,
			      struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, get_status(f, status, &err), false, &err, e);
}

/* ---- reset ---- */

static int reset(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++)
		if (f->queue[i].started)
			return ferry_vf_never(ferry_err_set(e, FERRY_E_STATE, 0,
					     "reset: queue %u was not"
					     " stopped", i));
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++)
		f->queue[i] = (struct ferry_vf_queue){ 0 };
	ferry_vf_state_forget(f);
	f->want.features = 0;
	f->want.features_set = f->want.status_set = false;
	f->want.status = 0;
	ferry_cleanup_fd(&f->want.inflight.fd);
	f->want.inflight = (struct ferry_vf_inflight){ .fd = -1 };
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_RESET_DEVICE))
		return 0;
	return ferry_vf_ask_plain(f, FERRY_VU_RESET_DEVICE, NULL, e);
}

int ferry_vhost_fe_reset(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, reset(f, &err), true, &err, e);
}

/* ---- networks ---- */

int ferry_vf_send_mtu(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_NET_MTU))
		return 0;
	return ferry_vf_ask_u64(f, FERRY_VU_NET_SET_MTU, f->want.mtu, e);
}

int ferry_vhost_fe_set_mtu(struct ferry_vhost_fe *f, uint16_t mtu,
			   struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	f->want.mtu = mtu;
	return ferry_vf_leave(f, ferry_vf_send_mtu(f, &err), true, &err, e);
}

/* The MAC is the first six octets. */
static int announce(struct ferry_vhost_fe *f, const uint8_t mac[6],
		    struct ferry_err *e)
{
	uint64_t v = 0;

	memcpy(&v, mac, 6);
	return ferry_vf_ask_u64(f, FERRY_VU_SEND_RARP, v, e);
}

int ferry_vhost_fe_announce(struct ferry_vhost_fe *f, const uint8_t mac[6],
			    struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	bool does;
	int rc = 0;

	ferry_vf_enter(f);
	does = !f->link.up || ferry_vf_agreed(f, FERRY_VU_F_RARP);
	if (does)
		rc = announce(f, mac, &err);
	return ferry_vf_leave(f, rc, false, &err, e) ? -1 : does;
}
