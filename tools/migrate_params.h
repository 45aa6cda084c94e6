/* SPDX-License-Identifier: MIT */
/*
 * All parameters of a migration, as QMP.
 */
#ifndef FERRY_TOOLS_MIGRATE_PARAMS_H
#define FERRY_TOOLS_MIGRATE_PARAMS_H

#include "ctl/qmp_client.h"
#include "wish.h"

/*
 * Set every capability and parameter that the VM has, to what is wished for:
 * what an earlier migration had set does not linger.  Texts (folders, names)
 * are each host's own: those that were not said stay as they are there.
 */
FERRY_CHECKED int ferry_migrate_params_send(struct ferry_qmp_client *c,
					    const struct ferry_wish *wish,
					    struct ferry_err *e);

#endif
