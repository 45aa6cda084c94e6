/* SPDX-License-Identifier: MIT */
/*
 * See talk.h.
 */
#include "vu/check/talk.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define DIAL_PAUSE_NS	(20 * FERRY_NS_PER_MS)

int ferry_vc_fail(struct ferry_vc *c, const char *fmt, ...)
{
	char text[sizeof(c->err.msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return ferry_err_set(&c->err, FERRY_E_PROTO, 0, "%s", text);
}

int ferry_vc_not_offered(struct ferry_vc *c, const char *what)
{
	ferry_err_set(&c->err, FERRY_E_UNSUPPORTED, 0, "%s", what);
	return FERRY_VC_NOT_OFFERED;
}

/* ---- the connection ------------------------------------------------------ */

static bool is_readable(int fd, unsigned limit_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, (int)limit_ms) == 1;
}

static int accept_backend(struct ferry_vc *c)
{
	if (!is_readable(c->how->listener, c->how->limit_ms))
		return ferry_vc_fail(c, "the backend did not connect to %s",
				     c->how->path);
	c->sock.fd = accept4(c->how->listener, NULL, NULL, SOCK_CLOEXEC);
	return c->sock.fd < 0 ? ferry_vc_fail(c, "accept: %s",
					      strerror(errno)) : 0;
}

/* A backend that has just lost a front-end may need a moment; one that accepts
 * nobody is not waited for longer. */
static int dial_backend(struct ferry_vc *c)
{
	const struct timespec pause = { .tv_nsec = DIAL_PAUSE_NS };
	uint64_t until = ferry_now_ns() + c->how->limit_ms * 1000000ull;
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(c->how->path) >= sizeof(a.sun_path))
		return ferry_vc_fail(c, "%s: too long for a unix socket",
				     c->how->path);
	strcpy(a.sun_path, c->how->path);
	c->sock.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
			    SOCK_NONBLOCK, 0);
	if (c->sock.fd < 0)
		return ferry_vc_fail(c, "socket: %s", strerror(errno));
	while (connect(c->sock.fd, (struct sockaddr *)&a, sizeof(a))) {
		if (ferry_now_ns() > until)
			return ferry_vc_fail(c, "%s: %s", c->how->path,
					     strerror(errno));
		nanosleep(&pause, NULL);
	}
	return 0;
}

int ferry_vc_connect(struct ferry_vc *c)
{
	c->sock = (struct ferry_vu_sock){
		.fd = -1, .stop = -1, .limit_ms = c->how->limit_ms,
	};
	c->features = c->protocol = 0;
	return c->how->listener >= 0 ? accept_backend(c) : dial_backend(c);
}

void ferry_vc_hang_up(struct ferry_vc *c)
{
	ferry_cleanup_fd(&c->sock.fd);
	c->sock.fd = -1;
}

/* ---- requests and answers ------------------------------------------------ */

static int receive(struct ferry_vc *c, const struct ferry_vu_row *row,
		   struct ferry_vu_msg *m, enum ferry_vu_form form,
		   struct ferry_vu_fds *got)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	int rc = ferry_vu_recv(&c->sock, &m->h, payload, got, &c->err);

	if (!rc)
		return ferry_vc_fail(c, "the backend closed the connection");
	if (rc < 0 && c->err.code == FERRY_E_TIMEOUT)
		return ferry_vc_fail(c, "no answer in %u ms",
				     c->how->limit_ms);
	if (rc < 0)
		return -1;
	if (m->h.request != row->request)
		return ferry_vc_fail(c, "answered as request %u, which is "
				     "another one", m->h.request);
	if (m->h.flags != (FERRY_VU_VERSION | FERRY_VU_REPLY))
		return ferry_vc_fail(c, "the answer's flags are 0x%x, not 0x5 "
				     "(QEMU hangs up on that)", m->h.flags);
	return ferry_vu_payload_decode(payload,
				       ferry_vu_answer_form(&m->h, form), m,
				       &c->err);
}

static int ask(struct ferry_vc *c, const struct ferry_vu_row *row,
	       struct ferry_vu_msg *m, const int *fds, unsigned n_fds,
	       struct ferry_vu_fds *got)
{
	bool ack = !row->has_reply &&
		   (ferry_vc_has(c, FERRY_VU_F_REPLY_ACK) || row->always_ack);

	m->h.flags = FERRY_VU_VERSION | (ack ? FERRY_VU_NEED_REPLY : 0);
	if (ferry_vu_send(&c->sock, m, row->form, fds, n_fds, &c->err))
		return -1;
	if (!ack && !row->has_reply)
		return 0;
	if (receive(c, row, m, ack ? FERRY_VU_U64 :
		    (enum ferry_vu_form)row->reply, got))
		return -1;
	if (ack && m->u64)
		return ferry_vc_fail(c, "refused (%llu)",
				     (unsigned long long)m->u64);
	return 0;
}

int ferry_vc_ask(struct ferry_vc *c, struct ferry_vu_msg *m, const int *fds,
		 unsigned n_fds, struct ferry_vu_fds *got)
{
	const struct ferry_vu_row *row = ferry_vu_row(m->h.request);
	FERRY_AUTO_VU_FDS none = FERRY_VU_FDS_NONE;

	if (ask(c, row, m, fds, n_fds, got ? got : &none))
		return ferry_err_wrap(&c->err, "%s", row->name);
	return 0;
}

int ferry_vc_exchange(struct ferry_vc *c, struct ferry_vu_msg *m,
		      const int *fds, unsigned n_fds, enum ferry_vu_form form)
{
	const struct ferry_vu_row *row = ferry_vu_row(m->h.request);
	FERRY_AUTO_VU_FDS none = FERRY_VU_FDS_NONE;

	m->h.flags = FERRY_VU_VERSION;
	if (ferry_vu_send(&c->sock, m, row->form, fds, n_fds, &c->err) ||
	    receive(c, row, m, form, &none))
		return ferry_err_wrap(&c->err, "%s", row->name);
	return 0;
}

int ferry_vc_u64(struct ferry_vc *c, uint32_t request, uint64_t *value)
{
	struct ferry_vu_msg m = { .h.request = request };
	int rc = ferry_vc_ask(c, &m, NULL, 0, NULL);

	*value = m.u64;
	return rc;
}

int ferry_vc_set(struct ferry_vc *c, uint32_t request, uint64_t value)
{
	struct ferry_vu_msg m = { .h.request = request, .u64 = value };

	return ferry_vc_ask(c, &m, NULL, 0, NULL);
}

int ferry_vc_state(struct ferry_vc *c, uint32_t request, uint32_t index,
		   uint32_t *num)
{
	struct ferry_vu_msg m = {
		.h.request = request, .state = { index, *num },
	};

	if (ferry_vc_ask(c, &m, NULL, 0, NULL))
		return -1;
	if (!ferry_vu_row(request)->has_reply)
		return 0;
	*num = m.state.num;
	if (m.state.index == index)
		return 0;
	return ferry_vc_fail(c, "%s: answered for ring %u, asked for %u",
			     ferry_vu_name(request), m.state.index, index);
}

int ferry_vc_give(struct ferry_vc *c, uint32_t request, uint64_t value, int fd)
{
	struct ferry_vu_msg m = { .h.request = request, .u64 = value };

	return ferry_vc_ask(c, &m, &fd, fd >= 0, NULL);
}

/* ---- requests that nobody should make ------------------------------------ */

enum ferry_vc_answer ferry_vc_send_raw(struct ferry_vc *c, const void *octets,
				       size_t bytes, const int *fds,
				       unsigned n_fds, bool wants_answer,
				       struct ferry_vu_msg *m)
{
	FERRY_AUTO_VU_FDS got = FERRY_VU_FDS_NONE;
	uint8_t payload[FERRY_VU_PAYLOAD_MAX] = { 0 };
	struct ferry_err e = { 0 };
	int rc;

	if (ferry_vu_send_octets(&c->sock, octets, bytes, fds, n_fds, &e))
		return FERRY_VC_CLOSED;
	if (!wants_answer)
		return FERRY_VC_SILENT;
	rc = ferry_vu_recv(&c->sock, &m->h, payload, &got, &e);
	if (rc < 1)
		return e.code == FERRY_E_TIMEOUT || e.code == FERRY_E_PROTO ?
		       FERRY_VC_SILENT : FERRY_VC_CLOSED;
	m->u64 = 0;
	if (m->h.bytes == sizeof(m->u64))
		memcpy(&m->u64, payload, sizeof(m->u64));
	return FERRY_VC_ANSWERED;
}

int ferry_vc_alive(struct ferry_vc *c)
{
	uint64_t value;

	ferry_vc_hang_up(c);
	if (ferry_vc_connect(c) ||
	    ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &value))
		return ferry_err_wrap(&c->err, "the next front-end");
	return 0;
}

/* ---- agreeing ------------------------------------------------------------ */

/* What the codec knows a row for, and what no check turns on by itself. */
static uint64_t known_protocol(void)
{
	const uint64_t not_now = 1ull << FERRY_VU_F_CONFIGURE_MEM_SLOTS;
	uint64_t known = 0;

	for (unsigned bit = 0; bit < 64; bit++)
		if (*ferry_vu_feature_name(bit) != '?')
			known |= 1ull << bit;
	return known & ~not_now;
}

int ferry_vc_agree(struct ferry_vc *c, uint64_t without)
{
	if (ferry_vc_u64(c, FERRY_VU_GET_FEATURES, &c->offered))
		return -1;
	c->features = c->offered & ~without & ~FERRY_VU_VIRTIO_F_LOG_ALL;
	if (c->offered & FERRY_VU_VIRTIO_F_PROTOCOL) {
		if (ferry_vc_u64(c, FERRY_VU_GET_PROTOCOL_FEATURES,
				 &c->protocol_offered) ||
		    ferry_vc_set(c, FERRY_VU_SET_PROTOCOL_FEATURES,
				 c->protocol_offered & known_protocol()))
			return -1;
		c->protocol = c->protocol_offered & known_protocol();
	}
	return ferry_vc_set(c, FERRY_VU_SET_OWNER, 0) ||
	       ferry_vc_set(c, FERRY_VU_SET_FEATURES, c->features) ? -1 : 0;
}
