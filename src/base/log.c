/* SPDX-License-Identifier: MIT */
/*
 * One line at a time to the embedder's sink.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void ferry_log(const struct ferry_log *log, enum ferry_log_level level,
	       const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!log || !log->line)
		return;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log->line(log->opaque, level, line);
}
