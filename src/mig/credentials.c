/* SPDX-License-Identifier: MIT */
/*
 * The public face of chan/tls_make.c.
 */
#include <ferry/credentials.h>

#include <string.h>

#include "chan/tls.h"

int ferry_credentials_make(const struct ferry_credentials *c,
			   struct ferry_err *e)
{
	struct ferry_credentials all = { 0 };
	struct ferry_tls_making m;

	memcpy(&all, c, c->size < sizeof(all) ? c->size : sizeof(all));
	if (!all.dir)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "credentials: no "
				     "folder");
	m = (struct ferry_tls_making){
		.dir = all.dir, .host = all.host, .hosts = all.hosts,
		.psk_user = all.psk_user, .days = all.days,
	};
	return ferry_tls_make(&m, e);
}
