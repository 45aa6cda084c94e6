/* SPDX-License-Identifier: MIT */
/*
 * The cipher of GnuTLS, and the choice.
 */
#include "chan/tls_cipher.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "chan/tls_record.h"

struct library_cipher {
	struct ferry_cipher base;
	gnutls_aead_cipher_hd_t aead;
};

static int library_seal(struct ferry_cipher *c,
			const struct ferry_cipher_head *h,
			const struct iovec *iov, int n, uint8_t *out)
{
	struct library_cipher *l = (struct library_cipher *)c;
	giovec_t plain = { (void *)(uintptr_t)h->plain, h->plain_bytes };
	size_t bytes = FERRY_RECORD_INNER + FERRY_CIPHER_TAG;

	return gnutls_aead_cipher_encryptv(l->aead, h->nonce,
					   FERRY_CIPHER_NONCE, &plain, 1,
					   FERRY_CIPHER_TAG, iov, n, out,
					   &bytes);
}

static int library_open(struct ferry_cipher *c,
			const struct ferry_cipher_head *h, const uint8_t *in,
			size_t bytes, uint8_t *out)
{
	struct library_cipher *l = (struct library_cipher *)c;
	size_t got = bytes;

	return gnutls_aead_cipher_decrypt(l->aead, h->nonce,
					  FERRY_CIPHER_NONCE, h->plain,
					  h->plain_bytes, FERRY_CIPHER_TAG, in,
					  bytes + FERRY_CIPHER_TAG, out, &got);
}

static void library_free(struct ferry_cipher *c)
{
	struct library_cipher *l = (struct library_cipher *)c;

	gnutls_aead_cipher_deinit(l->aead);
	free(l);
}

static const struct ferry_cipher_ops library_ops = {
	.maker = "GnuTLS",
	.seal = library_seal,
	.open = library_open,
	.free = library_free,
};

struct ferry_cipher *ferry_cipher_new_gnutls(gnutls_cipher_algorithm_t a,
					     const gnutls_datum_t *key)
{
	struct library_cipher *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->base.ops = &library_ops;
	if (!gnutls_aead_cipher_init(&l->aead, a, key))
		return &l->base;
	free(l);
	return NULL;
}

struct ferry_cipher *ferry_cipher_new(gnutls_cipher_algorithm_t algorithm,
				      const gnutls_datum_t *key)
{
	struct ferry_cipher *c = ferry_cipher_new_mb(algorithm, key);

	return c ? c : ferry_cipher_new_gnutls(algorithm, key);
}

void ferry_cipher_free(struct ferry_cipher *c)
{
	if (c)
		c->ops->free(c);
}
