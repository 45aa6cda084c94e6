/* SPDX-License-Identifier: MIT */
/*
 * Packets of pages made smaller, as on QEMU's multifd channels: one stream per
 * channel, flushed behind each packet, so that all of its pages come out of it
 * at the other end (recv/unpack.h).
 *
 * What is compressed is a copy of the page: a guest may write it meanwhile,
 * and neither library promises what becomes of its input then.
 *
 * Threads: one at a time per stream.
 */
#ifndef FERRY_SEND_SQUEEZE_H
#define FERRY_SEND_SQUEEZE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

/* Of the library's levels; one more is its own business. */
#define FERRY_ZLIB_LEVEL_MAX	9u
#define FERRY_ZSTD_LEVEL_MAX	20u

/* How far back zstd looks, as a power of two: two packets at most.  What the
 * reader keeps is as much. */
#define FERRY_SQUEEZE_WINDOW_BITS	20u

struct ferry_squeeze;

/* method: FERRY_PACKET_ZLIB or FERRY_PACKET_ZSTD.  NULL with *e. */
struct ferry_squeeze *ferry_squeeze_open(uint32_t method, int level,
					 struct ferry_err *e);
void ferry_squeeze_close(struct ferry_squeeze *q);

/* A faster gear, which looks less closely: zstd has one. */
bool ferry_squeeze_has_fast(const struct ferry_squeeze *q);
/* From the next packet on. */
void ferry_squeeze_shift(struct ferry_squeeze *q, bool fast);

/* The next packet begins a stream: its reader knows nothing of the last. */
void ferry_squeeze_restart(struct ferry_squeeze *q);

/*
 * The pages of one packet (n iovecs of whole pages, FERRY_PACKET_PAGES_MAX
 * pages at most).  *out is valid until the next call, never empty, and may be
 * a little larger than the pages were.
 */
FERRY_CHECKED int ferry_squeeze_packet(struct ferry_squeeze *q,
				       const struct iovec *iov, int n,
				       struct iovec *out,
				       struct ferry_err *e);

#endif
