/* SPDX-License-Identifier: MIT */
/*
 * The table of commands, and their payloads (ranges: wire/ranges.c).
 */
#include "wire/command.h"

#include <inttypes.h>

#include "wire/channel.h"
#include "wire/text.h"

#define BOTH	(FERRY_DIALECT_QEMU | FERRY_DIALECT_FERRY)
#define QEMU	FERRY_DIALECT_QEMU
#define FERRY	FERRY_DIALECT_FERRY

/* RAM_DISCARD and ZERO_RANGES: u8, str8 of 1, u8, one range. */
#define RANGES_MIN	(1 + 2 + 1 + 16)

/* VERIFY: str8 of 1, be64, one sum. */
#define VERIFY_MIN	(2 + 8 + 4)

#define REASON_MAX	(2 + FERRY_REASON_BYTES_MAX)

#define ROW(c, min, max, who) \
	{ FERRY_COMMAND_##c, min, max, who, false, 0, 0, #c }
#define ROW_U32(c, who, lo, hi) \
	{ FERRY_COMMAND_##c, 4, 4, who, true, lo, hi, #c }

static const struct ferry_command_row rows[] = {
	ROW(OPEN_RETURN_PATH,	0, 0,				BOTH),
	ROW_U32(PING,						BOTH,
		0, UINT32_MAX),
	ROW(POSTCOPY_ADVISE,	0, 16,				BOTH),
	ROW(POSTCOPY_LISTEN,	0, 0,				BOTH),
	ROW(POSTCOPY_RUN,	0, 0,				BOTH),
	ROW(RAM_DISCARD,	RANGES_MIN, UINT16_MAX,		BOTH),
	ROW_U32(PACKAGED,					BOTH,
		1, FERRY_PACKAGE_BYTES_MAX),
	ROW(ENABLE_COLO,	0, 0,				0),
	ROW(POSTCOPY_RESUME,	0, 0,				BOTH),
	ROW(RECV_BITMAP,	2, 1 + FERRY_NAME_MAX,		BOTH),
	ROW(SWITCHOVER_START,	0, 0,				QEMU),
	ROW(ZERO_RANGES,	RANGES_MIN, UINT16_MAX,		FERRY),
	ROW_U32(BARRIER,					FERRY,
		1, UINT32_MAX),
	ROW(ABORT,		2, REASON_MAX,			FERRY),
	ROW_U32(FINISH,						FERRY,
		1, UINT32_MAX),
	ROW(VERIFY,		VERIFY_MIN, UINT16_MAX,		FERRY),
	ROW(HEARD,		0, 0,				FERRY),
	ROW_U32(LEASE,						FERRY,
		FERRY_LEASE_MS_MIN, FERRY_LEASE_MS_MAX),
	ROW_U32(RENEW,						FERRY,
		1, UINT32_MAX),
	ROW(VOID,		2, REASON_MAX,			FERRY),
	ROW_U32(LOST,						FERRY,
		FERRY_CHANNEL_DATA << 16,
		FERRY_CHANNEL_URGENT << 16 | (FERRY_URGENT_CHANNELS_MAX - 1)),
	ROW_U32(WATCH,						FERRY,
		0, 1),
};

const struct ferry_command_row *ferry_command_find(uint16_t command)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].command == command)
			return &rows[i];
	return NULL;
}

const char *ferry_command_name(uint16_t command)
{
	const struct ferry_command_row *row = ferry_command_find(command);

	return row ? row->name : "unknown";
}

int ferry_command_check(const struct ferry_section *s, enum ferry_dialect peer,
			struct ferry_err *e)
{
	const struct ferry_command_row *row = ferry_command_find(s->command);

	if (!row)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command 0x%04x is unknown", s->command);
	if (!(row->dialects & peer))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command %s is not for this peer to send",
				     row->name);
	if (s->bytes < row->min_bytes || s->bytes > row->max_bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command %s: payload of %" PRIu32
				     " octets", row->name, s->bytes);
	return 0;
}

void ferry_command_head_encode(struct ferry_wr *w, uint16_t command,
			       uint16_t payload_bytes)
{
	ferry_wr_u8(w, FERRY_SECTION_COMMAND);
	ferry_wr_be16(w, command);
	ferry_wr_be16(w, payload_bytes);
}

void ferry_command_encode(struct ferry_wr *w, enum ferry_command command)
{
	ferry_command_head_encode(w, (uint16_t)command, 0);
}

void ferry_command_u32_encode(struct ferry_wr *w, enum ferry_command command,
			      uint32_t value)
{
	ferry_command_head_encode(w, (uint16_t)command, 4);
	ferry_wr_be32(w, value);
}

int ferry_command_u32_decode(struct ferry_rd *r, uint16_t command,
			     uint32_t *value, struct ferry_err *e)
{
	const struct ferry_command_row *row = ferry_command_find(command);

	*value = ferry_rd_be32(r);
	if (ferry_decode_whole(r, ferry_command_name(command), e))
		return -1;
	if (!row || !row->u32 || *value < row->u32_min ||
	    *value > row->u32_max)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command %s: value %" PRIu32,
				     ferry_command_name(command), *value);
	return 0;
}

/* | be64 page sizes | be64 target page | */
void ferry_advise_encode(struct ferry_wr *w, const struct ferry_advise *a)
{
	ferry_command_head_encode(w, FERRY_COMMAND_POSTCOPY_ADVISE,
				  a->ram ? 16 : 0);
	if (!a->ram)
		return;
	ferry_wr_be64(w, a->page_sizes);
	ferry_wr_be64(w, FERRY_PAGE_BYTES);
}

int ferry_advise_decode(struct ferry_rd *r, struct ferry_advise *a,
			struct ferry_err *e)
{
	uint64_t page;

	*a = (struct ferry_advise){ .ram = ferry_rd_left(r) > 0 };
	if (!a->ram)
		return 0;
	a->page_sizes = ferry_rd_be64(r);
	page = ferry_rd_be64(r);
	if (ferry_decode_whole(r, "POSTCOPY_ADVISE", e))
		return -1;
	if (page != FERRY_PAGE_BYTES || !a->page_sizes ||
	    a->page_sizes % FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "POSTCOPY_ADVISE: page sizes 0x%" PRIx64
				     ", target page %" PRIu64,
				     a->page_sizes, page);
	return 0;
}

void ferry_recv_bitmap_encode(struct ferry_wr *w, const char *block)
{
	ferry_command_head_encode(w, FERRY_COMMAND_RECV_BITMAP,
				  (uint16_t)(1 + strlen(block)));
	ferry_wr_str8(w, block);
}

size_t ferry_recv_bitmap_bytes(const char *block)
{
	return FERRY_COMMAND_HEAD_WIRE + 1 + strlen(block);
}

int ferry_recv_bitmap_decode(struct ferry_rd *r,
			     char block[FERRY_NAME_MAX + 1],
			     struct ferry_err *e)
{
	bool name = ferry_text_read_name(r, block);

	if (ferry_decode_whole(r, "RECV_BITMAP", e))
		return -1;
	if (!name)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "RECV_BITMAP: bad block name");
	return 0;
}

static void prose_encode(struct ferry_wr *w, enum ferry_command command,
			 const char *reason)
{
	size_t n = ferry_text_prose_bytes(reason, FERRY_REASON_BYTES_MAX);

	ferry_command_head_encode(w, (uint16_t)command, (uint16_t)n);
	ferry_text_write_prose(w, reason, FERRY_REASON_BYTES_MAX);
}

static int prose_decode(struct ferry_rd *r, const char *command,
			char reason[FERRY_REASON_BYTES_MAX + 1],
			struct ferry_err *e)
{
	if (!ferry_text_read_prose(r, reason, FERRY_REASON_BYTES_MAX))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: the reason is too long", command);
	return ferry_decode_whole(r, command, e);
}

void ferry_abort_encode(struct ferry_wr *w, const char *reason)
{
	prose_encode(w, FERRY_COMMAND_ABORT, reason);
}

size_t ferry_abort_bytes(const char *reason)
{
	return FERRY_COMMAND_HEAD_WIRE +
	       ferry_text_prose_bytes(reason, FERRY_REASON_BYTES_MAX);
}

int ferry_abort_decode(struct ferry_rd *r,
		       char reason[FERRY_REASON_BYTES_MAX + 1],
		       struct ferry_err *e)
{
	return prose_decode(r, "ABORT", reason, e);
}

void ferry_void_encode(struct ferry_wr *w, const char *reason)
{
	prose_encode(w, FERRY_COMMAND_VOID, reason);
}

int ferry_void_decode(struct ferry_rd *r,
		      char reason[FERRY_REASON_BYTES_MAX + 1],
		      struct ferry_err *e)
{
	return prose_decode(r, "VOID", reason, e);
}
