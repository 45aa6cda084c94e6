/* SPDX-License-Identifier: MIT */
/* The lease as arithmetic: whatever the network does, the target's time is over
 * before the source believes so. */
#include "help.h"

#include "base/clock.h"
#include "mig/lease.h"

#define MS	FERRY_NS_PER_MS
#define LENGTH	(1600 * MS)

static struct ferry_lease_held held(void)
{
	return (struct ferry_lease_held){ .length_ns = LENGTH };
}

static void who_has_none_asks_for_nothing(void **state)
{
	struct ferry_lease_held h = { 0 };

	(void)state;
	assert_int_equal(ferry_lease_ask(&h, 5), 0);
	h.loaded_ns = 7;
	assert_false(ferry_lease_run(&h));
	assert_false(ferry_lease_renew(&h, 1));
	assert_int_equal(h.until_ns, 0);
}

static void it_counts_from_when_it_was_asked_for(void **state)
{
	struct ferry_lease_held h = held();

	(void)state;
	assert_int_equal(ferry_lease_ask(&h, 1000 * MS), 1);
	assert_int_equal(ferry_lease_ask(&h, 1100 * MS), 2);
	assert_true(ferry_lease_renew(&h, 1));
	assert_int_equal(h.until_ns, 1000 * MS + LENGTH);
	assert_true(ferry_lease_renew(&h, 2));
	assert_int_equal(h.until_ns, 1100 * MS + LENGTH);
	/* Late, or twice: nothing new. */
	assert_false(ferry_lease_renew(&h, 1));
	assert_false(ferry_lease_renew(&h, 2));
	assert_int_equal(h.until_ns, 1100 * MS + LENGTH);
}

static void it_is_asked_for_sixteen_times_in_its_length(void **state)
{
	struct ferry_lease_held h = held();

	(void)state;
	assert_int_equal(ferry_lease_ask(&h, 1000 * MS), 1);
	assert_int_equal(ferry_lease_ask(&h, 1099 * MS), 0);
	assert_int_equal(ferry_lease_ask(&h, 1100 * MS), 2);
}

static void what_was_never_asked_or_is_forgotten_counts_for_nothing(void **s)
{
	static const uint32_t wrong[] = { 0, 41, 42, 1000, UINT32_MAX, 1, 8 };
	struct ferry_lease_held h = held();
	uint64_t now = 0;

	(void)s;
	while (h.n < 40)
		(void)ferry_lease_ask(&h, now += 100 * MS);
	for (size_t i = 0; i < FERRY_LEN(wrong); i++)
		assert_false(ferry_lease_renew(&h, wrong[i]));
	assert_int_equal(h.until_ns, 0);
	assert_true(ferry_lease_renew(&h, 9));
	assert_int_equal(h.until_ns, 900 * MS + LENGTH);
}

static void run_counts_from_loaded(void **state)
{
	struct ferry_lease_held h = held();

	(void)state;
	assert_false(ferry_lease_run(&h));
	h.loaded_ns = 500 * MS;
	assert_true(ferry_lease_run(&h));
	assert_int_equal(h.until_ns, 500 * MS + LENGTH);
	assert_false(ferry_lease_run(&h));
}

static void the_source_waits_for_longer_than_that(void **state)
{
	struct ferry_lease_given g = { .length_ns = LENGTH };

	(void)state;
	ferry_lease_give(&g, 1000 * MS);
	assert_int_equal(ferry_lease_left_ns(&g, 1000 * MS),
			 LENGTH + LENGTH / 100 + FERRY_LEASE_MARGIN_NS);
	assert_int_equal(ferry_lease_left_ns(&g, 1000 * MS + LENGTH),
			 LENGTH / 100 + FERRY_LEASE_MARGIN_NS);
	assert_int_equal(ferry_lease_left_ns(&g, 9000 * MS), 0);
	ferry_lease_give(&g, 900 * MS);		/* of the slower thread */
	assert_int_equal(g.last_ns, 1000 * MS);
}

/*
 * Two hosts, clocks that began at other times, messages that take as long as
 * they like or get lost, in any order: whenever the source says that it is
 * over, it is over.
 */
static unsigned draw(unsigned *seed, unsigned most)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % most;
}

static void it_is_never_over_at_the_source_first(void **state)
{
	const uint64_t skew = 77777 * MS;	/* source's clock is ahead */
	unsigned seed = 1, waited = 0;

	(void)state;
	for (unsigned run = 0; run < 2000; run++) {
		struct ferry_lease_given g = { .length_ns = LENGTH };
		struct ferry_lease_held h = held();
		uint64_t now = 1000 * MS;
		uint32_t asks[16] = { 0 }, answers[16] = { 0 };

		for (unsigned step = 0; step < 200; step++) {
			unsigned i = draw(&seed, 16), j = draw(&seed, 16);

			now += draw(&seed, 120) * MS;
			if (step < 100)
				asks[i] = ferry_lease_ask(&h, now);
			if (asks[j]) {	/* it arrives, maybe once more */
				ferry_lease_give(&g, now + skew);
				answers[i] = asks[j];
			}
			if (step > 60)
				asks[j] = 0;
			(void)ferry_lease_renew(&h, answers[j]);
			if (!g.last_ns ||
			    ferry_lease_left_ns(&g, now + skew))
				continue;
			waited++;
			assert_true(h.until_ns + FERRY_LEASE_MARGIN_NS <=
				    now);
		}
	}
	assert_true(waited > 2000);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_has_none_asks_for_nothing),
		T(it_counts_from_when_it_was_asked_for),
		T(it_is_asked_for_sixteen_times_in_its_length),
		T(what_was_never_asked_or_is_forgotten_counts_for_nothing),
		T(run_counts_from_loaded),
		T(the_source_waits_for_longer_than_that),
		T(it_is_never_over_at_the_source_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
