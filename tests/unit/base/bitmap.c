/* SPDX-License-Identifier: MIT */
/* The bitmap, against a model of one bool for each bit. */
#include "help.h"

#include "base/bitmap.h"
#include "base/thread.h"

#define BITS	200	/* three words and a piece */

struct model {
	bool bit[BITS];
};

static uint64_t model_range(struct model *m, uint64_t first, uint64_t n,
			    bool value)
{
	uint64_t changed = 0;

	for (uint64_t i = first; i < first + n; i++) {
		changed += m->bit[i] != value;
		m->bit[i] = value;
	}
	return changed;
}

static uint64_t model_next(const struct model *m, uint64_t from, bool value)
{
	while (from < BITS && m->bit[from] != value)
		from++;
	return from < BITS ? from : BITS;
}

static void expect_same(const struct ferry_bitmap *b, const struct model *m)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < BITS; i++) {
		assert_int_equal(ferry_bitmap_test(b, i), m->bit[i]);
		count += m->bit[i];
	}
	assert_int_equal(ferry_bitmap_count(b), count);
	/* Nothing past the end. */
	assert_int_equal(b->word[BITS / 64] >> (BITS % 64), 0);
}

static void a_new_bitmap_is_clear(void **state)
{
	struct ferry_bitmap b;
	struct model m = { 0 };

	(void)state;
	assert_ok(ferry_bitmap_init(&b, BITS, NULL));
	expect_same(&b, &m);
	assert_int_equal(ferry_bitmap_next_set(&b, 0), BITS);
	assert_int_equal(ferry_bitmap_next_clear(&b, 0), 0);
	ferry_bitmap_fini(&b);
	ferry_bitmap_fini(&b);	/* harmless */
}

static void single_bits_say_what_they_were(void **state)
{
	static const uint64_t at[] = { 0, 1, 63, 64, 127, 128, BITS - 1 };
	struct ferry_bitmap b;

	(void)state;
	assert_ok(ferry_bitmap_init(&b, BITS, NULL));
	for (size_t i = 0; i < FERRY_LEN(at); i++) {
		assert_false(ferry_bitmap_set(&b, at[i]));
		assert_true(ferry_bitmap_test(&b, at[i]));
		assert_true(ferry_bitmap_set(&b, at[i]));
		assert_int_equal(ferry_bitmap_count(&b), 1);
		assert_true(ferry_bitmap_clear(&b, at[i]));
		assert_false(ferry_bitmap_clear(&b, at[i]));
		assert_int_equal(ferry_bitmap_count(&b), 0);
	}
	ferry_bitmap_fini(&b);
}

/* Every range there is, set in an empty bitmap and cleared in a full one. */
static void every_range_changes_its_bits_and_no_other(void **state)
{
	struct ferry_bitmap b;

	(void)state;
	assert_ok(ferry_bitmap_init(&b, BITS, NULL));
	for (uint64_t first = 0; first <= BITS; first++) {
		for (uint64_t n = 0; n <= BITS - first; n++) {
			assert_int_equal(ferry_bitmap_set_range(&b, first, n),
					 n);
			assert_int_equal(ferry_bitmap_count(&b), n);
			assert_int_equal(ferry_bitmap_next_set(&b, 0),
					 n ? first : BITS);
			assert_int_equal(ferry_bitmap_next_clear(&b, first),
					 first + n);
			assert_int_equal(ferry_bitmap_clear_range(&b, first,
								  n), n);
			assert_int_equal(ferry_bitmap_count(&b), 0);
		}
	}
	ferry_bitmap_fini(&b);
}

static void overlapping_ranges_count_only_what_changed(void **state)
{
	struct ferry_bitmap b;
	struct model m = { 0 };
	uint32_t seed = 1;

	(void)state;
	assert_ok(ferry_bitmap_init(&b, BITS, NULL));
	for (int round = 0; round < 500; round++) {
		uint64_t first, n;
		bool value;

		seed = seed * 1664525 + 1013904223;
		first = (seed >> 8) % BITS;
		n = (seed >> 16) % (BITS - first + 1);
		value = seed >> 31;
		assert_int_equal(value ? ferry_bitmap_set_range(&b, first, n) :
				 ferry_bitmap_clear_range(&b, first, n),
				 model_range(&m, first, n, value));
		expect_same(&b, &m);
		for (uint64_t i = 0; i <= BITS; i++) {
			assert_int_equal(ferry_bitmap_next_set(&b, i),
					 model_next(&m, i, true));
			assert_int_equal(ferry_bitmap_next_clear(&b, i),
					 model_next(&m, i, false));
		}
	}
	ferry_bitmap_fini(&b);
}

static void sizes_at_the_border_of_a_word(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 63, 64, 65, 128 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sizes); i++) {
		uint64_t n = sizes[i];
		struct ferry_bitmap b;

		assert_ok(ferry_bitmap_init(&b, n, NULL));
		assert_int_equal(ferry_bitmap_set_range(&b, 0, n), n);
		assert_int_equal(ferry_bitmap_count(&b), n);
		assert_int_equal(ferry_bitmap_next_clear(&b, 0), n);
		assert_int_equal(ferry_bitmap_next_set(&b, n), n);
		assert_int_equal(ferry_bitmap_next_set(&b, n + 100), n);
		ferry_bitmap_fini(&b);
	}
}

/* Sanitizers would end the program where malloc returns NULL. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void a_bitmap_too_large_is_an_error(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_bitmap b;

	(void)state;
	assert_int_equal(ferry_bitmap_init(&b, 1ull << 62, &e), -1);
	assert_int_equal(e.code, FERRY_E_NOMEM);
}

/* ---- threads ----------------------------------------------------------- */

#define SHARED_BITS	10007

struct setter {
	struct ferry_thread thread;
	struct ferry_bitmap *b;
	uint64_t step;
	uint64_t changed;
};

static void set_everything(void *arg)
{
	struct setter *s = arg;

	for (uint64_t i = 0; i < SHARED_BITS; i += s->step) {
		uint64_t left = SHARED_BITS - i;

		s->changed += ferry_bitmap_set_range(s->b, i, left < s->step ?
						     left : s->step);
	}
}

static void each_bit_is_changed_by_one_thread_only(void **state)
{
	static const uint64_t steps[4] = { 1, 7, 100, SHARED_BITS };
	struct setter s[4] = { 0 };
	struct ferry_bitmap b;
	uint64_t changed = 0;

	(void)state;
	assert_ok(ferry_bitmap_init(&b, SHARED_BITS, NULL));
	for (size_t i = 0; i < FERRY_LEN(s); i++) {
		s[i].b = &b;
		s[i].step = steps[i];
		assert_ok(ferry_thread_start(&s[i].thread, "set",
					     set_everything, &s[i], NULL));
	}
	for (size_t i = 0; i < FERRY_LEN(s); i++) {
		ferry_thread_join(&s[i].thread);
		changed += s[i].changed;
	}
	assert_int_equal(changed, SHARED_BITS);
	assert_int_equal(ferry_bitmap_count(&b), SHARED_BITS);
	ferry_bitmap_fini(&b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_bitmap_is_clear),
		cmocka_unit_test(single_bits_say_what_they_were),
		cmocka_unit_test(every_range_changes_its_bits_and_no_other),
		cmocka_unit_test(overlapping_ranges_count_only_what_changed),
		cmocka_unit_test(sizes_at_the_border_of_a_word),
		cmocka_unit_test(a_bitmap_too_large_is_an_error),
		cmocka_unit_test(each_bit_is_changed_by_one_thread_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
