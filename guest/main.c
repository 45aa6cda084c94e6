/* SPDX-License-Identifier: MIT */
/*
 * From ring 3's first instruction to the workload; and how a vCPU dies.
 */
#include "guest.h"

#include "bootinfo.h"
#include "console.h"
#include "devices.h"
#include "mode.h"
#include "paging.h"
#include "report.h"
#include "run.h"
#include "smp.h"
#include "x86.h"

#define FALLBACK_KHZ	1000000

extern const char image_end[];		/* link.ld */
extern const char trap_stacks[];	/* entry.S */

static struct guest guest;
static struct report report;
static struct bootinfo bootinfo;

/* Called by entry.S only. */
void guest_main(uint64_t start_info);
void guest_other(void);
void trap_report(const uint64_t trap[]);

static void complain(void *opaque, enum config_problem problem,
		     const char *word, size_t length)
{
	static const char *const text[] = {
		[CONFIG_UNKNOWN_KEY] = "WARN unknown key: ",
		[CONFIG_BAD_VALUE] = "FATAL bad value: ",
	};
	struct line l = { 0 };

	line_text(&l, text[problem]);
	line_bytes(&l, word, length);
	console_send(opaque, &l);
	/* Doing something else than was asked for proves nothing. */
	if (problem == CONFIG_BAD_VALUE)
		console_power_off();
}

static void set_timebase(struct cpu *c)
{
	uint64_t khz = guest.config.tsc_khz;
	struct line l = { 0 };

	if (!khz)
		khz = timebase_find_khz();
	if (!khz) {
		line_text(&l, "WARN unknown TSC frequency, taken as 1 GHz");
		console_send(c, &l);
		khz = FALLBACK_KHZ;
	}
	timebase_set(&guest.timebase, khz);
	clock_start(&c->clock, &guest.timebase, guest.config.beat_us);
}

static void *take(struct cpu *c, uint64_t bytes)
{
	uint64_t at = pool_take(&guest.pool, bytes, PAGING_END);

	if (!at)
		console_fatal(c, "no memory for the tables", "");
	return (void *)at;
}

/* Tables for as many pages as will be numbered, then the pages themselves. */
static void divide_memory(struct cpu *c)
{
	const struct config *config = &guest.config;
	uint64_t shadow = guest.mode->shadow_bytes;
	uint64_t bytes = pool_pages(&guest.pool) * PAGE_BYTES;
	uint64_t want = config->mem_bytes ? config->mem_bytes :
			bytes / 100 * config->mem_percent;
	uint64_t each = PAGE_BYTES + sizeof(uint32_t);
	uint64_t slack = (config->cpus * shadow + 2 * PAGE_BYTES);
	uint64_t most = (bytes - slack) / (each + shadow);

	guest.hot_pages = want / PAGE_BYTES;
	if (guest.hot_pages > most && !config->mem_bytes)
		guest.hot_pages = most;
	if (guest.hot_pages > most)
		console_fatal(c, "mem= is more than there is", "");
	if (guest.hot_pages < config->cpus)
		console_fatal(c, "mem= is less than a page per vCPU", "");
	guest.pages = guest.hot_pages;
	if (config->touch == TOUCH_ALL)
		guest.pages = (bytes - slack - guest.hot_pages * shadow) /
			      each;
	guest.counter = take(c, guest.pages * sizeof(uint32_t));
	if (shadow)
		guest.shadow = take(c, (guest.hot_pages + config->cpus) *
				    shadow);
}

/* MAP page=0 addr=0x200000 pages=1234: which page is where. */
static void send_map(struct cpu *c)
{
	uint64_t page = 0;

	for (unsigned i = 0; page < guest.pages; i++) {
		const struct range *r = &guest.pool.range[i];
		uint64_t pages = (r->end - r->start) / PAGE_BYTES;
		struct line l = { 0 };

		if (pages > guest.pages - page)
			pages = guest.pages - page;
		line_text(&l, "MAP");
		line_key(&l, "page", page);
		line_key_hex(&l, "addr", r->start);
		line_key(&l, "pages", pages);
		console_send(c, &l);
		page += pages;
	}
}

static void find_memory(struct cpu *c)
{
	const char *wrong;

	if (!bootinfo.ranges && guest.config.ram_bytes)
		bootinfo_assume_ram(&bootinfo, guest.config.ram_bytes);
	pool_init(&guest.pool, &bootinfo, (uint64_t)image_end, PAGING_END);
	if (!guest.pool.ranges)
		console_fatal(c, "no memory map and no ram=", "");
	wrong = paging_map_high(&guest.pool);
	if (wrong)
		console_fatal(c, "page tables", wrong);
	if (guest.config.net)
		net_setup(c);
	if (guest.config.disk)
		disk_setup(c);
	divide_memory(c);
	send_map(c);
}

static void start_cpu(unsigned index)
{
	struct cpu *c = &cpus[index];

	c->guest = &guest;
	c->index = index;
	c->service_due = UINT64_MAX;
	c->random = block_mix(index + 1);
	c->own_pages = (guest.hot_pages - index + guest.config.cpus - 1) /
		       guest.config.cpus;
	if (index && !smp_start(&cpus[0], index)) {
		struct line l = { 0 };

		line_text(&l, "FATAL vCPU does not start:");
		line_key(&l, "cpu", index);
		console_send(&cpus[0], &l);
		console_power_off();
	}
}

void guest_main(uint64_t start_info)
{
	struct cpu *c = &cpus[0];
	const char *wrong;

	console_init();
	guest.report = &report;
	c->guest = &guest;
	timebase_set(&guest.timebase, FALLBACK_KHZ);
	clock_start(&c->clock, &guest.timebase, 0);

	wrong = bootinfo_read(&bootinfo, start_info);
	if (wrong)
		console_fatal(c, "start info", wrong);
	config_parse(&guest.config, bootinfo.cmdline, complain, c);
	guest.config.avx &= avx_on;
	guest.mode = mode_of(guest.config.mode);
	set_timebase(c);
	find_memory(c);

	cpu_registers_fill(c);
	for (unsigned i = 0; i < guest.config.cpus; i++)
		start_cpu(i);

	report_fill(c);
	run_order(c, ORDER_FILL);
	report_ready(c);
	for (;;)
		run_workload(c);
}

void guest_other(void)
{
	/* smp_start() starts one at a time, so this is still ours. */
	extern volatile uint32_t ap_index;
	struct cpu *c = &cpus[ap_index];

	clock_start(&c->clock, &guest.timebase, 0);
	cpu_registers_fill(c);
	smp_arrived();
	run_follow(c);
}

/*
 * An exception, in ring 3 again.  trap[]: cr2, vector, error code, rip, cs,
 * rflags, rsp, ss.  Everybody stops: what such a guest says proves nothing.
 */
void trap_report(const uint64_t trap[])
{
	uint64_t index = ((uint64_t)trap - (uint64_t)trap_stacks) /
			 TRAP_STACK_BYTES;
	struct line l = { 0 };

	if (atomic_exchange(&guest.panic, 1) || index >= CPUS_MAX)
		return;
	run_post(&guest, ORDER_STOP);
	line_text(&l, "PANIC");
	line_key(&l, "cpu", index);
	line_key(&l, "vector", trap[1]);
	line_key_hex(&l, "error", trap[2]);
	line_key_hex(&l, "rip", trap[3]);
	line_key_hex(&l, "rsp", trap[6]);
	line_key_hex(&l, "cr2", trap[0]);
	console_send(&cpus[index], &l);
}
