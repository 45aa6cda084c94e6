/* SPDX-License-Identifier: MIT */
/*
 * Credentials: what a folder holds, and which ciphers go with it.
 *
 * TLS 1.3 only: no renegotiation, no compression, exporters that are bound to
 * the handshake; every QEMU with GnuTLS 3.6.5 (2018) or later speaks it.
 * AES-GCM comes first and, at a target, wins over what the source would like
 * better: a PSK is tied to SHA-256, which rules AES-256-GCM out, and the next
 * in GnuTLS' own order is ChaCha20, several times slower where the CPU has AES.
 */
#include "chan/tls_priv.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define CIPHERS "SECURE128:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:" \
		"+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:" \
		"%SERVER_PRECEDENCE"

int ferry_tls_err(struct ferry_err *e, int code, int rc, const char *what)
{
	return ferry_err_set(e, code, 0, "%s: %s", what, gnutls_strerror(rc));
}

int ferry_tls_mac(const uint8_t key[FERRY_TLS_KEY_BYTES], const void *data,
		  size_t bytes, uint8_t mac[FERRY_TLS_KEY_BYTES],
		  struct ferry_err *e)
{
	int rc = gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, FERRY_TLS_KEY_BYTES,
				  data, bytes, mac);

	return rc ? ferry_tls_err(e, FERRY_E_IO, rc, "HMAC") : 0;
}

/* ---- PSK -------------------------------------------------------------------- */

/* A server is asked for a user's key in each handshake. */
static int on_user(gnutls_session_t session, const char *user,
		   gnutls_datum_t *key)
{
	const struct ferry_tls *tls = gnutls_session_get_ptr(session);
	char found[FERRY_TLS_NAME_MAX + 1];
	gnutls_datum_t hex;

	if (ferry_tls_find_user(tls->users, user, found, &hex, NULL) ||
	    gnutls_hex_decode2(&hex, key))
		return -1;
	return 0;
}

static int load_psk_server(struct ferry_tls *tls, gnutls_datum_t *keys,
			   struct ferry_err *e)
{
	int rc = gnutls_psk_allocate_server_credentials(&tls->psk_server);
	gnutls_datum_t hex;
	char user[FERRY_TLS_NAME_MAX + 1];
	struct ferry_err err = { 0 };

	if (rc)
		return ferry_tls_err(e, FERRY_E_NOMEM, rc, "keys.psk");
	/* A line that is none is told now, not to who comes. */
	if (ferry_tls_find_user((char *)keys->data, "", user, &hex, &err) &&
	    err.code == FERRY_E_INVALID) {
		if (e)
			*e = err;
		return -1;
	}
	if (!ferry_tls_has_user((char *)keys->data))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "keys.psk has no "
				     "user: nobody could come in");
	gnutls_psk_set_server_credentials_function(tls->psk_server, on_user);
	tls->users = (char *)keys->data;
	tls->users_bytes = keys->size;
	*keys = (gnutls_datum_t){ 0 };
	return 0;
}

static int load_psk_client(struct ferry_tls *tls, const gnutls_datum_t *keys,
			   struct ferry_err *e)
{
	char user[FERRY_TLS_NAME_MAX + 1];
	gnutls_datum_t hex;
	int rc;

	if (ferry_tls_find_user((char *)keys->data, NULL, user, &hex, e))
		return -1;
	rc = gnutls_psk_allocate_client_credentials(&tls->psk_client);
	if (!rc)
		rc = gnutls_psk_set_client_credentials(tls->psk_client, user,
						       &hex,
						       GNUTLS_PSK_KEY_HEX);
	return rc ? ferry_tls_err(e, FERRY_E_INVALID, rc, "keys.psk") : 0;
}

static int load_psk(struct ferry_tls *tls, const char *dir,
		    struct ferry_err *e)
{
	gnutls_datum_t keys;
	int rc;

	if (ferry_tls_read(dir, "keys.psk", FERRY_TLS_SECRET, &keys, e))
		return -1;
	rc = tls->server ? load_psk_server(tls, &keys, e) :
			   load_psk_client(tls, &keys, e);
	ferry_tls_wipe(&keys);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------ */

/* "psk:DIR", "x509:DIR", or by what is there: certificates, if both are. */
static const char *kind_of(struct ferry_tls *tls, const char *creds)
{
	if (!strncmp(creds, "psk:", 4)) {
		tls->psk = true;
		return creds + 4;
	}
	if (!strncmp(creds, "x509:", 5))
		return creds + 5;
	tls->psk = ferry_tls_has(creds, "keys.psk") &&
		   !ferry_tls_has_own(tls, creds);
	return creds;
}

static int copy(char *to, size_t bytes, const char *text, const char *what,
		struct ferry_err *e)
{
	if ((size_t)snprintf(to, bytes, "%s", text ? text : "") < bytes)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s is too long", what);
}

static int set_priority(struct ferry_tls *tls, struct ferry_err *e)
{
	int rc = gnutls_priority_init(&tls->priority, tls->psk ?
				      CIPHERS ":-KX-ALL:+ECDHE-PSK:+DHE-PSK" :
				      CIPHERS, NULL);

	return rc ? ferry_tls_err(e, FERRY_E_UNSUPPORTED, rc, "TLS 1.3") : 0;
}

struct ferry_tls *ferry_tls_load(const struct ferry_tls_wish *wish,
				 struct ferry_err *e)
{
	struct ferry_tls *tls = calloc(1, sizeof(*tls));
	const char *dir;

	if (!tls) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "tls-creds");
		return NULL;
	}
	tls->server = wish->server;
	dir = kind_of(tls, wish->creds);
	if (copy(tls->hostname, sizeof(tls->hostname), wish->hostname,
		 "tls-hostname", e) ||
	    copy(tls->authz, sizeof(tls->authz), wish->authz, "tls-authz",
		 e) ||
	    set_priority(tls, e) ||
	    (tls->psk ? load_psk(tls, dir, e) : ferry_tls_load_x509(tls, dir, e))) {
		ferry_tls_free(tls);
		ferry_err_wrap(e, "tls-creds");
		return NULL;
	}
	return tls;
}

void ferry_tls_free(struct ferry_tls *tls)
{
	if (!tls)
		return;
	if (tls->x509)
		gnutls_certificate_free_credentials(tls->x509);
	if (tls->psk_client)
		gnutls_psk_free_client_credentials(tls->psk_client);
	if (tls->psk_server)
		gnutls_psk_free_server_credentials(tls->psk_server);
	if (tls->priority)
		gnutls_priority_deinit(tls->priority);
	if (tls->users)
		explicit_bzero(tls->users, tls->users_bytes);
	free(tls->users);
	free(tls);
}
