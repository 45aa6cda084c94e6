/* SPDX-License-Identifier: MIT */
/*
 * What `ferry status` says of a link that was lost: a table.
 */
#include "lost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define LINK(seeking)	"\"x-ferry-recovery\":{\"count\":0,\"attempts\":3," \
			"\"apart-us\":2500000,\"lost-ms-ago\":2500," \
			"\"seeking\":" seeking "}"
#define LOST		"link       lost 2.5 s ago, found again 0 times in 3 " \
			"attempts, 2.5 s without"
#define SOURCE(status)	"\"status\":\"" status "\",\"x-ferry-role\":\"source\""
#define TARGET(status)	"\"status\":\"" status "\",\"x-ferry-role\":\"target\""

static const struct {
	const char *m, *says;
} rows[] = {
	{ "{}", "" },
	{ "{" SOURCE("active") "}", "" },
	{ "{" SOURCE("postcopy-active") ",\"x-ferry-rollback\":\"no\"}", "" },

	/* A wait that goes on counts, and only while it is a long one. */
	{ "{" TARGET("postcopy-active") ",\"x-ferry-faults\":{\"max-us\":900,"
	  "\"waiting\":1,\"waiting-us\":200}}", "" },
	{ "{" TARGET("postcopy-recover") "," LINK("true")
	  ",\"x-ferry-faults\":{\"max-us\":2400000,\"waiting\":2,"
	  "\"waiting-us\":2400000}}",
	  LOST "; looking for it\n"
	  "guest      waits for 2 pages, since 2.4 s; it goes on as they "
	  "come\n" },
	{ "{" TARGET("postcopy-active") "," LINK("false")
	  ",\"x-ferry-faults\":{\"max-us\":2400000,\"waiting\":0,"
	  "\"waiting-us\":0}}",
	  LOST "\nguest      waited 2.400 s for a page at most\n" },

	/* What can be done. */
	{ "{" SOURCE("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-rollback\":\"unproven\"}",
	  "rollback   unproven: there is no lease, and nothing proves that "
	  "the target is dead\n" LOST "\n"
	  "ways out   `ferry recover`, at another address if need be; `ferry "
	  "rescue` if the link never comes back; if the target is dead: "
	  "`ferry rollback`\n" },
	{ "{" SOURCE("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-rollback\":\"no\",\"x-ferry-freed\":true}",
	  LOST "\nways out   what was sent was freed here (release-ram): it "
	  "can neither go on nor be rolled back; `ferry rescue` of both sides "
	  "has what there is\n" },
	{ "{" TARGET("postcopy-paused") "," LINK("false") "}",
	  LOST "\nways out   its source comes back to it, or `ferry recover` "
	  "with another address; `ferry rescue` if the link never comes back."
	  "  If the source is dead, what is missing is lost with it: the VM "
	  "runs until it touches that, and only a source is rolled back\n" },

	/* Given up for a rescue. */
	{ "{" SOURCE("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-rollback\":\"no\",\"x-ferry-dumped\":{\"file\":"
	  "\"/a\",\"written\":true,\"ms-ago\":1500}}",
	  LOST "\ndumped     to /a, 1.5 s ago\nways out   `ferry rescue dump` "
	  "of the other side, too, then `ferry rescue merge` of both files; "
	  "neither side comes back to this migration\n" },
	{ "{" TARGET("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-dumped\":{\"file\":\"/a\",\"written\":false,"
	  "\"ms-ago\":1500}}",
	  LOST "\ndumped     not: /a could not be written 1.5 s ago\nways out  "
	  " `ferry rescue dump` again, to where there is room; neither side "
	  "comes back to this migration\n" },

	/* A page came wrong. */
	{ "{" SOURCE("completed") ",\"x-ferry-verified\":\"right\"}",
	  "verify     each page is at the target as it was at the source\n" },
	{ "{" SOURCE("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-rollback\":\"no\",\"x-ferry-verified\":\"wrong\"}",
	  "verify     a page is not at the target what it was at the source\n"
	  LOST "\nways out   `ferry rescue`, which takes such a page from here; "
	  "or end the target and `ferry rollback`; or leave it as it is: "
	  "`migrate-set-parameters` with x-ferry-verify off, then `ferry "
	  "recover`\n" },
	{ "{" TARGET("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-verified\":\"wrong\"}",
	  "verify     a page is not at the target what it was at the source\n"
	  LOST "\nways out   are at the source: see its `ferry status`\n" },

	/* Nothing runs alone under a lease. */
	{ "{" TARGET("postcopy-paused") "," LINK("false")
	  ",\"x-ferry-lease\":{\"out\":true},\"x-ferry-faults\":{\"waiting\":1,"
	  "\"waiting-us\":5200000}}",
	  "lease      has run out: the VM stands still until the source is "
	  "heard of\n" LOST "\nguest      waits for 1 page, since 5.2 s\n"
	  "ways out   its source comes back to it, or `ferry recover` with "
	  "another address; `ferry rescue` if the link never comes back.  If "
	  "the source is dead, the VM is lost with it: under a lease it does "
	  "not run alone\n" },

	/* What is over is not said to be lost. */
	{ "{" SOURCE("completed") ",\"x-ferry-recovery\":{\"count\":2,"
	  "\"attempts\":3,\"apart-us\":1500000,\"lost-ms-ago\":60000}}",
	  "link       was lost, and found again 2 times; 1.5 s without\n" },

	{ "{" TARGET("postcopy-active") ",\"x-ferry-lease\":{\"out\":true}}",
	  "lease      has run out: the VM stands still until the source is "
	  "heard of\n" },
	{ "{" SOURCE("postcopy-recover") ",\"x-ferry-rollback\":\"later\","
	  "\"x-ferry-lease\":{\"left-ms\":1500}}",
	  "rollback   later\nlease      the target may run the VM for 1.5 "
	  "s\n" },
};

static void a_link_that_was_lost_is_told_of(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct json_object *m = json_tokener_parse(rows[i].m);
		FERRY_AUTO_FREE char *text = NULL;
		size_t bytes;
		FILE *to = open_memstream(&text, &bytes);

		assert_non_null(m);
		assert_non_null(to);
		ferry_lost_print(to, m);
		fclose(to);
		if (strcmp(text, rows[i].says))
			fail_msg("%s:\n%snot\n%s", rows[i].m, text,
				 rows[i].says);
		json_object_put(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_that_was_lost_is_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
