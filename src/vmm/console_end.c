/* SPDX-License-Identifier: MIT */
/* See console_end.h. */
#include "vmm/console_end.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stale.h"

static int open_null(struct ferry_console_end *end, const char *rest,
		     struct ferry_err *e)
{
	(void)end;
	(void)rest;
	(void)e;
	return 0;
}

/*
 * Keys reach the guest one by one and unechoed; ^C stays ours.  Only when the
 * terminal is this process's to change: in the background it would stop us.
 */
static void set_terminal(struct ferry_console_end *end)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
	    tcgetattr(STDIN_FILENO, &end->terminal))
		return;
	t = end->terminal;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t.c_iflag &= ~(tcflag_t)ICRNL;
	end->restore = !tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static int open_stdio(struct ferry_console_end *end, const char *rest,
		      struct ferry_err *e)
{
	(void)rest;
	(void)e;
	set_terminal(end);
	end->in_fd = STDIN_FILENO;
	end->out_fd = STDOUT_FILENO;
	return 0;
}

static int open_file(struct ferry_console_end *end, const char *path,
		     struct ferry_err *e)
{
	end->out_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
			   0666);
	if (end->out_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "open");
	return 0;
}

static int open_unix(struct ferry_console_end *end, const char *path,
		     struct ferry_err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "socket");
	strcpy(sa.sun_path, path);
	err = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	if (err && errno == EADDRINUSE && ferry_is_stale_socket(path)) {
		unlink(path);
		err = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	}
	if (err || listen(fd, 4))
		return ferry_err_set(e, FERRY_E_IO, errno, "listen");
	end->path = strdup(path);
	end->listen_fd = ferry_steal_fd(&fd);
	return 0;
}

static int check_unix(const char *path, struct ferry_err *e)
{
	if (strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path))
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, ENAMETOOLONG, "socket path");
}

static int any(const char *rest, struct ferry_err *e)
{
	(void)rest;
	(void)e;
	return 0;
}

static const struct end {
	const char	*prefix;
	enum ferry_console_kind kind;
	bool		 takes_path;
	int (*check)(const char *rest, struct ferry_err *e);
	int (*open)(struct ferry_console_end *end, const char *rest,
		    struct ferry_err *e);
} ends[] = {
	{ "null",  FERRY_CONSOLE_NULL,	false,	any,	    open_null },
	{ "stdio", FERRY_CONSOLE_STDIO,	false,	any,	    open_stdio },
	{ "file:", FERRY_CONSOLE_FILE,	true,	any,	    open_file },
	{ "unix:", FERRY_CONSOLE_UNIX,	true,	check_unix, open_unix },
};

/* *rest: what the word says behind its kind. */
static const struct end *find_end(const char *where, const char **rest,
				  struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(ends); i++) {
		size_t n = strlen(ends[i].prefix);

		if (strncmp(where, ends[i].prefix, n) ||
		    ends[i].takes_path != (where[n] != '\0'))
			continue;
		*rest = where + n;
		return ends[i].check(*rest, e) ? NULL : &ends[i];
	}
	ferry_err_set(e, FERRY_E_INVALID, 0,
		      "none of null, stdio, file:PATH, unix:PATH");
	return NULL;
}

int ferry_console_end_check(const char *where, struct ferry_err *e)
{
	const char *rest;

	return find_end(where, &rest, e) ? 0 : -1;
}

int ferry_console_end_open(struct ferry_console_end *end, const char *where,
			   struct ferry_err *e)
{
	const char *rest;
	const struct end *found = find_end(where, &rest, e);

	if (!found)
		return -1;
	end->kind = found->kind;
	return found->open(end, rest, e);
}

void ferry_console_end_close(struct ferry_console_end *end)
{
	if (end->restore)
		tcsetattr(STDIN_FILENO, TCSANOW, &end->terminal);
	if (end->path)
		unlink(end->path);
	free(end->path);
	ferry_cleanup_fd(&end->listen_fd);
	if (end->kind != FERRY_CONSOLE_STDIO)
		ferry_cleanup_fd(&end->out_fd);
	*end = (struct ferry_console_end)FERRY_CONSOLE_END_NONE;
}

void ferry_console_end_accept(struct ferry_console_end *end)
{
	end->out_fd = accept4(end->listen_fd, NULL, NULL,
			      SOCK_CLOEXEC | SOCK_NONBLOCK);
	end->in_fd = end->out_fd;
}

ssize_t ferry_console_end_write(struct ferry_console_end *end,
				const void *data, size_t bytes)
{
	ssize_t n;

	if (end->kind == FERRY_CONSOLE_UNIX)
		n = send(end->out_fd, data, bytes, MSG_NOSIGNAL);
	else	/* SIGPIPE is blocked in this thread */
		n = write(end->out_fd, data, bytes);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n;
}

void ferry_console_end_hang_up(struct ferry_console_end *end)
{
	if (end->kind == FERRY_CONSOLE_UNIX) {
		ferry_cleanup_fd(&end->out_fd);
		end->in_fd = -1;
	}
	/* stdio and file: the rest goes nowhere */
	end->out_fd = -1;
}

void ferry_console_end_no_input(struct ferry_console_end *end)
{
	end->in_fd = -1;
	if (end->kind == FERRY_CONSOLE_UNIX)
		ferry_console_end_hang_up(end);
}
