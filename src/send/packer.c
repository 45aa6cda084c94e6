/* SPDX-License-Identifier: MIT */
/*
 * Packing: windows are measured, the policy decides.
 */
#include "send/packer.h"

#include <time.h>

#include "base/clock.h"

/* A window is long enough to fill what the kernels buffer of a connection,
 * unless that takes too long; a sample is a few packets. */
#define WINDOW_BYTES	(16u << 20)
#define WINDOW_PACKETS	4u
#define SAMPLE_BYTES	(512u << 10)

int ferry_packer_init(struct ferry_packer *p,
		      const struct ferry_packing_how *how,
		      struct ferry_err *e)
{
	*p = (struct ferry_packer){
		.method = how->method,
		.window.mode = how->automatic ? FERRY_SQUEEZE_OFF :
						FERRY_SQUEEZE_ON,
		.window.always = !how->automatic,
	};
	if (!how->method)
		return 0;
	p->squeeze = ferry_squeeze_open(how->method, how->level, e);
	if (!p->squeeze)
		return -1;
	p->window.has_fast = how->shifts && ferry_squeeze_has_fast(p->squeeze);
	p->watches = how->automatic || p->window.has_fast;
	return 0;
}

void ferry_packer_fini(struct ferry_packer *p)
{
	ferry_squeeze_close(p->squeeze);
	*p = (struct ferry_packer){ 0 };
}

static bool is_on(const struct ferry_packer *p)
{
	return p->window.mode != FERRY_SQUEEZE_OFF &&
	       p->window.mode != FERRY_SQUEEZE_TRIAL;
}

/* A sample is short: what others do with the CPU meanwhile is not to decide. */
static uint64_t own_ns(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * FERRY_NS_PER_S + (uint64_t)t.tv_nsec;
}

int ferry_packer_pack(struct ferry_packer *p, const struct iovec *iov, int n,
		      size_t plain_bytes, struct iovec *out,
		      struct ferry_err *e)
{
	uint64_t begin;
	int rc;

	if (!p->squeeze || !plain_bytes)
		return 0;
	if (!is_on(p)) {
		p->stale = true;
		return 0;
	}
	begin = own_ns();
	if (p->stale)
		ferry_squeeze_restart(p->squeeze);
	rc = ferry_squeeze_packet(p->squeeze, iov, n, out, e);
	p->window.squeeze_ns += own_ns() - begin;
	p->stale = rc || out->iov_len >= plain_bytes;
	if (rc)
		return -1;
	return !p->stale;
}

/* What it was like. */
static void remember(struct ferry_squeeze_window *w, bool good)
{
	uint64_t ns = ferry_squeeze_per_mib(w->ns, w->plain_bytes);

	if (w->mode == FERRY_SQUEEZE_ON ||
	    (w->mode == FERRY_SQUEEZE_SHIFT && good)) {
		w->on_ns = ns;
	} else if (w->mode == FERRY_SQUEEZE_OFF ||
		   w->mode == FERRY_SQUEEZE_TRIAL) {
		w->off_ns = ns;
		w->off_blocked_ns = ferry_squeeze_per_mib(w->blocked_ns,
							  w->plain_bytes);
	}
}

/* The next one begins. */
static void begin_window(struct ferry_packer *p,
			 const struct ferry_squeeze_next *next)
{
	struct ferry_squeeze_window *w = &p->window;

	if (next->mode != w->mode) {
		w->windows = 0;
		w->mode_ns = 0;
	}
	w->mode = next->mode;
	w->fast = next->fast;
	w->refused = next->refused;
	w->tried = next->tried;
	w->shifted = next->shifted;
	w->plain_bytes = w->wire_bytes = 0;
	w->ns = w->squeeze_ns = w->blocked_ns = 0;
	p->packets = 0;
}

static void end_window(struct ferry_packer *p)
{
	struct ferry_squeeze_window *w = &p->window;
	struct ferry_squeeze_next next;

	w->windows++;
	w->mode_ns += w->ns;
	next = ferry_squeeze_policy(w);
	remember(w, next.fast == w->fast);
	if (next.fast != w->fast)
		ferry_squeeze_shift(p->squeeze, next.fast);
	begin_window(p, &next);
}

/* An experiment cannot be of use any more: the time has passed in which all of
 * the window's octets would have gone as before. */
static bool is_lost(const struct ferry_squeeze_window *w)
{
	return (w->mode == FERRY_SQUEEZE_TRIAL ||
		w->mode == FERRY_SQUEEZE_SHIFT) &&
	       w->ns / (WINDOW_BYTES >> 20) > w->on_ns;
}

static bool is_over(const struct ferry_packer *p)
{
	const struct ferry_squeeze_window *w = &p->window;

	if (w->mode == FERRY_SQUEEZE_SAMPLE)
		return w->plain_bytes >= SAMPLE_BYTES;
	return w->plain_bytes >= WINDOW_BYTES || is_lost(w) ||
	       (w->ns >= FERRY_SQUEEZE_WINDOW_NS &&
		p->packets >= WINDOW_PACKETS);
}

void ferry_packer_sent(struct ferry_packer *p, size_t plain_bytes,
		       size_t wire_bytes, uint64_t ns, uint64_t blocked_ns)
{
	if (!p->watches || !plain_bytes)
		return;
	p->window.plain_bytes += plain_bytes;
	p->window.wire_bytes += wire_bytes;
	p->window.ns += ns;
	p->window.blocked_ns += blocked_ns;
	p->packets++;
	if (is_over(p))
		end_window(p);
}

void ferry_packer_waited(struct ferry_packer *p, uint64_t ns)
{
	p->window.ns += ns;
	p->window.blocked_ns += ns;
}
