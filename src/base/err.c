/* SPDX-License-Identifier: MIT */
/*
 * Error values: text is made once, here, and cut to fit.  Any thread.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
	[FERRY_E_OK]		= "ok",
	[FERRY_E_IO]		= "io",
	[FERRY_E_PROTO]		= "protocol",
	[FERRY_E_CLOSED]	= "closed",
	[FERRY_E_TIMEOUT]	= "timeout",
	[FERRY_E_MISMATCH]	= "mismatch",
	[FERRY_E_INVALID]	= "invalid",
	[FERRY_E_UNSUPPORTED]	= "unsupported",
	[FERRY_E_PERM]		= "permission",
	[FERRY_E_STATE]		= "state",
	[FERRY_E_CANCELLED]	= "cancelled",
	[FERRY_E_NOMEM]		= "no-memory",
	[FERRY_E_DEVICE]	= "device",
	[FERRY_E_PEER]		= "peer",
	[FERRY_E_NOTCONVERGED]	= "not-converged",
};

const char *ferry_err_name(int code)
{
	if (code < 0 || (size_t)code >= sizeof(names) / sizeof(names[0]))
		return "unknown";
	return names[code];
}

int ferry_err_set(struct ferry_err *e, int code, int sys, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!e)
		return -1;

	e->code = code;
	e->sys = sys;
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);

	if (sys && n >= 0 && (size_t)n < sizeof(e->msg)) {
		char why[96];

		snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s",
			 strerror_r(sys, why, sizeof(why)));
	}
	return -1;
}

int ferry_err_wrap(struct ferry_err *e, const char *fmt, ...)
{
	char inner[sizeof(e->msg)];
	va_list ap;
	int n;

	if (!e)
		return -1;

	memcpy(inner, e->msg, sizeof(inner));
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);

	if (n >= 0 && (size_t)n < sizeof(e->msg))
		snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s", inner);
	return -1;
}

bool ferry_err_is_link(const struct ferry_err *e)
{
	return e->code == FERRY_E_CLOSED || e->code == FERRY_E_TIMEOUT ||
	       e->code == FERRY_E_IO;
}
