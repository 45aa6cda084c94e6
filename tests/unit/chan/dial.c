/* SPDX-License-Identifier: MIT */
/* Dialling and listening, for real, on loopback and in a directory. */
#include "help.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct tmp tmp;

static struct ferry_uri parsed(const char *text)
{
	struct ferry_uri u;
	struct ferry_err e;

	if (ferry_uri_parse(&u, text, &e))
		fail_msg("%s", e.msg);
	return u;
}

static struct ferry_chan *dial(const char *text, struct ferry_err *e)
{
	struct ferry_uri u = parsed(text);

	return ferry_uri_dial(&u, 10000, NULL, e);
}

static struct ferry_listener *listen_at(const char *text, struct ferry_err *e)
{
	struct ferry_uri u = parsed(text);

	return ferry_listen(&u, e);
}

/* "unix:" and a name in the test's directory; valid until the next call. */
static const char *unix_uri(const char *name)
{
	static char text[128];

	snprintf(text, sizeof(text), "unix:%s", tmp_path(&tmp, name));
	return text;
}

static void expect_conversation(const char *at)
{
	struct ferry_chan *end[2];

	make_connection(at, end);
	send_text(end[0], "hello");
	expect_text(end[1], "hello");
	send_text(end[1], "and back");
	expect_text(end[0], "and back");
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static void tcp_connects(void **state)
{
	(void)state;
	expect_conversation("tcp:127.0.0.1:0");
	expect_conversation("tcp::0");
	expect_conversation("tcp:localhost:0");
}

static void unix_connects_and_its_file_goes(void **state)
{
	struct stat st;

	(void)state;
	tmp_make(&tmp);
	expect_conversation(unix_uri("sock"));
	assert_int_equal(lstat(tmp.path, &st), -1);
	tmp_remove(&tmp);
}

static void port_0_becomes_a_port_that_can_be_dialled(void **state)
{
	struct ferry_listener *l = listen_at("tcp::0", NULL);
	struct ferry_uri u;
	char text[64];

	(void)state;
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	u = parsed(text);
	assert_string_equal(u.host, "");
	assert_true(atoi(u.port) > 0);
	ferry_listener_close(l);
}

static void port_0_cannot_be_dialled(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	assert_null(dial("tcp:127.0.0.1:0", &e));
	assert_string_equal(e.msg, "connect tcp:127.0.0.1:0: "
				   "port 0 is for listening only");
	assert_int_equal(e.code, FERRY_E_INVALID);
}

static void an_address_in_use_is_named(void **state)
{
	struct ferry_listener *l = listen_at("tcp:127.0.0.1:0", NULL);
	struct ferry_err e = { 0 };
	char text[64], says[128];

	(void)state;
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	assert_null(listen_at(text, &e));
	snprintf(says, sizeof(says), "listen %s: bind: Address already in use",
		 text);
	assert_string_equal(e.msg, says);
	ferry_listener_close(l);
}

static void accept_never_blocks(void **state)
{
	struct ferry_listener *l = listen_at("tcp::0", NULL);
	struct ferry_err e = { 0 };

	(void)state;
	assert_non_null(l);
	assert_null(ferry_listener_accept(l, &e));
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
	ferry_listener_close(l);
}

static void many_can_wait_to_be_accepted(void **state)
{
	struct ferry_listener *l = listen_at("tcp:127.0.0.1:0", NULL);
	struct pollfd p = { .events = POLLIN };
	struct ferry_chan *out[20], *in[20];
	char text[64];

	(void)state;
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	for (size_t i = 0; i < FERRY_LEN(out); i++) {
		out[i] = dial(text, NULL);
		assert_non_null(out[i]);
	}
	p.fd = ferry_listener_fd(l);
	for (size_t i = 0; i < FERRY_LEN(in); i++) {
		assert_int_equal(poll(&p, 1, 10000), 1);
		in[i] = ferry_listener_accept(l, NULL);
		assert_non_null(in[i]);
	}
	for (size_t i = 0; i < FERRY_LEN(in); i++) {
		ferry_chan_close(in[i]);
		ferry_chan_close(out[i]);
	}
	ferry_listener_close(l);
}

/* A port scanner: connects and resets before it is accepted. */
static void who_left_before_accept_is_no_error_of_the_listener(void **state)
{
	struct ferry_listener *l = listen_at("tcp:127.0.0.1:0", NULL);
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	struct ferry_chan *c;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char one;

	(void)state;
	assert_non_null(l);
	getsockname(ferry_listener_fd(l), (struct sockaddr *)&at, &len);
	assert_ok(connect(fd, (struct sockaddr *)&at, sizeof(at)));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);

	c = ferry_listener_accept(l, NULL);
	assert_non_null(c);
	assert_string_equal(c->name, "from 127.0.0.1");
	assert_int_equal(read_some(c, &one, 1), -ECONNRESET);
	ferry_chan_close(c);
	ferry_listener_close(l);
}

/* localhost is often ::1 first, where nobody listens. */
static void every_address_of_a_name_is_tried(void **state)
{
	struct ferry_listener *l = listen_at("tcp:127.0.0.1:0", NULL);
	struct ferry_chan *c;
	struct ferry_uri u;
	char text[64];

	(void)state;
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	u = parsed(text);
	strcpy(u.host, "localhost");
	c = ferry_uri_dial(&u, 10000, NULL, NULL);
	assert_non_null(c);
	ferry_chan_close(c);
	ferry_listener_close(l);
}

/* ---- failing to connect ------------------------------------------------ */

static void a_refused_connection_is_one_sentence(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	assert_null(dial("tcp:127.0.0.1:1", &e));
	assert_string_equal(e.msg,
			    "connect tcp:127.0.0.1:1: Connection refused");
	assert_int_equal(e.code, FERRY_E_IO);
	assert_int_equal(e.sys, ECONNREFUSED);
}

static void a_name_that_nobody_has_is_said(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	/* Not a name but a malformed number: no server is asked. */
	assert_null(dial("tcp:[1:2:3]:1", &e));
	assert_non_null(strstr(e.msg, "connect tcp:[1:2:3]:1: look up: "));
}

static void a_missing_unix_socket_is_one_sentence(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	assert_null(dial("unix:/no/such/socket", &e));
	assert_string_equal(e.msg, "connect unix:/no/such/socket: "
				   "No such file or directory");
}

/* A listener with a full backlog: connect() would block. */
struct full {
	struct ferry_uri uri;
	int fd, in;
};

static void make_full(struct full *f, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage at;
	socklen_t at_len = sizeof(at);

	f->fd = socket(sa->sa_family, SOCK_STREAM, 0);
	assert_ok(bind(f->fd, sa, len));
	assert_ok(listen(f->fd, 0));
	assert_ok(getsockname(f->fd, (struct sockaddr *)&at, &at_len));
	f->in = socket(sa->sa_family, SOCK_STREAM, 0);
	assert_ok(connect(f->in, (struct sockaddr *)&at, at_len));
}

static void make_full_unix(struct full *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	f->uri = parsed(unix_uri("full"));
	strcpy(sa.sun_path, tmp.path);
	make_full(f, (struct sockaddr *)&sa, sizeof(sa));
}

static void make_full_tcp(struct full *f)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t len = sizeof(sa);
	char text[64];

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	make_full(f, (struct sockaddr *)&sa, len);
	assert_ok(getsockname(f->fd, (struct sockaddr *)&sa, &len));
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", ntohs(sa.sin_port));
	f->uri = parsed(text);
}

static void (*const make_full_of[])(struct full *f) = {
	make_full_unix, make_full_tcp,
};

static void free_full(struct full *f)
{
	close(f->in);
	close(f->fd);
}

static void dialling_gives_up_in_time(void **state)
{
	(void)state;
	tmp_make(&tmp);
	for (size_t i = 0; i < FERRY_LEN(make_full_of); i++) {
		uint64_t since = ferry_now_ns();
		struct ferry_err e = { 0 };
		struct full f;

		make_full_of[i](&f);
		assert_null(ferry_uri_dial(&f.uri, 60, NULL, &e));
		assert_true(ferry_now_ns() - since >= 60 * FERRY_NS_PER_MS);
		assert_int_equal(e.code, FERRY_E_TIMEOUT);
		assert_non_null(strstr(e.msg, ": no answer in time"));
		free_full(&f);
	}
	tmp_remove(&tmp);
}

static void cancel_soon(void *arg)
{
	usleep(20000);
	atomic_store((_Atomic bool *)arg, true);
}

static void dialling_can_be_cancelled(void **state)
{
	(void)state;
	tmp_make(&tmp);
	for (size_t i = 0; i < FERRY_LEN(make_full_of); i++) {
		_Atomic bool cancel = false;
		struct ferry_thread t = { 0 };
		struct ferry_err e = { 0 };
		struct full f;

		make_full_of[i](&f);
		assert_ok(ferry_thread_start(&t, "cancel", cancel_soon,
					     &cancel, NULL));
		assert_null(ferry_uri_dial(&f.uri, 0, &cancel, &e));
		ferry_thread_join(&t);
		assert_int_equal(e.code, FERRY_E_CANCELLED);

		/* And before it begins. */
		assert_null(ferry_uri_dial(&f.uri, 0, &cancel, &e));
		assert_int_equal(e.code, FERRY_E_CANCELLED);
		free_full(&f);
	}
	tmp_remove(&tmp);
}

/* ---- the unix socket's file -------------------------------------------- */

/* What a process that was killed leaves behind. */
static void leave_stale(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	assert_ok(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	assert_ok(listen(fd, 1));
	close(fd);
}

static void a_stale_socket_is_replaced(void **state)
{
	(void)state;
	tmp_make(&tmp);
	leave_stale(tmp_path(&tmp, "stale"));
	expect_conversation(unix_uri("stale"));
	tmp_remove(&tmp);
}

static void a_live_socket_is_left_alone(void **state)
{
	struct ferry_listener *l;
	struct ferry_err e = { 0 };
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	l = listen_at(unix_uri("live"), NULL);
	assert_non_null(l);
	assert_null(listen_at(unix_uri("live"), &e));
	assert_non_null(strstr(e.msg, "bind: Address already in use"));
	c = dial(unix_uri("live"), NULL);
	assert_non_null(c);
	ferry_chan_close(c);
	ferry_listener_close(l);
	tmp_remove(&tmp);
}

static void an_ordinary_file_is_never_taken_for_a_stale_socket(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	tmp_make(&tmp);
	fd = open(tmp_path(&tmp, "file"), O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_null(listen_at(unix_uri("file"), NULL));
	assert_ok(lstat(tmp.path, &st));
	assert_true(S_ISREG(st.st_mode));
	tmp_remove(&tmp);
}

static void a_file_that_is_not_ours_any_more_stays(void **state)
{
	struct ferry_listener *first, *second;
	struct ferry_chan *c;

	(void)state;
	tmp_make(&tmp);
	first = listen_at(unix_uri("sock"), NULL);
	assert_non_null(first);
	assert_ok(unlink(tmp.path));
	second = listen_at(unix_uri("sock"), NULL);
	assert_non_null(second);

	ferry_listener_close(first);
	c = dial(unix_uri("sock"), NULL);
	assert_non_null(c);
	ferry_chan_close(c);
	ferry_listener_close(second);
	tmp_remove(&tmp);
}

/* ---- fd and file ------------------------------------------------------- */

static void an_fd_is_duplicated(void **state)
{
	struct ferry_chan *c, *peer;
	char text[32];
	int fd[2];

	(void)state;
	assert_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	snprintf(text, sizeof(text), "fd:%d", fd[0]);
	c = dial(text, NULL);
	assert_non_null(c);
	assert_false(c->ops->features(c) & FERRY_CHAN_MORE);
	assert_ok(close(fd[0]));	/* it is still ours to close */
	peer = ferry_chan_fd(fd[1], NULL);
	assert_non_null(peer);
	send_text(c, "by number");
	expect_text(peer, "by number");
	ferry_chan_close(c);
	ferry_chan_close(peer);
}

static void an_fd_that_was_closed_is_named(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_uri u = { .kind = FERRY_URI_FD, .fd = 54321 };

	(void)state;
	assert_null(ferry_uri_dial(&u, 0, NULL, &e));
	assert_string_equal(e.msg, "use fd:54321: duplicate: "
				   "Bad file descriptor");
}

static void a_file_is_written_by_dial_and_read_by_open(void **state)
{
	struct ferry_chan *c;
	struct ferry_uri u;
	char text[128];

	(void)state;
	tmp_make(&tmp);
	snprintf(text, sizeof(text), "file:%s,offset=4",
		 tmp_path(&tmp, "image"));
	u = parsed(text);
	c = ferry_uri_dial(&u, 0, NULL, NULL);
	assert_non_null(c);
	send_text(c, "state");
	assert_ok(c->ops->flush(c));
	ferry_chan_close(c);

	c = ferry_uri_open(&u, NULL);
	assert_non_null(c);
	expect_text(c, "state");
	ferry_chan_close(c);
	tmp_remove(&tmp);
}

static void only_tcp_and_unix_can_be_listened_at(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_uri u = parsed("tcp::0");

	(void)state;
	assert_null(listen_at("file:/tmp/x", &e));
	assert_string_equal(e.msg, "listen file:/tmp/x: "
			    "only tcp: and unix: can be listened at");
	assert_null(ferry_uri_open(&u, &e));
	assert_string_equal(e.msg,
			    "use tcp::0: this is an address to listen at");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(tcp_connects),
		TEST(unix_connects_and_its_file_goes),
		TEST(port_0_becomes_a_port_that_can_be_dialled),
		TEST(port_0_cannot_be_dialled),
		TEST(an_address_in_use_is_named),
		TEST(accept_never_blocks),
		TEST(many_can_wait_to_be_accepted),
		TEST(who_left_before_accept_is_no_error_of_the_listener),
		TEST(every_address_of_a_name_is_tried),
		TEST(a_refused_connection_is_one_sentence),
		TEST(a_name_that_nobody_has_is_said),
		TEST(a_missing_unix_socket_is_one_sentence),
		TEST(dialling_gives_up_in_time),
		TEST(dialling_can_be_cancelled),
		TEST(a_stale_socket_is_replaced),
		TEST(a_live_socket_is_left_alone),
		TEST(an_ordinary_file_is_never_taken_for_a_stale_socket),
		TEST(a_file_that_is_not_ours_any_more_stays),
		TEST(an_fd_is_duplicated),
		TEST(an_fd_that_was_closed_is_named),
		TEST(a_file_is_written_by_dial_and_read_by_open),
		TEST(only_tcp_and_unix_can_be_listened_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
