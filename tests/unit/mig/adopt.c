/* SPDX-License-Identifier: MIT */
/*
 * A target without a VM: in which order it prepares, commits and answers, for
 * each kind of source and what can go wrong there; and where device state ends,
 * for streams that arrive in two pieces, cut at each octet.
 */
#include "help.h"

#include <poll.h>

#include "mig/target_test.h"

#define OCTETS(s)	(const uint8_t *)(s), sizeof(s) - 1

/* One block, r, of one page. */
#define HEAD		"QEVM\0\0\0\3\7\0\0\0\2pc"
#define RETURN_PATH	"\x08\0\1\0\0"
#define ADVISE		"\x08\0\3\0\x10" "\0\0\0\0\0\0\x10\0" \
			"\0\0\0\0\0\0\x10\0"
#define START		"\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4" \
			"\0\0\0\0\0\0\x10\4" "\1r\0\0\0\0\0\0\x10\0" \
			"\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\2"
#define PAGE_0		"\0\0\0\0\0\0\0\2\1r\0"
#define EOS		"\0\0\0\0\0\0\0\x10" "\x7e\0\0\0\2"
#define PART		"\2\0\0\0\2" PAGE_0 EOS
#define END		"\3\0\0\0\2" EOS
/* A device that holds what an end looks like, with and without text. */
#define DEVICE		"\4\0\0\0\3\1d\0\0\0\0\0\0\0\1" \
			"\x7e\0\0\0\3\0\6\0\0\0\2{}" \
			"\x7e\0\0\0\3\0\6\0\0\0\0" "\x7e\0\0\0\3"
#define TEXT		"{\"devices\": [\"}\"]}"
#define TAIL		DEVICE "\0\6\0\0\0\x12" TEXT
#define PRECOPY		START PART END TAIL
#define DISCARD		"\x08\0\6\0\x14\0\1r\0\0\0\0\0\0\0\0\0" \
			"\0\0\0\0\0\0\x10\0"
#define PACKAGE(ping)	"\x08\0\7\0\4\0\0\0" ping
#define PACKAGE_OLD	PACKAGE("\x3f" "\x08\0\4\0\0" DEVICE \
				"\x08\0\2\0\4\0\0\0\3" "\x08\0\5\0\0")
#define PACKAGE_NEW	PACKAGE("\x48" "\x08\0\4\0\0" DEVICE \
				"\x08\0\2\0\4\0\0\0\3" \
				"\x08\0\2\0\4\0\0\0\x42" "\x08\0\5\0\0")

struct adopter {
	struct ferry_vm	*vm;
	struct ferry_target *t;
	struct ferry_chan *source;
	_Atomic unsigned steps;
	const char	*step[16];
	size_t		 state_bytes, text_bytes;
	int		 fails;		/* the step below does, so often */
	const char	*that;
	const char	*leaves;	/* the source does, in this step */
};

static int note(struct adopter *a, const char *step, struct ferry_err *e)
{
	unsigned n = atomic_load(&a->steps);

	assert_true(n < FERRY_LEN(a->step));
	a->step[n] = step;
	atomic_store(&a->steps, n + 1);
	if (a->leaves && !strcmp(a->leaves, step))
		a->source->ops->shutdown(a->source);
	if (a->fails && !strcmp(a->that, step)) {
		a->fails--;
		return ferry_err_set(e, FERRY_E_IO, ENOSPC, "testing");
	}
	return 0;
}

static int on_begin(void *opaque, struct ferry_err *e)
{
	return note(opaque, "begin", e);
}

static int on_block(void *opaque, const struct ferry_mem_block *b, int *fd,
		    uint64_t *offset, struct ferry_err *e)
{
	assert_string_equal(b->name, "r");
	assert_int_equal(b->bytes, 4096);
	*fd = memfd_create("block", MFD_CLOEXEC);
	*offset = 0;
	return note(opaque, "block", e);
}

static bool on_is_whole(void *opaque, const void *sections, size_t bytes,
			const void *text, size_t text_bytes)
{
	(void)opaque;
	(void)sections;
	(void)text;
	return bytes == sizeof(DEVICE) - 1 && text_bytes == sizeof(TEXT) - 1;
}

static int on_prepare(void *opaque, const struct ferry_adopt_state *state,
		      struct ferry_err *e)
{
	struct adopter *a = opaque;

	assert_string_equal(state->who.vm->name, "pc");
	assert_int_equal(ferry_map_missing(state->map), 0);
	a->state_bytes = state->sections_bytes;
	a->text_bytes = state->vmdesc_bytes;
	return note(a, "prepare", e);
}

static int on_commit(void *opaque, bool aside, struct ferry_err *e)
{
	return note(opaque, aside ? "aside" : "commit", e);
}

static int on_settle(void *opaque, struct ferry_err *e)
{
	return note(opaque, "settle", e);
}

static void on_revoke(void *opaque)
{
	(void)!note(opaque, "revoke", NULL);
}

static void on_wrote(void *opaque, const struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data)
{
	(void)opaque;
	(void)data;
	assert_true(first + n <= b->pages);
}

static const struct ferry_adopt_ops ops = {
	.begin = on_begin, .block = on_block, .is_whole = on_is_whole,
	.wrote = on_wrote, .prepare = on_prepare, .commit = on_commit,
	.settle = on_settle, .revoke = on_revoke,
};

static void say(struct adopter *a, const uint8_t *octets, size_t bytes)
{
	struct ferry_err e;

	/* It may have left. */
	(void)!ferry_chan_write(a->source, octets, bytes, &e);
}

/* All that was said was read. */
static void await_read(struct adopter *a, struct ferry_chan *chan)
{
	while (chan->ops->wait(chan, POLLIN, 0) == 1 &&
	       !ferry_state_is_final(ferry_status_state(&a->t->status)))
		usleep(50);
}

/* octets in two pieces; HEAD is in the first, and what follows it, so that it is
 * known to end. */
static void come(struct adopter *a, const uint8_t *octets, size_t bytes,
		 size_t first)
{
	const struct ferry_adopt_how how = { 0 };
	struct ferry_chan *end[2];
	struct ferry_err e;

	a->vm = ferry_vm_new_adopting(&ops, a, &how, &e);
	assert_non_null(a->vm);
	a->t = ferry_target_new(a->vm, NULL, NULL, &e);
	assert_non_null(a->t);
	assert_ok(ferry_chan_pair(end, &e));
	a->source = end[0];
	say(a, octets, first);
	assert_ok(ferry_target_begin(a->t, &e));
	ferry_target_offer(a->t, end[1]);
	if (first < bytes) {
		await_read(a, end[1]);
		say(a, octets + first, bytes - first);
	}
}

static void leave(struct adopter *a)
{
	struct ferry_err e = { 0 };

	(void)!ferry_target_wait(a->t, -1, &e);
	ferry_target_free(a->t);
	ferry_vm_free(a->vm);
	ferry_chan_close(a->source);
}

/* One that was never asked to answer just ends. */
static bool says_more(struct adopter *a)
{
	struct ferry_chan *c = a->source;

	while (c->ops->wait(c, POLLIN, 5) == 0)
		if (ferry_state_is_final(ferry_status_state(&a->t->status)))
			return c->ops->wait(c, POLLIN, 0) == 1;
	return true;
}

/* Reads until it has SHUT 0, or the target hangs up; then hangs up itself.
 * Which steps had been taken when this PONG came; 0: it did not. */
static unsigned hear(struct adopter *a, uint32_t pong)
{
	struct ferry_inbuf in = { 0 };
	struct ferry_err e;
	unsigned then = 0;
	const uint8_t *p;

	assert_ok(ferry_inbuf_init(&in, a->source, 4096, &e));
	while ((ferry_inbuf_have(&in) || says_more(a)) &&
	       (p = ferry_inbuf_need(&in, 8, &e))) {
		bool shut = p[1] == FERRY_RP_SHUT;

		if (p[1] == FERRY_RP_PONG && p[7] == pong)
			then = atomic_load(&a->steps);
		ferry_inbuf_consume(&in, 8);
		if (shut)
			break;
	}
	a->source->ops->shutdown(a->source);
	ferry_inbuf_fini(&in);
	return then;
}

static void assert_steps(const struct adopter *a, const char *why,
			 const char *want)
{
	char got[256] = "";

	for (unsigned i = 0; i < atomic_load(&a->steps); i++) {
		strcat(got, i ? " " : "");
		strcat(got, a->step[i]);
	}
	if (strcmp(got, want))
		fail_msg("%s: '%s', not '%s'", why, got, want);
}

static const struct row {
	const char	*why;
	const uint8_t	*octets;
	size_t		 bytes;
	const char	*that;		/* fails so often */
	int		 fails;
	const char	*leaves;
	enum ferry_state ends;
	const char	*steps;
} rows[] = {
	{ "precopy", OCTETS(HEAD RETURN_PATH PRECOPY), "", 0, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare aside settle" },
	{ "one way", OCTETS(HEAD PRECOPY), "", 0, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare commit" },
	{ "one way, twice full", OCTETS(HEAD PRECOPY), "prepare", 1, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare prepare commit" },
	{ "one way, no name", OCTETS(HEAD PRECOPY), "commit", 1, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare commit commit" },
	{ "full", OCTETS(HEAD RETURN_PATH PRECOPY), "prepare", 1, NULL,
	  FERRY_STATE_FAILED, "begin block prepare" },
	{ "no name", OCTETS(HEAD RETURN_PATH PRECOPY), "aside", 1, NULL,
	  FERRY_STATE_FAILED, "begin block prepare aside" },
	{ "left while it was written", OCTETS(HEAD RETURN_PATH PRECOPY), "",
	  0, "prepare", FERRY_STATE_FAILED, "begin block prepare" },
	{ "cannot be told", OCTETS(HEAD RETURN_PATH PRECOPY), "", 0, "aside",
	  FERRY_STATE_FAILED, "begin block prepare aside revoke" },
	{ "left in the midst", OCTETS(HEAD RETURN_PATH START PART), "", 0,
	  "block", FERRY_STATE_FAILED, "begin block" },
	{ "no room for the block", OCTETS(HEAD RETURN_PATH PRECOPY), "block",
	  1, NULL, FERRY_STATE_FAILED, "begin block" },
	{ "postcopy", OCTETS(HEAD RETURN_PATH ADVISE START PART DISCARD
			     PACKAGE_OLD PART END "\0"), "", 0, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare aside settle" },
	{ "postcopy, full", OCTETS(HEAD RETURN_PATH ADVISE START PART DISCARD
				   PACKAGE_OLD PART END "\0"), "prepare", 1,
	  NULL, FERRY_STATE_COMPLETED,
	  "begin block prepare prepare aside settle" },
	{ "postcopy, cannot be told", OCTETS(HEAD RETURN_PATH ADVISE START
					     PART DISCARD PACKAGE_OLD PART END
					     "\0"), "", 0, "aside",
	  FERRY_STATE_POSTCOPY_PAUSED, "begin block prepare aside" },
	{ "new postcopy", OCTETS(HEAD RETURN_PATH ADVISE START PART DISCARD
				 PACKAGE_NEW PART END "\0"), "", 0, NULL,
	  FERRY_STATE_COMPLETED, "begin block prepare aside settle" },
	{ "new postcopy, full", OCTETS(HEAD RETURN_PATH ADVISE START PART
				       DISCARD PACKAGE_NEW PART END "\0"),
	  "prepare", 1, NULL, FERRY_STATE_FAILED, "begin block prepare" },
};

static void each_source_is_kept_in_its_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		struct adopter a = {
			.that = r->that, .fails = r->fails,
			.leaves = r->leaves,
		};
		struct ferry_err e = { 0 };
		enum ferry_state ends;

		come(&a, r->octets, r->bytes, r->bytes);
		hear(&a, 0);
		(void)!ferry_target_wait(a.t, -1, &e);
		ends = ferry_status_state(&a.t->status);
		if (ends != r->ends)
			fail_msg("%s: %s: %s", r->why, ferry_state_name(ends),
				 e.msg);
		leave(&a);
		assert_steps(&a, r->why, r->steps);
	}
}

static void who_hears_pong_42_finds_it_on_the_disk(void **state)
{
	struct adopter a = { .that = "" };

	(void)state;
	come(&a, OCTETS(HEAD RETURN_PATH ADVISE START PART DISCARD PACKAGE_NEW
			PART END "\0"), sizeof(HEAD));
	assert_int_equal(hear(&a, 0x42), 4);	/* with: aside */
	leave(&a);
}

static void a_source_that_did_not_read_shut_leaves_it_undecided(void **state)
{
	struct adopter a = { .that = "" };

	(void)state;
	come(&a, OCTETS(HEAD RETURN_PATH PRECOPY), sizeof(HEAD));
	assert_int_equal(a.source->ops->wait(a.source, POLLIN, 60000), 1);
	ferry_chan_close(a.source);
	assert_int_equal(ferry_target_wait(a.t, -1, NULL), -1);
	ferry_target_free(a.t);
	ferry_vm_free(a.vm);
	assert_steps(&a, "unread", "begin block prepare aside");
}

static void device_state_ends_where_it_ends(void **state)
{
	static const char whole[] = HEAD RETURN_PATH PRECOPY;

	(void)state;
	for (size_t at = sizeof(HEAD); at < sizeof(whole); at++) {
		struct adopter a = { .that = "" };

		come(&a, OCTETS(whole), at);
		hear(&a, 0);
		leave(&a);
		assert_steps(&a, "cut", "begin block prepare aside settle");
		assert_int_equal(a.state_bytes, sizeof(DEVICE) - 1);
		assert_int_equal(a.text_bytes, sizeof(TEXT) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_source_is_kept_in_its_order),
		cmocka_unit_test(who_hears_pong_42_finds_it_on_the_disk),
		cmocka_unit_test(
			a_source_that_did_not_read_shut_leaves_it_undecided),
		cmocka_unit_test(device_state_ends_where_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
