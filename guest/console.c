/* SPDX-License-Identifier: MIT */
/*
 * 16550 at 0x3f8, polled.  Every access leaves the virtual machine, so lines
 * are few and short.
 */
#include "console.h"

#include "x86.h"

#define COM1		0x3f8
#define DATA		(COM1 + 0)
#define INTERRUPTS	(COM1 + 1)
#define FIFO		(COM1 + 2)
#define LINE_CONTROL	(COM1 + 3)
#define MODEM_CONTROL	(COM1 + 4)
#define LINE_STATUS	(COM1 + 5)
#define LSR_DATA	0x01
#define LSR_ROOM	0x20
#define POLLS_MAX	1000000		/* seconds; then the character is
					 * dropped */

#define PM_CONTROL	0x604		/* of QEMU and ferry */
#define PM_SLEEP_OFF	0x2000
#define KEYBOARD	0x64
#define KEYBOARD_RESET	0xfe

void console_init(void)
{
	outb(INTERRUPTS, 0);
	outb(LINE_CONTROL, 0x80);	/* divisor: 115200 baud */
	outb(DATA, 1);
	outb(INTERRUPTS, 0);
	outb(LINE_CONTROL, 0x03);	/* 8 bits, no parity, 1 stop */
	outb(FIFO, 0x07);
	outb(MODEM_CONTROL, 0x03);
}

static void send_char(struct cpu *c, char character)
{
	for (unsigned i = 0; i < POLLS_MAX; i++) {
		uint8_t status = inb(LINE_STATUS);

		clock_tick_device(&c->clock);
		if (!(status & LSR_ROOM))
			continue;
		outb(DATA, (uint8_t)character);
		clock_tick_device(&c->clock);
		return;
	}
}

void console_send(struct cpu *c, struct line *l)
{
	_Atomic uint32_t *lock = &c->guest->serial_lock;

	if (l->length == sizeof(l->text))
		l->length--;
	line_text(l, "\n");
	clock_tick(&c->clock);
	while (atomic_exchange_explicit(lock, 1, memory_order_acquire)) {
		clock_tick_device(&c->clock);
		cpu_pause();
	}
	for (size_t i = 0; i < l->length; i++)
		send_char(c, l->text[i]);
	atomic_store_explicit(lock, 0, memory_order_release);
}

char console_poll(void)
{
	return inb(LINE_STATUS) & LSR_DATA ? (char)inb(DATA) : 0;
}

void console_power_off(void)
{
	outw(PM_CONTROL, PM_SLEEP_OFF);
	cpu_halt();
}

void console_reset(void)
{
	outb(KEYBOARD, KEYBOARD_RESET);
	cpu_halt();
}

void console_fatal(struct cpu *c, const char *reason, const char *detail)
{
	struct line l = { 0 };

	line_text(&l, "FATAL ");
	line_text(&l, reason);
	if (*detail)
		line_text(&l, ": ");
	line_text(&l, detail);
	console_send(c, &l);
	console_power_off();
}
