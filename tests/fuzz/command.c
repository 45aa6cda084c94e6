/* SPDX-License-Identifier: MIT */
/* One COMMAND section, its payload decoded by whom it belongs to. */
#include "fuzz.h"

#include "wire/command.h"
#include "wire/ranges.h"

static void check_printable(const char *s)
{
	for (; *s; s++)
		FUZZ_CHECK((unsigned char)*s >= 0x20 && *s != 0x7f);
}

static void u32_payload(struct ferry_rd *r, uint16_t c)
{
	uint32_t v;

	if (!ferry_command_u32_decode(r, c, &v, NULL) &&
	    c == FERRY_COMMAND_PACKAGED)
		FUZZ_CHECK(v && v <= FERRY_PACKAGE_BYTES_MAX);
}

static void advise_payload(struct ferry_rd *r, uint16_t c)
{
	struct ferry_advise a;

	(void)c;
	if (!ferry_advise_decode(r, &a, NULL) && a.ram)
		FUZZ_CHECK(a.page_sizes >= FERRY_PAGE_BYTES);
}

static void ranges_payload(struct ferry_rd *r, uint16_t c)
{
	const struct ferry_block_shape block = { "b", 1ull << 32, 4096 };
	struct ferry_ranges g;
	struct ferry_span s;
	uint32_t seen = 0;

	if (ferry_ranges_decode(r, c, &g, NULL) ||
	    ferry_ranges_check_in(&g, &block, NULL))
		return;
	while (ferry_ranges_next(&g, &s)) {
		FUZZ_CHECK(s.bytes && s.start + s.bytes <= block.bytes);
		FUZZ_CHECK(s.start % 4096 == 0 && s.bytes % 4096 == 0);
		seen++;
	}
	FUZZ_CHECK(seen == g.count && seen <= ferry_ranges_most(g.name));
}

static void name_payload(struct ferry_rd *r, uint16_t c)
{
	char name[FERRY_NAME_MAX + 1];

	(void)c;
	if (!ferry_recv_bitmap_decode(r, name, NULL))
		FUZZ_CHECK(name[0]);
}

static void abort_payload(struct ferry_rd *r, uint16_t c)
{
	char reason[FERRY_REASON_BYTES_MAX + 1];

	(void)c;
	if (!ferry_abort_decode(r, reason, NULL))
		check_printable(reason);
}

static const struct {
	uint16_t	c;
	void		(*decode)(struct ferry_rd *r, uint16_t c);
} payloads[] = {
	{ FERRY_COMMAND_PING, u32_payload },
	{ FERRY_COMMAND_PACKAGED, u32_payload },
	{ FERRY_COMMAND_BARRIER, u32_payload },
	{ FERRY_COMMAND_FINISH, u32_payload },
	{ FERRY_COMMAND_POSTCOPY_ADVISE, advise_payload },
	{ FERRY_COMMAND_RAM_DISCARD, ranges_payload },
	{ FERRY_COMMAND_ZERO_RANGES, ranges_payload },
	{ FERRY_COMMAND_RECV_BITMAP, name_payload },
	{ FERRY_COMMAND_ABORT, abort_payload },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_section s;
	struct ferry_err e;
	const uint8_t *at;

	if (ferry_section_decode(&r, &s, &e) != FERRY_DECODE_DONE ||
	    s.type != FERRY_SECTION_COMMAND ||
	    ferry_command_check(&s, FERRY_DIALECT_FERRY, &e))
		return 0;
	at = ferry_rd_bytes(&r, s.bytes);
	if (!at)
		return 0;
	for (size_t i = 0; i < FERRY_LEN(payloads); i++) {
		struct ferry_rd in = ferry_rd_over(at, s.bytes);

		if (payloads[i].c == s.command)
			payloads[i].decode(&in, s.command);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const enum ferry_command numbers[] = {
		FERRY_COMMAND_PING, FERRY_COMMAND_PACKAGED,
		FERRY_COMMAND_BARRIER, FERRY_COMMAND_FINISH,
	};
	static const struct ferry_span spans[] = {
		{ 0, 0x1000 }, { 0x200000, 0x3e00000 }, { 1ull << 31, 4096 },
	};
	const struct ferry_advise a = { .ram = true, .page_sizes = 0x1000 };
	uint8_t buf[1024];
	struct ferry_wr w;

#define EMIT(call)	do {				\
	w = ferry_wr_over(buf, sizeof(buf));		\
	call;						\
	emit(buf, ferry_wr_used(&w));			\
} while (0)

	for (size_t i = 0; i < FERRY_LEN(numbers); i++)
		EMIT(ferry_command_u32_encode(&w, numbers[i], 0x1234));
	EMIT(ferry_command_encode(&w, FERRY_COMMAND_POSTCOPY_RUN));
	EMIT(ferry_advise_encode(&w, &a));
	EMIT(ferry_ranges_encode(&w, FERRY_COMMAND_RAM_DISCARD, "pc.ram",
				 spans, 3));
	EMIT(ferry_ranges_encode(&w, FERRY_COMMAND_ZERO_RANGES, "r", spans,
				 1));
	EMIT(ferry_recv_bitmap_encode(&w, "pc.ram"));
	EMIT(ferry_abort_encode(&w, "no: \xc3\xbc\n\x1b[2J"));
}
