/* SPDX-License-Identifier: MIT */
/*
 * The last work on an image's memory: each chunk is hashed, and compressed if
 * asked for, by a few threads.  They read through the page cache, 64 KiB at a
 * time each.
 */
#ifndef FERRY_PARK_SEAL_H
#define FERRY_PARK_SEAL_H

#include "park/writer.h"

/* Fills the table; compressed chunks are written to w->fd, and w->end moved
 * behind them. */
FERRY_CHECKED int ferry_seal_chunks(struct ferry_image_writer *w,
				    const struct ferry_map *map,
				    uint8_t *table, struct ferry_err *e);

#endif
