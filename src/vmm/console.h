/* SPDX-License-Identifier: MIT */
/*
 * The far end of the serial line: where it comes out on the host.
 *
 *	null		nowhere
 *	stdio		standard input and output
 *	file:PATH	appended to a file
 *	unix:PATH	a listening socket; one client at a time, the others
 *			wait.  Without a client the last 64 KiB are kept
 *
 * Of a VM that may run until some moment (limit) nothing goes out behind it,
 * what it has said before neither: its source may have it back by then, and
 * whoever reads would hear two.  A process that was stopped looks at the clock
 * first when it goes on.
 *
 * Threads: a vCPU puts octets into a ring; the console's own thread writes
 *          them out, reads input and gives it to the UART, accepts clients.
 * Limits:  a reader that does not read fills the ring; then the guest sees a
 *          transmitter that is not empty.  No vCPU ever blocks in here.
 */
#ifndef FERRY_VMM_CONSOLE_H
#define FERRY_VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_console;
struct ferry_uart;

/* It is one of the above; nothing is opened. */
FERRY_CHECKED int ferry_console_check(const char *where, struct ferry_err *e);

/* where: as above; NULL: null. */
struct ferry_console *ferry_console_open(const char *where,
					 struct ferry_err *e);

/* The UART whose line this is; its host calls are the ones below. */
FERRY_CHECKED int ferry_console_start(struct ferry_console *c,
				      struct ferry_uart *uart,
				      struct ferry_err *e);

/* Nothing goes out behind this moment of CLOCK_BOOTTIME, until it is moved;
 * UINT64_MAX, as in the beginning: it always may.  Any thread. */
void ferry_console_limit(struct ferry_console *c, uint64_t boot_ns);

/* Writes what is left for up to half a second, if that may go out, then ends
 * thread and files. */
void ferry_console_close(struct ferry_console *c);

/* For the UART, with its lock held. */
void ferry_console_send(void *console, uint8_t octet);
bool ferry_console_can_send(void *console);
void ferry_console_wake(void *console);		/* there may be room */

#endif
