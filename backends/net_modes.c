/* SPDX-License-Identifier: MIT */
/*
 * What can be at the other end of a port: nothing, an echo, a source of frames,
 * a tap, or another port.
 */
#include "net.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fail(struct ferry_err *e, const char *what, const char *name)
{
	e->code = FERRY_E_IO;
	e->sys = errno;
	snprintf(e->msg, sizeof(e->msg), "%s %s: %s", what, name,
		 strerror(errno));
	return -1;
}

/* ---- frames between two threads ------------------------------------------ */

#define RING_FRAMES	1024u		/* a power of two */
#define RING_FRAME_BYTES 2048u

struct net_ring {
	_Alignas(64) _Atomic uint32_t put;
	_Alignas(64) _Atomic uint32_t got;
	_Atomic bool	waits;		/* the reader, for the bell */
	int		fd;		/* eventfd: the bell */
	struct {
		uint32_t	bytes;
		uint8_t		octets[RING_FRAME_BYTES - 4];
	} frame[RING_FRAMES];
};

struct net_ring *net_ring_new(void)
{
	struct net_ring *r = aligned_alloc(_Alignof(struct net_ring),
					   sizeof(*r));

	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->waits = true;
	r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->fd < 0) {
		free(r);
		return NULL;
	}
	return r;
}

void net_ring_free(struct net_ring *r)
{
	if (!r)
		return;
	close(r->fd);
	free(r);
}

int net_ring_fd(const struct net_ring *r)
{
	return r->fd;
}

uint8_t *net_ring_room(struct net_ring *r)
{
	uint32_t at = atomic_load_explicit(&r->put, memory_order_relaxed);
	uint32_t got = atomic_load_explicit(&r->got, memory_order_acquire);

	return at - got == RING_FRAMES ? NULL :
	       r->frame[at % RING_FRAMES].octets;
}

void net_ring_put(struct net_ring *r, size_t bytes)
{
	uint32_t at = atomic_load_explicit(&r->put, memory_order_relaxed);

	r->frame[at % RING_FRAMES].bytes = (uint32_t)bytes;
	atomic_store_explicit(&r->put, at + 1, memory_order_release);
}

/* The reader says that it waits, then looks once more; we the reverse. */
void net_ring_bell(struct net_ring *r)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&r->waits, memory_order_relaxed))
		eventfd_write(r->fd, 1);
}

static bool is_empty(struct net_ring *r)
{
	return atomic_load_explicit(&r->put, memory_order_acquire) ==
	       atomic_load_explicit(&r->got, memory_order_relaxed);
}

static bool must_wait(struct net_ring *r)
{
	if (!is_empty(r))
		return false;
	atomic_store_explicit(&r->waits, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	return is_empty(r);
}

const uint8_t *net_ring_first(struct net_ring *r, size_t *bytes)
{
	uint32_t at = atomic_load_explicit(&r->got, memory_order_relaxed);

	if (must_wait(r))
		return NULL;
	if (atomic_load_explicit(&r->waits, memory_order_relaxed)) {
		eventfd_t n;

		atomic_store_explicit(&r->waits, false, memory_order_relaxed);
		eventfd_read(r->fd, &n);
	}
	*bytes = r->frame[at % RING_FRAMES].bytes;
	return r->frame[at % RING_FRAMES].octets;
}

void net_ring_drop(struct net_ring *r)
{
	uint32_t at = atomic_load_explicit(&r->got, memory_order_relaxed);

	atomic_store_explicit(&r->got, at + 1, memory_order_release);
}

/* ---- nothing ------------------------------------------------------------- */

static int null_open(struct net_pair *p, const char *argument,
		     struct ferry_err *e)
{
	(void)p, (void)argument, (void)e;
	return 0;
}

static void null_close(struct net_pair *p)
{
	(void)p;
}

static void null_transmit(struct net_pair *p, uint8_t *frame, size_t bytes)
{
	(void)p, (void)frame, (void)bytes;
}

static const uint8_t *null_receive(struct net_pair *p, size_t *bytes)
{
	(void)p, (void)bytes;
	return NULL;
}

/* ---- echo: answers ARP and ICMP ------------------------------------------ */

static int echo_open(struct net_pair *p, const char *argument,
		     struct ferry_err *e)
{
	(void)argument;
	p->ring = net_ring_new();
	if (!p->ring)
		return fail(e, "echo", "ring");
	p->fd = net_ring_fd(p->ring);
	return 0;
}

static void echo_close(struct net_pair *p)
{
	net_ring_free(p->ring);
	p->ring = NULL;
	p->fd = -1;
}

/* The answer is made in the place of the question. */
static uint8_t *echo_room(struct net_pair *p, size_t *max)
{
	assert(p->ring);
	*max = RING_FRAME_BYTES - 4;
	return net_ring_room(p->ring);
}

static void echo_transmit(struct net_pair *p, uint8_t *frame, size_t bytes)
{
	size_t n = net_echo(frame, bytes, p->options->mac);

	if (n)
		net_ring_put(p->ring, n);
}

static void echo_transmitted(struct net_pair *p)
{
	net_ring_bell(p->ring);
}

static const uint8_t *echo_receive(struct net_pair *p, size_t *bytes)
{
	const uint8_t *frame;

	if (p->lent)
		net_ring_drop(p->ring);
	frame = net_ring_first(p->ring, bytes);
	p->lent = frame;
	return frame;
}

/* ---- txonly: a source of frames ------------------------------------------ */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int txonly_open(struct net_pair *p, const char *argument,
		       struct ferry_err *e)
{
	const struct net_options *o = p->options;

	(void)argument;
	p->sample = malloc(o->frame_bytes);
	if (!p->sample)
		return fail(e, "txonly", "a frame");
	net_make_udp(p->sample, o->frame_bytes, o->mac);
	return 0;
}

static void txonly_close(struct net_pair *p)
{
	free(p->sample);
	p->sample = NULL;
}

static const uint8_t *txonly_receive(struct net_pair *p, size_t *bytes)
{
	const struct net_options *o = p->options;

	if (o->rate) {
		uint64_t now = now_ns();

		if (now < p->due_ns)
			return NULL;
		/* What could not be sent in time is not made up for. */
		if (now - p->due_ns > 100000000)
			p->due_ns = now;
		p->due_ns += 1000000000u / o->rate;
	}
	net_number_udp(p->sample, p->serial++);
	*bytes = o->frame_bytes;
	return p->sample;
}

/* ---- tap ----------------------------------------------------------------- */

/* The kernel deals frames out to all queues that are attached, be there anybody
 * who takes them or not.  That of the first pair stays. */
static void tap_enabled(struct net_pair *p, bool on)
{
	struct ifreq r = {
		.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
	};

	if (p != p->first && p->attached != on &&
	    !ioctl(p->fd, TUNSETQUEUE, &r))
		p->attached = on;
}

static int tap_open(struct net_pair *p, const char *argument,
		    struct ferry_err *e)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	if (p->options->pairs > 1)
		r.ifr_flags |= IFF_MULTI_QUEUE;
	if (strlen(argument) >= sizeof(r.ifr_name)) {
		errno = ENAMETOOLONG;
		return fail(e, "tap", argument);
	}
	strcpy(r.ifr_name, argument);
	p->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (p->fd < 0)
		return fail(e, "tap", "/dev/net/tun");
	if (ioctl(p->fd, TUNSETIFF, &r))
		return fail(e, "tap", argument);
	p->attached = true;
	tap_enabled(p, false);
	return 0;
}

static void fd_close(struct net_pair *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void fd_transmit(struct net_pair *p, uint8_t *frame, size_t bytes)
{
	if (write(p->fd, frame, bytes) < 0)
		atomic_fetch_add(&p->dropped, 1);
}

static const uint8_t *fd_receive(struct net_pair *p, size_t *bytes)
{
	ssize_t n = read(p->fd, p->buffer, NET_FRAME_MAX);

	*bytes = n > 0 ? (size_t)n : 0;
	return n > 0 ? p->buffer : NULL;
}

/* ---- switch: another port, over a socket of datagrams --------------------- */

/*
 * The two sockets are PATH.a and PATH.b: whoever finds .a unused takes it.  A
 * frame is a datagram; when nobody is at the other end, it is lost, as on a
 * cable that is not plugged in.  All that comes, comes by the first pair.
 */
static int switch_open(struct net_pair *p, const char *argument,
		       struct ferry_err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char end[2] = { 'a', 'b' };

	p->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return fail(e, "switch", argument);
	if (p != p->first) {
		memcpy(p->peer, p->first->peer, sizeof(p->peer));
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		if (snprintf(at.sun_path, sizeof(at.sun_path), "%s.%c",
			     argument, end[i]) >= (int)sizeof(at.sun_path)) {
			errno = ENAMETOOLONG;
			return fail(e, "switch", argument);
		}
		if (connect(p->fd, (struct sockaddr *)&at, sizeof(at)) &&
		    errno == ECONNREFUSED)
			unlink(at.sun_path);	/* of one that has died */
		if (!bind(p->fd, (struct sockaddr *)&at, sizeof(at))) {
			snprintf(p->peer, sizeof(p->peer), "%s.%c", argument,
				 end[!i]);
			snprintf(p->own, sizeof(p->own), "%s", at.sun_path);
			return 0;
		}
	}
	return fail(e, "switch", argument);
}

static void switch_close(struct net_pair *p)
{
	if (p->own[0])
		unlink(p->own);
	fd_close(p);
}

static void switch_transmit(struct net_pair *p, uint8_t *frame, size_t bytes)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	memcpy(to.sun_path, p->peer, sizeof(to.sun_path));
	if (sendto(p->fd, frame, bytes, MSG_NOSIGNAL, (struct sockaddr *)&to,
		   sizeof(to)) < 0)
		atomic_fetch_add(&p->dropped, 1);
}

/* ---- all of them --------------------------------------------------------- */

static const struct net_mode modes[] = {
	{ .name = "null", .open = null_open, .close = null_close,
	  .transmit = null_transmit, .receive = null_receive },
	{ .name = "echo", .open = echo_open, .close = echo_close,
	  .room = echo_room, .transmit = echo_transmit, .transmitted = echo_transmitted,
	  .receive = echo_receive, .answers = true },
	{ .name = "txonly", .open = txonly_open, .close = txonly_close,
	  .transmit = null_transmit, .receive = txonly_receive,
	  .polls = true },
	{ .name = "tap", .takes_argument = true, .open = tap_open,
	  .close = fd_close, .transmit = fd_transmit, .receive = fd_receive,
	  .enabled = tap_enabled, .leaves = true },
	{ .name = "switch", .takes_argument = true, .open = switch_open,
	  .close = switch_close, .transmit = switch_transmit,
	  .receive = fd_receive, .leaves = true },
};

const struct net_mode *net_mode_find(const char *text, const char **argument)
{
	size_t n = strcspn(text, ":");

	*argument = text[n] ? text + n + 1 : "";
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strlen(modes[i].name) == n &&
		    !strncmp(modes[i].name, text, n) &&
		    modes[i].takes_argument == !!**argument)
			return &modes[i];
	return NULL;
}
