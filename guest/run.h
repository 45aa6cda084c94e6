/* SPDX-License-Identifier: MIT */
/*
 * Orders, and how they are carried out.
 */
#ifndef GUEST_RUN_H
#define GUEST_RUN_H

#include "guest.h"

/* Everybody's, vCPU 0's own included, until all are done.  Not for RUN. */
void run_order(struct cpu *boss, enum order what);

/* Tells the others, without waiting.  Returns what stands in guest.order. */
uint64_t run_post(struct guest *g, enum order what);

/* vCPU 0: the workload until a service call posts an order. */
void run_workload(struct cpu *c);

/* The other vCPUs' life. */
_Noreturn void run_follow(struct cpu *c);

#endif
