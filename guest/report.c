/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "console.h"
#include "devices.h"
#include "run.h"
#include "trace.h"
#include "x86.h"

#define POLL_US		50000		/* for a command */
#define INIT_US		1000000		/* between INIT lines */

struct totals {
	uint64_t iterations, written, bytes, swept, bad, tsc_back, excluded;
};

static struct totals add_up(const struct guest *g)
{
	struct totals t = { 0 };

	for (unsigned i = 0; i < g->config.cpus; i++) {
		struct cpu *c = &cpus[i];

		t.iterations += count_read(&c->iterations);
		t.written += count_read(&c->written);
		t.bytes += count_read(&c->written_bytes);
		t.swept += count_read(&c->swept);
		t.bad += count_read(&c->bad);
		t.tsc_back += count_read(&c->clock.tsc_back);
		t.excluded += c->clock.excluded;
	}
	return t;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Take every vCPU's longest gap into all accounts that are kept of it. */
static void collect_gaps(const struct guest *g)
{
	struct report *r = g->report;
	uint64_t gap = 0;

	for (unsigned i = 0; i < g->config.cpus; i++)
		gap = larger(gap, atomic_exchange(&cpus[i].clock.gap_max, 0));
	r->gap_line = larger(r->gap_line, gap);
	r->gap_trace = larger(r->gap_trace, gap);
	r->gap_reset = larger(r->gap_reset, gap);
	r->gap_ever = larger(r->gap_ever, gap);
}

static uint64_t count_gaps(const struct guest *g, unsigned bucket)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < g->config.cpus; i++)
		n += count_read(&cpus[i].clock.gaps[bucket]);
	return n;
}

static void copy_gaps(const struct guest *g, uint64_t gaps[GAP_BUCKETS])
{
	for (unsigned i = 0; i < GAP_BUCKETS; i++)
		gaps[i] = count_gaps(g, i);
}

static void mark_trace(const struct guest *g, struct trace_mark *mark)
{
	mark->iterations = add_up(g).iterations;
	copy_gaps(g, mark->gaps);
}

static void restart_trace(const struct cpu *c)
{
	struct trace_mark mark;

	mark_trace(c->guest, &mark);
	c->guest->report->gap_trace = 0;
	trace_restart(&mark);
}

static void take_sample(const struct cpu *c)
{
	struct report *r = c->guest->report;
	struct trace_mark mark;

	collect_gaps(c->guest);
	mark_trace(c->guest, &mark);
	trace_take(c->clock.now - r->start, r->gap_trace, &mark);
	r->gap_trace = 0;
}

/* " t=1.234" since READY. */
static void line_time(struct line *l, const struct cpu *c)
{
	uint64_t cycles = c->clock.now - c->guest->report->start;

	line_key_milli(l, "t", clock_us(&c->clock, cycles) / 1000);
}

static uint64_t mb_per_s(const struct cpu *c, uint64_t bytes, uint64_t cycles)
{
	return bytes / larger(clock_us(&c->clock, cycles), 1);
}

/* The part that FERRY, SUMMARY and DONE have in common. */
static void line_totals(struct line *l, const struct cpu *c,
			const struct totals *t, uint64_t mbps, uint64_t gap)
{
	line_time(l, c);
	line_key(l, "iter", t->iterations);
	line_key(l, "pages", t->written);
	line_key(l, "mbps", mbps);
	line_key(l, "gap_us", clock_us(&c->clock, gap));
	line_key(l, "bad", t->bad);
	line_key(l, "tsc_back", t->tsc_back);
}

static void send_report(struct cpu *c)
{
	struct report *r = c->guest->report;
	struct totals t = add_up(c->guest);
	struct line l = { 0 };

	collect_gaps(c->guest);
	line_text(&l, "FERRY");
	line_totals(&l, c, &t, mb_per_s(c, t.bytes - r->last_bytes,
					c->clock.now - r->last_time),
		    r->gap_line);
	r->last_time = c->clock.now;
	r->last_bytes = t.bytes;
	r->gap_line = 0;
	console_send(c, &l);
	devices_report(c, false);
}

static void send_gaps(struct cpu *c, const uint64_t since[GAP_BUCKETS])
{
	struct line l = { 0 };

	line_text(&l, "HIST");
	for (unsigned i = 0; i < GAP_BUCKETS; i++)
		line_bucket(&l, i, GAP_BUCKETS,
			    count_gaps(c->guest, i) - since[i]);
	console_send(c, &l);
}

static void send_totals(struct cpu *c, const char *word, uint64_t gap)
{
	struct totals t = add_up(c->guest);
	struct line l = { 0 };

	line_text(&l, word);
	line_totals(&l, c, &t, mb_per_s(c, t.bytes, c->clock.now -
					c->guest->report->start), gap);
	line_key(&l, "excluded_us", clock_us(&c->clock, t.excluded));
	console_send(c, &l);
}

static void check_all(struct cpu *c)
{
	struct report *r = c->guest->report;
	uint64_t bad = add_up(c->guest).bad;
	struct line l = { 0 };
	struct totals t;

	r->phase = REPORT_CHECK;
	run_order(c, ORDER_CHECK);
	r->phase = REPORT_RUN;
	t = add_up(c->guest);
	line_text(&l, "VERIFIED");
	line_key(&l, "pages", t.swept);
	line_key(&l, "bad", t.bad - bad);
	console_send(c, &l);
}

static void command_reset_gaps(struct cpu *c)
{
	struct report *r = c->guest->report;
	struct line l = { 0 };

	collect_gaps(c->guest);
	r->gap_reset = 0;
	copy_gaps(c->guest, r->gaps_at_reset);
	restart_trace(c);
	line_text(&l, "RESET");
	line_time(&l, c);
	console_send(c, &l);
}

static void command_summary(struct cpu *c)
{
	collect_gaps(c->guest);
	send_totals(c, "SUMMARY", c->guest->report->gap_reset);
	send_gaps(c, c->guest->report->gaps_at_reset);
	devices_report(c, true);
}

static void command_verify(struct cpu *c)
{
	check_all(c);
	run_post(c->guest, ORDER_RUN);
}

static void command_quit(struct cpu *c)
{
	check_all(c);
	run_post(c->guest, ORDER_STOP);
	collect_gaps(c->guest);
	send_totals(c, "DONE", c->guest->report->gap_ever);
	send_gaps(c, c->guest->report->gaps_at_ready);
	devices_report(c, true);
	console_power_off();
}

static void command_reboot(struct cpu *c)
{
	(void)c;
	console_reset();
}

/* So that a monitor's view of a dying guest can be tested. */
static void command_crash(struct cpu *c)
{
	(void)c;
	__asm__ volatile("ud2");
}

static void obey(struct cpu *c, char letter)
{
	static const struct {
		char letter;
		void (*command)(struct cpu *c);
	} commands[] = {
		{ 'r', command_reset_gaps },
		{ 's', command_summary },
		{ 't', trace_send },
		{ 'v', command_verify },
		{ 'q', command_quit },
		{ 'R', command_reboot },
		{ 'X', command_crash },
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].letter == letter)
			commands[i].command(c);
}

static void send_progress(struct cpu *c)
{
	struct line l = { 0 };

	line_text(&l, "INIT");
	line_key(&l, "pages", add_up(c->guest).swept);
	line_key(&l, "total", c->guest->pages);
	console_send(c, &l);
}

static bool is_due(const struct cpu *c, uint64_t *due, uint64_t every_us)
{
	if (c->clock.now < *due)
		return false;
	*due = c->clock.now + clock_cycles(&c->clock, every_us);
	return true;
}

static bool is_over(const struct cpu *c)
{
	uint64_t seconds = c->guest->config.seconds;
	uint64_t cycles = c->clock.now - c->guest->report->start;

	return seconds && clock_us(&c->clock, cycles) >= seconds * 1000000;
}

static void look_at_console(struct cpu *c)
{
	char letter;

	while ((letter = console_poll()) != 0)
		obey(c, letter);
	if (is_over(c))
		command_quit(c);
}

/* Until the next look at all that may be due. */
static uint64_t service_us(const struct config *config, uint64_t every_us)
{
	uint64_t us = every_us < POLL_US ? every_us : POLL_US;
	uint64_t trace_us = config->trace_ms * 1000;

	return trace_us && trace_us < us ? trace_us : us;
}

void report_service(struct cpu *c)
{
	const struct config *config = &c->guest->config;
	struct report *r = c->guest->report;
	uint64_t every_us = r->phase == REPORT_FILL ?
			    INIT_US : config->report_ms * 1000;

	c->service_due = c->clock.now +
			 clock_cycles(&c->clock, service_us(config, every_us));
	if (r->phase == REPORT_RUN && config->trace_ms &&
	    is_due(c, &r->trace_due, config->trace_ms * 1000))
		take_sample(c);
	if (is_due(c, &r->line_due, every_us))
		r->phase == REPORT_FILL ? send_progress(c) : send_report(c);
	if (r->phase == REPORT_FILL)
		return;
	if (config->gaps_ms &&
	    is_due(c, &r->gaps_due, config->gaps_ms * 1000))
		send_gaps(c, r->gaps_at_reset);
	if (r->phase == REPORT_RUN)
		look_at_console(c);
}

void report_fill(struct cpu *c)
{
	struct report *r = c->guest->report;

	r->phase = REPORT_FILL;
	r->line_due = c->clock.now + clock_cycles(&c->clock, INIT_US);
	c->service_due = r->line_due;
}

void report_ready(struct cpu *c)
{
	const struct config *config = &c->guest->config;
	struct report *r = c->guest->report;
	struct line l = { 0 };

	send_progress(c);
	line_text(&l, "READY");
	line_key(&l, "pages", c->guest->hot_pages);
	line_key(&l, "cpus", config->cpus);
	line_key_text(&l, "mode", config_mode_name(config->mode));
	line_key(&l, "tsc_khz", c->guest->timebase.khz);
	line_key(&l, "avx", config->avx);
	console_send(c, &l);
	collect_gaps(c->guest);
	*r = (struct report){ .phase = REPORT_RUN };
	copy_gaps(c->guest, r->gaps_at_ready);
	copy_gaps(c->guest, r->gaps_at_reset);
	restart_trace(c);
	r->start = r->last_time = c->clock.now;
	r->line_due = c->clock.now +
		      clock_cycles(&c->clock, config->report_ms * 1000);
	r->gaps_due = c->clock.now +
		      clock_cycles(&c->clock, config->gaps_ms * 1000);
	c->service_due = c->clock.now;
}
