/* SPDX-License-Identifier: MIT */
/*
 * Parameters: the table makes sense, every row can be set and read, and
 * nonsense is refused with what would be allowed.
 */
#include "help.h"

#include "base/thread.h"
#include "mig/params.h"

static const struct ferry_param_info *row_of(const char *name)
{
	const struct ferry_param_info *t;

	for (size_t i = 0; (t = ferry_param_info(i)); i++)
		if (!strcmp(t->name, name))
			return t;
	fail_msg("no row %s", name);
	return NULL;
}

static uint64_t get(struct ferry_params *p, const char *name)
{
	uint64_t v = 0;

	assert_ok(ferry_params_get(p, name, &v, NULL));
	return v;
}

static unsigned choices_of(const struct ferry_param_info *t)
{
	unsigned n = 0;

	while (t->choices[n])
		n++;
	return n;
}

/* ---- the table ---------------------------------------------------------- */

static void every_row_makes_sense(void **state)
{
	const struct ferry_param_info *t;

	(void)state;
	for (size_t i = 0; (t = ferry_param_info(i)); i++) {
		assert_int_equal(t->size, sizeof(*t));
		assert_non_null(t->name);
		assert_non_null(t->unit);
		assert_true(t->help && t->help[strlen(t->help) - 1] == '.');
		if (t->min > t->max || t->def < t->min || t->def > t->max)
			fail_msg("%s: default out of range", t->name);
		assert_int_equal(t->choices != NULL,
				 t->type == FERRY_PARAM_CHOICE);
		if (t->choices)
			assert_int_equal(choices_of(t), t->max + 1);
		if (t->type == FERRY_PARAM_BOOL)
			assert_true(t->min == 0 && t->max == 1);
		/* QMP: a capability is on or off. */
		if (t->is_capability)
			assert_int_equal(t->type, FERRY_PARAM_BOOL);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(t->name,
						ferry_param_info(k)->name);
	}
	assert_null(ferry_param_info(FERRY_PARAMS));
	assert_null(ferry_param_info(SIZE_MAX));
}

/* Texts stand behind all numbers. */
static const struct ferry_param_info *number_row(size_t i)
{
	return i < FERRY_P_TLS_CREDS ? ferry_param_info(i) : NULL;
}

/* By default; one depends on the machine. */
static uint64_t def_of(size_t i)
{
	return i == FERRY_P_CHANNELS ?
	       ferry_params_channels(ferry_thread_cpus()) :
	       ferry_param_info(i)->def;
}

static void channels_depend_on_the_cpus(void **state)
{
	static const struct { unsigned cpus, channels; } rows[] = {
		{ 0, 1 }, { 1, 1 }, { 2, 1 }, { 7, 1 }, { 8, 2 }, { 16, 4 },
		{ 35, 8 }, { 512, 8 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		assert_int_equal(ferry_params_channels(rows[i].cpus),
				 rows[i].channels);
	assert_true(ferry_thread_cpus() >= 1);
}

static void a_new_set_has_every_default(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++)
		assert_int_equal(get(p, t->name), def_of(i));
	assert_int_equal(get(p, "downtime-limit"), 300);
	assert_int_equal(get(p, "postcopy-ram"), 1);
	ferry_params_free(p);
	ferry_params_free(NULL);
}

static void every_row_takes_all_of_its_range_and_no_more(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++) {
		struct ferry_err e = { 0 };

		assert_ok(ferry_params_set_uint(p, t->name, t->max, &e));
		assert_int_equal(get(p, t->name), t->max);
		assert_ok(ferry_params_set_uint(p, t->name, t->min, &e));
		assert_int_equal(get(p, t->name), t->min);
		assert_int_equal(ferry_params_set_uint(p, t->name, t->max + 1,
						       &e), -1);
		assert_says(&e, FERRY_E_INVALID, t->name);
		assert_says(&e, FERRY_E_INVALID, "is outside");
		if (t->min) {
			assert_int_equal(ferry_params_set_uint(p, t->name,
							t->min - 1, &e), -1);
			assert_says(&e, FERRY_E_INVALID, "is outside");
		}
		assert_int_equal(get(p, t->name), t->min);
	}
	ferry_params_free(p);
}

static void every_row_can_be_set_by_text(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++) {
		struct ferry_err e = { 0 };
		char text[32];

		if (t->type == FERRY_PARAM_BOOL)
			snprintf(text, sizeof(text), t->def ? "off" : "on");
		else if (t->type == FERRY_PARAM_UINT)
			snprintf(text, sizeof(text), "%llu",
				 (unsigned long long)t->max);
		else
			snprintf(text, sizeof(text), "%s",
				 t->choices[t->max]);
		if (ferry_params_set(p, t->name, text, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(get(p, t->name), t->type == FERRY_PARAM_BOOL ?
				 !t->def : t->max);
	}
	ferry_params_free(p);
}

static void every_choice_is_its_index(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++) {
		if (!t->choices)
			continue;
		for (unsigned c = 0; t->choices[c]; c++) {
			assert_ok(ferry_params_set(p, t->name, t->choices[c],
						   NULL));
			assert_int_equal(get(p, t->name), c);
		}
	}
	/* The names that the code switches on. */
	assert_string_equal(row_of("x-ferry-peer")->choices[FERRY_PEER_QEMU],
			    "qemu");
	assert_string_equal(row_of("x-ferry-push-order")->
			    choices[FERRY_PUSH_HOT], "hot");
	ferry_params_free(p);
}

/* ---- text --------------------------------------------------------------- */

static const struct { const char *text; uint64_t value; } numbers[] = {
	{ "0", 0 },
	{ "007", 7 },
	{ "1k", 1024 },
	{ "1K", 1024 },
	{ "3M", 3ull << 20 },
	{ "2g", 2ull << 30 },
	{ "1T", 1ull << 40 },
	{ "9223372036854775807", INT64_MAX },
	{ "8388607T", 8388607ull << 40 },
};

static void numbers_may_have_a_suffix(void **state)
{
	struct ferry_params *p = ferry_params_new();

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(numbers); i++) {
		struct ferry_err e = { 0 };

		if (ferry_params_set(p, "max-bandwidth", numbers[i].text, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(get(p, "max-bandwidth"), numbers[i].value);
	}
	ferry_params_free(p);
}

static const struct { const char *name, *text, *says; } bad[] = {
	{ "max-bandwidth", "", "is not a number" },
	{ "max-bandwidth", "fast", "is not a number" },
	{ "max-bandwidth", "-1", "is not a number" },
	{ "max-bandwidth", "+1", "is not a number" },
	{ "max-bandwidth", " 1", "is not a number" },
	{ "max-bandwidth", "1 ", "is not a number" },
	{ "max-bandwidth", "0x10", "is not a number" },
	{ "max-bandwidth", "1.5g", "is not a number" },
	{ "max-bandwidth", "1kk", "is not a number" },
	{ "max-bandwidth", "1x", "is not a number" },
	{ "max-bandwidth", "k", "is not a number" },
	{ "max-bandwidth", "1MiB", "is not a number" },
	{ "max-bandwidth", "18446744073709551616", "is not a number" },
	{ "max-bandwidth", "16777216T", "is not a number" },
	{ "max-bandwidth", "18014398509481984k", "is not a number" },
	{ "max-bandwidth", "16777215T", "is outside 0 to "
		"9223372036854775807 bytes/s" },
	{ "downtime-limit", "2000001", "is outside 0 to 2000000 ms" },
	{ "multifd-channels", "0", "is outside 1 to 64 channels" },
	{ "multifd-channels", "65", "is outside" },
	{ "cpu-throttle-initial", "100", "is outside 1 to 99 percent" },
	{ "downtime-limit", "300k", "'300k' is not a number (of ms, which "
		"take no suffix)" },
	{ "downtime-limit", "300ms", "which take no suffix" },
	{ "multifd-channels", "1k", "(of channels, which" },
	{ "x-ferry-prefault-forward", "1k", "(of pages, which" },
	{ "cpu-throttle-initial", "20%", "(of percent, which" },
	{ "x-ferry-timeout", "499", "is outside 500 to 3600000 ms" },
	{ "postcopy-ram", "", "neither on nor off" },
	{ "postcopy-ram", "yes", "neither on nor off" },
	{ "postcopy-ram", "ON", "neither on nor off" },
	{ "postcopy-ram", "2", "neither on nor off" },
	{ "x-ferry-peer", "xen", "'xen' is none of ferry, qemu" },
	{ "x-ferry-peer", "0", "is none of" },
	{ "x-ferry-push-order", "", "'' is none of linear, near, hot" },
	{ "no-such-thing", "1", "no parameter 'no-such-thing'" },
	{ "", "1", "no parameter ''" },
	{ "downtime-limit ", "1", "no parameter" },
};

static void nonsense_is_refused_with_what_is_allowed(void **state)
{
	struct ferry_params *p = ferry_params_new();

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e = { 0 };

		if (!ferry_params_set(p, bad[i].name, bad[i].text, &e))
			fail_msg("%s: '%s' was taken", bad[i].name,
				 bad[i].text);
		assert_says(&e, FERRY_E_INVALID, bad[i].says);
	}
	for (size_t i = 0; i < FERRY_P_TLS_CREDS; i++)
		assert_int_equal(ferry_param(p, (enum ferry_param)i),
				 def_of(i));
	ferry_params_free(p);
}

static void words_for_on_and_off(void **state)
{
	static const char *const words[] = { "off", "on", "false", "true",
					     "0", "1" };
	struct ferry_params *p = ferry_params_new();

	(void)state;
	for (unsigned i = 0; i < FERRY_LEN(words); i++) {
		assert_ok(ferry_params_set(p, "release-ram", words[i], NULL));
		assert_int_equal(get(p, "release-ram"), i % 2);
	}
	ferry_params_free(p);
}

static void an_unknown_name_cannot_be_read_or_set(void **state)
{
	struct ferry_params *p = ferry_params_new();
	struct ferry_err e = { 0 };
	uint64_t v = 42;

	(void)state;
	assert_int_equal(ferry_params_get(p, "nope", &v, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "no parameter 'nope'");
	assert_int_equal(v, 42);
	assert_int_equal(ferry_params_set_uint(p, "nope", 1, &e), -1);
	assert_int_equal(ferry_params_change(p, "nope", "1", &e), -1);
	assert_says(&e, FERRY_E_INVALID, "no parameter 'nope'");
	ferry_params_free(p);
}

/* ---- while running ------------------------------------------------------ */

static void only_some_may_change_while_it_runs(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;
	unsigned fixed = 0;

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++) {
		const char *text = t->choices ? t->choices[t->max] : "1";
		struct ferry_err e = { 0 };
		int rc = ferry_params_change(p, t->name, text, &e);

		if (t->while_running) {
			assert_ok(rc);
			continue;
		}
		fixed++;
		assert_int_equal(rc, -1);
		assert_says(&e, FERRY_E_STATE, "cannot be changed while");
		assert_says(&e, FERRY_E_STATE, t->name);
		assert_int_equal(get(p, t->name), def_of(i));
	}
	assert_true(fixed > 0);
	/* What was promised to be changeable. */
	assert_true(row_of("max-bandwidth")->while_running);
	assert_true(row_of("max-postcopy-bandwidth")->while_running);
	assert_true(row_of("x-ferry-background-push")->while_running);
	assert_true(row_of("downtime-limit")->while_running);
	assert_false(row_of("multifd-channels")->while_running);
	assert_false(row_of("postcopy-ram")->while_running);
	ferry_params_free(p);
}

static void a_change_is_checked_like_any_setting(void **state)
{
	struct ferry_params *p = ferry_params_new();
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_params_change(p, "downtime-limit", "soon", &e),
			 -1);
	assert_says(&e, FERRY_E_INVALID, "is not a number");
	ferry_params_free(p);
}

static void a_text_is_kept_as_it_is_up_to_its_length(void **state)
{
	struct ferry_params *p = ferry_params_new();
	char text[1026], got[1024], small[4];
	struct ferry_err e = { 0 };
	uint64_t v;

	(void)state;
	assert_ok(ferry_params_get_text(p, "tls-creds", got, sizeof(got), &e));
	assert_string_equal(got, "");
	memset(text, 'x', sizeof(text));
	text[1024] = '\0';
	assert_int_equal(ferry_params_set(p, "tls-creds", text, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "tls-creds: more than 1023");
	text[1023] = '\0';
	assert_ok(ferry_params_set(p, "tls-creds", text, &e));
	assert_ok(ferry_params_get_text(p, "tls-creds", got, sizeof(got), &e));
	assert_string_equal(got, text);
	assert_int_equal(ferry_params_get_text(p, "tls-creds", small,
					       sizeof(small), &e), -1);
	assert_int_equal(ferry_params_get(p, "tls-creds", &v, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "tls-creds is a text");
	assert_int_equal(ferry_params_set_uint(p, "tls-creds", 1, &e), -1);
	assert_int_equal(ferry_params_change(p, "tls-creds", "", &e), -1);
	assert_says(&e, FERRY_E_STATE, "cannot be changed");
	ferry_params_free(p);
}

static void every_number_is_a_text_that_can_be_set(void **state)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *t;
	char text[64];

	(void)state;
	for (size_t i = 0; (t = number_row(i)); i++) {
		assert_ok(ferry_params_set_uint(p, t->name, t->max, NULL));
		assert_ok(ferry_params_get_text(p, t->name, text, sizeof(text),
						NULL));
		assert_ok(ferry_params_set_uint(p, t->name, t->min, NULL));
		assert_ok(ferry_params_set(p, t->name, text, NULL));
		assert_int_equal(get(p, t->name), t->max);
	}
	ferry_params_free(p);
}

static void a_copy_has_all_values(void **state)
{
	struct ferry_params from, to;

	(void)state;
	ferry_params_init(&from);
	ferry_params_init(&to);
	for (size_t i = 0; i < FERRY_P_TLS_CREDS; i++) {
		const struct ferry_param_info *t = ferry_param_info(i);

		assert_ok(ferry_params_set_uint(&from, t->name, t->max, NULL));
	}
	assert_ok(ferry_params_set(&from, "tls-hostname", "host", NULL));
	ferry_params_copy(&to, &from);
	assert_string_equal(ferry_param_text(&to, FERRY_P_TLS_HOSTNAME),
			    "host");
	for (size_t i = 0; i < FERRY_P_TLS_CREDS; i++)
		assert_int_equal(ferry_param(&to, (enum ferry_param)i),
				 ferry_param_info(i)->max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_makes_sense),
		cmocka_unit_test(a_new_set_has_every_default),
		cmocka_unit_test(channels_depend_on_the_cpus),
		cmocka_unit_test(every_row_takes_all_of_its_range_and_no_more),
		cmocka_unit_test(every_row_can_be_set_by_text),
		cmocka_unit_test(every_choice_is_its_index),
		cmocka_unit_test(numbers_may_have_a_suffix),
		cmocka_unit_test(nonsense_is_refused_with_what_is_allowed),
		cmocka_unit_test(words_for_on_and_off),
		cmocka_unit_test(an_unknown_name_cannot_be_read_or_set),
		cmocka_unit_test(only_some_may_change_while_it_runs),
		cmocka_unit_test(a_change_is_checked_like_any_setting),
		cmocka_unit_test(a_text_is_kept_as_it_is_up_to_its_length),
		cmocka_unit_test(every_number_is_a_text_that_can_be_set),
		cmocka_unit_test(a_copy_has_all_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
