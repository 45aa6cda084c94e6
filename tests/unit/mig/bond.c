/* SPDX-License-Identifier: MIT */
/*
 * What binds a connection to its session: only who was an end of the first
 * main can prove it, and only for the connection at hand, whatever else it
 * knows and whatever credentials it has.
 */
#include "unit/mig/help.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "chan/tls.h"
#include "mig/bond.h"

struct world {
	char		 dir[64];
	struct ferry_tls *client, *server;
};

/* One connection, both ends in this process. */
struct link {
	struct ferry_chan *s, *t;	/* the source's end, the target's */
};

struct greeter {
	struct ferry_chan *inner, *chan;
	const struct ferry_tls *tls;
};

static void greet(void *arg)
{
	struct greeter *g = arg;

	g->chan = ferry_chan_tls(g->inner, g->tls, "", 30000, NULL, NULL);
}

static void connect_them(const struct world *w, struct link *l)
{
	struct ferry_chan *end[2];
	struct ferry_thread thread = { 0 };
	struct greeter s, t;

	assert_int_equal(ferry_chan_pair(end, NULL), 0);
	s = (struct greeter){ .inner = end[0], .tls = w->client };
	t = (struct greeter){ .inner = end[1], .tls = w->server };
	assert_int_equal(ferry_thread_start(&thread, "s", greet, &s, NULL), 0);
	greet(&t);
	ferry_thread_join(&thread);
	assert_non_null(s.chan);
	assert_non_null(t.chan);
	*l = (struct link){ s.chan, t.chan };
}

static void part(struct link *l)
{
	ferry_chan_close(l->s);
	ferry_chan_close(l->t);
}

static int setup(void **state)
{
	static struct world w;
	struct ferry_tls_making m = { .psk_user = "qemu" };
	struct ferry_tls_wish wish = { .hostname = "", .authz = "" };

	strcpy(w.dir, "/tmp/ferry-bond-XXXXXX");
	if (!mkdtemp(w.dir))
		return -1;
	m.dir = wish.creds = w.dir;
	if (ferry_tls_make(&m, NULL))
		return -1;
	w.client = ferry_tls_load(&wish, NULL);
	wish.server = true;
	w.server = ferry_tls_load(&wish, NULL);
	*state = &w;
	return w.client && w.server ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char path[80];

	ferry_tls_free(w->client);
	ferry_tls_free(w->server);
	snprintf(path, sizeof(path), "%s/keys.psk", w->dir);
	unlink(path);
	return rmdir(w->dir);
}

static const struct ferry_channel_head model = {
	.type = FERRY_CHANNEL_DATA, .index = 2,
	.session = "sixteen octets!", .features = FERRY_FEATURE_BOUND,
};

static void who_opened_main_may_open_more_and_come_back(void **state)
{
	struct ferry_channel_head head = model;
	struct ferry_bond source, target;
	struct link main, data, again;
	struct ferry_err e = { 0 };

	connect_them(*state, &main);
	connect_them(*state, &data);
	connect_them(*state, &again);
	assert_int_equal(ferry_bond_make(&source, main.s, head.session, &e), 0);
	assert_int_equal(ferry_bond_make(&target, main.t, head.session, &e), 0);
	part(&main);		/* it may be lost: the key is kept */
	assert_int_equal(ferry_bond_sign(&source, data.s, &head, &e), 0);
	assert_int_equal(ferry_bond_check(&target, data.t, &head, &e), 0);
	head.type = FERRY_CHANNEL_MAIN;
	head.index = 0;
	assert_int_equal(ferry_bond_sign(&source, again.s, &head, &e), 0);
	assert_int_equal(ferry_bond_check(&target, again.t, &head, &e), 0);
	part(&data);
	part(&again);
}

/* What a stranger has, who holds good credentials and knows the session id. */
static void forge_nothing(struct ferry_channel_head *h)
{
	memset(h->mac, 0, sizeof(h->mac));
}

static void forge_no_bond(struct ferry_channel_head *h)
{
	h->features = 0;
}

static void forge_index(struct ferry_channel_head *h)
{
	h->index = 3;
}

static void forge_type(struct ferry_channel_head *h)
{
	h->type = FERRY_CHANNEL_MAIN;
}

static void forge_session(struct ferry_channel_head *h)
{
	h->session[0] ^= 1;
}

static void forge_a_bit(struct ferry_channel_head *h)
{
	h->mac[31] ^= 0x80;
}

static const struct {
	const char *name;
	void	  (*forge)(struct ferry_channel_head *h);
} forgeries[] = {
	{ "no MAC", forge_nothing },
	{ "not bound", forge_no_bond },
	{ "another index", forge_index },
	{ "another type", forge_type },
	{ "another session", forge_session },
	{ "one bit", forge_a_bit },
};

static void what_was_forged_is_refused(void **state)
{
	struct ferry_bond source, target;
	struct link main, data;
	struct ferry_err e = { 0 };

	connect_them(*state, &main);
	connect_them(*state, &data);
	assert_int_equal(ferry_bond_make(&source, main.s, model.session, &e),
			 0);
	assert_int_equal(ferry_bond_make(&target, main.t, model.session, &e),
			 0);
	for (size_t i = 0; i < FERRY_LEN(forgeries); i++) {
		struct ferry_channel_head head = model;

		assert_int_equal(ferry_bond_sign(&source, data.s, &head, &e),
				 0);
		forgeries[i].forge(&head);
		if (!ferry_bond_check(&target, data.t, &head, &e))
			fail_msg("%s", forgeries[i].name);
		assert_int_equal(e.code, FERRY_E_PERM);
	}
	part(&main);
	part(&data);
}

static void a_proof_is_worthless_on_another_connection(void **state)
{
	struct ferry_channel_head head = model;
	struct ferry_bond source, target, stranger;
	struct link main, data, replay;
	struct ferry_err e = { 0 };

	connect_them(*state, &main);
	connect_them(*state, &data);
	connect_them(*state, &replay);
	assert_int_equal(ferry_bond_make(&source, main.s, head.session, &e), 0);
	assert_int_equal(ferry_bond_make(&target, main.t, head.session, &e), 0);
	assert_int_equal(ferry_bond_sign(&source, data.s, &head, &e), 0);
	assert_int_equal(ferry_bond_check(&target, replay.t, &head, &e), -1);
	assert_non_null(strstr(e.msg, "was not opened by who opened"));
	/* One with a main of its own has another key for the same session. */
	assert_int_equal(ferry_bond_make(&stranger, replay.s, head.session,
					 &e), 0);
	assert_int_equal(ferry_bond_sign(&stranger, data.s, &head, &e), 0);
	assert_int_equal(ferry_bond_check(&target, data.t, &head, &e), -1);
	part(&main);
	part(&data);
	part(&replay);
}

static void a_connection_in_the_clear_cannot_be_bound(void **state)
{
	struct ferry_chan *end[2];
	struct ferry_bond bond;
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_chan_pair(end, NULL), 0);
	assert_int_equal(ferry_bond_make(&bond, end[0], model.session, &e),
			 -1);
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_opened_main_may_open_more_and_come_back),
		cmocka_unit_test(what_was_forged_is_refused),
		cmocka_unit_test(a_proof_is_worthless_on_another_connection),
		cmocka_unit_test(a_connection_in_the_clear_cannot_be_bound),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
