/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end: decides which commands and messages are legal.
 */
#ifndef FERRY_WIRE_DIALECT_H
#define FERRY_WIRE_DIALECT_H

enum ferry_dialect {
	FERRY_DIALECT_QEMU	= 1,
	FERRY_DIALECT_FERRY	= 2,
};

#endif
