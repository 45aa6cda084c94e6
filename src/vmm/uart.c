/* SPDX-License-Identifier: MIT */
/* See uart.h. */
#include "vmm/uart.h"

#include <string.h>

/* Registers; 0 and 1 are the divisor while LCR says so. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR,
       REG_SCR };

#define IER_RECEIVED	1u
#define IER_THR_EMPTY	2u
#define IER_ALL		0x0fu

#define IIR_NONE	1u
#define IIR_THR_EMPTY	2u
#define IIR_RECEIVED	4u
#define IIR_TIMEOUT	0x0cu
#define IIR_FIFO_ON	0xc0u

#define FCR_ENABLE	1u
#define FCR_CLEAR_RX	2u
#define FCR_KEEP	0xc9u	/* enable, DMA mode, trigger level */

#define LCR_DIVISOR	0x80u
#define MCR_LOOPBACK	0x10u
#define MCR_ALL		0x1fu

#define LSR_DATA	1u
#define LSR_SEND_EMPTY	0x60u	/* holding and shift register */
#define MSR_CONNECTED	0xb0u	/* CTS, DSR, DCD */

void ferry_uart_init(struct ferry_uart *u, const struct ferry_uart_host *host)
{
	memset(u, 0, sizeof(*u));
	pthread_mutex_init(&u->lock, NULL);
	u->host = *host;
	u->still = true;
	u->regs.divisor[0] = 12;	/* 9600 baud */
}

void ferry_uart_fini(struct ferry_uart *u)
{
	pthread_mutex_destroy(&u->lock);
}

static uint8_t pending_locked(const struct ferry_uart *u)
{
	static const uint8_t trigger[] = { 1, 4, 8, 14 };
	const struct ferry_uart_regs *r = &u->regs;

	if ((r->ier & IER_RECEIVED) && r->fifo_used)
		return r->fifo_used >= trigger[r->fcr >> 6] ? IIR_RECEIVED :
							      IIR_TIMEOUT;
	if ((r->ier & IER_THR_EMPTY) && r->thr_empty_irq)
		return IIR_THR_EMPTY;
	return IIR_NONE;
}

static void update_irq_locked(struct ferry_uart *u)
{
	bool level = pending_locked(u) != IIR_NONE;

	if (level == u->irq)
		return;
	u->irq = level;
	u->host.set_irq(u->host.opaque, level);
}

static bool loopback(const struct ferry_uart *u)
{
	return u->regs.mcr & MCR_LOOPBACK;
}

static bool can_send_locked(const struct ferry_uart *u)
{
	return loopback(u) || u->host.can_send(u->host.opaque);
}

static void push_locked(struct ferry_uart *u, uint8_t octet)
{
	struct ferry_uart_regs *r = &u->regs;

	if (r->fifo_used < FERRY_UART_FIFO_BYTES)
		r->fifo[r->fifo_used++] = octet;
}

static uint8_t pop_locked(struct ferry_uart *u)
{
	struct ferry_uart_regs *r = &u->regs;
	uint8_t octet = r->fifo[0];

	if (!r->fifo_used)
		return 0;
	memmove(r->fifo, r->fifo + 1, --r->fifo_used);
	u->host.input_drained(u->host.opaque);
	return octet;
}

static uint8_t read_iir_locked(struct ferry_uart *u)
{
	uint8_t iir = pending_locked(u);

	if (iir == IIR_THR_EMPTY)	/* reading acknowledges it */
		u->regs.thr_empty_irq = 0;
	if (u->regs.fcr & FCR_ENABLE)
		iir |= IIR_FIFO_ON;
	return iir;
}

static uint8_t read_lsr_locked(const struct ferry_uart *u)
{
	return (uint8_t)((u->regs.fifo_used ? LSR_DATA : 0) |
			 (can_send_locked(u) ? LSR_SEND_EMPTY : 0));
}

/* In loopback the four outputs are wired to the four inputs. */
static uint8_t read_msr_locked(const struct ferry_uart *u)
{
	uint8_t m = u->regs.mcr;

	if (!loopback(u))
		return MSR_CONNECTED;
	return (uint8_t)((m & 1) << 5 | (m & 2) << 3 | (m & 4) << 4 |
			 (m & 8) << 4);
}

static uint8_t read_locked(struct ferry_uart *u, unsigned reg)
{
	const struct ferry_uart_regs *r = &u->regs;
	bool divisor = r->lcr & LCR_DIVISOR;

	switch (reg) {
	case REG_DATA:		return divisor ? r->divisor[0] : pop_locked(u);
	case REG_IER:		return divisor ? r->divisor[1] : r->ier;
	case REG_IIR_FCR:	return read_iir_locked(u);
	case REG_LCR:		return r->lcr;
	case REG_MCR:		return r->mcr;
	case REG_LSR:		return read_lsr_locked(u);
	case REG_MSR:		return read_msr_locked(u);
	case REG_SCR:		return r->scr;
	}
	return 0xff;
}

uint8_t ferry_uart_read(struct ferry_uart *u, unsigned reg)
{
	uint8_t value;

	pthread_mutex_lock(&u->lock);
	value = read_locked(u, reg);
	update_irq_locked(u);
	pthread_mutex_unlock(&u->lock);
	return value;
}

static void send_locked(struct ferry_uart *u, uint8_t octet)
{
	if (loopback(u))
		push_locked(u, octet);
	else
		u->host.send(u->host.opaque, octet);
	u->regs.thr_empty_irq = can_send_locked(u);
	u->regs.send_blocked = !u->regs.thr_empty_irq;
}

static void unblock_locked(struct ferry_uart *u)
{
	if (u->still || !u->regs.send_blocked || !can_send_locked(u))
		return;
	u->regs.send_blocked = 0;
	u->regs.thr_empty_irq = 1;
	update_irq_locked(u);
}

static void write_ier_locked(struct ferry_uart *u, uint8_t value)
{
	uint8_t rising = value & ~u->regs.ier;

	u->regs.ier = value & IER_ALL;
	if ((rising & IER_THR_EMPTY) && can_send_locked(u))
		u->regs.thr_empty_irq = 1;
}

static void write_fcr_locked(struct ferry_uart *u, uint8_t value)
{
	/* switching the FIFOs on or off clears them too */
	if ((value & FCR_CLEAR_RX) || ((value ^ u->regs.fcr) & FCR_ENABLE)) {
		u->regs.fifo_used = 0;
		u->host.input_drained(u->host.opaque);
	}
	u->regs.fcr = value & FCR_ENABLE ? value & FCR_KEEP : 0;
}

static void write_locked(struct ferry_uart *u, unsigned reg, uint8_t value)
{
	struct ferry_uart_regs *r = &u->regs;
	bool divisor = r->lcr & LCR_DIVISOR;

	switch (reg) {
	case REG_DATA:
		if (divisor)
			r->divisor[0] = value;
		else
			send_locked(u, value);
		return;
	case REG_IER:
		if (divisor)
			r->divisor[1] = value;
		else
			write_ier_locked(u, value);
		return;
	case REG_IIR_FCR:
		write_fcr_locked(u, value);
		return;
	case REG_LCR:
		r->lcr = value;
		return;
	case REG_MCR:
		r->mcr = value & MCR_ALL;
		return;
	case REG_SCR:
		r->scr = value;
		return;
	}
}

void ferry_uart_write(struct ferry_uart *u, unsigned reg, uint8_t value)
{
	pthread_mutex_lock(&u->lock);
	write_locked(u, reg, value);
	update_irq_locked(u);
	pthread_mutex_unlock(&u->lock);
}

/* Without FIFOs the chip holds one octet. */
static size_t room_locked(const struct ferry_uart *u)
{
	size_t most = u->regs.fcr & FCR_ENABLE ? FERRY_UART_FIFO_BYTES : 1;

	if (u->still || loopback(u) || u->regs.fifo_used >= most)
		return 0;
	return most - u->regs.fifo_used;
}

size_t ferry_uart_room(struct ferry_uart *u)
{
	size_t room;

	pthread_mutex_lock(&u->lock);
	room = room_locked(u);
	pthread_mutex_unlock(&u->lock);
	return room;
}

size_t ferry_uart_receive(struct ferry_uart *u, const uint8_t *data, size_t n)
{
	size_t room;

	pthread_mutex_lock(&u->lock);
	room = room_locked(u);
	if (n > room)
		n = room;
	for (size_t i = 0; i < n; i++)
		push_locked(u, data[i]);
	update_irq_locked(u);
	pthread_mutex_unlock(&u->lock);
	return n;
}

void ferry_uart_send_ready(struct ferry_uart *u)
{
	pthread_mutex_lock(&u->lock);
	unblock_locked(u);
	pthread_mutex_unlock(&u->lock);
}

void ferry_uart_set_still(struct ferry_uart *u, bool still)
{
	pthread_mutex_lock(&u->lock);
	u->still = still;
	unblock_locked(u);
	pthread_mutex_unlock(&u->lock);
}

/*
 *   0     1     2     3     4     5           7     8     9     10     26
 *   | ier | fcr | lcr | mcr | scr | divisor   | tei | blk | used | fifo |
 *
 * tei: an interrupt "transmitter empty" is pending; blk: the last octet is not
 * taken yet.  used: octets in the FIFO, oldest first, the rest are zero.
 */
static void put_regs(struct ferry_wr *w, const struct ferry_uart_regs *r)
{
	ferry_wr_u8(w, r->ier);
	ferry_wr_u8(w, r->fcr);
	ferry_wr_u8(w, r->lcr);
	ferry_wr_u8(w, r->mcr);
	ferry_wr_u8(w, r->scr);
	ferry_wr_bytes(w, r->divisor, sizeof(r->divisor));
	ferry_wr_u8(w, r->thr_empty_irq);
	ferry_wr_u8(w, r->send_blocked);
	ferry_wr_u8(w, r->fifo_used);
	ferry_wr_bytes(w, r->fifo, r->fifo_used);
	ferry_wr_zeroes(w, sizeof(r->fifo) - r->fifo_used);
}

static void get_octets(struct ferry_rd *r, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = ferry_rd_u8(r);
}

static int get_regs(struct ferry_rd *r, struct ferry_uart_regs *regs,
		    struct ferry_err *e)
{
	regs->ier = ferry_rd_u8(r);
	regs->fcr = ferry_rd_u8(r);
	regs->lcr = ferry_rd_u8(r);
	regs->mcr = ferry_rd_u8(r);
	regs->scr = ferry_rd_u8(r);
	get_octets(r, regs->divisor, sizeof(regs->divisor));
	regs->thr_empty_irq = ferry_rd_u8(r);
	regs->send_blocked = ferry_rd_u8(r);
	regs->fifo_used = ferry_rd_u8(r);
	get_octets(r, regs->fifo, sizeof(regs->fifo));
	if (ferry_section_ill_sized(r, e))
		return -1;
	if ((regs->ier & ~IER_ALL) || (regs->fcr & ~FCR_KEEP) ||
	    (regs->mcr & ~MCR_ALL) || regs->thr_empty_irq > 1 ||
	    regs->send_blocked > 1 || regs->fifo_used > sizeof(regs->fifo))
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "registers hold what no UART can hold");
	return 0;
}

static int save(const struct ferry_section *s, void *object,
		struct ferry_wr *w, struct ferry_err *e)
{
	struct ferry_uart *u = object;

	(void)s;
	(void)e;
	pthread_mutex_lock(&u->lock);
	put_regs(w, &u->regs);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

static int load(const struct ferry_section *s, void *object,
		struct ferry_rd *r, struct ferry_err *e)
{
	struct ferry_uart *u = object;
	struct ferry_uart_regs regs;

	(void)s;
	if (get_regs(r, &regs, e))
		return -1;
	pthread_mutex_lock(&u->lock);
	u->regs = regs;
	/* Whatever the line was: tell KVM, whose record of it is not part of
	 * the interrupt chips' state.  One interrupt too many does no harm. */
	u->irq = pending_locked(u) != IIR_NONE;
	u->host.set_irq(u->host.opaque, u->irq);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

const struct ferry_section ferry_section_serial = {
	.name = "serial",
	.version = 1,
	.save = save,
	.load = load,
};
