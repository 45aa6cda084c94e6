/* SPDX-License-Identifier: MIT */
/*
 * Writing an image.  Memory goes into IMAGE.part while it arrives, at the
 * place where it will be read; when all is there, hashes, device state, index
 * and, last of all, the head are added, everything is forced to the disk, and
 * the file gets its name.  Whatever ends the process before that leaves no
 * image.  Between the two it may have a name that says that it is undecided
 * whether it counts.
 *
 * Chunks are hashed as they arrive, where they come whole; the others are read
 * back in the end.
 *
 * Threads: blocks by one; then memory may be written, and noted, by any
 *          number; seal by one, when nobody writes any more.
 */
#ifndef FERRY_PARK_WRITER_H
#define FERRY_PARK_WRITER_H

#include <limits.h>

#include "park/kept.h"
#include "recv/map.h"

struct ferry_image_writer {
	char		 path[PATH_MAX];
	char		 part[PATH_MAX];
	char		 aside[PATH_MAX];
	char		 dir[PATH_MAX];
	int		 fd;		/* IMAGE.part, locked; or -1 */
	int		 memory_fd;	/* where pages go: fd, or a scratch
					 * file that is compressed later */
	int		 zstd_level;	/* 0: chunks are stored as they are */
	uint64_t	 end;		/* of the memory laid out so far */
	uint64_t	 file_bytes;	/* once prepared */
	uint64_t	 chunks;
	const char	*name;		/* that it has got: path, aside, or
					 * NULL */
	_Atomic uint64_t *noted[FERRY_BLOCKS_MAX];	/* hash of each chunk;
					 * 0: it is to be read */
	struct ferry_kept_log kept;
	struct ferry_image_head head;
	struct ferry_image_index index;
};

/*
 * Begin IMAGE.part in the folder of path.  Refused when the image exists, when
 * the folder cannot be written, when another process is parking there now, or
 * while nobody has decided about what was parked there before (aside); a part that a dead process left is written over.
 */
FERRY_CHECKED int ferry_image_writer_open(struct ferry_image_writer *w,
					  const char *path, int zstd_level,
					  struct ferry_err *e);

/* The next block; its memory goes to memory_fd at *offset on. */
FERRY_CHECKED int ferry_image_writer_block(struct ferry_image_writer *w,
					   const char *name, uint64_t bytes,
					   uint32_t page_bytes, uint64_t gpa,
					   uint64_t *offset,
					   struct ferry_err *e);

/* These pages of a block were written and hold this; NULL: they are zero.  Any
 * number of threads, but not of one page two at a time. */
void ferry_image_writer_note(struct ferry_image_writer *w, uint32_t block,
			     uint64_t first, uint64_t pages,
			     const uint8_t *data);

/* Device state that comes in parts.  Any number of threads. */
FERRY_CHECKED int ferry_image_writer_keep(struct ferry_image_writer *w,
					  const struct ferry_kept *k,
					  const void *data,
					  struct ferry_err *e);

/* What must hold where the VM runs next; see ferry_vm_add_fact(). */
FERRY_CHECKED int ferry_image_writer_fact(struct ferry_image_writer *w,
					  const struct ferry_hello_fact *fact,
					  struct ferry_err *e);

/* What else there is to say of the VM. */
struct ferry_image_vm {
	const char	*machine;
	uint8_t		 dialect;	/* enum ferry_dialect */
	const uint8_t	*uuid;		/* 16 octets, or NULL */
	const void	*sections;
	size_t		 sections_bytes;
	const void	*vmdesc;
	size_t		 vmdesc_bytes;
};

/*
 * All but the head: on the disk, with room for the head, and yet no image.
 * map: pages that are not here are zero.  May be called again, also after it
 * failed for lack of room.
 */
FERRY_CHECKED int ferry_image_writer_prepare(struct ferry_image_writer *w,
					     const struct ferry_map *map,
					     const struct ferry_image_vm *vm,
					     struct ferry_err *e);

/* After that: on success the image is on the disk under its name, or, if
 * `aside`, as IMAGE.undecided.  May be called again when it failed. */
FERRY_CHECKED int ferry_image_writer_commit(struct ferry_image_writer *w,
					    bool aside, struct ferry_err *e);

/* What was committed aside gets its name. */
FERRY_CHECKED int ferry_image_writer_settle(struct ferry_image_writer *w,
					    struct ferry_err *e);
/* Or is removed. */
void ferry_image_writer_revoke(struct ferry_image_writer *w);

/* prepare and commit. */
FERRY_CHECKED int ferry_image_writer_seal(struct ferry_image_writer *w,
					  const struct ferry_map *map,
					  const struct ferry_image_vm *vm,
					  struct ferry_err *e);

/* Without a seal, nothing is left behind. */
void ferry_image_writer_fini(struct ferry_image_writer *w);

#endif
