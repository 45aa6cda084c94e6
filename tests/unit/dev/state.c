/* SPDX-License-Identifier: MIT */
/*
 * Saving all devices and loading them again: what was saved is loaded, in that
 * order; what does not fit is refused with the device's name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dev/registry.h"
#include "wire/section.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)

/* ---- devices ------------------------------------------------------------ */

struct diary {
	char	text[256];	/* "load a; load b; " */
};

struct device {
	const char	*name;
	uint32_t	 instance, version;
	const char	*state;		/* what it saves */
	size_t		 mib;		/* and so much more in front of it */
	struct diary	*diary;
	char		 loaded[64];
	uint32_t	 loaded_version;
	bool		 fails;
};

static int save(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	static const char much[1 << 20];
	struct device *d = opaque;

	if (d->fails)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "the disk is busy");
	for (size_t i = 0; i < d->mib; i++)
		ferry_save_bytes(out, much, sizeof(much));
	for (const char *s = d->state; *s; s++)
		ferry_save_bytes(out, s, 1);
	return 0;
}

static int load(void *opaque, uint32_t version, const void *data, size_t bytes,
		struct ferry_err *e)
{
	struct device *d = opaque;
	size_t end = strlen(d->diary->text);

	snprintf(d->diary->text + end, sizeof(d->diary->text) - end, "%s/%u ",
		 d->name, d->instance);
	if (d->fails)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "queue 3 is odd");
	assert_true(bytes < sizeof(d->loaded));
	memcpy(d->loaded, data, bytes);
	d->loaded[bytes] = '\0';
	d->loaded_version = version;
	return 0;
}

static void add(struct ferry_registry *r, struct device *d)
{
	static const struct ferry_device_ops ops = {
		.size = sizeof(ops), .save = save, .load = load,
	};
	struct ferry_err e = { 0 };

	if (ferry_registry_add(r, d->name, d->instance, d->version, &ops, d,
			       &e))
		fail_msg("%s", e.msg);
}

/* Three devices on each side; the target lists them in another order. */
struct pair {
	struct diary	diary;
	struct device	src[3], dst[3];
	struct ferry_registry from, to;
	struct ferry_save saved;
	struct ferry_err e;
};

static void pair_init(struct pair *p)
{
	static const struct device kinds[3] = {
		{ .name = "cpu", .version = 3, .state = "registers" },
		{ .name = "cpu", .instance = 1, .version = 3,
		  .state = "other registers" },
		{ .name = "nic", .version = 1, .state = "" },
	};

	*p = (struct pair){ 0 };
	for (unsigned i = 0; i < 3; i++) {
		p->src[i] = p->dst[i] = kinds[i];
		p->dst[i].diary = &p->diary;
		add(&p->from, &p->src[i]);
	}
	for (unsigned i = 3; i--;)
		add(&p->to, &p->dst[i]);
}

static void pair_fini(struct pair *p)
{
	ferry_save_fini(&p->saved);
	ferry_registry_fini(&p->from);
	ferry_registry_fini(&p->to);
}

static int move(struct pair *p)
{
	if (ferry_dev_save_all(&p->from, 2, &p->saved, &p->e))
		return -1;
	return ferry_dev_load_all(&p->to, p->saved.data, p->saved.bytes,
				  &p->e);
}

static void assert_refused(struct pair *p, int code, const char *part)
{
	if (p->e.code != code || !strstr(p->e.msg, part))
		fail_msg("error %d '%s', not %d '%s'", p->e.code, p->e.msg,
			 code, part);
}

/* ---- tests -------------------------------------------------------------- */

static void what_is_saved_is_loaded(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	if (move(&p))
		fail_msg("%s", p.e.msg);
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(p.dst[i].loaded, p.src[i].state);
		assert_int_equal(p.dst[i].loaded_version, p.src[i].version);
	}
	pair_fini(&p);
}

static void devices_load_in_the_order_they_were_saved(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	assert_ok(move(&p));
	assert_string_equal(p.diary.text, "cpu/0 cpu/1 nic/0 ");
	pair_fini(&p);
}

static void no_devices_are_no_octets(void **state)
{
	struct ferry_registry none = { 0 };
	struct ferry_save saved = { 0 };
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_dev_save_all(&none, 2, &saved, &e));
	assert_int_equal(saved.bytes, 0);
	assert_ok(ferry_dev_load_all(&none, (const uint8_t *)"", 0, &e));
	ferry_save_fini(&saved);
}

static void an_older_version_is_loaded_as_what_it_is(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.from.dev[0].version = 2;
	assert_ok(move(&p));
	assert_int_equal(p.dst[0].loaded_version, 2);
	pair_fini(&p);
}

static void a_newer_version_is_refused_by_name(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.from.dev[1].version = 4;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_MISMATCH, "cpu/1: version 4 is newer than "
		       "the 3");
	assert_string_equal(p.diary.text, "cpu/0 ");
	pair_fini(&p);
}

static void a_device_that_nobody_has_is_refused_by_name(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	strcpy(p.from.dev[2].name, "gpu\x1b[2J");
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_MISMATCH, "device gpu?[2J/0");
	pair_fini(&p);
}

static void an_instance_that_nobody_has_is_refused(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.from.dev[1].instance = 7;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_MISMATCH, "cpu/7");
	pair_fini(&p);
}

static void a_device_sent_twice_is_refused(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.from.dev[1].instance = 0;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_PROTO, "cpu/0 was sent twice");
	assert_string_equal(p.diary.text, "cpu/0 ");
	pair_fini(&p);
}

static void a_device_without_state_is_refused(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.from.devs = 2;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_MISMATCH, "nic/0: the source sent no state");
	pair_fini(&p);
}

static void a_device_that_will_not_be_saved_is_named(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.src[1].fails = true;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_DEVICE, "save device cpu/1: the disk is "
		       "busy");
	pair_fini(&p);
}

static void a_device_that_will_not_be_loaded_is_named(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.dst[1].fails = true;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_PROTO, "load device cpu/1: queue 3 is odd");
	assert_string_equal(p.diary.text, "cpu/0 cpu/1 ");
	pair_fini(&p);
}

/* Octets in storage of their own size, so that a sanitizer sees a read past
 * the end. */
static int load_part(struct pair *p, size_t bytes)
{
	FERRY_AUTO_FREE uint8_t *part = malloc(bytes ? bytes : 1);

	assert_non_null(part);
	memcpy(part, p->saved.data, bytes);
	p->e = (struct ferry_err){ 0 };
	return ferry_dev_load_all(&p->to, part, bytes, &p->e);
}

static void state_cut_at_any_octet_is_refused(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	assert_ok(ferry_dev_save_all(&p.from, 2, &p.saved, &p.e));
	for (size_t n = 0; n < p.saved.bytes; n++) {
		if (load_part(&p, n) != -1)
			fail_msg("%zu of %zu octets were enough", n,
				 p.saved.bytes);
		if (p.e.code != FERRY_E_PROTO && p.e.code != FERRY_E_MISMATCH)
			fail_msg("%zu octets: %d %s", n, p.e.code, p.e.msg);
	}
	assert_ok(load_part(&p, p.saved.bytes));
	pair_fini(&p);
}

static void a_header_cut_in_half_is_said_to_be(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	assert_ok(ferry_dev_save_all(&p.from, 2, &p.saved, &p.e));
	for (size_t n = 1; n < 1 + 4 + 1 + 3 + 4 + 4 + FERRY_BODY_WIRE; n++) {
		assert_int_equal(load_part(&p, n), -1);
		assert_refused(&p, FERRY_E_PROTO, "ends inside a section");
	}
	pair_fini(&p);
}

/* The first section, octet by octet: 04, be32 id, str8 "cpu", be32 instance,
 * be32 version, be32 size, 9 octets, 7e, be32 id. */
static const struct { const char *why; size_t at; uint8_t octet; } bent[] = {
	{ "START instead of FULL",	0,	0x01 },
	{ "EOF instead of FULL",	0,	0x00 },
	{ "a type that is none",	0,	0x6f },
	{ "another's footer",		34,	0x09 },
	{ "no footer",			30,	0x04 },
	{ "size beyond the package",	17,	0x01 },
	{ "size one too small",		20,	0x08 },
	{ "size one too large",		20,	0x0a },
	{ "an empty name",		5,	0x00 },
};

static void bent_sections_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bent); i++) {
		struct pair p;

		pair_init(&p);
		assert_ok(ferry_dev_save_all(&p.from, 2, &p.saved, &p.e));
		assert_int_equal(p.saved.data[30], FERRY_SECTION_FOOTER);
		p.saved.data[bent[i].at] = bent[i].octet;
		if (load_part(&p, p.saved.bytes) != -1)
			fail_msg("%s: loaded", bent[i].why);
		if (p.e.code != FERRY_E_PROTO || !p.e.msg[0])
			fail_msg("%s: %d '%s'", bent[i].why, p.e.code,
				 p.e.msg);
		assert_string_equal(p.diary.text, "");
		pair_fini(&p);
	}
}

static void more_than_64_MiB_are_refused_by_name(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p);
	p.src[1].mib = 64;
	assert_int_equal(move(&p), -1);
	assert_refused(&p, FERRY_E_DEVICE, "cpu: state of all devices is "
		       "bounded by 64 MiB");
	pair_fini(&p);
}

static void the_first_failure_to_append_sticks(void **state)
{
	struct ferry_save s = { 0 };

	(void)state;
	ferry_save_bytes(&s, "abc", 3);
	assert_null(ferry_save_room(&s, FERRY_PACKAGE_BYTES_MAX));
	assert_int_equal(s.failed, EFBIG);
	ferry_save_bytes(&s, "def", 3);
	assert_int_equal(s.bytes, 3);
	assert_null(ferry_save_room(&s, SIZE_MAX));
	ferry_save_fini(&s);
}

static void all_of_64_MiB_can_be_used(void **state)
{
	struct ferry_save s = { 0 };

	(void)state;
	ferry_save_bytes(&s, "abc", 3);
	assert_non_null(ferry_save_room(&s, FERRY_PACKAGE_BYTES_MAX - 3));
	assert_null(ferry_save_room(&s, 1));
	ferry_save_fini(&s);
}

static void a_name_is_registered_once_per_instance(void **state)
{
	static const struct ferry_device_ops ops = { .save = save,
						     .load = load };
	struct ferry_registry r = { 0 };
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_registry_add(&r, "nic", 0, 1, &ops, NULL, &e));
	assert_ok(ferry_registry_add(&r, "nic", 1, 1, &ops, NULL, &e));
	assert_int_equal(ferry_registry_add(&r, "nic", 1, 2, &ops, NULL, &e),
			 -1);
	assert_int_equal(e.code, FERRY_E_INVALID);
	assert_non_null(strstr(e.msg, "nic/1 is there twice"));
	assert_int_equal(r.devs, 2);
	ferry_registry_fini(&r);
}

static void there_are_at_most_1024_devices(void **state)
{
	static const struct ferry_device_ops ops = { .save = save,
						     .load = load };
	struct ferry_registry r = { 0 };
	struct ferry_err e = { 0 };

	(void)state;
	for (uint32_t i = 0; i < FERRY_SECTIONS_MAX; i++)
		assert_ok(ferry_registry_add(&r, "nic", i, 1, &ops, NULL, &e));
	assert_int_equal(ferry_registry_add(&r, "nic", FERRY_SECTIONS_MAX, 1,
					    &ops, NULL, &e), -1);
	assert_int_equal(e.code, FERRY_E_INVALID);
	ferry_registry_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_is_loaded),
		cmocka_unit_test(devices_load_in_the_order_they_were_saved),
		cmocka_unit_test(no_devices_are_no_octets),
		cmocka_unit_test(an_older_version_is_loaded_as_what_it_is),
		cmocka_unit_test(a_newer_version_is_refused_by_name),
		cmocka_unit_test(a_device_that_nobody_has_is_refused_by_name),
		cmocka_unit_test(an_instance_that_nobody_has_is_refused),
		cmocka_unit_test(a_device_sent_twice_is_refused),
		cmocka_unit_test(a_device_without_state_is_refused),
		cmocka_unit_test(a_device_that_will_not_be_saved_is_named),
		cmocka_unit_test(a_device_that_will_not_be_loaded_is_named),
		cmocka_unit_test(state_cut_at_any_octet_is_refused),
		cmocka_unit_test(a_header_cut_in_half_is_said_to_be),
		cmocka_unit_test(bent_sections_are_refused),
		cmocka_unit_test(more_than_64_MiB_are_refused_by_name),
		cmocka_unit_test(the_first_failure_to_append_sticks),
		cmocka_unit_test(all_of_64_MiB_can_be_used),
		cmocka_unit_test(a_name_is_registered_once_per_instance),
		cmocka_unit_test(there_are_at_most_1024_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
