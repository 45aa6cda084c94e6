/* SPDX-License-Identifier: MIT */
/*
 * SIGPIPE goes to the writing thread.  It is blocked around the call and,
 * unless one was waiting before, taken off again; the embedder's handler never
 * sees it.
 */
#include "base/quiet.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

ssize_t ferry_writev_quietly(int fd, const struct iovec *iov, int n)
{
	static const struct timespec now;
	sigset_t sigpipe, old, pending;
	bool was_pending;
	ssize_t rc;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &old);

	sigemptyset(&pending);
	sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE) == 1;

	rc = writev(fd, iov, n);
	if (rc < 0)
		rc = -errno;
	if (rc == -EPIPE && !was_pending)
		while (sigtimedwait(&sigpipe, NULL, &now) < 0 &&
		       errno == EINTR)
			;

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}
