/* SPDX-License-Identifier: MIT */
/*
 * The handshake: who is there, and is it who it should be.
 *
 * It has a time limit as a whole, so that one who sends an octet now and then
 * holds nobody up; how much may come is GnuTLS' to bound (128 KiB a message).
 * Whoever is refused is told why by an alert, and given a moment to read it:
 * to close with octets of the peer's unread would take the alert back.
 */
#include "chan/tls_chan.h"

#include <gnutls/x509.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define SLICE_MS	50
#define FAREWELL_MS	300

struct greeting {
	struct ferry_tls_chan *t;
	const struct ferry_tls *tls;
	const char	*host;		/* to be proved; a client's */
	const _Atomic bool *cancel;
	uint64_t	 until_ns;
	uint8_t		 first[4];	/* octets of the peer's */
	size_t		 heard;
};

/* ---- what went wrong, in a sentence ------------------------------------------- */

static const struct { unsigned bit; const char *text; } faults[] = {
	{ GNUTLS_CERT_REVOKED, "has been revoked (ca-crl.pem)" },
	{ GNUTLS_CERT_EXPIRED, "has expired" },
	{ GNUTLS_CERT_NOT_ACTIVATED, "is not valid yet" },
	{ GNUTLS_CERT_SIGNER_NOT_FOUND, "was not signed by the CA in "
	  "ca-cert.pem" },
	{ GNUTLS_CERT_SIGNATURE_FAILURE, "was not signed by the CA in "
	  "ca-cert.pem" },
	{ GNUTLS_CERT_SIGNER_NOT_CA, "was signed by one who is no CA" },
	{ GNUTLS_CERT_PURPOSE_MISMATCH, "was made for another purpose" },
	{ GNUTLS_CERT_INSECURE_ALGORITHM, "has a signature that is not "
	  "secure any more" },
	{ GNUTLS_CERT_UNEXPECTED_OWNER, "is for another host" },
	{ GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, "cannot be judged: ca-crl.pem "
	  "is out of date" },
};

static int bad_certificate(const struct greeting *g, struct ferry_err *e)
{
	unsigned status = gnutls_session_get_verify_cert_status(g->t->session);
	const char *text = "is not trusted";

	for (size_t i = 0; i < FERRY_LEN(faults); i++) {
		if (!(status & faults[i].bit))
			continue;
		text = faults[i].text;
		break;
	}
	if (status & GNUTLS_CERT_UNEXPECTED_OWNER && g->host && *g->host)
		return ferry_err_set(e, FERRY_E_PERM, 0, "the peer's "
				     "certificate %s than '%.100s'", text,
				     g->host);
	return ferry_err_set(e, FERRY_E_PERM, 0, "the peer's certificate %s",
			     text);
}

static bool speaks_tls(const struct greeting *g)
{
	return !g->heard || g->first[0] == 0x16 || g->first[0] == 0x15;
}

static int tell(const struct greeting *g, int rc, struct ferry_err *e)
{
	if (!speaks_tls(g))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "the peer does not "
				     "speak TLS: it begins with %02x %02x "
				     "%02x %02x", g->first[0], g->first[1],
				     g->first[2], g->first[3]);
	switch (rc) {
	case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
		return bad_certificate(g, e);
	case GNUTLS_E_CERTIFICATE_REQUIRED:
	case GNUTLS_E_NO_CERTIFICATE_FOUND:
		return ferry_err_set(e, FERRY_E_PERM, 0, "the peer has shown "
				     "no certificate");
	case GNUTLS_E_PREMATURE_TERMINATION:
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "the peer closed "
				     "the connection%s", g->heard ? "" :
				     " (does it speak TLS?)");
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		return ferry_err_set(e, FERRY_E_PERM, 0, "the peer refused: "
				     "%s", gnutls_alert_get_name(
				     gnutls_alert_get(g->t->session)));
	case GNUTLS_E_DECRYPTION_FAILED:
	case GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER:
		if (g->tls->psk)
			return ferry_err_set(e, FERRY_E_PERM, 0, "the peer "
					     "has another key than keys.psk "
					     "says");
		break;
	}
	return ferry_tls_err(e, FERRY_E_PERM, rc, "handshake");
}

/* ---- octets, within the time ------------------------------------------------------ */

static int out_of_time(const struct greeting *g, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "the peer did not finish "
			     "the handshake in time%s", g->heard ? "" :
			     " (does it speak TLS?)");
}

static int slice_ms(const struct greeting *g)
{
	uint64_t now = ferry_now_ns(), ms;

	if (now >= g->until_ns)
		return 0;
	ms = (g->until_ns - now) / FERRY_NS_PER_MS + 1;
	return ms < SLICE_MS ? (int)ms : SLICE_MS;
}

static int await(const struct greeting *g, short events, struct ferry_err *e)
{
	struct ferry_chan *inner = g->t->layer.inner;

	for (;;) {
		int ms = slice_ms(g), rc;

		if (g->cancel && atomic_load(g->cancel))
			return ferry_err_set(e, FERRY_E_CANCELLED, 0,
					     "cancelled");
		rc = inner->ops->wait(inner, events, ms);
		if (rc > 0)
			return 0;
		if (rc < 0)
			return ferry_chan_err(inner, "wait", rc, e);
		if (!ms)
			return out_of_time(g, e);
	}
}

static int say(struct greeting *g, struct ferry_err *e)
{
	int rc;

	if (!g->t->out_bytes)
		return 0;
	if (await(g, POLLOUT, e))
		return -1;
	rc = ferry_tls_drain(g->t);
	return rc ? ferry_chan_err(g->t->layer.inner, "write", rc, e) : 0;
}

static int hear(struct greeting *g, struct ferry_err *e)
{
	struct ferry_tls_chan *t = g->t;
	ssize_t got;

	if (await(g, POLLIN, e))
		return -1;
	got = ferry_tls_fill(t);
	if (got < 0)
		return ferry_chan_err(t->layer.inner, "read", got, e);
	for (ssize_t i = 0; i < got && g->heard < sizeof(g->first); i++)
		g->first[g->heard++] = t->in[i];
	return 0;
}

/* ---- the handshake ------------------------------------------------------------------ */

static int set_credentials(struct greeting *g)
{
	const struct ferry_tls *tls = g->tls;
	gnutls_session_t s = g->t->session;

	if (tls->x509)
		return gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE,
					      tls->x509);
	return gnutls_credentials_set(s, GNUTLS_CRD_PSK, tls->server ?
				      (void *)tls->psk_server :
				      (void *)tls->psk_client);
}

/* Certificates are for one purpose each, and a server's for its name. */
static void demand_proof(struct greeting *g, gnutls_typed_vdata_st data[2])
{
	const char *purpose = g->tls->server ? GNUTLS_KP_TLS_WWW_CLIENT :
					       GNUTLS_KP_TLS_WWW_SERVER;
	unsigned n = 0;

	if (g->tls->psk)
		return;
	data[n++] = (gnutls_typed_vdata_st){
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)(uintptr_t)purpose,
	};
	if (!g->tls->server)
		data[n++] = (gnutls_typed_vdata_st){
			.type = GNUTLS_DT_DNS_HOSTNAME,
			.data = (unsigned char *)(uintptr_t)g->host,
		};
	gnutls_session_set_verify_cert2(g->t->session, data, n, 0);
	if (g->tls->server)
		gnutls_certificate_server_set_request(g->t->session,
						      GNUTLS_CERT_REQUIRE);
}

static int begin(struct greeting *g, struct ferry_err *e)
{
	struct ferry_tls_chan *t = g->t;
	int rc = gnutls_init(&t->session, (g->tls->server ? GNUTLS_SERVER :
					   GNUTLS_CLIENT) |
			     GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
			     GNUTLS_NO_SIGNAL);

	if (rc)
		return ferry_tls_err(e, FERRY_E_NOMEM, rc, "session");
	rc = gnutls_priority_set(t->session, g->tls->priority);
	if (!rc)
		rc = set_credentials(g);
	if (rc)
		return ferry_tls_err(e, FERRY_E_UNSUPPORTED, rc, "session");
	/* keys.psk is looked up by it. */
	gnutls_session_set_ptr(t->session, (void *)(uintptr_t)g->tls);
	gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT);
	ferry_tls_attach(t);
	return 0;
}

/* Both buffers are looked after between its steps. */
static int shake(struct greeting *g, int *fault, struct ferry_err *e)
{
	int rc;

	do {
		rc = gnutls_handshake(g->t->session);
		if (rc && gnutls_error_is_fatal(rc)) {
			*fault = rc;
			return tell(g, rc, e);
		}
		if (say(g, e) || (rc == GNUTLS_E_AGAIN && hear(g, e)))
			return -1;
		if (!speaks_tls(g))
			return tell(g, GNUTLS_E_UNEXPECTED_PACKET, e);
	} while (rc);
	return ferry_tls_admit(g->tls, g->t->session, e);
}

/* rc: what GnuTLS found; 0: it was ours to find. */
static void farewell(struct greeting *g, int rc, int code)
{
	struct ferry_tls_chan *t = g->t;
	struct ferry_err ignored;

	if (!t->session || !speaks_tls(g) || code == FERRY_E_CLOSED ||
	    code == FERRY_E_CANCELLED)
		return;
	g->until_ns = ferry_now_ns() + FAREWELL_MS * FERRY_NS_PER_MS;
	if (!rc || gnutls_alert_send_appropriate(t->session, rc) < 0)
		gnutls_alert_send(t->session, GNUTLS_AL_FATAL,
				  GNUTLS_A_ACCESS_DENIED);
	if (say(g, &ignored))
		return;
	while (!await(g, POLLIN, &ignored) && ferry_now_ns() < g->until_ns) {
		t->in_at = t->in_end = 0;
		if (ferry_tls_fill(t) <= 0)
			return;
	}
}

int ferry_tls_check_host(const struct ferry_tls *tls, const char *host,
			 struct ferry_err *e)
{
	if (*tls->hostname || *host || tls->server || tls->psk)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "who is dialled has no "
			     "name that a certificate could show: set "
			     "tls-hostname");
}

/* Who a server has to prove to be. */
static int choose_host(struct greeting *g, const char *dialled,
		       struct ferry_err *e)
{
	g->host = *g->tls->hostname ? g->tls->hostname : dialled;
	return ferry_tls_check_host(g->tls, dialled, e);
}

int ferry_tls_greet(struct ferry_tls_chan *t, const struct ferry_tls *tls,
		    const char *host, uint32_t timeout_ms,
		    const _Atomic bool *cancel, struct ferry_err *e)
{
	struct ferry_chan *inner = t->layer.inner;
	gnutls_typed_vdata_st proof[2];
	struct greeting g = {
		.t = t, .tls = tls, .cancel = cancel,
		.until_ns = timeout_ms ? ferry_now_ns() + timeout_ms *
			    FERRY_NS_PER_MS : UINT64_MAX,
	};
	struct ferry_err why = { 0 };
	int fault = 0;

	inner->ops->set_timeout(inner, timeout_ms, timeout_ms);
	if (choose_host(&g, host, &why) || begin(&g, &why))
		goto failed;
	demand_proof(&g, proof);
	if (!shake(&g, &fault, &why))
		return 0;
	farewell(&g, fault, why.code);
failed:
	if (e)
		*e = why;
	return ferry_err_wrap(e, "TLS");
}
