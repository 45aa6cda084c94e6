/* SPDX-License-Identifier: MIT */
/*
 * The memory table, and postcopy, in which it is three messages: the table, the
 * backend's answer with its own addresses, and the word that its faults are
 * served.
 *
 * ADVISE, LISTEN and END come once on a connection, whatever the number of
 * queues: backends that get more of them leak what the first one made.
 */
#include "vu/fe/fe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "mem/uffd_open.h"

/* ---- the table ---- */

const char *ferry_vf_wrong_with(const struct ferry_vhost_region *r)
{
	if (r->size < sizeof(*r))
		return "has no size: use the _INIT macro";
	if (!r->bytes || (r->bytes | r->gpa | r->fd_offset |
			  (uintptr_t)r->host) % FERRY_PAGE_BYTES)
		return "is not made of whole pages";
	if (r->gpa >= FERRY_VF_GPA_MAX ||
	    r->bytes > FERRY_VF_GPA_MAX - r->gpa)
		return "lies behind 64 TiB";
	return r->host ? NULL : "is nowhere in this process";
}

/* What a backend is to map. */
static const char *wrong_to_share(const struct ferry_vhost_region *r)
{
	const char *wrong = ferry_vf_wrong_with(r);

	return wrong || r->fd >= 0 ? wrong : "is no shared memory";
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

static int check_regions(const struct ferry_vhost_region *r, size_t n,
			 struct ferry_err *e)
{
	if (!n || n > FERRY_VHOST_FE_REGIONS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "memory: %zu regions, not 1 to %d", n,
				     FERRY_VHOST_FE_REGIONS_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *wrong = wrong_to_share(&r[i]);

		for (size_t j = 0; !wrong && j < i; j++)
			if (overlap(r[i].gpa, r[i].bytes, r[j].gpa,
				    r[j].bytes))
				wrong = "overlaps another";
		if (wrong)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "memory: region at 0x%" PRIx64
					     " %s", r[i].gpa, wrong);
	}
	return 0;
}

/* The message and its descriptors. */
static void table(const struct ferry_vf_want *w, struct ferry_vu_msg *m,
		  int fds[FERRY_VU_REGIONS_MAX])
{
	*m = (struct ferry_vu_msg){ .h.request = FERRY_VU_SET_MEM_TABLE };
	m->mem.n = (uint32_t)w->regions;
	for (size_t i = 0; i < w->regions; i++) {
		const struct ferry_vhost_region *r = &w->region[i];

		m->mem.region[i] = (struct ferry_vu_region){
			.gpa = r->gpa, .bytes = r->bytes,
			.user_addr = FERRY_VF_ADDR(r->gpa),
			.fd_offset = r->fd_offset,
		};
		fds[i] = r->fd;
	}
}

/* ---- in postcopy ---- */

static const char *wrong_answer(const struct ferry_vu_mem *sent,
				const struct ferry_vu_mem *got)
{
	if (got->n != sent->n)
		return "has another number of regions";
	for (uint32_t i = 0; i < got->n; i++) {
		const struct ferry_vu_region *s = &sent->region[i];
		const struct ferry_vu_region *r = &got->region[i];

		if (r->gpa != s->gpa || r->bytes != s->bytes)
			return "has other regions";
		if (r->user_addr == s->user_addr)
			return "has our addresses in place of its own, so that"
			       " its faults cannot be told apart (a known"
			       " fault of libvhost-user)";
		if (r->user_addr % FERRY_PAGE_BYTES)
			return "has addresses that are no page's";
		for (uint32_t j = 0; j < i; j++)
			if (overlap(r->user_addr, r->bytes,
				    got->region[j].user_addr,
				    got->region[j].bytes))
				return "has regions that overlap";
	}
	return NULL;
}

/* The VMM serves faults before the backend hears that it does. */
static int serve_faults(struct ferry_vhost_fe *f,
			const struct ferry_vu_mem *mem, struct ferry_err *e)
{
	struct ferry_vhost_fault_range range[FERRY_VHOST_FE_REGIONS_MAX];

	for (uint32_t i = 0; i < mem->n; i++)
		range[i] = (struct ferry_vhost_fault_range){
			.addr = mem->region[i].user_addr,
			.bytes = mem->region[i].bytes,
			.host = f->want.region[i].host,
		};
	return f->ops.faults(f->opaque, f->link.uffd, range, mem->n, e);
}

static int say_served(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h = { FERRY_VU_SET_MEM_TABLE, FERRY_VU_VERSION, 0 },
	};

	return ferry_vf_send(f, &m, FERRY_VU_U64, FERRY_VF_NO_FDS, e);
}

static int exchange(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m;
	int fds[FERRY_VU_REGIONS_MAX];
	struct ferry_vu_mem sent;
	const char *wrong;

	table(&f->want, &m, fds);
	sent = m.mem;
	m.h.flags = FERRY_VU_VERSION;	/* it has an answer of its own */
	if (ferry_vf_send(f, &m, FERRY_VU_MEM,
			  (struct ferry_vf_fds){ fds, sent.n }, e) ||
	    ferry_vf_answer(f, &m, FERRY_VU_MEM, NULL, e))
		return -1;
	wrong = wrong_answer(&sent, &m.mem);
	if (wrong) {
		(void)ferry_err_set(e, FERRY_E_PROTO, 0,
				    "SET_MEM_TABLE: the backend's answer %s",
				    wrong);
		ferry_vf_break(f, e);
		return -1;
	}
	if (serve_faults(f, &m.mem, e)) {
		ferry_vf_break(f, e);
		return FERRY_VF_NEVER;
	}
	return say_served(f, e);
}

int ferry_vf_send_memory(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m;
	int fds[FERRY_VU_REGIONS_MAX];

	if (f->link.uffd >= 0)
		return exchange(f, e);
	table(&f->want, &m, fds);
	return ferry_vf_ask(f, &m, (struct ferry_vf_fds){ fds, m.mem.n }, NULL,
			    e);
}

static int set_memory(struct ferry_vhost_fe *f,
		      const struct ferry_vhost_region *region, size_t n,
		      struct ferry_err *e)
{
	if (check_regions(region, n, e))
		return FERRY_VF_NEVER;
	if (f->want.listening && f->want.regions)
		return ferry_vf_never(ferry_err_set(e, FERRY_E_STATE, 0,
				     "memory: it was set before, and pages are"
				     " missing"));
	f->want.regions = n;
	for (size_t i = 0; i < n; i++)
		f->want.region[i] = region[i];
	return ferry_vf_send_memory(f, e);
}

int ferry_vhost_fe_set_memory(struct ferry_vhost_fe *f,
			      const struct ferry_vhost_region *region, size_t n,
			      struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, set_memory(f, region, n, &err), true, &err,
			      e);
}

/* ---- postcopy ---- */

static int take_uffd(struct ferry_vhost_fe *f, struct ferry_vu_fds *fds,
		     struct ferry_err *e)
{
	if (fds->n != 1)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the backend gave %u userfaultfds, not 1",
				     fds->n);
	f->link.uffd = ferry_vu_fds_take(fds, 0);
	if (!ferry_uffd_is_one(f->link.uffd))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "what the backend gave is no"
				     " userfaultfd");
	if (fcntl(f->link.uffd, F_SETFL, O_RDWR | O_NONBLOCK))
		return ferry_err_set(e, FERRY_E_IO, errno, "userfaultfd");
	return 0;
}

int ferry_vf_send_listen(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_POSTCOPY_ADVISE };
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;

	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_PAGEFAULT))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "its backend cannot wait for pages that"
				     " are missing (PAGEFAULT)");
	if (ferry_vf_ask(f, &m, FERRY_VF_NO_FDS, &fds, e))
		return -1;
	if (take_uffd(f, &fds, e)) {
		ferry_err_wrap(e, "POSTCOPY_ADVISE");
		ferry_vf_break(f, e);
		return -1;
	}
	return ferry_vf_ask_plain(f, FERRY_VU_POSTCOPY_LISTEN, NULL, e);
}

static int listen_now(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	int rc;

	if (f->want.listening)
		return 0;
	if (f->want.regions)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "postcopy: the backend has the memory"
				     " already");
	rc = ferry_vf_send_listen(f, e);
	f->want.listening = !rc;
	return rc;
}

int ferry_vhost_fe_postcopy_listen(struct ferry_vhost_fe *f,
				   struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, listen_now(f, &err), false, &err, e);
}

static int end_now(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	int rc = 0;

	f->want.listening = false;
	if (f->link.uffd >= 0 && f->link.up)
		rc = ferry_vf_ask_plain(f, FERRY_VU_POSTCOPY_END, NULL, e);
	ferry_cleanup_fd(&f->link.uffd);
	f->link.uffd = -1;
	return rc;
}

int ferry_vhost_fe_postcopy_end(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, end_now(f, &err), true, &err, e);
}

/* The keeper hears it, and so does who waits for an answer. */
void ferry_vhost_fe_postcopy_abandon(struct ferry_vhost_fe *f)
{
	eventfd_write(f->stop, 1);
}
