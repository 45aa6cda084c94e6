/* SPDX-License-Identifier: MIT */
#include "wire/package.h"

#include "wire-test.h"

#define LISTEN	"08 0004 0000"
#define RUN	"08 0005 0000"
#define DEVICES	"04 00000020 03 'dev' 00000000 00000001 aabb 7e 00000020"

static struct ferry_err e;

static int peel(const char *hex, enum ferry_dialect peer,
		struct ferry_package *p, uint8_t buf[256])
{
	return ferry_package_peel(buf, unhex(hex, buf, 256), peer, p, &e);
}

static void a_package_of_qemu_is_peeled(void **state)
{
	struct ferry_package p;
	uint8_t buf[256];

	(void)state;
	assert_int_equal(peel(LISTEN DEVICES "08 0002 0004 00000003"
			      "08 0002 0004 00000042" RUN,
			      FERRY_DIALECT_QEMU, &p, buf), 0);
	assert_true(p.listen);
	assert_int_equal(p.pings, 2);
	assert_int_equal(p.ping[0], 3);
	assert_int_equal(p.ping[1], 0x42);
	assert_ptr_equal(p.devices, buf + 5);
	assert_int_equal(p.device_bytes, 1 + 4 + 4 + 8 + 2 + 5);
}

static void devices_that_look_like_commands_stay(void **state)
{
	struct ferry_package p;
	uint8_t buf[256];

	/* A section id that spells the tail of RUN, of a PING. */
	(void)state;
	assert_int_equal(peel(LISTEN "04 08000500 01 'd' 00000000 00000000"
			      "08 0005 0000 7e 08000500" RUN,
			      FERRY_DIALECT_QEMU, &p, buf), 0);
	assert_int_equal(p.pings, 0);
	assert_int_equal(p.device_bytes, 1 + 4 + 2 + 8 + 5 + 5);
}

static void a_package_without_devices_is_one(void **state)
{
	struct ferry_package p;
	uint8_t buf[256];

	(void)state;
	assert_int_equal(peel(LISTEN RUN, FERRY_DIALECT_QEMU, &p, buf), 0);
	assert_int_equal(p.device_bytes, 0);
	assert_int_equal(peel("", FERRY_DIALECT_FERRY, &p, buf), 0);
	assert_int_equal(p.device_bytes, 0);
	assert_false(p.listen);
}

static void a_package_of_a_ferry_has_no_run(void **state)
{
	struct ferry_package p;
	uint8_t buf[256];

	(void)state;
	assert_int_equal(peel(LISTEN DEVICES, FERRY_DIALECT_FERRY, &p, buf),
			 0);
	assert_true(p.listen);
	assert_int_equal(p.device_bytes, 24);
	assert_int_equal(peel(DEVICES, FERRY_DIALECT_FERRY, &p, buf), 0);
	assert_false(p.listen);
	assert_int_equal(p.device_bytes, 24);
}

static void hostile_packages_are_refused(void **state)
{
#define PING "08 0002 0004 00000001"
	static const struct hostile rows[] = {
		{ "nothing", "" },
		{ "LISTEN alone", LISTEN },
		{ "RUN alone", RUN },
		{ "LISTEN that is RUN", "08 0004 00" },
		{ "no LISTEN", DEVICES RUN },
		{ "no RUN", LISTEN DEVICES },
		{ "RUN not last", LISTEN DEVICES RUN "00" },
		{ "more PINGs than any", LISTEN PING PING PING PING PING PING
		  PING PING PING RUN },
	};
	struct ferry_package p;
	uint8_t buf[256];

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		if (!peel(rows[i].hex, FERRY_DIALECT_QEMU, &p, buf))
			fail_msg("%s", rows[i].why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_package_of_qemu_is_peeled),
		cmocka_unit_test(devices_that_look_like_commands_stay),
		cmocka_unit_test(a_package_without_devices_is_one),
		cmocka_unit_test(a_package_of_a_ferry_has_no_run),
		cmocka_unit_test(hostile_packages_are_refused),
	};

	return cmocka_run_group_tests_name("wire-package", tests, NULL, NULL);
}
