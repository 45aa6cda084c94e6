/* SPDX-License-Identifier: MIT */
/*
 * The QMP server as its clients meet it: real sockets in a folder of our own,
 * one dispatcher thread as the control loop would be.
 */
#include "ctl/qmp_server.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "cm.h"
#include "ctl/qmp_client.h"
#include "ctl/qmp_socket.h"

#define PATIENCE_MS	20000
#define GREETING	"{\"QMP\":{\"version\":{\"qemu\":{\"major\":1," \
			"\"minor\":2,\"micro\":3},\"package\":\"pkg\"}," \
			"\"capabilities\":[\"oob\"]}}"
#define HELLO		"{\"execute\":\"qmp_capabilities\"}"
#define HELLO_OOB	"{\"execute\":\"qmp_capabilities\",\"arguments\":" \
			"{\"enable\":[\"oob\"]}}"

/* ---- a server and its dispatcher ------------------------------------------ */

struct fixture {
	char	dir[64];
	char	path[96];
	struct ferry_qmp_server *server;
	struct ferry_thread dispatcher;
	int	stop_fd;
	int	gate_fd;	/* "wait" ends when it is written */
};

static int cmd_echo(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	(void)opaque, (void)e;
	*ret = json_object_get(args);
	return 0;
}

static int cmd_wait(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	struct fixture *f = opaque;
	struct pollfd p = { f->gate_fd, POLLIN, 0 };
	eventfd_t n;

	(void)args, (void)ret;
	if (poll(&p, 1, PATIENCE_MS) < 1)
		return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "nobody came");
	return eventfd_read(f->gate_fd, &n);
}

static int cmd_open_gate(void *opaque, struct json_object *args,
			 struct json_object **ret, struct ferry_err *e)
{
	struct fixture *f = opaque;

	(void)args, (void)ret, (void)e;
	return eventfd_write(f->gate_fd, 1);
}

static int cmd_fail(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	(void)opaque, (void)args, (void)ret;
	return ferry_err_set(e, FERRY_E_STATE, 0, "it \"failed\"");
}

static int cmd_big(void *opaque, struct json_object *args,
		   struct json_object **ret, struct ferry_err *e)
{
	char text[8192];

	(void)opaque, (void)args, (void)e;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	*ret = json_object_new_object();
	ferry_json_add_str(*ret, "text", text);
	return 0;
}

static const struct ferry_qmp_command commands[] = {
	{ "echo", cmd_echo, FERRY_QMP_OOB,
	  { { "text", FERRY_QMP_STR, false }, { "n", FERRY_QMP_INT, true } } },
	{ "wait", cmd_wait, 0, {} },
	{ "open-gate", cmd_open_gate, FERRY_QMP_OOB, {} },
	{ "fail", cmd_fail, 0, {} },
	{ "big", cmd_big, 0, {} },
	{ "any", cmd_echo, FERRY_QMP_ANY_ARGS, {} },
};

static void dispatch(void *arg)
{
	struct fixture *f = arg;
	struct pollfd p[2] = {
		{ f->stop_fd, POLLIN, 0 },
		{ ferry_qmp_server_fd(f->server), POLLIN, 0 },
	};

	while (poll(p, 2, -1) > 0 && !p[0].revents)
		ferry_qmp_server_dispatch(f->server);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct ferry_qmp_config config = {
		.commands = commands, .n = FERRY_LEN(commands), .opaque = f,
		.major = 1, .minor = 2, .micro = 3, .package = "pkg",
	};

	strcpy(f->dir, "/tmp/ferry-qmp-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/vm.qmp", f->dir);
	config.path = f->path;
	f->stop_fd = eventfd(0, EFD_CLOEXEC);
	f->gate_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->server = ferry_qmp_server_new(&config, NULL);
	assert_non_null(f->server);
	assert_int_equal(ferry_thread_start(&f->dispatcher, "dispatch",
					    dispatch, f, NULL), 0);
	*state = f;
	return 0;
}

static void stop_server(struct fixture *f)
{
	if (!f->server)
		return;
	eventfd_write(f->stop_fd, 1);
	eventfd_write(f->gate_fd, 1);
	ferry_thread_join(&f->dispatcher);
	ferry_qmp_server_free(f->server);
	f->server = NULL;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stop_server(f);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(rmdir(f->dir), 0);
	close(f->stop_fd);
	close(f->gate_fd);
	free(f);
	return 0;
}

/* ---- a client that says anything ------------------------------------------ */

struct talker {
	int	fd;
	size_t	at, end;
	char	in[65536];
};

static void say_n(struct talker *t, const char *text, size_t n)
{
	assert_int_equal(send(t->fd, text, n, MSG_NOSIGNAL), n);
}

static void say(struct talker *t, const char *text)
{
	say_n(t, text, strlen(text));
}

/* The next line without its CR LF; NULL when the server hung up. */
static const char *hear(struct talker *t)
{
	for (;;) {
		char *line = t->in + t->at;
		char *nl = memchr(line, '\n', t->end - t->at);
		struct pollfd p = { t->fd, POLLIN, 0 };
		ssize_t n;

		if (nl) {
			assert_int_equal(nl[-1], '\r');
			nl[-1] = '\0';
			t->at = (size_t)(nl + 1 - t->in);
			return line;
		}
		memmove(t->in, line, t->end - t->at);
		t->end -= t->at;
		t->at = 0;
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		n = recv(t->fd, t->in + t->end, sizeof(t->in) - t->end, 0);
		if (n <= 0)
			return NULL;
		t->end += (size_t)n;
	}
}

static void expect(struct talker *t, const char *line)
{
	const char *got = hear(t);

	assert_non_null(got);
	assert_string_equal(got, line);
}

static void expect_has(struct talker *t, const char *part)
{
	const char *got = hear(t);

	if (!got || !strstr(got, part))
		fail_msg("expected ...%s..., got %s", part, got ? got : "EOF");
}

static void meet(struct fixture *f, struct talker *t)
{
	memset(t, 0, sizeof(*t));
	t->fd = ferry_qmp_connect(f->path, NULL);
	assert_true(t->fd >= 0);
}

static void meet_and(struct fixture *f, struct talker *t, const char *hello)
{
	meet(f, t);
	expect(t, GREETING);
	say(t, hello);
	expect(t, "{\"return\":{}}");
}

/* ---- negotiation ----------------------------------------------------------- */

static void a_client_must_negotiate_first(void **state)
{
	static const struct { const char *say, *hear; } talk[] = {
		{ "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\"},"
		  "\"id\":3}", "{\"error\":{\"class\":\"CommandNotFound\","
		  "\"desc\":\"Expecting capabilities negotiation with "
		  "'qmp_capabilities'\"},\"id\":3}" },
		{ "{\"execute\":\"qmp_capabilities\",\"arguments\":"
		  "{\"enable\":[\"foo\"]}}", "{\"error\":{\"class\":"
		  "\"GenericError\",\"desc\":\"Parameter 'enable' does not "
		  "accept value 'foo'\"}}" },
		{ "{\"execute\":\"qmp_capabilities\",\"arguments\":"
		  "{\"enable\":5}}", "{\"error\":{\"class\":\"GenericError\","
		  "\"desc\":\"Invalid parameter type for 'enable', expected: "
		  "array\"}}" },
		{ "{\"exec-oob\":\"qmp_capabilities\"}", "{\"error\":{"
		  "\"class\":\"GenericError\",\"desc\":\"QMP input member "
		  "'exec-oob' is unexpected\"}}" },
		{ HELLO, "{\"return\":{}}" },
		{ HELLO, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":"
		  "\"Capabilities negotiation is already complete, command "
		  "ignored\"}}" },
		{ "{\"exec-oob\":\"open-gate\"}", "{\"error\":{\"class\":"
		  "\"GenericError\",\"desc\":\"QMP input member 'exec-oob' is "
		  "unexpected\"}}" },
	};
	struct talker t;

	meet(*state, &t);
	expect(&t, GREETING);
	for (size_t i = 0; i < FERRY_LEN(talk); i++) {
		say(&t, talk[i].say);
		expect(&t, talk[i].hear);
	}
	close(t.fd);
}

/* ---- requests -------------------------------------------------------------- */

#define ECHO(id)	"{\"execute\":\"echo\",\"arguments\":{\"text\":\"t\"}," \
			"\"id\":" id "}"
#define ECHOED(id)	"{\"return\":{\"text\":\"t\"},\"id\":" id "}"

static void requests_may_come_one_octet_at_a_time(void **state)
{
	static const char text[] = HELLO ECHO("1") "\r\n" ECHO("2");
	struct talker t;

	meet(*state, &t);
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		say_n(&t, text + i, 1);
	expect(&t, GREETING);
	expect(&t, "{\"return\":{}}");
	expect(&t, ECHOED("1"));
	expect(&t, ECHOED("2"));
	close(t.fd);
}

static void one_write_may_hold_many_requests(void **state)
{
	struct talker t;
	char line[64];

	meet_and(*state, &t, HELLO);
	/* More than may wait at once. */
	for (int round = 0; round < 4; round++)
		say(&t, ECHO("0") ECHO("1") ECHO("2") "\n" ECHO("3") ECHO("4")
			ECHO("5") ECHO("6") ECHO("7") ECHO("8") ECHO("9"));
	for (int i = 0; i < 40; i++) {
		snprintf(line, sizeof(line), ECHOED("%d"), i % 10);
		expect(&t, line);
	}
	close(t.fd);
}

static void the_id_comes_back_whatever_it_is(void **state)
{
	static const char *const ids[] = {
		"0", "\"x\"", "[1,{\"a\":null}]", "{}", "1.5", "true",
	};
	char line[128];
	struct talker t;

	meet_and(*state, &t, HELLO);
	for (size_t i = 0; i < FERRY_LEN(ids); i++) {
		snprintf(line, sizeof(line), "{\"execute\":\"any\",\"id\":%s}",
			 ids[i]);
		say(&t, line);
		snprintf(line, sizeof(line), "{\"return\":{},\"id\":%s}",
			 ids[i]);
		expect(&t, line);
	}
	close(t.fd);
}

static const struct { const char *say, *desc; } bad[] = {
	{ "[1]", "QMP input must be a JSON object" },
	{ "5 ", "QMP input must be a JSON object" },
	{ "null ", "QMP input must be a JSON object" },
	{ "{}", "QMP input lacks member 'execute'" },
	{ "{\"foo\":1}", "QMP input member 'foo' is unexpected" },
	{ "{\"execute\":5}", "QMP input member 'execute' must be a string" },
	{ "{\"execute\":\"echo\",\"arguments\":5}",
	  "QMP input member 'arguments' must be an object" },
	{ "{\"execute\":\"echo\",\"exec-oob\":\"echo\"}",
	  "QMP input member 'execute' clashes with 'exec-oob'" },
	{ "{\"execute\":\"nope\"}", "The command nope has not been found" },
	{ "{\"exec-oob\":\"wait\"}", "The command wait does not support OOB" },
	{ "{\"execute\":\"echo\"}", "Parameter 'text' is missing" },
	{ "{\"execute\":\"echo\",\"arguments\":{\"text\":5}}",
	  "Invalid parameter type for 'text', expected: string" },
	{ "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"n\":true}}",
	  "Invalid parameter type for 'n', expected: integer" },
	{ "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"x\":1}}",
	  "Parameter 'x' is unexpected" },
	{ "{\"execute\":\"fail\",\"arguments\":{\"x\":1}}",
	  "Parameter 'x' is unexpected" },
	{ "{\"execute\":\"fail\"}", "it \\\"failed\\\"" },
	{ "{\"execute\": query}\n", "JSON parse error, " },
	{ "{\"execute\":\"any\" ]\n", "JSON parse error, " },
	{ "\"\xff\"\n", "JSON parse error, not UTF-8" },
};

static void nonsense_gets_a_sentence_and_the_talk_goes_on(void **state)
{
	char part[160];
	struct talker t;

	meet_and(*state, &t, HELLO_OOB);
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		say(&t, bad[i].say);
		snprintf(part, sizeof(part), "\"desc\":\"%s", bad[i].desc);
		expect_has(&t, part);
		say(&t, ECHO("1"));
		expect(&t, ECHOED("1"));
	}
	close(t.fd);
}

static void huge_json_is_refused_without_being_kept(void **state)
{
	static char junk[65536];
	struct talker t;

	memset(junk, 'x', sizeof(junk));
	meet_and(*state, &t, HELLO);
	say(&t, "{\"execute\":\"");
	for (int i = 0; i < 64; i++)	/* 4 MiB */
		say_n(&t, junk, sizeof(junk));
	say(&t, "\"}\n");
	expect_has(&t, "JSON value is larger than");
	say(&t, ECHO("1"));
	expect(&t, ECHOED("1"));
	close(t.fd);
}

static void the_servers_own_commands_are_listed_with_the_rest(void **state)
{
	struct talker t;

	meet_and(*state, &t, HELLO);
	say(&t, "{\"execute\":\"query-commands\"}");
	expect(&t, "{\"return\":[{\"name\":\"qmp_capabilities\"},{\"name\":"
		   "\"query-commands\"},{\"name\":\"query-version\"},"
		   "{\"name\":\"echo\"},{\"name\":\"wait\"},{\"name\":"
		   "\"open-gate\"},{\"name\":\"fail\"},{\"name\":\"big\"},"
		   "{\"name\":\"any\"}]}");
	say(&t, "{\"execute\":\"query-version\"}");
	expect(&t, "{\"return\":{\"qemu\":{\"major\":1,\"minor\":2,\"micro\":3"
		   "},\"package\":\"pkg\"}}");
	close(t.fd);
}

/* ---- side by side ---------------------------------------------------------- */

static void oob_runs_while_another_command_blocks(void **state)
{
	struct talker t;

	meet_and(*state, &t, HELLO_OOB);
	say(&t, "{\"execute\":\"wait\",\"id\":1}" ECHO("2")
		"{\"exec-oob\":\"echo\",\"arguments\":{\"text\":\"t\"},"
		"\"id\":3}");
	expect(&t, ECHOED("3"));
	say(&t, "{\"exec-oob\":\"open-gate\",\"id\":4}");
	/* 4 opens the gate for 1; their replies may overtake each other. */
	expect_has(&t, "{\"return\":{},\"id\":");
	expect_has(&t, "\"id\":");
	expect_has(&t, "\"id\":");
	close(t.fd);
}

static void errors_of_form_keep_their_place_in_the_queue(void **state)
{
	struct talker a, b;

	meet_and(*state, &a, HELLO);
	meet_and(*state, &b, HELLO_OOB);
	say(&a, "{\"execute\":\"wait\",\"id\":1}{\"id\":2}");
	say(&b, "{\"exec-oob\":\"open-gate\"}");
	expect(&a, "{\"return\":{},\"id\":1}");
	expect_has(&a, "lacks member");
	close(a.fd);
	close(b.fd);
}

static void events_reach_every_negotiated_client(void **state)
{
	struct fixture *f = *state;
	struct talker a, b, stranger;
	struct json_object *data = json_object_new_object();

	meet_and(f, &a, HELLO);
	meet_and(f, &b, HELLO);
	meet(f, &stranger);
	expect(&stranger, GREETING);

	ferry_json_add_str(data, "status", "active");
	ferry_qmp_server_event(f->server, "MIGRATION", data);
	ferry_qmp_server_event(f->server, "STOP", NULL);
	for (int i = 0; i < 2; i++) {
		expect_has(i ? &a : &b, "\"event\":\"MIGRATION\",\"data\":"
				"{\"status\":\"active\"}}");
		expect_has(i ? &a : &b, "\"event\":\"STOP\"}");
	}
	say(&stranger, HELLO);
	expect(&stranger, "{\"return\":{}}");
	close(a.fd);
	close(b.fd);
	close(stranger.fd);
}

static void a_client_that_does_not_read_is_dropped_alone(void **state)
{
	struct fixture *f = *state;
	struct talker slow, fine;
	char text[4096];

	meet_and(f, &slow, HELLO);
	meet_and(f, &fine, HELLO);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 1000; i++) {
		struct json_object *data = json_object_new_object();

		ferry_json_add_str(data, "text", text);
		ferry_qmp_server_event(f->server, "BIG", data);
		expect_has(&fine, "\"event\":\"BIG\"");
	}
	while (hear(&slow))
		;	/* what the kernel had kept, then the end */
	say(&fine, ECHO("1"));
	expect(&fine, ECHOED("1"));
	close(slow.fd);
	close(fine.fd);
}

static void a_client_that_asks_without_reading_is_not_listened_to(void **state)
{
	struct fixture *f = *state;
	struct talker greedy, fine;
	ssize_t n;
	int said = 0;

	meet_and(f, &greedy, HELLO);
	meet_and(f, &fine, HELLO);
	/* 8 KiB of reply for each; in the end the socket takes no more. */
	do {
		struct pollfd p = { greedy.fd, POLLOUT, 0 };

		if (poll(&p, 1, 300) < 1)
			break;
		n = send(greedy.fd, "{\"execute\":\"big\"}", 17,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == 17 && said++ < 1000000);
	assert_true(said < 1000000);
	say(&fine, ECHO("1"));
	expect(&fine, ECHOED("1"));
	/* Once it reads, it gets all that it asked for. */
	for (int i = 0; i < said; i++)
		expect_has(&greedy, "xxxx");
	close(greedy.fd);
	close(fine.fd);
}

static void a_client_that_stops_sending_still_gets_its_replies(void **state)
{
	struct talker t;

	meet(*state, &t);
	say(&t, HELLO ECHO("1") ECHO("2"));
	shutdown(t.fd, SHUT_WR);
	expect(&t, GREETING);
	expect(&t, "{\"return\":{}}");
	expect(&t, ECHOED("1"));
	expect(&t, ECHOED("2"));
	assert_null(hear(&t));
	close(t.fd);
}

static void a_client_may_vanish_while_its_command_runs(void **state)
{
	struct talker t, u;

	meet_and(*state, &t, HELLO);
	say(&t, "{\"execute\":\"wait\"}");
	close(t.fd);
	meet_and(*state, &u, HELLO_OOB);
	say(&u, "{\"exec-oob\":\"open-gate\"}");
	expect(&u, "{\"return\":{}}");
	say(&u, ECHO("1"));
	expect(&u, ECHOED("1"));
	close(u.fd);
}

static void one_client_too_many_is_told_so(void **state)
{
	static struct talker t[FERRY_QMP_CLIENTS_MAX + 1];
	size_t i;

	for (i = 0; i < FERRY_QMP_CLIENTS_MAX; i++)
		meet_and(*state, &t[i], HELLO);
	meet(*state, &t[i]);
	expect_has(&t[i], "too many QMP clients");
	assert_null(hear(&t[i]));
	for (i = 0; i <= FERRY_QMP_CLIENTS_MAX; i++)
		close(t[i].fd);
}

static void last_words_arrive_when_the_server_ends(void **state)
{
	struct fixture *f = *state;
	struct talker t;

	meet_and(f, &t, HELLO);
	ferry_qmp_server_event(f->server, "SHUTDOWN", NULL);
	stop_server(f);
	expect_has(&t, "\"event\":\"SHUTDOWN\"");
	assert_null(hear(&t));
	close(t.fd);
}

/* ---- the socket ------------------------------------------------------------ */

static void a_live_socket_is_not_taken_over(void **state)
{
	struct fixture *f = *state;
	struct ferry_qmp_place place;
	struct ferry_err e;
	char says[200];

	assert_int_equal(ferry_qmp_listen(f->path, &place, &e), -1);
	assert_int_equal(e.code, FERRY_E_STATE);
	snprintf(says, sizeof(says), "process %d listens at %s already",
		 (int)getpid(), f->path);
	assert_string_equal(e.msg, says);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void a_stale_socket_is_replaced_and_a_file_is_not(void **state)
{
	struct fixture *f = *state;
	struct ferry_qmp_place old = { 0 }, new = { 0 };
	struct ferry_err e;
	struct stat st;
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/other", f->dir);
	fd = ferry_qmp_listen(path, &old, &e);
	assert_true(fd >= 0);
	close(fd);
	fd = ferry_qmp_listen(path, &new, &e);
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(fd);
	ferry_qmp_unlisten(&new);
	assert_int_equal(access(path, F_OK), -1);

	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(ferry_qmp_listen(path, &new, &e), -1);
	ferry_qmp_unlisten(&new);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	struct ferry_qmp_place place;
	struct ferry_err e;
	char path[200];

	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(ferry_qmp_listen(path, &place, &e), -1);
	assert_int_equal(e.code, FERRY_E_INVALID);
	assert_int_equal(ferry_qmp_listen("", &place, &e), -1);
}

/* ---- our own client -------------------------------------------------------- */

static void the_client_calls_and_hears(void **state)
{
	struct fixture *f = *state;
	struct json_object *args = json_object_new_object();
	struct json_object *ret = NULL;
	struct ferry_qmp_client *c;
	struct ferry_err e;

	c = ferry_qmp_client_open(f->path, PATIENCE_MS, &e);
	assert_non_null(c);
	assert_string_equal(ferry_qmp_client_package(c), "pkg");
	assert_int_equal(ferry_qmp_client_pid(c), getpid());

	ferry_qmp_server_event(f->server, "STOP", NULL);
	ferry_json_add_str(args, "text", "hi");
	assert_int_equal(ferry_qmp_client_call(c, "echo", args, PATIENCE_MS,
					       &ret, &e), 0);
	assert_string_equal(ferry_json_str(ret, "text"), "hi");
	json_object_put(ret);

	assert_int_equal(ferry_qmp_client_event(c, 0, &ret, &e), 1);
	assert_string_equal(ferry_json_str(ret, "event"), "STOP");
	json_object_put(ret);
	assert_int_equal(ferry_qmp_client_event(c, 10, &ret, &e), 0);

	assert_int_equal(ferry_qmp_client_call(c, "fail", NULL, PATIENCE_MS,
					       NULL, &e), -1);
	assert_int_equal(e.code, FERRY_E_PEER);
	assert_string_equal(e.msg, "it \"failed\"");
	ferry_qmp_client_close(c);
}

static void the_client_gives_up_in_time_and_goes_on(void **state)
{
	struct fixture *f = *state;
	struct json_object *ret = NULL;
	struct ferry_qmp_client *c;
	struct ferry_err e;

	c = ferry_qmp_client_open(f->path, PATIENCE_MS, &e);
	assert_int_equal(ferry_qmp_client_call(c, "wait", NULL, 20, NULL, &e),
			 -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
	assert_int_equal(ferry_qmp_client_call_oob(c, "open-gate", NULL,
						   PATIENCE_MS, NULL, &e), 0);
	assert_int_equal(ferry_qmp_client_call(c, "any", NULL, PATIENCE_MS,
					       &ret, &e), 0);
	json_object_put(ret);
	stop_server(f);
	assert_int_equal(ferry_qmp_client_event(c, PATIENCE_MS, &ret, &e), -1);
	assert_int_equal(e.code, FERRY_E_CLOSED);
	ferry_qmp_client_close(c);
}

static void only_the_newest_unread_events_are_kept(void **state)
{
	struct fixture *f = *state;
	struct json_object *ev = NULL;
	struct ferry_qmp_client *c;
	uint64_t n = 0, last = 0;
	struct ferry_err e;

	c = ferry_qmp_client_open(f->path, PATIENCE_MS, &e);
	for (uint64_t i = 1; i <= FERRY_QMP_EVENTS_MAX + 9; i++) {
		struct json_object *data = json_object_new_object();

		ferry_json_add_u64(data, "n", i);
		ferry_qmp_server_event(f->server, "N", data);
	}
	assert_int_equal(ferry_qmp_client_call(c, "any", NULL, PATIENCE_MS,
					       NULL, &e), 0);
	while (ferry_qmp_client_event(c, 0, &ev, &e) == 1) {
		last = ferry_json_u64(ferry_json_obj(ev, "data"), "n", 0);
		json_object_put(ev);
		n++;
	}
	assert_int_equal(n, FERRY_QMP_EVENTS_MAX);
	assert_int_equal(last, FERRY_QMP_EVENTS_MAX + 9);
	ferry_qmp_client_close(c);
}

#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_client_must_negotiate_first),
		T(requests_may_come_one_octet_at_a_time),
		T(one_write_may_hold_many_requests),
		T(the_id_comes_back_whatever_it_is),
		T(nonsense_gets_a_sentence_and_the_talk_goes_on),
		T(huge_json_is_refused_without_being_kept),
		T(the_servers_own_commands_are_listed_with_the_rest),
		T(oob_runs_while_another_command_blocks),
		T(errors_of_form_keep_their_place_in_the_queue),
		T(events_reach_every_negotiated_client),
		T(a_client_that_does_not_read_is_dropped_alone),
		T(a_client_that_asks_without_reading_is_not_listened_to),
		T(a_client_that_stops_sending_still_gets_its_replies),
		T(a_client_may_vanish_while_its_command_runs),
		T(one_client_too_many_is_told_so),
		T(last_words_arrive_when_the_server_ends),
		T(a_live_socket_is_not_taken_over),
		T(a_stale_socket_is_replaced_and_a_file_is_not),
		T(a_path_that_is_too_long_is_refused),
		T(the_client_calls_and_hears),
		T(the_client_gives_up_in_time_and_goes_on),
		T(only_the_newest_unread_events_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
