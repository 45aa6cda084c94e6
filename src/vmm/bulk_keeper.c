/* SPDX-License-Identifier: MIT */
/* See bulk_keeper.h.  One thread. */
#include "vmm/bulk_keeper.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/sum.h"
#include "vmm/keeper_pipe.h"

#define BLOCK	FERRY_KEEPER_BLOCK_BYTES
#define HEAD	FERRY_KEEPER_HEAD_BYTES
#define SUM	8u		/* octets in front, of the rest */

struct keeper {
	const struct ferry_keeper_config *cfg;
	uint8_t		*state;		/* blocks, whole */
	uint64_t	*generation;	/* 0: not here */
	uint8_t		*dirty;
	uint32_t	 dirty_blocks;
	uint64_t	 out_ns, in_ns;	/* when the next block may pass */
	uint64_t	 change_ns;	/* when the next one changes */
	uint32_t	 turn;
	uint8_t		 incoming[BLOCK];
};

static uint8_t *block_of(struct keeper *k, uint32_t i)
{
	return k->state + (size_t)i * BLOCK;
}

/* ---- content -------------------------------------------------------------- */

static void write_head(struct keeper *k, uint32_t i)
{
	uint8_t *at = block_of(k, i);
	struct ferry_wr w = ferry_wr_over(at + SUM, HEAD - SUM);

	ferry_wr_be32(&w, i);
	ferry_wr_be32(&w, k->cfg->blocks);
	ferry_wr_be64(&w, k->generation[i]);
	w = ferry_wr_over(at, SUM);
	ferry_wr_be64(&w, ferry_sum(at + SUM, BLOCK - SUM));
}

static void mark_dirty(struct keeper *k, uint32_t i)
{
	k->dirty_blocks += !k->dirty[i];
	k->dirty[i] = 1;
}

/* Some of its content is another. */
static void change(struct keeper *k, uint32_t i)
{
	uint64_t *word = (uint64_t *)(void *)block_of(k, i);
	uint64_t x = ++k->generation[i] * 0x9e3779b97f4a7c15ull + i;
	unsigned first = k->generation[i] == 1 ? HEAD / 8 :
			 HEAD / 8 + (unsigned)(x >> 40) % 512;
	unsigned end = k->generation[i] == 1 ? BLOCK / 8 : first + 64;

	for (unsigned n = first; n < end; n++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[n] = x;
	}
	write_head(k, i);
	mark_dirty(k, i);
}

/* What has changed until now, while the VM ran. */
static void pass_time(struct keeper *k)
{
	uint64_t now = ferry_now_ns();

	if (!atomic_load(k->cfg->running) || !k->cfg->change ||
	    now - k->change_ns > FERRY_NS_PER_S) {
		k->change_ns = now;	/* it has just begun to, or slept */
		return;
	}
	while (k->change_ns < now) {
		k->change_ns += BLOCK * FERRY_NS_PER_S / k->cfg->change + 1;
		k->turn = k->turn * 1664525 + 1013904223;
		if (k->generation[k->turn % k->cfg->blocks])
			change(k, k->turn % k->cfg->blocks);
	}
}

static void digest(const struct keeper *k, uint8_t *out)
{
	struct ferry_wr w = ferry_wr_over(out, FERRY_KEEPER_DIGEST_BYTES);

	ferry_wr_be64(&w, k->cfg->blocks);
	ferry_wr_be64(&w, ferry_sum(k->generation, k->cfg->blocks *
				    sizeof(*k->generation)));
}

/* ---- answers -------------------------------------------------------------- */

static int say(struct keeper *k, uint32_t op, uint64_t arg, const void *data,
	       uint32_t bytes)
{
	const struct ferry_keeper_frame f = { op, bytes, arg };
	int rc = ferry_keeper_write(k->cfg->out, &f, sizeof(f), -1);

	return rc || !bytes ? rc : ferry_keeper_write(k->cfg->out, data, bytes,
						      -1);
}

static int done(struct keeper *k, uint64_t arg)
{
	return say(k, FERRY_KEEPER_DONE, arg, NULL, 0);
}

static int fail(struct keeper *k, const char *why)
{
	return say(k, FERRY_KEEPER_ERROR, 0, why, (uint32_t)strlen(why));
}

/* One block's worth of the rate; watched: or until something is asked. */
static void hold_rate(const struct keeper *k, uint64_t *next_ns, nfds_t watched)
{
	struct pollfd p = { .fd = k->cfg->in, .events = POLLIN };
	uint64_t now = ferry_now_ns();
	struct timespec t;
	int asked = 0;

	if (!k->cfg->rate)
		return;
	/* What was not used is not made up for, but for a moment. */
	if (*next_ns + 10 * FERRY_NS_PER_MS < now)
		*next_ns = now;
	*next_ns += BLOCK * FERRY_NS_PER_S / k->cfg->rate;
	for (; *next_ns > now && asked <= 0; now = ferry_now_ns()) {
		t = ferry_timespec(*next_ns - now);
		asked = ppoll(&p, watched, &t, NULL);
	}
}

/* ---- what is asked -------------------------------------------------------- */

static int begin(struct keeper *k, const struct ferry_keeper_frame *f)
{
	for (uint32_t i = 0; i < k->cfg->blocks; i++)
		if (k->generation[i])
			mark_dirty(k, i);
	return done(k, f->arg);
}

static int sync_up(struct keeper *k, const struct ferry_keeper_frame *f)
{
	return done(k, f->arg);
}

static int pending(struct keeper *k, const struct ferry_keeper_frame *f)
{
	(void)f;
	return done(k, k->dirty_blocks);
}

/* Who asks has something else to say: it is over. */
static bool is_called_off(const struct keeper *k)
{
	return !ferry_keeper_await(k->cfg->in, POLLIN, -1, 0);
}

static int hand_out(struct keeper *k, const struct ferry_keeper_frame *f)
{
	uint64_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; i < k->cfg->blocks && n < f->arg && !rc; i++) {
		if (!k->dirty[i])
			continue;
		hold_rate(k, &k->out_ns, 1);
		if (is_called_off(k))
			break;
		rc = say(k, FERRY_KEEPER_BLOCK, i, block_of(k, i), BLOCK);
		k->dirty[i] = 0;
		k->dirty_blocks--;
		n++;
		pass_time(k);
	}
	return rc ? rc : done(k, k->dirty_blocks);
}

static int finish(struct keeper *k, const struct ferry_keeper_frame *f)
{
	uint8_t octets[FERRY_KEEPER_DIGEST_BYTES];

	(void)f;
	digest(k, octets);
	return say(k, FERRY_KEEPER_DIGEST, 0, octets, sizeof(octets));
}

static int load(struct keeper *k, const struct ferry_keeper_frame *f)
{
	memset(k->generation, 0, k->cfg->blocks * sizeof(*k->generation));
	memset(k->dirty, 0, k->cfg->blocks);
	k->dirty_blocks = 0;
	return done(k, f->arg);
}

static int take(struct keeper *k, const struct ferry_keeper_frame *f)
{
	struct ferry_rd r = ferry_rd_over(k->incoming, BLOCK);
	uint64_t sum = ferry_rd_be64(&r), generation;
	uint32_t i = ferry_rd_be32(&r), of = ferry_rd_be32(&r);
	char why[120];

	(void)f;
	generation = ferry_rd_be64(&r);
	hold_rate(k, &k->in_ns, 0);
	why[0] = '\0';
	if (sum != ferry_sum(k->incoming + SUM, BLOCK - SUM))
		snprintf(why, sizeof(why), "a block has another content than "
			 "its sum says");
	else if (of != k->cfg->blocks || i >= of)
		snprintf(why, sizeof(why), "block %" PRIu32 " of %" PRIu32
			 ", where there are %" PRIu32, i, of, k->cfg->blocks);
	else if (generation <= k->generation[i])
		snprintf(why, sizeof(why), "block %" PRIu32 " of generation %"
			 PRIu64 " came behind its %" PRIu64, i, generation,
			 k->generation[i]);
	if (why[0])
		return fail(k, why);
	memcpy(block_of(k, i), k->incoming, BLOCK);
	k->generation[i] = generation;
	return 0;
}

/* It is read once more: what lies here, not what came. */
static bool is_wrong(struct keeper *k, uint32_t i)
{
	struct ferry_rd r = ferry_rd_over(block_of(k, i), SUM);

	return ferry_rd_be64(&r) != ferry_sum(block_of(k, i) + SUM,
					      BLOCK - SUM);
}

static int check(struct keeper *k, const struct ferry_keeper_frame *f)
{
	uint8_t ours[FERRY_KEEPER_DIGEST_BYTES];
	char why[120];

	(void)f;
	digest(k, ours);
	for (uint32_t i = 0; i < k->cfg->blocks; i++) {
		if (k->generation[i])
			continue;
		snprintf(why, sizeof(why), "block %" PRIu32 " of %" PRIu32
			 " has not come", i, k->cfg->blocks);
		return fail(k, why);
	}
	if (memcmp(ours, k->incoming, sizeof(ours)))
		return fail(k, "a block is not the last that there was");
	for (uint32_t i = 0; i < k->cfg->blocks; i += 16)
		if (is_wrong(k, i))
			return fail(k, "a block that was loaded is damaged");
	return done(k, 0);
}

static const struct {
	uint32_t op, bytes;
	int	 (*run)(struct keeper *k, const struct ferry_keeper_frame *f);
} rows[] = {
	{ FERRY_KEEPER_BEGIN, 0, begin },
	{ FERRY_KEEPER_SYNC, 0, sync_up },
	{ FERRY_KEEPER_PENDING, 0, pending },
	{ FERRY_KEEPER_HAND_OUT, 0, hand_out },
	{ FERRY_KEEPER_FINISH, 0, finish },
	{ FERRY_KEEPER_LOAD, 0, load },
	{ FERRY_KEEPER_BLOCK, BLOCK, take },
	{ FERRY_KEEPER_CHECK, FERRY_KEEPER_DIGEST_BYTES, check },
};

static int obey(struct keeper *k, const struct ferry_keeper_frame *f)
{
	int rc;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].op != f->op || rows[i].bytes != f->bytes)
			continue;
		rc = ferry_keeper_read(k->cfg->in, k->incoming, f->bytes, -1);
		return rc ? rc : rows[i].run(k, f);
	}
	return fail(k, "a block of another size");
}

/* ---- the process ---------------------------------------------------------- */

/* Until something is asked; meanwhile the state changes. */
static int await_frame(struct keeper *k, struct ferry_keeper_frame *f)
{
	struct pollfd p = { .fd = k->cfg->in, .events = POLLIN };

	do
		pass_time(k);
	while (poll(&p, 1, 20) == 0);
	pass_time(k);
	return ferry_keeper_read(k->cfg->in, f, sizeof(*f), -1);
}

static int make(struct keeper *k)
{
	uint32_t n = k->cfg->blocks;

	k->state = malloc((size_t)n * BLOCK);
	k->generation = calloc(n, sizeof(*k->generation));
	k->dirty = calloc(n, 1);
	if (!k->state || !k->generation || !k->dirty)
		return ENOMEM;
	for (uint32_t i = 0; i < n && !k->cfg->empty; i++)
		change(k, i);
	k->change_ns = ferry_now_ns();
	return 0;
}

int ferry_keeper_run(const struct ferry_keeper_config *config)
{
	struct ferry_keeper_frame f;
	struct keeper k = { .cfg = config };
	int rc = make(&k);

	while (!rc) {
		rc = await_frame(&k, &f);
		if (!rc)
			rc = obey(&k, &f);
	}
	free(k.state);
	free(k.generation);
	free(k.dirty);
	return rc == -EPIPE ? 0 : rc < 0 ? -rc : rc;
}

int ferry_keeper_main(int argc, char **argv)
{
	struct ferry_keeper_config cfg = { .in = 3, .out = 4 };
	void *page;

	prctl(PR_SET_NAME, "ferry-keeper");
	signal(SIGPIPE, SIG_IGN);
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5, 0);
	if (argc != 5 || page == MAP_FAILED ||
	    fcntl(cfg.in, F_SETFL, O_NONBLOCK) ||
	    fcntl(cfg.out, F_SETFL, O_NONBLOCK)) {
		fputs("this is a part of `ferry run`, and no command\n",
		      stderr);
		return 2;
	}
	cfg.blocks = (uint32_t)strtoul(argv[1], NULL, 10);
	cfg.rate = strtoull(argv[2], NULL, 10);
	cfg.change = strtoull(argv[3], NULL, 10);
	cfg.empty = argv[4][0] == '1';
	cfg.running = page;
	return ferry_keeper_run(&cfg) ? 1 : 0;
}
