/* SPDX-License-Identifier: MIT */
/*
 * Conformance of a vhost-user backend, any one: a table of checks, each on a
 * connection of its own, so that what one breaks is not the next one's.
 *
 * One thread.  Nothing here ends the process, whatever the backend does; each
 * answer is waited for until limit_ms.  A backend is asked to do what a guest
 * and its monitor would; of a disk nothing is written unless `writes` is set.
 */
#ifndef FERRY_VU_CHECK_CHECK_H
#define FERRY_VU_CHECK_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum ferry_vu_verdict {
	FERRY_VU_PASS,
	FERRY_VU_FAIL,
	FERRY_VU_NOT_OFFERED,	/* the backend does not claim it can */
	FERRY_VU_UNTRIED,	/* why: what is missing to try it */
	FERRY_VU_VERDICTS,
};

/* What requests make sense to the device behind the backend. */
enum ferry_vu_device {
	FERRY_VU_ANY,		/* not known: rings are set up, but empty */
	FERRY_VU_NET,
	FERRY_VU_BLK,
};

struct ferry_vu_check_how {
	const char	*path;		/* of a unix socket */
	int		 listener;	/* the backend connects to this listening
					 * socket; -1: we connect to path */
	unsigned	 limit_ms;
	enum ferry_vu_device device;
};

struct ferry_vu_check {
	const char	*group;		/* "handshake", "rings", ... */
	const char	*name;		/* unique; letters, digits, hyphens */
	const char	*what;		/* what a backend that passes does */
};

/* The n-th check, or NULL behind the last. */
const struct ferry_vu_check *ferry_vu_check_at(size_t n);

/*
 * Do it.  *why: what was seen instead (FAIL), what is missing (NOT_OFFERED,
 * UNTRIED); empty behind PASS.
 */
enum ferry_vu_verdict ferry_vu_check_run(size_t n,
					 const struct ferry_vu_check_how *how,
					 struct ferry_err *why);

/* "pass", "FAIL", "not offered", "not tried" */
const char *ferry_vu_verdict_name(enum ferry_vu_verdict verdict);

#endif
