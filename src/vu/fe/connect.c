/* SPDX-License-Identifier: MIT */
/*
 * From a path to a backend with which everything is agreed on.
 *
 * Agreed on is only what stands in `mine`: a bit that we do not know may change
 * the meaning of what we do.  CONFIGURE_MEM_SLOTS is not among them: with
 * postcopy, backends break on how such a table ends, and eight regions are
 * enough for a VM.
 */
#include "vu/fe/fe.h"

#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define BIT(name)	(1ull << FERRY_VU_F_##name)

static const uint64_t mine =
	BIT(MQ) | BIT(LOG_SHMFD) | BIT(RARP) | BIT(REPLY_ACK) | BIT(NET_MTU) |
	BIT(BACKEND_REQ) | BIT(PAGEFAULT) | BIT(CONFIG) | BIT(INFLIGHT_SHMFD) |
	BIT(RESET_DEVICE) | BIT(STATUS) | BIT(DEVICE_STATE);

int ferry_vf_dial(struct ferry_vhost_fe *f, struct ferry_vf_link *l,
		  struct ferry_err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "socket");
	memcpy(sa.sun_path, f->path, strlen(f->path) + 1);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return ferry_err_set(e, FERRY_E_IO, errno, "connect");
	return ferry_vf_greet(f, ferry_steal_fd(&fd), l, e);
}

static uint64_t not_wanted(const struct ferry_vhost_fe *f)
{
	uint64_t bits = 0;

	if (f->flags & FERRY_VHOST_FE_NO_POSTCOPY || !f->ops.faults)
		bits |= BIT(PAGEFAULT);
	if (f->flags & FERRY_VHOST_FE_NO_INFLIGHT)
		bits |= BIT(INFLIGHT_SHMFD);
	return bits;
}

static int agree(const struct ferry_vhost_fe *f, struct ferry_vf_link *l,
		 struct ferry_err *e)
{
	uint64_t has;

	if (!(l->offered & FERRY_VU_VIRTIO_F_PROTOCOL))
		return 0;
	if (ferry_vf_link_ask_plain(l, FERRY_VU_GET_PROTOCOL_FEATURES, &has, e))
		return -1;
	has &= mine & ~not_wanted(f);
	l->protocol = has;
	if (ferry_vf_link_ask_u64(l, FERRY_VU_SET_PROTOCOL_FEATURES, has, e))
		return -1;
	l->agreed = true;
	return 0;
}

static int count_queues(struct ferry_vf_link *l, struct ferry_err *e)
{
	if (!ferry_vf_link_agreed(l, FERRY_VU_F_MQ))
		return 0;
	if (ferry_vf_link_ask_plain(l, FERRY_VU_GET_QUEUE_NUM, &l->queues, e))
		return -1;
	if (!l->queues)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "GET_QUEUE_NUM: the backend has no queue");
	if (l->queues > FERRY_VHOST_FE_QUEUES_MAX)
		l->queues = FERRY_VHOST_FE_QUEUES_MAX;
	return 0;
}

/* Where the backend may ask us: its word that its configuration changed. */
static int open_requests(struct ferry_vf_link *l, struct ferry_err *e)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_SET_BACKEND_REQ_FD };
	int pair[2], rc;

	if (!ferry_vf_link_agreed(l, FERRY_VU_F_BACKEND_REQ))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return ferry_err_set(e, FERRY_E_IO, errno, "socketpair");
	l->requests = pair[0];
	rc = ferry_vf_link_ask(l, &m, (struct ferry_vf_fds){ &pair[1], 1 }, NULL,
			  e);
	close(pair[1]);
	return rc;
}

static int shake_hands(const struct ferry_vhost_fe *f, struct ferry_vf_link *l,
		       struct ferry_err *e)
{
	return ferry_vf_link_ask_plain(l, FERRY_VU_GET_FEATURES, &l->offered,
				       e) ||
	       agree(f, l, e) || count_queues(l, e) || open_requests(l, e) ||
	       ferry_vf_link_ask_plain(l, FERRY_VU_SET_OWNER, NULL, e) ? -1 :
									 0;
}

static void close_link(struct ferry_vf_link *l)
{
	l->up = false;
	ferry_cleanup_fd(&l->sock.fd);
	ferry_cleanup_fd(&l->requests);
	ferry_cleanup_fd(&l->uffd);
	l->sock.fd = l->requests = l->uffd = -1;
}

int ferry_vf_greet(struct ferry_vhost_fe *f, int fd, struct ferry_vf_link *l,
		   struct ferry_err *e)
{
	*l = (struct ferry_vf_link){
		.sock = { .fd = fd, .stop = f->stop,
			  .limit_ms = f->request_ms,
			  .until_ns = ferry_now_ns() +
				      f->request_ms * FERRY_NS_PER_MS },
		.up = true, .requests = -1, .uffd = -1,
	};
	if (!shake_hands(f, l, e)) {
		l->sock.until_ns = 0;
		return 0;
	}
	close_link(l);
	return -1;
}

/* One that comes in the place of another must be able to do what the guest
 * was promised. */
static int check_features(const struct ferry_vhost_fe *f,
			  const struct ferry_vf_link *l, struct ferry_err *e)
{
	uint64_t lacks = f->want.features & ~l->offered;

	if (!f->want.features_set || !lacks)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "this backend lacks features 0x%" PRIx64
			     " that the guest uses", lacks);
}

int ferry_vf_adopt(struct ferry_vhost_fe *f, const struct ferry_vf_link *l,
		   struct ferry_err *e)
{
	struct ferry_vf_link mine_now = *l;

	if (!check_features(f, l, e)) {
		f->link = mine_now;
		return 0;
	}
	close_link(&mine_now);
	return -1;
}

void ferry_vf_hang_up(struct ferry_vhost_fe *f)
{
	ferry_vf_transfer_end(f);
	close_link(&f->link);
}
