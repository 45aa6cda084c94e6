/* SPDX-License-Identifier: MIT */
/*
 * The pages of a packet, to where they belong: runs of neighbours together,
 * pieces of a huge page in their order.  By the packet's reader.
 */
#ifndef FERRY_RECV_SCATTER_H
#define FERRY_RECV_SCATTER_H

#include "recv/place.h"
#include "wire/multifd.h"

/* p lies in b; pages: its normal pages, one behind the other. */
FERRY_CHECKED int ferry_scatter(struct ferry_placer *r,
				struct ferry_mem_block *b,
				const struct ferry_packet *p,
				const uint8_t *pages, struct ferry_err *e);

#endif
