/* SPDX-License-Identifier: MIT */
/*
 * Device state.  A QEMU's FULL sections do not say how long they are: they are
 * told apart by the description that follows a precopy stream, or else by
 * their footers: 7e, the section's number, and something behind it that can
 * follow a section.  A ferry's say it.
 *
 * In a stream this is looked for as the octets come (what is no RAM but comes
 * in parts, or early); in a package, and in the rest of a precopy stream, all
 * is there.
 */
#include "park/dump_priv.h"

#include <inttypes.h>

#include "wire/command.h"
#include "wire/text.h"

/* What the footer search found: is this where the body ends? */
static bool can_follow(struct ferry_dump_stream *s,
		       const struct ferry_section *next)
{
	switch (next->type) {
	case FERRY_SECTION_START:
	case FERRY_SECTION_FULL:
		for (const char *c = next->name; *c; c++)
			if (*c < 0x20 || *c > 0x7e)
				return false;
		return next->version <= UINT16_MAX;
	case FERRY_SECTION_PART:
	case FERRY_SECTION_END:
		return ferry_dump_iterable_find(&s->d->vm, next->id);
	case FERRY_SECTION_COMMAND:
		return !ferry_command_check(next, s->dialect, NULL);
	}
	return false;
}

/* Behind the last device; the description comes next. */
static int eof_followed(const struct ferry_rd *r, bool whole, size_t *lack)
{
	*lack = 1;
	if (!ferry_rd_left(r))
		return whole ? FERRY_DECODE_DONE : FERRY_DECODE_MORE;
	return *r->p == FERRY_SECTION_VMDESCRIPTION ? FERRY_DECODE_DONE
						    : FERRY_DECODE_WRONG;
}

/* r is behind a footer.  whole: nothing comes behind r. */
static int followed(struct ferry_dump_stream *s, struct ferry_rd *r,
		    bool whole, size_t *lack)
{
	struct ferry_section next;
	int rc;

	*lack = 1;
	if (!ferry_rd_left(r))
		return whole ? FERRY_DECODE_DONE : FERRY_DECODE_MORE;
	rc = ferry_section_decode(r, &next, NULL);
	*lack = r->lack;
	if (rc == FERRY_DECODE_MORE && whole)
		return FERRY_DECODE_WRONG;
	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (next.type == FERRY_SECTION_EOF)
		return eof_followed(r, whole, lack);
	return can_follow(s, &next) ? FERRY_DECODE_DONE : FERRY_DECODE_WRONG;
}

static bool is_footer(const uint8_t *p, uint32_t id)
{
	struct ferry_rd r = ferry_rd_over(p, FERRY_FOOTER_WIRE);

	return ferry_footer_decode(&r, id, NULL) == FERRY_DECODE_DONE;
}

/*
 * The first footer of s->sec from octet *at of r on.  DONE: *at is where it
 * is.  MORE: nothing before *at; *lack octets more would help.
 */
static int find_footer(struct ferry_dump_stream *s, const struct ferry_rd *r,
		       bool whole, size_t *at, size_t *lack)
{
	size_t left = ferry_rd_left(r), k = *at;

	for (; k < left && left - k >= FERRY_FOOTER_WIRE; k++) {
		struct ferry_rd behind = *r;
		int rc;

		if (r->p[k] != FERRY_SECTION_FOOTER ||
		    !is_footer(r->p + k, s->sec.id))
			continue;
		behind.p += k + FERRY_FOOTER_WIRE;
		rc = followed(s, &behind, whole, lack);
		if (rc == FERRY_DECODE_WRONG)
			continue;
		*at = k;
		return rc;
	}
	*at = k;
	*lack = k + FERRY_FOOTER_WIRE - left;
	return FERRY_DECODE_MORE;
}

/* sized: how it is known where the body ends. */
static void tell(struct ferry_dump_stream *s, uint64_t body, const char *sized)
{
	ferry_dump_begin_section(s);
	ferry_dump_number(s, "body", body);
	ferry_dump_text(s, "sized", sized);
	ferry_dump_end(s, ferry_section_bytes(&s->sec) + body);
}

int ferry_dump_opaque(struct ferry_dump_stream *s, struct ferry_rd *r,
		      struct ferry_err *e)
{
	int rc = find_footer(s, r, false, &s->scanned, &r->lack);

	(void)e;
	if (rc != FERRY_DECODE_DONE)
		return rc;
	tell(s, s->scanned, "footer");
	ferry_rd_bytes(r, s->scanned);
	return ferry_dump_to_footer(s);
}

/* ---- all of it is there -------------------------------------------- */

static int described(struct ferry_dump_stream *s, const struct ferry_rd *r,
		     const struct ferry_vmdesc *desc, size_t *body)
{
	size_t left = ferry_rd_left(r);
	uint64_t n;

	if (!desc || !ferry_vmdesc_find(desc, s->sec.name, s->sec.instance,
					&n) ||
	    left < FERRY_FOOTER_WIRE || n > left - FERRY_FOOTER_WIRE ||
	    !is_footer(r->p + n, s->sec.id))
		return -1;
	*body = (size_t)n;
	return 0;
}

static int lost(struct ferry_dump_stream *s, struct ferry_err *e)
{
	s->mark = s->sec_at;
	return ferry_err_set(e, FERRY_E_CLOSED, 0,
			     "section %" PRIu32 " (%s): its footer is missing",
			     s->sec.id, FERRY_SHOW(s->sec.name));
}

/* The octets of the body, and of the be32 before a ferry's. */
static int body_size(struct ferry_dump_stream *s, struct ferry_rd *r,
		     const struct ferry_vmdesc *desc, size_t *body,
		     const char **sized, struct ferry_err *e)
{
	struct ferry_rd ahead = *r;
	uint32_t stated;
	size_t lack;
	int rc;

	if (s->dialect == FERRY_DIALECT_FERRY) {
		*sized = "itself";
		rc = ferry_body_decode(&ahead, &stated, e);
		if (rc == FERRY_DECODE_WRONG)
			return -1;
		if (rc == FERRY_DECODE_MORE || stated > ferry_rd_left(&ahead))
			return lost(s, e);
		*body = FERRY_BODY_WIRE + (size_t)stated;
		return 0;
	}
	*sized = "description";
	if (!described(s, r, desc, body))
		return 0;
	*sized = "footer";
	*body = 0;
	rc = find_footer(s, r, true, body, &lack);
	return rc == FERRY_DECODE_DONE ? 0 : lost(s, e);
}

static int device(struct ferry_dump_stream *s, struct ferry_rd *r,
		  const struct ferry_vmdesc *desc, struct ferry_err *e)
{
	const char *sized = "";
	size_t body = 0;
	int rc;

	if (body_size(s, r, desc, &body, &sized, e))
		return -1;
	tell(s, body, sized);
	ferry_rd_bytes(r, body);
	s->mark = ferry_dump_at(s, r);
	rc = ferry_footer_decode(r, s->sec.id, e);
	if (rc == FERRY_DECODE_MORE)
		return lost(s, e);
	if (rc == FERRY_DECODE_WRONG)
		return -1;
	ferry_dump_begin(s, s->mark, "FOOTER", NULL);
	ferry_dump_number(s, "section", s->sec.id);
	ferry_dump_end(s, FERRY_FOOTER_WIRE);
	return 0;
}

static int command(struct ferry_dump_stream *s, struct ferry_rd *r,
		   struct ferry_err *e)
{
	const uint8_t *at;
	struct ferry_rd in;

	if (ferry_command_check(&s->sec, s->dialect, e))
		return -1;
	if (s->sec.command == FERRY_COMMAND_PACKAGED)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "a package inside of device state");
	at = ferry_rd_bytes(r, s->sec.bytes);
	if (!at)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "command %s is cut short",
				     ferry_command_name(s->sec.command));
	in = ferry_rd_over(at, s->sec.bytes);
	return ferry_dump_command(s, &in, e);
}

int ferry_dump_devices(struct ferry_dump_stream *s, struct ferry_rd *r,
		       const struct ferry_vmdesc *desc, bool *eof,
		       struct ferry_err *e)
{
	int rc = 0;

	*eof = false;
	while (!rc && !*eof && ferry_rd_left(r)) {
		s->mark = s->sec_at = ferry_dump_at(s, r);
		rc = ferry_section_decode(r, &s->sec, e);
		if (rc == FERRY_DECODE_MORE)
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "it ends inside of a section's"
					     " header");
		if (rc == FERRY_DECODE_WRONG)
			return -1;
		rc = 0;
		if (s->sec.type == FERRY_SECTION_FULL) {
			rc = device(s, r, desc, e);
		} else if (s->sec.type == FERRY_SECTION_COMMAND) {
			rc = command(s, r, e);
		} else if (s->sec.type == FERRY_SECTION_EOF) {
			ferry_dump_begin(s, s->mark, "EOF", NULL);
			ferry_dump_end(s, 1);
			*eof = true;
		} else {
			rc = ferry_err_set(e, FERRY_E_PROTO, 0,
					   "%s among device state",
					   ferry_section_type_name(
						   s->sec.type));
		}
	}
	return rc;
}

int ferry_dump_package(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	/* PACKAGED has left its size there. */
	size_t n = s->package, left = ferry_rd_left(r);
	struct ferry_rd in;
	bool eof;
	int rc;

	if (left < n) {
		r->lack = n - left;
		return FERRY_DECODE_MORE;
	}
	in = ferry_rd_over(ferry_rd_bytes(r, n), n);
	ferry_dump_to_section(s);
	s->where.depth++;
	rc = ferry_dump_devices(s, &in, NULL, &eof, e);
	ferry_dump_flush(s);
	s->where.depth--;
	if (!rc && (eof || ferry_rd_left(&in)))
		rc = ferry_err_set(e, FERRY_E_PROTO, 0, "EOF inside of a"
				   " package");
	return rc ? FERRY_DECODE_WRONG : FERRY_DECODE_DONE;
}

/* ---- the rest of a precopy stream ---------------------------------- */

int ferry_dump_vmdesc(struct ferry_dump_stream *s, uint64_t offset,
		      struct ferry_rd *r, uint64_t bytes, struct ferry_err *e)
{
	size_t n = ferry_rd_left(r);
	struct ferry_vmdesc v = { 0 };

	if (n && ferry_vmdesc_parse(ferry_rd_bytes(r, n), n, &v, e)) {
		s->mark = offset + (bytes - n) + v.wrong_at;
		return -1;
	}
	ferry_dump_begin(s, offset, "VMDESCRIPTION", NULL);
	ferry_dump_number(s, "devices", v.devices);
	ferry_dump_end(s, bytes);
	ferry_vmdesc_fini(&v);
	return 0;
}

/*
 * EOF, VMDESCRIPTION, and JSON that ends where the input does: the one place
 * for which this is true, or NULL.  A size of 0 is a source that has no
 * description.
 */
static const uint8_t *find_end(const struct ferry_rd *r)
{
	const size_t head = 1 + 1 + 4;
	struct ferry_rd at = *r;

	for (; ferry_rd_left(&at) >= head; at.p++) {
		struct ferry_rd size = ferry_rd_over(at.p + 2, 4);

		if (at.p[0] == FERRY_SECTION_EOF &&
		    at.p[1] == FERRY_SECTION_VMDESCRIPTION &&
		    ferry_rd_be32(&size) == ferry_rd_left(&at) - head)
			return at.p;
	}
	return NULL;
}

static int last(struct ferry_dump_stream *s, struct ferry_rd *r,
		struct ferry_err *e)
{
	struct ferry_rd in;
	int rc;

	s->mark = ferry_dump_at(s, r);
	if (!ferry_rd_left(r))
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "it ends where VMDESCRIPTION must come");
	rc = ferry_section_decode(r, &s->sec, e);
	if (rc == FERRY_DECODE_WRONG)
		return -1;
	if (rc == FERRY_DECODE_DONE &&
	    s->sec.type != FERRY_SECTION_VMDESCRIPTION)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "%s behind EOF",
				     ferry_section_type_name(s->sec.type));
	if (rc == FERRY_DECODE_MORE || ferry_rd_left(r) < s->sec.bytes)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "it ends inside of VMDESCRIPTION");
	in = ferry_rd_over(ferry_rd_bytes(r, s->sec.bytes), s->sec.bytes);
	if (ferry_dump_vmdesc(s, s->mark, &in,
			      ferry_section_bytes(&s->sec) + s->sec.bytes, e))
		return -1;
	s->mark = ferry_dump_at(s, r);
	return ferry_rd_left(r) ?
	       ferry_err_set(e, FERRY_E_PROTO, 0, "%zu octets behind the end",
			     ferry_rd_left(r)) : 0;
}

int ferry_dump_tail(struct ferry_dump_stream *s, struct ferry_rd *r,
		    struct ferry_err *e)
{
	const uint8_t *end = find_end(r);
	struct ferry_vmdesc v = { 0 };
	bool known = false, eof;
	int rc;

	if (end && r->end - end > 6)
		known = !ferry_vmdesc_parse(end + 6, (size_t)(r->end - end) - 6,
					    &v, NULL);
	rc = ferry_dump_devices(s, r, known ? &v : NULL, &eof, e);
	ferry_vmdesc_fini(&v);
	if (rc)
		return FERRY_DECODE_WRONG;
	s->mark = ferry_dump_at(s, r);
	if (!eof)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "it ends where EOF must come");
	return last(s, r, e) ? FERRY_DECODE_WRONG : FERRY_DECODE_DONE;
}
