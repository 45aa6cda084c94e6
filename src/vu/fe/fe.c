/* SPDX-License-Identifier: MIT */
/*
 * A device: made, connected, asked what it can do, freed.
 */
#include "vu/fe/fe.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define FERRY_VF_STATE_BYTES_MAX	(4ull << 30)
#define AGAIN_MS	10	/* while the first backend is waited for */

static int check_shape(const struct ferry_vhost_fe_shape *s,
		       const struct ferry_vhost_fe_ops *ops,
		       struct ferry_err *e)
{
	struct sockaddr_un sa;

	if (ops->size < sizeof(*ops))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost-user device: a struct without its"
				     " size: use the _INIT macros");
	if (s->path && (!*s->path || strlen(s->path) >= sizeof(sa.sun_path)))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost-user device: the path of a socket"
				     " has 1 to %zu octets",
				     sizeof(sa.sun_path) - 1);
	return 0;
}

static void fill(struct ferry_vhost_fe *f,
		 const struct ferry_vhost_fe_shape *s,
		 const struct ferry_vhost_fe_ops *ops)
{
	const char *name = s->name ? s->name : "vhost";

	if (s->path)
		snprintf(f->label, sizeof(f->label), "%.40s at %s", name,
			 s->path);
	else
		snprintf(f->label, sizeof(f->label), "%.40s", name);
	f->request_ms = s->request_ms ? s->request_ms : FERRY_VF_REQUEST_MS;
	if (f->request_ms > INT_MAX)	/* what poll() knows */
		f->request_ms = INT_MAX;
	f->features = s->features ? s->features : UINT64_MAX;
	if (s->flags & FERRY_VHOST_FE_NO_PACKED)
		f->features &= ~FERRY_VF_PACKED;
	f->flags = s->flags;
	f->state_bytes_max = s->state_bytes_max ? s->state_bytes_max :
						  FERRY_VF_STATE_BYTES_MAX;
	f->ops = *ops;
	f->link = (struct ferry_vf_link){
		.sock = { .fd = -1, .stop = -1 }, .requests = -1, .uffd = -1,
	};
	f->want.inflight.fd = f->transfer.fd = -1;
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->seen_lock, NULL);
}

/* As of the version that the program was built with. */
static int take_shape(const struct ferry_vhost_fe_shape *from,
		      struct ferry_vhost_fe_shape *to, struct ferry_err *e)
{
	const size_t first = offsetof(struct ferry_vhost_fe_shape,
				      state_bytes_max);

	*to = (struct ferry_vhost_fe_shape)FERRY_VHOST_FE_SHAPE_INIT;
	if (from->size < first)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost-user device: a struct without its"
				     " size: use the _INIT macros");
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	return 0;
}

struct ferry_vhost_fe *
ferry_vhost_fe_new(const struct ferry_vhost_fe_shape *shape,
		   const struct ferry_vhost_fe_ops *ops, void *opaque,
		   void (*log)(void *opaque, int level, const char *line),
		   struct ferry_err *e)
{
	struct ferry_vhost_fe_shape s;
	struct ferry_vhost_fe *f;

	if (take_shape(shape, &s, e) || check_shape(&s, ops, e))
		return NULL;
	f = calloc(1, sizeof(*f));
	if (!f) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "vhost-user device");
		return NULL;
	}
	fill(f, &s, ops);
	f->opaque = opaque;
	f->log = log;
	f->path = s.path ? strdup(s.path) : NULL;
	f->queue = calloc(FERRY_VHOST_FE_QUEUES_MAX, sizeof(*f->queue));
	f->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->queue && f->stop >= 0 && (f->path || !s.path))
		return f;
	ferry_err_set(e, FERRY_E_NOMEM, errno, "%s", f->label);
	ferry_vhost_fe_free(f);
	return NULL;
}

void ferry_vhost_fe_free(struct ferry_vhost_fe *f)
{
	if (!f)
		return;
	if (f->stop >= 0)
		eventfd_write(f->stop, 1);
	ferry_thread_join(&f->keeper);
	ferry_vf_hang_up(f);
	ferry_cleanup_fd(&f->want.inflight.fd);
	ferry_cleanup_fd(&f->stop);
	pthread_mutex_destroy(&f->seen_lock);
	pthread_mutex_destroy(&f->lock);
	free(f->queue);
	free(f->path);
	free(f);
}

/* ---- the first backend ---- */

/* 0: there is one, and the keeper keeps it. */
static int settle(struct ferry_vhost_fe *f, const struct ferry_vf_link *l,
		  struct ferry_err *e)
{
	if (ferry_vf_adopt(f, l, e))
		return -1;
	f->connections++;
	if (!ferry_vf_keeper_start(f, e))
		return 0;
	ferry_vf_hang_up(f);
	return -1;
}

static int check_new(const struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return f->keeper.started ?
	       ferry_err_set(e, FERRY_E_STATE, 0, "it has a backend") : 0;
}

/* Worth another look: nobody listens yet. */
static bool may_come(const struct ferry_err *e)
{
	return e->sys == ENOENT || e->sys == ECONNREFUSED || e->sys == EAGAIN;
}

static int dial_until(struct ferry_vhost_fe *f, uint64_t until_ns,
		      struct ferry_err *e)
{
	const struct timespec step = ferry_timespec(AGAIN_MS *
						    FERRY_NS_PER_MS);
	struct ferry_vf_link l;

	while (ferry_vf_dial(f, &l, e)) {
		if (!may_come(e) || ferry_now_ns() >= until_ns)
			return -1;
		nanosleep(&step, NULL);
	}
	return settle(f, &l, e);
}

int ferry_vhost_fe_connect(struct ferry_vhost_fe *f, uint32_t wait_ms,
			   struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	int rc;

	ferry_vf_enter(f);
	if (!f->path)
		rc = ferry_err_set(&err, FERRY_E_INVALID, 0, "no path");
	else
		rc = check_new(f, &err) ||
		     dial_until(f, ferry_now_ns() + wait_ms * FERRY_NS_PER_MS,
				&err) ? -1 : 0;
	return ferry_vf_leave(f, rc, false, &err, e);
}

int ferry_vhost_fe_attach(struct ferry_vhost_fe *f, int fd,
			  struct ferry_err *e)
{
	struct ferry_err err = { 0 };
	struct ferry_vf_link l;
	int rc;

	ferry_vf_enter(f);
	rc = check_new(f, &err);
	if (rc) {
		close(fd);
	} else {
		f->flags |= FERRY_VHOST_FE_NO_RECONNECT;
		rc = ferry_vf_greet(f, fd, &l, &err) || settle(f, &l, &err) ?
		     -1 : 0;
	}
	return ferry_vf_leave(f, rc, false, &err, e);
}

/* ---- what it is ---- */

static struct ferry_vf_seen look(struct ferry_vhost_fe *f)
{
	struct ferry_vf_seen seen;

	pthread_mutex_lock(&f->seen_lock);
	seen = f->seen;
	pthread_mutex_unlock(&f->seen_lock);
	return seen;
}

static bool has(const struct ferry_vf_seen *seen,
		enum ferry_vu_protocol_feature bit)
{
	return seen->protocol >> bit & 1;
}

/* Of the backend's features, those that are the guest's business.  Addresses
 * behind an IOMMU nobody here translates. */
static uint64_t for_guest(const struct ferry_vhost_fe *f,
			  const struct ferry_vf_seen *seen)
{
	const uint64_t access_platform = 1ull << 33;

	return seen->offered & f->features &
	       ~(FERRY_VU_VIRTIO_F_LOG_ALL | FERRY_VU_VIRTIO_F_PROTOCOL |
		 access_platform);
}

void ferry_vhost_fe_info(struct ferry_vhost_fe *f,
			 struct ferry_vhost_fe_info *out)
{
	struct ferry_vf_seen seen = look(f);
	struct ferry_vhost_fe_info info = { 0 };
	uint32_t size = out->size;

	info.connected = seen.up;
	info.features = for_guest(f, &seen);
	info.protocol = seen.protocol;
	info.queues = (uint32_t)seen.queues;
	info.config = has(&seen, FERRY_VU_F_CONFIG);
	info.state = has(&seen, FERRY_VU_F_DEVICE_STATE);
	info.connections = seen.connections;
	info.lost = seen.lost;
	info.size = size;
	memcpy(out, &info, size < sizeof(info) ? size : sizeof(info));
}

static bool can_log(const struct ferry_vf_seen *seen)
{
	return seen->offered & FERRY_VU_VIRTIO_F_LOG_ALL &&
	       has(seen, FERRY_VU_F_LOG_SHMFD);
}

static bool can_fault(const struct ferry_vf_seen *seen)
{
	return has(seen, FERRY_VU_F_PAGEFAULT);
}

static const struct {
	bool		(*has)(const struct ferry_vf_seen *seen);
	const char	*what;
} abilities[] = {
	[FERRY_VHOST_FE_CAN_LOG] = { can_log,
		"its backend does not offer LOG_SHMFD, a log of what it"
		" writes: the VM cannot be migrated while it has this device" },
	[FERRY_VHOST_FE_CAN_FAULT] = { can_fault,
		"its backend does not offer PAGEFAULT, to wait for pages that"
		" are missing: the VM cannot be migrated with postcopy" },
};

static int can_start(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, ferry_vf_state_check(f, &err), false, &err,
			      e);
}

int ferry_vhost_fe_can(struct ferry_vhost_fe *f,
		       enum ferry_vhost_fe_ability what, struct ferry_err *e)
{
	const struct ferry_vf_seen seen = look(f);
	int rc = 0;

	if (what == FERRY_VHOST_FE_CAN_START)
		return can_start(f, e);
	if (what != FERRY_VHOST_FE_CAN_LOG && what != FERRY_VHOST_FE_CAN_FAULT)
		rc = ferry_err_set(e, FERRY_E_INVALID, 0,
				   "there is no ability %d", (int)what);
	else if (!seen.connections)
		rc = ferry_err_set(e, FERRY_E_STATE, 0,
				   "no backend was there yet");
	else if (!abilities[what].has(&seen))
		rc = ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s",
				   abilities[what].what);
	return rc ? ferry_err_wrap(e, "%s", f->label) : 0;
}
