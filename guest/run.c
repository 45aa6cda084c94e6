/* SPDX-License-Identifier: MIT */
/*
 * Who does what when.  vCPU 0 posts an order, every vCPU carries it out on its
 * own pages.  All waiting is by turning round with the clock ticking, so that
 * a pause is seen whatever a vCPU is at.
 */
#include "run.h"

#include "console.h"
#include "devices.h"
#include "mode.h"
#include "report.h"
#include "x86.h"

/* rate=: a vCPU that was held up may catch up this much, no more. */
#define CATCH_UP_US	100000

static uint64_t order_now(struct guest *g)
{
	return atomic_load_explicit(&g->order, memory_order_acquire);
}

uint64_t run_post(struct guest *g, enum order what)
{
	uint64_t order = ((order_now(g) >> 8) + 1) << 8 | what;

	atomic_store_explicit(&g->order, order, memory_order_release);
	return order;
}

/* vCPU 0's eye on the console; a vCPU that died stops everything. */
static void look_up(struct cpu *c)
{
	cpu_tick(c);
	if (c->index == 0 && atomic_load(&c->guest->panic))
		cpu_halt();
	if (c->clock.now >= c->service_due)
		report_service(c);
	if (c->drives)
		devices_poll(c);
}

typedef void page_work(struct cpu *c, uint64_t page);

static void sweep(struct cpu *c, bool fill)
{
	struct guest *g = c->guest;
	page_work *hot = fill ? g->mode->fill : g->mode->check;
	page_work *cold = fill ? mode_cold.fill : mode_cold.check;

	for (uint64_t page = c->index; page < g->pages;
	     page += g->config.cpus) {
		look_up(c);
		(page < g->hot_pages ? hot : cold)(c, page);
		count_up(&c->swept, 1);
	}
}

static void fill(struct cpu *c)
{
	c->guest->mode->prepare(c);
	sweep(c, true);
}

/* The tables migrate too.  A stale piece of them, with pages as old as it,
 * would go unseen but for this sum, which the vCPU keeps elsewhere. */
static void check(struct cpu *c)
{
	c->writes_found = 0;
	sweep(c, false);
	cpu_registers_check(c);
	if (c->writes_found == c->writes)
		return;
	cpu_bad(c, &(struct bad){ .place = c->index, .kind = "table",
				  .expect = c->writes,
				  .found = c->writes_found });
	c->writes = c->writes_found;
}

static void keep_rate(struct cpu *c, uint64_t bytes)
{
	const struct config *config = &c->guest->config;
	uint64_t slack = clock_cycles(&c->clock, CATCH_UP_US);

	if (!config->rate)
		return;
	if (c->work_due + slack < c->clock.now)
		c->work_due = c->clock.now - slack;
	c->work_due += bytes * config->cpus * c->clock.base->khz * 1000 /
		       config->rate;
}

static void work(struct cpu *c, uint64_t order)
{
	const struct mode *mode = c->guest->mode;

	if (c->index == c->guest->config.cpus - 1)
		devices_start(c);
	c->work_due = c->clock.now;
	while (order_now(c->guest) == order) {
		look_up(c);
		if (c->clock.now < c->work_due) {
			cpu_pause();
			continue;
		}
		keep_rate(c, mode->step(c));
		count_up(&c->iterations, 1);
	}
}

static void carry_out(struct cpu *c, uint64_t order)
{
	atomic_store_explicit(&c->swept, 0, memory_order_relaxed);
	switch ((enum order)(order & 0xff)) {
	case ORDER_NONE:
		break;
	case ORDER_FILL:
		fill(c);
		break;
	case ORDER_RUN:
		work(c, order);
		break;
	case ORDER_CHECK:
		check(c);
		break;
	case ORDER_STOP:
		cpu_halt();
	}
}

void run_order(struct cpu *boss, enum order what)
{
	struct guest *g = boss->guest;
	uint64_t order;

	order = run_post(g, what);
	carry_out(boss, order);
	for (unsigned i = 1; i < g->config.cpus; i++)
		while (atomic_load_explicit(&cpus[i].done,
					    memory_order_acquire) != order) {
			look_up(boss);
			cpu_pause();
		}
}

void run_workload(struct cpu *c)
{
	carry_out(c, run_post(c->guest, ORDER_RUN));
}

void run_follow(struct cpu *c)
{
	for (;;) {
		uint64_t order = order_now(c->guest);

		if (order == atomic_load_explicit(&c->done,
						  memory_order_relaxed)) {
			look_up(c);
			cpu_pause();
			continue;
		}
		carry_out(c, order);
		atomic_store_explicit(&c->done, order, memory_order_release);
	}
}
