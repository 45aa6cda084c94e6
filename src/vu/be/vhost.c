/* SPDX-License-Identifier: MIT */
/*
 * The public API: making a device, and where its front-ends come from.
 *
 * Threads: any; the control thread runs door() until the device is freed.
 */
#include "vu/be/device.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/counter.h"
#include "base/stale.h"

#define DIAL_MS		200	/* between two tries to connect */

/* ---- making one --------------------------------------------------------- */

static int check_shape(const struct ferry_vhost_shape *s,
		       const struct ferry_vhost_ops *ops, struct ferry_err *e)
{
	if (s->size != sizeof(*s) || ops->size != sizeof(*ops))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost: a shape or ops of another version"
				     " of the library");
	if (!s->queues || s->queues > FERRY_VHOST_QUEUES_MAX ||
	    s->queue_size_max > FERRY_VHOST_QUEUE_SIZE_MAX ||
	    s->config_bytes > FERRY_VHOST_CONFIG_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost: %u queues of %u buffers, %u octets"
				     " of configuration", s->queues,
				     s->queue_size_max, s->config_bytes);
	if (s->together > FERRY_VHOST_TOGETHER_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost: %u queues on one thread, of at "
				     "most %u", s->together,
				     FERRY_VHOST_TOGETHER_MAX);
	if (!ops->handle || (s->config_bytes && !ops->config_get) ||
	    !ops->save != !ops->load)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "vhost: handle(), config_get(), or one of"
				     " save() and load(), is missing");
	return 0;
}

static void destroy(struct ferry_vhost *v)
{
	ferry_vb_queues_fini(v);
	pthread_mutex_destroy(&v->backend_lock);
	ferry_cleanup_fd(&v->stop);
	ferry_cleanup_fd(&v->ended);
	ferry_cleanup_fd(&v->listener);
	ferry_cleanup_fd(&v->attached);
	ferry_cleanup_fd(&v->uffd);
	free(v->path);
	free(v);
}

static int init(struct ferry_vhost *v, struct ferry_err *e)
{
	v->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->stop < 0 || v->ended < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "vhost: eventfd");
	return ferry_vb_queues_init(v, e);
}

struct ferry_vhost *ferry_vhost_new(const struct ferry_vhost_shape *shape,
				    const struct ferry_vhost_ops *ops,
				    void *opaque,
				    void (*log)(void *opaque, int level,
						const char *line),
				    struct ferry_err *e)
{
	struct ferry_vhost *v;

	if (check_shape(shape, ops, e))
		return NULL;
	v = calloc(1, sizeof(*v));
	if (!v) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "vhost");
		return NULL;
	}
	v->shape = *shape;
	v->ops = *ops;
	v->opaque = opaque;
	v->log = log;
	v->stop = v->ended = v->listener = v->attached = v->uffd = -1;
	v->session.sock = (struct ferry_vu_sock){ -1, -1 };
	v->session.backend_fd = -1;
	if (!v->shape.queue_size_max)
		v->shape.queue_size_max = FERRY_VHOST_QUEUE_SIZE_MAX;
	if (!v->shape.together)
		v->shape.together = 1;
	snprintf(v->name, sizeof(v->name), "%s",
		 shape->name ? shape->name : "vhost");
	v->shape.name = v->name;
	pthread_mutex_init(&v->backend_lock, NULL);
	if (init(v, e)) {
		destroy(v);
		return NULL;
	}
	return v;
}

void ferry_vhost_free(struct ferry_vhost *v)
{
	if (!v)
		return;
	eventfd_write(v->stop, 1);
	ferry_thread_join(&v->thread);
	if (v->path && !v->dials)
		unlink(v->path);
	destroy(v);
}

/* ---- front-ends ---------------------------------------------------------- */

static int address(const char *path, struct sockaddr_un *sa,
		   struct ferry_err *e)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof(sa->sun_path))
		return ferry_err_set(e, FERRY_E_INVALID, ENAMETOOLONG,
				     "vhost: socket \"%s\"", path);
	strcpy(sa->sun_path, path);
	return 0;
}

/* Without waiting for room in the queue of who listens there. */
static int dial(const char *path, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);
	struct sockaddr_un sa;

	if (address(path, &sa, e))
		return -1;
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vhost: connect to %s", path);
	return ferry_steal_fd(&fd);
}

/* Stop, or time: true when to stop. */
static bool pause_ms(struct ferry_vhost *v, int ms)
{
	struct pollfd p = { .fd = v->stop, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* The next front-end, or -1: stop, or (with v->error) it cannot go on. */
static int next(struct ferry_vhost *v)
{
	struct pollfd p[] = {
		{ .fd = v->stop, .events = POLLIN },
		{ .fd = v->listener, .events = POLLIN },
	};

	if (v->attached >= 0)
		return ferry_steal_fd(&v->attached);
	/* One that takes us and drops us is not asked all the time either. */
	for (int ms = ferry_counted(&v->counts.connections) ? DIAL_MS : 0;
	     v->dials && !pause_ms(v, ms); ms = DIAL_MS) {
		int fd = dial(v->path, NULL);

		if (fd >= 0)
			return fd;
	}
	while (v->listener >= 0) {
		int fd;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents)
			return -1;
		fd = accept4(v->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno == EINTR || errno == ECONNABORTED || errno == EAGAIN)
			continue;
		ferry_err_set(&v->error, FERRY_E_IO, errno, "vhost: accept");
		return -1;
	}
	return -1;
}

static void door(void *arg)
{
	struct ferry_vhost *v = arg;
	int fd;

	while ((fd = next(v)) >= 0)
		ferry_vb_session_serve(v, fd);
	eventfd_write(v->ended, 1);
}

static int open_door(struct ferry_vhost *v, struct ferry_err *e)
{
	return ferry_thread_start(&v->thread, "vhost-control", door, v, e);
}

static int check_unused(const struct ferry_vhost *v, struct ferry_err *e)
{
	if (!v->thread.started)
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "vhost: it has its socket already");
}

/* One that was left behind is in the way. */
static int bind_to(int fd, const struct sockaddr_un *sa)
{
	const struct sockaddr *any = (const struct sockaddr *)sa;

	if (!bind(fd, any, sizeof(*sa)))
		return 0;
	if (errno != EADDRINUSE || !ferry_is_stale_socket(sa->sun_path))
		return -1;
	unlink(sa->sun_path);
	return bind(fd, any, sizeof(*sa));
}

static int listen_at(const char *path, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa;

	if (address(path, &sa, e))
		return -1;
	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "vhost: socket");
	if (bind_to(fd, &sa) || listen(fd, 8))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vhost: listen at %s", path);
	return ferry_steal_fd(&fd);
}

int ferry_vhost_listen(struct ferry_vhost *v, const char *path,
		       struct ferry_err *e)
{
	int inherited = -1, end = 0;

	if (check_unused(v, e))
		return -1;
	if (sscanf(path, "fd:%d%n", &inherited, &end) == 1 && !path[end]) {
		v->listener = inherited;
		return open_door(v, e);
	}
	v->listener = listen_at(path, e);
	if (v->listener < 0)
		return -1;
	v->path = strdup(path);
	if (!v->path)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "vhost");
	return open_door(v, e);
}

int ferry_vhost_connect(struct ferry_vhost *v, const char *path,
			struct ferry_err *e)
{
	struct sockaddr_un sa;

	if (check_unused(v, e) || address(path, &sa, e))
		return -1;
	v->path = strdup(path);
	if (!v->path)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "vhost");
	v->dials = true;
	return open_door(v, e);
}

int ferry_vhost_attach(struct ferry_vhost *v, int fd, struct ferry_err *e)
{
	FERRY_AUTO_FD own = fd;

	if (check_unused(v, e))
		return -1;
	v->attached = ferry_steal_fd(&own);
	return open_door(v, e);
}

int ferry_vhost_set_uffd(struct ferry_vhost *v, int fd, struct ferry_err *e)
{
	FERRY_AUTO_FD own = fd;

	if (check_unused(v, e))
		return -1;
	ferry_cleanup_fd(&v->uffd);
	v->uffd = ferry_steal_fd(&own);
	return 0;
}

int ferry_vhost_probe_postcopy(struct ferry_err *e)
{
	return ferry_vb_postcopy_probe(e);
}

int ferry_vhost_wait(struct ferry_vhost *v, int timeout_ms,
		     struct ferry_err *e)
{
	struct pollfd p = { .fd = v->ended, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (!n)
		return 1;
	if (v->error.code == FERRY_E_OK)
		return 0;
	if (e)
		*e = v->error;
	return -1;
}

/* ---- while it serves ----------------------------------------------------- */

void ferry_vhost_config_changed(struct ferry_vhost *v)
{
	struct ferry_vu_msg m = { .h = {
		.request = FERRY_VU_BACKEND_CONFIG_CHANGE,
		.flags = FERRY_VU_VERSION,
	} };

	pthread_mutex_lock(&v->backend_lock);
	if (v->session.backend_fd >= 0) {
		struct ferry_vu_sock s = { v->session.backend_fd, v->stop };

		if (ferry_vu_send(&s, &m, FERRY_VU_NONE, NULL, 0, NULL))
			ferry_vb_log(v, FERRY_VB_WARNING, "the front-end was"
				     " not told of a new configuration");
	}
	pthread_mutex_unlock(&v->backend_lock);
}

void ferry_vhost_wake(struct ferry_vhost *v, uint32_t queue)
{
	if (queue >= v->shape.queues)
		return;
	atomic_store(&v->queue[queue].poked, true);
	eventfd_write(v->queue[queue].wake, 1);
}

void ferry_vhost_stats(struct ferry_vhost *v, struct ferry_vhost_stats *out)
{
	struct ferry_vb_counts *c = &v->counts;

	*out = (struct ferry_vhost_stats){
		.size = sizeof(*out),
		.connected = atomic_load(&c->connected),
		.connections = ferry_counted(&c->connections),
		.kicks = ferry_counted(&c->kicks),
		.calls = ferry_counted(&c->calls),
		.logged_pages = ferry_counted(&v->dirty.pages),
		.resubmitted = ferry_counted(&c->resubmitted),
		.broken = ferry_counted(&c->broken),
		.wait_sum_ns = ferry_counted(&v->touch.wait_sum_ns),
		.wait_max_ns = ferry_counted(&v->touch.wait_max_ns),
	};
	for (uint32_t i = 0; i < v->shape.queues; i++) {
		out->popped += ferry_counted(&v->queue[i].popped);
		out->pushed += ferry_counted(&v->queue[i].pushed);
	}
	for (unsigned i = 0; i < FERRY_VHOST_WAIT_BUCKETS; i++)
		out->waits[i] = ferry_counted(&v->touch.waits[i]);
}
