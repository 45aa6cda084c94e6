/* SPDX-License-Identifier: MIT */
/*
 * The channel header: the first octets of every connection between two
 * ferries, and the target's answer on main (docs/wire.md).  Pure, any thread.
 */
#ifndef FERRY_WIRE_CHANNEL_H
#define FERRY_WIRE_CHANNEL_H

#include "base/limits.h"
#include "wire/decode.h"

#define FERRY_CHANNEL_MAGIC		0x46455252u	/* "FERR" */
#define FERRY_CHANNEL_ANSWER_MAGIC	0x46455241u	/* "FERA" */
#define FERRY_CHANNEL_VERSION		1u
#define FERRY_CHANNEL_WIRE		48
#define FERRY_CHANNEL_HEADER_MAX	4096u
#define FERRY_CHANNEL_BOUND_WIRE	80	/* with a MAC */
#define FERRY_SESSION_BYTES		16
#define FERRY_MAC_BYTES			32

enum ferry_channel_type {
	FERRY_CHANNEL_MAIN	= 1,
	FERRY_CHANNEL_DATA	= 2,
	FERRY_CHANNEL_URGENT	= 3,
	FERRY_CHANNEL_DEVICE	= 4,
};

/* Bits; what each switches on stands in docs/wire.md. */
enum ferry_feature {
	FERRY_FEATURE_COMMIT		= 1 << 0,
	FERRY_FEATURE_ZERO_RANGES	= 1 << 1,
	FERRY_FEATURE_POSTCOPY_DATA	= 1 << 2,
	FERRY_FEATURE_URGENT		= 1 << 3,
	FERRY_FEATURE_RESEND		= 1 << 4,
	FERRY_FEATURE_HEARTBEAT		= 1 << 5,
	FERRY_FEATURE_REASONS		= 1 << 6,
	FERRY_FEATURE_POSTCOPY		= 1 << 7,
	FERRY_FEATURE_RECOVER		= 1 << 8,	/* on main, mandatory:
							 * comes back */
	FERRY_FEATURE_VERIFY		= 1 << 9,	/* VERIFY, DIFFERS */
	FERRY_FEATURE_BOUND		= 1 << 10,	/* with TLS: a MAC in
							 * each header */
	FERRY_FEATURE_BULK		= 1 << 11,	/* bulk devices */
	FERRY_FEATURE_FENCE		= 1 << 12,	/* LEASE, VOID */
	FERRY_FEATURE_COMPRESS		= 1 << 13,	/* packets of pages */
	FERRY_FEATURE_SURVIVE		= 1 << 15,	/* LOST, WATCH, FAULTS */
};

#define FERRY_FEATURES_KNOWN	0xbfffull

struct ferry_channel_head {
	bool		answer;		/* the target's */
	uint16_t	type;		/* enum ferry_channel_type */
	uint16_t	index;		/* among those of its type */
	uint8_t		session[FERRY_SESSION_BYTES];
	uint64_t	features;	/* offered; in an answer: taken */
	uint64_t	mandatory;	/* subset of features */
	uint8_t		mac[FERRY_MAC_BYTES];	/* BOUND, and no answer */
};

/* Octets of this one. */
size_t ferry_channel_bytes(const struct ferry_channel_head *h);


/*
 * Stream decoder.  answer: which of the two is expected here.  What a later
 * version adds behind the 48 octets is skipped.
 */
FERRY_CHECKED int ferry_channel_decode(struct ferry_rd *r, bool answer,
				       struct ferry_channel_head *h,
				       struct ferry_err *e);
void ferry_channel_encode(struct ferry_wr *w,
			  const struct ferry_channel_head *h);

/*
 * Target: the features of an offer that are among `can`.  FERRY_E_MISMATCH
 * that names the feature when a mandatory one is not.
 */
FERRY_CHECKED int ferry_channel_take(const struct ferry_channel_head *offer,
				     uint64_t can, uint64_t *taken,
				     struct ferry_err *e);

/* Source: the answer belongs to the offer and takes all that is mandatory. */
FERRY_CHECKED int ferry_channel_check(const struct ferry_channel_head *offer,
				      const struct ferry_channel_head *answer,
				      struct ferry_err *e);

/* A data or urgent channel in one be32, as LOST names it. */
static inline uint32_t ferry_channel_number(enum ferry_channel_type type,
					    unsigned index)
{
	return (uint32_t)type << 16 | index;
}

/* False when there can be no such data or urgent channel. */
bool ferry_channel_of_number(uint32_t number, enum ferry_channel_type *type,
			     unsigned *index);

/* In a time that tells nothing about either: who tries ids learns nothing. */
bool ferry_session_same(const uint8_t a[FERRY_SESSION_BYTES],
			const uint8_t b[FERRY_SESSION_BYTES]);
bool ferry_mac_same(const uint8_t a[FERRY_MAC_BYTES],
		    const uint8_t b[FERRY_MAC_BYTES]);

/* "main", "data", "urgent", "device"; "unknown".  Static. */
const char *ferry_channel_type_name(uint16_t type);

/* Name of feature bit 0 to 63, or NULL when it has none yet.  Static. */
const char *ferry_feature_name(unsigned bit);

#endif
