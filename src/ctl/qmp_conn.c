/* SPDX-License-Identifier: MIT */
/*
 * A client's buffers.  Input is 4 KiB at a time and kept only as JSON values;
 * output is kept up to FERRY_QMP_OUT_MAX, then the client is given up.  No
 * call here blocks.
 */
#include "ctl/qmp_conn.h"

#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

struct ferry_qmp_conn *ferry_qmp_conn_new(int fd, uint64_t id)
{
	FERRY_AUTO_FD taken = fd;
	struct ferry_qmp_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	if (ferry_json_stream_init(&c->json, FERRY_JSON_BYTES_MAX, NULL)) {
		free(c);
		return NULL;
	}
	c->id = id;
	c->fd = ferry_steal_fd(&taken);
	return c;
}

void ferry_qmp_conn_free(struct ferry_qmp_conn *c)
{
	close(c->fd);
	ferry_json_stream_fini(&c->json);
	free(c->out);
	free(c);
}

void ferry_qmp_conn_read(struct ferry_qmp_conn *c)
{
	ssize_t n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);

	c->in_at = 0;
	c->in_end = n > 0 ? (size_t)n : 0;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		c->eof = true;
}

enum ferry_json_next ferry_qmp_conn_next(struct ferry_qmp_conn *c,
					 struct json_object **value,
					 struct ferry_err *e)
{
	enum ferry_json_next next = FERRY_JSON_MORE;
	size_t used;

	while (next == FERRY_JSON_MORE && c->in_at < c->in_end) {
		next = ferry_json_stream_feed(&c->json, c->in + c->in_at,
					      c->in_end - c->in_at, &used,
					      value, e);
		c->in_at += used;
	}
	return next;
}

/* Room for n more octets behind out_end. */
static bool make_room(struct ferry_qmp_conn *c, size_t n)
{
	size_t kept = ferry_qmp_conn_unsent(c);
	size_t room = c->out_room ? c->out_room : 4096;
	char *grown;

	if (kept + n > FERRY_QMP_OUT_MAX)
		return false;
	if (c->out_at) {
		memmove(c->out, c->out + c->out_at, kept);
		c->out_at = 0;
		c->out_end = kept;
	}
	while (room < kept + n)
		room *= 2;
	if (room == c->out_room)
		return true;
	grown = realloc(c->out, room);
	if (!grown)
		return false;
	c->out = grown;
	c->out_room = room;
	return true;
}

void ferry_qmp_conn_put_locked(struct ferry_qmp_conn *c, const char *line)
{
	size_t n = strlen(line);

	if (c->dead)
		return;
	if (!make_room(c, n + 2)) {
		c->dead = true;
		return;
	}
	memcpy(c->out + c->out_end, line, n);
	memcpy(c->out + c->out_end + n, "\r\n", 2);
	c->out_end += n + 2;
}

void ferry_qmp_conn_flush_locked(struct ferry_qmp_conn *c)
{
	while (!c->dead && ferry_qmp_conn_unsent(c)) {
		ssize_t n = send(c->fd, c->out + c->out_at,
				 ferry_qmp_conn_unsent(c),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno != EINTR)
			c->dead = true;
		if (n > 0)
			c->out_at += (size_t)n;
	}
}
