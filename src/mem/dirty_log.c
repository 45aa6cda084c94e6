/* SPDX-License-Identifier: MIT */
/*
 * Writes that somebody else logs, and tells when asked: into what the embedder
 * tells (dirty_told.c), which is harvested behind all other sources.
 */
#include "mem/dirty.h"

#include <stdlib.h>

#include "mem/dirty_util.h"

struct log {
	struct ferry_dirty	 dirty;
	struct ferry_track_ops	 ops;
	void			*opaque;
};

static int log_start(struct ferry_dirty *d, struct ferry_err *e)
{
	const struct log *l = (const struct log *)d;

	return l->ops.start(l->opaque, e);
}

static int log_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
		       bool final, struct ferry_err *e)
{
	const struct log *l = (const struct log *)d;

	(void)owed;
	return l->ops.collect(l->opaque, final, e);
}

static void log_stop(struct ferry_dirty *d)
{
	const struct log *l = (const struct log *)d;

	l->ops.stop(l->opaque);
}

static void log_free(struct ferry_dirty *d)
{
	free(d);
}

static const struct ferry_dirty_ops log_ops = {
	.name = "a log",
	.start = log_start,
	.harvest = log_harvest,
	.arm = ferry_dirty_arm_nothing,
	.stop = log_stop,
	.free = log_free,
};

struct ferry_dirty *ferry_dirty_log(const struct ferry_track_ops *ops,
				    void *opaque, struct ferry_err *e)
{
	struct log *l = calloc(1, sizeof(*l));

	if (!l) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "a log of writes");
		return NULL;
	}
	l->dirty.ops = &log_ops;
	l->ops = *ops;
	l->opaque = opaque;
	return &l->dirty;
}
