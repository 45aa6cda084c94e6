/* SPDX-License-Identifier: MIT */
/*
 * The governor against a link with a buffer: what the push sends beyond what
 * the link takes stands in it, and who waits for a page waits behind that.
 */
#include "help.h"

#include "mig/govern.h"

#define MIB	(1ull << 20)
#define MS	1000000ull

struct link {
	double capacity;	/* bytes/s */
	double buffer;		/* bytes at most */
	double base_ns;		/* a wait on an empty link */
	double queue;		/* bytes */
	bool	quiet;		/* nobody waits for a page */
	uint64_t most;
};

struct course {
	unsigned reports, late;		/* the second: beyond the limit */
	double pushed;			/* bytes */
	uint64_t least, last;		/* rates */
};

/* A tenth of a second. */
static void step(struct link *l, struct ferry_govern *g, uint64_t limit_ns,
		 struct course *k)
{
	double in = (double)g->rate / 10, out = l->capacity / 10, before;
	struct ferry_govern_in r = { .limit_ns = limit_ns, .most = l->most };
	double wait_ns;

	before = l->queue;
	l->queue += in;
	out = l->queue < out ? l->queue : out;
	l->queue -= out;
	if (l->queue > l->buffer) {	/* the sender was stopped */
		in -= l->queue - l->buffer;
		l->queue = l->buffer;
	}
	wait_ns = l->base_ns + (l->queue > before ? l->queue : before) * 1e9 /
		  l->capacity;
	r.pushed = (uint64_t)(in * 10);
	if (!l->quiet) {
		r.waits = 20;
		r.p99_ns = (uint64_t)wait_ns;
	}
	*g = ferry_govern(*g, &r);
	k->reports++;
	k->late += !l->quiet && wait_ns > (double)limit_ns;
	k->pushed += in;
	k->last = g->rate;
	if (!k->least || g->rate < k->least)
		k->least = g->rate;
}

static struct course run(struct link *l, struct ferry_govern *g,
			 uint64_t limit_ns, unsigned reports)
{
	struct course k = { 0 };

	for (unsigned i = 0; i < reports; i++)
		step(l, g, limit_ns, &k);
	return k;
}

/* Of what the link could take. */
static double share(const struct course *k, const struct link *l)
{
	return k->pushed / (l->capacity * k->reports / 10);
}

static const struct {
	const char *what;
	double capacity_mib, buffer_mib, base_ms, limit_ms;
} links[] = {
	{ "1 Gbit/s, 4 MiB of buffers, 5 ms", 119, 4, 0.3, 5 },
	{ "1 Gbit/s, 16 MiB, 20 ms", 119, 16, 0.3, 20 },
	{ "10 Gbit/s, 8 MiB, 2 ms", 1192, 8, 0.2, 2 },
	{ "100 Mbit/s, 4 MiB, 30 ms", 12, 4, 1, 30 },
	{ "200 Mbit/s over 40 ms, 90 ms", 24, 8, 40, 90 },
};

static void it_settles_below_what_the_link_takes(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(links); i++) {
		struct link l = { .capacity = links[i].capacity_mib * MIB,
				  .buffer = links[i].buffer_mib * MIB,
				  .base_ns = links[i].base_ms * MS };
		uint64_t limit = (uint64_t)(links[i].limit_ms * MS);
		struct ferry_govern g = { 0 };
		struct course k = run(&l, &g, limit, 100);

		/* The beginning may cost; then it holds. */
		k = run(&l, &g, limit, 600);
		if (k.late * 20 > k.reports || share(&k, &l) < 0.6)
			fail_msg("%s: %u of %u late, %.0f%% of the link",
				 links[i].what, k.late, k.reports,
				 100 * share(&k, &l));
	}
}

static void it_goes_up_again_when_there_is_room(void **state)
{
	struct link l = { .capacity = 20 * MIB, .buffer = 8 * MIB,
			  .base_ns = MS };
	struct ferry_govern g = { 0 };
	struct course k = run(&l, &g, 20 * MS, 300);

	(void)state;
	assert_true(k.last < 30 * MIB);
	l.capacity = 200 * MIB;
	k = run(&l, &g, 20 * MS, 300);
	assert_true(k.last > 120 * MIB);
	/* And down at once. */
	l.capacity = 20 * MIB;
	k = run(&l, &g, 20 * MS, 50);
	assert_true(k.last < 30 * MIB);
}

/* What cannot be had does not stop the push for ever. */
static void it_never_stops(void **state)
{
	struct link l = { .capacity = 100 * MIB, .buffer = 4 * MIB,
			  .base_ns = 50 * MS };
	struct ferry_govern g = { 0 };
	struct course k = run(&l, &g, MS, 1000);

	(void)state;
	assert_int_equal(k.least, FERRY_GOVERN_FLOOR);
	assert_true(k.pushed > 90.0 * (double)FERRY_GOVERN_FLOOR);
}

static void it_does_not_hold_back_for_nobody(void **state)
{
	struct link l = { .capacity = 100 * MIB, .buffer = 4 * MIB,
			  .base_ns = MS, .quiet = true };
	struct ferry_govern g = { 0 };
	struct course k = run(&l, &g, MS, 200);

	(void)state;
	assert_true(k.last >= 100 * MIB);
	/* Nor does it climb without end where nothing comes of it. */
	assert_true(k.last < 1000 * MIB);
}

static void it_stays_within_what_the_user_allows(void **state)
{
	struct link l = { .capacity = 1000 * MIB, .buffer = 4 * MIB,
			  .base_ns = MS, .quiet = true, .most = 50 * MIB };
	struct ferry_govern g = { 0 };
	struct course k = run(&l, &g, MS, 200);

	(void)state;
	assert_int_equal(k.last, 50 * MIB);
	l.most = MIB;		/* less than the floor */
	k = run(&l, &g, MS, 10);
	assert_int_equal(k.last, MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_settles_below_what_the_link_takes),
		cmocka_unit_test(it_goes_up_again_when_there_is_room),
		cmocka_unit_test(it_never_stops),
		cmocka_unit_test(it_does_not_hold_back_for_nobody),
		cmocka_unit_test(it_stays_within_what_the_user_allows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
