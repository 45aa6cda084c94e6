/* SPDX-License-Identifier: MIT */
/*
 * What the target has said, and waiting for it.
 */
#include "help.h"

#include "base/clock.h"
#include "base/thread.h"
#include "mig/replies.h"

#define SOON	(ferry_now_ns() + 5 * FERRY_NS_PER_MS)

static struct ferry_rp message(enum ferry_rp_type type, uint32_t value)
{
	return (struct ferry_rp){ .type = (uint16_t)type, .value = value };
}

static bool post(struct ferry_replies *r, enum ferry_rp_type type,
		 uint32_t value)
{
	struct ferry_rp m = message(type, value);

	return ferry_replies_post(r, &m);
}

static void every_message_is_its_bit(void **state)
{
	static const struct {
		enum ferry_rp_type type;
		uint32_t value;
		unsigned seen;
		bool more;
	} rows[] = {
		{ FERRY_RP_PONG, 1, FERRY_REPLY_PONG, true },
		{ FERRY_RP_SYNCED, 9, FERRY_REPLY_SYNCED, true },
		{ FERRY_RP_LOADED, 0, FERRY_REPLY_LOADED, true },
		{ FERRY_RP_RUNNING, 0, FERRY_REPLY_RUNNING, true },
		{ FERRY_RP_SHUT, 0, FERRY_REPLY_SHUT, false },
		{ FERRY_RP_SHUT, 1, FERRY_REPLY_REFUSED, false },
		{ FERRY_RP_SHUT, UINT32_MAX, FERRY_REPLY_REFUSED, false },
		{ FERRY_RP_REASON, 0, 0, true },
		{ FERRY_RP_SWITCHOVER_ACK, 0, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_replies r;

		ferry_replies_init(&r);
		assert_int_equal(post(&r, rows[i].type, rows[i].value),
				 rows[i].more);
		assert_int_equal(ferry_replies_seen(&r), rows[i].seen);
		ferry_replies_fini(&r);
	}
}

static void what_was_said_before_is_found_at_once(void **state)
{
	struct ferry_replies r;

	(void)state;
	ferry_replies_init(&r);
	post(&r, FERRY_RP_SYNCED, 7);
	assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_SYNCED,
					    UINT64_MAX), FERRY_REPLY_SYNCED);
	assert_int_equal(ferry_replies_synced(&r), 7);
	ferry_replies_clear(&r, FERRY_REPLY_SYNCED);
	assert_int_equal(ferry_replies_seen(&r), 0);
	ferry_replies_fini(&r);
}

static void clearing_one_leaves_the_others(void **state)
{
	struct ferry_replies r;

	(void)state;
	ferry_replies_init(&r);
	post(&r, FERRY_RP_LOADED, 0);
	post(&r, FERRY_RP_PONG, 0);
	ferry_replies_clear(&r, FERRY_REPLY_PONG);
	assert_int_equal(ferry_replies_seen(&r), FERRY_REPLY_LOADED);
	ferry_replies_fini(&r);
}

static void nothing_said_is_a_time_out(void **state)
{
	struct ferry_replies r;

	(void)state;
	ferry_replies_init(&r);
	post(&r, FERRY_RP_PONG, 0);
	assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_LOADED, SOON),
			 FERRY_REPLY_PONG);
	ferry_replies_fini(&r);
}

static void bad_news_ends_every_wait(void **state)
{
	struct ferry_err gone = { .code = FERRY_E_CLOSED, .msg = "gone" };

	(void)state;
	for (int refused = 0; refused < 2; refused++) {
		struct ferry_replies r;
		unsigned bit = refused ? FERRY_REPLY_REFUSED :
					 FERRY_REPLY_BROKEN;

		ferry_replies_init(&r);
		if (refused)
			post(&r, FERRY_RP_SHUT, 1);
		else
			ferry_replies_broken(&r, &gone);
		assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_LOADED,
						    UINT64_MAX), bit);
		ferry_replies_fini(&r);
	}
}

static void a_poke_ends_one_wait(void **state)
{
	struct ferry_replies r;
	uint64_t begun;

	(void)state;
	ferry_replies_init(&r);
	ferry_replies_poke(&r);
	assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_LOADED,
					    UINT64_MAX), 0);
	begun = ferry_now_ns();
	assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_LOADED, SOON), 0);
	assert_true(ferry_now_ns() - begun >= 4 * FERRY_NS_PER_MS);
	ferry_replies_fini(&r);
}

static void say_loaded(void *arg)
{
	post(arg, FERRY_RP_LOADED, 0);
}

static void a_message_wakes_who_waits(void **state)
{
	struct ferry_thread t = { 0 };
	struct ferry_replies r;
	struct ferry_err e;

	(void)state;
	ferry_replies_init(&r);
	assert_ok(ferry_thread_start(&t, "say", say_loaded, &r, &e));
	assert_int_equal(ferry_replies_wait(&r, FERRY_REPLY_LOADED,
					    UINT64_MAX), FERRY_REPLY_LOADED);
	ferry_thread_join(&t);
	ferry_replies_fini(&r);
}

/* ---- reasons ------------------------------------------------------------ */

static void a_refusal_is_explained_by_the_reason_before_it(void **state)
{
	struct ferry_err gone = { .code = FERRY_E_CLOSED, .msg = "gone" };
	struct ferry_rp why = message(FERRY_RP_REASON, 0);
	struct ferry_replies r;
	struct ferry_err e = { 0 };

	(void)state;
	snprintf(why.reason, sizeof(why.reason), "load device nic/0: odd");
	ferry_replies_init(&r);
	ferry_replies_post(&r, &why);
	post(&r, FERRY_RP_SHUT, 1);
	ferry_replies_broken(&r, &gone);
	assert_int_equal(ferry_replies_why(&r, &e), -1);
	assert_says(&e, FERRY_E_PEER, "target: load device nic/0: odd");
	ferry_replies_fini(&r);
}

static void a_refusal_without_a_reason_says_that(void **state)
{
	struct ferry_replies r;
	struct ferry_err e = { 0 };

	(void)state;
	ferry_replies_init(&r);
	post(&r, FERRY_RP_SHUT, 1);
	ferry_replies_why(&r, &e);
	assert_says(&e, FERRY_E_PEER, "without saying why");
	assert_int_equal(ferry_replies_why(&r, NULL), -1);
	ferry_replies_fini(&r);
}

static void the_longest_reason_is_cut_not_lost(void **state)
{
	struct ferry_rp why = message(FERRY_RP_REASON, 0);
	struct ferry_replies r;
	struct ferry_err e = { 0 };

	(void)state;
	memset(why.reason, 'w', FERRY_REASON_BYTES_MAX);
	ferry_replies_init(&r);
	ferry_replies_post(&r, &why);
	ferry_replies_why(&r, &e);
	assert_says(&e, FERRY_E_PEER, "target: wwww");
	ferry_replies_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_is_its_bit),
		cmocka_unit_test(what_was_said_before_is_found_at_once),
		cmocka_unit_test(clearing_one_leaves_the_others),
		cmocka_unit_test(nothing_said_is_a_time_out),
		cmocka_unit_test(bad_news_ends_every_wait),
		cmocka_unit_test(a_poke_ends_one_wait),
		cmocka_unit_test(a_message_wakes_who_waits),
		cmocka_unit_test(
			a_refusal_is_explained_by_the_reason_before_it),
		cmocka_unit_test(a_refusal_without_a_reason_says_that),
		cmocka_unit_test(the_longest_reason_is_cut_not_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
