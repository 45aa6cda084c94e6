/* SPDX-License-Identifier: MIT */
/*
 * The rig's two VMs: memory, guests, and the answers to what the engine asks
 * of an embedder.
 */
#include "rig.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

#define HUGE_2MB	(MFD_HUGETLB | 21u << 26)	/* linux/memfd.h */

/* ---- memory ---------------------------------------------------------------- */

/*
 * What a page holds is a function of its number and a version.  The guest is
 * hardware to the engine, which reads its memory while it is being written and
 * reads it again when told: no race that a sanitizer should report.
 */
__attribute__((no_sanitize("thread")))
static void write_page(uint8_t *page, uint64_t number, uint64_t version)
{
	uint64_t *w = (uint64_t *)page;

	for (unsigned i = 0; i < RIG_PAGE / 8; i++)
		w[i] = number * 1000003 + version * 7919 + i;
}

static int memory_file(struct rig_side *s, const struct rig_block *b)
{
	const char *dir = s->is_target ? s->rig->cfg.target_dir : NULL;

	if (dir)
		return open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return memfd_create("rig", MFD_CLOEXEC |
			    (b->page_bytes > RIG_PAGE ? HUGE_2MB : 0));
}

static void make_memory(struct rig_side *s, unsigned i)
{
	const struct rig_block *b = &s->rig->cfg.block[i];
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	s->fd[i] = -1;
	s->bytes[i] = b->bytes;
	if (b->shared) {
		s->fd[i] = memory_file(s, b);
		assert(s->fd[i] >= 0 && !ftruncate(s->fd[i],
						   (off_t)s->bytes[i]));
		flags = MAP_SHARED;
	}
	s->mem[i] = mmap(NULL, s->bytes[i], PROT_READ | PROT_WRITE, flags,
			 s->fd[i], 0);
	assert(s->mem[i] != MAP_FAILED);
}

static void fill_block(struct rig_side *s, unsigned i)
{
	const struct rig_config *c = &s->rig->cfg;

	for (uint64_t p = 0; p < s->bytes[i] / RIG_PAGE; p++) {
		unsigned roll = (unsigned)(p * 2654435761u >> 7) % 100;

		if (roll < c->untouched_percent)
			continue;
		if (roll < c->untouched_percent + c->zero_percent)
			memset(s->mem[i] + p * RIG_PAGE, 0, RIG_PAGE);
		else
			write_page(s->mem[i] + p * RIG_PAGE, p, 1);
	}
}

void rig_side_fill(struct rig_side *s)
{
	for (unsigned i = 0; i < s->rig->cfg.blocks; i++)
		fill_block(s, i);
	for (unsigned i = 0; i < 64; i++)
		s->device_state[i] = i * 77;
}

uint64_t rig_side_sum(struct rig_side *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->rig->cfg.blocks; i++) {
		const uint64_t *w = (const uint64_t *)s->mem[i];

		for (uint64_t n = 0; n < s->bytes[i] / 8; n++)
			sum = (sum << 7 | sum >> 57) ^ w[n];
	}
	return sum;
}

/* ---- guests ------------------------------------------------------------------ */

static void *writer(void *arg)
{
	struct rig_side *s = arg;
	bool tells = !s->rig->cfg.track_process;
	uint64_t version = 2, turn = 0;

	while (!atomic_load(&s->quit)) {
		unsigned i = (unsigned)(turn % s->rig->cfg.blocks);
		uint64_t p = turn * 7 % (s->bytes[i] / RIG_PAGE);
		uint8_t *page = s->mem[i] + p * RIG_PAGE;

		if (atomic_load(&s->running)) {
			write_page(page, p, version++);
			if (tells)
				ferry_vm_mark_dirty(s->vm, page, RIG_PAGE);
		}
		if (atomic_load(&s->running))
			rig_bulk_touch(s, turn);
		turn++;
		usleep(20);
	}
	return NULL;
}

/* A page that will never come is told by a signal, as include/ferry/target.h
 * says; this guest then ends. */
static _Thread_local sigjmp_buf lost;
static _Thread_local bool may_lose;

static void on_lost(int sig)
{
	if (may_lose)
		siglongjmp(lost, 1);
	signal(sig, SIG_DFL);
}

static void catch_lost(void)
{
	const struct sigaction sa = { .sa_handler = on_lost };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

static void read_all(struct rig_side *s)
{
	struct rig *r = s->rig;

	for (unsigned i = 0; i < r->cfg.blocks; i++) {
		uint64_t pages = s->bytes[i] / RIG_PAGE;

		for (uint64_t n = 0; n < pages && !atomic_load(&s->quit);
		     n++) {
			uint64_t p = n * 13 % pages;

			if (memcmp(s->mem[i] + p * RIG_PAGE,
				   r->src.mem[i] + p * RIG_PAGE, RIG_PAGE))
				atomic_fetch_add(&r->torn, 1);
		}
	}
}

/* The source stands still by now: what is read must be what it holds. */
static void *reader(void *arg)
{
	struct rig_side *s = arg;
	sigset_t set;

	/* It was made by a thread of the engine's, which blocks all. */
	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	sigaddset(&set, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	may_lose = true;
	if (!sigsetjmp(lost, 1))
		read_all(s);
	else
		atomic_fetch_add(&s->rig->lost, 1);
	return NULL;
}

static void begin_guest(struct rig_side *s, void *(*fn)(void *arg))
{
	s->has_guest = true;
	assert(!pthread_create(&s->guest, NULL, fn, s));
}

#define SOME_PAGES	16u

void rig_write_some(struct rig_side *s)
{
	for (unsigned p = 0; p < SOME_PAGES; p++)
		write_page(s->mem[0] + p * RIG_PAGE, p, 1);
	ferry_vm_mark_dirty(s->vm, s->mem[0], SOME_PAGES * RIG_PAGE);
}

void rig_begin_writer(struct rig_side *s)
{
	begin_guest(s, writer);
}

void rig_end_guest(struct rig_side *s)
{
	atomic_store(&s->quit, true);
	if (s->has_guest)
		pthread_join(s->guest, NULL);
	s->has_guest = false;
}

/* ---- VM ops -------------------------------------------------------------------- */

bool rig_side_runs(struct rig_side *s)
{
	return atomic_load(&s->running) &&
	       atomic_load(&s->until) > ferry_boot_ns();
}

static void look_for_two(struct rig *r)
{
	if (rig_side_runs(&r->src) && rig_side_runs(&r->dst))
		atomic_fetch_add(&r->both, 1);
}

static void call_hook(struct rig_side *s, enum rig_moment m, unsigned arg)
{
	if (s->rig->cfg.hook)
		s->rig->cfg.hook(s->rig, m, arg);
}

static int refuse(struct ferry_err *e, const char *why)
{
	snprintf(e->msg, sizeof(e->msg), "%s", why);
	e->code = FERRY_E_DEVICE;
	return -1;
}

static int op_stop(void *opaque, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	atomic_store(&s->running, false);
	rig_end_guest(s);	/* nothing writes any more */
	atomic_store(&s->quit, false);
	/* Reading would allocate what was never touched. */
	s->rig->has_sum = !s->rig->cfg.untouched_percent;
	if (s->rig->has_sum)
		s->rig->sum = rig_side_sum(s);
	call_hook(s, RIG_STOP, 0);
	return s->rig->cfg.stop_fails ? refuse(e, "it will not stop") : 0;
}

static void op_resume(void *opaque)
{
	struct rig_side *s = opaque;

	if (!s->rig->cfg.stopped)
		atomic_store(&s->running, true);
	look_for_two(s->rig);
	call_hook(s, RIG_RESUME, 0);
}

static int op_start(void *opaque, int running, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	call_hook(s, RIG_START, 0);
	if (s->rig->cfg.start_fails)
		return refuse(e, "it will not start");
	/* What was loaded counts. */
	atomic_fetch_add(&s->rig->torn, s->saw_torn);
	if (running)
		atomic_store(&s->running, true);
	look_for_two(s->rig);
	if (s->rig->cfg.reader) {
		catch_lost();
		begin_guest(s, reader);
	}
	return 0;
}

static void op_throttle(void *opaque, unsigned percent)
{
	call_hook(opaque, RIG_THROTTLE, percent);
}

static void op_run_until(void *opaque, uint64_t boottime_ns)
{
	struct rig_side *s = opaque;

	atomic_store(&s->until, boottime_ns);
	look_for_two(s->rig);
	call_hook(s, RIG_UNTIL, boottime_ns <= ferry_boot_ns());
}

static int op_running(void *opaque)
{
	struct rig_side *s = opaque;

	return atomic_load(&s->running);
}

static int dev_save(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	call_hook(s, RIG_SAVE, 0);
	if (s->rig->cfg.save_fails)
		return refuse(e, "it will not be saved");
	ferry_save_bytes(out, s->device_state, sizeof(s->device_state));
	return 0;
}

static int dev_load(void *opaque, uint32_t version, const void *data,
		    size_t bytes, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	assert(version == 3 && bytes == sizeof(s->device_state));
	memcpy(s->device_state, data, bytes);
	call_hook(s, RIG_LOAD, 0);
	/* Devices touch memory while they load. */
	s->saw_torn = memcmp(s->mem[0], s->rig->src.mem[0], RIG_PAGE);
	return s->rig->cfg.load_fails ? refuse(e, "it will not be loaded") : 0;
}

/* ---- sides ---------------------------------------------------------------------- */

static void add_blocks(struct rig_side *s)
{
	for (unsigned i = 0; i < s->rig->cfg.blocks; i++) {
		struct ferry_block b = FERRY_BLOCK_INIT;

		make_memory(s, i);
		b.name = s->rig->cfg.block[i].name;
		b.addr = s->mem[i];
		b.bytes = s->bytes[i];
		b.page_bytes = s->rig->cfg.block[i].page_bytes;
		b.fd = s->fd[i];
		assert(!ferry_vm_add_block(s->vm, &b, NULL));
	}
}

void rig_side_init(struct rig_side *s)
{
	static const struct ferry_device_ops dev = {
		.size = sizeof(dev), .save = dev_save, .load = dev_load,
	};
	struct ferry_vm_ops ops = {
		.size = sizeof(ops), .stop = op_stop, .resume = op_resume,
		.start = op_start, .throttle = op_throttle,
		.running = op_running, .run_until = op_run_until,
	};
	const struct rig_config *c = &s->rig->cfg;

	atomic_store(&s->until, UINT64_MAX);
	s->vm = ferry_vm_new(c->vm_name ? c->vm_name : "rig", &ops, s, NULL);
	assert(s->vm);
	add_blocks(s);
	assert(!ferry_vm_add_device(s->vm, "rig/device", 0, 3, &dev, s, NULL));
	assert(!ferry_vm_add_fact(s->vm, "cpu", FERRY_FACT_EQUAL,
				  c->fact ? c->fact : "same", NULL));
	rig_bulk_init(s);
	if (c->foreign)
		assert(!ferry_vm_set_foreign(s->vm, c->foreign, s, NULL));
	if (c->log)
		assert(!ferry_vm_track_log(s->vm, c->log, s, NULL));
	if (c->track_process)
		assert(!ferry_vm_track_process(s->vm, NULL));
	if (c->describe)
		c->describe(s);
}

void rig_side_fini(struct rig_side *s)
{
	ferry_vm_free(s->vm);
	rig_bulk_fini(s);
	for (unsigned i = 0; i < s->rig->cfg.blocks; i++) {
		munmap(s->mem[i], s->bytes[i]);
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	}
}
