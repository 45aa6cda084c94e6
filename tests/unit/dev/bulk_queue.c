/* SPDX-License-Identifier: MIT */
/*
 * Packets in order, whatever the order that they come in; what may not come is
 * a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "dev/bulk_queue.h"

#define LAST	FERRY_BULK_PACKET_LAST
#define W	FERRY_BULK_WINDOW

static struct ferry_bulk_queue *fresh(void)
{
	static struct ferry_bulk_queue q;
	uint64_t limit;

	ferry_bulk_queue_init(&q, "gpu");
	assert_true(ferry_bulk_queue_grant(&q, &limit));
	assert_int_equal(limit, W);
	return &q;
}

static int give(struct ferry_bulk_queue *q, uint64_t index, unsigned flags,
		struct ferry_err *e)
{
	struct ferry_bulk_packet p = {
		.index = index, .flags = (uint16_t)flags,
		.bytes = flags & LAST ? 0 : 8,
	};
	uint8_t *at = NULL;

	if (ferry_bulk_queue_room(q, &p, &at, e))
		return -1;
	if (p.bytes)
		memcpy(at, &index, 8);
	ferry_bulk_queue_put(q, &p);
	return 0;
}

/* The next one is this. */
static void expect(struct ferry_bulk_queue *q, uint64_t index)
{
	struct ferry_bulk_place p;
	uint64_t got;

	assert_true(ferry_bulk_queue_take(q, &p));
	assert_int_equal(p.bytes, 8);
	memcpy(&got, p.data, 8);
	assert_int_equal(got, index);
	free(p.data);
}

static void packets_come_out_in_order(void **state)
{
	struct ferry_bulk_queue *q = fresh();
	struct ferry_bulk_place p;

	(void)state;
	for (unsigned i = W; i-- > 1; ) {
		assert_int_equal(give(q, i, 0, NULL), 0);
		assert_false(ferry_bulk_queue_take(q, &p));	/* a gap */
	}
	assert_int_equal(give(q, 0, 0, NULL), 0);
	for (unsigned i = 0; i < W; i++)
		expect(q, i);
	assert_false(ferry_bulk_queue_take(q, &p));
	ferry_bulk_queue_fini(q);
}

static void what_is_being_received_is_not_taken(void **state)
{
	struct ferry_bulk_packet p = { .bytes = 8 };
	struct ferry_bulk_queue *q = fresh();
	struct ferry_bulk_place place;
	uint8_t *at;

	(void)state;
	assert_int_equal(ferry_bulk_queue_room(q, &p, &at, NULL), 0);
	assert_false(ferry_bulk_queue_take(q, &place));
	memset(at, 0, 8);
	ferry_bulk_queue_put(q, &p);
	expect(q, 0);
	ferry_bulk_queue_fini(q);	/* also what was never put */
	q = fresh();
	assert_int_equal(ferry_bulk_queue_room(q, &p, &at, NULL), 0);
	ferry_bulk_queue_fini(q);
}

static void what_may_not_come_is_refused(void **state)
{
	static const struct {
		const char *why;
		struct { uint64_t index; unsigned flags; } before[4];
		unsigned n;
		unsigned taken;		/* of them */
		uint64_t index;
		unsigned flags;
		const char *says;
	} rows[] = {
		{ "more than was granted", { { 0 } }, 0, 0, W, 0,
		  "packet 32 is more than was granted" },
		{ "far more", { { 0 } }, 0, 0, UINT64_MAX, 0,
		  "packet 18446744073709551615 is more than was granted" },
		{ "twice, and not loaded yet", { { 3, 0 } }, 1, 0, 3, 0,
		  "packet 3 came twice" },
		{ "twice, and loaded", { { 0, 0 } }, 1, 1, 0, 0,
		  "packet 0 came twice" },
		{ "behind the last", { { 2, LAST } }, 1, 0, 5, 0,
		  "packet 5 comes behind the last one" },
		{ "the last one as another", { { 2, LAST } }, 1, 0, 2, 0,
		  "packet 2 comes behind the last one" },
		{ "two times the last", { { 2, LAST } }, 1, 0, 2, LAST,
		  "packet 2 is a second last one" },
		{ "two last ones", { { 2, LAST } }, 1, 0, 1, LAST,
		  "packet 1 is a second last one" },
		{ "two last ones, the other way", { { 2, LAST } }, 1, 0, 3,
		  LAST, "packet 3 is a second last one" },
		{ "a last one that is not", { { 7, 0 }, { 0, 0 } }, 2, 0, 4,
		  LAST, "packet 4 is the last one, and a later one has come" },
		{ "the last one in another's place", { { 4, 0 } }, 1, 0, 4,
		  LAST, "packet 4 came twice" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ferry_bulk_queue *q = fresh();
		struct ferry_err e = { 0 };

		for (unsigned k = 0; k < rows[i].n; k++)
			assert_int_equal(give(q, rows[i].before[k].index,
					      rows[i].before[k].flags, &e), 0);
		for (unsigned k = 0; k < rows[i].taken; k++)
			expect(q, k);
		if (!give(q, rows[i].index, rows[i].flags, &e))
			fail_msg("%s: not refused", rows[i].why);
		if (!strstr(e.msg, rows[i].says) || strncmp(e.msg,
			"bulk device gpu: ", 17) || e.code != FERRY_E_PROTO)
			fail_msg("%s: %s", rows[i].why, e.msg);
		ferry_bulk_queue_fini(q);
	}
}

static void as_much_is_granted_as_there_is_room_for(void **state)
{
	struct ferry_bulk_queue *q = fresh();
	uint64_t limit = 0, index = 0, granted = W;

	(void)state;
	assert_false(ferry_bulk_queue_grant(q, &limit));
	while (index < 10 * W) {
		assert_int_equal(give(q, index, 0, NULL), 0);
		expect(q, index++);
		if (!ferry_bulk_queue_grant(q, &limit))
			continue;
		/* Told seldom, and never more than the window. */
		assert_true(limit >= granted + W / 4);
		assert_int_equal(limit, index + W);
		granted = limit;
	}
	assert_true(granted > 10 * W);
	/* What is the last needs no more. */
	assert_int_equal(give(q, index, LAST, NULL), 0);
	for (unsigned i = 0; i < W; i++)
		q->next++;
	assert_false(ferry_bulk_queue_grant(q, &limit));
	ferry_bulk_queue_fini(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_come_out_in_order),
		cmocka_unit_test(what_is_being_received_is_not_taken),
		cmocka_unit_test(what_may_not_come_is_refused),
		cmocka_unit_test(as_much_is_granted_as_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
