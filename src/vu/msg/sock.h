/* SPDX-License-Identifier: MIT */
/*
 * Messages over a vhost-user socket, whole, with the descriptors that belong
 * to them.
 *
 * Threads: one thread reads, and one writes; usually the same.  Making `stop`
 *          readable, by anyone, ends waiting.
 * Life:    descriptors received belong to the caller, who closes what it does
 *          not take; those sent stay the caller's.
 */
#ifndef FERRY_VU_MSG_SOCK_H
#define FERRY_VU_MSG_SOCK_H

#include "vu/msg/msg.h"

/* How long the rest of a message may be on its way, and how long the peer may
 * take nothing of one. */
#define FERRY_VU_REST_MS	10000

struct ferry_vu_sock {
	int	fd;
	int	stop;		/* an eventfd; -1: none */
	uint32_t limit_ms;	/* how long to wait for a message to begin,
				 * and for its rest; 0: for ever, and
				 * REST_MS */
	uint64_t until_ns;	/* and all of them until then; 0: no end */
};

struct ferry_vu_fds {
	unsigned	n;
	int		fd[FERRY_VU_FDS_MAX];	/* -1: taken */
};

#define FERRY_VU_FDS_NONE { .n = 0 }

/* Close what is left. */
void ferry_vu_fds_close(struct ferry_vu_fds *fds);

/* Take the i-th: the caller's from now on; -1 when there is none. */
int ferry_vu_fds_take(struct ferry_vu_fds *fds, unsigned i);

static inline void ferry_cleanup_vu_fds(struct ferry_vu_fds *fds)
{
	ferry_vu_fds_close(fds);
}

#define FERRY_AUTO_VU_FDS						\
	__attribute__((cleanup(ferry_cleanup_vu_fds))) struct ferry_vu_fds

/*
 * The next message: its header decoded, its payload as octets, since what form
 * it has is the reader's to say.  Blocks.  1: a message; 0: the peer closed
 * between two messages, or stop; -1 with *e: FERRY_E_TIMEOUT when it stopped in
 * the middle, or was too late.
 */
FERRY_CHECKED int ferry_vu_recv(const struct ferry_vu_sock *s,
				struct ferry_vu_header *h,
				uint8_t payload[FERRY_VU_PAYLOAD_MAX],
				struct ferry_vu_fds *fds, struct ferry_err *e);

/* All of them, the descriptors (at most FDS_MAX) with the first. */
FERRY_CHECKED int ferry_vu_send_octets(const struct ferry_vu_sock *s,
				       const uint8_t *octets, size_t bytes,
				       const int *fds, unsigned n_fds,
				       struct ferry_err *e);

/* m->h.bytes is set here.  fds may be NULL.  0, or -1 with *e. */
FERRY_CHECKED int ferry_vu_send(const struct ferry_vu_sock *s,
				struct ferry_vu_msg *m,
				enum ferry_vu_form form, const int *fds,
				unsigned n_fds, struct ferry_err *e);

#endif
