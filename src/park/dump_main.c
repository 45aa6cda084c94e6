/* SPDX-License-Identifier: MIT */
/*
 * The main stream: file header, CONFIGURATION, then section after section.
 *
 * A section's body is RAM records (dump_ram.c), or octets of a device that
 * nobody here knows (dump_device.c).  When the last part of all that comes in
 * parts has ended and postcopy has not begun, the rest is device state up to
 * the end, and is kept, because what tells its devices apart comes last.
 */
#include "park/dump_priv.h"

#include <inttypes.h>

#include "wire/command.h"
#include "wire/ram.h"
#include "wire/text.h"

static const char *const capabilities[] = { "x-ignore-shared", "mapped-ram" };

static int config(struct ferry_dump_stream *s, struct ferry_rd *r,
		  struct ferry_err *e)
{
	struct ferry_config *c = &s->d->vm.config;
	const uint8_t *from = r->p;
	int rc = ferry_config_decode(r, c, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->mark, "CONFIGURATION", NULL);
	ferry_dump_text(s, "machine", c->machine);
	if (c->page_bits)
		ferry_dump_number(s, "page_bits", c->page_bits);
	if (c->capabilities)
		ferry_dump_list(s, "capabilities");
	for (unsigned i = 0; i < FERRY_LEN(capabilities); i++)
		if (c->capabilities >> i & 1)
			ferry_dump_text(s, NULL, capabilities[i]);
	if (c->capabilities)
		ferry_dump_list_end(s);
	if (c->has_uuid)
		ferry_dump_octets(s, "uuid", c->uuid, sizeof(c->uuid));
	ferry_dump_end(s, (uint64_t)(r->p - from));
	return ferry_dump_to_section(s);
}

int ferry_dump_file_header(struct ferry_dump_stream *s, struct ferry_rd *r,
			   struct ferry_err *e)
{
	int rc;

	/* A ferry that gives up says so in place of the header. */
	if (s->dialect == FERRY_DIALECT_FERRY &&
	    *r->p == FERRY_SECTION_COMMAND)
		return ferry_dump_to_section(s);
	rc = ferry_file_header_decode(r, e);
	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (s->dialect == FERRY_DIALECT_QEMU)
		ferry_dump_vm_reset(&s->d->vm);
	ferry_dump_begin(s, s->mark, "FILE_HEADER", NULL);
	ferry_dump_number(s, "version", FERRY_FILE_VERSION);
	ferry_dump_end(s, FERRY_FILE_HEADER_WIRE);
	return ferry_dump_next(s, config, "CONFIGURATION");
}

/* ---- footers ------------------------------------------------------- */

static bool all_ended(const struct ferry_dump_vm *vm)
{
	for (uint32_t i = 0; i < vm->iterables; i++)
		if (!vm->iterable[i].ended)
			return false;
	return vm->iterables > 0;
}

static int footer(struct ferry_dump_stream *s, struct ferry_rd *r,
		  struct ferry_err *e)
{
	struct ferry_dump_vm *vm = &s->d->vm;
	struct ferry_dump_iterable *it;
	int rc = ferry_footer_decode(r, s->sec.id, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->mark, "FOOTER", NULL);
	ferry_dump_number(s, "section", s->sec.id);
	ferry_dump_end(s, FERRY_FOOTER_WIRE);

	it = ferry_dump_iterable_find(vm, s->sec.id);
	if (it && s->sec.type == FERRY_SECTION_END)
		it->ended = true;
	if (all_ended(vm) && !vm->postcopy &&
	    s->dialect == FERRY_DIALECT_QEMU) {
		s->hold = true;
		s->at_end = ferry_dump_tail;
	}
	return ferry_dump_to_section(s);
}

int ferry_dump_to_footer(struct ferry_dump_stream *s)
{
	return ferry_dump_next(s, footer, "a section's footer");
}

int ferry_dump_to_section(struct ferry_dump_stream *s)
{
	const struct ferry_dump_vm *vm = &s->d->vm;

	ferry_dump_next(s, ferry_dump_section, "a section");
	s->may_end = s->dialect == FERRY_DIALECT_FERRY && vm->running &&
		     vm->finished;
	return FERRY_DECODE_DONE;
}

/* ---- sections ------------------------------------------------------ */

void ferry_dump_begin_section(struct ferry_dump_stream *s)
{
	ferry_dump_begin(s, s->sec_at, ferry_section_type_name(s->sec.type),
			 NULL);
	ferry_dump_number(s, "section", s->sec.id);
	if (!s->sec.name[0])
		return;
	ferry_dump_text(s, "name", s->sec.name);
	ferry_dump_number(s, "instance", s->sec.instance);
	ferry_dump_number(s, "version", s->sec.version);
}

static void tell(struct ferry_dump_stream *s)
{
	ferry_dump_begin_section(s);
	ferry_dump_end(s, ferry_section_bytes(&s->sec));
}

static int opaque(struct ferry_dump_stream *s)
{
	s->scanned = 0;
	return ferry_dump_next(s, ferry_dump_opaque, "a device's state");
}

static int body(struct ferry_dump_stream *s, bool ram)
{
	if (!ram)
		return opaque(s);
	tell(s);
	return ferry_dump_next(s, ferry_dump_ram, "a RAM record");
}

static int on_start(struct ferry_dump_stream *s, struct ferry_err *e)
{
	struct ferry_dump_vm *vm = &s->d->vm;
	bool ram = !strcmp(s->sec.name, FERRY_RAM_SECTION_NAME);

	if (ferry_dump_iterable_find(vm, s->sec.id) ||
	    vm->iterables == FERRY_DUMP_ITERABLES_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "START of section %" PRIu32 " (%s): it has"
				     " started, or there are too many",
				     s->sec.id, FERRY_SHOW(s->sec.name));
	if (ram && s->sec.version != FERRY_RAM_SECTION_VERSION)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "START of ram: version %" PRIu32,
				     s->sec.version);
	vm->iterable[vm->iterables++] = (struct ferry_dump_iterable){
		.id = s->sec.id, .ram = ram,
	};
	return body(s, ram);
}

static int on_part(struct ferry_dump_stream *s, struct ferry_err *e)
{
	struct ferry_dump_vm *vm = &s->d->vm;
	const struct ferry_dump_iterable *it =
		ferry_dump_iterable_find(vm, s->sec.id);

	/* A recovery goes on with what an earlier connection began; in a file
	 * of its own that can only be RAM. */
	if (!it && !(vm->postcopy && !vm->iterables))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s of section %" PRIu32
				     ", which has not started",
				     ferry_section_type_name(s->sec.type),
				     s->sec.id);
	if (it && it->ended)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s of section %" PRIu32
				     ", which has ended",
				     ferry_section_type_name(s->sec.type),
				     s->sec.id);
	return body(s, !it || it->ram);
}

static int on_full(struct ferry_dump_stream *s, struct ferry_err *e)
{
	(void)e;
	return opaque(s);
}

static int on_eof(struct ferry_dump_stream *s, struct ferry_err *e)
{
	tell(s);
	if (s->d->vm.postcopy)
		return ferry_dump_over(s);
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "EOF before the RAM section has ended");
}

static int payload(struct ferry_dump_stream *s, struct ferry_rd *r,
		   struct ferry_err *e)
{
	const uint8_t *at = ferry_rd_bytes(r, s->sec.bytes);
	struct ferry_rd in = ferry_rd_over(at, s->sec.bytes);

	if (!at) {
		r->bad = false;		/* lack stands */
		return FERRY_DECODE_MORE;
	}
	ferry_dump_to_section(s);
	s->mark = s->sec_at;
	return ferry_dump_command(s, &in, e) ? FERRY_DECODE_WRONG
					     : FERRY_DECODE_DONE;
}

static int on_command(struct ferry_dump_stream *s, struct ferry_err *e)
{
	struct ferry_rd none = ferry_rd_over("", 0);

	if (ferry_command_check(&s->sec, s->dialect, e))
		return FERRY_DECODE_WRONG;
	if (s->sec.bytes)
		return ferry_dump_next(s, payload, "a command's payload");
	ferry_dump_to_section(s);
	return ferry_dump_command(s, &none, e) ? FERRY_DECODE_WRONG
					       : FERRY_DECODE_DONE;
}

static int on_other(struct ferry_dump_stream *s, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "%s where a section begins",
			     ferry_section_type_name(s->sec.type));
}

static const struct {
	uint8_t	type;
	/* The header is read: DONE, with the next step, or WRONG. */
	int	(*on)(struct ferry_dump_stream *s, struct ferry_err *e);
} types[] = {
	{ FERRY_SECTION_EOF, on_eof },
	{ FERRY_SECTION_START, on_start },
	{ FERRY_SECTION_PART, on_part },
	{ FERRY_SECTION_END, on_part },
	{ FERRY_SECTION_FULL, on_full },
	{ FERRY_SECTION_COMMAND, on_command },
};

int ferry_dump_section(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	int rc = ferry_section_decode(r, &s->sec, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	s->sec_at = s->mark;
	for (size_t i = 0; i < FERRY_LEN(types); i++)
		if (types[i].type == s->sec.type)
			return types[i].on(s, e);
	return on_other(s, e);
}
