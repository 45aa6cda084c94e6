/* SPDX-License-Identifier: MIT */
/*
 * The least that a migration can cost here, with nothing of the engine around
 * it: octets over loopback, userfaultfd's copy, and one fault that is answered
 * over TCP.  What bench/run measures is to be read beside these.
 *
 * usage: ferry-floors [--quick]; prints one JSON object.
 *
 * Threads: the measuring one, and one that serves it (the sender, or who
 * answers faults), joined before the next measurement.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/thread.h"
#include "mem/kernel.h"
#include "mem/uffd.h"

#define PAGE		4096u
#define BUFFER_BYTES	(256u << 10)	/* stays in the cache */
#define MIB		(1u << 20)

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floors: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void *memory(size_t bytes, bool touched)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS |
		       (touched ? MAP_POPULATE : 0), -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	if (touched)
		memset(p, 0x5a, bytes);
	return p;
}

/* Have the outer host give us this much, so that it is not measured. */
static void warm(size_t bytes)
{
	munmap(memory(bytes, true), bytes);
}

/* ---- TCP over loopback ------------------------------------------------------ */

struct pair {
	int	near, far;
};

static void set_nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static struct pair tcp_pair(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t size = sizeof(a);
	FERRY_AUTO_FD listener = socket(AF_INET, SOCK_STREAM, 0);
	struct pair p = { socket(AF_INET, SOCK_STREAM, 0), -1 };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener < 0 || p.near < 0 ||
	    bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &size) ||
	    connect(p.near, (struct sockaddr *)&a, sizeof(a)))
		die("loopback");
	p.far = accept(listener, NULL, NULL);
	if (p.far < 0)
		die("accept");
	set_nodelay(p.near);
	set_nodelay(p.far);
	return p;
}

static void pair_close(struct pair *p)
{
	close(p->near);
	close(p->far);
}

static void send_all(int fd, const void *data, size_t bytes)
{
	const char *at = data;

	while (bytes) {
		ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		at += n;
		bytes -= (size_t)n;
	}
}

/* False at the end of the stream. */
static bool recv_all(int fd, void *data, size_t bytes)
{
	return recv(fd, data, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

struct sender {
	int		 fd;
	const char	*data;
	size_t		 bytes;		/* of data */
	size_t		 total;
};

static void send_thread(void *arg)
{
	struct sender *s = arg;

	for (size_t sent = 0; sent < s->total; sent += BUFFER_BYTES)
		send_all(s->fd, s->data + sent % s->bytes, BUFFER_BYTES);
}

static void loopback(size_t total)
{
	struct pair p = tcp_pair();
	struct sender s = { .fd = p.near, .bytes = 64 * MIB, .total = total };
	struct ferry_thread t = { 0 };
	char *buffer = memory(BUFFER_BYTES, true);
	char *data = memory(s.bytes, true);
	double cpu = cpu_s(), seconds;
	uint64_t start = ferry_now_ns();

	s.data = data;
	if (ferry_thread_start(&t, "sender", send_thread, &s, NULL))
		die("thread");
	for (size_t got = 0; got < total; got += BUFFER_BYTES)
		if (!recv_all(p.far, buffer, BUFFER_BYTES))
			die("recv");
	seconds = (double)(ferry_now_ns() - start) / 1e9;
	ferry_thread_join(&t);
	printf("\"loopback\": {\"mb_per_s\": %.0f, \"cpu_s_per_gib\": %.3f}, ",
	       (double)total / 1e6 / seconds,
	       (cpu_s() - cpu) * 1024 * MIB / (double)total);
	munmap(data, s.bytes);
	munmap(buffer, BUFFER_BYTES);
	pair_close(&p);
}

/* ---- userfaultfd ------------------------------------------------------------ */

static void open_uffd(struct ferry_uffd *u, void *at, size_t bytes)
{
	struct uffdio_register r = {
		.range = { (uintptr_t)at, bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct ferry_err e;

	if (ferry_uffd_open(u, 0, &e)) {
		fprintf(stderr, "floors: %s\n", e.msg);
		exit(1);
	}
	if (ioctl(u->fd, UFFDIO_REGISTER, &r))
		die("UFFDIO_REGISTER");
}

static void uffd_copy(size_t total, unsigned piece, const char *name)
{
	char *buffer = memory(BUFFER_BYTES, true);
	struct ferry_uffd u;
	char *guest;
	double cpu, seconds;
	uint64_t start;

	warm(total);
	guest = memory(total, false);
	open_uffd(&u, guest, total);
	cpu = cpu_s();
	start = ferry_now_ns();
	for (size_t at = 0; at < total; at += piece)
		if (ferry_uffd_copy(&u, guest + at, buffer, piece) != piece)
			die("UFFDIO_COPY");
	seconds = (double)(ferry_now_ns() - start) / 1e9;
	printf("\"%s\": {\"mb_per_s\": %.0f, \"cpu_s_per_gib\": %.3f}, ", name,
	       (double)total / 1e6 / seconds,
	       (cpu_s() - cpu) * 1024 * MIB / (double)total);
	ferry_uffd_close(&u);
	munmap(guest, total);
	munmap(buffer, BUFFER_BYTES);
}

/* ---- one fault, answered over TCP ------------------------------------------- */

struct server {
	int		 fd;
};

/* The source: an address is asked for, a page is the answer. */
static void serve_thread(void *arg)
{
	struct server *s = arg;
	char page[PAGE];
	uint64_t want;

	memset(page, 0x5a, sizeof(page));
	while (recv_all(s->fd, &want, sizeof(want)))
		send_all(s->fd, page, sizeof(page));
}

struct handler {
	struct ferry_uffd *u;
	int		 fd;
	_Atomic bool	 quit;
};

/* The target: everybody sleeps until there is something to do. */
static void fault_thread(void *arg)
{
	struct handler *h = arg;
	struct pollfd p = { h->u->fd, POLLIN, 0 };
	struct ferry_uffd_fault f;
	char page[PAGE];

	while (!atomic_load(&h->quit)) {
		if (poll(&p, 1, 50) < 1 || ferry_uffd_read(h->u, &f, 1) != 1)
			continue;
		send_all(h->fd, &f.addr, sizeof(f.addr));
		if (!recv_all(h->fd, page, sizeof(page)))
			die("recv page");
		if (ferry_uffd_copy(h->u, (void *)(uintptr_t)f.addr, page,
				    PAGE) != PAGE)
			die("UFFDIO_COPY");
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void touch_all(volatile char *guest, size_t n, double *us)
{
	for (size_t i = 0; i < n; i++) {
		/* Not in order: a stride that meets each page once. */
		size_t page = i * 7919 % n;
		uint64_t start = ferry_now_ns();

		(void)guest[page * PAGE];
		us[i] = (double)(ferry_now_ns() - start) / 1e3;
	}
	qsort(us, n, sizeof(*us), by_size);
}

static void fetch(size_t n)
{
	struct pair p = tcp_pair();
	struct ferry_uffd u;
	struct server server = { p.near };
	struct handler handler = { &u, p.far, false };
	struct ferry_thread serving = { 0 }, handling = { 0 };
	FERRY_AUTO_FREE double *us = calloc(n, sizeof(*us));
	char *guest = memory(n * PAGE, false);
	double sum = 0;

	if (!us)
		die("calloc");
	open_uffd(&u, guest, n * PAGE);
	if (ferry_thread_start(&serving, "serve", serve_thread, &server,
			       NULL) ||
	    ferry_thread_start(&handling, "fault", fault_thread, &handler,
			       NULL))
		die("thread");
	touch_all(guest, n, us);
	for (size_t i = 0; i < n; i++)
		sum += us[i];
	printf("\"fetch\": {\"faults\": %zu, \"mean_us\": %.1f, "
	       "\"p50_us\": %.1f, \"p99_us\": %.1f}", n, sum / (double)n,
	       us[n / 2], us[n * 99 / 100]);
	atomic_store(&handler.quit, true);
	ferry_thread_join(&handling);
	shutdown(p.near, SHUT_RDWR);
	ferry_thread_join(&serving);
	ferry_uffd_close(&u);
	munmap(guest, n * PAGE);
	pair_close(&p);
}

int main(int argc, char **argv)
{
	bool quick = argc == 2 && !strcmp(argv[1], "--quick");
	size_t bytes = (size_t)(quick ? 64 : 1024) * MIB;

	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: ferry-floors [--quick]\n");
		return 2;
	}
	printf("{");
	loopback(2 * bytes);
	uffd_copy(bytes, PAGE, "uffd_copy_4k");
	uffd_copy(bytes, BUFFER_BYTES, "uffd_copy_256k");
	/* A prime, which the stride does not divide. */
	fetch(quick ? 997 : 19997);
	printf("}\n");
	return 0;
}
