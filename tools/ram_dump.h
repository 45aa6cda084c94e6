/* SPDX-License-Identifier: MIT */
#ifndef FERRY_TOOLS_RAM_DUMP_H
#define FERRY_TOOLS_RAM_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* What `ferry run --ram-path` leaves behind: a file, no socket. */
bool ferry_is_ram_file(const char *path);

/*
 * Copies what had come, holes as holes, to a new file.  FERRY_E_STATE while the
 * VM lives.  *held and *all are octets.
 */
FERRY_CHECKED int ferry_ram_dump(const char *ram, const char *to,
				 uint64_t *held, uint64_t *all,
				 struct ferry_err *e);

#endif
