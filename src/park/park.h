/* SPDX-License-Identifier: MIT */
/*
 * Parking: be the target of a migration, and write what comes into an image.
 *
 * Threads: one thread makes, listens, waits and frees; cancel and stats by
 *          any.
 */
#ifndef FERRY_PARK_PARK_H
#define FERRY_PARK_PARK_H

#include <stdbool.h>

#include <ferry/event.h>
#include <ferry/target.h>

#include "base/err.h"

struct ferry_park;

struct ferry_park_config {
	const char	*image;
	const struct ferry_params *params;	/* copied; or NULL */
	int		 zstd_level;	/* 0: not compressed */
	unsigned	 multifd;	/* channels, as at the source; 0: none */
	bool		 preempt;	/* as at the source */
	bool		 switchover_ack;	/* as at the source */
	bool		 recover;	/* wait for a QEMU whose connection
					 * broke in postcopy */
};

/* The image may be written: it does not exist, and nobody else is parking into
 * it.  cb is copied, config->image too. */
struct ferry_park *ferry_park_new(const struct ferry_park_config *config,
				  const struct ferry_callbacks *cb,
				  struct ferry_err *e);

/* What comes in.  One source; for the next one make a new park. */
struct ferry_target *ferry_park_target(struct ferry_park *p);

/* postcopy-paused is not the end: the source may come back. */
bool ferry_park_awaits_source(struct ferry_park *p);
bool ferry_park_is_over(struct ferry_park *p);

/* Without an image, nothing is left behind. */
void ferry_park_free(struct ferry_park *p);

/* What was parked; machine "" before a source came. */
struct ferry_parked {
	char		machine[256];
	unsigned	blocks;
	uint64_t	image_bytes;	/* 0: there is no image */
	bool		undecided;	/* it is IMAGE.undecided, see
					 * docs/man/ferry-park.1 */
	uint64_t	disk_bytes;
	uint64_t	state_bytes;
	bool		met;		/* a source was here, at least */
	bool		stray;		/* one came back whose VM is in two
					 * halves, and the other not here */
};

void ferry_park_stats(struct ferry_park *p, struct ferry_parked *out);

#endif
