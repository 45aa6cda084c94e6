/* SPDX-License-Identifier: MIT */
/*
 * In the Linux guest: memory that is verified before it is written anew.
 *
 *	pages MIB PER_SECOND
 *
 * A page is its number, how often it was written, and words that follow from
 * both; what it must be is kept in a table of its own.  Each second
 *
 *	PAGES n bad
 *
 * n: pages written so far.  SIGUSR1: all pages are verified,
 *
 *	VERIFIED pages bad
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WORDS	(4096 / 8)
#define STEPS	10		/* a second */

static volatile sig_atomic_t asked;
static uint64_t (*page)[WORDS];
static uint32_t *times;			/* each page was written */
static size_t pages;

static void on_usr1(int signal)
{
	asked = signal;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15;
	return x ^ x >> 29;
}

static void write_page(size_t i)
{
	uint64_t x = mix(i << 32 | ++times[i]);

	page[i][0] = i;
	page[i][1] = times[i];
	for (size_t w = 2; w < WORDS; w++)
		page[i][w] = x += w;
}

/* Counted once: what is bad is written anew. */
static unsigned is_bad(size_t i)
{
	uint64_t x = mix(i << 32 | times[i]), differ;

	differ = (page[i][0] ^ i) | (page[i][1] ^ times[i]);
	for (size_t w = 2; w < WORDS; w++)
		differ |= page[i][w] ^ (x += w);
	if (!differ)
		return 0;
	dprintf(STDOUT_FILENO, "BAD page %zu: says %ju, %ju times of %u\n", i,
		(uintmax_t)page[i][0], (uintmax_t)page[i][1], times[i]);
	write_page(i);
	return 1;
}

static unsigned verify_all(void)
{
	unsigned bad = 0;

	for (size_t i = 0; i < pages; i++)
		bad += is_bad(i);
	return bad;
}

int main(int argc, char **argv)
{
	static const struct timespec nap = { .tv_nsec = 1000000000 / STEPS };
	struct sigaction action = {
		/* Not to lose a line that is being written. */
		.sa_handler = on_usr1, .sa_flags = SA_RESTART,
	};
	unsigned long bad = 0, written = 0, rate;
	uint64_t x = 1;

	if (argc != 3)
		return 2;
	pages = strtoul(argv[1], NULL, 10) << 8;
	rate = strtoul(argv[2], NULL, 10);
	page = mmap(NULL, pages * sizeof(*page), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	times = calloc(pages, sizeof(*times));
	if (page == MAP_FAILED || !times || !pages)
		return 1;
	for (size_t i = 0; i < pages; i++)
		write_page(i);
	sigaction(SIGUSR1, &action, NULL);

	for (unsigned step = 1;; step++) {
		for (unsigned long i = 0; i < rate / STEPS; i++, written++) {
			size_t at = (x = mix(x + 1)) % pages;

			bad += is_bad(at);
			write_page(at);
		}
		if (step % STEPS == 0)
			dprintf(STDOUT_FILENO, "PAGES %lu %lu\n", written,
				bad);
		if (asked) {
			asked = 0;
			bad += verify_all();
			dprintf(STDOUT_FILENO, "VERIFIED %zu %lu\n", pages,
				bad);
		}
		nanosleep(&nap, NULL);
	}
}
