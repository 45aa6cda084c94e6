/* SPDX-License-Identifier: MIT */
/* Ports: who answers, how a guest ends, the clock, the heartbeat. */
#include "help.h"

#include <time.h>

#include "base/clock.h"
#include "vmm/platform.h"
#include "vmm/ports.h"

struct pc {
	struct ferry_platform	 platform;
	struct ferry_ports	 ports;
};

static int set_up(void **state)
{
	struct pc *pc = calloc(1, sizeof(*pc));

	ferry_platform_init(&pc->platform);
	ferry_platform_add_ports(&pc->platform, &pc->ports);
	*state = pc;
	return 0;
}

static int tear_down(void **state)
{
	struct pc *pc = *state;

	ferry_platform_fini(&pc->platform);
	free(pc);
	return 0;
}

static uint32_t in(const struct pc *pc, uint16_t port, unsigned size)
{
	uint32_t value = 0;

	ferry_ports_in(&pc->ports, port, size, &value);
	return value;
}

static enum ferry_act out(const struct pc *pc, uint16_t port, unsigned size,
			  uint32_t value)
{
	return ferry_ports_out(&pc->ports, port, size, &value);
}

static void a_port_nobody_answers_reads_as_ones(void **state)
{
	const struct pc *pc = *state;

	assert_int_equal(in(pc, 0xcfc, 4), 0xffffffff);
	assert_int_equal(in(pc, 0x1234, 2), 0xffff);
	assert_int_equal(in(pc, 0xffff, 1), 0xff);
	assert_int_equal(in(pc, 0x64, 1), 0xff);
	assert_int_equal(out(pc, 0xcf8, 4, 0x80000000), FERRY_ACT_GO_ON);
}

static void a_guest_ends_by_the_ports_of_a_pc(void **state)
{
	static const struct {
		const char *why;
		uint16_t port;
		unsigned size;
		uint32_t value;
		enum ferry_act act;
	} ways[] = {
		{ "ACPI S5", 0x604, 2, 0x2000, FERRY_ACT_SHUTDOWN },
		{ "S5 with SCI_EN", 0x604, 2, 0x2001, FERRY_ACT_SHUTDOWN },
		{ "SCI_EN alone", 0x604, 2, 1, FERRY_ACT_GO_ON },
		{ "one octet of it", 0x604, 1, 0x20, FERRY_ACT_GO_ON },
		{ "keyboard controller", 0x64, 1, 0xfe, FERRY_ACT_RESET },
		{ "A20 by keyboard", 0x64, 1, 0xd1, FERRY_ACT_GO_ON },
		{ "reset register, armed", 0xcf9, 1, 2, FERRY_ACT_GO_ON },
		{ "reset register", 0xcf9, 1, 6, FERRY_ACT_RESET },
	};
	const struct pc *pc = *state;

	for (size_t i = 0; i < FERRY_LEN(ways); i++) {
		print_message("  %s\n", ways[i].why);
		assert_int_equal(out(pc, ways[i].port, ways[i].size,
				     ways[i].value), ways[i].act);
	}
}

static void acpi_mode_is_always_on(void **state)
{
	const struct pc *pc = *state;

	assert_int_equal(in(pc, 0x604, 2), 1);
	assert_int_equal(in(pc, 0x600, 2), 0);
	out(pc, 0x602, 2, 0x0120);
	assert_int_equal(in(pc, 0x602, 2), 0x0120);
}

static int from_bcd(uint32_t value)
{
	return (int)(value >> 4) * 10 + (int)(value & 15);
}

static int cmos(const struct pc *pc, uint8_t index)
{
	out(pc, 0x70, 1, index | 0x80);		/* with NMIs off */
	return from_bcd(in(pc, 0x71, 1));
}

static void the_clock_shows_the_hosts_day(void **state)
{
	const struct pc *pc = *state;
	time_t before = time(NULL), shown;
	struct tm t = { 0 };

	do {	/* not across midnight */
		before = time(NULL);
		t.tm_year = cmos(pc, 0x32) * 100 + cmos(pc, 9) - 1900;
		t.tm_mon = cmos(pc, 8) - 1;
		t.tm_mday = cmos(pc, 7);
		t.tm_hour = cmos(pc, 4);
		t.tm_min = cmos(pc, 2);
		t.tm_sec = cmos(pc, 0);
	} while (time(NULL) != before);
	shown = timegm(&t);
	assert_int_equal(shown, before);
	assert_int_equal(cmos(pc, 0x0d), 80);	/* battery is good */
}

static void heartbeats_are_counted_and_their_gaps_measured(void **state)
{
	struct pc *pc = *state;
	struct ferry_heartbeat h;
	uint64_t first;

	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 0);
	assert_int_equal(h.first_ns, 0);
	assert_int_equal(h.last_ns, 0);

	out(pc, 0xfe, 1, 1);
	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 1);
	assert_int_equal(h.longest_gap_ns, 0);
	assert_true(h.last_ns <= ferry_now_ns());
	assert_int_equal(h.first_ns, h.last_ns);
	first = h.last_ns;

	usleep(2000);
	out(pc, 0xfe, 1, 2);
	out(pc, 0xfe, 1, 3);
	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 2);
	assert_true(h.longest_gap_ns >= 2 * FERRY_NS_PER_MS);
	assert_true(h.first_ns >= first + h.longest_gap_ns);
	assert_true(h.last_ns >= h.first_ns);
	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 0);
	assert_int_equal(h.longest_gap_ns, 0);
	assert_int_equal(h.first_ns, 0);
}

static void beats_behind_the_limit_are_not_those_of_a_guest_that_runs(
	void **state)
{
	struct pc *pc = *state;
	struct ferry_heartbeat h;

	ferry_platform_limit(&pc->platform, 1);
	out(pc, 0xfe, 1, 1);
	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 0);
	assert_int_equal(h.last_ns, 0);

	ferry_platform_limit(&pc->platform, UINT64_MAX);
	out(pc, 0xfe, 1, 1);
	ferry_platform_heartbeat(&pc->platform, &h);
	assert_int_equal(h.beats, 1);
}

static void registers_move_and_hostile_ones_are_cut_to_size(void **state)
{
	const struct ferry_section *s = &ferry_section_platform;
	static const uint8_t wild[] = { 0xff, 0xff, 0x01, 0x20, 0xff, 0xff };
	struct pc *pc = *state;
	struct ferry_rd r;
	struct ferry_err e;
	uint8_t buf[16];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	out(pc, 0x70, 1, 0x32);
	out(pc, 0xcf9, 1, 2);
	assert_ok(s->save(s, &pc->platform, &w, &e));
	assert_int_equal(ferry_wr_used(&w), sizeof(wild));

	r = ferry_rd_over(wild, sizeof(wild));
	assert_ok(s->load(s, &pc->platform, &r, &e));
	assert_int_equal(in(pc, 0xcf9, 1), 0xfb);	/* no reset pending */
	assert_int_equal(in(pc, 0x602, 2), 0x0120);

	r = ferry_rd_over(buf, sizeof(wild));
	assert_ok(s->load(s, &pc->platform, &r, &e));
	assert_int_equal(in(pc, 0xcf9, 1), 2);
	assert_int_equal(from_bcd(in(pc, 0x71, 1)), 20);	/* century */
	for (size_t n = 0; n < sizeof(wild); n++) {
		r = ferry_rd_over(wild, n);
		assert_refused(s->load(s, &pc->platform, &r, &e), &e,
			       FERRY_E_DEVICE, "cut short");
	}
	assert_int_equal(in(pc, 0xcf9, 1), 2);
}

#define T(f)	cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_port_nobody_answers_reads_as_ones),
		T(a_guest_ends_by_the_ports_of_a_pc),
		T(acpi_mode_is_always_on),
		T(the_clock_shows_the_hosts_day),
		T(heartbeats_are_counted_and_their_gaps_measured),
		T(beats_behind_the_limit_are_not_those_of_a_guest_that_runs),
		T(registers_move_and_hostile_ones_are_cut_to_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
