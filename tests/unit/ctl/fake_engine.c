/* SPDX-License-Identifier: MIT */
/* An engine whose every step is a test's. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/bulk.h>

#include "base/err.h"

struct ferry_vm { struct ferry_vm_ops ops; };
struct ferry_source { int unused; };
struct ferry_target { int unused; };
struct ferry_params { uint64_t v[5]; };

/* ---- parameters ------------------------------------------------------------- */

static const char *const peers[] = { "ferry", "qemu", NULL };

#define SIZE	sizeof(struct ferry_param_info)

static const struct ferry_param_info rows[] = {
	{ SIZE, FERRY_PARAM_BOOL, "postcopy-ram", "", NULL, 0, 0, 1, 1, 0,
	  "" },
	{ SIZE, FERRY_PARAM_BOOL, "release-ram", "", NULL, 0, 0, 1, 1, 0,
	  "" },
	{ SIZE, FERRY_PARAM_UINT, "max-bandwidth", "bytes/s", NULL, 0, 0,
	  1000000000, 0, 1, "" },
	{ SIZE, FERRY_PARAM_UINT, "downtime-limit", "ms", NULL, 300, 0,
	  2000000, 0, 1, "" },
	{ SIZE, FERRY_PARAM_CHOICE, "x-ferry-peer", "", peers, 0, 0, 1, 0, 0,
	  "" },
};

const struct ferry_param_info *ferry_param_info(size_t i)
{
	return i < 5 ? &rows[i] : NULL;
}

struct ferry_params *ferry_params_new(void)
{
	struct ferry_params *p = calloc(1, sizeof(*p));

	for (size_t i = 0; i < 5; i++)
		p->v[i] = rows[i].def;
	return p;
}

void ferry_params_free(struct ferry_params *p)
{
	free(p);
}

static int row_of(const char *name, struct ferry_err *e)
{
	for (int i = 0; i < 5; i++) {
		if (!strcmp(rows[i].name, name))
			return i;
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "no parameter '%s'", name);
}

int ferry_params_set_uint(struct ferry_params *p, const char *name,
			  uint64_t value, struct ferry_err *e)
{
	int i = row_of(name, e);

	if (i < 0)
		return -1;
	if (value > rows[i].max)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: %llu is more "
				     "than %llu", name,
				     (unsigned long long)value,
				     (unsigned long long)rows[i].max);
	p->v[i] = value;
	return 0;
}

int ferry_params_set(struct ferry_params *p, const char *name,
		     const char *value, struct ferry_err *e)
{
	uint64_t v = strtoull(value, NULL, 10);

	if (!strcmp(value, "on") || !strcmp(value, "true") ||
	    !strcmp(value, "qemu"))
		v = 1;
	else if (!strcmp(value, "nobody"))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "x-ferry-peer: "
				     "'nobody' is not one of: ferry, qemu");
	return ferry_params_set_uint(p, name, v, e);
}

int ferry_params_get(const struct ferry_params *p, const char *name,
		     uint64_t *value, struct ferry_err *e)
{
	int i = row_of(name, e);

	if (i < 0)
		return -1;
	*value = p->v[i];
	return 0;
}

int ferry_params_get_text(const struct ferry_params *p, const char *name,
			  char *buf, size_t bytes, struct ferry_err *e)
{
	int i = row_of(name, e);

	if (i < 0)
		return -1;
	snprintf(buf, bytes, "%llu", (unsigned long long)p->v[i]);
	return 0;
}

/* ---- names ------------------------------------------------------------------ */

const char *ferry_state_name(enum ferry_state state)
{
	static const char *const names[] = {
		"none", "setup", "active", "pre-switchover", "device",
		"postcopy-active", "postcopy-paused", "postcopy-recover-setup",
		"postcopy-recover", "completed", "failed", "cancelling",
		"cancelled",
	};

	return names[state];
}

const char *ferry_where_name(enum ferry_where where)
{
	static const char *const names[] = { "source", "undecided", "split",
					     "target" };

	return names[where];
}

const char *ferry_rollback_name(enum ferry_rollback rollback)
{
	(void)rollback;
	return "no";
}

const char *ferry_safe_name(unsigned safe)
{
	static const char *const names[] = { "none", "source", "target",
					     "both" };

	return names[safe];
}

uint64_t ferry_hist_percentile_ns(const uint64_t hist[FERRY_HIST_BUCKETS],
				  double p)
{
	(void)hist;
	return (uint64_t)(p * 1000);
}

/* ---- VM, source, target ----------------------------------------------------- */

struct ferry_vm *ferry_vm_new(const char *name, const struct ferry_vm_ops *ops,
			      void *opaque, struct ferry_err *e)
{
	struct ferry_vm *vm = calloc(1, sizeof(*vm));

	(void)name, (void)e;
	vm->ops = *ops;
	pthread_mutex_lock(&fake_lock);
	fake.ops = &vm->ops;
	fake.ops_opaque = opaque;
	pthread_mutex_unlock(&fake_lock);
	return vm;
}

void ferry_vm_free(struct ferry_vm *vm)
{
	free(vm);
}

static void adopt(const struct ferry_callbacks *cb, bool source)
{
	pthread_mutex_lock(&fake_lock);
	if (fake.source || fake.target)
		abort();	/* one at a time */
	fake.cb = *cb;
	fake.source = source;
	fake.target = !source;
	fake.committed = false;
	fake.stats = (struct ferry_stats){ .state = FERRY_STATE_SETUP };
	pthread_mutex_unlock(&fake_lock);
}

static int refuse(struct ferry_err *e)
{
	bool committed;

	pthread_mutex_lock(&fake_lock);
	committed = fake.committed;
	pthread_mutex_unlock(&fake_lock);
	if (committed)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "the VM is committed to the destination");
	return 0;
}

static int begin(const char *uri, struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&fake_lock);
	snprintf(fake.uri, sizeof(fake.uri), "%s", uri);
	if (fake.start_fails)
		rc = ferry_err_set(e, FERRY_E_INVALID, 0, "bad uri '%s'", uri);
	pthread_mutex_unlock(&fake_lock);
	return rc;
}

static int cancel(struct ferry_err *e)
{
	if (refuse(e))
		return -1;
	pthread_mutex_lock(&fake_lock);
	fake.cancels++;
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;

static void forget(void *p)
{
	pthread_mutex_lock(&events_lock);	/* a callback is under way */
	pthread_mutex_unlock(&events_lock);
	pthread_mutex_lock(&fake_lock);
	fake.source = fake.target = false;
	pthread_mutex_unlock(&fake_lock);
	free(p);
}

static void stats(struct ferry_stats *out)
{
	pthread_mutex_lock(&fake_lock);
	*out = fake.stats;
	pthread_mutex_unlock(&fake_lock);
}

struct ferry_source *ferry_source_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e)
{
	(void)vm, (void)params, (void)e;
	adopt(cb, true);
	return calloc(1, sizeof(struct ferry_source));
}

int ferry_source_start(struct ferry_source *s, const char *uri,
		       struct ferry_err *e)
{
	(void)s;
	return begin(uri, e);
}

int ferry_source_start_postcopy(struct ferry_source *s, struct ferry_err *e)
{
	(void)s, (void)e;
	pthread_mutex_lock(&fake_lock);
	fake.postcopies++;
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

int ferry_source_cancel(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	return cancel(e);
}

int ferry_source_add_path(struct ferry_source *s, const char *uri,
			  struct ferry_err *e)
{
	(void)s, (void)e;
	pthread_mutex_lock(&fake_lock);
	snprintf(fake.path, sizeof(fake.path), "%s", uri);
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

static int recover(const char *uri, struct ferry_err *e)
{
	enum ferry_state state;

	pthread_mutex_lock(&fake_lock);
	state = fake.stats.state;
	snprintf(fake.uri, sizeof(fake.uri), "%s", uri ? uri : "where it was");
	pthread_mutex_unlock(&fake_lock);
	return state == FERRY_STATE_POSTCOPY_PAUSED ? 0 :
	       ferry_err_set(e, FERRY_E_STATE, 0, "nothing is paused");
}

int ferry_source_pause(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	return recover("pause", e);
}

int ferry_source_recover(struct ferry_source *s, const char *uri,
			 struct ferry_err *e)
{
	(void)s;
	return recover(uri, e);
}

static int rescue(int fd, struct ferry_err *e)
{
	bool refuses;

	pthread_mutex_lock(&fake_lock);
	refuses = fake.rescue_refused;
	pthread_mutex_unlock(&fake_lock);
	if (refuses)
		return ferry_err_set(e, FERRY_E_STATE, 0, "no half today");
	return write(fd, "half", 4) == 4 ? 0 : -1;
}

int ferry_source_rollback(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	return recover("rollback", e);
}

int ferry_source_rescue(struct ferry_source *s, int fd, struct ferry_err *e)
{
	(void)s;
	return rescue(fd, e);
}

int ferry_target_rescue(struct ferry_target *t, int running, int fd,
			struct ferry_err *e)
{
	(void)t;
	pthread_mutex_lock(&fake_lock);
	fake.rescue_ran = running;
	pthread_mutex_unlock(&fake_lock);
	return rescue(fd, e);
}

int ferry_target_abandon(struct ferry_target *t, struct ferry_err *e)
{
	(void)t, (void)e;
	pthread_mutex_lock(&fake_lock);
	fake.abandoned = true;
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

int ferry_target_pause(struct ferry_target *t, struct ferry_err *e)
{
	(void)t;
	return recover("pause", e);
}

int ferry_target_recover(struct ferry_target *t, const char *uri,
			 struct ferry_err *e)
{
	(void)t;
	return recover(uri, e);
}

int ferry_source_set(struct ferry_source *s, const char *name,
		     const char *value, struct ferry_err *e)
{
	(void)s, (void)e;
	pthread_mutex_lock(&fake_lock);
	snprintf(fake.set, sizeof(fake.set), "%s=%s", name, value);
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

int ferry_source_may_run(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	return refuse(e);
}

void ferry_source_stats(struct ferry_source *s, struct ferry_stats *out)
{
	(void)s;
	stats(out);
}

void ferry_source_free(struct ferry_source *s)
{
	forget(s);
}

struct ferry_target *ferry_target_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e)
{
	(void)vm, (void)params, (void)e;
	adopt(cb, false);
	return calloc(1, sizeof(struct ferry_target));
}

int ferry_target_listen(struct ferry_target *t, const char *uri,
			struct ferry_err *e)
{
	(void)t;
	return begin(uri, e);
}

int ferry_target_uri(struct ferry_target *t, char *buf, size_t bytes,
		     struct ferry_err *e)
{
	(void)t, (void)e;
	snprintf(buf, bytes, "%s", fake.uri);
	return 0;
}

int ferry_target_cancel(struct ferry_target *t, struct ferry_err *e)
{
	(void)t;
	return cancel(e);
}

int ferry_target_may_run(struct ferry_target *t, struct ferry_err *e)
{
	(void)t, (void)e;
	return 0;
}

int ferry_source_channel(struct ferry_source *s, unsigned i,
			 struct ferry_channel_stats *out)
{
	(void)s;
	(void)i;
	(void)out;
	return -1;
}

int ferry_target_channel(struct ferry_target *t, unsigned i,
			 struct ferry_channel_stats *out)
{
	(void)t;
	(void)i;
	(void)out;
	return -1;
}

void ferry_target_stats(struct ferry_target *t, struct ferry_stats *out)
{
	(void)t;
	stats(out);
}

void ferry_target_free(struct ferry_target *t)
{
	forget(t);
}

/* ---- the engine's thread ----------------------------------------------------- */

/* As the real engine: freeing waits for a callback that is under way. */
static void tell(const struct ferry_event *ev)
{
	pthread_mutex_lock(&events_lock);
	fake.cb.event(fake.cb.opaque, ev);
	pthread_mutex_unlock(&events_lock);
}

void fake_state(enum ferry_state state, enum ferry_where where,
		const char *text)
{
	struct ferry_event ev = {
		.size = sizeof(ev), .type = FERRY_EVENT_STATE, .state = state,
		.where = where, .text = text,
	};

	pthread_mutex_lock(&fake_lock);
	fake.stats.state = state;
	fake.stats.where = where;
	fake.committed = where != FERRY_WHERE_SOURCE;
	snprintf(fake.stats.error, sizeof(fake.stats.error), "%s", text);
	pthread_mutex_unlock(&fake_lock);
	tell(&ev);
}

void fake_pass(unsigned pass)
{
	struct ferry_event ev = {
		.size = sizeof(ev), .type = FERRY_EVENT_PASS, .pass = pass,
		.text = "",
	};

	tell(&ev);
}

/* ---- bulk devices: there are none ------------------------------------------ */

int ferry_source_bulk(struct ferry_source *s, unsigned index,
		      struct ferry_bulk_stats *out)
{
	(void)s, (void)index, (void)out;
	return -1;
}

int ferry_target_bulk(struct ferry_target *t, unsigned index,
		      struct ferry_bulk_stats *out)
{
	(void)t, (void)index, (void)out;
	return -1;
}

const char *ferry_bulk_state_name(enum ferry_bulk_state state)
{
	(void)state;
	return "none";
}
