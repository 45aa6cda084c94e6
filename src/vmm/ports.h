/* SPDX-License-Identifier: MIT */
/*
 * I/O ports: a table of ranges and who answers.  What nobody answers reads as
 * all ones and swallows writes.
 *
 * Threads: filled before the first vCPU runs, then read-only.  Handlers are
 * called by any vCPU's thread, several at once, and lock for themselves.
 */
#ifndef FERRY_VMM_PORTS_H
#define FERRY_VMM_PORTS_H

#include <stddef.h>
#include <stdint.h>

#define FERRY_PORT_RANGES_MAX	16u

/* What the monitor has to do after a guest's access. */
enum ferry_act {
	FERRY_ACT_GO_ON,
	FERRY_ACT_SHUTDOWN,
	FERRY_ACT_RESET,
	FERRY_ACT_PANIC,
};

struct ferry_port_range {
	uint16_t	 first, last;
	void		*opaque;

	/* size: 1, 2 or 4 octets.  offset: from `first`. */
	uint32_t	 (*read)(void *opaque, unsigned offset, unsigned size);
	enum ferry_act	 (*write)(void *opaque, unsigned offset, unsigned size,
				  uint32_t value);
};

struct ferry_ports {
	size_t			 count;
	struct ferry_port_range	 range[FERRY_PORT_RANGES_MAX];
};

/* Earlier ranges are found faster. */
void ferry_ports_add(struct ferry_ports *p, const struct ferry_port_range *r);

/* One access of a vCPU; data is what KVM shares with us. */
enum ferry_act ferry_ports_in(const struct ferry_ports *p, uint16_t port,
			      unsigned size, void *data);
enum ferry_act ferry_ports_out(const struct ferry_ports *p, uint16_t port,
			       unsigned size, const void *data);

#endif
