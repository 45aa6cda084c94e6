/* SPDX-License-Identifier: MIT */
/*
 * Commands of the main stream: a table says what each does and when it is
 * legal.  Thread: the reader.
 */
#include "mig/target_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/machine.h"
#include "wire/package.h"
#include "wire/ranges.h"
#include "wire/text.h"

/* Whoever set switchover-ack waits for it, but for QEMU's newest machines:
 * there it is an error. */
static int say_ack(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_machine m;

	if (t->dialect != FERRY_DIALECT_QEMU ||
	    !ferry_machine_parse(t->vm->name, &m) ||
	    !(ferry_machine_quirks(&m) & FERRY_MACHINE_ACK_UNASKED))
		return 0;
	return ferry_answer_say(&t->in.answer, FERRY_RP_SWITCHOVER_ACK, 0, e);
}

static int on_open_return_path(struct ferry_target *t, struct ferry_rd *rd,
			       struct ferry_err *e)
{
	(void)rd;
	if (!(t->main->ops->features(t->main) & FERRY_CHAN_TWO_WAY))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "a return path is "
				     "asked for on a one-way channel");
	ferry_answer_open(&t->in.answer, t->main, t->dialect);
	return t->vm->how.switchover_ack ? say_ack(t, e) : 0;
}

/* A QEMU's notice that the switchover begins: we are always ready. */
static int on_switchover_start(struct ferry_target *t, struct ferry_rd *rd,
			       struct ferry_err *e)
{
	(void)rd;
	return ferry_parts_switch(t, e);
}

static int on_ping(struct ferry_target *t, struct ferry_rd *rd,
		   struct ferry_err *e)
{
	uint32_t value;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_PING, &value, e))
		return -1;
	return ferry_answer_say(&t->in.answer, FERRY_RP_PONG, value, e);
}

static int check_page_sizes(struct ferry_target *t,
			    const struct ferry_advise *a, struct ferry_err *e)
{
	uint64_t ours = 0;

	for (uint32_t i = 0; i < t->vm->mem.blocks; i++)
		ours |= t->vm->mem.block[i].page_bytes;
	if (a->ram && a->page_sizes != ours)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "page sizes are 0x%" PRIx64 " at the "
				     "source and 0x%" PRIx64 " here",
				     a->page_sizes, ours);
	return 0;
}

static int on_lease(struct ferry_target *t, struct ferry_rd *rd,
		    struct ferry_err *e)
{
	uint32_t ms;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_LEASE, &ms, e))
		return -1;
	return ferry_lease_begin(t, ms * FERRY_NS_PER_MS, e);
}

static int on_renew(struct ferry_target *t, struct ferry_rd *rd,
		    struct ferry_err *e)
{
	uint32_t n;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_RENEW, &n, e))
		return -1;
	ferry_lease_renewed(t, n);
	return 0;
}

static int on_void(struct ferry_target *t, struct ferry_rd *rd,
		   struct ferry_err *e)
{
	char reason[FERRY_REASON_BYTES_MAX + 1];

	if (ferry_void_decode(rd, reason, e))
		return -1;
	if (!t->returning)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command VOID comes out of turn");
	return ferry_return_void(t, reason, e);
}

static int on_advise(struct ferry_target *t, struct ferry_rd *rd,
		     struct ferry_err *e)
{
	struct ferry_advise a = { 0 };

	if (ferry_advise_decode(rd, &a, e))
		return -1;
	if (t->vm->adopt)
		t->in.body.page_sizes = a.page_sizes;
	else if (check_page_sizes(t, &a, e))
		return -1;
	if (ferry_place_can_listen(&t->in.place, e) ||
	    ferry_foreign_can(t->vm, FERRY_FOREIGN_FAULT, e))
		return ferry_err_wrap(e, "postcopy");
	t->in.body.advised = true;
	return 0;
}

static int decode_ranges(struct ferry_target *t, struct ferry_rd *rd,
			 uint16_t command, struct ferry_ranges *g,
			 struct ferry_mem_block **b, struct ferry_err *e)
{
	struct ferry_block_shape shape;

	if (ferry_ranges_decode(rd, command, g, e))
		return -1;
	*b = ferry_mem_by_name(&t->vm->mem, g->name);
	if (!*b)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s of block %s, which there is not",
				     ferry_command_name(command),
				     FERRY_SHOW(g->name));
	shape = (struct ferry_block_shape){
		(*b)->name, (*b)->bytes, (*b)->page_bytes,
	};
	return ferry_ranges_check_in(g, &shape, e);
}

static int on_discard(struct ferry_target *t, struct ferry_rd *rd,
		      struct ferry_err *e)
{
	struct ferry_mem_block *b = NULL;
	struct ferry_ranges g;
	struct ferry_span s;

	if (!t->in.body.advised)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "RAM_DISCARD without POSTCOPY_ADVISE");
	if (decode_ranges(t, rd, FERRY_COMMAND_RAM_DISCARD, &g, &b, e))
		return -1;
	while (ferry_ranges_next(&g, &s))
		if (ferry_place_discard(&t->in.place, b,
					s.start / FERRY_PAGE_BYTES,
					s.bytes / FERRY_PAGE_BYTES, e))
			return -1;
	return 0;
}

static int on_zero_ranges(struct ferry_target *t, struct ferry_rd *rd,
			  struct ferry_err *e)
{
	struct ferry_mem_block *b = NULL;
	struct ferry_ranges g;
	struct ferry_span s;

	if (decode_ranges(t, rd, FERRY_COMMAND_ZERO_RANGES, &g, &b, e))
		return -1;
	while (ferry_ranges_next(&g, &s))
		if (ferry_placer_zeroes(&t->in.body.placer, b,
					s.start / FERRY_PAGE_BYTES,
					s.bytes / FERRY_PAGE_BYTES, e))
			return -1;
	return 0;
}

/* All channels have placed what they carried before this mark.  1: one is lost,
 * and it is void. */
static int wait_mark(struct ferry_target *t, struct ferry_rd *rd,
		     uint16_t command, uint32_t *sequence,
		     struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&t->params);
	struct ferry_inflow *in = &t->in;

	if (ferry_command_u32_decode(rd, command, sequence, e))
		return -1;
	for (unsigned i = 0; i < in->data + in->urgent; i++)
		if (ferry_marks_wait(&in->gate, &in->receiver[i], *sequence,
				     ms, e))
			return ferry_survive_void(t, &in->receiver[i], e);
	return 0;
}

static int on_barrier(struct ferry_target *t, struct ferry_rd *rd,
		      struct ferry_err *e)
{
	uint32_t sequence;
	int rc = wait_mark(t, rd, FERRY_COMMAND_BARRIER, &sequence, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (t->phase == FERRY_PHASE_RUNNING && ferry_verify_end(t, e))
		return -1;
	return ferry_answer_say(&t->in.answer, FERRY_RP_SYNCED, sequence, e);
}

static int on_finish(struct ferry_target *t, struct ferry_rd *rd,
		     struct ferry_err *e)
{
	uint32_t sequence;
	int rc = wait_mark(t, rd, FERRY_COMMAND_FINISH, &sequence, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (ferry_target_check_all(t, e))
		return -1;
	if (t->phase == FERRY_PHASE_PAGES) {
		t->phase = FERRY_PHASE_COMPLETE;
		return 0;
	}
	if (t->differs)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "FINISH after DIFFERS");
	t->phase = FERRY_PHASE_DONE;
	if (ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e))
		return -1;
	return t->vm->adopt ? ferry_adopt_finish(t, e) : 0;
}

static int on_abort(struct ferry_target *t, struct ferry_rd *rd,
		    struct ferry_err *e)
{
	char reason[FERRY_REASON_BYTES_MAX + 1];

	(void)t;
	if (ferry_abort_decode(rd, reason, e))
		return -1;
	return ferry_err_set(e, FERRY_E_PEER, 0, "the source gave up: %.200s",
			     reason);
}

static int read_package(struct ferry_target *t, uint32_t bytes,
			struct ferry_package *p, struct ferry_err *e)
{
	struct ferry_loader *l = &t->loader;

	l->package = malloc(bytes ? bytes : 1);
	if (!l->package)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "device state of %" PRIu32 " octets",
				     bytes);
	if (ferry_inbuf_read(&t->main_in, l->package, bytes, e) ||
	    ferry_package_peel(l->package, bytes, t->dialect, p, e))
		return -1;
	l->devices = p->devices;
	l->device_bytes = p->device_bytes;
	l->run_at_once = t->dialect == FERRY_DIALECT_QEMU;
	l->pongs = p->pings;
	memcpy(l->pong, p->ping, sizeof(l->pong));
	return 0;
}

/* From here on a missing page waits to be fetched. */
static int listen_for_pages(struct ferry_target *t, struct ferry_err *e)
{
	if (!t->in.body.advised)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "POSTCOPY_LISTEN without POSTCOPY_ADVISE");
	t->postcopy = true;
	t->in.body.postcopy = true;
	if (t->vm->adopt)	/* nobody can touch what is missing */
		return ferry_adopt_listen(t, e);
	if (ferry_place_listen(&t->in.place, e))
		return -1;
	return ferry_fault_start(&t->in.fault, e) ||
	       ferry_foreign_listen(t, e) ? -1 : 0;
}

static int on_packaged(struct ferry_target *t, struct ferry_rd *rd,
		       struct ferry_err *e)
{
	struct ferry_package p = { 0 };
	uint32_t bytes;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_PACKAGED, &bytes, e) ||
	    read_package(t, bytes, &p, e))
		return -1;
	if (p.listen) {
		if (listen_for_pages(t, e))
			return -1;
	} else if (t->phase != FERRY_PHASE_COMPLETE) {
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device state came before all pages did");
	} else if (ferry_verify_end(t, e)) {
		return -1;
	} else {
		ferry_place_complete(&t->in.place);
	}
	ferry_status_advance(&t->status, FERRY_STATE_ACTIVE,
			     FERRY_STATE_DEVICE);
	t->phase = t->loader.run_at_once ? FERRY_PHASE_RUNNING :
					   FERRY_PHASE_LOADING;
	return ferry_load_start(t, e);
}

static int on_run(struct ferry_target *t, struct ferry_rd *rd,
		  struct ferry_err *e)
{
	(void)rd;
	ferry_lease_runs(t);
	/* Said again by one who came back, and could not know. */
	if (t->phase == FERRY_PHASE_RUNNING)
		return t->returning ? 0 :
		       ferry_err_set(e, FERRY_E_PROTO, 0,
				     "command POSTCOPY_RUN comes out of turn");
	if (ferry_target_await_load(t, 1u << FERRY_LOAD_READY, e))
		return -1;
	if (!ferry_target_take_over(t, e))
		return -1;
	ferry_load_run(t);
	t->phase = FERRY_PHASE_RUNNING;
	/* A lease ends with FINISH, and with nothing before. */
	if (t->postcopy || ferry_lease_is_there(t))
		return 0;
	t->phase = FERRY_PHASE_DONE;
	return ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e);
}

static const struct {
	enum ferry_command command;
	unsigned phases;
	int (*handle)(struct ferry_target *t, struct ferry_rd *rd,
		      struct ferry_err *e);
} rows[] = {
	{ FERRY_COMMAND_OPEN_RETURN_PATH, FERRY_PHASE_BEGIN,
		on_open_return_path },
	{ FERRY_COMMAND_PING, 63, on_ping },
	{ FERRY_COMMAND_LEASE, FERRY_PHASE_BEGIN, on_lease },
	{ FERRY_COMMAND_RENEW, 63, on_renew },
	{ FERRY_COMMAND_VOID, FERRY_PHASE_LOADING | FERRY_PHASE_RUNNING,
		on_void },
	{ FERRY_COMMAND_POSTCOPY_ADVISE, FERRY_PHASE_BEGIN, on_advise },
	{ FERRY_COMMAND_ZERO_RANGES, FERRY_PHASE_PAGES, on_zero_ranges },
	{ FERRY_COMMAND_BARRIER, FERRY_PHASE_PAGES | FERRY_PHASE_COMPLETE |
		FERRY_PHASE_RUNNING, on_barrier },
	{ FERRY_COMMAND_RAM_DISCARD, FERRY_PHASE_PAGES, on_discard },
	{ FERRY_COMMAND_FINISH, FERRY_PHASE_PAGES | FERRY_PHASE_RUNNING,
		on_finish },
	{ FERRY_COMMAND_LOST, FERRY_PHASE_RUNNING, ferry_survive_lost },
	{ FERRY_COMMAND_WATCH, FERRY_PHASE_LOADING | FERRY_PHASE_RUNNING,
		ferry_watch_faults },
	{ FERRY_COMMAND_VERIFY, FERRY_PHASE_COMPLETE | FERRY_PHASE_RUNNING,
		ferry_verify_pages },
	{ FERRY_COMMAND_PACKAGED, FERRY_PHASE_PAGES | FERRY_PHASE_COMPLETE,
		on_packaged },
	{ FERRY_COMMAND_SWITCHOVER_START, FERRY_PHASE_PAGES,
		on_switchover_start },
	{ FERRY_COMMAND_POSTCOPY_RUN, FERRY_PHASE_LOADING |
		FERRY_PHASE_RUNNING, on_run },
	{ FERRY_COMMAND_RECV_BITMAP, FERRY_PHASE_RUNNING,
		ferry_recover_bitmap },
	{ FERRY_COMMAND_POSTCOPY_RESUME, FERRY_PHASE_RUNNING,
		ferry_recover_resume },
	{ FERRY_COMMAND_ABORT, FERRY_PHASE_BEGIN | FERRY_PHASE_PAGES |
		FERRY_PHASE_COMPLETE | FERRY_PHASE_LOADING, on_abort },
};

int ferry_target_command(struct ferry_target *t, const struct ferry_section *s,
			 struct ferry_err *e)
{
	struct ferry_rd rd;

	if (ferry_command_check(s, t->dialect, e) ||
	    ferry_stream_payload(&t->main_in, s->bytes, &rd, e))
		return -1;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		if (rows[i].command != s->command)
			continue;
		if (!(rows[i].phases & t->phase))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "command %s comes out of turn",
					     ferry_command_name(s->command));
		return rows[i].handle(t, &rd, e);
	}
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "command %s is not supported here",
			     ferry_command_name(s->command));
}
