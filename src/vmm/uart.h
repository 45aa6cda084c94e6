/* SPDX-License-Identifier: MIT */
/*
 * A 16550A as the guest sees it.  Pure but for its host: where characters go
 * to and what the interrupt line is wired to are given by a table of calls.
 *
 * Threads: vCPUs through the port, one console thread with input; `lock` is
 *          held while the host's calls are made.
 * Limits:  characters take no time; no break, no framing errors, no modem but
 *          in loopback.  Input is never overrun: it waits in the host.
 */
#ifndef FERRY_VMM_UART_H
#define FERRY_VMM_UART_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/section.h"

#define FERRY_UART_FIFO_BYTES	16u
#define FERRY_UART_PORTS	8u

/* All are called with the UART's lock held, by any thread; none may block or
 * call back. */
struct ferry_uart_host {
	void	(*send)(void *opaque, uint8_t octet);
	bool	(*can_send)(void *opaque);
	void	(*input_drained)(void *opaque);	/* the guest has read some */
	void	(*set_irq)(void *opaque, bool level);
	void	*opaque;
};

struct ferry_uart_regs {
	uint8_t		 ier, fcr, lcr, mcr, scr;
	uint8_t		 divisor[2];
	uint8_t		 thr_empty_irq;	/* pending */
	uint8_t		 send_blocked;	/* the host has not taken the last */
	uint8_t		 fifo_used;
	uint8_t		 fifo[FERRY_UART_FIFO_BYTES];
};

struct ferry_uart {
	pthread_mutex_t		 lock;
	struct ferry_uart_host	 host;
	struct ferry_uart_regs	 regs;
	bool			 irq;		/* the line's level */
	bool			 still;		/* VM stopped: no input */
};

void ferry_uart_init(struct ferry_uart *u, const struct ferry_uart_host *host);
void ferry_uart_fini(struct ferry_uart *u);

/* A guest's access to register 0 to 7. */
uint8_t ferry_uart_read(struct ferry_uart *u, unsigned reg);
void ferry_uart_write(struct ferry_uart *u, unsigned reg, uint8_t value);

/* How many octets the guest can take now: none while still. */
size_t ferry_uart_room(struct ferry_uart *u);

/* Returns how many it took. */
size_t ferry_uart_receive(struct ferry_uart *u, const uint8_t *data, size_t n);

/* The host could not send and now can. */
void ferry_uart_send_ready(struct ferry_uart *u);

/* Still: the VM is stopped, the host changes nothing. */
void ferry_uart_set_still(struct ferry_uart *u, bool still);

extern const struct ferry_section ferry_section_serial;	/* of a ferry_uart */

#endif
