/* SPDX-License-Identifier: MIT */
/*
 * The half of a VM that one side has when the link is lost for good: a file of
 * records (docs/image.md, "Halves").  Pure, any thread.
 */
#ifndef FERRY_WIRE_HALF_H
#define FERRY_WIRE_HALF_H

#include "base/limits.h"
#include "wire/channel.h"
#include "wire/decode.h"

#define FERRY_HALF_MAGIC	"FERRYHLF"
#define FERRY_HALF_VERSION	1u
#define FERRY_HALF_START_WIRE	16

enum ferry_half_side { FERRY_HALF_SOURCE = 1, FERRY_HALF_TARGET = 2 };

/* In the order of their ranks; all but HEAD and END any number of times. */
enum ferry_half_type {
	FERRY_HALF_HEAD		= 1,	/* whose half, of what */
	FERRY_HALF_HAS		= 2,	/* runs of pages it has */
	FERRY_HALF_STATE	= 3,	/* of devices, a piece */
	FERRY_HALF_PAGES	= 4,	/* what they hold, unless zero */
	FERRY_HALF_END		= 5,
	FERRY_HALF_SUMS		= 6,	/* of pages, as they came */
	FERRY_HALF_TYPES
};

#define FERRY_HALF_RECORD_WIRE	8	/* type, octets of the payload */
#define FERRY_HALF_DIGEST_WIRE	8	/* behind the payload */
#define FERRY_HALF_HEAD_WIRE	32	/* before the hello */
#define FERRY_HALF_PLACE_WIRE	16	/* before runs, sums, or pages */
#define FERRY_HALF_RUN_WIRE	16
#define FERRY_HALF_END_WIRE	16

#define FERRY_HALF_PAGES_MAX	256u	/* in a record */
#define FERRY_HALF_RUNS_MAX	4096u
#define FERRY_HALF_SUMS_MAX	65536u
#define FERRY_HALF_PAYLOAD_MAX \
	(FERRY_HALF_HEAD_WIRE + FERRY_HELLO_BYTES_MAX + 4096u)

struct ferry_half_head {
	uint32_t	side;		/* enum ferry_half_side */
	uint64_t	made_s;		/* seconds since 1970 */
	uint8_t		session[FERRY_SESSION_BYTES];
};

/* Where runs, sums or pages belong; `first` is 0 for runs. */
struct ferry_half_place {
	uint32_t	block;
	uint64_t	first;
};

struct ferry_half_run {
	uint64_t	first, pages;
};

struct ferry_half_end {
	uint64_t	has;		/* pages */
	uint64_t	pages;		/* in PAGES */
};

/* Finds damage, not malice. */
uint64_t ferry_half_digest(const void *data, size_t bytes);

void ferry_half_start_encode(struct ferry_wr *w);
FERRY_CHECKED int ferry_half_start_decode(struct ferry_rd *r,
					  struct ferry_err *e);

void ferry_half_record_encode(struct ferry_wr *w, uint32_t type,
			      uint32_t bytes);
/* What comes before what. */
unsigned ferry_half_rank(uint32_t type);

/* Type and length are possible. */
FERRY_CHECKED int ferry_half_record_decode(struct ferry_rd *r, uint32_t *type,
					   uint32_t *bytes,
					   struct ferry_err *e);

/* These check values, not that nothing is left. */
void ferry_half_head_encode(struct ferry_wr *w,
			    const struct ferry_half_head *h);
FERRY_CHECKED int ferry_half_head_decode(struct ferry_rd *r,
					 struct ferry_half_head *h,
					 struct ferry_err *e);
void ferry_half_place_encode(struct ferry_wr *w,
			     const struct ferry_half_place *p);
void ferry_half_place_decode(struct ferry_rd *r, struct ferry_half_place *p);
void ferry_half_run_encode(struct ferry_wr *w,
			   const struct ferry_half_run *run);
void ferry_half_run_decode(struct ferry_rd *r, struct ferry_half_run *run);
void ferry_half_end_encode(struct ferry_wr *w,
			   const struct ferry_half_end *end);
void ferry_half_end_decode(struct ferry_rd *r, struct ferry_half_end *end);

const char *ferry_half_side_name(uint32_t side);

#endif
