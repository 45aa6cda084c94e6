/* SPDX-License-Identifier: MIT */
/* Files, fifos and devices as channels. */
#include "help.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

static struct tmp tmp;

static void put_file(const char *path, const char *text)
{
	FERRY_AUTO_FILE f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
}

static void expect_file(const char *path, const char *text)
{
	FERRY_AUTO_FILE f = fopen(path, "r");
	char got[256] = "";

	assert_non_null(f);
	assert_int_equal(fread(got, 1, sizeof(got) - 1, f), strlen(text));
	assert_string_equal(got, text);
}

static void a_file_is_made_private_and_read_back(void **state)
{
	struct ferry_chan *c;
	struct stat st;
	char more;

	(void)state;
	tmp_make(&tmp);
	c = ferry_chan_file(tmp_path(&tmp, "new"), 1, NULL);
	assert_non_null(c);
	assert_int_equal(c->ops->features(c),
			 FERRY_CHAN_WRITE | FERRY_CHAN_SEEK);
	send_text(c, "the whole machine");
	assert_ok(c->ops->flush(c));
	ferry_chan_close(c);
	assert_ok(stat(tmp.path, &st));
	assert_int_equal(st.st_mode & 0777, 0600);

	c = ferry_chan_file(tmp.path, 0, NULL);
	assert_non_null(c);
	assert_int_equal(c->ops->features(c),
			 FERRY_CHAN_READ | FERRY_CHAN_SEEK);
	assert_int_equal(c->ops->wait(c, POLLIN, 0), 1);
	expect_text(c, "the whole machine");
	assert_int_equal(read_some(c, &more, 1), 0);
	ferry_chan_close(c);
	tmp_remove(&tmp);
}

static void writing_drops_what_was_there(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	put_file(tmp_path(&tmp, "old"), "longer than the new text");
	c = ferry_chan_file(tmp.path, 1, NULL);
	assert_non_null(c);
	send_text(c, "new");
	assert_ok(c->ops->flush(c));
	ferry_chan_close(c);
	expect_file(tmp.path, "new");
	tmp_remove(&tmp);
}

static void an_offset_keeps_what_is_before_it(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	put_file(tmp_path(&tmp, "old"), "head tail tail tail");
	c = ferry_chan_file_at(tmp.path, 1, 5, NULL);
	assert_non_null(c);
	send_text(c, "new");
	assert_ok(c->ops->flush(c));
	ferry_chan_close(c);
	expect_file(tmp.path, "head new");

	c = ferry_chan_file_at(tmp.path, 0, 5, NULL);
	assert_non_null(c);
	expect_text(c, "new");
	ferry_chan_close(c);
	tmp_remove(&tmp);
}

static void what_was_not_flushed_is_dropped(void **state)
{
	(void)state;
	for (int shut = 0; shut < 2; shut++) {
		struct ferry_chan *c;

		tmp_make(&tmp);
		put_file(tmp_path(&tmp, "f"), "head tail");
		c = ferry_chan_file_at(tmp.path, 1, 5, NULL);
		assert_non_null(c);
		send_text(c, "half a machine");
		if (shut) {
			c->ops->shutdown(c);
			expect_file(tmp.path, "head ");
			/* Too late: it is gone. */
			assert_int_equal(c->ops->flush(c), -ESHUTDOWN);
		}
		ferry_chan_close(c);
		expect_file(tmp.path, "head ");
		tmp_remove(&tmp);
	}
}

static void what_was_flushed_stays(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	c = ferry_chan_file(tmp_path(&tmp, "f"), 1, NULL);
	assert_non_null(c);
	send_text(c, "all of it");
	assert_ok(c->ops->flush(c));
	c->ops->shutdown(c);
	ferry_chan_close(c);
	expect_file(tmp.path, "all of it");
	tmp_remove(&tmp);
}

/* A descriptor that was handed over is its owner's to tidy up. */
static void an_open_file_is_left_as_it_is(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	put_file(tmp_path(&tmp, "f"), "0123456789");
	c = ferry_chan_fd(open(tmp.path, O_RDWR), NULL);
	assert_non_null(c);
	send_text(c, "abc");
	ferry_chan_close(c);
	expect_file(tmp.path, "abc3456789");
	tmp_remove(&tmp);
}

static void a_full_disk_is_enospc(void **state)
{
	struct ferry_chan *c = ferry_chan_fd(open("/dev/full", O_WRONLY),
					     NULL);
	struct ferry_err e = { 0 };

	(void)state;
	assert_non_null(c);
	assert_string_equal(c->ops->kind, "device");
	assert_int_equal(write_some(c, "x", 1), -ENOSPC);
	assert_int_equal(ferry_chan_write(c, "x", 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_IO);
	assert_int_equal(e.sys, ENOSPC);
	ferry_chan_close(c);
}

static void a_file_that_was_shut_down_takes_no_more(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	c = ferry_chan_file(tmp_path(&tmp, "f"), 1, NULL);
	assert_non_null(c);
	c->ops->shutdown(c);
	assert_int_equal(write_some(c, "x", 1), -ESHUTDOWN);
	ferry_chan_close(c);
	expect_file(tmp.path, "");
	tmp_remove(&tmp);
}

static void a_fifo_may_be_opened_before_its_writer(void **state)
{
	struct ferry_chan *reader, *writer;
	char more;

	(void)state;
	tmp_make(&tmp);
	assert_ok(mkfifo(tmp_path(&tmp, "fifo"), 0600));

	reader = ferry_chan_file(tmp.path, 0, NULL);
	assert_non_null(reader);
	assert_int_equal(reader->ops->features(reader), FERRY_CHAN_READ);
	reader->ops->set_timeout(reader, 20, 0);
	assert_int_equal(read_some(reader, &more, 1), -ETIMEDOUT);
	reader->ops->set_timeout(reader, 0, 0);

	/* Not by its path: see below. */
	assert_null(ferry_chan_file(tmp.path, 1, NULL));
	writer = ferry_chan_fd(open(tmp.path, O_WRONLY), NULL);
	assert_non_null(writer);
	send_text(writer, "at last");
	ferry_chan_close(writer);
	expect_text(reader, "at last");
	assert_int_equal(read_some(reader, &more, 1), 0);
	ferry_chan_close(reader);
	tmp_remove(&tmp);
}

/* A VM that was written to /dev/null is lost. */
static void only_a_regular_file_is_written(void **state)
{
	struct { const char *path, *what; } other[] = {
		{ "/dev/null", "this is a character device" },
		{ "/dev/full", "this is a character device" },
		{ "/", "this is a folder" },
		{ tmp.path, "this is a fifo" },
	};

	(void)state;
	tmp_make(&tmp);
	assert_ok(mkfifo(tmp_path(&tmp, "fifo"), 0600));
	for (size_t i = 0; i < FERRY_LEN(other); i++) {
		struct ferry_err e = { 0 };

		assert_null(ferry_chan_file(other[i].path, 1, &e));
		assert_int_equal(e.code, FERRY_E_UNSUPPORTED);
		assert_non_null(strstr(e.msg, "only a regular file"));
		assert_non_null(strstr(e.msg, other[i].what));
	}
	tmp_remove(&tmp);
}

static void an_open_file_may_be_handed_over(void **state)
{
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	put_file(tmp_path(&tmp, "f"), "0123456789");
	c = ferry_chan_fd(open(tmp.path, O_RDWR), NULL);
	assert_non_null(c);
	assert_int_equal(c->ops->features(c), FERRY_CHAN_READ |
			 FERRY_CHAN_WRITE | FERRY_CHAN_SEEK);
	expect_text(c, "0123");
	ferry_chan_close(c);
	tmp_remove(&tmp);
}

static void a_path_that_cannot_be_opened_is_named(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	assert_null(ferry_chan_file("/no/such/place", 1, &e));
	assert_string_equal(e.msg, "write /no/such/place: open: "
				   "No such file or directory");
	assert_null(ferry_chan_file("/", 0, &e));
	assert_non_null(strstr(e.msg, "read /: fd"));
	assert_non_null(strstr(e.msg, "is a directory"));
}

static void an_offset_that_no_file_has_is_named(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	tmp_make(&tmp);
	put_file(tmp_path(&tmp, "f"), "");
	assert_null(ferry_chan_file_at(tmp.path, 1, 1ull << 63, &e));
	assert_non_null(strstr(e.msg, "truncate to 9223372036854775808: "));
	assert_null(ferry_chan_file_at(tmp.path, 0, 1ull << 63, &e));
	assert_non_null(strstr(e.msg, "seek to 9223372036854775808: "));
	tmp_remove(&tmp);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_file_is_made_private_and_read_back),
		TEST(writing_drops_what_was_there),
		TEST(an_offset_keeps_what_is_before_it),
		TEST(what_was_not_flushed_is_dropped),
		TEST(what_was_flushed_stays),
		TEST(an_open_file_is_left_as_it_is),
		TEST(a_full_disk_is_enospc),
		TEST(a_file_that_was_shut_down_takes_no_more),
		TEST(only_a_regular_file_is_written),
		TEST(a_fifo_may_be_opened_before_its_writer),
		TEST(an_open_file_may_be_handed_over),
		TEST(a_path_that_cannot_be_opened_is_named),
		TEST(an_offset_that_no_file_has_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
