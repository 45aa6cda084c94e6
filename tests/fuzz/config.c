/* SPDX-License-Identifier: MIT */
/* File header and CONFIGURATION, from the first octet. */
#include "fuzz.h"

#include "wire/config.h"
#include "wire/machine.h"

static int header_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_file_header_decode(r, e);
}

static void header_encode(struct ferry_wr *w, const void *in)
{
	(void)in;
	ferry_file_header_encode(w);
}

static int config_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_config_decode(r, out, e);
}

static void config_encode(struct ferry_wr *w, const void *in)
{
	size_t before = ferry_wr_used(w);

	ferry_config_encode(w, in);
	FUZZ_CHECK(ferry_wr_used(w) - before == ferry_config_bytes(in));
}

static const struct fuzz_codec header = {
	1, true, header_decode, header_encode
};
static const struct fuzz_codec config = {
	sizeof(struct ferry_config), false, config_decode, config_encode
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_machine m;
	struct ferry_config c;
	char none;
	size_t n = fuzz_stream(&header, data, bytes, &none);

	if (n && fuzz_stream(&config, data + n, bytes - n, &c) &&
	    ferry_machine_parse(c.machine, &m))
		FUZZ_CHECK(ferry_machine_quirks(&m) < 32);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const struct ferry_config seeds[] = {
		{ .machine = "pc-i440fx-11.1" },
		{ .machine = "pc-q35-8.0", .page_bits = 12 },
		{ .machine = "m", .has_uuid = true, .uuid = { 1, 2, 3 } },
		{ .machine = "pc-q35-9.2", .page_bits = 12, .has_uuid = true,
		  .capabilities = FERRY_CONFIG_MAPPED_RAM |
				  FERRY_CONFIG_X_IGNORE_SHARED },
	};

	for (size_t i = 0; i < FERRY_LEN(seeds); i++) {
		uint8_t buf[1024];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

		ferry_file_header_encode(&w);
		ferry_config_encode(&w, &seeds[i]);
		ferry_wr_u8(&w, 1);
		emit(buf, ferry_wr_used(&w));
	}
}
