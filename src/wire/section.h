/* SPDX-License-Identifier: MIT */
/*
 * Headers of the sections that make up QEMU's main stream, and the footer
 * behind START, PART, END and FULL.  Pure, any thread.
 *
 * CONFIGURATION (wire/config.h) and SUBSECTION never appear where a section
 * header is read, and are refused here.
 */
#ifndef FERRY_WIRE_SECTION_H
#define FERRY_WIRE_SECTION_H

#include "base/limits.h"
#include "wire/decode.h"

enum ferry_section_type {
	FERRY_SECTION_EOF		= 0x00,
	FERRY_SECTION_START		= 0x01,
	FERRY_SECTION_PART		= 0x02,
	FERRY_SECTION_END		= 0x03,
	FERRY_SECTION_FULL		= 0x04,
	FERRY_SECTION_SUBSECTION	= 0x05,
	FERRY_SECTION_VMDESCRIPTION	= 0x06,
	FERRY_SECTION_CONFIGURATION	= 0x07,
	FERRY_SECTION_COMMAND		= 0x08,
	FERRY_SECTION_FOOTER		= 0x7e,
};

#define FERRY_RAM_SECTION_NAME		"ram"
#define FERRY_RAM_SECTION_VERSION	4

struct ferry_section {
	uint8_t		type;
	uint16_t	command;	/* COMMAND: its number */
	uint32_t	bytes;		/* COMMAND: of payload;
					 * VMDESCRIPTION: of JSON */
	uint32_t	id;		/* START, PART, END, FULL, FOOTER */
	uint32_t	instance;	/* START, FULL */
	uint32_t	version;	/* START, FULL */
	char		name[FERRY_NAME_MAX + 1];	/* START, FULL */
};

/* Stream decoder: the header; payload or body follow. */
FERRY_CHECKED int ferry_section_decode(struct ferry_rd *r,
				       struct ferry_section *s,
				       struct ferry_err *e);

/* s->name of START and FULL is 1 to 255 octets. */
void ferry_section_encode(struct ferry_wr *w, const struct ferry_section *s);
size_t ferry_section_bytes(const struct ferry_section *s);

#define FERRY_SECTION_HEAD_MAX	(1 + 4 + 1 + FERRY_NAME_MAX + 4 + 4)

/* "START"; "unknown" for a type that is none.  Static. */
const char *ferry_section_type_name(uint8_t type);

#define FERRY_FOOTER_WIRE	5

/* Stream decoder: the footer of section id, nothing else. */
FERRY_CHECKED int ferry_footer_decode(struct ferry_rd *r, uint32_t id,
				      struct ferry_err *e);
void ferry_footer_encode(struct ferry_wr *w, uint32_t id);

/*
 * Between two ferries a FULL section's body opens with its size, so that a
 * device nobody knows can be named and skipped (docs/wire.md).
 */
#define FERRY_BODY_WIRE		4

/* The last section of a package between ferries: one octet, 1 when the VM is
 * to run at the target, 0 when it was stopped at the source. */
#define FERRY_RUN_SECTION_NAME	"ferry.run"

/* Stream decoder: at most FERRY_PACKAGE_BYTES_MAX octets follow. */
FERRY_CHECKED int ferry_body_decode(struct ferry_rd *r, uint32_t *bytes,
				    struct ferry_err *e);
void ferry_body_encode(struct ferry_wr *w, uint32_t bytes);

#endif
