/* SPDX-License-Identifier: MIT */
/*
 * Channel headers and hellos over a channel: what one side sends the other
 * reads, in any pieces; and each cut is a sentence.
 */
#include "help.h"

#include "base/thread.h"
#include "mig/greet.h"

static struct area memory;

static struct ferry_vm *make_vm(void)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	struct ferry_vm *vm = ferry_vm_new("pc-of-mine", &ops, NULL, NULL);
	struct ferry_block b = FERRY_BLOCK_INIT;

	b.name = "ram";
	b.addr = memory.p;
	b.bytes = memory.bytes;
	b.gpa = 0x100000;
	assert_ok(ferry_vm_add_block(vm, &b, NULL));
	assert_ok(ferry_vm_add_fact(vm, "vcpus", FERRY_FACT_EQUAL, "2", NULL));
	assert_ok(ferry_vm_add_fact(vm, "cpu", FERRY_FACT_SUBSET, "sse avx",
				    NULL));
	return vm;
}

static struct ferry_channel_head a_head(bool answer)
{
	return (struct ferry_channel_head){
		.answer = answer, .type = FERRY_CHANNEL_MAIN,
		.session = { 1, 2, 3 }, .features = FERRY_FEATURES_CAN,
		.mandatory = answer ? 0 : FERRY_FEATURES_MUST,
	};
}

/* A hello as a source sends it, and who receives it. */
struct meeting {
	struct ferry_vm	*vm;
	struct ferry_chan *end[2];
	struct ferry_inbuf in;
	struct ferry_channel_head head;
	struct ferry_hello hello;
};

static void meet(struct meeting *m, const struct ferry_fault *fault)
{
	struct ferry_err e = { 0 };

	*m = (struct meeting){ .vm = make_vm(), .head = a_head(false) };
	assert_ok(ferry_chan_pair(m->end, &e));
	ferry_chan_set_name(m->end[1], "new");
	if (fault) {
		m->end[1] = ferry_chan_fault(m->end[1], fault, &e);
		assert_non_null(m->end[1]);
	}
	assert_ok(ferry_inbuf_init(&m->in, m->end[1], FERRY_GREET_BUF_BYTES,
				   &e));
	assert_ok(ferry_greet_describe(m->vm, &m->hello, &e));
	m->hello.has_channels = true;
	m->hello.data = 1;
	assert_ok(ferry_greet_send(m->end[0], &m->head, &m->hello, &e));
}

static void part(struct meeting *m)
{
	ferry_hello_fini(&m->hello);
	ferry_inbuf_fini(&m->in);
	ferry_chan_close(m->end[0]);
	ferry_chan_close(m->end[1]);
	ferry_vm_free(m->vm);
}

static void a_vm_is_described_whole(void **state)
{
	struct meeting m;

	(void)state;
	meet(&m, NULL);
	assert_string_equal(m.hello.name, "pc-of-mine");
	assert_int_equal(m.hello.blocks, 1);
	assert_string_equal(m.hello.block[0].name, "ram");
	assert_int_equal(m.hello.block[0].bytes, memory.bytes);
	assert_int_equal(m.hello.block[0].gpa, 0x100000);
	assert_int_equal(m.hello.block[0].page_bytes, PAGE);
	assert_int_equal(m.hello.facts, 2);
	assert_string_equal(m.hello.fact[1].name, "cpu");
	assert_string_equal(m.hello.fact[1].value, "sse avx");
	assert_int_equal(m.hello.fact[1].rule, FERRY_FACT_SUBSET);
	assert_memory_equal(m.hello.software, "ferry ", 6);
	part(&m);
}

static void what_is_sent_is_read(void **state)
{
	struct ferry_channel_head head;
	struct ferry_hello got = { 0 };
	struct ferry_err e = { 0 };
	struct meeting m;

	(void)state;
	meet(&m, NULL);
	assert_ok(ferry_greet_read_head(&m.in, false, &head, &e));
	assert_memory_equal(head.session, m.head.session, 16);
	assert_int_equal(head.features, FERRY_FEATURES_CAN);
	assert_int_equal(head.mandatory, FERRY_FEATURES_MUST);
	assert_ok(ferry_greet_read_hello(&m.in, false, &got, &e));
	assert_ok(ferry_hello_check(&m.hello, &got, &e));
	assert_int_equal(got.data, 1);
	assert_int_equal(ferry_inbuf_have(&m.in), 0);
	ferry_hello_fini(&got);
	part(&m);
}

static void it_may_come_octet_by_octet(void **state)
{
	struct ferry_fault slow = FERRY_FAULT_NONE;
	struct ferry_channel_head head;
	struct ferry_hello got = { 0 };
	struct ferry_err e = { 0 };
	struct meeting m;

	(void)state;
	slow.most_bytes = 1;
	meet(&m, &slow);
	assert_ok(ferry_greet_read_head(&m.in, false, &head, &e));
	assert_ok(ferry_greet_read_hello(&m.in, false, &got, &e));
	assert_string_equal(got.name, "pc-of-mine");
	ferry_hello_fini(&got);
	part(&m);
}

static void a_greeting_cut_anywhere_is_an_error(void **state)
{
	size_t whole;
	struct meeting m;

	(void)state;
	meet(&m, NULL);
	whole = FERRY_CHANNEL_WIRE + ferry_hello_bytes(&m.hello);
	part(&m);
	for (size_t at = 1; at < whole; at++) {
		struct ferry_fault cut = FERRY_FAULT_NONE;
		struct ferry_channel_head head;
		struct ferry_hello got = { 0 };
		struct ferry_err e = { 0 };

		cut.cut_read_at = at;
		meet(&m, &cut);
		if (!ferry_greet_read_head(&m.in, false, &head, &e) &&
		    !ferry_greet_read_hello(&m.in, false, &got, &e))
			fail_msg("%zu of %zu octets were enough", at, whole);
		assert_true(ferry_err_is_link(&e));
		assert_non_null(strstr(e.msg, "channel new"));
		part(&m);
	}
}

static void an_answer_is_no_offer(void **state)
{
	struct ferry_channel_head head;
	struct ferry_err e = { 0 };
	struct meeting m;

	(void)state;
	meet(&m, NULL);
	assert_int_equal(ferry_greet_read_head(&m.in, true, &head, &e), -1);
	assert_int_equal(e.code, FERRY_E_PROTO);
	part(&m);
}

static void a_hello_of_absurd_size_is_not_waited_for(void **state)
{
	static const uint8_t sizes[][4] = {
		{ 0, 0, 0, 0 },
		{ 0, 0x10, 0, 1 },
		{ 0xff, 0xff, 0xff, 0xff },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sizes); i++) {
		struct ferry_hello got = { 0 };
		struct ferry_err e = { 0 };
		struct meeting m = { .vm = make_vm() };

		assert_ok(ferry_chan_pair(m.end, &e));
		assert_ok(ferry_inbuf_init(&m.in, m.end[1],
					   FERRY_GREET_BUF_BYTES, &e));
		assert_ok(ferry_chan_write(m.end[0], sizes[i], 4, &e));
		assert_int_equal(ferry_greet_read_hello(&m.in, false, &got,
							&e), -1);
		assert_int_equal(e.code, FERRY_E_PROTO);
		part(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_is_described_whole),
		cmocka_unit_test(what_is_sent_is_read),
		cmocka_unit_test(it_may_come_octet_by_octet),
		cmocka_unit_test(a_greeting_cut_anywhere_is_an_error),
		cmocka_unit_test(an_answer_is_no_offer),
		cmocka_unit_test(a_hello_of_absurd_size_is_not_waited_for),
	};
	int failed;

	area_make(&memory, PRIVATE, 4 * PAGE);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	area_free(&memory);
	return failed;
}
