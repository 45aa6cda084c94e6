/* SPDX-License-Identifier: MIT */
/*
 * In the Linux guest: clocks and timers, told on the console.
 *
 *	TICK n monotonic_ns boottime_ns realtime_ns naps back
 *
 * every 200 ms by a timer.  n counts lines; naps counts short sleeps of one
 * thread per CPU, which all read the clock under one lock; back counts how
 * often it was behind what another CPU, or the same one, had read before.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX	16
#define TICK_NS		200000000
#define READS		250	/* of the clock, between two naps */

static const struct timespec nap = { .tv_nsec = 100000000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t latest_ns;
static atomic_ulong naps, back;

static uint64_t read_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void look(void)
{
	uint64_t now;

	pthread_mutex_lock(&lock);
	now = read_ns(CLOCK_MONOTONIC);
	if (now < latest_ns)
		atomic_fetch_add(&back, 1);
	latest_ns = now;
	pthread_mutex_unlock(&lock);
}

static void *watch(void *arg)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET((uintptr_t)arg, &here);
	sched_setaffinity(0, sizeof(here), &here);
	while (!nanosleep(&nap, NULL)) {
		atomic_fetch_add(&naps, 1);
		for (unsigned i = 0; i < READS; i++)
			look();
	}
	return NULL;
}

int main(void)
{
	struct itimerspec every = {
		.it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS,
	};
	uintptr_t cpus = (uintptr_t)sysconf(_SC_NPROCESSORS_ONLN);
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);
	pthread_t thread;
	uint64_t fired;

	for (uintptr_t i = 0; i < cpus && i < CPUS_MAX; i++)
		if (pthread_create(&thread, NULL, watch, (void *)i))
			return 1;
	if (timerfd_settime(timer, 0, &every, NULL))
		return 1;
	for (unsigned long n = 0;; n++) {
		if (read(timer, &fired, sizeof(fired)) != sizeof(fired))
			return 1;
		dprintf(STDOUT_FILENO, "TICK %lu %ju %ju %ju %lu %lu\n", n,
			(uintmax_t)read_ns(CLOCK_MONOTONIC),
			(uintmax_t)read_ns(CLOCK_BOOTTIME),
			(uintmax_t)read_ns(CLOCK_REALTIME),
			atomic_load(&naps), atomic_load(&back));
	}
}
