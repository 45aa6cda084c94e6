/* SPDX-License-Identifier: MIT */
/*
 * In place of tls*.c where there is no GnuTLS to link: the static ferry.  It
 * refuses, in a sentence, whatever TLS is asked of it.
 */
#include "chan/tls.h"

static int refuse(struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "this build of ferry "
			     "is static and has no TLS");
}

struct ferry_tls *ferry_tls_load(const struct ferry_tls_wish *wish,
				 struct ferry_err *e)
{
	(void)wish;
	refuse(e);
	return NULL;
}

void ferry_tls_free(struct ferry_tls *tls)
{
	(void)tls;
}

int ferry_tls_check_host(const struct ferry_tls *tls, const char *host,
			 struct ferry_err *e)
{
	(void)tls, (void)host;
	return refuse(e);
}

struct ferry_chan *ferry_chan_tls(struct ferry_chan *inner,
				  const struct ferry_tls *tls,
				  const char *host, uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e)
{
	(void)inner, (void)tls, (void)host, (void)timeout_ms, (void)cancel;
	refuse(e);
	return NULL;
}

int ferry_tls_mac(const uint8_t key[FERRY_TLS_KEY_BYTES], const void *data,
		  size_t bytes, uint8_t mac[FERRY_TLS_KEY_BYTES],
		  struct ferry_err *e)
{
	(void)key, (void)data, (void)bytes, (void)mac;
	return refuse(e);
}

int ferry_tls_make(const struct ferry_tls_making *making,
		   struct ferry_err *e)
{
	(void)making;
	return refuse(e);
}
