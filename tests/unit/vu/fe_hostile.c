/* SPDX-License-Identifier: MIT */
/*
 * The front-end with backends that lie: each request of a device's life is
 * answered in each wrong way there is.  Nothing crashes or hangs, no answer is
 * taken for another's, no descriptor is left over, and the VMM hears of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ferry/vhost_fe.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "unit/need_uffd.h"
#include "vu/msg/sock.h"

#define BYTES	(1u << 20)
#define PATIENCE_MS	25

/* How an answer is wrong. */
enum how {
	GOOD, CLOSES, IS_SILENT, IS_ANOTHERS, IS_NO_REPLY, WANTS_A_REPLY,
	IS_OF_VERSION_2, IS_LONG, IS_SHORT, IS_HUGE, HAS_FDS, LACKS_FDS,
	COMES_TWICE, IS_HALF, IS_FLOOD, REFUSES, HOWS,
};

static const char *const names[HOWS] = {
	"good", "closes", "is silent", "is another's", "is no reply",
	"wants a reply", "is of version 2", "is long", "is short", "is huge",
	"has descriptors", "lacks descriptors", "comes twice", "is half",
	"is a flood", "refuses",
};

struct liar {
	struct ferry_vu_sock sock;
	uint32_t	request;	/* that is answered in this way */
	enum how	how;
	bool		no_acks;	/* does not offer REPLY_ACK */
	bool		listening;
	void		(*table)(struct ferry_vu_mem *m);	/* in postcopy */
	struct ferry_uffd uffd;
	int		area;		/* a memfd to give away */
	int		loads;		/* where a state comes, or -1 */
	struct ferry_thread thread;
};

/* ---- what is right -------------------------------------------------------- */

static void good_table(struct ferry_vu_mem *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		m->region[i].user_addr = 0x10000000ull * (i + 1);
}

static void save(int fd)
{
	(void)!write(fd, "state", 5);
}

/* fd: to go along, the liar's; -1. */
static enum ferry_vu_form fill(struct liar *l, struct ferry_vu_msg *m,
			       struct ferry_vu_fds *fds, int *fd)
{
	const uint64_t features = 1ull << 32 | FERRY_VU_VIRTIO_F_LOG_ALL |
				  FERRY_VU_VIRTIO_F_PROTOCOL;

	switch (m->h.request) {
	case FERRY_VU_GET_FEATURES:
		m->u64 = features;
		break;
	case FERRY_VU_GET_PROTOCOL_FEATURES:
		m->u64 = l->no_acks ? ~(1ull << FERRY_VU_F_REPLY_ACK) :
				      UINT64_MAX;
		break;
	case FERRY_VU_GET_QUEUE_NUM:
		m->u64 = 1;
		break;
	case FERRY_VU_GET_VRING_BASE:
		m->state.num = 5;
		break;
	case FERRY_VU_POSTCOPY_ADVISE:
		*fd = l->uffd.fd;
		break;
	case FERRY_VU_POSTCOPY_LISTEN:
		l->listening = true;
		m->u64 = 0;
		break;
	case FERRY_VU_GET_INFLIGHT_FD:
		m->inflight.bytes = 4096;
		*fd = l->area;
		break;
	case FERRY_VU_SET_DEVICE_STATE_FD:
		if (m->transfer.direction)
			l->loads = ferry_vu_fds_take(fds, 0);
		else
			save(fds->fd[0]);
		m->u64 = FERRY_VU_NO_FD;
		break;
	case FERRY_VU_SET_MEM_TABLE:
		if (l->listening && m->h.bytes > 8) {
			l->table(&m->mem);
			return FERRY_VU_MEM;
		}
		m->u64 = 0;
		break;
	case FERRY_VU_GET_CONFIG:
	case FERRY_VU_SET_LOG_BASE:
		break;
	default:
		m->u64 = 0;
	}
	return ferry_vu_row(m->h.request)->has_reply ?
	       (enum ferry_vu_form)ferry_vu_row(m->h.request)->reply :
	       FERRY_VU_U64;
}

/* ---- what is not ---------------------------------------------------------- */

/* Header and so many octets, whatever they say. */
static void send_octets(struct liar *l, const struct ferry_vu_header *h,
			size_t bytes)
{
	uint8_t octets[FERRY_VU_HEADER_BYTES + 4096] = { 0 };

	ferry_vu_header_encode(octets, h);
	(void)!send(l->sock.fd, octets, bytes, MSG_NOSIGNAL);
}

/* True: go on. */
static bool lie(struct liar *l, struct ferry_vu_msg *m,
		enum ferry_vu_form form, int fd)
{
	int fds[2] = { l->area, l->area };
	struct ferry_vu_header *h = &m->h;
	unsigned n = l->how == HAS_FDS ? 2 : fd >= 0 && l->how != LACKS_FDS;

	if (n == 1)
		fds[0] = fd;
	switch (l->how) {
	case CLOSES:
		return false;
	case IS_SILENT:
		return true;
	case IS_ANOTHERS:
		h->request = h->request == 1 ? 2 : 1;
		break;
	case IS_NO_REPLY:
		h->flags = FERRY_VU_VERSION;
		break;
	case WANTS_A_REPLY:
		h->flags |= FERRY_VU_NEED_REPLY;
		break;
	case IS_OF_VERSION_2:
		h->flags = FERRY_VU_REPLY | 2;
		break;
	case IS_LONG:
		h->bytes = 44;
		send_octets(l, h, FERRY_VU_HEADER_BYTES + 44);
		return true;
	case IS_SHORT:
		h->bytes = 3;
		send_octets(l, h, FERRY_VU_HEADER_BYTES + 3);
		return true;
	case IS_HUGE:
		h->bytes = 1u << 30;
		send_octets(l, h, FERRY_VU_HEADER_BYTES + 4096);
		return true;
	case IS_HALF:
		h->bytes = 8;
		send_octets(l, h, 7);
		return true;
	case COMES_TWICE:
		(void)!ferry_vu_send(&l->sock, m, form, fds, n, NULL);
		break;
	case IS_FLOOD:
		for (unsigned i = 0; i < 5000; i++)
			if (ferry_vu_send(&l->sock, m, form, fds, n, NULL))
				return false;
		break;
	case REFUSES:
		m->u64 = 1;
		break;
	default:
		break;
	}
	return !ferry_vu_send(&l->sock, m, form, fds, n, NULL);
}

static bool serve(struct liar *l)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	const struct ferry_vu_row *row;
	enum ferry_vu_form form;
	struct ferry_vu_msg m;
	int fd = -1;

	if (ferry_vu_recv(&l->sock, &m.h, payload, &fds, NULL) <= 0)
		return false;
	row = ferry_vu_row(m.h.request);
	form = row->request == FERRY_VU_SET_MEM_TABLE && m.h.bytes == 8 ?
	       FERRY_VU_U64 : (enum ferry_vu_form)row->form;
	if (ferry_vu_payload_decode(payload, form, &m, NULL))
		return false;
	form = fill(l, &m, &fds, &fd);
	if (!(m.h.flags & FERRY_VU_NEED_REPLY) && !row->has_reply &&
	    form != FERRY_VU_MEM)
		return m.h.request != l->request || l->how != CLOSES;
	m.h.flags = FERRY_VU_VERSION | FERRY_VU_REPLY;
	if (m.h.request == l->request && l->how != GOOD)
		return lie(l, &m, form, fd);
	return !ferry_vu_send(&l->sock, &m, form, &fd, fd >= 0, NULL);
}

static void liar_main(void *arg)
{
	struct liar *l = arg;

	while (serve(l))
		continue;
	ferry_cleanup_fd(&l->loads);
	close(l->sock.fd);
}

/* ---- a VMM ---------------------------------------------------------------- */

struct vmm {
	struct liar	liar;
	struct ferry_vhost_fe *fe;
	struct ferry_vhost_log *log;
	struct ferry_vhost_region region;
	int		kick;
	_Atomic unsigned gone;
	unsigned	faults;
	unsigned	refused;	/* calls that said FERRY_E_PEER */
	unsigned	failed;
};

static void on_gone(void *opaque, const struct ferry_err *why)
{
	struct vmm *v = opaque;

	assert_true(*why->msg);
	atomic_store(&v->gone, 1);
}

static int on_faults(void *opaque, int uffd,
		     const struct ferry_vhost_fault_range *range, size_t n,
		     struct ferry_err *e)
{
	struct vmm *v = opaque;

	(void)uffd, (void)range, (void)n, (void)e;
	v->faults++;
	return 0;
}

static const struct ferry_vhost_fe_ops ops = {
	.size = sizeof(ops), .gone = on_gone, .faults = on_faults,
};

static void note(struct vmm *v, int rc, const struct ferry_err *e)
{
	if (rc < 0 && v->liar.how == GOOD)
		fprintf(stderr, "# %s\n", e->msg);
	v->failed += rc < 0;
	v->refused += rc < 0 && e->code == FERRY_E_PEER;
}

#define CALL(fn, ...)							\
	do {								\
		struct ferry_err err_ = { 0 };				\
		int rc_ = (int)ferry_vhost_fe_##fn(v->fe, __VA_ARGS__,	\
						   &err_);		\
		note(v, rc_, &err_);					\
	} while (0)
#define CALL0(fn)							\
	do {								\
		struct ferry_err err_ = { 0 };				\
		note(v, ferry_vhost_fe_##fn(v->fe, &err_), &err_);	\
	} while (0)

static void setup(struct vmm *v)
{
	struct ferry_vhost_fe_queue q = FERRY_VHOST_FE_QUEUE_INIT;

	q.entries = 8;
	q.avail = 4096;
	q.used = 8192;
	q.kick = q.call = q.err = v->kick;
	CALL(set_features, 1ull << 32);
	CALL(set_status, 11);
	CALL(set_memory, &v->region, 1);
	CALL(use_inflight, 1, 8);
	CALL(queue_start, &q);
	CALL(queue_enable, 0, 1);
}

static void live(struct vmm *v)
{
	static const uint8_t mac[6] = { 2 };
	uint8_t data[16], status;
	uint32_t base;

	CALL(config_get, 0, data, 16);
	CALL(config_set, 0, data, 16, 0);
	CALL(set_mtu, 1500);
	setup(v);
	CALL(get_status, &status);
	CALL(log_start, v->log);
	CALL(announce, mac);
	CALL0(log_stop);
	CALL(queue_stop, 0, &base);
	CALL0(save_begin);
	CALL(save_read, data, 16, -1);
	CALL(save_read, data, 16, -1);
	CALL0(load_begin);
	CALL(load_write, data, 16, -1);
	CALL0(load_end);
	CALL0(reset);
}

static void arrive(struct vmm *v)
{
	uint32_t base;

	CALL0(postcopy_listen);
	setup(v);
	CALL0(postcopy_end);
	CALL(queue_stop, 0, &base);
}

static const uint32_t lived[] = {
	FERRY_VU_GET_FEATURES, FERRY_VU_GET_PROTOCOL_FEATURES,
	FERRY_VU_GET_QUEUE_NUM, FERRY_VU_SET_BACKEND_REQ_FD,
	FERRY_VU_SET_OWNER, FERRY_VU_GET_CONFIG, FERRY_VU_SET_CONFIG,
	FERRY_VU_NET_SET_MTU, FERRY_VU_SET_FEATURES, FERRY_VU_SET_STATUS,
	FERRY_VU_SET_MEM_TABLE, FERRY_VU_GET_INFLIGHT_FD,
	FERRY_VU_SET_INFLIGHT_FD, FERRY_VU_SET_VRING_NUM,
	FERRY_VU_SET_VRING_BASE, FERRY_VU_SET_VRING_ADDR,
	FERRY_VU_SET_VRING_ERR, FERRY_VU_SET_VRING_CALL,
	FERRY_VU_SET_VRING_KICK, FERRY_VU_SET_VRING_ENABLE,
	FERRY_VU_GET_STATUS, FERRY_VU_SET_LOG_BASE, FERRY_VU_SEND_RARP,
	FERRY_VU_GET_VRING_BASE, FERRY_VU_SET_DEVICE_STATE_FD,
	FERRY_VU_CHECK_DEVICE_STATE, FERRY_VU_RESET_DEVICE,
};

static const uint32_t arrived[] = {
	FERRY_VU_POSTCOPY_ADVISE, FERRY_VU_POSTCOPY_LISTEN,
	FERRY_VU_SET_MEM_TABLE, FERRY_VU_POSTCOPY_END,
};

static void open_vmm(struct vmm *v)
{
	struct ferry_err e = { 0 };
	int fd = memfd_create("ram", MFD_CLOEXEC);

	memset(v, 0, sizeof(*v));
	assert_int_equal(ftruncate(fd, BYTES), 0);
	v->region = (struct ferry_vhost_region)FERRY_VHOST_REGION_INIT;
	v->region.fd = fd;
	v->region.bytes = BYTES;
	v->region.host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			      fd, 0);
	v->kick = eventfd(0, EFD_CLOEXEC);
	v->log = ferry_vhost_log_new(&v->region, 1, &e);
	assert_non_null(v->log);
	v->liar.area = memfd_create("area", MFD_CLOEXEC);
	v->liar.table = good_table;
	v->liar.loads = -1;
	v->liar.uffd.fd = -1;
	assert_int_equal(ferry_uffd_open(&v->liar.uffd, 0, &e), 0);
}

static void close_vmm(struct vmm *v)
{
	ferry_vhost_fe_free(v->fe);
	ferry_thread_join(&v->liar.thread);
	ferry_vhost_log_free(v->log);
	munmap(v->region.host, BYTES);
	close(v->region.fd);
	close(v->kick);
	close(v->liar.area);
	ferry_uffd_close(&v->liar.uffd);
}

/* A device's life with this liar.  0: it was connected. */
static int run(struct vmm *v, void (*life)(struct vmm *v))
{
	struct ferry_vhost_fe_shape s = FERRY_VHOST_FE_SHAPE_INIT;
	struct ferry_err e = { 0 };
	int pair[2], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    pair), 0);
	v->liar.sock = (struct ferry_vu_sock){ .fd = pair[1], .stop = -1 };
	assert_int_equal(ferry_thread_start(&v->liar.thread, "liar", liar_main,
					    &v->liar, &e), 0);
	s.request_ms = PATIENCE_MS;
	s.name = "liar0";
	if (v->liar.how == GOOD || v->liar.how == REFUSES)
		s.request_ms = 0;	/* however busy this machine is */
	v->fe = ferry_vhost_fe_new(&s, &ops, v, NULL, &e);
	assert_non_null(v->fe);
	rc = ferry_vhost_fe_attach(v->fe, pair[0], &e);
	if (rc)
		assert_non_null(strstr(e.msg, "liar0: "));
	else
		life(v);
	return rc;
}

static bool is_connected(const struct vmm *v)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	ferry_vhost_fe_info(v->fe, &info);
	return info.connected;
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- tests ---------------------------------------------------------------- */

static void an_honest_one_is_believed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct vmm v;

		open_vmm(&v);
		v.liar.no_acks = i & 1;
		assert_int_equal(run(&v, i & 2 ? arrive : live), 0);
		assert_int_equal(v.failed, 0);
		assert_true(is_connected(&v));
		assert_int_equal(v.faults, i & 2 ? 1 : 0);
		close_vmm(&v);
		assert_int_equal(atomic_load(&v.gone), 0);
	}
}

/* Answers that have no room for a refusal, and lies that are none there. */
static bool is_no_lie(uint32_t request, enum how how)
{
	const struct ferry_vu_row *row = ferry_vu_row(request);

	switch (how) {
	case LACKS_FDS:
		return request != FERRY_VU_POSTCOPY_ADVISE &&
		       request != FERRY_VU_GET_INFLIGHT_FD;
	case REFUSES:
		return row->has_reply;
	case COMES_TWICE:
	case IS_FLOOD:	/* the last of all: nothing follows */
		return request == FERRY_VU_RESET_DEVICE;
	default:
		return false;
	}
}

static void one_lie(uint32_t request, enum how how, void (*life)(struct vmm *v))
{
	struct vmm v;
	int rc;

	open_vmm(&v);
	v.liar.request = request;
	v.liar.how = how;
	rc = run(&v, life);
	if (how == REFUSES && !rc && !(v.refused && is_connected(&v)))
		fail_msg("%s refused: %u failures, %u refusals",
			 ferry_vu_name(request), v.failed, v.refused);
	if (how != REFUSES && !rc) {
		if (is_connected(&v))
			fail_msg("%s: an answer that %s was believed",
				 ferry_vu_name(request), names[how]);
		while (!atomic_load(&v.gone))
			usleep(1000);
	}
	close_vmm(&v);
}

static void no_lie_is_believed(void **state)
{
	unsigned fds;

	(void)state;
	fds = open_fds();
	for (int how = CLOSES; how < HOWS; how++) {
		for (size_t i = 0; i < FERRY_LEN(lived); i++)
			if (!is_no_lie(lived[i], (enum how)how))
				one_lie(lived[i], (enum how)how, live);
		for (size_t i = 0; i < FERRY_LEN(arrived); i++)
			if (!is_no_lie(arrived[i], (enum how)how) &&
			    (how != REFUSES ||
			     arrived[i] != FERRY_VU_SET_MEM_TABLE))
				one_lie(arrived[i], (enum how)how, arrive);
	}
	assert_int_equal(open_fds(), fds);
}

static void same_addresses(struct ferry_vu_mem *m)
{
	(void)m;
}

static void one_too_many(struct ferry_vu_mem *m)
{
	good_table(m);
	m->region[m->n] = m->region[0];
	m->n++;
}

static void none(struct ferry_vu_mem *m)
{
	m->n = 0;
}

static void other_size(struct ferry_vu_mem *m)
{
	good_table(m);
	m->region[0].bytes *= 2;
}

static void other_place(struct ferry_vu_mem *m)
{
	good_table(m);
	m->region[0].gpa += 4096;
}

static void half_a_page(struct ferry_vu_mem *m)
{
	good_table(m);
	m->region[0].user_addr += 8;
}

static void wraps(struct ferry_vu_mem *m)
{
	m->region[0].user_addr = UINT64_MAX - 4095;
}

static const struct {
	const char	*why;
	void		(*table)(struct ferry_vu_mem *m);
} tables[] = {
	{ "our own addresses", same_addresses },
	{ "one region too many", one_too_many },
	{ "no region", none },
	{ "another size", other_size },
	{ "another place", other_place },
	{ "an address that is no page's", half_a_page },
	{ "addresses that wrap", wraps },
};

static void no_table_that_is_wrong_is_served(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(tables); i++) {
		struct vmm v;

		open_vmm(&v);
		v.liar.table = tables[i].table;
		assert_int_equal(run(&v, arrive), 0);
		if (v.faults || is_connected(&v))
			fail_msg("%s: believed", tables[i].why);
		close_vmm(&v);
	}
}

static void what_is_no_userfaultfd_is_not_taken(void **state)
{
	struct vmm v;

	(void)state;
	open_vmm(&v);
	ferry_uffd_close(&v.liar.uffd);
	v.liar.uffd.fd = dup(v.liar.area);
	assert_int_equal(run(&v, arrive), 0);
	assert_int_equal(v.faults, 0);
	assert_false(is_connected(&v));
	close_vmm(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_honest_one_is_believed),
		cmocka_unit_test(no_lie_is_believed),
		cmocka_unit_test(no_table_that_is_wrong_is_served),
		cmocka_unit_test(what_is_no_userfaultfd_is_not_taken),
	};

	if (!has_uffd())
		return SKIPPED;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
