/* SPDX-License-Identifier: MIT */
/*
 * The small parts of a PC behind I/O ports: clock (CMOS), ACPI power
 * management, the ways to reset, and the heartbeat port.
 *
 * Threads: any vCPU's, under `lock`; heartbeat also the control thread.
 */
#ifndef FERRY_VMM_PLATFORM_H
#define FERRY_VMM_PLATFORM_H

#include <pthread.h>
#include <stdint.h>

#include "vmm/machine.h"
#include "vmm/ports.h"
#include "vmm/section.h"

struct ferry_platform {
	pthread_mutex_t		 lock;
	uint8_t			 cmos_index;
	uint8_t			 reset_control;	/* port 0xcf9 */
	uint16_t		 pm_enable;
	uint16_t		 pm_control;
	struct ferry_heartbeat	 heartbeat;	/* not part of the VM */
	uint64_t		 limit_ns;	/* CLOCK_BOOTTIME; as well */
};

void ferry_platform_init(struct ferry_platform *p);
void ferry_platform_fini(struct ferry_platform *p);
void ferry_platform_add_ports(struct ferry_platform *p,
			      struct ferry_ports *ports);

/* A beat that was begun before this moment and gets here behind it is not one of
 * a guest that runs; UINT64_MAX: none. */
void ferry_platform_limit(struct ferry_platform *p, uint64_t boot_ns);

/* Since the last call. */
void ferry_platform_heartbeat(struct ferry_platform *p,
			      struct ferry_heartbeat *out);

extern const struct ferry_section ferry_section_platform;

#endif
