/* SPDX-License-Identifier: MIT */
/* Faults happen at the octet they were ordered for, and nowhere else. */
#include "help.h"

#include <poll.h>

#define BYTES	100

/* Where faults are tried: the edges of what is sent, and in between. */
static const uint64_t positions[] = { 0, 1, 2, 49, 50, 98, 99 };

/* end[0] has the faults; the far end is clean. */
static void make_faulty(struct ferry_chan *end[2],
			const struct ferry_fault *fault)
{
	struct ferry_chan *inner;

	make_pair(end);
	inner = end[0];
	end[0] = ferry_chan_fault(inner, fault, NULL);
	assert_non_null(end[0]);
}

static void close_both(struct ferry_chan *end[2])
{
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static ssize_t write_pattern(struct ferry_chan *c)
{
	uint8_t data[BYTES];
	size_t done = 0;
	ssize_t rc = 1;

	fill_pattern(data, BYTES, 0);
	while (done < BYTES && rc > 0) {
		rc = write_some(c, data + done, BYTES - done);
		if (rc > 0)
			done += (size_t)rc;
	}
	return rc < 0 ? rc : 0;
}

/* Everything until end or error (*last); returns how much. */
static size_t read_all(struct ferry_chan *c, uint8_t data[BYTES],
		       ssize_t *last)
{
	size_t done = 0;

	*last = 1;
	while (done < BYTES && *last > 0) {
		*last = read_some(c, data + done, BYTES - done);
		if (*last > 0)
			done += (size_t)*last;
	}
	return done;
}

static void expect_pattern(const uint8_t *data, size_t bytes,
			   uint64_t but_at, uint8_t mask)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], i == but_at ? pattern(i) ^ mask :
							pattern(i));
}

static void without_faults_all_passes(void **state)
{
	struct ferry_fault none = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint8_t data[BYTES];
	ssize_t last;

	(void)state;
	make_faulty(end, &none);
	assert_int_equal(end[0]->ops->features(end[0]), FERRY_CHAN_READ |
			 FERRY_CHAN_WRITE | FERRY_CHAN_TWO_WAY);
	assert_ok(write_pattern(end[0]));
	assert_ok(write_pattern(end[1]));
	assert_int_equal(read_all(end[0], data, &last), BYTES);
	expect_pattern(data, BYTES, UINT64_MAX, 0);
	assert_int_equal(end[0]->read_bytes, BYTES);
	assert_int_equal(end[0]->written_bytes, BYTES);
	close_both(end);
}

static void a_write_cut_lets_pass_exactly_that_many(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(positions); i++) {
		struct ferry_fault f = FERRY_FAULT_NONE;
		struct ferry_chan *end[2];
		uint8_t data[BYTES];
		ssize_t last;

		f.cut_write_at = positions[i];
		make_faulty(end, &f);
		assert_int_equal(write_pattern(end[0]), -ECONNRESET);
		assert_int_equal(end[0]->written_bytes, positions[i]);
		assert_int_equal(read_some(end[0], data, 1), -ECONNRESET);

		/* The peer sees both directions end. */
		assert_int_equal(read_all(end[1], data, &last), positions[i]);
		assert_int_equal(last, 0);
		expect_pattern(data, (size_t)positions[i], UINT64_MAX, 0);
		assert_int_equal(write_some(end[1], "x", 1), -EPIPE);
		close_both(end);
	}
}

static void a_cut_comes_with_the_last_octet_not_with_the_next_call(
	void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint8_t data[BYTES];
	ssize_t last;

	(void)state;
	f.cut_write_at = BYTES;
	make_faulty(end, &f);
	assert_ok(write_pattern(end[0]));
	assert_int_equal(read_all(end[1], data, &last), BYTES);
	assert_int_equal(read_some(end[1], data, 1), 0);
	close_both(end);
}

static void a_read_cut_lets_pass_exactly_that_many(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(positions); i++) {
		struct ferry_fault f = FERRY_FAULT_NONE;
		struct ferry_chan *end[2];
		uint8_t data[BYTES];
		ssize_t last;

		f.cut_read_at = positions[i];
		make_pair(end);
		assert_ok(write_pattern(end[1]));
		end[0] = ferry_chan_fault(end[0], &f, NULL);
		assert_int_equal(read_all(end[0], data, &last), positions[i]);
		assert_int_equal(last, -ECONNRESET);
		expect_pattern(data, (size_t)positions[i], UINT64_MAX, 0);
		assert_int_equal(write_some(end[0], "x", 1), -ECONNRESET);
		assert_int_equal(write_some(end[1], "x", 1), -EPIPE);
		assert_int_equal(read_some(end[1], data, 1), 0);
		close_both(end);
	}
}

static ssize_t read_one(struct ferry_chan *c)
{
	char one;

	return read_some(c, &one, 1);
}

static void a_write_cut_wakes_the_reader(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	struct job reader;

	(void)state;
	f.cut_write_at = 1;
	make_faulty(end, &f);
	job_start(&reader, read_one, end[0]);
	send_text(end[0], "x");
	assert_int_equal(job_result(&reader), -ECONNRESET);
	close_both(end);
}

static void a_written_octet_is_corrupted_on_a_copy(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(positions); i++) {
		struct ferry_fault f = FERRY_FAULT_NONE;
		struct ferry_chan *end[2];
		uint8_t data[BYTES], got[BYTES];
		/* An empty entry and a border inside, to be met on the way. */
		struct iovec iov[] = { { data, 50 }, { NULL, 0 },
				       { data + 50, BYTES - 50 } };
		ssize_t last;

		f.corrupt_write_at = positions[i];
		f.corrupt_mask = 0x10;
		make_faulty(end, &f);
		fill_pattern(data, BYTES, 0);
		assert_ok(ferry_chan_writev(end[0], iov, 3, NULL));
		expect_pattern(data, BYTES, UINT64_MAX, 0);
		assert_int_equal(read_all(end[1], got, &last), BYTES);
		expect_pattern(got, BYTES, positions[i], 0x10);
		close_both(end);
	}
}

static void a_read_octet_is_corrupted(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(positions); i++) {
		struct ferry_fault f = FERRY_FAULT_NONE;
		struct ferry_chan *end[2];
		uint8_t got[BYTES];
		struct iovec iov[] = { { got, 50 }, { got + 50, BYTES - 50 } };

		f.corrupt_read_at = positions[i];
		make_faulty(end, &f);
		assert_ok(write_pattern(end[1]));
		assert_ok(ferry_chan_readv(end[0], iov, 2, NULL));
		expect_pattern(got, BYTES, positions[i], 0xff);
		close_both(end);
	}
}

static void a_read_up_to_the_corrupt_octet_is_clean(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint8_t got[BYTES];

	(void)state;
	f.corrupt_read_at = 50;
	make_faulty(end, &f);
	assert_ok(write_pattern(end[1]));
	assert_int_equal(read_some(end[0], got, 50), 50);
	expect_pattern(got, 50, UINT64_MAX, 0);
	assert_int_equal(read_some(end[0], got + 50, 50), 50);
	expect_pattern(got, BYTES, 50, 0xff);
	close_both(end);
}

static void a_stalled_write_ends_with_shutdown(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(positions); i++) {
		struct ferry_fault f = FERRY_FAULT_NONE;
		struct ferry_chan *end[2];
		uint8_t data[BYTES];
		struct job writer;

		f.stall_write_at = positions[i];
		make_faulty(end, &f);
		job_start(&writer, write_pattern, end[0]);
		assert_ok(ferry_chan_read(end[1], data, (size_t)positions[i],
					  NULL));
		assert_int_equal(end[1]->ops->wait(end[1], POLLIN, 5), 0);
		end[0]->ops->shutdown(end[0]);
		assert_int_equal(job_result(&writer), -ESHUTDOWN);
		assert_int_equal(end[0]->written_bytes, positions[i]);
		close_both(end);
	}
}

static void a_stall_obeys_the_timeout(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint8_t data[BYTES];
	ssize_t last;

	(void)state;
	f.stall_write_at = 7;
	f.stall_read_at = 5;
	make_faulty(end, &f);
	end[0]->ops->set_timeout(end[0], 20, 20);
	assert_int_equal(write_pattern(end[0]), -ETIMEDOUT);
	assert_int_equal(end[0]->written_bytes, 7);
	assert_ok(write_pattern(end[1]));
	assert_int_equal(read_all(end[0], data, &last), 5);
	assert_int_equal(last, -ETIMEDOUT);
	assert_int_equal(end[0]->ops->wait(end[0], POLLIN, 0), 0);
	assert_int_equal(end[0]->ops->wait(end[0], POLLOUT, 0), 0);
	close_both(end);
}

static void calls_can_be_kept_short(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint8_t data[BYTES];
	ssize_t last;

	(void)state;
	f.most_bytes = 3;
	make_faulty(end, &f);
	fill_pattern(data, BYTES, 0);
	assert_int_equal(write_some(end[0], data, BYTES), 3);
	assert_ok(ferry_chan_write(end[0], data + 3, BYTES - 3, NULL));
	assert_int_equal(read_all(end[1], data, &last), BYTES);
	expect_pattern(data, BYTES, UINT64_MAX, 0);

	assert_ok(write_pattern(end[1]));
	assert_int_equal(read_some(end[0], data, BYTES), 3);
	assert_int_equal(read_some(end[0], data, 2), 2);
	close_both(end);
}

static void a_delay_comes_before_each_write(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	uint64_t since;

	(void)state;
	f.delay_us = 10000;
	make_faulty(end, &f);
	since = ferry_now_ns();
	send_text(end[0], "a");
	send_text(end[0], "b");
	assert_true(ferry_now_ns() - since >= 20 * FERRY_NS_PER_MS);
	expect_text(end[1], "ab");
	close_both(end);
}

static void a_delay_ends_with_shutdown(void **state)
{
	struct ferry_fault f = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	struct job writer;

	(void)state;
	f.delay_us = UINT32_MAX;
	make_faulty(end, &f);
	job_start(&writer, write_pattern, end[0]);
	end[0]->ops->shutdown(end[0]);
	assert_int_equal(job_result(&writer), -ESHUTDOWN);
	assert_int_equal(end[0]->written_bytes, 0);
	close_both(end);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(without_faults_all_passes),
		TEST(a_write_cut_lets_pass_exactly_that_many),
		TEST(a_cut_comes_with_the_last_octet_not_with_the_next_call),
		TEST(a_read_cut_lets_pass_exactly_that_many),
		TEST(a_write_cut_wakes_the_reader),
		TEST(a_written_octet_is_corrupted_on_a_copy),
		TEST(a_read_octet_is_corrupted),
		TEST(a_read_up_to_the_corrupt_octet_is_clean),
		TEST(a_stalled_write_ends_with_shutdown),
		TEST(a_stall_obeys_the_timeout),
		TEST(calls_can_be_kept_short),
		TEST(a_delay_comes_before_each_write),
		TEST(a_delay_ends_with_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
