/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 on a channel (docs/TLS.md).
 *
 * Credentials are a folder with QEMU's file names.  They are loaded once for
 * each end of a migration, before anybody is dialled or let in, and serve all
 * its connections, also those after a lost link; who renews the files has them
 * with the next migration.
 *
 * Threads: credentials: made and freed by one, used by any.
 * A build without TLS (tls_none.c) has the same functions, which refuse.
 */
#ifndef FERRY_CHAN_TLS_H
#define FERRY_CHAN_TLS_H

#include <stdbool.h>

#include "chan/chan.h"

#define FERRY_TLS_KEY_BYTES	32u	/* exported keys, and MACs */

/* What is wanted: parameters, in the user's words. */
struct ferry_tls_wish {
	const char *creds;	/* DIR, x509:DIR or psk:DIR */
	const char *hostname;	/* "": the one that is dialled */
	const char *authz;	/* "": who has valid credentials may come */
	bool	    server;	/* is dialled */
};

struct ferry_tls;

struct ferry_tls *ferry_tls_load(const struct ferry_tls_wish *wish,
				 struct ferry_err *e);
void ferry_tls_free(struct ferry_tls *tls);	/* NULL is allowed */

/* Can who is dialled by this name ("": it has none) prove to be that one? */
FERRY_CHECKED int ferry_tls_check_host(const struct ferry_tls *tls,
				       const char *host, struct ferry_err *e);

/*
 * Handshake on inner, at most timeout_ms in all (0: as long as it takes), ended
 * within 50 ms of *cancel becoming true (may be NULL).  host: who was dialled,
 * "" where that has no name.  inner's timeouts are the caller's to set, behind
 * it.  NULL on failure (inner is then still the caller's).
 */
struct ferry_chan *ferry_chan_tls(struct ferry_chan *inner,
				  const struct ferry_tls *tls,
				  const char *host, uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e);

/* HMAC-SHA256.  0 or -1. */
FERRY_CHECKED int ferry_tls_mac(const uint8_t key[FERRY_TLS_KEY_BYTES],
				const void *data, size_t bytes,
				uint8_t mac[FERRY_TLS_KEY_BYTES],
				struct ferry_err *e);

/* A test CA, and what either end of a migration needs, into a folder that has
 * none of it yet.  hosts: further names and addresses of the machine. */
struct ferry_tls_making {
	const char *dir;
	const char *const *host;
	unsigned    hosts;
	const char *psk_user;	/* NULL: certificates; else keys.psk alone */
	int64_t	    from_s;	/* valid from now + so much */
	int64_t	    days;	/* for so long; 0: a year */
};

FERRY_CHECKED int ferry_tls_make(const struct ferry_tls_making *making,
				 struct ferry_err *e);

#endif
