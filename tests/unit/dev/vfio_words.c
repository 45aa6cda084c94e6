/* SPDX-License-Identifier: MIT */
/*
 * VFIO devices: a source that says what it may not say, the log of what a
 * device writes, and what is no device at all.
 */
#include "vfio_pair.h"

/* ---- what a source may not say --------------------------------------------- */

static void put_word(struct pair *p, uint32_t kind, uint64_t value)
{
	const struct ferry_vfio_word w = { kind, value };
	uint8_t octets[FERRY_VFIO_WORD_WIRE];
	struct ferry_wr wr = ferry_wr_over(octets, sizeof(octets));

	ferry_vfio_word_encode(&wr, &w);
	pair_keep(p, octets, sizeof(octets), FERRY_BULK_CONFIG, NULL);
}

static void put_data(struct pair *p, size_t bytes)
{
	static const uint8_t zeroes[5000];

	pair_keep(p, zeroes, bytes, 0, NULL);
}

static void put_raw_word(struct pair *p, size_t bytes)
{
	static const uint8_t zeroes[64];

	pair_keep(p, zeroes, bytes, FERRY_BULK_CONFIG, NULL);
}

static void hostile_words_are_refused(void **state)
{
	/* In each: a letter is what comes next. */
	static const struct { const char *what, *says; } row[] = {
		{ "d", "before its first word" },
		{ "F", "out of turn" },
		{ "E", "out of turn" },
		{ "BB", "out of turn" },
		{ "BdBE", "out of turn" },
		{ "BE+", "behind the end" },
		{ "BEE", "behind the end" },
		{ "BdE", "octets of state have come" },
		{ "X", "no word 0" },
		{ "Y", "no word 4" },
		{ "2", "no word 1 with 2" },
		{ "B0", "malformed" },
		{ "B1", "malformed" },
		{ "B7", "malformed" },
		{ "R", "malformed" },
		{ "B", "ends early, after 0" },
		{ "Bd", "ends early, after 5000" },
		{ "", "ends early" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(row); i++) {
		const struct vfio_fake_config cfg = { .can = ALL, .blocks = 3 };
		struct pair *p = pair_new(&cfg);
		struct ferry_err e = { 0 };

		assert_int_equal(pair_act(p, LOAD_BEGIN, &e), 0);
		for (const char *c = row[i].what; *c; c++) {
			switch (*c) {
			case 'B': put_word(p, 1, 1); break;
			case 'F': put_word(p, 2, 0); break;
			case 'E': put_word(p, 3, 0); break;
			case 'X': put_word(p, 0, 0); break;
			case 'Y': put_word(p, 4, 0); break;
			case '2': put_word(p, 1, 2); break;
			case '0': put_raw_word(p, 0); break;
			case '1': put_raw_word(p, 15); break;
			case '7': put_raw_word(p, 17); break;
			case 'R':
				put_word(p, 1, 0);
				p->piece[p->pieces - 1].data[7] = 1;
				break;
			default: put_data(p, 5000);
			}
		}
		if (!pair_feed(p, &e) && !pair_act(p, LOAD_END, &e))
			fail_msg("%s: was taken", row[i].what);
		if (!strstr(e.msg, row[i].says))
			fail_msg("%s: %s", row[i].what, e.msg);
		assert_int_equal(e.code, FERRY_E_PROTO);
		(void)!p->ops.step(p->in, FERRY_BULK_CANCEL, &e);
		assert_int_equal(p->to.state, VFIO_DEVICE_STATE_RUNNING);
		pair_expect_back(p, row[i].what);
		pair_free(p);
	}
}

static void data_that_the_driver_refuses_leaves_the_device_usable(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 40; at++) {
		const struct vfio_fake_config cfg = { .can = ALL, .blocks = 9 };
		struct pair *p = pair_new(&cfg);
		struct ferry_err e = { 0 };
		struct piece *hit;

		assert_int_equal(pair_course(p, FEED_ALL, &e), FEED_ALL);
		hit = &p->piece[p->pieces - 2];
		assert_false(hit->flags & FERRY_BULK_CONFIG);
		hit->data[hit->bytes - 1 - at] ^= 0x40;
		assert_int_equal(pair_act(p, FEED_ALL, &e), 0);
		assert_int_equal(pair_act(p, LOAD_END, &e), -1);
		assert_string_equal(e.msg, "bring it to VFIO state STOP (it "
				    "is in ERROR): Invalid argument");
		pair_cancel(p, LOAD_END);
		assert_int_equal(p->from.resets, 0);
		pair_expect_back(p, "data");
		pair_free(p);
	}
}

/* ---- the log of writes ----------------------------------------------------- */

struct marks {
	uint64_t bytes, calls, low, high;
};

static void note_mark(void *arg, const void *addr, uint64_t bytes)
{
	struct marks *m = arg;
	uint64_t at = (uintptr_t)addr;

	m->low = !m->calls || at < m->low ? at : m->low;
	m->high = at + bytes > m->high ? at + bytes : m->high;
	m->bytes += bytes;
	m->calls++;
}

static void what_a_device_writes_is_told_once(void **state)
{
	const struct vfio_fake_config cfg = {
		.can = ALL, .blocks = 1, .logs_dma = true,
	};
	const struct ferry_vfio_range ranges[] = {
		{ 0x100000, 128 * 4096, (void *)0x7000000 },
		{ 0x180000, 64 * 4096, (void *)0x9000000 },
	};
	struct pair none = { 0 };
	struct ferry_vfio_config c = pair_config(&none);
	struct marks m = { 0 };
	struct vfio_fake f;
	struct ferry_vfio *v;
	struct ferry_err e = { 0 };

	(void)state;
	vfio_fake_init(&f, &cfg);
	c.ranges = ranges;
	c.range_count = 2;
	v = ferry_vfio_new(&c, &vfio_fake_sys, &f, &e);
	assert_non_null(v);
	assert_int_equal(ferry_vfio_features(v), FERRY_VFIO_P2P |
			 FERRY_VFIO_PRE_COPY | FERRY_VFIO_DMA_LOG);
	v->dma.mark = note_mark;
	v->dma.mark_arg = &m;
	assert_int_equal(ferry_vfio_dma_start(&v->dma, &e), 0);
	vfio_fake_dma(&f, 0x100000 + 63 * 4096, 3 * 4096);
	vfio_fake_dma(&f, 0x100000 + 127 * 4096 + 5, 1);
	vfio_fake_dma(&f, 0x180000, 1);
	assert_int_equal(ferry_vfio_dma_collect(&v->dma, &e), 0);
	assert_int_equal(m.bytes, 5 * 4096);
	assert_int_equal(m.calls, 3);
	assert_int_equal(m.low, 0x7000000 + 63 * 4096);
	assert_int_equal(m.high, 0x9000000 + 4096);
	assert_int_equal(ferry_vfio_dma_collect(&v->dma, &e), 0);
	assert_int_equal(m.calls, 3);

	/* A log that cannot be read is lost. */
	f.fail_at = f.calls + 2;
	assert_int_equal(ferry_vfio_dma_collect(&v->dma, &e), -1);
	assert_non_null(strstr(e.msg, "ask what it has written at 0x180000"));
	ferry_vfio_dma_stop(&v->dma);
	assert_false(f.logs);
	ferry_vfio_dma_stop(&v->dma);
	f.fail_at = f.calls + 1;
	assert_int_equal(ferry_vfio_dma_start(&v->dma, &e), -1);
	assert_int_equal(ferry_vfio_dma_start(&v->dma, &e), 0);
	ferry_vfio_free(v);
	assert_false(f.logs);
	vfio_fake_fini(&f);
}

/* ---- what is not taken ----------------------------------------------------- */

static const struct ferry_vfio_range good = { 4096, 8192, (void *)0x1000 };
static const struct ferry_vfio_range odd_iova = { 1, 4096, (void *)0x1000 };
static const struct ferry_vfio_range empty = { 4096, 0, (void *)0x1000 };
static const struct ferry_vfio_range nowhere = { 4096, 4096, NULL };
static const struct ferry_vfio_range wraps = {
	UINT64_MAX - 4095, 8192, (void *)0x1000 };

static void a_config_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		struct ferry_vfio_config c;
		const char *says;
	} row[] = {
		{ { .size = 8 }, "use its _INIT macro" },
		{ { .chunk_bytes = 4095 }, "chunk_bytes 4095" },
		{ { .chunk_bytes = FERRY_BULK_BUFFER_MAX + 1 }, "chunk_bytes" },
		{ { .silent_ms = UINT32_MAX }, "silent_ms" },
		{ { .page_bytes = 2048 }, "page_bytes 2048" },
		{ { .page_bytes = 12288 }, "a power of two" },
		{ { .page_bytes = UINT64_C(1) << 63 }, "a power of two" },
		{ { .range_count = 257, .ranges = &good }, "257 ranges" },
		{ { .range_count = 1, .ranges = &odd_iova }, "whole pages" },
		{ { .range_count = 1, .ranges = &empty }, "whole pages" },
		{ { .range_count = 1, .ranges = &nowhere }, "an address" },
		{ { .range_count = 1, .ranges = &wraps }, "whole pages" },
		{ { .range_count = 1, .ranges = &good, .page_bytes = 16384 },
		  "whole pages" },
	};
	const struct vfio_fake_config cfg = {
		.can = BASIC, .blocks = 1, .logs_dma = true,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(row); i++) {
		struct ferry_vfio_config c = row[i].c;
		struct ferry_err e = { 0 };
		struct vfio_fake f;

		if (!c.size)
			c.size = sizeof(c);
		c.fd = FAKE_FD;
		vfio_fake_init(&f, &cfg);
		if (ferry_vfio_new(&c, &vfio_fake_sys, &f, &e))
			fail_msg("row %zu: taken", i);
		if (!strstr(e.msg, row[i].says))
			fail_msg("row %zu: %s", i, e.msg);
		assert_int_equal(e.code, FERRY_E_INVALID);
		vfio_fake_fini(&f);
	}
}

static void a_device_that_cannot_is_refused(void **state)
{
	static const struct {
		struct vfio_fake_config dev;
		bool ranges;
		const char *says;
	} row[] = {
		{ { .can = 0 }, false, "cannot migrate it" },
		{ { .can = VFIO_MIGRATION_P2P }, false, "no STOP_COPY" },
		{ { .can = BASIC }, true, "keeps no log" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(row); i++) {
		struct pair none = { 0 };
		struct ferry_vfio_config c = pair_config(&none);
		struct ferry_err e = { 0 };
		struct vfio_fake f;

		vfio_fake_init(&f, &row[i].dev);
		c.ranges = row[i].ranges ? &good : NULL;
		c.range_count = row[i].ranges;
		assert_null(ferry_vfio_new(&c, &vfio_fake_sys, &f, &e));
		if (!strstr(e.msg, row[i].says))
			fail_msg("row %zu: %s", i, e.msg);
		assert_int_equal(e.code, FERRY_E_UNSUPPORTED);
		vfio_fake_fini(&f);
	}
}

static void a_driver_that_gives_no_descriptor_is_named(void **state)
{
	const struct vfio_fake_config cfg = {
		.can = ALL, .blocks = 3, .no_data_fd = true,
	};
	struct pair *p = pair_new(&cfg);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(pair_act(p, BEGIN, &e), -1);
	assert_string_equal(e.msg, "its driver gave no descriptor with VFIO "
			    "state PRE_COPY");
	assert_int_equal(pair_act(p, LOAD_BEGIN, &e), -1);
	pair_cancel(p, LOAD_BEGIN);
	p->from.cfg.no_data_fd = p->to.cfg.no_data_fd = false;
	pair_expect_back(p, "no descriptor");
	pair_free(p);
}

/* Which is no VFIO device; the rest of its calls have no hardware here. */
static void the_kernel_is_asked(void **state)
{
	struct ferry_vfio_config c = FERRY_VFIO_CONFIG_INIT;
	struct ferry_err e = { 0 };

	(void)state;
	c.name = "nic";
	c.fd = 0;
	assert_null(ferry_vfio_new(&c, NULL, NULL, &e));
	assert_int_equal(e.code, FERRY_E_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_words_are_refused),
		cmocka_unit_test(
		    data_that_the_driver_refuses_leaves_the_device_usable),
		cmocka_unit_test(what_a_device_writes_is_told_once),
		cmocka_unit_test(a_config_that_makes_no_sense_is_refused),
		cmocka_unit_test(a_device_that_cannot_is_refused),
		cmocka_unit_test(a_driver_that_gives_no_descriptor_is_named),
		cmocka_unit_test(the_kernel_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
