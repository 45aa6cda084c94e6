/* SPDX-License-Identifier: MIT */
/*
 * The words of --bulk-state: a name, and what follows from a table.  Pure.
 */
#include "vmm/bulk_state.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/keeper_pipe.h"

#define BYTES_MAX	(16ull << 30)

static const struct {
	const char	*name;
	size_t		 at;
	uint64_t	 min, max;
} rows[] = {
	{ "size", offsetof(struct ferry_bulk_state_config, bytes), 1,
	  BYTES_MAX },
	{ "rate", offsetof(struct ferry_bulk_state_config, rate), 0,
	  UINT64_MAX >> 20 },
	{ "change", offsetof(struct ferry_bulk_state_config, change), 0,
	  BYTES_MAX },
	{ "first", offsetof(struct ferry_bulk_state_config, first), 0,
	  BYTES_MAX },
	{ "live", offsetof(struct ferry_bulk_state_config, live), 0, 1 },
};

/* 100, 64k, 100M, 2G. */
static bool parse_size(const char *text, uint64_t *value)
{
	static const char suffixes[] = "KMGT";
	const char *s;
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || errno)
		return false;
	if (!*end)
		return true;
	s = strchr(suffixes, *end & ~0x20);
	return s && !end[1] &&
	       !__builtin_mul_overflow(*value, 1ull << (10 * (s - suffixes +
							      1)), value);
}

/* *seen: bit i is row i. */
static int set(struct ferry_bulk_state_config *c, const char *pair,
	       unsigned *seen, struct ferry_err *e)
{
	uint64_t value;

	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		size_t n = strlen(rows[i].name);

		if (strncmp(pair, rows[i].name, n) || pair[n] != '=')
			continue;
		if (*seen & 1u << i)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "--bulk-state %s: %s= is there "
					     "twice", c->name, rows[i].name);
		*seen |= 1u << i;
		if (!parse_size(pair + n + 1, &value) ||
		    value < rows[i].min || value > rows[i].max)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "--bulk-state %s: '%.64s' is no "
					     "size that it can have", c->name,
					     pair);
		memcpy((char *)c + rows[i].at, &value, sizeof(value));
		return 0;
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state %s: '%.64s' "
			     "is none of size=, rate=, change=, first=, "
			     "live=",
			     c->name, pair);
}

/* What would hold the switchover for ever is no device. */
static int check_first(const struct ferry_bulk_state_config *c,
		       struct ferry_err *e)
{
	if (c->first > c->bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state %s: "
				     "first= is more than size=, and would "
				     "never have arrived", c->name);
	if (c->first && !c->live)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state %s: "
				     "first= holds the switchover until octets "
				     "arrive that live=0 keeps back until "
				     "then: leave one of them away", c->name);
	return 0;
}

static bool is_name(const char *s, size_t n)
{
	return n && n < sizeof(((struct ferry_bulk_state_config *)0)->name) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		      "0123456789-_") >= n;
}

int ferry_bulk_state_parse(const char *words,
			   struct ferry_bulk_state_config *c,
			   struct ferry_err *e)
{
	FERRY_AUTO_FREE char *copy = strdup(words);
	char *rest = copy, *word;
	unsigned seen = 0;

	*c = (struct ferry_bulk_state_config){ .change = 1 << 20, .live = 1 };
	if (!copy)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "--bulk-state");
	word = strsep(&rest, ",");
	if (!is_name(word, strlen(word)))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state: "
				     "'%.64s' is no name: letters, digits, - "
				     "and _, at most 63", word);
	memcpy(c->name, word, strlen(word) + 1);
	while (rest)
		if (set(c, strsep(&rest, ","), &seen, e))
			return -1;
	if (!c->bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state %s: "
				     "size= is missing", c->name);
	c->bytes += FERRY_KEEPER_BLOCK_BYTES - 1;
	c->bytes -= c->bytes % FERRY_KEEPER_BLOCK_BYTES;
	return check_first(c, e);
}

int ferry_bulk_states_check(const char *const *words, size_t n,
			    struct ferry_err *e)
{
	struct ferry_bulk_state_config c[FERRY_BULK_STATES_MAX];

	if (n > FERRY_BULK_STATES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--bulk-state: "
				     "more than %u of them",
				     FERRY_BULK_STATES_MAX);
	for (size_t i = 0; i < n; i++) {
		if (ferry_bulk_state_parse(words[i], &c[i], e))
			return -1;
		for (size_t k = 0; k < i; k++)
			if (!strcmp(c[i].name, c[k].name))
				return ferry_err_set(e, FERRY_E_INVALID, 0,
						     "--bulk-state %s is there "
						     "twice", c[i].name);
	}
	return 0;
}
