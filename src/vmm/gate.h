/* SPDX-License-Identifier: MIT */
/*
 * The gate that every vCPU passes before it runs guest code.
 *
 * Closing it drives all vCPUs out of KVM_RUN and waits for them; what they had
 * begun (an I/O exit to complete) is finished by then.  A throttled VM is held
 * at the gate for part of the time.
 *
 * A VM with a lease may run until some moment (limit).  Nothing waits for the
 * vCPUs then: one may be waiting for a page.  Each has a timer that kicks it at
 * that moment, and looks at the clock on its way in, so that none runs the guest
 * behind it: not when a page comes then, and not when the process or its host
 * was stopped, and goes on.
 *
 * Threads: enter and sit_out are the vCPU's own; the others anyone's.
 * Kick:    immediate_exit is set and the signal sent under the gate's lock,
 *          and a vCPU clears immediate_exit under it on its way in: no kick
 *          falls between looking and running.  The timer's kick sets it in the
 *          signal's handler, on the vCPU's own thread.
 */
#ifndef FERRY_VMM_GATE_H
#define FERRY_VMM_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "vmm/machine.h"

/* One vCPU's place; its owner fills immediate_exit before the first enter. */
struct ferry_seat {
	pthread_t	 thread;
	uint8_t		*immediate_exit;	/* in struct kvm_run */
	bool		 inside;		/* may be in KVM_RUN */
	bool		 sits_out;		/* until the next opening */
	bool		 timed;			/* there is a timer */
	timer_t		 timer;			/* of CLOCK_BOOTTIME */
};

struct ferry_gate {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 open;
	bool		 quit;
	unsigned	 inside;
	unsigned	 seats;
	struct ferry_seat *seat[FERRY_VMM_VCPUS_MAX];
	uint64_t	 hold_until_ns;
	uint64_t	 limit_ns;	/* CLOCK_BOOTTIME; UINT64_MAX: none */
};

/* Installs the signal that kicks: SIGRTMIN. */
void ferry_gate_init(struct ferry_gate *g);
void ferry_gate_fini(struct ferry_gate *g);

/* Before its thread starts. */
void ferry_gate_seat(struct ferry_gate *g, struct ferry_seat *s);

void ferry_gate_open(struct ferry_gate *g);

/* On return no vCPU is inside; or, from the second, false: that moment came
 * first, and the gate is open as before. */
void ferry_gate_close(struct ferry_gate *g);
bool ferry_gate_close_until(struct ferry_gate *g, uint64_t until_ns);
bool ferry_gate_is_open(struct ferry_gate *g);

/* Nobody runs before this moment; 0 lets them go at once.  Does not wait. */
void ferry_gate_hold(struct ferry_gate *g, uint64_t until_ns);

/* Nobody runs behind this moment of CLOCK_BOOTTIME, until it is moved.  Does
 * not wait. */
void ferry_gate_limit(struct ferry_gate *g, uint64_t boot_ns);
bool ferry_gate_is_limited(struct ferry_gate *g);	/* it is past */

/* Every enter returns false from now on. */
void ferry_gate_quit(struct ferry_gate *g);

/* Wait until this vCPU may run; false: its thread is to end. */
bool ferry_gate_enter(struct ferry_gate *g, struct ferry_seat *s);

/* This vCPU is not let in again before the gate was closed and opened. */
void ferry_gate_sit_out(struct ferry_gate *g, struct ferry_seat *s);

#endif
