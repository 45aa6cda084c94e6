/* SPDX-License-Identifier: MIT */
/*
 * Writes by the threads of this process: the first way that works.
 *
 * Threads: the engine's main thread.
 */
#include "mem/dirty_way.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

static const struct ferry_dirty_way *const ways[] = {
	&ferry_dirty_way_async,
	&ferry_dirty_way_sync,
	&ferry_dirty_way_soft,
};

struct process {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	struct ferry_dirty	*way;		/* while started */
};

static void process_stop(struct ferry_dirty *d)
{
	struct process *p = (struct process *)d;

	if (!p->way)
		return;
	p->way->ops->stop(p->way);
	p->way->ops->free(p->way);
	p->way = NULL;
}

/* What the ways said, as far as it fits: the sentence of the failure. */
static int refuse(char why[FERRY_LEN(ways)][240], struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "writes cannot be tracked: %.70s; %.70s; %.40s",
			     why[0], why[1], why[2]);
}

static int process_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct process *p = (struct process *)d;
	char why[FERRY_LEN(ways)][240];

	for (size_t i = 0; i < FERRY_LEN(ways); i++) {
		struct ferry_err failed = { 0 };

		p->way = ways[i]->make(p->mem, &failed);
		if (p->way && !p->way->ops->start(p->way, &failed))
			return 0;
		process_stop(d);
		snprintf(why[i], sizeof(why[i]), "%s", failed.msg);
	}
	return refuse(why, e);
}

static int process_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
			   bool final, struct ferry_err *e)
{
	struct ferry_dirty *way = ((struct process *)d)->way;

	return way->ops->harvest(way, owed, final, e);
}

static int process_arm(struct ferry_dirty *d, uint32_t block, uint64_t first,
		       uint64_t pages)
{
	struct ferry_dirty *way = ((struct process *)d)->way;

	return way->ops->arm(way, block, first, pages);
}

static void process_free(struct ferry_dirty *d)
{
	free(d);
}

static const struct ferry_dirty_ops process_ops = {
	.name = "process",
	.start = process_start,
	.harvest = process_harvest,
	.arm = process_arm,
	.stop = process_stop,
	.free = process_free,
};

struct ferry_dirty *ferry_dirty_process(const struct ferry_mem *mem,
					struct ferry_err *e)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "write tracking");
		return NULL;
	}
	p->dirty.ops = &process_ops;
	p->mem = mem;
	return &p->dirty;
}

const char *ferry_dirty_process_way(struct ferry_dirty *d)
{
	struct process *p = (struct process *)d;

	if (p->way)
		return p->way->ops->name;
	for (size_t i = 0; i < FERRY_LEN(ways); i++)
		if (!ways[i]->probe(p->mem, NULL))
			return ways[i]->name;
	return "";
}
