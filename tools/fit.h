/* SPDX-License-Identifier: MIT */
/*
 * What may migrate to what.  QEMU's protocol agrees on nothing: both sides must
 * be set alike beforehand, and some differences are not even noticed.  Each
 * check fails with a sentence.  Pure.
 */
#ifndef FERRY_TOOLS_FIT_H
#define FERRY_TOOLS_FIT_H

#include "view.h"
#include "wish.h"

/* A VM to be moved: is it there, and may it? */
FERRY_CHECKED int ferry_fit_source(const struct ferry_view *source,
				   struct ferry_err *e);

/* Two VMs, before anything is set: can it work at all? */
FERRY_CHECKED int ferry_fit_sides(const struct ferry_view *source,
				  const struct ferry_view *target,
				  struct ferry_err *e);

/* Two VMs, as they will be once what was said of tls-creds (or NULL) is set:
 * at a target that listens already it comes too late. */
FERRY_CHECKED int ferry_fit_creds(const struct ferry_view *source,
				  const struct ferry_view *target,
				  const char *said, struct ferry_err *e);

/* Two QEMUs, as they are set. */
FERRY_CHECKED int ferry_fit_settings(const struct ferry_view *source,
				     const struct ferry_view *target,
				     struct ferry_err *e);

/* A QEMU as it is set, towards an address where nobody can be asked. */
FERRY_CHECKED int ferry_fit_address(const struct ferry_view *source,
				    const struct ferry_wish *wish,
				    const char *uri, struct ferry_err *e);

/* What the side at that address must have; false: nothing. */
bool ferry_fit_needs(const struct ferry_view *source, char *buf,
		     size_t bytes);

/* Nobody answers over it: exec: and file:. */
bool ferry_fit_is_one_way(const char *uri);

#endif
