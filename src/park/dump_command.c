/* SPDX-License-Identifier: MIT */
/*
 * Commands: what each says, and what it changes for the reader.
 */
#include "park/dump_priv.h"

#include "wire/channel.h"
#include "wire/command.h"
#include "wire/ranges.h"
#include "wire/verify.h"

static int tell_value(struct ferry_dump_stream *s, struct ferry_rd *r,
		      struct ferry_err *e)
{
	uint32_t value;

	if (ferry_command_u32_decode(r, s->sec.command, &value, e))
		return -1;
	ferry_dump_number(s, "value", value);
	if (s->sec.command == FERRY_COMMAND_FINISH)
		s->d->vm.finished = true;
	if (s->sec.command != FERRY_COMMAND_PACKAGED)
		return 0;
	s->package = value;
	ferry_dump_next(s, ferry_dump_package, "a package");
	return 0;
}

static int tell_advise(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	struct ferry_advise a;

	if (ferry_advise_decode(r, &a, e))
		return -1;
	if (a.ram)
		ferry_dump_hex(s, "page_sizes", a.page_sizes);
	s->d->vm.advised = a.page_sizes;
	return 0;
}

static int tell_sums(struct ferry_dump_stream *s, struct ferry_rd *r,
		     struct ferry_err *e)
{
	const struct ferry_dump_block *b;
	struct ferry_verify v;

	if (ferry_verify_decode(r, &v, e) ||
	    ferry_dump_block_known(&s->d->vm, v.name, &b, e) ||
	    (b && ferry_verify_check_in(&v, b->bytes / FERRY_PAGE_BYTES, e)))
		return -1;
	ferry_dump_text(s, "block", v.name);
	ferry_dump_number(s, "first", v.first);
	ferry_dump_number(s, "pages", v.pages);
	return 0;
}

static int tell_ranges(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	const struct ferry_dump_block *b;
	struct ferry_block_shape shape;
	struct ferry_ranges g;
	struct ferry_span span;
	uint64_t bytes = 0;

	if (ferry_ranges_decode(r, s->sec.command, &g, e) ||
	    ferry_dump_block_known(&s->d->vm, g.name, &b, e))
		return -1;
	if (b) {
		shape = ferry_dump_shape(b);
		if (ferry_ranges_check_in(&g, &shape, e))
			return -1;
	}
	ferry_dump_text(s, "block", g.name);
	ferry_dump_list(s, "ranges");
	while (ferry_ranges_next(&g, &span)) {
		ferry_dump_list(s, NULL);
		ferry_dump_hex(s, NULL, span.start);
		ferry_dump_hex(s, NULL, span.bytes);
		ferry_dump_list_end(s);
		bytes += span.bytes;
	}
	ferry_dump_list_end(s);
	ferry_dump_number(s, "pages", bytes / FERRY_PAGE_BYTES);
	return 0;
}

static int tell_block(struct ferry_dump_stream *s, struct ferry_rd *r,
		      struct ferry_err *e)
{
	const struct ferry_dump_block *b;
	char name[FERRY_NAME_MAX + 1];

	if (ferry_recv_bitmap_decode(r, name, e) ||
	    ferry_dump_block_known(&s->d->vm, name, &b, e))
		return -1;
	ferry_dump_text(s, "block", name);
	return 0;
}

static int tell_reason(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	char reason[FERRY_REASON_BYTES_MAX + 1];

	if (s->sec.command == FERRY_COMMAND_VOID ?
	    ferry_void_decode(r, reason, e) : ferry_abort_decode(r, reason, e))
		return -1;
	ferry_dump_text(s, "reason", reason);
	ferry_dump_over(s);
	return 0;
}

static int tell_channel(struct ferry_dump_stream *s, struct ferry_rd *r,
			struct ferry_err *e)
{
	enum ferry_channel_type type;
	uint32_t number;
	unsigned index;

	if (ferry_command_u32_decode(r, FERRY_COMMAND_LOST, &number, e))
		return -1;
	if (!ferry_channel_of_number(number, &type, &index))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "LOST of channel "
				     "0x%x", number);
	ferry_dump_text(s, "type", ferry_channel_type_name((uint16_t)type));
	ferry_dump_number(s, "index", index);
	return 0;
}

static int on_listen(struct ferry_dump_stream *s, struct ferry_rd *r,
		     struct ferry_err *e)
{
	(void)r;
	(void)e;
	s->d->vm.postcopy = true;
	return 0;
}

static int on_run(struct ferry_dump_stream *s, struct ferry_rd *r,
		  struct ferry_err *e)
{
	(void)r;
	(void)e;
	s->d->vm.running = true;
	return 0;
}

static const struct {
	uint16_t command;
	int	 (*tell)(struct ferry_dump_stream *s, struct ferry_rd *r,
			 struct ferry_err *e);
} commands[] = {
	{ FERRY_COMMAND_PING, tell_value },
	{ FERRY_COMMAND_PACKAGED, tell_value },
	{ FERRY_COMMAND_BARRIER, tell_value },
	{ FERRY_COMMAND_FINISH, tell_value },
	{ FERRY_COMMAND_LOST, tell_channel },
	{ FERRY_COMMAND_WATCH, tell_value },
	{ FERRY_COMMAND_POSTCOPY_ADVISE, tell_advise },
	{ FERRY_COMMAND_POSTCOPY_LISTEN, on_listen },
	{ FERRY_COMMAND_POSTCOPY_RUN, on_run },
	{ FERRY_COMMAND_RAM_DISCARD, tell_ranges },
	{ FERRY_COMMAND_ZERO_RANGES, tell_ranges },
	{ FERRY_COMMAND_RECV_BITMAP, tell_block },
	{ FERRY_COMMAND_ABORT, tell_reason },
	{ FERRY_COMMAND_VERIFY, tell_sums },
	{ FERRY_COMMAND_LEASE, tell_value },
	{ FERRY_COMMAND_RENEW, tell_value },
	{ FERRY_COMMAND_VOID, tell_reason },
};

int ferry_dump_command(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	int rc = 0;

	ferry_dump_begin(s, s->mark, "COMMAND",
			 ferry_command_name(s->sec.command));
	for (size_t i = 0; i < FERRY_LEN(commands); i++)
		if (commands[i].command == s->sec.command)
			rc = commands[i].tell(s, r, e);
	ferry_dump_end(s, FERRY_COMMAND_HEAD_WIRE + (uint64_t)s->sec.bytes);
	if (s->dialect == FERRY_DIALECT_FERRY && s->d->vm.running &&
	    s->d->vm.finished)
		s->may_end = true;
	return rc;
}
