/* SPDX-License-Identifier: MIT */
/*
 * The rig: see rig.h.
 */
#include "rig.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mig/source_test.h"
#include "mig/target_test.h"

#define PAGE		4096u
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

	for (unsigned i = 0; i < PAGE / 8; i++)
		w[i] = number * 1000003 + version * 7919 + i;
}

static void make_memory(struct rig_side *s, unsigned i)
{
	const struct rig_block *b = &s->rig->cfg.block[i];
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	s->fd[i] = -1;
	s->bytes[i] = b->bytes;
	if (i == 0 && s->is_target && s->rig->cfg.target_bytes)
		s->bytes[i] = s->rig->cfg.target_bytes;
	if (b->shared) {
		s->fd[i] = memfd_create("rig", MFD_CLOEXEC |
					(b->page_bytes > PAGE ? HUGE_2MB : 0));
		assert(s->fd[i] >= 0 && !ftruncate(s->fd[i],
						   (off_t)s->bytes[i]));
		flags = MAP_SHARED;
	}
	s->mem[i] = mmap(NULL, s->bytes[i], PROT_READ | PROT_WRITE, flags,
			 s->fd[i], 0);
	assert(s->mem[i] != MAP_FAILED);
}

static void fill_memory(struct rig_side *s, unsigned i)
{
	const struct rig_config *c = &s->rig->cfg;

	for (uint64_t p = 0; p < s->bytes[i] / PAGE; p++) {
		unsigned roll = (unsigned)(p * 2654435761u >> 7) % 100;

		if (roll < c->untouched_percent)
			continue;
		if (roll < c->untouched_percent + c->zero_percent)
			memset(s->mem[i] + p * PAGE, 0, PAGE);
		else
			write_page(s->mem[i] + p * PAGE, p, 1);
	}
}

/* ---- guests ------------------------------------------------------------------ */

static void *writer(void *arg)
{
	struct rig_side *s = arg;
	uint64_t version = 2, turn = 0;

	while (!atomic_load(&s->quit)) {
		unsigned i = (unsigned)(turn % s->rig->cfg.blocks);
		uint64_t p = turn * 7 % (s->bytes[i] / PAGE);

		if (atomic_load(&s->running)) {
			write_page(s->mem[i] + p * PAGE, p, version++);
			ferry_vm_mark_dirty(s->vm, s->mem[i] + p * PAGE, PAGE);
		}
		turn++;
		usleep(20);
	}
	return NULL;
}

/* The source stands still by now: what is read must be what it holds. */
static void *reader(void *arg)
{
	struct rig_side *s = arg;
	struct rig *r = s->rig;

	for (unsigned i = 0; i < r->cfg.blocks; i++) {
		uint64_t pages = s->bytes[i] / PAGE;

		for (uint64_t n = 0; n < pages && !atomic_load(&s->quit);
		     n++) {
			uint64_t p = n * 13 % pages;

			if (memcmp(s->mem[i] + p * PAGE,
				   r->src.mem[i] + p * PAGE, PAGE))
				atomic_fetch_add(&r->torn, 1);
		}
	}
	return NULL;
}

static void begin_guest(struct rig_side *s, void *(*fn)(void *arg))
{
	s->has_guest = true;
	assert(!pthread_create(&s->guest, NULL, fn, s));
}

static void end_guest(struct rig_side *s)
{
	atomic_store(&s->quit, true);
	if (s->has_guest)
		pthread_join(s->guest, NULL);
	s->has_guest = false;
}

/* ---- VM ops -------------------------------------------------------------------- */

static void look_for_two(struct rig *r)
{
	if (atomic_load(&r->src.running) && atomic_load(&r->dst.running))
		atomic_fetch_add(&r->both, 1);
}

static int op_stop(void *opaque, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	atomic_store(&s->running, false);
	end_guest(s);	/* nothing writes any more */
	atomic_store(&s->quit, false);
	if (s->rig->cfg.stop_fails)
		return snprintf(e->msg, sizeof(e->msg), "it will not stop"),
		       e->code = FERRY_E_DEVICE, -1;
	return 0;
}

static void op_resume(void *opaque)
{
	struct rig_side *s = opaque;

	if (!s->rig->cfg.stopped)
		atomic_store(&s->running, true);
	look_for_two(s->rig);
}

static int op_start(void *opaque, int running, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	if (s->rig->cfg.start_fails) {
		snprintf(e->msg, sizeof(e->msg), "it will not start");
		e->code = FERRY_E_DEVICE;
		return -1;
	}
	if (running)
		atomic_store(&s->running, true);
	look_for_two(s->rig);
	if (s->rig->cfg.reader)
		begin_guest(s, reader);
	return 0;
}

static void op_throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int op_running(void *opaque)
{
	struct rig_side *s = opaque;

	return atomic_load(&s->running);
}

static int dev_save(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	if (s->rig->cfg.save_fails) {
		snprintf(e->msg, sizeof(e->msg), "it will not be saved");
		e->code = FERRY_E_DEVICE;
		return -1;
	}
	ferry_save_bytes(out, s->device_state, sizeof(s->device_state));
	return 0;
}

static int dev_load(void *opaque, uint32_t version, const void *data,
		    size_t bytes, struct ferry_err *e)
{
	struct rig_side *s = opaque;

	assert(version == 3 && bytes == sizeof(s->device_state));
	memcpy(s->device_state, data, bytes);
	/* Devices touch memory while they load. */
	if (memcmp(s->mem[0], s->rig->src.mem[0], PAGE))
		atomic_fetch_add(&s->rig->torn, 1);
	if (s->rig->cfg.load_fails) {
		snprintf(e->msg, sizeof(e->msg), "it will not be loaded");
		e->code = FERRY_E_DEVICE;
		return -1;
	}
	return 0;
}

/* ---- sides ---------------------------------------------------------------------- */

static void describe(struct rig_side *s)
{
	static const struct ferry_device_ops dev = {
		.size = sizeof(dev), .save = dev_save, .load = dev_load,
	};
	struct ferry_vm_ops ops = {
		.size = sizeof(ops), .stop = op_stop, .resume = op_resume,
		.start = op_start, .throttle = op_throttle,
		.running = op_running,
	};
	const struct rig_config *c = &s->rig->cfg;
	const char *fact = s->is_target && c->target_fact ?
			   c->target_fact : "same";

	s->vm = ferry_vm_new("rig", &ops, s, NULL);
	assert(s->vm);
	for (unsigned i = 0; i < c->blocks; i++) {
		struct ferry_block b = FERRY_BLOCK_INIT;

		make_memory(s, i);
		b.name = c->block[i].name;
		b.addr = s->mem[i];
		b.bytes = s->bytes[i];
		b.page_bytes = c->block[i].page_bytes;
		b.fd = s->fd[i];
		assert(!ferry_vm_add_block(s->vm, &b, NULL));
	}
	assert(!ferry_vm_add_device(s->vm, "rig/device", 0, 3, &dev, s, NULL));
	assert(!ferry_vm_add_fact(s->vm, "cpu", FERRY_FACT_EQUAL, fact, NULL));
}

static struct ferry_params *params(const char *const (*list)[2], size_t n)
{
	struct ferry_params *p = ferry_params_new();

	for (size_t i = 0; i < n && list[i][0]; i++) {
		struct ferry_err err;

		if (ferry_params_set(p, list[i][0], list[i][1], &err)) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
	}
	return p;
}

/* The engine closes its channels: note before that what they carried. */
static void counting_close(struct ferry_chan *c)
{
	struct rig_counter *k = (struct rig_counter *)(uintptr_t)c->ops;

	k->written = atomic_load(&c->written_bytes);
	k->read = atomic_load(&c->read_bytes);
	k->close(c);
}

static void count(struct rig *r, struct ferry_chan *c, unsigned n)
{
	struct rig_counter *k = &r->counter[n];

	k->ops = *c->ops;
	k->close = c->ops->close;
	k->ops.close = counting_close;
	c->ops = &k->ops;
}

struct offer {
	struct rig *rig;
	struct ferry_chan *chan;
};

static void *offer_main(void *arg)
{
	struct offer o = *(struct offer *)arg;

	free(arg);
	ferry_target_offer(o.rig->target, o.chan);
	return NULL;
}

static struct ferry_chan *rig_dial(void *arg, enum ferry_channel_type type,
				   unsigned index, struct ferry_err *e)
{
	struct rig *r = arg;
	struct ferry_chan *end[2], *mine;
	struct offer *o = malloc(sizeof(*o));
	unsigned n = r->channels;

	(void)type;
	(void)index;
	assert(o && n < RIG_CHANNELS_MAX);
	if (ferry_chan_pair(end, e))
		abort();
	mine = end[0];
	if (r->cfg.has_fault && r->cfg.fault.channel == n) {
		mine = ferry_chan_fault(end[0], &r->cfg.fault.fault, e);
		assert(mine);
	}
	*o = (struct offer){ r, end[1] };
	count(r, mine, n);
	r->channels++;
	assert(!pthread_create(&r->offer[n], NULL, offer_main, o));
	return mine;
}

void rig_init(struct rig *r, const struct rig_config *cfg)
{
	struct ferry_params *p;

	memset(r, 0, sizeof(*r));
	r->cfg = *cfg;
	r->src.rig = r->dst.rig = r;
	r->dst.is_target = true;
	describe(&r->src);
	describe(&r->dst);
	for (unsigned i = 0; i < cfg->blocks; i++)
		fill_memory(&r->src, i);
	for (unsigned i = 0; i < 64; i++)
		r->src.device_state[i] = i * 77;
	atomic_store(&r->src.running, !cfg->stopped);

	p = params(cfg->param, 12);
	r->source = ferry_source_new(r->src.vm, p, NULL, NULL);
	ferry_params_free(p);
	p = params(cfg->target_param, 4);
	r->target = ferry_target_new(r->dst.vm, p, NULL, NULL);
	ferry_params_free(p);
	assert(r->source && r->target);
	r->source->last_word_ns = r->target->last_word_ns = 1000000;
	if (cfg->writer)
		begin_guest(&r->src, writer);
}

void rig_start(struct rig *r)
{
	struct ferry_dialer d = {
		.arg = r, .dial = rig_dial,
		.features = FERRY_CHAN_READ | FERRY_CHAN_WRITE |
			    FERRY_CHAN_TWO_WAY | FERRY_CHAN_MORE,
	};
	struct ferry_err err;

	if (ferry_target_begin(r->target, &err) ||
	    ferry_source_start_with(r->source, &d, &err)) {
		fprintf(stderr, "rig: %s\n", err.msg);
		abort();
	}
}

void rig_finish(struct rig *r)
{
	r->source_rc = ferry_source_wait(r->source, 60000, &r->source_err);
	/* A target that was never reached waits for ever. */
	if (r->source_rc && ferry_status_state(&r->target->status) ==
	    FERRY_STATE_SETUP)
		(void)!ferry_target_cancel(r->target, NULL);
	r->target_rc = ferry_target_wait(r->target, 60000, &r->target_err);
	r->source_stats = (struct ferry_stats)FERRY_STATS_INIT;
	r->target_stats = (struct ferry_stats)FERRY_STATS_INIT;
	ferry_source_stats(r->source, &r->source_stats);
	ferry_target_stats(r->target, &r->target_stats);
	for (unsigned i = 0; i < r->channels; i++)
		pthread_join(r->offer[i], NULL);
	end_guest(&r->src);
}

void rig_run(struct rig *r, const struct rig_config *cfg)
{
	rig_init(r, cfg);
	rig_start(r);
	rig_finish(r);
	if (r->target_rc == 0)
		end_guest(&r->dst);
}

static void free_side(struct rig_side *s)
{
	ferry_vm_free(s->vm);
	for (unsigned i = 0; i < s->rig->cfg.blocks; i++) {
		munmap(s->mem[i], s->bytes[i]);
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	}
}

void rig_fini(struct rig *r)
{
	if (r->source)
		ferry_source_free(r->source);
	r->source = NULL;
	atomic_store(&r->dst.quit, true);
	ferry_target_free(r->target);
	end_guest(&r->dst);
	free_side(&r->src);
	free_side(&r->dst);
}

uint64_t rig_differs(struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < r->cfg.blocks; i++)
		for (uint64_t p = 0; p < r->src.bytes[i] / PAGE; p++)
			if (memcmp(r->src.mem[i] + p * PAGE,
				   r->dst.mem[i] + p * PAGE, PAGE))
				n++;
	return n;
}

const char *rig_verdict(struct rig *r)
{
	bool src = atomic_load(&r->src.running);
	bool dst = atomic_load(&r->dst.running);

	if (r->both)
		return "both sides ran";
	if (r->torn)
		return "the target saw a wrong page";
	if (r->source_rc && r->source_err.code == FERRY_E_TIMEOUT &&
	    strstr(r->source_err.msg, "still"))
		return "the source hangs";
	if (r->target_rc && r->target_err.code == FERRY_E_TIMEOUT &&
	    strstr(r->target_err.msg, "still"))
		return "the target hangs";
	if (!r->source_rc && (r->target_rc || rig_differs(r)))
		return "the source says completed, the target differs";
	if (!r->source_rc && !r->target_rc &&
	    memcmp(r->src.device_state, r->dst.device_state,
		   sizeof(r->src.device_state)))
		return "device state differs";
	if (r->source_stats.where == FERRY_WHERE_SOURCE && dst)
		return "it runs at the target, the source says it has it";
	if (r->source_stats.where == FERRY_WHERE_SOURCE && !src &&
	    !r->cfg.stopped)
		return "the source has it and does not run it";
	if (r->source_stats.where != FERRY_WHERE_SOURCE && src)
		return "the source runs what it says it gave away";
	if (r->source_rc && !r->source_err.msg[0])
		return "the source failed without a reason";
	if (r->target_rc && !r->target_err.msg[0])
		return "the target failed without a reason";
	return "";
}
