/* SPDX-License-Identifier: MIT */
/*
 * What the target does with each command in each phase: docs/wire.md, 2.3, as
 * a table; and who has the VM when the target is freed around RUN.
 *
 * The target here has no threads and no listener: the test is its reader.
 */
#include "help.h"

#include "mig/target_impl.h"
#include "wire/rp.h"

enum {
	B = FERRY_PHASE_BEGIN, P = FERRY_PHASE_PAGES,
	C = FERRY_PHASE_COMPLETE, L = FERRY_PHASE_LOADING,
	R = FERRY_PHASE_RUNNING, D = FERRY_PHASE_DONE,
};

#define OCTETS(s)	(const uint8_t *)(s), sizeof(s) - 1
#define NEVER		0
#define ALWAYS		(B | P | C | L | R | D)

static const struct row {
	enum ferry_command command;
	unsigned phases;
	const uint8_t *octets;
	size_t	bytes;
	size_t	behind;		/* of them not counted in the command */
	const char *outcome;	/* where it is legal; NULL: it is done */
	const char *refused;	/* in all other phases */
} rows[] = {
	{ FERRY_COMMAND_OPEN_RETURN_PATH, B, OCTETS(""), 0, NULL,
	  "command OPEN_RETURN_PATH comes out of turn" },
	{ FERRY_COMMAND_PING, ALWAYS, OCTETS("\0\0\0\7"), 0, NULL, "" },
	{ FERRY_COMMAND_POSTCOPY_ADVISE, B,
	  OCTETS("\0\0\0\0\0\x20\0\0" "\0\0\0\0\0\0\x10\0"), 0,
	  "page sizes are 0x200000 at the source and 0x1000 here",
	  "command POSTCOPY_ADVISE comes out of turn" },
	{ FERRY_COMMAND_POSTCOPY_LISTEN, NEVER, OCTETS(""), 0, NULL,
	  "POSTCOPY_LISTEN" },
	/* The loader has failed, and said why elsewhere. */
	{ FERRY_COMMAND_POSTCOPY_RUN, L, OCTETS(""), 0,
	  "the target is being taken down",
	  "command POSTCOPY_RUN comes out of turn" },
	{ FERRY_COMMAND_RAM_DISCARD, P,
	  OCTETS("\0\3ram\0" "\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\x10\0"), 0,
	  "RAM_DISCARD without POSTCOPY_ADVISE",
	  "command RAM_DISCARD comes out of turn" },
	{ FERRY_COMMAND_PACKAGED, P | C,
	  OCTETS("\0\0\0\5" "\x08\0\4\0\0"), 5,
	  "POSTCOPY_LISTEN without POSTCOPY_ADVISE",
	  "command PACKAGED comes out of turn" },
	{ FERRY_COMMAND_ENABLE_COLO, NEVER, OCTETS(""), 0, NULL, "COLO" },
	{ FERRY_COMMAND_POSTCOPY_RESUME, NEVER, OCTETS(""), 0, NULL,
	  "POSTCOPY_RESUME" },
	{ FERRY_COMMAND_RECV_BITMAP, NEVER, OCTETS("\3ram"), 0, NULL,
	  "RECV_BITMAP" },
	{ FERRY_COMMAND_SWITCHOVER_START, NEVER, OCTETS(""), 0, NULL,
	  "SWITCHOVER_START" },
	{ FERRY_COMMAND_ZERO_RANGES, P,
	  OCTETS("\0\3mar\0" "\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\x10\0"), 0,
	  "ZERO_RANGES of block mar, which there is not",
	  "command ZERO_RANGES comes out of turn" },
	{ FERRY_COMMAND_BARRIER, P | C | R, OCTETS("\0\0\0\1"), 0, NULL,
	  "command BARRIER comes out of turn" },
	{ FERRY_COMMAND_ABORT, B | P | C | L, OCTETS("\0\4soon"), 0,
	  "the source gave up: soon", "command ABORT comes out of turn" },
	{ FERRY_COMMAND_FINISH, P | R, OCTETS("\0\0\0\1"), 0,
	  "16 pages were never sent, the first is page 0 of block ram",
	  "command FINISH comes out of turn" },
	{ FERRY_COMMAND_HEARD, NEVER, OCTETS(""), 0, NULL, "HEARD" },
	{ FERRY_COMMAND_LOST, R, OCTETS("\0\3\0\7"), 0,
	  "LOST of channel 0x30007 comes out of turn",
	  "command LOST comes out of turn" },
	{ FERRY_COMMAND_WATCH, L | R, OCTETS("\0\0\0\1"), 0,
	  "WATCH was not agreed on", "command WATCH comes out of turn" },
	{ FERRY_COMMAND_VERIFY, C | R,
	  OCTETS("\3ram" "\0\0\0\0\0\0\0\0" "\0\0\0\0"), 0,
	  "VERIFY was not agreed on", "command VERIFY comes out of turn" },
	{ FERRY_COMMAND_LEASE, B, OCTETS("\0\0\x27\x10"), 0,
	  "LEASE comes twice, or was not agreed on",
	  "command LEASE comes out of turn" },
	{ FERRY_COMMAND_RENEW, ALWAYS, OCTETS("\0\0\0\7"), 0, NULL, "" },
	/* Only of a source that has come back. */
	{ FERRY_COMMAND_VOID, NEVER, OCTETS("\0\4soon"), 0, NULL,
	  "command VOID comes out of turn" },
};

static struct area memory;

struct rig {
	struct ferry_vm *vm;
	struct ferry_target *t;
	struct ferry_chan *peer;
	struct ferry_inbuf heard;
};

static void rig_init(struct rig *r)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	struct ferry_block b = FERRY_BLOCK_INIT;
	struct ferry_chan *end[2];

	r->vm = ferry_vm_new("testing", &ops, NULL, NULL);
	b.name = "ram";
	b.addr = memory.p;
	b.bytes = memory.bytes;
	assert_ok(ferry_vm_add_block(r->vm, &b, NULL));
	r->t = ferry_target_new(r->vm, NULL, NULL, NULL);
	assert_non_null(r->t);
	assert_ok(ferry_chan_pair(end, NULL));
	r->t->main = end[0];
	r->peer = end[1];
	r->t->dialect = FERRY_DIALECT_FERRY;
	ferry_answer_open(&r->t->in.answer, end[0], FERRY_DIALECT_FERRY);
	assert_ok(ferry_inbuf_init(&r->t->main_in, end[0], 1 << 17, NULL));
	assert_ok(ferry_inbuf_init(&r->heard, end[1], FERRY_RP_MAX, NULL));
	r->t->loader.state = FERRY_LOAD_FAILED;
}

static void rig_free_target(struct rig *r)
{
	ferry_target_free(r->t);
	r->t = NULL;
}

static void rig_fini(struct rig *r)
{
	rig_free_target(r);
	ferry_chan_close(r->peer);
	ferry_inbuf_fini(&r->heard);
	ferry_vm_free(r->vm);
}

/* ---- the table ------------------------------------------------------------ */

static int tell(struct rig *r, const struct row *row, struct ferry_err *e)
{
	struct ferry_section s = { 0 };
	uint8_t octets[64];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_command_head_encode(&w, (uint16_t)row->command,
				  (uint16_t)(row->bytes - row->behind));
	ferry_wr_bytes(&w, row->octets, row->bytes);
	assert_ok(ferry_chan_write(r->peer, octets, ferry_wr_used(&w), NULL));
	assert_ok(ferry_stream_section(&r->t->main_in, &s, e));
	return ferry_target_command(r->t, &s, e);
}

static void one(const struct row *row, enum ferry_phase phase)
{
	const char *says = row->phases & phase ? row->outcome : row->refused;
	struct ferry_err e = { 0 };
	struct rig r;
	int rc;

	rig_init(&r);
	r.t->phase = phase;
	rc = tell(&r, row, &e);
	if (!rc != !says || (says && !strstr(e.msg, says)))
		fail_msg("%s in phase %d: %d '%s', not '%s'",
			 ferry_command_name((uint16_t)row->command), phase, rc,
			 e.msg, says ? says : "done");
	if (rc)
		assert_int_equal(r.t->phase, phase);
	rig_fini(&r);
}

static void each_command_is_legal_where_the_table_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		for (unsigned phase = B; phase <= D; phase <<= 1)
			one(&rows[i], (enum ferry_phase)phase);
}

static void the_table_has_every_command(void **state)
{
	(void)state;
	for (unsigned c = 0; c <= UINT16_MAX; c++) {
		size_t i = 0;

		while (i < FERRY_LEN(rows) && rows[i].command != c)
			i++;
		if (!ferry_command_find((uint16_t)c) != (i == FERRY_LEN(rows)))
			fail_msg("command %u", c);
	}
}

/* ---- freed around RUN ------------------------------------------------------- */

static void loaded(struct rig *r)
{
	struct ferry_err e = { 0 };

	rig_init(r);
	ferry_status_set(&r->t->status, FERRY_STATE_SETUP);
	ferry_status_set(&r->t->status, FERRY_STATE_ACTIVE);
	ferry_status_set(&r->t->status, FERRY_STATE_DEVICE);
	r->t->loader.state = FERRY_LOAD_READY;
	assert_true(ferry_target_take_over(r->t, &e));	/* RUN was read */
}

static int decode(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_rp_decode(rd, FERRY_DIALECT_FERRY, arg, e);
}

static void freed_behind_run_it_gives_the_vm_back(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_rp m = { 0 };
	struct rig r;

	(void)state;
	loaded(&r);
	rig_free_target(&r);
	assert_ok(ferry_inbuf_decode(&r.heard, decode, &m, &e));
	assert_int_equal(m.type, FERRY_RP_REASON);
	assert_string_equal(m.reason, "the target was taken down");
	assert_ok(ferry_inbuf_decode(&r.heard, decode, &m, &e));
	assert_int_equal(m.type, FERRY_RP_SHUT);
	assert_int_equal(m.value, 1);
	rig_fini(&r);
}

static void freed_behind_the_start_it_says_nothing(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_rp m = { 0 };
	struct rig r;

	(void)state;
	loaded(&r);
	assert_true(ferry_target_may_start(r.t, &e));
	rig_free_target(&r);
	assert_int_equal(ferry_inbuf_decode(&r.heard, decode, &m, &e), -1);
	assert_int_equal(e.code, FERRY_E_CLOSED);
	rig_fini(&r);
}

/* Cancel is refused from RUN on: there is nobody whom it would save. */
static void cancelled_behind_run_it_starts(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	loaded(&r);
	assert_int_equal(ferry_target_cancel(r.t, &e), -1);
	assert_says(&e, FERRY_E_STATE, "too late to cancel");
	assert_true(ferry_target_may_start(r.t, &e));
	rig_fini(&r);
}

/* SHUT 1 was said of it: then RUN, which may be on its way, comes too late. */
static void what_failed_before_run_never_starts(void **state)
{
	struct ferry_err e = { 0 }, why = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	ferry_err_set(&why, FERRY_E_PROTO, 0, "a channel failed");
	ferry_target_failed(r.t, &why);
	assert_false(ferry_target_take_over(r.t, &e));
	assert_says(&e, FERRY_E_PROTO, "a channel failed");
	rig_fini(&r);
}

static void cancelled_before_run_it_never_starts(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	ferry_status_set(&r.t->status, FERRY_STATE_SETUP);
	ferry_status_set(&r.t->status, FERRY_STATE_ACTIVE);
	assert_ok(ferry_target_cancel(r.t, &e));
	assert_false(ferry_target_take_over(r.t, &e));
	assert_says(&e, FERRY_E_CANCELLED, "cancelled by the user");
	assert_false(ferry_target_may_start(r.t, &e));
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_command_is_legal_where_the_table_says),
		cmocka_unit_test(the_table_has_every_command),
		cmocka_unit_test(freed_behind_run_it_gives_the_vm_back),
		cmocka_unit_test(freed_behind_the_start_it_says_nothing),
		cmocka_unit_test(cancelled_behind_run_it_starts),
		cmocka_unit_test(what_failed_before_run_never_starts),
		cmocka_unit_test(cancelled_before_run_it_never_starts),
	};
	int failed;

	area_make(&memory, PRIVATE, 16 * PAGE);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	area_free(&memory);
	return failed;
}
