/* SPDX-License-Identifier: MIT */
/*
 * What every channel gets for nothing: exact reads and writes, and the one
 * place where -errno becomes a sentence.
 */
#include "chan/chan.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "chan/iov.h"

void ferry_chan_set_name(struct ferry_chan *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->name, sizeof(c->name), fmt, ap);
	va_end(ap);
}

/* Results that are not best told by strerror. */
static const struct {
	int sys;
	int code;
	const char *text;
} outcomes[] = {
	{ 0,		FERRY_E_CLOSED,	 "end of stream" },
	{ EPIPE,	FERRY_E_CLOSED,	 "the peer closed the connection" },
	{ ESHUTDOWN,	FERRY_E_CLOSED,	 "shut down at this end" },
	{ ETIMEDOUT,	FERRY_E_TIMEOUT, "the peer did nothing for too long" },
};

int ferry_chan_err(const struct ferry_chan *c, const char *op, ssize_t rc,
		   struct ferry_err *e)
{
	const char *why = atomic_load_explicit(&c->why, memory_order_acquire);
	int sys = (int)-rc;

	if (sys == EPROTO && why) {
		ferry_err_set(e, FERRY_E_IO, 0, "channel %s: %s: %s", c->name,
			      op, why);
		if (e)
			e->sys = sys;
		return -1;
	}
	for (size_t i = 0; i < FERRY_LEN(outcomes); i++) {
		if (outcomes[i].sys != sys)
			continue;
		ferry_err_set(e, outcomes[i].code, 0, "channel %s: %s: %s",
			      c->name, op, outcomes[i].text);
		if (e)
			e->sys = sys;
		return -1;
	}
	return ferry_err_set(e, FERRY_E_IO, sys, "channel %s: %s", c->name,
			     op);
}

int ferry_chan_readv(struct ferry_chan *c, struct iovec *iov, int n,
		     struct ferry_err *e)
{
	ferry_iov_advance(&iov, &n, 0);
	while (n > 0) {
		ssize_t got = c->ops->readv(c, iov, n);

		if (got <= 0)
			return ferry_chan_err(c, "read", got, e);
		ferry_iov_advance(&iov, &n, (size_t)got);
	}
	return 0;
}

int ferry_chan_writev(struct ferry_chan *c, struct iovec *iov, int n,
		      struct ferry_err *e)
{
	ferry_iov_advance(&iov, &n, 0);
	while (n > 0) {
		ssize_t put = c->ops->writev(c, iov, n);

		assert(put != 0);
		if (put < 0)
			return ferry_chan_err(c, "write", put, e);
		ferry_iov_advance(&iov, &n, (size_t)put);
	}
	return 0;
}

int ferry_chan_read(struct ferry_chan *c, void *data, size_t bytes,
		    struct ferry_err *e)
{
	struct iovec iov = { data, bytes };

	return ferry_chan_readv(c, &iov, 1, e);
}

int ferry_chan_write(struct ferry_chan *c, const void *data, size_t bytes,
		     struct ferry_err *e)
{
	struct iovec iov = { (void *)data, bytes };

	return ferry_chan_writev(c, &iov, 1, e);
}

void ferry_chan_close(struct ferry_chan *c)
{
	if (c)
		c->ops->close(c);
}
