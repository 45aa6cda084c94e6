/* SPDX-License-Identifier: MIT */
/*
 * The table of keys, and a parser that is driven by it.
 */
#include "config.h"

#include <stdbool.h>

#include "block.h"
#include "layout.h"

enum kind {
	NUMBER,			/* decimal, min to max */
	SIZE,			/* decimal with K M G T, at least min */
	SHARE,			/* SIZE, or 1% to 100% into the next field */
	CHOICE,			/* one of choices[] */
};

struct key {
	const char	*name;
	enum kind	 kind;
	size_t		 offset;	/* in struct config */
	uint64_t	 min, max;
	const char	*const *choices;
};

static const char *const modes[] = {
	[MODE_SEQ] = "seq", [MODE_RANDOM] = "random", [MODE_READ] = "read",
	[MODE_DB] = "db", [MODE_IDLE] = "idle", NULL
};
static const char *const fills[] = {
	[FILL_ZERO] = "zero", [FILL_RANDOM] = "random",
	[FILL_PATTERN] = "pattern", NULL
};
static const char *const nets[] = {
	[NET_OFF] = "off", [NET_ECHO] = "echo", [NET_FLOOD] = "flood", NULL
};
static const char *const touches[] = {
	[TOUCH_WS] = "ws", [TOUCH_ALL] = "all", NULL
};

#define AT(field)	offsetof(struct config, field)

static const struct key keys[] = {
	{ "mode",	CHOICE,	AT(mode), .choices = modes },
	{ "mem",	SHARE,	AT(mem_bytes), PAGE_BYTES, UINT64_MAX },
	{ "rate",	SIZE,	AT(rate), 0, 1ull << 40 },
	{ "cpus",	NUMBER,	AT(cpus), 1, CPUS_MAX },
	{ "seconds",	NUMBER,	AT(seconds), 0, 10000000 },
	{ "report",	NUMBER,	AT(report_ms), 10, 3600000 },
	{ "gaps",	NUMBER,	AT(gaps_ms), 0, 3600000 },
	{ "trace",	NUMBER,	AT(trace_ms), 0, 3600000 },
	{ "verify",	NUMBER,	AT(verify), 0, 1 },
	{ "fill",	CHOICE,	AT(fill), .choices = fills },
	{ "touch",	CHOICE,	AT(touch), .choices = touches },
	{ "beat",	NUMBER,	AT(beat_us), 0, 1000000 },
	{ "avx",	NUMBER,	AT(avx), 0, 1 },
	{ "tsc_khz",	NUMBER,	AT(tsc_khz), 1000, 100000000 },
	{ "net",	CHOICE,	AT(net), .choices = nets },
	{ "net_us",	NUMBER,	AT(net_us), 1, 10000000 },
	{ "announce",	NUMBER,	AT(announce), 0, 1 },
	{ "disk",	NUMBER,	AT(disk), 0, 64 },
	{ "ram",	SIZE,	AT(ram_bytes), 16u << 20, 64ull << 30 },
};

static bool same(const char *name, const char *word, size_t length)
{
	size_t i = 0;

	while (i < length && name[i] && name[i] == word[i])
		i++;
	return i == length && name[i] == '\0';
}

/* The digits at *s; moves *s behind them.  False: none, or too large. */
static bool parse_digits(const char **s, const char *end, uint64_t *value)
{
	const char *start = *s;

	*value = 0;
	for (; *s < end && **s >= '0' && **s <= '9'; (*s)++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(**s - '0'),
					   value))
			return false;
	return *s != start;
}

static bool parse_unit(const char **s, const char *end, uint64_t *value)
{
	static const char units[] = "KMGT";
	unsigned shift = 0;

	if (*s == end)
		return true;
	for (size_t i = 0; units[i]; i++)
		if ((**s & ~0x20) == units[i])
			shift = 10 * (unsigned)(i + 1);
	if (!shift || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	(*s)++;
	return true;
}

static bool parse_number(const struct key *key, const char *s, const char *end,
			 uint64_t *field)
{
	uint64_t value;

	if (!parse_digits(&s, end, &value))
		return false;
	if (key->kind == SHARE && s + 1 == end && *s == '%') {
		if (value < 1 || value > 100)
			return false;
		field[0] = 0;
		field[1] = value;
		return true;
	}
	if (key->kind != NUMBER && !parse_unit(&s, end, &value))
		return false;
	if (s != end || value < key->min || value > key->max)
		return false;
	*field = value;
	return true;
}

static bool parse_choice(const struct key *key, const char *s, const char *end,
			 uint64_t *field)
{
	for (size_t i = 0; key->choices[i]; i++) {
		if (same(key->choices[i], s, (size_t)(end - s))) {
			*field = i;
			return true;
		}
	}
	return false;
}

static bool parse_value(const struct key *key, const char *s, const char *end,
			struct config *config)
{
	void *field = (char *)config + key->offset;

	if (key->kind == CHOICE)
		return parse_choice(key, s, end, field);
	return parse_number(key, s, end, field);
}

static void parse_word(struct config *config, const char *word,
		       const char *end, config_complain *complain,
		       void *opaque)
{
	const char *equals = word;

	while (equals < end && *equals != '=')
		equals++;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!same(keys[i].name, word, (size_t)(equals - word)))
			continue;
		if (equals == end ||
		    !parse_value(&keys[i], equals + 1, end, config))
			complain(opaque, CONFIG_BAD_VALUE, word,
				 (size_t)(end - word));
		return;
	}
	complain(opaque, CONFIG_UNKNOWN_KEY, word, (size_t)(end - word));
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

void config_parse(struct config *config, const char *cmdline,
		  config_complain *complain, void *opaque)
{
	*config = (struct config){
		.mode = MODE_SEQ, .mem_percent = 25, .cpus = 1,
		.report_ms = 1000, .gaps_ms = 5000, .verify = 1,
		.fill = FILL_RANDOM, .beat_us = 1000,
		.avx = 1, .net_us = 1000,
	};
	while (*cmdline) {
		const char *end = cmdline;

		while (*end && !is_blank(*end))
			end++;
		if (end > cmdline)
			parse_word(config, cmdline, end, complain, opaque);
		cmdline = *end ? end + 1 : end;
	}
}

const char *config_mode_name(uint64_t mode)
{
	return modes[mode];
}
