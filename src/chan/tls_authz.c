/* SPDX-License-Identifier: MIT */
/*
 * Who may come, of those whose credentials are valid.
 *
 * A rule with a '=' in it is compared with the whole subject of a certificate
 * (RFC 4514, as `certtool -i` shows it), one without with its common name, or
 * with the user of a PSK.  '*' stands for any octets.
 */
#include "chan/tls_priv.h"

#include <gnutls/x509.h>
#include <string.h>

/* rule has an end of its own. */
static bool matches(const char *rule, const char *end, const char *text)
{
	const char *star = NULL, *mark = NULL;

	while (*text) {
		if (rule < end && *rule == '*') {
			star = ++rule;
			mark = text;
		} else if (rule < end && *rule == *text) {
			rule++;
			text++;
		} else if (star) {
			rule = star;
			text = ++mark;
		} else {
			return false;
		}
	}
	while (rule < end && *rule == '*')
		rule++;
	return rule == end;
}

/* Of one kind: those of whole subjects, or the others. */
static bool any(const char *rules, bool whole, const char *text)
{
	while (*rules) {
		size_t len = strcspn(rules, ";");
		bool is_whole = memchr(rules, '=', len) != NULL;

		if (len && is_whole == whole &&
		    matches(rules, rules + len, text))
			return true;
		rules += len + (rules[len] == ';');
	}
	return false;
}

bool ferry_tls_may(const char *rules, const char *subject)
{
	return any(rules, strchr(subject, '=') != NULL, subject);
}

static int refuse(const char *who, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PERM, 0, "tls-authz does not let "
			     "'%.120s' in", who);
}

static int admit_user(const struct ferry_tls *tls, gnutls_session_t session,
		      struct ferry_err *e)
{
	const char *user = gnutls_psk_server_get_username(session);

	if (user && any(tls->authz, false, user))
		return 0;
	return refuse(user ? user : "", e);
}

static int read_subject(gnutls_session_t session, char *dn, size_t dn_bytes,
			char *cn, size_t cn_bytes)
{
	unsigned n = 0;
	const gnutls_datum_t *der =
		gnutls_certificate_get_peers(session, &n);
	gnutls_x509_crt_t crt;
	int rc;

	if (!n || gnutls_x509_crt_init(&crt))
		return -1;
	rc = gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER);
	if (!rc)
		rc = gnutls_x509_crt_get_dn(crt, dn, &dn_bytes);
	if (!rc && gnutls_x509_crt_get_dn_by_oid(crt,
			GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &cn_bytes))
		*cn = '\0';
	gnutls_x509_crt_deinit(crt);
	return rc;
}

int ferry_tls_admit(const struct ferry_tls *tls, gnutls_session_t session,
		    struct ferry_err *e)
{
	char dn[1024] = "", cn[256] = "";

	if (!tls->server || !*tls->authz)
		return 0;
	if (tls->psk)
		return admit_user(tls, session, e);
	if (read_subject(session, dn, sizeof(dn), cn, sizeof(cn)))
		return ferry_err_set(e, FERRY_E_PERM, 0, "tls-authz: the "
				     "peer's certificate has no subject that "
				     "can be read");
	return any(tls->authz, true, dn) ||
	       (*cn && any(tls->authz, false, cn)) ? 0 : refuse(dn, e);
}
