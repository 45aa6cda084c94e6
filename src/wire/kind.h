/* SPDX-License-Identifier: MIT */
/*
 * What a new connection is, from its first four octets.  Pure, any thread.
 */
#ifndef FERRY_WIRE_KIND_H
#define FERRY_WIRE_KIND_H

#include <stdint.h>

enum ferry_conn_kind {
	FERRY_CONN_UNKNOWN,	/* maybe a preempt channel: it has no magic */
	FERRY_CONN_FERRY,	/* wire/channel.h */
	FERRY_CONN_QEMU_MAIN,	/* wire/config.h */
	FERRY_CONN_QEMU_MULTIFD,	/* wire/multifd.h, INIT */
	FERRY_CONN_QEMU_RECOVERY,	/* a RECV_BITMAP command */
};

#define FERRY_CONN_KIND_WIRE	4

enum ferry_conn_kind ferry_conn_kind(const uint8_t first[4]);

#endif
