/* SPDX-License-Identifier: MIT */
/*
 * The process that keeps the state of a bulk device: what it takes, and what
 * it says of what is wrong with it.  It runs as a child of this test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/bulk_keeper.h"
#include "vmm/bulk_state.h"
#include "vmm/keeper_pipe.h"

#define BLOCKS	6u
#define BLOCK	FERRY_KEEPER_BLOCK_BYTES

struct help {
	pid_t	pid;
	int	to, from;
	_Atomic uint32_t *running;
	uint8_t	block[BLOCKS][BLOCK];	/* that it handed out */
	uint8_t	digest[FERRY_KEEPER_DIGEST_BYTES];
	char	why[200];
};

static void open_pipe(int fd[2])
{
	assert_int_equal(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
}

static struct help *begin(bool empty)
{
	struct help *h = calloc(1, sizeof(*h));
	int there[2], back[2];

	assert_non_null(h);
	h->running = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal((void *)h->running, MAP_FAILED);
	open_pipe(there);
	open_pipe(back);
	h->pid = fork();
	if (!h->pid) {
		struct ferry_keeper_config cfg = {
			.blocks = BLOCKS, .change = 100 * BLOCK,
			.empty = empty, .in = there[0], .out = back[1],
			.running = h->running,
		};

		close(there[1]);
		close(back[0]);
		signal(SIGPIPE, SIG_IGN);
		_exit(ferry_keeper_run(&cfg));
	}
	close(there[0]);
	close(back[1]);
	h->to = there[1];
	h->from = back[0];
	return h;
}

static void end(struct help *h)
{
	int status;

	close(h->to);
	close(h->from);
	assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap((void *)h->running, 4096);
	free(h);
}

static void say(struct help *h, uint32_t op, uint64_t arg, const void *data,
		uint32_t bytes)
{
	const struct ferry_keeper_frame f = { op, bytes, arg };

	assert_int_equal(ferry_keeper_write(h->to, &f, sizeof(f), 60000), 0);
	assert_int_equal(ferry_keeper_write(h->to, data, bytes, 60000), 0);
}

/* The next frame's op and arg; what follows goes to data. */
static uint32_t hear(struct help *h, uint64_t *arg, void *data)
{
	struct ferry_keeper_frame f;

	assert_int_equal(ferry_keeper_read(h->from, &f, sizeof(f), 60000), 0);
	assert_in_range(f.bytes, 0, BLOCK);
	assert_int_equal(ferry_keeper_read(h->from, data, f.bytes, 60000), 0);
	*arg = f.arg;
	if (f.op == FERRY_KEEPER_ERROR)
		((char *)data)[f.bytes] = '\0';
	return f.op;
}

static uint64_t ask(struct help *h, uint32_t op, uint64_t arg)
{
	uint64_t answer;

	say(h, op, arg, NULL, 0);
	assert_int_equal(hear(h, &answer, h->why), FERRY_KEEPER_DONE);
	return answer;
}

/* All blocks, each once, and the digest. */
static void take_all(struct help *h)
{
	uint8_t block[BLOCK];
	unsigned n = 0;
	uint64_t arg;

	assert_int_equal(ask(h, FERRY_KEEPER_BEGIN, 77), 77);
	assert_int_equal(ask(h, FERRY_KEEPER_PENDING, 0), BLOCKS);
	say(h, FERRY_KEEPER_HAND_OUT, UINT32_MAX, NULL, 0);
	for (; hear(h, &arg, block) == FERRY_KEEPER_BLOCK; n++)
		memcpy(h->block[arg], block, BLOCK);
	assert_int_equal(n, BLOCKS);
	assert_int_equal(arg, 0);
	say(h, FERRY_KEEPER_FINISH, 0, NULL, 0);
	assert_int_equal(hear(h, &arg, h->digest), FERRY_KEEPER_DIGEST);
}

/* What another keeper says of blocks that `spoil` was at; "": all is well. */
static const char *give(struct help *from, void (*spoil)(struct help *h,
							 struct help *from))
{
	struct help *h = begin(true);
	static char why[200];
	uint64_t arg;

	assert_int_equal(ask(h, FERRY_KEEPER_LOAD, 5), 5);
	if (spoil)
		spoil(h, from);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (from->block[i][0] || from->block[i][1])
			say(h, FERRY_KEEPER_BLOCK, 0, from->block[i], BLOCK);
	say(h, FERRY_KEEPER_CHECK, 0, from->digest, sizeof(from->digest));
	snprintf(why, sizeof(why), "%s", hear(h, &arg, h->why) ==
		 FERRY_KEEPER_ERROR ? h->why : "");
	end(h);
	return why;
}

static void other_content(struct help *h, struct help *from)
{
	(void)h;
	from->block[3][BLOCK - 1] ^= 1;
}

static void other_number(struct help *h, struct help *from)
{
	(void)h;
	from->block[3][11] ^= 1;	/* and so the sum is wrong */
}

static void lacks_one(struct help *h, struct help *from)
{
	(void)h;
	memset(from->block[2], 0, 2);	/* is left out */
}

static void twice(struct help *h, struct help *from)
{
	say(h, FERRY_KEEPER_BLOCK, 0, from->block[4], BLOCK);
}

static void other_digest(struct help *h, struct help *from)
{
	(void)h;
	from->digest[15] ^= 1;
}

static void half_a_block(struct help *h, struct help *from)
{
	(void)from;
	say(h, FERRY_KEEPER_BLOCK, 0, from->block[0], 0);
}

static void what_is_not_what_was_handed_out_is_a_sentence(void **state)
{
	static const struct {
		void (*spoil)(struct help *h, struct help *from);
		const char *says;
	} rows[] = {
		{ NULL, "" },
		{ other_content, "a block has another content" },
		{ other_number, "a block has another content" },
		{ lacks_one, "block 2 of 6 has not come" },
		{ twice, "block 4 of generation 1 came behind its 1" },
		{ other_digest, "a block is not the last that there was" },
		{ half_a_block, "a block of another size" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct help *from = begin(false);
		const char *why;

		take_all(from);
		/* The first sum may begin with zeroes once in 65536. */
		why = give(from, rows[i].spoil);
		if (!rows[i].says[0])
			assert_string_equal(why, "");
		if (!strstr(why, rows[i].says))
			fail_msg("%zu: '%s'", i, why);
		end(from);
	}
}

static void it_changes_while_the_vm_runs_and_only_then(void **state)
{
	struct help *h = begin(false);
	uint64_t n;

	(void)state;
	take_all(h);
	usleep(50000);
	assert_int_equal(ask(h, FERRY_KEEPER_PENDING, 0), 0);
	atomic_store(h->running, 1);
	while (!ask(h, FERRY_KEEPER_PENDING, 0))
		usleep(1000);
	atomic_store(h->running, 0);
	ask(h, FERRY_KEEPER_SYNC, 1);
	n = ask(h, FERRY_KEEPER_PENDING, 0);
	usleep(50000);
	assert_int_equal(ask(h, FERRY_KEEPER_PENDING, 0), n);
	end(h);
}

/* Two frames through a pipe that is smaller than either, a bit at a time. */
static void a_frame_that_was_broken_off_goes_on_where_it_was(void **state)
{
	struct ferry_keeper_said *s = calloc(1, sizeof(*s));
	struct ferry_keeper_heard *h = calloc(1, sizeof(*h));
	const struct ferry_keeper_frame f[] = {
		{ FERRY_KEEPER_BLOCK, BLOCK, 1 }, { FERRY_KEEPER_SYNC, 0, 2 },
	};
	static uint8_t block[BLOCK];
	unsigned turns = 0;
	int fd[2], over[2];

	(void)state;
	assert_true(s && h);
	memset(block, 0x5a, sizeof(block));
	open_pipe(fd);
	open_pipe(over);
	assert_true(fcntl(fd[0], F_SETPIPE_SZ, 4096) > 0);
	assert_int_equal(ferry_keeper_hear(fd[0], h, -1, 0), -ETIMEDOUT);
	assert_int_equal(ferry_keeper_say(fd[1], s, &f[0], block, -1, 0),
			 -ETIMEDOUT);
	while (ferry_keeper_say(fd[1], s, &f[1], NULL, -1, 0) &&
	       turns++ < BLOCK)
		assert_int_equal(ferry_keeper_hear(fd[0], h, -1, 0),
				 -ETIMEDOUT);
	assert_in_range(turns, 2, BLOCK - 1);
	assert_int_equal(ferry_keeper_hear(fd[0], h, -1, 0), 0);
	assert_memory_equal(&h->frame, &f[0], sizeof(f[0]));
	assert_memory_equal(h->data, block, sizeof(block));
	/* Who is not to wait hears nothing, though there is something. */
	assert_int_equal(write(over[1], "x", 1), 1);
	assert_int_equal(ferry_keeper_hear(fd[0], h, over[0], 0), -ECANCELED);
	assert_int_equal(ferry_keeper_hear(fd[0], h, -1, 0), 0);
	assert_memory_equal(&h->frame, &f[1], sizeof(f[1]));
	for (unsigned i = 0; i < 2; i++) {
		close(fd[i]);
		close(over[i]);
	}
	free(s);
	free(h);
}

static void words_of_a_bulk_state_are_read(void **state)
{
	struct ferry_bulk_state_config c;
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_bulk_state_parse("gpu-0,size=100M,rate=400M",
						&c, &e), 0);
	assert_string_equal(c.name, "gpu-0");
	assert_int_equal(c.bytes, 100 << 20);
	assert_int_equal(c.rate, 400 << 20);
	assert_int_equal(c.change, 1 << 20);
	assert_int_equal(c.first, 0);
	assert_int_equal(ferry_bulk_state_parse("n,size=1,change=0,first=2k",
						&c, &e), 0);
	assert_int_equal(c.bytes, BLOCK);	/* whole blocks */
	assert_int_equal(c.rate, 0);
	assert_int_equal(c.change, 0);
	assert_int_equal(c.first, 2048);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_is_not_what_was_handed_out_is_a_sentence),
		cmocka_unit_test(it_changes_while_the_vm_runs_and_only_then),
		cmocka_unit_test(
		    a_frame_that_was_broken_off_goes_on_where_it_was),
		cmocka_unit_test(words_of_a_bulk_state_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
