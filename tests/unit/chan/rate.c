/* SPDX-License-Identifier: MIT */
/* The rate limit as a channel; its arithmetic is base/clock's and is tested
 * there, with a clock of its own. */
#include "help.h"

#include <poll.h>

static void make_limited(struct ferry_chan *end[2],
			 const _Atomic uint64_t *rate)
{
	struct ferry_chan *inner;

	make_pair(end);
	inner = end[0];
	end[0] = ferry_chan_rate(inner, rate, NULL);
	assert_non_null(end[0]);
}

static void close_both(struct ferry_chan *end[2])
{
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static ssize_t read_until_end(struct ferry_chan *c)
{
	static uint8_t data[65536];
	ssize_t rc;

	do {
		rc = read_some(c, data, sizeof(data));
	} while (rc > 0);
	return rc;
}

static void no_limit_changes_nothing(void **state)
{
	static uint8_t big[100000];
	_Atomic uint64_t rate = 0;
	struct ferry_chan *end[2];
	struct job reader;

	(void)state;
	make_limited(end, &rate);
	job_start(&reader, read_until_end, end[1]);
	assert_ok(ferry_chan_write(end[0], big, sizeof(big), NULL));
	assert_int_equal(end[0]->written_bytes, sizeof(big));
	end[0]->ops->shutdown(end[0]);
	assert_int_equal(job_result(&reader), 0);
	assert_int_equal(end[1]->read_bytes, sizeof(big));
	close_both(end);
}

static void writes_take_the_time_they_should(void **state)
{
	static uint8_t big[500000];
	_Atomic uint64_t rate = 5000000;
	struct ferry_chan *end[2];
	struct job reader;
	uint64_t since;

	(void)state;
	make_limited(end, &rate);
	job_start(&reader, read_until_end, end[1]);
	since = ferry_now_ns();
	assert_ok(ferry_chan_write(end[0], big, sizeof(big), NULL));
	/* 100 ms, less 20 that may be saved up and the last piece. */
	assert_true(ferry_now_ns() - since >= 75 * FERRY_NS_PER_MS);
	end[0]->ops->shutdown(end[0]);
	assert_int_equal(job_result(&reader), 0);
	close_both(end);
}

static void one_write_is_5_ms_worth_but_at_least_4_kib(void **state)
{
	static uint8_t big[100000];
	_Atomic uint64_t rate = 4000000;
	struct ferry_chan *end[2];

	(void)state;
	make_limited(end, &rate);
	assert_int_equal(write_some(end[0], big, sizeof(big)), 20000);
	atomic_store(&rate, 1000);
	assert_int_equal(write_some(end[0], big, 10), 10);
	close_both(end);

	make_limited(end, &rate);
	assert_int_equal(write_some(end[0], big, sizeof(big)), 4096);
	close_both(end);
}

static ssize_t write_twice(struct ferry_chan *c)
{
	static uint8_t big[8192];

	return ferry_chan_write(c, big, sizeof(big), NULL);
}

/* 4096 octets at one per second: more than an hour, unless corrected. */
static void a_new_rate_is_heard_while_waiting(void **state)
{
	_Atomic uint64_t rate = 1;
	struct ferry_chan *end[2];
	struct job writer;

	(void)state;
	make_limited(end, &rate);
	job_start(&writer, write_twice, end[0]);
	assert_int_equal(end[1]->ops->wait(end[1], POLLIN, 10000), 1);
	atomic_store(&rate, 1000000000);
	assert_int_equal(job_result(&writer), 0);
	close_both(end);

	atomic_store(&rate, 1);
	make_limited(end, &rate);
	job_start(&writer, write_twice, end[0]);
	atomic_store(&rate, 0);
	assert_int_equal(job_result(&writer), 0);
	close_both(end);
}

static void shutdown_ends_the_wait(void **state)
{
	_Atomic uint64_t rate = 1;
	struct ferry_chan *end[2];
	struct job writer;

	(void)state;
	make_limited(end, &rate);
	job_start(&writer, write_until_error, end[0]);
	end[0]->ops->shutdown(end[0]);
	assert_int_equal(job_result(&writer), -ESHUTDOWN);
	close_both(end);
}

static void waiting_for_output_waits_for_the_limit(void **state)
{
	static uint8_t big[4096];
	_Atomic uint64_t rate = 1;
	struct ferry_chan *end[2];

	(void)state;
	make_limited(end, &rate);
	assert_int_equal(end[0]->ops->wait(end[0], POLLOUT, -1), 1);
	assert_int_equal(write_some(end[0], big, sizeof(big)), 4096);
	assert_int_equal(end[0]->ops->wait(end[0], POLLOUT, 20), 0);
	atomic_store(&rate, 0);
	assert_int_equal(end[0]->ops->wait(end[0], POLLOUT, 0), 1);
	close_both(end);
}

static void reads_are_not_limited(void **state)
{
	static uint8_t big[65536];
	_Atomic uint64_t rate = 1;
	struct ferry_chan *end[2];

	(void)state;
	make_limited(end, &rate);
	assert_ok(ferry_chan_write(end[1], big, sizeof(big), NULL));
	assert_ok(ferry_chan_read(end[0], big, sizeof(big), NULL));
	assert_int_equal(end[0]->read_bytes, sizeof(big));
	close_both(end);
}

static void layers_stack(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	_Atomic uint64_t rate = 100000000;
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };

	(void)state;
	f.cut_write_at = 4;
	make_pair(end);
	ferry_chan_set_name(end[0], "main");
	end[0] = ferry_chan_fault(end[0], &f, NULL);
	end[0] = ferry_chan_rate(end[0], &rate, NULL);
	assert_int_equal(ferry_chan_write(end[0], "12345678", 8, &e), -1);
	assert_string_equal(e.msg,
			    "channel main: write: Connection reset by peer");
	expect_text(end[1], "1234");
	assert_int_equal(read_until_end(end[1]), 0);
	close_both(end);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(no_limit_changes_nothing),
		TEST(writes_take_the_time_they_should),
		TEST(one_write_is_5_ms_worth_but_at_least_4_kib),
		TEST(a_new_rate_is_heard_while_waiting),
		TEST(shutdown_ends_the_wait),
		TEST(waiting_for_output_waits_for_the_limit),
		TEST(reads_are_not_limited),
		TEST(layers_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
