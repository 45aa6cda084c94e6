/* SPDX-License-Identifier: MIT */
/*
 * What our two backends have in common: options, signals, what they print.
 *
 * They use <ferry/vhost.h> and nothing else of ferry: whatever they do, any
 * author's device can.
 */
#ifndef FERRY_BACKENDS_COMMON_H
#define FERRY_BACKENDS_COMMON_H

#include <argp.h>
#include <stdbool.h>

#include <ferry/vhost.h>

struct backend {
	const char	*socket;	/* where the front-end is */
	bool		connects;	/* to it */
	bool		once;		/* one front-end, then end */
	bool		json;
	int		verbose;	/* a level of the library's log */
};

extern const struct argp backend_argp;	/* input: struct backend */

/* The library's log, to standard error. */
void backend_log(void *opaque, int level, const char *line);

/*
 * Serve until SIGINT, SIGTERM, or (once) the front-end has gone, then print
 * figures (also at SIGUSR1) and free.  The exit code.  Call before any thread
 * is started.
 */
void backend_block_signals(void);
int backend_serve(struct ferry_vhost *v, const struct backend *b);

/* "ferry-vhost-net: ..." and exit code 1. */
int backend_fail(const struct ferry_err *e);

#endif
