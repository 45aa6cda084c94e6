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

/* Past the handshake the session is given one record, and nothing of the next. */
static size_t for_session(const struct ferry_tls_chan *t)
{
	return (t->pull_end ? t->pull_end : t->in_end) - t->in_at;
}

static ssize_t on_pull(gnutls_transport_ptr_t arg, void *data, size_t bytes)
{
	struct ferry_tls_chan *t = arg;
	size_t have = for_session(t);

	if (!have && (t->pull_end || !t->ended)) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	if (bytes > have)
		bytes = have;
	memcpy(data, t->in + t->in_at, bytes);
	t->in_at += bytes;
	return (ssize_t)bytes;
}

static int on_pull_timeout(gnutls_transport_ptr_t arg, unsigned ms)
{
	const struct ferry_tls_chan *t = arg;

	(void)ms;
	return t->ended || for_session(t) > 0;
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

	memmove(t->in, t->in + t->in_at, t->in_end - t->in_at);
	t->in_end -= t->in_at;
	t->in_at = 0;
	if (t->in_end == sizeof(t->in))
		return ferry_tls_break(t, GNUTLS_E_RECORD_OVERFLOW);
	iov = (struct iovec){ t->in + t->in_end, sizeof(t->in) - t->in_end };
	got = inner->ops->readv(inner, &iov, 1);
	if (got < 0)
		return got;
	t->in_end += (size_t)got;
	t->ended = !got;
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

/*
 * The record at hand is none of data: the session's.  What it answers (to a
 * request for new keys, say) goes with the next record that is written, which
 * the session writes itself therefore.  0, or -errno; `ended` may be set.
 */
static int heed(struct ferry_tls_chan *t, size_t bytes)
{
	ssize_t rc;
	size_t left;
	uint8_t none;

	pthread_mutex_lock(&t->turn);
	t->pull_end = t->in_at + bytes;
	rc = ferry_record_yield(&t->from, t->session);
	if (!rc)
		rc = ferry_record_yield(&t->to, t->session);
	t->most_bytes = 0;
	if (!rc) {
		do {	/* what was no data is AGAIN, whatever is behind it */
			left = for_session(t);
			rc = gnutls_record_recv(t->session, &none, 1);
		} while (wants_more(rc) && for_session(t) &&
			 for_session(t) < left);
		t->ended |= !rc || rc == GNUTLS_E_PREMATURE_TERMINATION;
		if (rc > 0 || (wants_more(rc) && for_session(t)))
			rc = GNUTLS_E_UNEXPECTED_PACKET;
		else if (t->ended || wants_more(rc))
			rc = t->ended ? 0 : ferry_record_take(&t->from,
							      t->session);
	}
	t->in_at = t->ended ? t->in_end : t->pull_end;
	t->pull_end = 0;
	pthread_mutex_unlock(&t->turn);
	return rc ? ferry_tls_break(t, (int)rc) : 0;
}

/* What was opened before there was room for it. */
static ssize_t give_opened(struct ferry_tls_chan *t, void *data, size_t bytes)
{
	if (bytes > t->opened_end - t->opened_at)
		bytes = t->opened_end - t->opened_at;
	memcpy(data, t->opened + t->opened_at, bytes);
	t->opened_at += bytes;
	return (ssize_t)bytes;
}

/* A record, straight to where it is wanted if it fits.  Octets; 0: it was none
 * of data, or empty. */
static ssize_t open_record(struct ferry_tls_chan *t, size_t record_bytes,
			   void *data, size_t bytes)
{
	bool fits = record_bytes <= bytes;
	uint8_t kind = 0;
	ssize_t rc = ferry_record_open(&t->from, t->in + t->in_at,
				       record_bytes, fits ? data : t->opened,
				       &kind);

	if (rc < 0)
		return ferry_tls_break(t, (int)rc);
	if (kind != FERRY_RECORD_APPLICATION)
		return heed(t, record_bytes);
	t->in_at += record_bytes;
	if (fits)
		return rc;
	t->opened_at = 0;
	t->opened_end = (size_t)rc;
	return bytes ? give_opened(t, data, bytes) : 0;
}

/* What can be had without waiting: octets; 0: end; -EAGAIN.  Without room what
 * comes is only opened: 1. */
static ssize_t open_some(struct ferry_tls_chan *t, void *data, size_t bytes)
{
	ssize_t rc = 0;

	while (!rc) {
		size_t have = t->in_end - t->in_at, n;

		if (t->opened_at < t->opened_end)
			return bytes ? give_opened(t, data, bytes) : 1;
		n = ferry_record_bytes(t->in + t->in_at, have);
		if (n == SIZE_MAX)
			return ferry_tls_break(t, GNUTLS_E_UNEXPECTED_PACKET);
		if (!n || n > have)
			return t->ended ? 0 : -EAGAIN;
		rc = open_record(t, n, data, bytes);
	}
	return rc;
}

static ssize_t open_all(struct ferry_tls_chan *t, const struct iovec *iov,
			int n)
{
	ssize_t all = 0, got = 0;

	for (int i = 0; i < n; i++) {
		char *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		for (; left; left -= (size_t)got, at += got, all += got) {
			got = open_some(t, at, left);
			if (got <= 0)
				return all ? all : got;
		}
	}
	return all;
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
	ssize_t got = read_on(t, iov, n);

	if (got > 0)
		atomic_fetch_add_explicit(&c->read_bytes, (uint64_t)got,
					  memory_order_relaxed);
	return got;
}

/* Until an octet can be had, or the end, or a failure. */
static int wait_in(struct ferry_tls_chan *t, int timeout_ms)
{
	struct ferry_chan *inner = t->layer.inner;
	uint64_t until = ferry_now_ns() + (uint64_t)timeout_ms *
			 FERRY_NS_PER_MS;

	while (open_some(t, NULL, 0) == -EAGAIN) {
		uint64_t now = ferry_now_ns();
		int rc, ms = timeout_ms;

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

/* What a record may hold, in one piece. */
static size_t gather(struct ferry_tls_chan *t, const struct iovec *iov, int n)
{
	size_t have = 0;

	for (int i = 0; i < n && have < sizeof(t->plain); i++) {
		size_t take = iov[i].iov_len;

		if (take > sizeof(t->plain) - have)
			take = sizeof(t->plain) - have;
		memcpy(t->plain + have, iov[i].iov_base, take);
		have += take;
	}
	return have;
}

/* The session's own way: says what it has to say, tells by what it takes how
 * long the peer wants its records, and hands over to us. */
static ssize_t seal_by_session(struct ferry_tls_chan *t,
			       const struct iovec *iov, int n)
{
	size_t bytes = gather(t, iov, n);
	ssize_t rc = gnutls_record_send(t->session, t->plain, bytes);

	if (rc > 0 && bytes == FERRY_RECORD_DATA) {
		int took = ferry_record_take(&t->to, t->session);

		if (took)
			return took;
		t->most_bytes = (size_t)rc;
	}
	return rc ? rc : GNUTLS_E_INTERNAL_ERROR;
}

/* A cipher's keys are good for so many records (RFC 8446, 5.5). */
static int renew_keys(struct ferry_tls_chan *t)
{
	int rc = ferry_record_yield(&t->to, t->session);

	t->most_bytes = 0;
	return rc ? rc : gnutls_session_key_update(t->session, 0);
}

static ssize_t seal_here(struct ferry_tls_chan *t, const struct iovec *iov,
			 int n)
{
	struct ferry_iov_cut cut;
	uint64_t bytes;
	ssize_t rc;

	ferry_iov_cut(&cut, iov, n, t->most_bytes);
	bytes = ferry_iov_bytes(cut.iov, cut.n);
	rc = ferry_record_seal(&t->to, cut.iov, cut.n, bytes,
			       t->out + t->out_bytes);
	if (rc < 0)
		return rc;
	t->out_bytes += (size_t)rc;
	return (ssize_t)bytes;
}

/* One record into `out`.  Octets of iov, or a code of GnuTLS. */
static ssize_t seal_one(struct ferry_tls_chan *t, const struct iovec *iov,
			int n)
{
	if (t->to.cipher && t->to.number >= t->renew_at) {
		int rc = renew_keys(t);

		if (rc)
			return rc;
	}
	return t->to.cipher ? seal_here(t, iov, n) :
			     seal_by_session(t, iov, n);
}

/* Some records into `out`.  Octets or -errno. */
static ssize_t seal(struct ferry_tls_chan *t, struct iovec *iov, int n)
{
	ssize_t all = 0;

	ferry_iov_advance(&iov, &n, 0);
	for (unsigned i = 0; i < FERRY_TLS_BATCH && n; i++) {
		ssize_t rc = seal_one(t, iov, n);

		if (rc < 0)
			return ferry_tls_break(t, (int)rc);
		ferry_iov_advance(&iov, &n, (size_t)rc);
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
		      (uint64_t)FERRY_TLS_BATCH * FERRY_RECORD_DATA);
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
	if (ferry_record_yield(&t->to, t->session) ||
	    gnutls_bye(t->session, GNUTLS_SHUT_WR) || !t->out_bytes ||
	    inner->ops->wait(inner, POLLOUT, 0) != 1)
		return;
	iov = (struct iovec){ t->out, t->out_bytes };
	(void)!inner->ops->writev(inner, &iov, 1);
}

static void end_session(struct ferry_tls_chan *t)
{
	ferry_record_fini(&t->from);
	ferry_record_fini(&t->to);
	if (t->session)
		gnutls_deinit(t->session);
	pthread_mutex_destroy(&t->turn);
	explicit_bzero(t->opened, sizeof(t->opened));
	explicit_bzero(t->plain, sizeof(t->plain));
}

static void tls_close(struct ferry_chan *c)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);

	say_bye(t);
	end_session(t);
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
	end_session(t);
	pthread_cond_destroy(&t->layer.shut_cond);
	pthread_mutex_destroy(&t->layer.lock);
	free(t);
}

static int take_reading(struct ferry_tls_chan *t, struct ferry_err *e)
{
	int rc = ferry_record_take(&t->from, t->session);

	return rc ? ferry_tls_err(e, FERRY_E_UNSUPPORTED, rc, "TLS: records") :
	       0;
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
	t->from.reads = true;
	t->renew_at = FERRY_TLS_RENEW;
	if (ferry_tls_greet(t, tls, host, timeout_ms, cancel, e) ||
	    take_reading(t, e)) {
		unmake(t);
		return NULL;
	}
	return &t->layer.base;
}
