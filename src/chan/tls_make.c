/* SPDX-License-Identifier: MIT */
/*
 * A test CA and certificates, or a PSK, for who wants to try or to test.
 *
 * The CA's key stays in the folder, so that more can be signed with it; it is
 * of no use to a migration, and need not be copied to any host.  Nothing that
 * is there is overwritten, and keys are never readable for others.
 */
#include "chan/tls_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DAY_S		(24l * 3600)
#define EARLY_S		3600		/* clocks differ */
#define SERIAL_BYTES	16
#define PSK_BYTES	32
#define PEM_BYTES	16384

/* What is made of one name. */
struct identity {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

static void identity_fini(struct identity *id)
{
	if (id->crt)
		gnutls_x509_crt_deinit(id->crt);
	if (id->key)
		gnutls_x509_privkey_deinit(id->key);
}

static int write_file(const char *dir, const char *name, mode_t mode,
		      const void *data, size_t bytes, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;
	char path[1200];

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >=
	    (int)sizeof(path))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "the folder's "
				     "name is too long");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	if (write(fd, data, bytes) != (ssize_t)bytes || fsync(fd))
		return ferry_err_set(e, FERRY_E_IO, errno, "%s: write", path);
	return 0;
}

/* ---- certificates ------------------------------------------------------------- */

static int add_host(gnutls_x509_crt_t crt, const char *host)
{
	uint8_t a[16];

	if (inet_pton(AF_INET, host, a) == 1)
		return gnutls_x509_crt_set_subject_alt_name(crt,
			GNUTLS_SAN_IPADDRESS, a, 4, GNUTLS_FSAN_APPEND);
	if (inet_pton(AF_INET6, host, a) == 1)
		return gnutls_x509_crt_set_subject_alt_name(crt,
			GNUTLS_SAN_IPADDRESS, a, 16, GNUTLS_FSAN_APPEND);
	return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME,
			host, (unsigned)strlen(host), GNUTLS_FSAN_APPEND);
}

static int set_name(gnutls_x509_crt_t crt, const char *name)
{
	int rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME,
					       0, name,
					       (unsigned)strlen(name));

	return rc ? rc : gnutls_x509_crt_set_dn_by_oid(crt,
			GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "ferry test",
			10);
}

static int set_life(gnutls_x509_crt_t crt, const struct ferry_tls_making *m)
{
	uint8_t serial[SERIAL_BYTES];
	time_t from = time(NULL) + m->from_s;
	int rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));

	serial[0] &= 0x7f;	/* not negative */
	if (!rc)
		rc = gnutls_x509_crt_set_version(crt, 3);
	if (!rc)
		rc = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
	if (!rc)
		rc = gnutls_x509_crt_set_activation_time(crt, from - EARLY_S);
	return rc ? rc : gnutls_x509_crt_set_expiration_time(crt, from +
			(time_t)(m->days ? m->days : 365) * DAY_S);
}

static int set_use(gnutls_x509_crt_t crt, const char *purpose)
{
	int rc;

	if (!purpose) {
		rc = gnutls_x509_crt_set_basic_constraints(crt, 1, 0);
		return rc ? rc : gnutls_x509_crt_set_key_usage(crt,
				GNUTLS_KEY_KEY_CERT_SIGN |
				GNUTLS_KEY_CRL_SIGN);
	}
	rc = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
	if (!rc)
		rc = gnutls_x509_crt_set_key_usage(crt,
				GNUTLS_KEY_DIGITAL_SIGNATURE |
				GNUTLS_KEY_KEY_ENCIPHERMENT);
	return rc ? rc : gnutls_x509_crt_set_key_purpose_oid(crt, purpose, 0);
}

static int make_key(struct identity *id)
{
	int rc = gnutls_x509_privkey_init(&id->key);

	return rc ? rc : gnutls_x509_privkey_generate(id->key, GNUTLS_PK_ECDSA,
			GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
}

/* purpose NULL: a CA, signed by itself. */
static int make_identity(struct identity *id, const char *name,
			 const char *purpose, const struct identity *ca,
			 const struct ferry_tls_making *m)
{
	int rc = make_key(id);

	if (!rc)
		rc = gnutls_x509_crt_init(&id->crt);
	if (!rc)
		rc = set_life(id->crt, m);
	if (!rc)
		rc = set_name(id->crt, name);
	if (!rc)
		rc = set_use(id->crt, purpose);
	if (!rc)
		rc = gnutls_x509_crt_set_key(id->crt, id->key);
	for (unsigned i = 0; purpose && !rc && i < m->hosts; i++)
		rc = add_host(id->crt, m->host[i]);
	return rc ? rc : gnutls_x509_crt_sign2(id->crt, ca->crt ? ca->crt :
			id->crt, ca->key ? ca->key : id->key,
			GNUTLS_DIG_SHA256, 0);
}

static int save(const struct identity *id, const char *dir, const char *stem,
		struct ferry_err *e)
{
	FERRY_AUTO_FREE char *pem = malloc(PEM_BYTES);
	size_t bytes = PEM_BYTES;
	char name[64];
	int rc;

	if (!pem)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s", stem);
	rc = gnutls_x509_privkey_export_pkcs8(id->key, GNUTLS_X509_FMT_PEM,
					      NULL, GNUTLS_PKCS_PLAIN, pem,
					      &bytes);
	snprintf(name, sizeof(name), "%s-key.pem", stem);
	if (!rc && write_file(dir, name, 0600, pem, bytes, e))
		rc = 1;
	explicit_bzero(pem, PEM_BYTES);
	if (rc)
		return rc > 0 ? -1 : ferry_tls_err(e, FERRY_E_IO, rc, name);
	bytes = PEM_BYTES;
	rc = gnutls_x509_crt_export(id->crt, GNUTLS_X509_FMT_PEM, pem, &bytes);
	snprintf(name, sizeof(name), "%s-cert.pem", stem);
	return rc ? ferry_tls_err(e, FERRY_E_IO, rc, name) :
	       write_file(dir, name, 0644, pem, bytes, e);
}

static int make_certificates(const struct ferry_tls_making *m,
			     struct ferry_err *e)
{
	struct identity ca = { 0 }, server = { 0 }, client = { 0 };
	const char *name = m->hosts ? m->host[0] : "localhost";
	int rc = make_identity(&ca, "ferry test CA", NULL, &ca, m);

	if (!rc)
		rc = make_identity(&server, name, GNUTLS_KP_TLS_WWW_SERVER,
				   &ca, m);
	if (!rc)
		rc = make_identity(&client, name, GNUTLS_KP_TLS_WWW_CLIENT,
				   &ca, m);
	if (rc)
		rc = ferry_tls_err(e, FERRY_E_IO, rc, "certificates");
	else
		rc = save(&ca, m->dir, "ca", e) ||
		     save(&server, m->dir, "server", e) ||
		     save(&client, m->dir, "client", e) ? -1 : 0;
	identity_fini(&ca);
	identity_fini(&server);
	identity_fini(&client);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------ */

static int make_psk(const struct ferry_tls_making *m, struct ferry_err *e)
{
	uint8_t key[PSK_BYTES];
	char line[FERRY_TLS_NAME_MAX + 2 * PSK_BYTES + 3];
	size_t at;
	int rc;

	if (!*m->psk_user || strlen(m->psk_user) > FERRY_TLS_NAME_MAX ||
	    strpbrk(m->psk_user, ":#\r\n"))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "'%.80s' is no "
				     "user's name for keys.psk", m->psk_user);
	rc = gnutls_rnd(GNUTLS_RND_KEY, key, sizeof(key));
	if (rc)
		return ferry_tls_err(e, FERRY_E_IO, rc, "keys.psk");
	at = (size_t)snprintf(line, sizeof(line), "%s:", m->psk_user);
	for (size_t i = 0; i < sizeof(key); i++)
		at += (size_t)snprintf(line + at, sizeof(line) - at, "%02x",
				       key[i]);
	line[at++] = '\n';
	rc = write_file(m->dir, "keys.psk", 0600, line, at, e);
	explicit_bzero(key, sizeof(key));
	explicit_bzero(line, sizeof(line));
	return rc;
}

static int refuse_to_overwrite(const struct ferry_tls_making *m,
			       struct ferry_err *e)
{
	static const char *const names[] = {
		"ca-cert.pem", "ca-key.pem", "server-cert.pem",
		"server-key.pem", "client-cert.pem", "client-key.pem",
	};

	if (m->psk_user)
		return !ferry_tls_has(m->dir, "keys.psk") ? 0 :
		       ferry_err_set(e, FERRY_E_STATE, 0, "%s/keys.psk is "
				     "there already", m->dir);
	for (size_t i = 0; i < FERRY_LEN(names); i++)
		if (ferry_tls_has(m->dir, names[i]))
			return ferry_err_set(e, FERRY_E_STATE, 0, "%s/%s is "
					     "there already", m->dir,
					     names[i]);
	return 0;
}

int ferry_tls_make(const struct ferry_tls_making *m, struct ferry_err *e)
{
	if (mkdir(m->dir, 0700) && errno != EEXIST)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", m->dir);
	if (refuse_to_overwrite(m, e))
		return -1;
	return m->psk_user ? make_psk(m, e) : make_certificates(m, e);
}
