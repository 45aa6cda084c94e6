/* SPDX-License-Identifier: MIT */
/*
 * Where a packed queue stands, by an in-flight area that some backend wrote:
 * it can say anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vu/fe/fe.h"

#define ENTRIES		6u	/* a part of 224 octets is 256 with its gap */
#define PART		256ull
#define OFFSET		4096u
#define STARTED		0x80018001u

/* The head of a queue's part: version, entries, free, old free, used, old
 * used, and the two wraps. */
struct row {
	uint16_t	word[6];
	uint8_t		wraps[2];
	bool		known;
	uint32_t	base;
};

static const struct row rows[] = {
	{ { 1, 6, 0, 0, 3, 3 }, { 1, 1 }, true, 0x80038003u },
	{ { 1, 6, 0, 0, 5, 5 }, { 0, 0 }, true, 0x00050005u },
	/* A batch that was not shown, over the end. */
	{ { 1, 6, 0, 0, 1, 5 }, { 0, 1 }, true, 0x80058005u },
	/* Nobody has begun. */
	{ { 0, 0, 9, 9, 9, 9 }, { 7, 7 }, true, STARTED },
	/* What makes no sense. */
	{ { 2, 6, 0, 0, 3, 3 }, { 1, 1 }, false, 0 },
	{ { 0xffff, 6, 0, 0, 3, 3 }, { 1, 1 }, false, 0 },
	{ { 1, 6, 0, 0, 6, 6 }, { 1, 1 }, false, 0 },
	{ { 1, 6, 0, 0, 0, 0xffff }, { 1, 1 }, false, 0 },
};

static struct ferry_vhost_fe fe_with(int fd, uint64_t bytes, uint64_t offset,
				     uint16_t queues, uint16_t entries)
{
	return (struct ferry_vhost_fe){ .want = {
		.features = FERRY_VF_PACKED,
		.inflight = {
			.area = { .bytes = bytes, .fd_offset = offset,
				  .queues = queues, .queue_size = entries },
			.fd = fd,
		},
	} };
}

static void the_area_says_it_or_nobody_does(void **state)
{
	int fd = memfd_create("area", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		struct ferry_vhost_fe f = fe_with(fd, 2 * PART, OFFSET, 2,
						  ENTRIES);
		struct ferry_vhost_fe_queue q = {
			.index = 1, .entries = ENTRIES, .base = STARTED,
		};
		uint8_t head[32] = { 0 };

		memcpy(head + 8, row->word, sizeof(row->word));
		memcpy(head + 20, row->wraps, sizeof(row->wraps));
		assert_int_equal(pwrite(fd, head, sizeof(head), OFFSET + PART),
				 sizeof(head));
		assert_int_equal(ferry_vf_find_place(&f, &q), row->known);
		if (row->known)
			assert_int_equal(q.base, row->base);
	}
	close(fd);
}

static void an_area_that_cannot_hold_it_says_nothing(void **state)
{
	int fd = memfd_create("area", MFD_CLOEXEC), ends[2];
	const uint8_t head[2 * PART] = { [PART + 8] = 1 };

	(void)state;
	assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
	assert_int_equal(pipe(ends), 0);
	const struct {
		const char *what;
		struct ferry_vhost_fe f;
		bool known;
	} table[] = {
		{ "as it should be", fe_with(fd, 2 * PART, 0, 2, ENTRIES),
		  true },
		{ "there is none", fe_with(-1, 2 * PART, 0, 2, ENTRIES),
		  false },
		{ "too few queues", fe_with(fd, 2 * PART, 0, 1, ENTRIES),
		  false },
		{ "too few entries", fe_with(fd, 2 * PART, 0, 2, ENTRIES - 1),
		  false },
		{ "too short", fe_with(fd, 2 * PART - 1, 0, 2, ENTRIES),
		  false },
		{ "a short file", fe_with(fd, 2 * PART, PART, 2, ENTRIES),
		  false },
		{ "far off", fe_with(fd, 2 * PART, INT64_MAX, 2, ENTRIES),
		  false },
		{ "farther", fe_with(fd, 2 * PART, UINT64_MAX - 3, 2, ENTRIES),
		  false },
		{ "a pipe", fe_with(ends[0], 2 * PART, 0, 2, ENTRIES), false },
	};
	for (size_t i = 0; i < FERRY_LEN(table); i++) {
		struct ferry_vhost_fe_queue q = {
			.index = 1, .entries = ENTRIES,
		};

		print_message("%s\n", table[i].what);
		assert_int_equal(ferry_vf_find_place(&table[i].f, &q),
				 table[i].known);
	}
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_area_says_it_or_nobody_does),
		cmocka_unit_test(an_area_that_cannot_hold_it_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
