/* SPDX-License-Identifier: MIT */
/*
 * One row per request, one set of functions per form of payload.
 */
#include "vu/msg/msg.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"

#define NO	(-1)
#define F(bit)	FERRY_VU_F_##bit

/* request, form, form of the reply, fds, replies, acks always, feature */
#define ROW(r, form, reply, lo, hi, replies, acks, feature)		\
	{ FERRY_VU_##r, FERRY_VU_##form, FERRY_VU_##reply, lo, hi,	\
	  replies, acks, feature, #r }

static const struct ferry_vu_row rows[] = {
	ROW(GET_FEATURES,	NONE,	U64,	0, 0, true, false, NO),
	ROW(SET_FEATURES,	U64,	NONE,	0, 0, false, false, NO),
	ROW(SET_OWNER,		NONE,	NONE,	0, 0, false, false, NO),
	ROW(RESET_OWNER,	NONE,	NONE,	0, 0, false, false, NO),
	ROW(SET_MEM_TABLE,	MEM,	NONE,	0, 8, false, false, NO),
	ROW(SET_LOG_BASE,	LOG,	U64,	1, 1, true, false,
	    F(LOG_SHMFD)),
	ROW(SET_LOG_FD,		NONE,	NONE,	1, 1, false, false, NO),
	ROW(SET_VRING_NUM,	STATE,	NONE,	0, 0, false, false, NO),
	ROW(SET_VRING_ADDR,	ADDR,	NONE,	0, 0, false, false, NO),
	ROW(SET_VRING_BASE,	STATE,	NONE,	0, 0, false, false, NO),
	ROW(GET_VRING_BASE,	STATE,	STATE,	0, 0, true, false, NO),
	ROW(SET_VRING_KICK,	U64,	NONE,	0, 1, false, false, NO),
	ROW(SET_VRING_CALL,	U64,	NONE,	0, 1, false, false, NO),
	ROW(SET_VRING_ERR,	U64,	NONE,	0, 1, false, false, NO),
	ROW(GET_PROTOCOL_FEATURES, NONE, U64,	0, 0, true, false, NO),
	ROW(SET_PROTOCOL_FEATURES, U64, NONE,	0, 0, false, false, NO),
	ROW(GET_QUEUE_NUM,	NONE,	U64,	0, 0, true, false, F(MQ)),
	ROW(SET_VRING_ENABLE,	STATE,	NONE,	0, 0, false, false, NO),
	ROW(SEND_RARP,		U64,	NONE,	0, 0, false, false, F(RARP)),
	ROW(NET_SET_MTU,	U64,	NONE,	0, 0, false, false,
	    F(NET_MTU)),
	ROW(SET_BACKEND_REQ_FD,	NONE,	NONE,	1, 1, false, false,
	    F(BACKEND_REQ)),
	ROW(GET_CONFIG,		CONFIG,	CONFIG,	0, 0, true, false, F(CONFIG)),
	ROW(SET_CONFIG,		CONFIG,	NONE,	0, 0, false, false,
	    F(CONFIG)),
	ROW(POSTCOPY_ADVISE,	NONE,	NONE,	0, 0, true, false,
	    F(PAGEFAULT)),
	ROW(POSTCOPY_LISTEN,	NONE,	NONE,	0, 0, false, true,
	    F(PAGEFAULT)),
	ROW(POSTCOPY_END,	NONE,	U64,	0, 0, true, false,
	    F(PAGEFAULT)),
	ROW(GET_INFLIGHT_FD,	INFLIGHT, INFLIGHT, 0, 0, true, false,
	    F(INFLIGHT_SHMFD)),
	ROW(SET_INFLIGHT_FD,	INFLIGHT, NONE,	1, 1, false, false,
	    F(INFLIGHT_SHMFD)),
	ROW(RESET_DEVICE,	NONE,	NONE,	0, 0, false, false,
	    F(RESET_DEVICE)),
	ROW(GET_MAX_MEM_SLOTS,	NONE,	U64,	0, 0, true, false,
	    F(CONFIGURE_MEM_SLOTS)),
	ROW(ADD_MEM_REG,	REGION,	NONE,	0, 1, false, false,
	    F(CONFIGURE_MEM_SLOTS)),
	ROW(REM_MEM_REG,	REGION,	NONE,	0, 1, false, false,
	    F(CONFIGURE_MEM_SLOTS)),
	ROW(SET_STATUS,		U64,	NONE,	0, 0, false, false,
	    F(STATUS)),
	ROW(GET_STATUS,		NONE,	U64,	0, 0, true, false, F(STATUS)),
	ROW(SET_DEVICE_STATE_FD, TRANSFER, U64,	1, 1, true, false,
	    F(DEVICE_STATE)),
	ROW(CHECK_DEVICE_STATE,	NONE,	U64,	0, 0, true, false,
	    F(DEVICE_STATE)),
};

static const struct {
	uint8_t		bit;
	const char	*name;
} features[] = {
	{ F(MQ), "MQ" },
	{ F(LOG_SHMFD), "LOG_SHMFD" },
	{ F(RARP), "RARP" },
	{ F(REPLY_ACK), "REPLY_ACK" },
	{ F(NET_MTU), "NET_MTU" },
	{ F(BACKEND_REQ), "BACKEND_REQ" },
	{ F(PAGEFAULT), "PAGEFAULT" },
	{ F(CONFIG), "CONFIG" },
	{ F(BACKEND_SEND_FD), "BACKEND_SEND_FD" },
	{ F(INFLIGHT_SHMFD), "INFLIGHT_SHMFD" },
	{ F(RESET_DEVICE), "RESET_DEVICE" },
	{ F(CONFIGURE_MEM_SLOTS), "CONFIGURE_MEM_SLOTS" },
	{ F(STATUS), "STATUS" },
	{ F(DEVICE_STATE), "DEVICE_STATE" },
};

/* Octets in the machine's order, one after the other.  Sizes are checked
 * before, so that none of these can run out. */
struct in {
	const uint8_t *p;
};

struct out {
	uint8_t *p;
};

static uint16_t get16(struct in *in)
{
	uint16_t v;

	memcpy(&v, in->p, sizeof(v));
	in->p += sizeof(v);
	return v;
}

static uint32_t get32(struct in *in)
{
	uint32_t v;

	memcpy(&v, in->p, sizeof(v));
	in->p += sizeof(v);
	return v;
}

static uint64_t get64(struct in *in)
{
	uint64_t v;

	memcpy(&v, in->p, sizeof(v));
	in->p += sizeof(v);
	return v;
}

static void put16(struct out *out, uint16_t v)
{
	memcpy(out->p, &v, sizeof(v));
	out->p += sizeof(v);
}

static void put32(struct out *out, uint32_t v)
{
	memcpy(out->p, &v, sizeof(v));
	out->p += sizeof(v);
}

static void put64(struct out *out, uint64_t v)
{
	memcpy(out->p, &v, sizeof(v));
	out->p += sizeof(v);
}

/* ---- forms -------------------------------------------------------------- */

/*
 * bytes: 0 to let decode look at the size.  decode: NULL, or what is wrong.
 */
struct form {
	uint32_t	bytes;
	const char	*(*decode)(struct in *in, struct ferry_vu_msg *m);
	void		(*encode)(struct out *out,
				  const struct ferry_vu_msg *m);
};

static const char *none_decode(struct in *in, struct ferry_vu_msg *m)
{
	(void)in;
	return m->h.bytes ? "has a payload" : NULL;
}

static void none_encode(struct out *out, const struct ferry_vu_msg *m)
{
	(void)out;
	(void)m;
}

static const char *u64_decode(struct in *in, struct ferry_vu_msg *m)
{
	m->u64 = get64(in);
	return NULL;
}

static void u64_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put64(out, m->u64);
}

static const char *state_decode(struct in *in, struct ferry_vu_msg *m)
{
	m->state.index = get32(in);
	m->state.num = get32(in);
	return NULL;
}

static void state_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put32(out, m->state.index);
	put32(out, m->state.num);
}

static const char *addr_decode(struct in *in, struct ferry_vu_msg *m)
{
	m->addr.index = get32(in);
	m->addr.flags = get32(in);
	m->addr.desc = get64(in);
	m->addr.used = get64(in);
	m->addr.avail = get64(in);
	m->addr.log = get64(in);
	return m->addr.flags & ~FERRY_VU_ADDR_LOG ? "has unknown flags" : NULL;
}

static void addr_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put32(out, m->addr.index);
	put32(out, m->addr.flags);
	put64(out, m->addr.desc);
	put64(out, m->addr.used);
	put64(out, m->addr.avail);
	put64(out, m->addr.log);
}

static bool wraps(uint64_t start, uint64_t bytes)
{
	return start > UINT64_MAX - bytes;
}

static const char *region_get(struct in *in, struct ferry_vu_region *r)
{
	r->gpa = get64(in);
	r->bytes = get64(in);
	r->user_addr = get64(in);
	r->fd_offset = get64(in);
	if (!r->bytes)
		return "has an empty region";
	if (wraps(r->gpa, r->bytes) || wraps(r->user_addr, r->bytes) ||
	    r->fd_offset > INT64_MAX || r->bytes > INT64_MAX - r->fd_offset)
		return "has a region that wraps";
	return NULL;
}

static void region_put(struct out *out, const struct ferry_vu_region *r)
{
	put64(out, r->gpa);
	put64(out, r->bytes);
	put64(out, r->user_addr);
	put64(out, r->fd_offset);
}

static const char *mem_decode(struct in *in, struct ferry_vu_msg *m)
{
	struct ferry_vu_mem *mem = &m->mem;
	const char *wrong = NULL;

	if (m->h.bytes < 8)
		return "is too short";
	mem->n = get32(in);
	get32(in);
	if (mem->n > FERRY_VU_REGIONS_MAX)
		return "has more than 8 regions";
	if (m->h.bytes != 8 + 32 * mem->n)
		return "does not have the size of its regions";
	for (uint32_t i = 0; i < mem->n && !wrong; i++)
		wrong = region_get(in, &mem->region[i]);
	return wrong;
}

static void mem_encode(struct out *out, const struct ferry_vu_msg *m)
{
	assert(m->mem.n <= FERRY_VU_REGIONS_MAX);
	put32(out, m->mem.n);
	put32(out, 0);
	for (uint32_t i = 0; i < m->mem.n; i++)
		region_put(out, &m->mem.region[i]);
}

static const char *one_region_decode(struct in *in, struct ferry_vu_msg *m)
{
	get64(in);
	return region_get(in, &m->region);
}

static void one_region_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put64(out, 0);
	region_put(out, &m->region);
}

static const char *log_decode(struct in *in, struct ferry_vu_msg *m)
{
	m->log.bytes = get64(in);
	m->log.fd_offset = get64(in);
	if (!m->log.bytes)
		return "has an empty log";
	if (m->log.fd_offset > INT64_MAX ||
	    m->log.bytes > INT64_MAX - m->log.fd_offset)
		return "has a log that wraps";
	return NULL;
}

static void log_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put64(out, m->log.bytes);
	put64(out, m->log.fd_offset);
}

/* A reply of size 0 is how a backend says that it failed. */
static const char *config_decode(struct in *in, struct ferry_vu_msg *m)
{
	struct ferry_vu_config *c = &m->config;

	if (!m->h.bytes) {
		c->offset = c->bytes = c->flags = 0;
		return NULL;
	}
	if (m->h.bytes < 12)
		return "is too short";
	c->offset = get32(in);
	c->bytes = get32(in);
	c->flags = get32(in);
	if (c->bytes > FERRY_VU_CONFIG_BYTES_MAX ||
	    c->offset > FERRY_VU_CONFIG_BYTES_MAX - c->bytes)
		return "goes beyond the 256 octets of a configuration";
	if (m->h.bytes != 12 + c->bytes)
		return "does not have the size of its data";
	memcpy(c->data, in->p, c->bytes);
	return NULL;
}

static void config_encode(struct out *out, const struct ferry_vu_msg *m)
{
	const struct ferry_vu_config *c = &m->config;

	assert(c->bytes <= FERRY_VU_CONFIG_BYTES_MAX);
	put32(out, c->offset);
	put32(out, c->bytes);
	put32(out, c->flags);
	memcpy(out->p, c->data, c->bytes);
	out->p += c->bytes;
}

/* The struct ends in four octets of padding; some peers leave them out. */
static const char *inflight_decode(struct in *in, struct ferry_vu_msg *m)
{
	struct ferry_vu_inflight *f = &m->inflight;

	if (m->h.bytes != 20 && m->h.bytes != 24)
		return "does not have 24 octets";
	f->bytes = get64(in);
	f->fd_offset = get64(in);
	f->queues = get16(in);
	f->queue_size = get16(in);
	if (f->fd_offset > INT64_MAX || f->bytes > INT64_MAX - f->fd_offset)
		return "has an area that wraps";
	return NULL;
}

static void inflight_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put64(out, m->inflight.bytes);
	put64(out, m->inflight.fd_offset);
	put16(out, m->inflight.queues);
	put16(out, m->inflight.queue_size);
	put32(out, 0);
}

static const char *transfer_decode(struct in *in, struct ferry_vu_msg *m)
{
	m->transfer.direction = get32(in);
	m->transfer.phase = get32(in);
	if (m->transfer.direction > 1)
		return "has a direction that is neither save nor load";
	return m->transfer.phase ? "has an unknown phase" : NULL;
}

static void transfer_encode(struct out *out, const struct ferry_vu_msg *m)
{
	put32(out, m->transfer.direction);
	put32(out, m->transfer.phase);
}

static const struct form forms[FERRY_VU_FORMS] = {
	[FERRY_VU_NONE]		= { 0, none_decode, none_encode },
	[FERRY_VU_U64]		= { 8, u64_decode, u64_encode },
	[FERRY_VU_STATE]	= { 8, state_decode, state_encode },
	[FERRY_VU_ADDR]		= { 40, addr_decode, addr_encode },
	[FERRY_VU_MEM]		= { 0, mem_decode, mem_encode },
	[FERRY_VU_REGION]	= { 40, one_region_decode, one_region_encode },
	[FERRY_VU_LOG]		= { 16, log_decode, log_encode },
	[FERRY_VU_CONFIG]	= { 0, config_decode, config_encode },
	[FERRY_VU_INFLIGHT]	= { 0, inflight_decode, inflight_encode },
	[FERRY_VU_TRANSFER]	= { 8, transfer_decode, transfer_encode },
};

/* ---- messages ----------------------------------------------------------- */

const struct ferry_vu_row *ferry_vu_row(uint32_t request)
{
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		if (rows[i].request == request)
			return &rows[i];
	return NULL;
}

const char *ferry_vu_name(uint32_t request)
{
	const struct ferry_vu_row *row = ferry_vu_row(request);

	return row ? row->name : "unknown request";
}

const char *ferry_vu_feature_name(unsigned bit)
{
	for (size_t i = 0; i < FERRY_LEN(features); i++)
		if (features[i].bit == bit)
			return features[i].name;
	return "?";
}

int ferry_vu_header_decode(const uint8_t *octets, struct ferry_vu_header *h,
			   struct ferry_err *e)
{
	struct in in = { octets };
	const uint32_t known = 3u | FERRY_VU_REPLY | FERRY_VU_NEED_REPLY;

	h->request = get32(&in);
	h->flags = get32(&in);
	h->bytes = get32(&in);
	if ((h->flags & 3u) != FERRY_VU_VERSION || h->flags & ~known)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s (%" PRIu32 "): flags 0x%" PRIx32
				     " are not of version 1",
				     ferry_vu_name(h->request), h->request,
				     h->flags);
	if (h->bytes > FERRY_VU_PAYLOAD_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s (%" PRIu32 "): a payload of %" PRIu32
				     " octets, more than any message has",
				     ferry_vu_name(h->request), h->request,
				     h->bytes);
	return 0;
}

void ferry_vu_header_encode(uint8_t *octets, const struct ferry_vu_header *h)
{
	struct out out = { octets };

	put32(&out, h->request);
	put32(&out, h->flags);
	put32(&out, h->bytes);
}

enum ferry_vu_form ferry_vu_answer_form(const struct ferry_vu_header *h,
					enum ferry_vu_form form)
{
	return h->request == FERRY_VU_SET_LOG_BASE && !h->bytes ?
	       FERRY_VU_NONE : form;
}

int ferry_vu_payload_decode(const uint8_t *octets, enum ferry_vu_form form,
			    struct ferry_vu_msg *m, struct ferry_err *e)
{
	const struct form *f = &forms[form];
	struct in in = { octets };
	const char *wrong = NULL;

	if (f->bytes && m->h.bytes != f->bytes)
		wrong = "does not have its size";
	else
		wrong = f->decode(&in, m);
	if (!wrong)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "%s of %" PRIu32 " octets %s",
			     ferry_vu_name(m->h.request), m->h.bytes, wrong);
}

size_t ferry_vu_payload_encode(uint8_t *octets, enum ferry_vu_form form,
			       const struct ferry_vu_msg *m)
{
	struct out out = { octets };

	forms[form].encode(&out, m);
	return (size_t)(out.p - octets);
}
