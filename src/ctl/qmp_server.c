/* SPDX-License-Identifier: MIT */
/*
 * The I/O thread of the QMP server: one poll loop over the listener and at
 * most FERRY_QMP_CLIENTS_MAX clients.  It blocks nowhere but in poll.
 */
#include "ctl/qmp_server.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/qmp_server_priv.h"

void ferry_qmp_server_wake(struct ferry_qmp_server *s)
{
	eventfd_write(s->wake_fd, 1);
}

/* ---- clients come and go ------------------------------------------------ */

static void refuse_client(int fd)
{
	FERRY_AUTO_JSON *o = ferry_qmp_error("GenericError",
		"too many QMP clients; close one and try again");
	const char *text = ferry_json_text(o);

	send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
	send(fd, "\r\n", 2, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

static void greet(struct ferry_qmp_server *s, size_t slot, int fd)
{
	FERRY_AUTO_JSON *o = ferry_qmp_greeting(&s->config);
	struct ferry_qmp_conn *c = ferry_qmp_conn_new(fd, ++s->next_id);

	if (!c)
		return;
	pthread_mutex_lock(&s->lock);
	ferry_qmp_conn_put_locked(c, ferry_json_text(o));
	s->conn[slot] = c;
	pthread_mutex_unlock(&s->lock);
}

static void accept_client(struct ferry_qmp_server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		/* Out of fds, say: poll would return for ever. */
		s->deaf = errno != EAGAIN && errno != ECONNABORTED;
		return;
	}
	for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
		if (!s->conn[i]) {
			greet(s, i, fd);
			return;
		}
	}
	refuse_client(fd);
}

/* All that it asked is answered, and it will ask no more. */
static bool finished_locked(const struct ferry_qmp_conn *c)
{
	return c->eof && c->in_at == c->in_end && !c->queued &&
	       !ferry_qmp_conn_unsent(c);
}

/* ---- one round ----------------------------------------------------------- */

static void serve_input(struct ferry_qmp_server *s, struct ferry_qmp_conn *c)
{
	struct json_object *value;
	enum ferry_json_next next;
	struct ferry_err e;
	bool full;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		full = c->dead || ferry_qmp_conn_full(c);
		pthread_mutex_unlock(&s->lock);
		if (full)
			return;
		next = ferry_qmp_conn_next(c, &value, &e);
		if (next == FERRY_JSON_MORE)
			return;
		ferry_qmp_server_take(s, c, value,
				      next == FERRY_JSON_BAD ? &e : NULL);
	}
}

static void serve(struct ferry_qmp_server *s, size_t slot, short revents)
{
	struct ferry_qmp_conn *c = s->conn[slot];
	bool gone = false;

	serve_input(s, c);
	if (revents & POLLIN && c->in_at == c->in_end && !c->eof) {
		ferry_qmp_conn_read(c);
		serve_input(s, c);
	} else if (revents & (POLLHUP | POLLERR)) {
		gone = true;	/* nobody is there to read the replies */
	}

	pthread_mutex_lock(&s->lock);
	ferry_qmp_conn_flush_locked(c);
	gone = gone || c->dead || finished_locked(c);
	if (gone)
		s->conn[slot] = NULL;
	pthread_mutex_unlock(&s->lock);
	if (gone)
		ferry_qmp_conn_free(c);
}

static short wanted_locked(const struct ferry_qmp_conn *c, bool stopping)
{
	short events = 0;

	if (!stopping && !c->eof && !ferry_qmp_conn_full(c))
		events |= POLLIN;
	if (ferry_qmp_conn_unsent(c))
		events |= POLLOUT;
	return events;
}

#define DEAF_MS		100	/* until accept() is tried again */

#define AT_WAKE		0
#define AT_LISTEN	1
#define AT_CONN		2
#define AT_END		(AT_CONN + FERRY_QMP_CLIENTS_MAX)

/* What to wait for, and how long; true when the server is to stop. */
static bool prepare(struct ferry_qmp_server *s, struct pollfd fds[AT_END],
		    int *timeout_ms)
{
	bool stop;

	*timeout_ms = s->deaf ? DEAF_MS : -1;
	pthread_mutex_lock(&s->lock);
	stop = s->stop;
	fds[AT_WAKE] = (struct pollfd){ s->wake_fd, POLLIN, 0 };
	fds[AT_LISTEN] = (struct pollfd){
		.fd = stop || s->deaf ? -1 : s->listen_fd,
		.events = POLLIN,
	};
	for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
		const struct ferry_qmp_conn *c = s->conn[i];

		fds[AT_CONN + i] = (struct pollfd){
			.fd = c ? c->fd : -1,
			.events = c ? wanted_locked(c, stop) : 0,
		};
		/* It was full with input left, and is so no more. */
		if (c && c->in_at < c->in_end && !ferry_qmp_conn_full(c))
			*timeout_ms = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return stop;
}

static void io_loop(void *arg)
{
	struct ferry_qmp_server *s = arg;
	struct pollfd fds[AT_END];
	eventfd_t count;
	int timeout_ms;

	while (!prepare(s, fds, &timeout_ms)) {
		if (poll(fds, AT_END, timeout_ms) < 0)
			continue;
		s->deaf = false;
		if (fds[AT_WAKE].revents)
			eventfd_read(s->wake_fd, &count);
		for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
			if (s->conn[i])
				serve(s, i, fds[AT_CONN + i].revents);
		}
		if (fds[AT_LISTEN].revents)
			accept_client(s);
	}
}

/* ---- life ---------------------------------------------------------------- */

/* The I/O thread has ended; clients may still read for a moment. */
static void flush_client(struct ferry_qmp_server *s, struct ferry_qmp_conn *c,
			 uint64_t until_ns)
{
	struct pollfd p = { c->fd, POLLOUT, 0 };
	uint64_t now;

	pthread_mutex_lock(&s->lock);
	ferry_qmp_conn_flush_locked(c);
	while (!c->dead && ferry_qmp_conn_unsent(c)) {
		now = ferry_now_ns();
		if (now >= until_ns ||
		    poll(&p, 1, (int)((until_ns - now) / FERRY_NS_PER_MS)) < 1)
			break;
		ferry_qmp_conn_flush_locked(c);
	}
	pthread_mutex_unlock(&s->lock);
}

static void drop_clients(struct ferry_qmp_server *s)
{
	uint64_t until = ferry_now_ns() + FERRY_QMP_FLUSH_MS * FERRY_NS_PER_MS;
	struct ferry_qmp_conn *c;

	for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
		c = s->conn[i];
		if (!c)
			continue;
		flush_client(s, c, until);
		pthread_mutex_lock(&s->lock);
		s->conn[i] = NULL;
		pthread_mutex_unlock(&s->lock);
		ferry_qmp_conn_free(c);
	}
}

static void free_queue(struct ferry_qmp_server *s)
{
	struct ferry_qmp_item *item;

	while ((item = s->first)) {
		s->first = item->next;
		ferry_qmp_item_free(item);
	}
}

static int server_init(struct ferry_qmp_server *s, struct ferry_err *e)
{
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (s->wake_fd < 0 || s->work_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	s->listen_fd = ferry_qmp_listen(s->config.path, &s->place, e);
	if (s->listen_fd < 0)
		return -1;
	return ferry_thread_start(&s->thread, "qmp", io_loop, s, e);
}

struct ferry_qmp_server *
ferry_qmp_server_new(const struct ferry_qmp_config *config,
		     struct ferry_err *e)
{
	struct ferry_qmp_server *s = calloc(1, sizeof(*s));

	if (!s) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "QMP server");
		return NULL;
	}
	s->config = *config;
	s->listen_fd = s->wake_fd = s->work_fd = -1;
	s->last = &s->first;
	pthread_mutex_init(&s->lock, NULL);
	if (server_init(s, e)) {
		ferry_err_wrap(e, "QMP");
		ferry_qmp_server_free(s);
		return NULL;
	}
	return s;
}

void ferry_qmp_server_stop(struct ferry_qmp_server *s)
{
	if (s->listen_fd >= 0)
		ferry_qmp_unlisten(&s->place);
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	ferry_qmp_server_wake(s);
	ferry_thread_join(&s->thread);
	drop_clients(s);
	ferry_cleanup_fd(&s->listen_fd);
	s->listen_fd = -1;
}

void ferry_qmp_server_free(struct ferry_qmp_server *s)
{
	if (!s)
		return;
	ferry_qmp_server_stop(s);
	free_queue(s);
	ferry_cleanup_fd(&s->wake_fd);
	ferry_cleanup_fd(&s->work_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int ferry_qmp_server_fd(const struct ferry_qmp_server *s)
{
	return s->work_fd;
}
