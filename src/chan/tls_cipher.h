/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: a cipher with its key, for records (tls_record.h).
 *
 * GnuTLS has all of them.  Where the processor has VAES and AVX-512, and the
 * machine Intel's IPsec-MB (libipsec-mb1), AES-GCM is that library's, which is
 * four times faster there; GnuTLS 3.7 and OpenSSL 3.0 know nothing of VAES.  It
 * is looked for each time, with dlopen(): who has it not, needs it not.
 *
 * Threads: the caller's; one at a time for each cipher.
 */
#ifndef FERRY_CHAN_TLS_CIPHER_H
#define FERRY_CHAN_TLS_CIPHER_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define FERRY_CIPHER_NONCE	12u
#define FERRY_CIPHER_TAG	16u

struct ferry_cipher;

/* What a record begins with, and is sealed with. */
struct ferry_cipher_head {
	const uint8_t	*nonce;		/* of FERRY_CIPHER_NONCE */
	const uint8_t	*plain;		/* octets that are not encrypted */
	size_t		 plain_bytes;
};

/* All return 0 or a code of GnuTLS. */
struct ferry_cipher_ops {
	const char *maker;
	/* iov, encrypted, and behind it its tag; out has room. */
	int (*seal)(struct ferry_cipher *c, const struct ferry_cipher_head *h,
		    const struct iovec *iov, int n, uint8_t *out);
	/* in: bytes, and their tag.  To out, which holds what nobody should
	 * look at when it fails. */
	int (*open)(struct ferry_cipher *c, const struct ferry_cipher_head *h,
		    const uint8_t *in, size_t bytes, uint8_t *out);
	void (*free)(struct ferry_cipher *c);
};

/* The head of each one's struct. */
struct ferry_cipher {
	const struct ferry_cipher_ops *ops;
};

struct ferry_cipher *ferry_cipher_new(gnutls_cipher_algorithm_t algorithm,
				      const gnutls_datum_t *key);
void ferry_cipher_free(struct ferry_cipher *c);		/* NULL is allowed */

/* GnuTLS' own, whatever else there is; for tests. */
struct ferry_cipher *ferry_cipher_new_gnutls(gnutls_cipher_algorithm_t a,
					     const gnutls_datum_t *key);

/* NULL: not here, not this processor, not this algorithm (tls_mb.c). */
struct ferry_cipher *ferry_cipher_new_mb(gnutls_cipher_algorithm_t algorithm,
					 const gnutls_datum_t *key);

#endif
