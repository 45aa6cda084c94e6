/* SPDX-License-Identifier: MIT */
/*
 * What went over one connection, for statistics.
 *
 * Threads: counted by whoever has the connection, read by any; relaxed.
 */
#ifndef FERRY_BASE_FLOW_H
#define FERRY_BASE_FLOW_H

#include "base/counter.h"

struct ferry_flow {
	_Atomic uint64_t bytes;
	_Atomic uint64_t normal_pages;
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t blocked_ns;	/* in writing; reader: in waiting */
	_Atomic uint64_t packed_from;	/* octets of pages, and what they */
	_Atomic uint64_t packed_to;	/* became */
	_Atomic uint32_t method;	/* of the last packet with pages: one
					 * of FERRY_PACKET_METHODS, or 0 */
};

#endif
