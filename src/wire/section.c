/* SPDX-License-Identifier: MIT */
/*
 * Section headers: one row per type, one pair of functions per form.
 */
#include "wire/section.h"

#include <inttypes.h>

#include "wire/text.h"

static int none_decode(struct ferry_rd *r, struct ferry_section *s,
		       struct ferry_err *e)
{
	(void)r;
	(void)s;
	(void)e;
	return 0;
}

static void none_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	(void)w;
	(void)s;
}

static int id_decode(struct ferry_rd *r, struct ferry_section *s,
		     struct ferry_err *e)
{
	(void)e;
	s->id = ferry_rd_be32(r);
	return 0;
}

static void id_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	ferry_wr_be32(w, s->id);
}

/* | be32 id | str8 name | be32 instance | be32 version | */
static int named_decode(struct ferry_rd *r, struct ferry_section *s,
			struct ferry_err *e)
{
	s->id = ferry_rd_be32(r);
	if (!ferry_text_read_name(r, s->name))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "section %" PRIu32 ": bad name", s->id);
	s->instance = ferry_rd_be32(r);
	s->version = ferry_rd_be32(r);
	return 0;
}

static void named_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	ferry_wr_be32(w, s->id);
	ferry_wr_str8(w, s->name);
	ferry_wr_be32(w, s->instance);
	ferry_wr_be32(w, s->version);
}

static int bytes_decode(struct ferry_rd *r, struct ferry_section *s,
			struct ferry_err *e)
{
	s->bytes = ferry_rd_be32(r);
	if (s->bytes > FERRY_VMDESC_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "VMDESCRIPTION: %" PRIu32 " octets",
				     s->bytes);
	return 0;
}

static void bytes_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	ferry_wr_be32(w, s->bytes);
}

static int command_decode(struct ferry_rd *r, struct ferry_section *s,
			  struct ferry_err *e)
{
	(void)e;
	s->command = ferry_rd_be16(r);
	s->bytes = ferry_rd_be16(r);
	return 0;
}

static void command_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	if (s->bytes > FERRY_COMMAND_BYTES_MAX)
		w->bad = true;
	ferry_wr_be16(w, s->command);
	ferry_wr_be16(w, (uint16_t)s->bytes);
}

struct row {
	uint8_t		type;
	uint8_t		bytes;		/* without the name's octets */
	const char	*name;
	/* Both NULL: not a section that stands by itself. */
	int		(*decode)(struct ferry_rd *r, struct ferry_section *s,
				  struct ferry_err *e);
	void		(*encode)(struct ferry_wr *w,
				  const struct ferry_section *s);
};

static const struct row rows[] = {
	{ FERRY_SECTION_EOF, 1, "EOF", none_decode, none_encode },
	{ FERRY_SECTION_START, 14, "START", named_decode, named_encode },
	{ FERRY_SECTION_PART, 5, "PART", id_decode, id_encode },
	{ FERRY_SECTION_END, 5, "END", id_decode, id_encode },
	{ FERRY_SECTION_FULL, 14, "FULL", named_decode, named_encode },
	{ FERRY_SECTION_SUBSECTION, 0, "SUBSECTION", NULL, NULL },
	{ FERRY_SECTION_VMDESCRIPTION, 5, "VMDESCRIPTION",
	  bytes_decode, bytes_encode },
	{ FERRY_SECTION_CONFIGURATION, 0, "CONFIGURATION", NULL, NULL },
	{ FERRY_SECTION_COMMAND, 5, "COMMAND",
	  command_decode, command_encode },
	{ FERRY_SECTION_FOOTER, 5, "FOOTER", id_decode, id_encode },
};

static const struct row *row_of(uint8_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == type)
			return &rows[i];
	return NULL;
}

const char *ferry_section_type_name(uint8_t type)
{
	const struct row *row = row_of(type);

	return row ? row->name : "unknown";
}

static int section_read(struct ferry_rd *r, struct ferry_section *s,
			struct ferry_err *e)
{
	const struct row *row;

	s->type = ferry_rd_u8(r);
	if (r->bad)
		return 0;
	row = row_of(s->type);
	if (!row || !row->decode)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "no section begins with 0x%02x (%s)",
				     s->type, ferry_section_type_name(s->type));
	return row->decode(r, s, e);
}

int ferry_section_decode(struct ferry_rd *r, struct ferry_section *s,
			 struct ferry_err *e)
{
	struct ferry_rd from = *r;

	s->command = 0;
	s->bytes = s->id = s->instance = s->version = 0;
	s->name[0] = '\0';
	return ferry_decode_end(r, from, section_read(r, s, e));
}

void ferry_section_encode(struct ferry_wr *w, const struct ferry_section *s)
{
	const struct row *row = row_of(s->type);

	if (!row || !row->encode)
		w->bad = true;
	if (w->bad)
		return;
	ferry_wr_u8(w, s->type);
	row->encode(w, s);
}

size_t ferry_section_bytes(const struct ferry_section *s)
{
	const struct row *row = row_of(s->type);

	if (!row)
		return 0;
	return row->bytes + (row->decode == named_decode ? strlen(s->name) : 0);
}

int ferry_footer_decode(struct ferry_rd *r, uint32_t id, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	uint8_t type = ferry_rd_u8(r);
	int rc = 0;

	if (!r->bad && type != FERRY_SECTION_FOOTER)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "section %" PRIu32 ": 0x%02x where its"
				   " footer should be", id, type);
	if (!rc) {
		uint32_t got = ferry_rd_be32(r);

		if (!r->bad && got != id)
			rc = ferry_err_set(e, FERRY_E_PROTO, 0,
					   "section %" PRIu32 ": footer of"
					   " section %" PRIu32, id, got);
	}
	return ferry_decode_end(r, from, rc);
}

void ferry_footer_encode(struct ferry_wr *w, uint32_t id)
{
	ferry_wr_u8(w, FERRY_SECTION_FOOTER);
	ferry_wr_be32(w, id);
}

int ferry_body_decode(struct ferry_rd *r, uint32_t *bytes, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	int rc = 0;

	*bytes = ferry_rd_be32(r);
	if (*bytes > FERRY_PACKAGE_BYTES_MAX)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "device section: body of %" PRIu32
				   " octets", *bytes);
	return ferry_decode_end(r, from, rc);
}

void ferry_body_encode(struct ferry_wr *w, uint32_t bytes)
{
	ferry_wr_be32(w, bytes);
}
