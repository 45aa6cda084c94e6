/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device at both ends, against a device that is made up and strict:
 * what it can and cannot, each call failing, a migration that ends anywhere.
 */
#include "vfio_pair.h"

static const uint64_t kinds[] = { BASIC, P2P, LIVE, ALL };

static void a_device_moves_whatever_it_can(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		for (unsigned how = 0; how < 16; how++) {
			const struct vfio_fake_config cfg = {
				.can = kinds[i], .blocks = 40, .initial = 3,
				.tells_size = how & 1,
				.at_once = how & 2 ? 777 : 0,
				.eintr = how & 4 ? 3 : 0,
				.eagain = how & 8 ? 4 : 0,
			};
			struct pair *p = pair_new(&cfg);
			char what[80];

			snprintf(what, sizeof(what), "kind %zu, way %u", i,
				 how);
			pair_expect_moved(p, what);
			assert_int_equal(p->from.resets + p->to.resets, 0);
			pair_free(p);
		}
	}
}

static void a_device_of_a_paused_vm_moves_and_stays_as_it_was(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		const struct vfio_fake_config cfg = {
			.can = kinds[i], .blocks = 5,
		};
		struct pair *p = pair_new(&cfg);
		struct ferry_err e = { 0 };

		p->from.state = p->to.state = VFIO_DEVICE_STATE_STOP;
		assert_int_equal(pair_course(p, PREPARE, &e), PREPARE);
		assert_true(vfio_fake_same(&p->from, &p->to));
		assert_int_equal(p->to.state, VFIO_DEVICE_STATE_STOP);

		/* And once more, which comes to nothing. */
		pair_forget(p);
		p->to.state = VFIO_DEVICE_STATE_STOP;
		assert_int_equal(pair_course(p, LOAD_END, &e), LOAD_END);
		assert_int_equal(p->ops.step(p->out, FERRY_BULK_CANCEL, &e), 0);
		assert_int_equal(p->ops.step(p->in, FERRY_BULK_CANCEL, &e), 0);
		assert_int_equal(p->from.state, VFIO_DEVICE_STATE_STOP);
		assert_int_equal(p->to.state, VFIO_DEVICE_STATE_STOP);
		assert_int_equal(p->from.resets, 0);
		pair_free(p);
	}
}

/* ---- the switchover -------------------------------------------------------- */

static void what_is_needed_first_holds_the_switchover(void **state)
{
	const struct vfio_fake_config cfg = {
		.can = ALL, .blocks = 60, .initial = 20, .tells_size = true,
		.at_once = 500,
	};
	struct ferry_bulk_pending left = { .size = sizeof(left) };
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_course(p, LOOK, &e), LOOK);
	assert_int_equal(p->ops.pending(p->out, &left, &e), 0);
	assert_int_equal(left.initial_bytes, 20 * FAKE_ITEM_BYTES);
	assert_int_equal(left.dirty_bytes, 40 * FAKE_ITEM_BYTES);
	assert_int_equal(left.stop_bytes, 0);
	while (!p->initial) {
		assert_false(p->ops.ready(p->in));
		assert_int_equal(p->ops.iterate(p->out, &p->out_handle, &e),
				 1);
		if (!p->initial)
			assert_int_equal(pair_feed(p, &e), 0);
	}
	assert_int_equal(p->from.first, 0);
	assert_int_equal(pair_feed(p, &e), 0);
	assert_true(p->ops.ready(p->in));
	assert_int_equal(pair_iterate_all(p, &e), 0);
	assert_int_equal(p->initial, 1);
	pair_cancel(p, ITERATE);
	pair_expect_back(p, "first");
	assert_int_equal(p->initial, 1);
	pair_free(p);
}

static void a_device_that_hands_out_nothing_before_holds_nothing(void **state)
{
	const struct vfio_fake_config cfg = { .can = P2P, .blocks = 3 };
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_course(p, QUIESCE, &e), QUIESCE);
	assert_int_equal(p->pieces, 1);
	assert_true(p->ops.ready(p->in));
	pair_cancel(p, ITERATE);
	pair_expect_back(p, "nothing first");
	pair_free(p);
}

static void several_devices_stop_and_start_in_two_steps(void **state)
{
	static const enum ferry_bulk_step steps[] = {
		FERRY_BULK_BEGIN, FERRY_BULK_QUIESCE, FERRY_BULK_STOP,
		FERRY_BULK_CANCEL, FERRY_BULK_PREPARE, FERRY_BULK_RUN,
	};

	(void)state;
	for (size_t k = 0; k < FERRY_LEN(kinds); k++) {
		const struct vfio_fake_config cfg = {
			.can = kinds[k], .blocks = 3,
		};
		struct pair none = { 0 };
		struct vfio_fake f[3];
		struct ferry_vfio *v[3];
		struct ferry_bulk_ops ops;
		struct ferry_err e = { 0 };

		ferry_vfio_bulk_ops(&ops);
		for (unsigned i = 0; i < 3; i++) {
			vfio_fake_init(&f[i], &cfg);
			f[i].vm_runs = true;
			v[i] = pair_device(&none, &f[i]);
		}
		vfio_fake_join(f, 3);
		for (size_t s = 0; s < FERRY_LEN(steps); s++)
			for (unsigned i = 0; i < 3; i++)
				assert_int_equal(ops.step(v[i], steps[s], &e),
						 0);
		for (unsigned i = 0; i < 3; i++) {
			assert_string_equal(f[i].odd, "");
			assert_int_equal(f[i].state,
					 VFIO_DEVICE_STATE_RUNNING);
			ferry_vfio_free(v[i]);
			assert_true(vfio_fake_is_tidy(&f[i]));
			vfio_fake_fini(&f[i]);
		}
	}
}

/* ---- what ends early ------------------------------------------------------- */

static void a_migration_may_end_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		for (enum act end = LOAD_BEGIN; end <= END; end++) {
			const struct vfio_fake_config cfg = {
				.can = kinds[i], .blocks = 30, .initial = 2,
			};
			struct pair *p = pair_new(&cfg);
			struct ferry_err e = { 0 };
			char what[80];

			snprintf(what, sizeof(what), "kind %zu, end %d", i,
				 (int)end);
			assert_int_equal(pair_course(p, end, &e), end);
			pair_cancel(p, end - 1);
			assert_int_equal(p->from.resets, 0);
			pair_expect_back(p, what);
			pair_free(p);
		}
	}
}

/* One call of one side fails; then either it did no harm, or all is as it was
 * before, and the next time it works. */
static bool one_failure(uint64_t can, bool at_target, unsigned call, int why,
			enum fake_failure how)
{
	const struct vfio_fake_config cfg = {
		.can = can, .blocks = 10, .initial = 2, .tells_size = true,
	};
	struct pair *p = pair_new(&cfg);
	struct vfio_fake *f = at_target ? &p->to : &p->from;
	struct ferry_err e = { 0 };
	bool failed, whole;
	char what[320];
	enum act at;

	f->calls = 0;
	f->fail_at = call;
	f->fail_with = why;
	f->failure = how;
	at = pair_course(p, ACTS, &e);
	failed = f->failed;
	whole = at == ACTS || at == END;	/* END: the VM is gone anyway */
	snprintf(what, sizeof(what), "can %u, target %d, call %u, errno %d, "
		 "way %d, act %d: %s", (unsigned)can, at_target, call, why,
		 (int)how, (int)at, e.msg);
	if (!whole) {
		if (!e.msg[0])
			fail_msg("%s: no reason", what);
		pair_cancel(p, at);
		/* Only what came to ERROR has lost anything. */
		if (p->from.resets && how != FAKE_FAILS_TO_ERROR)
			fail_msg("%s: reset", what);
		pair_expect_back(p, what);
	}
	pair_free(p);
	return failed;
}

static void each_call_may_fail(void **state)
{
	static const int why[] = { EIO, ENODEV, EINTR, EAGAIN, ENOMSG };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++)
		for (unsigned target = 0; target < 2; target++)
			for (size_t w = 0; w < FERRY_LEN(why); w++)
				for (unsigned how = 0; how < 3; how++) {
					unsigned call = 1;

					while (one_failure(kinds[i], target,
							   call, why[w], how))
						call++;
					assert_true(call > 8);
				}
}

static void a_device_that_cannot_come_back_is_reset_and_that_is_told(
	void **state)
{
	static const enum act ends[] = { STOP, SAVE, FEED_ALL };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(ends); i++) {
		const struct vfio_fake_config cfg = {
			.can = ALL, .blocks = 10,
		};
		struct pair *p = pair_new(&cfg);
		struct ferry_err e = { 0 };

		assert_int_equal(pair_course(p, ends[i], &e), ends[i]);
		p->from.failure = FAKE_FAILS_TO_ERROR;
		if (ends[i] != STOP)		/* behind two GETs */
			p->from.fail_at = p->from.calls + 3;
		assert_int_equal(p->ops.step(p->out, FERRY_BULK_CANCEL, &e),
				 ends[i] == STOP ? 0 : -1);
		assert_int_equal(p->ops.step(p->out, FERRY_BULK_PREPARE, &e),
				 0);
		if (ends[i] == STOP)
			p->from.fail_at = p->from.calls + 2;
		assert_int_equal(p->ops.step(p->out, FERRY_BULK_RUN, &e),
				 ends[i] == STOP ? -1 : 0);
		assert_int_equal(p->from.resets, 1);
		assert_int_equal(p->was_reset, 1);
		assert_non_null(strstr(e.msg, "its state is lost"));
		p->from.fail_at = 0;
		(void)!p->ops.step(p->in, FERRY_BULK_CANCEL, &e);
		assert_int_equal(p->was_reset, 2);
		pair_expect_back(p, "reset");
		pair_free(p);
	}
}

static void a_device_that_runs_is_not_reset_for_being_stubborn(void **state)
{
	const struct vfio_fake_config cfg = { .can = ALL, .blocks = 10 };
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_course(p, QUIESCE, &e), QUIESCE);
	p->from.fail_at = p->from.calls + 2;
	p->from.fails_on = true;
	assert_int_equal(p->ops.step(p->out, FERRY_BULK_CANCEL, &e), -1);
	assert_non_null(strstr(e.msg, "it runs"));
	assert_int_equal(p->from.resets, 0);
	assert_int_equal(p->from.state, VFIO_DEVICE_STATE_PRE_COPY);
	assert_true(vfio_fake_is_tidy(&p->from));

	/* The next migration does not begin in there. */
	p->from.fails_on = false;
	assert_int_equal(p->ops.step(p->out, FERRY_BULK_BEGIN, &e), -1);
	assert_non_null(strstr(e.msg, "PRE_COPY"));
	(void)!p->ops.step(p->out, FERRY_BULK_CANCEL, &e);
	(void)!p->ops.step(p->in, FERRY_BULK_CANCEL, &e);
	p->from.state = VFIO_DEVICE_STATE_RUNNING;
	pair_expect_back(p, "stubborn");
	pair_free(p);
}

static void a_silent_device_is_not_waited_for_for_ever(void **state)
{
	const struct vfio_fake_config cfg = { .can = ALL, .blocks = 10 };
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_course(p, SAVE, &e), SAVE);
	p->from.cfg.silent = p->to.cfg.silent = true;
	p->out->port.silent_ms = p->in->port.silent_ms = 20;
	assert_int_equal(pair_act(p, SAVE, &e), -1);
	assert_string_equal(e.msg, "read its state: the device has been "
			    "silent for 20 ms");
	p->from.cfg.silent = false;
	p->out->port.silent_ms = 30000;
	assert_int_equal(pair_act(p, SAVE, &e), 0);
	assert_int_equal(pair_act(p, FEED_ALL, &e), -1);
	assert_string_equal(e.msg, "write its state: the device has been "
			    "silent for 20 ms");

	/* And not at all when it is over. */
	ferry_bulk_raise(&p->in_handle);
	ferry_bulk_raise(&p->out_handle);
	assert_int_equal(pair_act(p, FEED_ALL, &e), -1);
	assert_int_equal(e.code, FERRY_E_CANCELLED);
	assert_int_equal(pair_act(p, SAVE, &e), -1);
	assert_int_equal(e.code, FERRY_E_CANCELLED);
	ferry_bulk_lower(&p->in_handle);
	ferry_bulk_lower(&p->out_handle);
	p->to.cfg.silent = false;
	p->out->port.silent_ms = p->in->port.silent_ms = 30000;
	pair_cancel(p, SAVE);
	pair_expect_back(p, "silent");
	pair_free(p);
}

static void a_device_that_is_to_stand_stops_iterating(void **state)
{
	const struct vfio_fake_config cfg = { .can = ALL, .blocks = 60 };
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_course(p, LOOK, &e), LOOK);
	ferry_bulk_raise(&p->out_handle);
	assert_int_equal(p->ops.iterate(p->out, &p->out_handle, &e), 0);
	assert_int_equal(p->pieces, 1);		/* the word */
	ferry_bulk_lower(&p->out_handle);
	pair_cancel(p, ITERATE);
	pair_expect_back(p, "parked");
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_moves_whatever_it_can),
		cmocka_unit_test(
		    a_device_of_a_paused_vm_moves_and_stays_as_it_was),
		cmocka_unit_test(what_is_needed_first_holds_the_switchover),
		cmocka_unit_test(
		    a_device_that_hands_out_nothing_before_holds_nothing),
		cmocka_unit_test(several_devices_stop_and_start_in_two_steps),
		cmocka_unit_test(a_migration_may_end_anywhere),
		cmocka_unit_test(each_call_may_fail),
		cmocka_unit_test(
		    a_device_that_cannot_come_back_is_reset_and_that_is_told),
		cmocka_unit_test(
		    a_device_that_runs_is_not_reset_for_being_stubborn),
		cmocka_unit_test(a_silent_device_is_not_waited_for_for_ever),
		cmocka_unit_test(a_device_that_is_to_stand_stops_iterating),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
