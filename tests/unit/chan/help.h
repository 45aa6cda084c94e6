/* SPDX-License-Identifier: MIT */
/*
 * What the channel tests share.  cmocka's asserts jump, so they are for the
 * test's own thread; a job only records.
 */
#ifndef TESTS_UNIT_CHAN_HELP_H
#define TESTS_UNIT_CHAN_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/thread.h"
#include "chan/chan.h"
#include "chan/uri.h"

/* ---- a directory of the test's own ------------------------------------- */

struct tmp {
	char dir[64];
	char path[96];		/* of the last tmp_path() */
};

void tmp_make(struct tmp *t);
const char *tmp_path(struct tmp *t, const char *name);
void tmp_remove(struct tmp *t);

/* ---- channels ---------------------------------------------------------- */

/* A pipe as two channels: end[0] reads, end[1] writes. */
void make_pipe(struct ferry_chan *end[2]);
void make_pair(struct ferry_chan *end[2]);

/* Listen at `at`, dial it, accept: end[0] dialled, end[1] was accepted. */
void make_connection(const char *at, struct ferry_chan *end[2]);

void send_text(struct ferry_chan *c, const char *text);
void expect_text(struct ferry_chan *c, const char *text);

/* One readv or writev with a single buffer. */
ssize_t read_some(struct ferry_chan *c, void *data, size_t bytes);
ssize_t write_some(struct ferry_chan *c, const void *data, size_t bytes);

/* Write until it fails, and return with what. */
ssize_t write_until_error(struct ferry_chan *c);

/* Octet i of every test pattern. */
static inline uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

void fill_pattern(uint8_t *data, size_t bytes, uint64_t from);

/* ---- another thread ---------------------------------------------------- */

struct job {
	struct ferry_thread thread;
	struct ferry_chan *chan;
	ssize_t	 (*fn)(struct ferry_chan *c);
	ssize_t	 result;
};

/* Start fn(chan) and give it time to block. */
void job_start(struct job *j, ssize_t (*fn)(struct ferry_chan *c),
	       struct ferry_chan *chan);
ssize_t job_result(struct job *j);

/* ---- every test gives back the fds it took ----------------------------- */

int count_fds_before(void **state);
int count_fds_after(void **state);

#define TEST(fn) \
	cmocka_unit_test_setup_teardown(fn, count_fds_before, count_fds_after)

#define assert_ok(rc)	assert_int_equal((rc), 0)

#endif
