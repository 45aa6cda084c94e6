/* SPDX-License-Identifier: MIT */
/*
 * A migration that has lost its link for good: the half of the VM that is here
 * goes to a file, which `ferry rescue merge` puts together with the other one.
 * At the target the VM is stopped for it, also where every vCPU waits for a
 * page.  Control thread.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/control_priv.h"

/* There may be secrets in memory. */
static int open_half(const char *path, struct ferry_err *e)
{
	int fd;

	if (*path != '/')
		return ferry_err_set(e, FERRY_E_INVALID, 0, "'%.200s' is no "
				     "absolute path", path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "create %.200s",
				     path);
	return fd;
}

static int dump(struct ferry_control *c, int fd, struct ferry_err *e)
{
	if (c->mig.source)
		return ferry_source_rescue(c->mig.source, fd, e);
	return ferry_control_stop_for_rescue(c, e) ||
	       ferry_target_rescue(c->mig.target, c->mig.rescue_ran, fd, e) ?
	       -1 : 0;
}

static int check(struct ferry_control *c, struct ferry_err *e)
{
	switch (ferry_control_phase(c)) {
	case FERRY_PHASE_DOUBT:
	case FERRY_PHASE_CUT:
	case FERRY_PHASE_AWAY:		/* it may be trying to come back */
	case FERRY_PHASE_STRANDED:
	case FERRY_PHASE_RESCUED:
		return 0;
	case FERRY_PHASE_HOME:
	case FERRY_PHASE_ABSENT:
	case FERRY_PHASE_WAITING:
	case FERRY_PHASE_LEAVING:
	case FERRY_PHASE_ARRIVING:
	case FERRY_PHASES:
		break;
	}
	return ferry_err_set(e, FERRY_E_STATE, 0, "only a VM whose migration "
			     "has lost its link in postcopy has halves");
}

static int finish(int fd, const char *path, struct stat *st,
		  struct ferry_err *e)
{
	if (fsync(fd) || fstat(fd, st))
		return ferry_err_set(e, FERRY_E_IO, errno, "force %.200s to "
				     "the disk", path);
	return 0;
}

/* What was written once stays so, also when it was to be written elsewhere,
 * and could not. */
static void note_dump(struct ferry_control *c, const char *path, bool written)
{
	pthread_mutex_lock(&c->lock);
	c->mig.rescued |= written;
	if (written || !c->mig.dump.written) {
		ferry_control_forget_dump(c);
		c->mig.dump.file = strdup(path);
		c->mig.dump.at_ns = ferry_now_ns();
		c->mig.dump.written = written;
	}
	pthread_mutex_unlock(&c->lock);
}

int ferry_control_rescue(struct ferry_control *c, const char *path,
			 struct json_object **ret, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;
	struct stat st = { 0 };

	if (check(c, e))
		return -1;
	fd = open_half(path, e);
	if (fd < 0)
		return -1;
	if (dump(c, fd, e) || finish(fd, path, &st, e)) {
		unlink(path);
		/* Else it was refused, and nothing was given up. */
		if (e->code == FERRY_E_IO)
			note_dump(c, path, false);
		return -1;
	}
	note_dump(c, path, true);
	*ret = json_object_new_object();
	ferry_json_add_str(*ret, "side", c->mig.source ? "source" : "target");
	ferry_json_add_u64(*ret, "bytes", (uint64_t)st.st_size);
	return 0;
}
