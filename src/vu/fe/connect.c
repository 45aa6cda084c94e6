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

#define BIT(name)	(1ull << FERRY_VU_F_##name)

static const uint64_t mine =
	BIT(MQ) | BIT(LOG_SHMFD) | BIT(RARP) | BIT(REPLY_ACK) | BIT(NET_MTU) |
	BIT(BACKEND_REQ) | BIT(PAGEFAULT) | BIT(CONFIG) | BIT(INFLIGHT_SHMFD) |
	BIT(RESET_DEVICE) | BIT(STATUS) | BIT(DEVICE_STATE);

int ferry_vf_dial(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "socket");
	memcpy(sa.sun_path, f->path, strlen(f->path) + 1);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return ferry_err_set(e, FERRY_E_IO, errno, "connect");
	return ferry_vf_greet(f, ferry_steal_fd(&fd), e);
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

static int agree(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint64_t has;

	if (!(f->link.offered & FERRY_VU_VIRTIO_F_PROTOCOL))
		return 0;
	if (ferry_vf_ask_plain(f, FERRY_VU_GET_PROTOCOL_FEATURES, &has, e))
		return -1;
	has &= mine & ~not_wanted(f);
	f->link.protocol = has;
	if (ferry_vf_ask_u64(f, FERRY_VU_SET_PROTOCOL_FEATURES, has, e))
		return -1;
	f->link.agreed = true;
	return 0;
}

static int count_queues(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (!ferry_vf_agreed(f, FERRY_VU_F_MQ))
		return 0;
	if (ferry_vf_ask_plain(f, FERRY_VU_GET_QUEUE_NUM, &f->link.queues, e))
		return -1;
	if (!f->link.queues)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "GET_QUEUE_NUM: the backend has no queue");
	if (f->link.queues > FERRY_VHOST_FE_QUEUES_MAX)
		f->link.queues = FERRY_VHOST_FE_QUEUES_MAX;
	return 0;
}

/* Where the backend may ask us: its word that its configuration changed. */
static int open_requests(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_SET_BACKEND_REQ_FD };
	int pair[2], rc;

	if (!ferry_vf_agreed(f, FERRY_VU_F_BACKEND_REQ))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return ferry_err_set(e, FERRY_E_IO, errno, "socketpair");
	f->link.requests = pair[0];
	rc = ferry_vf_ask(f, &m, (struct ferry_vf_fds){ &pair[1], 1 }, NULL,
			  e);
	close(pair[1]);
	return rc;
}

/* One that comes in the place of another must be able to do what the guest
 * was promised. */
static int check_features(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint64_t lacks = f->want.features & ~f->link.offered;

	if (!f->want.features_set || !lacks)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "this backend lacks features 0x%" PRIx64
			     " that the guest uses", lacks);
}

static int shake_hands(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (ferry_vf_ask_plain(f, FERRY_VU_GET_FEATURES, &f->link.offered,
			       e) ||
	    agree(f, e) || count_queues(f, e) || open_requests(f, e) ||
	    ferry_vf_ask_plain(f, FERRY_VU_SET_OWNER, NULL, e))
		return -1;
	return check_features(f, e);
}

int ferry_vf_greet(struct ferry_vhost_fe *f, int fd, struct ferry_err *e)
{
	const struct ferry_vf_link before = f->link;

	f->link = (struct ferry_vf_link){
		.sock = { .fd = fd, .stop = f->stop,
			  .limit_ms = f->request_ms },
		.up = true, .requests = -1, .uffd = -1,
	};
	if (!shake_hands(f, e))
		return 0;
	ferry_vf_hang_up(f);
	/* What is told of a backend is as of the last one that was there. */
	f->link.offered = before.offered;
	f->link.protocol = before.protocol;
	f->link.queues = before.queues;
	return -1;
}

void ferry_vf_hang_up(struct ferry_vhost_fe *f)
{
	struct ferry_vf_link *l = &f->link;

	l->up = false;
	ferry_vf_transfer_end(f);
	ferry_cleanup_fd(&l->sock.fd);
	ferry_cleanup_fd(&l->requests);
	ferry_cleanup_fd(&l->uffd);
	l->sock.fd = l->requests = l->uffd = -1;
}
