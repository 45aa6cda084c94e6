/* SPDX-License-Identifier: MIT */
/*
 * The proof is a MAC over what the header says and a key of the connection's
 * own, so that it is of no use on another connection: neither to one who
 * recorded it, nor to one who stands in between with credentials of its own.
 */
#include "mig/bond.h"

#include <string.h>

#include "base/cursor.h"

#define SESSION_LABEL	"EXPERIMENTAL-ferry-session"
#define CHANNEL_LABEL	"EXPERIMENTAL-ferry-channel"
#define SIGNED_WIRE	(2 + 2 + FERRY_SESSION_BYTES + FERRY_TLS_KEY_BYTES)

static int export(struct ferry_chan *chan, const char *label,
		  const void *context, size_t bytes,
		  uint8_t key[FERRY_TLS_KEY_BYTES], struct ferry_err *e)
{
	int rc = chan->ops->export_key(chan, label, context, bytes, key,
				       FERRY_TLS_KEY_BYTES);

	return rc ? ferry_chan_err(chan, "key of the connection", rc, e) : 0;
}

int ferry_bond_make(struct ferry_bond *b, struct ferry_chan *main,
		    const uint8_t session[FERRY_SESSION_BYTES],
		    struct ferry_err *e)
{
	return export(main, SESSION_LABEL, session, FERRY_SESSION_BYTES,
		      b->key, e);
}

static int mac_of(const struct ferry_bond *b, struct ferry_chan *chan,
		  const struct ferry_channel_head *head,
		  uint8_t mac[FERRY_TLS_KEY_BYTES], struct ferry_err *e)
{
	uint8_t octets[SIGNED_WIRE], own[FERRY_TLS_KEY_BYTES];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	if (export(chan, CHANNEL_LABEL, "", 0, own, e))
		return -1;
	ferry_wr_be16(&w, head->type);
	ferry_wr_be16(&w, head->index);
	ferry_wr_bytes(&w, head->session, sizeof(head->session));
	ferry_wr_bytes(&w, own, sizeof(own));
	return ferry_tls_mac(b->key, octets, sizeof(octets), mac, e);
}

int ferry_bond_sign(const struct ferry_bond *b, struct ferry_chan *chan,
		    struct ferry_channel_head *head, struct ferry_err *e)
{
	return mac_of(b, chan, head, head->mac, e);
}

int ferry_bond_check(const struct ferry_bond *b, struct ferry_chan *chan,
		     const struct ferry_channel_head *head,
		     struct ferry_err *e)
{
	uint8_t mac[FERRY_TLS_KEY_BYTES];

	if (!(head->features & FERRY_FEATURE_BOUND))
		return ferry_err_set(e, FERRY_E_PERM, 0, "%s channel %u is not "
				     "bound to its session, as those of TLS "
				     "are",
				     ferry_channel_type_name(head->type),
				     head->index);
	if (mac_of(b, chan, head, mac, e))
		return -1;
	if (ferry_mac_same(mac, head->mac))
		return 0;
	return ferry_err_set(e, FERRY_E_PERM, 0, "%s channel %u was not opened "
			     "by who opened the session's main",
			     ferry_channel_type_name(head->type), head->index);
}

/* Who names one that is to be at the other end means TLS. */
static int check_alone(const struct ferry_tls_wish *wish, struct ferry_err *e)
{
	const char *name = wish->server ? "tls-authz" : "tls-hostname";

	if (!*(wish->server ? wish->authz : wish->hostname))
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s is set and tls-creds "
			     "is not: nobody would be asked who they are, and "
			     "nothing encrypted", name);
}

int ferry_bond_credentials(const struct ferry_params *p, bool server,
			   struct ferry_tls **tls, struct ferry_err *e)
{
	struct ferry_tls_wish wish = {
		.creds = ferry_param_text(p, FERRY_P_TLS_CREDS),
		.hostname = ferry_param_text(p, FERRY_P_TLS_HOSTNAME),
		.authz = ferry_param_text(p, FERRY_P_TLS_AUTHZ),
		.server = server,
	};

	*tls = NULL;
	if (!*wish.creds)
		return check_alone(&wish, e);
	*tls = ferry_tls_load(&wish, e);
	return *tls ? 0 : -1;
}
