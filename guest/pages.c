/* SPDX-License-Identifier: MIT */
/*
 * The workloads that rewrite or read whole pages.
 */
#include "mode.h"

#include "x86.h"

static uint64_t *page_at(const struct cpu *c, uint64_t page)
{
	return (uint64_t *)pool_address(&c->guest->pool, page);
}

/* Contents, counter and their sum go together. */
static void write_page(struct cpu *c, uint64_t page)
{
	struct guest *g = c->guest;
	uint32_t counter = g->counter[page] + 1;

	block_write(page_at(c, page), PAGE_WORDS, page, counter,
		    (enum block_fill)g->config.fill);
	g->counter[page] = counter;
	c->writes++;
}

/* Once reported, a bad page is written anew: counted once per damage. */
static void verify_page(struct cpu *c, uint64_t page)
{
	const uint64_t *at = page_at(c, page);
	uint64_t expect = c->guest->counter[page];
	enum block_verdict v = block_check(at, PAGE_WORDS, page, expect);
	bool foreign = v == BLOCK_FOREIGN;

	if (v == BLOCK_GOOD)
		return;
	cpu_bad(c, &(struct bad){
		.place = page, .kind = block_verdict_name(v),
		.expect = foreign ? page : expect,
		.found = at[foreign ? BLOCK_ID : BLOCK_COUNTER],
		.extra = "addr", .extra_value = (uint64_t)at });
	write_page(c, page);
}

static void prepare(struct cpu *c)
{
	c->cursor = 0;
}

static void fill(struct cpu *c, uint64_t page)
{
	c->guest->counter[page] = 0;
	write_page(c, page);
}

static void check(struct cpu *c, uint64_t page)
{
	verify_page(c, page);
	c->writes_found += c->guest->counter[page];
}

static uint64_t rewrite(struct cpu *c, uint64_t page)
{
	if (c->guest->config.verify)
		verify_page(c, page);
	write_page(c, page);
	count_up(&c->written, 1);
	count_up(&c->written_bytes, PAGE_BYTES);
	return PAGE_BYTES;
}

static uint64_t step_seq(struct cpu *c)
{
	uint64_t i = c->cursor;

	c->cursor = i + 1 < c->own_pages ? i + 1 : 0;
	return rewrite(c, cpu_page(c, i));
}

static uint64_t step_random(struct cpu *c)
{
	return rewrite(c, cpu_page(c, cpu_random(c, c->own_pages)));
}

static uint64_t step_read(struct cpu *c)
{
	uint64_t page = cpu_page(c, cpu_random(c, c->own_pages));

	if (cpu_random(c, 10) == 0)
		return rewrite(c, page);
	verify_page(c, page);
	return PAGE_BYTES;
}

static uint64_t step_idle(struct cpu *c)
{
	(void)c;
	cpu_pause();
	return 0;
}

#define PAGE_MODE(step_function)					\
	{ .prepare = prepare, .fill = fill, .check = check,		\
	  .step = (step_function) }

const struct mode mode_cold = PAGE_MODE(step_idle);

const struct mode *mode_of(uint64_t config_mode)
{
	static const struct mode modes[] = {
		[MODE_SEQ] = PAGE_MODE(step_seq),
		[MODE_RANDOM] = PAGE_MODE(step_random),
		[MODE_READ] = PAGE_MODE(step_read),
		[MODE_IDLE] = PAGE_MODE(step_idle),
	};

	return config_mode == MODE_DB ? &mode_db : &modes[config_mode];
}
