/* SPDX-License-Identifier: MIT */
/* See devices.h. */
#include "devices.h"

#include "console.h"

void pace_note(struct cpu *c, struct pace *p)
{
	uint64_t now = c->clock.now;
	uint64_t gap = now - p->last;
	uint64_t us = clock_us(&c->clock, gap);
	unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	if (p->last) {
		if (bucket >= GAP_BUCKETS)
			bucket = GAP_BUCKETS - 1;
		count_up(&p->gaps[bucket], 1);
		if (gap > count_read(&p->longest))
			atomic_store_explicit(&p->longest, gap,
					      memory_order_relaxed);
	}
	p->last = now;
}

void devices_start(struct cpu *c)
{
	c->drives = c->guest->config.net || c->guest->config.disk;
}

void devices_poll(struct cpu *c)
{
	if (c->guest->config.net)
		net_poll(c);
	if (c->guest->config.disk)
		disk_poll(c);
}

static void line_gap(struct line *l, const struct cpu *c, struct pace *p)
{
	line_key(l, "gap_us", clock_us(&c->clock,
				       atomic_exchange(&p->longest, 0)));
}

static void send_gaps(struct cpu *c, const char *word, struct pace *p)
{
	struct line l = { 0 };

	line_text(&l, word);
	for (unsigned i = 0; i < GAP_BUCKETS; i++)
		line_bucket(&l, i, GAP_BUCKETS, count_read(&p->gaps[i]));
	console_send(c, &l);
}

static void report_net(struct cpu *c)
{
	struct line l = { 0 };

	line_text(&l, "NET");
	line_key(&l, "sent", count_read(&net.sent));
	line_key(&l, "done", count_read(&net.done));
	line_key(&l, "got", count_read(&net.got));
	line_key(&l, "lost", count_read(&net.lost));
	line_key(&l, "late", count_read(&net.late));
	line_key(&l, "bad", count_read(&net.bad));
	line_key(&l, "foreign", count_read(&net.foreign));
	line_key(&l, "jumps", count_read(&net.jumps));
	if (c->guest->config.announce)
		line_key(&l, "announced", count_read(&net.announced));
	line_gap(&l, c, &net.pace);
	console_send(c, &l);
}

static void report_disk(struct cpu *c)
{
	struct line l = { 0 };

	line_text(&l, "DISK");
	line_key(&l, "reads", count_read(&disk.reads));
	line_key(&l, "writes", count_read(&disk.writes));
	line_key(&l, "errors", count_read(&disk.errors));
	line_key(&l, "bad", count_read(&disk.bad));
	line_gap(&l, c, &disk.pace);
	console_send(c, &l);
}

void devices_report(struct cpu *c, bool all)
{
	const struct config *config = &c->guest->config;

	if (config->net)
		report_net(c);
	if (config->disk)
		report_disk(c);
	if (config->net && all)
		send_gaps(c, "NETHIST", &net.pace);
	if (config->disk && all)
		send_gaps(c, "DISKHIST", &disk.pace);
	if (c->drives)			/* what this took is no gap */
		net.pace.last = disk.pace.last = 0;
}
