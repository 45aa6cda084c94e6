/* SPDX-License-Identifier: MIT */
/*
 * The source's memory: what is owed, how writes are tracked, what the target
 * is believed to have.  Conductor thread, but for what send/ does with it.
 */
#include "mig/source_impl.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "mem/extent.h"

struct ferry_bitmap *ferry_outflow_new_maps(const struct ferry_mem *mem,
					    struct ferry_err *e)
{
	struct ferry_bitmap *maps = calloc(mem->blocks, sizeof(*maps));

	if (!maps) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "page maps");
		return NULL;
	}
	for (uint32_t i = 0; i < mem->blocks; i++) {
		if (!ferry_bitmap_init(&maps[i], mem->block[i].pages, e))
			continue;
		while (i--)
			ferry_bitmap_fini(&maps[i]);
		free(maps);
		return NULL;
	}
	return maps;
}

void ferry_outflow_free_maps(const struct ferry_mem *mem,
			     struct ferry_bitmap **maps)
{
	for (uint32_t i = 0; *maps && i < mem->blocks; i++)
		ferry_bitmap_fini(&(*maps)[i]);
	free(*maps);
	*maps = NULL;
}

int ferry_outflow_init(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;
	struct ferry_mem *mem = &s->vm->mem;
	bool hot = ferry_param(&s->params, FERRY_P_PUSH_ORDER) ==
		   FERRY_PUSH_HOT;

	if (ferry_owed_init(&o->owed, mem, e) ||
	    ferry_select_init(&o->select, mem, &o->owed, s->vm->dirty,
			      s->vm->trackers, hot, e))
		return -1;
	o->at_target = ferry_outflow_new_maps(mem, e);
	if (!o->at_target)
		return -1;
	ferry_crew_init(&o->crew, &o->select, &o->count, o->at_target);
	ferry_requests_init(&o->requests, &o->select, &o->count,
			    &s->params.v[FERRY_P_PREFAULT_FORWARD],
			    &s->params.v[FERRY_P_PREFAULT_BACKWARD]);
	return 0;
}

void ferry_outflow_stop(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;
	struct ferry_bitmap *maps;

	if (s->turn)	/* who waits for it is to be joined */
		ferry_lane_leave(s->turn);
	s->turn = NULL;
	for (unsigned i = 0; i < FERRY_LEN(o->urgent); i++)
		if (o->urgent[i].chan)
			o->urgent[i].chan->ops->shutdown(o->urgent[i].chan);
	ferry_crew_shutdown(&o->crew);
	ferry_source_bulk_hang_up(s);
	ferry_returns_stop(&o->returns);
	maps = atomic_exchange(&o->returns.received, NULL);
	ferry_outflow_free_maps(&s->vm->mem, &maps);
	ferry_requests_clear(&o->requests);
	o->lost = o->told = (struct ferry_losses){ 0 };
	ferry_crew_stop(&o->crew);
	for (unsigned i = 0; i < FERRY_LEN(o->urgent); i++)
		ferry_lane_fini(&o->urgent[i]);
}

void ferry_outflow_fini(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;

	ferry_crew_fini(&o->crew);
	ferry_requests_fini(&o->requests);
	ferry_outflow_free_maps(&s->vm->mem, &o->at_target);
	ferry_outflow_free_maps(&s->vm->mem, &o->untouched);
	if (o->select.mem)
		ferry_select_fini(&o->select);
	if (o->owed.mem)
		ferry_owed_fini(&o->owed);
}

static int start_tracking(struct ferry_source *s, struct ferry_err *e)
{
	s->out.tracking = true;
	for (unsigned i = 0; i < s->vm->trackers; i++) {
		struct ferry_dirty *d = s->vm->dirty[i];

		if (d->ops->start(d, e))
			return ferry_err_wrap(e, "track writes by %s",
					      d->ops->name);
	}
	return 0;
}

void ferry_outflow_stop_tracking(struct ferry_source *s)
{
	if (!s->out.tracking)
		return;
	for (unsigned i = 0; i < s->vm->trackers; i++)
		s->vm->dirty[i]->ops->stop(s->vm->dirty[i]);
	s->out.tracking = false;
}

struct survey {
	struct ferry_source *s;
	uint32_t block;
};

static int owe(void *arg, uint64_t first, uint64_t pages)
{
	struct survey *v = arg;

	ferry_owed_mark(&v->s->out.owed, v->block, first, pages);
	return 0;
}

static int touched(void *arg, uint64_t first, uint64_t pages)
{
	struct survey *v = arg;

	ferry_bitmap_clear_range(&v->s->out.untouched[v->block], first, pages);
	return 0;
}

static int survey_touched(struct ferry_source *s,
			  int (*fn)(void *arg, uint64_t first, uint64_t pages),
			  struct ferry_err *e)
{
	struct ferry_mem *mem = &s->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct survey v = { s, i };

		if (ferry_extent_walk(&mem->block[i], fn, &v, e))
			return ferry_err_wrap(e, "look for untouched memory");
	}
	return 0;
}

/* Every page is owed; those that were never touched are not read. */
static int survey_all(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;
	struct ferry_mem *mem = &s->vm->mem;

	o->untouched = ferry_outflow_new_maps(mem, e);
	if (!o->untouched)
		return -1;
	for (uint32_t i = 0; i < mem->blocks; i++) {
		ferry_bitmap_set_range(&o->untouched[i], 0,
				       mem->block[i].pages);
		ferry_owed_mark(&o->owed, i, 0, mem->block[i].pages);
	}
	for (unsigned i = 0; i < o->crew.senders; i++)
		o->crew.sender[i]->lane.enc.untouched = o->untouched;
	o->urgent[0].enc.untouched = o->untouched;
	return survey_touched(s, touched, e);
}

int ferry_outflow_survey(struct ferry_source *s, bool all, struct ferry_err *e)
{
	if (start_tracking(s, e))
		return -1;
	if (all)
		return survey_all(s, e);
	if (survey_touched(s, owe, e))
		return -1;
	/* An image knows pieces smaller than a huge page, which goes whole. */
	if (s->vm->state)
		ferry_owed_widen(&s->out.owed);
	return 0;
}

int ferry_outflow_resurvey(struct ferry_source *s, struct ferry_err *e)
{
	/* Nobody has touched a parked VM since. */
	if (!s->out.untouched || s->vm->state)
		return 0;
	return survey_touched(s, touched, e);
}

/* Once a pass is over, what is owed was written: it is to be read. */
static void forget_untouched(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;

	for (unsigned i = 0; i < o->crew.senders; i++)
		o->crew.sender[i]->lane.enc.untouched = NULL;
	o->urgent[0].enc.untouched = NULL;
	ferry_outflow_free_maps(&s->vm->mem, &o->untouched);
}

int ferry_outflow_harvest(struct ferry_source *s, bool final,
			  struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;

	if (atomic_load(&s->fig.passes))
		forget_untouched(s);
	for (unsigned i = 0; i < s->vm->trackers; i++) {
		struct ferry_dirty *d = s->vm->dirty[i];

		if (d->ops->harvest(d, &o->owed, final, e))
			return ferry_err_wrap(e, "find written pages by %s",
					      d->ops->name);
	}
	ferry_select_note_heat(&o->select);
	return 0;
}

/* Pages of a block that are owed and believed to be at the target; they are
 * not believed to be there any more. */
static int take_stale(struct ferry_source *s, uint32_t i,
		      struct ferry_bitmap *stale, struct ferry_err *e)
{
	struct ferry_bitmap *there = &s->out.at_target[i];
	struct ferry_bitmap *owed = &s->out.owed.map[i];

	if (ferry_bitmap_init(stale, there->bits, e))
		return -1;
	for (uint64_t w = 0; w < stale->words; w++) {
		uint64_t bits = atomic_load(&owed->word[w]) &
				atomic_load(&there->word[w]);

		if (!bits)
			continue;
		atomic_store(&stale->word[w], bits);
		s->out.discarded_pages +=
			(uint64_t)__builtin_popcountll(bits);
		atomic_fetch_and(&there->word[w], ~bits);
	}
	return 0;
}

/* A stale piece makes all of its huge page stale. */
static void widen_stale(const struct ferry_mem_block *b,
			struct ferry_bitmap *stale)
{
	for (uint64_t at = 0; b->host_pages > 1; at += b->host_pages) {
		at = ferry_bitmap_next_set(stale, at);
		if (at == stale->bits)
			break;
		at -= at % b->host_pages;
		ferry_bitmap_set_range(stale, at, b->host_pages);
	}
}

int ferry_outflow_discard(struct ferry_source *s, bool last,
			  struct ferry_err *e)
{
	struct ferry_mem *mem = &s->vm->mem;

	s->out.discarded_pages = 0;
	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct ferry_bitmap stale = { 0 };
		int rc;

		/* Huge pages are owed as a whole only once the VM is still. */
		if (mem->block[i].host_pages > 1 && !last)
			continue;
		if (take_stale(s, i, &stale, e))
			return -1;
		widen_stale(&mem->block[i], &stale);
		rc = ferry_speak_ranges(&s->speak, FERRY_COMMAND_RAM_DISCARD,
					&mem->block[i], &stale, true, e);
		ferry_bitmap_fini(&stale);
		if (rc)
			return ferry_err_wrap(e, "discard pages");
	}
	return 0;
}
