/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: a TLS session between two buffers.
 *
 * GnuTLS sees memory only: what it writes is appended to `out`, what it reads
 * is taken from `in`, and neither ever waits.  Octets move between the buffers
 * and the channel below without the session's lock.  So one thread may read
 * while another writes, as chan.h promises, although key updates and alerts
 * let either direction touch the other's state (GnuTLS alone promises that
 * only without them); and several records share a system call.
 *
 * Records of data are opened and sealed here (tls_record.h), from `in` to where
 * the caller wants them, and from where the caller has them to `out`.  The
 * session has what is left: the handshake, new keys, alerts.  It writes until a
 * whole record of its own has told how long they may be, and again when it has
 * heard something that it may have to answer.
 *
 * Threads: `turn` guards the session, `to`, `most_bytes` and the length of
 *          `out`.  The writer alone takes octets out of `out`; `in`, `opened`
 *          and `from` are the reader's, whose calls alone make the session
 *          pull.
 */
#ifndef FERRY_CHAN_TLS_CHAN_H
#define FERRY_CHAN_TLS_CHAN_H

#include <gnutls/gnutls.h>

#include "chan/layer.h"
#include "chan/tls_priv.h"
#include "chan/tls_record.h"

#define FERRY_TLS_BATCH		8u	/* records to a system call */
#define FERRY_TLS_IN_BYTES	(FERRY_TLS_BATCH * FERRY_RECORD_MAX)
/* A handshake's flight, or key updates and alerts in between. */
#define FERRY_TLS_OUT_BYTES	(FERRY_TLS_IN_BYTES + 65536u)
/* Far below what any of the ciphers is good for (2^24.5 records). */
#define FERRY_TLS_RENEW		(UINT64_C(1) << 23)

struct ferry_tls_chan {
	struct ferry_layer layer;
	gnutls_session_t session;
	pthread_mutex_t	 turn;

	size_t		 in_at, in_end;
	size_t		 pull_end;	/* the session's record; 0: all */
	bool		 ended;		/* end of stream */
	size_t		 out_bytes;

	struct ferry_record_way from, to;
	size_t		 most_bytes;	/* of a record that is written */
	uint64_t	 renew_at;	/* number of a record: new keys */
	size_t		 opened_at, opened_end;

	_Atomic int	 broken;	/* -errno of the first failure */
	char		 why[96];

	uint8_t		 in[FERRY_TLS_IN_BYTES];
	uint8_t		 out[FERRY_TLS_OUT_BYTES];
	uint8_t		 opened[FERRY_RECORD_BODY];
	uint8_t		 plain[FERRY_RECORD_DATA];	/* for the session */
};

static inline struct ferry_tls_chan *ferry_tls_of(struct ferry_chan *c)
{
	return (struct ferry_tls_chan *)c;
}

/* Reader: what is below, one read.  Octets, 0 at the end, or -errno. */
ssize_t ferry_tls_fill(struct ferry_tls_chan *t);

/* Writer: all that waits in `out`.  0 or -errno. */
int ferry_tls_drain(struct ferry_tls_chan *t);

/* The session failed with this code of GnuTLS: nothing more comes or goes.
 * -errno. */
int ferry_tls_break(struct ferry_tls_chan *t, int rc);

/* The session's transport, for gnutls_transport_set_*(). */
void ferry_tls_attach(struct ferry_tls_chan *t);

/* ---- tls_greet.c -------------------------------------------------------- */

FERRY_CHECKED int ferry_tls_greet(struct ferry_tls_chan *t,
				  const struct ferry_tls *tls,
				  const char *host, uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e);

#endif
