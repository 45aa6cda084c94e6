/* SPDX-License-Identifier: MIT */
/*
 * Combinations: what was tested one by one, together.  tests/combos.py says
 * which there are, and chooses; here is what their words mean.
 *
 *	combo NAME...	each is words with '/' between them, as
 *			postcopy/d4/u2/x509/apart/data/zstd/lease/verify/4k
 *
 * FERRY_CUTS_FROM: where `octet` cuts, and which of several channels is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"
#include "unit/huge.h"

enum loss { CALM, PASS, STOP, UNDECIDED, CUT, TWICE, LOSE_DATA, LOSE_REQUEST,
	    OCTET };

/* What a word asks for; all of a name together make a migration. */
struct word {
	const char *word;
	const char *param[3][2];
	unsigned    devices;
	enum loss   loss;
	const char *creds;		/* both ends */
	bool	    huge;
};

#define KINDS	2
static char folder[KINDS][40] = { "/tmp/ferry-combo-x509-XXXXXX",
				  "/tmp/ferry-combo-psk-XXXXXX" };

static const struct word words[] = {
	{ "precopy", { { "postcopy-ram", "off" } } },
	{ "both", { { "x-ferry-precopy-passes", "1" } } },
	{ "postcopy", { { "x-ferry-precopy-passes", "0" } } },
	{ "d1", { { "multifd-channels", "1" } } },
	{ "d2", { { "multifd-channels", "2" } } },
	{ "d4", { { "multifd-channels", "4" } } },
	{ "u0", { { "postcopy-preempt", "off" } } },
	{ "u1", { { "x-ferry-urgent-channels", "1" } } },
	{ "u2", { { "x-ferry-urgent-channels", "2" } } },
	{ "u4", { { "x-ferry-urgent-channels", "4" } } },
	{ "clear" },
	{ "x509", .creds = folder[0] }, { "psk", .creds = folder[1] },
	{ "nobulk" }, { "mixed", .devices = 2 },
	{ "apart", { { "x-ferry-device-channels", "2" } }, .devices = 2 },
	{ "calm" }, { "pass", .loss = PASS }, { "stop", .loss = STOP },
	{ "undecided", .loss = UNDECIDED }, { "cut", .loss = CUT },
	{ "twice", .loss = TWICE }, { "data", .loss = LOSE_DATA },
	{ "request", .loss = LOSE_REQUEST }, { "octet", .loss = OCTET },
	{ "plain" }, { "zlib", { { "multifd-compression", "zlib" } } },
	{ "zstd", { { "multifd-compression", "zstd" } } },
	{ "auto", { { "multifd-compression", "auto" } } },
	{ "nolease" }, { "lease", { { "x-ferry-lease", "2000" } } },
	{ "trust" }, { "verify", { { "x-ferry-verify", "on" } } },
	{ "4k" }, { "2m", .huge = true },
};

struct combo {
	const char *name;
	struct rig_config cfg;
	enum loss loss;
	bool	 postcopy, at_once;
	unsigned data, urgent;
	unsigned seed;

	unsigned times;			/* lost so far */
	struct rig rig;			/* one that hangs, and so fails its
					 * test, goes on using it */
};

/* ---- what the words say ------------------------------------------------------- */

static void add(const char *(*list)[2], const char *name, const char *value)
{
	for (unsigned i = 0; i < RIG_PARAMS_MAX; i++) {
		if (list[i][0])
			continue;
		list[i][0] = name;
		list[i][1] = value;
		return;
	}
	fail_msg("RIG_PARAMS_MAX");
}

static void take(struct combo *c, const struct word *w)
{
	struct rig_config *cfg = &c->cfg;

	for (unsigned i = 0; w->param[i][0]; i++)
		add(cfg->param, w->param[i][0], w->param[i][1]);
	if (w->creds) {
		add(cfg->param, "tls-creds", w->creds);
		add(cfg->param, "tls-hostname", "localhost");
		add(cfg->target_param, "tls-creds", w->creds);
	}
	cfg->bulk.devices += w->devices;
	c->loss = w->loss ? w->loss : c->loss;
	if (w->huge)
		cfg->block[0] = (struct rig_block){ "ram", 8 << 20, 2 << 20,
						    true };
}

static const struct word *find(const char *word, size_t bytes)
{
	for (size_t i = 0; i < FERRY_LEN(words); i++)
		if (strlen(words[i].word) == bytes &&
		    !memcmp(words[i].word, word, bytes))
			return &words[i];
	return NULL;
}

static bool parse(struct combo *c, const char *name)
{
	const char *seed = getenv("FERRY_CUTS_FROM");
	unsigned number;

	*c = (struct combo){ .name = name, .seed = 5381, .data = 1,
			     .urgent = 1 };
	for (const char *p = name; *p; p++)
		c->seed = c->seed * 33 + (unsigned char)*p;
	c->seed += seed ? (unsigned)strtoul(seed, NULL, 10) : 0;
	c->cfg = (struct rig_config){
		.block = { { "ram", 2 << 20, 4096, true },
			   { "vram", 512 << 10, 4096, false } },
		.blocks = 2, .zero_percent = 20, .untouched_percent = 10,
		.writer = true, .restless = true, .recovers = true,
		.hasty = true, .bulk = { .blocks = 30 },
	};
	add(c->cfg.param, "downtime-limit", "60000");
	for (const char *p = name; *p; p += *p == '/') {
		size_t bytes = strcspn(p, "/");
		const struct word *w = find(p, bytes);

		if (!w)
			return false;
		take(c, w);
		if (sscanf(w->word, "d%u", &number) == 1)
			c->data = number;
		if (sscanf(w->word, "u%u", &number) == 1)
			c->urgent = number;
		p += bytes;
	}
	c->at_once = !strncmp(name, "postcopy/", 9);
	c->postcopy = c->at_once || !strncmp(name, "both/", 5);
	if (!c->postcopy)
		c->urgent = 0;
	c->cfg.reader = c->postcopy;
	return true;
}

/* ---- what is lost --------------------------------------------------------------- */

static unsigned channels(const struct combo *c)
{
	bool apart = c->cfg.bulk.devices && strstr(c->name, "/apart/");

	return 1 + c->data + c->urgent + (apart ? 2 : 0);
}

static void lose(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct combo *c = r->cfg.hook_arg;
	bool pushes = m == RIG_SOURCE_EVENT &&
		      arg == FERRY_STATE_POSTCOPY_ACTIVE;

	switch (c->loss) {
	case PASS:
		if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_ACTIVE)
			rig_cut(r);
		break;
	case STOP:
		if (m == RIG_SAVE)
			rig_cut(r);
		break;
	case UNDECIDED:
		if (m == RIG_START)
			rig_break(r, 0);
		break;
	case CUT:
	case TWICE:
		/* Main of this link: the last that was opened. */
		if (pushes && c->times < (c->loss == CUT ? 1 : 2))
			rig_break(r, c->times++ ? channels(c) : 0);
		break;
	case LOSE_DATA:
		if (pushes && !c->times++)
			rig_break(r, 1 + c->seed % c->data);
		break;
	case LOSE_REQUEST:
		if (pushes && !c->times++)
			rig_break(r, 1 + c->data + c->seed % c->urgent);
		break;
	case CALM:
	case OCTET:
		break;
	}
}

/* All the octets of all channels, then one of them, by the seed, which is the
 * last of its channel in a second run. */
static void choose_octet(struct combo *c, struct rig *r)
{
	unsigned n = c->seed % channels(c);
	uint64_t octets[2];
	bool read = n == 0 && c->seed >> 8 & 1;

	rig_run(r, &c->cfg);
	rig_expect_moved(r, c->name);
	rig_free_source(r);
	rig_carried(r, n, octets);
	rig_fini(r);
	c->cfg.has_fault = true;
	c->cfg.fault.channel = n;
	c->cfg.fault.fault = (struct ferry_fault)FERRY_FAULT_NONE;
	octets[0] = 1 + c->seed * 7919ull % octets[read];
	if (read)
		c->cfg.fault.fault.cut_read_at = octets[0];
	else
		c->cfg.fault.fault.cut_write_at = octets[0];
	print_message("%s: channel %u, %s octet %lu\n", c->name, n,
		      read ? "read" : "written", (unsigned long)octets[0]);
}

/* ---- what must come of it ---------------------------------------------------------- */

static void expect_figures(const struct combo *c, struct rig *r)
{
	const struct ferry_stats *s = &r->source_stats;
	bool survives = c->loss == LOSE_DATA || c->loss == LOSE_REQUEST;

	if ((survives || c->loss == CALM) && s->recoveries)
		fail_msg("%s: it paused: %s", c->name, s->error);
	/* Behind a pass the rest may be there before anybody notices. */
	if (survives && c->at_once && s->lost_channels != 1)
		fail_msg("%s: %u channels were lost", c->name,
			 s->lost_channels);
	if (c->loss == UNDECIDED && s->recoveries != 1)
		fail_msg("%s: %u recoveries", c->name, s->recoveries);
	if ((c->loss == CUT || c->loss == TWICE) && c->at_once &&
	    s->recoveries != c->times)
		fail_msg("%s: %u recoveries, %u losses", c->name,
			 s->recoveries, c->times);
}

static bool has_memory(const struct combo *c)
{
	return c->cfg.block[0].page_bytes == RIG_PAGE || huge_pages_for(8);
}

static bool is_tried_again(const struct combo *c, const struct rig *r)
{
	return c->loss == PASS || c->loss == STOP ||
	       (c->loss == OCTET && r->source_rc);
}

static void run_one(void **state)
{
	struct combo *c = *state;
	struct rig *r = &c->rig;

	if (!has_memory(c)) {
		print_message("8 free huge pages of 2 MiB lack\n");
		skip();
	}
	if (c->loss == OCTET)
		choose_octet(c, r);
	c->cfg.hook = lose;
	c->cfg.hook_arg = c;
	rig_run(r, &c->cfg);
	if (is_tried_again(c, r)) {
		rig_expect_stayed(r, c->name, "");
		rig_again(r);
	}
	rig_expect_moved(r, c->name);
	expect_figures(c, r);
	rig_fini(r);
}

/* ---- the program ------------------------------------------------------------------- */

static void unmake_credentials(void)
{
	char cmd[KINDS * sizeof(folder[0]) + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf %.39s %.39s", folder[0], folder[1]);
	if (system(cmd))
		perror(cmd);
}

static bool make_credentials(void)
{
	static const char *const here[] = { "localhost" };

	for (unsigned i = 0; i < KINDS; i++) {
		struct ferry_credentials c = FERRY_CREDENTIALS_INIT;
		struct ferry_err err = { 0 };

		c.dir = mkdtemp(folder[i]);
		c.host = here;
		c.hosts = 1;
		c.psk_user = i ? "qemu" : NULL;
		if (!c.dir || ferry_credentials_make(&c, &err)) {
			fprintf(stderr, "combo: %s\n", err.msg);
			return false;
		}
	}
	return !atexit(unmake_credentials);
}

int main(int argc, char **argv)
{
	size_t n = (size_t)argc - 1;
	struct combo *combos = calloc(n, sizeof(*combos));
	struct CMUnitTest *tests = calloc(n, sizeof(*tests));
	int rc = 2;

	if (!n || !combos || !tests || !make_credentials())
		return 2;
	for (size_t i = 0; i < n; i++) {
		if (!parse(&combos[i], argv[i + 1])) {
			fprintf(stderr, "combo: no combination '%s'\n",
				argv[i + 1]);
			goto out;
		}
		tests[i] = (struct CMUnitTest){
			.name = argv[i + 1], .test_func = run_one,
			.initial_state = &combos[i],
		};
	}
	rc = _cmocka_run_group_tests("combos", tests, n, NULL, NULL);
out:
	free(combos);
	free(tests);
	return rc;
}
