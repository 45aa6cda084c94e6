/* SPDX-License-Identifier: MIT */
/*
 * Packets of pages that were compressed (send/squeeze.h; QEMU's multifd): one
 * stream per channel, flushed behind each packet.
 *
 * What comes out of a packet is as long as its header says, to the octet, or
 * it is damaged; what a stream keeps in memory is bounded when it is opened.
 *
 * Threads: one at a time per stream.
 */
#ifndef FERRY_RECV_UNPACK_H
#define FERRY_RECV_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FERRY_UNPACK_METHODS	(FERRY_PACKET_ZLIB | FERRY_PACKET_ZSTD)

/* What a ferry's zstd may look back, as a power of two. */
#define FERRY_UNPACK_BITS	20u

/* What a QEMU's zstd may look back at its highest level. */
#define FERRY_UNPACK_QEMU_BITS	27u

struct ferry_unpack;

/* One of the methods; a zstd stream that wants more than 2^window_bits octets
 * is damaged.  NULL when memory is out. */
struct ferry_unpack *ferry_unpack_open(uint32_t method, unsigned window_bits);
void ferry_unpack_close(struct ferry_unpack *u);

uint32_t ferry_unpack_method(const struct ferry_unpack *u);

/* The next packet begins a stream. */
void ferry_unpack_restart(struct ferry_unpack *u);

/* Exactly out_bytes come out of the packet; false: damaged, and so is all that
 * follows. */
bool ferry_unpack_packet(struct ferry_unpack *u, const void *data,
			 size_t bytes, void *out, size_t out_bytes);

#endif
