/* SPDX-License-Identifier: MIT */
/*
 * A target without a VM: it takes the shape of what comes, keeps it, and runs
 * nothing.  What is kept takes effect at one moment, `commit`; when that is,
 * so that there are never two VMs and never none:
 *
 *   a ferry, precopy     all is durable (prepare) before LOADED.  The source
 *                        sends RUN and lets go of it; commit; RUNNING.  Broken
 *                        before RUN: nothing took effect, the source resumes.
 *                        Commit fails: the source is told so, and has it.
 *   a ferry, postcopy    RUN comes when state is in hand; the memory is at the
 *                        source until FINISH, and it is stopped.  Then prepare,
 *                        commit, SHUT 0.  A full disk is waited out.
 *   QEMU, precopy with   prepare, commit, SHUT 0.  Without SHUT 0 the source
 *   return path          resumes: if it cannot be said, commit is revoked.
 *                        One that has left is not committed; where it cannot
 *                        be told whether it read SHUT, the image is put aside.
 *   QEMU, precopy        the source is done when its octets are on their way:
 *   without              prepare and commit are tried until they succeed.
 *   QEMU >= 10.2,        the source resumes until it hears PONG 0x42, and sends
 *   postcopy             all pages before: PONG 0x42 is said when all of it is
 *                        durable, and commit waits for the end of the stream,
 *                        which only comes behind it.  Broken in between, the
 *                        image is put aside: it depends on what the source
 *                        heard.
 *   QEMU < 10.2,         the source lets go of the VM with the package, and
 *   postcopy             keeps its memory until SHUT 0: then as with a ferry.
 *
 * Threads: as the target's; each function says whose.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "wire/ram.h"

#define LOOK_NS		(2 * FERRY_NS_PER_MS)
#define RETRY_NS	FERRY_NS_PER_S
#define CLOSE_MS	5000u

static void lane_failed(void *target, const struct ferry_err *why)
{
	ferry_target_failed(target, why);
}

int ferry_adopt_init(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_lanes *l = &t->adopted.lanes;

	l->place = &t->in.place;
	l->unpack = t->vm->how.unpack;
	l->failed = lane_failed;
	l->arg = t;
	if (ferry_place_init_file(&t->in.place, &t->vm->mem, &t->in.map, e))
		return -1;
	return ferry_lanes_init(l, t->vm->how.multifd, e);
}

void ferry_adopt_fini(struct ferry_target *t)
{
	ferry_preempt_stop(t);
	ferry_lanes_fini(&t->adopted.lanes);
}

/* ---- the shape of it ------------------------------------------------------------- */

/* The door. */
static int begin(struct ferry_target *t, const char *name,
		 enum ferry_dialect dialect, const uint8_t *uuid,
		 struct ferry_err *e)
{
	struct ferry_adoption *a = &t->adopted;

	pthread_mutex_lock(&t->lock);
	ferry_map_fini(&t->in.map);
	a->fitted = false;
	ferry_vm_adopt_name(t->vm, name);
	pthread_mutex_unlock(&t->lock);
	a->dialect = dialect;
	a->has_uuid = uuid != NULL;
	if (uuid)
		memcpy(a->uuid, uuid, sizeof(a->uuid));
	return t->vm->adopt->begin(t->vm->opaque, e);
}

static int take_block(struct ferry_target *t, const char *name, uint64_t bytes,
		      uint32_t page_bytes, uint64_t gpa, struct ferry_err *e)
{
	struct ferry_mem *mem = &t->vm->mem;
	struct ferry_mem_block *b;
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = ferry_mem_add_file(mem, name, bytes, page_bytes, gpa, -1, 0, e);
	pthread_mutex_unlock(&t->lock);
	if (rc)
		return ferry_err_wrap(e, "the source");
	b = &mem->block[mem->blocks - 1];
	return t->vm->adopt->block(t->vm->opaque, b, &b->fd, &b->fd_offset, e);
}

/* All blocks are known: so is what is missing. */
static int fit(struct ferry_target *t, struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = ferry_map_init(&t->in.map, &t->vm->mem, e);
	t->adopted.fitted = !rc;
	pthread_mutex_unlock(&t->lock);
	if (!rc)
		ferry_lanes_open(&t->adopted.lanes);
	return rc;
}

int ferry_adopt_qemu(struct ferry_target *t, const struct ferry_config *c,
		     struct ferry_err *e)
{
	if (c->capabilities)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "the source "
				     "has x-ignore-shared or mapped-ram set: "
				     "not all of its memory would come");
	return begin(t, c->machine, FERRY_DIALECT_QEMU,
		     c->has_uuid ? c->uuid : NULL, e);
}

int ferry_adopt_ferry(struct ferry_target *t, const struct ferry_hello *h,
		      struct ferry_err *e)
{
	if (begin(t, h->name, FERRY_DIALECT_FERRY, NULL, e))
		return -1;
	for (size_t i = 0; i < h->facts; i++)
		if (ferry_vm_adopt_fact(t->vm, h->fact[i].name, (enum
					ferry_fact_rule)h->fact[i].rule,
					h->fact[i].value, e))
			return -1;
	for (size_t i = 0; i < h->blocks; i++)
		if (take_block(t, h->block[i].name, h->block[i].bytes,
			       h->block[i].page_bytes, h->block[i].gpa, e))
			return -1;
	return fit(t, e);
}

/* ---- the RAM section of a QEMU; the reader ------------------------------------------ */

static int on_listed(void *target, const struct ferry_ramlist_block *lb,
		     struct ferry_err *e)
{
	struct ferry_target *t = target;

	if (t->dialect == FERRY_DIALECT_FERRY)
		return 0;
	if (!lb)
		return fit(t, e);
	return take_block(t, lb->name, lb->bytes, lb->page_bytes, lb->gpa, e);
}

/*
 * Where QEMU's channels come together: at MULTIFD_FLUSH, or, as there is none
 * in the first section, at each EOS.
 */
static int on_mark(void *target, uint32_t kind, struct ferry_err *e)
{
	uint32_t ms;
	struct ferry_target *t = target;
	struct ferry_adoption *a = &t->adopted;

	if (!t->vm->how.multifd || t->postcopy)
		return 0;
	if (kind == FERRY_RAM_MULTIFD_FLUSH)
		a->modern = true;
	else if (a->modern)
		return 0;
	else if (t->in.body.advised)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a source "
				     "this old cannot have both multifd and "
				     "postcopy-ram set");
	ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	return ferry_lanes_sync(&a->lanes, ms, e);
}

void ferry_adopt_hook(struct ferry_target *t)
{
	if (t->dialect != FERRY_DIALECT_QEMU)
		return;
	t->adopted.modern = false;
	t->in.body.hooks = (struct ferry_rambody_hooks){
		.adopt = on_listed, .mark = on_mark, .arg = t,
	};
}

/* ---- keeping it ------------------------------------------------------------------------ */

static int prepare(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_adoption *a = &t->adopted;
	struct ferry_adopt_state state = {
		.who = {
			.vm = t->vm, .dialect = a->dialect,
			.uuid = a->has_uuid ? a->uuid : NULL,
		},
		.map = &t->in.map,
		.sections = t->loader.devices,
		.sections_bytes = t->loader.device_bytes,
		.vmdesc = a->vmdesc, .vmdesc_bytes = a->vmdesc_bytes,
	};
	int rc;

	if (a->prepared)
		return 0;
	rc = ferry_place_trim(&t->in.place);
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, -rc, "image");
	if (t->vm->adopt->prepare(t->vm->opaque, &state, e))
		return -1;
	a->prepared = true;
	return 0;
}

static int commit(struct ferry_target *t, struct ferry_err *e)
{
	return t->vm->adopt->commit(t->vm->opaque, e);
}

/* True when the target is being taken down. */
static bool pause_for(struct ferry_target *t, uint64_t ns)
{
	uint64_t until = ferry_now_ns() + ns;
	bool quit;

	pthread_mutex_lock(&t->lock);
	while (!t->end.quit && !t->loader.give_up &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	quit = t->end.quit || t->loader.give_up;
	pthread_mutex_unlock(&t->lock);
	return quit;
}

/* With the only copy of the VM in hand there is no giving up. */
static int insist(struct ferry_target *t, bool only_copy,
		  int (*step)(struct ferry_target *t, struct ferry_err *e),
		  struct ferry_err *e)
{
	while (step(t, e)) {
		if (!only_copy)
			return -1;
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s; this is the "
			  "only copy of the VM: trying again", e->msg);
		if (pause_for(t, RETRY_NS))
			return -1;
	}
	return 0;
}

/* The source is done with it whatever we answer. */
static bool is_one_way(const struct ferry_target *t)
{
	return !t->in.answer.open;
}

static bool holds_pong(const struct ferry_target *t)
{
	const struct ferry_loader *l = &t->loader;

	for (uint32_t i = 0; i < l->pongs; i++)
		if (l->pong[i] == FERRY_PING_LOADED)
			return true;
	return false;
}

/* Until all pages are here; as long as they come. */
static int await_pages(struct ferry_target *t, struct ferry_err *e)
{
	uint64_t silence = FERRY_NS_PER_MS *
			   ferry_param(&t->params, FERRY_P_TIMEOUT);
	uint64_t now, before = UINT64_MAX, since = ferry_now_ns();

	while ((now = ferry_map_missing(&t->in.map))) {
		if (now != before)
			since = ferry_now_ns();
		else if (ferry_now_ns() - since > silence)
			return ferry_target_check_all(t, e);
		before = now;
		if (pause_for(t, LOOK_NS))
			return ferry_err_set(e, FERRY_E_CANCELLED, 0,
					     "gave up waiting for pages");
	}
	return 0;
}

int ferry_adopt_load(struct ferry_target *t, struct ferry_err *e)
{
	if (t->postcopy && !holds_pong(t))
		return 0;
	if (t->postcopy && await_pages(t, e))
		return -1;
	if (is_one_way(t) && !ferry_target_take_over(t, e))
		return -1;
	return insist(t, is_one_way(t), prepare, e);
}

/* A QEMU that waits for SHUT says nothing; one that gave up has left. */
static int check_still_there(struct ferry_target *t, struct ferry_err *e)
{
	if (is_one_way(t) || t->dialect != FERRY_DIALECT_QEMU ||
	    (!ferry_inbuf_have(&t->main_in) &&
	     t->main->ops->wait(t->main, POLLIN, 0) == 0))
		return 0;
	return ferry_err_set(e, FERRY_E_CLOSED, 0, "the source left while the "
			     "image was written");
}

int ferry_adopt_start(struct ferry_target *t, struct ferry_err *e)
{
	if (t->postcopy)
		return 0;
	return check_still_there(t, e) ? -1 :
	       insist(t, is_one_way(t), commit, e);
}

/* The last pages may still be on their way on another channel. */
int ferry_adopt_finish(struct ferry_target *t, struct ferry_err *e)
{
	if (await_pages(t, e) ||
	    ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e))
		return -1;
	return insist(t, true, prepare, e) || insist(t, true, commit, e) ?
	       -1 : 0;
}

/* ---- the end ---------------------------------------------------------------------------- */

/* A source that has read SHUT closes; one that closed without reading it
 * resets the connection. */
static int await_close(struct ferry_target *t, struct ferry_err *e)
{
	t->main->ops->set_timeout(t->main, CLOSE_MS, CLOSE_MS);
	while (ferry_inbuf_need(&t->main_in, 1, e))
		ferry_inbuf_consume(&t->main_in,
				    ferry_inbuf_have(&t->main_in));
	return e->code == FERRY_E_CLOSED || e->code == FERRY_E_TIMEOUT ? 0 :
	       -1;
}

/* All is here and has taken effect: may it?  Only a QEMU in precopy resumes
 * when it does not hear so. */
int ferry_adopt_end(struct ferry_target *t, struct ferry_err *e)
{
	bool may_resume = !t->postcopy && t->dialect == FERRY_DIALECT_QEMU;
	struct ferry_err why = { 0 };

	if (is_one_way(t))
		return 0;
	if (ferry_answer_say(&t->in.answer, FERRY_RP_SHUT, 0, &why)) {
		if (!may_resume)
			return 0;
		t->vm->adopt->revoke(t->vm->opaque);
		ferry_status_renounced(&t->status);
		return ferry_err_set(e, why.code, 0, "the source could not be "
				     "told that all is here: %.160s", why.msg);
	}
	if (!await_close(t, &why) || !may_resume)
		return 0;
	t->vm->adopt->doubt(t->vm->opaque);
	return ferry_err_set(e, why.code, 0, "nobody knows whether the source "
			     "heard that all is here: %.140s", why.msg);
}

/* The connection broke in postcopy, when all but the end was here. */
void ferry_adopt_pause(struct ferry_target *t)
{
	struct ferry_err err = { 0 };

	if (!t->adopted.prepared)
		return;
	if (!commit(t, &err))
		t->vm->adopt->doubt(t->vm->opaque);
}
