/* SPDX-License-Identifier: MIT */
/*
 * How QEMU's main stream opens: file header, then CONFIGURATION with its
 * subsections.  Pure, any thread.
 */
#ifndef FERRY_WIRE_CONFIG_H
#define FERRY_WIRE_CONFIG_H

#include "base/limits.h"
#include "wire/decode.h"

#define FERRY_FILE_MAGIC	0x5145564du	/* "QEVM" */
#define FERRY_FILE_VERSION	3u
#define FERRY_FILE_HEADER_WIRE	8

/* Stream decoder. */
FERRY_CHECKED int ferry_file_header_decode(struct ferry_rd *r,
					   struct ferry_err *e);
void ferry_file_header_encode(struct ferry_wr *w);

/* Capabilities that QEMU states on the wire, because they change the bytes
 * that follow; bits. */
enum ferry_config_capability {
	FERRY_CONFIG_X_IGNORE_SHARED	= 1,
	FERRY_CONFIG_MAPPED_RAM		= 2,
};

struct ferry_config {
	char		machine[FERRY_MACHINE_NAME_MAX + 1];
	uint32_t	page_bits;	/* 0: not stated; never on x86 */
	uint32_t	capabilities;	/* enum ferry_config_capability */
	bool		has_uuid;
	uint8_t		uuid[16];
};

/*
 * Stream decoder, from the octet 0x07.  The list of subsections ends at the
 * first octet that is not 0x05, so that octet must be there too (it is not
 * consumed).  An unknown subsection or capability is refused by name.
 */
FERRY_CHECKED int ferry_config_decode(struct ferry_rd *r,
				      struct ferry_config *c,
				      struct ferry_err *e);
void ferry_config_encode(struct ferry_wr *w, const struct ferry_config *c);
size_t ferry_config_bytes(const struct ferry_config *c);

#endif
