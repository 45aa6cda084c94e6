/* SPDX-License-Identifier: MIT */
/*
 * A piece of machine state with a name and a version: how it is written and
 * how it is read back.  The engine carries sections; a reset loads the ones
 * that were saved at power-on.
 *
 * What load is given comes from a peer: it checks all of it and refuses, with
 * a sentence, what does not fit.  Integers are big-endian.
 */
#ifndef FERRY_VMM_SECTION_H
#define FERRY_VMM_SECTION_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/cursor.h"
#include "base/err.h"

#define FERRY_SECTION_BYTES_MAX	(64u << 10)

struct ferry_section {
	const char	*name;
	uint32_t	 version;

	/* Machine stopped; any thread, one at a time.  s: this section. */
	int (*save)(const struct ferry_section *s, void *object,
		    struct ferry_wr *w, struct ferry_err *e);

	/* Loads nothing when it refuses, where that can be known. */
	int (*load)(const struct ferry_section *s, void *object,
		    struct ferry_rd *r, struct ferry_err *e);

	/* For a section that is one struct of KVM's, else 0. */
	unsigned long	 get, set;	/* ioctls */
	uint32_t	 bytes;
};

/* A section of one object, in the order in which they are loaded. */
struct ferry_piece {
	const struct ferry_section *section;
	void			*object;
	unsigned		 instance;
	uint8_t			*power_on;	/* saved state, or NULL */
	size_t			 power_on_bytes;
};

/* For decode: true (and *e filled) unless everything was read and no more. */
bool ferry_section_ill_sized(const struct ferry_rd *r, struct ferry_err *e);

/* Hand the piece to the engine; it must stay in place. */
FERRY_CHECKED int ferry_piece_register(struct ferry_piece *p,
				       struct ferry_vm *vm,
				       struct ferry_err *e);

/* Remember its state now, and go back to it. */
FERRY_CHECKED int ferry_piece_snapshot(struct ferry_piece *p,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_piece_restore(struct ferry_piece *p,
				      struct ferry_err *e);
void ferry_piece_fini(struct ferry_piece *p);

#endif
