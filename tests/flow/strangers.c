/* SPDX-License-Identifier: MIT */
/*
 * Strangers at a waiting target: port scanners, other protocols, headers that
 * lie, silent ones by the dozen.  It stays waiting, and a real source that
 * comes afterwards is served.  A migration that is under way is not disturbed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mig/greet.h"
#include "mig/source_test.h"
#include "mig/target_test.h"
#include "rig.h"

#define SMALL								\
	.block = { { "ram", 256 << 10, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30

/* A head with it is longer. */
#define WITHOUT_BOND	(FERRY_FEATURES_CAN & ~(uint64_t)FERRY_FEATURE_BOUND)

static int knock(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", rig_unix_uri() + 5);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* Until the target hangs up, which it must. */
static void await_hang_up(int fd)
{
	char octets[4096];

	while (recv(fd, octets, sizeof(octets), 0) > 0)
		;
}

static void expect_waiting(struct rig *r, const char *what)
{
	enum ferry_state state = ferry_status_state(&r->target->status);

	if (state != FERRY_STATE_SETUP)
		fail_msg("after %s the target is %s", what,
			 ferry_state_name(state));
}

static void wait_for(struct rig *r, const char *timeout_ms)
{
	struct rig_config cfg = {
		SMALL, .uri = rig_unix_uri(),
		.target_param = { { "x-ferry-timeout", timeout_ms } },
	};

	rig_init(r, &cfg);
	rig_start_target(r);
}

static void serve(struct rig *r, const char *what)
{
	expect_waiting(r, what);
	rig_start_source(r);
	rig_finish(r);
	rig_expect_moved(r, what);
	rig_fini(r);
}

/* What a source of this VM would open main with. */
static size_t valid_opening(struct rig *r, uint8_t *buf, size_t size)
{
	struct ferry_channel_head head = {
		.type = FERRY_CHANNEL_MAIN, .session = { 7 },
		.features = WITHOUT_BOND,
		.mandatory = FERRY_FEATURES_MUST,
	};
	struct ferry_wr w = ferry_wr_over(buf, size);
	struct ferry_hello hello;

	assert_int_equal(ferry_greet_describe(r->src.vm, &hello, NULL), 0);
	hello.has_channels = true;
	hello.data = 1;
	ferry_channel_encode(&w, &head);
	ferry_hello_encode(&w, &hello);
	ferry_hello_fini(&hello);
	return ferry_wr_used(&w);
}

/* ---- the waiting target ---------------------------------------------------------- */

#define OCTETS(s) (const uint8_t *)(s), sizeof(s) - 1

static const struct {
	const char *what;
	const uint8_t *octets;
	size_t bytes;
} openings[] = {
	{ "a browser", OCTETS("GET / HTTP/1.1\r\nHost: ferry\r\n\r\n") },
	{ "TLS", OCTETS("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03") },
	{ "ssh", OCTETS("SSH-2.0-OpenSSH_9.2\r\n") },
	{ "zeroes", OCTETS("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") },
	{ "a QEMU's multifd", OCTETS("\x11\x22\x33\x44\0\0\0\1") },
	{ "a QEMU's recovery", OCTETS("\x08\x00\x0a\x00\0\0\0\0") },
	{ "a QEMU of version 2", OCTETS("QEVM\0\0\0\2\7\0\0\0\3rig") },
	{ "a QEMU with another machine", OCTETS("QEVM\0\0\0\3\7\0\0\0\3gri") },
	{ "a QEMU without a machine", OCTETS("QEVM\0\0\0\3\1\0\0\0\1") },
	{ "a QEMU with a huge name",
	  OCTETS("QEVM\0\0\0\3\7\xff\xff\xff\xffrig") },
	{ "an answer instead of an offer", OCTETS("FERA\0\1\0\x30") },
};

static void other_protocols_are_turned_away(void **state)
{
	struct rig r;

	(void)state;
	wait_for(&r, "20000");
	for (size_t i = 0; i < FERRY_LEN(openings); i++) {
		int fd = knock();

		assert_true(send(fd, openings[i].octets, openings[i].bytes,
				 MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		await_hang_up(fd);
		close(fd);
		expect_waiting(&r, openings[i].what);
	}
	serve(&r, "other protocols");
}

/* A field of a valid opening that is replaced. */
static const struct {
	const char *what;
	size_t at, bytes;
	uint8_t octets[8];
} lies[] = {
	{ "version 2", 4, 2, { 0, 2 } },
	{ "a header of 0 octets", 6, 2, { 0, 0 } },
	{ "a header of 65535 octets", 6, 2, { 0xff, 0xff } },
	{ "type 0", 8, 2, { 0, 0 } },
	{ "type 9", 8, 2, { 0, 9 } },
	{ "main with index 1", 10, 2, { 0, 1 } },
	{ "reserved octets", 12, 4, { 1, 2, 3, 4 } },
	{ "a session of zeroes", 16, 1, { 0 } },
	{ "an unknown mandatory feature", 40, 8, { 0x80, 0, 0, 0, 0, 0, 0, 1 } },
	{ "mandatory, not offered", 32, 8, { 0 } },
	{ "a hello of 0 octets", 48, 4, { 0, 0, 0, 0 } },
	{ "a hello of 4 GiB", 48, 4, { 0xff, 0xff, 0xff, 0xff } },
	{ "a hello of 1 MiB and 1", 48, 4, { 0, 0x10, 0, 1 } },
	{ "an item of 4 GiB", 56, 4, { 0xff, 0xff, 0xff, 0xff } },
	{ "an item of an unknown kind", 52, 2, { 0, 99 } },
	{ "a data channel of no migration", 8, 4, { 0, 2, 0, 0 } },
	{ "an urgent channel of no migration", 8, 4, { 0, 3, 0, 0 } },
	{ "a device channel", 8, 4, { 0, 4, 0, 0 } },
};

static void headers_that_lie_are_turned_away(void **state)
{
	uint8_t octets[4096];
	struct rig r;

	(void)state;
	wait_for(&r, "20000");
	for (size_t i = 0; i < FERRY_LEN(lies); i++) {
		size_t n = valid_opening(&r, octets, sizeof(octets));
		int fd = knock();

		memcpy(octets + lies[i].at, lies[i].octets, lies[i].bytes);
		assert_true(send(fd, octets, n, MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		await_hang_up(fd);
		close(fd);
		expect_waiting(&r, lies[i].what);
	}
	serve(&r, "lies");
}

static void who_hangs_up_at_any_octet_changes_nothing(void **state)
{
	uint8_t octets[4096];
	struct rig r;
	size_t bytes;

	(void)state;
	wait_for(&r, "20000");
	bytes = valid_opening(&r, octets, sizeof(octets));
	for (size_t n = 0; n < bytes; n++) {
		int fd = knock();

		if (n)
			assert_true(send(fd, octets, n, MSG_NOSIGNAL) > 0);
		if (n % 2) {	/* else it is gone before it is heard */
			shutdown(fd, SHUT_WR);
			await_hang_up(fd);
		}
		close(fd);
		expect_waiting(&r, "half an opening");
	}
	serve(&r, "half an opening");
}

/* What may come behind a hello that was accepted. */
static const struct {
	const char *what;
	const uint8_t *octets;
	size_t bytes;
} ends[] = {
	{ "a hang-up", OCTETS("") },
	{ "half a stream's head", OCTETS("QEVM\0\0") },
	{ "a stream of another VM", OCTETS("QEVM\0\0\0\3\7\0\0\0\3gri") },
	{ "a stream's head and no more",
	  OCTETS("QEVM\0\0\0\3\7\0\0\0\3rig") },
	{ "something else", OCTETS("GET / HTTP/1.1") },
	{ "an ABORT", OCTETS("\x08\x46\3\0\6\0\4oops") },
};

/* A hello takes the target for as long as its sender is there; then it waits
 * again, also when that one's data channel had come and said something. */
static void who_leaves_behind_the_hello_changes_nothing(void **state)
{
	struct rig r;

	(void)state;
	wait_for(&r, "20000");
	for (size_t i = 0; i < FERRY_LEN(ends) * 3; i++) {
		size_t end = i / 3;
		uint8_t octets[4096];
		size_t n = valid_opening(&r, octets, sizeof(octets));
		int fd = knock(), data = -1;

		assert_true(send(fd, octets, n, MSG_NOSIGNAL) > 0);
		assert_int_equal(recv(fd, octets, FERRY_CHANNEL_WIRE,
				      MSG_WAITALL), FERRY_CHANNEL_WIRE);
		n = valid_opening(&r, octets, sizeof(octets));
		octets[9] = FERRY_CHANNEL_DATA;
		/* A stream that begins before its channels are there is left
		 * alone until the time is up. */
		if (i % 3 || (ends[end].bytes && ends[end].octets[0] != 8))
			data = knock();
		if (data >= 0)	/* its header; or garbage behind it */
			assert_true(send(data, octets, i % 3 == 1 ?
					 FERRY_CHANNEL_WIRE : n,
					 MSG_NOSIGNAL) > 0);
		if (ends[end].bytes)
			assert_true(send(fd, ends[end].octets, ends[end].bytes,
					 MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		await_hang_up(fd);
		close(fd);
		if (data >= 0)
			close(data);
		while (!rig_is_waiting(&r)) {
			if (ferry_state_is_final(ferry_status_state(
						 &r.target->status)))
				fail_msg("%s ended it", ends[end].what);
			usleep(1000);
		}
	}
	serve(&r, "hellos");
}

static void random_octets_are_turned_away(void **state)
{
	uint64_t seed = 88172645463325252ull;
	uint8_t octets[256];
	struct rig r;

	(void)state;
	wait_for(&r, "20000");
	for (int i = 0; i < 200; i++) {
		int fd = knock();

		for (size_t n = 0; n < sizeof(octets); n++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			octets[n] = (uint8_t)seed;
		}
		if (i % 4 == 1)
			memcpy(octets, "FERR\0\1\0\x30", 8);
		if (i % 4 == 2)
			memcpy(octets, "QEVM\0\0\0\3\7\0\0\0\3", 13);
		assert_true(send(fd, octets, sizeof(octets), MSG_NOSIGNAL) >
			    0);
		shutdown(fd, SHUT_WR);
		await_hang_up(fd);
		close(fd);
	}
	serve(&r, "random octets");
}

/* No timeout helps here: they would be silent for an hour. */
static void silent_ones_do_not_block_the_door(void **state)
{
	struct rig r;
	int fd[64];

	(void)state;
	wait_for(&r, "3600000");
	for (size_t i = 0; i < FERRY_LEN(fd); i++)
		fd[i] = knock();
	serve(&r, "64 silent connections");
	for (size_t i = 0; i < FERRY_LEN(fd); i++)
		close(fd[i]);
}

static void a_target_is_freed_while_someone_is_silent(void **state)
{
	struct rig r;
	int fd[3];

	(void)state;
	wait_for(&r, "3600000");
	for (size_t i = 0; i < FERRY_LEN(fd); i++)
		fd[i] = knock();
	assert_int_equal(send(fd[0], "FERR", 4, MSG_NOSIGNAL), 4);
	rig_fini(&r);
	for (size_t i = 0; i < FERRY_LEN(fd); i++)
		close(fd[i]);
}

/* Who has said a good hello has the target to itself, until it is known that no
 * more comes: silent, or with signs of life and nothing else. */
static void a_hello_without_channels_is_shown_out(void **state)
{
	static const uint8_t ping[] = { 8, 0, 2, 0, 4, 0, 0, 0, 0 };
	struct rig r;

	(void)state;
	wait_for(&r, "500");
	for (int drips = 0; drips < 2; drips++) {
		uint8_t octets[4096];
		size_t n = valid_opening(&r, octets, sizeof(octets));
		int fd = knock();

		assert_true(send(fd, octets, n, MSG_NOSIGNAL) > 0);
		for (unsigned at = 0; drips && send(fd, &ping[at], 1,
						    MSG_NOSIGNAL) > 0;
		     at = (at + 1) % sizeof(ping))
			usleep(5000);
		await_hang_up(fd);
		close(fd);
		while (!rig_is_waiting(&r))
			usleep(1000);
	}
	serve(&r, "a hello and no more");
}

/* ---- a migration is under way ----------------------------------------------------- */

/* A migration that goes on for as long as its limit is not lifted. */
static void begin_slow(struct rig *r)
{
	struct rig_config cfg = {
		SMALL, .uri = rig_unix_uri(),
		.param = { { "max-bandwidth", "1k" } },
	};

	rig_init(r, &cfg);
	rig_start(r);
	rig_await(r, FERRY_STATE_ACTIVE);
}

static void end_slow(struct rig *r, const char *what)
{
	assert_int_equal(ferry_source_set(r->source, "max-bandwidth", "0",
					  NULL), 0);
	rig_finish(r);
	rig_expect_moved(r, what);
	rig_fini(r);
}

static void a_second_source_is_refused(void **state)
{
	struct rig first, second;
	struct rig_config cfg = { SMALL, .uri = rig_unix_uri() };

	(void)state;
	begin_slow(&first);
	rig_init(&second, &cfg);
	second.to = &first;
	rig_start_source(&second);
	rig_finish_source(&second);
	rig_expect_stayed(&second, "a second source",
			  "another migration is coming in already");
	rig_fini(&second);
	end_slow(&first, "another source in between");
}

/* A channel of a migration that there is not, or that is here already. */
static void foreign_channels_are_turned_away(void **state)
{
	static const struct { uint16_t type, index; bool ours; } wrong[] = {
		{ FERRY_CHANNEL_DATA, 0, false },
		{ FERRY_CHANNEL_URGENT, 0, false },
		{ FERRY_CHANNEL_DATA, 0, true },
		{ FERRY_CHANNEL_URGENT, 0, true },
		{ FERRY_CHANNEL_DATA, 1, true },
		{ FERRY_CHANNEL_DATA, 63, true },
		{ FERRY_CHANNEL_DEVICE, 0, true },
	};
	struct rig r;

	(void)state;
	begin_slow(&r);
	for (size_t i = 0; i < FERRY_LEN(wrong); i++) {
		struct ferry_channel_head head = {
			.type = wrong[i].type, .index = wrong[i].index,
			.session = { 7 }, .features = WITHOUT_BOND,
			.mandatory = FERRY_FEATURES_MUST,
		};
		uint8_t octets[FERRY_CHANNEL_WIRE];
		struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
		int fd = knock();

		if (wrong[i].ours)
			memcpy(head.session, r.source->session,
			       sizeof(head.session));
		ferry_channel_encode(&w, &head);
		assert_true(send(fd, octets, sizeof(octets), MSG_NOSIGNAL) >
			    0);
		await_hang_up(fd);
		close(fd);
	}
	end_slow(&r, "foreign channels");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_protocols_are_turned_away),
		cmocka_unit_test(headers_that_lie_are_turned_away),
		cmocka_unit_test(who_hangs_up_at_any_octet_changes_nothing),
		cmocka_unit_test(who_leaves_behind_the_hello_changes_nothing),
		cmocka_unit_test(random_octets_are_turned_away),
		cmocka_unit_test(a_hello_without_channels_is_shown_out),
		cmocka_unit_test(silent_ones_do_not_block_the_door),
		cmocka_unit_test(a_target_is_freed_while_someone_is_silent),
		cmocka_unit_test(a_second_source_is_refused),
		cmocka_unit_test(foreign_channels_are_turned_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
