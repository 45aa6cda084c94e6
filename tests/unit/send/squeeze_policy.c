/* SPDX-License-Identifier: MIT */
/*
 * When packets are compressed: windows as they may be measured, and what
 * follows; then whole courses, of channels that are simulated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "send/packer.h"
#include "wire/multifd.h"

#define OFF	FERRY_SQUEEZE_OFF
#define SAMPLE	FERRY_SQUEEZE_SAMPLE
#define ON	FERRY_SQUEEZE_ON
#define TRIAL	FERRY_SQUEEZE_TRIAL
#define MIB	(UINT64_C(1) << 20)

#define SHIFT	FERRY_SQUEEZE_SHIFT
#define WINDOW	FERRY_SQUEEZE_WINDOW_NS

/* Compressed well, and hardly waiting. */
#define BUSY	.plain_bytes = MIB, .wire_bytes = MIB / 2, .ns = 6000,	\
		.blocked_ns = 1000, .off_ns = 10000

static const struct {
	const char *why;
	struct ferry_squeeze_window w;
	struct ferry_squeeze_next next;
} rows[] = {
	{ "it does not wait: the CPU is the limit",
	  { .mode = OFF, .windows = 9, .plain_bytes = 16 * MIB, .ns = 100,
	    .blocked_ns = 49 }, { OFF, false, 0, 0, 0 } },
	{ "it waits", { .mode = OFF, .windows = 1, .plain_bytes = 16 * MIB,
	    .ns = 100, .blocked_ns = 51 }, { SAMPLE, false, 0, 0, 0 } },
	{ "it waits, and a sample was no good a moment ago",
	  { .mode = OFF, .windows = 3, .refused = 2, .plain_bytes = 16 * MIB,
	    .ns = 100, .blocked_ns = 99 }, { OFF, false, 2, 0, 0 } },
	{ "the same, later", { .mode = OFF, .windows = 4, .refused = 2,
	    .plain_bytes = 16 * MIB, .ns = 100, .blocked_ns = 99 },
	  { SAMPLE, false, 2, 0, 0 } },
	{ "half as large, in a tenth of the time",
	  { .mode = SAMPLE, .plain_bytes = MIB, .wire_bytes = MIB / 2,
	    .squeeze_ns = 1000, .off_blocked_ns = 10000 }, { ON, false, 0, 0, 0 } },
	{ "half as large, in half of the time: both go on at once",
	  { .mode = SAMPLE, .plain_bytes = MIB, .wire_bytes = MIB / 2,
	    .squeeze_ns = 5000, .off_blocked_ns = 10000 },
	  { ON, false, 0, 0, 0 } },
	{ "half as large, in nearly all of the time",
	  { .mode = SAMPLE, .plain_bytes = MIB, .wire_bytes = MIB / 2,
	    .squeeze_ns = 8000, .off_blocked_ns = 10000 },
	  { OFF, false, 1, 0, 0 } },
	{ "the same, and there is a faster gear: it is the next sample's",
	  { .mode = SAMPLE, .has_fast = true, .plain_bytes = MIB,
	    .wire_bytes = MIB / 2, .squeeze_ns = 8000,
	    .off_blocked_ns = 10000 }, { OFF, true, 1, 0, 0 } },
	{ "hardly smaller", { .mode = SAMPLE, .plain_bytes = MIB,
	    .wire_bytes = MIB / 100 * 95, .squeeze_ns = 10,
	    .off_blocked_ns = 10000 }, { OFF, false, 1, 0, 0 } },
	{ "no sample is refused for longer than 32 windows",
	  { .mode = SAMPLE, .refused = 5, .plain_bytes = MIB,
	    .wire_bytes = MIB, .squeeze_ns = 10, .off_blocked_ns = 10000 },
	  { OFF, false, 5, 0, 0 } },
	{ "it is faster than without", { .mode = ON, .windows = 3,
	    .plain_bytes = MIB, .wire_bytes = MIB / 2, .ns = 6000,
	    .blocked_ns = 4000, .off_ns = 10000 }, { ON, false, 0, 0, 0 } },
	{ "about as fast as without stays as it is", { .mode = ON,
	    .windows = 3, .plain_bytes = MIB, .wire_bytes = MIB / 2,
	    .ns = 10400, .blocked_ns = 4000, .off_ns = 10000 },
	  { ON, false, 0, 0, 0 } },
	{ "slower than without, in the first window",
	  { .mode = ON, .windows = 1, .plain_bytes = MIB,
	    .wire_bytes = MIB / 2, .ns = 12000, .blocked_ns = 4000,
	    .off_ns = 10000 }, { ON, false, 0, 0, 0 } },
	{ "slower than without, again", { .mode = ON, .windows = 2,
	    .plain_bytes = MIB, .wire_bytes = MIB / 2, .ns = 12000,
	    .blocked_ns = 4000, .off_ns = 10000 }, { OFF, false, 1, 0, 0 } },
	{ "what comes now cannot be compressed", { .mode = ON, .windows = 1,
	    .plain_bytes = MIB, .wire_bytes = MIB / 100 * 92, .ns = 6000,
	    .blocked_ns = 5000, .off_ns = 10000 }, { OFF, false, 1, 0, 0 } },
	{ "it has proved itself", { .mode = ON, .windows = 8, .refused = 3,
	    .plain_bytes = MIB, .wire_bytes = MIB / 2, .ns = 6000,
	    .blocked_ns = 4000, .off_ns = 10000 }, { ON, false, 0, 0, 0 } },
	{ "it does not wait any more", { .mode = ON, .mode_ns = 8 * WINDOW,
	    .windows = 9, BUSY }, { TRIAL, false, 0, 0, 0 } },
	{ "the same, after a trial", { .mode = ON, .mode_ns = 8 * WINDOW,
	    .windows = 9, .tried = 1, BUSY }, { ON, false, 0, 1, 0 } },
	{ "the same, and it may not end", { .mode = ON, .always = true,
	    .mode_ns = 99 * WINDOW, .windows = 9, BUSY },
	  { ON, false, 0, 0, 0 } },
	{ "it does not get smaller, and may not end", { .mode = ON,
	    .always = true, .windows = 3, .plain_bytes = MIB,
	    .wire_bytes = MIB, .ns = 12000, .blocked_ns = 6000 },
	  { ON, false, 0, 0, 0 } },
	{ "it does not wait: up at once", { .mode = ON, .has_fast = true,
	    .windows = 1, BUSY }, { SHIFT, true, 0, 0, 0 } },
	{ "the same, after it was in vain", { .mode = ON, .has_fast = true,
	    .shifted = 1, .windows = 1, .mode_ns = 15 * WINDOW, BUSY },
	  { TRIAL, false, 0, 0, 1 } },
	{ "the same, later", { .mode = ON, .has_fast = true, .shifted = 1,
	    .windows = 1, .mode_ns = 16 * WINDOW, BUSY },
	  { SHIFT, true, 0, 0, 1 } },
	{ "it waits again: back", { .mode = ON, .has_fast = true,
	    .fast = true, .windows = 9, .mode_ns = 4 * WINDOW,
	    .plain_bytes = MIB, .wire_bytes = MIB / 2, .ns = 6000,
	    .blocked_ns = 3100 }, { SHIFT, false, 0, 0, 0 } },
	{ "in the fast gear, and the CPU is the limit", { .mode = ON,
	    .has_fast = true, .fast = true, .windows = 1, BUSY },
	  { ON, true, 0, 0, 0 } },
	{ "a shift that is faster", { .mode = SHIFT, .has_fast = true,
	    .fast = true, .shifted = 2, .plain_bytes = MIB,
	    .wire_bytes = MIB / 2, .ns = 5000, .on_ns = 6000 },
	  { ON, true, 0, 0, 0 } },
	{ "a shift that is slower", { .mode = SHIFT, .has_fast = true,
	    .fast = true, .shifted = 2, .plain_bytes = MIB,
	    .wire_bytes = MIB / 2, .ns = 5900, .on_ns = 6000 },
	  { ON, false, 0, 0, 3 } },
	{ "a shift that is faster, for it finds nothing",
	  { .mode = SHIFT, .has_fast = true, .fast = true,
	    .plain_bytes = MIB, .wire_bytes = MIB, .ns = 5000,
	    .on_ns = 6000 }, { ON, false, 0, 0, 1 } },
	{ "a trial that is faster", { .mode = TRIAL, .windows = 1,
	    .plain_bytes = MIB, .wire_bytes = MIB, .ns = 5000,
	    .on_ns = 6000 }, { OFF, false, 0, 0, 0 } },
	{ "a trial that is slower", { .mode = TRIAL, .windows = 1,
	    .plain_bytes = MIB, .wire_bytes = MIB, .ns = 5900,
	    .on_ns = 6000 }, { ON, false, 0, 1, 0 } },
};

static void each_window_has_its_consequence(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct ferry_squeeze_next *want = &rows[i].next;
		struct ferry_squeeze_next got = ferry_squeeze_policy(&rows[i].w);

		if (got.mode != want->mode || got.refused != want->refused ||
		    got.tried != want->tried || got.fast != want->fast ||
		    got.shifted != want->shifted)
			fail_msg("%s: mode %d, fast %d, refused %u, tried %u, "
				 "shifted %u", rows[i].why, (int)got.mode,
				 got.fast, got.refused, got.tried,
				 got.shifted);
	}
}

/* ---- courses ------------------------------------------------------------------ */

/* A channel, in ns for each MiB of pages: what the connection takes for as many
 * octets, what else there is to do, and compression with what it leaves. */
struct world {
	uint64_t link, own, squeeze;
	unsigned percent;
	uint64_t fast_squeeze;		/* 0: there is no such gear */
	unsigned fast_percent;
};

#define PACKET	(512u << 10)

/* So many packets; returns how many of them were compressed, and the time. */
static unsigned run(struct ferry_packer *p, const struct world *w,
		    unsigned packets, uint64_t *ns)
{
	unsigned packed = 0;

	for (unsigned i = 0; i < packets; i++) {
		bool on = p->window.mode != OFF && p->window.mode != TRIAL;
		bool fast = p->window.fast;
		unsigned percent = fast ? w->fast_percent : w->percent;
		size_t wire = on ? PACKET / 100 * percent : PACKET;
		uint64_t squeeze = !on ? 0 : fast ? w->fast_squeeze / 2 :
				   w->squeeze / 2;
		uint64_t link = (uint64_t)((double)w->link * (double)wire /
					   MIB);
		uint64_t busy = w->own / 2 + squeeze;
		uint64_t blocked = link > busy ? link - busy : 0;

		packed += on;
		*ns += busy + blocked;
		p->window.squeeze_ns += squeeze;
		ferry_packer_sent(p, PACKET, wire, busy + blocked, blocked);
	}
	return packed;
}

/* The time of 4 GiB must be near that of the better of the two ways; where
 * there is a second world, the channel comes from the first one, and has had
 * 2 GiB to notice. */
static const struct { const char *why; struct world a, b; bool on; }
courses[] = {
	{ "1 Gbit/s, and it compresses well",
	  { 8000000, 100000, 3000000, 30 }, { 0 }, true },
	{ "1 Gbit/s, and it does not compress",
	  { 8000000, 100000, 600000, 100 }, { 0 }, false },
	{ "1 Gbit/s, and it compresses a little, slowly",
	  { 8000000, 100000, 12000000, 60 }, { 0 }, false },
	{ "40 Gbit/s: the CPU is the limit",
	  { 200000, 300000, 1000000, 30 }, { 0 }, false },
	{ "a network that gets slow",
	  { 200000, 300000, 3000000, 30 }, { 16000000, 100000, 3000000, 30 },
	  true },
	{ "a network that gets fast",
	  { 8000000, 100000, 3000000, 30 }, { 200000, 300000, 3000000, 30 },
	  false },
	{ "memory that cannot be compressed any more",
	  { 8000000, 100000, 3000000, 30 }, { 8000000, 100000, 600000, 100 },
	  false },
	{ "1 Gbit/s, and the fast gear is no worse",
	  { 8000000, 100000, 4600000, 6, 1500000, 2 }, { 0 }, true },
	{ "1 Gbit/s, and the fast gear finds little",
	  { 8000000, 100000, 2000000, 30, 1000000, 70 }, { 0 }, true },
	{ "5 Gbit/s, which only the fast gear keeps up with",
	  { 1600000, 100000, 4600000, 30, 500000, 40 }, { 0 }, true },
	{ "1 Gbit/s, and no gear finds anything",
	  { 8000000, 100000, 1600000, 100, 500000, 100 }, { 0 }, false },
};

static uint64_t with(const struct world *w, uint64_t squeeze, unsigned percent)
{
	uint64_t link = w->link / 100 * percent, busy = w->own + squeeze;

	return link > busy ? link : busy;
}

static uint64_t best(const struct world *w)
{
	uint64_t off = with(w, 0, 100), on = with(w, w->squeeze, w->percent);
	uint64_t fast = w->fast_squeeze ?
			with(w, w->fast_squeeze, w->fast_percent) : on;

	on = on < fast ? on : fast;
	return off < on ? off : on;
}

static void each_course_comes_near_the_better_way(void **state)
{
	const unsigned packets = 8192;

	(void)state;
	for (size_t i = 0; i < sizeof(courses) / sizeof(courses[0]); i++) {
		const struct world *w = &courses[i].a;
		struct ferry_err e;
		struct ferry_packing_how how = {
			.method = FERRY_PACKET_ZSTD, .level = 1,
			.automatic = true, .shifts = w->fast_squeeze,
		};
		struct ferry_packer p;
		uint64_t ns = 0;
		unsigned packed;

		assert_int_equal(ferry_packer_init(&p, &how, &e), 0);

		if (courses[i].b.link) {
			run(&p, w, packets, &ns);
			w = &courses[i].b;
			run(&p, w, packets / 2, &ns);
			ns = 0;
		}
		packed = run(&p, w, packets, &ns);
		if (ns > best(w) * (packets / 2) / 100 * 105)
			fail_msg("%s: %u%% of the better way's time",
				 courses[i].why, (unsigned)(ns * 100 /
				 (best(w) * (packets / 2))));
		if ((packed > packets / 2) != courses[i].on)
			fail_msg("%s: %u of %u packets were compressed",
				 courses[i].why, packed, packets);
		ferry_packer_fini(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_window_has_its_consequence),
		cmocka_unit_test(each_course_comes_near_the_better_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
