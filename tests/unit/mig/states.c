/* SPDX-License-Identifier: MIT */
/*
 * The table of states: its sense, and that docs/states.md says the same.
 *
 * usage: mig-states docs/states.md
 */
#include "help.h"

#include "mig/states.h"

static const char *page;	/* path of docs/states.md */

/* ---- docs/states.md ----------------------------------------------------- */

#define CELLS_MAX	5
#define CELL_BYTES	160

struct row {
	char	cell[CELLS_MAX][CELL_BYTES];
};

/* One line of a markdown table; false for any other line. */
static bool parse_row(const char *line, struct row *r)
{
	unsigned n = 0;

	*r = (struct row){ 0 };
	if (*line != '|')
		return false;
	for (const char *at = line + 1, *end; (end = strchr(at, '|')) &&
	     n < CELLS_MAX; at = end + 1) {
		while (*at == ' ' || *at == '`')
			at++;
		snprintf(r->cell[n], CELL_BYTES, "%.*s", (int)(end - at), at);
		for (size_t k = strlen(r->cell[n]); k &&
		     strchr(" `", r->cell[n][k - 1]); k--)
			r->cell[n][k - 1] = '\0';
		n++;
	}
	return true;
}

/* The rows of the table under a heading, without its head and rule. */
static unsigned read_table(const char *heading, struct row *rows, unsigned most)
{
	FERRY_AUTO_FILE f = fopen(page, "r");
	unsigned n = 0, seen = 0;
	bool here = false;
	char line[1024];

	if (!f)
		fail_msg("%s cannot be read", page);
	while (fgets(line, sizeof(line), f)) {
		struct row r;

		line[strcspn(line, "\n")] = '\0';
		if (*line == '#')
			here = !strcmp(line + strspn(line, "# "), heading);
		if (!here || !parse_row(line, &r) || seen++ < 2)
			continue;
		assert_true(n < most);
		rows[n++] = r;
	}
	if (!n)
		fail_msg("no table under '%s'", heading);
	return n;
}

static const char *const side_heading[] = {
	[FERRY_SIDE_SOURCE] = "Source: transitions",
	[FERRY_SIDE_TARGET] = "Target: transitions",
};

static bool is_row_of(const struct row *r, const struct ferry_transition *t)
{
	return !strcmp(r->cell[0], ferry_state_name(t->from)) &&
	       !strcmp(r->cell[1], ferry_state_name(t->to)) &&
	       !strcmp(r->cell[2], t->why);
}

static void the_page_has_every_transition_and_no_other(void **state)
{
	const struct ferry_transition *t;
	struct row rows[64];

	(void)state;
	for (int side = 0; side < 2; side++) {
		unsigned n = read_table(side_heading[side], rows, 64), at = 0;

		for (size_t i = 0; (t = ferry_transition(i)); i++) {
			if (t->side != (enum ferry_side)side)
				continue;
			if (at == n || !is_row_of(&rows[at], t))
				fail_msg("%s, row %u: the code has '%s' to "
					 "'%s': %s", side_heading[side], at + 1,
					 ferry_state_name(t->from),
					 ferry_state_name(t->to), t->why);
			at++;
		}
		if (at != n)
			fail_msg("%s: '%s' to '%s' is not in the code",
				 side_heading[side], rows[at].cell[0],
				 rows[at].cell[1]);
	}
}

static void the_page_explains_every_state_and_no_other(void **state)
{
	struct row rows[32];
	unsigned n = read_table("States", rows, 32);

	(void)state;
	assert_int_equal(n, FERRY_STATES);
	for (unsigned i = 0; i < n; i++) {
		assert_string_equal(rows[i].cell[0],
				    ferry_state_name((enum ferry_state)i));
		assert_int_equal(!strcmp(rows[i].cell[1], "yes"),
				 ferry_state_is_final((enum ferry_state)i));
		assert_true(strlen(rows[i].cell[2]) > 10);
	}
}

/* ---- where and safe ----------------------------------------------------- */

#define S FERRY_SIDE_SOURCE
#define T FERRY_SIDE_TARGET
#define AT(name) FERRY_STATE_##name

static const struct {
	enum ferry_side	 side;
	enum ferry_state state;
	bool		 handed, heard;
	enum ferry_where where;
} places[] = {
	{ S, AT(NONE), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(SETUP), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(ACTIVE), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(DEVICE), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(DEVICE), 1, 0, FERRY_WHERE_UNDECIDED },
	{ S, AT(DEVICE), 1, 1, FERRY_WHERE_SPLIT },
	{ S, AT(POSTCOPY_ACTIVE), 1, 1, FERRY_WHERE_SPLIT },
	{ S, AT(POSTCOPY_PAUSED), 1, 0, FERRY_WHERE_UNDECIDED },
	{ S, AT(POSTCOPY_PAUSED), 1, 1, FERRY_WHERE_SPLIT },
	{ S, AT(POSTCOPY_RECOVER_SETUP), 1, 0, FERRY_WHERE_UNDECIDED },
	{ S, AT(POSTCOPY_RECOVER), 1, 0, FERRY_WHERE_UNDECIDED },
	{ S, AT(POSTCOPY_RECOVER), 1, 1, FERRY_WHERE_SPLIT },
	{ S, AT(COMPLETED), 1, 1, FERRY_WHERE_TARGET },
	{ S, AT(COMPLETED), 1, 0, FERRY_WHERE_TARGET },
	{ S, AT(FAILED), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(FAILED), 1, 0, FERRY_WHERE_SOURCE },
	{ S, AT(CANCELLING), 0, 0, FERRY_WHERE_SOURCE },
	{ S, AT(CANCELLED), 0, 0, FERRY_WHERE_SOURCE },
	{ T, AT(NONE), 0, 0, FERRY_WHERE_SOURCE },
	{ T, AT(ACTIVE), 0, 0, FERRY_WHERE_SOURCE },
	{ T, AT(DEVICE), 0, 0, FERRY_WHERE_SOURCE },
	{ T, AT(DEVICE), 1, 0, FERRY_WHERE_SPLIT },
	{ T, AT(POSTCOPY_ACTIVE), 1, 1, FERRY_WHERE_SPLIT },
	{ T, AT(POSTCOPY_PAUSED), 1, 1, FERRY_WHERE_SPLIT },
	{ T, AT(COMPLETED), 1, 1, FERRY_WHERE_TARGET },
	{ T, AT(FAILED), 0, 0, FERRY_WHERE_SOURCE },
	{ T, AT(FAILED), 1, 0, FERRY_WHERE_SOURCE },
	{ T, AT(CANCELLED), 0, 0, FERRY_WHERE_SOURCE },
};

static void where_the_vm_is_follows_from_who_said_what(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(places); i++) {
		enum ferry_where got = ferry_where_of(places[i].side,
			places[i].state, places[i].handed, places[i].heard);

		if (got != places[i].where)
			fail_msg("row %zu (%s): %s, not %s", i,
				 ferry_state_name(places[i].state),
				 ferry_where_name(got),
				 ferry_where_name(places[i].where));
	}
}

/* Bit h of what "who" may be: handed and heard in every legal combination. */
static bool can_be(enum ferry_side side, enum ferry_state s, const char *where)
{
	for (unsigned bits = 0; bits < 4; bits++)
		if (!strcmp(ferry_where_name(ferry_where_of(side, s, bits & 1,
							    bits >> 1)), where))
			return true;
	return false;
}

static enum ferry_state state_of(const char *name)
{
	for (int s = 0; s < FERRY_STATES; s++)
		if (!strcmp(ferry_state_name((enum ferry_state)s), name))
			return (enum ferry_state)s;
	fail_msg("there is no state '%s'", name);
	return FERRY_STATES;
}

/* Columns: side, state, handed, heard, where; "-" stands for either. */
static void check_where_row(const struct row *r)
{
	enum ferry_side side = strcmp(r->cell[0], "source") ?
			       FERRY_SIDE_TARGET : FERRY_SIDE_SOURCE;
	bool any = !strcmp(r->cell[1], "any other");

	for (int s = 0; s < FERRY_STATES; s++) {
		bool final = s == FERRY_STATE_COMPLETED ||
			     s == FERRY_STATE_FAILED ||
			     s == FERRY_STATE_CANCELLED;

		if (any ? final : state_of(r->cell[1]) != (enum ferry_state)s)
			continue;
		for (unsigned bits = 0; bits < 4; bits++) {
			const char *yes_no[] = { "no", "yes" };
			const char *handed = yes_no[bits & 1];
			const char *heard = yes_no[bits >> 1];
			enum ferry_where w;

			if (strcmp(r->cell[2], "-") &&
			    strcmp(r->cell[2], handed))
				continue;
			if (strcmp(r->cell[3], "-") &&
			    strcmp(r->cell[3], heard))
				continue;
			w = ferry_where_of(side, (enum ferry_state)s, bits & 1,
					   bits >> 1);
			if (strcmp(ferry_where_name(w), r->cell[4]))
				fail_msg("%s, %s, handed %s, heard %s: the "
					 "page says %s, the code %s",
					 r->cell[0],
					 ferry_state_name((enum ferry_state)s),
					 handed, heard, r->cell[4],
					 ferry_where_name(w));
		}
	}
}

static void the_page_says_where_the_vm_is(void **state)
{
	struct row rows[32];
	unsigned n = read_table("Where the VM is", rows, 32);
	bool covered[2][FERRY_STATES] = { { false } };

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		int side = !!strcmp(rows[i].cell[0], "source");

		check_where_row(&rows[i]);
		for (int s = 0; s < FERRY_STATES; s++)
			if (!strcmp(rows[i].cell[1], "any other") ||
			    state_of(rows[i].cell[1]) == (enum ferry_state)s)
				covered[side][s] = true;
	}
	for (int s = 0; s < FERRY_STATES; s++)
		assert_true(covered[0][s] && covered[1][s]);
	assert_true(can_be(FERRY_SIDE_SOURCE, FERRY_STATE_POSTCOPY_PAUSED,
			   "undecided"));
	assert_false(can_be(FERRY_SIDE_TARGET, FERRY_STATE_POSTCOPY_PAUSED,
			    "undecided"));
}

static const struct { enum ferry_where where; unsigned safe; } safety[] = {
	{ FERRY_WHERE_SOURCE,	 FERRY_SAFE_SOURCE },
	{ FERRY_WHERE_UNDECIDED, FERRY_SAFE_NONE },
	{ FERRY_WHERE_SPLIT,	 FERRY_SAFE_NONE },
	{ FERRY_WHERE_TARGET,	 FERRY_SAFE_TARGET },
};

static void only_a_side_that_has_all_of_it_is_safe_to_start(void **state)
{
	struct row rows[8];
	unsigned n = read_table("What is safe", rows, 8);

	(void)state;
	assert_int_equal(n, FERRY_LEN(safety));
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(ferry_safe_of(safety[i].where),
				 safety[i].safe);
		assert_string_equal(rows[i].cell[0],
				    ferry_where_name(safety[i].where));
		assert_string_equal(rows[i].cell[1],
				    ferry_safe_name(safety[i].safe));
	}
}

/* ---- the table's own sense ---------------------------------------------- */

static void no_transition_is_listed_twice(void **state)
{
	const struct ferry_transition *a, *b;

	(void)state;
	for (size_t i = 0; (a = ferry_transition(i)); i++)
		for (size_t k = i + 1; (b = ferry_transition(k)); k++)
			assert_false(a->side == b->side && a->from == b->from &&
				     a->to == b->to);
}

static void only_listed_transitions_are_legal(void **state)
{
	const struct ferry_transition *t;
	unsigned listed = 0, legal = 0;

	(void)state;
	for (size_t i = 0; (t = ferry_transition(i)); i++)
		listed++;
	for (int side = 0; side < 2; side++)
		for (int f = 0; f < FERRY_STATES; f++)
			for (int to = 0; to < FERRY_STATES; to++)
				legal += ferry_transition_legal(
					(enum ferry_side)side,
					(enum ferry_state)f,
					(enum ferry_state)to);
	assert_int_equal(listed, legal);
	assert_false(ferry_transition_legal(S, AT(NONE), AT(COMPLETED)));
	assert_false(ferry_transition_legal(S, AT(POSTCOPY_ACTIVE),
					    AT(CANCELLING)));
	assert_false(ferry_transition_legal(S, AT(POSTCOPY_ACTIVE),
					    AT(FAILED)));
	assert_false(ferry_transition_legal(T, AT(COMPLETED), AT(FAILED)));
	/* What may be running elsewhere is never given up. */
	for (int s = AT(POSTCOPY_ACTIVE); s <= AT(POSTCOPY_RECOVER); s++) {
		assert_false(ferry_transition_legal(S, (enum ferry_state)s,
						    AT(CANCELLING)));
		assert_false(ferry_transition_legal(T, (enum ferry_state)s,
						    AT(CANCELLING)));
	}
}

/* Recovery can fail at any step, any number of times, and leads back. */
static void every_step_of_recovery_may_lead_back_to_paused(void **state)
{
	static const enum ferry_state steps[] = {
		AT(POSTCOPY_RECOVER_SETUP), AT(POSTCOPY_RECOVER),
		AT(POSTCOPY_ACTIVE),
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(steps); i++)
		for (int side = 0; side < 2; side++)
			assert_true(ferry_transition_legal(
				(enum ferry_side)side, steps[i],
				AT(POSTCOPY_PAUSED)));
}

static bool is_return(enum ferry_state from, enum ferry_state to)
{
	return from == AT(POSTCOPY_PAUSED) &&
	       (to == AT(POSTCOPY_RECOVER_SETUP) ||
		to == AT(POSTCOPY_RECOVER) || to == AT(FAILED));
}

/* A state that is waited for is one that nothing leads out of, and the other
 * way round (what is paused goes on when the two sides find each other
 * again). */
static void nothing_leads_out_of_a_final_state(void **state)
{
	const struct ferry_transition *t;

	(void)state;
	for (size_t i = 0; (t = ferry_transition(i)); i++)
		assert_true(!ferry_state_is_final(t->from) ||
			    is_return(t->from, t->to));
	for (size_t i = 0; (t = ferry_transition(i)); i++) {
		bool leads_on = false;

		for (int to = 0; to < FERRY_STATES; to++)
			leads_on |= ferry_transition_legal(t->side, t->to,
							(enum ferry_state)to) &&
				    !is_return(t->to, (enum ferry_state)to);
		assert_int_equal(leads_on, !ferry_state_is_final(t->to));
	}
}

static void every_state_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int a = 0; a < FERRY_STATES; a++)
		for (int b = a + 1; b <= FERRY_STATES; b++)
			assert_string_not_equal(
				ferry_state_name((enum ferry_state)a),
				ferry_state_name((enum ferry_state)b));
	assert_string_equal(ferry_state_name((enum ferry_state)-1), "unknown");
	assert_string_equal(ferry_where_name((enum ferry_where)9), "unknown");
	assert_string_equal(ferry_safe_name(FERRY_SAFE_SOURCE |
					    FERRY_SAFE_TARGET), "both");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_page_has_every_transition_and_no_other),
		cmocka_unit_test(the_page_explains_every_state_and_no_other),
		cmocka_unit_test(where_the_vm_is_follows_from_who_said_what),
		cmocka_unit_test(the_page_says_where_the_vm_is),
		cmocka_unit_test(
			only_a_side_that_has_all_of_it_is_safe_to_start),
		cmocka_unit_test(no_transition_is_listed_twice),
		cmocka_unit_test(only_listed_transitions_are_legal),
		cmocka_unit_test(
			every_step_of_recovery_may_lead_back_to_paused),
		cmocka_unit_test(nothing_leads_out_of_a_final_state),
		cmocka_unit_test(every_state_has_a_name_of_its_own),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s docs/states.md\n", argv[0]);
		return 2;
	}
	page = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
