/* SPDX-License-Identifier: MIT */
/*
 * One client of a QMP server: its socket, its input as JSON values, and what
 * it has still to be told.
 */
#ifndef FERRY_CTL_QMP_CONN_H
#define FERRY_CTL_QMP_CONN_H

#include "ctl/qmp.h"

/*
 * Threads: made, read and freed by the server's I/O thread.  The fields below
 *          the line are seen by all threads, under the server's lock.
 */
struct ferry_qmp_conn {
	uint64_t	id;		/* never used twice */
	int		fd;
	bool		negotiated;	/* written under the lock */
	bool		oob;
	bool		eof;		/* it will send no more */
	struct ferry_json_stream json;
	char		in[4096];
	size_t		in_at, in_end;

	/* ---- under the server's lock ---- */
	unsigned	queued;		/* commands that have no reply yet */
	bool		dead;
	char		*out;
	size_t		out_at, out_end, out_room;
};

/* Takes the fd, also on failure. */
struct ferry_qmp_conn *ferry_qmp_conn_new(int fd, uint64_t id);
void ferry_qmp_conn_free(struct ferry_qmp_conn *c);

/* Read once what is there; notes the end of input, or that it is dead. */
void ferry_qmp_conn_read(struct ferry_qmp_conn *c);

/* The next value of what was read; FERRY_JSON_MORE when there is none. */
enum ferry_json_next ferry_qmp_conn_next(struct ferry_qmp_conn *c,
					 struct json_object **value,
					 struct ferry_err *e);

/* Keep a line to be sent; a client that reads too little becomes dead. */
void ferry_qmp_conn_put_locked(struct ferry_qmp_conn *c, const char *line);

/* Send what the socket takes. */
void ferry_qmp_conn_flush_locked(struct ferry_qmp_conn *c);

static inline size_t ferry_qmp_conn_unsent(const struct ferry_qmp_conn *c)
{
	return c->out_end - c->out_at;
}

/* It has enough to wait for: read no more of it now. */
static inline bool ferry_qmp_conn_full(const struct ferry_qmp_conn *c)
{
	return c->queued >= FERRY_QMP_QUEUE_MAX ||
	       ferry_qmp_conn_unsent(c) > FERRY_QMP_OUT_PAUSE;
}

#endif
