/* SPDX-License-Identifier: MIT */
/*
 * All parameters of a migration, as QMP.
 */
#ifndef FERRY_TOOLS_MIGRATE_PARAMS_H
#define FERRY_TOOLS_MIGRATE_PARAMS_H

#include <ferry/params.h>

#include "ctl/qmp_client.h"

/*
 * Set every capability and parameter that the VM has, to what `params` says:
 * what an earlier migration had set does not linger.
 */
FERRY_CHECKED int ferry_migrate_params_send(struct ferry_qmp_client *c,
					    const struct ferry_params *params,
					    struct ferry_err *e);

#endif
