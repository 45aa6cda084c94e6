/* SPDX-License-Identifier: MIT */
/*
 * One line at a time to the author's sink.  Any thread.
 */
#include "vu/be/device.h"

#include <stdarg.h>
#include <stdio.h>

void ferry_vb_log(struct ferry_vhost *v, enum ferry_vb_level level,
		  const char *fmt, ...)
{
	char text[320], line[360];
	va_list ap;

	if (!v->log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s: %s", v->name, text);
	v->log(v->opaque, (int)level, line);
}
