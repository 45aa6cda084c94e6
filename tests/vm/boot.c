/* SPDX-License-Identifier: MIT */
/*
 * vmm-boot: run a kernel in a machine, without QMP or migration, for tests
 * that need a guest to boot and nothing more.
 *
 *	vmm-boot KERNEL [key=value]...
 *
 * Keys: cmdline, initrd, serial (stdio), ram (MiB, 256), vcpus (1), mask,
 * hugepages (0), seconds (60), resets (how many to carry out, 0), moves (0): so
 * often, each `every` ms (1000), the machine's state is saved, loaded into a
 * new machine and the first one freed.
 *
 * Exit: 0 power-off, 1 could not start, 2 a vCPU gave up, 3 reset, 4 time out.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/thread.h"
#include "fake_ferry.h"
#include "vmm/machine.h"

enum outcome { POWER_OFF, FAILED, PANICKED, RESET, TIMED_OUT, NOTHING };

struct run {
	pthread_mutex_t	 lock;
	pthread_cond_t	 told;
	enum outcome	 outcome;
};

static void tell(struct run *r, enum outcome outcome)
{
	pthread_mutex_lock(&r->lock);
	r->outcome = outcome;
	pthread_cond_signal(&r->told);
	pthread_mutex_unlock(&r->lock);
}

static void on_shutdown(void *opaque)
{
	tell(opaque, POWER_OFF);
}

static void on_reset(void *opaque)
{
	tell(opaque, RESET);
}

static void on_panic(void *opaque, const char *text)
{
	fprintf(stderr, "vmm-boot: %s\n", text);
	tell(opaque, PANICKED);
}

static enum outcome wait_until(struct run *r, uint64_t end_ns)
{
	enum outcome outcome;

	pthread_mutex_lock(&r->lock);
	while (r->outcome == NOTHING && ferry_now_ns() < end_ns)
		ferry_cond_wait_until(&r->told, &r->lock, end_ns);
	outcome = r->outcome;
	r->outcome = NOTHING;
	pthread_mutex_unlock(&r->lock);
	return outcome;
}

static const char *value(char **args, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	for (; *args; args++)
		if (!strncmp(*args, key, n) && (*args)[n] == '=')
			return *args + n + 1;
	return otherwise;
}

static unsigned number(char **args, const char *key, const char *otherwise)
{
	return (unsigned)strtoul(value(args, key, otherwise), NULL, 10);
}

static int fail(const struct ferry_err *e)
{
	fprintf(stderr, "vmm-boot: %s\n", e->msg);
	return FAILED;
}

/* Into a machine of the same config; the old one is freed. */
static int move(struct ferry_machine **m, const struct ferry_machine_config *c,
		struct ferry_err *e)
{
	struct ferry_vm *from = fake_vm_new(), *to = fake_vm_new();
	struct ferry_machine *next = ferry_machine_new(c, e);
	int err = -1;

	if (next) {
		ferry_machine_pause(*m);
		err = ferry_machine_describe(*m, from, e) ||
		      ferry_machine_describe(next, to, e) ||
		      fake_migrate(from, to, e) ||
		      ferry_machine_run(next, e);
		ferry_machine_free(*m);
		*m = next;
	}
	fake_vm_free(from);
	fake_vm_free(to);
	return err ? -1 : 0;
}

static int run(struct ferry_machine **m, const struct ferry_machine_config *c,
	       struct run *r, char **args)
{
	uint64_t every = number(args, "every", "1000") * FERRY_NS_PER_MS;
	uint64_t end = ferry_now_ns() +
		       number(args, "seconds", "60") * FERRY_NS_PER_S;
	unsigned resets = number(args, "resets", "0");
	unsigned moves = number(args, "moves", "0");
	struct ferry_err e;

	if (ferry_machine_run(*m, &e))
		return fail(&e);
	for (;;) {
		uint64_t until = moves ? ferry_now_ns() + every : end;
		enum outcome outcome = wait_until(r, until);

		if (outcome == NOTHING && moves) {
			moves--;
			if (move(m, c, &e))
				return fail(&e);
		} else if (outcome == RESET && resets) {
			resets--;
			ferry_machine_pause(*m);
			if (ferry_machine_reset(*m, &e) ||
			    ferry_machine_run(*m, &e))
				return fail(&e);
		} else {
			return outcome == NOTHING ? TIMED_OUT : (int)outcome;
		}
	}
}

int main(int argc, char **argv)
{
	char **args = argv + 1;
	struct run r = { .outcome = NOTHING };
	struct ferry_machine_config config = {
		.name = "vmm-boot",
		.on_shutdown = on_shutdown,
		.on_reset = on_reset,
		.on_panic = on_panic,
		.opaque = &r,
	};
	struct ferry_machine *m;
	struct ferry_err e;
	int outcome;

	if (argc < 2) {
		fprintf(stderr, "usage: vmm-boot KERNEL [key=value]...\n");
		return FAILED;
	}
	pthread_mutex_init(&r.lock, NULL);
	ferry_cond_init(&r.told);
	config.kernel = argv[1];
	config.cmdline = value(args, "cmdline", NULL);
	config.initrd = value(args, "initrd", NULL);
	config.serial = value(args, "serial", "stdio");
	config.cpu_mask = value(args, "mask", NULL);
	if (number(args, "hugepages", "0"))
		config.ram_kind = FERRY_RAM_HUGE;
	config.vcpus = number(args, "vcpus", "1");
	config.ram_bytes = (uint64_t)number(args, "ram", "256") << 20;
	m = ferry_machine_new(&config, &e);
	if (!m)
		return fail(&e);
	outcome = run(&m, &config, &r, args);
	ferry_machine_free(m);
	return outcome;
}
