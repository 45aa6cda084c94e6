/* SPDX-License-Identifier: MIT */
/*
 * Messages of the return path: what the target tells the source.  Types from
 * 0x4601 are ferry's own, see docs/wire.md.  Pure, any thread.
 */
#ifndef FERRY_WIRE_RP_H
#define FERRY_WIRE_RP_H

#include "base/limits.h"
#include "wire/decode.h"
#include "wire/dialect.h"
#include "wire/span.h"

enum ferry_rp_type {
	FERRY_RP_SHUT		= 1,	/* value: 0 all done, else failure */
	FERRY_RP_PONG		= 2,	/* value: the PING's */
	FERRY_RP_REQ_PAGES_ID	= 3,	/* span, name */
	FERRY_RP_REQ_PAGES	= 4,	/* span, in the block named last on
					 * this connection */
	FERRY_RP_RECV_BITMAP	= 5,	/* name; wire/recvmap.h follows */
	FERRY_RP_RESUME_ACK	= 6,	/* value: 1 */
	FERRY_RP_SWITCHOVER_ACK	= 7,

	FERRY_RP_LOADED		= 0x4601,	/* value: 0 */
	FERRY_RP_RUNNING	= 0x4602,	/* value: 0 */
	FERRY_RP_REASON		= 0x4603,	/* reason */
	FERRY_RP_SYNCED		= 0x4604,	/* value: the BARRIER's */
	FERRY_RP_DIFFERS	= 0x4606,	/* reason; verify, postcopy */
	FERRY_RP_RENOUNCED	= 0x4605,	/* reserved for recovery */

	FERRY_RP_BULK_CREDIT	= 0x4610,	/* value: device; wide: limit */
	FERRY_RP_BULK_READY	= 0x4611,	/* value: device */
	FERRY_RP_BULK_LOADED	= 0x4612,	/* value: device; wide: ns */
	FERRY_RP_ASK_LEASE	= 0x4620,	/* value: to be told back */
	FERRY_RP_LOST		= 0x4640,	/* value: a channel's number */
	FERRY_RP_FAULTS		= 0x4641,	/* faults */
};

/* How long a guest has waited for pages since the last report. */
struct ferry_rp_faults {
	uint32_t	waits;		/* that have ended */
	uint32_t	p99_us;		/* of those */
	uint32_t	oldest_us;	/* of those that go on; 0: none */
};

struct ferry_rp {
	uint16_t	type;			/* enum ferry_rp_type */
	uint32_t	value;
	uint64_t	wide;
	struct ferry_rp_faults faults;
	struct ferry_span span;			/* at most 1 GiB of pages */
	char		name[FERRY_NAME_MAX + 1];	/* of a block */
	char		reason[FERRY_REASON_BYTES_MAX + 1];	/* cleaned */
};

#define FERRY_RP_HEAD_WIRE	4	/* be16 type, be16 bytes */
#define FERRY_RP_MAX		(FERRY_RP_HEAD_WIRE + FERRY_RP_BYTES_MAX)

/* Stream decoder: a whole message.  Spans are held against the block by
 * ferry_span_check_in(), where the block is known. */
FERRY_CHECKED int ferry_rp_decode(struct ferry_rd *r, enum ferry_dialect peer,
				  struct ferry_rp *m, struct ferry_err *e);

/* Only the fields that the type has are read; a reason is cut. */
void ferry_rp_encode(struct ferry_wr *w, const struct ferry_rp *m);
size_t ferry_rp_bytes(const struct ferry_rp *m);

/* "REQ_PAGES"; "unknown".  Static. */
const char *ferry_rp_name(uint16_t type);

#endif
