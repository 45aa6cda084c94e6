/* SPDX-License-Identifier: MIT */
/*
 * See console.h.
 *
 * Locks: `lock` guards the ring.  The UART's lock is outside of it: its host
 * calls take ours; this file calls the UART without holding it.
 */
#include "vmm/console.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/thread.h"
#include "vmm/console_end.h"
#include "vmm/uart.h"

#define RING_BYTES	(64u << 10)
#define WRITE_BYTES	4096u		/* never blocks after POLLOUT */
#define FAREWELL_NS	(500 * FERRY_NS_PER_MS)

struct ferry_console {
	struct ferry_console_end end;
	struct ferry_uart	*uart;
	struct ferry_thread	 thread;
	int			 wake_fd;
	_Atomic bool		 quit;
	_Atomic uint64_t	 limit_ns;	/* of CLOCK_BOOTTIME */

	pthread_mutex_t		 lock;
	uint8_t			*ring;
	uint64_t		 put, taken;	/* octets so far */
	bool			 connected;	/* somebody reads */
	bool			 was_full;	/* the guest was told to wait */

	uint8_t			 input[FERRY_UART_FIFO_BYTES];
	size_t			 input_used;	/* console thread's */
};

void ferry_console_wake(void *console)
{
	struct ferry_console *c = console;
	uint64_t one = 1;

	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return;		/* the counter is full: it wakes already */
}

void ferry_console_send(void *console, uint8_t octet)
{
	struct ferry_console *c = console;
	bool idle;

	if (c->end.kind == FERRY_CONSOLE_NULL)
		return;
	pthread_mutex_lock(&c->lock);
	idle = c->put == c->taken;
	if (c->put - c->taken == RING_BYTES) {
		if (c->connected) {	/* the guest did not wait */
			pthread_mutex_unlock(&c->lock);
			return;
		}
		c->taken++;
	}
	c->ring[c->put++ % RING_BYTES] = octet;
	pthread_mutex_unlock(&c->lock);
	if (idle)
		ferry_console_wake(c);
}

void ferry_console_limit(struct ferry_console *c, uint64_t boot_ns)
{
	atomic_store(&c->limit_ns, boot_ns);
	ferry_console_wake(c);
}

bool ferry_console_can_send(void *console)
{
	struct ferry_console *c = console;
	bool can;

	pthread_mutex_lock(&c->lock);
	can = !c->connected || c->put - c->taken < RING_BYTES;
	c->was_full |= !can;
	pthread_mutex_unlock(&c->lock);
	return can;
}

/* The oldest octets in one piece; returns how many. */
static size_t peek(struct ferry_console *c, const uint8_t **at)
{
	uint64_t first, n;

	pthread_mutex_lock(&c->lock);
	first = c->taken % RING_BYTES;
	n = c->put - c->taken;
	pthread_mutex_unlock(&c->lock);
	if (n > RING_BYTES - first)
		n = RING_BYTES - first;
	*at = c->ring + first;
	return n > WRITE_BYTES ? WRITE_BYTES : (size_t)n;
}

/* There are octets, and they may go out. */
static bool has_output(struct ferry_console *c)
{
	const uint8_t *at;

	return peek(c, &at) && ferry_boot_ns() < atomic_load(&c->limit_ns);
}

/* While connected nobody else moves `taken`. */
static void take(struct ferry_console *c, size_t n)
{
	bool tell;

	pthread_mutex_lock(&c->lock);
	c->taken += n;
	tell = c->was_full;
	c->was_full = false;
	pthread_mutex_unlock(&c->lock);
	if (tell)
		ferry_uart_send_ready(c->uart);
}

static void set_connected(struct ferry_console *c)
{
	bool connected = c->end.out_fd >= 0;
	bool tell;

	pthread_mutex_lock(&c->lock);
	c->connected = connected;
	tell = c->was_full && !connected;
	if (tell)
		c->was_full = false;
	pthread_mutex_unlock(&c->lock);
	if (tell)
		ferry_uart_send_ready(c->uart);
}

static void write_out(struct ferry_console *c)
{
	const uint8_t *at;
	size_t n = peek(c, &at);
	ssize_t done;

	if (!has_output(c))
		return;
	done = ferry_console_end_write(&c->end, at, n);
	if (done > 0)
		take(c, (size_t)done);
	else if (done < 0)
		ferry_console_end_hang_up(&c->end);
	set_connected(c);
}

static void read_in(struct ferry_console *c)
{
	size_t room = ferry_uart_room(c->uart);
	ssize_t n;

	if (!room || c->input_used)
		return;
	n = read(c->end.in_fd, c->input, room);
	if (n > 0)
		c->input_used = (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		ferry_console_end_no_input(&c->end);
	set_connected(c);
}

static void give_input(struct ferry_console *c)
{
	size_t n = ferry_uart_receive(c->uart, c->input, c->input_used);

	memmove(c->input, c->input + n, c->input_used - n);
	c->input_used -= n;
}

enum { POLL_WAKE, POLL_LISTEN, POLL_IN, POLL_OUT, POLLS };

static void fill_polls(struct ferry_console *c, struct pollfd p[POLLS])
{
	const struct ferry_console_end *end = &c->end;
	bool wants_in = !c->input_used && ferry_uart_room(c->uart);

	p[POLL_WAKE] = (struct pollfd){ c->wake_fd, POLLIN, 0 };
	p[POLL_LISTEN] = (struct pollfd){
		end->out_fd < 0 ? end->listen_fd : -1, POLLIN, 0 };
	p[POLL_IN] = (struct pollfd){
		wants_in ? end->in_fd : -1, POLLIN, 0 };
	p[POLL_OUT] = (struct pollfd){
		has_output(c) ? end->out_fd : -1, POLLOUT, 0 };
}

static void serve(struct ferry_console *c, int timeout_ms)
{
	struct pollfd p[POLLS];
	uint64_t count;

	fill_polls(c, p);
	if (poll(p, POLLS, timeout_ms) <= 0)
		return;
	if (p[POLL_WAKE].revents && read(c->wake_fd, &count, sizeof(count)) < 0)
		return;
	if (p[POLL_LISTEN].revents) {
		ferry_console_end_accept(&c->end);
		set_connected(c);
	}
	if (p[POLL_IN].revents)
		read_in(c);
	if (p[POLL_OUT].revents && c->end.out_fd >= 0)
		write_out(c);
	give_input(c);
}

static void console_main(void *arg)
{
	struct ferry_console *c = arg;
	uint64_t end_ns;

	while (!atomic_load(&c->quit))
		serve(c, -1);
	end_ns = ferry_now_ns() + FAREWELL_NS;
	while (c->end.out_fd >= 0 && has_output(c) && ferry_now_ns() < end_ns)
		serve(c, 20);
}

int ferry_console_check(const char *where, struct ferry_err *e)
{
	if (!ferry_console_end_check(where, e))
		return 0;
	return ferry_err_wrap(e, "serial %.80s", where);
}

struct ferry_console *ferry_console_open(const char *where,
					 struct ferry_err *e)
{
	struct ferry_console *c = calloc(1, sizeof(*c));

	if (!c || !(c->ring = malloc(RING_BYTES))) {
		free(c);
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "serial");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	atomic_init(&c->limit_ns, UINT64_MAX);
	c->end = (struct ferry_console_end)FERRY_CONSOLE_END_NONE;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0) {
		ferry_err_set(e, FERRY_E_IO, errno, "serial: eventfd");
	} else if (!ferry_console_end_open(&c->end, where ? where : "null",
					   e)) {
		c->connected = c->end.out_fd >= 0;
		return c;
	} else {
		ferry_err_wrap(e, "serial %.80s", where);
	}
	ferry_console_close(c);
	return NULL;
}

int ferry_console_start(struct ferry_console *c, struct ferry_uart *uart,
			struct ferry_err *e)
{
	c->uart = uart;
	return ferry_thread_start(&c->thread, "serial", console_main, c, e);
}

void ferry_console_close(struct ferry_console *c)
{
	if (!c)
		return;
	atomic_store(&c->quit, true);
	if (c->thread.started)
		ferry_console_wake(c);
	ferry_thread_join(&c->thread);
	ferry_console_end_close(&c->end);
	ferry_cleanup_fd(&c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c->ring);
	free(c);
}
