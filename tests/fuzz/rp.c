/* SPDX-License-Identifier: MIT */
/* Return paths: messages one after the other.  First octet: whose. */
#include "fuzz.h"

#include "wire/rp.h"

static int ferry_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_rp_decode(r, FERRY_DIALECT_FERRY, out, e);
}

static int qemu_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_rp_decode(r, FERRY_DIALECT_QEMU, out, e);
}

static void encode(struct ferry_wr *w, const void *in)
{
	size_t before = ferry_wr_used(w);

	ferry_rp_encode(w, in);
	FUZZ_CHECK(ferry_wr_used(w) - before == ferry_rp_bytes(in));
}

/* Reasons are cleaned, so a message may change once. */
static const struct fuzz_codec codecs[] = {
	{ sizeof(struct ferry_rp), false, ferry_decode, encode },
	{ sizeof(struct ferry_rp), true, qemu_decode, encode },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_rp m;

	for (size_t at = 1, n = 1; n && at < bytes; at += n) {
		n = fuzz_stream(&codecs[data[0] & 1], data + at, bytes - at,
				&m);
		if (n)
			FUZZ_CHECK(m.span.bytes <= FERRY_REQUEST_BYTES_MAX &&
				   m.span.bytes <= UINT64_MAX - m.span.start);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const struct ferry_rp messages[] = {
		{ .type = FERRY_RP_PONG, .value = 1 },
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "pc.ram",
		  .span = { 0x200000, 0x1000 } },
		{ .type = FERRY_RP_REQ_PAGES, .span = { 0, 1 << 30 } },
		{ .type = FERRY_RP_RECV_BITMAP, .name = "pc.ram" },
		{ .type = FERRY_RP_RESUME_ACK, .value = 1 },
		{ .type = FERRY_RP_SWITCHOVER_ACK },
		{ .type = FERRY_RP_LOADED },
		{ .type = FERRY_RP_RUNNING },
		{ .type = FERRY_RP_SYNCED, .value = 3 },
		{ .type = FERRY_RP_REASON, .reason = "a \xe2\x82\xac\n" },
		{ .type = FERRY_RP_SHUT, .value = 1 },
	};
	uint8_t buf[1024], all[4096];
	struct ferry_wr together = ferry_wr_over(all, sizeof(all));

	ferry_wr_u8(&together, 0);
	for (size_t i = 0; i < FERRY_LEN(messages); i++) {
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

		ferry_wr_u8(&w, i & 1);
		ferry_rp_encode(&w, &messages[i]);
		emit(buf, ferry_wr_used(&w));
		if (messages[i].type != FERRY_RP_SWITCHOVER_ACK)
			ferry_rp_encode(&together, &messages[i]);
	}
	emit(all, ferry_wr_used(&together));
}
