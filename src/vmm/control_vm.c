/* SPDX-License-Identifier: MIT */
/*
 * The VM is run, paused and reset: by commands (control thread), by a
 * switchover (engine), and what the vCPUs have to say about it.  Locks: see
 * control_priv.h.
 */
#include <stdio.h>

#include "base/clock.h"
#include "vmm/bulk_state.h"
#include "vmm/control_priv.h"

/* A vCPU that asked for these is parked; running it on would be wrong. */
#define GUEST_ASKS	(1u << FERRY_ASK_PANIC | 1u << FERRY_ASK_POWEROFF | \
			 1u << FERRY_ASK_RESET)

enum ferry_runstate ferry_control_runstate(struct ferry_control *c)
{
	enum ferry_runstate now;

	pthread_mutex_lock(&c->lock);
	now = c->runstate;
	pthread_mutex_unlock(&c->lock);
	return now;
}

/* Returns what it was. */
static enum ferry_runstate set_runstate(struct ferry_control *c,
					enum ferry_runstate next)
{
	enum ferry_runstate old;

	pthread_mutex_lock(&c->lock);
	old = c->runstate;
	c->runstate = next;
	ferry_bulk_states_run(c->bulk, next == FERRY_RUN_RUNNING);
	pthread_mutex_unlock(&c->lock);
	return old;
}

static unsigned asked(struct ferry_control *c)
{
	unsigned bits;

	pthread_mutex_lock(&c->lock);
	bits = c->asked;
	pthread_mutex_unlock(&c->lock);
	return bits;
}

/* What the guest asked for, as the reason why it cannot go on; or 0. */
static int refuse_asked(struct ferry_control *c, unsigned bits,
			struct ferry_err *e)
{
	if (bits & 1u << FERRY_ASK_PANIC)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s", c->panic);
	if (bits & 1u << FERRY_ASK_POWEROFF)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "the guest has powered off");
	if (bits & 1u << FERRY_ASK_RESET)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "the guest waits for a reset");
	return 0;
}

/* ---- vCPU threads ------------------------------------------------------- */

void ferry_control_ask(struct ferry_control *c, enum ferry_ask ask)
{
	pthread_mutex_lock(&c->lock);
	c->asked |= 1u << ask;
	pthread_mutex_unlock(&c->lock);
	ferry_control_wake(c);
}

static void on_shutdown(void *opaque)
{
	ferry_control_ask(opaque, FERRY_ASK_POWEROFF);
}

static void on_reset(void *opaque)
{
	ferry_control_ask(opaque, FERRY_ASK_RESET);
}

static void on_panic(void *opaque, const char *text)
{
	struct ferry_control *c = opaque;

	pthread_mutex_lock(&c->lock);
	if (!(c->asked & 1u << FERRY_ASK_PANIC))	/* the first tells why */
		snprintf(c->panic, sizeof(c->panic), "%s", text);
	c->asked |= 1u << FERRY_ASK_PANIC;
	pthread_mutex_unlock(&c->lock);
	ferry_control_wake(c);
}

void ferry_control_hook(struct ferry_control *c,
			struct ferry_machine_config *machine)
{
	machine->on_shutdown = on_shutdown;
	machine->on_reset = on_reset;
	machine->on_panic = on_panic;
	machine->opaque = c;
}

/* ---- control thread ----------------------------------------------------- */

static int run_machine(struct ferry_control *c, struct ferry_err *e)
{
	if (refuse_asked(c, asked(c), e) || ferry_machine_run(c->machine, e))
		return -1;
	set_runstate(c, FERRY_RUN_RUNNING);
	ferry_qmp_server_event(c->qmp, "RESUME", NULL);
	return 0;
}

/* How long `stop` may take: for ever, where all of the VM's memory is. */
static uint64_t stop_until(struct ferry_control *c)
{
	switch (ferry_control_phase(c)) {
	case FERRY_PHASE_WAITING:	/* to be ARRIVING any moment */
	case FERRY_PHASE_ARRIVING:
	case FERRY_PHASE_STRANDED:
		return ferry_now_ns() + FERRY_CONTROL_STOP_NS;
	case FERRY_PHASE_HOME:
	case FERRY_PHASE_ABSENT:
	case FERRY_PHASE_LEAVING:
	case FERRY_PHASE_AWAY:
	case FERRY_PHASE_DOUBT:
	case FERRY_PHASE_CUT:
	case FERRY_PHASE_RESCUED:
	case FERRY_PHASES:
		break;
	}
	return UINT64_MAX;
}

static int stop_run_locked(struct ferry_control *c, struct ferry_err *e)
{
	switch (ferry_control_runstate(c)) {
	case FERRY_RUN_RUNNING:
		if (!ferry_machine_pause_until(c->machine, stop_until(c)))
			return ferry_err_set(e, FERRY_E_STATE, 0,
				"a vCPU waits for memory that has not arrived "
				"from the source; the VM runs on");
		set_runstate(c, FERRY_RUN_PAUSED);
		ferry_qmp_server_event(c->qmp, "STOP", NULL);
		break;
	case FERRY_RUN_INMIGRATE:
		pthread_mutex_lock(&c->lock);
		c->arrive_paused = true;
		pthread_mutex_unlock(&c->lock);
		break;
	case FERRY_RUN_FINISH_MIGRATE:
		/* Should it come back, it stays stopped. */
		pthread_mutex_lock(&c->lock);
		c->before = FERRY_RUN_PAUSED;
		pthread_mutex_unlock(&c->lock);
		break;
	case FERRY_RUN_PRELAUNCH:
	case FERRY_RUN_PAUSED:
	case FERRY_RUN_POSTMIGRATE:
	case FERRY_RUN_SHUTDOWN:
	case FERRY_RUN_INTERNAL_ERROR:
	case FERRY_RUN_STATES:
		break;		/* it does not run */
	}
	return 0;
}

int ferry_control_stop(struct ferry_control *c, struct ferry_err *e)
{
	int rc;

	if (ferry_control_check(c, FERRY_ASK_STOP, e))
		return -1;
	pthread_mutex_lock(&c->run_lock);
	rc = stop_run_locked(c, e);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

static int cont_run_locked(struct ferry_control *c, struct ferry_err *e)
{
	if (c->held)
		return ferry_err_set(e, FERRY_E_STATE, 0,
			"the VM is stopped for the switchover; it goes on "
			"there, or here if that fails");

	switch (ferry_control_runstate(c)) {
	case FERRY_RUN_RUNNING:
		return 0;
	case FERRY_RUN_PRELAUNCH:
	case FERRY_RUN_PAUSED:
		return run_machine(c, e);
	case FERRY_RUN_SHUTDOWN:
	case FERRY_RUN_INTERNAL_ERROR:
		return ferry_err_set(e, FERRY_E_STATE, 0,
			"Resetting the Virtual Machine is required");
	case FERRY_RUN_INMIGRATE:
	case FERRY_RUN_FINISH_MIGRATE:
	case FERRY_RUN_POSTMIGRATE:
	case FERRY_RUN_STATES:
		break;
	}
	return ferry_err_set(e, FERRY_E_STATE, 0, "the VM is not here");
}

/* The engine's word first: it knows of the commit before its event tells. */
static int engine_lets_run(struct ferry_control *c, struct ferry_err *e)
{
	const char *ways = ferry_phase_ways(ferry_control_phase(c));
	struct ferry_err why = { 0 };

	if (c->mig.source ? !ferry_source_may_run(c->mig.source, &why) :
	    !c->mig.target || !ferry_target_may_run(c->mig.target, &why))
		return 0;
	return ferry_err_set(e, why.code, 0, "%.160s%s", why.msg, ways);
}

int ferry_control_cont(struct ferry_control *c, struct ferry_err *e)
{
	int rc;

	if (engine_lets_run(c, e) || ferry_control_check(c, FERRY_ASK_CONT, e))
		return -1;
	pthread_mutex_lock(&c->run_lock);
	rc = cont_run_locked(c, e);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

/* vCPUs that wait for pages which never come are let out by an error, at the
 * instruction that touched the page: no failure of the guest's. */
static int pause_by_force(struct ferry_control *c, struct ferry_err *e)
{
	unsigned before = asked(c);

	if (ferry_machine_pause_until(c->machine, ferry_now_ns() +
				      FERRY_CONTROL_STOP_NS))
		return 0;
	if (ferry_target_abandon(c->mig.target, e))
		return -1;
	ferry_machine_pause(c->machine);
	pthread_mutex_lock(&c->lock);
	if (!(before & 1u << FERRY_ASK_PANIC))
		c->asked &= ~(1u << FERRY_ASK_PANIC);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int ferry_control_stop_for_rescue(struct ferry_control *c,
				  struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&c->run_lock);
	if (ferry_control_runstate(c) == FERRY_RUN_RUNNING) {
		rc = pause_by_force(c, e);
		if (!rc) {
			set_runstate(c, FERRY_RUN_PAUSED);
			ferry_qmp_server_event(c->qmp, "STOP", NULL);
			c->mig.rescue_ran = true;
		}
	}
	if (!rc)
		rc = refuse_asked(c, asked(c), e);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

/* The machine is paused.  What the guest asked for before is void. */
static int reset_paused(struct ferry_control *c, bool guest,
			struct ferry_err *e)
{
	struct json_object *data;

	if (ferry_machine_reset(c->machine, e))
		return -1;
	pthread_mutex_lock(&c->lock);
	c->asked &= ~GUEST_ASKS;
	pthread_mutex_unlock(&c->lock);

	data = json_object_new_object();
	ferry_json_add_bool(data, "guest", guest);
	ferry_json_add_str(data, "reason",
			   guest ? "guest-reset" : "host-qmp-system-reset");
	ferry_qmp_server_event(c->qmp, "RESET", data);
	return 0;
}

static int reset_run_locked(struct ferry_control *c, bool guest,
			    struct ferry_err *e)
{
	enum ferry_runstate now = ferry_control_runstate(c);

	/* A switchover was faster and has done it (vm_stop). */
	if (guest && !(asked(c) & 1u << FERRY_ASK_RESET))
		return 0;
	if (c->held)
		return guest ? 0 : ferry_err_set(e, FERRY_E_STATE, 0,
			"the VM is stopped for the switchover");

	ferry_machine_pause(c->machine);
	if (reset_paused(c, guest, e)) {
		/* An order that cannot be obeyed changes nothing. */
		if (!guest && now == FERRY_RUN_RUNNING &&
		    !(asked(c) & GUEST_ASKS) &&
		    ferry_machine_run(c->machine, NULL))
			set_runstate(c, FERRY_RUN_INTERNAL_ERROR);
		return -1;
	}
	if (now == FERRY_RUN_RUNNING)
		return ferry_machine_run(c->machine, e);
	if (now == FERRY_RUN_SHUTDOWN || now == FERRY_RUN_INTERNAL_ERROR)
		set_runstate(c, FERRY_RUN_PAUSED);
	return 0;
}

int ferry_control_reset(struct ferry_control *c, bool guest,
			struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&c->run_lock);
	rc = reset_run_locked(c, guest, e);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

/* For good: the guest powered off, or cannot go on. */
void ferry_control_halt(struct ferry_control *c, enum ferry_runstate why)
{
	pthread_mutex_lock(&c->run_lock);
	ferry_machine_pause(c->machine);
	set_runstate(c, why);
	pthread_mutex_unlock(&c->run_lock);
}

/* ---- engine threads ----------------------------------------------------- */

/*
 * Stop for the switchover.  When pausing returns, every vCPU that had
 * something to ask has left its bit.  Were it to be ignored, the guest would
 * wake up at the destination behind its own power-off; so a reset is done
 * here and travels, and anything else ends the attempt.
 */
static int vm_stop(void *opaque, struct ferry_err *e)
{
	struct ferry_control *c = opaque;
	unsigned bits;
	int rc = 0;

	pthread_mutex_lock(&c->run_lock);
	ferry_machine_pause(c->machine);
	c->held = true;

	pthread_mutex_lock(&c->lock);
	c->before = c->runstate;
	c->runstate = FERRY_RUN_FINISH_MIGRATE;
	ferry_bulk_states_run(c->bulk, false);
	bits = c->asked & GUEST_ASKS;
	pthread_mutex_unlock(&c->lock);

	if (c->before == FERRY_RUN_RUNNING)
		ferry_qmp_server_event(c->qmp, "STOP", NULL);
	if (bits == 1u << FERRY_ASK_RESET)
		rc = reset_paused(c, true, e);
	else
		rc = refuse_asked(c, bits, e);
	if (!rc)
		rc = ferry_machine_check_paused(c->machine, e);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

static void resume_run_locked(struct ferry_control *c)
{
	struct ferry_err e = { 0 };
	bool run;

	pthread_mutex_lock(&c->lock);
	/* Not if it was never stopped, or was halted meanwhile. */
	run = c->runstate == FERRY_RUN_FINISH_MIGRATE &&
	      c->before == FERRY_RUN_RUNNING;
	if (c->runstate == FERRY_RUN_FINISH_MIGRATE)
		c->runstate = run ? FERRY_RUN_PAUSED : c->before;
	/* What the guest asked for is the control thread's to do, later. */
	run = run && !(c->asked & GUEST_ASKS);
	pthread_mutex_unlock(&c->lock);

	if (run && run_machine(c, &e)) {
		ferry_control_say(c, "resume: %s", e.msg);
		set_runstate(c, FERRY_RUN_INTERNAL_ERROR);
	}
}

static void vm_resume(void *opaque)
{
	struct ferry_control *c = opaque;

	pthread_mutex_lock(&c->run_lock);
	c->held = false;
	resume_run_locked(c);
	pthread_mutex_unlock(&c->run_lock);
	ferry_control_wake(c);
}

static int vm_start(void *opaque, int running, struct ferry_err *e)
{
	struct ferry_control *c = opaque;
	bool paused;
	int rc = 0;

	pthread_mutex_lock(&c->run_lock);
	pthread_mutex_lock(&c->lock);
	paused = c->arrive_paused || !running;
	c->runstate = FERRY_RUN_PAUSED;
	pthread_mutex_unlock(&c->lock);

	if (!paused)
		rc = run_machine(c, e);
	if (rc)
		set_runstate(c, FERRY_RUN_INMIGRATE);
	else if (c->vhost)
		ferry_vhost_devices_announce(c->vhost);
	pthread_mutex_unlock(&c->run_lock);
	return rc;
}

static void vm_throttle(void *opaque, unsigned percent)
{
	struct ferry_control *c = opaque;

	ferry_machine_throttle(c->machine, percent);
}

static int vm_running(void *opaque)
{
	return ferry_control_runstate(opaque) == FERRY_RUN_RUNNING;
}

/* `running` stays what it is: nobody has paused the VM. */
static void vm_run_until(void *opaque, uint64_t boottime_ns)
{
	struct ferry_control *c = opaque;

	ferry_machine_run_until(c->machine, boottime_ns);
}

const struct ferry_vm_ops ferry_control_vm_ops = {
	.size		= sizeof(struct ferry_vm_ops),
	.stop		= vm_stop,
	.resume		= vm_resume,
	.start		= vm_start,
	.throttle	= vm_throttle,
	.running	= vm_running,
	.run_until	= vm_run_until,
};
