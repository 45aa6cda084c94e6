/* SPDX-License-Identifier: MIT */
/*
 * | be16 type | be16 bytes | payload |: one row per type, one set of functions
 * per form of payload.
 */
#include "wire/rp.h"

#include <assert.h>
#include <inttypes.h>

#include "wire/channel.h"
#include "wire/text.h"

static_assert(2 + FERRY_REASON_BYTES_MAX <= FERRY_RP_BYTES_MAX,
	      "a reason fits a message");

struct row;

struct form {
	size_t	(*bytes)(const struct ferry_rp *m);
	/* 0, or -1 when a value is wrong. */
	int	(*decode)(struct ferry_rd *r, const struct row *row,
			  struct ferry_rp *m);
	void	(*encode)(struct ferry_wr *w, const struct ferry_rp *m);
};

struct row {
	uint16_t		type;
	uint8_t			dialects;	/* 0: refused */
	const struct form	*form;
	uint32_t		min, max;	/* of value */
	const char		*name;
};

static size_t none_bytes(const struct ferry_rp *m)
{
	(void)m;
	return 0;
}

static int none_decode(struct ferry_rd *r, const struct row *row,
		       struct ferry_rp *m)
{
	(void)r;
	(void)row;
	(void)m;
	return 0;
}

static void none_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	(void)w;
	(void)m;
}

static size_t u32_bytes(const struct ferry_rp *m)
{
	(void)m;
	return 4;
}

static int u32_decode(struct ferry_rd *r, const struct row *row,
		      struct ferry_rp *m)
{
	m->value = ferry_rd_be32(r);
	return m->value < row->min || m->value > row->max ? -1 : 0;
}

static void u32_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_wr_be32(w, m->value);
}

static size_t pair_bytes(const struct ferry_rp *m)
{
	(void)m;
	return 4 + 8;
}

static int pair_decode(struct ferry_rd *r, const struct row *row,
		       struct ferry_rp *m)
{
	int rc = u32_decode(r, row, m);

	m->wide = ferry_rd_be64(r);
	return rc;
}

static void pair_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_wr_be32(w, m->value);
	ferry_wr_be64(w, m->wide);
}

static size_t span_bytes(const struct ferry_rp *m)
{
	(void)m;
	return 8 + 4;
}

static int span_decode(struct ferry_rd *r, const struct row *row,
		       struct ferry_rp *m)
{
	m->span.start = ferry_rd_be64(r);
	m->span.bytes = ferry_rd_be32(r);
	if (m->span.bytes > FERRY_REQUEST_BYTES_MAX)
		return -1;
	return ferry_span_check(&m->span, row->name, NULL);
}

static void span_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_wr_be64(w, m->span.start);
	ferry_wr_be32(w, (uint32_t)m->span.bytes);
}

static size_t name_bytes(const struct ferry_rp *m)
{
	return 1 + strlen(m->name);
}

static int name_decode(struct ferry_rd *r, const struct row *row,
		       struct ferry_rp *m)
{
	(void)row;
	return ferry_text_read_name(r, m->name) ? 0 : -1;
}

static void name_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_wr_str8(w, m->name);
}

static size_t span_name_bytes(const struct ferry_rp *m)
{
	return span_bytes(m) + name_bytes(m);
}

static int span_name_decode(struct ferry_rd *r, const struct row *row,
			    struct ferry_rp *m)
{
	int rc = span_decode(r, row, m);

	return name_decode(r, row, m) || rc ? -1 : 0;
}

static void span_name_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	span_encode(w, m);
	name_encode(w, m);
}

static size_t faults_bytes(const struct ferry_rp *m)
{
	(void)m;
	return (size_t)3 * 4;
}

static int faults_decode(struct ferry_rd *r, const struct row *row,
			 struct ferry_rp *m)
{
	(void)row;
	m->faults.waits = ferry_rd_be32(r);
	m->faults.p99_us = ferry_rd_be32(r);
	m->faults.oldest_us = ferry_rd_be32(r);
	return 0;
}

static void faults_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_wr_be32(w, m->faults.waits);
	ferry_wr_be32(w, m->faults.p99_us);
	ferry_wr_be32(w, m->faults.oldest_us);
}

static int channel_decode(struct ferry_rd *r, const struct row *row,
			  struct ferry_rp *m)
{
	enum ferry_channel_type type;
	unsigned index;

	(void)row;
	m->value = ferry_rd_be32(r);
	return ferry_channel_of_number(m->value, &type, &index) ? 0 : -1;
}

static size_t reason_bytes(const struct ferry_rp *m)
{
	return ferry_text_prose_bytes(m->reason, FERRY_REASON_BYTES_MAX);
}

static int reason_decode(struct ferry_rd *r, const struct row *row,
			 struct ferry_rp *m)
{
	(void)row;
	return ferry_text_read_prose(r, m->reason, FERRY_REASON_BYTES_MAX) ?
	       0 : -1;
}

static void reason_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_text_write_prose(w, m->reason, FERRY_REASON_BYTES_MAX);
}

static const struct form none = { none_bytes, none_decode, none_encode };
static const struct form u32 = { u32_bytes, u32_decode, u32_encode };
static const struct form pair = { pair_bytes, pair_decode, pair_encode };
static const struct form span = { span_bytes, span_decode, span_encode };
static const struct form name = { name_bytes, name_decode, name_encode };
static const struct form span_name = {
	span_name_bytes, span_name_decode, span_name_encode
};
static const struct form faults = {
	faults_bytes, faults_decode, faults_encode
};
static const struct form channel = { u32_bytes, channel_decode, u32_encode };
static const struct form reason = {
	reason_bytes, reason_decode, reason_encode
};

#define BULK_LAST	(FERRY_BULK_DEVICES_MAX - 1)

#define BOTH	(FERRY_DIALECT_QEMU | FERRY_DIALECT_FERRY)
#define QEMU	FERRY_DIALECT_QEMU
#define FERRY	FERRY_DIALECT_FERRY
#define ROW(t, who, form, lo, hi) { FERRY_RP_##t, who, &form, lo, hi, #t }

static const struct row rows[] = {
	ROW(SHUT,		BOTH,	u32,		0, UINT32_MAX),
	ROW(PONG,		BOTH,	u32,		0, UINT32_MAX),
	ROW(REQ_PAGES_ID,	BOTH,	span_name,	0, 0),
	ROW(REQ_PAGES,		BOTH,	span,		0, 0),
	ROW(RECV_BITMAP,	BOTH,	name,		0, 0),
	ROW(RESUME_ACK,		BOTH,	u32,		1, 1),
	ROW(SWITCHOVER_ACK,	QEMU,	none,		0, 0),
	ROW(LOADED,		FERRY,	u32,		0, 0),
	ROW(RUNNING,		FERRY,	u32,		0, 0),
	ROW(REASON,		FERRY,	reason,		0, 0),
	ROW(DIFFERS,		FERRY,	reason,		0, 0),
	ROW(SYNCED,		FERRY,	u32,		1, UINT32_MAX),
	ROW(RENOUNCED,		0,	u32,		0, 0),
	ROW(BULK_CREDIT,	FERRY,	pair,		0, BULK_LAST),
	ROW(BULK_READY,		FERRY,	u32,		0, BULK_LAST),
	ROW(BULK_LOADED,	FERRY,	pair,		0, BULK_LAST),
	ROW(ASK_LEASE,		FERRY,	u32,		1, UINT32_MAX),
	ROW(LOST,		FERRY,	channel,	0, 0),
	ROW(FAULTS,		FERRY,	faults,		0, 0),
};

static const struct row *row_of(uint16_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == type)
			return &rows[i];
	return NULL;
}

const char *ferry_rp_name(uint16_t type)
{
	const struct row *row = row_of(type);

	return row ? row->name : "unknown";
}

static int message_decode(struct ferry_rd *r, enum ferry_dialect peer,
			  struct ferry_rp *m, struct ferry_err *e)
{
	const struct row *row;
	struct ferry_rd in;
	const uint8_t *at;
	size_t n;

	m->type = ferry_rd_be16(r);
	if (r->bad)
		return 0;
	row = row_of(m->type);
	if (!row || !(row->dialects & peer))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "return path: message 0x%04x (%s) is not"
				     " for this peer to send", m->type,
				     ferry_rp_name(m->type));
	n = ferry_rd_be16(r);
	if (n > FERRY_RP_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "return path: %s of %zu octets",
				     row->name, n);
	at = ferry_rd_bytes(r, n);
	if (!at)
		return 0;

	in = ferry_rd_over(at, n);
	if (row->form->decode(&in, row, m) || in.bad || ferry_rd_left(&in))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "return path: malformed %s of %zu octets",
				     row->name, n);
	return 0;
}

int ferry_rp_decode(struct ferry_rd *r, enum ferry_dialect peer,
		    struct ferry_rp *m, struct ferry_err *e)
{
	struct ferry_rd from = *r;

	m->value = 0;
	m->wide = 0;
	m->span = (struct ferry_span){ 0 };
	m->faults = (struct ferry_rp_faults){ 0 };
	m->name[0] = m->reason[0] = '\0';
	return ferry_decode_end(r, from, message_decode(r, peer, m, e));
}

void ferry_rp_encode(struct ferry_wr *w, const struct ferry_rp *m)
{
	const struct row *row = row_of(m->type);

	if (!row) {
		w->bad = true;
		return;
	}
	ferry_wr_be16(w, m->type);
	ferry_wr_be16(w, (uint16_t)row->form->bytes(m));
	row->form->encode(w, m);
}

size_t ferry_rp_bytes(const struct ferry_rp *m)
{
	const struct row *row = row_of(m->type);

	return row ? FERRY_RP_HEAD_WIRE + row->form->bytes(m) : 0;
}
