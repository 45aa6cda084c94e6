/* SPDX-License-Identifier: MIT */
/*
 * Write protection by userfaultfd; what both of its ways share.  Inside mem/.
 */
#ifndef FERRY_MEM_WP_H
#define FERRY_MEM_WP_H

#include "mem/uffd.h"

/* Opens with write protection for all blocks, or says what the kernel lacks. */
FERRY_CHECKED int ferry_wp_open(struct ferry_uffd *u,
				const struct ferry_mem *mem, uint64_t want,
				bool user_only, struct ferry_err *e);

/* mode: UFFDIO_REGISTER_MODE_*. */
FERRY_CHECKED int ferry_wp_register(struct ferry_uffd *u,
				    const struct ferry_mem_block *b,
				    uint64_t mode, struct ferry_err *e);
void ferry_wp_unregister(struct ferry_uffd *u,
			 const struct ferry_mem_block *b);

/* Protect pages, or lift it and wake whoever waits.  0 or -errno. */
int ferry_wp_set(struct ferry_uffd *u, const struct ferry_mem_block *b,
		 uint64_t first, uint64_t pages, bool protect);

#endif
