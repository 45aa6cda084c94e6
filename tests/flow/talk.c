/* SPDX-License-Identifier: MIT */
/*
 *	talk TARGET-URI SOURCE-URI [PARAMETER VALUE] ...
 *
 * One migration between two ferries in this process, through the public API:
 * the target waits at the first address, the source calls the second, where
 * talk.py listens in.  A thread writes the source's memory until it is
 * stopped.  Exit code 0: all of it arrived.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <ferry/ferry.h>

#define PAGE	4096u
#define PAGES	1024u

struct side {
	struct ferry_vm		*vm;
	unsigned char		*mem;
	pthread_t		 writer;
	atomic_bool		 run;
	bool			 has_writer;
};

static struct ferry_err err;

static void die(const char *what)
{
	fprintf(stderr, "talk: %s: %s\n", what, err.msg);
	exit(1);
}

/* The guest is hardware to the engine: not a race for a sanitizer to find. */
__attribute__((no_sanitize("thread")))
static void write_octet(unsigned char *at)
{
	++*at;
}

static void *write_pages(void *arg)
{
	struct side *s = arg;

	for (unsigned i = 1; atomic_load(&s->run); i = i * 1103515245 + 12345) {
		unsigned char *at = s->mem + i / 65536 % (PAGES / 2) * PAGE;

		write_octet(at + i % PAGE);
		ferry_vm_mark_dirty(s->vm, at, PAGE);
	}
	return NULL;
}

static int on_stop(void *opaque, struct ferry_err *e)
{
	struct side *s = opaque;

	(void)e;
	atomic_store(&s->run, false);
	if (s->has_writer)
		pthread_join(s->writer, NULL);
	s->has_writer = false;
	return 0;
}

static void on_resume(void *opaque)
{
	(void)opaque;
}

/* Nobody writes at the target: its memory stays what came. */
static int on_start(void *opaque, int running, struct ferry_err *e)
{
	(void)opaque;
	(void)running;
	(void)e;
	return 0;
}

static void on_throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int on_running(void *opaque)
{
	return ((struct side *)opaque)->has_writer;
}

static int on_save(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	ferry_save_bytes(out, "state", 5);
	return 0;
}

static int on_load(void *opaque, uint32_t version, const void *data,
		   size_t bytes, struct ferry_err *e)
{
	(void)opaque;
	(void)version;
	(void)e;
	return bytes == 5 && !memcmp(data, "state", 5) ? 0 : -1;
}

static void describe(struct side *s)
{
	struct ferry_vm_ops ops = FERRY_VM_OPS_INIT;
	struct ferry_device_ops dev = FERRY_DEVICE_OPS_INIT;
	struct ferry_block block = FERRY_BLOCK_INIT;

	ops.stop = on_stop;
	ops.resume = on_resume;
	ops.start = on_start;
	ops.throttle = on_throttle;
	ops.running = on_running;
	dev.save = on_save;
	dev.load = on_load;
	s->mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->mem == MAP_FAILED)
		die("mmap");
	block.name = "heap";
	block.addr = s->mem;
	block.bytes = PAGES * PAGE;
	s->vm = ferry_vm_new("talk", &ops, s, &err);
	if (!s->vm || ferry_vm_add_block(s->vm, &block, &err) ||
	    ferry_vm_add_device(s->vm, "toy", 0, 1, &dev, s, &err) ||
	    ferry_vm_add_fact(s->vm, "cpu", FERRY_FACT_SUBSET, "sse2 avx",
			      &err))
		die("describe");
}

static void begin_writer(struct side *s)
{
	/* A quarter is never touched, a page of it is zero again. */
	for (unsigned i = 0; i < PAGES * 3 / 4; i++)
		memset(s->mem + i * PAGE, i % 7 ? (int)(i % 251 + 1) : 0,
		       PAGE);
	atomic_store(&s->run, true);
	s->has_writer = !pthread_create(&s->writer, NULL, write_pages, s);
}

int main(int argc, char **argv)
{
	struct ferry_params *params = ferry_params_new();
	struct side src = { 0 }, dst = { 0 };
	struct ferry_source *s;
	struct ferry_target *t;
	int rc;

	if (argc < 3 || !params)
		return 2;
	for (int i = 3; i + 1 < argc; i += 2)
		if (ferry_params_set(params, argv[i], argv[i + 1], &err))
			die(argv[i]);
	describe(&src);
	describe(&dst);
	begin_writer(&src);

	t = ferry_target_new(dst.vm, params, NULL, &err);
	if (!t || ferry_target_listen(t, argv[1], &err))
		die("target");
	s = ferry_source_new(src.vm, params, NULL, &err);
	if (!s || ferry_source_start(s, argv[2], &err) ||
	    ferry_source_wait(s, 60000, &err))
		die("source");
	if (ferry_target_wait(t, 60000, &err))
		die("target");
	rc = memcmp(src.mem, dst.mem, PAGES * PAGE) != 0;

	ferry_source_free(s);
	ferry_target_free(t);
	ferry_vm_free(src.vm);
	ferry_vm_free(dst.vm);
	ferry_params_free(params);
	munmap(src.mem, PAGES * PAGE);
	munmap(dst.mem, PAGES * PAGE);
	return rc;
}
