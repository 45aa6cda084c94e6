/* SPDX-License-Identifier: MIT */
/*
 * A check's conversation with a backend: ask, and look at the answer as a
 * strict front-end does.
 *
 * All functions return 0, or -1 with c->err: what the backend did instead, the
 * request's name in front.  One thread.
 */
#ifndef FERRY_VU_CHECK_TALK_H
#define FERRY_VU_CHECK_TALK_H

#include "vu/check/check.h"
#include "vu/check/guest.h"
#include "vu/msg/sock.h"

/* A check's own result, besides 0 and -1. */
#define FERRY_VC_NOT_OFFERED	1
#define FERRY_VC_UNTRIED	2

/* One check that is under way. */
struct ferry_vc {
	const struct ferry_vc_row *row;
	const struct ferry_vu_check_how *how;
	struct ferry_vu_sock	sock;
	struct ferry_err	err;
	uint64_t		offered, protocol_offered;
	uint64_t		features, protocol;	/* taken */
	struct ferry_vc_guest	guest;
};

/* What came back. */
enum ferry_vc_answer {
	FERRY_VC_ANSWERED,
	FERRY_VC_CLOSED,
	FERRY_VC_SILENT,	/* until the limit, or what it says is nonsense */
};

int ferry_vc_connect(struct ferry_vc *c);
void ferry_vc_hang_up(struct ferry_vc *c);

/*
 * Send m.  If its row has an answer, or an ack can be asked for: *m is the
 * answer (an ack: m->u64), its descriptors in *got, or closed when that is
 * NULL.  An ack that says "failed" is -1.
 */
int ferry_vc_ask(struct ferry_vc *c, struct ferry_vu_msg *m, const int *fds,
		 unsigned n_fds, struct ferry_vu_fds *got);

/* The same for what has a number, a state, one descriptor. */
int ferry_vc_u64(struct ferry_vc *c, uint32_t request, uint64_t *value);
int ferry_vc_set(struct ferry_vc *c, uint32_t request, uint64_t value);
int ferry_vc_state(struct ferry_vc *c, uint32_t request, uint32_t index,
		   uint32_t *num);
int ferry_vc_give(struct ferry_vc *c, uint32_t request, uint64_t value,
		  int fd);

/* What has an answer only in postcopy: sent without need_reply, and `form` is
 * waited for. */
int ferry_vc_exchange(struct ferry_vc *c, struct ferry_vu_msg *m,
		      const int *fds, unsigned n_fds,
		      enum ferry_vu_form form);

/* Is the backend there for the next front-end?  Hangs up and connects. */
int ferry_vc_alive(struct ferry_vc *c);

/*
 * Send octets as they are, header and payload, and wait for whatever comes
 * back: for requests that no front-end would make.  *m: an answer's header, and
 * its u64 if it has one.
 */
enum ferry_vc_answer ferry_vc_send_raw(struct ferry_vc *c,
				       const void *octets, size_t bytes,
				       const int *fds, unsigned n_fds,
				       bool wants_answer,
				       struct ferry_vu_msg *m);

/* Features are agreed on: all the backend has, but `without` and what only a
 * migration turns on. */
int ferry_vc_agree(struct ferry_vc *c, uint64_t without);

static inline bool ferry_vc_has(const struct ferry_vc *c,
				enum ferry_vu_protocol_feature bit)
{
	return c->protocol >> bit & 1;
}

/* A result that says why. */
int ferry_vc_fail(struct ferry_vc *c, const char *fmt, ...)
	FERRY_PRINTF(2, 3);
int ferry_vc_not_offered(struct ferry_vc *c, const char *what);

#endif
