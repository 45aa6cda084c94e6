/* SPDX-License-Identifier: MIT */
/*
 * Records.
 *
 *   0      1         3        5                          octets, big-endian
 *   | 23   | 3   3   | length | sealed: data, kind, zeroes ... | tag (16) |
 *
 * What is sealed with it is the header; the nonce is the direction's iv, its
 * last 8 octets xored with the record's number.  That is so for all three
 * ciphers that we agree to (tls_creds.c).
 */
#include "chan/tls_record.h"

#include <assert.h>
#include <string.h>

#include "base/cleanup.h"

#define NUMBER_BYTES	8u

static void number_encode(uint8_t out[NUMBER_BYTES], uint64_t number)
{
	for (unsigned i = 0; i < NUMBER_BYTES; i++)
		out[i] = (uint8_t)(number >> (56 - 8 * i));
}

static uint64_t number_decode(const uint8_t in[NUMBER_BYTES])
{
	uint64_t number = 0;

	for (unsigned i = 0; i < NUMBER_BYTES; i++)
		number = number << 8 | in[i];
	return number;
}

int ferry_record_take(struct ferry_record_way *w, gnutls_session_t session)
{
	gnutls_datum_t mac, iv, key;
	uint8_t number[NUMBER_BYTES];
	int rc;

	if (w->cipher)
		return 0;
	rc = gnutls_record_get_state(session, w->reads, &mac, &iv, &key,
				     number);
	if (rc)
		return rc;
	if (iv.size != sizeof(w->iv))
		return GNUTLS_E_INTERNAL_ERROR;
	w->cipher = ferry_cipher_new(gnutls_cipher_get(session), &key);
	if (!w->cipher)
		return GNUTLS_E_MEMORY_ERROR;
	memcpy(w->iv, iv.data, sizeof(w->iv));
	w->number = number_decode(number);
	return 0;
}

int ferry_record_yield(struct ferry_record_way *w, gnutls_session_t session)
{
	uint8_t number[NUMBER_BYTES];

	if (!w->cipher)
		return 0;
	number_encode(number, w->number);
	ferry_record_fini(w);
	return gnutls_record_set_state(session, w->reads, number);
}

void ferry_record_fini(struct ferry_record_way *w)
{
	ferry_cipher_free(w->cipher);
	w->cipher = NULL;
	explicit_bzero(w->iv, sizeof(w->iv));
}

size_t ferry_record_bytes(const uint8_t *p, size_t have)
{
	size_t bytes;

	if (have < FERRY_RECORD_HEAD)
		return 0;
	bytes = FERRY_RECORD_HEAD + ((size_t)p[3] << 8) + p[4];
	return p[0] < FERRY_RECORD_CIPHER_CHANGE || p[1] != 3 ||
	       p[0] > FERRY_RECORD_APPLICATION || bytes > FERRY_RECORD_MAX ?
	       SIZE_MAX : bytes;
}

static void make_nonce(const struct ferry_record_way *w,
		       uint8_t nonce[FERRY_RECORD_IV])
{
	uint8_t number[NUMBER_BYTES];

	number_encode(number, w->number);
	memcpy(nonce, w->iv, FERRY_RECORD_IV);
	for (unsigned i = 0; i < NUMBER_BYTES; i++)
		nonce[FERRY_RECORD_IV - NUMBER_BYTES + i] ^= number[i];
}

ssize_t ferry_record_seal(struct ferry_record_way *w, const struct iovec *iov,
			  int n, size_t bytes, uint8_t *out)
{
	uint8_t nonce[FERRY_RECORD_IV], kind = FERRY_RECORD_APPLICATION;
	size_t body = bytes + 1 + FERRY_RECORD_TAG;
	struct ferry_cipher_head head = { nonce, out, FERRY_RECORD_HEAD };
	struct iovec piece[FERRY_RECORD_IOVS + 1];
	int rc;

	assert(n > 0 && n <= FERRY_RECORD_IOVS && bytes > 0 &&
	       bytes <= FERRY_RECORD_DATA && w->number < UINT64_MAX);
	memcpy(piece, iov, (size_t)n * sizeof(*iov));
	piece[n] = (struct iovec){ &kind, 1 };
	memcpy(out, (const uint8_t[]){ kind, 3, 3, (uint8_t)(body >> 8),
				       (uint8_t)body }, FERRY_RECORD_HEAD);
	make_nonce(w, nonce);
	rc = w->cipher->ops->seal(w->cipher, &head, piece, n + 1,
				  out + FERRY_RECORD_HEAD);
	if (rc)
		return rc;
	w->number++;
	return (ssize_t)(FERRY_RECORD_HEAD + body);
}

ssize_t ferry_record_open(struct ferry_record_way *w, const uint8_t *record,
			  size_t record_bytes, uint8_t *data, uint8_t *kind)
{
	uint8_t nonce[FERRY_RECORD_IV];
	struct ferry_cipher_head head = { nonce, record, FERRY_RECORD_HEAD };
	size_t bytes;
	int rc;

	if (record[0] != FERRY_RECORD_APPLICATION) {
		*kind = record[0];
		return 0;
	}
	if (record_bytes < FERRY_RECORD_HEAD + 1 + FERRY_RECORD_TAG)
		return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
	bytes = record_bytes - FERRY_RECORD_HEAD - FERRY_RECORD_TAG;
	make_nonce(w, nonce);
	rc = w->cipher->ops->open(w->cipher, &head, record + FERRY_RECORD_HEAD,
				  bytes, data);
	if (rc)
		return rc;
	while (bytes && !data[bytes - 1])
		bytes--;
	if (!bytes)
		return GNUTLS_E_UNEXPECTED_PACKET;
	*kind = data[--bytes];
	if (*kind != FERRY_RECORD_APPLICATION)
		return 0;
	if (bytes > FERRY_RECORD_DATA)
		return GNUTLS_E_RECORD_OVERFLOW;
	w->number++;
	return (ssize_t)bytes;
}
