/* SPDX-License-Identifier: MIT */
/* Channels over sockets and pipes: the promises of chan.h. */
#include "help.h"

#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TCP	"tcp:127.0.0.1:0"

static void close_both(struct ferry_chan *end[2])
{
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static void octets_arrive_in_order_both_ways(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	send_text(end[0], "to the right");
	send_text(end[1], "to the left");
	expect_text(end[1], "to the right");
	expect_text(end[0], "to the left");
	close_both(end);
}

static void a_socket_says_what_it_can_do(void **state)
{
	unsigned two_way = FERRY_CHAN_READ | FERRY_CHAN_WRITE |
			   FERRY_CHAN_TWO_WAY;
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	assert_string_equal(end[0]->ops->kind, "pair");
	assert_int_equal(end[0]->ops->features(end[0]), two_way);
	close_both(end);

	make_connection(TCP, end);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(end[i]->ops->kind, "tcp");
		assert_int_equal(end[i]->ops->features(end[i]),
				 two_way | FERRY_CHAN_MORE);
	}
	close_both(end);
}

static void each_end_of_a_pipe_has_one_direction(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pipe(end);
	assert_string_equal(end[0]->ops->kind, "pipe");
	assert_int_equal(end[0]->ops->features(end[0]), FERRY_CHAN_READ);
	assert_int_equal(end[1]->ops->features(end[1]), FERRY_CHAN_WRITE);
	send_text(end[1], "through the pipe");
	expect_text(end[0], "through the pipe");
	close_both(end);
}

static void moved_octets_are_counted_once(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	send_text(end[0], "12345");
	send_text(end[0], "678");
	expect_text(end[1], "12345678");
	assert_int_equal(end[0]->written_bytes, 8);
	assert_int_equal(end[0]->read_bytes, 0);
	assert_int_equal(end[1]->read_bytes, 8);
	close_both(end);
}

static void nothing_to_move_is_no_call(void **state)
{
	struct iovec empty[3] = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	/* The peer is silent: a call would block. */
	assert_ok(ferry_chan_read(end[0], NULL, 0, NULL));
	assert_ok(ferry_chan_readv(end[0], empty, 3, NULL));
	assert_ok(ferry_chan_write(end[0], NULL, 0, NULL));
	assert_ok(ferry_chan_writev(end[0], empty, 3, NULL));
	close_both(end);
}

/* ---- more than the kernel takes at once -------------------------------- */

#define IOVS		3000
#define IOV_BYTES	700
#define MANY_BYTES	((size_t)IOVS * IOV_BYTES)

static ssize_t read_many(struct ferry_chan *c)
{
	uint8_t *data = malloc(MANY_BYTES);
	ssize_t wrong = 0;

	if (ferry_chan_read(c, data, MANY_BYTES, NULL))
		wrong = -1;
	for (size_t i = 0; !wrong && i < MANY_BYTES; i++)
		wrong += data[i] != pattern(i);
	free(data);
	return wrong;
}

static void write_many(struct ferry_chan *end[2])
{
	struct iovec iov[IOVS];
	uint8_t *data = malloc(MANY_BYTES);
	struct job reader;

	fill_pattern(data, MANY_BYTES, 0);
	for (size_t i = 0; i < IOVS; i++)
		iov[i] = (struct iovec){ data + i * IOV_BYTES, IOV_BYTES };
	assert_true(IOVS > IOV_MAX);

	job_start(&reader, read_many, end[0]);
	assert_ok(ferry_chan_writev(end[1], iov, IOVS, NULL));
	assert_int_equal(job_result(&reader), 0);
	free(data);
	close_both(end);
}

static void three_thousand_iovs_pass_a_socket(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	write_many(end);
	make_connection(TCP, end);
	write_many(end);
}

static void three_thousand_iovs_pass_a_pipe(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pipe(end);
	write_many(end);
}

static void three_thousand_iovs_can_be_read_at_once(void **state)
{
	struct iovec iov[IOVS];
	struct ferry_chan *end[2];
	uint8_t in[IOVS], out[IOVS];

	(void)state;
	fill_pattern(out, IOVS, 0);
	for (size_t i = 0; i < IOVS; i++)
		iov[i] = (struct iovec){ in + i, 1 };
	make_pair(end);
	assert_ok(ferry_chan_write(end[0], out, IOVS, NULL));
	assert_ok(ferry_chan_readv(end[1], iov, IOVS, NULL));
	assert_memory_equal(in, out, IOVS);
	close_both(end);
}

/* ---- how a connection ends --------------------------------------------- */

static void the_end_of_the_stream_has_its_own_code(void **state)
{
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };
	char two[2];

	(void)state;
	make_pair(end);
	ferry_chan_set_name(end[1], "data %d", 3);
	send_text(end[0], "1");
	ferry_chan_close(end[0]);
	assert_int_equal(ferry_chan_read(end[1], two, 2, &e), -1);
	assert_int_equal(e.code, FERRY_E_CLOSED);
	assert_string_equal(e.msg, "channel data 3: read: end of stream");
	ferry_chan_close(end[1]);
}

/* Closing with unread octets makes TCP send a reset. */
static void a_reset_is_named(void **state)
{
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };
	char one;

	(void)state;
	make_connection(TCP, end);
	ferry_chan_set_name(end[0], "main");
	send_text(end[0], "never read");
	assert_int_equal(end[1]->ops->wait(end[1], POLLIN, 10000), 1);
	ferry_chan_close(end[1]);
	assert_int_equal(ferry_chan_read(end[0], &one, 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_IO);
	assert_int_equal(e.sys, ECONNRESET);
	assert_string_equal(e.msg,
			    "channel main: read: Connection reset by peer");
	ferry_chan_close(end[0]);
}

static void writing_to_a_closed_socket_is_epipe_not_a_signal(void **state)
{
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };

	(void)state;
	make_pair(end);
	ferry_chan_close(end[1]);
	assert_int_equal(write_some(end[0], "x", 1), -EPIPE);
	assert_int_equal(ferry_chan_write(end[0], "x", 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_CLOSED);
	ferry_chan_close(end[0]);
}

static _Atomic int sigpipes;

static void count_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

static bool sigpipe_is_pending(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigpending(&set);
	return sigismember(&set, SIGPIPE) == 1;
}

static void writing_to_a_closed_pipe_is_epipe_not_a_signal(void **state)
{
	struct sigaction count = { .sa_handler = count_sigpipe }, old;
	struct ferry_chan *end[2];
	sigset_t before, after;

	(void)state;
	sigaction(SIGPIPE, &count, &old);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	make_pipe(end);
	ferry_chan_close(end[0]);
	assert_int_equal(write_some(end[1], "x", 1), -EPIPE);
	ferry_chan_close(end[1]);

	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&after, SIGPIPE),
			 sigismember(&before, SIGPIPE));
	assert_false(sigpipe_is_pending());
	assert_int_equal(sigpipes, 0);
	sigaction(SIGPIPE, &old, NULL);
}

static void a_sigpipe_of_the_embedder_is_left_alone(void **state)
{
	struct sigaction count = { .sa_handler = count_sigpipe }, old;
	struct ferry_chan *end[2];
	sigset_t set, before;

	(void)state;
	sigpipes = 0;
	sigaction(SIGPIPE, &count, &old);
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	pthread_kill(pthread_self(), SIGPIPE);

	make_pipe(end);
	ferry_chan_close(end[0]);
	assert_int_equal(write_some(end[1], "x", 1), -EPIPE);
	ferry_chan_close(end[1]);

	assert_true(sigpipe_is_pending());
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(sigpipes, 1);
	sigaction(SIGPIPE, &old, NULL);
}

/* ---- silence ----------------------------------------------------------- */

static void silence_is_a_timeout(struct ferry_chan *c)
{
	uint64_t since = ferry_now_ns();
	struct ferry_err e = { 0 };
	char one;

	c->ops->set_timeout(c, 30, 0);
	assert_int_equal(read_some(c, &one, 1), -ETIMEDOUT);
	assert_true(ferry_now_ns() - since >= 30 * FERRY_NS_PER_MS);
	assert_int_equal(ferry_chan_read(c, &one, 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
}

static void a_silent_peer_is_a_timeout(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	silence_is_a_timeout(end[0]);
	close_both(end);
	make_connection(TCP, end);
	silence_is_a_timeout(end[0]);
	close_both(end);
	make_pipe(end);
	silence_is_a_timeout(end[0]);
	close_both(end);
}

/* In a process of its own: its exit code tells what came of the read. */
static _Noreturn void read_in_time(struct ferry_chan *c)
{
	char got;

	c->ops->set_timeout(c, 3000, 0);
	_exit(read_some(c, &got, 1) == 1 && got == 'x' ? 0 : 1);
}

static void who_stood_still_does_not_take_that_for_silence(void **state)
{
	const struct timespec longer = { .tv_sec = 3, .tv_nsec = 500000000 };
	const struct timespec shortly = { .tv_nsec = 200000000 };
	struct ferry_chan *end[2];
	int status;
	pid_t pid;

	(void)state;
	make_pair(end);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		read_in_time(end[0]);
	nanosleep(&shortly, NULL);
	kill(pid, SIGSTOP);
	nanosleep(&longer, NULL);
	kill(pid, SIGCONT);
	nanosleep(&shortly, NULL);
	send_text(end[1], "x");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close_both(end);
}

static void a_peer_that_takes_nothing_is_a_timeout(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	end[0]->ops->set_timeout(end[0], 0, 30);
	assert_int_equal(write_until_error(end[0]), -ETIMEDOUT);
	close_both(end);
	make_pipe(end);
	end[1]->ops->set_timeout(end[1], 0, 30);
	assert_int_equal(write_until_error(end[1]), -ETIMEDOUT);
	close_both(end);
}

static void waiting_ends_with_data_or_with_time(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	assert_int_equal(end[0]->ops->wait(end[0], POLLOUT, -1), 1);
	assert_int_equal(end[0]->ops->wait(end[0], POLLIN, 0), 0);
	assert_int_equal(end[0]->ops->wait(end[0], POLLIN, 20), 0);
	send_text(end[1], "x");
	assert_int_equal(end[0]->ops->wait(end[0], POLLIN, -1), 1);
	close_both(end);
}

/* ---- shutdown ---------------------------------------------------------- */

static ssize_t read_one(struct ferry_chan *c)
{
	char one;

	return read_some(c, &one, 1);
}

static ssize_t wait_for_input(struct ferry_chan *c)
{
	return c->ops->wait(c, POLLIN, -1);
}

/* Blocked calls return, and later ones fail at once. */
static void shutdown_ends(struct ferry_chan *c,
			  ssize_t (*fn)(struct ferry_chan *), ssize_t result)
{
	struct job blocked;

	job_start(&blocked, fn, c);
	c->ops->shutdown(c);
	assert_int_equal(job_result(&blocked), result);
	assert_int_equal(fn(c), result);
	c->ops->shutdown(c);
}

static void shutdown_wakes_a_blocked_reader(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	shutdown_ends(end[0], read_one, -ESHUTDOWN);
	close_both(end);
	make_connection(TCP, end);
	shutdown_ends(end[0], read_one, -ESHUTDOWN);
	close_both(end);
	make_pipe(end);
	shutdown_ends(end[0], read_one, -ESHUTDOWN);
	close_both(end);
}

static void shutdown_wakes_a_blocked_writer(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	shutdown_ends(end[0], write_until_error, -ESHUTDOWN);
	close_both(end);
	make_connection(TCP, end);
	shutdown_ends(end[0], write_until_error, -ESHUTDOWN);
	close_both(end);
	make_pipe(end);
	shutdown_ends(end[1], write_until_error, -ESHUTDOWN);
	close_both(end);
}

static void shutdown_wakes_who_waits(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	shutdown_ends(end[0], wait_for_input, 1);
	close_both(end);
	make_pipe(end);
	shutdown_ends(end[0], wait_for_input, 1);
	close_both(end);
}

static void shutdown_is_seen_by_the_peer_of_a_socket(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	send_text(end[0], "last words");
	end[0]->ops->shutdown(end[0]);
	expect_text(end[1], "last words");
	assert_int_equal(read_one(end[1]), 0);
	assert_int_equal(write_some(end[1], "x", 1), -EPIPE);
	close_both(end);
}

static void unread_octets_do_not_outlive_a_shutdown(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_pair(end);
	send_text(end[1], "too late");
	end[0]->ops->shutdown(end[0]);
	assert_int_equal(read_one(end[0]), -ESHUTDOWN);
	close_both(end);
}

/* ---- what an fd may be ------------------------------------------------- */

static void a_pipe_gets_its_blocking_mode_back(void **state)
{
	struct ferry_chan *c;
	int fd[2];

	(void)state;
	assert_ok(pipe(fd));
	c = ferry_chan_fd(dup(fd[0]), NULL);
	assert_non_null(c);
	assert_true(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	ferry_chan_close(c);
	assert_false(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	close(fd[0]);
	close(fd[1]);
}

static void a_socket_keeps_its_blocking_mode(void **state)
{
	struct ferry_chan *c;
	int fd[2];

	(void)state;
	assert_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	c = ferry_chan_fd(dup(fd[0]), NULL);
	assert_non_null(c);
	c->ops->set_timeout(c, 10, 10);
	assert_int_equal(read_one(c), -ETIMEDOUT);
	assert_false(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	ferry_chan_close(c);
	close(fd[0]);
	close(fd[1]);
}

static int datagram_socket(void)
{
	return socket(AF_UNIX, SOCK_DGRAM, 0);
}

static int lonely_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int directory(void)
{
	return open("/", O_RDONLY | O_DIRECTORY);
}

static int no_fd(void)
{
	return 12345;
}

static int closed_fd(void)
{
	int fd[2];

	assert_ok(pipe(fd));
	close(fd[1]);
	close(fd[0]);
	return fd[0];
}

static const struct {
	const char *why;
	int (*make)(void);
	const char *says;
} not_channels[] = {
	{ "messages",		datagram_socket, "not of a stream" },
	{ "no peer",		lonely_socket,	 "not connected" },
	{ "a directory",	directory,	 "is a directory" },
	{ "never opened",	no_fd,		 "Bad file descriptor" },
	{ "closed already",	closed_fd,	 "Bad file descriptor" },
};

static void an_fd_that_is_no_stream_is_refused_and_closed(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(not_channels); i++) {
		struct ferry_err e = { 0 };

		print_message("%s\n", not_channels[i].why);
		assert_null(ferry_chan_fd(not_channels[i].make(), &e));
		assert_non_null(strstr(e.msg, not_channels[i].says));
	}
}

/* ---- tcp --------------------------------------------------------------- */

static int tcp_option(int fd, int option)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	getsockopt(fd, IPPROTO_TCP, option, &value, &bytes);
	return value;
}

/* Two ends of a connection over loopback. */
static void tcp_pair(int end[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	int server = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(at);

	end[0] = socket(AF_INET, SOCK_STREAM, 0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_ok(bind(server, (struct sockaddr *)&at, sizeof(at)));
	assert_ok(listen(server, 1));
	assert_ok(getsockname(server, (struct sockaddr *)&at, &len));
	assert_ok(connect(end[0], (struct sockaddr *)&at, sizeof(at)));
	end[1] = accept(server, NULL, NULL);
	assert_true(end[1] >= 0);
	close(server);
}

/* The channel sets the options on the socket that our copy shares. */
static void tcp_is_tuned(void **state)
{
	int end[2], fd, alive = 0;
	socklen_t len;
	struct ferry_chan *c;

	(void)state;
	tcp_pair(end);
	fd = end[0];
	c = ferry_chan_fd(dup(fd), NULL);
	assert_non_null(c);
	assert_int_not_equal(tcp_option(fd, TCP_NODELAY), 0);
	len = sizeof(alive);
	getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &len);
	assert_int_not_equal(alive, 0);
	c->ops->set_timeout(c, 1000, 2000);
	assert_int_equal(tcp_option(fd, TCP_USER_TIMEOUT), 2000);
	c->ops->limit_unsent(c, 65536);
	assert_int_equal(tcp_option(fd, TCP_NOTSENT_LOWAT), 65536);

	ferry_chan_close(c);
	close(fd);
	close(end[1]);
}

/* The kernel of who speaks and listens in turn delays what it acknowledges,
 * until it is told each time not to. */
static void reads_are_acknowledged_at_once_where_asked_for(void **state)
{
	for (int asked = 0; asked <= 1; asked++) {
		struct ferry_chan *c;
		char octet = 'x';
		int end[2];

		(void)state;
		tcp_pair(end);
		c = ferry_chan_fd(dup(end[0]), NULL);
		assert_non_null(c);
		if (asked)
			c->ops->ack_at_once(c);
		for (int i = 0; i < 20; i++) {
			assert_int_equal(write(end[1], &octet, 1), 1);
			assert_ok(ferry_chan_read(c, &octet, 1, NULL));
			if (asked)
				assert_int_not_equal(tcp_option(end[0],
								TCP_QUICKACK),
						     0);
			assert_ok(ferry_chan_write(c, &octet, 1, NULL));
			assert_int_equal(read(end[1], &octet, 1), 1);
		}
		if (!asked)
			assert_int_equal(tcp_option(end[0], TCP_QUICKACK), 0);
		ferry_chan_close(c);
		close(end[0]);
		close(end[1]);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(octets_arrive_in_order_both_ways),
		TEST(a_socket_says_what_it_can_do),
		TEST(each_end_of_a_pipe_has_one_direction),
		TEST(moved_octets_are_counted_once),
		TEST(nothing_to_move_is_no_call),
		TEST(three_thousand_iovs_pass_a_socket),
		TEST(three_thousand_iovs_pass_a_pipe),
		TEST(three_thousand_iovs_can_be_read_at_once),
		TEST(the_end_of_the_stream_has_its_own_code),
		TEST(a_reset_is_named),
		TEST(writing_to_a_closed_socket_is_epipe_not_a_signal),
		TEST(writing_to_a_closed_pipe_is_epipe_not_a_signal),
		TEST(a_sigpipe_of_the_embedder_is_left_alone),
		TEST(a_silent_peer_is_a_timeout),
		TEST(who_stood_still_does_not_take_that_for_silence),
		TEST(a_peer_that_takes_nothing_is_a_timeout),
		TEST(waiting_ends_with_data_or_with_time),
		TEST(shutdown_wakes_a_blocked_reader),
		TEST(shutdown_wakes_a_blocked_writer),
		TEST(shutdown_wakes_who_waits),
		TEST(shutdown_is_seen_by_the_peer_of_a_socket),
		TEST(unread_octets_do_not_outlive_a_shutdown),
		TEST(a_pipe_gets_its_blocking_mode_back),
		TEST(a_socket_keeps_its_blocking_mode),
		TEST(an_fd_that_is_no_stream_is_refused_and_closed),
		TEST(tcp_is_tuned),
		TEST(reads_are_acknowledged_at_once_where_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
