/* SPDX-License-Identifier: MIT */
/*
 * The image of a parked VM, from a file.  Hashes find damage, so what the input
 * says lies where gets the right ones first: what is behind them is to be
 * reached.
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "park/hash.h"
#include "park/image.h"
#include "wire/dialect.h"

#define SEED_MAX	(128u << 10)
#define CHUNKS_MAX	64u	/* of one input are read */
#define PIECES_AT	56u	/* in the head: table, state, index */

static void put_hash(uint8_t *data, size_t bytes, size_t at)
{
	struct ferry_rd r = ferry_rd_over(data + at, 16);
	uint64_t offset = ferry_rd_be64(&r), n = ferry_rd_be64(&r);
	struct ferry_wr w = ferry_wr_over(data + at + 16, 8);

	if (offset <= bytes && n <= bytes - offset)
		ferry_wr_be64(&w, ferry_hash(data + offset, n));
}

static void put_chunk_hashes(uint8_t *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data + PIECES_AT, 16);
	uint64_t at = ferry_rd_be64(&r), n = ferry_rd_be64(&r);

	if (at > bytes || n > bytes - at)
		return;
	for (; n >= FERRY_CHUNK_WIRE; n -= FERRY_CHUNK_WIRE) {
		struct ferry_chunk c;
		struct ferry_wr w = ferry_wr_over(data + at + 12, 8);

		if (!ferry_chunk_decode(data + at, bytes, &c) &&
		    c.stored_bytes)
			ferry_wr_be64(&w, ferry_hash(data + c.offset,
						     c.stored_bytes));
		at += FERRY_CHUNK_WIRE;
	}
}

static void put_hashes(uint8_t *data, size_t bytes)
{
	const size_t hashed = FERRY_IMAGE_HEAD_BYTES - 8;
	struct ferry_wr w;

	if (bytes < FERRY_IMAGE_HEAD_BYTES)
		return;
	w = ferry_wr_over(data + 24, 8);
	ferry_wr_be64(&w, bytes);
	put_chunk_hashes(data, bytes);
	for (unsigned i = 0; i < 3; i++)
		put_hash(data, bytes, PIECES_AT + 24 * i);
	w = ferry_wr_over(data + hashed, 8);
	ferry_wr_be64(&w, ferry_hash(data, hashed));
}

static void read_memory(const struct ferry_image *img)
{
	struct ferry_image_cache cache;
	struct ferry_err e = { 0 };

	FUZZ_CHECK(!ferry_image_cache_init(&cache, &e));
	for (uint64_t i = 0; i < img->chunks && i < CHUNKS_MAX; i++) {
		struct ferry_chunk_place at = ferry_chunk_find(&img->index, i);

		FUZZ_CHECK(at.block < img->index.vm.blocks && at.pages &&
			   (at.page + at.pages) * FERRY_PAGE_BYTES <=
			   img->index.vm.block[at.block].bytes);
		if (!ferry_image_is_zero(img, i))
			(void)ferry_image_chunk(img, &cache, i, &e);
	}
	ferry_image_cache_fini(&cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	FERRY_AUTO_FREE uint8_t *copy = malloc(bytes + 1);
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct ferry_err e = { 0 };
	struct ferry_image img;
	char path[64];

	FUZZ_CHECK(copy && fd >= 0);
	if (bytes)
		memcpy(copy, data, bytes);
	ferry_hash_prepare();
	put_hashes(copy, bytes);
	FUZZ_CHECK(write(fd, copy, bytes) == (ssize_t)bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (ferry_image_open(&img, path, &e)) {
		FUZZ_CHECK(e.code && e.msg[0]);
	} else {
		FUZZ_CHECK(ferry_image_peer(&img)[0]);
		read_memory(&img);
		ferry_image_close(&img);
	}
	close(fd);
	return 0;
}

/* A chunk behind the head; returns its length. */
static uint32_t put_chunk(uint8_t *at, bool packed)
{
	FERRY_AUTO_FREE uint8_t *chunk = malloc(FERRY_CHUNK_BYTES);
	size_t n = FERRY_CHUNK_BYTES;

	FUZZ_CHECK(chunk);
	for (size_t i = 0; i < FERRY_CHUNK_BYTES; i++)
		chunk[i] = (uint8_t)(i >> 7);
	if (packed)
		n = ZSTD_compress(at, n, chunk, n, 3);
	else
		memcpy(at, chunk, n);
	FUZZ_CHECK(!ZSTD_isError(n));
	return (uint32_t)n;
}

/* | head | one chunk, stored | table of two chunks | state | index | */
static void one(uint8_t *seed, uint8_t dialect, bool uuid,
		void (*emit)(const void *data, size_t bytes))
{
	uint32_t stored = put_chunk(seed + FERRY_IMAGE_HEAD_BYTES, uuid);
	struct ferry_wr w = ferry_wr_over(seed, SEED_MAX);
	struct ferry_image_head h = {
		.flags = uuid ? FERRY_IMAGE_ZSTD : 0, .created_s = 1,
		.id = { 9 },
	};
	struct ferry_image_index x = {
		.dialect = dialect, .has_uuid = uuid, .sections_bytes = 5,
		.vmdesc_bytes = 3, .vm = { .name = "db" },
	};
	const struct ferry_chunk chunk = {
		FERRY_IMAGE_HEAD_BYTES, stored, 0,
	};
	uint8_t wire[2][FERRY_CHUNK_WIRE] = { { 0 } };

	ferry_chunk_encode(wire[0], &chunk);
	FUZZ_CHECK(!ferry_hello_add_block(&x.vm, "ram", 20 * FERRY_PAGE_BYTES,
					  FERRY_PAGE_BYTES, 0, NULL) &&
		   !ferry_hello_add_fact(&x.vm, "cpu", 1, "same", 4, NULL));
	(void)ferry_wr_room(&w, FERRY_IMAGE_HEAD_BYTES + stored);
	h.table = (struct ferry_piece){ ferry_wr_used(&w), sizeof(wire), 0 };
	ferry_wr_bytes(&w, wire, sizeof(wire));
	h.state = (struct ferry_piece){ ferry_wr_used(&w), 8, 0 };
	ferry_wr_bytes(&w, "stateabc", 8);
	h.index = (struct ferry_piece){ ferry_wr_used(&w),
		ferry_image_index_bytes(&x), 0 };
	ferry_image_index_encode(&w, &x);
	h.file_bytes = ferry_wr_used(&w);
	ferry_image_head_encode(seed, &h);
	FUZZ_CHECK(!w.bad);
	put_hashes(seed, h.file_bytes);
	emit(seed, h.file_bytes);
	ferry_hello_fini(&x.vm);
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	FERRY_AUTO_FREE uint8_t *seed = calloc(1, SEED_MAX);

	FUZZ_CHECK(seed);
	one(seed, FERRY_DIALECT_QEMU, true, emit);
	one(seed, FERRY_DIALECT_FERRY, false, emit);
}
