/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: TLS 1.3 records (RFC 8446, 5.2), sealed and opened with
 * the keys of a session of GnuTLS.
 *
 * GnuTLS makes the handshake, and whatever else is no data.  Data it would copy
 * four times on its way in; so a direction is *taken* from it (its keys and
 * the number of its next record), as for a device that does records, and
 * *yielded* for as long as the session has to say or to hear something itself.
 * A number is used once: who has the direction counts, and hands on the count.
 *
 * Threads: the caller's; one at a time for each direction.
 */
#ifndef FERRY_CHAN_TLS_RECORD_H
#define FERRY_CHAN_TLS_RECORD_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "chan/tls_cipher.h"

#define FERRY_RECORD_HEAD	5u
#define FERRY_RECORD_TAG	FERRY_CIPHER_TAG
#define FERRY_RECORD_DATA	16384u	/* what a record holds */
#define FERRY_RECORD_INNER	(FERRY_RECORD_DATA + 1u)	/* and its kind */
#define FERRY_RECORD_BODY	(FERRY_RECORD_DATA + 256u)
#define FERRY_RECORD_MAX	(FERRY_RECORD_HEAD + FERRY_RECORD_BODY)
#define FERRY_RECORD_IV		FERRY_CIPHER_NONCE

enum ferry_record_kind {
	FERRY_RECORD_CIPHER_CHANGE = 20,	/* the first kind */
	FERRY_RECORD_APPLICATION = 23,		/* and the last */
};

/* One direction. */
struct ferry_record_way {
	bool		 reads;
	struct ferry_cipher *cipher;	/* NULL: it is the session's */
	uint8_t		 iv[FERRY_RECORD_IV];
	uint64_t	 number;	/* of the next record */
};

/* 0 or a code of GnuTLS.  Nothing to do is 0. */
int ferry_record_take(struct ferry_record_way *w, gnutls_session_t session);
int ferry_record_yield(struct ferry_record_way *w, gnutls_session_t session);

/* Forget the keys; the session goes, too. */
void ferry_record_fini(struct ferry_record_way *w);

/* Octets of the record that p begins with, header included; 0: more must be
 * there to tell; SIZE_MAX: it is none. */
size_t ferry_record_bytes(const uint8_t *p, size_t have);

/*
 * iov, of `bytes` octets (1 to FERRY_RECORD_DATA) in at most FERRY_RECORD_IOVS
 * pieces, as a record to `out`, which has room for FERRY_RECORD_MAX.  Octets,
 * or a code of GnuTLS.
 */
#define FERRY_RECORD_IOVS	64
ssize_t ferry_record_seal(struct ferry_record_way *w, const struct iovec *iov,
			  int n, size_t bytes, uint8_t *out);

/*
 * A whole record to `data`, which has room for all but its header and tag.
 * *kind: application data or not; what is not was not counted, and must be
 * given to the session as it is.  Octets, or a code of GnuTLS.
 */
ssize_t ferry_record_open(struct ferry_record_way *w, const uint8_t *record,
			  size_t record_bytes, uint8_t *data, uint8_t *kind);

#endif
