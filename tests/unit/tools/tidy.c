/* SPDX-License-Identifier: MIT */
/*
 * How long a QEMU's clean-up is waited for: a table, answered by a made-up one.
 */
#include "tidy.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "ctl/qmp_server.h"

#define DEVICES	"{\"type\":\"chardev\",\"id\":\"s\"}"
#define LEFT	"[" DEVICES ",{\"type\":\"migration\"}]"
#define NONE	"[" DEVICES "]"
#define LONG_MS	100000
#define FOREVER	1000000

/* What it answers, and what comes of that. */
static const struct row {
	const char *name;
	const char *status;	/* of its migration */
	unsigned left;		/* answers in which it has not tidied up */
	unsigned asked;		/* how often, then; 0: that depends on time */
	unsigned patience_ms;
	bool unknown;		/* there is no query-yank */
	const char *why;	/* NULL: it may migrate */
} rows[] = {
	{ "none was before", "none", 0, 1, LONG_MS, false, NULL },
	{ "it has tidied up", "failed", 0, 1, LONG_MS, false, NULL },
	{ "it failed just now", "failed", 3, 4, LONG_MS, false, NULL },
	{ "it was cancelled just now", "cancelled", 1, 2, LONG_MS, false,
	  NULL },
	{ "it never does", "failed", FOREVER, 0, 50, false,
	  "a has not tidied up after its last migration for 0 s" },
	{ "it is at it: that is refused elsewhere", "active", FOREVER, 1,
	  LONG_MS, false, NULL },
	{ "an old one", "failed", 0, 0, LONG_MS, true, NULL },
};

struct made_up {
	const struct row *row;
	struct ferry_qmp_server *server;
	unsigned asked;
	_Atomic bool ended;
};

static struct json_object *status_of(const char *status)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_str(o, "status", status);
	return o;
}

static int query_yank(void *opaque, struct json_object *args,
		      struct json_object **ret, struct ferry_err *e)
{
	struct made_up *q = opaque;

	(void)args;
	(void)e;
	*ret = json_tokener_parse(q->asked++ < q->row->left ? LEFT : NONE);
	return 0;
}

static int query_migrate(void *opaque, struct json_object *args,
			 struct json_object **ret, struct ferry_err *e)
{
	const struct made_up *q = opaque;

	(void)args;
	(void)e;
	*ret = status_of(q->row->status);
	return 0;
}

static int query_status(void *opaque, struct json_object *args,
			struct json_object **ret, struct ferry_err *e)
{
	(void)opaque;
	(void)args;
	(void)e;
	*ret = status_of("running");
	return 0;
}

static const struct ferry_qmp_command commands[] = {
	{ .name = "query-migrate", .run = query_migrate },
	{ .name = "query-status", .run = query_status },
	{ .name = "query-yank", .run = query_yank },	/* the last one */
};

static void *serve(void *arg)
{
	struct made_up *q = arg;
	struct pollfd fd = { ferry_qmp_server_fd(q->server), POLLIN, 0 };

	while (!atomic_load(&q->ended)) {
		poll(&fd, 1, 20);
		ferry_qmp_server_dispatch(q->server);
	}
	return NULL;
}

static int await(struct made_up *q, struct ferry_err *e)
{
	char folder[] = "/tmp/ferry-tidy-XXXXXX", path[64];
	struct ferry_qmp_config config = {
		.path = path, .commands = commands,
		.n = FERRY_LEN(commands) - q->row->unknown, .opaque = q,
		.major = 7, .minor = 2, .package = "",
	};
	struct ferry_peer p = {
		.name = "a", .kind = FERRY_PEER_QEMU, .version = 702,
		.patience_ms = LONG_MS, .software = "QEMU 7.2.0",
	};
	pthread_t thread;
	int rc;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/qmp", folder);
	q->server = ferry_qmp_server_new(&config, e);
	assert_non_null(q->server);
	assert_int_equal(pthread_create(&thread, NULL, serve, q), 0);
	p.qmp = ferry_qmp_client_open(path, LONG_MS, e);
	assert_non_null(p.qmp);
	rc = ferry_tidy_await(&p, q->row->patience_ms, e);
	ferry_peer_close(&p);
	atomic_store(&q->ended, true);
	pthread_join(thread, NULL);
	ferry_qmp_server_free(q->server);
	assert_int_equal(rmdir(folder), 0);
	return rc;
}

static void a_clean_up_is_waited_for(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct made_up q = { .row = &rows[i] };
		struct ferry_err err = { 0 };
		int rc = await(&q, &err);

		if (!rc != !rows[i].why ||
		    (rc && (err.code != FERRY_E_STATE ||
			    !strstr(err.msg, rows[i].why))))
			fail_msg("%s: %d %s", rows[i].name, rc, err.msg);
		if (rows[i].asked && q.asked != rows[i].asked)
			fail_msg("%s: asked %u times", rows[i].name, q.asked);
	}
}

static void who_has_gone_is_not_waited_for(void **state)
{
	struct made_up q = { .row = &rows[0] };
	struct ferry_err err = { 0 };
	struct ferry_peer p = { .name = "a", .kind = FERRY_PEER_QEMU,
				.patience_ms = LONG_MS };
	char folder[] = "/tmp/ferry-tidy-XXXXXX", path[64];
	struct ferry_qmp_config config = { .path = path, .package = "",
					   .opaque = &q };

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/qmp", folder);
	q.server = ferry_qmp_server_new(&config, &err);
	assert_non_null(q.server);
	p.qmp = ferry_qmp_client_open(path, LONG_MS, &err);
	assert_non_null(p.qmp);
	ferry_qmp_server_free(q.server);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(ferry_tidy_await(&p, LONG_MS, &err), -1);
	assert_int_equal(err.code, FERRY_E_CLOSED);
	ferry_peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clean_up_is_waited_for),
		cmocka_unit_test(who_has_gone_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
