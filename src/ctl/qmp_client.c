/* SPDX-License-Identifier: MIT */
/*
 * The client's half of QMP.  Replies are matched by id; events that arrive
 * meanwhile are kept in order, at most FERRY_QMP_EVENTS_MAX of them.
 */
#include "ctl/qmp_client.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/qmp_socket.h"

#define REPLY_BYTES_MAX	(4u << 20)	/* QEMU's schema is 200 KiB */
#define LOOK_MS		2000

struct ferry_qmp_client {
	int		fd;
	bool		oob;
	uint64_t	last_id;
	struct ferry_json_stream json;
	char		in[4096];
	size_t		in_at, in_end;
	struct json_object *greeting;
	struct json_object *event[FERRY_QMP_EVENTS_MAX];	/* a ring */
	size_t		event_at, events;
};

static uint64_t deadline(int timeout_ms)
{
	return ferry_now_ns() + (uint64_t)timeout_ms * FERRY_NS_PER_MS;
}

/* ---- octets -------------------------------------------------------------- */

static int wait_for(struct ferry_qmp_client *c, short events,
		    uint64_t until_ns, struct ferry_err *e)
{
	struct pollfd p = { c->fd, events, 0 };
	uint64_t now = ferry_now_ns();
	uint64_t left = until_ns > now ? until_ns - now : 0;
	int n;

	/* Rounded up: the last millisecond must not be spent spinning. */
	n = poll(&p, 1, (int)((left + FERRY_NS_PER_MS - 1) / FERRY_NS_PER_MS));
	if (n < 0 && errno != EINTR)
		return ferry_err_set(e, FERRY_E_IO, errno, "QMP: poll");
	if (n < 1 && ferry_now_ns() >= until_ns)
		return ferry_err_set(e, FERRY_E_TIMEOUT, 0,
				     "QMP: no answer in time");
	return 0;
}

static int read_some(struct ferry_qmp_client *c, uint64_t until_ns,
		     struct ferry_err *e)
{
	ssize_t n;

	for (;;) {
		n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);
		if (n > 0)
			break;
		if (n == 0 || errno == ECONNRESET)
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "QMP: connection closed");
		if (errno != EAGAIN && errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "QMP: receive");
		if (wait_for(c, POLLIN, until_ns, e))
			return -1;
	}
	c->in_at = 0;
	c->in_end = (size_t)n;
	return 0;
}

static int write_all(struct ferry_qmp_client *c, const char *text,
		     uint64_t until_ns, struct ferry_err *e)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t n = send(c->fd, text, left,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			text += n;
			left -= (size_t)n;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "QMP: connection closed");
		if (errno != EAGAIN && errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno, "QMP: send");
		if (wait_for(c, POLLOUT, until_ns, e))
			return -1;
	}
	return 0;
}

/* ---- messages ------------------------------------------------------------ */

/* The next object from the server; the caller's. */
static int next_message(struct ferry_qmp_client *c, uint64_t until_ns,
			struct json_object **o, struct ferry_err *e)
{
	enum ferry_json_next next;
	size_t used;

	for (;;) {
		if (c->in_at == c->in_end && read_some(c, until_ns, e))
			return -1;
		next = ferry_json_stream_feed(&c->json, c->in + c->in_at,
					      c->in_end - c->in_at, &used, o,
					      e);
		c->in_at += used;
		if (next == FERRY_JSON_BAD)
			return ferry_err_wrap(e, "QMP server");
		if (next == FERRY_JSON_VALUE &&
		    json_object_is_type(*o, json_type_object))
			return 0;
		json_object_put(*o);
	}
}

static void keep_event(struct ferry_qmp_client *c, struct json_object *o)
{
	if (c->events == FERRY_QMP_EVENTS_MAX) {
		json_object_put(c->event[c->event_at]);
		c->event_at = (c->event_at + 1) % FERRY_QMP_EVENTS_MAX;
		c->events--;
	}
	c->event[(c->event_at + c->events++) % FERRY_QMP_EVENTS_MAX] = o;
}

static int take_reply(struct json_object *o, struct json_object **ret,
		      struct ferry_err *e)
{
	struct json_object *error = ferry_json_obj(o, "error");
	const char *desc = ferry_json_str(error, "desc");
	struct json_object *value = NULL;

	if (error)
		return ferry_err_set(e, FERRY_E_PEER, 0, "%s",
				     desc ? desc : "error without a text");
	json_object_object_get_ex(o, "return", &value);
	if (ret)
		*ret = json_object_get(value);
	return 0;
}

static int wait_reply(struct ferry_qmp_client *c, uint64_t id,
		      uint64_t until_ns, struct json_object **ret,
		      struct ferry_err *e)
{
	struct json_object *o = NULL;
	int rc;

	for (;;) {
		if (next_message(c, until_ns, &o, e))
			return -1;
		if (ferry_json_str(o, "event")) {
			keep_event(c, o);
			continue;
		}
		if (ferry_json_u64(o, "id", 0) == id)
			break;
		json_object_put(o);	/* of a call that timed out */
	}
	rc = take_reply(o, ret, e);
	json_object_put(o);
	return rc;
}

static int call(struct ferry_qmp_client *c, const char *verb,
		const char *command, struct json_object *args, int timeout_ms,
		struct json_object **ret, struct ferry_err *e)
{
	FERRY_AUTO_JSON *o = json_object_new_object();
	FERRY_AUTO_FREE char *line = NULL;
	uint64_t until = deadline(timeout_ms);

	if (ret)
		*ret = NULL;
	ferry_json_add_str(o, verb, command);
	if (args)
		json_object_object_add(o, "arguments", args);
	ferry_json_add_u64(o, "id", ++c->last_id);
	/* In one piece: a server that ends on `quit` may not read on. */
	if (asprintf(&line, "%s\n", ferry_json_text(o)) < 0) {
		line = NULL;
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "QMP");
	}
	if (write_all(c, line, until, e))
		return -1;
	return wait_reply(c, c->last_id, until, ret, e);
}

int ferry_qmp_client_call(struct ferry_qmp_client *c, const char *command,
			  struct json_object *args, int timeout_ms,
			  struct json_object **ret, struct ferry_err *e)
{
	return call(c, "execute", command, args, timeout_ms, ret, e);
}

int ferry_qmp_client_call_oob(struct ferry_qmp_client *c, const char *command,
			      struct json_object *args, int timeout_ms,
			      struct json_object **ret, struct ferry_err *e)
{
	return call(c, c->oob ? "exec-oob" : "execute", command, args,
		    timeout_ms, ret, e);
}

int ferry_qmp_client_event(struct ferry_qmp_client *c, int timeout_ms,
			   struct json_object **event, struct ferry_err *e)
{
	uint64_t until = deadline(timeout_ms);
	struct ferry_err why = { 0 };

	while (!c->events) {
		if (next_message(c, until, event, &why)) {
			if (why.code == FERRY_E_TIMEOUT)
				return 0;
			if (e)
				*e = why;
			return -1;
		}
		if (ferry_json_str(*event, "event"))
			keep_event(c, *event);
		else
			json_object_put(*event);
	}
	*event = c->event[c->event_at];
	c->event_at = (c->event_at + 1) % FERRY_QMP_EVENTS_MAX;
	c->events--;
	return 1;
}

/* ---- life ---------------------------------------------------------------- */

static bool offers_oob(const struct json_object *greeting)
{
	struct json_object *caps = NULL;

	json_object_object_get_ex(ferry_json_obj(greeting, "QMP"),
				  "capabilities", &caps);
	for (size_t i = 0; json_object_is_type(caps, json_type_array) &&
			   i < json_object_array_length(caps); i++) {
		struct json_object *v = json_object_array_get_idx(caps, i);
		const char *name = json_object_get_string(v);

		if (name && !strcmp(name, "oob"))
			return true;
	}
	return false;
}

static int negotiate(struct ferry_qmp_client *c, uint64_t until_ns,
		     struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();
	struct json_object *enable = json_object_new_array();
	uint64_t now = ferry_now_ns();
	uint64_t left = until_ns > now ? until_ns - now : 0;

	json_object_object_add(args, "enable", enable);
	if (c->oob)
		json_object_array_add(enable, json_object_new_string("oob"));
	return ferry_qmp_client_call(c, "qmp_capabilities", args,
				     (int)(left / FERRY_NS_PER_MS), NULL, e);
}

/* The server's process if it is stopped (SIGSTOP), or 0. */
static pid_t stopped_server(const struct ferry_qmp_client *c)
{
	pid_t pid = ferry_qmp_peer_pid(c->fd);
	char path[32], state = '?';
	FERRY_AUTO_FILE f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	/* "PID (NAME) STATE": a name may have anything in it but this. */
	if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		return 0;
	return state == 'T' || state == 't' ? pid : 0;
}

/* Of one that is stopped no greeting comes: say so, and do not wait long. */
static int await_greeting(struct ferry_qmp_client *c, uint64_t until_ns,
			  struct ferry_err *e)
{
	struct pollfd p = { c->fd, POLLIN, 0 };
	uint64_t look_ns = ferry_now_ns() + LOOK_MS * FERRY_NS_PER_MS;
	pid_t pid;

	while (poll(&p, 1, 100) < 1 && ferry_now_ns() < until_ns) {
		if (ferry_now_ns() < look_ns)
			continue;
		pid = stopped_server(c);
		if (pid)
			return ferry_err_set(e, FERRY_E_IO, 0, "its process, "
					     "%d, is stopped: kill -CONT %d "
					     "lets it go on", (int)pid,
					     (int)pid);
	}
	return 0;
}

static int meet(struct ferry_qmp_client *c, int timeout_ms,
		struct ferry_err *e)
{
	uint64_t until = deadline(timeout_ms);
	const char *desc;

	if (await_greeting(c, until, e) ||
	    next_message(c, until, &c->greeting, e))
		return -1;
	desc = ferry_json_str(ferry_json_obj(c->greeting, "error"), "desc");
	if (desc)
		return ferry_err_set(e, FERRY_E_PEER, 0, "%s", desc);
	if (!ferry_json_obj(c->greeting, "QMP"))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "this is not a QMP server");
	c->oob = offers_oob(c->greeting);
	return negotiate(c, until, e);
}

struct ferry_qmp_client *ferry_qmp_client_open(const char *path,
					       int timeout_ms,
					       struct ferry_err *e)
{
	struct ferry_qmp_client *c = calloc(1, sizeof(*c));

	if (!c) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "QMP client");
		return NULL;
	}
	c->fd = ferry_qmp_connect(path, e);
	if (c->fd < 0 || ferry_json_stream_init(&c->json, REPLY_BYTES_MAX, e) ||
	    meet(c, timeout_ms, e)) {
		ferry_qmp_client_close(c);
		return NULL;
	}
	return c;
}

void ferry_qmp_client_close(struct ferry_qmp_client *c)
{
	if (!c)
		return;
	ferry_cleanup_fd(&c->fd);
	ferry_json_stream_fini(&c->json);
	json_object_put(c->greeting);
	for (; c->events; c->events--) {
		json_object_put(c->event[c->event_at]);
		c->event_at = (c->event_at + 1) % FERRY_QMP_EVENTS_MAX;
	}
	free(c);
}

int ferry_qmp_client_fd(const struct ferry_qmp_client *c)
{
	return c->fd;
}

pid_t ferry_qmp_client_pid(const struct ferry_qmp_client *c)
{
	return ferry_qmp_peer_pid(c->fd);
}

const char *ferry_qmp_client_package(const struct ferry_qmp_client *c)
{
	const struct json_object *qmp = ferry_json_obj(c->greeting, "QMP");
	const char *text =
		ferry_json_str(ferry_json_obj(qmp, "version"), "package");

	return text ? text : "";
}
