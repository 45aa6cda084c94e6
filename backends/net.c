/* SPDX-License-Identifier: MIT */
/*
 * ferry-vhost-net: a network device for a virtual machine, as a vhost-user
 * backend.
 *
 * Queue 2i brings frames to the guest, queue 2i+1 takes them from it.  A frame
 * has a header of virtio before it, of 12 octets (10 for a driver of before
 * virtio 1.0), in which nothing is used: no offloads are offered.
 */
#include "net.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "common.h"

#define VERSION_1	(1ull << 32)
#define HEADER_MAX	12u
#define BURST		64u		/* buffers between two flushes */
#define BUFFERS_MAX	64u		/* of a frame */
#define POLLED_MAX	1024u		/* frames, then orders are looked for */

struct port {
	struct ferry_vhost	*v;
	const struct net_mode	*mode;
	const char		*argument;
	struct net_options	options;
	unsigned		pairs;
	struct net_pair		pair[NET_PAIRS_MAX];
};

static struct net_pair *pair_of(struct port *port, struct ferry_vhost_queue *q)
{
	return &port->pair[ferry_vhost_queue_index(q) / 2];
}

static size_t header_bytes(struct ferry_vhost_queue *q)
{
	const uint64_t with_count = VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF;

	return ferry_vhost_queue_features(q) & with_count ? 12 : 10;
}

/* ---- from the guest ------------------------------------------------------ */

/* What is in the buffer behind its header, once; 0: too long or too short. */
static size_t copy_frame(const struct ferry_vhost_buffer *b, size_t skip,
			 uint8_t *frame, size_t max)
{
	size_t n = 0;

	if (b->out_bytes <= skip || b->out_bytes - skip > max)
		return 0;
	for (uint32_t i = 0; i < b->outs; i++) {
		const uint8_t *p = b->out[i].iov_base;
		size_t bytes = b->out[i].iov_len;
		size_t off = skip < bytes ? skip : bytes;

		memcpy(frame + n, p + off, bytes - off);
		n += bytes - off;
		skip -= off;
	}
	return n;
}

/* ---- to the guest -------------------------------------------------------- */

/* `bytes` octets into the buffer from `at` on. */
static void fill(const struct ferry_vhost_buffer *b, size_t at,
		 const uint8_t *data, size_t bytes)
{
	for (uint32_t i = 0; i < b->ins && bytes; i++) {
		size_t room = b->in[i].iov_len;
		size_t n;

		if (at >= room) {
			at -= room;
			continue;
		}
		n = room - at < bytes ? room - at : bytes;
		memcpy((uint8_t *)b->in[i].iov_base + at, data, n);
		data += n;
		bytes -= n;
		at = 0;
	}
}

/* The usual case: into one buffer that is one piece. */
static bool give_whole(const struct net_pair *p, struct ferry_vhost_queue *q,
		       const struct ferry_vhost_buffer *b,
		       const uint8_t *frame, size_t bytes)
{
	static const struct virtio_net_hdr_mrg_rxbuf hdr = { .num_buffers = 1 };
	uint8_t *to;

	if (!b->ins || b->in[0].iov_len < p->head_bytes + bytes)
		return false;
	to = b->in[0].iov_base;
	memcpy(to, &hdr, p->head_bytes);
	memcpy(to + p->head_bytes, frame, bytes);
	ferry_vhost_queue_push(q, b, (uint32_t)(p->head_bytes + bytes));
	return true;
}

/*
 * A frame may need several buffers, if the driver takes them merged: their
 * number stands in the header of the first.  True: it is there (or can never
 * be); false: no buffers.
 */
static bool give_frame(struct net_pair *p, struct ferry_vhost_queue *q,
		       const uint8_t *frame, size_t bytes)
{
	const size_t head = p->head_bytes;
	struct ferry_vhost_buffer b[BUFFERS_MAX];	/* n are filled */
	struct virtio_net_hdr_mrg_rxbuf hdr = { .num_buffers = 0 };
	size_t room = 0, at = 0;
	uint16_t n = 0;

	do {
		if (ferry_vhost_queue_pop(q, &b[n]) != 1) {
			while (n)
				ferry_vhost_queue_unpop(q, &b[--n]);
			return false;
		}
		if (!n && give_whole(p, q, &b[0], frame, bytes))
			return true;
		room += b[n++].in_bytes;
	} while (room < head + bytes && n < BUFFERS_MAX && p->merged);
	if (room < head + bytes || b[0].in_bytes < head) {
		atomic_fetch_add(&p->dropped, 1);
		while (n)
			ferry_vhost_queue_unpop(q, &b[--n]);
		return true;
	}
	hdr.num_buffers = n;
	fill(&b[0], 0, (const uint8_t *)&hdr, head);
	for (uint16_t i = 0; i < n; i++) {
		size_t skip = i ? 0 : head;
		size_t now = b[i].in_bytes - skip;

		if (now > bytes - at)
			now = bytes - at;
		fill(&b[i], skip, frame + at, now);
		at += now;
		ferry_vhost_queue_push(q, &b[i], (uint32_t)(skip + now));
	}
	return true;
}

/* Until there is no frame, or no buffer for one: it is held, and its fd not
 * looked at until the guest kicks. */
static void give_frames(struct net_pair *p, struct ferry_vhost_queue *q)
{
	for (unsigned n = 1; ; n++) {
		if (!p->held)
			p->held = p->mode->receive(p, &p->held_bytes);
		if (!p->held || !give_frame(p, q, p->held, p->held_bytes))
			break;
		p->held = NULL;
		if (n % BURST == 0) {
			ferry_vhost_queue_flush(q);
			if (p->mode->polls && n == POLLED_MAX)
				break;
		}
	}
	if (!p->mode->polls)
		ferry_vhost_queue_watch(q, p->held ? -1 : p->fd, POLLIN);
}

static void bring_frames(struct net_pair *p, struct ferry_vhost_queue *q)
{
	const bool on = ferry_vhost_queue_enabled(q);

	if (p->mode->enabled)
		p->mode->enabled(p, on);
	if (on)
		give_frames(p, q);
	else
		ferry_vhost_queue_watch(q, -1, POLLIN);
}

/* ---- both ----------------------------------------------------------------- */

/* False: the guest takes none now. */
static bool give_answers(struct net_pair *p, struct ferry_vhost_queue *q)
{
	struct ferry_vhost_queue *rx = ferry_vhost_queue_beside(q,
					ferry_vhost_queue_index(q) - 1);

	if (!rx || !ferry_vhost_queue_enabled(rx))
		return false;
	give_frames(p, rx);
	ferry_vhost_queue_flush(rx);
	return true;
}

static void after_burst(struct net_pair *p, struct ferry_vhost_queue *q)
{
	ferry_vhost_queue_flush(q);
	if ((!p->mode->answers || !give_answers(p, q)) &&
	    p->mode->transmitted)
		p->mode->transmitted(p);
}

static void take_frame(struct net_pair *p, const struct ferry_vhost_buffer *b,
		       size_t skip)
{
	size_t max = NET_FRAME_MAX, bytes;
	uint8_t *frame = p->mode->room ? p->mode->room(p, &max) : p->scratch;

	bytes = frame ? copy_frame(b, skip, frame, max) : 0;
	if (bytes)
		p->mode->transmit(p, frame, bytes);
	else
		atomic_fetch_add(&p->dropped, 1);
}

static void take_frames(struct net_pair *p, struct ferry_vhost_queue *q)
{
	size_t skip = header_bytes(q);
	int on = ferry_vhost_queue_enabled(q);
	struct ferry_vhost_buffer b;
	unsigned n = 0;

	while (ferry_vhost_queue_pop(q, &b) == 1) {
		if (on)
			take_frame(p, &b, skip);
		ferry_vhost_queue_push(q, &b, 0);
		if (++n % BURST == 0) {
			after_burst(p, q);
			on = ferry_vhost_queue_enabled(q);
		}
	}
	after_burst(p, q);
}

static void handle(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct net_pair *p = pair_of(opaque, q);

	(void)why;
	if (ferry_vhost_queue_index(q) % 2)
		take_frames(p, q);
	else
		bring_frames(p, q);
}

static int start(void *opaque, struct ferry_vhost_queue *q,
		 struct ferry_err *e)
{
	struct net_pair *p = pair_of(opaque, q);

	(void)e;
	if (ferry_vhost_queue_index(q) % 2)
		return 0;
	p->head_bytes = header_bytes(q);
	p->merged = ferry_vhost_queue_features(q) &
		    1ull << VIRTIO_NET_F_MRG_RXBUF;
	if (p->mode->polls)
		ferry_vhost_queue_poll(q, 1);
	else
		ferry_vhost_queue_watch(q, p->fd, POLLIN);
	return 0;
}

static void stop(void *opaque, struct ferry_vhost_queue *q, int broken)
{
	struct net_pair *p = pair_of(opaque, q);

	(void)broken;
	if (ferry_vhost_queue_index(q) % 2 == 0 && p->mode->enabled)
		p->mode->enabled(p, false);
}

/* By the control thread. */
static int announce(void *opaque, const uint8_t mac[6])
{
	struct port *port = opaque;
	uint8_t frame[64];

	if (!port->mode->leaves)
		return 0;
	port->mode->transmit(&port->pair[0], frame, net_make_rarp(frame, mac));
	return 0;
}

/* ---- the port ------------------------------------------------------------ */

static void close_port(struct port *port)
{
	for (unsigned i = 0; i < port->pairs; i++) {
		struct net_pair *p = &port->pair[i];

		port->mode->close(p);
		free(p->buffer);
		free(p->scratch);
	}
}

static int open_port(struct port *port, struct ferry_err *e)
{
	for (unsigned i = 0; i < port->pairs; i++) {
		struct net_pair *p = &port->pair[i];

		p->mode = port->mode;
		p->options = &port->options;
		p->first = &port->pair[0];
		p->fd = -1;
		p->buffer = malloc(NET_FRAME_MAX);
		p->scratch = malloc(NET_FRAME_MAX);
		if (!p->buffer || !p->scratch)
			abort();
		if (port->mode->open(p, port->argument, e))
			return -1;
	}
	return 0;
}

static const struct argp_option options[] = {
	{ "mode", 'm', "MODE", 0, "null; echo: answers ARP and ICMP echo; "
	  "txonly: sends frames all the time; tap:NAME; switch:PATH: another "
	  "ferry-vhost-net with the same PATH (default null)", 1 },
	{ "pairs", 'p', "N", 0, "pairs of queues, 1 to 8 (default 1)", 1 },
	{ "mac", 'a', "MAC", 0, "our own address, for echo and txonly", 1 },
	{ "frame", 'f', "BYTES", 0, "txonly: 60 to 1514 (default 60)", 1 },
	{ "rate", 'r', "N", 0, "txonly: frames a second (default: all that "
	  "fit)", 1 },
	{ 0 },
};

struct arguments {
	struct backend	backend;
	struct port	port;
};

static unsigned long number(struct argp_state *state, const char *text,
			    unsigned long min, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!*text || *end || n < min || n > max)
		argp_error(state, "\"%s\": not from %lu to %lu", text, min,
			   max);
	return n;
}

static void read_mac(struct argp_state *state, const char *text,
		     uint8_t mac[6])
{
	int end = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0],
		   &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end) != 6 ||
	    text[end])
		argp_error(state, "\"%s\" is no MAC address", text);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	struct port *port = &a->port;

	switch (key) {
	case 'm':
		port->mode = net_mode_find(arg, &port->argument);
		if (!port->mode)
			argp_error(state, "there is no mode \"%s\"", arg);
		return 0;
	case 'p':
		port->pairs = (unsigned)number(state, arg, 1, NET_PAIRS_MAX);
		return 0;
	case 'a':
		read_mac(state, arg, port->options.mac);
		return 0;
	case 'f':
		port->options.frame_bytes = (uint32_t)number(state, arg, 60,
							     1514);
		return 0;
	case 'r':
		port->options.rate = number(state, arg, 1, 1000000000);
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->backend;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const char doc[] =
	"A network device for a virtual machine, as a vhost-user backend.\v"
	"Example, with a QEMU as the front-end:\n\n"
	"  ferry-vhost-net --socket /run/vm1-net.sock --mode tap:tap0 &\n"
	"  qemu-system-x86_64 ... -chardev "
	"socket,id=c0,path=/run/vm1-net.sock \\\n"
	"      -netdev vhost-user,id=n0,chardev=c0 -device "
	"virtio-net-pci,netdev=n0\n\n"
	"Exit codes: 0 ended by a signal, or with --once by the front-end; 1 "
	"it cannot serve; 64 wrong words.";

int main(int argc, char **argv)
{
	static struct arguments a = { .port = {
		.pairs = 1,
		.options = { { 0x02, 0xfe, 0, 0, 0, 1 }, 60, 0 },
	} };
	const struct argp_child children[] = {
		{ &backend_argp, 0, NULL, 0 }, { 0 },
	};
	const struct argp argp = { options, parse, NULL, doc, children, NULL,
				   NULL };
	struct ferry_vhost_shape shape = FERRY_VHOST_SHAPE_INIT;
	struct ferry_vhost_ops ops = FERRY_VHOST_OPS_INIT;
	struct ferry_err e;
	int rc;

	a.port.mode = net_mode_find("null", &a.port.argument);
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	backend_block_signals();

	shape.name = "net";
	shape.queues = 2 * a.port.pairs;
	shape.queue_size_max = 1024;
	shape.features = 1ull << VIRTIO_NET_F_MRG_RXBUF |
			 1ull << VIRTIO_NET_F_STATUS |
			 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE |
			 1ull << VIRTIO_NET_F_CTRL_VQ |
			 (a.port.pairs > 1 ? 1ull << VIRTIO_NET_F_MQ : 0);
	shape.flags = FERRY_VHOST_INFLIGHT_PACKED_ONLY;
	shape.together = a.port.mode->answers ? 2 : 1;
	ops.handle = handle;
	ops.start = start;
	ops.stop = stop;
	ops.announce = announce;

	a.port.options.pairs = a.port.pairs;
	if (open_port(&a.port, &e))
		return backend_fail(&e);
	a.port.v = ferry_vhost_new(&shape, &ops, &a.port, backend_log, &e);
	if (!a.port.v)
		return backend_fail(&e);
	rc = backend_serve(a.port.v, &a.backend);
	close_port(&a.port);
	return rc;
}
