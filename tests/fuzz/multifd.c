/* SPDX-License-Identifier: MIT */
/*
 * multifd channels: INIT if it is there, then packets and their payloads.
 * First octet: the compression methods that are legal.
 */
#include "fuzz.h"

#include "wire/multifd.h"

static uint32_t methods;	/* of this input */

static int init_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_multifd_init_decode(r, 4, out, e);
}

static void init_encode(struct ferry_wr *w, const void *in)
{
	ferry_multifd_init_encode(w, in);
}

static int ram_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_packet_decode(r, methods, out, e);
}

static void ram_encode(struct ferry_wr *w, const void *in)
{
	ferry_packet_encode(w, in);
}

static int device_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_device_packet_decode(r, out, e);
}

static void device_encode(struct ferry_wr *w, const void *in)
{
	ferry_device_packet_encode(w, in);
}

static const struct fuzz_codec init = {
	sizeof(struct ferry_multifd_init), false, init_decode, init_encode
};
static const struct fuzz_codec ram = {
	sizeof(struct ferry_packet), false, ram_decode, ram_encode
};
static const struct fuzz_codec device = {
	sizeof(struct ferry_device_packet), false, device_decode,
	device_encode
};

/* Octets of one packet with its payload, or 0. */
static size_t packet(const uint8_t *data, size_t bytes)
{
	const struct ferry_block_shape block = { "ram", 1 << 30, 4096 };
	const struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_device_packet d;
	struct ferry_packet p;
	uint32_t flags;
	size_t lack, n;

	if (ferry_packet_peek(&r, &flags, &lack, NULL) != 1)
		return 0;
	if (flags & FERRY_PACKET_DEVICE_STATE) {
		n = fuzz_stream(&device, data, bytes, &d);
		return n ? n + d.payload_bytes : 0;
	}
	n = fuzz_stream(&ram, data, bytes, &p);
	if (!n)
		return 0;
	FUZZ_CHECK(n == FERRY_PACKET_WIRE && p.flags == flags);
	FUZZ_CHECK(p.normal_pages + p.zero_pages <= FERRY_PACKET_PAGES_MAX);
	if (!ferry_packet_check_in(&p, &block, NULL))
		for (uint32_t i = 0; i < p.normal_pages + p.zero_pages; i++)
			FUZZ_CHECK(p.offset[i] <= block.bytes - 4096);
	return n + p.payload_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_multifd_init i;
	size_t at = 1, n = 1;

	if (!bytes)
		return 0;
	methods = data[0] & FERRY_PACKET_METHODS;
	at += fuzz_stream(&init, data + 1, bytes - 1, &i);
	for (; n && at < bytes; at += n)
		n = packet(data + at, bytes - at);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	const struct ferry_multifd_init i = { .uuid = { 1 }, .id = 3 };
	struct ferry_packet p = {
		.normal_pages = 1, .zero_pages = 2, .payload_bytes = 4096,
		.packet_num = 1, .name = "ram", .offset = { 0, 4096, 8192 },
	}, sync = { .flags = FERRY_PACKET_SYNC };
	const struct ferry_device_packet d = { .name = "vfio", .instance = 1,
					       .payload_bytes = 3 };
	static uint8_t buf[16384];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	ferry_wr_u8(&w, 0);
	ferry_multifd_init_encode(&w, &i);
	emit(buf, ferry_wr_used(&w));
	ferry_packet_encode(&w, &p);
	ferry_wr_zeroes(&w, p.payload_bytes);
	ferry_packet_encode(&w, &sync);
	emit(buf, ferry_wr_used(&w));

	w = ferry_wr_over(buf, sizeof(buf));
	ferry_wr_u8(&w, FERRY_PACKET_ZLIB);
	p.flags = FERRY_PACKET_ZLIB;
	p.payload_bytes = 100;
	ferry_packet_encode(&w, &p);
	ferry_wr_zeroes(&w, p.payload_bytes);
	ferry_device_packet_encode(&w, &d);
	ferry_wr_zeroes(&w, d.payload_bytes);
	emit(buf, ferry_wr_used(&w));

	w = ferry_wr_over(buf, sizeof(buf));
	ferry_wr_u8(&w, 0);
	ferry_device_packet_encode(&w, &d);
	emit(buf, ferry_wr_used(&w));
}
