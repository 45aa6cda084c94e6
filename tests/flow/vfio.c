/* SPDX-License-Identifier: MIT */
/*
 * VFIO devices in whole migrations: four of them at each end, which change and
 * write memory while the VM runs, are made up, and take nothing that
 * <linux/vfio.h> does not allow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dev/vfio_abi.h"
#include "mig/vfio.h"
#include "mig/vm.h"
#include "rig.h"
#include "vfio_fake.h"

#define DEVICES	4u
#define BASE	0x40000000u	/* of what they call memory */
#define BLOCKS	48u

#define RAM	.block = { { "ram", 256 << 10, 4096, true } }, .blocks = 1, \
		.writer = true

/* What each device can, at both ends. */
static const uint64_t mixed[DEVICES] = {
	VFIO_MIGRATION_STOP_COPY,
	VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
	VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
	VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
		VFIO_MIGRATION_PRE_COPY,
};

struct world {
	struct vfio_fake src[DEVICES], dst[DEVICES];
	struct ferry_vfio *v[2 * DEVICES];
	unsigned	 made;
	unsigned	 wrote;		/* pages that devices wrote */
	unsigned	 moments, cancel_at;
	bool		 alike;		/* all devices can all */
};

static void add(struct world *w, struct rig_side *s, unsigned i)
{
	struct vfio_fake *f = s->is_target ? &w->dst[i] : &w->src[i];
	struct ferry_vfio_config c = FERRY_VFIO_CONFIG_INIT;
	struct ferry_vfio_range range = { BASE, s->bytes[0], s->mem[0] };
	struct ferry_err e = { 0 };
	struct ferry_vfio *v;

	c.name = "nic";
	c.instance = i;
	c.fd = FAKE_FD;
	c.chunk_bytes = 4096;
	c.ranges = &range;
	c.range_count = 1;
	v = ferry_vfio_new(&c, &vfio_fake_sys, f, &e);
	if (!v || ferry_vfio_join(v, s->vm, &c, &e))
		fail_msg("%s", e.msg);
	w->v[w->made++] = v;
}

static void describe(struct rig_side *s)
{
	struct world *w = s->rig->cfg.hook_arg;

	for (unsigned i = 0; i < DEVICES; i++)
		add(w, s, i);
}

/* Each device changes, and writes a page of its own that nobody else tells. */
static void work(struct rig *r, uint64_t turn)
{
	struct world *w = r->cfg.hook_arg;

	for (unsigned i = 0; i < DEVICES; i++) {
		uint64_t page = 32 + (turn * DEVICES + i) % 32;

		for (unsigned n = 0; n < 7; n++)
			vfio_fake_touch(&w->src[i], turn * 3 + n * 5ull);
		if (!vfio_fake_dma(&w->src[i], BASE + page * RIG_PAGE,
				   RIG_PAGE))
			continue;
		memset(r->src.mem[0] + page * RIG_PAGE, (int)(turn + i + 1),
		       RIG_PAGE);
		w->wrote++;
	}
}

/* vCPUs stand, and devices do not yet. */
static void on_moment(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct world *w = r->cfg.hook_arg;

	if (m == RIG_STOP) {
		work(r, 1000);
		r->sum = rig_side_sum(&r->src);
	}
	if ((m == RIG_SOURCE_EVENT && arg != FERRY_STATE_CANCELLING) ||
	    m == RIG_STOP || m == RIG_SAVE)
		if (++w->moments == w->cancel_at)
			(void)!ferry_source_cancel(r->source, NULL);
}

static void on_pass(struct rig *r, uint64_t number)
{
	work(r, number);
	on_moment(r, RIG_SOURCE_EVENT, FERRY_STATE_ACTIVE);
}

static void world_init(struct world *w, struct rig_config *cfg)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		const struct vfio_fake_config c = {
			.can = w->alike ? mixed[DEVICES - 1] : mixed[i],
			.tells_size = i % 2, .logs_dma = true,
			.blocks = BLOCKS, .initial = i, .at_once = 900,
			.eintr = 7, .eagain = 11,
		};

		vfio_fake_init(&w->src[i], &c);
		vfio_fake_init(&w->dst[i], &c);
		w->src[i].vm_runs = true;
	}
	vfio_fake_join(w->src, DEVICES);
	vfio_fake_join(w->dst, DEVICES);
	cfg->hook_arg = w;
	cfg->describe = describe;
	cfg->pass = on_pass;
	cfg->hook = on_moment;
}

/* Behind rig_fini(). */
static void world_fini(struct world *w, const char *what)
{
	for (unsigned i = 0; i < w->made; i++)
		ferry_vfio_free(w->v[i]);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct vfio_fake *both[] = { &w->src[i], &w->dst[i] };

		for (unsigned k = 0; k < 2; k++) {
			if (both[k]->odd[0] || !vfio_fake_is_tidy(both[k]) ||
			    both[k]->logs)
				fail_msg("%s: device %u at %s: %s", what, i,
					 k ? "target" : "source",
					 both[k]->odd);
			vfio_fake_fini(both[k]);
		}
	}
}

static void expect_states(struct world *w, uint32_t src, uint32_t dst,
			  const char *what)
{
	for (unsigned i = 0; i < DEVICES; i++)
		if (w->src[i].state != src || w->dst[i].state != dst)
			fail_msg("%s: device %u: states %u and %u", what, i,
				 (unsigned)w->src[i].state,
				 (unsigned)w->dst[i].state);
}

static void expect_moved(struct rig *r, struct world *w, const char *what)
{
	rig_expect_moved(r, what);
	expect_states(w, VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
		      what);
	for (unsigned i = 0; i < DEVICES; i++)
		if (!vfio_fake_same(&w->src[i], &w->dst[i]))
			fail_msg("%s: device %u differs", what, i);
}

/* As it was, at both ends. */
static void expect_stayed(struct rig *r, struct world *w, const char *what,
			  const char *reason)
{
	rig_expect_stayed(r, what, reason);
	expect_states(w, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING,
		      what);
}

static const struct way {
	const char *passes, *data, *device, *postcopy;
} ways[] = {
	{ "1000", "1", "0", "off" }, { "1", "2", "3", "on" },
	{ "0", "1", "1", "on" }, { "1000", "3", "0", "off" },
};

#define WAY(w) .param = { { "x-ferry-precopy-passes", (w)->passes },	\
			  { "multifd-channels", (w)->data },		\
			  { "x-ferry-device-channels", (w)->device },	\
			  { "postcopy-ram", (w)->postcopy } }

static void devices_and_what_they_write_move(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(ways); i++)
		for (unsigned alike = 0; alike < 2; alike++) {
			struct rig_config cfg = { RAM, WAY(&ways[i]) };
			struct world w = { .alike = alike };
			struct rig r;

			world_init(&w, &cfg);
			rig_run(&r, &cfg);
			expect_moved(&r, &w, ways[i].passes);
			assert_true(w.wrote >= DEVICES);
			assert_true(w.src[0].reports > 0);
			assert_int_equal(w.src[0].resets + w.dst[0].resets, 0);
			rig_fini(&r);
			world_fini(&w, ways[i].passes);
		}
}

/* false: it was over before. */
static bool one_cancel(const struct way *way, unsigned at)
{
	struct rig_config cfg = { RAM, WAY(way) };
	struct world w = { .cancel_at = at, .alike = at % 2 };
	bool stayed;
	char what[60];
	struct rig r;

	snprintf(what, sizeof(what), "%s passes, moment %u", way->passes, at);
	world_init(&w, &cfg);
	rig_run(&r, &cfg);
	stayed = r.source_rc && r.source_stats.where == FERRY_WHERE_SOURCE;
	if (stayed)
		expect_stayed(&r, &w, what, "cancelled");
	else
		expect_moved(&r, &w, what);
	rig_fini(&r);
	world_fini(&w, what);
	return stayed;
}

static void it_may_be_cancelled_at_any_moment(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(ways); i++) {
		unsigned at = 1;

		while (one_cancel(&ways[i], at))
			at++;
		assert_true(at > 3);
	}
}

/* One call of one device fails: either it did no harm or the VM stays, and
 * all devices run.  false: there were not so many calls. */
static bool one_failure(bool at_target, unsigned call, enum fake_failure how)
{
	const struct way *way = &ways[call % FERRY_LEN(ways)];
	struct rig_config cfg = { RAM, WAY(way) };
	struct world w = { .alike = call / 4 % 2 };
	struct vfio_fake *f = at_target ? &w.dst[3] : &w.src[3];
	char what[80];
	bool failed;
	struct rig r;

	snprintf(what, sizeof(what), "call %u of the %s, way %d", call,
		 at_target ? "target" : "source", (int)how);
	world_init(&w, &cfg);
	rig_init(&r, &cfg);
	f->calls = 0;
	f->fail_at = call;
	f->failure = how;
	rig_start(&r);
	rig_finish(&r);
	failed = f->failed;
	if (r.source_rc && r.source_stats.where == FERRY_WHERE_SOURCE)
		expect_stayed(&r, &w, what, "device nic/3: ");
	else
		rig_expect_moved(&r, what);
	rig_fini(&r);
	world_fini(&w, what);
	return failed;
}

/* In each run some: unit tests have them all, of one device. */
static void a_call_that_fails_harms_nobody(void **state)
{
	(void)state;
	for (unsigned target = 0; target < 2; target++)
		for (unsigned how = 0; how < 3; how++)
			for (unsigned call = 1 + how;
			     one_failure(target, call, how); )
				call += 1 + call / 4;
}

/* An octet is another one on its way: header, word, data. */
static void state_that_is_not_what_it_was_is_refused(void **state)
{
	static const unsigned at[] = { 48, 60, 75, 79, 87, 120, 1100, 9000 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(at); i++) {
		struct rig_config cfg = {
			RAM, WAY(&ways[0]), .hasty = true, .has_fault = true,
			.fault = { .channel = 2, .fault = FERRY_FAULT_NONE },
		};
		struct world w = { .alike = true };
		char what[40];
		struct rig r;

		cfg.param[2][1] = "1";
		cfg.fault.fault.corrupt_write_at = at[i];
		snprintf(what, sizeof(what), "octet %u", at[i]);
		world_init(&w, &cfg);
		rig_run(&r, &cfg);
		expect_stayed(&r, &w, what, "");
		rig_fini(&r);
		world_fini(&w, what);
	}
}

static void try_to_add(struct rig_side *s)
{
	const struct vfio_fake_config can = {
		.can = VFIO_MIGRATION_STOP_COPY, .blocks = 1, .logs_dma = true,
	};
	struct ferry_vfio_range range = { 0, 4096, s->mem[0] };
	struct ferry_vfio_config c = FERRY_VFIO_CONFIG_INIT;
	struct ferry_err e = { 0 };
	struct ferry_vfio *v;
	struct vfio_fake f;

	vfio_fake_init(&f, &can);
	c.ranges = &range;
	c.range_count = 1;
	v = ferry_vfio_new(&c, &vfio_fake_sys, &f, &e);
	assert_non_null(v);
	assert_int_equal(ferry_vfio_join(v, s->vm, &c, &e), -1);
	assert_non_null(strstr(e.msg, "bulk device name"));
	while (!ferry_vm_track_process(s->vm, &e))
		;
	c.name = "nic";
	assert_int_equal(ferry_vfio_join(v, s->vm, &c, &e), -1);
	assert_non_null(strstr(e.msg, "trackers"));
	ferry_vfio_free(v);
	assert_null(ferry_vfio_add(s->vm, &c, &e));
	assert_non_null(strstr(e.msg, "VFIO device nic: its kernel driver"));
	vfio_fake_fini(&f);
}

/* Which the VM of the rig survives: it has no such device. */
static void a_device_that_cannot_be_added_leaves_nothing_behind(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 64 << 10, 4096, true } }, .blocks = 1,
		.describe = try_to_add,
	};
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	assert_int_equal(r.src.vm->bulk.devs, 0);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_and_what_they_write_move),
		cmocka_unit_test(it_may_be_cancelled_at_any_moment),
		cmocka_unit_test(a_call_that_fails_harms_nobody),
		cmocka_unit_test(state_that_is_not_what_it_was_is_refused),
		cmocka_unit_test(
		    a_device_that_cannot_be_added_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
