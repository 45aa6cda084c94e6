/* SPDX-License-Identifier: MIT */
/*
 * Named threads that are always joined.  They start with every signal blocked:
 * signals belong to the embedder.
 */
#ifndef FERRY_BASE_THREAD_H
#define FERRY_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_thread {
	pthread_t	id;
	bool		started;
	void		(*fn)(void *arg);
	void		*arg;
};

/* name: at most 15 octets are kept.  *t must stay in place until joined. */
FERRY_CHECKED int ferry_thread_start(struct ferry_thread *t, const char *name,
				     void (*fn)(void *arg), void *arg,
				     struct ferry_err *e);

/* Waits; does nothing if it was never started or is joined already. */
void ferry_thread_join(struct ferry_thread *t);

/* CPUs that this process may use; 1 when it cannot be told. */
unsigned ferry_thread_cpus(void);

/* A condition variable on CLOCK_MONOTONIC. */
void ferry_cond_init(pthread_cond_t *c);

/* Wait until signalled or until_ns (UINT64_MAX: for ever); false on time-out.
 * The mutex is held on entry and return. */
bool ferry_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m,
			   uint64_t until_ns);

#endif
