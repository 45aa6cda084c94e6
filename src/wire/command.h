/* SPDX-License-Identifier: MIT */
/*
 * Commands: what the source tells the target to do, in COMMAND sections of the
 * main stream (or of a package).  Numbers from 0x4601 are ferry's own, see
 * docs/wire.md.  Pure, any thread.
 *
 * The header is decoded by ferry_section_decode(), held to the table by
 * ferry_command_check(); then all octets of the payload are there, and one of
 * the record decoders below reads them.  Encoders write the whole section.
 */
#ifndef FERRY_WIRE_COMMAND_H
#define FERRY_WIRE_COMMAND_H

#include "base/limits.h"
#include "wire/decode.h"
#include "wire/dialect.h"
#include "wire/section.h"

enum ferry_command {
	FERRY_COMMAND_OPEN_RETURN_PATH	= 1,
	FERRY_COMMAND_PING		= 2,
	FERRY_COMMAND_POSTCOPY_ADVISE	= 3,
	FERRY_COMMAND_POSTCOPY_LISTEN	= 4,
	FERRY_COMMAND_POSTCOPY_RUN	= 5,
	FERRY_COMMAND_RAM_DISCARD	= 6,
	FERRY_COMMAND_PACKAGED		= 7,
	FERRY_COMMAND_ENABLE_COLO	= 8,	/* refused */
	FERRY_COMMAND_POSTCOPY_RESUME	= 9,
	FERRY_COMMAND_RECV_BITMAP	= 10,
	FERRY_COMMAND_SWITCHOVER_START	= 11,

	FERRY_COMMAND_ZERO_RANGES	= 0x4601,
	FERRY_COMMAND_BARRIER		= 0x4602,
	FERRY_COMMAND_ABORT		= 0x4603,
	FERRY_COMMAND_FINISH		= 0x4604,
	FERRY_COMMAND_VERIFY		= 0x4605,
	FERRY_COMMAND_HEARD		= 0x4606,

	FERRY_COMMAND_LEASE		= 0x4620,	/* ms */
	FERRY_COMMAND_RENEW		= 0x4621,	/* an ASK_LEASE's */
	FERRY_COMMAND_VOID		= 0x4622,
	FERRY_COMMAND_LOST		= 0x4640,	/* a channel's number */
	FERRY_COMMAND_WATCH		= 0x4641,	/* 0, or 1: FAULTS */
};

/* PING values that QEMU gives a meaning. */
#define FERRY_PING_LOADED	0x42u	/* PONG: device state is loaded */

struct ferry_command_row {
	uint16_t	command;
	uint16_t	min_bytes;
	uint16_t	max_bytes;
	uint8_t		dialects;	/* who may send it; 0: refused */
	bool		u32;		/* payload is one be32 ... */
	uint32_t	u32_min, u32_max;	/* ... within these */
	const char	*name;
};

/* NULL when there is no such command. */
const struct ferry_command_row *ferry_command_find(uint16_t command);

/* "PING"; "unknown".  Static. */
const char *ferry_command_name(uint16_t command);

#define FERRY_COMMAND_HEAD_WIRE	5	/* u8 0x08, be16 command, be16 bytes */

/* A decoded COMMAND header: known, legal from this peer, of legal length. */
FERRY_CHECKED int ferry_command_check(const struct ferry_section *s,
				      enum ferry_dialect peer,
				      struct ferry_err *e);

/* The header alone, for a payload that the caller appends. */
void ferry_command_head_encode(struct ferry_wr *w, uint16_t command,
			       uint16_t payload_bytes);

/* Commands without payload. */
#define FERRY_COMMAND_WIRE	FERRY_COMMAND_HEAD_WIRE

void ferry_command_encode(struct ferry_wr *w, enum ferry_command command);

/* PING, PACKAGED, BARRIER, FINISH, LEASE, RENEW: one be32.  PACKAGED is followed by that
 * many octets, at most FERRY_PACKAGE_BYTES_MAX. */
#define FERRY_COMMAND_U32_WIRE	(FERRY_COMMAND_HEAD_WIRE + 4)

void ferry_command_u32_encode(struct ferry_wr *w, enum ferry_command command,
			      uint32_t value);
FERRY_CHECKED int ferry_command_u32_decode(struct ferry_rd *r,
					   uint16_t command, uint32_t *value,
					   struct ferry_err *e);

/* POSTCOPY_ADVISE. */
struct ferry_advise {
	bool		ram;		/* false: of other state only */
	uint64_t	page_sizes;	/* OR of all blocks' page sizes */
};

#define FERRY_ADVISE_WIRE	(FERRY_COMMAND_HEAD_WIRE + 16)

/* Writes FERRY_ADVISE_WIRE octets with ram, else FERRY_COMMAND_WIRE. */
void ferry_advise_encode(struct ferry_wr *w, const struct ferry_advise *a);
FERRY_CHECKED int ferry_advise_decode(struct ferry_rd *r,
				      struct ferry_advise *a,
				      struct ferry_err *e);

/* RECV_BITMAP: asks for the received map of one block. */
void ferry_recv_bitmap_encode(struct ferry_wr *w, const char *block);
size_t ferry_recv_bitmap_bytes(const char *block);
FERRY_CHECKED int ferry_recv_bitmap_decode(struct ferry_rd *r,
					   char block[FERRY_NAME_MAX + 1],
					   struct ferry_err *e);

/* ABORT: the reason, cut at FERRY_REASON_BYTES_MAX octets. */
void ferry_abort_encode(struct ferry_wr *w, const char *reason);
size_t ferry_abort_bytes(const char *reason);
FERRY_CHECKED int ferry_abort_decode(struct ferry_rd *r,
				     char reason[FERRY_REASON_BYTES_MAX + 1],
				     struct ferry_err *e);

/* VOID: the same. */
void ferry_void_encode(struct ferry_wr *w, const char *reason);
FERRY_CHECKED int ferry_void_decode(struct ferry_rd *r,
				    char reason[FERRY_REASON_BYTES_MAX + 1],
				    struct ferry_err *e);

#endif
