/* SPDX-License-Identifier: MIT */
/*
 * A QEMU's answer to query-migrate in the shape of ferry's.
 */
#ifndef FERRY_TOOLS_SHAPE_H
#define FERRY_TOOLS_SHAPE_H

#include <stdbool.h>

#include "ctl/json.h"

/*
 * Adds what ferry run says besides QEMU's keys, as far as a QEMU lets one know
 * it: x-ferry-role, x-ferry-where, x-ferry-safe, x-ferry-faults; and
 * x-ferry-software, which ferry's own answer does not have.  run_state is
 * query-status's.  Nothing is added where there was no migration.
 */
void ferry_shape_qemu(struct json_object *migration, const char *run_state,
		      const char *software);

/* Says anew where the VM is, and with it what is safe. */
void ferry_shape_where(struct json_object *migration, const char *where);

/* It waits for a VM, and somebody may connect. */
bool ferry_shape_listens(const struct json_object *migration);

/* Finished passes over memory. */
uint64_t ferry_shape_passes(const struct json_object *migration);

#endif
