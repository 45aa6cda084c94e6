/* SPDX-License-Identifier: MIT */
/*
 * Loading device state and starting the VM, on a thread of its own: in
 * postcopy both touch memory that is still missing, and wait for pages that
 * other threads receive.
 *
 * Thread: "ferry-load".
 */
#include "mig/target_impl.h"

#include <stdlib.h>

static void set_state(struct ferry_target *t, enum ferry_load_state state)
{
	pthread_mutex_lock(&t->lock);
	t->loader.state = state;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* What follows once the devices are loaded: LOADED, or QEMU's PONGs. */
static int say_loaded(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_loader *l = &t->loader;

	if (t->dialect == FERRY_DIALECT_FERRY)
		return ferry_answer_say(&t->in.answer, FERRY_RP_LOADED, 0, e);
	for (uint32_t i = 0; i < l->pongs; i++)
		if (ferry_answer_say(&t->in.answer, FERRY_RP_PONG, l->pong[i],
				     e))
			return -1;
	return 0;
}

/* Who hears LOADED says RUN, and then nothing but us knows what became of the
 * VM: from here on the source may come back.  READY comes before it is said,
 * for the link may break right behind it. */
static void source_may_return(struct ferry_target *t, bool may)
{
	pthread_mutex_lock(&t->lock);
	if (t->features & FERRY_FEATURE_RECOVER) {
		t->recovery.possible = may;
		t->loader.state = may ? FERRY_LOAD_READY : FERRY_LOAD_BUSY;
	}
	pthread_mutex_unlock(&t->lock);
}

/* True when RUN came, false when there is nothing to wait for any more. */
static bool await_run(struct ferry_target *t)
{
	struct ferry_loader *l = &t->loader;
	bool run;

	pthread_mutex_lock(&t->lock);
	while (!l->may_run && !l->give_up && !l->run_at_once)
		pthread_cond_wait(&t->changed, &t->lock);
	run = (l->may_run || l->run_at_once) && !l->give_up;
	pthread_mutex_unlock(&t->lock);
	return run;
}

static int start_vm(struct ferry_target *t, struct ferry_err *e)
{
	if (t->loader.run_at_once && !ferry_status_is_handed(&t->status) &&
	    !ferry_target_take_over(t, e))
		return -1;
	if (!ferry_target_may_start(t, e))
		return -1;
	ferry_lease_starts(t);
	if (t->vm->adopt) {
		if (ferry_adopt_start(t, e))
			return -1;
	} else if (t->vm->was_running && ferry_bulk_in_run(&t->bulk, e)) {
		return -1;
	} else if (t->vm->ops.start(t->vm->opaque, t->vm->was_running, e)) {
		return ferry_err_wrap(e, "start the VM");
	}
	ferry_bulk_in_settle(&t->bulk);
	ferry_status_heard(&t->status);
	if (t->dialect == FERRY_DIALECT_FERRY)
		(void)!ferry_answer_say(&t->in.answer, FERRY_RP_RUNNING, 0,
					NULL);
	if (t->postcopy)
		ferry_status_advance(&t->status, FERRY_STATE_DEVICE,
				     FERRY_STATE_POSTCOPY_ACTIVE);
	return 0;
}

static int load_devices(struct ferry_target *t, struct ferry_err *e)
{
	if (t->vm->adopt)
		return ferry_adopt_load(t, e);
	return ferry_dev_load_all(&t->vm->devices, t->loader.devices,
				  t->loader.device_bytes, e) ||
	       ferry_bulk_in_finish(&t->bulk, e) ||
	       ferry_foreign_can(t->vm, FERRY_FOREIGN_START, e) ? -1 : 0;
}

/* Who has let go of the VM already only likes to know. */
static bool must_be_told(struct ferry_target *t)
{
	return !t->vm->adopt || !ferry_status_is_handed(&t->status);
}

static void load_main(void *arg)
{
	struct ferry_target *t = arg;
	struct ferry_err err = { 0 };

	int rc = load_devices(t, &err);

	if (!rc) {
		ferry_lease_loads(t);	/* before another link says it */
		source_may_return(t, true);
		rc = say_loaded(t, &err) && must_be_told(t) ? -1 : 0;
	}
	if (rc) {
		source_may_return(t, false);
		ferry_target_failed(t, &err);
		set_state(t, FERRY_LOAD_FAILED);
		return;
	}
	set_state(t, FERRY_LOAD_READY);
	if (!await_run(t))
		return;
	if (start_vm(t, &err)) {
		/* RUN came, but it will not run here: the source may. */
		ferry_status_renounced(&t->status);
		ferry_target_failed(t, &err);
		set_state(t, FERRY_LOAD_FAILED);
		return;
	}
	set_state(t, FERRY_LOAD_STARTED);
}

int ferry_load_start(struct ferry_target *t, struct ferry_err *e)
{
	t->loader.state = FERRY_LOAD_BUSY;
	return ferry_thread_start(&t->loader.thread, "ferry-load", load_main,
				  t, e);
}

void ferry_load_run(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->loader.may_run = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

void ferry_load_stop(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->loader.give_up = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	ferry_thread_join(&t->loader.thread);
	free(t->loader.package);
	t->loader.package = NULL;
}
