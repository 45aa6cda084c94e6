/* SPDX-License-Identifier: MIT */
/*
 * The image of a parked VM: how it lies in the file (docs/image.md).  A head of
 * one page, the memory, the table of chunks, the device state, the index.
 *
 * Everything but the memory is read and checked when an image is opened; a
 * chunk of memory is checked when it is first needed, by the hash in the
 * table.  Pure, any thread.
 */
#ifndef FERRY_PARK_LAYOUT_H
#define FERRY_PARK_LAYOUT_H

#include "base/limits.h"
#include "mig/kept.h"
#include "wire/decode.h"
#include "wire/hello.h"

#define FERRY_IMAGE_MAGIC	"FERRYIMG"
#define FERRY_IMAGE_VERSION	1u
#define FERRY_IMAGE_HEAD_BYTES	4096u
#define FERRY_CHUNK_BYTES	(64u << 10)
#define FERRY_CHUNK_PAGES	(FERRY_CHUNK_BYTES / FERRY_PAGE_BYTES)
#define FERRY_IMAGE_BYTES_MAX	(1ull << 48)
#define FERRY_IMAGE_CHUNKS_MAX	(FERRY_IMAGE_BYTES_MAX / FERRY_CHUNK_BYTES)
#define FERRY_INDEX_BYTES_MAX	(FERRY_HELLO_BYTES_MAX + 256u)

/* A piece of the file and its hash (XXH3, 64 bits). */
struct ferry_piece {
	uint64_t	offset;
	uint64_t	bytes;
	uint64_t	hash;
};

enum ferry_image_flags {
	FERRY_IMAGE_ZSTD	= 1,	/* some chunks are compressed */
	FERRY_IMAGE_KEPT	= 2,	/* there is device state in parts */
};

struct ferry_image_head {
	uint32_t	flags;		/* enum ferry_image_flags */
	uint64_t	file_bytes;
	uint64_t	created_s;	/* seconds since 1970 */
	uint8_t		id[16];		/* random */
	struct ferry_piece table, state, index;
	struct ferry_piece kept;	/* FERRY_IMAGE_KEPT: its table */
};

/* data: FERRY_IMAGE_HEAD_BYTES.  Says what is wrong with a file that is no
 * image, of another version, or shorter than it should be. */
FERRY_CHECKED int ferry_image_head_decode(const void *data,
					  uint64_t file_bytes,
					  struct ferry_image_head *h,
					  struct ferry_err *e);
void ferry_image_head_encode(uint8_t data[FERRY_IMAGE_HEAD_BYTES],
			     const struct ferry_image_head *h);

/* One chunk of memory, raw or compressed.  stored_bytes 0: all zeroes. */
#define FERRY_CHUNK_WIRE	20

struct ferry_chunk {
	uint64_t	offset;
	uint32_t	stored_bytes;
	uint64_t	hash;		/* of what is stored */
};

/* file_bytes: no chunk ends behind it. */
FERRY_CHECKED int ferry_chunk_decode(const uint8_t wire[FERRY_CHUNK_WIRE],
				     uint64_t file_bytes,
				     struct ferry_chunk *c);
bool ferry_chunk_is_zero(const uint8_t wire[FERRY_CHUNK_WIRE]);
void ferry_chunk_encode(uint8_t wire[FERRY_CHUNK_WIRE],
			const struct ferry_chunk *c);

/* A record of device state in parts. */
#define FERRY_KEPT_WIRE	28

struct ferry_kept_place {
	struct ferry_kept k;
	uint64_t	offset;
	uint64_t	hash;		/* of its octets */
};

FERRY_CHECKED int ferry_kept_decode(const uint8_t wire[FERRY_KEPT_WIRE],
				    uint64_t file_bytes,
				    struct ferry_kept_place *p);
void ferry_kept_encode(uint8_t wire[FERRY_KEPT_WIRE],
		       const struct ferry_kept_place *p);

/* ---- the index: what was parked ------------------------------------------- */

struct ferry_image_index {
	uint8_t		dialect;	/* enum ferry_dialect of the source */
	bool		has_uuid;
	uint8_t		uuid[16];
	uint32_t	sections_bytes;	/* of the state: FULL sections; */
	uint32_t	vmdesc_bytes;	/* then QEMU's description, if any */
	struct ferry_hello vm;		/* name, blocks, facts */
	uint64_t	first_chunk[FERRY_BLOCKS_MAX];	/* of each block */
};

/* chunks: in the table; the blocks cover them in order.  On success the caller
 * calls ferry_hello_fini(&x->vm). */
FERRY_CHECKED int ferry_image_index_decode(const void *data, size_t bytes,
					   uint64_t chunks,
					   struct ferry_image_index *x,
					   struct ferry_err *e);
size_t ferry_image_index_bytes(const struct ferry_image_index *x);
void ferry_image_index_encode(struct ferry_wr *w,
			      const struct ferry_image_index *x);

/* A chunk of the table: which block it is of, and where in it. */
struct ferry_chunk_place {
	uint32_t	block;
	uint64_t	page, pages;
};

struct ferry_chunk_place ferry_chunk_find(const struct ferry_image_index *x,
					  uint64_t chunk);

static inline uint64_t ferry_chunks_of(uint64_t bytes)
{
	return (bytes + FERRY_CHUNK_BYTES - 1) / FERRY_CHUNK_BYTES;
}

#endif
