/* SPDX-License-Identifier: MIT */
/* Error values and log lines: text that always fits. */
#include "help.h"

#include "base/err.h"
#include "base/log.h"

static void an_error_carries_code_errno_and_sentence(void **state)
{
	struct ferry_err e;

	(void)state;
	assert_int_equal(ferry_err_set(&e, FERRY_E_IO, ENOENT, "open %s", "x"),
			 -1);
	assert_int_equal(e.code, FERRY_E_IO);
	assert_int_equal(e.sys, ENOENT);
	assert_string_equal(e.msg, "open x: No such file or directory");
}

static void without_errno_nothing_is_appended(void **state)
{
	struct ferry_err e;

	(void)state;
	ferry_err_set(&e, FERRY_E_PROTO, 0, "%d pages", 7);
	assert_string_equal(e.msg, "7 pages");
	assert_int_equal(e.sys, 0);
}

static void wrapping_puts_the_outer_first_and_keeps_the_codes(void **state)
{
	struct ferry_err e;

	(void)state;
	ferry_err_set(&e, FERRY_E_IO, EPIPE, "write");
	assert_int_equal(ferry_err_wrap(&e, "channel data %d", 3), -1);
	assert_string_equal(e.msg, "channel data 3: write: Broken pipe");
	assert_int_equal(e.code, FERRY_E_IO);
	assert_int_equal(e.sys, EPIPE);
}

static void a_caller_may_not_care(void **state)
{
	(void)state;
	assert_int_equal(ferry_err_set(NULL, FERRY_E_IO, 0, "x"), -1);
	assert_int_equal(ferry_err_wrap(NULL, "x"), -1);
}

static void long_text_is_cut_not_overrun(void **state)
{
	struct {
		struct ferry_err e;
		char after[8];
	} s = { .after = "intact" };
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';

	for (int n = 200; n < 300; n++) {
		ferry_err_set(&s.e, FERRY_E_IO, EIO, "%.*s", n, text);
		assert_true(strlen(s.e.msg) < sizeof(s.e.msg));
		ferry_err_wrap(&s.e, "%.*s", n, text);
		assert_true(strlen(s.e.msg) < sizeof(s.e.msg));
		ferry_err_wrap(&s.e, "short");
		assert_memory_equal(s.e.msg, "short: xxx", 10);
		assert_true(strlen(s.e.msg) < sizeof(s.e.msg));
	}
	assert_string_equal(s.after, "intact");
}

static void every_code_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int i = 0; i <= FERRY_E_NOTCONVERGED; i++) {
		assert_string_not_equal(ferry_err_name(i), "unknown");
		for (int j = 0; j < i; j++)
			assert_string_not_equal(ferry_err_name(i),
						ferry_err_name(j));
	}
	assert_string_equal(ferry_err_name(-1), "unknown");
	assert_string_equal(ferry_err_name(FERRY_E_NOTCONVERGED + 1),
			    "unknown");
}

static void only_a_lost_connection_is_a_link_error(void **state)
{
	(void)state;
	for (int i = 0; i <= FERRY_E_NOTCONVERGED; i++) {
		struct ferry_err e = { .code = i };

		assert_int_equal(ferry_err_is_link(&e),
				 i == FERRY_E_IO || i == FERRY_E_CLOSED ||
				 i == FERRY_E_TIMEOUT);
	}
}

/* ---- log --------------------------------------------------------------- */

struct seen {
	enum ferry_log_level level;
	char line[600];
	int lines;
};

static void see(void *opaque, enum ferry_log_level level, const char *line)
{
	struct seen *s = opaque;

	s->level = level;
	s->lines++;
	snprintf(s->line, sizeof(s->line), "%s", line);
}

static void a_line_reaches_the_sink_or_nobody(void **state)
{
	struct seen s = { 0 };
	struct ferry_log log = { .opaque = &s, .line = see };
	struct ferry_log none = { 0 };

	(void)state;
	ferry_log(&log, FERRY_LOG_WARN, "pass %d", 2);
	assert_int_equal(s.lines, 1);
	assert_int_equal(s.level, FERRY_LOG_WARN);
	assert_string_equal(s.line, "pass 2");
	ferry_log(&none, FERRY_LOG_WARN, "pass %d", 3);
	ferry_log(NULL, FERRY_LOG_WARN, "pass %d", 4);
	assert_int_equal(s.lines, 1);
}

static void a_long_line_is_cut(void **state)
{
	struct seen s = { 0 };
	struct ferry_log log = { .opaque = &s, .line = see };

	(void)state;
	ferry_log(&log, FERRY_LOG_INFO, "%2000d", 1);
	assert_int_equal(strlen(s.line), 511);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_carries_code_errno_and_sentence),
		cmocka_unit_test(without_errno_nothing_is_appended),
		cmocka_unit_test(
			wrapping_puts_the_outer_first_and_keeps_the_codes),
		cmocka_unit_test(a_caller_may_not_care),
		cmocka_unit_test(long_text_is_cut_not_overrun),
		cmocka_unit_test(every_code_has_a_name_of_its_own),
		cmocka_unit_test(only_a_lost_connection_is_a_link_error),
		cmocka_unit_test(a_line_reaches_the_sink_or_nobody),
		cmocka_unit_test(a_long_line_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
