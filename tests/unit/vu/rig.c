/* SPDX-License-Identifier: MIT */
/*
 * See rig.h.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LIMIT_MS	30000		/* catches hangs only */

struct split_desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	flags, next;
};

struct packed_desc {
	uint64_t		gpa;
	uint32_t		bytes;
	uint16_t		id;
	_Atomic uint16_t	flags;
};

static void log_line(void *opaque, int level, const char *line)
{
	(void)opaque;
	if (getenv("FERRY_TEST_LOG"))
		fprintf(stderr, "# %d %s\n", level, line);
}

static bool is_packed(const struct rig *r)
{
	return r->features & FERRY_VIRTIO_F_RING_PACKED;
}

/* ---- the conversation ---------------------------------------------------- */

static void receive(struct rig *r, struct ferry_vu_msg *m,
		    enum ferry_vu_form form, struct ferry_vu_fds *got)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	struct ferry_err e = { 0 };
	uint32_t request = m->h.request;

	assert_int_equal(ferry_vu_recv(&r->sock, &m->h, payload, got, &e), 1);
	assert_int_equal(m->h.request, request);
	assert_int_equal(m->h.flags, FERRY_VU_VERSION | FERRY_VU_REPLY);
	if (m->h.bytes)
		assert_int_equal(ferry_vu_payload_decode(payload, form, m, &e),
				 0);
}

uint64_t rig_ask(struct rig *r, struct ferry_vu_msg *m, const int *fds,
		 unsigned n_fds, struct ferry_vu_fds *got)
{
	const struct ferry_vu_row *row = ferry_vu_row(m->h.request);
	struct ferry_vu_fds none;
	bool ack = !row->has_reply && (!r->no_ack || row->always_ack);

	m->h.flags = FERRY_VU_VERSION | (ack ? FERRY_VU_NEED_REPLY : 0);
	assert_int_equal(ferry_vu_send(&r->sock, m, row->form, fds, n_fds,
				       NULL), 0);
	if (!ack && !row->has_reply)
		return 0;
	receive(r, m, ack ? FERRY_VU_U64 : row->reply, got ? got : &none);
	if (!got)
		ferry_vu_fds_close(&none);
	return m->u64;
}

uint64_t rig_ask_u64(struct rig *r, uint32_t request, uint64_t value)
{
	struct ferry_vu_msg m = { .h.request = request, .u64 = value };

	return rig_ask(r, &m, NULL, 0, NULL);
}

uint64_t rig_ask_state(struct rig *r, uint32_t request, uint32_t index,
		       uint32_t num)
{
	struct ferry_vu_msg m = {
		.h.request = request, .state = { index, num },
	};

	return rig_ask(r, &m, NULL, 0, NULL);
}

static void talk(struct rig *r, uint64_t without)
{
	uint64_t have;

	r->no_ack = true;
	have = rig_ask_u64(r, FERRY_VU_GET_FEATURES, 0);
	assert_true(have & FERRY_VU_VIRTIO_F_PROTOCOL);
	r->features = have & ~without & ~FERRY_VU_VIRTIO_F_LOG_ALL;
	rig_ask_u64(r, FERRY_VU_SET_PROTOCOL_FEATURES,
		    rig_ask_u64(r, FERRY_VU_GET_PROTOCOL_FEATURES, 0));
	r->no_ack = false;
	assert_int_equal(rig_ask_u64(r, FERRY_VU_SET_OWNER, 0), 0);
	assert_int_equal(rig_ask_u64(r, FERRY_VU_SET_FEATURES, r->features),
			 0);
}

static void attach(struct rig *r, const struct ferry_vhost_shape *shape,
		   const struct ferry_vhost_ops *ops, void *opaque)
{
	struct ferry_err e = { 0 };
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    fd), 0);
	r->sock = (struct ferry_vu_sock){ .fd = fd[0], .stop = -1 };
	if (r->forks) {
		r->child = fork();
		assert_true(r->child >= 0);
		if (r->child) {
			close(fd[1]);
			return;
		}
		close(fd[0]);
	}
	r->v = ferry_vhost_new(shape, ops, opaque, log_line, &e);
	assert_non_null(r->v);
	assert_int_equal(ferry_vhost_attach(r->v, fd[1], &e), 0);
	if (r->forks) {
		ferry_vhost_wait(r->v, -1, NULL);
		_exit(0);
	}
}

static void end_device(struct rig *r)
{
	if (r->forks) {
		kill(r->child, SIGKILL);
		waitpid(r->child, NULL, 0);
		close(r->sock.fd);
	} else {
		close(r->sock.fd);
		ferry_vhost_free(r->v);
	}
}

void rig_make(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->inflight_fd = -1;
	r->mem_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(r->mem_fd, RIG_BYTES), 0);
	r->mem = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		      r->mem_fd, 0);
	assert_ptr_not_equal(r->mem, MAP_FAILED);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		r->q[i].kick = r->q[i].call = -1;
}

static void open_as(struct rig *r, bool forks,
		    const struct ferry_vhost_shape *shape,
		    const struct ferry_vhost_ops *ops, void *opaque,
		    uint64_t without)
{
	rig_make(r);
	r->forks = forks;
	attach(r, shape, ops, opaque);
	talk(r, without);
}

void rig_open(struct rig *r, const struct ferry_vhost_shape *shape,
	      const struct ferry_vhost_ops *ops, void *opaque,
	      uint64_t without)
{
	open_as(r, false, shape, ops, opaque, without);
}

void rig_open_forked(struct rig *r, const struct ferry_vhost_shape *shape,
		     const struct ferry_vhost_ops *ops, void *opaque,
		     uint64_t without)
{
	open_as(r, true, shape, ops, opaque, without);
}

static void give_inflight(struct rig *r)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_INFLIGHT_FD,
		.inflight = r->inflight,
	};

	assert_int_equal(rig_ask(r, &m, &r->inflight_fd, 1, NULL), 0);
}

void rig_track_inflight(struct rig *r, uint16_t queues, uint16_t size)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_INFLIGHT_FD,
		.inflight = { .queues = queues, .queue_size = size },
	};
	struct ferry_vu_fds got;

	rig_ask(r, &m, NULL, 0, &got);
	assert_int_equal(got.n, 1);
	r->inflight = m.inflight;
	r->inflight_fd = got.fd[0];
	give_inflight(r);
}

static void close_queue(struct rig_queue *q)
{
	ferry_cleanup_fd(&q->kick);
	ferry_cleanup_fd(&q->call);
	q->kick = q->call = -1;
}

void rig_reopen(struct rig *r, const struct ferry_vhost_shape *shape,
		const struct ferry_vhost_ops *ops, void *opaque)
{
	uint64_t features = r->features;

	end_device(r);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		close_queue(&r->q[i]);
	attach(r, shape, ops, opaque);
	talk(r, ~features);
	if (r->inflight_fd >= 0)
		give_inflight(r);
}

void rig_close(struct rig *r)
{
	end_device(r);
	rig_unmake(r);
}

void rig_unmake(struct rig *r)
{
	ferry_cleanup_fd(&r->inflight_fd);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		close_queue(&r->q[i]);
	munmap(r->mem, RIG_BYTES);
	close(r->mem_fd);
}

void rig_give_memory(struct rig *r, bool in_two)
{
	uint64_t first = in_two ? RIG_BYTES / 2 : RIG_BYTES;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_MEM_TABLE,
		.mem = { .n = in_two ? 2 : 1, .region = {
			{ RIG_GPA, first, RIG_UADDR, 0 },
			{ RIG_GPA + first, RIG_BYTES - first,
			  RIG_UADDR + first, first },
		} },
	};
	int fds[] = { r->mem_fd, r->mem_fd };

	assert_int_equal(rig_ask(r, &m, fds, m.mem.n, NULL), 0);
}

uint64_t rig_alloc(struct rig *r, uint64_t bytes, uint64_t align)
{
	uint64_t at = (r->heap + align - 1) / align * align;

	assert_true(at + bytes <= RIG_BYTES - RIG_SCRATCH);
	r->heap = at + bytes;
	return at;
}

/* ---- queues -------------------------------------------------------------- */

void rig_place_queue(struct rig *r, unsigned i, uint32_t size)
{
	struct rig_queue *q = &r->q[i];

	q->size = size;
	q->desc = rig_alloc(r, 16ull * size, 4096);
	q->avail = rig_alloc(r, 6 + 2ull * size, 4096);
	q->used = rig_alloc(r, 6 + 8ull * size, 4096);
	q->avail_wrap = q->used_wrap = true;
	close_queue(q);
	q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void send_addr(struct rig *r, unsigned i, bool logged)
{
	struct rig_queue *q = &r->q[i];
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_VRING_ADDR,
		.addr = {
			.index = i, .flags = logged ? FERRY_VU_ADDR_LOG : 0,
			.desc = RIG_UADDR + q->desc,
			.avail = RIG_UADDR + q->avail,
			.used = RIG_UADDR + q->used,
			.log = RIG_GPA + (is_packed(r) ? q->desc : q->used),
		},
	};

	assert_int_equal(rig_ask(r, &m, NULL, 0, NULL), 0);
}

static void send_fd(struct rig *r, uint32_t request, unsigned i, int fd)
{
	struct ferry_vu_msg m = { .h.request = request, .u64 = i };

	assert_int_equal(rig_ask(r, &m, &fd, 1, NULL), 0);
}

void rig_start_queue(struct rig *r, unsigned i, uint32_t size, uint32_t base,
		     bool logged)
{
	struct rig_queue *q = &r->q[i];

	if (!q->size)
		rig_place_queue(r, i, size);
	close_queue(q);
	q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(rig_ask_state(r, FERRY_VU_SET_VRING_NUM, i, size), 0);
	assert_int_equal(rig_ask_state(r, FERRY_VU_SET_VRING_BASE, i, base),
			 0);
	send_addr(r, i, logged);
	send_fd(r, FERRY_VU_SET_VRING_CALL, i, q->call);
	assert_int_equal(rig_ask_state(r, FERRY_VU_SET_VRING_ENABLE, i, 1), 0);
	send_fd(r, FERRY_VU_SET_VRING_KICK, i, q->kick);
}

uint32_t rig_stop_queue(struct rig *r, unsigned i)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_GET_VRING_BASE, .state = { i, 0 },
	};

	rig_ask(r, &m, NULL, 0, NULL);
	assert_int_equal(m.state.index, i);
	return m.state.num;
}

/* ---- the driver ---------------------------------------------------------- */

static uint16_t flags_of(const struct rig_part *p, bool more)
{
	return (uint16_t)((p->write ? FERRY_VB_DESC_WRITE : 0) |
			  (more ? FERRY_VB_DESC_NEXT : 0));
}

/* A table of the parts in guest memory, and the one part that names it. */
static uint64_t make_table(struct rig *r, const struct rig_part *parts,
			   unsigned n)
{
	uint64_t at = rig_alloc(r, 16ull * n, 16);

	for (unsigned i = 0; i < n; i++) {
		struct split_desc d = {
			.gpa = parts[i].gpa, .bytes = parts[i].bytes,
		};
		uint16_t flags = flags_of(&parts[i],
					  !is_packed(r) && i + 1 < n);

		/* The two layouts have the last two fields turned around. */
		d.flags = is_packed(r) ? 0 : flags;
		d.next = is_packed(r) ? flags : (uint16_t)(i + 1);
		memcpy(r->mem + at + 16 * i, &d, sizeof(d));
	}
	return RIG_GPA + at;
}

static uint16_t split_put(struct rig *r, struct rig_queue *q,
			  const struct rig_part *parts, unsigned n,
			  uint16_t extra)
{
	struct split_desc *d = (struct split_desc *)(r->mem + q->desc);
	_Atomic uint16_t *avail = (_Atomic uint16_t *)(r->mem + q->avail);
	uint16_t head = q->free_at;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = q->free_at;

		q->free_at = (uint16_t)((at + 1) % q->size);
		d[at] = (struct split_desc){
			parts[i].gpa, parts[i].bytes,
			flags_of(&parts[i], i + 1 < n) | extra, q->free_at,
		};
	}
	if (r->spoil)
		r->spoil(r, q, head, r->spoil_arg);
	atomic_store(&avail[2 + q->avail_idx % q->size], head);
	q->avail_idx++;
	atomic_store(&avail[1], q->avail_idx);
	return head;
}

static uint16_t packed_put(struct rig *r, struct rig_queue *q,
			   const struct rig_part *parts, unsigned n,
			   uint16_t extra)
{
	struct packed_desc *d = (struct packed_desc *)(r->mem + q->desc);
	struct packed_desc *first = &d[q->avail_idx];
	const uint16_t turn = 1u << 7 | 1u << 15;
	uint16_t id = q->avail_idx;

	q->chain[id] = (uint16_t)n;
	for (unsigned i = 0; i < n; i++) {
		struct packed_desc *at = &d[q->avail_idx];
		uint16_t wrap = q->avail_wrap ? 1u << 7 : 1u << 15;
		uint16_t flags = (uint16_t)(flags_of(&parts[i], i + 1 < n) |
					    extra | wrap);

		at->gpa = parts[i].gpa;
		at->bytes = parts[i].bytes;
		at->id = id;
		/* The first is not available yet. */
		atomic_store(&at->flags, i ? flags : flags ^ turn);
		if (++q->avail_idx == q->size) {
			q->avail_idx = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	if (r->spoil)
		r->spoil(r, q, id, r->spoil_arg);
	atomic_fetch_xor(&first->flags, turn);
	return id;
}

uint16_t rig_put(struct rig *r, unsigned i, const struct rig_part *parts,
		 unsigned n, bool indirect)
{
	struct rig_part table = { .bytes = 16 * n };
	uint16_t extra = 0;

	if (indirect) {
		table.gpa = make_table(r, parts, n);
		parts = &table;
		n = 1;
		extra = FERRY_VB_DESC_INDIRECT;
	}
	return is_packed(r) ? packed_put(r, &r->q[i], parts, n, extra) :
			      split_put(r, &r->q[i], parts, n, extra);
}

void rig_log_queue(struct rig *r, unsigned i, bool logged)
{
	send_addr(r, i, logged);
}

void rig_kick(struct rig *r, unsigned i)
{
	assert_int_equal(eventfd_write(r->q[i].kick, 1), 0);
}

static bool split_get(struct rig *r, struct rig_queue *q, uint16_t *id,
		      uint32_t *bytes)
{
	_Atomic uint16_t *idx = (_Atomic uint16_t *)(r->mem + q->used + 2);
	uint32_t *one;

	if (atomic_load(idx) == q->used_idx)
		return false;
	one = (uint32_t *)(r->mem + q->used + 4 +
			   8 * (q->used_idx % q->size));
	*id = (uint16_t)one[0];
	*bytes = one[1];
	q->used_idx++;
	/* Notify me of the next one. */
	atomic_store((_Atomic uint16_t *)(r->mem + q->avail + 4 + 2 * q->size),
		     q->used_idx);
	return true;
}

static bool packed_get(struct rig *r, struct rig_queue *q, uint16_t *id,
		       uint32_t *bytes)
{
	struct packed_desc *d = (struct packed_desc *)(r->mem + q->desc) +
				q->used_idx;
	uint16_t flags = atomic_load(&d->flags);
	uint32_t to;

	if (!!(flags & 1u << 7) != q->used_wrap ||
	    !!(flags & 1u << 15) != q->used_wrap)
		return false;
	*id = d->id;
	*bytes = d->bytes;
	to = q->used_idx + q->chain[d->id];
	if (to >= q->size) {
		to -= q->size;
		q->used_wrap = !q->used_wrap;
	}
	q->used_idx = (uint16_t)to;
	return true;
}

bool rig_try_get(struct rig *r, unsigned i, uint16_t *id, uint32_t *bytes)
{
	return is_packed(r) ? packed_get(r, &r->q[i], id, bytes) :
			      split_get(r, &r->q[i], id, bytes);
}

uint16_t rig_get(struct rig *r, unsigned i, uint32_t *bytes)
{
	struct pollfd p = { .fd = r->q[i].call, .events = POLLIN };
	uint16_t id;

	while (!rig_try_get(r, i, &id, bytes)) {
		eventfd_t n;

		assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
		eventfd_read(r->q[i].call, &n);
	}
	return id;
}

/* ---- a device ------------------------------------------------------------ */

static uint32_t copy(const struct ferry_vhost_buffer *b)
{
	uint64_t done = 0;
	uint32_t in = 0;
	size_t at = 0;

	for (uint32_t i = 0; i < b->outs; i++) {
		const uint8_t *p = b->out[i].iov_base;
		size_t left = b->out[i].iov_len;

		while (left && in < b->ins) {
			size_t n = b->in[in].iov_len - at;

			if (n > left)
				n = left;
			memcpy((uint8_t *)b->in[in].iov_base + at, p, n);
			p += n;
			left -= n;
			at += n;
			done += n;
			if (at == b->in[in].iov_len) {
				in++;
				at = 0;
			}
		}
	}
	return (uint32_t)done;
}

void rig_echo(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct ferry_vhost_buffer b;

	(void)opaque;
	(void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1)
		ferry_vhost_queue_push(q, &b, copy(&b));
}
