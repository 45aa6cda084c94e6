/* SPDX-License-Identifier: MIT */
/*
 * What a console reads and writes: descriptors, and how they come and go.
 * The console's thread only, after open.
 */
#ifndef FERRY_VMM_CONSOLE_END_H
#define FERRY_VMM_CONSOLE_END_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <termios.h>

#include "base/err.h"

enum ferry_console_kind {
	FERRY_CONSOLE_NULL,
	FERRY_CONSOLE_STDIO,
	FERRY_CONSOLE_FILE,
	FERRY_CONSOLE_UNIX,
};

struct ferry_console_end {
	enum ferry_console_kind	 kind;
	int			 in_fd;		/* -1: no input (any more) */
	int			 out_fd;	/* -1: nobody reads */
	int			 listen_fd;
	char			*path;		/* of the socket, to remove */
	bool			 restore;	/* the terminal's settings */
	struct termios		 terminal;
};

#define FERRY_CONSOLE_END_NONE \
	{ .in_fd = -1, .out_fd = -1, .listen_fd = -1 }

/* It is one of the known ends; nothing is opened. */
FERRY_CHECKED int ferry_console_end_check(const char *where,
					  struct ferry_err *e);

FERRY_CHECKED int ferry_console_end_open(struct ferry_console_end *end,
					 const char *where,
					 struct ferry_err *e);
void ferry_console_end_close(struct ferry_console_end *end);

/* A client waits on the socket: take it, if it is still there. */
void ferry_console_end_accept(struct ferry_console_end *end);

/* Octets written, 0: not now, -1: nobody reads any more. */
ssize_t ferry_console_end_write(struct ferry_console_end *end,
				const void *data, size_t bytes);

void ferry_console_end_hang_up(struct ferry_console_end *end);

/* Input has ended; of a socket the client then is gone. */
void ferry_console_end_no_input(struct ferry_console_end *end);

#endif
