/* SPDX-License-Identifier: MIT */
/*
 * A VM's process as QMP clients, signals, guest and engine meet it, with a
 * fake machine and a fake engine (fake.h).  The control loop runs in a thread;
 * the test is everybody else.
 */
#include "vmm/control.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "cm.h"
#include "ctl/qmp_client.h"
#include "fake.h"

#define PATIENCE_MS	20000

struct fixture {
	char	dir[64], path[96];
	struct ferry_control_config config;
	struct ferry_machine_config machine;
	struct ferry_thread thread;
	struct ferry_qmp_client *qmp;
	int	exit_code;
	int	rc;
	struct ferry_err e;
};

static void run(void *arg)
{
	struct fixture *f = arg;

	f->rc = ferry_control_run(&f->config, &f->machine, &f->exit_code,
				  &f->e);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	memset(&fake, 0, sizeof(fake));
	strcpy(f->dir, "/tmp/ferry-ctl-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/vm.qmp", f->dir);
	f->config.name = "vm";
	f->config.qmp_path = f->path;
	f->exit_code = -1;
	*state = f;
	return 0;
}

static void launch(struct fixture *f)
{
	struct json_object *early;
	struct ferry_err e;

	assert_int_equal(ferry_thread_start(&f->thread, "control", run, f,
					    NULL), 0);
	for (int i = 0; !f->qmp && i < PATIENCE_MS / 10; i++) {
		f->qmp = ferry_qmp_client_open(f->path, PATIENCE_MS, &e);
		if (!f->qmp)
			poll(NULL, 0, 10);
	}
	assert_non_null(f->qmp);
	/* Answered by the loop: everything is made by then. */
	assert_int_equal(ferry_qmp_client_call(f->qmp, "x-ferry-heartbeat",
					       NULL, PATIENCE_MS, NULL, &e),
			 0);
	/* RESUME is heard by who was quick enough. */
	while (ferry_qmp_client_event(f->qmp, 0, &early, &e) == 1)
		json_object_put(early);
}

static void launch_incoming(struct fixture *f, const char *uri)
{
	f->config.incoming = uri;
	launch(f);
}

/* True when the process's loop has ended within this time. */
static bool ended(struct fixture *f, int ms)
{
	while (pthread_tryjoin_np(f->thread.id, NULL)) {
		if (ms-- <= 0)
			return false;
		poll(NULL, 0, 1);
	}
	f->thread.started = false;
	return true;
}

/* The process has ended, with this code. */
static void ends(struct fixture *f, int code)
{
	assert_true(ended(f, PATIENCE_MS));
	assert_int_equal(f->rc, 0);
	assert_int_equal(f->exit_code, code);
}

/* A test failed halfway: end what it began, or that would take the signals of
 * the tests that follow. */
static void rescue(struct fixture *f)
{
	if (fake.source || fake.target)
		fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "rescue");
	do {
		kill(getpid(), SIGTERM);
	} while (!ended(f, 100));
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->thread.started)
		rescue(f);
	ferry_qmp_client_close(f->qmp);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* ---- talking ---------------------------------------------------------------- */

static struct json_object *parse(const char *args)
{
	struct json_object *o = args ? json_tokener_parse(args) : NULL;

	assert_true(o || !args);
	return o;
}

static void ok(struct fixture *f, const char *command, const char *args)
{
	struct ferry_err e;

	if (ferry_qmp_client_call(f->qmp, command, parse(args), PATIENCE_MS,
				  NULL, &e))
		fail_msg("%s: %s", command, e.msg);
}

static void refused(struct fixture *f, const char *command, const char *args,
		    const char *part)
{
	struct ferry_err e;

	if (!ferry_qmp_client_call(f->qmp, command, parse(args), PATIENCE_MS,
				   NULL, &e))
		fail_msg("%s was not refused", command);
	if (e.code != FERRY_E_PEER || !strstr(e.msg, part))
		fail_msg("%s: %s", command, e.msg);
}

static void refused_oob(struct fixture *f, const char *command,
			const char *part)
{
	struct ferry_err e;

	assert_int_equal(ferry_qmp_client_call_oob(f->qmp, command, NULL,
						   PATIENCE_MS, NULL, &e), -1);
	if (e.code != FERRY_E_PEER || !strstr(e.msg, part))
		fail_msg("%s: %s", command, e.msg);
}

static struct json_object *ask(struct fixture *f, const char *command)
{
	struct json_object *ret = NULL;
	struct ferry_err e;

	if (ferry_qmp_client_call(f->qmp, command, NULL, PATIENCE_MS, &ret,
				  &e))
		fail_msg("%s: %s", command, e.msg);
	return ret;
}

static void status_is(struct fixture *f, const char *status)
{
	FERRY_AUTO_JSON *o = ask(f, "query-status");

	assert_string_equal(ferry_json_str(o, "status"), status);
	assert_int_equal(ferry_json_bool(o, "running", false),
			 !strcmp(status, "running"));
}

/* The next event, and its data as text ("" if none). */
static void event(struct fixture *f, const char *name, const char *data)
{
	struct json_object *o = NULL;
	struct json_object *in;
	struct ferry_err e = { 0 };
	int n = ferry_qmp_client_event(f->qmp, PATIENCE_MS, &o, &e);

	if (n != 1)
		fail_msg("no event %s: %s", name, n ? e.msg : "time out");
	assert_string_equal(ferry_json_str(o, "event"), name);
	in = ferry_json_obj(o, "data");
	assert_string_equal(in ? ferry_json_text(in) : "", data);
	json_object_put(o);
}

#define STATUS(s)	"{\"status\":\"" s "\"}"
#define BY(guest, r)	"{\"guest\":" guest ",\"reason\":\"" r "\"}"

static unsigned peek(const unsigned *field)
{
	unsigned v;

	pthread_mutex_lock(&fake_lock);
	v = *field;
	pthread_mutex_unlock(&fake_lock);
	return v;
}

static bool vm_runs(void)
{
	bool v;

	pthread_mutex_lock(&fake_lock);
	v = fake.running;
	pthread_mutex_unlock(&fake_lock);
	return v;
}

static void wait_count(const unsigned *field, unsigned n)
{
	for (int i = 0; peek(field) != n && i < PATIENCE_MS; i++)
		poll(NULL, 0, 1);
	assert_int_equal(peek(field), n);
}

static void wait_at_least(const unsigned *field, unsigned n)
{
	for (int i = 0; peek(field) < n && i < PATIENCE_MS; i++)
		poll(NULL, 0, 1);
	assert_true(peek(field) >= n);
}

/* A command that the loop has answered: what was asked before is settled. */
static void settled(struct fixture *f)
{
	for (int i = 0; i < 2; i++)
		ok(f, "query-migrate-parameters", NULL);
}

/* ---- the engine's thread ------------------------------------------------------ */

static void migrating(struct fixture *f)
{
	ok(f, "migrate", "{\"uri\":\"tcp:h:1\"}");
	fake_state(FERRY_STATE_SETUP, FERRY_WHERE_SOURCE, "");
	fake_state(FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE, "");
	event(f, "MIGRATION", STATUS("setup"));
	event(f, "MIGRATION", STATUS("active"));
}

static int engine_stop(struct ferry_err *e)
{
	return fake.ops->stop(fake.ops_opaque, e);
}

static void engine_resume(void)
{
	fake.ops->resume(fake.ops_opaque);
}

static void committed(struct fixture *f)
{
	migrating(f);
	assert_int_equal(engine_stop(NULL), 0);
	event(f, "STOP", "");
	fake_state(FERRY_STATE_POSTCOPY_ACTIVE, FERRY_WHERE_SPLIT, "");
	event(f, "MIGRATION", STATUS("postcopy-active"));
}

static void arrived(struct fixture *f, int running)
{
	fake_state(FERRY_STATE_SETUP, FERRY_WHERE_SOURCE, "");
	fake_state(FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE, "");
	assert_int_equal(fake.ops->start(fake.ops_opaque, running, NULL), 0);
	fake_state(FERRY_STATE_POSTCOPY_ACTIVE, FERRY_WHERE_SPLIT, "");
	settled(f);
}

static void completed(struct fixture *f)
{
	(void)f;
	fake_state(FERRY_STATE_COMPLETED, FERRY_WHERE_TARGET, "");
}

/* ---- without a migration ------------------------------------------------------ */

static void stop_and_cont_have_their_events(void **state)
{
	struct fixture *f = *state;

	launch(f);
	status_is(f, "running");
	ok(f, "stop", NULL);
	event(f, "STOP", "");
	status_is(f, "paused");
	assert_false(vm_runs());
	ok(f, "stop", NULL);
	ok(f, "cont", NULL);
	event(f, "RESUME", "");
	status_is(f, "running");
	assert_true(vm_runs());
	ok(f, "quit", NULL);
	event(f, "SHUTDOWN", BY("false", "host-qmp-quit"));
	ends(f, 0);
}

static void a_paused_vm_waits_for_cont(void **state)
{
	struct fixture *f = *state;

	f->config.paused = true;
	launch(f);
	status_is(f, "prelaunch");
	ok(f, "cont", NULL);
	status_is(f, "running");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void guest_poweroff_ends_the_process(void **state)
{
	struct fixture *f = *state;

	launch(f);
	fake_shutdown();
	event(f, "SHUTDOWN", BY("true", "guest-shutdown"));
	ends(f, 0);
	assert_false(vm_runs());
}

static void with_no_shutdown_a_vm_that_is_off_can_be_reset(void **state)
{
	struct fixture *f = *state;

	f->config.no_shutdown = true;
	launch(f);
	fake_shutdown();
	event(f, "SHUTDOWN", BY("true", "guest-shutdown"));
	event(f, "STOP", "");
	status_is(f, "shutdown");
	refused(f, "cont", NULL, "Resetting");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "the guest has ended");
	ok(f, "system_reset", NULL);
	event(f, "RESET", BY("false", "host-qmp-system-reset"));
	ok(f, "cont", NULL);
	status_is(f, "running");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void guest_reset_runs_on(void **state)
{
	struct fixture *f = *state;

	launch(f);
	fake_reset();
	event(f, "RESET", BY("true", "guest-reset"));
	settled(f);
	status_is(f, "running");
	assert_true(vm_runs());
	assert_int_equal(peek(&fake.resets), 1);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void guest_reset_without_a_kernel_ends_the_process_with_1(void **state)
{
	struct fixture *f = *state;

	fake.cannot_reset = true;
	launch(f);
	refused(f, "system_reset", NULL, "no kernel");
	assert_true(vm_runs());
	fake_reset();
	event(f, "SHUTDOWN", BY("true", "guest-reset"));
	ends(f, 1);
}

static void a_vcpu_that_fails_ends_the_process_with_1(void **state)
{
	struct fixture *f = *state;

	launch(f);
	fake_panic("vCPU 0: triple fault");
	event(f, "SHUTDOWN", BY("false", "host-error"));
	ends(f, 1);
}

static void a_signal_ends_the_process(void **state)
{
	struct fixture *f = *state;

	launch(f);
	kill(getpid(), SIGTERM);
	event(f, "SHUTDOWN", BY("false", "host-signal"));
	ends(f, 0);
}

static void there_is_no_power_button(void **state)
{
	struct fixture *f = *state;

	launch(f);
	refused(f, "system_powerdown", NULL, "no power button");
	refused(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}",
		"there is a VM here already");
	ok(f, "migrate_cancel", NULL);
	refused(f, "migrate-start-postcopy", NULL, "no migration");
	ok(f, "quit", NULL);
	ends(f, 0);
}

/* ---- parameters --------------------------------------------------------------- */

static void parameters_are_taken_whole_or_not_at_all(void **state)
{
	static const struct { const char *args, *part; } bad[] = {
		{ "{\"downtime-limit\":5,\"foo\":1}",
		  "Parameter 'foo' is unexpected" },
		{ "{\"downtime-limit\":5,\"max-bandwidth\":\"x\"}",
		  "Parameter 'max-bandwidth' expects uint64" },
		{ "{\"downtime-limit\":5,\"max-bandwidth\":-1}",
		  "Parameter 'max-bandwidth' expects uint64" },
		{ "{\"downtime-limit\":2000001}", "is more than 2000000" },
		{ "{\"downtime-limit\":5,\"x-ferry-peer\":\"nobody\"}",
		  "is not one of" },
		{ "{\"postcopy-ram\":true}", "is unexpected" },
	};
	struct fixture *f = *state;
	struct json_object *o;

	launch(f);
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		refused(f, "migrate-set-parameters", bad[i].args, bad[i].part);
		o = ask(f, "query-migrate-parameters");
		assert_int_equal(ferry_json_u64(o, "downtime-limit", 0), 300);
		json_object_put(o);
	}
	ok(f, "migrate-set-parameters",
	   "{\"downtime-limit\":5,\"x-ferry-peer\":\"qemu\"}");
	o = ask(f, "query-migrate-parameters");
	assert_string_equal(ferry_json_text(o), "{\"max-bandwidth\":0,"
			    "\"downtime-limit\":5,\"x-ferry-peer\":\"qemu\"}");
	json_object_put(o);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void capabilities_have_qemus_shape(void **state)
{
	static const struct { const char *args, *part; } bad[] = {
		{ "{\"capabilities\":[{\"capability\":\"foo\",\"state\":true"
		  "}]}", "Parameter 'capability' does not accept value 'foo'" },
		{ "{\"capabilities\":[{\"capability\":\"events\",\"state\":"
		  "false}]}", "Capability 'events' cannot be switched off" },
		{ "{\"capabilities\":[{\"capability\":\"postcopy-ram\"}]}",
		  "Parameter 'capabilities[0].state' is missing" },
		{ "{\"capabilities\":[{\"state\":true}]}",
		  "Parameter 'capabilities[0].capability' is missing" },
		{ "{\"capabilities\":[5]}", "is missing" },
		{ "{\"capabilities\":[{\"capability\":\"postcopy-ram\","
		  "\"state\":1}]}", "expects boolean" },
		{ "{\"capabilities\":5}", "expected: array" },
	};
	struct fixture *f = *state;
	struct json_object *o;

	launch(f);
	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		refused(f, "migrate-set-capabilities", bad[i].args,
			bad[i].part);
	ok(f, "migrate-set-capabilities", "{\"capabilities\":[{\"capability\":"
	   "\"postcopy-ram\",\"state\":true}]}");
	o = ask(f, "query-migrate-capabilities");
	assert_string_equal(ferry_json_text(o), "[{\"state\":true,"
			    "\"capability\":\"postcopy-ram\"},{\"state\":false"
			    ",\"capability\":\"release-ram\"},{\"state\":true"
			    ",\"capability\":\"events\"},{\"state\":true,"
			    "\"capability\":\"return-path\"}]");
	json_object_put(o);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void some_parameters_change_a_running_migration(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	ok(f, "migrate-set-parameters", "{\"max-bandwidth\":1000}");
	assert_string_equal(fake.set, "max-bandwidth=1000");
	refused(f, "migrate-set-parameters", "{\"x-ferry-peer\":\"qemu\"}",
		"cannot be changed now: There's a migration process");
	refused(f, "migrate-set-capabilities", "{\"capabilities\":[]}",
		"migration process in progress");
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
	ok(f, "quit", NULL);
	ends(f, 0);
}

/* ---- source ------------------------------------------------------------------- */

static void a_migration_is_told_step_by_step(void **state)
{
	struct fixture *f = *state;
	struct json_object *o;

	launch(f);
	o = ask(f, "query-migrate");
	assert_string_equal(ferry_json_text(o), "{}");
	json_object_put(o);

	migrating(f);
	assert_string_equal(fake.uri, "tcp:h:1");
	fake_pass(1);
	event(f, "MIGRATION_PASS", "{\"pass\":1}");
	assert_int_equal(fake.ops->running(fake.ops_opaque), 1);
	assert_int_equal(engine_stop(NULL), 0);
	event(f, "STOP", "");
	status_is(f, "finish-migrate");
	assert_false(vm_runs());
	completed(f);
	event(f, "MIGRATION", STATUS("completed"));
	status_is(f, "postmigrate");

	o = ask(f, "query-migrate");
	assert_string_equal(ferry_json_str(o, "status"), "completed");
	assert_string_equal(ferry_json_str(o, "x-ferry-where"), "target");
	json_object_put(o);
	refused(f, "cont", NULL, "committed");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "not here");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_failed_switchover_resumes(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	assert_int_equal(engine_stop(NULL), 0);
	event(f, "STOP", "");
	refused(f, "cont", NULL, "stopped for the switchover");
	refused(f, "system_reset", NULL, "stopped for the switchover");
	engine_resume();
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "peer said no");
	event(f, "RESUME", "");
	event(f, "MIGRATION", STATUS("failed"));
	status_is(f, "running");
	assert_true(vm_runs());
	/* And may try again. */
	migrating(f);
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "again");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_vm_stopped_by_its_user_stays_stopped(void **state)
{
	struct fixture *f = *state;

	launch(f);
	ok(f, "stop", NULL);
	event(f, "STOP", "");
	migrating(f);
	assert_int_equal(fake.ops->running(fake.ops_opaque), 0);
	assert_int_equal(engine_stop(NULL), 0);
	engine_resume();
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
	event(f, "MIGRATION", STATUS("failed"));
	status_is(f, "paused");
	assert_false(vm_runs());
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void stop_during_a_switchover_counts_when_it_fails(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	assert_int_equal(engine_stop(NULL), 0);
	ok(f, "stop", NULL);
	engine_resume();
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
	status_is(f, "paused");
	assert_false(vm_runs());
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void one_migration_at_a_time(void **state)
{
	struct fixture *f = *state;

	launch(f);
	ok(f, "migrate", "{\"uri\":\"tcp:h:1\"}");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "in progress");
	refused(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}", "in progress");
	ok(f, "migrate-start-postcopy", NULL);
	assert_int_equal(peek(&fake.postcopies), 1);
	ok(f, "migrate_cancel", NULL);
	assert_int_equal(peek(&fake.cancels), 1);
	fake_state(FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE, "");
	event(f, "MIGRATION", STATUS("cancelled"));

	pthread_mutex_lock(&fake_lock);
	fake.start_fails = true;
	pthread_mutex_unlock(&fake_lock);
	refused(f, "migrate", "{\"uri\":\"foo\"}", "bad uri 'foo'");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\",\"resume\":true}",
		"Cannot resume");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_paused_postcopy_is_recovered_by_order(void **state)
{
	struct fixture *f = *state;

	launch(f);
	refused(f, "migrate-pause", NULL, "no migration");
	refused(f, "migrate", "{}", "'uri' is missing");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\",\"x-ferry-paths\":[1]}",
		"array of strings");
	ok(f, "migrate", "{\"uri\":\"tcp:h:1\",\"x-ferry-paths\":"
	   "[\"tcp:g:1\"]}");
	assert_string_equal(fake.path, "tcp:g:1");
	refused(f, "migrate", "{\"resume\":true}", "nothing is paused");
	fake_state(FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_SPLIT, "cut");
	event(f, "MIGRATION", STATUS("postcopy-paused"));
	ok(f, "migrate-pause", NULL);
	assert_string_equal(fake.uri, "pause");
	ok(f, "migrate", "{\"resume\":true}");
	assert_string_equal(fake.uri, "where it was");
	ok(f, "migrate", "{\"resume\":true,\"uri\":\"tcp:h:2\"}");
	assert_string_equal(fake.uri, "tcp:h:2");
	refused(f, "migrate-recover", "{\"uri\":\"tcp:h:3\"}",
		"migrate with resume");
	fake_state(FERRY_STATE_COMPLETED, FERRY_WHERE_TARGET, "");
	event(f, "MIGRATION", STATUS("completed"));
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void guest_poweroff_in_precopy_cancels_first(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	fake_shutdown();
	wait_count(&fake.cancels, 1);
	fake_state(FERRY_STATE_CANCELLING, FERRY_WHERE_SOURCE, "");
	fake_state(FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE, "");
	event(f, "MIGRATION", STATUS("cancelling"));
	event(f, "MIGRATION", STATUS("cancelled"));
	event(f, "SHUTDOWN", BY("true", "guest-shutdown"));
	ends(f, 0);
}

static void guest_poweroff_makes_the_switchover_fail(void **state)
{
	struct fixture *f = *state;
	struct ferry_err e = { 0 };

	launch(f);
	migrating(f);
	pthread_mutex_lock(&fake_lock);
	fake.committed = true;	/* as if cancel came too late */
	pthread_mutex_unlock(&fake_lock);
	fake_shutdown();
	assert_int_equal(engine_stop(&e), -1);
	assert_non_null(strstr(e.msg, "powered off"));
	engine_resume();
	assert_false(vm_runs());
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, e.msg);
	event(f, "STOP", "");
	event(f, "MIGRATION", STATUS("failed"));
	event(f, "SHUTDOWN", BY("true", "guest-shutdown"));
	ends(f, 0);
}

static void guest_reset_in_precopy_happens_and_the_migration_goes_on(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	fake_reset();
	event(f, "RESET", BY("true", "guest-reset"));
	settled(f);
	assert_true(vm_runs());
	assert_int_equal(peek(&fake.cancels), 0);
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_reset_that_meets_the_switchover_is_done_once(void **state)
{
	struct fixture *f = *state;

	launch(f);
	/* Whoever is first does it: the loop, or the switchover. */
	for (unsigned i = 1; i <= 20; i++) {
		migrating(f);
		fake_reset();
		assert_int_equal(engine_stop(NULL), 0);
		settled(f);
		assert_int_equal(peek(&fake.resets), i);
		assert_false(vm_runs());
		engine_resume();
		fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
		assert_true(vm_runs());
		ferry_qmp_client_close(f->qmp);
		f->qmp = ferry_qmp_client_open(f->path, PATIENCE_MS, NULL);
		assert_non_null(f->qmp);
	}
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void quit_in_precopy_cancels_first(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	ok(f, "quit", NULL);
	wait_at_least(&fake.cancels, 1);	/* once more does no harm */
	fake_state(FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE, "");
	event(f, "MIGRATION", STATUS("cancelled"));
	event(f, "SHUTDOWN", BY("false", "host-qmp-quit"));
	ends(f, 0);
}

static void quit_after_the_commit_is_refused(void **state)
{
	struct fixture *f = *state;

	launch(f);
	committed(f);
	refused(f, "quit", NULL, "memory may still be only here");
	refused(f, "migrate_cancel", NULL, "part of its memory");
	refused(f, "cont", NULL, "committed to the destination");
	refused(f, "stop", NULL, "given to the destination");
	refused(f, "system_reset", NULL, "given to the destination");
	completed(f);
	ok(f, "quit", NULL);
	ends(f, 0);
}

/* The engine's word, where the event that tells of it is still to come. */
static void engine_is(bool committed, enum ferry_state state)
{
	pthread_mutex_lock(&fake_lock);
	fake.committed = committed;
	fake.stats.state = state;
	pthread_mutex_unlock(&fake_lock);
}

/* It frees nothing: exit() would.  So that no tool calls it a leak. */
static void *left_to_exit[8];

static void end_by_two_signals(struct fixture *f)
{
	static size_t n;

	assert_true(n < FERRY_LEN(left_to_exit));
	left_to_exit[n++] = fake.ops_opaque;
	kill(getpid(), SIGTERM);
	settled(f);
	kill(getpid(), SIGTERM);
	event(f, "SHUTDOWN", BY("false", "host-signal"));
	ends(f, 4);
}

static void a_quit_that_comes_too_late_is_refused(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	assert_int_equal(engine_stop(NULL), 0);
	event(f, "STOP", "");
	fake_state(FERRY_STATE_DEVICE, FERRY_WHERE_SOURCE, "");
	event(f, "MIGRATION", STATUS("device"));
	engine_is(true, FERRY_STATE_DEVICE);
	refused(f, "quit", NULL, "committed to the destination");
	refused_oob(f, "quit", "committed to the destination");
	settled(f);
	/* It was refused, not kept for later: this ends nothing. */
	completed(f);
	event(f, "MIGRATION", STATUS("completed"));
	settled(f);
	status_is(f, "postmigrate");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_quit_is_taken_when_the_migration_has_just_ended(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	engine_is(true, FERRY_STATE_FAILED);
	ok(f, "quit", NULL);
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "as it happens");
	event(f, "MIGRATION", STATUS("failed"));
	event(f, "SHUTDOWN", BY("false", "host-qmp-quit"));
	ends(f, 0);
}

static void where_the_link_was_lost_nothing_is_in_progress(void **state)
{
	struct fixture *f = *state;
	static const struct {
		enum ferry_where where;
		const char *status, *says;
	} rows[] = {
		{ FERRY_WHERE_SPLIT, "postcopy-paused", "connection was lost" },
		{ FERRY_WHERE_UNDECIDED, NULL, "may run there" },
	};

	launch(f);
	committed(f);
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		fake_state(FERRY_STATE_POSTCOPY_PAUSED, rows[i].where, "cut");
		if (rows[i].status)
			event(f, "MIGRATION", STATUS("postcopy-paused"));
		refused(f, "quit", NULL, rows[i].says);
		refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}",
			rows[i].says);
		refused(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}",
			rows[i].says);
		refused(f, "migrate_cancel", NULL, rows[i].says);
		refused(f, "migrate-set-parameters",
			"{\"x-ferry-peer\":\"qemu\"}", rows[i].says);
		refused(f, "migrate-set-capabilities", "{\"capabilities\":"
			"[{\"capability\":\"postcopy-ram\","
			"\"state\":true}]}", rows[i].says);
	}
	end_by_two_signals(f);
}

/* In state \`device\`, for what a QEMU that never answers would be. */
static void two_signals_end_what_is_committed(void **state)
{
	struct fixture *f = *state;

	launch(f);
	migrating(f);
	engine_is(true, FERRY_STATE_DEVICE);
	end_by_two_signals(f);
}

static void a_signal_after_the_commit_waits_for_the_end(void **state)
{
	struct fixture *f = *state;

	launch(f);
	committed(f);
	kill(getpid(), SIGTERM);
	settled(f);
	completed(f);
	event(f, "MIGRATION", STATUS("completed"));
	event(f, "SHUTDOWN", BY("false", "host-signal"));
	ends(f, 0);
}

/* ---- target ------------------------------------------------------------------- */

static void a_target_tells_its_address(void **state)
{
	struct fixture *f = *state;
	struct json_object *o, *list = NULL;

	launch_incoming(f, "tcp:[::1]:4444");
	status_is(f, "inmigrate");
	o = ask(f, "query-migrate");
	json_object_object_get_ex(o, "socket-address", &list);
	assert_string_equal(ferry_json_text(list), "[{\"port\":\"4444\","
			    "\"ipv6\":true,\"host\":\"::1\",\"type\":\"inet\"}"
			    "]");
	assert_string_equal(ferry_json_str(o, "x-ferry-role"), "target");
	json_object_put(o);
	refused(f, "cont", NULL, "has not arrived");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "has not arrived");
	refused(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}",
		"already been started");
	ok(f, "quit", NULL);
	wait_at_least(&fake.cancels, 1);	/* once more does no harm */
	fake_state(FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE, "");
	ends(f, 0);
}

static void the_vm_arrives_as_it_left(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	event(f, "MIGRATION", STATUS("setup"));
	event(f, "MIGRATION", STATUS("active"));
	event(f, "RESUME", "");
	event(f, "MIGRATION", STATUS("postcopy-active"));
	status_is(f, "running");
	refused(f, "quit", NULL, "still at the source");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "still at the source");
	completed(f);
	event(f, "MIGRATION", STATUS("completed"));
	/* And may leave again. */
	migrating(f);
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "test");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void limit(bool limited)
{
	pthread_mutex_lock(&fake_lock);
	fake.limited = limited;
	pthread_mutex_unlock(&fake_lock);
}

static void a_vm_whose_lease_ran_out_is_not_said_to_run(void **state)
{
	struct fixture *f = *state;
	struct json_object *said;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	status_is(f, "running");
	limit(true);
	status_is(f, "paused");
	said = ask(f, "query-status");
	assert_string_equal(ferry_json_str(said, "x-ferry-why"),
			    "the lease ran out");
	json_object_put(said);
	limit(false);		/* nobody has to let it go on */
	status_is(f, "running");
	said = ask(f, "query-status");
	assert_null(ferry_json_str(said, "x-ferry-why"));
	json_object_put(said);
	completed(f);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_stopped_vm_arrives_stopped(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 0);
	status_is(f, "paused");
	assert_false(vm_runs());
	ok(f, "cont", NULL);
	status_is(f, "running");
	completed(f);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void stop_before_the_arrival_is_remembered(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	ok(f, "stop", NULL);
	arrived(f, 1);
	status_is(f, "paused");
	completed(f);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void guest_poweroff_in_postcopy_waits_for_the_memory(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	fake_shutdown();
	settled(f);
	status_is(f, "running");
	completed(f);
	ends(f, 0);
}

static void stop_in_postcopy_gives_up_on_a_page_that_does_not_come(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	fake.page_missing = true;
	refused(f, "stop", NULL, "waits for memory");
	status_is(f, "running");
	assert_true(vm_runs());
	completed(f);
	ok(f, "stop", NULL);	/* none is missing: it waits, if need be */
	status_is(f, "paused");
	ok(f, "quit", NULL);
	ends(f, 0);
}

/* In a folder of its own; freed by the caller. */
static char *half_path(void)
{
	char dir[] = "/tmp/ferry-half-XXXXXX";
	char *path;

	assert_non_null(mkdtemp(dir));
	assert_true(asprintf(&path, "%s/half", dir) > 0);
	return path;
}

static void remove_half(char *path)
{
	unlink(path);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
	free(path);
}

static char *to_file(const char *path)
{
	static char args[128];

	snprintf(args, sizeof(args), "{\"filename\":\"%s\"}", path);
	return args;
}

static void a_half_is_dumped_although_a_vcpu_waits_for_a_page(void **state)
{
	struct fixture *f = *state;
	char *path = half_path();

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	refused(f, "x-ferry-rescue", to_file(path), "lost its link");
	fake_state(FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_SPLIT, "cut");
	refused(f, "quit", NULL, "connection to the source was lost");
	refused(f, "x-ferry-rescue", to_file("here"), "no absolute path");
	fake.page_missing = true;
	ok(f, "x-ferry-rescue", to_file(path));
	assert_true(fake.abandoned);
	assert_int_equal(fake.rescue_ran, 1);
	assert_int_equal(access(path, F_OK), 0);
	assert_false(vm_runs());
	refused(f, "cont", NULL, "half was dumped");
	refused(f, "x-ferry-rescue", to_file(path), "File exists");
	unlink(path);	/* once more: it does not run now, but did */
	ok(f, "x-ferry-rescue", to_file(path));
	assert_int_equal(fake.rescue_ran, 1);
	remove_half(path);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_half_that_cannot_be_dumped_leaves_no_file(void **state)
{
	struct fixture *f = *state;
	char *path = half_path();

	launch(f);
	refused(f, "x-ferry-rescue", to_file(path), "lost its link");
	committed(f);
	fake_state(FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_SPLIT, "cut");
	fake.rescue_refused = true;
	refused(f, "x-ferry-rescue", to_file(path), "no half today");
	assert_int_equal(access(path, F_OK), -1);
	refused(f, "quit", NULL, "connection was lost");
	fake.rescue_refused = false;
	ok(f, "x-ferry-rescue", to_file(path));
	assert_false(fake.abandoned);
	remove_half(path);
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void a_second_signal_in_postcopy_is_obeyed_at_once(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	arrived(f, 1);
	event(f, "MIGRATION", STATUS("setup"));
	event(f, "MIGRATION", STATUS("active"));
	event(f, "RESUME", "");
	event(f, "MIGRATION", STATUS("postcopy-active"));
	end_by_two_signals(f);
}

static void a_target_that_is_told_to_quit_ends_with_0(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	fake_state(FERRY_STATE_SETUP, FERRY_WHERE_SOURCE, "");
	ok(f, "quit", NULL);
	wait_at_least(&fake.cancels, 1);
	fake_state(FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE, "");
	ends(f, 0);
}

static void a_target_that_has_the_vm_refuses_to_quit(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	fake_state(FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE, "");
	engine_is(true, FERRY_STATE_ACTIVE);
	refused(f, "quit", NULL, "committed to the destination");
	arrived(f, 1);
	completed(f);
	settled(f);
	status_is(f, "running");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void an_incoming_that_fails_ends_with_1(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "tcp:h:1");
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "RAM differs");
	ends(f, 1);
}

static void a_deferred_incoming_may_be_tried_again(void **state)
{
	struct fixture *f = *state;

	launch_incoming(f, "defer");
	status_is(f, "inmigrate");
	refused(f, "migrate", "{\"uri\":\"tcp:h:1\"}", "not here");
	ok(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}");
	fake_state(FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, "RAM differs");
	settled(f);
	ok(f, "migrate-incoming", "{\"uri\":\"tcp:h:2\"}");
	arrived(f, 1);
	completed(f);
	status_is(f, "running");
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void the_vm_may_come_back(void **state)
{
	struct fixture *f = *state;

	launch(f);
	for (int i = 0; i < 3; i++) {
		ok(f, "migrate", "{\"uri\":\"tcp:h:1\"}");
		fake_state(FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE, "");
		assert_int_equal(engine_stop(NULL), 0);
		completed(f);
		status_is(f, "postmigrate");
		ok(f, "migrate-incoming", "{\"uri\":\"tcp:h:1\"}");
		status_is(f, "inmigrate");
		arrived(f, 1);
		completed(f);
		status_is(f, "running");
	}
	ok(f, "quit", NULL);
	ends(f, 0);
}

static void bad_config_is_a_sentence(void **state)
{
	static const char *const params[] = { "downtime-limit" };
	struct fixture *f = *state;

	f->config.params = params;
	f->config.n_params = 1;
	run(f);
	assert_int_equal(f->rc, -1);
	assert_non_null(strstr(f->e.msg, "name=value"));
	f->config.n_params = 0;
	f->config.qmp_path = "/nonexistent/dir/x";
	run(f);
	assert_int_equal(f->rc, -1);
	assert_non_null(strstr(f->e.msg, "/nonexistent/dir/x"));
}

#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(stop_and_cont_have_their_events),
		T(a_paused_vm_waits_for_cont),
		T(guest_poweroff_ends_the_process),
		T(with_no_shutdown_a_vm_that_is_off_can_be_reset),
		T(guest_reset_runs_on),
		T(guest_reset_without_a_kernel_ends_the_process_with_1),
		T(a_vcpu_that_fails_ends_the_process_with_1),
		T(a_signal_ends_the_process),
		T(there_is_no_power_button),
		T(parameters_are_taken_whole_or_not_at_all),
		T(capabilities_have_qemus_shape),
		T(some_parameters_change_a_running_migration),
		T(a_migration_is_told_step_by_step),
		T(a_failed_switchover_resumes),
		T(a_vm_stopped_by_its_user_stays_stopped),
		T(stop_during_a_switchover_counts_when_it_fails),
		T(one_migration_at_a_time),
		T(a_paused_postcopy_is_recovered_by_order),
		T(guest_poweroff_in_precopy_cancels_first),
		T(guest_poweroff_makes_the_switchover_fail),
		T(guest_reset_in_precopy_happens_and_the_migration_goes_on),
		T(a_reset_that_meets_the_switchover_is_done_once),
		T(quit_in_precopy_cancels_first),
		T(quit_after_the_commit_is_refused),
		T(a_quit_that_comes_too_late_is_refused),
		T(a_quit_is_taken_when_the_migration_has_just_ended),
		T(where_the_link_was_lost_nothing_is_in_progress),
		T(two_signals_end_what_is_committed),
		T(a_signal_after_the_commit_waits_for_the_end),
		T(a_target_tells_its_address),
		T(the_vm_arrives_as_it_left),
		T(a_vm_whose_lease_ran_out_is_not_said_to_run),
		T(a_stopped_vm_arrives_stopped),
		T(stop_before_the_arrival_is_remembered),
		T(guest_poweroff_in_postcopy_waits_for_the_memory),
		T(a_target_that_is_told_to_quit_ends_with_0),
		T(a_target_that_has_the_vm_refuses_to_quit),
		T(an_incoming_that_fails_ends_with_1),
		T(a_deferred_incoming_may_be_tried_again),
		T(the_vm_may_come_back),
		T(bad_config_is_a_sentence),
		/* Leaves its VM behind: last. */
		T(stop_in_postcopy_gives_up_on_a_page_that_does_not_come),
		T(a_half_is_dumped_although_a_vcpu_waits_for_a_page),
		T(a_half_that_cannot_be_dumped_leaves_no_file),
		T(a_second_signal_in_postcopy_is_obeyed_at_once),
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
