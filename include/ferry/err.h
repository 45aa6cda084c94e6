/* SPDX-License-Identifier: MIT */
/*
 * The error value.
 *
 * Every call that can fail takes a `struct ferry_err *` as its last parameter
 * (NULL when the caller does not care) and returns 0 or -1 (or a pointer or
 * NULL).  The struct belongs to the caller; the library only fills it, and
 * only when the call fails.  Nothing in it is allocated.
 */
#ifndef FERRY_ERR_H
#define FERRY_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

/* What a program switches on.  The numbers are part of the ABI. */
enum ferry_err_code {
	FERRY_E_OK		= 0,
	FERRY_E_IO		= 1,	/* the system refused; see sys */
	FERRY_E_PROTO		= 2,	/* the peer sent what it may not send */
	FERRY_E_CLOSED		= 3,	/* the peer closed the connection */
	FERRY_E_TIMEOUT		= 4,	/* the peer was silent for too long */
	FERRY_E_MISMATCH	= 5,	/* the two sides do not fit together */
	FERRY_E_INVALID		= 6,	/* the caller asked for nonsense */
	FERRY_E_UNSUPPORTED	= 7,	/* not on this host, or channel */
	FERRY_E_PERM		= 8,	/* a permission is missing */
	FERRY_E_STATE		= 9,	/* not now: wrong state for this call */
	FERRY_E_CANCELLED	= 10,	/* the user cancelled */
	FERRY_E_NOMEM		= 11,	/* memory ran out */
	FERRY_E_DEVICE		= 12,	/* a device failed to save or to load */
	FERRY_E_PEER		= 13,	/* the peer failed and said why */
	FERRY_E_NOTCONVERGED	= 14,	/* precopy cannot meet its goals */
};

struct ferry_err {
	int	code;		/* enum ferry_err_code */
	int	sys;		/* errno when it happened, or 0 */
	char	msg[240];	/* "outer: inner: cause", for a person */
};

/* Name of a code, such as "io" or "timeout"; a static string, never NULL. */
const char *ferry_err_name(int code);

#ifdef __cplusplus
}
#endif
#endif
