/* SPDX-License-Identifier: MIT */
/*
 * The library is silent: lines go to the sink that the embedder gave, or
 * nowhere.  A message names object, operation and value.  Any thread.
 */
#ifndef FERRY_BASE_LOG_H
#define FERRY_BASE_LOG_H

#include <ferry/event.h>

#include "base/err.h"

struct ferry_log {
	void	*opaque;
	void	(*line)(void *opaque, enum ferry_log_level level,
			const char *line);
};

void ferry_log(const struct ferry_log *log, enum ferry_log_level level,
	       const char *fmt, ...) FERRY_PRINTF(3, 4);

#endif
