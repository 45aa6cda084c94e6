/* SPDX-License-Identifier: MIT */
/*
 * Tables of a few entries, looked through from the front.
 */
#include "recv/foreign.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/uffd_open.h"

int ferry_foreign_init(struct ferry_foreign *o, struct ferry_err *e)
{
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++)
		o->uffd[i].fd = -1;
	o->open = false;
	atomic_init(&o->count, 0);
	o->next = 1;
	pthread_mutex_init(&o->lock, NULL);
	o->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (o->changed < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	return 0;
}

void ferry_foreign_fini(struct ferry_foreign *o)
{
	ferry_foreign_close(o);
	ferry_cleanup_fd(&o->changed);
	pthread_mutex_destroy(&o->lock);
}

void ferry_foreign_open(struct ferry_foreign *o)
{
	pthread_mutex_lock(&o->lock);
	o->open = true;
	pthread_mutex_unlock(&o->lock);
}

static void wake(const struct ferry_foreign_uffd *u, uint64_t addr,
		 uint64_t bytes)
{
	struct uffdio_range range = { addr, bytes };

	ioctl(u->fd, UFFDIO_WAKE, &range);
}

static void close_one(struct ferry_foreign *o, struct ferry_foreign_uffd *u)
{
	close(u->fd);
	u->fd = -1;
	atomic_fetch_sub(&o->count, 1);
}

void ferry_foreign_close(struct ferry_foreign *o)
{
	pthread_mutex_lock(&o->lock);
	o->open = false;
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++) {
		struct ferry_foreign_uffd *u = &o->uffd[i];

		if (u->fd < 0)
			continue;
		for (uint32_t r = 0; r < u->ranges; r++)
			wake(u, u->range[r].addr, u->range[r].bytes);
		close_one(o, u);
	}
	pthread_mutex_unlock(&o->lock);
	eventfd_write(o->changed, 1);
}

/* ---- adding and removing -------------------------------------------------- */

static const char *wrong_with(struct ferry_mem *mem,
			      const struct ferry_uffd_range *r)
{
	struct ferry_mem_block *b = ferry_mem_by_addr(mem, r->host);
	uint64_t at;

	if (!b)
		return "is in no block";
	at = (uint64_t)((uint8_t *)r->host - b->host);
	if (!r->bytes || r->bytes > b->bytes - at)
		return "reaches beyond its block";
	if ((r->addr | r->bytes | at) % b->page_bytes)
		return "is not made of whole pages";
	return r->addr > UINT64_MAX - r->bytes ? "wraps" : NULL;
}

static int check_ranges(struct ferry_mem *mem, const char *name,
			const struct ferry_uffd_range *range, size_t n,
			struct ferry_err *e)
{
	if (!n || n > FERRY_UFFD_RANGES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "userfaultfd of %s: %zu ranges, not 1 to"
				     " %d", name, n, FERRY_UFFD_RANGES_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *wrong = wrong_with(mem, &range[i]);

		if (wrong)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "userfaultfd of %s: range 0x%"
					     PRIx64 " %s", name, range[i].addr,
					     wrong);
	}
	return 0;
}

static int duplicate(int fd, const char *name, struct ferry_err *e)
{
	FERRY_AUTO_FD own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "userfaultfd of %s", name);
	if (!ferry_uffd_is_one(own))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "userfaultfd of %s: it is none", name);
	if (fcntl(own, F_SETFL, O_RDWR | O_NONBLOCK))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "userfaultfd of %s", name);
	return ferry_steal_fd(&own);
}

static struct ferry_foreign_uffd *find_locked(struct ferry_foreign *o, int fd,
					      int number)
{
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++)
		if (fd < 0 ? o->uffd[i].fd < 0 :
		    o->uffd[i].fd >= 0 && o->uffd[i].number == number)
			return &o->uffd[i];
	return NULL;
}

static int put_locked(struct ferry_foreign *o, int *fd, const char *name,
		      const struct ferry_uffd_range *range, size_t n,
		      struct ferry_err *e)
{
	struct ferry_foreign_uffd *u = find_locked(o, -1, 0);

	if (!o->open)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "userfaultfd of %s: there is no postcopy"
				     " here now", name);
	if (!u)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "userfaultfd of %s: more than %u", name,
				     FERRY_FOREIGN_MAX);
	u->fd = ferry_steal_fd(fd);
	atomic_fetch_add(&o->count, 1);
	u->number = o->next++;
	u->told = false;
	snprintf(u->name, sizeof(u->name), "%s", name);
	u->ranges = (uint32_t)n;
	memcpy(u->range, range, n * sizeof(*range));
	return u->number;
}

int ferry_foreign_add(struct ferry_foreign *o, struct ferry_mem *mem, int fd,
		      const char *name, const struct ferry_uffd_range *range,
		      size_t n, struct ferry_err *e)
{
	FERRY_AUTO_FD own = -1;
	int number;

	if (check_ranges(mem, name, range, n, e))
		return -1;
	own = duplicate(fd, name, e);
	if (own < 0)
		return -1;
	pthread_mutex_lock(&o->lock);
	number = put_locked(o, &own, name, range, n, e);
	pthread_mutex_unlock(&o->lock);
	if (number > 0)
		eventfd_write(o->changed, 1);
	return number;
}

void ferry_foreign_remove(struct ferry_foreign *o, int number)
{
	struct ferry_foreign_uffd *u;

	pthread_mutex_lock(&o->lock);
	u = find_locked(o, 0, number);
	if (u)
		close_one(o, u);
	pthread_mutex_unlock(&o->lock);
	eventfd_write(o->changed, 1);
}

/* ---- waking --------------------------------------------------------------- */

/* The part of [host, host + bytes) that this range is. */
static void wake_in(const struct ferry_foreign_uffd *u,
		    const struct ferry_uffd_range *r, uint64_t host,
		    uint64_t bytes)
{
	uint64_t start = (uintptr_t)r->host, end = start + r->bytes;
	uint64_t from = host > start ? host : start;
	uint64_t to = host + bytes < end ? host + bytes : end;

	if (from < to)
		wake(u, r->addr + (from - start), to - from);
}

void ferry_foreign_wake(struct ferry_foreign *o, const void *host,
			uint64_t bytes)
{
	/* A fault was read, and noted as asked for, by who knew of its
	 * userfaultfd: who looks because of that note finds the count. */
	if (!atomic_load(&o->count))
		return;
	pthread_mutex_lock(&o->lock);
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++) {
		const struct ferry_foreign_uffd *u = &o->uffd[i];

		for (uint32_t r = 0; u->fd >= 0 && r < u->ranges; r++)
			wake_in(u, &u->range[r], (uintptr_t)host, bytes);
	}
	pthread_mutex_unlock(&o->lock);
}

/* ---- the fault thread ----------------------------------------------------- */

unsigned ferry_foreign_poll(struct ferry_foreign *o,
			    struct pollfd p[FERRY_FOREIGN_MAX],
			    int number[FERRY_FOREIGN_MAX])
{
	unsigned n = 0;
	eventfd_t was;

	(void)eventfd_read(o->changed, &was);
	pthread_mutex_lock(&o->lock);
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++) {
		if (o->uffd[i].fd < 0)
			continue;
		p[n] = (struct pollfd){ o->uffd[i].fd, POLLIN, 0 };
		number[n++] = o->uffd[i].number;
	}
	pthread_mutex_unlock(&o->lock);
	return n;
}

/* NULL: outside of what it said it has. */
static void *translate(const struct ferry_foreign_uffd *u, uint64_t addr)
{
	for (uint32_t i = 0; i < u->ranges; i++) {
		const struct ferry_uffd_range *r = &u->range[i];

		if (addr >= r->addr && addr - r->addr < r->bytes)
			return (uint8_t *)r->host + (addr - r->addr);
	}
	return NULL;
}

/* Faults of one, or what is wrong with it in *what.  *lost: one of them leads
 * nowhere, for the first time. */
static unsigned read_locked(struct ferry_foreign_uffd *u,
			    void *host[FERRY_FOREIGN_AT_ONCE],
			    bool *lost, const char **what)
{
	struct uffd_msg m[FERRY_FOREIGN_AT_ONCE];
	ssize_t got = ferry_uffd_read_now(u->fd, m, FERRY_FOREIGN_AT_ONCE);
	unsigned n = 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;	/* somebody was woken meanwhile */
	if (got <= 0 || (size_t)got % sizeof(*m)) {
		*what = "its userfaultfd cannot be read any more";
		return 0;
	}
	for (size_t i = 0; i < (size_t)got / sizeof(*m); i++) {
		if (m[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		host[n] = translate(u, m[i].arg.pagefault.address);
		if (host[n]) {
			n++;
		} else {
			*lost |= !u->told;
			u->told = true;
		}
	}
	return n;
}

unsigned ferry_foreign_read(struct ferry_foreign *o, int number, short revents,
			    void *host[FERRY_FOREIGN_AT_ONCE])
{
	struct ferry_foreign_uffd *u;
	const char *what = NULL;
	bool lost = false;
	char name[sizeof(u->name)] = "";
	unsigned n = 0;

	pthread_mutex_lock(&o->lock);
	u = find_locked(o, 0, number);
	if (u) {
		memcpy(name, u->name, sizeof(name));
		if (revents & POLLIN)
			n = read_locked(u, host, &lost, &what);
		else
			what = "its userfaultfd is of no use any more";
		if (what)
			close_one(o, u);
	}
	pthread_mutex_unlock(&o->lock);
	if (what)
		o->say(o->arg, name, what);
	else if (lost)
		o->say(o->arg, name, "it waits for an address that it did not"
		       " say it has, and nobody can help it");
	return n;
}
