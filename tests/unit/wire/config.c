/* SPDX-License-Identifier: MIT */
#include "wire/config.h"

#include "wire-test.h"

static int header(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_file_header_decode(r, e);
}

static int config(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_config_decode(r, out, e);
}

static void the_file_header_is_qevm_3(void **state)
{
	uint8_t buf[FERRY_FILE_HEADER_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_file_header_encode(&w);
	assert_octets(&w, "51 45 56 4d 00 00 00 03");
	assert_streams((struct stream){ header, NULL }, buf, sizeof(buf), 0);
}

static void a_foreign_file_header_is_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "not QEVM, known after four octets", "51 45 56 4e" },
		{ "version 2", "51 45 56 4d 00 00 00 02" },
		{ "version 4", "51 45 56 4d 00 00 00 04" },
	};

	(void)state;
	assert_hostile((struct stream){ header, NULL }, rows, FERRY_LEN(rows));
}

static void round_trip(const struct ferry_config *c, const char *hex)
{
	uint8_t buf[1024];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_config got;

	ferry_config_encode(&w, c);
	assert_octets(&w, hex);
	assert_int_equal(ferry_wr_used(&w), ferry_config_bytes(c));

	ferry_wr_u8(&w, 0x01);		/* what follows ends the list */
	assert_streams((struct stream){ config, &got }, buf,
		       ferry_wr_used(&w), 1);
	assert_string_equal(got.machine, c->machine);
	assert_int_equal(got.page_bits, c->page_bits);
	assert_int_equal(got.capabilities, c->capabilities);
	assert_int_equal(got.has_uuid, c->has_uuid);
	assert_memory_equal(got.uuid, c->uuid, sizeof(c->uuid));
}

static void configuration_is_a_machine_name(void **state)
{
	(void)state;
	round_trip(&(struct ferry_config){ .machine = "pc-i440fx-11.1" },
		   "07 00 00 00 0e 'pc-i440fx-11.1'");
}

static void configuration_carries_its_subsections(void **state)
{
	struct ferry_config c = {
		.machine = "q", .page_bits = 12, .has_uuid = true,
		.capabilities = FERRY_CONFIG_X_IGNORE_SHARED |
				FERRY_CONFIG_MAPPED_RAM,
		.uuid = { 1, 2, [15] = 0xff },
	};

	(void)state;
	round_trip(&c, "07 00000001 'q'"
		   "05 1e 'configuration/target-page-bits' 00000001 0000000c"
		   "05 1a 'configuration/capabilities' 00000001 00000002"
		   "  0f 'x-ignore-shared' 0a 'mapped-ram'"
		   "05 12 'configuration/uuid' 00000001"
		   "  0102 0000 0000 0000 0000 0000 0000 00ff");
}

static void hostile_configurations_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "another section", "01 00000001" },
		{ "no name", "07 00000000" },
		{ "long name", "07 00000100" },
		{ "huge name", "07 ffffffff" },
		{ "NUL in the name", "07 00000002 6100" },
		{ "unknown subsection", "07 00000001 'q' 05 01 'x' 00000001" },
		{ "subsection without a name", "07 00000001 'q' 05 00" },
		{ "known subsection, then NUL", "07 00000001 'q'"
		  "05 13 'configuration/uuid' 00 00000001" },
		{ "subsection version 2",
		  "07 00000001 'q' 05 12 'configuration/uuid' 00000002" },
		{ "page bits of another world", "07 00000001 'q'"
		  "05 1e 'configuration/target-page-bits' 00000001 0000000d" },
		{ "no capabilities at all", "07 00000001 'q'"
		  "05 1a 'configuration/capabilities' 00000001 00000000" },
		{ "too many capabilities", "07 00000001 'q'"
		  "05 1a 'configuration/capabilities' 00000001 00000041" },
		{ "unknown capability", "07 00000001 'q'"
		  "05 1a 'configuration/capabilities' 00000001 00000001"
		  "04 'rdma'" },
		{ "known capability, then NUL", "07 00000001 'q'"
		  "05 1a 'configuration/capabilities' 00000001 00000001"
		  "0b 'mapped-ram' 00" },
		{ "capability twice", "07 00000001 'q'"
		  "05 1a 'configuration/capabilities' 00000001 00000002"
		  "0a 'mapped-ram' 0a 'mapped-ram'" },
		{ "subsection twice", "07 00000001 'q'"
		  "05 12 'configuration/uuid' 00000001"
		  "00000000 00000000 00000000 00000000"
		  "05 12 'configuration/uuid' 00000001" },
	};
	struct ferry_config got;

	(void)state;
	assert_hostile((struct stream){ config, &got }, rows,
		       FERRY_LEN(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_file_header_is_qevm_3),
		cmocka_unit_test(a_foreign_file_header_is_refused),
		cmocka_unit_test(configuration_is_a_machine_name),
		cmocka_unit_test(configuration_carries_its_subsections),
		cmocka_unit_test(hostile_configurations_are_refused),
	};

	return cmocka_run_group_tests_name("wire-config", tests, NULL, NULL);
}
