/* SPDX-License-Identifier: MIT */
/*
 *	talk TARGET-URI SOURCE-URI [PARAMETER VALUE] ... [bulk DEVICES]
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
#define BULK_MAX	8u

struct side {
	struct ferry_vm		*vm;
	unsigned char		*mem;
	pthread_t		 writer;
	atomic_bool		 run;
	bool			 has_writer;
	struct bulk { unsigned handed; } bulk[BULK_MAX];	/* buffers */
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

/* ---- bulk devices: 100 buffers each, half of them while the VM runs -------- */

#define BUFFERS	100u

static int on_step(void *opaque, enum ferry_bulk_step step,
		   struct ferry_err *e)
{
	(void)opaque;
	(void)step;
	(void)e;
	return 0;
}

static int on_pending(void *opaque, struct ferry_bulk_pending *p,
		      struct ferry_err *e)
{
	const struct bulk *b = opaque;

	(void)e;
	p->stop_bytes = BUFFERS - b->handed;
	return 0;
}

static int hand_out(struct bulk *b, struct ferry_bulk *out, unsigned until,
		    struct ferry_err *e)
{
	for (; b->handed < until; b->handed++)
		if (ferry_bulk_write(out, &b->handed, sizeof(b->handed),
				     b->handed % 2 ? FERRY_BULK_CONFIG : 0, e))
			return -1;
	return 0;
}

static int on_iterate(void *opaque, struct ferry_bulk *out,
		      struct ferry_err *e)
{
	return hand_out(opaque, out, BUFFERS / 2, e);
}

static int on_bulk_save(void *opaque, struct ferry_bulk *out,
			struct ferry_err *e)
{
	return hand_out(opaque, out, BUFFERS, e);
}

static int on_load_begin(void *opaque, struct ferry_bulk *in,
			 uint32_t version, struct ferry_err *e)
{
	(void)opaque;
	(void)in;
	(void)version;
	(void)e;
	return 0;
}

static int on_load_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			  unsigned flags, const void *data, size_t bytes,
			  struct ferry_err *e)
{
	struct bulk *b = opaque;

	(void)in;
	(void)e;
	return index == b->handed && bytes == sizeof(b->handed) &&
	       !memcmp(data, &b->handed, bytes) &&
	       flags == (b->handed++ % 2 ? FERRY_BULK_CONFIG : 0) ? 0 : -1;
}

static int on_ready(void *opaque)
{
	const struct bulk *b = opaque;

	return b->handed >= BUFFERS / 2;
}

static int on_load_end(void *opaque, struct ferry_bulk *in,
		       struct ferry_err *e)
{
	const struct bulk *b = opaque;

	(void)in;
	(void)e;
	return b->handed == BUFFERS ? 0 : -1;
}

static void add_bulk(struct side *s, unsigned devices)
{
	struct ferry_bulk_ops ops = FERRY_BULK_OPS_INIT;

	ops.step = on_step;
	ops.pending = on_pending;
	ops.iterate = on_iterate;
	ops.save = on_bulk_save;
	ops.load_begin = on_load_begin;
	ops.load_buffer = on_load_buffer;
	ops.ready = on_ready;
	ops.load_end = on_load_end;
	for (unsigned i = 0; i < devices; i++)
		if (ferry_vm_add_bulk(s->vm, "toybox", i, 1, &ops, &s->bulk[i],
				      &err))
			die("bulk");
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
	unsigned devices = 0;
	struct ferry_source *s;
	struct ferry_target *t;
	int rc;

	if (argc < 3 || !params)
		return 2;
	for (int i = 3; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], "bulk"))
			devices = (unsigned)atoi(argv[i + 1]) % (BULK_MAX + 1);
		else if (ferry_params_set(params, argv[i], argv[i + 1], &err))
			die(argv[i]);
	describe(&src);
	describe(&dst);
	add_bulk(&src, devices);
	add_bulk(&dst, devices);
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
