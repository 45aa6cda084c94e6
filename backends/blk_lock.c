/* SPDX-License-Identifier: MIT */
/*
 * One writer.  In a live migration two backends serve one disk, the source's
 * and the target's.  The lock of the file (OFD, so it belongs to the open file
 * and goes with the process) is taken when the first queue starts and given
 * back when the last has stopped, with all that was under way done: the target
 * waits for it there.  A migration that fails takes it back in the same way.
 *
 * A queue that waits for it looks again by a timer, and is there for all else:
 * it stops when it is told to.  Queues' threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "blk.h"
#include "common.h"

#define TRY_MS		2
#define SAY_MS		1000		/* when it is said that we wait, */
#define AGAIN_MS	60000		/* and each time again */
#define WAIT_MAX_MS	60000

static int try_lock(const struct blk_disk *d, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(d->fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static int enter(struct blk_writer *w, const struct blk_disk *d)
{
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	if (!w->queues)
		rc = try_lock(d, d->read_only ? F_RDLCK : F_WRLCK);
	if (!rc)
		w->queues++;
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static void leave(struct blk_writer *w, const struct blk_disk *d)
{
	pthread_mutex_lock(&w->lock);
	if (!--w->queues)
		try_lock(d, F_UNLCK);
	pthread_mutex_unlock(&w->lock);
}

/* ---- a queue's turn ------------------------------------------------------ */

static int set_timer(int fd, long every_ms)
{
	const struct timespec t = { .tv_nsec = every_ms * 1000000L };

	return timerfd_settime(fd, 0, &(struct itimerspec){ t, t }, NULL);
}

int blk_turn_open(struct blk_turn *t)
{
	*t = (struct blk_turn){
		.timer = timerfd_create(CLOCK_MONOTONIC,
					TFD_CLOEXEC | TFD_NONBLOCK),
	};
	return t->timer < 0 || set_timer(t->timer, TRY_MS) ? -1 : 0;
}

static void say_wait(const struct blk_turn *t, const struct blk_disk *d, int rc)
{
	char line[512];

	if (t->waited_ms != SAY_MS && t->waited_ms % AGAIN_MS)
		return;
	if (rc == -EAGAIN || rc == -EACCES)
		snprintf(line, sizeof(line), "%s: another process has it open:"
			 " the guest's requests wait until it is let go",
			 d->path);
	else
		snprintf(line, sizeof(line), "%s: it cannot be locked: %s: the"
			 " guest's requests wait until it can", d->path,
			 strerror(-rc));
	backend_log(NULL, 1, line);
}

bool blk_turn_has_come(struct blk_turn *t, struct blk_writer *w,
		       const struct blk_disk *d)
{
	uint64_t n;
	int rc;

	if (t->came)
		return true;
	rc = enter(w, d);
	if (!rc) {
		set_timer(t->timer, 0);
		t->came = true;
		return true;
	}
	if (read(t->timer, &n, sizeof(n)) == sizeof(n)) {
		t->waited_ms += TRY_MS;
		say_wait(t, d, rc);
	}
	return false;
}

bool blk_turn_wait(struct blk_turn *t, struct blk_writer *w,
		   const struct blk_disk *d)
{
	struct pollfd p = { .fd = t->timer, .events = POLLIN };

	while (!blk_turn_has_come(t, w, d) && t->waited_ms < WAIT_MAX_MS)
		poll(&p, 1, -1);
	return t->came;
}

void blk_turn_close(struct blk_turn *t, struct blk_writer *w,
		    const struct blk_disk *d)
{
	if (t->timer >= 0)
		close(t->timer);
	if (t->came)
		leave(w, d);
	*t = (struct blk_turn){ .timer = -1 };
}
