/* SPDX-License-Identifier: MIT */
/*
 * The hello: what the two sides of main tell each other before any memory is
 * copied, so that what does not fit is refused with a sentence
 * (docs/wire.md).  Any thread; the cold path: decode allocates.
 */
#ifndef FERRY_WIRE_HELLO_H
#define FERRY_WIRE_HELLO_H

#include "base/limits.h"
#include "wire/decode.h"

enum ferry_hello_kind {
	FERRY_HELLO_NAME	= 1,
	FERRY_HELLO_BLOCK	= 2,
	FERRY_HELLO_FACT	= 3,
	FERRY_HELLO_CHANNELS	= 4,
	FERRY_HELLO_VERDICT	= 5,
	FERRY_HELLO_SOFTWARE	= 0x8006,
	FERRY_HELLO_BULK	= 0x8010,
};

/* Kinds with this bit may be skipped by who does not know them. */
#define FERRY_HELLO_OPTIONAL	0x8000u

struct ferry_hello_block {
	char		name[FERRY_NAME_MAX + 1];
	uint64_t	bytes;
	uint64_t	gpa;
	uint32_t	page_bytes;
};

struct ferry_hello_fact {
	char		name[FERRY_NAME_MAX + 1];
	uint8_t		rule;		/* enum ferry_fact_rule */
	char		*value;		/* heap; "" to 4096 octets */
};

struct ferry_hello_bulk {
	char		name[FERRY_NAME_MAX + 1];
	uint32_t	instance;
	uint32_t	version;
};

struct ferry_hello {
	char		name[FERRY_NAME_MAX + 1];	/* of the VM */
	struct ferry_hello_block *block;		/* heap */
	size_t		blocks;
	struct ferry_hello_fact	*fact;			/* heap */
	size_t		facts;
	struct ferry_hello_bulk *bulk;			/* heap; devices */
	size_t		bulks;
	bool		has_channels;
	uint16_t	data, urgent, device;
	bool		has_verdict;	/* answers, and only they */
	uint32_t	verdict;	/* enum ferry_err_code; 0: accepted */
	char		verdict_text[FERRY_REASON_BYTES_MAX + 1];
	char		software[FERRY_NAME_MAX + 1];	/* "" if not said */
};

/* Frees what it points to and leaves it empty; fine on zeroes. */
void ferry_hello_fini(struct ferry_hello *h);

/* Append a copy; used by decode, and by who makes a hello.  Refuse too many,
 * and a name that is there. */
FERRY_CHECKED int ferry_hello_add_block(struct ferry_hello *h,
					const char *name, uint64_t bytes,
					uint32_t page_bytes, uint64_t gpa,
					struct ferry_err *e);
FERRY_CHECKED int ferry_hello_add_fact(struct ferry_hello *h,
				       const char *name, uint8_t rule,
				       const char *value, size_t value_bytes,
				       struct ferry_err *e);

FERRY_CHECKED int ferry_hello_add_bulk(struct ferry_hello *h,
				       const char *name, uint32_t instance,
				       uint32_t version, struct ferry_err *e);

/* The be32 in front of the body. */
#define FERRY_HELLO_HEAD_WIRE	4

/* Stream decoder: 1 to FERRY_HELLO_BYTES_MAX octets follow. */
FERRY_CHECKED int ferry_hello_head_decode(struct ferry_rd *r, uint32_t *bytes,
					  struct ferry_err *e);

/* Head and body; ferry_hello_bytes() counts both. */
void ferry_hello_encode(struct ferry_wr *w, const struct ferry_hello *h);
size_t ferry_hello_bytes(const struct ferry_hello *h);

/* Record decoder: the body.  On failure *h is empty; else the caller calls
 * ferry_hello_fini(). */
FERRY_CHECKED int ferry_hello_decode(struct ferry_rd *r, bool answer,
				     struct ferry_hello *h,
				     struct ferry_err *e);

/*
 * Do the two fit?  FERRY_E_MISMATCH and a sentence with both values at the
 * first thing that does not.
 */
FERRY_CHECKED int ferry_hello_check(const struct ferry_hello *source,
				    const struct ferry_hello *target,
				    struct ferry_err *e);

/* Source: the target's verdict as an error, "the target refused: ...". */
FERRY_CHECKED int ferry_hello_verdict(const struct ferry_hello *answer,
				      struct ferry_err *e);

#endif
