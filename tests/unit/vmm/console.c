/* SPDX-License-Identifier: MIT */
/* The far end of the serial line: files, sockets, readers that do not read. */
#include "help.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "vmm/console.h"
#include "vmm/uart.h"

#define PATIENCE_MS	10000
#define RING_BYTES	(64u << 10)

/* A console with a UART, in a directory of its own. */
struct line {
	struct ferry_console	*console;
	struct ferry_uart	 uart;
	char			 dir[32];
	char			 path[64];	/* in dir */
	char			 where[80];
	_Atomic bool		 irq;
};

/* The calls of a line's console, but for the interrupt, which is the test's. */
static void line_send(void *opaque, uint8_t octet)
{
	ferry_console_send(((struct line *)opaque)->console, octet);
}

static bool line_can_send(void *opaque)
{
	return ferry_console_can_send(((struct line *)opaque)->console);
}

static void line_drained(void *opaque)
{
	ferry_console_wake(((struct line *)opaque)->console);
}

static void line_irq(void *opaque, bool level)
{
	((struct line *)opaque)->irq = level;
}

static int set_up(void **state)
{
	struct line *l = calloc(1, sizeof(*l));

	strcpy(l->dir, "/tmp/ferry-console-XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	snprintf(l->path, sizeof(l->path), "%s/end", l->dir);
	*state = l;
	return 0;
}

static void start(struct line *l, const char *kind)
{
	const struct ferry_uart_host host = {
		line_send, line_can_send, line_drained, line_irq, l };
	struct ferry_err e;

	snprintf(l->where, sizeof(l->where), "%s%s", kind, l->path);
	l->console = ferry_console_open(l->where, &e);
	if (!l->console)
		fail_msg("%s", e.msg);
	ferry_uart_init(&l->uart, &host);
	assert_ok(ferry_console_start(l->console, &l->uart, &e));
	ferry_uart_set_still(&l->uart, false);
	ferry_console_wake(l->console);
}

static void stop(struct line *l)
{
	ferry_console_close(l->console);
	l->console = NULL;
	ferry_uart_fini(&l->uart);
}

static int tear_down(void **state)
{
	struct line *l = *state;

	if (l->console)
		stop(l);
	unlink(l->path);
	assert_ok(rmdir(l->dir));
	free(l);
	return 0;
}

static void guest_writes(struct line *l, const char *text)
{
	for (; *text; text++)
		ferry_uart_write(&l->uart, 0, (uint8_t)*text);
}

static int dial(const struct line *l)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", l->path);
	assert_ok(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

static void expect(int fd, const char *text)
{
	size_t n = strlen(text), got = 0;
	char buf[128];

	while (got < n) {
		struct pollfd p = { fd, POLLIN, 0 };
		ssize_t r;

		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		r = read(fd, buf + got, n - got);
		assert_true(r > 0);
		got += (size_t)r;
	}
	assert_memory_equal(buf, text, n);
}

/* The guest polls its line status, as a driver without interrupts. */
static char guest_reads(struct line *l)
{
	uint64_t end = ferry_now_ns() + PATIENCE_MS * FERRY_NS_PER_MS;

	while (!(ferry_uart_read(&l->uart, 5) & 1)) {
		assert_true(ferry_now_ns() < end);
		usleep(100);
	}
	return (char)ferry_uart_read(&l->uart, 0);
}

static void a_file_is_appended_to_and_complete_when_closed(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FILE f = NULL;
	char buf[64] = "";

	start(l, "file:");
	guest_writes(l, "first ");
	stop(l);
	start(l, "file:");
	guest_writes(l, "second");
	stop(l);
	f = fopen(l->path, "re");
	assert_non_null(f);
	assert_non_null(fgets(buf, sizeof(buf), f));
	assert_string_equal(buf, "first second");
}

static void a_client_reads_and_writes(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FD fd = -1;

	start(l, "unix:");
	fd = dial(l);
	guest_writes(l, "login: ");
	expect(fd, "login: ");
	assert_int_equal(write(fd, "root", 4), 4);	/* more than a UART
							 * without FIFO holds */
	for (const char *p = "root"; *p; p++)
		assert_int_equal(guest_reads(l), *p);
}

static void what_nobody_heard_is_kept_for_the_first_client(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FD fd = -1;

	start(l, "unix:");
	for (unsigned i = 0; i < RING_BYTES; i++) {
		assert_int_equal(ferry_uart_read(&l->uart, 5) & 0x60, 0x60);
		guest_writes(l, "o");
	}
	guest_writes(l, "new");
	fd = dial(l);
	for (unsigned i = 0; i < RING_BYTES - 3; i++)
		expect(fd, "o");
	expect(fd, "new");
}

/* Of a VM that its source may have back. */
static void behind_its_limit_nothing_goes_out(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FD fd = -1;
	struct pollfd p;

	start(l, "unix:");
	guest_writes(l, "before ");	/* nobody has heard it yet */
	ferry_console_limit(l->console, ferry_boot_ns());
	fd = dial(l);
	guest_writes(l, "behind ");
	/* That it is a client shows: what it says comes. */
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(guest_reads(l), 'x');
	p = (struct pollfd){ fd, POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 0), 0);
	ferry_console_limit(l->console, UINT64_MAX);
	expect(fd, "before behind ");

	ferry_console_limit(l->console, 0);
	guest_writes(l, "never");
	stop(l);
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	assert_int_equal(read(fd, &p, sizeof(p)), 0);
}

static void clients_follow_each_other(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FD second = -1;
	int first;

	start(l, "unix:");
	first = dial(l);
	second = dial(l);	/* waits */
	guest_writes(l, "one");
	expect(first, "one");
	close(first);
	/* the console sees that the first has gone, then takes the next */
	assert_int_equal(write(second, "x", 1), 1);
	assert_int_equal(guest_reads(l), 'x');
	guest_writes(l, "two");
	expect(second, "two");
}

static void a_client_that_does_not_read_holds_the_guest_not_us(void **state)
{
	struct line *l = *state;
	FERRY_AUTO_FD fd = -1;
	uint64_t sent = 0, end;

	start(l, "unix:");
	fd = dial(l);
	guest_writes(l, "!");
	expect(fd, "!");
	while (ferry_uart_read(&l->uart, 5) & 0x20) {
		guest_writes(l, "x");
		sent++;
		assert_true(sent < 64u << 20);
	}
	assert_true(sent >= RING_BYTES);
	/* a driver with interrupts is told when it may go on */
	ferry_uart_write(&l->uart, 1, 2);
	assert_false(l->irq);
	for (uint64_t i = 0; i < sent; i++)
		expect(fd, "x");
	end = ferry_now_ns() + PATIENCE_MS * FERRY_NS_PER_MS;
	while (!l->irq)
		assert_true(ferry_now_ns() < end);
	assert_true(ferry_uart_read(&l->uart, 5) & 0x20);
}

static void a_socket_left_behind_is_replaced_one_in_use_is_not(void **state)
{
	struct line *l = *state;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct ferry_err e;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", l->path);
	assert_ok(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	close(fd);
	start(l, "unix:");
	assert_null(ferry_console_open(l->where, &e));
	assert_non_null(strstr(e.msg, "Address already in use"));
	close(dial(l));		/* the first still listens */
	stop(l);
	assert_int_equal(access(l->path, F_OK), -1);
}

static void a_file_in_the_socket_s_place_is_not_removed(void **state)
{
	struct line *l = *state;
	struct ferry_err e;
	int fd = open(l->path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	snprintf(l->where, sizeof(l->where), "unix:%s", l->path);
	assert_null(ferry_console_open(l->where, &e));
	assert_ok(unlink(l->path));
}

static void places_that_are_none_are_refused(void **state)
{
	static const struct {
		const char *where, *sentence;
		int code;
	} bad[] = {
		{ "", "none of null, stdio", FERRY_E_INVALID },
		{ "pty", "serial pty: none of", FERRY_E_INVALID },
		{ "nullx", "none of", FERRY_E_INVALID },
		{ "file:", "none of", FERRY_E_INVALID },
		{ "unix:", "none of", FERRY_E_INVALID },
		{ "file:/nonexistent/x", "No such file", FERRY_E_IO },
		{ "file:/tmp", "Is a directory", FERRY_E_IO },
		{ "unix:/nonexistent/x", "No such file", FERRY_E_IO },
		{ "unix:/tmp/01234567890123456789012345678901234567890123456789"
		  "01234567890123456789012345678901234567890123456789012345678",
		  "too long", FERRY_E_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e;

		assert_null(ferry_console_open(bad[i].where, &e));
		assert_refused(-1, &e, bad[i].code, bad[i].sentence);
	}
}

#define T(f)	cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_file_is_appended_to_and_complete_when_closed),
		T(a_client_reads_and_writes),
		T(what_nobody_heard_is_kept_for_the_first_client),
		T(behind_its_limit_nothing_goes_out),
		T(clients_follow_each_other),
		T(a_client_that_does_not_read_holds_the_guest_not_us),
		T(a_socket_left_behind_is_replaced_one_in_use_is_not),
		T(a_file_in_the_socket_s_place_is_not_removed),
		T(places_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
