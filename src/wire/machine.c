/* SPDX-License-Identifier: MIT */
/*
 * Machine versions and what each is the last to do.
 */
#include "wire/machine.h"

#include <stddef.h>
#include <string.h>

static const struct {
	struct ferry_machine		last;
	enum ferry_machine_quirk	quirk;
} quirks[] = {
	{ { 7, 2 },	FERRY_MACHINE_PREEMPT_EARLY },
	{ { 8, 0 },	FERRY_MACHINE_SYNC_AT_EOS },
	{ { 8, 2 },	FERRY_MACHINE_ZERO_ON_MAIN },
	{ { 9, 2 },	FERRY_MACHINE_NO_START },
	{ { 11, 0 },	FERRY_MACHINE_ACK_UNASKED },
};

/* One to three digits; returns where they end, or NULL. */
static const char *number(const char *s, unsigned *v)
{
	const char *p = s;

	*v = 0;
	while (*p >= '0' && *p <= '9' && p < s + 3)
		*v = *v * 10 + (unsigned)(*p++ - '0');
	return p == s ? NULL : p;
}

bool ferry_machine_parse(const char *name, struct ferry_machine *m)
{
	const char *dash = strrchr(name, '-');
	const char *p = dash ? number(dash + 1, &m->major) : NULL;

	if (!p || *p != '.')
		return false;
	p = number(p + 1, &m->minor);
	return p && !*p;
}

unsigned ferry_machine_quirks(const struct ferry_machine *m)
{
	unsigned bits = 0;

	for (size_t i = 0; i < sizeof(quirks) / sizeof(quirks[0]); i++)
		if (m->major < quirks[i].last.major ||
		    (m->major == quirks[i].last.major &&
		     m->minor <= quirks[i].last.minor))
			bits |= (unsigned)quirks[i].quirk;
	return bits;
}
