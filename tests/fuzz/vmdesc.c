/* SPDX-License-Identifier: MIT */
/*
 * QEMU's description of its device state, and the sections it is held against:
 * | be16 octets of sections | sections | description |
 */
#include "fuzz.h"

#include "park/vmdesc.h"
#include "wire/section.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	size_t n = bytes < 2 ? 0 : ferry_rd_be16(&r), left = ferry_rd_left(&r);
	struct ferry_vmdesc v = { 0 };
	struct ferry_err e = { 0 };
	const uint8_t *sections;
	uint64_t body;

	if (n > left)
		n = left;
	sections = ferry_rd_bytes(&r, n);
	left = ferry_rd_left(&r);
	if (ferry_vmdesc_parse(ferry_rd_bytes(&r, left), left, &v, &e)) {
		FUZZ_CHECK(!v.device && !v.devices && v.wrong_at <= left &&
			   e.code);
		return 0;
	}
	FUZZ_CHECK(v.devices <= FERRY_SECTIONS_MAX);
	for (size_t i = 0; i < v.devices; i++)
		FUZZ_CHECK(memchr(v.device[i].name, 0,
				  sizeof(v.device[i].name)) &&
			   ferry_vmdesc_find(&v, v.device[i].name,
					     v.device[i].instance, &body));
	if (ferry_vmdesc_covers(&v, sections, n))
		FUZZ_CHECK(!n || sections[0] == FERRY_SECTION_FULL);
	ferry_vmdesc_fini(&v);
	return 0;
}

static const char *const texts[] = {
	"{\"devices\":[{\"name\":\"timer\",\"instance_id\":0,"
		"\"vmsd_name\":\"timer\",\"version\":2,\"fields\":["
		"{\"name\":\"a\",\"type\":\"int64\",\"size\":8},"
		"{\"name\":\"b\",\"array_len\":3,\"size\":4}]}]}",
	"{\"page_size\":4096,\"devices\":[{\"name\":\"ram\","
		"\"instance_id\":0}]}",
	" { \"devices\" : [ ] , \"x\\u0041\\n\" : [ 1.5e3, true, null ] } ",
	"{\"devices\":[{\"name\":\"d\",\"instance_id\":1,\"fields\":["
		"{\"name\":\"s\",\"type\":\"struct\",\"size\":2,\"struct\":"
		"{\"fields\":[{\"name\":\"i\",\"size\":2}]}}],"
		"\"subsections\":[{\"vmsd_name\":\"d/sub\",\"version\":1,"
		"\"fields\":[{\"name\":\"z\",\"size\":1}]}]}]}",
};

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	const struct ferry_section s = {
		.type = FERRY_SECTION_FULL, .id = 3, .name = "timer",
		.version = 2,
	};

	for (size_t i = 0; i < FERRY_LEN(texts); i++) {
		uint8_t seed[2048], sections[256] = { 0 };
		struct ferry_wr w = ferry_wr_over(sections, sizeof(sections));
		struct ferry_wr all = ferry_wr_over(seed, sizeof(seed));
		size_t n;

		ferry_section_encode(&w, &s);
		for (unsigned octet = 0; octet < 20; octet++)
			ferry_wr_u8(&w, (uint8_t)octet);
		ferry_footer_encode(&w, s.id);
		n = i ? 0 : ferry_wr_used(&w);
		ferry_wr_be16(&all, (uint16_t)n);
		ferry_wr_bytes(&all, sections, n);
		ferry_wr_bytes(&all, texts[i], strlen(texts[i]));
		emit(seed, ferry_wr_used(&all));
	}
}
