/* SPDX-License-Identifier: MIT */
/*
 * The serial port: lines out, single letters in; and the ways to end.
 */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include "guest.h"

void console_init(void);

/* Appends the newline.  Any vCPU; lines do not mix.  The time it takes is
 * not counted as a gap. */
void console_send(struct cpu *c, struct line *l);

/* The next letter typed, or 0. */
char console_poll(void);

_Noreturn void console_power_off(void);
_Noreturn void console_reset(void);

/* Says "FATAL reason: detail" and powers off.  detail may be "". */
_Noreturn void console_fatal(struct cpu *c, const char *reason,
			     const char *detail);

#endif
