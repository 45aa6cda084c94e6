/* SPDX-License-Identifier: MIT */
/*
 * See spawned.h.
 */
#include "spawned.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TICK_NS		20000000L
#define TERM_TICKS	100		/* 2 s from SIGTERM to SIGKILL */

/* Those that end us: a group of its own does not hear a terminal's. */
static void set_ends(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

/* Nothing of this returns.  Its output goes to stderr: stdout is a table.  If
 * we are killed so that we cannot end it, the kernel does. */
static void become(const char *command, int in, pid_t parent,
		   const sigset_t *mask)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	sigprocmask(SIG_SETMASK, mask, NULL);
	dup2(in, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	signal(SIGPIPE, SIG_DFL);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int ferry_spawned_start(struct ferry_spawned *s, const char *command,
			struct ferry_err *e)
{
	const pid_t self = getpid();
	sigset_t ends, before;
	int in[2];

	*s = (struct ferry_spawned){ 0 };
	if (pipe2(in, O_CLOEXEC))
		return ferry_err_set(e, FERRY_E_IO, errno, "pipe: %s",
				     strerror(errno));
	/* Nobody is told to end who does not know yet what to end. */
	set_ends(&ends);
	sigprocmask(SIG_BLOCK, &ends, &before);
	s->pid = fork();
	if (!s->pid)
		become(command, in[0], self, &before);
	if (s->pid > 0)
		setpgid(s->pid, s->pid);	/* as it does: who is first */
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(in[0]);
	s->in = in[1];
	if (s->pid > 0)
		return 0;
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

void ferry_spawned_end_in_handler(pid_t pid)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };

	if (pid <= 0)
		return;
	kill(-pid, SIGTERM);
	for (int i = 0; i < TERM_TICKS; i++) {
		if (waitpid(pid, NULL, WNOHANG))
			break;
		nanosleep(&tick, NULL);
	}
	kill(-pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}
