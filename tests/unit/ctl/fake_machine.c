/* SPDX-License-Identifier: MIT */
/* A machine that only counts what it is told. */
#include "fake.h"

#include <stdlib.h>

#include "vmm/bulk_state.h"
#include "vmm/vhost_device.h"

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

void ferry_machine_run_until(struct ferry_machine *m, uint64_t boot_ns)
{
	(void)m;
	fake.run_until = boot_ns;
}

bool ferry_machine_is_limited(struct ferry_machine *m)
{
	bool limited;

	(void)m;
	pthread_mutex_lock(&fake_lock);
	limited = fake.limited;
	pthread_mutex_unlock(&fake_lock);
	return limited;
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

/* ---- the guest ---------------------------------------------------------- */

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

int ferry_machine_check_paused(struct ferry_machine *m, struct ferry_err *e)
{
	(void)m, (void)e;
	return 0;
}

/* None are asked for. */
struct ferry_vhost_devices *
ferry_vhost_devices_new(const struct ferry_vhost_words *w, size_t n,
			void (*say)(void *opaque, const char *text),
			void *opaque, struct ferry_err *e)
{
	(void)w, (void)n, (void)say, (void)opaque, (void)e;
	abort();
}

void ferry_vhost_devices_free(struct ferry_vhost_devices *d)
{
	(void)d;
}

unsigned
ferry_vhost_devices_list(struct ferry_vhost_devices *d,
			 const struct ferry_virtio_device
				*list[FERRY_VIRTIO_DEVICES_MAX])
{
	(void)d, (void)list;
	return 0;
}

void ferry_vhost_devices_attach(struct ferry_vhost_devices *d,
				struct ferry_machine *m)
{
	(void)d, (void)m;
}

int ferry_vhost_devices_describe(struct ferry_vhost_devices *d,
				 struct ferry_vm *vm, struct ferry_err *e)
{
	(void)d, (void)vm, (void)e;
	return 0;
}

int ferry_vhost_devices_arriving(struct ferry_vhost_devices *d,
				 struct ferry_err *e)
{
	(void)d, (void)e;
	return 0;
}

int ferry_vhost_devices_check_rollback(const struct ferry_vhost_devices *d,
				       struct ferry_err *e)
{
	(void)d, (void)e;
	return 0;
}

void ferry_vhost_devices_announce(struct ferry_vhost_devices *d)
{
	(void)d;
}

struct ferry_bulk_states *
ferry_bulk_states_new(const char *const *words, size_t n, bool empty,
		      struct ferry_err *e)
{
	(void)words, (void)n, (void)empty, (void)e;
	abort();
}

void ferry_bulk_states_free(struct ferry_bulk_states *s)
{
	(void)s;
}

int ferry_bulk_states_describe(struct ferry_bulk_states *s,
			       struct ferry_vm *vm, struct ferry_err *e)
{
	(void)s, (void)vm, (void)e;
	return 0;
}

void ferry_bulk_states_run(struct ferry_bulk_states *s, bool runs)
{
	(void)s, (void)runs;
}
