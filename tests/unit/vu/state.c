/* SPDX-License-Identifier: MIT */
/*
 * The state of a device over a descriptor: saved here, taken there, and what
 * happens to one that is cut, changed, foreign or too long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "rig.h"

#define STATE_BYTES	(3u << 20)

struct device {
	uint8_t	*data;
	size_t	takes;		/* load(): so many octets */
	bool	loaded;
};

static int save(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	struct device *d = opaque;

	for (size_t at = 0; at < STATE_BYTES; at += 12345) {
		size_t n = STATE_BYTES - at < 12345 ? STATE_BYTES - at : 12345;

		if (ferry_vhost_stream_write(s, d->data + at, n, e))
			return -1;
	}
	return 0;
}

static int load(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	struct device *d = opaque;

	if (ferry_vhost_stream_read(s, d->data, d->takes, e))
		return -1;
	d->loaded = true;
	return 0;
}

static void handle(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	(void)opaque, (void)q, (void)why;
}

static const struct ferry_vhost_shape shape = {
	.size = sizeof(shape), .queues = 1, .name = "stateful",
};

static const struct ferry_vhost_ops ops = {
	.size = sizeof(ops), .handle = handle, .save = save, .load = load,
};

static void begin(struct rig *r, uint32_t direction, int fd)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_DEVICE_STATE_FD,
		.transfer = { direction, 0 },
	};
	struct ferry_vu_fds got;

	assert_int_equal(rig_ask(r, &m, &fd, 1, &got), FERRY_VU_NO_FD);
	assert_int_equal(got.n, 0);
	close(fd);
}

/* All that a device with this data says; malloc'd. */
static uint8_t *saved(uint8_t *data, size_t *bytes)
{
	struct device d = { .data = data };
	uint8_t *all = malloc(2 * STATE_BYTES);
	struct rig r;
	ssize_t n;
	int fd[2];

	rig_open(&r, &shape, &ops, &d, 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	begin(&r, 0, fd[1]);
	*bytes = 0;
	while ((n = read(fd[0], all + *bytes, 2 * STATE_BYTES - *bytes)) > 0)
		*bytes += (size_t)n;
	close(fd[0]);
	assert_int_equal(rig_ask_u64(&r, FERRY_VU_CHECK_DEVICE_STATE, 0), 0);
	rig_close(&r);
	return all;
}

/* A device is given these octets; what CHECK answers. */
static uint64_t give(struct device *d, const uint8_t *all, size_t bytes)
{
	uint64_t answer;
	struct rig r;
	int fd[2];

	rig_open(&r, &shape, &ops, d, 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	begin(&r, 1, fd[0]);
	while (bytes) {
		ssize_t n = write(fd[1], all, bytes);

		if (n < 0)
			break;
		all += n;
		bytes -= (size_t)n;
	}
	close(fd[1]);
	answer = rig_ask_u64(&r, FERRY_VU_CHECK_DEVICE_STATE, 0);
	rig_close(&r);
	return answer;
}

static void what_was_saved_is_loaded(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(STATE_BYTES);
	FERRY_AUTO_FREE uint8_t *back = malloc(STATE_BYTES);
	FERRY_AUTO_FREE uint8_t *all = NULL;
	struct device d = { .data = back, .takes = STATE_BYTES };
	size_t bytes;

	(void)state;
	for (size_t i = 0; i < STATE_BYTES; i++)
		data[i] = (uint8_t)rand();
	all = saved(data, &bytes);
	assert_int_equal(give(&d, all, bytes), 0);
	assert_memory_equal(back, data, STATE_BYTES);
}

static void a_state_that_is_not_whole_is_refused(void **state)
{
	const struct {
		const char	*name;
		size_t		takes, cut, flip, more;
	} rows[] = {
		{ "nothing of it", STATE_BYTES, 0, SIZE_MAX, 0 },
		{ "half of the head", STATE_BYTES, 8, SIZE_MAX, 0 },
		{ "cut in the middle", STATE_BYTES, 1 << 20, SIZE_MAX, 0 },
		{ "another's", STATE_BYTES, SIZE_MAX, 3, 0 },
		{ "another version", STATE_BYTES, SIZE_MAX, 11, 0 },
		{ "a chunk too large", STATE_BYTES, SIZE_MAX, 16, 0 },
		{ "an octet changed", STATE_BYTES, SIZE_MAX, 1 << 20, 0 },
		{ "the device wants more", STATE_BYTES + 1, SIZE_MAX,
		  SIZE_MAX, 0 },
		{ "the device wants less", STATE_BYTES - 1, SIZE_MAX,
		  SIZE_MAX, 0 },
	};
	FERRY_AUTO_FREE uint8_t *data = calloc(1, STATE_BYTES + 1);
	FERRY_AUTO_FREE uint8_t *all = NULL;
	size_t bytes;

	(void)state;
	all = saved(data, &bytes);
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct device d = { .data = data, .takes = rows[i].takes };
		size_t n = rows[i].cut < bytes ? rows[i].cut : bytes;

		if (rows[i].flip < bytes)
			all[rows[i].flip] ^= 0xff;
		assert_int_equal(give(&d, all, n), 1);
		if (rows[i].flip < bytes)
			all[rows[i].flip] ^= 0xff;
	}
	/* The last octet of all is the sum's. */
	{
		struct device d = { .data = data, .takes = STATE_BYTES };

		assert_int_equal(give(&d, all, bytes - 1), 1);
		assert_int_equal(give(&d, all, bytes), 0);
	}
}

/* Nobody reads the pipe, and then the front-end goes. */
static void a_front_end_that_goes_ends_the_transfer(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = calloc(1, STATE_BYTES);
	struct device d = { .data = data };
	struct rig r;
	int fd[2];

	(void)state;
	rig_open(&r, &shape, &ops, &d, 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	begin(&r, 0, fd[1]);
	rig_close(&r);
	close(fd[0]);
}

/* Its reader goes, the front-end does not: an error, and no SIGPIPE. */
static void nobody_reads_what_is_saved(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = calloc(1, STATE_BYTES);
	struct device d = { .data = data };
	struct rig r;
	int fd[2];

	(void)state;
	rig_open(&r, &shape, &ops, &d, 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	close(fd[0]);
	begin(&r, 0, fd[1]);
	assert_int_equal(rig_ask_u64(&r, FERRY_VU_CHECK_DEVICE_STATE, 0), 1);
	rig_close(&r);
}

static void a_check_without_a_transfer_fails(void **state)
{
	struct device d = { 0 };
	struct rig r;

	(void)state;
	rig_open(&r, &shape, &ops, &d, 0);
	assert_int_equal(rig_ask_u64(&r, FERRY_VU_CHECK_DEVICE_STATE, 0), 1);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_saved_is_loaded),
		cmocka_unit_test(a_state_that_is_not_whole_is_refused),
		cmocka_unit_test(a_front_end_that_goes_ends_the_transfer),
		cmocka_unit_test(nobody_reads_what_is_saved),
		cmocka_unit_test(a_check_without_a_transfer_fails),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
