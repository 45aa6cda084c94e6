/* SPDX-License-Identifier: MIT */
/*
 * An image that was opened for reading.  All but the memory has been checked;
 * a chunk of memory is checked each time it is read, and one that does not
 * match its hash is never handed out.
 *
 * Threads: once open, any number of readers, each with a ferry_image_cache of
 *          its own.  Nothing is kept of the memory but what caches hold: the
 *          kernel's page cache does that.
 */
#ifndef FERRY_PARK_IMAGE_H
#define FERRY_PARK_IMAGE_H

#include "park/layout.h"

struct ferry_image {
	int		 fd;
	struct ferry_image_head head;
	struct ferry_image_index index;
	uint8_t		*table;		/* chunks, as in the file */
	uint64_t	 chunks;
	uint8_t		*state;		/* sections, then the description */
	uint8_t		*kept;		/* its table, as in the file */
	uint32_t	 kept_records;
};

/* Messages name the file. */
FERRY_CHECKED int ferry_image_open(struct ferry_image *img, const char *path,
				   struct ferry_err *e);
void ferry_image_close(struct ferry_image *img);

/* Who can take it, as parameter x-ferry-peer has it: "qemu" or "ferry". */
const char *ferry_image_peer(const struct ferry_image *img);

/* No page of this chunk holds anything. */
bool ferry_image_is_zero(const struct ferry_image *img, uint64_t chunk);

/* One reader's last chunk. */
struct ferry_image_cache {
	uint8_t		*chunk;		/* FERRY_CHUNK_BYTES */
	uint8_t		*packed;	/* the same; of compressed images */
	uint64_t	 which;		/* UINT64_MAX: none */
	void		*zstd;		/* ZSTD_DCtx */
};

FERRY_CHECKED int ferry_image_cache_init(struct ferry_image_cache *c,
					 struct ferry_err *e);
void ferry_image_cache_fini(struct ferry_image_cache *c);

/*
 * The chunk, checked and unpacked, in the cache; NULL with a sentence that
 * names block and offset.
 */
const uint8_t *ferry_image_chunk(const struct ferry_image *img,
				 struct ferry_image_cache *c, uint64_t chunk,
				 struct ferry_err *e);

/* The same, past the cache: out has room for a chunk.  0 or -1; then out holds
 * nothing that may be used. */
FERRY_CHECKED int ferry_image_read(const struct ferry_image *img,
				   struct ferry_image_cache *c, uint64_t chunk,
				   uint8_t *out, struct ferry_err *e);

/* Record i of the device state in parts: false when there are no more.  Its
 * octets (FERRY_KEPT_PIECE_BYTES at most), checked. */
bool ferry_image_kept(const struct ferry_image *img, uint32_t i,
		      struct ferry_kept_place *p);
FERRY_CHECKED int ferry_image_read_kept(const struct ferry_image *img,
					uint32_t i, uint8_t *out,
					struct ferry_err *e);

/* All chunks and records, for those who want to know before they rely on it. */
FERRY_CHECKED int ferry_image_verify(const struct ferry_image *img,
				     void (*progress)(void *arg,
						      uint64_t chunk),
				     void *arg, struct ferry_err *e);

#endif
