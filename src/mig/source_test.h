/* SPDX-License-Identifier: MIT */
/*
 * What tests need of the source beyond the public API: connections of their
 * own making.  The code behind it is the product's; only where channels come
 * from differs.
 */
#ifndef FERRY_MIG_SOURCE_TEST_H
#define FERRY_MIG_SOURCE_TEST_H

#include "mig/source_impl.h"

/* As ferry_source_start(); the dialer is copied. */
FERRY_CHECKED int ferry_source_start_with(struct ferry_source *s,
					  const struct ferry_dialer *dialer,
					  struct ferry_err *e);

#endif
