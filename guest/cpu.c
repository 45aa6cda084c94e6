/* SPDX-License-Identifier: MIT */
/*
 * What every vCPU does whatever its work: time, canary, findings.
 */
#include "guest.h"

#include "console.h"

#define LONG_GAP_US	1000
#define BAD_LINES_MAX	20
#define REGISTER_WORDS	64		/* ymm0 to ymm15 */

/* entry.S */
void regs_fill(const uint64_t words[REGISTER_WORDS], bool avx);
void regs_read(uint64_t words[REGISTER_WORDS], bool avx);

struct cpu cpus[CPUS_MAX];

/* Of each register's four words, the upper two need AVX. */
static uint64_t register_word(const struct cpu *c, unsigned i)
{
	if (!c->guest->config.avx && (i & 2))
		return 0;
	return block_mix(c->index * REGISTER_WORDS + i + 1);
}

void cpu_registers_fill(struct cpu *c)
{
	uint64_t words[REGISTER_WORDS];

	for (unsigned i = 0; i < REGISTER_WORDS; i++)
		words[i] = register_word(c, i);
	regs_fill(words, c->guest->config.avx);
}

void cpu_registers_check(struct cpu *c)
{
	uint64_t words[REGISTER_WORDS] = { 0 };
	unsigned wrong = REGISTER_WORDS;

	regs_read(words, c->guest->config.avx);
	for (unsigned i = 0; i < REGISTER_WORDS; i++)
		if (words[i] != register_word(c, i))
			wrong = i;
	if (wrong == REGISTER_WORDS)
		return;
	cpu_bad(c, &(struct bad){ .place = wrong / 4, .kind = "registers",
				  .expect = register_word(c, wrong),
				  .found = words[wrong] });
	cpu_registers_fill(c);
}

void cpu_tick(struct cpu *c)
{
	uint64_t gap = clock_tick(&c->clock);

	if (gap > clock_cycles(&c->clock, LONG_GAP_US))
		cpu_registers_check(c);
}

void cpu_bad(struct cpu *c, const struct bad *bad)
{
	struct line l = { 0 };

	count_up(&c->bad, 1);
	if (atomic_fetch_add(&c->guest->bad_lines, 1) >= BAD_LINES_MAX)
		return;
	line_text(&l, "BAD");
	line_key(&l, "page", bad->place);
	line_key(&l, "expect", bad->expect);
	line_key(&l, "found", bad->found);
	line_key_text(&l, "kind", bad->kind);
	line_key(&l, "cpu", c->index);
	if (bad->extra)
		line_key_hex(&l, bad->extra, bad->extra_value);
	console_send(c, &l);
}
