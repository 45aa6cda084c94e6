/* SPDX-License-Identifier: MIT */
/*
 * Inside of ferry-vhost-net: a port has pairs of queues; what is at its other
 * end is a mode.
 *
 * Threads: of each pair, one thread sends to the guest (receive side, `rx`) and
 *          one takes what the guest sends (`tx`); one alone where the mode says
 *          that what is sent comes from what was taken.  A frame that goes from
 *          one side to the other crosses a ring of one writer and one reader.
 */
#ifndef FERRY_BACKENDS_NET_H
#define FERRY_BACKENDS_NET_H

#include <stdatomic.h>
#include <stdbool.h>

#include <ferry/vhost.h>

#define NET_FRAME_MAX	65536u
#define NET_PAIRS_MAX	8u

struct net_pair;

struct net_options {
	uint8_t		mac[6];		/* ours */
	uint32_t	frame_bytes;	/* txonly */
	uint64_t	rate;		/* txonly: frames a second; 0: all */
	unsigned	pairs;
};

struct net_mode {
	const char *name;		/* as in --mode NAME[:ARGUMENT] */
	bool takes_argument;

	/* 0 or -1 with *e.  p->fd may be set: handle() is called when there
	 * is something to receive. */
	int (*open)(struct net_pair *p, const char *argument,
		    struct ferry_err *e);
	void (*close)(struct net_pair *p);

	/* tx thread: where the next frame from the guest is to be copied, of up
	 * to *max octets; NULL: nowhere, it is dropped.  May be NULL: to
	 * p->scratch. */
	uint8_t *(*room)(struct net_pair *p, size_t *max);
	/* tx thread: the guest sent this. */
	void (*transmit)(struct net_pair *p, uint8_t *frame, size_t bytes);
	/* tx thread: those were all for now.  May be NULL. */
	void (*transmitted)(struct net_pair *p);

	/* rx thread: a frame for the guest, which stays until the next call,
	 * perhaps in p->buffer; NULL: there is none. */
	const uint8_t *(*receive)(struct net_pair *p, size_t *bytes);

	/* rx thread: the guest takes frames of this pair, or does so no more.
	 * May be NULL. */
	void (*enabled)(struct net_pair *p, bool on);

	/* There is always something: do not wait for fd. */
	bool polls;

	/* What is transmitted leaves the process, and any thread may. */
	bool leaves;

	/* What is received is the answer to what was transmitted: both sides
	 * of a pair share a thread. */
	bool answers;
};

struct net_ring;

struct net_pair {
	const struct net_mode *mode;
	const struct net_options *options;
	const struct net_pair *first;	/* of all */
	int		fd;		/* readable: receive() has a frame */
	struct net_ring	*ring;
	uint64_t	due_ns;		/* txonly */
	uint64_t	serial;
	uint8_t		*sample;	/* txonly: all but the number */
	_Atomic uint64_t dropped;
	char		own[108], peer[108];	/* switch */
	const uint8_t	*held;		/* a frame that found no buffer */
	size_t		held_bytes;
	uint8_t		*buffer;	/* rx: for receive() */
	bool		lent;		/* echo, rx: a frame of the ring */
	uint8_t		*scratch;	/* tx: a frame, copied */
	size_t		head_bytes;	/* rx: of virtio, before a frame */
	bool		merged;		/* rx: it may take several buffers */
	bool		attached;	/* tap, rx: frames come to this pair */
};

/* NULL when there is no such mode. */
const struct net_mode *net_mode_find(const char *text, const char **argument);

/*
 * Frames from one thread to another.  The writer makes a frame in place (NULL:
 * full), puts it, and rings the bell behind the last of several; the reader
 * looks at the first (NULL: there is none, now the fd tells) and drops it.
 */
struct net_ring *net_ring_new(void);
void net_ring_free(struct net_ring *r);
uint8_t *net_ring_room(struct net_ring *r);
void net_ring_put(struct net_ring *r, size_t bytes);
void net_ring_bell(struct net_ring *r);
const uint8_t *net_ring_first(struct net_ring *r, size_t *bytes);
void net_ring_drop(struct net_ring *r);
int net_ring_fd(const struct net_ring *r);

/* An answer to the ARP request or ICMP echo request in frame, in place; its
 * length, 0: none. */
size_t net_echo(uint8_t *frame, size_t bytes, const uint8_t mac[6]);
/* A UDP frame; bytes: 60 to 1514.  Its serial number is apart. */
void net_make_udp(uint8_t *frame, size_t bytes, const uint8_t mac[6]);
void net_number_udp(uint8_t *frame, uint64_t serial);
/* A RARP announcement. */
size_t net_make_rarp(uint8_t *frame, const uint8_t mac[6]);

#endif
