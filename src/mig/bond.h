/* SPDX-License-Identifier: MIT */
/*
 * What binds the connections of a session to its main one, with TLS
 * (docs/wire.md, 3.5): whoever opens another, or comes back, proves that it was
 * an end of the first main, and of this very connection.  Valid credentials
 * and the session id alone are not enough.
 *
 * Threads: made once, by who opens or lets in main; read by who opens or lets
 *          in the others, behind it.
 */
#ifndef FERRY_MIG_BOND_H
#define FERRY_MIG_BOND_H

#include "chan/tls.h"
#include "mig/params.h"
#include "wire/channel.h"

struct ferry_bond {
	uint8_t	key[FERRY_TLS_KEY_BYTES];
};

/* Between the two ends of this main. */
FERRY_CHECKED int ferry_bond_make(struct ferry_bond *b,
				  struct ferry_chan *main,
				  const uint8_t session[FERRY_SESSION_BYTES],
				  struct ferry_err *e);

/* Put the proof into the header that opens chan. */
FERRY_CHECKED int ferry_bond_sign(const struct ferry_bond *b,
				  struct ferry_chan *chan,
				  struct ferry_channel_head *head,
				  struct ferry_err *e);

/* Is it there, and good? */
FERRY_CHECKED int ferry_bond_check(const struct ferry_bond *b,
				   struct ferry_chan *chan,
				   const struct ferry_channel_head *head,
				   struct ferry_err *e);

/* Credentials, as the parameters say; *tls is NULL where they name none. */
FERRY_CHECKED int ferry_bond_credentials(const struct ferry_params *p,
					 bool server, struct ferry_tls **tls,
					 struct ferry_err *e);

#endif
