/* SPDX-License-Identifier: MIT */
/*
 * A target that says of bulk devices what it may not say, and devices whose
 * turn is not there yet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dev/bulk_out.h"

/* A device of so many buffers, all of them in save(). */
struct toy {
	_Atomic unsigned steps;
	unsigned	 buffers;
};

static int step(void *opaque, enum ferry_bulk_step which, struct ferry_err *e)
{
	struct toy *t = opaque;

	(void)e;
	atomic_fetch_or(&t->steps, 1u << which);
	return 0;
}

static int pending(void *opaque, struct ferry_bulk_pending *p,
		   struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	p->stop_bytes = 5;
	return 0;
}

static int iterate(void *opaque, struct ferry_bulk *out, struct ferry_err *e)
{
	(void)opaque;
	(void)out;
	(void)e;
	return 0;
}

static int save(void *opaque, struct ferry_bulk *out, struct ferry_err *e)
{
	const struct toy *t = opaque;

	for (unsigned i = 0; i < t->buffers; i++)
		if (ferry_bulk_write(out, "state", 5, 0, e))
			return -1;
	return 0;
}

static int none_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
		      struct ferry_err *e)
{
	(void)opaque;
	(void)in;
	(void)version;
	(void)e;
	return 0;
}

static const struct ferry_bulk_ops toy_ops = {
	.size = sizeof(toy_ops), .step = step, .pending = pending,
	.iterate = iterate, .save = save, .load_begin = none_begin,
};

struct help {
	struct toy	 toy[2];
	struct ferry_bulk_list list;
	struct ferry_bulk_out out;
	_Atomic unsigned sent, flags;
};

static int send_one(void *arg, const struct ferry_bulk_packet *p,
		    const void *data, struct ferry_err *e)
{
	struct help *h = arg;

	(void)data;
	(void)e;
	atomic_fetch_add(&h->sent, 1);
	atomic_fetch_or(&h->flags, p->flags);
	return 0;
}

static void changed(void *arg)
{
	(void)arg;
}

static void setup(struct help *h)
{
	static const struct ferry_bulk_out_ops ops = { send_one, changed };

	memset(h, 0, sizeof(*h));
	for (uint32_t i = 0; i < 2; i++) {
		struct ferry_bulk_dev d = {
			.name = "toy", .instance = i, .ops = toy_ops,
			.opaque = &h->toy[i],
		};

		h->toy[i].buffers = 10;
		assert_int_equal(ferry_bulk_list_add(&h->list, &d, NULL), 0);
	}
	assert_int_equal(ferry_bulk_out_init(&h->out, &h->list, &ops, h,
					     NULL), 0);
	assert_int_equal(ferry_bulk_out_start(&h->out, NULL), 0);
}

static void teardown(struct help *h)
{
	struct ferry_err e = { 0 };

	ferry_bulk_out_stop(&h->out, true, &e);
	assert_int_equal(e.code, 0);
	ferry_bulk_out_fini(&h->out);
	ferry_bulk_list_fini(&h->list);
}

static void stop_vm(struct help *h)
{
	ferry_bulk_out_park(&h->out);
	while (!ferry_bulk_out_is_parked(&h->out))
		usleep(100);
	assert_int_equal(ferry_bulk_out_stop_devices(&h->out, 1, NULL), 0);
}

static void a_target_that_says_what_it_may_not_is_refused(void **state)
{
	struct help h;
	struct ferry_err e = { 0 };

	(void)state;
	setup(&h);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 2, 1, &e), -1);
	assert_string_equal(e.msg, "the target speaks of bulk device 2, which "
			    "there is not");
	assert_int_equal(ferry_bulk_out_ready(&h.out, UINT32_MAX, &e), -1);
	assert_int_equal(ferry_bulk_out_loaded(&h.out, 2, 0, &e), -1);

	assert_int_equal(ferry_bulk_out_credit(&h.out, 1, 5, &e), 0);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 1, 5, &e), 0);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 1, 4, &e), -1);
	assert_string_equal(e.msg, "bulk device toy/1: the target takes back "
			    "what it has granted");

	assert_ptr_equal(ferry_bulk_out_not_ready(&h.out), &h.list.dev[0]);
	assert_int_equal(ferry_bulk_out_ready(&h.out, 0, &e), 0);
	assert_ptr_equal(ferry_bulk_out_not_ready(&h.out), &h.list.dev[1]);
	assert_int_equal(ferry_bulk_out_ready(&h.out, 0, &e), -1);
	assert_string_equal(e.msg, "bulk device toy/0: the target is ready "
			    "twice");
	assert_int_equal(ferry_bulk_out_ready(&h.out, 1, &e), 0);
	assert_null(ferry_bulk_out_not_ready(&h.out));

	assert_int_equal(ferry_bulk_out_loaded(&h.out, 0, 0, &e), -1);
	assert_string_equal(e.msg, "bulk device toy/0: the target has loaded "
			    "what was not saved");
	teardown(&h);
	assert_int_equal(h.toy[0].steps, 1u << FERRY_BULK_BEGIN |
			 1u << FERRY_BULK_CANCEL);
}

static void nothing_is_sent_beyond_what_was_granted(void **state)
{
	struct help h;

	(void)state;
	setup(&h);
	stop_vm(&h);
	ferry_bulk_out_save(&h.out);
	usleep(20000);
	assert_int_equal(h.sent, 0);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 0, 4, NULL), 0);
	while (h.sent < 4)
		usleep(100);
	usleep(20000);
	assert_int_equal(h.sent, 4);
	/* The last one needs room too. */
	assert_int_equal(ferry_bulk_out_credit(&h.out, 0, 10, NULL), 0);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 1, 11, NULL), 0);
	while (h.sent < 21)
		usleep(100);
	usleep(20000);
	assert_int_equal(h.sent, 21);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 0, 11, NULL), 0);
	while (h.sent < 22)
		usleep(100);
	assert_true(ferry_bulk_out_is_saved(&h.out));
	assert_int_equal(h.flags, FERRY_BULK_PACKET_STOPPED |
			 FERRY_BULK_PACKET_LAST);
	teardown(&h);
	/* They had STOP: they run again. */
	assert_true(h.toy[1].steps & 1u << FERRY_BULK_RUN);
}

static void one_after_the_other_where_that_is_asked_for(void **state)
{
	struct ferry_bulk_stats st = FERRY_BULK_STATS_INIT;
	struct help h;

	(void)state;
	setup(&h);
	h.out.serial = true;
	stop_vm(&h);
	ferry_bulk_out_save(&h.out);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 1, 100, NULL), 0);
	usleep(20000);
	assert_int_equal(h.sent, 0);
	assert_int_equal(ferry_bulk_out_credit(&h.out, 0, 100, NULL), 0);
	while (!ferry_bulk_out_is_saved(&h.out))
		usleep(100);
	assert_int_equal(ferry_bulk_out_stats(&h.out, 1, &st), 0);
	assert_int_equal(st.pause_bytes, 50);
	assert_int_equal(st.state, FERRY_BULK_STATE_SAVED);
	assert_int_equal(ferry_bulk_out_loaded(&h.out, 1, 77, NULL), 0);
	assert_int_equal(ferry_bulk_out_stats(&h.out, 1, &st), 0);
	assert_int_equal(st.load_ns, 77);
	assert_int_equal(st.longest, 1);
	ferry_bulk_out_end(&h.out);
	assert_true(h.toy[0].steps & 1u << FERRY_BULK_END);
	teardown(&h);
	assert_false(h.toy[0].steps & 1u << FERRY_BULK_CANCEL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_target_that_says_what_it_may_not_is_refused),
		cmocka_unit_test(nothing_is_sent_beyond_what_was_granted),
		cmocka_unit_test(one_after_the_other_where_that_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
