/* SPDX-License-Identifier: MIT */
/* The buffered reader. */
#include "help.h"

#include "chan/inbuf.h"

static struct ferry_chan *end[2];
static struct ferry_inbuf b;

static void start(size_t most)
{
	make_pair(end);
	ferry_chan_set_name(end[0], "main");
	/* A read for more than is needed would never end. */
	end[0]->ops->set_timeout(end[0], 10000, 0);
	assert_ok(ferry_inbuf_init(&b, end[0], most, NULL));
}

static void finish(void)
{
	ferry_inbuf_fini(&b);
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static void expect_next(const char *text)
{
	const uint8_t *p = ferry_inbuf_need(&b, strlen(text), NULL);

	assert_non_null(p);
	assert_memory_equal(p, text, strlen(text));
	ferry_inbuf_consume(&b, strlen(text));
}

static void records_are_handed_out_one_by_one(void **state)
{
	(void)state;
	start(100);
	send_text(end[1], "onetwothree");
	expect_next("one");
	assert_int_equal(ferry_inbuf_have(&b), 8);
	assert_int_equal(b.offset, 3);
	expect_next("two");
	expect_next("three");
	assert_int_equal(ferry_inbuf_have(&b), 0);
	assert_int_equal(b.offset, 11);
	finish();
}

static void no_more_is_waited_for_than_is_needed(void **state)
{
	(void)state;
	start(1000);
	end[0]->ops->set_timeout(end[0], 30, 0);
	send_text(end[1], "12");
	expect_next("12");		/* no third octet ever comes */
	assert_null(ferry_inbuf_need(&b, 1, NULL));
	finish();
}

static void what_was_looked_at_stays_until_consumed(void **state)
{
	(void)state;
	start(100);
	send_text(end[1], "abcdef");
	assert_memory_equal(ferry_inbuf_need(&b, 2, NULL), "ab", 2);
	assert_memory_equal(ferry_inbuf_need(&b, 6, NULL), "abcdef", 6);
	assert_int_equal(b.offset, 0);
	finish();
}

static void nothing_is_always_there(void **state)
{
	(void)state;
	start(0);
	assert_non_null(ferry_inbuf_need(&b, 0, NULL));
	assert_ok(ferry_inbuf_read(&b, NULL, 0, NULL));
	finish();
}

#define LONG_BYTES	((size_t)150000)

static ssize_t write_long(struct ferry_chan *c)
{
	uint8_t *data = malloc(LONG_BYTES);
	int rc;

	fill_pattern(data, LONG_BYTES, 0);
	rc = ferry_chan_write(c, data, LONG_BYTES, NULL);
	free(data);
	return rc;
}

static void the_buffer_grows_to_its_limit(void **state)
{
	struct ferry_err e = { 0 };
	const uint8_t *p;
	struct job writer;

	(void)state;
	start(LONG_BYTES - 1);
	job_start(&writer, write_long, end[1]);
	assert_non_null(ferry_inbuf_need(&b, 10, NULL));
	ferry_inbuf_consume(&b, 1);
	p = ferry_inbuf_need(&b, LONG_BYTES - 1, NULL);
	assert_non_null(p);
	for (size_t i = 0; i < LONG_BYTES - 1; i++)
		assert_int_equal(p[i], pattern(i + 1));
	assert_int_equal(job_result(&writer), 0);

	assert_null(ferry_inbuf_need(&b, LONG_BYTES, &e));
	assert_int_equal(e.code, FERRY_E_PROTO);
	assert_string_equal(e.msg, "channel main: a record of 150000 octets, "
				   "at most 149999 are allowed");
	finish();
}

/* Records of every length up to 64 from a full socket, in a buffer of 64: they
 * begin at all kinds of places and lie across its end. */
static void records_meet_every_border_of_the_buffer(void **state)
{
	uint8_t data[3 * 64 * 65 / 2];
	size_t at = 0;

	(void)state;
	start(64);
	fill_pattern(data, sizeof(data), 0);
	assert_ok(ferry_chan_write(end[1], data, sizeof(data), NULL));
	for (size_t round = 0; round < 3; round++) {
		for (size_t n = 1; n <= 64; n++) {
			const uint8_t *p = ferry_inbuf_need(&b, n, NULL);

			assert_non_null(p);
			assert_memory_equal(p, data + at, n);
			ferry_inbuf_consume(&b, n);
			at += n;
		}
	}
	assert_int_equal(b.offset, sizeof(data));
	finish();
}

static void a_payload_is_part_buffer_part_channel(void **state)
{
	uint8_t data[LONG_BYTES];
	struct job writer;

	(void)state;
	start(1000);
	job_start(&writer, write_long, end[1]);
	assert_non_null(ferry_inbuf_need(&b, 8, NULL));
	ferry_inbuf_consume(&b, 8);
	assert_ok(ferry_inbuf_read(&b, data, LONG_BYTES - 500, NULL));
	for (size_t i = 0; i < LONG_BYTES - 500; i++)
		assert_int_equal(data[i], pattern(i + 8));
	assert_int_equal(b.offset, LONG_BYTES - 492);

	/* What came behind the payload is in the buffer, in order. */
	assert_ok(ferry_inbuf_read(&b, data, 492, NULL));
	for (size_t i = 0; i < 492; i++)
		assert_int_equal(data[i], pattern(LONG_BYTES - 492 + i));
	assert_int_equal(ferry_inbuf_have(&b), 0);
	assert_int_equal(job_result(&writer), 0);
	finish();
}

/* More than the buffer may hold otherwise, and behind what is in it. */
static void what_is_given_back_is_read_again(void **state)
{
	uint8_t data[300], two[2];
	struct iovec iov = { data, sizeof(data) };
	struct ferry_err e;

	(void)state;
	start(100);
	send_text(end[1], "ab");
	assert_int_equal(ferry_inbuf_scatter(&b, &iov, 1, &e), 2);
	assert_int_equal(b.offset, 2);
	assert_ok(ferry_inbuf_give_back(&b, data, 1, &e));
	assert_ok(ferry_inbuf_give_back(&b, data + 1, 1, &e));
	assert_int_equal(b.offset, 0);
	expect_next("ab");

	fill_pattern(data, sizeof(data), 0);
	assert_ok(ferry_inbuf_give_back(&b, data, sizeof(data), &e));
	send_text(end[1], "cd");
	assert_int_equal(ferry_inbuf_have(&b), sizeof(data));
	memset(data, 0, sizeof(data));
	assert_ok(ferry_inbuf_read(&b, data, sizeof(data), &e));
	for (size_t i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], pattern(i));
	assert_ok(ferry_inbuf_read(&b, two, 2, &e));
	assert_memory_equal(two, "cd", 2);
	finish();
}

static void the_end_of_the_stream_is_told(void **state)
{
	struct ferry_err e = { 0 };
	char two[2];

	(void)state;
	start(100);
	send_text(end[1], "x");
	ferry_chan_close(end[1]);
	end[1] = NULL;
	assert_null(ferry_inbuf_need(&b, 2, &e));
	assert_int_equal(e.code, FERRY_E_CLOSED);
	assert_int_equal(ferry_inbuf_have(&b), 1);
	assert_int_equal(ferry_inbuf_read(&b, two, 2, &e), -1);
	assert_int_equal(e.code, FERRY_E_CLOSED);
	finish();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(records_are_handed_out_one_by_one),
		TEST(no_more_is_waited_for_than_is_needed),
		TEST(what_was_looked_at_stays_until_consumed),
		TEST(nothing_is_always_there),
		TEST(the_buffer_grows_to_its_limit),
		TEST(records_meet_every_border_of_the_buffer),
		TEST(a_payload_is_part_buffer_part_channel),
		TEST(what_is_given_back_is_read_again),
		TEST(the_end_of_the_stream_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
