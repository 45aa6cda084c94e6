/* SPDX-License-Identifier: MIT */
/* Packets of bulk devices, one behind the other. */
#include "fuzz.h"

#include "wire/bulk.h"

static int decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_bulk_packet_decode(r, out, e);
}

static void encode(struct ferry_wr *w, const void *in)
{
	ferry_bulk_packet_encode(w, in);
}

static const struct fuzz_codec packet = {
	sizeof(struct ferry_bulk_packet), true, decode, encode,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_bulk_packet p = { 0 };
	size_t n;

	while ((n = fuzz_stream(&packet, data, bytes, &p)) != 0) {
		FUZZ_CHECK(p.device < FERRY_BULK_DEVICES_MAX);
		FUZZ_CHECK(p.bytes <= FERRY_BULK_PACKET_BYTES_MAX);
		FUZZ_CHECK(!p.bytes || !(p.flags & FERRY_BULK_PACKET_LAST));
		data += n;
		bytes -= n;
		if (p.bytes > bytes)
			break;
		data += p.bytes;
		bytes -= p.bytes;
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	const struct ferry_bulk_packet p = {
		.device = 1, .flags = 1, .bytes = 16, .index = 3,
	}, last = {
		.device = 63, .index = 4,
		.flags = FERRY_BULK_PACKET_STOPPED | FERRY_BULK_PACKET_LAST,
	};
	uint8_t buf[2 * FERRY_BULK_WIRE + 16] = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	ferry_bulk_packet_encode(&w, &p);
	ferry_wr_bytes(&w, "sixteen octets..", 16);
	ferry_bulk_packet_encode(&w, &last);
	emit(buf, ferry_wr_used(&w));
}
