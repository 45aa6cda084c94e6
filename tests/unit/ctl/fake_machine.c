/* SPDX-License-Identifier: MIT */
/* A machine that only counts what it is told. */
#include "fake.h"

#include <stdlib.h>

struct fake fake;
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t vcpu_lock = PTHREAD_MUTEX_INITIALIZER;

struct ferry_machine {
	int	unused;
};

struct ferry_machine *
ferry_machine_new(const struct ferry_machine_config *config,
		  struct ferry_err *e)
{
	(void)e;
	pthread_mutex_lock(&fake_lock);
	fake.config = *config;
	fake.made = true;
	pthread_mutex_unlock(&fake_lock);
	return calloc(1, sizeof(struct ferry_machine));
}

void ferry_machine_free(struct ferry_machine *m)
{
	pthread_mutex_lock(&vcpu_lock);		/* a callback is under way */
	pthread_mutex_unlock(&vcpu_lock);
	free(m);
}

int ferry_machine_describe(struct ferry_machine *m, struct ferry_vm *vm,
			   struct ferry_err *e)
{
	(void)m, (void)vm, (void)e;
	return 0;
}

void ferry_machine_set_vm(struct ferry_machine *m, struct ferry_vm *vm)
{
	(void)m, (void)vm;
}

int ferry_machine_run(struct ferry_machine *m, struct ferry_err *e)
{
	(void)m, (void)e;
	pthread_mutex_lock(&fake_lock);
	fake.running = true;
	fake.runs++;
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

void ferry_machine_pause(struct ferry_machine *m)
{
	(void)m;
	pthread_mutex_lock(&fake_lock);
	fake.running = false;
	fake.pauses++;
	pthread_mutex_unlock(&fake_lock);
}

/* Who would wait for ever has lost already. */
bool ferry_machine_pause_until(struct ferry_machine *m, uint64_t until_ns)
{
	if (fake.page_missing && until_ns != UINT64_MAX)
		return false;
	ferry_machine_pause(m);
	return true;
}

bool ferry_machine_running(struct ferry_machine *m)
{
	(void)m;
	return fake.running;
}

void ferry_machine_throttle(struct ferry_machine *m, unsigned percent)
{
	(void)m;
	fake.throttle = percent;
}

int ferry_machine_reset(struct ferry_machine *m, struct ferry_err *e)
{
	int rc = 0;

	(void)m;
	pthread_mutex_lock(&fake_lock);
	if (fake.running)
		abort();	/* a reset is for a machine that stands */
	if (fake.cannot_reset)
		rc = ferry_err_set(e, FERRY_E_STATE, 0, "no kernel");
	else
		fake.resets++;
	pthread_mutex_unlock(&fake_lock);
	return rc;
}

void ferry_machine_heartbeat(struct ferry_machine *m,
			     struct ferry_heartbeat *out)
{
	(void)m;
	*out = (struct ferry_heartbeat){ 3, 2000, 95, 99 };
}

/* ---- the guest --------------------------------------------------------------- */

void fake_shutdown(void)
{
	pthread_mutex_lock(&vcpu_lock);
	fake.config.on_shutdown(fake.config.opaque);
	pthread_mutex_unlock(&vcpu_lock);
}

void fake_reset(void)
{
	pthread_mutex_lock(&vcpu_lock);
	fake.config.on_reset(fake.config.opaque);
	pthread_mutex_unlock(&vcpu_lock);
}

void fake_panic(const char *text)
{
	pthread_mutex_lock(&vcpu_lock);
	fake.config.on_panic(fake.config.opaque, text);
	pthread_mutex_unlock(&vcpu_lock);
}
