/* SPDX-License-Identifier: MIT */
/*
 * A session id is stolen, and with TLS that is of no use: whoever has it, and
 * credentials that the target accepts (a certificate of the same CA; another
 * user's key), can neither add a connection to the migration nor take it over
 * when its link is lost, with whatever proof it can make or has heard; and the
 * migration notices nothing of it.
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
#include "base/clock.h"
#include "base/thread.h"
#include "mig/greet.h"
#include "mig/source_impl.h"
#include "mig/source_test.h"
#include "mig/target_test.h"
#include "rig.h"

enum { MAIN, DATA0, DATA1, URGENT, DEVICE, LINK };	/* as they are opened */

/* ---- credentials ------------------------------------------------------------ */

/* The target's, the source's, the thief's. */
struct creds {
	const char *name;
	char dir[3][64];
};

static struct creds kinds[] = { { .name = "x509" }, { .name = "psk" } };
static char folder[] = "/tmp/ferry-stolen-XXXXXX";

static void make(const char *dir, const char *user)
{
	static const char *const here[] = { "localhost" };
	struct ferry_credentials c = FERRY_CREDENTIALS_INIT;
	struct ferry_err err = { 0 };

	c.dir = dir;
	c.host = here;
	c.hosts = 1;
	c.psk_user = user;
	if (ferry_credentials_make(&c, &err))
		fail_msg("%s", err.msg);
}

static int make_credentials(void **state)
{
	static const char *const who[] = { "target", "source", "thief" };
	char cmd[320];

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 3; k++)
			snprintf(kinds[i].dir[k], sizeof(kinds[i].dir[k]),
				 "%s/%s-%s", folder, i ? "psk" : "x509",
				 who[k]);
	/* One CA, whose certificate is all that a target asks for. */
	make(kinds[0].dir[0], NULL);
	strcpy(kinds[0].dir[1], kinds[0].dir[0]);
	strcpy(kinds[0].dir[2], kinds[0].dir[0]);
	make(kinds[1].dir[1], "qemu");
	make(kinds[1].dir[2], "mallory");
	snprintf(cmd, sizeof(cmd), "umask 077; mkdir %s && cat %s/keys.psk "
		 "%s/keys.psk >%s/keys.psk", kinds[1].dir[0],
		 kinds[1].dir[1], kinds[1].dir[2], kinds[1].dir[0]);
	return system(cmd);
}

static int unmake_credentials(void **state)
{
	char cmd[64];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", folder);
	return system(cmd);
}

/* ---- the thief ---------------------------------------------------------------- */

enum proof {
	NONE,		/* 32 zeroes */
	NOT_BOUND,	/* the feature is not offered */
	OWN,		/* keyed by a main of its own, that is, this one */
	HEARD,		/* what the source said of another connection */
	PROOFS,
};

struct theft {
	const struct creds *creds;
	unsigned before;		/* this connection is opened */
	uint16_t type, index;
	enum proof proof;
	bool	 breaks;		/* the link, when the VM is at both */
	unsigned tries;
	uint8_t	 heard[FERRY_MAC_BYTES];
	bool	 stayed;		/* it was not hung up on */
	char	 answer[512];		/* on main: the target's verdict */
};

struct call {
	struct ferry_target *target;
	struct ferry_chan *chan;
};

static void offer(void *arg)
{
	struct call *c = arg;

	ferry_target_offer(c->target, c->chan);
}

static void prove(const struct theft *t, struct ferry_chan *chan,
		  struct ferry_channel_head *head)
{
	struct ferry_bond own;
	struct ferry_err err;

	switch (t->proof) {
	case NONE:
	case PROOFS:
		break;
	case NOT_BOUND:
		head->features &= ~(uint64_t)FERRY_FEATURE_BOUND;
		head->mandatory &= ~(uint64_t)FERRY_FEATURE_BOUND;
		break;
	case OWN:
		assert_int_equal(ferry_bond_make(&own, chan, head->session,
						 &err), 0);
		assert_int_equal(ferry_bond_sign(&own, chan, head, &err), 0);
		break;
	case HEARD:
		memcpy(head->mac, t->heard, sizeof(head->mac));
		break;
	}
}

/* Its first main is bound to itself. */
static void hear(struct theft *t, struct rig *r)
{
	struct ferry_channel_head head = { .type = t->type,
					   .index = t->index };

	memcpy(head.session, r->source->session, sizeof(head.session));
	assert_int_equal(ferry_bond_sign(&r->source->bond, r->source->main,
					 &head, NULL), 0);
	memcpy(t->heard, head.mac, sizeof(t->heard));
}

static void say(const struct theft *t, struct rig *r, struct ferry_chan *chan)
{
	struct ferry_channel_head head = {
		.type = t->type, .index = t->index,
		.features = FERRY_FEATURES_CAN,
		.mandatory = FERRY_FEATURES_MUST | FERRY_FEATURE_BOUND,
	};
	bool main = t->type == FERRY_CHANNEL_MAIN;
	struct ferry_hello ours;
	struct ferry_err err;

	memcpy(head.session, r->source->session, sizeof(head.session));
	if (main)
		head.mandatory |= FERRY_FEATURE_RECOVER;
	prove(t, chan, &head);
	assert_int_equal(ferry_greet_describe(r->src.vm, &ours, &err), 0);
	ours.has_channels = true;
	ours.data = 2;
	ours.urgent = 1;
	assert_int_equal(ferry_greet_send(chan, &head, main ? &ours : NULL,
					  &err), 0);
	ferry_hello_fini(&ours);
}

#define PATIENCE_NS	(60 * FERRY_NS_PER_S)

/* Until it hangs up, which it does at once; it might talk for ever. */
static void listen_to(struct theft *t, struct ferry_chan *chan)
{
	uint64_t until = ferry_now_ns() + PATIENCE_NS;
	size_t n = 0;

	t->stayed = true;
	chan->ops->set_timeout(chan, 1000, 1000);
	while (t->stayed && ferry_now_ns() < until) {
		struct iovec iov = { t->answer + n, 1 };
		ssize_t got = chan->ops->readv(chan, &iov, 1);

		t->stayed = got > 0 || got == -ETIMEDOUT;
		n += got > 0 && n + 2 < sizeof(t->answer);
	}
	/* For strstr(). */
	for (size_t i = 0; i < n; i++)
		if (!t->answer[i])
			t->answer[i] = '.';
	t->answer[n] = 0;
}

static void come(struct theft *t, struct rig *r)
{
	struct ferry_tls_wish wish = {
		.creds = t->creds->dir[2], .hostname = "localhost",
		.authz = "",
	};
	struct ferry_tls *tls = ferry_tls_load(&wish, NULL);
	struct ferry_thread thread = { 0 };
	struct ferry_chan *end[2], *chan;
	struct call call;
	struct ferry_err err;

	t->tries++;
	assert_non_null(tls);
	assert_int_equal(ferry_chan_pair(end, NULL), 0);
	call = (struct call){ r->target, end[1] };
	assert_int_equal(ferry_thread_start(&thread, "offer", offer, &call,
					    NULL), 0);
	chan = ferry_chan_tls(end[0], tls, "", 30000, NULL, &err);
	if (!chan)
		fail_msg("its credentials are good: %s", err.msg);
	say(t, r, chan);
	listen_to(t, chan);
	ferry_chan_close(chan);
	ferry_thread_join(&thread);
	ferry_tls_free(tls);
}

static void steal(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct theft *t = r->cfg.hook_arg;

	if (m == RIG_DIAL && arg == DATA0)
		hear(t, r);
	if (m == RIG_DIAL && arg == t->before)
		come(t, r);
	if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_POSTCOPY_ACTIVE) {
		if (t->breaks && r->channels == LINK)
			rig_break(r, MAIN);
		else if (t->before == UINT32_MAX)
			come(t, r);
	}
}

/* ---- what it gets -------------------------------------------------------------- */

static const struct {
	const char *what;
	struct theft theft;
} thefts[] = {
	{ "the first data channel", { .before = DATA0,
		.type = FERRY_CHANNEL_DATA, .index = 0 } },
	{ "a later data channel", { .before = DATA1,
		.type = FERRY_CHANNEL_DATA, .index = 1 } },
	{ "the urgent channel", { .before = DATA1,
		.type = FERRY_CHANNEL_URGENT, .index = 0 } },
	{ "the device channel", { .before = URGENT,
		.type = FERRY_CHANNEL_DEVICE, .index = 0 } },
	{ "main, while the link lives", { .before = UINT32_MAX,
		.type = FERRY_CHANNEL_MAIN } },
	{ "main, when the link is lost", { .before = LINK,
		.type = FERRY_CHANNEL_MAIN, .breaks = true } },
	{ "a data channel of the second link", { .before = LINK + DATA0,
		.type = FERRY_CHANNEL_DATA, .index = 0, .breaks = true } },
};

static void one_theft(size_t i, const struct creds *creds, enum proof proof)
{
	struct theft t = thefts[i].theft;
	struct rig_config cfg = {
		.block = { { "ram", 512 << 10, 4096, false } }, .blocks = 1,
		.zero_percent = 20, .reader = true, .recovers = true,
		.hasty = true, .bulk = { .devices = 1, .blocks = 3 },
		.hook = steal, .hook_arg = &t,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "multifd-channels", "2" },
			   { "x-ferry-device-channels", "1" },
			   { "tls-hostname", "localhost" },
			   { "tls-creds", creds->dir[1] } },
		.target_param = { { "tls-creds", creds->dir[0] } },
	};
	char what[100];
	struct rig r;

	t.creds = creds;
	t.proof = proof;
	snprintf(what, sizeof(what), "%s, %s, proof %d", thefts[i].what,
		 creds->name, proof);
	rig_run(&r, &cfg);
	if (t.tries != 1 || t.stayed)
		fail_msg("%s: %u tries%s", what, t.tries, t.stayed ?
			 ", and it was let in" : "");
	rig_expect_moved(&r, what);
	if (t.type == FERRY_CHANNEL_MAIN &&
	    !strstr(t.answer, "not here") && !strstr(t.answer, "not bound"))
		fail_msg("%s: it was told '%s'", what, t.answer);
	if (r.source_stats.recoveries != t.breaks ||
	    r.source_stats.recover_attempts != t.breaks ||
	    r.source_stats.lost_channels)
		fail_msg("%s: the migration was disturbed: %u recoveries, %u "
			 "attempts", what, r.source_stats.recoveries,
			 r.source_stats.recover_attempts);
	rig_fini(&r);
}

static void a_stolen_session_is_of_no_use(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(thefts); i++)
		for (int proof = 0; proof < PROOFS; proof++)
			for (size_t k = 0; k < FERRY_LEN(kinds); k++)
				one_theft(i, &kinds[k], (enum proof)proof);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stolen_session_is_of_no_use),
	};

	return cmocka_run_group_tests(tests, make_credentials,
				      unmake_credentials);
}
