/* SPDX-License-Identifier: MIT */
/*
 * What was asked for and may have to wait: by the guest (power-off, reset, a
 * vCPU that failed), by QMP quit, by a signal.  Each is a bit in `asked`; after
 * every ring of the bell each is held against the table of control_rules.c
 * until it has had its effect or is refused.  Control thread.
 */
#include "vmm/control_priv.h"

static void told_shutdown(struct ferry_control *c, bool guest,
			  const char *reason)
{
	struct json_object *data = json_object_new_object();

	ferry_json_add_bool(data, "guest", guest);
	ferry_json_add_str(data, "reason", reason);
	ferry_qmp_server_event(c->qmp, "SHUTDOWN", data);
}

static void done(struct ferry_control *c, enum ferry_ask ask)
{
	pthread_mutex_lock(&c->lock);
	c->asked &= ~(1u << ask);
	pthread_mutex_unlock(&c->lock);
}

/* ---- effects ---------------------------------------------------------------- */

/* The VM has ended by itself: so does the process, unless told to stay. */
static void after_halt(struct ferry_control *c, bool guest,
		       const char *reason, int code)
{
	told_shutdown(c, guest, reason);
	if (c->config->no_shutdown)
		ferry_qmp_server_event(c->qmp, "STOP", NULL);
	else
		ferry_control_finish(c, code);
}

static void do_panic(struct ferry_control *c)
{
	ferry_control_halt(c, FERRY_RUN_INTERNAL_ERROR);
	ferry_control_say(c, "the guest cannot go on: %s", c->panic);
	done(c, FERRY_ASK_PANIC);
	after_halt(c, false, "host-error", FERRY_CONTROL_EXIT_FAILED);
}

static void do_poweroff(struct ferry_control *c)
{
	ferry_control_halt(c, FERRY_RUN_SHUTDOWN);
	done(c, FERRY_ASK_POWEROFF);
	after_halt(c, true, "guest-shutdown", FERRY_CONTROL_EXIT_OK);
}

static void do_reset(struct ferry_control *c)
{
	struct ferry_err e = { 0 };

	if (!ferry_control_reset(c, true, &e))
		return;
	/* Such as: it came by migration, and no kernel is here. */
	ferry_control_halt(c, FERRY_RUN_SHUTDOWN);
	done(c, FERRY_ASK_RESET);
	ferry_control_say(c, "the guest asked for a reset: %s", e.msg);
	after_halt(c, true, "guest-reset", FERRY_CONTROL_EXIT_FAILED);
}

static void do_quit(struct ferry_control *c)
{
	told_shutdown(c, false, "host-qmp-quit");
	ferry_control_finish(c, FERRY_CONTROL_EXIT_OK);
}

static void do_signal(struct ferry_control *c)
{
	told_shutdown(c, false, "host-signal");
	ferry_control_finish(c, FERRY_CONTROL_EXIT_OK);
}

static const struct {
	void		(*run)(struct ferry_control *c);
	const char	*name;
} effects[FERRY_ASKS_WAITING] = {
	[FERRY_ASK_PANIC]	= { do_panic,	 "vCPU failure" },
	[FERRY_ASK_POWEROFF]	= { do_poweroff, "guest power-off" },
	[FERRY_ASK_RESET]	= { do_reset,	 "guest reset" },
	[FERRY_ASK_QUIT]	= { do_quit,	 "quit" },
	[FERRY_ASK_SIGNAL]	= { do_signal,	 "signal" },
};

#define TOO_LATE	"the VM is committed to the destination"

/* ---- rules ------------------------------------------------------------------ */

/* Once for each reason; then there is a new one or a new order. */
static void say_once(struct ferry_control *c, enum ferry_ask ask,
		     const char *why, const char *then)
{
	if (c->told[ask] == why)
		return;
	c->told[ask] = why;
	ferry_control_say(c, "%s: %s; %s", effects[ask].name, why, then);
}

/* Ends in an event that rings the bell again; if it is refused, the commit
 * came first, and its event does. */
static void cancel_first(struct ferry_control *c, enum ferry_ask ask)
{
	struct ferry_err e = { 0 };

	if (!c->mig.cancel_sent) {
		c->mig.cancel_sent = true;
		c->mig.cancel_refused = ferry_control_cancel(c, &e) &&
					!ferry_control_is_over(c);
		if (!e.code)
			ferry_control_say(c, "%s: the migration is cancelled",
					  effects[ask].name);
	}
	if (c->mig.cancel_refused)
		say_once(c, ask, TOO_LATE, ask == FERRY_ASK_SIGNAL ?
			 "it waits for the end of the migration; "
			 FERRY_RULE_TWICE : "it waits to see what comes of it");
}

static void settle_one(struct ferry_control *c, enum ferry_ask ask)
{
	struct ferry_rule rule = ferry_rule_for(ferry_control_phase(c), ask);

	switch (rule.act) {
	case FERRY_ACT_DO:
		effects[ask].run(c);
		break;
	case FERRY_ACT_CANCEL_FIRST:
		cancel_first(c, ask);
		break;
	case FERRY_ACT_LATER:
		say_once(c, ask, rule.why, rule.then);
		break;
	case FERRY_ACT_REFUSE:
		done(c, ask);
		ferry_control_say(c, "%s: refused: %s", effects[ask].name,
				  rule.why);
		break;
	}
}

/* A target that was started for this one VM has no purpose without it. */
static bool target_failed(struct ferry_control *c)
{
	return c->mig.target && c->mig.exit_on_error &&
	       ferry_control_phase(c) == FERRY_PHASE_ABSENT;
}

void ferry_control_settle(struct ferry_control *c)
{
	unsigned bits;

	pthread_mutex_lock(&c->lock);
	bits = c->asked;
	pthread_mutex_unlock(&c->lock);

	for (enum ferry_ask ask = 0; ask < FERRY_ASKS_WAITING; ask++) {
		if (!(bits & 1u << ask))
			c->told[ask] = NULL;
		else if (!c->end.now)
			settle_one(c, ask);
	}
	/* Not while quit or a signal waits for just this. */
	if (!bits && target_failed(c))
		ferry_control_finish(c, FERRY_CONTROL_EXIT_FAILED);
}

/*
 * QMP quit, from the control or the qmp thread.  Who gave it is answered for
 * good: once the commit has come first it is refused here, not later in the
 * log.  The bit is set before the cancel, so that a target which ends by being
 * cancelled ends as one that was told to.
 */
int ferry_control_quit(struct ferry_control *c, struct ferry_err *e)
{
	struct ferry_rule rule = ferry_rule_for(ferry_control_phase(c),
						FERRY_ASK_QUIT);

	if (rule.act == FERRY_ACT_REFUSE)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s", rule.why);
	ferry_control_ask(c, FERRY_ASK_QUIT);
	if (rule.act != FERRY_ACT_CANCEL_FIRST ||
	    !ferry_control_cancel(c, e) || ferry_control_is_over(c))
		return 0;
	done(c, FERRY_ASK_QUIT);
	return -1;
}

/*
 * The first is an order; a second soon after means it.  Then nothing is waited
 * for, and if the VM was at two places, it may be lost.
 */
void ferry_control_signal(struct ferry_control *c, uint64_t now_ns)
{
	enum ferry_phase phase = ferry_control_phase(c);
	struct ferry_rule rule = ferry_rule_for(phase, FERRY_ASK_SIGNAL);
	bool waits = rule.act == FERRY_ACT_LATER ||
		     (rule.act == FERRY_ACT_CANCEL_FIRST &&
		      c->mig.cancel_refused);
	bool again = c->signal_ns &&
		     now_ns - c->signal_ns < FERRY_CONTROL_AGAIN_NS;

	c->signal_ns = now_ns;
	c->told[FERRY_ASK_SIGNAL] = NULL;
	if (again && waits) {
		ferry_control_say(c, "second signal: ended, although %s",
				  rule.why ? rule.why : TOO_LATE);
		told_shutdown(c, false, "host-signal");
		ferry_control_finish(c, FERRY_CONTROL_EXIT_LOST);
		c->end.abandon = true;
	}
	ferry_control_ask(c, FERRY_ASK_SIGNAL);
}
