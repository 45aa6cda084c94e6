/* SPDX-License-Identifier: MIT */
/*
 * Certificates of a credentials folder: whom we trust, and who we are.
 *
 * GnuTLS takes a certificate with its key in one call, and its words for what
 * is wrong are those of the layer that found it.  So when it refuses them each
 * file is looked at by itself, to tell which one it is, and what it lacks.
 */
#include "chan/tls_priv.h"

#include <gnutls/x509.h>

#include "base/cleanup.h"

static const struct {
	const char *ca, *cert, *key;
} names[] = {
	{ "ca-cert.pem", "client-cert.pem", "client-key.pem" },
	{ "ca-cert.pem", "server-cert.pem", "server-key.pem" },
};

bool ferry_tls_has_own(const struct ferry_tls *tls, const char *dir)
{
	return ferry_tls_has(dir, names[tls->server].cert);
}

/* What the call that read it returned, as far as it concerns the file. */
static int refuse(struct ferry_err *e, const char *dir, const char *name,
		  const char *what, int rc)
{
	if (!rc || rc == GNUTLS_E_BASE64_DECODING_ERROR ||
	    rc == GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR ||
	    rc == GNUTLS_E_NO_CERTIFICATE_FOUND ||
	    rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s/%s holds no "
				     "%s that is whole and in PEM form", dir,
				     name, what);
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s/%s: %s", dir, name,
			     gnutls_strerror(rc));
}

static int load_trust(struct ferry_tls *tls, const char *dir, const char *name,
		      struct ferry_err *e)
{
	gnutls_datum_t ca, crl;
	int rc;

	if (ferry_tls_read(dir, name, FERRY_TLS_PUBLIC, &ca, e))
		return -1;
	rc = gnutls_certificate_set_x509_trust_mem(tls->x509, &ca,
						   GNUTLS_X509_FMT_PEM);
	ferry_tls_wipe(&ca);
	if (rc <= 0)
		return refuse(e, dir, name, "certificate", rc);
	if (ferry_tls_read(dir, "ca-crl.pem", FERRY_TLS_OPTIONAL, &crl, e))
		return -1;
	rc = crl.data ? gnutls_certificate_set_x509_crl_mem(tls->x509, &crl,
						GNUTLS_X509_FMT_PEM) : 1;
	ferry_tls_wipe(&crl);
	return rc > 0 ? 0 : refuse(e, dir, "ca-crl.pem", "list of revoked "
				   "certificates", rc);
}

static int try_cert(const gnutls_datum_t *cert)
{
	gnutls_x509_crt_t *list = NULL;
	unsigned n = 0;
	int rc = gnutls_x509_crt_list_import2(&list, &n, cert,
					      GNUTLS_X509_FMT_PEM, 0);

	for (unsigned i = 0; rc >= 0 && i < n; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
	return rc < 0 ? rc : 0;
}

static int try_key(const gnutls_datum_t *key)
{
	gnutls_x509_privkey_t k;
	int rc = gnutls_x509_privkey_init(&k);

	if (rc)
		return rc;
	rc = gnutls_x509_privkey_import2(k, key, GNUTLS_X509_FMT_PEM, NULL, 0);
	gnutls_x509_privkey_deinit(k);
	return rc;
}

/* Which of them it was; rc: what is wrong if it is neither by itself. */
static int blame(const struct ferry_tls *tls, const char *dir,
		 const gnutls_datum_t *cert, const gnutls_datum_t *key, int rc,
		 struct ferry_err *e)
{
	int wrong = try_cert(cert);

	if (wrong)
		return refuse(e, dir, names[tls->server].cert, "certificate",
			      wrong);
	wrong = try_key(key);
	if (wrong)
		return refuse(e, dir, names[tls->server].key, "private key",
			      wrong);
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s/%s with %s: %s", dir,
			     names[tls->server].cert, names[tls->server].key,
			     gnutls_strerror(rc));
}

static int load_own(struct ferry_tls *tls, const char *dir,
		    struct ferry_err *e)
{
	gnutls_datum_t cert, key = { 0 };
	int rc;

	if (ferry_tls_read(dir, names[tls->server].cert, FERRY_TLS_PUBLIC,
			   &cert, e))
		return -1;
	rc = ferry_tls_read(dir, names[tls->server].key, FERRY_TLS_SECRET,
			    &key, e);
	if (!rc) {
		rc = gnutls_certificate_set_x509_key_mem2(tls->x509, &cert,
						&key, GNUTLS_X509_FMT_PEM,
						NULL, 0);
		if (rc < 0)
			(void)blame(tls, dir, &cert, &key, rc, e);
	}
	ferry_tls_wipe(&cert);
	ferry_tls_wipe(&key);
	return rc < 0 ? -1 : 0;
}

int ferry_tls_load_x509(struct ferry_tls *tls, const char *dir,
			struct ferry_err *e)
{
	int rc = gnutls_certificate_allocate_credentials(&tls->x509);

	if (rc)
		return ferry_tls_err(e, FERRY_E_NOMEM, rc, "certificates");
	return load_trust(tls, dir, names[tls->server].ca, e) ||
	       load_own(tls, dir, e) ? -1 : 0;
}
