/* SPDX-License-Identifier: MIT */
/*
 * What a target that adopts hands over, into an image (park/writer.h).  When
 * which step is taken, and why, stands in mig/target_adopt.c.
 *
 * Threads: the target's, one at a time; stats by any.
 */
#include "park/park.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mig/recover.h"
#include "mig/vm.h"
#include "park/vmdesc.h"
#include "park/writer.h"

struct ferry_park {
	struct ferry_image_writer w;
	char		 image[PATH_MAX];
	int		 zstd_level;
	bool		 used;		/* w holds something of a source */
	struct ferry_vm	*vm;
	struct ferry_target *target;

	pthread_mutex_t	 lock;
	struct ferry_parked parked;
};

/* A source that left is forgotten, and so is what it sent. */
static int on_begin(void *opaque, struct ferry_err *e)
{
	struct ferry_park *p = opaque;

	if (p->used) {
		ferry_image_writer_fini(&p->w);
		if (ferry_image_writer_open(&p->w, p->image, p->zstd_level, e))
			return -1;
	}
	p->used = true;
	pthread_mutex_lock(&p->lock);
	p->parked.met = true;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int on_block(void *opaque, const struct ferry_mem_block *b, int *fd,
		    uint64_t *offset, struct ferry_err *e)
{
	struct ferry_park *p = opaque;

	*fd = p->w.memory_fd;
	return ferry_image_writer_block(&p->w, b->name, b->bytes,
					b->page_bytes, b->gpa, offset, e);
}

static void on_wrote(void *opaque, const struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data)
{
	struct ferry_park *p = opaque;

	ferry_image_writer_note(&p->w, b->index, first, n, data);
}

static int on_keep(void *opaque, const struct ferry_kept *k, const void *data,
		   struct ferry_err *e)
{
	struct ferry_park *p = opaque;

	return ferry_image_writer_keep(&p->w, k, data, e);
}

static bool on_is_whole(void *opaque, const void *sections,
			size_t sections_bytes, const void *vmdesc,
			size_t vmdesc_bytes)
{
	struct ferry_vmdesc v = { 0 };
	struct ferry_err ignored;
	bool whole = !ferry_vmdesc_parse(vmdesc, vmdesc_bytes, &v, &ignored) &&
		     ferry_vmdesc_covers(&v, sections, sections_bytes);

	(void)opaque;
	ferry_vmdesc_fini(&v);
	return whole;
}

/* Once: prepare may come again. */
static int add_facts(struct ferry_park *p, const struct ferry_vm *vm,
		     struct ferry_err *e)
{
	for (unsigned i = (unsigned)p->w.index.vm.facts; i < vm->facts; i++) {
		const struct ferry_fact_copy *f = &vm->fact[i];
		struct ferry_hello_fact fact = {
			.rule = (uint8_t)f->rule, .value = f->value,
		};

		memcpy(fact.name, f->name, sizeof(f->name));
		if (ferry_image_writer_fact(&p->w, &fact, e))
			return -1;
	}
	return 0;
}

static int on_prepare(void *opaque, const struct ferry_adopt_state *s,
		      struct ferry_err *e)
{
	struct ferry_park *p = opaque;
	const struct ferry_image_vm vm = {
		.machine = s->who.vm->name, .dialect = (uint8_t)s->who.dialect,
		.uuid = s->who.uuid, .sections = s->sections,
		.sections_bytes = s->sections_bytes, .vmdesc = s->vmdesc,
		.vmdesc_bytes = s->vmdesc_bytes,
	};

	if (add_facts(p, s->who.vm, e) ||
	    ferry_image_writer_prepare(&p->w, s->map, &vm, e))
		return -1;
	pthread_mutex_lock(&p->lock);
	snprintf(p->parked.machine, sizeof(p->parked.machine), "%s",
		 vm.machine);
	p->parked.blocks = s->who.vm->mem.blocks;
	p->parked.state_bytes = s->sections_bytes + s->vmdesc_bytes;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static void note_image(struct ferry_park *p, bool aside)
{
	struct stat st = { 0 };

	(void)!stat(p->w.name, &st);
	pthread_mutex_lock(&p->lock);
	p->parked.undecided = aside;
	p->parked.image_bytes = aside ? 0 : (uint64_t)st.st_size;
	p->parked.disk_bytes = (uint64_t)st.st_blocks * 512;
	pthread_mutex_unlock(&p->lock);
}

static int on_commit(void *opaque, bool aside, struct ferry_err *e)
{
	struct ferry_park *p = opaque;

	if (ferry_image_writer_commit(&p->w, aside, e))
		return -1;
	note_image(p, aside);
	return 0;
}

static int on_settle(void *opaque, struct ferry_err *e)
{
	struct ferry_park *p = opaque;

	if (ferry_image_writer_settle(&p->w, e))
		return -1;
	note_image(p, false);
	return 0;
}

static void on_revoke(void *opaque)
{
	struct ferry_park *p = opaque;

	ferry_image_writer_revoke(&p->w);
	pthread_mutex_lock(&p->lock);
	p->parked.undecided = false;
	pthread_mutex_unlock(&p->lock);
}

static const struct ferry_adopt_ops ops = {
	.begin = on_begin,
	.block = on_block,
	.wrote = on_wrote,
	.keep = on_keep,
	.is_whole = on_is_whole,
	.prepare = on_prepare,
	.commit = on_commit,
	.settle = on_settle,
	.revoke = on_revoke,
};

static int init(struct ferry_park *p, const struct ferry_park_config *config,
		const struct ferry_callbacks *cb, struct ferry_err *e)
{
	const struct ferry_adopt_how how = {
		.multifd = config->multifd, .preempt = config->preempt,
		.switchover_ack = config->switchover_ack,
		.recover = config->recover,
	};

	if (ferry_image_writer_open(&p->w, config->image, config->zstd_level,
				    e))
		return -1;
	snprintf(p->image, sizeof(p->image), "%s", config->image);
	p->vm = ferry_vm_new_adopting(&ops, p, &how, e);
	if (!p->vm)
		return -1;
	p->target = ferry_target_new(p->vm, config->params, cb, e);
	return p->target ? 0 : -1;
}

struct ferry_park *ferry_park_new(const struct ferry_park_config *config,
				  const struct ferry_callbacks *cb,
				  struct ferry_err *e)
{
	struct ferry_park *p = calloc(1, sizeof(*p));

	if (!p) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "park");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	p->zstd_level = config->zstd_level;
	p->w.fd = p->w.memory_fd = -1;
	if (!init(p, config, cb, e))
		return p;
	ferry_park_free(p);
	return NULL;
}

struct ferry_target *ferry_park_target(struct ferry_park *p)
{
	return p->target;
}

bool ferry_park_awaits_source(struct ferry_park *p)
{
	return ferry_target_awaits_source(p->target);
}

bool ferry_park_is_over(struct ferry_park *p)
{
	return ferry_target_is_over(p->target);
}

void ferry_park_free(struct ferry_park *p)
{
	if (!p)
		return;
	ferry_target_free(p->target);
	ferry_vm_free(p->vm);
	ferry_image_writer_fini(&p->w);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void ferry_park_stats(struct ferry_park *p, struct ferry_parked *out)
{
	pthread_mutex_lock(&p->lock);
	*out = p->parked;
	pthread_mutex_unlock(&p->lock);
	out->stray = ferry_target_met_stray(p->target);
}
