/* SPDX-License-Identifier: MIT */
/*
 * See image.h.  The image is read by the thread alone.
 */
#include "image.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <ferry/source.h>

#include "command.h"
#include "park/serve.h"

#define LOOK_MS	20

struct ferry_tool_image {
	char		 path[PATH_MAX];
	char		 dir[64], socket[80], uri[96];
	struct ferry_image img;
	struct ferry_serve serve;
	pthread_t	 thread;
	bool		 started;
	_Atomic bool	 quit, failed;
};

struct ferry_tool_image *ferry_tool_image_open(const char *path,
					       struct ferry_err *e)
{
	struct ferry_tool_image *i = calloc(1, sizeof(*i));

	if (!i) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "image");
		return NULL;
	}
	snprintf(i->path, sizeof(i->path), "%s", path);
	strcpy(i->dir, "/tmp/ferry-image-XXXXXX");
	if (ferry_image_open(&i->img, path, e)) {
		free(i);
		return NULL;
	}
	if (strcmp(ferry_image_peer(&i->img), "ferry"))
		ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s holds a QEMU's VM; "
			      "ferry serve gives it to a QEMU", path);
	else if (!mkdtemp(i->dir))
		ferry_err_set(e, FERRY_E_IO, errno, "create %s", i->dir);
	else if (!ferry_serve_init(&i->serve, &i->img, e)) {
		snprintf(i->socket, sizeof(i->socket), "%s/in", i->dir);
		snprintf(i->uri, sizeof(i->uri), "unix:%s", i->socket);
		return i;
	} else {
		rmdir(i->dir);
	}
	ferry_image_close(&i->img);
	free(i);
	return NULL;
}

/* How many; 0: it does not say. */
static unsigned vcpus_of(const struct ferry_hello *vm)
{
	for (size_t k = 0; k < vm->facts; k++)
		if (!strcmp(vm->fact[k].name, "vcpus"))
			return (unsigned)strtoul(vm->fact[k].value, NULL, 10);
	return 0;
}

int ferry_tool_image_fits(const struct ferry_tool_image *i,
			  uint64_t ram_bytes, unsigned vcpus,
			  struct ferry_err *e)
{
	const struct ferry_hello *vm = &i->img.index.vm;
	unsigned has = vcpus_of(vm);
	uint64_t all = 0;

	for (size_t k = 0; k < vm->blocks; k++)
		all += vm->block[k].bytes;
	if (all == ram_bytes && (!has || has == vcpus))
		return 0;
	if (all == ram_bytes)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s holds a VM "
				     "with %u vCPUs, not %u: give --vcpus %u",
				     i->path, has, vcpus, has);
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s holds a VM with %"
			     PRIu64 " MiB of RAM, not %" PRIu64 ": give --ram "
			     "%" PRIu64 "M", i->path, all >> 20,
			     ram_bytes >> 20, all >> 20);
}

const char *ferry_tool_image_uri(const struct ferry_tool_image *i)
{
	return i->uri;
}

static void rest(void)
{
	const struct timespec ms = { .tv_nsec = LOOK_MS * 1000000L };

	nanosleep(&ms, NULL);
}

static bool is_over(struct ferry_source *s, struct ferry_stats *st)
{
	(void)!ferry_source_wait(s, LOOK_MS, NULL);
	ferry_source_stats(s, st);
	return st->state == FERRY_STATE_COMPLETED ||
	       st->state == FERRY_STATE_FAILED ||
	       st->state == FERRY_STATE_CANCELLED ||
	       st->state == FERRY_STATE_POSTCOPY_PAUSED;
}

/* The VM stands still: one pass, and it goes on over there. */
static int serve(struct ferry_tool_image *i, struct ferry_err *e)
{
	struct ferry_source *s = ferry_source_new(i->serve.vm, NULL, NULL, e);
	struct ferry_stats st = FERRY_STATS_INIT;
	int rc = s ? ferry_source_start(s, i->uri, e) : -1;

	while (!rc && !i->quit && !is_over(s, &st))
		;
	if (!rc && !i->quit && st.state != FERRY_STATE_COMPLETED)
		rc = ferry_err_set(e, FERRY_E_IO, 0, "%s", st.error);
	ferry_source_free(s);
	return rc;
}

static void *image_main(void *arg)
{
	struct ferry_tool_image *i = arg;
	struct ferry_err err = { 0 };

	while (!i->quit && access(i->socket, F_OK))
		rest();
	if (i->quit || !serve(i, &err))
		return NULL;
	i->failed = true;
	ferry_tool_fail(0, "%s: %s", i->path, err.msg);
	kill(getpid(), SIGTERM);
	return NULL;
}

/* Signals are for the control thread. */
int ferry_tool_image_start(struct ferry_tool_image *i, struct ferry_err *e)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rc = pthread_create(&i->thread, NULL, image_main, i);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	i->started = !rc;
	return rc ? ferry_err_set(e, FERRY_E_NOMEM, rc, "thread") : 0;
}

bool ferry_tool_image_close(struct ferry_tool_image *i)
{
	bool failed;

	if (!i)
		return false;
	i->quit = true;
	if (i->started)
		pthread_join(i->thread, NULL);
	failed = i->failed;
	ferry_serve_fini(&i->serve);
	ferry_image_close(&i->img);
	unlink(i->socket);
	rmdir(i->dir);
	free(i);
	return failed;
}
