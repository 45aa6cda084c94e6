/* SPDX-License-Identifier: MIT */
/*
 * Prints what the encoders make of ferry's own records, and of two whole
 * conversations, one a line: name, direction and kind of connection, hex.
 * The reader in reader.py, written from docs/wire.md, is fed with it.
 */
#include <stdio.h>

#include <ferry/vm.h>

#include "base/cleanup.h"
#include "base/sum.h"
#include "wire/bulk.h"
#include "wire/channel.h"
#include "wire/command.h"
#include "wire/config.h"
#include "wire/hello.h"
#include "wire/multifd.h"
#include "wire/ram.h"
#include "wire/ramlist.h"
#include "wire/ranges.h"
#include "wire/rp.h"
#include "wire/verify.h"

#define BYTES		(1 << 20)
#define SECTION		7
#define MUST(call)	do { if (call) abort_with(#call, &err); } while (0)

static struct ferry_err err;

static void abort_with(const char *what, const struct ferry_err *e)
{
	fprintf(stderr, "golden: %s: %s\n", what, e->msg);
	exit(1);
}

static void print(const char *name, const char *kind, const struct ferry_wr *w)
{
	if (w->bad)
		abort_with(name, &err);
	printf("%s\t%s\t", name, kind);
	for (const uint8_t *p = w->start; p < w->p; p++)
		printf("%02x", *p);
	putchar('\n');
}

static void head(struct ferry_wr *w, bool answer, uint16_t type,
		 uint16_t index, uint64_t features)
{
	struct ferry_channel_head h = {
		.answer = answer, .type = type, .index = index,
		.features = features, .mandatory = answer ? 0 : 1,
	};

	for (uint8_t i = 0; i < FERRY_SESSION_BYTES; i++)
		h.session[i] = (uint8_t)(0xa0 + i);
	for (uint8_t i = 0; i < FERRY_MAC_BYTES; i++)
		h.mac[i] = (uint8_t)(0xc0 + i);
	ferry_channel_encode(w, &h);
}

static void hello(struct ferry_wr *w, bool answer, uint32_t verdict,
		  const char *text)
{
	struct ferry_hello h = {
		.name = "db1", .has_verdict = answer, .verdict = verdict,
		.has_channels = !answer, .data = answer ? 0 : 4,
		.urgent = answer ? 0 : 1, .device = answer ? 0 : 2,
		.software = "ferry 0.1.0",
	};

	strcpy(h.verdict_text, text);
	MUST(ferry_hello_add_block(&h, "ram", 1 << 30, FERRY_HUGE_BYTES, 0,
				   &err));
	MUST(ferry_hello_add_block(&h, "rom", 8192, 4096, 0xffffe000, &err));
	MUST(ferry_hello_add_fact(&h, "vcpus", FERRY_FACT_EQUAL, "2", 1,
				  &err));
	MUST(ferry_hello_add_fact(&h, "cpu", FERRY_FACT_SUBSET, "sse2 avx", 8,
				  &err));
	MUST(ferry_hello_add_bulk(&h, "gpu", 1, 7, &err));
	ferry_hello_encode(w, &h);
	ferry_hello_fini(&h);
}

static uint32_t huge(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return 0;
}

static void stream_head(struct ferry_wr *w)
{
	const struct ferry_config c = { .machine = "db1" };
	const struct ferry_advise a = { .ram = true, .page_sizes = 0x201000 };

	ferry_file_header_encode(w);
	ferry_config_encode(w, &c);
	ferry_command_encode(w, FERRY_COMMAND_OPEN_RETURN_PATH);
	ferry_command_u32_encode(w, FERRY_COMMAND_PING, 1);
	ferry_advise_encode(w, &a);
}

static void ram_start(struct ferry_wr *w)
{
	const struct ferry_section s = {
		.type = FERRY_SECTION_START, .id = SECTION,
		.name = FERRY_RAM_SECTION_NAME,
		.version = FERRY_RAM_SECTION_VERSION,
	};
	const struct ferry_ramlist_block ram = {
		.name = "ram", .bytes = 1 << 30,
		.page_bytes = FERRY_HUGE_BYTES,
	}, rom = { .name = "rom", .bytes = 8192, .page_bytes = 4096 };
	struct ferry_ramlist l;

	MUST(ferry_ramlist_init(&l, ram.bytes + rom.bytes, &err));
	l.page_bytes = huge;
	ferry_section_encode(w, &s);
	ferry_ram_mark_encode(w, FERRY_RAM_MEM_SIZE, l.total_bytes);
	ferry_ramlist_encode(w, &l, &ram);
	ferry_ramlist_encode(w, &l, &rom);
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, SECTION);
}

static void ranges(struct ferry_wr *w, enum ferry_command command)
{
	static const struct ferry_span spans[] = {
		{ 0, 0x200000 }, { 0x10000000, 0x30000000 },
	};

	ferry_ranges_encode(w, command, "ram", spans, FERRY_LEN(spans));
}

static void device(struct ferry_wr *w, uint32_t id, const char *name,
		   const void *data, size_t bytes)
{
	struct ferry_section s = { .type = FERRY_SECTION_FULL, .id = id,
				   .version = 1 };

	strcpy(s.name, name);
	ferry_section_encode(w, &s);
	ferry_body_encode(w, (uint32_t)bytes);
	ferry_wr_bytes(w, data, bytes);
	ferry_footer_encode(w, id);
}

static void package(struct ferry_wr *w, bool listen)
{
	uint8_t buf[512];
	struct ferry_wr in = ferry_wr_over(buf, sizeof(buf));

	if (listen)
		ferry_command_encode(&in, FERRY_COMMAND_POSTCOPY_LISTEN);
	device(&in, 8, "uart", "\x01\x02\x03", 3);
	device(&in, 9, "nothing", "", 0);
	device(&in, 10, FERRY_RUN_SECTION_NAME, "\x01", 1);
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED,
				 (uint32_t)ferry_wr_used(&in));
	ferry_wr_bytes(w, buf, ferry_wr_used(&in));
}

static void precopy(struct ferry_wr *w)
{
	static const uint32_t sums[] = { 7, FERRY_PAGE_SUM_ZERO };

	head(w, false, FERRY_CHANNEL_MAIN, 0, FERRY_FEATURES_KNOWN);
	hello(w, false, 0, "");
	stream_head(w);
	ferry_command_u32_encode(w, FERRY_COMMAND_LEASE, 10000);
	ram_start(w);
	ranges(w, FERRY_COMMAND_ZERO_RANGES);
	ferry_command_u32_encode(w, FERRY_COMMAND_BARRIER, 1);
	ferry_command_u32_encode(w, FERRY_COMMAND_FINISH, 2);
	ferry_verify_encode(w, "ram", 5, sums, 2);
	package(w, false);
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_RUN);
	ferry_command_u32_encode(w, FERRY_COMMAND_FINISH, 3);
	print("precopy", "main", w);
}

static void postcopy(struct ferry_wr *w)
{
	head(w, false, FERRY_CHANNEL_MAIN, 0, FERRY_FEATURES_KNOWN);
	hello(w, false, 0, "");
	stream_head(w);
	ram_start(w);
	ferry_command_u32_encode(w, FERRY_COMMAND_BARRIER, 1);
	ranges(w, FERRY_COMMAND_RAM_DISCARD);
	package(w, true);
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_RUN);
	ferry_command_u32_encode(w, FERRY_COMMAND_PING, 0);
	ferry_command_u32_encode(w, FERRY_COMMAND_RENEW, 7);
	ferry_command_u32_encode(w, FERRY_COMMAND_WATCH, 1);
	ferry_command_u32_encode(w, FERRY_COMMAND_LOST,
				 ferry_channel_number(FERRY_CHANNEL_URGENT, 1));
	ferry_command_u32_encode(w, FERRY_COMMAND_FINISH, 2);
	print("postcopy", "main", w);
}

static void aborted(struct ferry_wr *w)
{
	head(w, false, FERRY_CHANNEL_MAIN, 0, FERRY_FEATURES_KNOWN);
	hello(w, false, 0, "");
	stream_head(w);
	ferry_abort_encode(w, "does not converge: 3 passes, 900 MiB left");
	print("aborted", "main", w);
}

static void answers(struct ferry_wr *w)
{
	static const struct ferry_rp messages[] = {
		{ .type = FERRY_RP_PONG, .value = 1 },
		{ .type = FERRY_RP_SYNCED, .value = 1 },
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { 0x200000, 0x200000 } },
		{ .type = FERRY_RP_REQ_PAGES, .span = { 0, 0x400000 } },
		{ .type = FERRY_RP_BULK_CREDIT, .wide = 1ull << 40 },
		{ .type = FERRY_RP_BULK_READY },
		{ .type = FERRY_RP_BULK_LOADED, .wide = 5000000000 },
		{ .type = FERRY_RP_LOADED },
		{ .type = FERRY_RP_RUNNING },
		{ .type = FERRY_RP_FAULTS, .faults = { 3, 250, 70000 } },
		{ .type = FERRY_RP_LOST, .value = 2 << 16 | 63 },
		{ .type = FERRY_RP_SHUT },
	};

	head(w, true, FERRY_CHANNEL_MAIN, 0, 0x2f);
	hello(w, true, 0, "");
	for (size_t i = 0; i < FERRY_LEN(messages); i++)
		ferry_rp_encode(w, &messages[i]);
	print("answered", "return", w);
}

static void failure(struct ferry_wr *w)
{
	static const struct ferry_rp messages[] = {
		{ .type = FERRY_RP_ASK_LEASE, .value = 7 },
		{ .type = FERRY_RP_DIFFERS, .reason = "verify" },
		{ .type = FERRY_RP_REASON, .reason = "device uart: no\n" },
		{ .type = FERRY_RP_SHUT, .value = 1 },
	};

	head(w, true, FERRY_CHANNEL_MAIN, 0, FERRY_FEATURES_KNOWN);
	hello(w, true, 0, "");
	for (size_t i = 0; i < FERRY_LEN(messages); i++)
		ferry_rp_encode(w, &messages[i]);
	print("failed", "return", w);
}

static void refusal(struct ferry_wr *w)
{
	head(w, true, FERRY_CHANNEL_MAIN, 0, 0);
	hello(w, true, FERRY_E_MISMATCH, "other size");
	print("refused", "return", w);
}

static void state_of_device(struct ferry_wr *w)
{
	const struct ferry_bulk_packet p = {
		.flags = 1 | FERRY_BULK_PACKET_STOPPED, .bytes = 5, .index = 7,
	};

	ferry_bulk_packet_encode(w, &p);
	ferry_wr_bytes(w, "state", 5);
}

static void packets(struct ferry_wr *w, uint16_t type, const char *name)
{
	struct ferry_packet p = {
		.normal_pages = 2, .zero_pages = 1, .payload_bytes = 8192,
		.packet_num = 77, .name = "ram",
		.offset = { 0x1000, 0x5000, 0x3ffff000 },
	}, sync = { .flags = FERRY_PACKET_SYNC, .packet_num = 1 };
	uint8_t payload[8192];

	memset(payload, 0x11, 4096);
	memset(payload + 4096, 0x22, 4096);
	head(w, false, type, type == FERRY_CHANNEL_DATA ? 3 : 0,
	     FERRY_FEATURES_KNOWN);
	ferry_packet_encode(w, &p);
	ferry_wr_bytes(w, payload, sizeof(payload));
	if (type == FERRY_CHANNEL_DATA) {
		ferry_packet_encode(w, &sync);
		state_of_device(w);
	}
	print(name, "packets", w);
}

static void data(struct ferry_wr *w)
{
	packets(w, FERRY_CHANNEL_DATA, "data");
}

static void urgent(struct ferry_wr *w)
{
	packets(w, FERRY_CHANNEL_URGENT, "urgent");
}

static void device_channel(struct ferry_wr *w)
{
	const struct ferry_bulk_packet last = {
		.flags = FERRY_BULK_PACKET_STOPPED | FERRY_BULK_PACKET_LAST,
		.index = 8,
	};

	head(w, false, FERRY_CHANNEL_DEVICE, 0, FERRY_FEATURES_KNOWN);
	state_of_device(w);
	ferry_bulk_packet_encode(w, &last);
	print("device", "packets", w);
}

int main(void)
{
	static void (*const all[])(struct ferry_wr *w) = {
		precopy, postcopy, aborted, answers, failure, refusal, data,
		urgent, device_channel,
	};
	FERRY_AUTO_FREE uint8_t *buf = malloc(BYTES);

	if (!buf)
		return 1;
	for (size_t i = 0; i < FERRY_LEN(all); i++) {
		struct ferry_wr w = ferry_wr_over(buf, BYTES);

		all[i](&w);
	}
	return 0;
}
