/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: credentials as the handshake uses them.  Constant once
 * they are loaded; GnuTLS allows any number of sessions at a time to share
 * them.
 */
#ifndef FERRY_CHAN_TLS_PRIV_H
#define FERRY_CHAN_TLS_PRIV_H

#include <gnutls/gnutls.h>

#include "chan/tls.h"

#define FERRY_TLS_NAME_MAX	255	/* host and user names */
#define FERRY_TLS_AUTHZ_MAX	1023

struct ferry_tls {
	bool		 server;
	bool		 psk;
	gnutls_priority_t priority;
	gnutls_certificate_credentials_t x509;		/* or NULL */
	gnutls_psk_client_credentials_t psk_client;	/* or NULL */
	gnutls_psk_server_credentials_t psk_server;	/* or NULL */
	char		*users;		/* keys.psk, of a server */
	size_t		 users_bytes;
	char		 hostname[FERRY_TLS_NAME_MAX + 1];
	char		 authz[FERRY_TLS_AUTHZ_MAX + 1];
};

/* What GnuTLS said, as an error. */
int ferry_tls_err(struct ferry_err *e, int code, int rc, const char *what);

/* ---- tls_files.c -------------------------------------------------------- */

/*
 * DIR/name into memory, with a NUL behind it; *data is NULL when there is no
 * such file and it need not be.  Secret: nobody but its owner may read it.
 */
enum ferry_tls_file { FERRY_TLS_PUBLIC = 0, FERRY_TLS_SECRET = 1,
		      FERRY_TLS_OPTIONAL = 2 };

FERRY_CHECKED int ferry_tls_read(const char *dir, const char *name,
				 unsigned flags, gnutls_datum_t *data,
				 struct ferry_err *e);
void ferry_tls_wipe(gnutls_datum_t *data);
bool ferry_tls_has(const char *dir, const char *name);

/* One line of keys.psk, "user:hex".  user NULL: the client's own.  The key is
 * left in hex, inside text. */
FERRY_CHECKED int ferry_tls_find_user(const char *text, const char *user,
				      char found[FERRY_TLS_NAME_MAX + 1],
				      gnutls_datum_t *hex,
				      struct ferry_err *e);
bool ferry_tls_has_user(const char *text);

/* ---- tls_x509.c --------------------------------------------------------- */

/* The certificates of DIR, by their names (docs/TLS.md); tls->server is set. */
FERRY_CHECKED int ferry_tls_load_x509(struct ferry_tls *tls, const char *dir,
				      struct ferry_err *e);

/* Is there a certificate for this end in DIR? */
bool ferry_tls_has_own(const struct ferry_tls *tls, const char *dir);

/* ---- tls_authz.c -------------------------------------------------------- */

/* May who proved to be this come?  rules: separated by ';' (docs/TLS.md). */
bool ferry_tls_may(const char *rules, const char *subject);

/* Who is at the other end, and may it?  A server, behind the handshake. */
FERRY_CHECKED int ferry_tls_admit(const struct ferry_tls *tls,
				  gnutls_session_t session,
				  struct ferry_err *e);

#endif
