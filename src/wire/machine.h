/* SPDX-License-Identifier: MIT */
/*
 * QEMU's machine version ("pc-q35-8.1") tells which variant of the protocol to
 * expect, unless the stream itself shows it.  Pure, any thread.
 */
#ifndef FERRY_WIRE_MACHINE_H
#define FERRY_WIRE_MACHINE_H

#include <stdbool.h>

/* What older machine types keep doing; bits. */
enum ferry_machine_quirk {
	/* <= 7.2: preempt is connected in setup, and ends with EOS */
	FERRY_MACHINE_PREEMPT_EARLY	= 1,
	/* <= 8.0: multifd syncs at each RAM EOS, not at MULTIFD_FLUSH */
	FERRY_MACHINE_SYNC_AT_EOS	= 2,
	/* <= 8.2: zero pages come as ZERO records, also with multifd */
	FERRY_MACHINE_ZERO_ON_MAIN	= 4,
	/* <= 9.2: no SWITCHOVER_START */
	FERRY_MACHINE_NO_START		= 8,
	/* <= 11.0: SWITCHOVER_ACK comes unasked */
	FERRY_MACHINE_ACK_UNASKED	= 16,
};

struct ferry_machine {
	unsigned	major, minor;
};

/* False when the name does not end in -MAJOR.MINOR. */
bool ferry_machine_parse(const char *name, struct ferry_machine *m);

/* enum ferry_machine_quirk bits. */
unsigned ferry_machine_quirks(const struct ferry_machine *m);

#endif
