/* SPDX-License-Identifier: MIT */
/*
 * See spawned.h.
 */
#include "spawned.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TICK_NS		20000000L
#define TERM_TICKS	100		/* 2 s from SIGTERM to SIGKILL */

/* Nothing of this returns.  Its output goes to stderr: stdout is a table. */
static void become(const char *command, int in)
{
	setpgid(0, 0);
	dup2(in, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int ferry_spawned_start(struct ferry_spawned *s, const char *command,
			struct ferry_err *e)
{
	int in[2];

	*s = (struct ferry_spawned){ 0 };
	if (pipe2(in, O_CLOEXEC))
		return ferry_err_set(e, FERRY_E_IO, errno, "pipe: %s",
				     strerror(errno));
	s->pid = fork();
	if (!s->pid)
		become(command, in[0]);
	close(in[0]);
	s->in = in[1];
	if (s->pid > 0) {
		setpgid(s->pid, s->pid);	/* as it does: who is first */
		return 0;
	}
	s->pid = 0;
	close(in[1]);
	return ferry_err_set(e, FERRY_E_IO, errno, "fork: %s",
			     strerror(errno));
}

static void forget(struct ferry_spawned *s, int status)
{
	if (WIFSIGNALED(status))
		snprintf(s->how, sizeof(s->how), "signal %s",
			 strsignal(WTERMSIG(status)));
	else
		snprintf(s->how, sizeof(s->how), "exit code %d",
			 WEXITSTATUS(status));
	/* What it has started may live on. */
	kill(-s->pid, SIGKILL);
	s->pid = 0;
	close(s->in);
}

bool ferry_spawned_is_alive(struct ferry_spawned *s)
{
	int status;

	if (!s->pid)
		return false;
	if (waitpid(s->pid, &status, WNOHANG) != s->pid)
		return true;
	forget(s, status);
	return false;
}

void ferry_spawned_end(struct ferry_spawned *s)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	int status;

	if (!ferry_spawned_is_alive(s))
		return;
	kill(-s->pid, SIGTERM);
	for (int i = 0; i < TERM_TICKS; i++) {
		if (!ferry_spawned_is_alive(s))
			return;
		nanosleep(&tick, NULL);
	}
	kill(-s->pid, SIGKILL);
	if (waitpid(s->pid, &status, 0) == s->pid)
		forget(s, status);
}
