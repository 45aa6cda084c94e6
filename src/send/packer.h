/* SPDX-License-Identifier: MIT */
/*
 * Whether the packets of one channel are compressed, packet by packet: always,
 * or while that is worth it, in the gear that is (send/squeeze_policy.h).  A packet that would not
 * get smaller goes as it is; the stream begins anew behind it.
 *
 * Threads: one at a time, as the encoder it belongs to.
 */
#ifndef FERRY_SEND_PACKER_H
#define FERRY_SEND_PACKER_H

#include <stdbool.h>

#include "send/squeeze.h"
#include "send/squeeze_policy.h"

/* How packets are to be compressed; all zero: they are not. */
struct ferry_packing_how {
	uint32_t	 method;	/* FERRY_PACKET_ZLIB, ..._ZSTD, 0 */
	int		 level;
	bool		 automatic;	/* while it is worth it */
	bool		 shifts;	/* to a faster gear, the same */
};

struct ferry_packer {
	struct ferry_squeeze *squeeze;	/* NULL: nothing is compressed */
	uint32_t	 method;
	bool		 watches;	/* there is something to decide */
	bool		 stale;		/* the stream was broken off */
	unsigned	 packets;	/* of the window */
	struct ferry_squeeze_window window;
};

FERRY_CHECKED int ferry_packer_init(struct ferry_packer *p,
				    const struct ferry_packing_how *how,
				    struct ferry_err *e);
/* Safe on zeroes. */
void ferry_packer_fini(struct ferry_packer *p);

/*
 * The pages of the next packet.  1: *out goes in their place, with p->method
 * among the flags; 0: they go as they are; -1 with *e.
 */
FERRY_CHECKED int ferry_packer_pack(struct ferry_packer *p,
				    const struct iovec *iov, int n,
				    size_t plain_bytes, struct iovec *out,
				    struct ferry_err *e);

/* Such a packet has gone out: it took ns, of which so long in writing. */
void ferry_packer_sent(struct ferry_packer *p, size_t plain_bytes,
		       size_t wire_bytes, uint64_t ns, uint64_t blocked_ns);

/* So long nothing was sent because of a limit. */
void ferry_packer_waited(struct ferry_packer *p, uint64_t ns);

#endif
