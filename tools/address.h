/* SPDX-License-Identifier: MIT */
/*
 * Addresses where a VM shall go, as far as the words alone tell.  Whether one
 * can be reached is for the VM's process to find out.  Pure.
 */
#ifndef FERRY_TOOLS_ADDRESS_H
#define FERRY_TOOLS_ADDRESS_H

#include <stdbool.h>

#include "base/err.h"

/* Is this meant for an address, and not for a VM? */
bool ferry_address_is_one(const char *text);

/* 0 if ferry run or a QEMU may know what to do with it. */
FERRY_CHECKED int ferry_address_check(const char *text, struct ferry_err *e);

/* 0 if ferry run does. */
FERRY_CHECKED int ferry_address_check_ferry(const char *text,
					    struct ferry_err *e);

#endif
