/* SPDX-License-Identifier: MIT */
/*
 * What every part of control does to the whole: ring the bell, tell the person
 * who started us, end the loop.  It calls none of them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/control_priv.h"

/* Any thread: there is something to settle. */
void ferry_control_wake(struct ferry_control *c)
{
	eventfd_write(c->wake_fd, 1);
}

/* To the person who started us; any thread. */
void ferry_control_say(struct ferry_control *c, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* A terminal may be in raw mode, as the guest's console. */
	fprintf(stderr, "ferry: %s: %s%s\n", c->config->name, line,
		isatty(STDERR_FILENO) ? "\r" : "");
}

void ferry_control_finish(struct ferry_control *c, int code)
{
	c->end.now = true;
	c->end.code = code;
}
