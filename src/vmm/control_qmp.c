/* SPDX-License-Identifier: MIT */
/*
 * The QMP commands of a running VM.  Rows marked FERRY_QMP_OOB may run on the
 * QMP server's thread beside another command; they take no run_lock.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/control_priv.h"

static int run_query_status(void *opaque, struct json_object *args,
			    struct json_object **ret, struct ferry_err *e)
{
	enum ferry_runstate now = ferry_control_runstate(opaque);
	struct ferry_control *c = opaque;
	bool out;

	(void)args, (void)e;
	/* Nobody has paused it; but run it does not. */
	out = now == FERRY_RUN_RUNNING && ferry_machine_is_limited(c->machine);
	if (out)
		now = FERRY_RUN_PAUSED;
	*ret = json_object_new_object();
	ferry_json_add_str(*ret, "status", ferry_runstate_name(now));
	ferry_json_add_bool(*ret, "singlestep", false);
	ferry_json_add_bool(*ret, "running", now == FERRY_RUN_RUNNING);
	if (out)
		ferry_json_add_str(*ret, "x-ferry-why", "the lease ran out");
	return 0;
}

static int run_query_name(void *opaque, struct json_object *args,
			  struct json_object **ret, struct ferry_err *e)
{
	struct ferry_control *c = opaque;

	(void)args, (void)e;
	*ret = json_object_new_object();
	ferry_json_add_str(*ret, "name", c->config->name);
	return 0;
}

static int run_stop(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_stop(opaque, e);
}

static int run_cont(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_cont(opaque, e);
}

/* Its effect comes after the reply: see ferry_control_settle(). */
static int run_quit(void *opaque, struct json_object *args,
		    struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_quit(opaque, e);
}

static int run_system_reset(void *opaque, struct json_object *args,
			    struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	if (ferry_control_check(opaque, FERRY_ASK_SYSTEM_RESET, e))
		return -1;
	return ferry_control_reset(opaque, false, e);
}

static int run_system_powerdown(void *opaque, struct json_object *args,
				struct json_object **ret, struct ferry_err *e)
{
	(void)opaque, (void)args, (void)ret;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "this machine has no power button: shut the "
			     "guest down from inside, or use quit");
}

static int run_migrate(void *opaque, struct json_object *args,
		       struct json_object **ret, struct ferry_err *e)
{
	struct ferry_control *c = opaque;
	const char *uri = ferry_json_str(args, "uri");
	struct json_object *paths = NULL;

	(void)ret;
	if (ferry_json_bool(args, "resume", false))
		return ferry_control_resume(c, uri, e);
	if (!uri)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "Parameter 'uri' is missing");
	if (!pthread_equal(pthread_self(), c->thread))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "migrate runs out "
				     "of band with resume only");
	json_object_object_get_ex(args, "x-ferry-paths", &paths);
	return ferry_control_migrate(c, uri, paths, e);
}

static int run_migrate_pause(void *opaque, struct json_object *args,
			     struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_pause(opaque, e);
}

static int run_migrate_recover(void *opaque, struct json_object *args,
			       struct json_object **ret, struct ferry_err *e)
{
	(void)ret;
	return ferry_control_recover(opaque, ferry_json_str(args, "uri"), e);
}

static int run_migrate_incoming(void *opaque, struct json_object *args,
				struct json_object **ret, struct ferry_err *e)
{
	(void)ret;
	return ferry_control_incoming(opaque, ferry_json_str(args, "uri"),
				      ferry_json_bool(args, "exit-on-error",
						      false), e);
}

static int run_migrate_cancel(void *opaque, struct json_object *args,
			      struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_cancel(opaque, e);
}

static int run_start_postcopy(void *opaque, struct json_object *args,
			      struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)ret;
	return ferry_control_postcopy(opaque, e);
}

static int run_rescue(void *opaque, struct json_object *args,
		      struct json_object **ret, struct ferry_err *e)
{
	return ferry_control_rescue(opaque, ferry_json_str(args, "filename"),
				    ret, e);
}

static int run_rollback(void *opaque, struct json_object *args,
			struct json_object **ret, struct ferry_err *e)
{
	(void)ret;
	return ferry_control_rollback(opaque, ferry_json_bool(args,
				      "target-is-dead", false), e);
}

static int run_query_migrate(void *opaque, struct json_object *args,
			     struct json_object **ret, struct ferry_err *e)
{
	(void)args, (void)e;
	*ret = ferry_control_query_migrate(opaque);
	return 0;
}

static int run_set_caps(void *opaque, struct json_object *args,
			struct json_object **ret, struct ferry_err *e)
{
	struct json_object *list = NULL;

	(void)ret;
	json_object_object_get_ex(args, "capabilities", &list);
	return ferry_control_set_caps(opaque, list, e);
}

static int run_query_caps(void *opaque, struct json_object *args,
			  struct json_object **ret, struct ferry_err *e)
{
	struct ferry_control *c = opaque;

	(void)args, (void)e;
	*ret = ferry_control_query_caps(c->params);
	return 0;
}

static int run_set_params(void *opaque, struct json_object *args,
			  struct json_object **ret, struct ferry_err *e)
{
	(void)ret;
	return ferry_control_set_params(opaque, args, e);
}

static int run_query_params(void *opaque, struct json_object *args,
			    struct json_object **ret, struct ferry_err *e)
{
	struct ferry_control *c = opaque;

	(void)args, (void)e;
	*ret = ferry_control_query_params(c->params);
	return 0;
}

/* Since the last call: see ferry_machine_heartbeat(). */
static int run_heartbeat(void *opaque, struct json_object *args,
			 struct json_object **ret, struct ferry_err *e)
{
	struct ferry_control *c = opaque;
	struct ferry_heartbeat beat;

	(void)args, (void)e;
	ferry_machine_heartbeat(c->machine, &beat);
	*ret = json_object_new_object();
	ferry_json_add_u64(*ret, "beats", beat.beats);
	ferry_json_add_u64(*ret, "longest-gap-ns", beat.longest_gap_ns);
	ferry_json_add_u64(*ret, "first-ns", beat.first_ns);
	ferry_json_add_u64(*ret, "last-ns", beat.last_ns);
	ferry_json_add_u64(*ret, "now-ns", ferry_now_ns());
	return 0;
}

const struct ferry_qmp_command ferry_control_commands[] = {
	{ "query-status", run_query_status, FERRY_QMP_OOB, {} },
	{ "query-name", run_query_name, FERRY_QMP_OOB, {} },
	{ "stop", run_stop, 0, {} },
	{ "cont", run_cont, 0, {} },
	{ "quit", run_quit, FERRY_QMP_OOB, {} },
	{ "system_reset", run_system_reset, 0, {} },
	{ "system_powerdown", run_system_powerdown, 0, {} },
	{ "migrate", run_migrate, FERRY_QMP_OOB,	/* with resume */
	  { { "uri", FERRY_QMP_STR, true },
	    { "resume", FERRY_QMP_BOOL, true },
	    { "detach", FERRY_QMP_BOOL, true },
	    { "x-ferry-paths", FERRY_QMP_ARRAY, true } } },
	{ "migrate-pause", run_migrate_pause, FERRY_QMP_OOB, {} },
	{ "migrate-recover", run_migrate_recover, FERRY_QMP_OOB,
	  { { "uri", FERRY_QMP_STR, false } } },
	{ "migrate-incoming", run_migrate_incoming, 0,
	  { { "uri", FERRY_QMP_STR, false },
	    { "exit-on-error", FERRY_QMP_BOOL, true } } },
	{ "migrate_cancel", run_migrate_cancel, FERRY_QMP_OOB, {} },
	{ "migrate-start-postcopy", run_start_postcopy, FERRY_QMP_OOB, {} },
	{ "x-ferry-rescue", run_rescue, 0,
	  { { "filename", FERRY_QMP_STR, false } } },
	{ "x-ferry-rollback", run_rollback, 0,
	  { { "target-is-dead", FERRY_QMP_BOOL, false } } },
	{ "query-migrate", run_query_migrate, FERRY_QMP_OOB, {} },
	{ "migrate-set-capabilities", run_set_caps, 0,
	  { { "capabilities", FERRY_QMP_ARRAY, false } } },
	{ "query-migrate-capabilities", run_query_caps, 0, {} },
	{ "migrate-set-parameters", run_set_params, FERRY_QMP_ANY_ARGS, {} },
	{ "query-migrate-parameters", run_query_params, 0, {} },
	{ "x-ferry-heartbeat", run_heartbeat, 0, {} },
};

const size_t ferry_control_commands_n = FERRY_LEN(ferry_control_commands);
