/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user backend that lies, seen by the front-end.  The input:
 *
 *  | octet: how many calls | octet for each: which | octets: the answers
 *
 * The calls are made in that order.  Each request is answered rightly, but for
 * what the next octet of the answers (enum change) and those behind it change;
 * behind their end all is right.  The socket for the backend's own requests
 * gets octets of the input too, with the request that brings it.
 *
 * Threads: calls: the fuzzer's; answers: "liar".
 * Limits:  no verdict depends on time.  A liar that says less than it promised
 *          says no more from then on, so nobody waits for the rest.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ferry/vhost_fe.h>

#include "base/thread.h"
#include "mem/uffd_open.h"
#include "vu/msg/sock.h"

#define NAME		"fuzz0"
#define BYTES		(1u << 20)
#define CALLS_MAX	64u
#define FDS_MAX		15u
#define STATE_BYTES_MAX	96u
#define ANSWER_MS	10000u	/* of a machine that is busy */
#define VERSION_1	(1ull << 32)

/* What an octet of the answers changes. */
enum change {
	PAYLOAD		= 1,	/* octet: where; octet n, n octets over it */
	HEADER		= 2,	/* request ^ octet, flags ^ octet, bytes ^ le16 */
	FDS		= 4,	/* octet: how many (low 4 bits), of which kind */
	TWICE		= 8,
	CLOSES		= 16,
	IN_PIECES	= 32,	/* octet: where; bit 7: descriptors again */
	ASKS		= 64,	/* octet n, n octets; FDS' octet: by itself */
	LENGTH		= 128,	/* octet: of the payload */
};

/* Descriptors to give away; reading or writing one of them never waits.  A
 * program has one set. */
enum kind { A_FILE, A_UFFD, A_NULL, A_SOCKET, A_PIPE, KINDS };

static int kinds[KINDS];
static struct ferry_vhost_region region;
static struct ferry_vhost_log *dirty;
static int event;

static void open_uffd(void)
{
	struct ferry_uffd u;

	/* Where there is none, postcopy ends at once. */
	kinds[A_UFFD] = ferry_uffd_open_as(&u, 0, true, NULL) ?
			dup(kinds[A_NULL]) : u.fd;
}

static void open_kinds(void)
{
	static const uint8_t state[64] = { 's' };
	int pair[2], ends[2];

	kinds[A_FILE] = memfd_create("file", MFD_CLOEXEC);
	FUZZ_CHECK(write(kinds[A_FILE], state, sizeof(state)) == 64);
	kinds[A_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !pipe(ends));
	kinds[A_SOCKET] = pair[0];
	kinds[A_PIPE] = ends[0];
	close(pair[1]);
	close(ends[1]);
	open_uffd();
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void open_once(void)
{
	if (dirty)
		return;
	open_kinds();
	region = (struct ferry_vhost_region)FERRY_VHOST_REGION_INIT;
	region.fd = memfd_create("ram", MFD_CLOEXEC);
	region.bytes = BYTES;
	FUZZ_CHECK(!ftruncate(region.fd, BYTES));
	region.host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			   region.fd, 0);
	dirty = ferry_vhost_log_new(&region, 1, NULL);
	FUZZ_CHECK(region.host != MAP_FAILED && dirty && event >= 0);
}

/* ---- the liar ------------------------------------------------------------ */

struct liar {
	struct ferry_vu_sock sock;
	const uint8_t	*script;
	size_t		left;
	bool		listening;
	int		state;		/* that is loaded into it, or -1 */
	int		channel;	/* for its own requests, or -1 */
	atomic_bool	asked;		/* there was one */
	struct ferry_thread thread;
};

struct reply {
	struct ferry_vu_msg m;
	enum ferry_vu_form form;
	enum kind	kind;
	unsigned	fds;
};

static uint8_t next(struct liar *l)
{
	if (!l->left)
		return 0;
	l->left--;
	return *l->script++;
}

static size_t next_some(struct liar *l, uint8_t *to)
{
	size_t n = next(l);

	n = n < l->left ? n : l->left;
	memcpy(to, l->script, n);
	l->script += n;
	l->left -= n;
	return n;
}

/* Whatever these octets are.  A socket that is full has nobody who reads. */
static void say(int fd, const uint8_t *octets, size_t bytes, enum kind kind,
		unsigned fds)
{
	union {
		char		octets[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr	align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)octets, .iov_len = bytes };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		struct cmsghdr *c = &control.align;

		mh.msg_control = control.octets;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fds);
		for (unsigned i = 0; i < fds; i++)
			memcpy(CMSG_DATA(c) + sizeof(int) * i, &kinds[kind],
			       sizeof(int));
	}
	if (bytes)
		(void)!sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Its own requests are said at once and are all that it will say. */
static void ask(struct liar *l, uint8_t how)
{
	uint8_t octets[UINT8_MAX], fds = 0;
	size_t n = 0;

	if (how & ASKS) {
		n = next_some(l, octets);
		fds = next(l);
	}
	say(l->channel, octets, n, (fds >> 4) % KINDS, fds & FDS_MAX);
	shutdown(l->channel, SHUT_WR);
	atomic_store(&l->asked, true);
}

static void take_fd(struct ferry_vu_fds *fds, int *slot)
{
	ferry_cleanup_fd(slot);
	*slot = ferry_vu_fds_take(fds, 0);
}

static void take_state(struct liar *l, const struct ferry_vu_msg *m,
		       struct ferry_vu_fds *fds)
{
	if (m->transfer.direction)
		take_fd(fds, &l->state);
	else
		(void)!write(fds->fd[0], "state", 5);
}

/* r->m is the request; what is right. */
static void fill(struct liar *l, struct reply *r, struct ferry_vu_fds *fds)
{
	const struct ferry_vu_row *row = ferry_vu_row(r->m.h.request);

	r->form = row->has_reply ? (enum ferry_vu_form)row->reply :
				   FERRY_VU_U64;
	switch (r->m.h.request) {
	case FERRY_VU_GET_FEATURES:
		r->m.u64 = VERSION_1 | FERRY_VU_VIRTIO_F_LOG_ALL |
			   FERRY_VU_VIRTIO_F_PROTOCOL;
		break;
	case FERRY_VU_GET_PROTOCOL_FEATURES:
		r->m.u64 = UINT64_MAX;
		break;
	case FERRY_VU_GET_QUEUE_NUM:
		r->m.u64 = 2;
		break;
	case FERRY_VU_GET_VRING_BASE:
		r->m.state.num = 5;
		break;
	case FERRY_VU_SET_BACKEND_REQ_FD:
		take_fd(fds, &l->channel);
		r->m.u64 = 0;
		break;
	case FERRY_VU_POSTCOPY_ADVISE:
		r->kind = A_UFFD;
		r->fds = 1;
		break;
	case FERRY_VU_POSTCOPY_LISTEN:
	case FERRY_VU_POSTCOPY_END:
		l->listening = r->m.h.request == FERRY_VU_POSTCOPY_LISTEN;
		r->m.u64 = 0;
		break;
	case FERRY_VU_GET_INFLIGHT_FD:
		r->m.inflight.bytes = 4096;
		r->fds = 1;
		break;
	case FERRY_VU_SET_DEVICE_STATE_FD:
		take_state(l, &r->m, fds);
		r->m.u64 = FERRY_VU_NO_FD;
		break;
	case FERRY_VU_SET_MEM_TABLE:
		if (l->listening) {
			r->m.mem.region[0].user_addr = 0x10000000;
			r->form = FERRY_VU_MEM;
		} else {
			r->m.u64 = 0;
		}
		break;
	case FERRY_VU_GET_CONFIG:
	case FERRY_VU_SET_LOG_BASE:
		break;
	default:
		r->m.u64 = 0;
	}
}

/* Its octets, as many as there are to be. */
static void change_payload(struct liar *l, uint8_t *payload, size_t n)
{
	size_t at = next(l), left = at < n ? n - at : 0;
	uint8_t octets[UINT8_MAX];
	size_t some = next_some(l, octets);

	memcpy(payload + n - left, octets, some < left ? some : left);
}

static void change_header(struct liar *l, struct ferry_vu_header *h)
{
	h->request ^= next(l);
	h->flags ^= next(l);
	h->bytes ^= next(l);
	h->bytes ^= (uint32_t)next(l) << 8;
}

/* False: it will say no more. */
static bool lie(struct liar *l, struct reply *r, uint8_t how)
{
	uint8_t octets[FERRY_VU_HEADER_BYTES + FERRY_VU_PAYLOAD_MAX] = { 0 };
	uint8_t *payload = octets + FERRY_VU_HEADER_BYTES, fds;
	size_t n, at = 0;
	bool again = false;

	n = ferry_vu_payload_encode(payload, r->form, &r->m);
	if (how & LENGTH)
		n = next(l);
	if (how & PAYLOAD)
		change_payload(l, payload, n);
	r->m.h.bytes = (uint32_t)n;
	r->m.h.flags = FERRY_VU_VERSION | FERRY_VU_REPLY;
	if (how & HEADER)
		change_header(l, &r->m.h);
	ferry_vu_header_encode(octets, &r->m.h);
	if (how & FDS) {
		fds = next(l);
		r->fds = fds & FDS_MAX;
		r->kind = (fds >> 4) % KINDS;
	}
	if (how & IN_PIECES) {
		fds = next(l);
		at = (fds & 0x7f) % (FERRY_VU_HEADER_BYTES + n);
		again = fds & 0x80;
	}
	for (int i = 0; i < (how & TWICE ? 2 : 1); i++) {
		say(l->sock.fd, octets, at, r->kind, r->fds);
		say(l->sock.fd, octets + at, FERRY_VU_HEADER_BYTES + n - at,
		    r->kind, !at || again ? r->fds : 0);
	}
	return !(how & CLOSES) && r->m.h.bytes == n;
}

static bool has_answer(const struct ferry_vu_header *h,
		       const struct reply *r)
{
	return h->flags & FERRY_VU_NEED_REPLY || r->form == FERRY_VU_MEM ||
	       ferry_vu_row(h->request)->has_reply;
}

/* One request.  The front-end's are right, or else it is at fault. */
static bool serve(struct liar *l)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX], how;
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	const struct ferry_vu_row *row;
	struct ferry_vu_header sent;
	struct reply r = { 0 };
	bool last_word;

	if (ferry_vu_recv(&l->sock, &r.m.h, payload, &fds, NULL) <= 0)
		return false;
	row = ferry_vu_row(r.m.h.request);
	FUZZ_CHECK(row);
	sent = r.m.h;
	last_word = row->request == FERRY_VU_SET_MEM_TABLE && sent.bytes == 8;
	FUZZ_CHECK(!ferry_vu_payload_decode(payload, last_word ? FERRY_VU_U64 :
					    (enum ferry_vu_form)row->form,
					    &r.m, NULL));
	FUZZ_CHECK(last_word ||
		   (fds.n >= row->fds_min && fds.n <= row->fds_max));
	if (last_word)
		return true;
	fill(l, &r, &fds);
	how = next(l);
	if (row->request == FERRY_VU_SET_BACKEND_REQ_FD)
		ask(l, how);
	return !has_answer(&sent, &r) || lie(l, &r, how);
}

static void liar_main(void *arg)
{
	struct liar *l = arg;
	uint8_t rest[256];

	while (serve(l))
		continue;
	shutdown(l->sock.fd, SHUT_WR);
	ferry_cleanup_fd(&l->state);
	/* Until the front-end has enough of it. */
	while (read(l->sock.fd, rest, sizeof(rest)) > 0)
		continue;
	ferry_cleanup_fd(&l->channel);
	close(l->sock.fd);
}

/* ---- its victim ---------------------------------------------------------- */

struct vmm {
	struct liar	liar;
	struct ferry_vhost_fe *fe;
	int		over;		/* eventfd: the keeper has heard all */
	bool		abandoned;
};

static void on_gone(void *opaque, const struct ferry_err *why)
{
	struct vmm *v = opaque;

	FUZZ_CHECK(why->code && strstr(why->msg, NAME));
	eventfd_write(v->over, 1);
}

static void on_config(void *opaque)
{
	(void)opaque;
}

static int on_faults(void *opaque, int uffd,
		     const struct ferry_vhost_fault_range *range, size_t n,
		     struct ferry_err *e)
{
	(void)opaque, (void)e;
	FUZZ_CHECK(n == 1 && range->bytes == BYTES &&
		   range->host == region.host && !(range->addr % 4096) &&
		   range->addr <= UINT64_MAX - range->bytes);
	FUZZ_CHECK(ferry_uffd_is_one(uffd));
	return 0;
}

/* The line that is the last of the backend's own requests. */
static void on_log(void *opaque, int level, const char *line)
{
	struct vmm *v = opaque;

	(void)level;
	if (strstr(line, "the backend's own requests: "))
		eventfd_write(v->over, 1);
}

static int config_get(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint8_t data[57];

	return ferry_vhost_fe_config_get(f, 0, data, sizeof(data), e);
}

static int config_set(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint8_t data[8] = { 0 };

	return ferry_vhost_fe_config_set(f, 4, data, sizeof(data), 0, e);
}

static int set_features(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	ferry_vhost_fe_info(f, &info);
	FUZZ_CHECK(info.queues <= FERRY_VHOST_FE_QUEUES_MAX &&
		   !(info.features & (FERRY_VU_VIRTIO_F_LOG_ALL |
				      FERRY_VU_VIRTIO_F_PROTOCOL)));
	return ferry_vhost_fe_set_features(f, info.features, e);
}

static int set_status(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_set_status(f, 15, e);
}

static int get_status(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint8_t status;

	return ferry_vhost_fe_get_status(f, &status, e);
}

static int set_mtu(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_set_mtu(f, 1500, e);
}

static int announce(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	static const uint8_t mac[6] = { 2 };

	return ferry_vhost_fe_announce(f, mac, e);
}

static int set_memory(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_set_memory(f, &region, 1, e);
}

static int use_inflight(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_use_inflight(f, 1, 8, e);
}

static int queue_start(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vhost_fe_queue q = FERRY_VHOST_FE_QUEUE_INIT;

	q.entries = 8;
	q.avail = 4096;
	q.used = 8192;
	q.kick = q.call = q.err = event;
	return ferry_vhost_fe_queue_start(f, &q, e);
}

static int queue_enable(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_queue_enable(f, 0, 1, e);
}

static int queue_call(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_queue_call(f, 0, event, e);
}

static int queue_stop(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint32_t base;

	return ferry_vhost_fe_queue_stop(f, 0, &base, e);
}

static int log_start(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return ferry_vhost_fe_log_start(f, dirty, e);
}

static int save_read(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint8_t data[40];
	int64_t n = ferry_vhost_fe_save_read(f, data, sizeof(data), -1, e);

	FUZZ_CHECK(n >= -1 && n <= (int64_t)sizeof(data));
	return n < 0 ? -1 : 0;
}

static int load_write(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	uint8_t data[40] = { 0 };

	return ferry_vhost_fe_load_write(f, data, sizeof(data), -1, e);
}

static int state_cancel(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	(void)e;
	ferry_vhost_fe_state_cancel(f);
	return 0;
}

static int can_all(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	int rc = 0;

	for (int what = FERRY_VHOST_FE_CAN_LOG;
	     what <= FERRY_VHOST_FE_CAN_START; what++)
		if (ferry_vhost_fe_can(f, (enum ferry_vhost_fe_ability)what, e))
			rc = -1;
	return rc;
}

static int abandon(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	(void)e;
	ferry_vhost_fe_postcopy_abandon(f);
	return 0;
}

/* An octet of the input is a row, so rows keep their places. */
static int (*const calls[])(struct ferry_vhost_fe *f, struct ferry_err *e) = {
	config_get, config_set, set_features, set_status, get_status, set_mtu,
	announce, set_memory, use_inflight, queue_start, queue_enable,
	queue_call, queue_stop, log_start, ferry_vhost_fe_log_stop,
	ferry_vhost_fe_save_begin, save_read, ferry_vhost_fe_load_begin,
	load_write, ferry_vhost_fe_load_end, state_cancel,
	ferry_vhost_fe_reset, ferry_vhost_fe_postcopy_listen,
	ferry_vhost_fe_postcopy_end, can_all, abandon,
};

/* What failed has a sentence, and who made no sense is not talked to again. */
static void check_failure(struct vmm *v, const struct ferry_err *e)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	FUZZ_CHECK(e->code && strstr(e->msg, NAME));
	ferry_vhost_fe_info(v->fe, &info);
	FUZZ_CHECK(e->code != FERRY_E_PROTO || !info.connected);
}

static void call_all(struct vmm *v, const uint8_t *which, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned k = which[i] % FERRY_LEN(calls);
		struct ferry_err err = { 0 };

		v->abandoned |= calls[k] == abandon;
		if (calls[k](v->fe, &err) < 0)
			check_failure(v, &err);
	}
}

static void live(struct vmm *v, const uint8_t *which, size_t n)
{
	struct pollfd p = { .events = POLLIN };

	call_all(v, which, n);
	p.fd = v->over;
	if (atomic_load(&v->liar.asked) && !v->abandoned)
		poll(&p, 1, -1);
}

static void run(struct vmm *v, const uint8_t *which, size_t n)
{
	struct ferry_vhost_fe_ops ops = FERRY_VHOST_FE_OPS_INIT;
	struct ferry_vhost_fe_shape s = FERRY_VHOST_FE_SHAPE_INIT;
	struct ferry_err e = { 0 };
	int pair[2];

	ops.gone = on_gone;
	ops.faults = on_faults;
	ops.config_changed = on_config;
	s.name = NAME;
	s.request_ms = ANSWER_MS;
	s.state_bytes_max = STATE_BYTES_MAX;
	v->fe = ferry_vhost_fe_new(&s, &ops, v, on_log, &e);
	FUZZ_CHECK(v->fe && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
					pair));
	v->liar.sock = (struct ferry_vu_sock){ .fd = pair[1], .stop = -1 };
	FUZZ_CHECK(!ferry_thread_start(&v->liar.thread, "liar", liar_main,
				       &v->liar, &e));
	if (ferry_vhost_fe_attach(v->fe, pair[0], &e))
		check_failure(v, &e);
	else
		live(v, which, n);
	ferry_vhost_fe_free(v->fe);
	ferry_thread_join(&v->liar.thread);
}

/* The lowest that is free: as before, if none was lost or closed twice. */
static int lowest_fd(void)
{
	int fd = dup(event);

	FUZZ_CHECK(fd >= 0);
	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct vmm v = { .liar = { .state = -1, .channel = -1 } };
	size_t n;
	int fd;

	if (!bytes)
		return 0;
	open_once();
	n = data[0] < CALLS_MAX ? data[0] : CALLS_MAX;
	n = n < bytes - 1 ? n : bytes - 1;
	lseek(kinds[A_FILE], 0, SEEK_SET);
	fd = lowest_fd();
	v.over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v.liar.script = data + 1 + n;
	v.liar.left = bytes - 1 - n;
	run(&v, data + 1, n);
	close(v.over);
	FUZZ_CHECK(lowest_fd() == fd);
	return 0;
}

/* ---- seeds --------------------------------------------------------------- */

/* A device's life here, its move to here, and its coming in postcopy. */
static const struct {
	uint8_t		n, call[24];
	uint8_t		requests;	/* in all */
} lives[] = {
	{ 20, { 0, 1, 5, 2, 3, 7, 8, 9, 10, 4, 11, 13, 6, 14, 24, 12, 15, 16,
		16, 21 }, 36 },
	{ 11, { 17, 18, 18, 19, 2, 3, 7, 9, 10, 12, 21 }, 22 },
	{ 12, { 22, 2, 3, 7, 8, 9, 10, 23, 4, 12, 24, 25 }, 24 },
};

/* One answer that is changed in one way. */
static const struct {
	uint8_t		n, octet[20];
} lies[] = {
	{ 4, { PAYLOAD, 0, 1, 1 } },
	{ 4, { PAYLOAD, 4, 1, 1 } },
	{ 11, { PAYLOAD, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0x7f } },
	{ 5, { PAYLOAD, 0, 2, 0, 0 } },
	{ 4, { PAYLOAD, 24, 1, 8 } },
	{ 11, { PAYLOAD, 24, 8, 0, 0, 0, 0, 0, 0, 0, 0x40 } },
	{ 11, { PAYLOAD, 24, 8, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff } },
	{ 4, { PAYLOAD, 9, 1, 0x10 } },
	{ 4, { PAYLOAD, 18, 1, 0x20 } },
	{ 2, { LENGTH, 0 } },
	{ 2, { LENGTH, 4 } },
	{ 2, { LENGTH, 16 } },
	{ 2, { LENGTH, 72 } },
	{ 5, { HEADER, 1, 0, 0, 0 } },
	{ 5, { HEADER, 0, 8, 0, 0 } },
	{ 5, { HEADER, 0, 0, 4, 0 } },
	{ 5, { HEADER, 0, 0, 0, 1 } },
	{ 2, { FDS, 0x01 } },
	{ 2, { FDS, 0x12 } },
	{ 2, { FDS, 0x4f } },
	{ 2, { FDS, 0x00 } },
	{ 6, { PAYLOAD | FDS, 0, 2, 0, 0, 0x01 } },
	{ 1, { TWICE } },
	{ 1, { CLOSES } },
	{ 2, { IN_PIECES, 5 } },
	{ 3, { IN_PIECES | FDS, 0x01, 0x85 } },
	{ 15, { ASKS, 12, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0 } },
	{ 16, { ASKS, 12, 7, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0x01, 0 } },
};

static void emit_seed(void (*emit)(const void *data, size_t bytes),
		      unsigned life, unsigned request, unsigned how)
{
	uint8_t seed[128] = { lives[life].n };
	size_t n = 1 + lives[life].n + request;

	memcpy(seed + 1, lives[life].call, lives[life].n);
	memcpy(seed + n, lies[how].octet, lies[how].n);
	emit(seed, n + lies[how].n);
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	for (unsigned life = 0; life < FERRY_LEN(lives); life++)
		for (unsigned how = 0; how < FERRY_LEN(lies); how++)
			for (unsigned i = 0; i < lives[life].requests; i++)
				emit_seed(emit, life, i, how);
}
