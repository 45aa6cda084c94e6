/* SPDX-License-Identifier: MIT */
/*
 * Embedding libferry: a program whose memory moves to another process while a
 * thread keeps writing it.  No KVM, no virtual machine: a "VM" here is a region
 * of memory and the worker that lives in it.
 *
 *	embed [MiB]
 *
 * forks: the child waits on a TCP port, the parent works for a moment and then
 * gives everything away.  The worker goes on in the child where it stopped in
 * the parent, and checks every page it finds.
 * Build: cc -pthread embed.c $(pkg-config --cflags --libs ferry)
 */
#define _DEFAULT_SOURCE	/* usleep, MAP_ANONYMOUS */
#include <ferry/ferry.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define MIB_MAX (1 << 20)

struct worker {
	unsigned char *mem;	/* all that moves, and nothing else */
	size_t pages;
	pthread_t thread;
	atomic_bool run;	/* false: stop at the next page */
	int running;
	unsigned long bad;
};

/* Each page: how often it was written, and a mark that follows from it.  The
 * first word of page 0 counts all steps, so that work can go on anywhere. */
static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned long *step = (unsigned long *)w->mem;

	while (atomic_load(&w->run)) {
		size_t i = 1 + *step % (w->pages - 1);
		unsigned long *p = (unsigned long *)(w->mem + i * PAGE);
		unsigned long times = *step / (w->pages - 1);

		if (p[0] != times || p[511] != (times ? times * i : 0))
			w->bad++;
		p[0] = times + 1, p[511] = p[0] * i;
		++*step;
	}
	return NULL;
}

static void worker_start(struct worker *w)
{
	atomic_store(&w->run, true);
	w->running = !pthread_create(&w->thread, NULL, work, w);
}

static void worker_stop(struct worker *w)
{
	atomic_store(&w->run, false);
	if (w->running)
		w->running = pthread_join(w->thread, NULL);
}

/* ---- what the engine asks of us ---- */
static int on_stop(void *opaque, struct ferry_err *e)
{
	worker_stop(opaque);
	return (void)e, 0;
}

static void on_resume(void *opaque)
{
	worker_start(opaque);
}

static int on_start(void *opaque, int running, struct ferry_err *e)
{
	(void)e;
	if (running)
		worker_start(opaque);
	return 0;
}

static void on_throttle(void *opaque, unsigned percent)
{
	(void)opaque, (void)percent;	/* our worker is not slowed down */
}

static int on_running(void *opaque)
{
	return ((struct worker *)opaque)->running;
}

static void die(const char *what, const struct ferry_err *e)
{
	fprintf(stderr, "embed: %s: %s\n", what, e->msg);
	exit(1);
}

/* Both sides describe the same thing: one block, written by our own threads. */
static struct ferry_vm *describe(struct worker *w)
{
	struct ferry_vm_ops ops = FERRY_VM_OPS_INIT;
	struct ferry_block block = FERRY_BLOCK_INIT;
	struct ferry_err err;
	struct ferry_vm *vm;

	ops.stop = on_stop;
	ops.resume = on_resume;
	ops.start = on_start;
	ops.throttle = on_throttle;
	ops.running = on_running;
	vm = ferry_vm_new("embed-example", &ops, w, &err);
	if (!vm)
		die("describe", &err);

	block.name = "heap";
	block.addr = w->mem;
	block.bytes = w->pages * PAGE;
	if (ferry_vm_add_block(vm, &block, &err) ||
	    ferry_vm_track_process(vm, &err))
		die("describe", &err);
	return vm;
}

/* ---- the two processes ---- */
static int be_target(struct worker *w, int tell_uri)
{
	struct ferry_vm *vm = describe(w);
	struct ferry_err err;
	struct ferry_target *t = ferry_target_new(vm, NULL, NULL, &err);
	char uri[128];

	if (!t || ferry_target_listen(t, "tcp:127.0.0.1:0", &err) ||
	    ferry_target_uri(t, uri, sizeof(uri), &err))
		die("target", &err);
	if (write(tell_uri, uri, sizeof(uri)) != sizeof(uri) ||
	    ferry_target_wait(t, -1, &err))
		die("target", &err);

	usleep(300000);		/* it lives here now */
	worker_stop(w);
	printf("target: %lu steps in all, %lu bad pages\n",
	       *(unsigned long *)w->mem, w->bad);
	ferry_target_free(t);
	ferry_vm_free(vm);
	return w->bad ? 1 : 0;
}

static int be_source(struct worker *w, int hear_uri)
{
	struct ferry_vm *vm = describe(w);
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_source *s;
	struct ferry_err err;
	char uri[128];

	worker_start(w);
	if (read(hear_uri, uri, sizeof(uri)) != sizeof(uri))
		return 1;
	usleep(300000);		/* some work is done here first */

	s = ferry_source_new(vm, NULL, NULL, &err);
	if (!s || ferry_source_start(s, uri, &err) ||
	    ferry_source_wait(s, -1, &err))
		die("source", &err);
	ferry_source_stats(s, &st);
	printf("source: moved %lu MiB to %s in %.0f ms, %u passes, paused %.2f "
	       "ms, after %lu steps\n", (unsigned long)st.memory_bytes >> 20,
	       uri, (double)st.total_ns / 1e6, st.passes,
	       (double)st.pause_ns / 1e6, *(unsigned long *)w->mem);
	ferry_source_free(s);
	ferry_vm_free(vm);
	return w->bad != 0;
}

/* 0: it is no such number. */
static size_t mib_of(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return *end || n > MIB_MAX ? 0 : n;
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? mib_of(argv[1]) : 64;
	struct worker w = { .pages = mib * 1024 * 1024 / PAGE };
	int uri_pipe[2], rc, status = 1;
	pid_t child;

	if (!mib || argc > 2) {
		fprintf(stderr, "usage: embed [MiB]     1 to %d, default 64\n",
			MIB_MAX);
		return 2;
	}
	w.mem = mmap(NULL, w.pages * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w.mem == MAP_FAILED || pipe(uri_pipe)) {
		perror("embed");
		return 1;
	}
	child = fork();
	if (child == 0) {
		/* A source that fails, or never comes, is nothing to wait
		 * for. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		return be_target(&w, uri_pipe[1]);
	}
	rc = be_source(&w, uri_pipe[0]);
	waitpid(child, &status, 0);
	return rc || status;
}
