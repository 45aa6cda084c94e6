/* SPDX-License-Identifier: MIT */
/* The serial port as a guest's driver sees it. */
#include "help.h"

#include "vmm/uart.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };	/* FCR is IIR's place */

struct host {
	struct ferry_uart u;
	char	 sent[64];
	size_t	 sent_used;
	bool	 blocked;
	bool	 irq;
	unsigned irq_changes;
	unsigned drained;
};

static void host_send(void *opaque, uint8_t octet)
{
	struct host *h = opaque;

	h->sent[h->sent_used++] = (char)octet;
}

static bool host_can_send(void *opaque)
{
	return !((struct host *)opaque)->blocked;
}

static void host_drained(void *opaque)
{
	((struct host *)opaque)->drained++;
}

static void host_irq(void *opaque, bool level)
{
	struct host *h = opaque;

	h->irq = level;
	h->irq_changes++;
}

static int set_up(void **state)
{
	struct host *h = calloc(1, sizeof(*h));
	const struct ferry_uart_host calls = {
		host_send, host_can_send, host_drained, host_irq, h };

	ferry_uart_init(&h->u, &calls);
	ferry_uart_set_still(&h->u, false);
	*state = h;
	return 0;
}

static int tear_down(void **state)
{
	struct host *h = *state;

	ferry_uart_fini(&h->u);
	free(h);
	return 0;
}

static size_t type(struct host *h, const char *text)
{
	return ferry_uart_receive(&h->u, (const uint8_t *)text, strlen(text));
}

static void what_the_guest_writes_is_sent(void **state)
{
	struct host *h = *state;

	for (const char *p = "hello"; *p; p++) {
		assert_int_equal(ferry_uart_read(&h->u, LSR), 0x60);
		ferry_uart_write(&h->u, DATA, (uint8_t)*p);
	}
	assert_string_equal(h->sent, "hello");
	assert_int_equal(h->irq_changes, 0);
}

static void it_passes_for_a_16550a(void **state)
{
	struct host *h = *state;

	/* as Linux's 8250 driver looks */
	ferry_uart_write(&h->u, SCR, 0x5a);
	assert_int_equal(ferry_uart_read(&h->u, SCR), 0x5a);
	ferry_uart_write(&h->u, IER, 0xff);
	assert_int_equal(ferry_uart_read(&h->u, IER), 0x0f);
	ferry_uart_write(&h->u, IER, 0);
	ferry_uart_write(&h->u, MCR, 0x1a);
	assert_int_equal(ferry_uart_read(&h->u, MSR) & 0xf0, 0x90);
	ferry_uart_write(&h->u, MCR, 0);
	ferry_uart_write(&h->u, IIR, 1);
	assert_int_equal(ferry_uart_read(&h->u, IIR) >> 6, 3);
	assert_int_equal(h->sent_used, 0);
}

static void the_divisor_hides_behind_lcr(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, LCR, 0x83);
	ferry_uart_write(&h->u, DATA, 1);
	ferry_uart_write(&h->u, IER, 2);
	assert_int_equal(ferry_uart_read(&h->u, DATA), 1);
	assert_int_equal(ferry_uart_read(&h->u, IER), 2);
	ferry_uart_write(&h->u, LCR, 3);
	assert_int_equal(ferry_uart_read(&h->u, IER), 0);
	assert_int_equal(h->sent_used, 0);
}

static void input_raises_the_line_until_it_is_read(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IIR, 1);
	ferry_uart_write(&h->u, IER, 1);
	assert_int_equal(type(h, "ab"), 2);
	assert_true(h->irq);
	assert_int_equal(ferry_uart_read(&h->u, IIR) & 0x0f, 4);
	assert_int_equal(ferry_uart_read(&h->u, LSR) & 1, 1);
	assert_int_equal(ferry_uart_read(&h->u, DATA), 'a');
	assert_true(h->irq);
	assert_int_equal(ferry_uart_read(&h->u, DATA), 'b');
	assert_false(h->irq);
	assert_int_equal(ferry_uart_read(&h->u, IIR) & 0x0f, 1);
	assert_int_equal(ferry_uart_read(&h->u, LSR) & 1, 0);
	assert_true(h->drained >= 2);
}

static void input_below_the_trigger_level_is_a_timeout(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IIR, 0x81);	/* trigger at 8 */
	ferry_uart_write(&h->u, IER, 1);
	type(h, "abc");
	assert_int_equal(ferry_uart_read(&h->u, IIR) & 0x0f, 0x0c);
	type(h, "defghij");
	assert_int_equal(ferry_uart_read(&h->u, IIR) & 0x0f, 4);
}

static void input_waits_for_room(void **state)
{
	struct host *h = *state;

	assert_int_equal(ferry_uart_room(&h->u), 1);	/* no FIFO */
	ferry_uart_write(&h->u, IIR, 1);
	assert_int_equal(ferry_uart_room(&h->u), 16);
	assert_int_equal(type(h, "0123456789abcdefXYZ"), 16);
	assert_int_equal(ferry_uart_room(&h->u), 0);
	assert_int_equal(ferry_uart_read(&h->u, DATA), '0');
	assert_int_equal(ferry_uart_room(&h->u), 1);
}

static void a_still_port_takes_no_input(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IIR, 1);
	ferry_uart_set_still(&h->u, true);
	assert_int_equal(ferry_uart_room(&h->u), 0);
	assert_int_equal(type(h, "x"), 0);
	ferry_uart_set_still(&h->u, false);
	assert_int_equal(type(h, "x"), 1);
}

static void an_empty_transmitter_interrupts_once(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IER, 2);
	assert_true(h->irq);
	assert_int_equal(ferry_uart_read(&h->u, IIR), 2);
	assert_false(h->irq);			/* reading acknowledged it */
	ferry_uart_write(&h->u, DATA, 'x');
	assert_true(h->irq);
	ferry_uart_write(&h->u, IER, 0);
	assert_false(h->irq);
}

static void a_stuck_reader_is_a_busy_transmitter(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IER, 2);
	ferry_uart_read(&h->u, IIR);
	h->blocked = true;
	ferry_uart_write(&h->u, DATA, 'x');
	assert_int_equal(ferry_uart_read(&h->u, LSR) & 0x60, 0);
	assert_false(h->irq);

	h->blocked = false;
	ferry_uart_send_ready(&h->u);
	assert_int_equal(ferry_uart_read(&h->u, LSR) & 0x60, 0x60);
	assert_true(h->irq);
}

/* Stopped in between: the interrupt comes when it runs again. */
static void a_reader_that_wakes_while_stopped_is_not_forgotten(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IER, 2);
	ferry_uart_read(&h->u, IIR);
	h->blocked = true;
	ferry_uart_write(&h->u, DATA, 'x');
	ferry_uart_set_still(&h->u, true);
	h->blocked = false;
	ferry_uart_send_ready(&h->u);
	assert_false(h->irq);
	ferry_uart_set_still(&h->u, false);
	assert_true(h->irq);
}

static void loopback_sends_to_itself(void **state)
{
	struct host *h = *state;

	ferry_uart_write(&h->u, IIR, 1);
	ferry_uart_write(&h->u, MCR, 0x10);
	ferry_uart_write(&h->u, DATA, 'z');
	assert_int_equal(h->sent_used, 0);
	assert_int_equal(ferry_uart_read(&h->u, DATA), 'z');
	assert_int_equal(ferry_uart_room(&h->u), 0);
}

/* ---- its section ------------------------------------------------------- */

#define SECTION_BYTES	26u

static size_t save(struct host *h, uint8_t buf[64])
{
	struct ferry_wr w = ferry_wr_over(buf, 64);

	assert_ok(ferry_section_serial.save(&ferry_section_serial, &h->u, &w,
					    NULL));
	assert_false(w.bad);
	return ferry_wr_used(&w);
}

static int load(struct host *h, const uint8_t *buf, size_t bytes,
		struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(buf, bytes);

	return ferry_section_serial.load(&ferry_section_serial, &h->u, &r, e);
}

static void a_moved_port_goes_on_where_it_was(void **state)
{
	struct host *h = *state, *to;
	void *other;
	uint8_t buf[64];

	set_up(&other);
	to = other;
	ferry_uart_write(&h->u, IIR, 1);
	ferry_uart_write(&h->u, IER, 1);
	ferry_uart_write(&h->u, LCR, 3);
	type(h, "move me");
	assert_int_equal(save(h, buf), SECTION_BYTES);
	assert_ok(load(to, buf, SECTION_BYTES, NULL));
	assert_true(to->irq);
	assert_int_equal(ferry_uart_read(&to->u, LCR), 3);
	for (const char *p = "move me"; *p; p++)
		assert_int_equal(ferry_uart_read(&to->u, DATA), *p);
	assert_false(to->irq);
	tear_down(&other);
}

static void hostile_state_is_refused_and_changes_nothing(void **state)
{
	static const struct {
		const char *why;
		size_t at;
		uint8_t value;
	} bad[] = {
		{ "interrupt that does not exist", 0, 0x10 },
		{ "FIFO control with reset bits", 1, 0x06 },
		{ "modem control with odd bits", 3, 0x20 },
		{ "half an interrupt", 7, 2 },
		{ "half a blocked octet", 8, 0xff },
		{ "17 octets in 16", 9, 17 },
		{ "255 octets in 16", 9, 255 },
	};
	struct host *h = *state;
	uint8_t good[64], buf[64], after[64];
	struct ferry_err e;

	save(h, good);
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		memcpy(buf, good, sizeof(buf));
		buf[bad[i].at] = bad[i].value;
		print_message("  %s\n", bad[i].why);
		assert_refused(load(h, buf, SECTION_BYTES, &e), &e,
			       FERRY_E_DEVICE, "no UART can hold");
	}
	for (size_t n = 0; n < SECTION_BYTES; n++)
		assert_refused(load(h, good, n, &e), &e, FERRY_E_DEVICE,
			       "cut short");
	assert_refused(load(h, good, SECTION_BYTES + 1, &e), &e,
		       FERRY_E_DEVICE, "1 octets too long");
	save(h, after);
	assert_memory_equal(good, after, SECTION_BYTES);
}

#define T(f)	cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_the_guest_writes_is_sent),
		T(it_passes_for_a_16550a),
		T(the_divisor_hides_behind_lcr),
		T(input_raises_the_line_until_it_is_read),
		T(input_below_the_trigger_level_is_a_timeout),
		T(input_waits_for_room),
		T(a_still_port_takes_no_input),
		T(an_empty_transmitter_interrupts_once),
		T(a_stuck_reader_is_a_busy_transmitter),
		T(a_reader_that_wakes_while_stopped_is_not_forgotten),
		T(loopback_sends_to_itself),
		T(a_moved_port_goes_on_where_it_was),
		T(hostile_state_is_refused_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
