/* SPDX-License-Identifier: MIT */
/*
 * Writing the half of a VM that this side has (wire/half.h).
 *
 * Threads: the caller's.  Nobody writes the memory meanwhile, and what is not
 *          among `has` is not touched: it may be missing, and who touches that
 *          would wait for ever.
 */
#ifndef FERRY_MIG_HALF_H
#define FERRY_MIG_HALF_H

#include "mig/vm.h"
#include "recv/sums.h"
#include "wire/half.h"

struct ferry_half {
	const struct ferry_vm *vm;
	uint32_t	 side;		/* enum ferry_half_side */
	const uint8_t	*session;
	const struct ferry_bitmap *has;		/* per block; NULL: all */
	const struct ferry_bitmap *has_too;	/* per block; or NULL */
	const struct ferry_sums *sums;		/* of what it has, as it came;
						 * NULL: nobody knows */
	const struct ferry_save *devices;	/* NULL: none */
};

/* fd is written from where it stands, in one go; also a pipe. */
FERRY_CHECKED int ferry_half_write(const struct ferry_half *h, int fd,
				   struct ferry_err *e);

#endif
