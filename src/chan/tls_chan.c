/* SPDX-License-Identifier: MIT */
/*
 * TLS as a layer: records in, records out (tls_chan.h says how).
 *
 * The end of the stream is close_notify, or just the end below: QEMUs before
 * 10.0 say nothing when they close.  Both dialects end what matters with a
 * message, so a stream that an attacker cuts short is seen as one.
 */
#include "chan/tls_chan.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "chan/iov.h"

/* ---- between the session and its buffers ---------------------------------- */

static ssize_t on_push(gnutls_transport_ptr_t arg, const giovec_t *iov, int n)
{
	struct ferry_tls_chan *t = arg;
	uint64_t bytes = ferry_iov_bytes(iov, n);

	if (bytes > sizeof(t->out) - t->out_bytes) {
		gnutls_transport_set_errno(t->session, ENOBUFS);
		return -1;
	}
	for (int i = 0; i < n; i++) {
		memcpy(t->out + t->out_bytes, iov[i].iov_base,
		       iov[i].iov_len);
		t->out_bytes += iov[i].iov_len;
	}
	return (ssize_t)bytes;
}

static ssize_t on_pull(gnutls_transport_ptr_t arg, void *data, size_t bytes)
{
	struct ferry_tls_chan *t = arg;
	size_t have = t->in_end - t->in_at;

	if (!have && !t->ended) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	if (bytes > have)
		bytes = have;
	memcpy(data, t->in + t->in_at, bytes);
	t->in_at += bytes;
	if (t->in_at == t->in_end)
		t->in_at = t->in_end = 0;
	return (ssize_t)bytes;
}

static int on_pull_timeout(gnutls_transport_ptr_t arg, unsigned ms)
{
	const struct ferry_tls_chan *t = arg;

	(void)ms;
	return t->ended || t->in_at < t->in_end;
}

void ferry_tls_attach(struct ferry_tls_chan *t)
{
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_vec_push_function(t->session, on_push);
	gnutls_transport_set_pull_function(t->session, on_pull);
	gnutls_transport_set_pull_timeout_function(t->session,
						   on_pull_timeout);
}

/* ---- between the buffers and what is below ---------------------------------- */

ssize_t ferry_tls_fill(struct ferry_tls_chan *t)
{
	struct ferry_chan *inner = t->layer.inner;
	struct iovec iov;
	ssize_t got;

	/* Only the reader pulls, and moves in_end up: nobody else is at it. */
	memmove(t->in, t->in + t->in_at, t->in_end - t->in_at);
	t->in_end -= t->in_at;
	t->in_at = 0;
	if (t->in_end == sizeof(t->in))
		return ferry_tls_break(t, GNUTLS_E_RECORD_OVERFLOW);
	iov = (struct iovec){ t->in + t->in_end, sizeof(t->in) - t->in_end };
	got = inner->ops->readv(inner, &iov, 1);
	if (got < 0)
		return got;
	pthread_mutex_lock(&t->turn);
	t->in_end += (size_t)got;
	t->ended = !got;
	pthread_mutex_unlock(&t->turn);
	return got;
}

/* What was said meanwhile (by the reader's half of the session) moves up. */
static void taken(struct ferry_tls_chan *t, size_t bytes)
{
	pthread_mutex_lock(&t->turn);
	t->out_bytes -= bytes;
	memmove(t->out, t->out + bytes, t->out_bytes);
	pthread_mutex_unlock(&t->turn);
}

int ferry_tls_drain(struct ferry_tls_chan *t)
{
	struct ferry_chan *inner = t->layer.inner;
	size_t bytes, at = 0;

	pthread_mutex_lock(&t->turn);
	bytes = t->out_bytes;
	pthread_mutex_unlock(&t->turn);
	while (at < bytes) {
		struct iovec iov = { t->out + at, bytes - at };
		ssize_t put = inner->ops->writev(inner, &iov, 1);

		if (put < 0) {	/* half a record may be out */
			atomic_store(&t->broken, (int)put);
			return (int)put;
		}
		at += (size_t)put;
	}
	if (bytes)
		taken(t, bytes);
	return 0;
}

int ferry_tls_break(struct ferry_tls_chan *t, int rc)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&t->broken, &none, -EPROTO))
		return none;
	if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		snprintf(t->why, sizeof(t->why), "TLS: the peer refused: %s",
			 gnutls_alert_get_name(
				gnutls_alert_get(t->session)));
	else
		snprintf(t->why, sizeof(t->why), "TLS: %s",
			 gnutls_strerror(rc));
	atomic_store_explicit(&t->layer.base.why, t->why,
			      memory_order_release);
	return -EPROTO;
}

/* ---- reading --------------------------------------------------------------- */

static bool wants_more(ssize_t rc)
{
	return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED ||
	       rc == GNUTLS_E_WARNING_ALERT_RECEIVED;
}

/* What one buffer can have without waiting: octets; 0: end; -EAGAIN.  A record
 * that was no data (new keys, say) is AGAIN to GnuTLS, whatever is behind it. */
static ssize_t open_some(struct ferry_tls_chan *t, void *data, size_t bytes)
{
	size_t left;
	ssize_t rc;

	do {
		left = t->in_end - t->in_at;
		rc = gnutls_record_recv(t->session, data, bytes);
	} while (wants_more(rc) && t->in_at < t->in_end &&
		 t->in_end - t->in_at < left);
	if (wants_more(rc))
		return -EAGAIN;
	if (rc == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	return rc < 0 ? ferry_tls_break(t, (int)rc) : rc;
}

static ssize_t open_all(struct ferry_tls_chan *t, const struct iovec *iov,
			int n)
{
	ssize_t all = 0, got = 0;

	pthread_mutex_lock(&t->turn);
	for (int i = 0; i < n; i++) {
		char *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		for (; left; left -= (size_t)got, at += got, all += got) {
			got = open_some(t, at, left);
			if (got <= 0)
				goto out;
		}
	}
out:
	pthread_mutex_unlock(&t->turn);
	return all ? all : got;
}

/* What wait() took comes first. */
static ssize_t give_peeked(struct ferry_tls_chan *t, const struct iovec *iov)
{
	while (!iov->iov_len)
		iov++;
	*(uint8_t *)iov->iov_base = t->peek;
	t->peeked = false;
	return 1;
}

static bool is_shut(struct ferry_tls_chan *t)
{
	bool shut;

	pthread_mutex_lock(&t->layer.lock);
	shut = t->layer.shut;
	pthread_mutex_unlock(&t->layer.lock);
	return shut;
}

static ssize_t read_on(struct ferry_tls_chan *t, const struct iovec *iov,
		       int n)
{
	for (;;) {
		ssize_t got;

		if (is_shut(t))
			return -ESHUTDOWN;
		got = open_all(t, iov, n);
		if (got != -EAGAIN)
			return got;
		got = ferry_tls_fill(t);
		if (got < 0)
			return got;
	}
}

static ssize_t tls_readv(struct ferry_chan *c, const struct iovec *iov, int n)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);
	ssize_t got = t->peeked ? give_peeked(t, iov) : read_on(t, iov, n);

	if (got > 0)
		atomic_fetch_add_explicit(&c->read_bytes, (uint64_t)got,
					  memory_order_relaxed);
	return got;
}

/* Until an octet can be had, or the end, or a failure. */
static int wait_in(struct ferry_tls_chan *t, int timeout_ms)
{
	struct iovec iov = { &t->peek, 1 };
	struct ferry_chan *inner = t->layer.inner;
	uint64_t until = ferry_now_ns() + (uint64_t)timeout_ms *
			 FERRY_NS_PER_MS;

	while (!t->peeked) {
		ssize_t got = open_all(t, &iov, 1);
		uint64_t now = ferry_now_ns();
		int rc, ms = timeout_ms;

		if (got > 0)
			t->peeked = true;
		if (got != -EAGAIN)
			return 1;
		if (timeout_ms > 0)
			ms = now < until ? (int)((until - now) /
						 FERRY_NS_PER_MS) : 0;
		rc = inner->ops->wait(inner, POLLIN, ms);
		if (rc <= 0)
			return rc;
		if (ferry_tls_fill(t) < 0)
			return 1;
	}
	return 1;
}

/* ---- writing --------------------------------------------------------------- */

/* Up to one record, in one piece: the caller's own octets where they lie so. */
static struct iovec next_record(struct ferry_tls_chan *t, struct iovec **iov,
				int *n)
{
	struct iovec whole = **iov;
	size_t have = 0;

	if (whole.iov_len >= FERRY_TLS_RECORD || *n == 1) {
		if (whole.iov_len > FERRY_TLS_RECORD)
			whole.iov_len = FERRY_TLS_RECORD;
		ferry_iov_advance(iov, n, whole.iov_len);
		return whole;
	}
	while (*n && have < FERRY_TLS_RECORD) {
		size_t take = (*iov)->iov_len;

		if (take > FERRY_TLS_RECORD - have)
			take = FERRY_TLS_RECORD - have;
		memcpy(t->plain + have, (*iov)->iov_base, take);
		have += take;
		ferry_iov_advance(iov, n, take);
	}
	return (struct iovec){ t->plain, have };
}

/* A peer may have asked for shorter records than we make. */
static ssize_t seal_one(struct ferry_tls_chan *t, const struct iovec *r)
{
	const char *at = r->iov_base;
	size_t left = r->iov_len;

	while (left) {
		ssize_t rc = gnutls_record_send(t->session, at, left);

		if (rc <= 0)
			return ferry_tls_break(t, rc ? (int)rc :
					       GNUTLS_E_INTERNAL_ERROR);
		at += rc;
		left -= (size_t)rc;
	}
	return (ssize_t)r->iov_len;
}

/* Some records into `out`.  Octets or -errno. */
static ssize_t seal(struct ferry_tls_chan *t, struct iovec *iov, int n)
{
	ssize_t all = 0;

	ferry_iov_advance(&iov, &n, 0);
	for (unsigned i = 0; i < FERRY_TLS_BATCH && n; i++) {
		struct iovec r = next_record(t, &iov, &n);
		ssize_t rc = seal_one(t, &r);

		if (rc < 0)
			return rc;
		all += rc;
	}
	return all;
}

static ssize_t tls_writev(struct ferry_chan *c, const struct iovec *iov, int n)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);
	struct ferry_iov_cut cut;
	ssize_t put;
	int rc = atomic_load(&t->broken);

	if (rc)
		return is_shut(t) ? -ESHUTDOWN : rc;
	ferry_iov_cut(&cut, iov, n,
		      (uint64_t)FERRY_TLS_BATCH * FERRY_TLS_RECORD);
	pthread_mutex_lock(&t->turn);
	put = seal(t, cut.iov, cut.n);
	pthread_mutex_unlock(&t->turn);
	rc = put < 0 ? (int)put : ferry_tls_drain(t);
	if (rc)
		return rc;
	atomic_fetch_add_explicit(&c->written_bytes, (uint64_t)put,
				  memory_order_relaxed);
	return put;
}

/* ---- the rest ----------------------------------------------------------------- */

static int tls_wait(struct ferry_chan *c, short events, int timeout_ms)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);

	if (events & POLLIN)
		return wait_in(t, timeout_ms);
	return t->layer.inner->ops->wait(t->layer.inner, events, timeout_ms);
}

static int tls_export_key(struct ferry_chan *c, const char *label,
			  const void *context, size_t bytes,
			  uint8_t *key, size_t key_bytes)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);
	int rc;

	pthread_mutex_lock(&t->turn);
	rc = gnutls_prf_rfc5705(t->session, strlen(label), label, bytes,
				context, key_bytes, (char *)key);
	pthread_mutex_unlock(&t->turn);
	return rc ? -EPROTO : 0;
}

/* Once, and without waiting: who does not take it is not told. */
static void say_bye(struct ferry_tls_chan *t)
{
	struct ferry_chan *inner = t->layer.inner;
	struct iovec iov;

	if (atomic_load(&t->broken) || is_shut(t) || t->out_bytes)
		return;
	if (gnutls_bye(t->session, GNUTLS_SHUT_WR) || !t->out_bytes ||
	    inner->ops->wait(inner, POLLOUT, 0) != 1)
		return;
	iov = (struct iovec){ t->out, t->out_bytes };
	(void)!inner->ops->writev(inner, &iov, 1);
}

static void tls_close(struct ferry_chan *c)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);

	say_bye(t);
	gnutls_deinit(t->session);
	pthread_mutex_destroy(&t->turn);
	explicit_bzero(t->plain, sizeof(t->plain));
	ferry_layer_close(c);
}

static const struct ferry_chan_ops tls_ops = {
	.kind = "tls",
	.readv = tls_readv,
	.writev = tls_writev,
	.shutdown = ferry_layer_shutdown,
	.wait = tls_wait,
	.features = ferry_layer_features,
	.limit_unsent = ferry_layer_limit_unsent,
	.ack_at_once = ferry_layer_ack_at_once,
	.set_timeout = ferry_layer_set_timeout,
	.flush = ferry_layer_flush,
	.export_key = tls_export_key,
	.close = tls_close,
};

static bool is_two_way(struct ferry_chan *c, struct ferry_err *e)
{
	if (c->ops->features(c) & FERRY_CHAN_TWO_WAY)
		return true;
	ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "TLS needs a connection that "
		      "goes both ways, which a %s does not", c->ops->kind);
	return false;
}

/* The channel above stays below's owner only if all went well. */
static void unmake(struct ferry_tls_chan *t)
{
	if (t->session)
		gnutls_deinit(t->session);
	pthread_mutex_destroy(&t->turn);
	pthread_cond_destroy(&t->layer.shut_cond);
	pthread_mutex_destroy(&t->layer.lock);
	free(t);
}

struct ferry_chan *ferry_chan_tls(struct ferry_chan *inner,
				  const struct ferry_tls *tls,
				  const char *host, uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e)
{
	struct ferry_tls_chan *t;

	if (!is_two_way(inner, e))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "channel %s: TLS",
			      inner->name);
		return NULL;
	}
	ferry_layer_init(&t->layer, &tls_ops, inner);
	pthread_mutex_init(&t->turn, NULL);
	if (ferry_tls_greet(t, tls, host, timeout_ms, cancel, e)) {
		unmake(t);
		return NULL;
	}
	return &t->layer.base;
}
