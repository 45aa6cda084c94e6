/* SPDX-License-Identifier: MIT */
/*
 * Guests of a few instructions and machines that run them.  They run in 32-bit
 * ring 0, which this project's development machines emulate slowly: nothing
 * here counts on speed, only on events.
 */
#ifndef TESTS_UNIT_VMM_TINY_H
#define TESTS_UNIT_VMM_TINY_H

#include <pthread.h>

#include "fake_ferry.h"
#include "help.h"
#include "vmm/machine.h"

/*
 * hello     prints "hi" and powers off
 * resetter  prints "r", changes registers here and there, resets by port 0xcf9
 * faulter   a triple fault
 * counter   counts in a register and in memory, compares the two, beats, reads
 *           a port; when told to end prints "D", or "X" as soon as the two
 *           counts differ or the port is not all ones
 * echo      polls the serial port and answers each octet plus one
 */
enum tiny { TINY_HELLO, TINY_RESETTER, TINY_FAULTER, TINY_COUNTER, TINY_ECHO };

#define TINY_COUNT_GPA	0x200000u	/* counter's copy in memory */
#define TINY_END_GPA	0x201000u	/* not 0: counter ends */
#define TINY_RAM_BYTES	(8ull << 20)

struct tiny_vm {
	struct ferry_machine	*m;
	struct ferry_vm		*vm;		/* described */
	char			 serial[64];	/* file with what it printed */
	struct ferry_machine_config config;

	pthread_mutex_t		 lock;
	pthread_cond_t		 told;
	unsigned		 shutdowns, resets, panics;
	char			 panic[512];
};

/* Exits with 77 when there is no KVM to test with. */
void tiny_require_kvm(void);

/* Not yet running. */
struct tiny_vm *tiny_new(enum tiny guest, unsigned vcpus);

/* A machine of the same shape without a kernel. */
struct tiny_vm *tiny_new_empty(const struct tiny_vm *like);
void tiny_free(struct tiny_vm *t);
void tiny_run(struct tiny_vm *t);

/* Wait for *counter (shutdowns, resets, panics) to be n; fails the test when
 * that takes too long. */
void tiny_wait(struct tiny_vm *t, const unsigned *counter, unsigned n);

uint32_t tiny_count(const struct tiny_vm *t);
void tiny_wait_count(const struct tiny_vm *t, uint32_t at_least);
void tiny_end(const struct tiny_vm *t);

/* Frees the machine (its output is complete then) and checks what it said. */
void tiny_expect_output(struct tiny_vm *t, const char *text);

#endif
