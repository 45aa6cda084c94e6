/* SPDX-License-Identifier: MIT */
/*
 * The half of a VM that a rescue reads, from a file.  Digests find damage, so
 * each record of the input gets the right one first: what is behind them is to
 * be reached.
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "park/half.h"

#define SEED_MAX	16384

static void put_digests(uint8_t *data, size_t bytes)
{
	size_t at = FERRY_HALF_START_WIRE;

	while (bytes > at && bytes - at >= FERRY_HALF_RECORD_WIRE) {
		struct ferry_rd r = ferry_rd_over(data + at + 4, 4);
		size_t n = FERRY_HALF_RECORD_WIRE + (size_t)ferry_rd_be32(&r);
		struct ferry_wr w;

		if (n > bytes - at ||
		    bytes - at - n < FERRY_HALF_DIGEST_WIRE)
			return;
		w = ferry_wr_over(data + at + n, FERRY_HALF_DIGEST_WIRE);
		ferry_wr_be64(&w, ferry_half_digest(data + at, n));
		at += n + FERRY_HALF_DIGEST_WIRE;
	}
}

static void check_record(const struct ferry_half_file *h,
			 const struct ferry_half_record *r)
{
	uint64_t pages;

	if (r->type == FERRY_HALF_STATE || r->type == FERRY_HALF_END)
		return;
	FUZZ_CHECK(r->place.block < h->vm.blocks);
	pages = h->vm.block[r->place.block].bytes / FERRY_PAGE_BYTES;
	if (r->type != FERRY_HALF_HAS) {
		FUZZ_CHECK(r->n && r->n <= (r->type == FERRY_HALF_PAGES ?
					    FERRY_HALF_PAGES_MAX :
					    FERRY_HALF_SUMS_MAX) &&
			   r->place.first < pages &&
			   r->n <= pages - r->place.first);
		return;
	}
	for (uint64_t i = 0; i < r->n; i++) {
		struct ferry_half_run run = ferry_half_run_at(r, i);

		FUZZ_CHECK(run.pages && run.first < pages &&
			   run.pages <= pages - run.first);
	}
}

static void read_all(const char *path)
{
	struct ferry_half_record r = { 0 };
	struct ferry_half_file h;
	struct ferry_err e = { 0 };
	int rc = ferry_half_open(&h, path, &e);

	if (rc) {
		FUZZ_CHECK(e.code && e.msg[0]);
		return;
	}
	while (!rc && r.type != FERRY_HALF_END) {
		rc = ferry_half_next(&h, &r, &e);
		if (!rc)
			check_record(&h, &r);
	}
	FUZZ_CHECK(!rc || (e.code && strstr(e.msg, path)));
	ferry_half_close(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	FERRY_AUTO_FREE uint8_t *copy = malloc(bytes ? bytes : 1);
	int fd = memfd_create("half", MFD_CLOEXEC);
	char path[64];

	FUZZ_CHECK(copy && fd >= 0);
	memcpy(copy, data, bytes);
	put_digests(copy, bytes);
	FUZZ_CHECK(pwrite(fd, copy, bytes, 0) == (ssize_t)bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_all(path);
	close(fd);
	return 0;
}

static void record(struct ferry_wr *w, enum ferry_half_type type,
		   const struct ferry_wr *payload)
{
	ferry_half_record_encode(w, type, (uint32_t)ferry_wr_used(payload));
	ferry_wr_bytes(w, payload->start, ferry_wr_used(payload));
	ferry_wr_be64(w, 0);
}

static void head(struct ferry_wr *w, struct ferry_wr p)
{
	struct ferry_half_head is = {
		.side = FERRY_HALF_TARGET, .made_s = 1, .session = { 7 },
	};
	struct ferry_hello vm = { .name = "db" };

	FUZZ_CHECK(!ferry_hello_add_block(&vm, "ram", 4 * FERRY_PAGE_BYTES,
					  FERRY_PAGE_BYTES, 0, NULL) &&
		   !ferry_hello_add_fact(&vm, "cpu", 1, "same", 4, NULL));
	ferry_half_head_encode(&p, &is);
	ferry_hello_encode(&p, &vm);
	record(w, FERRY_HALF_HEAD, &p);
	ferry_hello_fini(&vm);
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const uint8_t page[FERRY_PAGE_BYTES] = { 1 };
	const struct ferry_half_place at = { 0, 1 }, runs = { 0, 0 };
	const struct ferry_half_run run = { 0, 3 };
	const struct ferry_half_end end = { 3, 1 };
	uint8_t seed[SEED_MAX], part[8192];
	struct ferry_wr w = ferry_wr_over(seed, sizeof(seed)), p;

	ferry_half_start_encode(&w);
	head(&w, ferry_wr_over(part, sizeof(part)));
	p = ferry_wr_over(part, sizeof(part));
	ferry_half_place_encode(&p, &runs);
	ferry_half_run_encode(&p, &run);
	record(&w, FERRY_HALF_HAS, &p);
	p = ferry_wr_over(part, sizeof(part));
	ferry_half_place_encode(&p, &runs);
	for (unsigned i = 0; i < run.pages; i++)
		ferry_wr_be32(&p, i);
	record(&w, FERRY_HALF_SUMS, &p);
	p = ferry_wr_over(part, sizeof(part));
	ferry_wr_bytes(&p, "state", 5);
	record(&w, FERRY_HALF_STATE, &p);
	p = ferry_wr_over(part, sizeof(part));
	ferry_half_place_encode(&p, &at);
	ferry_wr_bytes(&p, page, sizeof(page));
	record(&w, FERRY_HALF_PAGES, &p);
	p = ferry_wr_over(part, sizeof(part));
	ferry_half_end_encode(&p, &end);
	record(&w, FERRY_HALF_END, &p);
	FUZZ_CHECK(!w.bad);
	put_digests(seed, ferry_wr_used(&w));
	emit(seed, ferry_wr_used(&w));
}
