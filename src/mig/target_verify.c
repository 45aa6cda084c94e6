/* SPDX-License-Identifier: MIT */
/*
 * Verify mode: the source says the sum of every page, and what came is held
 * against it.
 *
 *   precopy	before the VM runs here, against memory itself; what differs is
 *		an error like any other: the VM goes on at the source
 *   postcopy	once all has come, against what was placed (the guest writes
 *		on); what differs is told (DIFFERS), and the source pauses:
 *		nothing is freed, and a person decides
 *
 * Thread: the reader.
 */
#include "mig/target_impl.h"

#include <stdlib.h>

#include "recv/sums.h"
#include "wire/text.h"

int ferry_verify_begin(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_sums *s;

	ferry_verify_fini(t);	/* of a source that left again */
	atomic_store(&t->verified, FERRY_VERIFIED_NOT);
	s = calloc(1, sizeof(*s));
	if (!s)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "verify");
	if (ferry_sums_init(s, &t->vm->mem, e)) {
		free(s);
		return -1;
	}
	t->in.place.sums = s;
	return 0;
}

void ferry_verify_fini(struct ferry_target *t)
{
	if (t->in.place.sums)
		ferry_sums_fini(t->in.place.sums);
	free(t->in.place.sums);
	t->in.place.sums = NULL;
}

void ferry_verify_restart(struct ferry_target *t)
{
	if (t->in.place.sums)
		ferry_sums_restart(t->in.place.sums);
	t->differs = false;
}

/* As long as the VM does not run here. */
static const struct ferry_map *still(struct ferry_target *t)
{
	return t->phase == FERRY_PHASE_RUNNING ? NULL : &t->in.map;
}

/* Postcopy: the source shall know, and closes then. */
static int tell(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_err why = *e;

	if (t->phase != FERRY_PHASE_RUNNING || why.code != FERRY_E_MISMATCH)
		return -1;
	t->differs = true;
	atomic_store(&t->verified, FERRY_VERIFIED_WRONG);
	pthread_mutex_lock(&t->lock);
	if (!t->end.why.code)
		t->end.why = why;
	pthread_mutex_unlock(&t->lock);
	return ferry_answer_differs(&t->in.answer, why.msg, e);
}

int ferry_verify_pages(struct ferry_target *t, struct ferry_rd *rd,
		       struct ferry_err *e)
{
	const struct ferry_mem_block *b;
	struct ferry_verify theirs;

	if (!t->in.place.sums)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "VERIFY was not agreed on");
	if (ferry_verify_decode(rd, &theirs, e))
		return -1;
	b = ferry_mem_by_name(&t->vm->mem, theirs.name);
	if (!b)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "VERIFY of block %s, "
				     "which there is not",
				     FERRY_SHOW(theirs.name));
	if (t->differs)
		return 0;
	return ferry_sums_compare(t->in.place.sums, b, &theirs, still(t), e) ?
	       tell(t, e) : 0;
}

int ferry_verify_end(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_sums *s = t->in.place.sums;

	if (!s || !s->compared || t->differs)
		return 0;
	if (ferry_sums_end(s, still(t), e))
		return tell(t, e);
	atomic_store(&t->verified, FERRY_VERIFIED_RIGHT);
	ferry_log(&t->status.log, FERRY_LOG_INFO, "verify: all %llu pages are "
		  "as at the source", (unsigned long long)s->compared);
	return 0;
}
