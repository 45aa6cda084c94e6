/* SPDX-License-Identifier: MIT */
/*
 * The received map against a model of one octet per page.
 */
#include "help.h"

#define BLOCKS	4

static const uint64_t sizes[BLOCKS] = { 200, 64, 1, 129 };

struct model {
	struct ferry_mem mem;
	struct ferry_map map;
	bool	here[BLOCKS][200], zero[BLOCKS][200];
};

static void model_init(struct model *m)
{
	*m = (struct model){ 0 };
	m->mem.block = calloc(BLOCKS, sizeof(*m->mem.block));
	assert_non_null(m->mem.block);
	m->mem.blocks = BLOCKS;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		m->mem.block[i].pages = sizes[i];
		m->mem.block[i].index = i;
	}
	assert_ok(ferry_map_init(&m->map, &m->mem, NULL));
}

static void model_fini(struct model *m)
{
	ferry_map_fini(&m->map);
	free(m->mem.block);
}

static bool is_missing(const struct model *m, uint32_t i, uint64_t p)
{
	return !m->here[i][p] && !m->zero[i][p];
}

static void check_values(struct model *m)
{
	uint64_t missing = 0;

	for (uint32_t i = 0; i < BLOCKS; i++)
		for (uint64_t p = 0; p < sizes[i]; p++) {
			assert_int_equal(ferry_map_is_here(&m->map, i, p),
					 m->here[i][p]);
			assert_int_equal(ferry_map_is_zero(&m->map, i, p),
					 m->zero[i][p]);
			missing += is_missing(m, i, p);
		}
	assert_int_equal(ferry_map_missing(&m->map), missing);
}

/* From every page on, the next missing one, and how far its run goes. */
static void check_next(struct model *m)
{
	uint32_t want_block = BLOCKS;
	uint64_t want_page = 0, want_end = 0;

	for (uint32_t i = BLOCKS; i--;)
		for (uint64_t p = sizes[i] + 1; p--;) {
			uint32_t block = i;
			uint64_t page = p;
			bool found = ferry_map_next_missing(&m->map, &block,
							    &page);

			if (p < sizes[i] && is_missing(m, i, p)) {
				if (want_block != i || want_page != p + 1)
					want_end = p + 1;
				want_block = i;
				want_page = p;
			}
			assert_int_equal(found, want_block < BLOCKS);
			if (!found)
				continue;
			assert_int_equal(block, want_block);
			assert_int_equal(page, want_page);
			assert_int_equal(ferry_map_missing_end(&m->map, block,
							       page), want_end);
		}
}

static void check_runs(struct model *m)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		for (uint64_t p = 0; p < sizes[i]; p += 3)
			for (uint64_t n = 1; n <= sizes[i] - p; n += 17) {
				uint64_t want = 1;
				bool here;

				while (want < n && m->here[i][p + want] ==
						   m->here[i][p])
					want++;
				assert_int_equal(ferry_map_run(&m->map, i, p, n,
							       &here), want);
				assert_int_equal(here, m->here[i][p]);
			}
}

static uint32_t dice(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void change(struct model *m, uint32_t *seed)
{
	uint32_t i = dice(seed) % BLOCKS;
	uint64_t first = dice(seed) % sizes[i];
	uint64_t n = 1 + dice(seed) % (sizes[i] - first);

	switch (dice(seed) % 3) {
	case 0:
		ferry_map_set_here(&m->map, i, first, n);
		memset(m->here[i] + first, true, n);
		break;
	case 1:
		ferry_map_set_zero(&m->map, i, first, n);
		memset(m->zero[i] + first, true, n);
		break;
	case 2:
		ferry_map_set_missing(&m->map, i, first, n);
		memset(m->here[i] + first, false, n);
		memset(m->zero[i] + first, false, n);
		break;
	}
}

static void at_first_every_page_is_missing(void **state)
{
	struct model m;

	(void)state;
	model_init(&m);
	check_values(&m);
	assert_int_equal(ferry_map_missing(&m.map), 200 + 64 + 1 + 129);
	model_fini(&m);
}

static void the_map_is_as_the_model_says(void **state)
{
	uint32_t seed = 1;
	struct model m;

	(void)state;
	model_init(&m);
	for (unsigned step = 0; step < 300; step++) {
		change(&m, &seed);
		check_values(&m);
		if (step % 10 == 0) {
			check_next(&m);
			check_runs(&m);
		}
	}
	model_fini(&m);
}

static void when_all_is_here_nothing_is_missing(void **state)
{
	struct model m;

	(void)state;
	model_init(&m);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		ferry_map_set_here(&m.map, i, 0, sizes[i]);
		memset(m.here[i], true, sizes[i]);
	}
	check_next(&m);
	assert_int_equal(ferry_map_missing(&m.map), 0);
	ferry_map_set_missing(&m.map, 2, 0, 1);
	m.here[2][0] = false;
	check_next(&m);
	model_fini(&m);
}

static void a_missing_page_was_not_asked_for(void **state)
{
	struct model m;

	(void)state;
	model_init(&m);
	ferry_bitmap_set(&m.map.asked[0], 7);
	ferry_map_set_missing(&m.map, 0, 7, 1);
	assert_false(ferry_bitmap_test(&m.map.asked[0], 7));
	model_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_first_every_page_is_missing),
		cmocka_unit_test(the_map_is_as_the_model_says),
		cmocka_unit_test(when_all_is_here_nothing_is_missing),
		cmocka_unit_test(a_missing_page_was_not_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
