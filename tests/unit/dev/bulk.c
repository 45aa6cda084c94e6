/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "dev/bulk.h"

static void a_device_is_found_by_name_and_instance_and_there_once(void **state)
{
	struct ferry_bulk_list l = { 0 };
	struct ferry_bulk_dev d = { .name = "gpu", .instance = 1 };
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_bulk_list_add(&l, &d, &e), 0);
	d.instance = 2;
	assert_int_equal(ferry_bulk_list_add(&l, &d, &e), 0);
	assert_int_equal(ferry_bulk_list_add(&l, &d, &e), -1);
	assert_string_equal(e.msg, "bulk device gpu/2 is there twice");
	assert_ptr_equal(ferry_bulk_find(&l, "gpu", 2), &l.dev[1]);
	assert_null(ferry_bulk_find(&l, "gpu", 3));
	assert_null(ferry_bulk_find(&l, "nic", 2));
	ferry_bulk_list_fini(&l);
}

static void there_are_64_at_most(void **state)
{
	struct ferry_bulk_list l = { 0 };
	struct ferry_bulk_dev d = { .name = "gpu" };
	struct ferry_err e = { 0 };

	(void)state;
	for (; d.instance < FERRY_BULK_DEVICES_MAX; d.instance++)
		assert_int_equal(ferry_bulk_list_add(&l, &d, &e), 0);
	assert_int_equal(ferry_bulk_list_add(&l, &d, &e), -1);
	assert_string_equal(e.msg, "bulk device gpu: more than 64 of them");
	ferry_bulk_list_fini(&l);
}

struct written {
	unsigned	 n;
	size_t		 bytes[8];
	unsigned	 flags[8];
	const uint8_t	*next;		/* where the next piece begins */
};

static int note(void *arg, const void *data, size_t bytes, unsigned flags,
		struct ferry_err *e)
{
	struct written *w = arg;

	(void)e;
	assert_true(w->n < 8);
	if (w->n)
		assert_ptr_equal(data, w->next);
	w->next = (const uint8_t *)data + bytes;
	w->bytes[w->n] = bytes;
	w->flags[w->n++] = flags;
	return 0;
}

static uint8_t octets[3 * FERRY_BULK_BUFFER_MAX];

static void what_is_too_large_is_cut_and_the_last_piece_has_the_flags(
	void **state)
{
	static const struct { size_t bytes; unsigned n; size_t last; } row[] = {
		{ 0, 1, 0 },
		{ 1, 1, 1 },
		{ FERRY_BULK_BUFFER_MAX, 1, FERRY_BULK_BUFFER_MAX },
		{ FERRY_BULK_BUFFER_MAX + 1, 2, 1 },
		{ sizeof(octets), 3, FERRY_BULK_BUFFER_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct written w = { 0 };
		struct ferry_bulk b = { .write = note, .arg = &w };

		assert_int_equal(ferry_bulk_write(&b, octets, row[i].bytes,
						  FERRY_BULK_CONFIG, NULL), 0);
		assert_int_equal(w.n, row[i].n);
		assert_int_equal(w.bytes[w.n - 1], row[i].last);
		assert_int_equal(w.flags[w.n - 1], FERRY_BULK_CONFIG);
		for (unsigned k = 0; k + 1 < w.n; k++)
			assert_int_equal(w.flags[k], 0);
	}
}

static void flags_that_there_are_not_and_a_target_are_refused(void **state)
{
	struct written w = { 0 };
	struct ferry_bulk b = { .write = note, .arg = &w };
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_bulk_write(&b, octets, 1, 4, &e), -1);
	assert_int_equal(e.code, FERRY_E_INVALID);
	b.write = NULL;
	assert_int_equal(ferry_bulk_write(&b, octets, 1, 0, &e), -1);
	assert_int_equal(e.code, FERRY_E_STATE);
	assert_int_equal(w.n, 0);
}

static void a_callback_sees_that_it_is_to_return(void **state)
{
	struct ferry_bulk b;
	struct pollfd p = { .events = POLLIN };

	(void)state;
	assert_int_equal(ferry_bulk_init(&b, NULL), 0);
	assert_false(ferry_bulk_is_over(&b));
	ferry_bulk_raise(&b);
	ferry_bulk_raise(&b);
	p.fd = ferry_bulk_fd(&b);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true(ferry_bulk_is_over(&b));
	ferry_bulk_lower(&b);
	assert_false(ferry_bulk_is_over(&b));
	ferry_bulk_fini(&b);
}

static void each_state_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i <= FERRY_BULK_STATE_FAILED; i++)
		assert_string_not_equal(ferry_bulk_state_name(
			(enum ferry_bulk_state)i), "unknown");
	assert_string_equal(ferry_bulk_state_name((enum ferry_bulk_state)-1),
			    "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		a_device_is_found_by_name_and_instance_and_there_once),
		cmocka_unit_test(there_are_64_at_most),
		cmocka_unit_test(
		what_is_too_large_is_cut_and_the_last_piece_has_the_flags),
		cmocka_unit_test(
		flags_that_there_are_not_and_a_target_are_refused),
		cmocka_unit_test(a_callback_sees_that_it_is_to_return),
		cmocka_unit_test(each_state_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
