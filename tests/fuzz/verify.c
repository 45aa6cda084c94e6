/* SPDX-License-Identifier: MIT */
/* VERIFY: sums of pages, against a block of 100. */
#include "fuzz.h"

#include "wire/verify.h"

#define BLOCK_PAGES	100u

static void again(const struct ferry_verify *v, const uint8_t *data,
		  size_t bytes)
{
	static uint32_t sum[FERRY_VERIFY_PAGES_MAX];
	static uint8_t buf[UINT16_MAX + FERRY_COMMAND_HEAD_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_verify walk = *v;
	uint32_t n = 0;

	while (ferry_verify_next(&walk, &sum[n]))
		FUZZ_CHECK(++n < FERRY_VERIFY_PAGES_MAX || !walk.left.bad);
	FUZZ_CHECK(n == v->pages && n);
	ferry_verify_encode(&w, v->name, v->first, sum, n);
	FUZZ_CHECK(!w.bad && ferry_wr_used(&w) ==
		   ferry_verify_bytes(v->name, n) &&
		   ferry_wr_used(&w) == FERRY_COMMAND_HEAD_WIRE + bytes &&
		   !memcmp(buf + FERRY_COMMAND_HEAD_WIRE, data, bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_verify v = { 0 };
	struct ferry_err e = { 0 };

	if (bytes > UINT16_MAX || ferry_verify_decode(&r, &v, &e))
		return 0;
	FUZZ_CHECK(v.pages && v.pages <= FERRY_VERIFY_PAGES_MAX);
	if (!ferry_verify_check_in(&v, BLOCK_PAGES, &e))
		FUZZ_CHECK(v.first < BLOCK_PAGES &&
			   v.pages <= BLOCK_PAGES - v.first);
	again(&v, data, bytes);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const struct { uint64_t first; uint32_t pages; } seeds[] = {
		{ 0, 1 }, { 99, 1 }, { 0, 100 }, { 50, 51 },
		{ UINT64_MAX, 2 },
	};
	static const uint32_t sum[100] = { 1, 2, 3 };
	uint8_t buf[4096];

	for (size_t i = 0; i < FERRY_LEN(seeds); i++) {
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

		ferry_verify_encode(&w, "pc.ram", seeds[i].first, sum,
				    seeds[i].pages);
		emit(buf + FERRY_COMMAND_HEAD_WIRE,
		     ferry_wr_used(&w) - FERRY_COMMAND_HEAD_WIRE);
	}
}
