/* SPDX-License-Identifier: MIT */
/*
 * Is a block backed by what the embedder says?  Dropping pages, finding
 * untouched ones and tracking writes all rely on it, and a wrong fd or offset
 * would show as damaged memory much later.
 *
 * Threads: any; reads only.
 */
#ifndef FERRY_MEM_BACKING_H
#define FERRY_MEM_BACKING_H

#include "mem/mem.h"

/*
 * With an fd: long enough, its pages are of page_bytes, and the block is a
 * shared mapping of it at fd_offset.  Without: private anonymous memory.
 * What cannot be looked at (no /proc) is taken on trust.  FERRY_E_INVALID.
 */
FERRY_CHECKED int ferry_backing_check(const struct ferry_mem_block *b,
				      struct ferry_err *e);

#endif
