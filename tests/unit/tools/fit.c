/* SPDX-License-Identifier: MIT */
/*
 * What may migrate to what: a row each, made from two sides that fit.
 */
#include "fit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

struct side {
	unsigned version;	/* 0: ferry run */
	const char *caps;	/* "a b": these are on */
	const char *params;	/* JSON */
	const char *machine;
	uint64_t ram_bytes;
	size_t vcpus;
	bool listens;
};

static struct ferry_view view_of(const char *name, const struct side *side,
				 bool waits)
{
	struct ferry_view v = {
		.name = name, .waits = waits, .listens = side->listens,
		.kind = side->version ? FERRY_PEER_QEMU : FERRY_PEER_FERRY,
		.version = side->version, .ram_bytes = side->ram_bytes,
		.vcpus = side->vcpus,
		.caps = json_object_new_object(),
		.params = json_tokener_parse(side->params ? side->params :
					     "{}"),
	};
	char copy[128], *at = copy, *word;

	snprintf(v.state, sizeof(v.state), waits ? "inmigrate" : "running");
	snprintf(v.machine, sizeof(v.machine), "%s",
		 side->machine ? side->machine : "");
	snprintf(copy, sizeof(copy), "%s", side->caps ? side->caps : "");
	while ((word = strsep(&at, " ")))
		ferry_json_add_bool(v.caps, word, true);
	return v;
}

#define TWO	"{\"multifd-channels\":2,\"multifd-compression\":\"none\"}"
#define THREE	"{\"multifd-channels\":3,\"multifd-compression\":\"none\"}"
#define ZLIB	"{\"multifd-channels\":2,\"multifd-compression\":\"zlib\"}"
#define ZEROES	"{\"multifd-channels\":2,\"multifd-compression\":\"none\"," \
		"\"zero-page-detection\":\"multifd\"}"
#define TLS	"{\"tls-creds\":\"tls0\"}"

static const struct {
	struct side a, b;
	const char *why;	/* of the sentence; NULL: they fit */
} settings[] = {
	{ { 702 }, { 702 }, NULL },
	{ { 702, "multifd", TWO }, { 702, "multifd", TWO }, NULL },
	{ { 702, "multifd", TWO }, { 702, "", TWO },
	  "multifd is on at a and off at b: pages would be lost" },
	{ { 702, "", TWO }, { 702, "multifd", TWO },
	  "multifd is off at a and on at b: it would wait" },
	{ { 702, "multifd", TWO }, { 702, "", TWO, .listens = true },
	  "start it with -incoming defer" },
	{ { 702, "multifd", THREE }, { 702, "multifd", TWO },
	  "multifd-channels is 3 at a and 2 at b: pages would be lost" },
	{ { 702, "multifd", TWO }, { 702, "multifd", THREE },
	  "multifd-channels is 2 at a and 3 at b" },
	{ { 702, "multifd", ZLIB }, { 702, "multifd", TWO },
	  "multifd-compression is zlib at a and none at b" },
	{ { 702, "", ZLIB }, { 702, "", THREE }, NULL },
	{ { 702, "multifd postcopy-ram", TWO },
	  { 702, "multifd postcopy-ram", TWO }, "need QEMU 10.2; a is a" },
	{ { 1002, "multifd postcopy-ram", TWO },
	  { 1001, "multifd postcopy-ram", TWO }, "10.2; b is a QEMU 10.1" },
	{ { 1101, "multifd postcopy-ram", TWO },
	  { 1002, "multifd postcopy-ram", TWO }, NULL },
	{ { 702, "postcopy-ram" }, { 702 }, "postcopy would be refused" },
	{ { 702 }, { 702, "postcopy-ram" }, NULL },
	{ { 702, "postcopy-ram postcopy-preempt" }, { 702, "postcopy-ram" },
	  "postcopy-preempt is on at a and off at b" },
	{ { 702, "postcopy-ram" }, { 702, "postcopy-ram postcopy-preempt" },
	  "wait for a connection forever" },
	{ { 702, "compress" }, { 702 }, "compressed pages" },
	{ { 1101, "switchover-ack" }, { 702 }, "switchover-ack is on at a" },
	{ { 1101, "mapped-ram" }, { 1101 }, "mapped-ram is on at a" },
	{ { 702, "xbzrle" }, { 702 }, NULL },
	{ { 900, "multifd", ZEROES }, { 802, "multifd", ZEROES },
	  "would lose zero pages" },
	{ { 900, "multifd", ZEROES }, { 900, "multifd", ZEROES }, NULL },
	{ { 900, "", ZEROES }, { 802, "", ZEROES }, NULL },
	{ { 702, "", TLS }, { 702 }, "tls-creds is set at a and not at b" },
	{ { 702 }, { 702, "", TLS }, "tls-creds is set at b and not at a" },
	{ { 702, "", TLS }, { 702, "", TLS }, NULL },
};

/* What is said of tls-creds, and what comes of it at two VMs. */
static const struct {
	struct side a, b;
	const char *said, *why;
} creds[] = {
	{ { 0 }, { .listens = true }, NULL, NULL },
	{ { 0, "", TLS }, { 0, "", TLS, .listens = true }, NULL, NULL },
	{ { 0, "", TLS }, { .listens = true }, NULL, "at a and not at b" },
	{ { 0 }, { 0, "", TLS, .listens = true }, NULL, "at b and not at a" },
	{ { 0 }, { .listens = true }, "/creds", "at a and not at b" },
	{ { 0 }, { 0 }, "/creds", NULL },
	{ { 0 }, { 0, "", TLS, .listens = true }, "/creds", NULL },
	{ { 0, "", TLS }, { 0, "", TLS, .listens = true }, "",
	  "at b and not at a" },
	{ { 0, "", TLS }, { 0, "", TLS }, "", NULL },
};

static void tls_is_at_both_or_at_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(creds); i++) {
		FERRY_AUTO_VIEW a = view_of("a", &creds[i].a, false);
		FERRY_AUTO_VIEW b = view_of("b", &creds[i].b, true);
		struct ferry_err e = { 0 };
		int rc = ferry_fit_creds(&a, &b, creds[i].said, &e);

		if (!rc != !creds[i].why ||
		    (rc && !strstr(e.msg, creds[i].why)))
			fail_msg("row %zu: %s", i, e.msg);
	}
}

static void check(int rc, const struct ferry_err *err, const char *why)
{
	if (!why != !rc)
		fail_msg("%s, not: %s", rc ? err->msg : "it was taken",
			 why ? why : "they fit");
	if (why && !strstr(err->msg, why))
		fail_msg("%s, not: %s", err->msg, why);
}

static void two_qemus_must_be_set_alike(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(settings); i++) {
		FERRY_AUTO_VIEW a = view_of("a", &settings[i].a, false);
		FERRY_AUTO_VIEW b = view_of("b", &settings[i].b, true);
		struct ferry_err err = { 0 };

		check(ferry_fit_settings(&a, &b, &err), &err,
		      settings[i].why);
	}
}

static const struct {
	struct side a, b;
	bool a_waits, b_waits;
	const char *why;
} sides[] = {
	{ { 702 }, { 1101 }, false, true, NULL },
	{ { 0 }, { 0 }, false, true, NULL },
	{ { 0 }, { 702 }, false, true, "a is ferry run and b is a QEMU" },
	{ { 702 }, { 0 }, false, true, "a is a QEMU and b is ferry run" },
	{ { 702 }, { 702 }, true, true, "a has no VM to move" },
	{ { 702 }, { 702 }, false, false, "b does not wait for a VM (it is: "
	  "running); start it with -incoming defer" },
	{ { 0 }, { 0 }, false, false, "start it with --incoming defer" },
	{ { 702, .machine = "pc-7" }, { 702, .machine = "q35" }, false, true,
	  "a is a pc-7 and b a q35: start b with -machine pc-7" },
	{ { 702, .machine = "pc-7" }, { 702 }, false, true, NULL },
	{ { 702, .ram_bytes = 1 << 20 }, { 702, .ram_bytes = 2 << 20 },
	  false, true, "a has 1 MiB of RAM and b 2 MiB" },
	{ { 702, .vcpus = 1 }, { 702, .vcpus = 2 }, false, true,
	  "a has 1 vCPUs and b 2" },
};

static void sides_must_be_of_one_kind_and_shape(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sides); i++) {
		FERRY_AUTO_VIEW a = view_of("a", &sides[i].a,
					    sides[i].a_waits);
		FERRY_AUTO_VIEW b = view_of("b", &sides[i].b,
					    sides[i].b_waits);
		struct ferry_err err = { 0 };

		check(ferry_fit_sides(&a, &b, &err), &err, sides[i].why);
	}
}

static void what_blocks_is_said_in_qemus_words(void **state)
{
	const struct side side = { 702 };
	FERRY_AUTO_VIEW a = view_of("a", &side, false);
	struct ferry_err err = { 0 };

	(void)state;
	check(ferry_fit_source(&a, &err), &err, NULL);
	snprintf(a.blocked, sizeof(a.blocked), "a device is in the way");
	check(ferry_fit_source(&a, &err), &err, "a cannot migrate; QEMU says: "
	      "a device is in the way");
	*a.blocked = '\0';
	snprintf(a.state, sizeof(a.state), "postmigrate");
	check(ferry_fit_source(&a, &err), &err, "has given its VM away");
}

static const struct {
	struct side a;
	const char *uri, *said, *why, *needs;
} addresses[] = {
	{ { 702 }, "tcp:h:1", NULL, NULL, "" },
	{ { 702, "multifd", TWO }, "tcp:h:1", NULL, "lost without an error",
	  NULL },
	{ { 702, "multifd", TWO }, "tcp:h:1", "multifd", NULL,
	  "multifd on, multifd-channels 2, multifd-compression none" },
	{ { 702, "postcopy-ram" }, "tcp:h:1", NULL, NULL, "postcopy-ram on" },
	{ { 702, "postcopy-ram" }, "exec:cat", NULL, "one-way", NULL },
	{ { 702, "postcopy-ram" }, "file:/x", NULL, "one-way", NULL },
	{ { 702, "postcopy-ram multifd", TWO }, "tcp:h:1", "multifd",
	  "need QEMU 10.2", NULL },
};

static void an_address_gets_what_it_is_known_to_take(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(addresses); i++) {
		FERRY_AUTO_VIEW a = view_of("a", &addresses[i].a, false);
		struct ferry_wish w = { 0 };
		struct ferry_err err = { 0 };
		char needs[200];

		assert_int_equal(ferry_wish_init(&w, &err), 0);
		if (addresses[i].said)
			assert_int_equal(ferry_wish_set(&w, addresses[i].said,
							"on", &err), 0);
		check(ferry_fit_address(&a, &w, addresses[i].uri, &err), &err,
		      addresses[i].why);
		ferry_wish_fini(&w);
		if (!addresses[i].needs)
			continue;
		assert_int_equal(ferry_fit_needs(&a, needs, sizeof(needs)),
				 *addresses[i].needs != 0);
		assert_string_equal(needs, addresses[i].needs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tls_is_at_both_or_at_none),
		cmocka_unit_test(two_qemus_must_be_set_alike),
		cmocka_unit_test(sides_must_be_of_one_kind_and_shape),
		cmocka_unit_test(what_blocks_is_said_in_qemus_words),
		cmocka_unit_test(an_address_gets_what_it_is_known_to_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
