/* SPDX-License-Identifier: MIT */
/*
 * Small streams of every kind that `ferry dump` reads, made by our own
 * encoders; for the unit tests and as seeds for the fuzzer.
 */
#ifndef STREAMS_H
#define STREAMS_H

#include "base/cleanup.h"
#include "park/dump.h"
#include "wire/bulk.h"
#include "wire/channel.h"
#include "wire/command.h"
#include "wire/config.h"
#include "wire/hello.h"
#include "wire/multifd.h"
#include "wire/ram.h"
#include "wire/ramlist.h"
#include "wire/ranges.h"
#include "wire/recvmap.h"
#include "wire/rp.h"

#define STREAM_MAX	(4u << 20)
#define SECTION		7u
#define RAM_BYTES	(64u << 10)
#define HUGE_RAM_BYTES	(2u * FERRY_HUGE_BYTES)

static inline void stream_page(struct ferry_wr *w, const char *name,
			       uint64_t offset)
{
	ferry_ram_page_encode(w, FERRY_RAM_PAGE, name, offset, 0);
	memset(ferry_wr_room(w, FERRY_PAGE_BYTES), 0x5a, FERRY_PAGE_BYTES);
}

static inline void stream_section(struct ferry_wr *w, uint8_t type,
				  uint32_t id, const char *name,
				  uint32_t version)
{
	struct ferry_section s = {
		.type = type, .id = id, .version = version,
	};

	strcpy(s.name, name);
	ferry_section_encode(w, &s);
}

static inline void stream_head(struct ferry_wr *w, uint32_t capabilities)
{
	struct ferry_config c = {
		.machine = "pc-q35-7.2", .capabilities = capabilities,
	};

	ferry_file_header_encode(w);
	ferry_config_encode(w, &c);
}

static inline uint32_t stream_huge(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return 0;
}

/* START ram with its list: "ram", and "huge" of 2 MiB pages if advised. */
static inline void stream_start(struct ferry_wr *w, bool advised, bool mapped)
{
	struct ferry_ramlist l = {
		.page_bytes = advised ? stream_huge : NULL, .mapped = mapped,
	};
	struct ferry_ramlist_block ram = {
		.name = "ram", .bytes = RAM_BYTES, .page_bytes = 4096,
	}, huge = {
		.name = "huge", .bytes = HUGE_RAM_BYTES,
		.page_bytes = FERRY_HUGE_BYTES,
	};
	uint64_t word = 0x8003;

	stream_section(w, FERRY_SECTION_START, SECTION, "ram",
		       FERRY_RAM_SECTION_VERSION);
	ferry_ram_mark_encode(w, FERRY_RAM_MEM_SIZE,
			      ram.bytes + (advised ? huge.bytes : 0));
	ram.mapped.bitmap_offset = ferry_wr_used(w) +
				   ferry_ramlist_bytes(&l, &ram);
	ram.mapped.pages_offset = 4096;
	ferry_ramlist_encode(w, &l, &ram);
	if (advised)
		ferry_ramlist_encode(w, &l, &huge);
	if (mapped) {
		ferry_recvmap_words_encode(w, &word, 1);
		ferry_wr_zeroes(w, ram.mapped.pages_offset -
				   ferry_wr_used(w));
		ferry_wr_zeroes(w, RAM_BYTES);
	}
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, SECTION);
}

static inline void stream_part(struct ferry_wr *w, uint8_t type)
{
	struct ferry_section s = { .type = type, .id = SECTION };

	ferry_section_encode(w, &s);
}

static inline void stream_part_end(struct ferry_wr *w)
{
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, SECTION);
}

/* Bodies that hold what looks like a footer of theirs. */
static inline void stream_device(struct ferry_wr *w, uint32_t id,
				 const char *name, size_t bytes, bool sized)
{
	stream_section(w, FERRY_SECTION_FULL, id, name, 1);
	if (sized)
		ferry_body_encode(w, (uint32_t)bytes);
	ferry_footer_encode(w, id);
	ferry_wr_zeroes(w, bytes - FERRY_FOOTER_WIRE);
	ferry_footer_encode(w, id);
}

/* What QEMU would say of the two devices below. */
static const char stream_vmdesc[] =
	"{\"page_size\": 4096, \"devices\": [\n"
	" {\"name\": \"timer\", \"instance_id\": 0, \"fields\": ["
	"{\"name\": \"a\", \"size\": 8}, {\"name\": \"b\", \"array_len\": 3,"
	" \"type\": \"struct\", \"struct\": {\"fields\": [{\"size\": 9}]},"
	" \"size\": 4}], \"subsections\": [{\"vmsd_name\": \"timer/x\","
	" \"version\": 1, \"fields\": [{\"name\": \"c\", \"size\": 2}]}]},\n"
	" {\"name\": \"cpu\", \"instance_id\": 0, \"size\": 40}]}";

#define TIMER_BYTES	(8 + 3 * 4 + 1 + 1 + 7 + 4 + 2)

static inline void stream_end(struct ferry_wr *w, const char *json)
{
	struct ferry_section s = {
		.type = FERRY_SECTION_VMDESCRIPTION,
		.bytes = (uint32_t)strlen(json),
	};

	ferry_wr_u8(w, FERRY_SECTION_EOF);
	ferry_section_encode(w, &s);
	ferry_wr_bytes(w, json, strlen(json));
}

/* ---- whole ones ---------------------------------------------------- */

static inline void stream_precopy(struct ferry_wr *w)
{
	stream_head(w, 0);
	ferry_command_encode(w, FERRY_COMMAND_OPEN_RETURN_PATH);
	ferry_command_u32_encode(w, FERRY_COMMAND_PING, 1);
	stream_start(w, false, false);
	stream_part(w, FERRY_SECTION_PART);
	stream_page(w, "ram", 0);
	stream_page(w, NULL, 4096);
	ferry_ram_page_encode(w, FERRY_RAM_ZERO, NULL, 8192, 0);
	stream_part_end(w);
	stream_part(w, FERRY_SECTION_END);
	ferry_ram_page_encode(w, FERRY_RAM_XBZRLE, "ram", 0, 4);
	ferry_wr_be32(w, 0x0001ff01);
	ferry_ram_mark_encode(w, FERRY_RAM_MULTIFD_FLUSH, 0);
	stream_part_end(w);
	stream_device(w, 8, "timer", TIMER_BYTES, false);
	stream_device(w, 9, "cpu", 40, false);
	stream_end(w, stream_vmdesc);
}

/* An early device, one in parts, and no description. */
static inline void stream_bare(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_device(w, 3, "virtio-mem", 6, false);
	stream_start(w, false, false);
	stream_section(w, FERRY_SECTION_START, 5, "dirty-bitmap", 1);
	ferry_wr_zeroes(w, 3);
	ferry_footer_encode(w, 5);
	stream_part(w, FERRY_SECTION_END);
	stream_part_end(w);
	ferry_wr_u8(w, FERRY_SECTION_END);
	ferry_wr_be32(w, 5);
	ferry_wr_zeroes(w, 9);
	ferry_footer_encode(w, 5);
	stream_device(w, 9, "cpu", 40, false);
	stream_end(w, "");
}

static inline void stream_discard(struct ferry_wr *w)
{
	const struct ferry_span spans[] = {
		{ 0, FERRY_HUGE_BYTES },
		{ FERRY_HUGE_BYTES, FERRY_HUGE_BYTES },
	};

	ferry_ranges_encode(w, FERRY_COMMAND_RAM_DISCARD, "huge", spans, 2);
}

static inline void stream_postcopy(struct ferry_wr *w)
{
	const struct ferry_advise a = { true, 0x201000 };
	static uint8_t blob[512];
	struct ferry_wr in = ferry_wr_over(blob, sizeof(blob));

	stream_head(w, 0);
	ferry_advise_encode(w, &a);
	stream_start(w, true, false);
	stream_discard(w);
	ferry_command_encode(&in, FERRY_COMMAND_POSTCOPY_LISTEN);
	stream_device(&in, 8, "timer", TIMER_BYTES, false);
	stream_device(&in, 9, "cpu", 40, false);
	ferry_command_u32_encode(&in, FERRY_COMMAND_PING, 3);
	ferry_command_encode(&in, FERRY_COMMAND_POSTCOPY_RUN);
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED,
				 (uint32_t)ferry_wr_used(&in));
	ferry_wr_bytes(w, blob, ferry_wr_used(&in));
	stream_part(w, FERRY_SECTION_PART);
	stream_page(w, "huge", 0);
	stream_part_end(w);
	stream_part(w, FERRY_SECTION_END);
	stream_part_end(w);
	ferry_wr_u8(w, FERRY_SECTION_EOF);
}

static inline void stream_recovery(struct ferry_wr *w)
{
	ferry_recv_bitmap_encode(w, "ram");
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_RESUME);
	stream_part(w, FERRY_SECTION_END);
	stream_page(w, "ram", 4096);
	stream_part_end(w);
	ferry_wr_u8(w, FERRY_SECTION_EOF);
}

static inline void stream_mapped(struct ferry_wr *w)
{
	stream_head(w, FERRY_CONFIG_MAPPED_RAM);
	stream_start(w, false, true);
	stream_part(w, FERRY_SECTION_END);
	stream_part_end(w);
	stream_device(w, 9, "cpu", 40, false);
	stream_end(w, stream_vmdesc);
}

static inline void stream_packet(struct ferry_wr *w, uint32_t flags,
				 uint32_t normal, uint32_t zero,
				 uint32_t payload)
{
	struct ferry_packet p = {
		.flags = flags, .normal_pages = normal, .zero_pages = zero,
		.payload_bytes = payload, .packet_num = 5,
	};

	if (normal + zero)
		strcpy(p.name, "ram");
	for (uint32_t i = 0; i < normal + zero; i++)
		p.offset[i] = i * FERRY_PAGE_BYTES;
	ferry_packet_encode(w, &p);
	ferry_wr_zeroes(w, payload);
}

static inline void stream_multifd(struct ferry_wr *w)
{
	const struct ferry_multifd_init init = { .id = 1 };
	const struct ferry_device_packet dev = {
		.name = "vfio", .payload_bytes = 10,
	};

	ferry_multifd_init_encode(w, &init);
	stream_packet(w, 0, 2, 1, 2 * FERRY_PAGE_BYTES);
	stream_packet(w, FERRY_PACKET_ZLIB, 2, 0, 77);
	ferry_device_packet_encode(w, &dev);
	ferry_wr_zeroes(w, 10);
	stream_packet(w, FERRY_PACKET_SYNC, 0, 0, 0);
}

static inline void stream_preempt(struct ferry_wr *w)
{
	stream_page(w, "ram", 0);
	stream_page(w, NULL, 4096);
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
}

static inline void stream_reply(struct ferry_wr *w, const struct ferry_rp *m)
{
	ferry_rp_encode(w, m);
}

static inline void stream_return(struct ferry_wr *w)
{
	const uint64_t words[] = { ~0ull, 1, 0 };
	const struct ferry_rp m[] = {
		{ .type = FERRY_RP_SWITCHOVER_ACK },
		{ .type = FERRY_RP_PONG, .value = 1 },
		{ .type = FERRY_RP_REQ_PAGES_ID, .span = { 0, 4096 },
		  .name = "ram" },
		{ .type = FERRY_RP_REQ_PAGES, .span = { 8192, 4096 } },
		{ .type = FERRY_RP_RECV_BITMAP, .name = "ram" },
		{ .type = FERRY_RP_RESUME_ACK, .value = 1 },
		{ .type = FERRY_RP_SHUT },
	};

	for (size_t i = 0; i < FERRY_LEN(m); i++) {
		stream_reply(w, &m[i]);
		if (m[i].type != FERRY_RP_RECV_BITMAP)
			continue;
		ferry_recvmap_head_encode(w, 192);
		ferry_recvmap_words_encode(w, words, 3);
		ferry_recvmap_end_encode(w);
	}
}

/* ---- between two ferries ------------------------------------------- */

static inline void stream_channel(struct ferry_wr *w, bool answer,
				  uint16_t type)
{
	const struct ferry_channel_head h = {
		.answer = answer, .type = type, .session = { 1, 2, 3 },
		.features = FERRY_FEATURES_KNOWN | 1ull << 40,
		.mandatory = answer ? 0 : 1,
	};

	ferry_channel_encode(w, &h);
}

static inline void stream_hello(struct ferry_wr *w, bool answer)
{
	struct ferry_hello h = {
		.name = "db1", .has_verdict = answer, .has_channels = !answer,
		.data = 2, .urgent = 1, .software = "ferry",
	};

	if (ferry_hello_add_block(&h, "ram", RAM_BYTES, 4096, 0, NULL) ||
	    ferry_hello_add_fact(&h, "cpu", 1, "sse2", 4, NULL))
		w->bad = true;
	ferry_hello_encode(w, &h);
	ferry_hello_fini(&h);
}

static inline void stream_ferry(struct ferry_wr *w)
{
	static uint8_t blob[256];
	struct ferry_wr in = ferry_wr_over(blob, sizeof(blob));
	const struct ferry_span all = { 0, RAM_BYTES };

	stream_channel(w, false, FERRY_CHANNEL_MAIN);
	stream_hello(w, false);
	stream_head(w, 0);
	ferry_command_encode(w, FERRY_COMMAND_OPEN_RETURN_PATH);
	stream_start(w, false, false);
	ferry_ranges_encode(w, FERRY_COMMAND_ZERO_RANGES, "ram", &all, 1);
	ferry_command_u32_encode(w, FERRY_COMMAND_BARRIER, 1);
	ferry_command_u32_encode(w, FERRY_COMMAND_FINISH, 2);
	stream_device(&in, 9, "cpu", 40, true);
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED,
				 (uint32_t)ferry_wr_used(&in));
	ferry_wr_bytes(w, blob, ferry_wr_used(&in));
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_RUN);
}

static inline void stream_abort(struct ferry_wr *w)
{
	stream_channel(w, false, FERRY_CHANNEL_MAIN);
	stream_hello(w, false);
	ferry_abort_encode(w, "changed my mind");
}

static inline void stream_data(struct ferry_wr *w)
{
	stream_channel(w, false, FERRY_CHANNEL_DATA);
	stream_packet(w, 0, 1, 1, FERRY_PAGE_BYTES);
	stream_packet(w, FERRY_PACKET_SYNC, 0, 0, 0);
}

static inline void stream_bulk(struct ferry_wr *w)
{
	const struct ferry_bulk_packet p = {
		.device = 1, .flags = 1, .bytes = 9, .index = 3,
	}, last = {
		.device = 1, .index = 4,
		.flags = FERRY_BULK_PACKET_STOPPED | FERRY_BULK_PACKET_LAST,
	};

	stream_channel(w, false, FERRY_CHANNEL_DEVICE);
	ferry_bulk_packet_encode(w, &p);
	ferry_wr_bytes(w, "any state", 9);
	ferry_bulk_packet_encode(w, &last);
}

static inline void stream_ferry_return(struct ferry_wr *w)
{
	const struct ferry_rp m[] = {
		{ .type = FERRY_RP_SYNCED, .value = 1 },
		{ .type = FERRY_RP_BULK_CREDIT, .value = 1, .wide = 32 },
		{ .type = FERRY_RP_BULK_READY, .value = 1 },
		{ .type = FERRY_RP_BULK_LOADED, .value = 1, .wide = 77 },
		{ .type = FERRY_RP_LOADED },
		{ .type = FERRY_RP_REASON, .reason = "no \"room\"\\" },
		{ .type = FERRY_RP_SHUT, .value = 1 },
	};

	stream_channel(w, true, FERRY_CHANNEL_MAIN);
	stream_hello(w, true);
	for (size_t i = 0; i < FERRY_LEN(m); i++)
		stream_reply(w, &m[i]);
}

/* ---- captures ------------------------------------------------------ */

enum { TO_TARGET, TO_SOURCE, OPEN, CLOSE };

static inline void capture_put(struct ferry_wr *w, uint16_t conn, uint8_t what,
			       const void *data, size_t n)
{
	double t = 0.25;
	uint64_t bits;

	memcpy(&bits, &t, sizeof(bits));
	ferry_wr_be64(w, bits);
	ferry_wr_be16(w, conn);
	ferry_wr_u8(w, what);
	ferry_wr_be32(w, (uint32_t)n);
	ferry_wr_bytes(w, data, n);
}

typedef void stream_fn(struct ferry_wr *w);

/* The first n octets of a stream, in pieces. */
static inline void capture_cut(struct ferry_wr *w, uint16_t conn, uint8_t what,
			       stream_fn *make, size_t n)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(STREAM_MAX);
	struct ferry_wr in = ferry_wr_over(data, STREAM_MAX);

	if (!data)
		abort();
	make(&in);
	if (n > ferry_wr_used(&in))
		n = ferry_wr_used(&in);
	for (size_t at = 0; at < n; at += 1000)
		capture_put(w, conn, what, data + at,
			    n - at < 1000 ? n - at : 1000);
}

static inline void capture_all(struct ferry_wr *w, uint16_t conn, uint8_t what,
			       stream_fn *make)
{
	capture_cut(w, conn, what, make, STREAM_MAX);
}

static inline void stream_capture(struct ferry_wr *w)
{
	capture_put(w, 0, OPEN, "note", 4);
	capture_put(w, 1, OPEN, NULL, 0);
	capture_all(w, 0, TO_TARGET, stream_precopy);
	capture_all(w, 1, TO_TARGET, stream_multifd);
	capture_put(w, 0, CLOSE, "src", 3);
	capture_put(w, 0, CLOSE, "dst", 3);
}

static inline void stream_capture_recovery(struct ferry_wr *w)
{
	capture_put(w, 0, OPEN, NULL, 0);
	capture_put(w, 1, OPEN, NULL, 0);
	capture_cut(w, 0, TO_TARGET, stream_postcopy, 700);
	capture_all(w, 1, TO_TARGET, stream_preempt);
	capture_put(w, 0, CLOSE, NULL, 0);
	capture_put(w, 0, CLOSE, NULL, 0);
	capture_put(w, 2, OPEN, NULL, 0);
	capture_all(w, 2, TO_TARGET, stream_recovery);
}

static inline void stream_capture_ferry(struct ferry_wr *w)
{
	capture_all(w, 0, TO_TARGET, stream_ferry);
	capture_all(w, 0, TO_SOURCE, stream_ferry_return);
	capture_all(w, 1, TO_TARGET, stream_data);
}

static const struct stream_row {
	const char		*name;
	stream_fn		*make;
	enum ferry_dump_kind	 kind;
	bool			 may_end;	/* anywhere between records */
} stream_rows[] = {
	{ "precopy", stream_precopy, FERRY_DUMP_AUTO, false },
	{ "bare", stream_bare, FERRY_DUMP_AUTO, false },
	{ "postcopy", stream_postcopy, FERRY_DUMP_AUTO, false },
	{ "recovery", stream_recovery, FERRY_DUMP_AUTO, false },
	{ "mapped", stream_mapped, FERRY_DUMP_AUTO, false },
	{ "multifd", stream_multifd, FERRY_DUMP_AUTO, true },
	{ "preempt", stream_preempt, FERRY_DUMP_PREEMPT, true },
	{ "return", stream_return, FERRY_DUMP_RETURN, true },
	{ "ferry", stream_ferry, FERRY_DUMP_AUTO, false },
	{ "abort", stream_abort, FERRY_DUMP_AUTO, false },
	{ "data", stream_data, FERRY_DUMP_AUTO, true },
	{ "device", stream_bulk, FERRY_DUMP_AUTO, true },
	{ "ferry return", stream_ferry_return, FERRY_DUMP_AUTO, true },
	{ "capture", stream_capture, FERRY_DUMP_AUTO, true },
	{ "recovery, captured", stream_capture_recovery, FERRY_DUMP_AUTO,
	  true },
	{ "ferry, captured", stream_capture_ferry, FERRY_DUMP_AUTO, true },
};

#endif
