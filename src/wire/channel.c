/* SPDX-License-Identifier: MIT */
/*
 *   0               4       6       8
 *   | magic         | ver.  | bytes |
 *   | type  | index | reserved = 0  |
 *   | session id                    |
 *   |                               |
 *   | features offered (taken)      |
 *   | features mandatory            |
 *   | MAC, 32 octets                |     bound, and no answer
 */
#include "wire/channel.h"

#include <inttypes.h>

static const char *const features[] = {
	"commit", "zero-ranges", "postcopy-data", "urgent", "resend",
	"heartbeat", "reasons", "postcopy", "recover", "verify", "bound",
	"bulk", "fence", "compress",
	[15] = "survive",
};

static const struct {
	const char	*name;
	unsigned	most;		/* how many channels of this type */
} types[] = {
	[FERRY_CHANNEL_MAIN]	= { "main", 1 },
	[FERRY_CHANNEL_DATA]	= { "data", FERRY_DATA_CHANNELS_MAX },
	[FERRY_CHANNEL_URGENT]	= { "urgent", FERRY_URGENT_CHANNELS_MAX },
	[FERRY_CHANNEL_DEVICE]	= { "device", FERRY_DEVICE_CHANNELS_MAX },
};

#define TYPES	(sizeof(types) / sizeof(types[0]))

const char *ferry_channel_type_name(uint16_t type)
{
	return type < TYPES && types[type].name ? types[type].name : "unknown";
}

bool ferry_channel_of_number(uint32_t number, enum ferry_channel_type *type,
			     unsigned *index)
{
	*type = (enum ferry_channel_type)(number >> 16);
	*index = number & 0xffff;
	return (*type == FERRY_CHANNEL_DATA || *type == FERRY_CHANNEL_URGENT) &&
	       *index < types[*type].most;
}

const char *ferry_feature_name(unsigned bit)
{
	return bit < sizeof(features) / sizeof(features[0]) ? features[bit]
							     : NULL;
}

static bool same(const volatile uint8_t *a, const volatile uint8_t *b,
		 unsigned bytes)
{
	uint8_t differs = 0;

	for (unsigned i = 0; i < bytes; i++)
		differs = (uint8_t)(differs | (a[i] ^ b[i]));
	return !differs;
}

bool ferry_session_same(const uint8_t a[FERRY_SESSION_BYTES],
			const uint8_t b[FERRY_SESSION_BYTES])
{
	return same(a, b, FERRY_SESSION_BYTES);
}

bool ferry_mac_same(const uint8_t a[FERRY_MAC_BYTES],
		    const uint8_t b[FERRY_MAC_BYTES])
{
	return same(a, b, FERRY_MAC_BYTES);
}

static bool has_mac(const struct ferry_channel_head *h)
{
	return !h->answer && (h->features & FERRY_FEATURE_BOUND);
}

size_t ferry_channel_bytes(const struct ferry_channel_head *h)
{
	return has_mac(h) ? FERRY_CHANNEL_BOUND_WIRE : FERRY_CHANNEL_WIRE;
}

/* Magic, version, size: what says how to read the rest. */
static int shape_decode(struct ferry_rd *r, bool answer, size_t *bytes,
			struct ferry_err *e)
{
	uint32_t want = answer ? FERRY_CHANNEL_ANSWER_MAGIC
			       : FERRY_CHANNEL_MAGIC;
	uint32_t magic = ferry_rd_be32(r);
	unsigned version;

	if (!r->bad && magic != want)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "not a ferry: the channel begins with"
				     " 0x%08" PRIx32, magic);
	version = ferry_rd_be16(r);
	if (!r->bad && version != FERRY_CHANNEL_VERSION)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "channel header of version %u, %u is"
				     " spoken here", version,
				     FERRY_CHANNEL_VERSION);
	*bytes = ferry_rd_be16(r);
	if (!r->bad && (*bytes < FERRY_CHANNEL_WIRE ||
			*bytes > FERRY_CHANNEL_HEADER_MAX))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "channel header of %zu octets", *bytes);
	return 0;
}

static int place_decode(struct ferry_rd *r, struct ferry_channel_head *h,
			struct ferry_err *e)
{
	uint32_t reserved;

	h->type = ferry_rd_be16(r);
	h->index = ferry_rd_be16(r);
	reserved = ferry_rd_be32(r);
	if (r->bad)
		return 0;
	if (h->type >= TYPES || !types[h->type].name ||
	    (h->answer && h->type != FERRY_CHANNEL_MAIN))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "channel header: type %u", h->type);
	if (h->index >= types[h->type].most || reserved)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "channel header: %s channel %u, reserved"
				     " 0x%" PRIx32, types[h->type].name,
				     h->index, reserved);
	return 0;
}

static int session_decode(struct ferry_rd *r, struct ferry_channel_head *h,
			  struct ferry_err *e)
{
	static const uint8_t none[FERRY_SESSION_BYTES];
	const uint8_t *at = ferry_rd_bytes(r, sizeof(h->session));

	if (!at)
		return 0;
	memcpy(h->session, at, sizeof(h->session));
	if (!memcmp(at, none, sizeof(none)))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "channel header: no session id");
	return 0;
}

static int features_decode(struct ferry_rd *r, struct ferry_channel_head *h,
			   struct ferry_err *e)
{
	h->features = ferry_rd_be64(r);
	h->mandatory = ferry_rd_be64(r);
	if (!r->bad && (h->mandatory & ~h->features ||
			(h->answer && h->mandatory)))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "channel header: features 0x%" PRIx64
				     ", mandatory 0x%" PRIx64,
				     h->features, h->mandatory);
	return 0;
}

/* What stands behind the 48 octets; what nobody knows here is skipped. */
static int rest_decode(struct ferry_rd *r, size_t bytes,
		       struct ferry_channel_head *h, struct ferry_err *e)
{
	const uint8_t *mac;

	if (r->bad)
		return 0;
	if (bytes < ferry_channel_bytes(h))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "channel header: "
				     "bound, and no MAC in %zu octets",
				     bytes);
	if (has_mac(h)) {
		mac = ferry_rd_bytes(r, sizeof(h->mac));
		if (mac)
			memcpy(h->mac, mac, sizeof(h->mac));
	}
	if (!r->bad)
		ferry_rd_bytes(r, bytes - ferry_channel_bytes(h));
	return 0;
}

int ferry_channel_decode(struct ferry_rd *r, bool answer,
			 struct ferry_channel_head *h, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	size_t bytes = 0;
	int rc;

	*h = (struct ferry_channel_head){ .answer = answer };
	rc = shape_decode(r, answer, &bytes, e) || place_decode(r, h, e) ||
	     session_decode(r, h, e) || features_decode(r, h, e) ||
	     rest_decode(r, bytes, h, e) ? -1 : 0;
	return ferry_decode_end(r, from, rc);
}

void ferry_channel_encode(struct ferry_wr *w,
			  const struct ferry_channel_head *h)
{
	ferry_wr_be32(w, h->answer ? FERRY_CHANNEL_ANSWER_MAGIC
				   : FERRY_CHANNEL_MAGIC);
	ferry_wr_be16(w, FERRY_CHANNEL_VERSION);
	ferry_wr_be16(w, (uint16_t)ferry_channel_bytes(h));
	ferry_wr_be16(w, h->type);
	ferry_wr_be16(w, h->index);
	ferry_wr_be32(w, 0);
	ferry_wr_bytes(w, h->session, sizeof(h->session));
	ferry_wr_be64(w, h->features);
	ferry_wr_be64(w, h->mandatory);
	if (has_mac(h))
		ferry_wr_bytes(w, h->mac, sizeof(h->mac));
}

static int refuse(uint64_t bits, const char *why, struct ferry_err *e)
{
	unsigned bit = (unsigned)__builtin_ctzll(bits);
	const char *name = ferry_feature_name(bit);

	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "feature bit %u (%s) %s",
			     bit, name ? name : "unknown here", why);
}

int ferry_channel_take(const struct ferry_channel_head *offer, uint64_t can,
		       uint64_t *taken, struct ferry_err *e)
{
	*taken = offer->features & can;
	if (offer->mandatory & ~can)
		return refuse(offer->mandatory & ~can,
			      "is mandatory for the source, and the target"
			      " does not have it", e);
	return 0;
}

int ferry_channel_check(const struct ferry_channel_head *offer,
			const struct ferry_channel_head *answer,
			struct ferry_err *e)
{
	if (memcmp(offer->session, answer->session, FERRY_SESSION_BYTES))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the target answers another session");
	if (answer->features & ~offer->features)
		return refuse(answer->features & ~offer->features,
			      "was taken by the target but not offered", e);
	if (offer->mandatory & ~answer->features)
		return refuse(offer->mandatory & ~answer->features,
			      "is mandatory, and the target did not take it",
			      e);
	return 0;
}
