/* SPDX-License-Identifier: MIT */
/*
 * Credentials of TLS: a folder, which the parameter tls-creds names (see
 * docs/TLS.md).  Each migration loads it anew when it is started, and keeps
 * what it has loaded until it ends.
 */
#ifndef FERRY_CREDENTIALS_H
#define FERRY_CREDENTIALS_H

#include <stdint.h>

#include <ferry/err.h>
#include <ferry/sized.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is to be made; borrowed for the call. */
struct ferry_credentials {
	uint32_t size;
	uint32_t days;			/* valid for so long; 0: 365 */
	const char *dir;
	const char *const *host;	/* names and addresses of the hosts */
	uint32_t hosts;
	uint32_t reserved;
	const char *psk_user;		/* not NULL: keys.psk, and nothing
					 * else */
};

#define FERRY_CREDENTIALS_INIT FERRY_SIZED(ferry_credentials)

/*
 * A test CA (with its key) and a certificate for a target and for a source, or
 * a pre-shared key for both, in dir, which is made if it is not there.  Keys
 * have mode 0600.  Fails, and overwrites nothing, if some of it is there.
 */
int ferry_credentials_make(const struct ferry_credentials *c,
			   struct ferry_err *e);

#ifdef __cplusplus
}
#endif
#endif
