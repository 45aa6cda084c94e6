/* SPDX-License-Identifier: MIT */
/*
 * XBZRLE both ways: the input as a payload, and as changes to a page that must
 * survive encoding.
 */
#include "fuzz.h"

#include "wire/xbzrle.h"

static void old_page(uint8_t page[FERRY_PAGE_BYTES])
{
	for (unsigned i = 0; i < FERRY_PAGE_BYTES; i++)
		page[i] = (uint8_t)(i * 7 + i / 256);
}

/* A run of octets laid over the page, where the two before it say. */
static void changed_page(uint8_t page[FERRY_PAGE_BYTES], const uint8_t *data,
			 size_t bytes)
{
	for (size_t i = 0; i + 3 <= bytes; i += 3) {
		size_t at = (size_t)(data[i] << 8 | data[i + 1]);

		page[at % FERRY_PAGE_BYTES] = data[i + 2];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t old[FERRY_PAGE_BYTES], now[FERRY_PAGE_BYTES];
	static uint8_t out[FERRY_PAGE_BYTES], to[2 * FERRY_PAGE_BYTES];
	int n, rc;

	old_page(old);
	rc = ferry_xbzrle_decode(data, bytes, old, out);
	FUZZ_CHECK(rc == 0 || rc == -EBADMSG);

	if (rc)
		memcpy(now, old, sizeof(now));
	else
		memcpy(now, out, sizeof(now));
	changed_page(now, data, bytes);
	n = ferry_xbzrle_encode(old, now, to, sizeof(to));
	FUZZ_CHECK(n >= 0 && (!n == !memcmp(old, now, sizeof(now))));
	if (n) {
		FUZZ_CHECK(!ferry_xbzrle_decode(to, (size_t)n, old, out));
		FUZZ_CHECK(!memcmp(out, now, sizeof(now)));
		FUZZ_CHECK(ferry_xbzrle_encode(old, now, to, (size_t)n - 1) ==
			   -ENOSPC);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const size_t changes[][3] = {
		{ 0, 1, 2 }, { 4093, 4094, 4095 }, { 5, 200, 3000 },
	};
	uint8_t old[FERRY_PAGE_BYTES], now[FERRY_PAGE_BYTES];
	uint8_t to[2 * FERRY_PAGE_BYTES];
	int n;

	old_page(old);
	for (size_t i = 0; i < FERRY_LEN(changes); i++) {
		memcpy(now, old, sizeof(now));
		for (size_t k = 0; k < 3; k++)
			now[changes[i][k]] ^= 0x55;
		n = ferry_xbzrle_encode(old, now, to, sizeof(to));
		emit(to, (size_t)n);
	}
	memset(now, 0, sizeof(now));
	n = ferry_xbzrle_encode(old, now, to, sizeof(to));
	emit(to, (size_t)n);
}
